"""FINRA's own rows, ingested as a user would: downloaded files, and records of the Query API."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance
from support import installed
from support.migration import migrate

from otc_assets.defs import launch
from otc_assets.defs.jobs import FilesToIngest
from otc_assets.settings import settings


def quiet(done: int, note: str) -> None:
    """No progress bar."""


def test_the_two_website_files_load_with_every_row_into_the_weeks_that_they_are_of(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], finra_data: Path
) -> None:
    """The file has no week column: the publication Monday was once taken for the week."""
    files = sorted((finra_data / "website").iterdir())
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(f) for f in files]))
    assert installed.compute_stale_weeks(dagster) == []
    assert sql.execute(
        "SELECT week_ending, tier, scope, rows_received, rows_accepted, rows_rejected FROM otc.publication ORDER BY 1"
    ).fetchall() == [
        (dt.date(2025, 11, 14), "OTC", "ATS", 5328, 5328, 0),
        (dt.date(2025, 11, 21), "OTC", "ATS", 5192, 5192, 0),
    ]
    counts = sql.execute("SELECT week_ending, count(*) FROM otc.venue_volume GROUP BY 1 ORDER BY 1").fetchall()
    assert counts == [(dt.date(2025, 11, 14), 5328), (dt.date(2025, 11, 21), 5192)]
    by_hand = sum(int(line.split("|")[5]) for line in files[0].read_text().splitlines()[1:])
    assert sql.execute(
        "SELECT sum(total_volume) FROM otc.symbol_summary WHERE week_ending = '2025-11-14'"
    ).fetchone() == (by_hand,)


def test_a_last_row_without_symbol_and_newline_is_rejected_and_all_others_load(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], finra_data: Path, tmp_path: Path
) -> None:
    """One real file ends so."""
    path = tmp_path / "finra_otc_weekly_otc_20251222.csv"
    shutil.copyfile(finra_data / "website" / path.name, path)
    with path.open("ab") as handle:
        handle.write(b"OTC|||SOME VENUE|PPEX|1|1|2025-12-29")
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(path)]))
    assert sql.execute("SELECT rows_received, rows_accepted, rows_rejected FROM otc.publication").fetchone() == (
        5193,
        5192,
        1,
    )
    (rejected,) = sql.execute("SELECT line, record, reason FROM otc.rejected_record").fetchall()
    assert rejected[:2] == (5194, "OTC|||SOME VENUE|PPEX|1|1|2025-12-29")
    assert "missing symbol and issue name" in str(rejected[2])


def test_169_weeks_of_api_records_load_as_parts_whose_sums_are_finras_own_totals(
    dagster: DagsterInstance,
    database: str,
    sql: psycopg.Connection[tuple[object, ...]],
    finra_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """17 of the weeks occur twice, under T1 and NMS: public copies count them double."""
    firm_rows = finra_data / "api" / "aapl_ats_w_smbl_firm.json.gz"
    totals = finra_data / "api" / "aapl_ats_w_smbl_totals.json.gz"
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", "0")
    settings.cache_clear()
    migrate(database)
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(firm_rows)]))
    with pytest.raises(launch.RunFailed, match="--summary-type ATS_W_SMBL"):
        installed.launcher(dagster).ingest(FilesToIngest(paths=[str(totals)]))
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(totals)], summary_type="ATS_W_SMBL"))
    stale = installed.stale_weeks()
    assert len(stale) == 169
    installed.launcher(dagster).run_assets(["venue_volume"], stale[0], stale[-1])
    assert sql.execute(
        "SELECT count(DISTINCT week_ending), sum(rows_received), sum(rows_rejected) FROM otc.publication "
        "WHERE summary_type IS NULL"
    ).fetchone() == (169, 5068, 468)
    doubles = sql.execute(
        "SELECT count(DISTINCT week_ending) FROM otc.rejected_record WHERE reason LIKE '%under tierIdentifier NMS%'"
    ).fetchone()
    assert doubles == (17,)
    differing = sql.execute("""
        SELECT t.week_ending FROM otc.published_total t
        JOIN (SELECT week_ending, sum(share_volume) AS shares, sum(trade_count) AS trades
              FROM otc.venue_volume GROUP BY 1) v USING (week_ending)
        WHERE t.share_volume <> v.shares OR t.trade_count <> v.trades
    """).fetchall()
    assert differing == []
    assert sql.execute("SELECT count(*) FROM otc.published_total").fetchone() == (169,)
    grades = dict(sql.execute("SELECT grade, count(*) FROM otc.week_quality GROUP BY 1").fetchall())  # type: ignore[arg-type]
    # Incomplete, and correct as far as it goes; a share that differs would be F.
    assert grades == {"D": 169}
