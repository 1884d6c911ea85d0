"""Concentration of a week's volume over venues: HHI, top shares, effective number of venues.

The Herfindahl-Hirschman index is the sum of the squared percentage shares: near 0 where many venues have equal
shares, 10,000 where one has all. Levels are those of the Horizontal Merger Guidelines of the U.S. Department of
Justice and the Federal Trade Commission (2010, section 5.3): below 1,500 unconcentrated ('competitive'), to
2,500 moderate, above it highly concentrated.

FINRA does not say how many firms are in the De Minimis group, so the index is an interval. At its upper end, `hhi`,
the group is one firm. At its lower end, `hhi_lower`, it is as many firms as it made trades, with equal volumes: each
firm made at least one trade, and equal parts have the least sum of squares. FINRA's threshold (fewer than 200 non-ATS
transactions per day on average) tightens neither end. It limits a firm's trades and not its shares, so one firm can
have almost all of them; and it sets a least number of firms, not a largest. Without the group, both ends are equal.

Of one symbol, both ends are guaranteed. Over symbols, only the lower one is: a firm that is named for one symbol can be
in the group of another, and has a larger share of the market than it is named with.

Where nothing was traded, index, level, shares and effective venues are null: a zero would mean perfect competition.
"""

from __future__ import annotations

import polars as pl

from otc_assets.domain.enums import ConcentrationLevel, VenueScope
from otc_assets.domain.exact import millionths, percent, quotient, wide_quotient
from otc_assets.domain.schema import (
    DE_MINIMIS_VENUE_ID,
    MARKET_CONCENTRATION,
    SYMBOL_CONCENTRATION,
    half_of_venue,
)
from otc_assets.domain.weeks import TIERS

MODERATE_FROM = 1_500
CONCENTRATED_ABOVE = 2_500
#: Both limits are whole twentieths of 10,000: comparing in twentieths keeps the squares within 128 bits.
_TWENTIETHS = 20

#: A ranking of symbols by HHI leaves out those with fewer shares or trades in the week: a symbol that traded a few
#: hundred shares at one venue has an HHI of 10,000, and would be at the top of every list.
RANKED_FROM_SHARES, RANKED_FROM_TRADES = 100_000, 500

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
    venues = venue_volume.group_by("week_ending", "tier", "venue_kind", "venue_id").agg(
        pl.col("share_volume", "trade_count").sum()
    )
    together = venues.join(whole, on="week_ending", how="semi").with_columns(pl.lit(VenueScope.ALL).alias("tier"))
    return _concentration(pl.concat([venues, together]), ["week_ending", "tier"], MARKET_CONCENTRATION)


def _concentration(rows: pl.DataFrame, of: list[str], schema: pl.Schema) -> pl.DataFrame:
    key = [*of, "venue_scope"]
    columns = [*of, "venue_id", "share_volume", "trade_count", "venue_scope"]
    apart = rows.with_columns(half_of_venue().alias("venue_scope"))
    both = rows.with_columns(pl.lit(VenueScope.ALL).alias("venue_scope"))
    volume, total, trades = pl.col("share_volume"), pl.col("total_volume"), pl.col("trade_count")
    in_group = pl.col("venue_id") == DE_MINIMIS_VENUE_ID
    exact = millionths(volume)
    in_shares = exact // 1_000_000
    huge = total > EXACT_UP_TO
    venues = (
        pl.concat([apart.select(columns), both.select(columns)])
        .group_by(*key, "venue_id")
        .agg(volume.sum(), trades.sum())
        .sort("share_volume", "venue_id", descending=[True, False])
    )
    figures = (
        venues.group_by(key, maintain_order=True)
        .agg(
            volume.sum().alias("total_volume"),
            trades.sum().alias("total_trades"),
            pl.len().cast(pl.Int64).alias("venue_count"),
            pl.col("venue_id").first().alias("top_venue"),
            volume.first().alias("_top"),
            volume.head(3).sum().alias("_top_3"),
            (exact * exact).sum().alias("_squares"),
            (in_shares * in_shares).sum().alias("_squares_in_shares"),
            in_shares.sum().alias("_shares"),
            exact.filter(in_group).sum().alias("_group"),
            in_shares.filter(in_group).sum().alias("_group_in_shares"),
            trades.filter(in_group).sum().clip(1).cast(pl.Int128).alias("_firms"),
        )
        .with_columns(
            pl.when(huge).then("_squares_in_shares").otherwise("_squares").alias("_squares"),
            pl.when(huge).then("_group_in_shares").otherwise("_group").alias("_group"),
            pl.when(huge).then("_shares").otherwise(millionths(total)).alias("_sum"),
        )
        .with_columns((pl.col("_sum") * pl.col("_sum")).alias("_square"))
    )
    squares, square, firms = pl.col("_squares"), pl.col("_square"), pl.col("_firms")
    of_group = pl.col("_group") * pl.col("_group")
    named = squares - of_group
    # The group's firms with equal volumes: their squares are of_group / firms, rounded down and up to twentieths.
    down = named * _TWENTIETHS + of_group * _TWENTIETHS // firms
    up = named * _TWENTIETHS + (of_group * _TWENTIETHS + firms - 1) // firms
    parts = (named, of_group, firms, square)
    return (
        figures.with_columns(
            quotient(squares, square, shift=4).alias("hhi"),
            wide_quotient(parts, _least_share, shift=4).alias("hhi_lower"),
            pl.when(total > 0).then(_level(squares * _TWENTIETHS, squares * _TWENTIETHS)).alias("concentration_level"),
            pl.when(total > 0).then(_level(down, up)).alias("concentration_level_lower"),
            percent(pl.col("_top"), total).alias("top_venue_share_pct"),
            percent(pl.col("_top_3"), total).alias("top_3_share_pct"),
            quotient(square, squares).alias("effective_venues"),
            wide_quotient(parts, lambda *row: _least_share(*row)[::-1]).alias("effective_venues_upper"),
        )
        .select(list(schema))
        .cast(dict(schema))  # type: ignore[arg-type]
        .sort(key)
    )


def _least_share(named: int, of_group: int, firms: int, square: int) -> tuple[int, int]:
    """The least sum of squares, as a fraction of the total's square: numerator and denominator."""
    return named * firms + of_group, square * firms


def _level(down: pl.Expr, up: pl.Expr) -> pl.Expr:
    """The level of a sum of squares, given in twentieths of it, rounded down and up.

    HHI = 10,000 * squares / square, compared without dividing, so that rounding does not change the level.
    """
    square = pl.col("_square")
    return (
        pl.when(down < square * (MODERATE_FROM * _TWENTIETHS // 10_000))
        .then(pl.lit(ConcentrationLevel.COMPETITIVE))
        .when(up <= square * (CONCENTRATED_ABOVE * _TWENTIETHS // 10_000))
        .then(pl.lit(ConcentrationLevel.MODERATE))
        .otherwise(pl.lit(ConcentrationLevel.CONCENTRATED))
    )
