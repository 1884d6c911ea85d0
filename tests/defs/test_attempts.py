"""Requests whose run failed or was canceled are repeated, after a growing pause, by the real sensors."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator

import pytest
import time_machine
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    RunRequest,
    SensorResult,
    build_schedule_context,
    build_sensor_context,
)
from support import installed

from otc_assets.defs.attempts import ATTEMPT_TAG, LONGEST_PAUSE, WEEKS_TAG, attempts, pause_after
from otc_assets.defs.partitions import key_of
from otc_assets.domain.weeks import NEW_YORK, T1, T2
from otc_assets.pipeline.changes import promised, wednesday_of
from otc_assets.settings import settings

WEDNESDAY = dt.datetime(2026, 10, 14, 6, tzinfo=NEW_YORK)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def clock() -> Iterator[time_machine.Coordinates]:
    with time_machine.travel(WEDNESDAY, tick=False) as coordinates:
        yield coordinates


def launched(dagster: DagsterInstance, request: RunRequest, job: str) -> str:
    """The run that Dagster's daemon launches for a request."""
    tags = {**request.tags, "dagster/run_key": str(request.run_key)}
    if request.partition_key:
        tags["dagster/partition"] = request.partition_key
    return dagster.create_run_for_job(job_def=installed.definitions().resolve_job_def(job), tags=tags).run_id


def finish(dagster: DagsterInstance, run_id: str, status: DagsterRunStatus) -> None:
    run = dagster.get_run_by_id(run_id)
    assert run is not None
    if status == DagsterRunStatus.FAILURE:
        dagster.report_run_failed(run)
    elif status == DagsterRunStatus.CANCELED:
        dagster.report_run_canceled(run)
    else:
        from dagster._core.events import DagsterEvent, DagsterEventType

        done = DagsterEvent(event_type_value=DagsterEventType.PIPELINE_SUCCESS.value, job_name=run.job_name)
        dagster.report_dagster_event(done, run_id=run_id)


def tick(name: str, dagster: DagsterInstance, cursor: str | None = None) -> SensorResult:
    context = build_sensor_context(
        dagster, cursor=cursor, resources=installed.resources(), repository_def=installed.repository()
    )
    return installed.definitions().resolve_sensor_def(name).evaluate_tick(context)  # type: ignore[return-value]


def test_the_pause_doubles_and_is_bounded() -> None:
    assert [pause_after(n) // MINUTE for n in (1, 2, 3, 8, 9, 1000)] == [2, 4, 8, 256, 360, 360]
    assert pause_after(1000) == LONGEST_PAUSE


@pytest.mark.parametrize("status", [DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED])
def test_what_failed_is_attempted_again_after_a_pause(
    dagster: DagsterInstance, clock: time_machine.Coordinates, status: DagsterRunStatus
) -> None:
    """A run key is used up by a run that failed: the same request was silently ignored ever after."""
    wanted = RunRequest(run_key="week 7", tags={"mine": "too"})

    def now() -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    keys = []
    for number, pause in ((1, 2), (2, 4), (3, 8)):
        (request,), _ = attempts(dagster, [wanted], now())
        keys.append(request.run_key)
        assert (request.tags["mine"], request.tags[ATTEMPT_TAG]) == ("too", str(number))
        run_id = launched(dagster, request, "capture_t1")
        assert attempts(dagster, [wanted], now()) == ([], [])  # it is under way
        finish(dagster, run_id, status)
        clock.shift(dt.timedelta(minutes=pause, seconds=-1))
        ready, (waiting,) = attempts(dagster, [wanted], now())
        assert ready == []
        assert waiting.attempts == number
        assert f"'week 7' was attempted {number} times, again from " in str(waiting)
        clock.shift(dt.timedelta(seconds=2))
    assert keys == ["week 7", "week 7 attempt 2", "week 7 attempt 3"]


def test_what_succeeded_is_not_requested_again_unless_it_was_to_no_avail(
    dagster: DagsterInstance, clock: time_machine.Coordinates
) -> None:
    wanted = RunRequest(run_key="week 7")
    (request,), _ = attempts(dagster, [wanted], WEDNESDAY)
    finish(dagster, launched(dagster, request, "capture_t1"), DagsterRunStatus.SUCCESS)
    later = WEDNESDAY + dt.timedelta(days=1)
    assert attempts(dagster, [wanted], later) == ([], [])
    (again,), _ = attempts(dagster, [wanted], later, after_success=True)
    assert again.run_key == "week 7 attempt 2"


def test_runs_from_before_there_were_attempts_count_as_the_first(
    dagster: DagsterInstance, clock: time_machine.Coordinates
) -> None:
    run = dagster.create_run_for_job(
        job_def=installed.definitions().resolve_job_def("capture_t1"), tags={"dagster/run_key": "week 7"}
    )
    dagster.report_run_canceled(run)
    (request,), _ = attempts(dagster, [RunRequest(run_key="week 7")], WEDNESDAY + dt.timedelta(hours=1))
    assert request.run_key == "week 7 attempt 2"


def test_a_canceled_run_of_a_stale_week_is_requested_again(
    dagster: DagsterInstance, clock: time_machine.Coordinates
) -> None:
    """Its key was used up, and the week stayed stale for good."""
    week = dt.date(2026, 8, 21)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
    (first,) = tick("stale_weeks", dagster).run_requests or []
    finish(dagster, launched(dagster, first, "compute_week"), DagsterRunStatus.CANCELED)
    assert "was attempted 1 times" in str(tick("stale_weeks", dagster).skip_message)
    clock.shift(3 * MINUTE)
    (second,) = tick("stale_weeks", dagster).run_requests or []
    assert second.partition_key == first.partition_key == key_of(week)
    assert second.tags[WEEKS_TAG] == first.tags[WEEKS_TAG][:-1] + "2"


def test_a_failed_capture_of_a_late_week_is_requested_again(
    dagster: DagsterInstance, clock: time_machine.Coordinates
) -> None:
    week = dt.date(2026, 9, 18)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
    (first,) = tick("late_and_revised", dagster).run_requests or []
    run_id = launched(dagster, first, "capture_t1")
    assert not tick("late_and_revised", dagster).run_requests  # it is under way
    finish(dagster, run_id, DagsterRunStatus.FAILURE)
    clock.shift(3 * MINUTE)
    (second,) = tick("late_and_revised", dagster).run_requests or []
    assert second.run_key == f"{first.run_key} attempt 2"


def wednesday(dagster: DagsterInstance) -> RunRequest:
    context = build_schedule_context(
        dagster,
        scheduled_execution_time=WEDNESDAY,
        resources=installed.resources(),
        repository_def=installed.repository(),
    )
    (request,) = installed.definitions().resolve_schedule_def("wednesday_t1").evaluate_tick(context).run_requests or []
    return request


@pytest.mark.parametrize("daemon_was_down", [False, True])
def test_a_wednesday_that_failed_or_was_missed_is_repeated_on_thursday(
    dagster: DagsterInstance, clock: time_machine.Coordinates, daemon_was_down: bool
) -> None:
    """On an empty installation nothing was captured yet, and the week was not requested until the next Wednesday."""
    clock.shift(dt.timedelta(days=-1))
    cursor = tick("late_and_revised", dagster).cursor  # the installation is there before Wednesday
    clock.shift(dt.timedelta(days=1))
    if not daemon_was_down:
        run_id = launched(dagster, wednesday(dagster), "capture_t1")
        from_t1 = json.dumps({**json.loads(cursor or ""), "position": 0})
        under_way = tick("late_and_revised", dagster, from_t1).run_requests or []
        assert "capture_t1" not in [request.job_name for request in under_way]
        finish(dagster, run_id, DagsterRunStatus.FAILURE)
    clock.shift(dt.timedelta(days=1))
    requests = []
    for _ in range(3):
        data = tick("late_and_revised", dagster, cursor)
        cursor = data.cursor
        requests += [(r.job_name, r.partition_key) for r in data.run_requests or []]
    # The newest of each tier, and no history.
    assert sorted(set(requests)) == [
        ("capture_otce", "2026-09-11"),
        ("capture_t1", "2026-09-25"),
        ("capture_t2", "2026-09-11"),
    ]


def test_history_that_was_not_requested_is_not_captured(
    dagster: DagsterInstance, clock: time_machine.Coordinates
) -> None:
    """A new installation, between two Wednesdays."""
    clock.shift(dt.timedelta(days=1))
    cursor = None
    for _ in range(3):
        data = tick("late_and_revised", dagster, cursor)
        cursor = data.cursor
        assert not data.run_requests


def test_a_publication_is_promised_for_the_first_wednesday_on_which_it_is_due() -> None:
    """Published on Monday 2026-10-12, and captured on the Wednesday after it."""
    assert wednesday_of(dt.date(2026, 9, 25), T1) == WEDNESDAY
    assert wednesday_of(dt.date(2026, 9, 11), T2) == WEDNESDAY
    both = [(T1, dt.date(2026, 9, 18)), (T1, dt.date(2026, 9, 25))]
    assert promised(both, WEDNESDAY - MINUTE, WEDNESDAY) == {both[1]}
    assert promised(both, WEDNESDAY - MINUTE, WEDNESDAY - MINUTE) == set()
    assert promised(both, WEDNESDAY + MINUTE, WEDNESDAY + 2 * MINUTE) == set()


@pytest.mark.parametrize("first_week", ["2026-09-18", "2026-09-25", "2026-10-16"])
def test_nothing_breaks_while_the_first_week_wanted_has_no_partition_yet(
    dagster: DagsterInstance, clock: time_machine.Coordinates, monkeypatch: pytest.MonkeyPatch, first_week: str
) -> None:
    """A first week of this month or the next broke every command and schedule that asked for the last key."""
    monkeypatch.setenv("OTC_FIRST_WEEK", first_week)
    settings.cache_clear()
    newest = {tier.id: installed.weeks().newest(tier) for tier in (T1, T2)}
    out = dt.date.fromisoformat(first_week) <= dt.date(2026, 9, 25)
    assert newest == {"T1": dt.date(2026, 9, 25) if out else None, "T2": None}
    asked = {}
    for name in ("wednesday_t1", "wednesday_t2", "daily_gap_report"):
        context = build_schedule_context(
            dagster,
            scheduled_execution_time=WEDNESDAY,
            resources=installed.resources(),
            repository_def=installed.repository(),
        )
        asked[name] = len(installed.definitions().resolve_schedule_def(name).evaluate_tick(context).run_requests or [])
    assert asked == {"wednesday_t1": int(out), "wednesday_t2": 0, "daily_gap_report": int(out)}
    assert not tick("late_and_revised", dagster).run_requests
    assert not tick("stale_weeks", dagster).run_requests
