"""Summaries of one week of venue volume: by symbol, and by venue.

Totals, shares and ranks are computed here, of shares and of dollars; figures over several weeks are in ``rolling``.

Block-like volume is the volume of rows (a symbol at a venue) whose average trade is of block size. SEC Rule 600(b) of
Regulation NMS (17 CFR 242.600) defines it of an order: at least 10,000 shares, or stock with a market value of at least
200,000 dollars. An average is no count of blocks: one large trade among many small ones is not found, and a row that is
found has small trades too. In dollars a row can be tested only if FINRA gives its value; the volume of those that can't
be tested, and are not of block size in shares, is `block_undecided_volume`.
"""

from __future__ import annotations

import polars as pl

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.exact import complete_sum, millionths, per_trade, percent, quotient
from otc_assets.domain.schema import AMOUNT, SYMBOL_SUMMARY, VENUE_SHARE

#: The size of a block, as SEC Rule 600(b) has it: at least so many shares, or at least so many dollars.
BLOCK_SHARES, BLOCK_DOLLARS = 10_000, 200_000


def symbol_summary(venue_volume: pl.DataFrame) -> pl.DataFrame:
    """Summarizes each symbol's week in its tier.

    Args:
        venue_volume: VENUE_VOLUME of any weeks and tiers.

    Returns:
        SYMBOL_SUMMARY, sorted by its key. `venue_count` counts the De Minimis group as one venue;
        `top_venue` is the one with the most shares; of equals, the first by `venue_id`.
    """
    key = ["week_ending", "tier", "symbol"]
    shares, notional = pl.col("share_volume"), pl.col("notional")
    has_values = notional.is_not_null().all()
    venues = (
        venue_volume.group_by(*key, "venue_id")
        .agg(shares.sum(), complete_sum("notional"))
        .sort("share_volume", "venue_id", descending=[True, False])
        .group_by(key, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("venue_count"),
            pl.col("venue_id").first().alias("top_venue"),
            shares.first().alias("_top_volume"),
            pl.when(has_values)
            .then(pl.col("venue_id").sort_by("notional", "venue_id", descending=[True, False]).first())
            .alias("notional_top_venue"),
            pl.when(has_values).then(notional.max()).alias("_top_notional"),
        )
    )
    issues = (
        venue_volume.group_by(*key, "issue_name")
        .agg(shares.sum())
        .sort("share_volume", "issue_name", descending=[True, False])
        .group_by(key, maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("issue_count"), pl.col("issue_name").first())
    )
    is_ats, is_small = pl.col("venue_kind") == VenueKind.ATS, pl.col("venue_kind") == VenueKind.DE_MINIMIS
    nothing = pl.lit(0, AMOUNT)
    sums = venue_volume.group_by(key).agg(
        shares.sum().alias("total_volume"),
        pl.when(is_ats).then(shares).otherwise(nothing).sum().alias("ats_volume"),
        pl.when(is_ats).then(nothing).otherwise(shares).sum().alias("non_ats_volume"),
        pl.when(is_small).then(shares).otherwise(nothing).sum().alias("of_which_de_minimis_volume"),
        pl.col("trade_count").sum().alias("total_trades"),
        complete_sum("notional").alias("total_notional"),
        *_block_like(),
    )
    value = pl.col("total_notional")
    joined = sums.join(venues, on=key).join(issues, on=key)
    return (
        joined.with_columns(
            per_trade(pl.col("total_volume"), pl.col("total_trades")).alias("avg_trade_size"),
            percent(pl.col("_top_volume"), pl.col("total_volume")).alias("top_venue_share_pct"),
            quotient(millionths(value), millionths(pl.col("total_volume"))).alias("implied_price"),
            percent(pl.col("_top_notional"), value).alias("notional_top_venue_share_pct"),
            percent(pl.col("block_like_volume"), pl.col("total_volume")).alias("block_like_share_pct"),
        )
        .select(list(SYMBOL_SUMMARY))
        .cast(dict(SYMBOL_SUMMARY))  # type: ignore[arg-type]
        .sort(key)
    )


def venue_share(venue_volume: pl.DataFrame) -> pl.DataFrame:
    """Summarizes each venue's week in a tier: its share of the tier's volume and its rank, among all and in its kind.

    Args:
        venue_volume: VENUE_VOLUME of any weeks and tiers.

    Returns:
        VENUE_SHARE, sorted by its key. The De Minimis group is one venue, of the non-ATS kind. Ranks
        have no ties: they are by volume or value, then `venue_id`. Shares and ranks by value are null unless every row
        of the tier has a value.
    """
    key = ["week_ending", "tier", "venue_id"]
    tier = ["week_ending", "tier"]
    volume, value = pl.col("total_volume"), pl.col("total_notional")
    venues = (
        venue_volume.group_by(key)
        .agg(
            pl.col("venue_kind").first(),
            pl.col("venue_name").drop_nulls().sort().last(),
            pl.col("share_volume").sum().alias("total_volume"),
            pl.col("trade_count").sum().alias("total_trades"),
            pl.col("symbol").n_unique().cast(pl.Int64).alias("symbol_count"),
            complete_sum("notional").alias("total_notional"),
            *_block_like(),
        )
        .with_columns((pl.col("venue_kind") == VenueKind.ATS).alias("_is_ats"))
        .sort("total_volume", "venue_id", descending=[True, False])
    )
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    of_kind = [*tier, "_is_ats"]
    has_values = value.is_not_null().all().over(tier)
    by_shares = venues.with_columns(
        per_trade(volume, pl.col("total_trades")).alias("avg_trade_size"),
        percent(volume, volume.sum().over(tier)).alias("market_share_pct"),
        place.over(tier).alias("rank"),
        percent(volume, volume.sum().over(of_kind)).alias("kind_share_pct"),
        place.over(of_kind).alias("kind_rank"),
        percent(pl.col("block_like_volume"), volume).alias("block_like_share_pct"),
    ).sort("total_notional", "venue_id", descending=[True, False])
    return (
        by_shares.with_columns(
            pl.when(has_values).then(figure).alias(name)
            for name, figure in {
                "notional_share_pct": percent(value, value.sum().over(tier)),
                "notional_rank": place.over(tier),
                "kind_notional_share_pct": percent(value, value.sum().over(of_kind)),
                "kind_notional_rank": place.over(of_kind),
            }.items()
        )
        .select(list(VENUE_SHARE))
        .cast(dict(VENUE_SHARE))  # type: ignore[arg-type]
        .sort(key)
    )


def _block_like() -> list[pl.Expr]:
    """The volume of a group's rows whose average trade is of block size, and of those of which it is not known."""
    shares, trades, notional = pl.col("share_volume"), pl.col("trade_count").cast(pl.Int128), pl.col("notional")
    traded = trades > 0
    in_shares = millionths(shares) >= trades * BLOCK_SHARES * 1_000_000
    in_dollars = (millionths(notional) >= trades * BLOCK_DOLLARS * 1_000_000).fill_null(False)
    return [
        shares.filter(traded & (in_shares | in_dollars)).sum().alias("block_like_volume"),
        shares.filter(traded & ~in_shares & notional.is_null()).sum().alias("block_undecided_volume"),
    ]
