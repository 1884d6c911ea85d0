"""Summaries of one week of venue volume: by symbol, and by venue.

Totals, shares and ranks are computed here; figures over several weeks are in ``rolling``.
"""

from __future__ import annotations

import polars as pl

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.exact import per_trade, percent
from otc_assets.domain.schema import AMOUNT, SYMBOL_SUMMARY, VENUE_SHARE


def symbol_summary(venue_volume: pl.DataFrame) -> pl.DataFrame:
    """Summarizes each symbol's week in its tier.

    Args:
        venue_volume: VENUE_VOLUME of any weeks and tiers.

    Returns:
        SYMBOL_SUMMARY, sorted by its key. `venue_count` counts the De Minimis group as one venue;
        `top_venue` is the one with the most shares; of equals, the first by `venue_id`.
    """
    key = ["week_ending", "tier", "symbol"]
    shares = pl.col("share_volume")
    venues = (
        venue_volume.group_by(*key, "venue_id")
        .agg(shares.sum())
        .sort("share_volume", "venue_id", descending=[True, False])
        .group_by(key, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("venue_count"),
            pl.col("venue_id").first().alias("top_venue"),
            shares.first().alias("_top_volume"),
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
        # If some rows have no value, there is no total.
        pl.when(pl.col("notional").is_not_null().all()).then(pl.col("notional").sum()).alias("total_notional"),
    )
    joined = sums.join(venues, on=key).join(issues, on=key)
    return (
        joined.with_columns(
            per_trade(pl.col("total_volume"), pl.col("total_trades")).alias("avg_trade_size"),
            percent(pl.col("_top_volume"), pl.col("total_volume")).alias("top_venue_share_pct"),
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
        have no ties: they are by volume, then `venue_id`.
    """
    key = ["week_ending", "tier", "venue_id"]
    tier = ["week_ending", "tier"]
    volume = pl.col("total_volume")
    venues = (
        venue_volume.group_by(key)
        .agg(
            pl.col("venue_kind").first(),
            pl.col("venue_name").drop_nulls().sort().last(),
            pl.col("share_volume").sum().alias("total_volume"),
            pl.col("trade_count").sum().alias("total_trades"),
            pl.when(pl.col("notional").is_not_null().all()).then(pl.col("notional").sum()).alias("total_notional"),
            pl.col("symbol").n_unique().cast(pl.Int64).alias("symbol_count"),
        )
        .with_columns((pl.col("venue_kind") == VenueKind.ATS).alias("_is_ats"))
        .sort("total_volume", "venue_id", descending=[True, False])
    )
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    return (
        venues.with_columns(
            per_trade(volume, pl.col("total_trades")).alias("avg_trade_size"),
            percent(volume, volume.sum().over(tier)).alias("market_share_pct"),
            place.over(tier).alias("rank"),
            percent(volume, volume.sum().over([*tier, "_is_ats"])).alias("kind_share_pct"),
            place.over([*tier, "_is_ats"]).alias("kind_rank"),
        )
        .select(list(VENUE_SHARE))
        .cast(dict(VENUE_SHARE))  # type: ignore[arg-type]
        .sort(key)
    )
