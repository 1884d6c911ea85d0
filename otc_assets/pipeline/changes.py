"""Finds what FINRA has and the warehouse has not: late weeks, revised ones, and tiers that are about to be captured.

Compares what the source states of a publication with what is captured. When to ask is decided by schedules and
sensors.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence, Set

import sqlalchemy as sa

from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.weeks import NEW_YORK, TIER_BY_NAME, TIERS, Tier, due_at, newest_due, weeks_between
from otc_assets.finra.source import PublicationState, Source
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import publications
from otc_assets.warehouse.retention import oldest_kept

#: When the Wednesday schedule captures, New York time: FINRA has published everything that was due by then.
WEDNESDAY_TIME = dt.time(6)

TierWeek = tuple[Tier, dt.date]

_WEEK = dt.timedelta(weeks=1)


def captured_states(
    database: Database, first: dt.date, last: dt.date
) -> dict[tuple[Tier, dt.date], set[PublicationState]]:
    """By (tier, week_ending), the states of the publication that are captured, as a source states them.

    Captures that are not effective count: what is quarantined, withdrawn or older is not captured once more.
    """
    with database.transaction() as connection:
        captures = publications(connection, first, last)
    by_scope: dict[tuple[Tier, dt.date], dict[str, list[Publication]]] = {}
    for capture in captures:
        if capture.scope != CaptureScope.PARTIAL:
            scopes = by_scope.setdefault((TIER_BY_NAME[capture.tier], capture.week_ending), {})
            scopes.setdefault(capture.scope, []).append(capture)
    states = {}
    for key, scopes in by_scope.items():
        halves: list[list[Publication]] = [scopes.get(CaptureScope.ATS, []), scopes.get(CaptureScope.NON_ATS, [])]
        # Files are of one half each: a source of files states both halves together.
        pairs = itertools.product(*([*half, None] for half in halves))
        full = [[capture] for capture in scopes.get(CaptureScope.FULL, [])]
        wholes = full + [[c for c in pair if c] for pair in pairs]
        states[key] = {_state(whole) for whole in wholes if whole}
    return states


def _state(captures: Sequence[Publication]) -> PublicationState:
    dates = [capture.last_update_date for capture in captures if capture.last_update_date]
    return PublicationState(sum(capture.rows_received for capture in captures), max(dates, default=None))


def look_back(
    now: dt.datetime, first_week: dt.date, weeks_back: int, since: dt.datetime | None = None
) -> list[tuple[Tier, dt.date]]:
    """The publications to look at again: of each tier, the newest that is due and ``weeks_back`` weeks before it.

    Args:
        now: the time.
        first_week: the first week wanted; none before it is looked at.
        weeks_back: the number of weeks.
        since: the time of an earlier look: what has left the look-back since then is included.

    Returns:
        Newest week first, its tiers together: a week that is missing as a whole is not computed from one tier for long.
    """
    found: list[tuple[Tier, dt.date]] = []
    for tier in TIERS:
        newest = newest_due(tier, now)
        start = min(newest, newest_due(tier, since)) if since else newest
        found += [(tier, week) for week in weeks_between(max(first_week, start - weeks_back * _WEEK), newest)]
    return sorted(found, key=lambda each: each[1], reverse=True)  # stable: tiers keep their order


def wednesday_of(week_ending: dt.date, tier: Tier) -> dt.datetime:
    """When the Wednesday schedule first captures the publication: the first Wednesday on which it is due."""
    due = due_at(week_ending, tier)
    day = due.date() + dt.timedelta(days=(2 - due.weekday()) % 7)
    return dt.datetime.combine(day, WEDNESDAY_TIME, NEW_YORK)


def promised(candidates: Iterable[tuple[Tier, dt.date]], since: dt.datetime, now: dt.datetime) -> set[TierWeek]:
    """Those of ``candidates`` that the Wednesday schedule was to capture between ``since`` and ``now``.

    They are wanted also where nothing of their tier is captured yet: the run failed, or no daemon ran that day.
    """
    return {(tier, week) for tier, week in candidates if since < wednesday_of(week, tier) <= now}


def changed(
    candidates: Iterable[TierWeek],
    database: Database,
    source: Source,
    wanted_anyway: Set[TierWeek] = frozenset(),
    begun_from: dt.date | None = None,
) -> Iterator[tuple[Tier, dt.date, PublicationState]]:
    """Those of ``candidates`` whose state at the source differs from the captured one.

    A week that was never captured counts if an earlier week is captured: it was published late. Weeks before the
    first captured one were never requested, and are left to a backfill unless they are in ``wanted_anyway``. Weeks
    that retention has dropped are left out.

    Args:
        candidates: publications.
        database: the installation's.
        source: is asked for the state of each.
        wanted_anyway: those that count although no earlier week is captured.
        begun_from: the first week that is searched for captured ones; None: the first of ``candidates``.

    Raises:
        SourceError: the source did not answer.
    """
    with database.transaction() as connection:
        oldest = oldest_kept(connection, "venue_volume")
    wanted = [(tier, week) for tier, week in candidates if week >= oldest]
    if not wanted:
        return
    weeks = [week for _, week in wanted]
    states = captured_states(database, min([*weeks, begun_from or weeks[0]]), max(weeks))
    begun = {tier: min((w for t, w in states if t == tier), default=None) for tier in TIERS}
    for tier, week in wanted:
        start = begun[tier]
        if (start is None or week < start) and (tier, week) not in wanted_anyway:
            continue
        state = source.state(week, tier)
        if state is not None and state.rows and state not in states.get((tier, week), ()):
            yield tier, week, state


_RECENTLY_CAPTURED = sa.text("""
    SELECT week_ending, max(captured_at) AS newest, array_agg(DISTINCT tier) AS tiers
    FROM otc.publication GROUP BY week_ending HAVING max(captured_at) BETWEEN :since AND :now
""")


def awaited_weeks(connection: sa.Connection, now: dt.datetime, patience: dt.timedelta) -> dict[dt.date, dt.datetime]:
    """The weeks of which a tier was captured a short while ago, and another one that is due is not captured yet.

    Args:
        connection: inside a transaction.
        now: the time.
        patience: for how long the other tiers are awaited, after the newest capture of the week.

    Returns:
        By week, until when they are awaited.
    """
    recent = connection.execute(_RECENTLY_CAPTURED, {"since": now - patience, "now": now})
    return {
        row.week_ending: row.newest + patience
        for row in recent
        if any(due_at(row.week_ending, tier) <= now and tier.name not in row.tiers for tier in TIERS)
    }
