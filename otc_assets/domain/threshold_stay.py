"""How long securities have been on FINRA's threshold list. The list itself is in ``datasets``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import polars as pl

from otc_assets.domain.notes import Note
from otc_assets.domain.periods import trading_days_of
from otc_assets.domain.schema import AMOUNT
from otc_assets.domain.weeks import weeks_up_to

#: A clearing firm must close out a fail to deliver that lasts for so many consecutive settlement days.
CLOSE_OUT_DAYS = 13

#: The weeks before it in which a stay on the list is followed back.
_FOLLOWED_WEEKS = 12

THRESHOLD_STAY = pl.Schema(
    {
        "week_ending": pl.Date(),
        "symbol": pl.String(),
        "days_captured": pl.Int64(),
        "days_listed": pl.Int64(),
        "listed_at_end": pl.Boolean(),
        "consecutive_days": pl.Int64(),
        "first_day": pl.Date(),
        "at_least": pl.Boolean(),
        "total_volume": AMOUNT,
    }
)
THRESHOLD_STAY_NOTES = {
    "days_captured": Note("trading days of the week whose list is captured", "days"),
    "days_listed": Note("of these, the days on which the symbol is listed", "days"),
    "listed_at_end": Note("whether it is listed on the newest captured day of the week"),
    "consecutive_days": Note(
        "consecutive trading days on which it is listed, up to its newest listed day of the week; counting back ends "
        "at a day that is not captured",
        "days",
    ),
    "first_day": Note("the first of the consecutive days"),
    "at_least": Note("whether it may have been listed for longer: the day before first_day is not captured"),
    "total_volume": Note(
        "off-exchange volume of the week, all tiers together; null until a tier is published, and while the week is "
        "graded F",
        "shares",
    ),
}


def weeks_followed(week_ending: dt.date) -> list[dt.date]:
    """The weeks that the stays of a week read."""
    return weeks_up_to(week_ending, _FOLLOWED_WEEKS + 1)


def threshold_stay(
    week_ending: dt.date, captured: Collection[dt.date], listed: pl.DataFrame, weekly: pl.DataFrame
) -> pl.DataFrame:
    """How long each security of a week's threshold lists has been listed.

    Args:
        week_ending: the week.
        captured: the days whose list is captured, of ``weeks_followed``.
        listed: rows of ``threshold_security`` of these weeks.
        weekly: rows of SYMBOL_SUMMARY of the week.

    Returns:
        THRESHOLD_STAY, sorted by symbol.
    """
    days = [day for week in weeks_followed(week_ending) for day in trading_days_of(week)]
    of_week = [day for day in trading_days_of(week_ending) if day in captured]
    by_symbol: dict[str, set[dt.date]] = {}
    for symbol, day in listed.select("symbol", "trade_date").iter_rows():
        by_symbol.setdefault(symbol, set()).add(day)
    rows = []
    for symbol, on in by_symbol.items():
        if not (in_week := [day for day in of_week if day in on]):
            continue
        first = last = days.index(in_week[-1])
        while first > 0 and days[first - 1] in on:
            first -= 1
        rows.append(
            {
                "week_ending": week_ending,
                "symbol": symbol,
                "days_captured": len(of_week),
                "days_listed": len(in_week),
                "listed_at_end": in_week[-1] == of_week[-1],
                "consecutive_days": last - first + 1,
                "first_day": days[first],
                "at_least": first == 0 or days[first - 1] not in captured,
            }
        )
    volume = weekly.group_by("symbol").agg(pl.col("total_volume").sum())
    stays = pl.DataFrame(rows, schema=pl.Schema(list(THRESHOLD_STAY.items())[:-1]))
    return stays.join(volume, on="symbol", how="left").select(list(THRESHOLD_STAY)).sort("symbol")
