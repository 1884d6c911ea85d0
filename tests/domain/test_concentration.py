"""HHI and top shares: by hand, by Python's Fraction on drawn rows, and by their bounds."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import WEEK, sql, volume, volume_row, volumes

from otc_assets.domain.concentration import (
    RANKED_FROM_SHARES,
    RANKED_FROM_TRADES,
    market_concentration,
    symbol_concentration,
)
from otc_assets.domain.schema import (
    DE_MINIMIS_VENUE_ID,
    MARKET_CONCENTRATION,
    SYMBOL_CONCENTRATION,
    VENUE_VOLUME,
)
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS
from otc_assets.settings import PROJECT_ROOT


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
        "total_trades": 4,
        "venue_count": 4,
        "hhi_lower": Decimal(2600),
        "hhi": Decimal(2600),
        "concentration_level_lower": "concentrated",
        "concentration_level": "concentrated",
        "top_venue": "ATSA",
        "top_venue_share_pct": Decimal(30),
        "top_3_share_pct": Decimal(80),
        "effective_venues": Decimal("3.846154"),  # 10,000 / 2,600
        "effective_venues_upper": Decimal("3.846154"),
        "total_notional": None,
        "notional_hhi_lower": None,
        "notional_hhi": None,
        "notional_top_venue": None,
        "notional_top_venue_share_pct": None,
        "notional_top_3_share_pct": None,
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


def of_group(trades: int, *rows: tuple[str, str], group: str) -> dict[str, Any]:
    """The figures over all venues of a symbol, of which the De Minimis group has traded ``group`` shares."""
    made = symbol_concentration(
        volume([("A", DE_MINIMIS_VENUE_ID, group, trades), *(("A", venue, shares, 1) for venue, shares in rows)])
    )
    (row,) = made.filter(pl.col("venue_scope") == "ALL").to_dicts()
    return row


def test_the_lower_bound_opens_the_group_into_one_firm_for_each_of_its_trades() -> None:
    """By hand: ATSs 60:20, a firm 15, the group 5 in five trades: 5^2 becomes 5 * 1^2. Of the non-ATS half, the firm
    has 75 % and the group 25 %: 5,625 + 5 * 5^2.
    """
    rows = volume(
        [("A", "UBSA", "60", 1), ("A", "INCR", "20", 1), ("A", "7897", "15", 1), ("A", DE_MINIMIS_VENUE_ID, "5", 5)]
    )
    bounds = ("venue_scope", "hhi_lower", "hhi", "effective_venues", "effective_venues_upper", "total_trades")
    expected = [
        ("ALL", Decimal(4230), Decimal(4250), Decimal("2.352941"), Decimal("2.364066"), 8),  # 10,000 / 4,250, / 4,230
        ("ATS", Decimal(6250), Decimal(6250), Decimal("1.6"), Decimal("1.6"), 2),
        ("NON_ATS", Decimal(5750), Decimal(6250), Decimal("1.6"), Decimal("1.739130"), 6),  # 10,000 / 5,750
    ]
    assert symbol_concentration(rows).select(bounds).rows() == expected
    market = market_concentration(rows).select(bounds).rows()
    assert market == expected


def test_a_market_adds_up_the_groups_trades_over_symbols() -> None:
    """By hand: the group has all 100 shares, in 1 + 3 trades: 4 firms of 25 % are 2,500."""
    rows = volume([("A", DE_MINIMIS_VENUE_ID, "90", 1), ("B", DE_MINIMIS_VENUE_ID, "10", 3)])
    made = market_concentration(rows).filter(pl.col("venue_scope") == "ALL")
    assert made.select("hhi_lower", "hhi", "total_trades").rows() == [(Decimal(2500), Decimal(10000), 4)]


def test_a_markets_lower_bound_holds_if_a_named_firm_is_in_the_group_of_another_symbol() -> None:
    """By hand: UBSA has 40 of 100 shares. If the group of B is firm 7897, that one has 60: 60^2 + 40^2 = 5,200, which
    is above the index with the group as one firm (2 * 40^2 + 20^2), and the lower bound (2 * 40^2 + 2 * 10^2) below it.
    """
    rows = volume([("A", "UBSA", "40", 1), ("A", "7897", "40", 9), ("B", DE_MINIMIS_VENUE_ID, "20", 2)])
    made = market_concentration(rows).filter(pl.col("venue_scope") == "ALL")
    assert made.select("hhi_lower", "hhi").rows() == [(Decimal(3400), Decimal(3600))]
    assert "named for some symbols" in TABLES["market_concentration"].note("hhi").text


@pytest.mark.parametrize(
    ("trades", "group", "named", "lower", "levels"),
    [
        (100, "50", ["5"] * 10, "275", ("competitive", "concentrated")),  # 10 * 25 + 100 * 0.5^2; 250 + 50^2
        (4, "1", [], "2500", ("moderate", "concentrated")),
        (3, "0.000001", [], "3333.333333", ("concentrated", "concentrated")),  # 3 * (100 / 3)^2
        (7, "0.000001", [], "1428.571429", ("competitive", "concentrated")),  # 10,000 / 7
        (16, "40", ["30", "20", "10"], "1500", ("moderate", "concentrated")),  # 1,400 + 16 * 2.5^2; + 40^2
        (17, "40", ["30", "20", "10"], "1494.117647", ("competitive", "concentrated")),  # 1,400 + 1,600 / 17
        (1, "40", ["30", "20", "10"], "3000", ("concentrated", "concentrated")),
        (0, "40", ["30", "20", "10"], "3000", ("concentrated", "concentrated")),  # no trades stated: one firm
    ],
)
def test_the_levels_of_both_bounds_are_those_of_the_exact_index(
    trades: int, group: str, named: list[str], lower: str, levels: tuple[str, str]
) -> None:
    """Worked by hand. Levels that differ mean that the level is not certain."""
    row = of_group(trades, *((f"ATS{n}", shares) for n, shares in enumerate(named)), group=group)
    assert (row["hhi_lower"], row["concentration_level_lower"], row["concentration_level"]) == (Decimal(lower), *levels)


def test_a_group_with_more_trades_than_fit_128_bits_beside_its_squares_has_exact_bounds() -> None:
    """By hand: the group has half of 10^12 shares in 10^11 trades: 2,500 + 10^11 * (50 / 10^11)^2 is 2,500.000000025,
    which is above 2,500 by less than six places show.
    """
    row = of_group(10**11, ("UBSA", "500000000000"), group="500000000000")
    assert (row["hhi_lower"], row["concentration_level_lower"], row["hhi"]) == (
        Decimal(2500),
        "concentrated",
        Decimal(5000),
    )
    assert row["effective_venues_upper"] == Decimal(4)


@settings(max_examples=100, deadline=None)
@given(
    named=st.lists(st.integers(0, 10**9), max_size=5),
    firms=st.lists(st.integers(1, 10**9), min_size=1, max_size=8),
    more_trades=st.integers(0, 50),
)
def test_any_group_of_firms_has_its_true_index_within_the_interval(
    named: list[int], firms: list[int], more_trades: int
) -> None:
    """The true index is that of the opened group, by Python's fractions, in millionths of a share."""
    total = sum(named) + sum(firms)
    true = sum((Fraction(100 * shares, total) ** 2 for shares in [*named, *firms]), Fraction())
    in_shares = [(f"ATS{n}", str(Decimal(shares) / 10**6)) for n, shares in enumerate(named)]
    row = of_group(len(firms) + more_trades, *in_shares, group=str(Decimal(sum(firms)) / 10**6))
    assert row["hhi_lower"] <= half_up(true) <= row["hhi"]
    assert row["effective_venues"] <= half_up(10_000 / true) <= row["effective_venues_upper"]
    order = ["competitive", "moderate", "concentrated"]
    level = 0 if true < 1500 else 1 if true <= 2500 else 2
    assert order.index(row["concentration_level_lower"]) <= level <= order.index(row["concentration_level"])
    if len(firms) == 1:
        assert half_up(true) == row["hhi"]
    if not more_trades and len(set(firms)) == 1:
        assert half_up(true) == row["hhi_lower"]


def test_every_ranking_by_the_index_has_the_floor_of_shares_and_trades() -> None:
    """In dashboards, benchmarks and documents: one venue with a few hundred shares would be at the top."""
    floor = (f"total_volume >= {RANKED_FROM_SHARES}", f"total_trades >= {RANKED_FROM_TRADES}")
    named = ("total_volume >= {RANKED_FROM_SHARES}", "total_trades >= {RANKED_FROM_TRADES}")
    files = [
        PROJECT_ROOT / "README.md",
        *(
            path
            for folder in ("docs", "benchmarks", "otc_assets", "helm")
            for path in (PROJECT_ROOT / folder).rglob("*")
        ),
    ]
    rankings: dict[str, int] = {}
    for path in files:
        if path.suffix in (".md", ".json", ".py", ".sql"):
            *before, _ = re.split(r"ORDER BY (?:\w+, )*(?:\w+\.)?hhi", path.read_text())
            for part in before:
                query = part[part.rindex("SELECT") :]
                assert all(limit in query for limit in (named if path.suffix == ".py" else floor)), path
                rankings[path.name] = rankings.get(path.name, 0) + 1
    files_with_one = ("README.md", "questions.md", "queries.py", "layout.py")
    assert rankings == {**dict.fromkeys(files_with_one, 1), "analysts.json": 2}  # of the package and chart
    stated = f"{RANKED_FROM_SHARES:,} shares and {RANKED_FROM_TRADES} trades"
    panels = json.loads((PROJECT_ROOT / "otc_assets/dashboards/analysts.json").read_text())["panels"]
    (title,) = (panel["title"] for panel in panels if "ORDER BY hhi" in json.dumps(panel))
    assert title.endswith(stated)
    texts = [(PROJECT_ROOT / name).read_text() for name in ("README.md", "docs/questions.md")]
    for text in (*texts, TABLES["symbol_concentration"].description):
        assert stated in text


def test_where_nothing_was_traded_the_figures_are_null() -> None:
    """Zero would read as perfect competition, NaN breaks every average over it."""
    row = of_shares("0", "0")
    assert [row[c] for c in ("hhi", "concentration_level", "top_venue_share_pct", "top_3_share_pct")] == [None] * 4
    assert [row[c] for c in ("hhi_lower", "concentration_level_lower", "effective_venues_upper")] == [None] * 3
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


def of_dollars(*venues: tuple[str, int, str | None], tier: str = "NMS Tier 1") -> dict[str, Any]:
    """The market's figures over all venues; of each venue, the trades and the dollars of 1,000 shares."""
    rows = [
        volume_row(f"S{n}", venue, 1000, trades, tier=tier) | {"notional": None if value is None else Decimal(value)}
        for n, (venue, trades, value) in enumerate(venues)
    ]
    made = market_concentration(pl.DataFrame(rows, schema=VENUE_VOLUME))
    (row,) = made.filter(pl.col("venue_scope") == "ALL").to_dicts()
    return {name.removeprefix("notional_"): row[name] for name in row if "notional" in name}


def test_in_dollars_the_index_is_that_of_the_values_and_not_of_the_shares() -> None:
    """By hand: equal shares, but 60, 20, 15 and 5 of 100 dollars: 3,600 + 400 + 225 + 25. The group's five trades are
    five firms of 1 % at the lower end: 25 becomes 5.
    """
    made = of_dollars(("INCR", 1, "20"), ("UBSA", 1, "60"), ("7897", 1, "15"), (DE_MINIMIS_VENUE_ID, 5, "5"))
    assert made == {
        "total_notional": Decimal(100),
        "hhi_lower": Decimal(4230),
        "hhi": Decimal(4250),
        "top_venue": "UBSA",
        "top_venue_share_pct": Decimal(60),
        "top_3_share_pct": Decimal(95),
    }


def test_without_one_of_the_values_there_is_no_index_in_dollars() -> None:
    assert set(of_dollars(("INCR", 1, "20"), ("UBSA", 1, None)).values()) == {None}


def test_a_value_of_zero_has_no_index() -> None:
    """FINRA rounds values to whole dollars before 2025-03-10: those of cheap symbols are 0."""
    made = of_dollars(("INCR", 1, "0"), ("UBSA", 1, "0"))
    assert (made["total_notional"], made["hhi"], made["top_venue_share_pct"]) == (Decimal(0), None, None)


@pytest.mark.parametrize(
    ("value", "hhi"),
    [
        ("1000000000000", "8200"),  # together 10^13 dollars: the squares of millionths need 127 bits
        ("1000000000000.1", "8200"),  # above the limit: whole dollars
        ("900000000000000", "8200"),
    ],
)
def test_more_dollars_than_the_market_trades_do_not_overflow(value: str, hhi: str) -> None:
    """By hand: 90 and 10 %. In five years, the dollars of a week may need more digits than they do now."""
    made = of_dollars(("INCR", 1, value), ("UBSA", 1, str(9 * Decimal(value))))
    assert abs(made["hhi"] - Decimal(hhi)) < Decimal("0.00001")


def test_frames_have_the_columns_of_their_tables_also_without_rows() -> None:
    """Guards the loads: columns are copied by position."""
    for rows in (volume([("A", "UBSA", "1", 1)]), VENUE_VOLUME.to_frame()):
        assert symbol_concentration(rows).schema == SYMBOL_CONCENTRATION
        assert market_concentration(rows).schema == MARKET_CONCENTRATION


def half_up(value: Fraction) -> Fraction:
    """Rounded to millionths, halves up; all figures here are positive."""
    scaled = value * 1_000_000
    return Fraction((2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator), 1_000_000)


#: Two weeks, so that one may have all three tiers while the other has not.
_WEEKS = (WEEK - dt.timedelta(weeks=1), WEEK)
_TWO_WEEKS = st.one_of(volumes(weeks=_WEEKS), volumes(weeks=_WEEKS, min_size=30))


def grouped(rows: pl.DataFrame, of: str, condition: str) -> list[tuple[Any, ...]]:
    """By DuckDB, of each group and scope: its venues by shares and by dollars, sums, and the De Minimis group's part.

    Args:
        rows: VENUE_VOLUME.
        of: the columns that identify a group beside the scope. The tier ALL is each row's second tier.
        condition: which rows are counted, in SQL.
    """
    return sql(
        f"""
        SELECT week_ending, {of}, scope, list((shares, venue_id) ORDER BY shares DESC, venue_id),
            list((dollars, venue_id) ORDER BY dollars DESC, venue_id), bool_and(complete), sum(trades)::BIGINT,
            coalesce(sum(shares) FILTER (venue_id = 'DE_MINIMIS'), 0),
            coalesce(sum(dollars) FILTER (venue_id = 'DE_MINIMIS'), 0),
            coalesce(sum(trades) FILTER (venue_id = 'DE_MINIMIS'), 0)::BIGINT
        FROM (
            SELECT week_ending, {of}, scope, venue_id, sum(share_volume) AS shares, sum(notional) AS dollars,
                count(*) = count(notional) AS complete, sum(trade_count) AS trades
            FROM (SELECT * RENAME (tier AS own_tier) FROM v)
            CROSS JOIN LATERAL (VALUES ('ALL'), (CASE WHEN venue_kind = 'ATS' THEN 'ATS' ELSE 'NON_ATS' END)) s(scope)
            CROSS JOIN LATERAL (VALUES (own_tier), ('ALL')) t(tier)
            WHERE tier <> 'ALL' OR {condition}
            GROUP BY ALL
        ) GROUP BY ALL ORDER BY week_ending, {of}, scope
        """,  # noqa: S608
        v=rows,
    )


def measured(venues: list[tuple[Decimal, str]], group: Decimal, group_trades: int) -> dict[str, Any]:
    """The figures of venues that are sorted, by Python's fractions: no float, and no rounding but the last."""
    total = sum((Fraction(amount) for amount, _ in venues), Fraction())
    if not total:
        return {"total": total, "top_venue": venues[0][1]}
    percents = [100 * Fraction(amount) / total for amount, _ in venues]
    hhi = sum((p * p for p in percents), Fraction())
    firms = max(1, group_trades)
    firm = 100 * Fraction(group) / total / firms  # the share of each of the group's equal firms
    lower = hhi - (firms * firm) ** 2 + firms * firm * firm
    levels = ["competitive" if x < 1500 else "moderate" if x <= 2500 else "concentrated" for x in (lower, hhi)]
    return {
        "total": total,
        "hhi_lower": half_up(lower),
        "hhi": half_up(hhi),
        "concentration_level_lower": levels[0],
        "concentration_level": levels[1],
        "top_venue": venues[0][1],
        "top_venue_share_pct": half_up(percents[0]),
        "top_3_share_pct": half_up(sum(percents[:3], Fraction())),
        "effective_venues": half_up(10_000 / hhi),
        "effective_venues_upper": half_up(10_000 / lower),
    }


def expected_figures(key: list[str], groups: list[tuple[Any, ...]], columns: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each of the groups that ``grouped`` found; figures without a value are null."""
    expected = []
    for *of, by_shares, by_dollars, complete, trades, shares, dollars, group_trades in groups:
        of_shares = measured(by_shares, shares, group_trades)
        of_dollars = measured(by_dollars, dollars, group_trades) if complete else {}
        row = dict(zip(key, of, strict=True))
        row |= {"total_trades": trades, "venue_count": len(by_shares), "total_volume": of_shares["total"]}
        row |= {"total_notional": of_dollars.get("total")}
        row |= {f"notional_{name}": value for name, value in of_dollars.items()} | of_shares
        expected.append({column: row.get(column) for column in columns})
    return expected


def in_fractions(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{k: Fraction(v) if isinstance(v, Decimal) else v for k, v in row.items()} for row in frame.to_dicts()]


@settings(max_examples=40, deadline=None)
@given(rows=_TWO_WEEKS)
def test_all_figures_of_symbols_are_those_of_exact_fractions(rows: pl.DataFrame) -> None:
    """DuckDB groups and ranks, Python's fractions do the arithmetic."""
    key = ["week_ending", "tier", "symbol", "venue_scope"]
    expected = expected_figures(key, grouped(rows, "tier, symbol", "false"), SYMBOL_CONCENTRATION)
    assert in_fractions(symbol_concentration(rows)) == expected


@settings(max_examples=40, deadline=None)
@given(rows=_TWO_WEEKS)
def test_all_figures_of_the_market_are_those_of_exact_fractions(rows: pl.DataFrame) -> None:
    """DuckDB groups and ranks, Python's fractions do the arithmetic."""
    has_all_tiers = "week_ending IN (SELECT week_ending FROM v GROUP BY 1 HAVING count(DISTINCT tier) = 3)"
    groups = grouped(rows, "tier", has_all_tiers)
    expected = expected_figures(["week_ending", "tier", "venue_scope"], groups, MARKET_CONCENTRATION)
    assert in_fractions(market_concentration(rows)) == expected


@settings(max_examples=40, deadline=None)
@given(rows=volumes())
def test_the_index_and_the_effective_venues_keep_their_bounds(rows: pl.DataFrame) -> None:
    """10,000 / n <= HHI <= 10,000, and so 1 <= effective venues <= n: the database refuses anything else."""
    made = pl.concat([symbol_concentration(rows).drop("symbol"), market_concentration(rows)])
    for row in made.filter(pl.col("total_volume") > 0).to_dicts():
        assert 0 <= row["hhi_lower"] <= row["hhi"] <= 10_000
        assert row["hhi_lower"] == row["hhi"] or row["venue_scope"] != "ATS"
        assert row["effective_venues"] <= row["effective_venues_upper"] <= row["total_trades"] + row["venue_count"]
        assert row["hhi"] + Decimal("0.000001") >= Decimal(10_000) / row["venue_count"]
        assert 1 <= row["effective_venues"] <= row["venue_count"]
        assert 0 < row["top_venue_share_pct"] <= row["top_3_share_pct"] <= 100
        if row["total_notional"]:
            assert 0 <= row["notional_hhi_lower"] <= row["notional_hhi"] <= 10_000
            assert row["notional_hhi"] + Decimal("0.000001") >= Decimal(10_000) / row["venue_count"]
