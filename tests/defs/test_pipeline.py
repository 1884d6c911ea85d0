"""From publications to gap report: whole runs, compared with DuckDB on what the simulated FINRA published."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import psycopg
import pytest
import time_machine
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance
from support import installed

from otc_assets.defs import launch
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.domain.quality import volume
from otc_assets.domain.tables import TABLES, in_order
from otc_assets.domain.weeks import T1, TIERS, weeks_between
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.pipeline.lines import capture_lines
from otc_assets.settings import settings
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.read import week_rows

ON_HOSTILE_DEFAULTS = True

#: Today, in these tests: all of August's weeks are out in every tier.
NOW = dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC)
#: What is computed from the weekly publications.
COMPUTED = ("week_calendar", "published_total", *in_order())
WEEKS = weeks_between(dt.date(2026, 7, 31), dt.date(2026, 8, 21))
MADE = ("venue_volume", "symbol_summary", "venue_share", "symbol_rolling", "venue_rolling", "symbol_concentration")


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(NOW, tick=True):
        yield


def quiet(done: int, note: str) -> None:
    """No progress bar."""


def published(weeks: list[dt.date]) -> pl.DataFrame:
    """What FINRA, simulated, has of the weeks: the witness's side of every comparison."""
    simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
    parts = [simulator.publication(week, tier, NOW.date()) for week in weeks for tier in TIERS]
    return pl.concat([part for part in parts if part is not None]).cast({pl.Decimal(38, 6): pl.Decimal(38, 6)})


def everything(sql: psycopg.Connection[tuple[object, ...]], table: str) -> list[tuple[object, ...]]:
    """All rows of a table, in an order that does not depend on how they got there."""
    columns = ", ".join(TABLES[table].schema)
    return sql.execute(f"SELECT {columns} FROM otc.{table} ORDER BY {columns}").fetchall()  # type: ignore[arg-type]


def test_a_range_of_weeks_and_week_by_week_give_the_same_rows(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Range runs once computed six-week figures before their inputs; order must not matter."""
    assert installed.materialize_weeks(dagster, WEEKS) == []
    at_once = {table: everything(sql, table) for table in COMPUTED}
    # In these weeks no venue ends as another begins.
    assert [table for table, rows in at_once.items() if not rows] == ["venue_succession"]
    tables = ", ".join(f"otc.{t}" for t in [*TABLES, "publication", "rejected_record", "computed_week"])
    sql.execute(f"TRUNCATE {tables}, otc.venue_volume_revision, otc.week_quality")  # type: ignore[arg-type]
    for week in WEEKS:
        assert installed.materialize_weeks(dagster, [week]) == []
    assert {table: everything(sql, table) for table in COMPUTED} == at_once


def test_every_published_row_arrives_and_the_figures_are_those_that_duckdb_computes(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    """An independent engine, on the publisher's own rows."""
    assert installed.materialize_weeks(dagster, WEEKS) == []
    rows = published(WEEKS)
    duck = duckdb.connect()
    rows.write_parquet(tmp_path / "published.parquet")
    duck.execute(f"""
        CREATE TABLE firm AS SELECT weekStartDate + 4 AS week_ending, tierDescription AS tier,
            issueSymbolIdentifier AS symbol, coalesce(MPID, firmCRDNumber, 'DE_MINIMIS') AS venue_id,
            MPID IS NOT NULL AS is_ats, totalWeeklyShareQuantity AS shares, totalWeeklyTradeCount AS trades
        FROM '{tmp_path}/published.parquet' WHERE summaryTypeCode LIKE '%_W_SMBL_FIRM'
    """)
    received = sql.execute(
        "SELECT sum(rows_received), sum(rows_accepted), sum(rows_rejected) FROM otc.publication"
    ).fetchone()
    assert received == (rows.height, rows.height, 0)
    numbers = sql.execute("SELECT id FROM otc.publication").fetchall()
    lines = [capture_lines(installed.database(), installed.archive(), int(str(number))) for (number,) in numbers]
    assert sum(each.rows.height for each in lines) == rows.height

    summary = duck.execute("""
        SELECT week_ending::date, tier, symbol, sum(shares), sum(trades), count(DISTINCT venue_id),
               sum(shares) FILTER (is_ats) FROM firm GROUP BY ALL ORDER BY ALL
    """).fetchall()
    ours = sql.execute("""
        SELECT week_ending, tier, symbol, total_volume, total_trades, venue_count, nullif(ats_volume, 0)
        FROM otc.symbol_summary
    """).fetchall()
    assert sorted(ours, key=str) == sorted(summary, key=str)

    hhi = duck.execute("""
        WITH v AS (
            SELECT week_ending::date w, tier, symbol, venue_id, sum(shares)::double s, sum(trades) n
            FROM firm GROUP BY ALL
        )
        SELECT w, tier, symbol, 10000 * sum(s * s) / (sum(s) * sum(s)),
            10000 * sum(CASE venue_id WHEN 'DE_MINIMIS' THEN s * s / n ELSE s * s END) / (sum(s) * sum(s)), sum(n)
        FROM v GROUP BY ALL
    """).fetchall()
    stored = {
        (w, t, s): (float(h), float(low), trades)  # type: ignore[arg-type]
        for w, t, s, h, low, trades in sql.execute("""
            SELECT week_ending, tier, symbol, hhi, hhi_lower, total_trades FROM otc.symbol_concentration
            WHERE venue_scope = 'ALL'
        """)
    }
    assert len(stored) == len(hhi)
    for w, t, s, h, low, trades in hhi:
        assert stored[w, t, s] == (pytest.approx(h, abs=1e-5), pytest.approx(low, abs=1e-5), trades)
    assert any(low < h for h, low, _ in stored.values())

    last = WEEKS[-1]
    rolling = duck.execute(
        """
        WITH s AS (
            SELECT week_ending::date w, tier, symbol, sum(shares) v FROM firm GROUP BY ALL
            UNION ALL SELECT week_ending::date, 'ALL', symbol, sum(shares) FROM firm GROUP BY ALL
        )
        SELECT tier, symbol, sum(v) / 4.0, count(*), coalesce(max(v) FILTER (w = $1), 0) FROM s GROUP BY ALL
        """,
        [last],
    ).fetchall()
    stored_rolling = {
        (t, s): (avg, daily, traded, current, window, days)
        for t, s, avg, daily, traded, current, window, days in sql.execute(
            "SELECT tier, symbol, avg_6w_volume, avg_6w_daily_volume, weeks_traded, current_volume, weeks_in_window, "
            "window_trading_days FROM otc.symbol_rolling WHERE week_ending = %s",
            [last],
        )
    }
    assert len(stored_rolling) == len(rolling)
    for t, s, avg, traded, current in rolling:
        ours_avg, ours_daily, ours_traded, ours_current, window, days = stored_rolling[t, s]
        assert float(ours_avg) == pytest.approx(float(avg), abs=1e-5)  # type: ignore[arg-type]
        assert float(ours_daily) == pytest.approx(float(avg) / 5, abs=1e-5)  # type: ignore[arg-type]
        assert (ours_traded, ours_current, window, days) == (traded, current, 4, 20)

    shares = dict(
        sql.execute(
            "SELECT tier, sum(market_share_pct) FROM otc.venue_share WHERE week_ending = %s GROUP BY tier", [last]
        )
    )  # type: ignore[arg-type]
    assert all(abs(total - 100) < Decimal("0.001") for total in shares.values())  # type: ignore[operator]
    assert len(shares) == 3


def test_a_second_run_of_the_same_weeks_changes_nothing(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    installed.materialize_weeks(dagster, WEEKS[:1])
    before = everything(sql, "venue_volume")
    count = sql.execute("SELECT count(*) FROM otc.publication").fetchone()
    assert installed.materialize_weeks(dagster, WEEKS[:1]) == []
    assert everything(sql, "venue_volume") == before
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == count
    assert sql.execute("SELECT count(*) FROM otc.venue_volume_revision").fetchone() == (0,)


def test_a_range_run_records_rows_and_checks_week_by_week(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """A range run's one result once left every week PLANNED indefinitely."""
    installed.materialize_weeks(dagster, WEEKS[:2])
    for week in WEEKS[:2]:
        (record,) = dagster.fetch_materializations(
            AssetRecordsFilter(asset_key=AssetKey("venue_volume"), asset_partitions=[week.isoformat()]), limit=1
        ).records
        assert record.asset_materialization is not None
        stated = record.asset_materialization.metadata["dagster/partition_row_count"].value
        assert (stated,) == sql.execute(
            "SELECT count(*) FROM otc.venue_volume WHERE week_ending = %s", [week]
        ).fetchone()
    from dagster import AssetCheckKey

    for check in ("rows_reconciled", "matches_finra_totals", "grade", "volume_swing"):
        key = AssetCheckKey(AssetKey("venue_volume"), check)
        history = dagster.event_log_storage.get_asset_check_execution_history(key, limit=10)
        evaluations = [
            r.event.dagster_event.asset_check_evaluation_data for r in history if r.event and r.event.dagster_event
        ]
        by_week = {e.partition: e.passed for e in evaluations if e.partition}  # type: ignore[union-attr]
        assert by_week == {week.isoformat(): True for week in WEEKS[:2]}


def _tamper(week: dt.date) -> None:
    """Makes FINRA's total of the week differ from the sum of its rows by one share."""
    import sqlalchemy as sa

    with installed.database().transaction() as connection:
        connection.execute(
            sa.text("""
                UPDATE otc.published_total SET share_volume = share_volume + 1
                WHERE (week_ending, tier, total_of, venue_kind, symbol, issue_name, product_type) = (
                    SELECT week_ending, tier, total_of, venue_kind, symbol, issue_name, product_type
                    FROM otc.published_total WHERE week_ending = :week AND total_of = 'SYMBOL' ORDER BY symbol LIMIT 1)
            """),
            {"week": week},
        )
        connection.execute(sa.text("DELETE FROM otc.week_quality WHERE week_ending = :week"), {"week": week})


@pytest.mark.parametrize("alone", [True, False])
def test_a_week_graded_f_blocks_its_downstream_assets_and_not_the_other_weeks(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], alone: bool
) -> None:
    """One share off FINRA's own total is F."""
    bad, good = WEEKS[0], WEEKS[1]
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], bad, good)
    installed.launcher(dagster).run_assets(["venue_volume"], bad, good)
    _tamper(bad)
    with pytest.raises(launch.RunFailed, match="graded F"):
        installed.launcher(dagster).run_assets(["symbol_summary", "venue_share"], bad, bad if alone else good)
    summarized = {week for (week,) in sql.execute("SELECT DISTINCT week_ending FROM otc.symbol_summary")}
    assert summarized == (set() if alone else {good})
    findings = sql.execute("SELECT grade, findings FROM otc.week_quality WHERE week_ending = %s", [bad]).fetchall()
    assert [grade for grade, _ in findings] == ["F"]
    assert "matches_finra_totals" in json.dumps(findings[0][1])
    if not alone:
        materialized = dagster.get_materialized_partitions(AssetKey("symbol_summary"))
        assert materialized == {good.isoformat()}


def test_a_failed_grade_stops_the_run_before_figures_of_the_week_are_computed(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocking check, in the run that loads the week."""

    monkeypatch.setattr(volume, "MOST_SHARES", 1)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[0])
    with pytest.raises(launch.RunFailed):
        installed.launcher(dagster).run_assets(["venue_volume", "symbol_summary"], WEEKS[0], WEEKS[0])
    assert sql.execute("SELECT count(*) FROM otc.symbol_summary").fetchone() == (0,)


def test_a_revised_week_makes_the_five_weeks_after_it_stale_and_they_are_recomputed(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], installation: Path
) -> None:
    """FINRA rewrites single rows up to half a year later."""
    simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
    revised = next(
        week
        for week in weeks_between(dt.date(2026, 1, 2), dt.date(2026, 7, 3))
        if any(day < NOW.date() for day in simulator.revisions(week, T1))
    )
    day = simulator.revisions(revised, T1)[0]
    weeks = weeks_between(revised, revised + dt.timedelta(weeks=6))
    before = dt.datetime.combine(day, dt.time(), dt.UTC) - dt.timedelta(hours=12)
    newest_out = [w for w in weeks if (before.date() - w).days >= 24]
    with time_machine.travel(max(before, NOW - dt.timedelta(days=400)), tick=True):
        installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], weeks[0], weeks[0])
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], weeks[1], weeks[-1])
    installed.launcher(dagster).run_assets(list(DOWNSTREAM), weeks[0], weeks[-1])
    assert installed.stale_weeks() == []
    assert newest_out is not None

    installed.launcher(dagster).run_assets(["publication_t1"], revised, revised)
    assert sql.execute("SELECT max(revision) FROM otc.publication WHERE week_ending = %s", [revised]).fetchone() == (2,)
    assert installed.stale_weeks() == [revised]
    installed.launcher(dagster).run_assets(["venue_volume", "symbol_summary", "venue_share"], revised, revised)
    with installed.database().transaction() as connection:
        stale = lineage(connection).stale("symbol_rolling")
    assert stale == weeks[:6]

    def averages() -> list[tuple[object, ...]]:
        return sql.execute("SELECT week_ending, symbol, avg_6w_volume FROM otc.symbol_rolling ORDER BY 1, 2").fetchall()

    old = averages()
    assert installed.compute_stale_weeks(dagster) == []
    assert installed.stale_weeks() == []
    changed = {new[0] for old_row, new in zip(old, averages(), strict=False) if old_row != new}
    assert revised in changed
    assert max(changed) <= weeks[5]
    kept = sql.execute("SELECT DISTINCT change FROM otc.venue_volume_revision ORDER BY 1").fetchall()
    assert kept == [("changed",), ("removed",)]


def test_a_week_before_its_publication_day_has_no_rows_and_is_shown_as_pending(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """On a weekend the newest partition is there three days before its publication."""
    with time_machine.travel(dt.datetime(2026, 10, 17, 12, tzinfo=dt.UTC), tick=True):
        week = dt.date(2026, 10, 2)
        installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
        (record,) = dagster.fetch_materializations(AssetKey("publication_t1"), limit=1).records
    assert record.asset_materialization is not None
    assert "pending" in str(record.asset_materialization.metadata["state"].value)
    assert "2026-10-19" in str(record.asset_materialization.metadata["state"].value)
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (0,)


def test_the_gap_report_lists_what_is_missing_and_what_is_not_due(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    def reported() -> dict[tuple[object, object], object]:
        installed.launcher(dagster).run_assets(["gap_report"], WEEKS[0], WEEKS[2])
        return {(w, t): s for w, t, s in sql.execute("SELECT week_ending, tier, status FROM otc.gap")}

    installed.materialize_weeks(dagster, [WEEKS[1]], [T1])
    found = reported()
    assert (WEEKS[1], "NMS Tier 1") not in found
    assert found[WEEKS[2], "NMS Tier 1"] == "missing_at_end"
    assert found[WEEKS[1], "NMS Tier 2"] == "missing_at_end"
    assert not [key for key in found if key[0] == WEEKS[0]]  # nobody requested it
    installed.materialize_weeks(dagster, [WEEKS[0]], [T1])
    installed.materialize_weeks(dagster, [WEEKS[2]], [T1])
    assert not [key for key in reported() if key[1] == "NMS Tier 1"]


def test_a_week_can_be_recomputed_from_the_archive_alone(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.materialize_weeks(dagster, WEEKS[:1])
    before = everything(sql, "venue_volume")
    sql.execute("TRUNCATE otc.venue_volume, otc.published_total")
    installed.replace(monkeypatch, source=installed.Unreachable())
    installed.launcher(dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[0])
    assert everything(sql, "venue_volume") == before
    assert installed.archive() is not None


def test_reading_by_week_gives_the_rows_of_the_weeks_asked_for(dagster: DagsterInstance) -> None:
    installed.materialize_weeks(dagster, WEEKS[:2], [T1])
    with installed.database().transaction() as connection:
        one = week_rows(connection, "symbol_summary", [WEEKS[0]])
        both = week_rows(connection, "symbol_summary", WEEKS[:2])
        none = week_rows(connection, "symbol_summary", WEEKS[:1], "OTC")
    assert one["week_ending"].unique().to_list() == [WEEKS[0]]
    assert both["week_ending"].n_unique() == 2
    assert none.height == 0


def test_a_folder_of_download_files_is_a_source_like_any_other(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTC_SOURCE=files: the same figures as from the API, without FINRA's totals to judge them by."""
    from otc_assets.finra.simulator.files import write_files

    assert installed.materialize_weeks(dagster, WEEKS[:1]) == []
    from_api = everything(sql, "symbol_summary")
    sql.execute("TRUNCATE otc.symbol_summary, otc.venue_volume, otc.published_total, otc.computed_week")
    sql.execute("TRUNCATE otc.publication, otc.rejected_record, otc.week_quality")
    simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
    write_files(simulator, settings().files_folder, WEEKS[:1], TIERS, NOW.date())
    monkeypatch.setenv("OTC_SOURCE", "files")
    settings.cache_clear()
    assert installed.materialize_weeks(dagster, WEEKS[:1]) == []
    scopes = sql.execute("SELECT tier, scope, complete FROM otc.publication ORDER BY 1, 2").fetchall()
    assert scopes == [(tier.name, half, True) for tier in TIERS for half in ("ATS", "NON_ATS")]
    # The files have no dollars and no CRD numbers: firms are identified by their names.
    same = [
        n
        for n, column in enumerate(TABLES["symbol_summary"].schema)
        if column != "top_venue" and not re.search("notional|block|implied", column)
    ]
    files = everything(sql, "symbol_summary")
    assert [[row[n] for n in same] for row in files] == [[row[n] for n in same] for row in from_api]
    block, undecided = (
        list(TABLES["symbol_summary"].schema).index(f"block_{name}_volume") for name in ("like", "undecided")
    )
    for of_files, of_api in zip(files, from_api, strict=True):
        assert of_api[undecided] == 0
        assert of_files[block] <= of_api[block] <= of_files[block] + of_files[undecided]


def test_the_same_week_with_other_content_is_a_revision_and_nothing_of_the_first_is_lost(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    """By hand: one row changes from 1 share to 5."""
    from otc_assets.defs.jobs import FilesToIngest

    header = "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    header += "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
    for number, shares in enumerate((1, 5)):
        path = tmp_path / f"download-{number}.csv"
        path.write_text(
            f"{header}OTC|AAAA|A Inc|V ONE|VONE|{shares}|1|2026-09-21\nOTC|BBBB|B Inc|V ONE|VONE|2|1|2026-09-21\n"
        )
        installed.launcher(dagster).ingest(FilesToIngest(paths=[str(path)]))
        assert installed.compute_stale_weeks(dagster) == []
    revisions = sql.execute("SELECT revision, rows_received FROM otc.publication ORDER BY 1").fetchall()
    assert revisions == [(1, 2), (2, 2)]
    assert sql.execute("SELECT symbol, share_volume FROM otc.venue_volume ORDER BY 1").fetchall() == [
        ("AAAA", Decimal(5)),
        ("BBBB", Decimal(2)),
    ]
    assert sql.execute("SELECT symbol, share_volume, change FROM otc.venue_volume_revision").fetchall() == [
        ("AAAA", Decimal(1), "changed")
    ]
    shares = [capture_lines(installed.database(), installed.archive(), number, symbol="AAAA") for number in (1, 2)]
    assert [each.rows.rows() for each in shares] == [
        [(2, f"OTC|AAAA|A Inc|V ONE|VONE|{count}|1|2026-09-21")] for count in (1, 5)
    ]


def test_records_of_a_part_never_replace_a_whole_publication(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    from otc_assets.defs.jobs import FilesToIngest

    week = WEEKS[0]
    assert installed.materialize_weeks(dagster, [week], [T1]) == []
    before = everything(sql, "venue_volume")
    record = {
        "weekStartDate": (week - dt.timedelta(days=4)).isoformat(),
        "tierIdentifier": "T1",
        "tierDescription": "NMS Tier 1",
        "issueSymbolIdentifier": str(before[0][2]),
        "issueName": "Another name",
        "MPID": "ZZZZ",
        "marketParticipantName": "ZZZZ POOL",
        "totalWeeklyShareQuantity": 1,
        "totalWeeklyTradeCount": 1,
        "summaryTypeCode": "ATS_W_SMBL_FIRM",
    }
    path = tmp_path / "records.json"
    path.write_text(json.dumps([record]))
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(path)]))
    assert installed.compute_stale_weeks(dagster) == []
    assert everything(sql, "venue_volume") == before
    assert sql.execute("SELECT scope, rows_accepted FROM otc.publication ORDER BY id").fetchall()[-1] == ("PARTIAL", 1)
