"""Concentration of a week's volume over venues: HHI, top shares, effective number of venues.

The Herfindahl-Hirschman index is the sum of the squared percentage shares: near 0 where many venues have equal
shares, 10,000 where one has all. Levels are those of the Horizontal Merger Guidelines of the U.S. Department of
Justice and the Federal Trade Commission (2010, section 5.3): below 1,500 unconcentrated ('competitive'), to
2,500 moderate, above it highly concentrated. The De Minimis group enters as one participant, which makes the
index of non-ATS firms, and that of all venues, an upper bound: FINRA does not say how many firms are in it.

Where nothing was traded, index, level, shares and effective venues are null: a zero would mean perfect competition.
"""

from __future__ import annotations

import polars as pl

from otc_assets.domain.enums import ConcentrationLevel, VenueScope
from otc_assets.domain.exact import millionths, percent, quotient
from otc_assets.domain.schema import MARKET_CONCENTRATION, SYMBOL_CONCENTRATION, half_of_venue
from otc_assets.domain.weeks import TIERS

MODERATE_FROM = 1_500
CONCENTRATED_ABOVE = 2_500
#: Both limits are whole twentieths of 10,000: comparing in twentieths keeps the squares within 128 bits.
_TWENTIETHS = 20

#: In shares. Above it, the squares of millionths of a share would not fit 128 bits, and whole shares are squared
#: instead: the index is then exact to five places. The whole US market trades a tenth of it in a week.
EXACT_UP_TO = 10**12


def symbol_concentration(venue_volume: pl.DataFrame) -> pl.DataFrame:
    """The concentration of each symbol's volume over ATSs, over non-ATS firms, and over both.

    Args:
        venue_volume: VENUE_VOLUME of any weeks and tiers.

    Returns:
        SYMBOL_CONCENTRATION, sorted by its key; without a row for a `venue_scope` in which a symbol did not trade.
    """
    return _concentration(venue_volume, ["week_ending", "tier", "symbol"], SYMBOL_CONCENTRATION)


def market_concentration(venue_volume: pl.DataFrame) -> pl.DataFrame:
    """The concentration of the market's volume over venues, by tier, and for all tiers of weeks that have all three.

    Args:
        venue_volume: VENUE_VOLUME of any weeks and tiers.

    Returns:
        MARKET_CONCENTRATION, sorted by its key. `tier` is ALL for all tiers together.
    """
    whole = (
        venue_volume.group_by("week_ending")
        .agg(pl.col("tier").n_unique().alias("tiers"))
        .filter(pl.col("tiers") == len(TIERS))
    )
    venues = venue_volume.group_by("week_ending", "tier", "venue_kind", "venue_id").agg(pl.col("share_volume").sum())
    together = venues.join(whole, on="week_ending", how="semi").with_columns(pl.lit(VenueScope.ALL).alias("tier"))
    return _concentration(pl.concat([venues, together]), ["week_ending", "tier"], MARKET_CONCENTRATION)


def _concentration(rows: pl.DataFrame, of: list[str], schema: pl.Schema) -> pl.DataFrame:
    key = [*of, "venue_scope"]
    columns = [*of, "venue_id", "share_volume", "venue_scope"]
    apart = rows.with_columns(half_of_venue().alias("venue_scope"))
    both = rows.with_columns(pl.lit(VenueScope.ALL).alias("venue_scope"))
    volume, total = pl.col("share_volume"), pl.col("total_volume")
    exact = millionths(volume)
    in_shares = exact // 1_000_000
    huge = total > EXACT_UP_TO
    venues = (
        pl.concat([apart.select(columns), both.select(columns)])
        .group_by(*key, "venue_id")
        .agg(volume.sum())
        .sort("share_volume", "venue_id", descending=[True, False])
    )
    figures = (
        venues.group_by(key, maintain_order=True)
        .agg(
            volume.sum().alias("total_volume"),
            pl.len().cast(pl.Int64).alias("venue_count"),
            pl.col("venue_id").first().alias("top_venue"),
            volume.first().alias("_top"),
            volume.head(3).sum().alias("_top_3"),
            (exact * exact).sum().alias("_squares"),
            (in_shares * in_shares).sum().alias("_squares_in_shares"),
            in_shares.sum().alias("_shares"),
        )
        .with_columns(
            pl.when(huge).then("_squares_in_shares").otherwise("_squares").alias("_squares"),
            pl.when(huge).then("_shares").otherwise(millionths(total)).alias("_sum"),
        )
        .with_columns((pl.col("_sum") * pl.col("_sum")).alias("_square"))
    )
    squares, square = pl.col("_squares"), pl.col("_square")
    # HHI = 10,000 * squares / square, compared without dividing, so that rounding does not change the level.
    level = (
        pl.when(squares * _TWENTIETHS < square * (MODERATE_FROM * _TWENTIETHS // 10_000))
        .then(pl.lit(ConcentrationLevel.COMPETITIVE))
        .when(squares * _TWENTIETHS <= square * (CONCENTRATED_ABOVE * _TWENTIETHS // 10_000))
        .then(pl.lit(ConcentrationLevel.MODERATE))
        .otherwise(pl.lit(ConcentrationLevel.CONCENTRATED))
    )
    return (
        figures.with_columns(
            quotient(squares, square, shift=4).alias("hhi"),
            pl.when(total > 0).then(level).alias("concentration_level"),
            percent(pl.col("_top"), total).alias("top_venue_share_pct"),
            percent(pl.col("_top_3"), total).alias("top_3_share_pct"),
            quotient(square, squares).alias("effective_venues"),
        )
        .select(list(schema))
        .cast(dict(schema))  # type: ignore[arg-type]
        .sort(key)
    )
