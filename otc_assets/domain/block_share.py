"""Each venue's blocks of a month, and the month against the weeks of the weekly publications.

FINRA's data sets of blocks are in ``datasets``; what is of block size by its average trade is in ``summaries``.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.exact import per_trade, percent
from otc_assets.domain.month_weeks import against_weeks, known_bounds, weeks_volume
from otc_assets.domain.notes import Note
from otc_assets.domain.periods import weeks_of_month
from otc_assets.domain.schema import AMOUNT, RATIO
from otc_assets.domain.weeks import T1, T2

BLOCK_SHARE = pl.Schema(
    {
        "week_ending": pl.Date(),
        "month_start": pl.Date(),
        "venue_kind": pl.String(),
        "venue": pl.String(),
        "category": pl.String(),
        "block_trades": pl.Int64(),
        "block_volume": AMOUNT,
        "total_volume": AMOUNT,
        "block_share_pct": RATIO,
        "avg_block_size": AMOUNT,
        "market_block_share_pct": RATIO,
        "whole_weeks_volume": AMOUNT,
        "touching_weeks_volume": AMOUNT,
        "against_weeks": pl.String(),
    }
)
_WEEKS = "null for firms (FINRA gives only their names), and until all these weeks are published and none is graded F"
BLOCK_SHARE_NOTES = {
    "month_start": Note("the first day of the month, which ends in this week"),
    "venue_kind": Note("ATS, or NON_ATS (a firm's trades outside ATSs)"),
    "venue": Note("MPID of the ATS, or the firm's name"),
    "category": Note("FINRA's category of blocks, for example 10K; categories overlap, so never add them"),
    "block_trades": Note("trades of the month in the category", "trades"),
    "block_volume": Note("shares of these trades", "shares"),
    "total_volume": Note("all shares of the venue in the month, NMS stocks", "shares"),
    "block_share_pct": Note("block_volume in percent of total_volume; null where that is 0", "percent"),
    "avg_block_size": Note("block_volume / block_trades; null where there are no blocks", "shares per trade"),
    "market_block_share_pct": Note(
        "block_volume in percent of the block volume of all ATSs and firms in the category; null where that is 0",
        "percent",
    ),
    "whole_weeks_volume": Note(f"the ATS's volume of NMS stocks in the weeks inside the month; {_WEEKS}", "shares"),
    "touching_weeks_volume": Note(f"the same in all weeks with a day in the month; {_WEEKS}", "shares"),
    "against_weeks": Note(
        "'within' if total_volume is between whole_weeks_volume and touching_weeks_volume; 'below' or 'above' if it is "
        f"smaller or larger: FINRA's monthly and weekly figures differ; {_WEEKS}"
    ),
}


def block_share(
    week_ending: dt.date, ats_blocks: pl.DataFrame, otc_blocks: pl.DataFrame, weekly: pl.DataFrame
) -> pl.DataFrame:
    """How much of each venue's trading of the month that ends in a week is in blocks.

    Args:
        week_ending: the week.
        ats_blocks: rows of ``ats_block`` of the week.
        otc_blocks: rows of ``otc_block`` of the week.
        weekly: rows of ``venue_share`` of ``weeks_of_month``.

    Returns:
        BLOCK_SHARE, sorted by its key.
    """
    weeks = weeks_of_month(ats_blocks["month_start"][0])
    nms = weekly.filter(pl.col("tier").is_in([T1.name, T2.name]))
    is_complete = nms.select("week_ending", "tier").unique().height == 2 * len(weeks)
    fields = ["month_start", "category", "total_volume", "block_trades", "block_volume"]
    venues = pl.concat(
        frame.select(pl.lit(kind).alias("venue_kind"), pl.col(name).alias("venue"), *fields)
        for frame, kind, name in (
            (ats_blocks, VenueKind.ATS.value, "mpid"),
            (otc_blocks, VenueKind.NON_ATS.value, "firm_name"),
        )
    )
    weekly_volume = weeks_volume(nms, weeks, ["venue_kind", "venue_id"]).rename({"venue_id": "venue"})
    return (
        venues.join(weekly_volume, on=["venue_kind", "venue"], how="left")
        .with_columns(known_bounds(is_complete & (pl.col("venue_kind") == VenueKind.ATS.value)))
        .with_columns(
            pl.lit(week_ending).alias("week_ending"),
            percent(pl.col("block_volume"), pl.col("total_volume")).alias("block_share_pct"),
            per_trade(pl.col("block_volume"), pl.col("block_trades")).alias("avg_block_size"),
            percent(pl.col("block_volume"), pl.col("block_volume").sum().over("category"))
            .alias("market_block_share_pct"),
            against_weeks(),
        )
        .select(list(BLOCK_SHARE))
        .cast(dict(BLOCK_SHARE))  # type: ignore[arg-type]
        .sort("venue_kind", "venue", "category")
    )  # fmt: skip
