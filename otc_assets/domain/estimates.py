"""Figures that combine the weekly publications with FINRA's other data sets. They are estimates, and labelled so.

Figures of the weekly publications alone are in ``summaries``, ``rolling`` and ``concentration``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from otc_assets.domain.block_share import BLOCK_SHARE, BLOCK_SHARE_NOTES
from otc_assets.domain.datasets import (
    ATS_BLOCKS,
    MONTHLY_SUMMARY,
    OTC_BLOCKS,
    REG_SHO_DAILY,
    SHORT_INTEREST,
    THRESHOLD_LIST,
)
from otc_assets.domain.exact import millionths, percent, quotient
from otc_assets.domain.firm_month import FIRM_MONTH, FIRM_MONTH_NOTES
from otc_assets.domain.notes import Note
from otc_assets.domain.periods import settlement_dates_of
from otc_assets.domain.schema import AMOUNT, RATIO
from otc_assets.domain.threshold_stay import CLOSE_OUT_DAYS, THRESHOLD_STAY, THRESHOLD_STAY_NOTES
from otc_assets.domain.weeks import trading_days, week_start_of


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A table of estimates, week by week.

    Attributes:
        name: of the table and its asset.
        description: its content, for the page of its asset.
        schema: its columns.
        notes: what they mean.
        volume: the column of shares whose sums before and after a revision are compared.
        sources: the tables that it is computed from.
        key: the columns that identify a row.
        code_version: raise it when the same rows would give other estimates.
    """

    name: str
    description: str
    schema: pl.Schema
    notes: Mapping[str, Note]
    volume: str
    sources: tuple[str, ...]
    key: tuple[str, ...] = ("week_ending", "symbol")
    code_version: str = "1"


#: The weeks that calibrate an estimate, counted back from its week. At the end of a week, the newest week of which all
#: tiers are published is the fifth before it. So the estimate of a past week uses what was published at its end.
CALIBRATED_BY = range(10, 4, -1)

#: A symbol has a ratio of its own from so many weeks on.
OWN_RATIO_FROM = 3

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
        "the ratio that is used: 'symbol' (its own), 'market' (the symbol has fewer than three calibration weeks) or "
        "'none' (there is no calibration week; the ratio is 1)"
    ),
    "calibration_weeks": Note(
        "number of the symbol's weeks among the six calibration weeks: the tenth to the fifth week before"
    ),
    "calibration_ratio": Note("weekly volume / reported_volume in the calibration weeks"),
    "estimated_volume": Note(
        "estimate of the week's off-exchange volume: reported_volume * trading_days / days_reported * "
        "calibration_ratio",
        "shares",
    ),
    "actual_volume": Note(
        "total_volume of symbol_summary, all tiers together; null until a tier is published, and while the week is "
        "graded F",
        "shares",
    ),
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
    """How far an estimate is from the actual volume, in percent of it.

    Null where there is none, where it is zero, and where the error has more than twelve digits before the point.
    """
    return quotient(millionths(estimated) - millionths(actual), millionths(actual), shift=2).cast(RATIO, strict=False)


# --- the share of trading that is off exchange ----------------------------------------------------------

OFF_EXCHANGE_SHARE = pl.Schema(
    {
        "week_ending": pl.Date(),
        "symbol": pl.String(),
        "settlement_date": pl.Date(),
        "trading_days": pl.Int64(),
        "total_volume": AMOUNT,
        "ats_volume": AMOUNT,
        "avg_daily_volume": AMOUNT,
        "consolidated_volume": AMOUNT,
        "off_exchange_share_pct": RATIO,
        "ats_share_pct": RATIO,
        "share_reason": pl.String(),
        "short_position": AMOUNT,
        "days_to_cover": AMOUNT,
    }
)
OFF_EXCHANGE_SHARE_NOTES = {
    "settlement_date": Note("the end of the short interest cycle that contains the week's Wednesday"),
    "total_volume": Note(
        "off-exchange volume of the week: total_volume of symbol_summary, all tiers together", "shares"
    ),
    "ats_volume": Note("the part of total_volume at ATSs", "shares"),
    "avg_daily_volume": Note("average daily volume of the cycle, all markets", "shares per trading day"),
    "consolidated_volume": Note("estimate of the volume in all markets: avg_daily_volume * trading_days", "shares"),
    "off_exchange_share_pct": Note(
        "estimate: total_volume in percent of consolidated_volume; it can exceed 100", "percent"
    ),
    "ats_share_pct": Note("estimate: ats_volume in percent of consolidated_volume", "percent"),
    "share_reason": Note("why there is no share: 'split' (a split in the cycle) or 'no_volume' (the average is 0)"),
    "short_position": Note("shares held short on the settlement date", "shares"),
    "days_to_cover": Note("short_position / avg_daily_volume, as FINRA states it", "days"),
}


def cycle_of(week_ending: dt.date) -> dt.date:
    """The settlement date that ends the short interest cycle of a week: the first one from its Wednesday on."""
    wednesday, week = week_start_of(week_ending) + dt.timedelta(days=2), week_ending
    while True:
        for day in settlement_dates_of(week):
            if day >= wednesday:
                return day
        week += dt.timedelta(weeks=1)


def short_interest_spelling(symbol: pl.Expr) -> pl.Expr:
    """A ticker of the weekly publications (``BRK.B``, ``ABRpD``) as short interest spells it (``BRKB``, ``ABRPRD``)."""
    return symbol.str.replace_all(".", "", literal=True).str.replace_all("p", "PR", literal=True)


def off_exchange_share(week_ending: dt.date, weekly: pl.DataFrame, short_interest: pl.DataFrame) -> pl.DataFrame:
    """Estimates which share of each symbol's trading is off exchange.

    A ticker whose spelling in short interest another ticker of the week shares is left out: it is not known which of
    them is meant.

    Args:
        week_ending: the week.
        weekly: rows of SYMBOL_SUMMARY of the week.
        short_interest: rows of ``short_interest`` of the cycle.

    Returns:
        OFF_EXCHANGE_SHARE, sorted by symbol: the symbols that both have.
    """
    days = trading_days(week_ending)
    symbols = (
        weekly.group_by("symbol")
        .agg(pl.col("total_volume", "ats_volume").sum())
        .with_columns(short_interest_spelling(pl.col("symbol")).alias("_code"))
        .filter(pl.len().over("_code") == 1)
    )
    average, consolidated = pl.col("avg_daily_volume"), pl.col("consolidated_volume")
    is_split = pl.col("stock_split_flag").eq("S").fill_null(value=False)
    has_share = ~is_split & (average > 0)
    return (
        symbols.join(short_interest.drop("week_ending").rename({"symbol": "_code"}), on="_code")
        .with_columns(
            pl.lit(week_ending).alias("week_ending"),
            pl.lit(days, pl.Int64).alias("trading_days"),
            (average * pl.lit(days, pl.Int64)).cast(AMOUNT).alias("consolidated_volume"),
        )
        .with_columns(
            *(
                pl.when(has_share).then(percent(pl.col(part), consolidated)).alias(name)
                for part, name in (("total_volume", "off_exchange_share_pct"), ("ats_volume", "ats_share_pct"))
            ),
            pl.when(is_split).then(pl.lit("split")).when(average <= 0).then(pl.lit("no_volume")).alias("share_reason"),
        )
        .select(list(OFF_EXCHANGE_SHARE))
        .cast(dict(OFF_EXCHANGE_SHARE))  # type: ignore[arg-type]
        .sort("symbol")
    )


VOLUME = Estimate(
    name="volume_estimate",
    description=(
        "An early estimate of each symbol's off-exchange volume of a week, from FINRA's daily short sale volume, with "
        "the actual volume and the error once the weekly publication is there."
        "\n\nThe daily data has trades in regular hours that were publicly disseminated. The ratio of weekly to daily "
        "volume in earlier weeks corrects the estimate for what it lacks."
    ),
    schema=VOLUME_ESTIMATE,
    notes=VOLUME_ESTIMATE_NOTES,
    volume="estimated_volume",
    sources=(REG_SHO_DAILY.table, "symbol_summary"),
)
SHARE = Estimate(
    name="off_exchange_share",
    description=(
        "An estimate of the share of each symbol's trading that is off exchange, from the average daily volume in "
        "FINRA's short interest."
        "\n\nThe average is over a cycle of about two weeks, and not over the week. It has no non-media trades, which "
        "the weekly volume has, so that a share can exceed 100 %. There is no share where the cycle has a split."
    ),
    schema=OFF_EXCHANGE_SHARE,
    notes=OFF_EXCHANGE_SHARE_NOTES,
    volume="total_volume",
    sources=(SHORT_INTEREST.table, "symbol_summary"),
)

STAY = Estimate(
    name="threshold_stay",
    description=(
        "How long each security of a week's threshold lists has been listed, in trading days."
        f"\n\nA fail to deliver in a threshold security must be closed out after {CLOSE_OUT_DAYS} consecutive "
        "settlement days; how long a fail lasts is not published. Stays are followed back for twelve weeks."
    ),
    schema=THRESHOLD_STAY,
    notes=THRESHOLD_STAY_NOTES,
    volume="total_volume",
    sources=(THRESHOLD_LIST.table, "symbol_summary"),
)

BLOCKS = Estimate(
    name="block_share",
    description=(
        "How much of each ATS's and firm's trading of a month is in blocks, by category of block, and each one's share "
        "of all off-exchange blocks. In the week in which the month ends."
        "\n\nThe categories overlap: their volumes must not be added. FINRA counts trades here; `block_like_volume` of "
        "other tables is of rows whose average trade is of block size."
    ),
    schema=BLOCK_SHARE,
    notes=BLOCK_SHARE_NOTES,
    volume="block_volume",
    sources=(ATS_BLOCKS.table, OTC_BLOCKS.table, "venue_share"),
    key=("week_ending", "venue_kind", "venue", "category"),
)

MONTH = Estimate(
    name="firm_month",
    description=(
        "Each firm's month outside ATSs: volume, share and rank, and the volume that is in no weekly row under the "
        "firm's name. Its rows are in the week in which the month ends."
        "\n\nIn a week in which a firm trades little, the weekly data has it in the De Minimis group; the monthly data "
        "can name it all the same. `unnamed_volume` is the minimum of its volume in the group."
    ),
    schema=FIRM_MONTH,
    notes=FIRM_MONTH_NOTES,
    volume="total_volume",
    sources=(MONTHLY_SUMMARY.table, "venue_share"),
    key=("week_ending", "market", "venue_id"),
)

#: Every table of estimates, in the order in which they are computed.
ESTIMATES = (VOLUME, SHARE, STAY, BLOCKS, MONTH)
