"""The packages of this environment and of the lock files, with what their metadata says.

The reading of metadata is cyclonedx-bom's. What is allowed is in ``audit``, and the written document in ``sbom``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
#: Everything that developers, servers, builds and fuzzing install.
LOCKS = ("requirements.lock", "requirements-server.lock", "requirements-build.lock", "requirements-fuzz.lock")

_PIN = re.compile(r"^(\S[^\\#]*?)\s*\\?$", re.MULTILINE)


class Pin(NamedTuple):
    """A package of a lock file that applies to this Python and system."""

    name: str
    version: str


def pins(lock: Path) -> list[Pin]:
    """The packages of a lock file that apply to this Python and system."""
    found = [Requirement(text) for text in _PIN.findall(lock.read_text()) if not text.startswith("--")]
    applying = [one for one in found if one.marker is None or one.marker.evaluate()]
    return [Pin(canonicalize_name(one.name), str(one.specifier).removeprefix("==")) for one in applying]


def described(python: str = sys.executable) -> dict[str, Any]:
    """The packages of an environment, as a CycloneDX document.

    The document is not validated, which takes twenty seconds: a test validates that of ``sbom``.

    Args:
        python: the interpreter of the environment.

    Raises:
        SystemExit: the environment can't be read.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "environment", python, "--pyproject", str(ROOT / "pyproject.toml")]
    command += ["--output-reproducible", "--no-validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - constant arguments
    if done.returncode:
        raise SystemExit(f"the packages of {python} can't be listed:\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document
