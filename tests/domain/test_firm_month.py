"""Months of firms: by hand, and by DuckDB on drawn rows."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import JULY, JULY_WEEKS, VENUE_WEEKS, sql

from otc_assets.domain.datasets import MONTHLY_SUMMARY
from otc_assets.domain.firm_month import FIRM_MONTH, firm_month
from otc_assets.domain.quality.datasets import month_covers_weeks
from otc_assets.domain.weeks import OTCE, T1, T2

MILLIONTH = Decimal("0.000001")

#: (market, summary type, symbol, CRD number, name, shares, trades, value).
Row = tuple[str, str, str, str, str | None, Any, int, Any]


def month(rows: list[Row]) -> pl.DataFrame:
    """Rows of the month."""
    columns = ("market", "summary_type", "symbol", "firm_crd", "firm_name", "total_volume", "total_trades")
    made = [
        {"week_ending": JULY_WEEKS[-1], "month_start": JULY, "issue_name": "", "product_type": ""}
        | dict(zip((*columns, "total_notional"), row, strict=True))
        for row in rows
    ]
    return pl.DataFrame(made, schema=MONTHLY_SUMMARY.schema)


def traded(rows: list[tuple[dt.date, str, str, str, Any]]) -> pl.DataFrame:
    """Rows of the weeks."""
    return pl.DataFrame([(*row[:4], Decimal(row[4])) for row in rows], VENUE_WEEKS, orient="row")


def test_the_worked_example_of_the_docs() -> None:
    """By hand: 1,300 of 2,000 shares are 65 %, 13 each trade; beyond the 5 x 200 that weeks name, 300 are left."""
    made = firm_month(
        JULY_WEEKS[-1],
        month(
            [
                ("NMS", "OTC_M_SMBL_FIRM", "AAPL", "149823", "FIRM A", 1_000, 60, Decimal(9)),
                ("NMS", "OTC_M_SMBL_FIRM", "MSFT", "149823", "FIRM A", 300, 40, Decimal(1)),
                ("NMS", "OTC_M_SMBL_FIRM", "AAPL", "7", "FIRM B", 600, 10, None),
                ("NMS", "OTC_M_SMBL_FIRM", "AAPL", "0", "De Minimis Firms", 100, 30, Decimal(2)),
                # Totals, which must not be counted again.
                ("NMS", "OTC_M_SMBL", "AAPL", "", None, 1_700, 100, None),
                ("NMS", "OTC_M_FIRM", "", "149823", "FIRM A", 1_300, 100, None),
                ("NMS", "OTC_M_VOL_STATS", "", "", None, 2_000, 140, None),
            ]
        ),
        traded(
            [
                *((week, tier.name, "NON_ATS", "149823", 100) for week in JULY_WEEKS for tier in (T1, T2)),
                *((week, T1.name, "NON_ATS", "7", 200) for week in JULY_WEEKS[1:]),
                (JULY_WEEKS[2], T1.name, "DE_MINIMIS", "DE_MINIMIS", 999),
                (JULY_WEEKS[2], T1.name, "ATS", "149823", 999),
            ]
        ),
    )
    common = {"week_ending": JULY_WEEKS[-1], "month_start": JULY, "market": "NMS"}
    assert made.to_dicts() == [
        {
            **common,
            "venue_id": "149823",
            "firm_name": "FIRM A",
            "total_volume": Decimal(1_300),
            "total_trades": 100,
            "total_notional": Decimal(10),
            "symbol_count": 2,
            "avg_trade_size": Decimal(13),
            "market_share_pct": Decimal(65),
            "rank": 1,
            "whole_weeks_volume": Decimal(800),
            "touching_weeks_volume": Decimal(1_000),
            "unnamed_volume": Decimal(300),
            "against_weeks": "above",
        },
        {
            **common,
            "venue_id": "7",
            "firm_name": "FIRM B",
            "total_volume": Decimal(600),
            "total_trades": 10,
            "total_notional": None,
            "symbol_count": 1,
            "avg_trade_size": Decimal(60),
            "market_share_pct": Decimal(30),
            "rank": 2,
            "whole_weeks_volume": Decimal(800),
            "touching_weeks_volume": Decimal(800),
            "unnamed_volume": Decimal(0),
            "against_weeks": "below",
        },
        {
            **common,
            "venue_id": "DE_MINIMIS",
            "firm_name": "De Minimis Firms",
            "total_volume": Decimal(100),
            "total_trades": 30,
            "total_notional": Decimal(2),
            "symbol_count": 1,
            "avg_trade_size": Decimal("3.333333"),
            "market_share_pct": Decimal(5),
            "rank": 3,
            "whole_weeks_volume": None,
            "touching_weeks_volume": None,
            "unnamed_volume": None,
            "against_weeks": None,
        },
    ]
    verdict = month_covers_weeks(made)
    assert (verdict.passed, verdict.detail) == (False, "1 of 2 firms have less than in their weeks: 7")


@pytest.mark.parametrize("crd", ["", "0"])
@pytest.mark.parametrize("name", ["De Minimis Firms", "DE MINIMIS FIRMS", None])
def test_the_de_minimis_group_is_known_with_the_number_0_and_without_one(crd: str, name: str | None) -> None:
    made = firm_month(JULY_WEEKS[-1], month([("OTCE", "OTC_M_SMBL_FIRM", "A", crd, name, 5, 1, None)]), traded([]))
    assert made["venue_id"].to_list() == ["DE_MINIMIS"]


def test_a_firm_without_a_number_is_known_by_its_name_as_in_the_weekly_data() -> None:
    made = firm_month(JULY_WEEKS[-1], month([("OTCE", "OTC_M_SMBL_FIRM", "A", "", "FIRM", 5, 1, None)]), traded([]))
    assert made["venue_id"].to_list() == ["name:FIRM"]


#: The formula in SQL, independent of the code, in whole shares.
_SQL = """
WITH named AS (
    SELECT market, CASE WHEN crd = '0' THEN 'DE_MINIMIS' ELSE crd END AS venue, symbol, volume, trades
    FROM monthly WHERE kind = 'OTC_M_SMBL_FIRM'
), firms AS (
    SELECT market, venue, sum(volume) AS volume, sum(trades) AS trades, count(DISTINCT symbol) AS symbols
    FROM named GROUP BY ALL
), complete AS (
    SELECT 'NMS' AS market WHERE
        (SELECT count(DISTINCT (week_ending, tier)) FROM weekly WHERE tier LIKE 'NMS%') = 10
    UNION ALL SELECT 'OTCE' WHERE (SELECT count(DISTINCT week_ending) FROM weekly WHERE tier = 'OTC') = 5
), bounds AS (
    SELECT CASE WHEN tier = 'OTC' THEN 'OTCE' ELSE 'NMS' END AS market, venue_id AS venue,
        sum(CASE WHEN week_ending > DATE '2026-07-03' THEN volume ELSE 0 END) AS low, sum(volume) AS high
    FROM weekly WHERE venue_kind = 'NON_ATS' GROUP BY ALL
)
SELECT f.market, f.venue, f.volume, trades, symbols, sum(f.volume) OVER (PARTITION BY f.market) AS whole,
    row_number() OVER (PARTITION BY f.market ORDER BY f.volume DESC, f.venue) AS place,
    CASE WHEN c.market IS NOT NULL AND f.venue <> 'DE_MINIMIS' THEN coalesce(low, 0) END AS low,
    CASE WHEN c.market IS NOT NULL AND f.venue <> 'DE_MINIMIS' THEN coalesce(high, 0) END AS high
FROM firms f LEFT JOIN complete c ON c.market = f.market
LEFT JOIN bounds b ON b.market = f.market AND b.venue = f.venue
ORDER BY f.market, f.venue
"""
_VOLUME = st.integers(0, 10**13)


@pytest.mark.slow
@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(["NMS", "OTCE"]),
            st.sampled_from(["OTC_M_SMBL_FIRM", "OTC_M_SMBL", "OTC_M_FIRM"]),
            st.sampled_from(["A", "B", "C"]),
            st.sampled_from(["0", "1", "2"]),
        ),
        st.tuples(_VOLUME, st.integers(0, 100)),
        min_size=1,
    ),
    st.dictionaries(
        st.tuples(
            st.sampled_from(JULY_WEEKS),
            st.sampled_from([T1, T2, OTCE]),
            st.sampled_from(["ATS", "NON_ATS", "DE_MINIMIS"]),
            st.sampled_from(["1", "2"]),
        ),
        _VOLUME,
    ),
    st.booleans(),
)
@settings(max_examples=40)
def test_months_of_firms_are_those_of_an_independent_formula(
    drawn: dict[Any, Any], weeks: dict[Any, int], fill: bool
) -> None:
    if fill:
        weeks = {(week, tier, "NON_ATS", "1"): 5 for week in JULY_WEEKS for tier in (T1, T2, OTCE)} | weeks
    weekly = [(week, tier.name, kind, venue, volume) for (week, tier, kind, venue), volume in weeks.items()]
    flat = [(*key, *values) for key, values in drawn.items()]
    columns = {"market": pl.String(), "kind": pl.String(), "symbol": pl.String(), "crd": pl.String()}
    expected = sql(
        _SQL,
        monthly=pl.DataFrame(flat, {**columns, "volume": pl.Int64(), "trades": pl.Int64()}, orient="row"),
        weekly=pl.DataFrame(
            weekly,
            {**{n: k for n, k in VENUE_WEEKS.items() if n != "total_volume"}, "volume": pl.Int64()},
            orient="row",
        ),
    )
    made = firm_month(
        JULY_WEEKS[-1],
        month([(*row[:4], None if row[3] == "0" else "FIRM", row[4] * MILLIONTH, row[5], None) for row in flat]),
        pl.DataFrame([(*row[:4], row[4] * MILLIONTH) for row in weekly], VENUE_WEEKS, orient="row"),
    )
    assert made.schema == FIRM_MONTH
    wanted = []
    for market, venue, volume, trades, symbols, whole, place, low, high in expected:
        volume, whole = int(volume), int(whole)
        hidden = None if high is None else max(0, volume - int(high)) * MILLIONTH
        state = None if low is None else "below" if volume < low else "above" if volume > high else "within"
        share = Decimal((200 * volume * 10**6 + whole) // (2 * whole)).scaleb(-6) if whole else None
        bounds = [None if bound is None else int(bound) * MILLIONTH for bound in (low, high)]
        wanted.append((market, venue, volume * MILLIONTH, int(trades), symbols, place, share, *bounds, hidden, state))
    columns_wanted = ["market", "venue_id", "total_volume", "total_trades", "symbol_count", "rank", "market_share_pct"]
    columns_wanted += ["whole_weeks_volume", "touching_weeks_volume", "unnamed_volume", "against_weeks"]
    assert made.select(columns_wanted).rows() == wanted
    # Shares of a market add up, but for the rounding of each.
    for (_,), rows in made.group_by("market"):
        if rows["total_volume"].sum():
            assert abs(rows["market_share_pct"].sum() - 100) <= Decimal(rows.height) * MILLIONTH
