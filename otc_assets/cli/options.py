"""Options and arguments that several commands share, and the parsers of their values."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated

import typer

from otc_assets.domain.weeks import NEW_YORK, T1, TIERS, Tier, newest_due, tier_of, week_start_of, weeks_between
from otc_assets.settings import settings

#: More can't be asked for: the database's largest integer, and the weeks of two centuries.
MOST_ROWS = 2**31 - 1
MOST_WEEKS = 10_000


@dataclass(frozen=True)
class WeekRange:
    """Consecutive weeks, as named on the command line."""

    weeks: list[dt.date]


def friday(text: str) -> dt.date:
    """A week, from its Friday."""
    try:
        week = dt.date.fromisoformat(text)
        week_start_of(week)
    except ValueError as error:
        raise typer.BadParameter(f"{error}. Name a week by its Friday, as in 2026-08-21.") from None
    return week


def tier(text: str) -> Tier:
    """A tier, from its id or name."""
    try:
        return tier_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def week_range(text: str) -> WeekRange:
    """Weeks that are published in a tier at least, from ``A..B`` or a single week."""
    first, dots, last = text.partition("..")
    weeks = weeks_between(friday(first), friday(last if dots else first))
    if not weeks:
        raise typer.BadParameter(f"{text}: the range ends before it begins. Write the older week first.")
    begin, newest = settings().first_week, newest_due(T1, dt.datetime.now(NEW_YORK))
    if weeks[0] < begin:
        raise typer.BadParameter(f"{weeks[0]} is before the first week, {begin} (OTC_FIRST_WEEK).")
    if weeks[-1] > newest:
        known = f"the newest published week is {newest}" if newest >= begin else f"the first week is {begin}"
        raise typer.BadParameter(f"{weeks[-1]} is not published in any tier yet: {known}.")
    return WeekRange(weeks)


Weeks = Annotated[
    WeekRange,
    typer.Option("--weeks", parser=week_range, metavar="A..B", help="A week (its Friday), or a range of weeks."),
]
OptionalWeeks = Annotated[
    WeekRange | None,
    typer.Option("--weeks", parser=week_range, metavar="A..B", help="A week (its Friday), or a range of weeks."),
]
TierOption = Annotated[
    Tier | None, typer.Option("--tier", parser=tier, metavar="T1|T2|OTCE", help="Capture only this tier.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[
    bool,
    typer.Option("--yes", help="Apply a shorter retention that the settings ask for; this deletes expired weeks."),
]


def tiers_of(tier: Tier | None) -> tuple[Tier, ...]:
    """The tiers to capture: the one given, or all."""
    return TIERS if tier is None else (tier,)
