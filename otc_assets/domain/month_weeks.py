"""A month of FINRA's held against the weeks of the weekly publications.

Months begin and end inside weeks, so that no sum of weeks is a month; but the weeks inside the month, and those that
touch it, are its bounds. Which weeks have a day in a month is in ``periods``.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from otc_assets.domain.weeks import week_start_of

#: The columns of the bounds: the volume of the weeks inside the month, and of all weeks with a day in it.
LOW, HIGH = "whole_weeks_volume", "touching_weeks_volume"


def weeks_volume(weekly: pl.DataFrame, weeks: list[dt.date], by: list[str]) -> pl.DataFrame:
    """By some columns, the volume of the weeks inside the month, and of all of its weeks.

    Args:
        weekly: rows of ``venue_share``.
        weeks: those with a day in the month.
        by: the columns.
    """
    inside = [week for week in weeks if week_start_of(week).month == week.month]
    volume = pl.col("total_volume")
    return weekly.group_by(by).agg(
        volume.filter(pl.col("week_ending").is_in(inside)).sum().alias(LOW), volume.sum().alias(HIGH)
    )


def known_bounds(is_known: pl.Expr) -> list[pl.Expr]:
    """The bounds where they are known, else null. Who has no rows in complete weeks has traded nothing in them."""
    return [pl.when(is_known).then(pl.col(name).fill_null(0)).alias(name) for name in (LOW, HIGH)]


def against_weeks() -> pl.Expr:
    """Whether ``total_volume`` is within the bounds, below or above; null where there are none."""
    total, low, high = pl.col("total_volume"), pl.col(LOW), pl.col(HIGH)
    state = pl.when(total < low).then(pl.lit("below")).when(total > high).then(pl.lit("above"))
    return state.when(low.is_not_null()).then(pl.lit("within")).alias("against_weeks")
