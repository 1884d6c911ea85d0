"""Schedules and sensors, ticked for real on an instance of their own."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
import yaml
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    ScheduleDefinition,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.utils import make_new_run_id
from dagster._utils.schedules import schedule_execution_time_iterator
from support import installed
from support.published import Published

from otc_assets.defs import schedules, sensors
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.domain.weeks import NEW_YORK, OTCE, T1, T2, TIERS, Tier, weeks_between
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.source import PublicationState, SourceError
from otc_assets.local.setup import project_file
from otc_assets.pipeline import changes
from otc_assets.pipeline.capture import capture_publication
from otc_assets.settings import settings

WEDNESDAY = dt.datetime(2026, 10, 14, 6, tzinfo=NEW_YORK)


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(WEDNESDAY, tick=True):
        yield


def tick(name: str, dagster: DagsterInstance, cursor: str | None = None) -> sensors.SensorResult:
    """One evaluation of a sensor, with the resources of the definitions."""
    sensor = installed.definitions().resolve_sensor_def(name)
    context = build_sensor_context(
        dagster, cursor=cursor, resources=installed.resources(), repository_def=installed.repository()
    )
    return sensor.evaluate_tick(context)  # type: ignore[return-value]


def test_on_wednesday_morning_the_newest_week_of_each_tier_is_requested(dagster: DagsterInstance) -> None:
    """Three and five weeks of lag: on one Wednesday the tiers are at different weeks."""
    asked = {}
    for tier in TIERS:
        schedule = installed.definitions().resolve_schedule_def(f"wednesday_{tier.slug}")
        context = build_schedule_context(
            dagster,
            scheduled_execution_time=WEDNESDAY,
            resources=installed.resources(),
            repository_def=installed.repository(),
        )
        (request,) = schedule.evaluate_tick(context).run_requests or []
        asked[tier.id] = request.partition_key
        assert schedule.cron_schedule == "0 6 * * 3"
        assert schedule.execution_timezone == "America/New_York"
    assert asked == {"T1": "2026-09-25", "T2": "2026-09-11", "OTCE": "2026-09-11"}


def revised_in_look_back() -> tuple[dt.date, dt.date]:
    """A T1 week within the look-back that the simulator revises before today, and the day of it."""
    simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
    for week in reversed(weeks_between(dt.date(2026, 3, 27), dt.date(2026, 9, 18))):
        for day in simulator.revisions(week, T1):
            if day <= WEDNESDAY.date():
                return week, day
    raise AssertionError("the simulator revises nothing in half a year: another seed is needed")


def test_the_look_back_requests_only_what_finra_revised(dagster: DagsterInstance) -> None:
    """A look-back that fetches everything again costs 26 times as much; one that fetches nothing misses revisions."""
    week, day = revised_in_look_back()
    others = [week + dt.timedelta(weeks=1)]
    with time_machine.travel(dt.datetime.combine(day - dt.timedelta(days=1), dt.time(12), dt.UTC), tick=True):
        installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], others[0], others[0])
    source = installed.source()
    candidates = [(T1, w) for w in weeks_between(week - dt.timedelta(weeks=1), others[0])]
    found = list(changes.changed(candidates, installed.database(), source))
    assert [(tier, w) for tier, w, _ in found] == [(T1, week)]
    requests = list(
        schedules.wednesday_requests(
            T1, WEDNESDAY, installed.database(), installed.source(), settings(), logging.getLogger()
        )
    )
    assert week.isoformat() in [r.partition_key for r in requests]
    assert others[0].isoformat() not in [r.partition_key for r in requests[1:]]
    assert len({r.run_key for r in requests}) == len(requests)


def test_a_newest_week_that_is_captured_and_unchanged_is_not_fetched_again(dagster: DagsterInstance) -> None:
    """On Wednesdays 314 weeks were fetched in vain: the revision sensor had captured them on Monday."""
    newest = dt.date(2026, 9, 25)
    before = [
        request.partition_key
        for request in schedules.wednesday_requests(
            T1, WEDNESDAY, installed.database(), installed.source(), settings(), logging.getLogger()
        )
    ]
    assert before == [newest.isoformat()]
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], newest, newest)
    schedule = installed.definitions().resolve_schedule_def("wednesday_t1")
    context = build_schedule_context(
        dagster,
        scheduled_execution_time=WEDNESDAY,
        resources=installed.resources(),
        repository_def=installed.repository(),
    )
    assert schedule.evaluate_tick(context).run_requests == []


def test_a_newest_week_is_requested_without_an_answer_of_finra_unless_it_is_captured(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run has retries, and fails visibly."""

    class Silent:
        def state(self, *_: object) -> None:
            raise SourceError("no answer")

    def requests() -> list[str | None]:
        found = schedules.wednesday_requests(
            T1,
            WEDNESDAY,
            installed.database(),
            Silent(),  # type: ignore[arg-type]
            settings(),
            logging.getLogger(),
        )
        return [request.partition_key for request in found]

    newest = dt.date(2026, 9, 25)
    assert requests() == [newest.isoformat()]
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], newest, newest)
    assert requests() == []


def test_a_week_that_was_published_late_is_requested_once(dagster: DagsterInstance) -> None:
    """The week after a captured one is published, and was not requested."""
    first = dt.date(2026, 9, 11)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], first, first)
    data = tick("late_and_revised", dagster)
    late = [(r.job_name, r.partition_key) for r in data.run_requests or []]
    assert late == [("capture_t1", "2026-09-18"), ("capture_t1", "2026-09-25")]
    again = tick("late_and_revised", dagster)
    assert [r.run_key for r in again.run_requests or []] == [r.run_key for r in data.run_requests or []]


def test_the_revision_sensor_goes_round_all_publications_a_few_at_a_time(dagster: DagsterInstance) -> None:
    cursor, places = None, []
    for _ in range(4):
        cursor = tick("late_and_revised", dagster, cursor).cursor
        places.append(json.loads(cursor or "{}")["position"])
    everything = len(changes.look_back(WEDNESDAY, settings().first_week, settings().lookback_weeks))
    assert everything == 3 * 27
    # The newest week of each tier is looked at in every tick, so that three of its 30 questions are about those.
    assert places == [27, 54, 0, 27]


def test_the_tiers_of_a_week_are_looked_at_together_the_newest_weeks_first() -> None:
    """A week that was missing as a whole was computed from its T2 alone: T1 was looked at an hour later."""
    candidates = changes.look_back(WEDNESDAY, dt.date(2024, 1, 5), 26)
    assert len(set(candidates)) == 3 * 27
    weeks = [week for _, week in candidates]
    assert weeks == sorted(weeks, reverse=True)
    assert {week: weeks.count(week) for week in weeks[6:-6]} == dict.fromkeys(weeks[6:-6], 3)


def test_a_revision_sensor_that_gets_no_answer_tries_the_same_publications_again(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise SourceError("no answer")
        yield

    monkeypatch.setattr(sensors, "changed", silent)
    data = tick("late_and_revised", dagster, "30")
    assert "no answer" in str(data.skip_message)
    assert json.loads(data.cursor or "{}")["position"] == 30


def test_what_was_found_before_the_source_stopped_answering_is_requested(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    week = dt.date(2026, 9, 18)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
    source, answer, questions = installed.source(), installed.source().state, 0

    def state(asked: dt.date, tier: Tier) -> PublicationState | None:
        nonlocal questions
        questions += 1
        if questions > 1:
            raise SourceError("no answer")
        return answer(asked, tier)

    monkeypatch.setattr(source, "state", state)
    data = tick("late_and_revised", dagster)
    assert [request.partition_key for request in data.run_requests or []] == ["2026-09-25"]
    assert json.loads(data.cursor or "{}")["position"] == 0


class Revising(Published):
    """A FINRA that revises the week ``revised``, if it is set."""

    revised: dt.date | None = None

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        found = super().state(week_ending, tier)
        return PublicationState(99, dt.date(2026, 10, 14)) if found and week_ending == self.revised else found


@pytest.fixture
def one_week_back(dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Revising:
    """FINRA, for an installation that looks back one week and has captured T1 of the newest three weeks."""
    monkeypatch.setenv("OTC_LOOKBACK_WEEKS", "1")
    settings.cache_clear()
    source = Revising(lambda: dt.datetime.now(NEW_YORK).date())
    installed.replace(monkeypatch, source=source)
    for week in weeks_between(dt.date(2026, 9, 11), dt.date(2026, 9, 25)):
        capture_publication(week, T1, source, installed.archive(), installed.database(), "a run", WEDNESDAY)
    return source


def test_a_revision_during_an_outage_is_requested_although_its_week_has_left_the_look_back(
    dagster: DagsterInstance, one_week_back: Revising
) -> None:
    """After three days without a daemon, one revision was never captured."""
    cursor = tick("late_and_revised", dagster).cursor
    one_week_back.revised = dt.date(2026, 9, 18)
    with time_machine.travel(WEDNESDAY + dt.timedelta(days=6), tick=True):
        started_now = tick("late_and_revised", dagster)
        continued = tick("late_and_revised", dagster, cursor)
    assert [request.partition_key for request in started_now.run_requests or []] == ["2026-10-02"]
    assert [request.partition_key for request in continued.run_requests or []] == ["2026-09-18", "2026-10-02"]


def test_a_revision_whose_capture_fails_is_requested_again_after_its_week_has_left_the_look_back(
    dagster: DagsterInstance, one_week_back: Revising
) -> None:
    one_week_back.revised = dt.date(2026, 9, 18)
    attempts, cursor = [], None
    for weeks_later in range(4):
        with time_machine.travel(WEDNESDAY + dt.timedelta(weeks=weeks_later), tick=True):
            data = tick("late_and_revised", dagster, cursor)
            cursor = data.cursor
            wanted = ("capture_t1", "2026-09-18")
            (request,) = [r for r in data.run_requests or [] if (r.job_name, r.partition_key) == wanted]
            attempts.append(request.tags["otc/attempt"])
            run = dagster.add_run(
                DagsterRun("capture_t1", run_id=make_new_run_id(), tags=request.tags, status=DagsterRunStatus.STARTED)
            )
            dagster.report_run_failed(run)
    assert attempts == ["1", "2", "3", "4"]
    # FINRA withdraws the revision: nothing is missing any more.
    one_week_back.revised = None
    assert '"missing": []' not in str(cursor)
    assert ["T1", "2026-09-18"] not in json.loads(str(tick("late_and_revised", dagster, cursor).cursor))["missing"]


def test_every_sensor_and_schedule_has_a_thread_of_its_own(installation: Path) -> None:
    """In one thread, a tick that was busy for minutes held up the alerts."""
    config = yaml.safe_load(project_file("dagster.yaml").read_text())
    found = installed.definitions()
    for kind, automations in (("sensors", found.sensors), ("schedules", found.schedules)):
        assert config[kind]["use_threads"] is True
        assert config[kind]["num_workers"] >= len(list(automations or []))


def asked(result: sensors.SensorResult) -> list[tuple[str | None, str, str]]:
    """The requests of a tick, in short: job, first and last week."""
    found = []
    for request in result.run_requests or []:
        first, last = (request.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
        found.append((request.job_name, first or str(request.partition_key), last or str(request.partition_key)))
    return found


def test_stale_weeks_are_requested_whole_or_their_six_week_figures_alone(dagster: DagsterInstance) -> None:
    weeks = weeks_between(dt.date(2026, 8, 7), dt.date(2026, 8, 21))
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], weeks[0], weeks[-1])
    installed.launcher(dagster).run_assets(["publication_otce"], weeks[1], weeks[1])
    assert asked(tick("stale_weeks", dagster)) == [("compute_week", "2026-08-07", "2026-08-21")]
    installed.launcher(dagster).run_assets(list(DOWNSTREAM), weeks[0], weeks[-1])
    assert "up to date" in str(tick("stale_weeks", dagster).skip_message)
    # Another tier of the first week arrives: the week is recomputed, and then the two after it are stale.
    installed.launcher(dagster).run_assets(["publication_t2"], weeks[0], weeks[0])
    assert asked(tick("stale_weeks", dagster)) == [("compute_week", "2026-08-07", "2026-08-07")]
    installed.launcher(dagster).run_assets(list(DOWNSTREAM), weeks[0], weeks[0])
    assert asked(tick("stale_weeks", dagster)) == [("compute_rolling", "2026-08-14", "2026-08-21")]


def test_a_week_that_is_never_published_is_reported_as_a_gap_once_it_is_due(
    dagster: DagsterInstance, sql: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run is requested for a week that does not exist: its request once stayed pending indefinitely."""
    monkeypatch.setenv("OTC_LOOKBACK_WEEKS", "3")
    settings.cache_clear()
    newest = dt.date(2026, 9, 25)

    def statuses(week: dt.date) -> set[tuple[object, ...]]:
        return set(sql.execute("SELECT tier, status FROM otc.gap WHERE week_ending = %s", [week]).fetchall())

    assert installed.materialize_weeks(dagster, [newest], [T1]) == []
    assert statuses(newest) == {("NMS Tier 2", "pending"), ("OTC", "pending")}
    schedule = installed.definitions().resolve_schedule_def("daily_gap_report")
    with time_machine.travel(WEDNESDAY + dt.timedelta(weeks=4), tick=True):
        context = build_schedule_context(
            dagster,
            scheduled_execution_time=dt.datetime.now(NEW_YORK),
            repository_def=installed.repository(),
            resources=installed.resources(),
        )
        (request,) = schedule.evaluate_tick(context).run_requests or []
        first, last = (request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
        assert (first, last) == ("2026-10-02", "2026-10-23")
    with time_machine.travel(WEDNESDAY + dt.timedelta(weeks=3), tick=True):
        installed.launcher(dagster).run_assets(["gap_report"], newest, newest)
    assert statuses(newest) == {("NMS Tier 2", "missing_at_end"), ("OTC", "missing_at_end")}


def test_schedules_and_sensors_run_unless_a_user_turns_them_off() -> None:
    """Schedules and sensors that must be switched on by hand are forgotten."""
    found = installed.definitions()
    wednesdays = {f"wednesday_{t.slug}" for t in (T1, T2, OTCE)}
    assert {s.name for s in found.schedules or []} == {
        *wednesdays,
        "daily_retention",
        "daily_clean_up",
        "daily_gap_report",
    }
    for automation in [*(found.schedules or []), *(found.sensors or [])]:
        assert automation.default_status.value == "RUNNING"


@pytest.mark.parametrize(
    ("changes_on", "wednesdays"),
    [
        # Forward: 06:00 in New York is 11:00 UTC before, and 10:00 after.
        (dt.date(2026, 3, 8), ["2026-03-04 11:00", "2026-03-11 10:00"]),
        (dt.date(2026, 11, 1), ["2026-10-28 10:00", "2026-11-04 11:00"]),
    ],
)
def test_while_new_york_changes_its_clock_dagster_lists_each_wednesday_and_each_day_once(
    changes_on: dt.date, wednesdays: list[str]
) -> None:
    """Dagster's daemon asks the same function when a tick is due. None is in an hour that is left out or repeated."""
    days = [changes_on + dt.timedelta(days=number) for number in range(-7, 8)]
    begin, end = (dt.datetime.combine(day, dt.time(), NEW_YORK) for day in (days[0], days[-1]))
    listed = {}
    for schedule in installed.definitions().schedules or []:
        assert isinstance(schedule, ScheduleDefinition)
        times = schedule_execution_time_iterator(begin.timestamp(), schedule.cron_schedule, schedule.execution_timezone)
        listed[schedule.name] = list(itertools.takewhile(lambda time: time < end, times))
    for tier in TIERS:
        in_utc = [time.astimezone(dt.UTC) for time in listed.pop(f"wednesday_{tier.slug}")]
        assert [f"{time:%Y-%m-%d %H:%M}" for time in in_utc] == wednesdays
    daily = {"daily_retention": "03:30", "daily_clean_up": "04:30", "daily_gap_report": "06:30"}
    assert listed.keys() == daily.keys()
    for name, at in daily.items():
        in_new_york = [time.astimezone(NEW_YORK) for time in listed[name]]
        assert [f"{time:%Y-%m-%d %H:%M}" for time in in_new_york] == [f"{day} {at}" for day in days[:-1]]
