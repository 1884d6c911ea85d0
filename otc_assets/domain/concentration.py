"""Concentration of a week's volume and value over venues: HHI, top shares, effective number of venues.

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

The same figures of the value traded, in US dollars, are `notional_hhi` and `notional_hhi_lower`. A sum over symbols in
shares is dominated by cheap ones; in dollars it is not. They are null unless every row has a value.

Where nothing was traded, index, level, shares and effective venues are null: a zero would mean perfect competition.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from otc_assets.domain.enums import ConcentrationLevel, VenueScope
from otc_assets.domain.exact import complete_sum, millionths, percent, quotient, wide_quotient
from otc_assets.domain.schema import (
    DE_MINIMIS_VENUE_ID,
    MARKET_CONCENTRATION,
    SYMBOL_CONCENTRATION,
    half_of_venue,
    weeks_of_all_tiers,
)

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
#: The same in US dollars. Their squares are not multiplied by twentieths, because an index of dollars has no level.
EXACT_UP_TO_DOLLARS = 10**13

_IN_GROUP = pl.col("venue_id") == DE_MINIMIS_VENUE_ID


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
    venues = venue_volume.group_by("week_ending", "tier", "venue_kind", "venue_id").agg(
        pl.col("share_volume", "trade_count").sum(), complete_sum("notional")
    )
    together = venues.join(weeks_of_all_tiers(venues), on="week_ending", how="semi").with_columns(
        pl.lit(VenueScope.ALL).alias("tier")
    )
    return _concentration(pl.concat([venues, together]), ["week_ending", "tier"], MARKET_CONCENTRATION)


def _concentration(rows: pl.DataFrame, of: list[str], schema: pl.Schema) -> pl.DataFrame:
    key = [*of, "venue_scope"]
    total, value = pl.col("total_volume"), pl.col("total_notional")
    # One after the other: the sorted columns of all scopes would be the peak of a run's memory.
    figures = pl.concat(_sums(venues, key) for venues in _by_scope(rows, of))
    squares, square, firms = pl.col("_share_volume_squares"), pl.col("_share_volume_square"), pl.col("_firms")
    of_group = pl.col("_share_volume_of_group")
    named = squares - of_group
    # The group's firms with equal volumes: their squares are of_group / firms, rounded down and up to twentieths.
    down = named * _TWENTIETHS + of_group * _TWENTIETHS // firms
    up = named * _TWENTIETHS + (of_group * _TWENTIETHS + firms - 1) // firms
    parts = (named, of_group, firms, square)
    of_value = tuple(pl.col(f"_notional_{name}") for name in ("squares", "of_group", "square"))
    dollars = (of_value[0] - of_value[1], of_value[1], firms, of_value[2])
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
            pl.when(value > 0).then(wide_quotient(of_value[::2], lambda *row: row, shift=4)).alias("notional_hhi"),
            pl.when(value > 0).then(wide_quotient(dollars, _least_share, shift=4)).alias("notional_hhi_lower"),
            percent(pl.col("_notional_top"), value).alias("notional_top_venue_share_pct"),
            percent(pl.col("_notional_top_3"), value).alias("notional_top_3_share_pct"),
        )
        .select(list(schema))
        .cast(dict(schema))  # type: ignore[arg-type]
        .sort(key)
    )


def _sums(venues: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """What the figures of each group of venues are computed from; columns that are no figures begin with _."""
    volume, trades, value = pl.col("share_volume"), pl.col("trade_count"), pl.col("total_notional")
    # Sorted as a whole: within each of many groups it would take three times as long.
    by_value = (
        _largest_first(venues, "notional")
        .group_by(key)
        .agg(
            pl.col("venue_id").first().alias("notional_top_venue"),
            pl.col("notional").first().alias("_notional_top"),
            pl.col("notional").head(3).sum().alias("_notional_top_3"),
        )
    )
    return (
        _largest_first(venues, "share_volume")
        .with_columns(*_squares(venues, key, "share_volume", EXACT_UP_TO))
        .with_columns(*_squares(venues, key, "notional", EXACT_UP_TO_DOLLARS))
        .group_by(key)
        .agg(
            volume.sum().alias("total_volume"),
            trades.sum().alias("total_trades"),
            pl.len().cast(pl.Int64).alias("venue_count"),
            pl.col("venue_id").first().alias("top_venue"),
            volume.first().alias("_top"),
            volume.head(3).sum().alias("_top_3"),
            complete_sum("notional").alias("total_notional"),
            trades.filter(_IN_GROUP).sum().clip(1).cast(pl.Int128).alias("_firms"),
            pl.col("^_.*$").sum(),
        )
        .join(by_value, on=key)
        .with_columns(
            pl.when(value.is_not_null()).then("notional_top_venue"),
            *(
                (pl.col(f"_{measure}_{part}") * pl.col(f"_{measure}_{part}")).alias(f"_{measure}_{square}")
                for measure in ("share_volume", "notional")
                for part, square in (("sum", "square"), ("group", "of_group"))
            ),
        )
    )


def _by_scope(rows: pl.DataFrame, of: list[str]) -> Iterator[pl.DataFrame]:
    """Each venue's volume, trades and value: in its half of the venues, and then in both halves together."""
    volume, trades = pl.col("share_volume"), pl.col("trade_count")
    sums = (volume.sum(), trades.sum(), complete_sum("notional"))
    columns = [*of, "venue_id", "venue_scope", "share_volume", "trade_count", "notional"]
    apart = rows.with_columns(half_of_venue().alias("venue_scope")).group_by(*of, "venue_scope", "venue_id").agg(sums)
    # A venue is in one half, unless an MPID is given for an ATS and, without a CRD number, for another firm.
    one_each = apart.select(pl.struct(*of, "venue_id").n_unique()).item() == apart.height
    together = apart if one_each else apart.group_by(*of, "venue_id").agg(sums)
    yield apart.select(columns)
    yield together.with_columns(pl.lit(VenueScope.ALL).alias("venue_scope")).select(columns)


def _largest_first(venues: pl.DataFrame, measure: str) -> pl.DataFrame:
    return venues.sort(measure, "venue_id", descending=[True, False])


def _squares(venues: pl.DataFrame, key: list[str], measure: str, exact_up_to: int) -> list[pl.Expr]:
    """Columns that sum to those of a group: its measure, the squares of venues, and the De Minimis group's part.

    In millionths, or in whole units if the sum of the group is above ``exact_up_to``.
    """
    amount = millionths(pl.col(measure))
    # Most weeks as a whole are below it: then so is each group.
    if (venues[measure].sum() or 0) > exact_up_to:
        amount = pl.when(pl.col(measure).sum().over(key) > exact_up_to).then(amount // 1_000_000).otherwise(amount)
    return [
        amount.alias(f"_{measure}_sum"),
        (amount * amount).alias(f"_{measure}_squares"),
        pl.when(_IN_GROUP).then(amount).otherwise(0).alias(f"_{measure}_group"),
    ]


def _least_share(named: int, of_group: int, firms: int, square: int) -> tuple[int, int]:
    """The least sum of squares, as a fraction of the total's square: numerator and denominator."""
    return named * firms + of_group, square * firms


def _level(down: pl.Expr, up: pl.Expr) -> pl.Expr:
    """The level of a sum of squares, given in twentieths of it, rounded down and up.

    HHI = 10,000 * squares / square, compared without dividing, so that rounding does not change the level.
    """
    square = pl.col("_share_volume_square")
    return (
        pl.when(down < square * (MODERATE_FROM * _TWENTIETHS // 10_000))
        .then(pl.lit(ConcentrationLevel.COMPETITIVE))
        .when(up <= square * (CONCENTRATED_ABOVE * _TWENTIETHS // 10_000))
        .then(pl.lit(ConcentrationLevel.MODERATE))
        .otherwise(pl.lit(ConcentrationLevel.CONCENTRATED))
    )
