"""HHI and top shares: by hand, by Python's Fraction on drawn rows, and by their bounds."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from weekly_rows import WEEK, sql, volume, volumes

from otc_assets.domain.concentration import market_concentration, symbol_concentration
from otc_assets.domain.schema import (
    DE_MINIMIS_VENUE_ID,
    MARKET_CONCENTRATION,
    SYMBOL_CONCENTRATION,
    VENUE_VOLUME,
)
from otc_assets.domain.weeks import TIERS


def of_shares(*shares: str) -> dict[str, Any]:
    """The figures of a symbol that trades these shares, each at an ATS of its own."""
    rows = [("A", f"ATS{chr(65 + n)}", share, 1) for n, share in enumerate(shares)]
    made = symbol_concentration(volume(rows)).filter(pl.col("venue_scope") == "ATS")
    (row,) = made.to_dicts()
    return row


def test_the_index_is_the_sum_of_the_squared_percentage_shares() -> None:
    """The Guidelines' own example: shares of 30, 30, 20 and 20 percent make 900 + 900 + 400 + 400 = 2,600."""
    assert of_shares("30", "30", "20", "20") == {
        "week_ending": WEEK,
        "tier": "NMS Tier 1",
        "symbol": "A",
        "venue_scope": "ATS",
        "total_volume": Decimal(100),
        "venue_count": 4,
        "hhi": Decimal(2600),
        "concentration_level": "concentrated",
        "top_venue": "ATSA",
        "top_venue_share_pct": Decimal(30),
        "top_3_share_pct": Decimal(80),
        "effective_venues": Decimal("3.846154"),  # 10,000 / 2,600
    }


def test_one_venue_alone_is_ten_thousand() -> None:
    """The index's upper end, and the database's constraint."""
    row = of_shares("0.000001")
    assert (row["hhi"], row["effective_venues"], row["top_3_share_pct"]) == (Decimal(10000), Decimal(1), Decimal(100))


@pytest.mark.parametrize(
    ("shares", "hhi", "level"),
    [
        (["1"] * 4, "2500", "moderate"),  # four equal venues: 4 * 25^2
        # Unequal by a millionth of a share: above 2,500 by less than six places show.
        (["1000000", "1000000", "1000000.000001", "999999.999999"], "2500", "concentrated"),
        (["30", "20", "10", "10", "10", "10", "10"], "1800", "moderate"),  # 900 + 400 + 5 * 100
        (["25", "25", "10", "5", "5", "5", "5", "5", "5", "5", "5"], "1550", "moderate"),  # 1,250 + 100 + 8 * 25
        (["30", "20", "10", "8", "8", "8", "8", "4", "4"], "1688", "moderate"),  # 900 + 400 + 100 + 256 + 32
        (["30", "20", "10", *["2"] * 20], "1480", "competitive"),  # 900 + 400 + 100 + 80
        (["30", "20", "10", *["2.5"] * 16], "1500", "moderate"),  # 900 + 400 + 100 + 16 * 6.25
        (["1"] * 7, "1428.571429", "competitive"),  # 10,000 / 7
        (["1"] * 6, "1666.666667", "moderate"),  # 10,000 / 6
    ],
)
def test_levels_are_those_of_the_2010_guidelines_on_the_exact_index(shares: list[str], hhi: str, level: str) -> None:
    """1,500 and 2,500 themselves are moderate; what is rounded to 2,500 may lie above it."""
    row = of_shares(*shares)
    assert (row["hhi"], row["concentration_level"]) == (Decimal(hhi), level)


def test_an_index_just_below_1500_that_rounds_to_it_is_competitive() -> None:
    """By hand: shares of 30, 20, 10 % and 16 of 2.5 % make 1,500 exactly. Of 10^8 shares, one millionth goes
    from the largest to a small venue: the index falls by 2 * (30 - 2.5) * 10^-12, which six places don't show.
    """
    small = ["2500000"] * 15
    row = of_shares("29999999.999999", "20000000", "10000000", "2500000.000001", *small)
    assert (row["hhi"], row["concentration_level"]) == (Decimal(1500), "competitive")


def test_ats_firms_and_both_are_measured_apart() -> None:
    """By hand: ATSs 60:20 of 80, firms 15:5 of 20, all 60:20:15:5. The De Minimis group is one firm."""
    rows = volume(
        [("A", "UBSA", "60", 1), ("A", "INCR", "20", 1), ("A", "7897", "15", 1), ("A", DE_MINIMIS_VENUE_ID, "5", 1)]
    )
    made = symbol_concentration(rows).select("venue_scope", "venue_count", "hhi", "top_venue", "top_venue_share_pct")
    assert made.rows() == [
        ("ALL", 4, Decimal(4250), "UBSA", Decimal(60)),  # 3,600 + 400 + 225 + 25
        ("ATS", 2, Decimal(6250), "UBSA", Decimal(75)),  # 75^2 + 25^2
        ("NON_ATS", 2, Decimal(6250), "7897", Decimal(75)),
    ]


def test_where_nothing_was_traded_the_figures_are_null() -> None:
    """Zero would read as perfect competition, NaN breaks every average over it."""
    row = of_shares("0", "0")
    assert [row[c] for c in ("hhi", "concentration_level", "top_venue_share_pct", "top_3_share_pct")] == [None] * 4
    assert (row["effective_venues"], row["venue_count"], row["total_volume"]) == (None, 2, Decimal(0))


def test_a_market_is_measured_over_venues_not_over_symbols() -> None:
    """By hand: UBSA has 90 of 100 shares over two symbols: 8,100 + 100. By symbols it would be something else."""
    rows = volume([("A", "UBSA", "40", 1), ("B", "UBSA", "50", 1), ("A", "INCR", "10", 1)])
    made = market_concentration(rows).select("tier", "venue_scope", "hhi", "venue_count")
    assert made.rows() == [("NMS Tier 1", "ALL", Decimal(8200), 2), ("NMS Tier 1", "ATS", Decimal(8200), 2)]


def test_all_tiers_together_only_once_all_three_are_there() -> None:
    """An index over two tiers of three would not compare with that of other weeks. By hand: UBSA 30, INCR 10
    of 40 shares: 75^2 + 25^2 = 6,250.
    """
    tiers = [volume([("A", "UBSA", "10", 1)], tier=tier.name) for tier in TIERS]
    tiers[2] = pl.concat([tiers[2], volume([("A", "INCR", "10", 1)], tier=TIERS[2].name)])
    two, three = market_concentration(pl.concat(tiers[:2])), market_concentration(pl.concat(tiers))
    assert "ALL" not in two["tier"].to_list()
    whole = three.filter((pl.col("tier") == "ALL") & (pl.col("venue_scope") == "ALL"))
    assert whole.select("hhi", "total_volume").rows() == [(Decimal(6250), Decimal(40))]


def test_more_shares_than_the_market_has_do_not_overflow() -> None:
    """Squares of millionths of a share need more than 128 bits from 10^13 shares on; wrapped around, they would
    give any index at all.
    """
    row = of_shares("9000000000000", "1000000000000.5")
    assert abs(row["hhi"] - Decimal(8200)) < Decimal("0.00001")
    assert row["concentration_level"] == "concentrated"
    assert of_shares(*["3000000000000"] * 4)["concentration_level"] == "moderate"


def test_frames_have_the_columns_of_their_tables_also_without_rows() -> None:
    """Guards the loads: columns are copied by position."""
    for rows in (volume([("A", "UBSA", "1", 1)]), VENUE_VOLUME.to_frame()):
        assert symbol_concentration(rows).schema == SYMBOL_CONCENTRATION
        assert market_concentration(rows).schema == MARKET_CONCENTRATION


def half_up(value: Fraction) -> Fraction:
    """Rounded to millionths, halves up; all figures here are positive."""
    scaled = value * 1_000_000
    return Fraction((2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator), 1_000_000)


@settings(max_examples=40, deadline=None)
@given(rows=volumes())
def test_symbols_figures_are_those_of_exact_fractions(rows: pl.DataFrame) -> None:
    """DuckDB groups, Python's fractions do the arithmetic: no float, no rounding but the last."""
    grouped = sql(
        """
        SELECT tier, symbol, scope, list(shares ORDER BY shares DESC) FROM (
            SELECT tier, symbol, 'ALL' AS scope, venue_id, sum(share_volume) AS shares FROM v GROUP BY ALL
            UNION ALL
            SELECT tier, symbol, CASE WHEN venue_kind = 'ATS' THEN 'ATS' ELSE 'NON_ATS' END, venue_id,
                sum(share_volume) FROM v GROUP BY ALL
        ) GROUP BY ALL ORDER BY tier, symbol, scope
        """,
        v=rows,
    )
    expected = []
    for tier, symbol, scope, shares in grouped:
        total = sum(map(Fraction, shares))
        if not total:
            expected.append((tier, symbol, scope, Fraction(0), len(shares), None, None, None, None, None))
            continue
        percents = [100 * Fraction(share) / total for share in shares]
        hhi = sum(p * p for p in percents)
        level = "competitive" if hhi < 1500 else "moderate" if hhi <= 2500 else "concentrated"
        figures = (half_up(hhi), level, half_up(percents[0]), half_up(sum(percents[:3])), half_up(10_000 / hhi))
        expected.append((tier, symbol, scope, total, len(shares), *figures))
    made = symbol_concentration(rows).drop("week_ending", "top_venue")
    assert [tuple(Fraction(v) if isinstance(v, Decimal) else v for v in row) for row in made.rows()] == expected


@settings(max_examples=40, deadline=None)
@given(rows=volumes())
def test_the_index_and_the_effective_venues_keep_their_bounds(rows: pl.DataFrame) -> None:
    """10,000 / n <= HHI <= 10,000, and so 1 <= effective venues <= n: the database refuses anything else."""
    made = pl.concat([symbol_concentration(rows).drop("symbol"), market_concentration(rows)])
    for row in made.filter(pl.col("total_volume") > 0).to_dicts():
        assert 0 < row["hhi"] <= 10_000
        assert row["hhi"] + Decimal("0.000001") >= Decimal(10_000) / row["venue_count"]
        assert 1 <= row["effective_venues"] <= row["venue_count"]
        assert 0 < row["top_venue_share_pct"] <= row["top_3_share_pct"] <= 100
