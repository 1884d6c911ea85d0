"""The Dockerfile, and the lock files that it installs."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from containers import DOCKERFILE, base_name
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from otc_assets.settings import PROJECT_ROOT

PROJECT: dict[str, Any] = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())


@dataclass(frozen=True)
class Pin:
    """A line of a lock file. A package has several, if its version depends on the Python's."""

    name: str
    version: str
    marker: str
    hashes: frozenset[str]


def pins(lock: str) -> set[Pin]:
    """The lines of a lock file."""
    line = r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\\n]+?))? \\\n(?P<hashes>(?: +--hash=.*\n)+)"
    found = re.finditer(line, (PROJECT_ROOT / lock).read_text(), re.MULTILINE)
    return {
        Pin(
            canonicalize_name(one["name"]),
            one["version"],
            one["marker"] or "",
            frozenset(re.findall(r"--hash=(\S+)", one["hashes"])),
        )
        for one in found
    }


def applying(lock: str) -> set[str]:
    """The packages of a lock file that this Python installs."""
    return {pin.name for pin in pins(lock) if not pin.marker or Marker(pin.marker).evaluate()}


def reachable(requirements: list[str]) -> set[str]:
    """The packages that installing ``requirements`` installs, by what the installed packages require."""
    found: set[tuple[str, str]] = set()
    open_ones = [Requirement(one) for one in requirements]
    while open_ones:
        one = open_ones.pop()
        name = canonicalize_name(one.name)
        for extra in ["", *one.extras]:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            for text in importlib.metadata.distribution(name).requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    open_ones.append(needed)
    return {name for name, _ in found}


def test_hadolint_accepts_the_dockerfile_and_each_ignored_rule_is_explained() -> None:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    ignored = re.findall(r"hadolint ignore=(.*)", DOCKERFILE.read_text())
    assert all(re.fullmatch(r"DL\d{4} -- .{10,}", one) for one in ignored)


def test_the_base_image_is_pinned_and_no_address_of_a_package_index_is_in_the_build() -> None:
    assert re.fullmatch(r"python:3\.1\d-slim-\w+", base_name())
    text = DOCKERFILE.read_text() + (PROJECT_ROOT / "compose.yaml").read_text()
    # Names without a dot are those of services.
    assert not re.search(r"index-url|https?://(?!127\.0\.0\.1)[^/\s:]*\.", text)


def test_the_image_has_the_version_of_the_package_and_of_the_chart() -> None:
    version = PROJECT["project"]["version"]
    assert re.search(r"^ARG VERSION=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)[1] == version  # type: ignore[index]
    assert yaml.safe_load((PROJECT_ROOT / "helm/otc-assets/Chart.yaml").read_text())["appVersion"] == version


def test_the_lock_files_of_the_image_pin_what_developers_test() -> None:
    tested = {(pin.name, pin.version, pin.hashes) for pin in pins("requirements.lock")}
    for lock in ("requirements-server.lock", "requirements-build.lock"):
        used = {(pin.name, pin.version, pin.hashes) for pin in pins(lock)}
        assert len(used) >= 5
        assert used <= tested


def test_the_lock_file_of_servers_has_what_the_package_needs_and_nothing_else() -> None:
    assert applying("requirements-server.lock") == reachable(PROJECT["project"]["dependencies"])


def test_the_lock_file_of_the_build_has_what_the_build_needs_and_nothing_else() -> None:
    groups = PROJECT["dependency-groups"]
    (included, *others) = groups["image"]
    assert included == {"include-group": "build"}
    assert applying("requirements-build.lock") == reachable(groups["build"] + others)
    assert PROJECT["build-system"]["requires"] == groups["build"]


def test_the_builder_is_sent_only_what_the_dockerfile_copies() -> None:
    allowed = re.findall(r"^!(\S+)$", (PROJECT_ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert set(allowed) == copied | {"Dockerfile"}
    assert all((PROJECT_ROOT / name).exists() for name in allowed)
