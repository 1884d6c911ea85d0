"""Six-week figures of symbols and venues.

The window is the week and the five weeks before it. Averages are over the weeks of the window that are captured for
the tier. A captured week without trades counts as zero and is counted in `weeks_without_trades`. A week that is not
captured is not counted: `weeks_in_window` is then below six. A symbol or venue that traded in the window but not in the
week itself has a row too, with `current_volume` zero. The average trade size is the window's shares over the window's
trades, not an average of averages.

Weeks with holidays have fewer trading days, so a week is compared with its window per trading day: `trend` is 'up'
where the week's volume per trading day is more than 10 % above the window's, 'down' where it is more than 10 % below,
compared before rounding, and otherwise 'stable', also where the average is zero. `volume_vs_avg_pct` is the same
comparison in percent. `weekly_volume_vs_avg_pct` compares whole weeks, whatever their trading days. `trend` is null
where there is too little history; `trend_reason` says why. Which days are trading days, and how half-days count, is
in ``weeks``.

The weekly figures that these are computed from are in ``summaries``.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from otc_assets.domain.enums import Trend, TrendReason
from otc_assets.domain.exact import millionths, per_trade, quotient
from otc_assets.domain.schema import AMOUNT, SYMBOL_ROLLING, VENUE_ROLLING
from otc_assets.domain.weeks import trading_days

WINDOW_WEEKS = 6

#: A change of more than this, in percent of the average, is a trend.
TREND_PCT = 10

#: With fewer captured weeks in the window there is no trend.
TREND_WEEKS = 3


def symbol_rolling(history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """Each symbol's six-week averages in its tier, and the week compared with them.

    Args:
        history: SYMBOL_SUMMARY of the window's weeks.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the window's last week.

    Returns:
        SYMBOL_ROLLING, sorted by its key: a row for every symbol that traded in the window, even if it did not trade
        in the week itself. Tiers that are not captured in the week have no rows. `weeks_in_other_tier` is the number of
        weeks without trades in which the symbol traded in another tier.
    """
    history, captured = _in_window(history, captured, week_ending)
    rows = _figures(history, captured, week_ending, ["tier", "symbol"], {"venue_count": "avg_6w_venue_count"})
    # Only the few symbols that are in two tiers of the window can have traded in another tier.
    several = history.group_by("symbol").agg(pl.col("tier").n_unique()).filter(pl.col("tier") > 1)
    idle = (
        rows.select("tier", "symbol")
        .join(several, on="symbol", how="semi")
        .join(captured, on="tier")
        .join(history.select("week_ending", "tier", "symbol"), on=["week_ending", "tier", "symbol"], how="anti")
        # Not in this tier, but in the rows of the week: in another tier.
        .join(history, on=["week_ending", "symbol"], how="semi")
        .group_by("tier", "symbol")
        .agg(pl.len().cast(pl.Int64).alias("weeks_in_other_tier"))
    )
    return (
        rows.join(idle, on=["tier", "symbol"], how="left")
        .with_columns(pl.col("weeks_in_other_tier").fill_null(0))
        .select(list(SYMBOL_ROLLING))
        .cast(dict(SYMBOL_ROLLING))  # type: ignore[arg-type]
        .sort("week_ending", "tier", "symbol")
    )


def venue_rolling(history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """Each venue's six-week averages in a tier, and the week compared with them.

    Args:
        history: VENUE_SHARE of the window's weeks.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the window's last week.

    Returns:
        VENUE_ROLLING, sorted by its key, with rows as in ``symbol_rolling``. The average share is the average of the
        weeks' `market_share_pct`; weeks without trades count as zero.
    """
    history, captured = _in_window(history, captured, week_ending)
    averages = {"symbol_count": "avg_6w_symbol_count", "market_share_pct": "avg_6w_share_pct"}
    kinds = history.sort("week_ending").group_by("tier", "venue_id").agg(pl.col("venue_kind").last())
    return (
        _figures(history, captured, week_ending, ["tier", "venue_id"], averages)
        .join(kinds, on=["tier", "venue_id"])
        .select(list(VENUE_ROLLING))
        .cast(dict(VENUE_ROLLING))  # type: ignore[arg-type]
        .sort("week_ending", "tier", "venue_id")
    )


def _in_window(
    history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The captured weeks of the window, and the rows of those weeks."""
    first = week_ending - dt.timedelta(weeks=WINDOW_WEEKS - 1)
    window = (
        captured.filter(pl.col("week_ending").is_between(first, week_ending)).select("week_ending", "tier").unique()
    )
    return history.join(window, on=["week_ending", "tier"], how="semi"), window


def _figures(
    history: pl.DataFrame,
    captured: pl.DataFrame,
    week_ending: dt.date,
    key: list[str],
    averages: dict[str, str],
) -> pl.DataFrame:
    """The figures that symbols and venues share; ``averages`` names further columns to be averaged."""
    is_current = pl.col("week_ending") == week_ending
    days = pl.DataFrame(
        [(week, trading_days(week)) for week in captured["week_ending"].unique()],
        schema={"week_ending": pl.Date, "_days": pl.Int64},
        orient="row",
    )
    tiers = (
        captured.join(days, on="week_ending")
        .group_by("tier")
        .agg(
            pl.len().cast(pl.Int64).alias("weeks_in_window"),
            pl.col("_days").sum().alias("window_trading_days"),
            pl.col("week_ending").min().alias("earliest_week"),
            is_current.any().alias("_has_week"),
        )
        .filter("_has_week")
    )
    sums = (
        history.group_by(key)
        .agg(
            pl.col("total_volume").sum().alias("_volume"),
            pl.col("total_trades").sum().alias("_trades"),
            pl.col("total_volume").filter(is_current).sum().alias("current_volume"),
            pl.len().cast(pl.Int64).alias("weeks_traded"),
            is_current.all().alias("_is_first"),
            *(pl.col(name).sum().cast(AMOUNT).alias(f"_{name}") for name in averages),
        )
        .join(tiers, on="tier")
    )
    current, volume = millionths(pl.col("current_volume")), millionths(pl.col("_volume"))
    weeks, window_days = (pl.col(name).cast(pl.Int128) for name in ("weeks_in_window", "window_trading_days"))
    week_days = pl.lit(trading_days(week_ending))
    # Both times the trading days of the week and of the window: their ratio is that of the volumes per day.
    daily, daily_average = current * window_days, volume * week_days.cast(pl.Int128)

    def average(column: str) -> pl.Expr:
        return quotient(millionths(pl.col(column)), weeks, shift=-6)

    return sums.with_columns(
        pl.lit(week_ending).alias("week_ending"),
        week_days.cast(pl.Int64).alias("trading_days"),
        quotient(current, week_days, shift=-6).alias("current_daily_volume"),
        average("_volume").alias("avg_6w_volume"),
        quotient(volume, window_days, shift=-6).alias("avg_6w_daily_volume"),
        quotient(pl.col("_trades"), weeks).alias("avg_6w_trades"),
        quotient(pl.col("_trades"), window_days).alias("avg_6w_daily_trades"),
        per_trade(pl.col("_volume"), pl.col("_trades")).alias("avg_6w_trade_size"),
        (pl.col("weeks_in_window") - pl.col("weeks_traded")).alias("weeks_without_trades"),
        *(average(f"_{name}").alias(column) for name, column in averages.items()),
        quotient(daily - daily_average, daily_average, shift=2).alias("volume_vs_avg_pct"),
        quotient(current * weeks - volume, volume, shift=2).alias("weekly_volume_vs_avg_pct"),
        pl.when(pl.col("weeks_in_window") < TREND_WEEKS)
        .then(pl.lit(TrendReason.TOO_FEW_WEEKS))
        .when("_is_first")
        .then(pl.lit(TrendReason.FIRST_WEEK_IN_WINDOW))
        .alias("trend_reason"),
    ).with_columns(
        pl.when(pl.col("trend_reason").is_not_null())
        .then(None)
        .when(daily * 100 > daily_average * (100 + TREND_PCT))
        .then(pl.lit(Trend.UP))
        .when(daily * 100 < daily_average * (100 - TREND_PCT))
        .then(pl.lit(Trend.DOWN))
        .otherwise(pl.lit(Trend.STABLE))
        .alias("trend"),
    )
