"""Figures that combine the weekly publications with FINRA's other data sets. They are estimates, and labelled so.

Figures of the weekly publications alone are in ``summaries``, ``rolling`` and ``concentration``.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from otc_assets.domain.exact import millionths, percent, quotient
from otc_assets.domain.schema import AMOUNT, RATIO, Note
from otc_assets.domain.weeks import trading_days

#: The weeks that calibrate an estimate, counted back from its week. At the end of a week, the newest week of which all
#: tiers are published is the fifth before it. So the estimate of a past week uses what was published at its end.
CALIBRATED_BY = range(10, 4, -1)

#: A symbol has a ratio of its own from so many weeks on.
OWN_RATIO_FROM = 3

#: Raise it when the same rows would give other estimates.
VOLUME_ESTIMATE_CODE = "1"

VOLUME_ESTIMATE = pl.Schema(
    {
        "week_ending": pl.Date(),
        "symbol": pl.String(),
        "trading_days": pl.Int64(),
        "days_reported": pl.Int64(),
        "reported_volume": AMOUNT,
        "short_volume": AMOUNT,
        "short_share_pct": RATIO,
        "calibration": pl.String(),
        "calibration_weeks": pl.Int64(),
        "calibration_ratio": RATIO,
        "estimated_volume": AMOUNT,
        "actual_volume": AMOUNT,
        "error_pct": RATIO,
    }
)
VOLUME_ESTIMATE_NOTES = {
    "symbol": Note("ticker as the weekly publications spell it: BRK.B for BRK/B"),
    "days_reported": Note("trading days of the week whose daily short sale volume is captured", "days"),
    "reported_volume": Note("total_volume of short_volume_daily over these days, all facilities", "shares"),
    "short_volume": Note("the part of reported_volume that was sold short", "shares"),
    "short_share_pct": Note("short_volume in percent of reported_volume", "percent"),
    "calibration": Note(
        "whose ratio is used: 'symbol', 'market' (the symbol has fewer than three weeks) or 'none' (no week; ratio 1)"
    ),
    "calibration_weeks": Note("the symbol's weeks among the six that calibrate: the tenth to the fifth before"),
    "calibration_ratio": Note("weekly volume / reported_volume over these weeks"),
    "estimated_volume": Note(
        "estimate of the week's off-exchange volume: reported_volume * trading_days / days_reported * "
        "calibration_ratio",
        "shares",
    ),
    "actual_volume": Note("total_volume of symbol_summary, tiers added; null until a tier is published", "shares"),
    "error_pct": Note("(estimated_volume / actual_volume - 1) * 100; null without actual_volume", "percent"),
}


def weeks_read(week_ending: dt.date) -> list[dt.date]:
    """The weeks that the estimate of a week reads: those that calibrate it, and the week itself."""
    return [*(week_ending - dt.timedelta(weeks=n) for n in CALIBRATED_BY), week_ending]


def weekly_spelling(symbol: pl.Expr) -> pl.Expr:
    """A ticker of the consolidated tapes (``BRK/B``) as the weekly publications spell it (``BRK.B``)."""
    return symbol.str.replace_all("/", ".", literal=True)


def volume_estimate(week_ending: dt.date, daily: pl.DataFrame, weekly: pl.DataFrame) -> pl.DataFrame:
    """Estimates each symbol's off-exchange volume of a week from the daily short sale volume.

    The daily data has only trades in regular hours that were publicly disseminated, so it is less than the weekly
    volume. The ratio of both in earlier weeks corrects this.

    Args:
        week_ending: the week.
        daily: rows of ``short_volume_daily`` of ``weeks_read``.
        weekly: rows of SYMBOL_SUMMARY of ``weeks_read``.

    Returns:
        VOLUME_ESTIMATE, sorted by symbol; no rows where no day of the week is captured.
    """
    days = dict(daily.group_by("week_ending").agg(pl.col("trade_date").n_unique()).iter_rows())
    whole = [week for week in weeks_read(week_ending)[:-1] if days.get(week) == trading_days(week)]
    is_week, by_symbol = pl.col("week_ending") == week_ending, ["week_ending", "symbol"]
    reported = (
        daily.with_columns(weekly_spelling(pl.col("symbol")))
        .group_by(by_symbol)
        .agg(pl.col("total_volume").sum().alias("reported_volume"), pl.col("short_volume").sum())
    )
    actual = weekly.group_by(by_symbol).agg(pl.col("total_volume").sum().alias("actual_volume"))
    sums = (
        millionths(pl.col("actual_volume").sum()).alias("_a"),
        millionths(pl.col("reported_volume").sum()).alias("_r"),
        pl.len().cast(pl.Int64).alias("calibration_weeks"),
    )
    pairs = reported.filter(pl.col("week_ending").is_in(whole) & (pl.col("reported_volume") > 0)).join(
        actual, on=by_symbol
    )
    market = pairs.select(*sums).row(0, named=True)
    is_own = pl.col("calibration_weeks") >= OWN_RATIO_FROM
    has_market = bool(market["_r"])
    whole_number = pl.Int128
    of_week = (
        reported.filter(is_week)
        .join(actual.filter(is_week), on=by_symbol, how="left")
        .join(pairs.group_by("symbol").agg(*sums), on="symbol", how="left")
        .with_columns(
            pl.col("calibration_weeks").fill_null(0),
            pl.lit(trading_days(week_ending), pl.Int64).alias("trading_days"),
            pl.lit(days.get(week_ending, 0), pl.Int64).alias("days_reported"),
        )
        .with_columns(
            pl.when(is_own).then(pl.lit("symbol")).otherwise(pl.lit("market" if has_market else "none"))
            .alias("calibration"),
            *(
                pl.when(is_own).then(pl.col(name)).otherwise(pl.lit(market[name] if has_market else 1, whole_number))
                .cast(whole_number).alias(name)
                for name in ("_a", "_r")
            ),
        )
    )  # fmt: skip
    volume = millionths(pl.col("reported_volume")).cast(whole_number)
    return (
        of_week.with_columns(
            percent(pl.col("short_volume"), pl.col("reported_volume")).alias("short_share_pct"),
            quotient(pl.col("_a"), pl.col("_r")).alias("calibration_ratio"),
            quotient(
                volume * pl.col("trading_days") * pl.col("_a"), pl.col("days_reported") * pl.col("_r"), shift=-6
            ).alias("estimated_volume"),
        )
        .with_columns(_error(pl.col("estimated_volume"), pl.col("actual_volume")).alias("error_pct"))
        .select(list(VOLUME_ESTIMATE))
        .cast(dict(VOLUME_ESTIMATE))  # type: ignore[arg-type]
        .sort("symbol")
    )


def _error(estimated: pl.Expr, actual: pl.Expr) -> pl.Expr:
    """How far an estimate is from the actual volume, in percent of it; null where there is none, or it is zero."""
    return quotient(millionths(estimated) - millionths(actual), millionths(actual), shift=2)
