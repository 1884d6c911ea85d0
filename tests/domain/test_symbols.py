"""Symbols over time: moves, names and tickers, by hand and by DuckDB on drawn rows."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import WEEK, Frames, sql

from otc_assets.domain.rolling import symbol_rolling
from otc_assets.domain.schema import PUBLISHED_TOTAL, SYMBOL, SYMBOL_SUMMARY
from otc_assets.domain.symbols import same_issue, symbol
from otc_assets.domain.weeks import OTCE, T1, T2, TIERS, weeks_up_to

WEEKS = weeks_up_to(WEEK)
ONE, TWO = T1.name, T2.name

#: (number of the week from 1 to 6, tier, symbol, issue name, shares)
Week = tuple[int, str, str, str, int]


def summaries(*rows: Week) -> pl.DataFrame:
    made = [
        dict.fromkeys(SYMBOL_SUMMARY)
        | {
            "week_ending": WEEKS[number - 1],
            "tier": tier,
            "symbol": ticker,
            "issue_name": issue,
            "issue_count": 1,
            "total_volume": Decimal(shares),
            "total_trades": 1_000,
            "venue_count": 1,
        }
        for number, tier, ticker, issue, shares in rows
    ]
    return pl.DataFrame(made, schema=SYMBOL_SUMMARY)


def captured(numbers: Iterable[int] = range(1, 7), tiers: Iterable[str] = tuple(t.name for t in TIERS)) -> pl.DataFrame:
    of = list(tiers)
    return pl.DataFrame(
        [(WEEKS[number - 1], tier) for number in numbers for tier in of],
        schema={"week_ending": pl.Date, "tier": pl.String},
        orient="row",
    )


def rows_of(*rows: Week, weeks: pl.DataFrame | None = None, totals: pl.DataFrame | None = None) -> list[dict[str, Any]]:
    totals = PUBLISHED_TOTAL.to_frame() if totals is None else totals
    read = Frames({"symbol_summary": summaries(*rows), "published_total": totals})
    made = symbol(read, captured() if weeks is None else weeks, WEEK)
    assert made.schema == SYMBOL
    return made.to_dicts()


def test_a_symbol_that_moves_between_tiers_has_the_move_in_its_first_week_there() -> None:
    before = [(number, ONE, "A", "A Inc.", 10) for number in range(1, 6)]
    (moved,) = rows_of(*before, (6, TWO, "A", "A Inc.", 12))
    assert (moved["tier"], moved["moved_from_tier"], moved["previous_tier"]) == (TWO, ONE, ONE)
    assert (moved["previous_week"], moved["is_new"], moved["issue_change"]) == (WEEKS[4], False, None)
    (stayed,) = rows_of(*before[:4], (5, TWO, "A", "A Inc.", 12), (6, TWO, "A", "A Inc.", 12))
    assert (stayed["moved_from_tier"], stayed["previous_tier"]) == (None, TWO)


def test_in_a_week_of_both_tiers_only_the_new_one_is_a_move() -> None:
    before = [(number, ONE, "A", "A Inc.", 10) for number in range(1, 6)]
    rows = rows_of(*before, (6, ONE, "A", "A Inc.", 1), (6, TWO, "A", "A Inc.", 12))
    assert {row["tier"]: row["moved_from_tier"] for row in rows} == {ONE: None, TWO: ONE}


def test_a_move_is_no_trend_in_either_tier_and_the_row_over_all_tiers_has_one() -> None:
    """The row of the new tier was 'up 100 %' and that of the old one 'down 100 %'."""
    history = summaries(
        *((number, ONE, "A", "A Inc.", 100) for number in range(1, 6)),
        (6, TWO, "A", "A Inc.", 100),
        *((number, OTCE.name, "B", "B Inc.", 1) for number in range(1, 7)),
    )
    made = symbol_rolling(history, captured(), WEEK).filter(pl.col("symbol") == "A")
    columns = ["tier", "current_volume", "trend", "trend_reason", "weeks_in_other_tier", "other_tier"]
    assert made.select(columns).rows() == [
        ("ALL", Decimal(100), "stable", None, 0, None),
        (ONE, Decimal(0), None, "moved_tier", 1, TWO),
        (TWO, Decimal(100), None, "moved_tier", 5, ONE),
    ]


def test_while_other_tiers_are_pending_a_symbol_without_trades_has_no_trend() -> None:
    """T1 is published two weeks before the others: the symbol may have moved to one of them."""
    history = summaries(*((number, ONE, "A", "A Inc.", 100) for number in range(1, 6)), (6, ONE, "B", "B Inc.", 1))
    weeks = pl.concat([captured(range(1, 5)), captured((5, 6), [ONE])])
    made = {row["symbol"]: row for row in symbol_rolling(history, weeks, WEEK).to_dicts()}
    assert (made["A"]["trend"], made["A"]["trend_reason"]) == (None, "tiers_pending")
    assert made["B"]["trend_reason"] == "first_week_in_window"
    assert symbol_rolling(history, captured(), WEEK).filter(pl.col("symbol") == "A")["trend"].to_list() == [
        "down",
        "down",
    ]


def test_a_ticker_that_another_issuer_takes_over_is_told_apart_by_the_issue_name() -> None:
    before = [(number, ONE, "A", "Granite Harbor Inc. Common Stock", 10) for number in range(1, 6)]
    (taken,) = rows_of(*before, (6, ONE, "A", "Umber Lane Corp. Common Stock", 10))
    assert (taken["issue_change"], taken["previous_issue_name"]) == ("another_issue", before[0][3])
    (renamed,) = rows_of(*before, (6, ONE, "A", "GRANITE HARBOR INC COM", 10))
    assert renamed["issue_change"] == "renamed"
    history = summaries(*before, (6, ONE, "A", "Umber Lane Corp. Common Stock", 10))
    (row,) = symbol_rolling(history, captured(tiers=[ONE]), WEEK).to_dicts()
    assert (row["trend"], row["trend_reason"]) == (None, "another_issue")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Apple Inc. Common Stock", "APPLE INC COM", True),
        ("Apple Inc. Common Stock", "Alphabet Inc. Class A Common Stock", False),
        ("Common Stock", "Common Stock", True),  # no word tells issuers apart: all of them count
        ("", "Apple Inc.", True),  # a missing name says nothing
        (None, "Apple Inc.", True),
        ("Series 5 Trust", "Series 7 Trust", True),
    ],
)
def test_issue_names_are_of_one_issue_if_they_share_a_word_that_tells_issuers_apart(
    one: str | None, other: str, same: bool
) -> None:
    assert same_issue(one, other) is same
    assert same_issue(other, one) is same


def test_a_security_that_changes_its_ticker_has_the_one_before() -> None:
    before = [(number, ONE, "OLD", "Granite Inc.", 10) for number in range(1, 6)]
    (row,) = rows_of(*before, (6, ONE, "NEW", "Granite Inc.", 10))
    assert (row["symbol"], row["previous_symbol"], row["is_new"]) == ("NEW", "OLD", True)


def test_a_ticker_is_not_the_former_one_if_it_still_trades_or_if_there_are_two() -> None:
    before = [(number, ONE, "OLD", "Granite Inc.", 10) for number in range(1, 6)]
    still = rows_of(*before, (6, ONE, "OLD", "Granite Inc.", 10), (6, ONE, "NEW", "Granite Inc.", 10))
    assert {row["symbol"]: row["previous_symbol"] for row in still} == {"NEW": None, "OLD": None}
    (two,) = rows_of(*before, (5, TWO, "OTHER", "Granite Inc.", 10), (6, ONE, "NEW", "Granite Inc.", 10))
    assert two["previous_symbol"] is None


def test_a_ticker_is_not_the_former_one_while_the_tier_in_which_it_may_still_trade_is_pending() -> None:
    """It may be another class under the same issue name: T1 is published two weeks before the other tiers."""
    before = [(number, TWO, "OLD", "Granite Inc.", 10) for number in range(1, 6)]
    now = (6, ONE, "NEW", "Granite Inc.", 10)
    pending = pl.concat([captured(range(1, 6)), captured([6], [ONE])])
    (row,) = rows_of(*before, now, weeks=pending)
    assert (row["previous_symbol"], row["is_new"]) == (None, True)
    assert rows_of(*before, now)[0]["previous_symbol"] == "OLD"
    of_tier = [(number, ONE, "OLD", "Granite Inc.", 10) for number in range(1, 6)]
    assert rows_of(*of_tier, now, weeks=pending)[0]["previous_symbol"] == "OLD"


def test_in_the_first_captured_week_nothing_is_new() -> None:
    (row,) = rows_of((6, ONE, "A", "A Inc.", 1), weeks=captured([6]))
    assert (row["is_new"], row["previous_week"]) == (False, None)


def test_in_the_first_captured_week_of_a_tier_nothing_in_it_is_new() -> None:
    """Weeks of another tier say nothing of it: every symbol of the tier was called new, or a former ticker's heir."""
    ended = [(number, ONE, "OLD", "Granite Inc.", 10) for number in range(1, 6)]
    weeks = pl.concat([captured(tiers=[ONE]), captured([6], [TWO])])
    first, new = rows_of(*ended, (6, TWO, "GRAN", "Granite Inc.", 1), (6, ONE, "A", "A Inc.", 1), weeks=weeks)[::-1]
    assert (first["symbol"], first["is_new"], first["previous_symbol"]) == ("GRAN", False, None)
    assert (new["symbol"], new["is_new"]) == ("A", True)


def test_the_product_type_is_that_of_finras_totals() -> None:
    total = dict.fromkeys(PUBLISHED_TOTAL) | {"week_ending": WEEK, "tier": ONE, "symbol": "A", "venue_kind": "ATS"}
    totals = pl.DataFrame(
        [
            {**total, "total_of": "SYMBOL", "product_type": "UTP"},
            {**total, "total_of": "VENUE", "symbol": "", "product_type": "CTS"},
        ],
        schema=PUBLISHED_TOTAL,
    )
    rows = rows_of((6, ONE, "A", "A Inc.", 1), (6, ONE, "B", "B Inc.", 1), totals=totals)
    assert {row["symbol"]: row["product_type"] for row in rows} == {"A": "UTP", "B": None}


_ROWS = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.sampled_from([tier.name for tier in TIERS]),
        st.sampled_from(["A", "B", "C"]),
        st.sampled_from(["Granite Inc.", "Granite Holdings", "Umber Corp."]),
        st.integers(1, 3),
    ),
    unique_by=lambda row: row[:3],
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS)
def test_moves_new_symbols_and_names_are_those_that_duckdb_finds(rows: list[Week]) -> None:
    """An independent engine: a move is the first week in a tier after weeks in others alone."""
    s, weeks = summaries(*rows), captured()
    expected = sql(
        f"""
        WITH before AS (SELECT * FROM s WHERE week_ending < '{WEEK}'),
        newest AS (
            FROM before SEMI JOIN (SELECT symbol, max(week_ending) AS week_ending FROM before GROUP BY 1) USING (symbol, week_ending)
        )
        SELECT tier, symbol, (SELECT max(b.week_ending) FROM before b WHERE b.symbol = now.symbol),
            NOT EXISTS (FROM before b WHERE b.symbol = now.symbol),
            CASE WHEN NOT EXISTS (FROM before b WHERE b.symbol = now.symbol AND b.tier = now.tier) THEN
                (SELECT n.tier FROM newest n WHERE n.symbol = now.symbol ORDER BY n.total_volume DESC, n.tier LIMIT 1)
            END,
            (SELECT n.issue_name FROM newest n WHERE n.symbol = now.symbol
                ORDER BY n.tier = now.tier DESC, n.total_volume DESC, n.tier LIMIT 1)
        FROM s AS now WHERE week_ending = '{WEEK}' ORDER BY 1, 2
        """,  # noqa: S608, E501
        s=s,
    )
    read = Frames({"symbol_summary": s, "published_total": PUBLISHED_TOTAL.to_frame()})
    made = symbol(read, weeks, WEEK)
    columns = ["tier", "symbol", "previous_week", "is_new", "moved_from_tier", "previous_issue_name"]
    assert made.select(columns).rows() == expected
    changes = made.select("issue_name", "previous_issue_name", "issue_change").rows()
    assert all(
        change == (None if then in (None, now) else "another_issue" if "Umber Corp." in (now, then) else "renamed")
        for now, then, change in changes
    )
