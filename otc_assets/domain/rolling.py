"""Six-week figures of symbols and venues.

The window is the week and the five before it. Averages are over the weeks of the window that are captured
for the tier: a captured week in which nothing traded counts as zero and is stated in
`weeks_without_trades`; a week that is not captured is not counted, and `weeks_in_window` below six states
that. Here: these figures. Not here: the weekly ones they are made of (``domain.summaries``).
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from otc_assets.domain.schema import AMOUNT, RATIO, SYMBOL_ROLLING, VENUE_ROLLING
from otc_assets.domain.summaries import per_trade

WINDOW_WEEKS = 6

#: A change of more than this, in percent of the average, is a trend.
TREND_PCT = 10


def symbol_rolling(history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """Each symbol's six-week averages in its tier, and how the week stands against them.

    Args:
        history: SYMBOL_SUMMARY of the window's weeks.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the window's last week.

    Returns:
        SYMBOL_ROLLING, sorted by its key: a row for every symbol that traded in the window, also where it
        did not trade in the week itself. Tiers that are not captured in the week have no rows.
    """
    rows = _window(history, captured, week_ending, ["tier", "symbol"], {"venue_count": "avg_6w_venue_count"})
    traded = history.select("week_ending", "symbol", pl.col("tier").alias("_traded_in"))
    idle = (
        rows.select("tier", "symbol")
        .join(captured, on="tier")
        .join(history.select("week_ending", "tier", "symbol"), on=["week_ending", "tier", "symbol"], how="anti")
        .join(traded, on=["week_ending", "symbol"])
        .filter(pl.col("tier") != pl.col("_traded_in"))
        .group_by("tier", "symbol")
        .agg(pl.col("week_ending").n_unique().cast(pl.Int64).alias("weeks_in_other_tier"))
    )
    return (
        rows.join(idle, on=["tier", "symbol"], how="left")
        .with_columns(pl.col("weeks_in_other_tier").fill_null(0))
        .select(list(SYMBOL_ROLLING))
        .cast(dict(SYMBOL_ROLLING))  # type: ignore[arg-type]
        .sort("week_ending", "tier", "symbol")
    )


def venue_rolling(history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """Each venue's six-week averages in a tier, and how the week stands against them.

    Args:
        history: VENUE_SHARE of the window's weeks.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the window's last week.

    Returns:
        VENUE_ROLLING, sorted by its key, with the rows that ``symbol_rolling`` would have. The average
        share counts weeks without trades as zero, like every average here.
    """
    averages = {"symbol_count": "avg_6w_symbol_count", "market_share_pct": "avg_6w_share_pct"}
    kinds = history.sort("week_ending").group_by("tier", "venue_id").agg(pl.col("venue_kind").last())
    return (
        _window(history, captured, week_ending, ["tier", "venue_id"], averages)
        .join(kinds, on=["tier", "venue_id"])
        .select(list(VENUE_ROLLING))
        .cast(dict(VENUE_ROLLING))  # type: ignore[arg-type]
        .sort("week_ending", "tier", "venue_id")
    )


def _window(
    history: pl.DataFrame,
    captured: pl.DataFrame,
    week_ending: dt.date,
    key: list[str],
    averages: dict[str, str],
) -> pl.DataFrame:
    """The figures that symbols and venues share; ``averages`` names further columns to be averaged."""
    begin = week_ending - dt.timedelta(weeks=WINDOW_WEEKS - 1)
    in_window = pl.col("week_ending").is_between(begin, week_ending)
    captured = captured.filter(in_window)
    tiers = (
        captured.group_by("tier")
        .agg(
            pl.col("week_ending").n_unique().cast(pl.Int64).alias("weeks_in_window"),
            pl.col("week_ending").min().alias("earliest_week"),
            (pl.col("week_ending") == week_ending).any().alias("_has_week"),
        )
        .filter("_has_week")
    )
    weeks = pl.col("weeks_in_window")
    current, average = pl.col("current_volume"), pl.col("avg_6w_volume")
    sums = (
        history.filter(in_window)
        .join(captured, on=["week_ending", "tier"], how="semi")
        .group_by(key)
        .agg(
            pl.col("total_volume").sum().alias("_volume"),
            pl.col("total_trades").sum().alias("_trades"),
            pl.col("total_volume").filter(pl.col("week_ending") == week_ending).sum().alias("current_volume"),
            pl.col("week_ending").n_unique().cast(pl.Int64).alias("weeks_traded"),
            *(pl.col(name).sum().cast(AMOUNT).alias(f"_{name}") for name in averages),
        )
        .join(tiers, on="tier")
    )
    change = ((current - average) * 100 / pl.when(average != 0).then(average)).cast(RATIO)
    return (
        sums.with_columns(
            pl.lit(week_ending).alias("week_ending"),
            (pl.col("_volume") / weeks).alias("avg_6w_volume"),
            (pl.col("_trades").cast(AMOUNT) / weeks).alias("avg_6w_trades"),
            per_trade(pl.col("_volume"), pl.col("_trades")).alias("avg_6w_trade_size"),
            (weeks - pl.col("weeks_traded")).alias("weeks_without_trades"),
            *((pl.col(f"_{name}") / weeks).alias(column) for name, column in averages.items()),
        )
        .with_columns(change.alias("volume_vs_avg_pct"))
        .with_columns(
            pl.when(pl.col("volume_vs_avg_pct") > TREND_PCT)
            .then(pl.lit("up"))
            .when(pl.col("volume_vs_avg_pct") < -TREND_PCT)
            .then(pl.lit("down"))
            .otherwise(pl.lit("stable"))
            .alias("trend")
        )
    )
