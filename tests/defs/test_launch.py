"""After a command nothing is stale, and a week that fails does not delay another."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance
from support import installed
from support.console_script import Run, console_script

from otc_assets.domain.weeks import T1, weeks_between

SQL = psycopg.Connection[tuple[object, ...]]
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)
WEEKS = weeks_between(dt.date(2026, 6, 5), dt.date(2026, 7, 17))


@pytest.fixture
def run(installation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command as the console script does: (exit code, standard output, standard error)."""
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield console_script(monkeypatch, capsys)


def download(folder: Path, week: dt.date, shares: int = 100, *, bad_rows: int = 0, name: str = "ats") -> str:
    """A download file of the website: the ATS half of OTC of a week, of ten symbols and some rows that are wrong."""
    monday = week + dt.timedelta(days=31)  # five weeks after the week's own
    rows = [f"OTC|SYM{n}|Issue {n}|V ONE|VONE|{shares + n}|1|{monday}\n" for n in range(10)]
    rows += [f"OTC|BAD{n}|Bad {n}|V ONE|VONE|nonsense|1|{monday}\n" for n in range(bad_rows)]
    path = folder / f"{name}_{monday:%Y%m%d}.csv"
    path.write_text(HEADER + "".join(rows))
    return str(path)


def states(run: Run) -> dict[str, str]:
    return {row["week_ending"]: row["state"] for row in json.loads(run("status", "--newest", "40", "--json")[1])}


def rolling_weeks(sql: SQL) -> list[object]:
    return [week for (week,) in sql.execute("SELECT DISTINCT week_ending FROM otc.venue_rolling ORDER BY 1")]


def test_after_a_revision_is_ingested_the_five_weeks_after_it_are_up_to_date(
    run: Run, sql: SQL, tmp_path: Path
) -> None:
    """Stale weeks were determined once, before anything was computed: the command left five and exited with 0."""
    code, _, text = run("ingest", *(download(tmp_path, week) for week in WEEKS))
    assert code == 0, text
    assert rolling_weeks(sql) == WEEKS
    code, out, text = run("ingest", download(tmp_path, WEEKS[0], 1000, name="revised"), "--json")
    assert code == 0, text
    assert json.loads(out)["weeks_computed"] == [str(week) for week in WEEKS[:6]]
    assert set(states(run).values()) == {""}
    averages = sql.execute(
        "SELECT week_ending, avg_6w_volume FROM otc.symbol_rolling WHERE symbol = 'SYM0' ORDER BY 1"
    ).fetchall()
    # Six weeks of 100 shares, the first of which is 1,000 now; the seventh does not look back so far.
    expected = [1000.0, 550.0, 400.0, 325.0, 280.0, 250.0, 100.0]
    assert [float(average) for _, average in averages] == expected  # type: ignore[arg-type]


def test_after_a_gap_is_filled_the_weeks_behind_it_are_up_to_date(dagster: DagsterInstance, sql: SQL) -> None:
    """`materialize` did not recompute the weeks that its weeks had made stale."""
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        assert installed.materialize_weeks(dagster, WEEKS[:1], [T1]) == []
        assert installed.materialize_weeks(dagster, WEEKS[2:4], [T1]) == []
        assert installed.materialize_weeks(dagster, WEEKS[1:2], [T1]) == []
        assert installed.stale_weeks() == []
    windows = sql.execute(
        "SELECT week_ending, max(weeks_in_window) FROM otc.symbol_rolling GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert windows == [(week, number) for number, week in enumerate(WEEKS[:4], 1)]


def test_a_week_graded_f_in_a_range_leaves_the_other_weeks_complete(run: Run, sql: SQL, tmp_path: Path) -> None:
    """One bad week of five left all five without six-week figures."""
    files = [download(tmp_path, week, bad_rows=4 if week == WEEKS[2] else 0) for week in WEEKS[:5]]
    code, _, text = run("ingest", *files)
    assert code == 1
    assert f"{WEEKS[2]}: the blocking check 'grade' of venue_volume failed: all tiers F" in " ".join(text.split())
    others = [week for week in WEEKS[:5] if week != WEEKS[2]]
    assert rolling_weeks(sql) == others
    reported = sql.execute("SELECT DISTINCT week_ending FROM otc.gap ORDER BY 1").fetchall()
    assert {(week,) for week in others} <= set(reported)
    assert set(states(run).values()) == {"", "blocked"}


def test_a_week_that_cannot_be_computed_holds_up_no_other_week_and_no_other_command(
    run: Run, sql: SQL, tmp_path: Path, installation: Path
) -> None:
    """A missing file of the archive once failed all weeks of the range, after minutes of trying again."""
    assert run("ingest", download(tmp_path, WEEKS[0]), download(tmp_path, WEEKS[1]))[0] == 0
    digest = sql.execute("SELECT digest FROM otc.publication WHERE week_ending = %s", [WEEKS[0]]).fetchone()
    shutil.rmtree(installation / "archive" / str(digest[0])[:2])  # type: ignore[index]
    sql.execute("DELETE FROM otc.computed_week WHERE week_ending = %s", [WEEKS[0]])
    # As part of a range: the good weeks are computed, and the bad one is named.
    code, out, text = run("ingest", download(tmp_path, WEEKS[2]), "--json")
    assert code == 0, text
    assert "other weeks" in text
    assert f"{WEEKS[0]}: the archive has no" in " ".join(text.split())
    assert json.loads(out)["failed"] == []
    assert rolling_weeks(sql) == WEEKS[:3]
    retried = sql.execute("SELECT count(*) FROM dagster.event_logs WHERE dagster_event_type = 'STEP_UP_FOR_RETRY'")
    assert retried.fetchone() == (0,)  # retries of the bad week alone would take minutes
    assert {week: state for week, state in states(run).items() if state} == {str(WEEKS[0]): "stale: venue_volume"}
    # Also where the bad week is one of the five after the command's.
    code, _, text = run("ingest", download(tmp_path, WEEKS[0] - dt.timedelta(weeks=1)))
    assert (code, "other weeks" in text) == (0, True)
    # Ingested again, the bytes are back in the archive, and the week is computed.
    code, _, text = run("ingest", download(tmp_path, WEEKS[0], name="ats"))
    assert (code, "other weeks" in text) == (0, False)
    assert set(states(run).values()) == {""}
    assert rolling_weeks(sql) == [WEEKS[0] - dt.timedelta(weeks=1), *WEEKS[:3]]


def test_each_week_of_a_range_run_shows_its_own_figures_alone(dagster: DagsterInstance, sql: SQL) -> None:
    """The run's totals once stood next to the week's own."""
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[1])
        installed.launcher(dagster).run_assets(["venue_volume", "symbol_summary"], WEEKS[0], WEEKS[1])
    for asset in ("publication_t1", "venue_volume", "symbol_summary"):
        for week in WEEKS[:2]:
            (record,) = dagster.fetch_materializations(
                AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[str(week)]), limit=1
            ).records
            assert record.asset_materialization is not None
            metadata = record.asset_materialization.metadata
            assert not {"weeks", "rows"} & set(metadata)
            if asset != "publication_t1":
                (rows,) = sql.execute(
                    f"SELECT count(*) FROM otc.{asset} WHERE week_ending = %s",  # type: ignore[arg-type]
                    [week],
                ).fetchone() or (0,)
                assert metadata["dagster/partition_row_count"].value == rows
