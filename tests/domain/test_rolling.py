"""Six-week figures: by hand, by DuckDB on drawn rows, and a range of weeks against the weeks one by one."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import WEEK, Row, millionths, rounded_sql, sql, volume, volumes

from otc_assets.domain.rolling import WINDOW_WEEKS, symbol_rolling, venue_rolling
from otc_assets.domain.schema import SYMBOL_ROLLING, SYMBOL_SUMMARY, VENUE_ROLLING, VENUE_SHARE, VENUE_VOLUME
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.weeks import OTCE, T1, T2, weeks_up_to

WEEKS = weeks_up_to(WEEK, WINDOW_WEEKS)


def history(by_week: dict[int, list[Row]], tier: str = T1.name) -> pl.DataFrame:
    """Venue volume of weeks of the window: 1 is the oldest, 6 the week itself, 0 the one before the window."""
    frames = [volume(rows, WEEK - dt.timedelta(weeks=6 - number), tier) for number, rows in by_week.items()]
    return pl.concat([VENUE_VOLUME.to_frame(), *frames])


def captured(*numbers: int, tier: str = T1.name) -> pl.DataFrame:
    """The weeks of the window that are captured, by the same numbers."""
    return pl.DataFrame(
        {"week_ending": [WEEK - dt.timedelta(weeks=6 - n) for n in numbers], "tier": [tier] * len(numbers)},
        schema={"week_ending": pl.Date, "tier": pl.String},
    )


def of_symbol(rows: pl.DataFrame, weeks: pl.DataFrame, symbol: str = "A") -> dict[str, Any]:
    """The one row of ``symbol``."""
    made = symbol_rolling(symbol_summary(rows), weeks, WEEK).filter(pl.col("symbol") == symbol)
    (row,) = made.to_dicts()
    return row


def test_six_captured_weeks_are_averaged_and_the_week_is_compared_with_them() -> None:
    """By hand: 100, 200, 300, 400, 500, 600 shares average 350; 600 is 71.428571 % above; 2,100 shares in 21
    trades are 100 a trade; 1, 1, 1, 1, 1 and 2 venues average 1.166667.
    """
    rows = history(
        {
            **{n: [("A", "UBSA", str(100 * n), n)] for n in range(1, 6)},
            6: [("A", "UBSA", "400", 5), ("A", "INCR", "200", 1)],
        }
    )
    assert of_symbol(rows, captured(*range(1, 7))) == {
        "week_ending": WEEK,
        "tier": "NMS Tier 1",
        "symbol": "A",
        "current_volume": Decimal(600),
        "avg_6w_volume": Decimal(350),
        "avg_6w_trades": Decimal("3.5"),
        "avg_6w_trade_size": Decimal(100),
        "volume_vs_avg_pct": Decimal("71.428571"),
        "trend": "up",
        "weeks_in_window": 6,
        "weeks_traded": 6,
        "weeks_without_trades": 0,
        "earliest_week": WEEKS[0],
        "avg_6w_venue_count": Decimal("1.166667"),
        "weeks_in_other_tier": 0,
    }


def test_a_captured_week_without_trades_counts_as_zero_and_is_stated() -> None:
    """By hand: 300 shares in one week of three average 100. Skipping idle weeks would say 300."""
    rows = history({4: [("B", "UBSA", "1", 1)], 5: [("B", "UBSA", "1", 1)], 6: [("A", "UBSA", "300", 3)]})
    row = of_symbol(rows, captured(4, 5, 6))
    assert (row["avg_6w_volume"], row["avg_6w_trades"], row["avg_6w_venue_count"]) == (
        Decimal(100),
        Decimal(1),
        Decimal("0.333333"),
    )
    assert (row["weeks_in_window"], row["weeks_traded"], row["weeks_without_trades"]) == (3, 1, 2)
    assert row["avg_6w_trade_size"] == Decimal(100)  # 300 shares in 3 trades: idle weeks have no trade size


def test_a_week_that_is_not_captured_is_not_counted() -> None:
    """By hand: 100 and 200 shares in the two captured weeks average 150, whatever the other four were."""
    rows = history({3: [("A", "UBSA", "100", 1)], 6: [("A", "UBSA", "200", 1)]})
    row = of_symbol(rows, captured(3, 6))
    assert (row["avg_6w_volume"], row["weeks_in_window"], row["weeks_without_trades"]) == (Decimal(150), 2, 0)
    assert row["earliest_week"] == WEEKS[2]


def test_the_earliest_week_is_the_oldest_captured_one_also_where_the_symbol_did_not_trade_in_it() -> None:
    """The window is the tier's: it must not begin with a symbol's first trade."""
    rows = history({2: [("B", "UBSA", "1", 1)], 6: [("A", "UBSA", "1", 1)]})
    assert of_symbol(rows, captured(2, 6))["earliest_week"] == WEEKS[1]


def test_a_symbol_that_did_not_trade_this_week_still_has_a_row() -> None:
    """Without a row, a symbol that stops trading would disappear."""
    rows = history({5: [("A", "UBSA", "100", 2)], 6: [("B", "UBSA", "1", 1)]})
    row = of_symbol(rows, captured(5, 6))
    assert (row["current_volume"], row["avg_6w_volume"], row["volume_vs_avg_pct"], row["trend"]) == (
        Decimal(0),
        Decimal(50),
        Decimal(-100),
        "down",
    )


def test_rows_outside_the_window_or_of_weeks_not_captured_change_nothing() -> None:
    """The window is six weeks, not the last six rows."""
    inside = {4: [("A", "UBSA", "10", 1)], 6: [("A", "UBSA", "30", 1)]}
    weeks = captured(4, 6)
    outside = inside | {0: [("A", "UBSA", "999", 9)], 5: [("A", "UBSA", "999", 9)], 7: [("A", "UBSA", "999", 9)]}
    assert of_symbol(history(outside), pl.concat([weeks, captured(0, 7)])) == of_symbol(history(inside), weeks)


@pytest.mark.parametrize(
    ("before", "now", "trend"),
    [
        # (before + now) / 2 is the average: 90 and 110 are +10 % exactly, 110 and 90 are -10 %.
        ("90", "110", "stable"),
        ("110", "90", "stable"),
        ("90", "110.000001", "up"),
        ("110", "89.999999", "down"),
        ("100", "100", "stable"),
        # +10.0000000002 %: 10.000000 when rounded, and yet above.
        ("89999999999.99", "110000000000.01", "up"),
        ("0", "0", "stable"),
    ],
)
def test_a_trend_is_a_change_of_more_than_ten_percent_before_rounding(before: str, now: str, trend: str) -> None:
    """Guards the edges: ten percent itself is no trend, and rounding must not decide."""
    rows = history({5: [("A", "UBSA", before, 1)], 6: [("A", "UBSA", now, 1)]})
    assert of_symbol(rows, captured(5, 6))["trend"] == trend


def test_an_average_of_zero_has_no_change_in_percent() -> None:
    """Guards against NaN and infinity."""
    row = of_symbol(history({6: [("A", "UBSA", "0", 0)]}), captured(6))
    assert (row["volume_vs_avg_pct"], row["trend"], row["avg_6w_trade_size"]) == (None, "stable", None)


def test_weeks_in_which_the_symbol_traded_in_another_tier_are_counted_separately() -> None:
    """A move between tiers looks like a halt in the one and like a listing in the other."""
    rows = pl.concat(
        [
            history({4: [("A", "UBSA", "1", 1)], 5: [("A", "UBSA", "1", 1)]}, T2.name),
            history({3: [("B", "UBSA", "1", 1)], 6: [("A", "UBSA", "1", 1)]}),
        ]
    )
    weeks = pl.concat([captured(3, 4, 5, 6), captured(3, 4, 5, 6, tier=T2.name)])
    made = symbol_rolling(symbol_summary(rows), weeks, WEEK).filter(pl.col("symbol") == "A")
    columns = ["tier", "weeks_traded", "weeks_without_trades", "weeks_in_other_tier"]
    assert made.select(columns).rows() == [("NMS Tier 1", 1, 3, 2), ("NMS Tier 2", 2, 2, 1)]


def test_a_week_in_both_tiers_is_no_week_in_another_tier() -> None:
    """A symbol may be in two tiers in one week: it traded here, so nothing is missing."""
    both = [history({6: [("A", "UBSA", "1", 1)]}, tier) for tier in (T1.name, T2.name)]
    weeks = pl.concat([captured(6), captured(6, tier=T2.name)])
    made = symbol_rolling(symbol_summary(pl.concat(both)), weeks, WEEK)
    assert made["weeks_in_other_tier"].to_list() == [0, 0]


def test_tiers_that_are_not_out_yet_have_no_rows() -> None:
    """T2 and OTC are published two weeks after T1: an average over five weeks must not count as one over six."""
    rows = pl.concat([history({6: [("A", "UBSA", "1", 1)]}), history({4: [("A", "UBSA", "1", 1)]}, OTCE.name)])
    weeks = pl.concat([captured(6), captured(4, tier=OTCE.name)])
    assert symbol_rolling(symbol_summary(rows), weeks, WEEK)["tier"].to_list() == ["NMS Tier 1"]
    assert venue_rolling(venue_share(rows), weeks, WEEK)["tier"].to_list() == ["NMS Tier 1"]


def test_a_venues_shares_are_averaged_with_idle_weeks_as_zero() -> None:
    """By hand: UBSA has 25 %, nothing, 100 % of three weeks: 41.666667; two symbols, none, one: 1 on average."""
    rows = history(
        {
            4: [("A", "UBSA", "10", 1), ("B", "UBSA", "15", 1), ("A", "INCR", "75", 1)],
            5: [("A", "INCR", "50", 1)],
            6: [("A", "UBSA", "40", 2)],
        }
    )
    made = venue_rolling(venue_share(rows), captured(4, 5, 6), WEEK).filter(pl.col("venue_id") == "UBSA")
    (row,) = made.to_dicts()
    assert row == {
        "week_ending": WEEK,
        "tier": "NMS Tier 1",
        "venue_id": "UBSA",
        "venue_kind": "ATS",
        "current_volume": Decimal(40),
        "avg_6w_volume": Decimal("21.666667"),
        "avg_6w_trades": Decimal("1.333333"),
        "avg_6w_trade_size": Decimal("16.25"),
        "volume_vs_avg_pct": Decimal("84.615385"),  # 40 / (65 / 3) = 1.84615384...
        "trend": "up",
        "weeks_in_window": 3,
        "weeks_traded": 2,
        "weeks_without_trades": 1,
        "earliest_week": WEEKS[3],
        "avg_6w_symbol_count": Decimal(1),
        "avg_6w_share_pct": Decimal("41.666667"),
    }


def test_frames_have_the_columns_of_their_tables_also_without_rows() -> None:
    """Guards the loads: columns are copied by position."""
    nothing = captured()
    assert symbol_rolling(SYMBOL_SUMMARY.to_frame(), nothing, WEEK).schema == SYMBOL_ROLLING
    assert venue_rolling(VENUE_SHARE.to_frame(), nothing, WEEK).schema == VENUE_ROLLING
    rows = history({6: [("A", "UBSA", "1", 1)]})
    assert symbol_rolling(symbol_summary(rows), captured(6), WEEK).schema == SYMBOL_ROLLING
    assert venue_rolling(venue_share(rows), captured(6), WEEK).schema == VENUE_ROLLING


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(rows=volumes(weeks=tuple(WEEKS), max_size=80), data=st.data())
def test_six_week_figures_are_those_that_duckdb_computes(rows: pl.DataFrame, data: st.DataObject) -> None:
    """An independent engine, on any rows and any captured weeks."""
    known = rows.select("week_ending", "tier").unique().sort("week_ending", "tier")
    idle = pl.DataFrame(
        {"week_ending": WEEKS, "tier": [T1.name] * len(WEEKS)}, schema={"week_ending": pl.Date, "tier": pl.String}
    )
    weeks = pl.concat([known, idle]).unique().sort("week_ending", "tier")
    weeks = weeks.filter(pl.Series(data.draw(st.lists(st.booleans(), min_size=weeks.height, max_size=weeks.height))))
    summaries = symbol_summary(rows)
    expected = sql(
        f"""
        WITH heard AS (SELECT * FROM captured WHERE tier IN (SELECT tier FROM captured WHERE week_ending = '{WEEK}')),
        spoken AS (SELECT DISTINCT s.tier, s.symbol FROM s JOIN heard USING (week_ending, tier)),
        grid AS (
            SELECT spoken.tier, spoken.symbol, heard.week_ending, s.total_volume IS NOT NULL AS traded,
                coalesce((s.total_volume * 1000000)::HUGEINT, 0) AS shares,
                coalesce(s.total_trades, 0)::HUGEINT AS trades, coalesce(s.venue_count, 0)::HUGEINT AS venues,
                EXISTS (
                    FROM s AS other JOIN captured USING (week_ending, tier) WHERE other.symbol = spoken.symbol
                    AND other.tier <> spoken.tier AND other.week_ending = heard.week_ending
                ) AS elsewhere
            FROM spoken JOIN heard USING (tier) LEFT JOIN s USING (week_ending, tier, symbol)
        ),
        w AS (
            SELECT tier, symbol, count(*)::HUGEINT AS n, sum(shares)::HUGEINT AS shares, sum(trades)::HUGEINT AS trades,
                sum(venues)::HUGEINT AS venues, (sum(shares) FILTER (week_ending = '{WEEK}'))::HUGEINT AS now,
                count(*) FILTER (traded) AS traded, min(week_ending) AS earliest,
                count(*) FILTER (NOT traded AND elsewhere) AS elsewhere
            FROM grid GROUP BY tier, symbol
        )
        SELECT tier, symbol, now, {rounded_sql("shares", "n * 1000000")}, {rounded_sql("trades", "n")},
            {rounded_sql("shares", "trades * 1000000")},
            CASE WHEN shares > 0 THEN sign(now * n - shares)::INT
                * {rounded_sql("100 * abs(now * n - shares)", "shares")} END,
            CASE WHEN shares = 0 THEN 'stable' WHEN 10 * now * n > 11 * shares THEN 'up'
                WHEN 10 * now * n < 9 * shares THEN 'down' ELSE 'stable' END,
            n::BIGINT, traded, n::BIGINT - traded, earliest, {rounded_sql("venues", "n")}, elsewhere
        FROM w ORDER BY tier, symbol
        """,  # noqa: S608
        s=summaries,
        captured=weeks,
    )
    made = symbol_rolling(summaries, weeks, WEEK)
    assert millionths(made, *(c for c in SYMBOL_ROLLING if c != "week_ending")) == expected


LONG = weeks_up_to(WEEK, 9)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(rows=volumes(weeks=tuple(LONG), max_size=80))
def test_a_range_of_weeks_gives_the_rows_that_the_weeks_one_by_one_give(rows: pl.DataFrame) -> None:
    """A backfill reads the history of all its weeks at once, a weekly run that of six."""
    symbols, venues = symbol_summary(rows), venue_share(rows)
    weeks = rows.select("week_ending", "tier").unique()
    for week in LONG:
        six = pl.col("week_ending").is_in(weeks_up_to(week, WINDOW_WEEKS))
        assert symbol_rolling(symbols, weeks, week).equals(symbol_rolling(symbols.filter(six), weeks.filter(six), week))
        assert venue_rolling(venues, weeks, week).equals(venue_rolling(venues.filter(six), weeks.filter(six), week))
