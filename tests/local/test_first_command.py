"""Any command may be the first one of a new installation, not only 'up' and 'migrate'."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.terminal import Terminal

WEEK = "2026-08-21"


@pytest.mark.slow
def test_a_new_installation_can_be_read_and_then_filled_without_up(folder_for_all: Path) -> None:
    settings = {"OTC_HOME": str(folder_for_all / "first_command"), "OTC_SIMULATOR_SCALE": "0.001"}

    def said(*arguments: str) -> str:
        command = Terminal(*arguments, settings=settings)
        assert command.end() == 0, command.text
        return command.text

    assert "otc-assets backfill" in said("gaps")  # creates our schema, and needs none of Dagster's tables
    said("materialize", "--weeks", WEEK)
    rows = said("query", "symbol_summary", "--weeks", WEEK, "--columns", "week_ending", "--format", "csv").split()
    assert len(rows) > 1
    assert set(rows[1:]) == {WEEK}
