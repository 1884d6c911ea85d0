"""What FINRA has that we have not: late weeks, and revised ones.

Here: comparing the source's word on a publication with what is captured. Not here: asking on time
(``schedules``, ``sensors``).
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence

from otc_assets.domain.weeks import TIER_BY_NAME, TIERS, Tier, newest_due, weeks_between
from otc_assets.finra.source import ATS_HALF, FULL, NON_ATS_HALF, PARTIAL, PublicationState, Source
from otc_assets.resources import Warehouse
from otc_assets.settings import settings
from otc_assets.warehouse.read import Publication, publications
from otc_assets.warehouse.retention import retained_from


def captured_states(
    warehouse: Warehouse, first: dt.date, last: dt.date
) -> dict[tuple[Tier, dt.date], set[PublicationState]]:
    """By (tier, week_ending), the states of the publication that are captured, as a source states them.

    Captures that are not effective count: what is quarantined, withdrawn or older is not captured once more.
    """
    with warehouse.transaction() as connection:
        captures = publications(connection, first, last)
    by_scope: dict[tuple[Tier, dt.date], dict[str, list[Publication]]] = {}
    for capture in captures:
        if capture.scope != PARTIAL:
            scopes = by_scope.setdefault((TIER_BY_NAME[capture.tier], capture.week_ending), {})
            scopes.setdefault(capture.scope, []).append(capture)
    states = {}
    for key, scopes in by_scope.items():
        halves: list[list[Publication]] = [scopes.get(ATS_HALF, []), scopes.get(NON_ATS_HALF, [])]
        # Files are of one half each: a source of files states both halves together.
        pairs = itertools.product(*([*half, None] for half in halves))
        wholes = [[capture] for capture in scopes.get(FULL, [])] + [[c for c in pair if c] for pair in pairs]
        states[key] = {_state(whole) for whole in wholes if whole}
    return states


def _state(captures: Sequence[Publication]) -> PublicationState:
    dates = [capture.last_update_date for capture in captures if capture.last_update_date]
    return PublicationState(sum(capture.rows_received for capture in captures), max(dates, default=None))


def look_back(now: dt.datetime) -> list[tuple[Tier, dt.date]]:
    """The publications to look at again: of each tier, the newest that is due and the look-back's weeks before it."""
    first_wanted, weeks_back = settings().first_week, settings().lookback_weeks
    publications = []
    for tier in TIERS:
        newest = newest_due(tier, now)
        first = max(first_wanted, newest - dt.timedelta(weeks=weeks_back))
        publications += [(tier, week) for week in weeks_between(first, newest)]
    return publications


def changed(
    candidates: Iterable[tuple[Tier, dt.date]], warehouse: Warehouse, source: Source
) -> Iterator[tuple[Tier, dt.date, PublicationState]]:
    """Those of ``candidates`` that stand otherwise at the source than they were captured.

    A week that was never captured counts where a week before it is captured: it came late. Weeks before
    the first captured one are history that nobody asked for yet, and are left to a backfill; those that
    retention has dropped are left alone.

    Raises:
        SourceError: the source did not answer.
    """
    with warehouse.transaction() as connection:
        oldest = retained_from(connection, "venue_volume") or dt.date.min
    wanted = [(tier, week) for tier, week in candidates if week >= oldest]
    if not wanted:
        return
    weeks = [week for _, week in wanted]
    states = captured_states(warehouse, min(weeks), max(weeks))
    begun = {tier: min((w for t, w in states if t == tier), default=None) for tier in TIERS}
    for tier, week in wanted:
        start = begun[tier]
        if start is None or week < start:
            continue
        state = source.state(week, tier)
        if state is not None and state.rows and state not in states.get((tier, week), ()):
            yield tier, week, state
