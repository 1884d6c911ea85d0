"""Run by ``tests/test_contributing.py`` in a copy of the project that has the figure and the check of the guide."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import time_machine
from dagster import AssetCheckKey, AssetKey, DagsterInstance
from support import installed
from support.migration import migrate

from otc_assets.pipeline.checks import judge_checks
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.migrate import newest_version

Sql = psycopg.Connection[tuple[Any, ...]]

ASSET = AssetKey("tier_summary")
CHECK = AssetCheckKey(ASSET, "ats_within_total")


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC), tick=True):
        yield


def stale() -> list[dt.date]:
    with installed.database().transaction() as connection:
        return lineage(connection).stale("tier_summary")


def test_the_asset_has_the_dependency_and_the_columns_of_the_entry(installation: object) -> None:
    graph = installed.definitions().resolve_asset_graph()
    node = graph.get(ASSET)
    assert node.parent_keys == {AssetKey("venue_volume")}
    assert node.description == (
        "A tier's week: volume, volume at ATSs, trades and symbols."
        "\n\nComputed from `venue_volume` by `otc_assets.domain.tiers.tier_summary`."
    )
    assert node.metadata["dagster/table_name"] == "otc.tier_summary"
    columns = {column.name: column.description for column in node.metadata["dagster/column_schema"].columns}
    assert columns["ats_share_pct"] == "the ATSs' share of the volume; null where nothing traded (percent)"
    assert list(columns) == [
        "week_ending",
        "tier",
        "total_volume",
        "ats_volume",
        "ats_share_pct",
        "total_trades",
        "symbol_count",
    ]


def test_the_check_is_declared_for_the_asset(installation: object) -> None:
    graph = installed.definitions().resolve_asset_graph()
    assert {key for key in graph.asset_check_keys if key.asset_key == ASSET} == {CHECK}
    spec = graph.get_check_spec(CHECK)
    assert (spec.description, spec.blocking) == ("The volume at ATSs is at most the total volume.", False)


def test_a_week_is_computed_checked_and_no_longer_stale(dagster: DagsterInstance, sql: Sql, week: dt.date) -> None:
    run = installed.launcher(dagster)
    run.run_assets(
        ["week_calendar", "publication_t1", "publication_t2", "publication_otce", "venue_volume"], week, week
    )
    assert stale() == [week]
    run.run_assets(["tier_summary"], week, week)
    assert stale() == []

    rows = sql.execute("SELECT * FROM otc.tier_summary ORDER BY tier").fetchall()
    expected = sql.execute("""
        SELECT week_ending, tier, sum(share_volume), sum(share_volume) FILTER (WHERE venue_kind = 'ATS'),
            round(100 * sum(share_volume) FILTER (WHERE venue_kind = 'ATS') / sum(share_volume), 6),
            sum(trade_count), count(DISTINCT symbol)
        FROM otc.venue_volume GROUP BY week_ending, tier ORDER BY tier
    """).fetchall()
    assert len(expected) == 3
    assert [row[:-1] for row in rows] == expected
    as_of = sql.execute("SELECT count(*) FROM otc.tier_summary_as_of(now() - interval '1 day')").fetchone()
    assert as_of == (0,)
    comment = sql.execute("SELECT col_description('otc.tier_summary'::regclass, 5)").fetchone()
    assert comment == ("the ATSs' share of the volume; null where nothing traded (percent)",)
    event = "SELECT event_type, payload ->> 'rows' FROM otc.events WHERE payload ->> 'table' = 'tier_summary'"
    assert sql.execute(event).fetchall() == [("otc.summary.computed", "3")]

    (record,) = dagster.event_log_storage.get_asset_check_execution_history(CHECK, limit=1)
    assert record.event is not None
    evaluation = record.event.asset_check_evaluation
    assert evaluation is not None
    assert (evaluation.passed, evaluation.partition) == (True, week.isoformat())
    ats_share_of_tier_1 = next(row[4] for row in expected if row[1] == "NMS Tier 1")
    assert evaluation.metadata["NMS Tier 1"].value == f"{ats_share_of_tier_1} % at ATSs"


def test_the_check_fails_and_the_failure_is_an_event(dagster: DagsterInstance, sql: Sql, week: dt.date) -> None:
    installed.launcher(dagster).run_assets(
        ["week_calendar", "publication_t1", "venue_volume", "tier_summary"], week, week
    )
    (passed,) = judge_checks(installed.database(), "tier_summary", week)
    assert passed.passed
    sql.execute("UPDATE otc.tier_summary SET ats_volume = total_volume + 1")
    (failed,) = judge_checks(installed.database(), "tier_summary", week)
    assert (failed.check.name, failed.passed, failed.serious) == ("ats_within_total", False, True)
    assert failed.details == {"NMS Tier 1": "the volume at ATSs exceeds the total volume"}
    events = sql.execute("""
        SELECT payload ->> 'asset', payload ->> 'check', payload ->> 'week_ending', payload ->> 'severity'
        FROM otc.events WHERE event_type = 'otc.check.failed' AND payload ->> 'asset' = 'tier_summary'
    """).fetchall()
    assert events == [("tier_summary", "ats_within_total", week.isoformat(), "ERROR")]


def test_after_a_downgrade_and_an_upgrade_the_weeks_are_stale_and_the_as_of_function_is_there(
    dagster: DagsterInstance, sql: Sql, week: dt.date
) -> None:
    """Records that outlive the table would leave it empty, and without the function."""
    assets = ["week_calendar", "publication_t1", "venue_volume", "tier_summary"]
    installed.launcher(dagster).run_assets(assets, week, week)
    assert stale() == []
    newest = newest_version()
    url = os.environ["OTC_DATABASE_URL"]
    migrate(url, f"{int(newest) - 1:03}")
    assert sql.execute("SELECT to_regclass('otc.tier_summary')").fetchone() == (None,)
    migrate(url)
    assert stale() == [week]
    assert sql.execute("SELECT count(*) FROM otc.tier_summary_as_of(now() - interval '1 day')").fetchone() == (0,)
