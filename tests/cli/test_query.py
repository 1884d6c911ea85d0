"""``otc-assets query``: the client's verbs in a terminal."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import openpyxl
import polars as pl
import pytest
from support.console_script import Run, console_script
from support.first_run import WEEKS, FirstRun

from otc_assets.cli import frames
from otc_assets.cli.query import _client
from otc_assets.client import VERBS, Unreachable
from otc_assets.settings import settings

pytestmark = pytest.mark.slow


@pytest.fixture
def query(first_run: FirstRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``otc-assets query`` as a reader of a first run."""
    monkeypatch.setenv("OTC_DATABASE_URL", first_run.reader_url)
    return console_script(monkeypatch, capsys, "query")


def test_a_table_has_the_columns_that_are_asked_for_with_grouped_digits(query: Run, first_run: FirstRun) -> None:
    code, printed, _ = query(
        "summary", "AAPL", "SPY", "--weeks", "last 2", "--columns", "week_ending,symbol,total_volume"
    )
    assert code == 0
    heading, *rows = [line.split() for line in printed.splitlines()]
    assert heading == ["week_ending", "symbol", "total_volume"]
    expected = first_run.duck.execute(
        f"SELECT week::VARCHAR, symbol, sum(shares) FROM rows WHERE symbol IN ('AAPL', 'SPY') AND week >= '{WEEKS[-2]}'"
        " GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert [(week, symbol, Decimal(volume.replace(",", ""))) for week, symbol, volume in rows] == expected


def test_every_format_has_the_same_exact_rows(query: Run, first_run: FirstRun, tmp_path: Path) -> None:
    expected = first_run.duck.execute(
        "SELECT week, id, shares FROM rows WHERE symbol = 'AAPL' AND mpid IS NOT NULL ORDER BY week, id"
    ).fetchall()
    arguments = ("venue-volume", "AAPL", "--venue-kinds", "ats", "--columns", "week_ending,venue_id,share_volume")
    as_text = [(str(week), venue, shares) for week, venue, shares in expected]
    rows = list(csv.reader(io.StringIO(query(*arguments, "--format", "csv")[1])))[1:]
    assert [(week, venue, Decimal(shares)) for week, venue, shares in rows] == as_text
    records = json.loads(query(*arguments, "--format", "json")[1])
    assert [(r["week_ending"], r["venue_id"], Decimal(r["share_volume"])) for r in records] == as_text
    for suffix in ("parquet", "xlsx", "csv", "json"):
        code, printed, errors = query(*arguments, "--output", str(tmp_path / f"rows.{suffix}"))
        assert (code, printed) == (0, "")
        assert f"rows.{suffix}: {len(expected)} rows" in errors
    assert pl.read_parquet(tmp_path / "rows.parquet").rows() == expected
    assert json.loads((tmp_path / "rows.json").read_text()) == records
    sheet = openpyxl.load_workbook(tmp_path / "rows.xlsx", read_only=True)["rows"]
    in_excel = [(week.date(), venue, shares) for week, venue, shares in list(sheet.iter_rows(values_only=True))[1:]]
    assert in_excel == [(week, venue, pytest.approx(float(shares))) for week, venue, shares in expected]


def test_help_lists_every_verb_with_its_filters(query: Run) -> None:
    listed = query("--help")[1]
    for name in (*VERBS, "describe", "describe_venue", "find", "sql"):
        assert f" {name} " in listed
    for verb in VERBS.values():
        shown = query(verb.name, "--help")[1]
        options = [
            name for name in verb.filters if f"--{name.replace('_', '-')}" in shown or f"[{name.upper()}]" in shown
        ]
        assert options == list(verb.filters), verb.name
        assert ("--as-of" in shown) == verb.has_history


def test_names_are_looked_up(query: Run) -> None:
    assert "Apple Inc. Common Stock" in query("describe", "AAPL")[1]
    assert "116797" in query("find", "citadel")[1]
    assert "UBSA" in query("describe-venue", "UBSA", "--format", "csv")[1]
    assert query("sql", "SELECT 1 AS one", "--format", "csv")[1] == "one\n1\n"
    assert "NMS Tier 1" in query("coverage", "--weeks", "newest")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("summary", "aapl"), "no loaded week has the symbol 'aapl'. Similar: AAPL"),
        (("summary", "--weeks", "yesterday"), "'yesterday' is not a week. Write a day of the week"),
        (("rolling", "--tiers", "ALL,T1"), "would count everything twice"),
        (("summary", "--format", "parquet"), "parquet needs a file. Name it with --output"),
        (("summary", "--output", "rows.txt"), "rows.txt: the format is not clear. Name it with --format"),
        (("summary", "--output", "/no/such/folder/rows.csv"), "/no/such/folder/rows.csv"),
        (("sql", "DELETE FROM otc.gap RETURNING 1"), "read-only transaction"),
    ],
)
def test_errors_say_what_to_do(query: Run, arguments: tuple[str, ...], message: str) -> None:
    code, printed, errors = query(*arguments)
    assert (code, printed) == (1, "")
    assert message in errors
    assert "bug" not in errors


def test_a_long_or_wide_table_says_what_it_left_out(query: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames.out, "_width", 80)
    code, printed, errors = query("summary")
    assert code == 0
    assert len(printed.splitlines()) == frames._TABLE_ROWS + 1
    assert max(map(len, printed.splitlines())) <= 80
    assert "no room for" in errors
    assert "Choose fewer columns, set COLUMNS=200, or write a file" in errors  # the output is not a terminal
    assert "The first 100 rows. More: --limit" in errors
    assert len(query("summary", "--limit", "3")[1].splitlines()) == 4


def test_a_sheet_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(frames, "_SHEET_ROWS", 3)
    with pytest.raises(frames.CannotWrite, match=r"a sheet has 3 rows at most, and these are 3\. Ask for fewer weeks"):
        frames.show(pl.DataFrame({"a": [1, 2, 3]}), None, tmp_path / "rows.xlsx", None)


def test_texts_and_values_that_are_no_numbers_stay_what_they_are_in_a_workbook(tmp_path: Path) -> None:
    """A name that begins with "=" became a formula, and NaN ended the command."""
    frame = pl.DataFrame({"text": ["=1+1", "plain"], "number": [float("nan"), 1.5]})
    frames.show(frame, None, tmp_path / "rows.xlsx", None)
    sheet = openpyxl.load_workbook(tmp_path / "rows.xlsx")["rows"]
    assert [[cell.value for cell in row] for row in sheet.iter_rows(min_row=2)] == [["=1+1", "=#NUM!"], ["plain", 1.5]]
    assert sheet["A2"].data_type == "s"


def test_reading_creates_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another OTC_HOME, a command that reads created an empty database there, and found no symbol in it."""
    monkeypatch.delenv("OTC_DATABASE_URL", raising=False)
    monkeypatch.setenv("OTC_HOME", str(tmp_path / "other"))
    settings.cache_clear()
    with pytest.raises(Unreachable, match="no database in .*other/postgres.*set the same OTC_HOME"), _client():
        pass
    settings.cache_clear()
    assert not (tmp_path / "other").exists()
