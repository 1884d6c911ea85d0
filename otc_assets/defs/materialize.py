"""Materializes weeks for commands: captures them, computes downstream assets, and recomputes stale weeks.

Runs are executed by ``launch``; which weeks are stale is known from ``warehouse.lineage``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.defs.launch import Launcher, RunFailed
from otc_assets.defs.partitions import WeekPartitions
from otc_assets.defs.weekly import YEAR
from otc_assets.domain.report import WEEKLY_REPORT, over_weeks
from otc_assets.domain.tables import in_order
from otc_assets.domain.weeks import T1, TIERS, WINDOW_WEEKS, Tier, due_at, stretches, weeks_between
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.lineage import Lineage, lineage
from otc_assets.warehouse.read import effective_publications
from otc_assets.warehouse.retention import oldest_kept, require_kept

#: Weeks per run at first, where they are captured too and where they are only computed, and at least.
_WITH_CAPTURES, _COMPUTED, _FEWEST = 4, 12, 4
#: Runs that are shorter are followed by longer ones, because each run costs a second by itself; those that are longer
#: by shorter ones, because the progress bar moves once per run.
_SHORT_SECONDS, _LONG_SECONDS = 10, 60

Progress = Callable[[int, str], None]


@dataclass
class _Pace:
    """How many weeks the next run has: few full-size weeks, and up to a year of small ones."""

    weeks: int

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Chooses the number of weeks for what follows the block, by how long the block takes."""
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        if seconds < _SHORT_SECONDS:
            self.weeks = min(2 * self.weeks, YEAR)
        elif seconds > _LONG_SECONDS:
            self.weeks = max(self.weeks // 2, _FEWEST)


@dataclass(frozen=True)
class Computed:
    """What a command computed.

    Attributes:
        weeks: the weeks of which something was computed, oldest first.
        failed: what failed of the weeks that the command was about, in words; empty where all is well.
        others_failed: what failed of other weeks, which were stale already.
    """

    weeks: list[dt.date]
    failed: list[str]
    others_failed: list[str]


def materialize(launcher: Launcher, weeks: Sequence[dt.date], tiers: Sequence[Tier], progress: Progress) -> list[str]:
    """Captures the tiers of ``weeks`` and materializes downstream assets, some weeks at a time, oldest first.

    A run that fails does not stop the others. The six-week figures of the five weeks after ``weeks`` follow.

    Args:
        launcher: executes the runs.
        weeks: consecutive weeks.
        tiers: the tiers to capture; figures are computed from all that is captured.
        progress: called with the number of weeks done, and what is being done.

    Returns:
        What failed, in words; empty where nothing did.

    Raises:
        Dropped: the first of ``weeks`` is older than what is kept.
        Interrupted: a signal ended the command.
    """
    refuse_dropped(launcher.database, weeks)
    failed: list[str] = []
    figures_failed: list[str] = []
    pace, start = _Pace(_WITH_CAPTURES), 0
    while chunk := weeks[start : start + pace.weeks]:
        with pace.measured():
            for assets, some in stages(launcher.weeks, chunk, tiers):
                figures = assets == list(DOWNSTREAM)
                progress(start, f"{some[0]}..{some[-1]} {'figures' if figures else assets[-1]}")
                try:
                    launcher.run_assets(assets, some[0], some[-1], waiting=partial(progress, start))
                except RunFailed as error:
                    (figures_failed if figures else failed).append(f"{some[0]}..{some[-1]}: {error}")
        start += len(chunk)
        progress(start, f"{chunk[-1]} done")
    rest = compute_stale(launcher, weeks, lambda done, note: progress(len(weeks), note), figures_failed)
    return failed + rest.failed


def compute_stale(
    launcher: Launcher,
    about: Sequence[dt.date],
    progress: Progress,
    failed_before: Sequence[str] = (),
    *,
    others: bool = False,
) -> Computed:
    """Computes until nothing is stale of the weeks ``about``, and of the five after each.

    Staleness moves on as weeks are computed: once a week is there, the six-week figures after it are stale. A week
    that can't be computed is left out of the next round, so that it does not hold up the others.

    Args:
        launcher: executes the runs.
        about: the weeks that the command is about.
        progress: called with the number of weeks of the round that are done, and what is being done.
        failed_before: what failed of these weeks before, in words: it counts if they are not well in the end.
        others: whether to compute other stale weeks too, afterwards, each without waiting to try it again.
    """
    following = {week + dt.timedelta(weeks=n) for week in about for n in range(WINDOW_WEEKS)}

    def is_own(week: dt.date, tables: Collection[str]) -> bool:
        # A week after these that lacks more than its six-week figures was stale before: that is not our doing.
        return week in about or (week in following and set(tables) <= set(over_weeks()))

    own = _Rounds(launcher, progress, is_own, retries=True)
    own.run()
    known = _lineage(launcher.database)
    remaining = [
        week for week, tables in _stale_by_table(launcher.database, launcher.weeks).items() if is_own(week, tables)
    ]
    failed = list(own.last_failed)
    if remaining or known.blocked & set(about):
        failed = list(dict.fromkeys([*failed_before, *own.failed]))
    if remaining and not failed:
        failed = [f"still stale: {', '.join(map(str, remaining))}"]
    rest = _Rounds(launcher, progress, lambda week, tables: not is_own(week, tables), retries=False)
    if others:
        rest.run()
    return Computed(sorted(own.weeks | rest.weeks), failed, rest.failed)


class _Rounds:
    """Rounds of computing what is stale, until nothing is or nothing changes.

    Args:
        launcher: executes the runs.
        progress: called with what is being done.
        wanted: which weeks, by week and stale tables.
        retries: whether steps are tried again.
    """

    def __init__(
        self,
        launcher: Launcher,
        progress: Progress,
        wanted: Callable[[dt.date, Collection[str]], bool],
        *,
        retries: bool,
    ) -> None:
        self._launcher, self._progress, self._retries = launcher, progress, retries
        self._wanted = wanted
        self._leave_out: set[dt.date] = set()
        self.weeks: set[dt.date] = set()
        self.failed: list[str] = []
        self.last_failed: list[str] = []

    def run(self) -> None:
        before: object = None
        while (todo := self._todo()) and todo != before:
            before = todo
            whole = [week for week, tables in todo.items() if not set(tables) <= set(over_weeks())]
            rolling = [week for week in todo if week not in whole]
            self.weeks |= set(todo)
            self.last_failed = compute_downstream(self._launcher, whole, self._progress, retries=self._retries)
            self.last_failed += compute_downstream(
                self._launcher, rolling, self._progress, over_weeks(), retries=self._retries
            )
            self.failed += self.last_failed
            # Its own figures did not come about: it would fail the next round's run for the others.
            still = _stale_by_table(self._launcher.database, self._launcher.weeks)
            self._leave_out |= {week for week in whole if "venue_volume" in still.get(week, ())}

    def _todo(self) -> dict[dt.date, tuple[str, ...]]:
        return {
            week: tables
            for week, tables in _stale_by_table(self._launcher.database, self._launcher.weeks).items()
            if week not in self._leave_out and self._wanted(week, tables)
        }


def refuse_dropped(database: Database, weeks: Sequence[dt.date]) -> None:
    """Refuses weeks that retention has dropped, or would.

    Raises:
        Dropped: the first of ``weeks`` is older than what is kept.
    """
    with database.transaction() as connection:
        require_kept(connection, "venue_volume", min(weeks))


def stages(
    partitions: WeekPartitions, weeks: Sequence[dt.date], tiers: Sequence[Tier]
) -> Iterator[tuple[list[str], list[dt.date]]]:
    """The runs that materialize ``weeks``: assets that share their weeks, in the order of the graph."""
    first = ["week_calendar", *(f"publication_{T1.slug}" for tier in tiers if tier == T1)]
    yield first, list(weeks)
    late = [tier for tier in TIERS if tier != T1 and tier in tiers]
    for tier in late[:1]:
        newest = partitions.newest(tier)
        if newest and (out := [week for week in weeks if week <= newest]):
            yield [f"publication_{tier.slug}" for tier in late], out
    yield list(DOWNSTREAM), list(weeks)


def missing_weeks(database: Database, weeks: Sequence[dt.date], now: dt.datetime) -> list[dt.date]:
    """From the first of ``weeks`` that lacks a publication that is due, to the last: what is still to be captured.

    Weeks that retention has dropped, or would, are left out.
    """
    with database.transaction() as connection:
        found = effective_publications(connection, weeks[0], weeks[-1])
        oldest = oldest_kept(connection, "venue_volume")
    have = {key for key, of_tier in found.items() if of_tier.captures}
    lacking = [
        week
        for week in weeks
        if week >= oldest and any(now >= due_at(week, tier) and (week, tier.name) not in have for tier in TIERS)
    ]
    return weeks_between(lacking[0], weeks[-1]) if lacking else []


def _lineage(database: Database) -> Lineage:
    with database.transaction() as connection:
        return lineage(connection, with_gaps=True)


def _stale_by_table(database: Database, weeks: WeekPartitions) -> dict[dt.date, tuple[str, ...]]:
    """The stale weeks, oldest first, each with its stale tables.

    Weeks before ``OTC_FIRST_WEEK`` are left out: they are no partitions, so nothing can be computed for them.
    """
    known = _lineage(database)
    found: dict[dt.date, list[str]] = {}
    for table in (*in_order(), WEEKLY_REPORT.name):
        for week in known.stale(table):
            found.setdefault(week, []).append(table)
    return {week: tuple(tables) for week, tables in sorted(found.items()) if weeks.has(week)}


def stale_weeks(database: Database, weeks: WeekPartitions) -> list[dt.date]:
    """Weeks of which something was computed from other inputs than are captured now, or not at all."""
    return list(_stale_by_table(database, weeks))


def compute_downstream(
    launcher: Launcher,
    weeks: Sequence[dt.date],
    progress: Progress,
    assets: Sequence[str] = ("week_calendar", *DOWNSTREAM),
    *,
    retries: bool = True,
) -> list[str]:
    """Computes ``assets`` from what is captured of ``weeks``, which need not be consecutive. Returns what failed."""
    failed: list[str] = []
    done, pace, rest = 0, _Pace(_COMPUTED), sorted(set(weeks))
    while rest:
        part = stretches(rest, pace.weeks)[0]
        first, last = part[0], part[-1]
        progress(done, f"{first}..{last}")
        try:
            with pace.measured():
                launcher.run_assets(assets, first, last, waiting=partial(progress, done), retries=retries)
        except RunFailed as error:
            failed.append(f"{first}..{last}: {error}")
        done, rest = done + len(part), rest[len(part) :]
        progress(done, f"{last} done")
    return failed
