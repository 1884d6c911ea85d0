"""The packages of the image's base in its bill of materials. That of a built image is in ``tests/image``."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from supply_chain import base_system

LISTED = (
    "zlib1g\t1:1.2.13.dfsg-1\tamd64\tinstalled\n"
    "libstdc++6\t12.2.0-14+deb12u1\tamd64\tinstalled\n"
    "tzdata\t2024a-0+deb12u1\tall\tinstalled\n"
    "removed\t1.0-1\tamd64\tconfig-files\n"
)


def test_the_urls_of_packages_are_read_back_as_what_dpkg_says() -> None:
    found = base_system.debian_packages(LISTED, "debian")
    read = [PackageURL.from_string(one["purl"]) for one in found]
    assert [(one.type, one.namespace, one.name, one.version, one.qualifiers["arch"]) for one in read] == [
        ("deb", "debian", "libstdc++6", "12.2.0-14+deb12u1", "amd64"),
        ("deb", "debian", "tzdata", "2024a-0+deb12u1", "all"),
        ("deb", "debian", "zlib1g", "1:1.2.13.dfsg-1", "amd64"),
    ]


@pytest.mark.parametrize("has_dpkg", [True, False])
def test_a_bill_with_the_base_is_valid_and_one_without_dpkg_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_dpkg: bool
) -> None:
    path = tmp_path / "sbom.cdx.json"
    path.write_text(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}))
    listed = subprocess.CompletedProcess([], 0, LISTED)
    monkeypatch.setattr(base_system.shutil, "which", lambda _: "/usr/bin/dpkg-query" if has_dpkg else None)
    monkeypatch.setattr(base_system.subprocess, "run", lambda *_, **__: listed)
    monkeypatch.setattr(base_system.platform, "freedesktop_os_release", lambda: {"ID": "debian"})
    base_system.main(path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None
    found = {one["name"]: one["version"] for one in json.loads(path.read_text())["components"]}
    assert found.pop("python") == platform.python_version()
    assert sorted(found) == (["libstdc++6", "tzdata", "zlib1g"] if has_dpkg else [])
    assert ("the base has no dpkg" in capsys.readouterr().err) is not has_dpkg
