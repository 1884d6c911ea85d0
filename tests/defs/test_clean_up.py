"""The clean-up of what Dagster keeps of runs: what is deleted, and what the UI still shows."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import AssetCheckKey, AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from support import installed

from otc_assets.defs.clean_up import clean_up, clean_up_runs
from otc_assets.defs.instance import clean_instance
from otc_assets.defs.internals import BulkActionStatus, PartitionBackfill
from otc_assets.defs.launch import RunFailed
from otc_assets.defs.storage import storage_url
from otc_assets.domain.checks import CHECKS
from otc_assets.local import setup
from otc_assets.settings import settings

pytestmark = pytest.mark.slow

WEEK = dt.date(2026, 8, 21)
KEY = WEEK.isoformat()
ASSETS = ["publication_t1", "venue_volume", "symbol_summary"]
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def instance(installation: Path) -> Iterator[DagsterInstance]:
    """The installation's instance, in its database: the week captured and computed, then computed again."""
    with setup.installation(settings()) as prepared, clean_instance(prepared) as opened:
        launcher = installed.launcher(opened)
        for assets in (["week_calendar", "publication_t1"], ["venue_volume", "symbol_summary"], ["venue_volume"]):
            launcher.run_assets(assets, WEEK, WEEK)
        yield opened


def types(database: str) -> dict[str, int]:
    """The number of events by type; log lines have none."""
    with psycopg.connect(database) as connection:
        query = "SELECT coalesce(dagster_event_type, ''), count(*) FROM dagster.event_logs GROUP BY 1"
        return dict(connection.execute(query).fetchall())


def shown(instance: DagsterInstance) -> list[Any]:
    """What the pages of assets and checks are read from."""
    storage = instance.event_log_storage
    found: list[Any] = []
    for name in ASSETS:
        records = instance.fetch_materializations(AssetRecordsFilter(AssetKey(name), asset_partitions=[KEY]), limit=9)
        found += [(name, r.storage_id, r.asset_materialization, r.run_id) for r in records.records]
        for kind in (DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_FAILED_TO_MATERIALIZE):
            found.append(storage.get_latest_storage_id_by_partition(AssetKey(name), kind))
    keys = [AssetCheckKey(AssetKey(check.asset), check.name) for check in CHECKS]
    latest = storage.get_latest_asset_check_execution_by_key(keys)
    for key in sorted(latest):
        event = latest[key].event
        assert event is not None
        found.append((key, latest[key].id, latest[key].status, latest[key].partition, event.dagster_event))
    return found


def test_the_logs_of_ended_runs_are_deleted_and_the_assets_pages_stay_the_same(
    instance: DagsterInstance, database: str
) -> None:
    before, ours = types(database), shown(instance)
    assert {"STEP_START", "RESOURCE_INIT_SUCCESS", "ASSET_MATERIALIZATION_PLANNED", ""} <= set(before)
    assert clean_up_runs(instance, storage_url(settings()), NOW - dt.timedelta(days=1))[:2] == (0, 0)
    assert types(database) == before
    cleaned = clean_up_runs(instance, storage_url(settings()), dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))
    after = types(database)
    assert cleaned.events == sum(before.values()) - sum(after.values())
    assert {name for name in after if not name.startswith("ASSET_")} == set()
    assert after["ASSET_MATERIALIZATION"] == before["ASSET_MATERIALIZATION"] == 5
    # venue_volume was judged twice: only the newer results are listed, and have an event.
    of_volume, of_summary = (sum(c.asset == name for c in CHECKS) for name in ("venue_volume", "symbol_summary"))
    assert after["ASSET_CHECK_EVALUATION"] == of_volume + of_summary
    assert cleaned.check_results == of_volume
    assert shown(instance) == ours
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.SUCCESS}
    # A second time there is nothing left to do.
    assert clean_up_runs(instance, storage_url(settings()), dt.datetime.now(dt.UTC))[:2] == (0, 0)


def test_the_weeks_of_a_failed_run_are_still_shown_as_failed(instance: DagsterInstance, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE otc.venue_share CASCADE")
    with pytest.raises(RunFailed) as failure:
        installed.launcher(instance).run_assets(["venue_share"], WEEK, WEEK, retries=False)
    assert str(failure.value)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    clean_up_runs(instance, storage_url(settings()), later, later)
    planned = instance.event_log_storage.get_latest_planned_materialization_info(AssetKey("venue_share"), KEY)
    assert planned is not None
    run = instance.get_run_by_id(planned.run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE


def newest(instance: DagsterInstance) -> dict[str, tuple[int, str]]:
    """The newest materialization of the week, by asset, and its run."""
    found = {}
    for name in ASSETS:
        wanted = AssetRecordsFilter(AssetKey(name), asset_partitions=[KEY])
        (record,) = instance.fetch_materializations(wanted, limit=1).records
        found[name] = (record.storage_id, record.run_id)
    return found


def backfill(name: str, status: BulkActionStatus) -> PartitionBackfill:
    """A backfill as the daemon stores it, of two years ago."""
    return PartitionBackfill(
        backfill_id=name,
        status=status,
        from_failure=False,
        tags={"who": name},
        backfill_timestamp=(NOW - dt.timedelta(days=730)).timestamp(),
        partition_names=[KEY],
    )


def test_runs_are_deleted_unless_a_week_shows_their_materialization(instance: DagsterInstance, database: str) -> None:
    installed.launcher(instance).run_assets(["symbol_summary"], WEEK, WEEK)
    for name, status in (
        ("ended", BulkActionStatus.COMPLETED_SUCCESS),
        ("failed", BulkActionStatus.FAILED),
        ("running", BulkActionStatus.REQUESTED),
    ):
        instance.add_backfill(backfill(name, status))
    before, kept = {run.run_id for run in instance.get_runs()}, newest(instance)
    url, later = storage_url(settings()), dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)

    # Younger than runs are kept: nothing but the logs is deleted.
    cleaned = clean_up_runs(instance, url, later, NOW - dt.timedelta(days=731))
    assert (cleaned.runs, cleaned.backfills) == (0, 0)
    assert {run.run_id for run in instance.get_runs()} == before
    assert types(database)["ASSET_MATERIALIZATION"] == 6

    cleaned = clean_up_runs(instance, url, later, later)
    # The run that made venue_volume and symbol_summary: both have been materialized since.
    assert (cleaned.runs, cleaned.backfills) == (1, 2)
    assert newest(instance) == kept
    assert {run.run_id for run in instance.get_runs()} >= {run_id for _, run_id in kept.values()}
    assert [each.backfill_id for each in instance.get_backfills()] == ["running"]
    assert types(database)["ASSET_MATERIALIZATION"] == 4
    assert instance.get_materialized_partitions(AssetKey("venue_volume")) == {KEY}
    with psycopg.connect(database) as connection:
        # Nothing of what was deleted is left in other tables.
        for left in (
            "asset_event_tags WHERE event_id NOT IN (SELECT id FROM dagster.event_logs)",
            "run_tags WHERE run_id NOT IN (SELECT run_id FROM dagster.runs)",
            "backfill_tags WHERE backfill_id <> 'running'",
        ):
            assert connection.execute(f"SELECT count(*) FROM dagster.{left}").fetchone() == (0,), left
    # A second time there is nothing left to do.
    assert clean_up_runs(instance, url, later, later)[:2] == (0, 0)


def test_a_run_that_has_not_ended_keeps_its_events(instance: DagsterInstance, database: str) -> None:
    run = instance.create_run_for_job(clean_up)
    instance.report_engine_event("it is waiting", run)
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    clean_up_runs(instance, storage_url(settings()), tomorrow, tomorrow)
    (entry,) = instance.all_logs(run.run_id)
    assert "it is waiting" in str(entry.dagster_event)
    assert instance.get_run_by_id(run.run_id) is not None


def test_log_files_are_deleted_by_age_and_other_files_stay(instance: DagsterInstance) -> None:
    folder = Path(instance.storage_directory())
    old, new = folder / "run" / "compute_logs" / "old.err", folder / "run" / "compute_logs" / "new.err"
    other = folder / "venue_volume"
    tick = folder / "__repository__" / "file_drop" / "3.err"
    for path in (old, new, other, tick):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a line")
    month_ago = (NOW - dt.timedelta(days=31)).timestamp()
    for path in (old, other, tick, tick.parent):
        os.utime(path, (month_ago, month_ago))
    assert clean_up_runs(instance, None, NOW - dt.timedelta(days=30)).files == 2
    assert [path.exists() for path in (old, new, other, tick)] == [False, True, True, False]


def test_the_job_deletes_what_is_older_than_the_setting(
    instance: DagsterInstance, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '20 days'")
    assert clean_up.execute_in_process(instance=instance, resources=installed.resources()).success
    assert types(database)["RESOURCE_INIT_SUCCESS"] > 1  # kept for 30 days
    monkeypatch.setenv("OTC_KEEP_RUN_LOGS_DAYS", "19")
    settings.cache_clear()
    assert clean_up.execute_in_process(instance=instance, resources=installed.resources()).success
    # What is left is of the two runs of the job itself.
    assert types(database)["RESOURCE_INIT_SUCCESS"] == 2


def test_old_alerts_are_deleted_unless_they_are_pending_or_prevent_another(
    instance: DagsterInstance, database: str
) -> None:
    old, new = "now() - interval '400 days'", "now() - interval '300 days'"
    rows = {
        # name: kind, state, recorded, resolved
        "run, old": ("run", "delivered", old, "NULL"),
        "run, new": ("run", "delivered", new, "NULL"),
        "run, pending": ("run", "pending", old, "NULL"),
        "check, resolved": ("check", "delivered", old, old),
        "check, resolved lately": ("check", "delivered", old, new),
        "check, failing": ("check", "discarded", old, "NULL"),
        "report": ("report", "delivered", old, "NULL"),
    }
    with psycopg.connect(database, autocommit=True) as connection:
        for name, (kind, state, recorded, resolved) in rows.items():
            connection.execute(f"""
                INSERT INTO otc.alert (dedupe_key, kind, subject, severity, title, body, event_id, happened_at,
                    recorded_at, due_at, state, delivered_at, resolved_at, resolved_by)
                VALUES ('{name}', '{kind}', '{name}', 'error', 'a title', 'a body', 1, {recorded}, {recorded},
                    {recorded}, '{state}', CASE WHEN '{state}' = 'delivered' THEN {recorded} END,
                    {resolved}, CASE WHEN {resolved} IS NOT NULL THEN 2 END)""")  # type: ignore[arg-type]
        assert clean_up.execute_in_process(instance=instance, resources=installed.resources()).success
        left = {name for (name,) in connection.execute("SELECT subject FROM otc.alert").fetchall()}
    assert set(rows) - left == {"run, old", "check, resolved"}


def test_no_tick_is_kept_indefinitely(instance: DagsterInstance) -> None:
    for kind in (InstigatorType.SENSOR, InstigatorType.SCHEDULE):
        kept = instance.get_tick_retention_settings(kind)
        for status in (TickStatus.SKIPPED, TickStatus.FAILURE, TickStatus.SUCCESS):
            assert 0 < kept[status] <= 90, (kind, status)
