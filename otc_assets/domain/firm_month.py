"""Each firm's month outside ATSs, and the month against the weeks of the weekly publications.

FINRA's monthly data is in ``datasets``. The months of blocks are in ``block_share``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import polars as pl

from otc_assets.domain.enums import Market, MonthRow, VenueKind
from otc_assets.domain.exact import complete_sum, per_trade, percent
from otc_assets.domain.month_weeks import HIGH, against_weeks, known_bounds, weeks_volume
from otc_assets.domain.notes import Note
from otc_assets.domain.periods import weeks_of_month
from otc_assets.domain.schema import AMOUNT, DE_MINIMIS_NAME, DE_MINIMIS_VENUE_ID, RATIO
from otc_assets.domain.weeks import OTCE, T1, T2, Tier

#: The weekly tiers of each market of the monthly data.
TIERS_OF: Mapping[Market, tuple[Tier, ...]] = {Market.NMS: (T1, T2), Market.OTCE: (OTCE,)}

FIRM_MONTH = pl.Schema(
    {
        "week_ending": pl.Date(),
        "month_start": pl.Date(),
        "market": pl.String(),
        "venue_id": pl.String(),
        "firm_name": pl.String(),
        "total_volume": AMOUNT,
        "total_trades": pl.Int64(),
        "total_notional": AMOUNT,
        "symbol_count": pl.Int64(),
        "avg_trade_size": AMOUNT,
        "market_share_pct": RATIO,
        "rank": pl.Int64(),
        "whole_weeks_volume": AMOUNT,
        "touching_weeks_volume": AMOUNT,
        "unnamed_volume": AMOUNT,
        "against_weeks": pl.String(),
    }
)
_WEEKS = "null for the De Minimis group, and until all these weeks are published and none is graded F"
FIRM_MONTH_NOTES = {
    "month_start": Note("the first day of the month, which ends in this week"),
    "market": Note("NMS (tiers 1 and 2 together) or OTCE (OTC equities)"),
    "venue_id": Note("CRD number of the firm, or DE_MINIMIS"),
    "firm_name": Note("the firm's name in the month"),
    "total_volume": Note("the firm's shares of the month outside ATSs", "shares"),
    "total_trades": Note("its trades", "trades"),
    "total_notional": Note("their value; null unless every row of the firm has one", "dollars"),
    "symbol_count": Note("symbols that the firm has traded in the month"),
    "avg_trade_size": Note("total_volume / total_trades; null without a trade", "shares per trade"),
    "market_share_pct": Note(
        "total_volume in percent of that of all firms of the market; null where that is 0", "percent"
    ),
    "rank": Note("rank by total_volume among the firms of the market, the De Minimis group included; 1 is largest"),
    "whole_weeks_volume": Note(
        f"the firm's volume in the weeks inside the month, by the weekly rows that name it; {_WEEKS}", "shares"
    ),
    "touching_weeks_volume": Note(f"the same in all weeks with a day in the month; {_WEEKS}", "shares"),
    "unnamed_volume": Note(
        "total_volume minus touching_weeks_volume, or 0 where that is negative: shares that are in no weekly row of "
        f"the firm, because they are in the De Minimis group or were revised; {_WEEKS}",
        "shares",
    ),
    "against_weeks": Note(
        "'within' if total_volume is between whole_weeks_volume and touching_weeks_volume; 'above' if it is larger: "
        "the firm has unnamed_volume; 'below' if it is smaller: FINRA's monthly and weekly figures differ; "
        f"{_WEEKS}"
    ),
}


def firm_month(week_ending: dt.date, monthly: pl.DataFrame, weekly: pl.DataFrame) -> pl.DataFrame:
    """Each firm's volume, share and rank of the month that ends in a week, held against the weekly publications.

    Args:
        week_ending: the week.
        monthly: rows of ``otc_month`` of the week.
        weekly: rows of ``venue_share`` of ``weeks_of_month``.

    Returns:
        FIRM_MONTH, sorted by its key. Ranks have no ties: they are by volume, then by ``venue_id``.
    """
    rows = monthly.filter(pl.col("summary_type") == MonthRow.SYMBOL_FIRM.value).with_columns(
        _venue_id().alias("venue_id")
    )
    weeks = weeks_of_month(monthly["month_start"][0])
    volume, high, market = pl.col("total_volume"), pl.col(HIGH), "market"
    markets = {tier.name: each.value for each, tiers in TIERS_OF.items() for tier in tiers}
    named = weekly.filter(pl.col("venue_kind") == VenueKind.NON_ATS.value).with_columns(
        pl.col("tier").replace_strict(markets, return_dtype=pl.String).alias(market)
    )
    is_named = pl.col("venue_id") != DE_MINIMIS_VENUE_ID
    firms = rows.group_by(market, "venue_id").agg(
        pl.col("month_start").first(),
        pl.col("firm_name").max(),
        volume.sum(),
        pl.col("total_trades").sum(),
        complete_sum("total_notional"),
        pl.col("symbol").n_unique().cast(pl.Int64).alias("symbol_count"),
    )
    return (
        firms.sort("total_volume", "venue_id", descending=[True, False])
        .with_columns(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(market).alias("rank"),
            percent(volume, volume.sum().over(market)).alias("market_share_pct"),
            per_trade(volume, pl.col("total_trades")).alias("avg_trade_size"),
        )
        .join(weeks_volume(named, weeks, [market, "venue_id"]), on=[market, "venue_id"], how="left")
        .with_columns(known_bounds(is_named & pl.col(market).is_in(_complete(weeks, weekly))))
        .with_columns(
            pl.lit(week_ending).alias("week_ending"),
            pl.when(volume > high).then(volume - high).when(high.is_not_null()).then(0).alias("unnamed_volume"),
            against_weeks(),
        )
        .select(list(FIRM_MONTH))
        .cast(dict(FIRM_MONTH))  # type: ignore[arg-type]
        .sort(market, "venue_id")
    )  # fmt: skip


def _venue_id() -> pl.Expr:
    """The firm's number; the De Minimis group has the number 0 or none."""
    crd, name = pl.col("firm_crd"), pl.col("firm_name")
    is_group = crd.is_in(["", "0"]) & (name.is_null() | (name.str.to_lowercase() == DE_MINIMIS_NAME.lower()))
    return (
        pl.when(is_group)
        .then(pl.lit(DE_MINIMIS_VENUE_ID))
        .when(crd.is_in(["", "0"]))
        .then(pl.lit("name:") + name)
        .otherwise(crd)
    )


def _complete(weeks: list[dt.date], weekly: pl.DataFrame) -> list[str]:
    """The markets of which every tier of every week is there."""
    have = set(weekly.select("week_ending", "tier").unique().iter_rows())
    return [
        market.value
        for market, tiers in TIERS_OF.items()
        if all((week, tier.name) in have for week in weeks for tier in tiers)
    ]
