"""The systemd unit of docs/deploy.md: systemd accepts it, and it agrees with the code."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from support.tools import missing

from otc_assets.settings import PROJECT_ROOT, Settings


@pytest.fixture(scope="module")
def unit() -> str:
    """The unit that the page tells operators to save."""
    page = (PROJECT_ROOT / "docs" / "deploy.md").read_text()
    return page.split("```ini otc-assets.service\n")[1].split("```")[0]


def parsed(unit: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit)
    return parser


def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing("systemd-analyze is not installed", "Debian: apt install systemd")
    path = tmp_path / "otc-assets.service"
    # The command is not installed here, and systemd requires an executable.
    path.write_text(unit.replace("/opt/otc-assets/bin/otc-assets", "/bin/true"))
    done = subprocess.run([analyze, "verify", path], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "otc-assets.service" in line]
    assert complaints == []
    path.write_text(unit.replace("/opt/otc-assets/bin/otc-assets", "/bin/true").replace("Type=exec", "Type=wrong"))
    refused = subprocess.run([analyze, "verify", path], capture_output=True, text=True)
    assert "wrong" in refused.stderr


def test_the_unit_keeps_its_home_where_it_may_write(unit: str) -> None:
    service = parsed(unit)["Service"]
    name, _, home = service["Environment"].partition("=")
    assert name.removeprefix("OTC_").lower() in Settings.model_fields
    # With ProtectSystem=strict, only the folder of StateDirectory is writable.
    assert (service["ProtectSystem"], home) == ("strict", f"/var/lib/{service['StateDirectory']}")


def test_a_stop_by_systemd_is_no_failure(unit: str) -> None:
    """``up`` exits with 143 after SIGTERM, as every interrupted command does."""
    service = parsed(unit)["Service"]
    assert service["SuccessExitStatus"] == str(128 + 15)
    # Only 'up' gets the signal: it ends its own processes in order.
    assert service["KillMode"] == "mixed"
