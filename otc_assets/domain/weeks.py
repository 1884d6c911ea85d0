"""Weeks, trading days and FINRA's publication calendar.

A week is named by its Friday, ``week_ending``. This module computes when each tier of a week is published and which
days were trading days; functions that need the time take it as an argument. Dagster partitions are in
``otc_assets.defs.partitions``, and what was captured in ``gaps``.

A half-day counts as one trading day. The NYSE lists it as a trading day with an early close at 1 p.m., and not as a
holiday (https://www.nyse.com/trade/hours-calendars), and FINRA's week has no finer unit. Counted by its hours (3.5 of
6.5), a symbol that trades the same on every day would seem to rise in that week.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from zoneinfo import ZoneInfo

import holidays

NEW_YORK = ZoneInfo("America/New_York")

#: FINRA publishes "not before 06:00 New York time".
PUBLICATION_TIME = dt.time(6, 0)


@dataclass(frozen=True)
class Tier:
    """One of FINRA's three tiers.

    Attributes:
        id: the API's ``tierIdentifier``.
        name: its ``tierDescription``, the value of every ``tier`` column.
        lag_weeks: from the Monday of the week to the Monday of its publication.
    """

    id: str
    name: str
    lag_weeks: int

    @property
    def slug(self) -> str:
        """The tier in names of assets, jobs and pools: ``t1``, ``t2``, ``otce``."""
        return self.id.lower()


T1 = Tier("T1", "NMS Tier 1", 3)
T2 = Tier("T2", "NMS Tier 2", 5)
OTCE = Tier("OTCE", "OTC", 5)

TIERS: tuple[Tier, ...] = (T1, T2, OTCE)
TIER_BY_ID = {tier.id: tier for tier in TIERS}
TIER_BY_NAME = {tier.name: tier for tier in TIERS}


def tier_of(text: str) -> Tier:
    """The tier that ``text`` names, by identifier (``T1``) or description (``NMS Tier 1``), in any case.

    Raises:
        ValueError: there is no such tier. (``OTC`` is the description of ``OTCE``, not an identifier.)
    """
    wanted = text.strip().casefold()
    for tier in TIERS:
        if wanted in (tier.id.casefold(), tier.name.casefold()):
            return tier
    known = ", ".join(f"{tier.id} ({tier.name})" for tier in TIERS)
    raise ValueError(f"unknown tier {text!r}: FINRA's tiers are {known}")


# --- naming a week -------------------------------------------------------------------------------------


def week_ending_of(week_start: dt.date) -> dt.date:
    """The Friday of the week that began on the Monday ``week_start`` (FINRA's ``weekStartDate``).

    Raises:
        ValueError: ``week_start`` is not a Monday. FINRA's week starts are Mondays, holidays included.
    """
    if week_start.weekday() != 0:
        raise ValueError(f"{week_start} is a {week_start:%A}: a FINRA week starts on a Monday")
    return week_start + dt.timedelta(days=4)


def week_start_of(week_ending: dt.date) -> dt.date:
    """The Monday (FINRA's ``weekStartDate``) of the week that ends on the Friday ``week_ending``.

    Raises:
        ValueError: ``week_ending`` is not a Friday.
    """
    if week_ending.weekday() != 4:
        raise ValueError(f"{week_ending} is a {week_ending:%A}: a week_ending is a Friday")
    return week_ending - dt.timedelta(days=4)


def week_containing(day: dt.date) -> dt.date:
    """The ``week_ending`` of the Monday-to-Sunday week that contains ``day``."""
    return day + dt.timedelta(days=4 - day.weekday())


def weeks_between(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every ``week_ending`` from ``first`` to ``last``, both Fridays included."""
    week_start_of(first), week_start_of(last)
    return [first + dt.timedelta(weeks=n) for n in range((last - first).days // 7 + 1)]


def stretches(weeks: Iterable[dt.date], most: int | None = None) -> list[list[dt.date]]:
    """Weeks in any order as stretches of consecutive weeks, oldest first, each of at most so many weeks."""
    found: list[list[dt.date]] = []
    for week in sorted(set(weeks)):
        if found and week - found[-1][-1] == dt.timedelta(weeks=1) and len(found[-1]) != most:
            found[-1].append(week)
        else:
            found.append([week])
    return found


#: The weeks of a window: the week and the five before it.
WINDOW_WEEKS = 6


def weeks_up_to(week_ending: dt.date, count: int = WINDOW_WEEKS) -> list[dt.date]:
    """The ``count`` weeks that end with ``week_ending``, oldest first."""
    return [week_ending - dt.timedelta(weeks=n) for n in reversed(range(count))]


# --- trading days --------------------------------------------------------------------------------------


@cache
def _nyse(year: int) -> frozenset[dt.date]:
    return frozenset(holidays.financial_holidays("NYSE", years=year))


#: Closures that the calendar above does not have. A process sets them once, before it computes anything: the calendar
#: is the same for all its callers, as its holidays are.
_announced: frozenset[dt.date] = frozenset()


def use_closures(days: frozenset[dt.date]) -> None:
    """Adds days on which the NYSE is closed to the calendar of this process, in place of those that were added before.

    Everything that depends on trading days follows: publication days, due dates, expected days, and figures per day.

    Args:
        days: as ``closures.read_closures`` reads them.
    """
    global _announced
    _announced = days


def is_trading_day(day: dt.date) -> bool:
    """Whether the NYSE trades on ``day``. Columbus Day and Veterans' Day are trading days."""
    return day.weekday() < 5 and day not in _nyse(day.year) and day not in _announced


def trading_days(week_ending: dt.date) -> int:
    """The number of days on which the NYSE traded in the week: 5, or fewer in a week with holidays."""
    start = week_start_of(week_ending)
    return sum(is_trading_day(start + dt.timedelta(days=n)) for n in range(5))


# --- the publication calendar --------------------------------------------------------------------------


def publication_date(week_ending: dt.date, tier: Tier) -> dt.date:
    """The day on which FINRA publishes ``tier`` of the week.

    T1 is published three weeks after the week's Monday, T2 and OTC five; where that Monday is a holiday, on the next
    trading day of the NYSE.
    """
    day = week_start_of(week_ending) + dt.timedelta(weeks=tier.lag_weeks)
    while not is_trading_day(day):
        day += dt.timedelta(days=1)
    return day


def due_at(week_ending: dt.date, tier: Tier) -> dt.datetime:
    """The time (New York) from which the publication is expected."""
    return dt.datetime.combine(publication_date(week_ending, tier), PUBLICATION_TIME, NEW_YORK)


def newest_due(tier: Tier, now: dt.datetime) -> dt.date:
    """The newest ``week_ending`` whose publication was due at ``now`` (with a time zone)."""
    week = week_containing(now.astimezone(NEW_YORK).date()) - dt.timedelta(weeks=tier.lag_weeks - 1)
    while due_at(week, tier) > now:
        week -= dt.timedelta(weeks=1)
    return week


def newest_weeks(count: int, first_week: dt.date, now: dt.datetime) -> list[dt.date]:
    """The ``count`` newest weeks that are published in at least one tier, oldest first, none before ``first_week``."""
    return [week for week in weeks_up_to(newest_due(T1, now), count) if week >= first_week]


def newest_by_week(tiers: Iterable[Tier], first_week: dt.date, now: dt.datetime) -> dict[dt.date, tuple[Tier, ...]]:
    """The newest weeks whose publications were due at ``now``, oldest first, each with the tiers of which it is that.

    Weeks before ``first_week`` are left out.
    """
    found: dict[dt.date, tuple[Tier, ...]] = {}
    for tier in tiers:
        if (week := newest_due(tier, now)) >= first_week:
            found[week] = (*found.get(week, ()), tier)
    return dict(sorted(found.items()))


def week_published_on(day: dt.date, tier: Tier) -> dt.date | None:
    """The ``week_ending`` whose ``tier`` was first published on ``day``; None if it is not a publication day."""
    week = week_containing(day) - dt.timedelta(weeks=tier.lag_weeks)
    return week if publication_date(week, tier) == day else None
