"""Runs of checks alone, as "Execute" and "Execute all" in the UI launch them: for a week, for weeks, without a week."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import time_machine
from dagster import AssetCheckKey, AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, DagsterRunStatus
from support import installed

from otc_assets.defs.datasets import ASSETS as OTHER_DATASETS
from otc_assets.defs.internals import InMemoryJob, execute_run
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.domain.checks import CHECKS, EXPORT, Check
from otc_assets.settings import settings

Sql = psycopg.Connection[tuple[Any, ...]]

BAD, GOOD = dt.date(2026, 8, 14), dt.date(2026, 8, 21)
ONE_WEEK = {"dagster/partition": "2026-08-14"}
BOTH_WEEKS = {
    "dagster/asset_partition_range_start": "2026-08-14",
    "dagster/asset_partition_range_end": "2026-08-21",
}
MODES = {"a week": (ONE_WEEK, [BAD]), "weeks": (BOTH_WEEKS, [BAD, GOOD]), "no week": ({}, [GOOD])}


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC), tick=True):
        yield


@pytest.fixture
def computed(dagster: DagsterInstance, sql: Sql) -> DagsterInstance:
    """Two weeks of T1, computed; then FINRA's totals of the first differ from its rows by one share."""
    launcher = installed.launcher(dagster)
    launcher.run_assets(["week_calendar", "publication_t1"], BAD, GOOD)
    launcher.run_assets(DOWNSTREAM, BAD, GOOD)
    sql.execute(
        "UPDATE otc.published_total SET share_volume = share_volume + 1 WHERE ctid = (SELECT min(ctid) FROM "
        "otc.published_total WHERE week_ending = %s AND total_of = 'SYMBOL')",
        [BAD],
    )
    sql.execute("DELETE FROM otc.week_quality WHERE week_ending = %s", [BAD])
    return dagster


def execute(dagster: DagsterInstance, checks: list[Check], tags: dict[str, str]) -> str:
    """A run of checks alone. Returns its id."""
    keys = {AssetCheckKey(AssetKey(check.asset), check.name) for check in checks}
    whole = installed.definitions().resolve_implicit_global_asset_job_def()
    job = whole.get_subset(asset_selection=set(), asset_check_selection=keys)
    run = dagster.create_run_for_job(job, tags=tags)
    execute_run(InMemoryJob(job), run, dagster)
    return run.run_id


def records(dagster: DagsterInstance, check: Check, run_id: str) -> list[Any]:
    """What Dagster has stored of a check in a run."""
    key = AssetCheckKey(AssetKey(check.asset), check.name)
    history = dagster.event_log_storage.get_asset_check_execution_history(key, limit=20)
    return [record for record in history if record.run_id == run_id]


def evaluations(dagster: DagsterInstance, check: Check, run_id: str) -> dict[str | None, Any]:
    """By partition, the evaluations of a check in a run. None may be planned only."""
    found = {}
    for record in records(dagster, check, run_id):
        assert record.event.dagster_event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION
        evaluation = record.event.dagster_event.asset_check_evaluation_data
        assert evaluation.partition not in found
        found[evaluation.partition] = evaluation
    return found


def fails(sql: Sql, check: Check, week: dt.date) -> bool:
    """Whether the check must fail, by what the database has of the week."""
    if check.name == "newest_week":
        return True  # only T1 is captured, and not its newest weeks
    if check.name == "no_gap":
        query = "SELECT count(*) > 0 FROM otc.gap WHERE week_ending = %s AND status <> 'pending'"
    elif check.name == "grade":
        query = "SELECT bool_or(grade = 'F') FROM otc.week_quality WHERE week_ending = %s"
    elif check.asset == "venue_volume":
        query = (
            "SELECT bool_or(findings::jsonb @> jsonb_build_array(jsonb_build_object('check_name', %s::text))) "
            "FROM otc.week_quality WHERE week_ending = %s"
        )
        return bool((sql.execute(query, [check.name, week]).fetchone() or (None,))[0])
    else:
        return False
    return bool((sql.execute(query, [week]).fetchone() or (None,))[0])


#: The checks of what is captured and computed here.
OF_PUBLICATIONS = [check for check in CHECKS if check.asset not in (*OTHER_DATASETS, EXPORT)]


@pytest.mark.parametrize("mode", MODES)
def test_each_check_runs_alone(computed: DagsterInstance, sql: Sql, mode: str) -> None:
    """13 of 18 could run only together with others and after a materialization in the same run."""
    tags, weeks = MODES[mode]
    failed = set()
    for check in OF_PUBLICATIONS:
        run_id = execute(computed, [check], tags)
        found = evaluations(computed, check, run_id)
        by_week = {week.isoformat() for week in weeks} if check.by_week else set()
        # Dagster plans an evaluation without a week, where the run has none; and so it does for the one other check.
        expected = by_week | ({None} if mode == "no week" or not check.by_week else set())
        assert set(found) == expected, check.name
        for partition, evaluation in found.items():
            week = dt.date.fromisoformat(partition) if partition else weeks[-1]
            assert evaluation.passed is not fails(sql, check, week), (check.name, partition)
            if not evaluation.passed:
                failed.add((check.name, partition))
            if partition:
                wanted = AssetRecordsFilter(AssetKey(check.asset), asset_partitions=[partition])
                (judged,) = computed.fetch_materializations(wanted, limit=1).records
                assert evaluation.target_materialization_data.storage_id == judged.storage_id
        run = computed.get_run_by_id(run_id)
        assert run is not None
        is_blocked = check.blocking and BAD in weeks
        assert run.status == (DagsterRunStatus.FAILURE if is_blocked else DagsterRunStatus.SUCCESS), check.name
    if BAD in weeks:
        assert {("matches_finra_totals", "2026-08-14"), ("grade", "2026-08-14")} <= failed
    assert ("grade", "2026-08-21") not in failed


def test_all_checks_of_all_assets_run_together_without_a_week(computed: DagsterInstance) -> None:
    """ "Execute all" failed with "Cannot access partition_key for a non-partitioned run"."""
    run_id = execute(computed, list(CHECKS), {})
    run = computed.get_run_by_id(run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.SUCCESS
    for check in CHECKS:
        # Nothing of the other data sets is materialized: the newest week there is, is the current one.
        newest = "2026-08-21" if check in OF_PUBLICATIONS else "2026-10-16"
        assert set(evaluations(computed, check, run_id)) == ({None, newest} if check.by_week else {None})


def test_a_check_that_runs_alone_appends_no_event_of_another(computed: DagsterInstance, sql: Sql) -> None:
    (totals,) = (check for check in CHECKS if check.name == "matches_finra_totals")
    run_id = execute(computed, [totals], ONE_WEEK)
    failed = sql.execute(
        "SELECT payload ->> 'check', (payload ->> 'week_ending')::date FROM otc.events "
        "WHERE event_type = 'otc.check.failed' AND metadata ->> 'run_id' = %s",
        [run_id],
    ).fetchall()
    assert failed == [("matches_finra_totals", BAD)]


def test_a_blocking_check_that_fails_names_the_week_and_the_reason(computed: DagsterInstance) -> None:
    (grade,) = (check for check in CHECKS if check.blocking)
    run_id = execute(computed, [grade], BOTH_WEEKS)
    (record,) = computed.get_records_for_run(run_id, of_type=DagsterEventType.STEP_FAILURE).records
    event = record.event_log_entry.dagster_event
    assert event is not None
    assert event.step_failure_data.error is not None
    message = event.step_failure_data.error.message
    assert "2026-08-14: the blocking check 'grade' of venue_volume failed: all tiers F" in message
    assert "2026-08-21" not in message


def test_checks_without_any_published_week_say_so(dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_FIRST_WEEK", "2026-10-16")
    settings.cache_clear()
    (agrees,) = (check for check in CHECKS if check.name == "agrees_with_aggregate")
    run_id = execute(dagster, [agrees], {})
    (record,) = dagster.get_records_for_run(run_id, of_type=DagsterEventType.STEP_FAILURE).records
    event = record.event_log_entry.dagster_event
    assert event is not None
    assert event.step_failure_data.user_failure_data is not None
    assert "FINRA has not published the first one" in str(event.step_failure_data.user_failure_data.description)
