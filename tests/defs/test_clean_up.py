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
from support import installed

from otc_assets.defs.clean_up import clean_up, clean_up_runs
from otc_assets.defs.instance import clean_instance
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
    clean_up_runs(instance, storage_url(settings()), dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))
    planned = instance.event_log_storage.get_latest_planned_materialization_info(AssetKey("venue_share"), KEY)
    assert planned is not None
    run = instance.get_run_by_id(planned.run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE


def test_a_run_that_has_not_ended_keeps_its_events(instance: DagsterInstance, database: str) -> None:
    run = instance.create_run_for_job(clean_up)
    instance.report_engine_event("it is waiting", run)
    clean_up_runs(instance, storage_url(settings()), dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
    (entry,) = instance.all_logs(run.run_id)
    assert "it is waiting" in str(entry.dagster_event)


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
