"""Years of real ticks of schedules and sensors, with failures, outages and revisions of all weeks: nothing is left out.

Runs are simulated: a capture records the publication, a computation records the versions of its weeks. What was
published is taken from the simulator of FINRA.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

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
from faults.extent import EXTENT, Extent
from support import installed
from support.published import Key, Published

from otc_assets.alerting import delivery
from otc_assets.defs.jobs import COMPUTE_WEEK, REPORT_GAPS
from otc_assets.defs.partitions import range_tags
from otc_assets.defs.stale import RUNS_AT_ONCE
from otc_assets.domain.enums import GapStatus
from otc_assets.domain.report import WEEKLY_REPORT, WeeklyReport
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES, in_order, rolling_figures
from otc_assets.domain.weeks import (
    NEW_YORK,
    OTCE,
    T1,
    T2,
    TIER_BY_ID,
    TIERS,
    Tier,
    newest_due,
    publication_date,
    use_closures,
    weeks_between,
)
from otc_assets.finra.source import Capture, SourceError
from otc_assets.pipeline.capture import capture_publication
from otc_assets.pipeline.checks import judge_checks
from otc_assets.pipeline.gaps import current_gaps, report_gaps
from otc_assets.pipeline.results import WeekRefused
from otc_assets.settings import settings
from otc_assets.warehouse.lineage import Lineage, lineage
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
        self.with_gaps: set[dt.date] = set()

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
            self.schedule(f"wednesday_{tier.slug}", dt.datetime.now(NEW_YORK).replace(hour=6, minute=0))

    def schedule(self, name: str, at: dt.datetime) -> None:
        """One tick of a schedule, and the runs that it requests."""
        context = build_schedule_context(
            self.dagster,
            scheduled_execution_time=at,
            resources=installed.resources(),
            repository_def=self.repository,
        )
        chosen = self.definitions.resolve_schedule_def(name)
        for request in chosen.evaluate_tick(context).run_requests or []:
            self.run(chosen.job_name, request, {"dagster/schedule_name": name})

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
        if run.job_name == REPORT_GAPS.name:
            self.report_gaps(weeks, now)
            return True
        if run.job_name.startswith("capture_"):
            tier = TIER_BY_ID[run.job_name.removeprefix("capture_").upper()]
            try:
                for week in weeks:
                    capture_publication(week, tier, self.source, installed.archive(), database, run.run_id, now)
            except (SourceError, WeekRefused):  # a capture that removes much is recorded, and quarantined
                return False
            return True
        tables = [*(in_order() if run.job_name == COMPUTE_WEEK.name else rolling_figures()), WEEKLY_REPORT.name]
        known: Lineage | None = None
        stored: set[str] = set()
        for table in (table for table in tables if table != "week_calendar"):
            with database.transaction() as connection:
                # A version consists of those that are stored of the sources.
                if known is None or stored & _sources(table):
                    known, stored = lineage(connection, with_gaps=True), set()
                for week in weeks:
                    version = known.version(table, week)
                    if version is not None:
                        mark_computed(connection, table, week, version, 1)
                stored.add(table)
        return True

    def report_gaps(self, weeks: list[dt.date], now: dt.datetime) -> None:
        """What the run of the gap report does, for those weeks whose report is, or was, of a gap that is due."""
        database = installed.database()
        gaps = current_gaps(database, self.source, settings().first_week, now)
        found = set(gaps.filter(pl.col("status") != GapStatus.PENDING)["week_ending"])
        assert self.with_gaps | found <= set(weeks)
        for week in sorted(self.with_gaps | found):
            report_gaps(week, gaps, database)
            judge_checks(database, "gap_report", week)
        self.with_gaps = found


def _sources(table: str) -> set[str]:
    """The tables of whose versions the table's consist."""
    figure = WEEKLY_REPORT if table == WEEKLY_REPORT.name else TABLES[table]
    return set(figure.sources) if isinstance(figure, Figure | WeeklyReport) else set()


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


#: A leap day, New Year, both changes of the clock, and Juneteenth on a Monday; in the second year New Year on a Monday.
ODD_BEGIN = dt.date(2027, 12, 13)
ODD_END = dt.date(2029, 12, 15) if EXTENT != Extent.SAMPLE else dt.date(2028, 7, 15)
#: Days in which the machine sleeps: without anything due; from a Monday to a Friday, over the Wednesday on which T2 and
#: OTC are due for the first time, and over one on which weeks are due after a holiday; and three days with weeks due.
ASLEEP = (
    (dt.date(2028, 1, 3), dt.date(2028, 1, 7)),
    (dt.date(2028, 2, 8), dt.date(2028, 2, 10)),
    (dt.date(2028, 2, 21), dt.date(2028, 2, 25)),
    (dt.date(2028, 10, 2), dt.date(2028, 10, 4)),
)
#: What becomes due while the machine sleeps for a week, by the Monday on which it wakes.
AWAKE: dict[dt.date, set[Key]] = {
    dt.date(2028, 1, 10): {("T1", dt.date(2027, 12, 17)), ("T2", dt.date(2027, 12, 3)), ("OTCE", dt.date(2027, 12, 3))},
    dt.date(2028, 2, 28): {("T1", dt.date(2028, 2, 4)), ("T2", dt.date(2028, 1, 21)), ("OTCE", dt.date(2028, 1, 21))},
}
#: Days, with those on which weeks are due, on which FINRA does not answer.
SILENT = ((dt.date(2028, 6, 5), dt.date(2028, 6, 7)), (dt.date(2029, 1, 2), dt.date(2029, 1, 3)))
#: A Wednesday on which the clock goes back an hour, and a Sunday on which it is a day ahead: FINRA publishes on Monday.
CLOCK_BACK, CLOCK_AHEAD = dt.date(2028, 3, 15), dt.date(2028, 4, 9)
#: A Monday on which T1 of a week is due, and on which the NYSE is closed, as it announces on the Friday before.
CLOSED = dt.date(2028, 5, 8)
#: T1 of this week is a week late, and T2 of that is published on the Sunday before it is due.
LATE, EARLY = dt.date(2028, 3, 31), dt.date(2028, 4, 14)

#: Mondays on which the NYSE is closed, by its calendar: FINRA publishes on the Tuesday.
_CLOSED_MONDAYS = {
    *(dt.date(2028, month, day) for month, day in ((1, 17), (2, 21), (5, 29), (6, 19), (9, 4), (12, 25))),
    *(dt.date(2029, month, day) for month, day in ((1, 1), (1, 15), (2, 19), (5, 28), (9, 3))),
    CLOSED,
}
#: FINRA's rule: weeks from the Monday of a week to the Monday on which a tier is published.
_LAGS = {T1: 3, T2: 5, OTCE: 5}


class Irregular(Published):
    """A source that publishes one week a week late, and one a day early.

    Attributes:
        first_fetched: by publication, the day on which it was fetched first.
    """

    def __init__(self, today: Callable[[], dt.date], down: Callable[[dt.date], bool]) -> None:
        super().__init__(today, down)
        self.first_fetched: dict[Key, dt.date] = {}

    def days(self, week: dt.date, tier: Tier) -> list[dt.date]:
        first, *revised = super().days(week, tier)
        if (week, tier) == (LATE, T1):
            first += dt.timedelta(weeks=1)
        if (week, tier) == (EARLY, T2):
            first -= dt.timedelta(days=1)
        if first == CLOSED:  # whatever the calendar of this process says
            first += dt.timedelta(days=1)
        return [first, *(day for day in revised if day > first)]

    def _rows(self, week: dt.date, tier: Tier, day: dt.date) -> pl.DataFrame:
        return super()._rows(week, tier, max(day, publication_date(week, tier)))

    def offered(self) -> set[tuple[Tier, dt.date]]:
        raise SourceError("it is not asked")

    def fetch(self, week_ending: dt.date, tier: Tier, *of: Any, **options: Any) -> list[Capture]:
        found = super().fetch(week_ending, tier, *of, **options)
        if found:
            self.first_fetched.setdefault((tier.id, week_ending), self._today())
        return found


class Witness:
    """Which alerts are due, by the calendar of the simulation alone, one day after another.

    A publication is captured on the first look on which it is due and published; the first one of a tier from the
    Wednesday on that follows on its Monday. A week is reported once a day; it fails while one is due and not captured.
    """

    def __init__(self, source: Published, first: dt.date) -> None:
        self._source, self._first = source, first
        self._captured: set[tuple[Tier, dt.date]] = set()
        self._reported: set[dt.date] = set()
        self._failing: set[dt.date] = set()
        self.alerts: list[tuple[dt.date, str]] = []

    def look(self, here: dt.date, finra: dt.date) -> None:
        """A look on a day by the machine's clock, and by FINRA's."""
        due = {(tier, week) for tier, lag in _LAGS.items() for week in self._due(lag, here)}
        if _within(finra, SILENT):
            if here.weekday() == 2:
                newest = {tier: max(week for each, week in due if each == tier) for tier in _LAGS}
                self.alerts += [
                    (here, f"the run of capture_{tier.slug} failed for week {week}")
                    for tier, week in newest.items()
                    if (tier, week) not in self._captured
                ]
        else:
            for tier, week in sorted(due, key=lambda each: each[1]):  # after the first one of a tier, later ones count
                if self._source.days(week, tier)[0] <= finra and (
                    here >= _wednesday(due_by_hand(week, _LAGS[tier]))
                    or any(each == tier for each, _ in self._captured)
                ):
                    self._captured.add((tier, week))
        if here in self._reported:
            return
        self._reported.add(here)
        failing = {week for _, week in due - self._captured}
        self.alerts += [(here, f"gap_report.no_gap failed for week {week}") for week in failing - self._failing]
        self.alerts += [(here, f"gap_report.no_gap passed again for week {week}") for week in self._failing - failing]
        self._failing = failing

    def _due(self, lag: int, day: dt.date) -> Iterator[dt.date]:
        """The Fridays of the weeks that are due on a day."""
        friday = self._first
        while due_by_hand(friday, lag) <= day:
            yield friday
            friday += dt.timedelta(weeks=1)


def due_by_hand(friday: dt.date, lag: int) -> dt.date:
    """The Monday so many weeks after that of a week, or the Tuesday after it."""
    monday = friday + dt.timedelta(days=7 * lag - 4)
    return monday + dt.timedelta(days=monday in _CLOSED_MONDAYS)


def _within(day: dt.date, spans: tuple[tuple[dt.date, dt.date], ...]) -> bool:
    return any(first <= day <= last for first, last in spans)


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


class Receiver:
    """Receives messages in place of the service that OTC_ALERT_URL names."""

    def __init__(self) -> None:
        self.alerts: list[tuple[dt.date, str]] = []

    def take(self, request: dict[str, Any], seconds: float) -> None:
        """A message of one alert, which is its title, or of several, one in a line with its kind and a link."""
        assert seconds > 0
        today = dt.datetime.now(NEW_YORK).date()
        title = request["title"].removeprefix("otc-assets: ")
        lines = _LINE.findall(request["body"])
        if lines:
            assert len(lines) == request["body"].count("\n") + 1
        self.alerts += [(today, line) for line in lines or [title]]


_LINE = re.compile(r"^(?:ERROR|WARN|RECOVERED) (.+? week [0-9-]{10})\b.* http\S+$", re.MULTILINE)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """Where alerts and warnings are sent."""
    receiver = Receiver()
    monkeypatch.setattr(delivery, "send_in_child", receiver.take)
    monkeypatch.setenv("OTC_ALERT_URL", "json://receiver.test/")
    monkeypatch.setenv("OTC_ALERT_SEVERITY", "warn")
    return receiver


def test_leap_days_holidays_odd_clocks_and_a_closure_at_short_notice_leave_no_week_out_and_every_alert_is_due(
    dagster: DagsterInstance,
    clock: time_machine.Traveller,
    sql: psycopg.Connection[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    announce: Callable[[dt.date], None],
    receiver: Receiver,
) -> None:
    """Every state of a publication is captured exactly once, and each alert that is due is sent once, and no other."""
    clock.move_to(_at(ODD_BEGIN, 7))
    first = newest_due(T1, _at(ODD_BEGIN, 7)) + dt.timedelta(weeks=1)
    monkeypatch.setenv("OTC_FIRST_WEEK", first.isoformat())
    settings.cache_clear()
    monkeypatch.setattr(build_resources, "ephemeral_instance_if_missing", lambda _: nullcontext(dagster))
    today = ODD_BEGIN  # FINRA's, whatever the clock of the machine says
    source = Irregular(lambda: today, down=lambda day: _within(day, SILENT))
    installed.replace(monkeypatch, source=source)
    daemon, witness = Daemon(dagster, source), Witness(source, first)
    monkeypatch.setattr(daemon.random, "random", lambda: 1.0)  # no run fails but those that FINRA does not answer

    def look(day: dt.date) -> None:
        """A morning of the machine."""
        clock.move_to(_at(day, 5, 45))
        for tick in range(3):  # in so many, the sensor has looked at all weeks
            if day.weekday() == 2 and tick == 1:
                daemon.wednesday()
            daemon.sensor("late_and_revised")
            clock.shift(dt.timedelta(minutes=15))
        clock.move_to(_at(day, 6, 30))
        daemon.schedule("daily_gap_report", _at(day, 6, 30))
        for minute in (31, 41):
            clock.move_to(_at(day, 6, minute))
            for name in ("failed_checks", "failed_runs", "deliver_alerts"):
                daemon.sensor(name)
        clock.move_to(_at(day, 10))
        daemon.sensor("late_and_revised")
        witness.look(day, today)

    for number in range((ODD_END - ODD_BEGIN).days):
        today = ODD_BEGIN + dt.timedelta(days=number)
        if today == CLOSED - dt.timedelta(days=3):
            announce(CLOSED)
        if _within(today, ASLEEP):
            continue
        if today == CLOCK_AHEAD:
            for machine in (today, today + dt.timedelta(days=1), today):
                look(machine)
        elif today.weekday() < 4:
            look(today)
        if today == CLOCK_BACK:
            clock.shift(-dt.timedelta(hours=1))
            daemon.sensor("late_and_revised")

    published = source.everything(first, newest_due(T1, _at(ODD_END, 7)), ODD_END - dt.timedelta(days=4))
    captured = sql.execute(
        "SELECT tier, week_ending, rows_received, last_update_date, count(*) FROM otc.publication GROUP BY 1, 2, 3, 4"
    ).fetchall()
    names = {tier.id: tier.name for tier in TIERS}
    expected = {(names[tier], week, s.rows, s.last_update_date) for ((tier, week), _), s in published.items()}
    assert all(
        publication_date(week, tier) == due_by_hand(week, lag)
        for tier, lag in _LAGS.items()
        for week in weeks_between(first, newest_due(tier, _at(ODD_END, 7)))
    )
    assert len(expected) > (300 if EXTENT != Extent.SAMPLE else 70)
    assert sorted(expected - {row[:4] for row in captured}) == []  # type: ignore[type-var]
    assert {row[4] for row in captured} == {1}
    assert set(source.fetched.values()) == {1}

    for monday, publications in AWAKE.items():
        assert {source.first_fetched[key] for key in publications} == {monday}

    received, due = Counter(receiver.alerts), Counter(witness.alerts)
    assert (received - due, due - received) == (Counter(), Counter())
    said = [text for _, text in witness.alerts]
    # The week that FINRA published late, once failed and once passed; the runs to which it did not answer.
    assert said.count(f"gap_report.no_gap failed for week {LATE}") == 1
    assert (due_by_hand(LATE, 3), f"gap_report.no_gap failed for week {LATE}") in witness.alerts
    assert said.count("the run of capture_t1 failed for week 2028-05-19") == 1
    assert not any(str(EARLY) in text for text in said)


def _at(day: dt.date, hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour, minute), NEW_YORK)


def _wednesday(due: dt.date) -> dt.date:
    """The first Wednesday on which something is captured that is due on a Monday or Tuesday."""
    return due + dt.timedelta(days=2 - due.weekday())


#: The day on which FINRA revises every publication, and the number of weeks that there are. By default, 104 are kept.
REVISED_ON = dt.date(2026, 10, 14)
REVISED_WEEKS = 100 if EXTENT != Extent.SAMPLE else 60
#: How many publications the sensor asks FINRA about in a tick; so many of them may not be the next of its round.
_ASKED, _ABOUT_OTHERS = 30, 13


class RevisedAtOnce(Published):
    """A source that publishes each publication once, and revises all of them on one day."""

    def days(self, week: dt.date, tier: Tier) -> list[dt.date]:
        return [super().days(week, tier)[0], REVISED_ON]

    def _rows(self, week: dt.date, tier: Tier, day: dt.date) -> pl.DataFrame:
        rows = super()._rows(week, tier, self.days(week, tier)[0])
        return rows.with_columns(lastUpdateDate=pl.lit(REVISED_ON)) if day == REVISED_ON else rows


def test_a_revision_of_every_week_at_once_is_captured_once_a_week_by_a_bounded_number_of_runs_at_a_time(
    dagster: DagsterInstance,
    clock: time_machine.Traveller,
    sql: psycopg.Connection[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = _at(REVISED_ON, 0)
    weeks = weeks_between(newest_due(T1, now) - dt.timedelta(weeks=REVISED_WEEKS - 1), newest_due(T1, now))
    monkeypatch.setenv("OTC_FIRST_WEEK", weeks[0].isoformat())
    monkeypatch.setenv("OTC_LOOKBACK_WEEKS", str(REVISED_WEEKS))
    settings.cache_clear()
    monkeypatch.setattr(build_resources, "ephemeral_instance_if_missing", lambda _: nullcontext(dagster))
    today = REVISED_ON - dt.timedelta(days=1)
    source = RevisedAtOnce(lambda: today)
    installed.replace(monkeypatch, source=source)
    daemon = Daemon(dagster, source)
    monkeypatch.setattr(daemon.random, "random", lambda: 1.0)  # no run fails
    clock.move_to(now - dt.timedelta(days=1))
    publications = []
    for tier in TIERS:  # a backfill
        of_tier = weeks_between(weeks[0], newest_due(tier, now))
        publications += [(tier.id, week) for week in of_tier]
        daemon.work(_range_run(f"capture_{tier.slug}", of_tier))
    daemon.work(_range_run(COMPUTE_WEEK.name, weeks))
    assert installed.stale_weeks() == []
    before = source.fetched.copy()
    assert sorted(key for key, _ in before) == sorted(publications)

    today = REVISED_ON
    requested, computing = [], []
    # A tick asks about the newest week of each tier and what is missing, too.
    for tick in range(len(publications) // (_ASKED - _ABOUT_OTHERS) + 1):
        clock.move_to(now + tick * dt.timedelta(minutes=15))
        requested.append(daemon.sensor("late_and_revised"))
        computing.append(daemon.sensor("stale_weeks"))
    while installed.stale_weeks() and len(computing) < REVISED_WEEKS:
        clock.shift(dt.timedelta(minutes=15))
        computing.append(daemon.sensor("stale_weeks"))

    assert installed.stale_weeks() == []
    assert sum(requested) == len(publications)
    assert max(requested) <= _ASKED
    assert max(computing) <= RUNS_AT_ONCE
    revised = source.fetched - before
    assert sorted(key for key, _ in revised.elements()) == sorted(publications)
    assert {state.last_update_date for _, state in revised} == {REVISED_ON}
    captured = sql.execute(
        "SELECT last_update_date = %s, count(*) FROM otc.publication GROUP BY 1 ORDER BY 1", [REVISED_ON]
    )
    assert captured.fetchall() == [(False, len(publications)), (True, len(publications))]


def _range_run(job: str, weeks: list[dt.date]) -> DagsterRun:
    return DagsterRun(job, run_id=make_new_run_id(), tags=range_tags(weeks[0], weeks[-1]))
