"""Any command may be the first one of a new installation, not only 'up' and 'migrate'."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WEEK = "2026-08-21"

Shell = Callable[..., str]


@pytest.fixture
def shell(folder_for_all: Path) -> Shell:
    """Executes ``otc-assets`` on a new OTC_HOME with an embedded database, as a shell without settings does."""
    settings = {"OTC_HOME": str(folder_for_all / "first_command"), "OTC_SIMULATOR_SCALE": "0.001"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTC_", "DAGSTER_"))}

    def execute(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from otc_assets.cli import main; main()", *arguments],
            env=environment | settings,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return execute


@pytest.mark.slow
def test_a_new_installation_can_be_read_and_then_filled_without_up(shell: Shell) -> None:
    assert "otc-assets backfill" in shell("gaps")  # creates our schema, and needs none of Dagster's tables
    shell("materialize", "--weeks", WEEK)
    rows = shell("query", "symbol_summary", "--weeks", WEEK, "--columns", "week_ending", "--format", "csv").split()
    assert len(rows) > 1
    assert set(rows[1:]) == {WEEK}
