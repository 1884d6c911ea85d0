"""Two years of real ticks of schedules and sensors, with runs that fail and two outages: nothing is left out.

Runs are simulated: a capture records the publication, a computation records the versions of its weeks. What was
published is taken from the simulator of FINRA.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import psycopg
import pytest
import time_machine
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunRequest,
    RunsFilter,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution import build_resources
from dagster._core.utils import make_new_run_id
from support import installed
from support.published import Published

from otc_assets.defs.jobs import COMPUTE_WEEK
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.tables import in_order, rolling_figures
from otc_assets.domain.weeks import (
    NEW_YORK,
    T1,
    T2,
    TIER_BY_ID,
    TIERS,
    Tier,
    is_trading_day,
    newest_due,
    publication_date,
    use_closures,
    weeks_between,
)
from otc_assets.finra.source import SourceError
from otc_assets.pipeline.capture import capture_publication
from otc_assets.pipeline.gaps import current_gaps
from otc_assets.pipeline.results import WeekRefused
from otc_assets.settings import settings
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.load import mark_computed

pytestmark = pytest.mark.slow

BEGIN = dt.datetime(2024, 7, 22, 7, tzinfo=NEW_YORK)
END = BEGIN + dt.timedelta(days=730)
#: Three days without a daemon, three without FINRA, and three in which every run fails, all with a Wednesday.
NO_DAEMON = (dt.date(2025, 3, 10), dt.date(2025, 3, 12))
NO_FINRA = (dt.date(2026, 1, 13), dt.date(2026, 1, 15))
NO_DISK = (dt.date(2024, 9, 9), dt.date(2024, 9, 11))


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(BEGIN, tick=False) as traveller:
        yield traveller


class Daemon:
    """Ticks schedules and sensors, and ends the runs that they request: one in ten fails, before or after its work."""

    def __init__(self, dagster: DagsterInstance, source: Published) -> None:
        self.dagster, self.source = dagster, source
        self.definitions, self.repository = installed.definitions(), installed.repository()
        self.random = random.Random(11)  # noqa: S311
        self.cursors: dict[str, str | None] = {}
        self.ended = {DagsterRunStatus.SUCCESS: 0, DagsterRunStatus.FAILURE: 0}

    def sensor(self, name: str) -> int:
        """One tick of a sensor, and the runs that it requests. Returns their number."""
        context = build_sensor_context(
            self.dagster,
            cursor=self.cursors.get(name),
            resources=installed.resources(),
            repository_def=self.repository,
        )
        result = self.definitions.resolve_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = result.cursor
        for request in result.run_requests or []:
            self.run(str(request.job_name), request, {"dagster/sensor_name": name})
        return len(result.run_requests or [])

    def wednesday(self) -> None:
        """The ticks of the Wednesday schedules."""
        for tier in TIERS:
            context = build_schedule_context(
                self.dagster,
                scheduled_execution_time=dt.datetime.now(NEW_YORK).replace(hour=6, minute=0),
                resources=installed.resources(),
                repository_def=self.repository,
            )
            result = self.definitions.resolve_schedule_def(f"wednesday_{tier.slug}").evaluate_tick(context)
            for request in result.run_requests or []:
                self.run(f"capture_{tier.slug}", request, {"dagster/schedule_name": f"wednesday_{tier.slug}"})

    def run(self, job: str, request: RunRequest, requested_by: dict[str, str]) -> None:
        """A run from its request to its end, as the storage sees it; a used key is ignored, as by Dagster's daemon."""
        tags = {**request.tags, **requested_by}
        if request.run_key:
            key = {"dagster/run_key": request.run_key}
            if self.dagster.get_runs(RunsFilter(tags={**key, **requested_by})):
                return
            tags |= key
        if request.partition_key:
            tags["dagster/partition"] = request.partition_key
        run = self.dagster.add_run(
            DagsterRun(job, run_id=make_new_run_id(), tags=tags, status=DagsterRunStatus.STARTED)
        )
        full = NO_DISK[0] <= dt.datetime.now(NEW_YORK).date() <= NO_DISK[1]
        fails = full or self.random.random() < 0.1
        done = True
        if not fails or (not full and self.random.random() < 0.5):
            done = self.work(run)
        status = DagsterRunStatus.SUCCESS if done and not fails else DagsterRunStatus.FAILURE
        kind = DagsterEventType.RUN_SUCCESS if status == DagsterRunStatus.SUCCESS else DagsterEventType.RUN_FAILURE
        event = DagsterEvent(event_type_value=kind.value, job_name=job)
        self.dagster.report_dagster_event(event, run_id=run.run_id)
        self.ended[status] += 1

    def work(self, run: DagsterRun) -> bool:
        """What the run does. Returns whether it succeeded."""
        first = run.tags.get("dagster/partition") or run.tags["dagster/asset_partition_range_start"]
        last = run.tags.get("dagster/partition") or run.tags["dagster/asset_partition_range_end"]
        weeks = weeks_between(dt.date.fromisoformat(first), dt.date.fromisoformat(last))
        database, now = installed.database(), dt.datetime.now(NEW_YORK)
        if run.job_name.startswith("capture_"):
            tier = TIER_BY_ID[run.job_name.removeprefix("capture_").upper()]
            try:
                for week in weeks:
                    capture_publication(week, tier, self.source, installed.archive(), database, run.run_id, now)
            except (SourceError, WeekRefused):  # a capture that removes much is recorded, and quarantined
                return False
            return True
        tables = [*(in_order() if run.job_name == COMPUTE_WEEK.name else rolling_figures()), WEEKLY_REPORT.name]
        for table in (table for table in tables if table != "week_calendar"):
            with database.transaction() as connection:
                known = lineage(connection, with_gaps=True)
                for week in weeks:
                    version = known.version(table, week)
                    if version is not None:
                        mark_computed(connection, table, week, version, 1)
        return True


def test_two_years_with_failures_and_outages_end_with_every_week_and_revision_captured(
    dagster: DagsterInstance,
    clock: time_machine.Traveller,
    sql: psycopg.Connection[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of 315 captures was never made, after an outage a revision was missing, and 314 captures were needless."""
    first = newest_due(T1, BEGIN) + dt.timedelta(weeks=1)
    monkeypatch.setenv("OTC_FIRST_WEEK", first.isoformat())
    settings.cache_clear()

    def today() -> dt.date:
        return dt.datetime.now(NEW_YORK).date()

    # Dagster creates an instance for the resources of each tick of a schedule, which takes longer than the tick.
    monkeypatch.setattr(build_resources, "ephemeral_instance_if_missing", lambda _: nullcontext(dagster))
    source = Published(today, down=lambda day: NO_FINRA[0] <= day <= NO_FINRA[1])
    installed.replace(monkeypatch, source=source)
    daemon = Daemon(dagster, source)
    for day in range((END - BEGIN).days):
        clock.move_to(BEGIN + dt.timedelta(days=day))
        if NO_DAEMON[0] <= today() <= NO_DAEMON[1] or today().weekday() not in (0, 2, 4):
            continue
        if today().weekday() == 2:
            daemon.wednesday()
        # The sensors tick more often than this; where something happened, they are ticked again on the same day.
        for _ in range(3):
            happened = daemon.sensor("late_and_revised")
            daemon.sensor("stale_weeks")
            clock.shift(dt.timedelta(hours=3))
            if not happened:
                break
    for hour in range(30):  # what the last days left
        clock.move_to(END + dt.timedelta(hours=hour))
        daemon.sensor("stale_weeks")

    published = source.everything(first, newest_due(T1, END), END.date() - dt.timedelta(days=2))
    captured = set(sql.execute("SELECT tier, week_ending, rows_received, last_update_date FROM otc.publication"))
    names = {tier.id: tier.name for tier in TIERS}
    expected = {(names[tier], week, s.rows, s.last_update_date) for ((tier, week), _), s in published.items()}
    assert len(expected) > 310
    assert sorted(expected - captured) == []
    assert installed.stale_weeks() == []
    # Nothing was fetched again but by runs that failed: the state of a publication is asked first.
    again = sum(source.fetched.values()) - len(source.fetched)
    assert again <= daemon.ended[DagsterRunStatus.FAILURE]
    assert daemon.ended[DagsterRunStatus.FAILURE] > 40


#: Seven months with a leap day, New Year, the change to summer time, and Juneteenth on a Monday.
ODD_BEGIN = dt.datetime(2027, 12, 13, 7, tzinfo=NEW_YORK)
ODD_END = dt.datetime(2028, 7, 15, 7, tzinfo=NEW_YORK)
#: Three days with a Wednesday in which the machine sleeps.
ASLEEP = (dt.date(2028, 2, 8), dt.date(2028, 2, 10))
#: A Wednesday on which the clock goes back an hour, and a Sunday on which it is a day ahead: FINRA publishes on Monday.
CLOCK_BACK, CLOCK_AHEAD = dt.date(2028, 3, 15), dt.date(2028, 4, 9)
#: A Monday on which T1 of a week is due, and on which the NYSE is closed, as it announces on the Friday before.
CLOSED = dt.date(2028, 5, 8)
#: T1 of this week is a week late, and T2 of that is published on the Sunday before it is due.
LATE, EARLY = dt.date(2028, 3, 31), dt.date(2028, 4, 14)


class Irregular(Published):
    """A source that publishes one week a week late, and one a day early."""

    def days(self, week: dt.date, tier: Tier) -> list[dt.date]:
        first, *revised = super().days(week, tier)
        if (week, tier) == (LATE, T1):
            first += dt.timedelta(weeks=1)
        if (week, tier) == (EARLY, T2):
            first -= dt.timedelta(days=1)
        return [first, *(day for day in revised if day > first)]

    def _rows(self, week: dt.date, tier: Tier, day: dt.date) -> pl.DataFrame:
        return super()._rows(week, tier, max(day, publication_date(week, tier)))

    def offered(self) -> set[tuple[Tier, dt.date]]:
        raise SourceError("it is not asked")


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dt.date], None]]:
    """Enters a closure of the NYSE, and removes it from the calendar after the test."""

    def announced(day: dt.date) -> None:
        closures = tmp_path / "closures.csv"
        closures.write_text(f"day,source,reviewed\n{day},a notice of the NYSE,{day}\n")
        monkeypatch.setenv("OTC_EXTRA_CLOSURES", str(closures))
        settings.cache_clear()
        settings()

    yield announced
    use_closures(frozenset())


def test_leap_days_holidays_odd_clocks_and_a_closure_at_short_notice_leave_no_week_out_and_only_late_weeks_are_late(
    dagster: DagsterInstance,
    clock: time_machine.Traveller,
    sql: psycopg.Connection[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    announce: Callable[[dt.date], None],
) -> None:
    """Every state of a publication is captured exactly once, and a gap is reported for what FINRA publishes late."""
    clock.move_to(ODD_BEGIN)
    first = newest_due(T1, ODD_BEGIN) + dt.timedelta(weeks=1)
    monkeypatch.setenv("OTC_FIRST_WEEK", first.isoformat())
    settings.cache_clear()
    monkeypatch.setattr(build_resources, "ephemeral_instance_if_missing", lambda _: nullcontext(dagster))
    today = ODD_BEGIN.date()  # FINRA's, whatever the clock of the machine says
    source = Irregular(lambda: today)
    installed.replace(monkeypatch, source=source)
    daemon = Daemon(dagster, source)
    monkeypatch.setattr(daemon.random, "random", lambda: 1.0)  # no run fails
    looked: list[dt.date] = []
    late: set[tuple[str, dt.date]] = set()
    for number in range((ODD_END - ODD_BEGIN).days):
        day = ODD_BEGIN + dt.timedelta(days=number)
        today = day.date()
        if today == CLOSED - dt.timedelta(days=3):
            announce(CLOSED)
        after_holiday = today.weekday() == 1 and not is_trading_day(today - dt.timedelta(days=1))
        if ASLEEP[0] <= today <= ASLEEP[1] or not (today.weekday() in (0, 2) or after_holiday or today == CLOCK_AHEAD):
            continue
        clock.move_to(day)
        if today.weekday() == 2:
            daemon.wednesday()
        for hours in {CLOCK_BACK: (3, -1), CLOCK_AHEAD: (24, 1, -24)}.get(today, (3,)):
            daemon.sensor("late_and_revised")
            clock.shift(dt.timedelta(hours=hours))
        daemon.sensor("late_and_revised")
        looked.append(today)
        found = current_gaps(installed.database(), source, first, dt.datetime.now(NEW_YORK))
        rows = found.filter(pl.col("status") != "pending").select("tier", "week_ending", "status").rows()
        late |= {(tier, week) for tier, week, status in rows if status in ("late", "missing_inside", "missing_at_end")}
        assert len(rows) <= 3

    published = source.everything(first, newest_due(T1, ODD_END), ODD_END.date() - dt.timedelta(days=4))
    captured = sql.execute(
        "SELECT tier, week_ending, rows_received, last_update_date, count(*) FROM otc.publication GROUP BY 1, 2, 3, 4"
    ).fetchall()
    names = {tier.id: tier.name for tier in TIERS}
    expected = {(names[tier], week, s.rows, s.last_update_date) for ((tier, week), _), s in published.items()}
    assert len(expected) > 70
    assert sorted(expected - {row[:4] for row in captured}) == []  # type: ignore[type-var]
    assert {row[4] for row in captured} == {1}
    assert set(source.fetched.values()) == {1}
    due = {
        (tier.name, week)
        for tier in TIERS
        for week in weeks_between(first, newest_due(T1, ODD_END))[1:]
        if any(publication_date(week, tier) <= day < source.days(week, tier)[0] for day in looked)
    }
    assert (T1.name, LATE) in due
    # A tier begins with the Wednesday run: its first week is late until then, and no other week is.
    assert {(tier, week) for tier, week in late if week > first} == due
