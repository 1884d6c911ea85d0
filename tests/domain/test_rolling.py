"""Six-week figures: by hand, by DuckDB on drawn rows, and a range of weeks against the weeks one by one."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import WEEK, Row, millionths, rounded_sql, sql, volume, volumes

from otc_assets.domain.rolling import WINDOW_WEEKS, symbol_rolling, venue_rolling
from otc_assets.domain.schema import SYMBOL_ROLLING, SYMBOL_SUMMARY, VENUE_ROLLING, VENUE_SHARE, VENUE_VOLUME
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.weeks import OTCE, T1, T2, week_containing, week_ending_of, weeks_up_to
from otc_assets.finra.simulator.generator import Simulator

WEEKS = weeks_up_to(WEEK, WINDOW_WEEKS)

#: Its Monday is Labor Day; no other week of its window has a holiday.
LABOR_DAY = dt.date(2026, 9, 11)

#: Days of 2021-12 to 2026 on which the NYSE did not trade, from its calendars, written down by hand.
_CLOSED = {
    2021: [(12, 24)],
    2022: [(1, 17), (2, 21), (4, 15), (5, 30), (6, 20), (7, 4), (9, 5), (11, 24), (12, 26)],
    2023: [(1, 2), (1, 16), (2, 20), (4, 7), (5, 29), (6, 19), (7, 4), (9, 4), (11, 23), (12, 25)],
    2024: [(1, 1), (1, 15), (2, 19), (3, 29), (5, 27), (6, 19), (7, 4), (9, 2), (11, 28), (12, 25)],
    2025: [(1, 1), (1, 9), (1, 20), (2, 17), (4, 18), (5, 26), (6, 19), (7, 4), (9, 1), (11, 27), (12, 25)],
    2026: [(1, 1), (1, 19), (2, 16), (4, 3), (5, 25), (6, 19), (7, 3), (9, 7), (11, 26), (12, 25)],
}
CLOSED = [dt.date(year, *day) for year, days in _CLOSED.items() for day in days]


def history(by_week: dict[int, list[Row]], tier: str = T1.name, last: dt.date = WEEK) -> pl.DataFrame:
    """Venue volume of weeks of the window: 1 is the oldest, 6 the week itself, 0 the one before the window."""
    frames = [volume(rows, last - dt.timedelta(weeks=6 - number), tier) for number, rows in by_week.items()]
    return pl.concat([VENUE_VOLUME.to_frame(), *frames])


def captured(*numbers: int, tier: str = T1.name, last: dt.date = WEEK) -> pl.DataFrame:
    """The weeks of the window that are captured, by the same numbers."""
    return pl.DataFrame(
        {"week_ending": [last - dt.timedelta(weeks=6 - n) for n in numbers], "tier": [tier] * len(numbers)},
        schema={"week_ending": pl.Date, "tier": pl.String},
    )


def open_days(last: dt.date) -> int:
    """The days of the week on which the NYSE traded, by another calendar than the code's."""
    start = last - dt.timedelta(days=4)
    return 5 - sum(start <= day <= last for day in CLOSED)


def of_symbol(rows: pl.DataFrame, weeks: pl.DataFrame, symbol: str = "A", last: dt.date = WEEK) -> dict[str, Any]:
    """The one row of ``symbol``."""
    made = symbol_rolling(symbol_summary(rows), weeks, last).filter(pl.col("symbol") == symbol)
    (row,) = made.to_dicts()
    return row


def test_six_captured_weeks_are_averaged_and_the_week_is_compared_with_them() -> None:
    """By hand: 100, 200, 300, 400, 500, 600 shares average 350; 600 is 71.428571 % above; 2,100 shares in 21
    trades are 100 a trade, in 30 days 70 a day; 1, 1, 1, 1, 1 and 2 venues average 1.166667.
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
        "trading_days": 5,
        "window_trading_days": 30,
        "current_volume": Decimal(600),
        "current_daily_volume": Decimal(120),
        "current_trade_size": Decimal(100),
        "current_notional": None,
        "avg_6w_volume": Decimal(350),
        "avg_6w_daily_volume": Decimal(70),
        "avg_6w_trades": Decimal("3.5"),
        "avg_6w_daily_trades": Decimal("0.7"),
        "avg_6w_trade_size": Decimal(100),
        "avg_6w_daily_notional": None,
        "volume_vs_avg_pct": Decimal("71.428571"),
        "weekly_volume_vs_avg_pct": Decimal("71.428571"),
        "trade_size_vs_avg_pct": Decimal(0),
        "notional_vs_avg_pct": None,
        "trend": "up",
        "notional_trend": None,
        "trend_reason": None,
        "weeks_in_window": 6,
        "weeks_traded": 6,
        "weeks_without_trades": 0,
        "earliest_week": WEEKS[0],
        "avg_6w_venue_count": Decimal("1.166667"),
        "weeks_in_other_tier": 0,
        "other_tier": None,
        "split_week": None,
        "split_ratio": None,
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
    rows = history({5: [("A", "UBSA", "150", 2)], 6: [("B", "UBSA", "1", 1)]})
    others = [captured(6, tier=tier) for tier in (T2.name, OTCE.name)]
    row = of_symbol(rows, pl.concat([captured(4, 5, 6), *others]))
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
        # The average is 100: +10 % exactly, and -10 %.
        (("100", "90"), "110", "stable"),
        (("100", "110"), "90", "stable"),
        (("100", "90"), "110.000001", "up"),
        (("100", "110"), "89.999999", "down"),
        (("100", "100"), "100", "stable"),
        # +10.0000000001 %: 10.000000 when rounded, and yet above.
        (("100000000000", "89999999999.99"), "110000000000.01", "up"),
        (("0", "0"), "0", "stable"),
    ],
)
def test_a_trend_is_a_change_of_more_than_ten_percent_before_rounding(
    before: tuple[str, str], now: str, trend: str
) -> None:
    """Guards the edges: ten percent itself is no trend, and rounding must not decide."""
    rows = history({number: [("A", "UBSA", shares, 1)] for number, shares in enumerate((*before, now), 4)})
    assert of_symbol(rows, captured(4, 5, 6))["trend"] == trend


def test_an_average_of_zero_has_no_change_in_percent() -> None:
    """Guards against NaN and infinity."""
    row = of_symbol(history({number: [("A", "UBSA", "0", 0)] for number in (4, 5, 6)}), captured(4, 5, 6))
    assert (row["volume_vs_avg_pct"], row["weekly_volume_vs_avg_pct"]) == (None, None)
    assert (row["trend"], row["avg_6w_trade_size"]) == ("stable", None)


def test_a_week_with_a_holiday_and_the_same_volume_per_day_is_stable() -> None:
    """By hand: 100 shares on each of 29 days. The weeks average 2900 / 6, and 400 is 17.241379 % below that."""
    shares = {**dict.fromkeys(range(1, 6), "500"), 6: "400"}
    rows = history({number: [("A", "UBSA", traded, 29)] for number, traded in shares.items()}, last=LABOR_DAY)
    row = of_symbol(rows, captured(*range(1, 7), last=LABOR_DAY), last=LABOR_DAY)
    assert Fraction(400, 4) / Fraction(5 * 500 + 400, 29) == 1
    assert (row["trading_days"], row["window_trading_days"]) == (4, 29)
    assert (row["current_daily_volume"], row["avg_6w_daily_volume"]) == (Decimal(100), Decimal(100))
    assert (row["volume_vs_avg_pct"], row["trend"], row["trend_reason"]) == (Decimal(0), "stable", None)
    assert (row["current_volume"], row["avg_6w_volume"]) == (Decimal(400), Decimal("483.333333"))
    assert row["weekly_volume_vs_avg_pct"] == Decimal("-17.241379")
    assert (row["avg_6w_trades"], row["avg_6w_daily_trades"]) == (Decimal(29), Decimal(6))


def test_a_full_weeks_volume_in_a_week_with_a_holiday_is_up() -> None:
    """By hand: 500 / 4 = 125 a day, 3000 / 29 in the window: 125 * 29 / 3000 = 1.208333."""
    rows = history({number: [("A", "UBSA", "500", 1)] for number in range(1, 7)}, last=LABOR_DAY)
    weeks = captured(*range(1, 7), last=LABOR_DAY)
    (venue,) = venue_rolling(venue_share(rows), weeks, LABOR_DAY).to_dicts()
    for row in (of_symbol(rows, weeks, last=LABOR_DAY), venue):
        assert (row["volume_vs_avg_pct"], row["trend"]) == (Decimal("20.833333"), "up")
        assert row["weekly_volume_vs_avg_pct"] == Decimal(0)


def test_a_half_day_counts_as_one_trading_day() -> None:
    """The NYSE closes at 1 p.m. on the Friday after Thanksgiving."""
    last = dt.date(2026, 11, 27)
    row = of_symbol(history({6: [("A", "UBSA", "400", 1)]}, last=last), captured(6, last=last), last=last)
    assert (row["trading_days"], row["current_daily_volume"]) == (4, Decimal(100))


def test_with_fewer_than_three_captured_weeks_there_is_no_trend_and_the_reason_is_stated() -> None:
    """The one week of a window equals its average: every symbol was 'stable'."""
    rows = history({number: [("A", "UBSA", str(100 * number), 1)] for number in (4, 5, 6)})
    found = {}
    for numbers in ((6,), (5, 6), (4, 5, 6)):
        row = of_symbol(rows, captured(*numbers))
        (venue,) = venue_rolling(venue_share(rows), captured(*numbers), WEEK).to_dicts()
        assert (venue["trend"], venue["trend_reason"]) == (row["trend"], row["trend_reason"])
        found[len(numbers)] = (row["trend"], row["trend_reason"], row["volume_vs_avg_pct"])
    assert found == {
        1: (None, "too_few_weeks", Decimal(0)),
        2: (None, "too_few_weeks", Decimal("9.090909")),  # 600 / 550
        3: ("up", None, Decimal(20)),  # 600 / 500
    }


def test_in_its_first_week_a_symbol_has_no_trend_and_from_its_second_it_has() -> None:
    old: Row = ("B", "INCR", "1", 1)
    rows = history(
        {**{n: [old] for n in range(1, 5)}, 5: [old, ("C", "UBSA", "1", 1)], 6: [old, ("A", "7897", "9", 1)]}
    )
    rows = pl.concat([rows, history({6: [("C", "UBSA", "1", 1)]})])
    weeks = captured(*range(1, 7))
    columns = ["trend", "trend_reason", "weeks_in_window", "weeks_traded"]
    symbols = symbol_rolling(symbol_summary(rows), weeks, WEEK).select("symbol", *columns)
    assert symbols.rows() == [
        ("A", None, "first_week_in_window", 6, 1),
        ("B", "stable", None, 6, 6),
        ("C", "up", None, 6, 2),
    ]
    venues = venue_rolling(venue_share(rows), weeks, WEEK).select("venue_id", *columns)
    assert venues.rows() == [
        ("7897", None, "first_week_in_window", 6, 1),
        ("INCR", "stable", None, 6, 6),
        ("UBSA", "up", None, 6, 2),
    ]


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
        "trading_days": 5,
        "window_trading_days": 15,
        "current_volume": Decimal(40),
        "current_daily_volume": Decimal(8),
        "identity_id": "UBSA",
        "predecessors": None,
        "current_trade_size": Decimal(20),
        "current_notional": None,
        "avg_6w_volume": Decimal("21.666667"),
        "avg_6w_daily_volume": Decimal("4.333333"),
        "avg_6w_trades": Decimal("1.333333"),
        "avg_6w_daily_trades": Decimal("0.266667"),
        "avg_6w_trade_size": Decimal("16.25"),
        "avg_6w_daily_notional": None,
        "trade_size_vs_avg_pct": Decimal("23.076923"),  # 20 / 16.25 = 1.23076923...
        "notional_vs_avg_pct": None,
        "notional_trend": None,
        "volume_vs_avg_pct": Decimal("84.615385"),  # 40 / (65 / 3) = 1.84615384...
        "weekly_volume_vs_avg_pct": Decimal("84.615385"),
        "trend": "up",
        "trend_reason": None,
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


#: What a symbol and a venue are compared by, of sums of the window and of the week (`now`) in millionths, the weeks of
#: the window (`n`) and their trading days.
_FIGURES_SQL = f"""
    today::BIGINT, days::BIGINT, now, {rounded_sql("now", "today * 1000000")},
    {rounded_sql("now", "trades_now * 1000000")}, usd_now,
    {rounded_sql("shares", "n * 1000000")}, {rounded_sql("shares", "days * 1000000")},
    {rounded_sql("trades", "n")}, {rounded_sql("trades", "days")}, {rounded_sql("shares", "trades * 1000000")},
    {rounded_sql("usd", "days * 1000000")},
    CASE WHEN shares > 0 THEN sign(now * days - shares * today)::INT
        * {rounded_sql("100 * abs(now * days - shares * today)", "shares * today")} END,
    CASE WHEN shares > 0 THEN sign(now * n - shares)::INT
        * {rounded_sql("100 * abs(now * n - shares)", "shares")} END,
    CASE WHEN shares > 0 AND trades_now > 0 AND trades > 0
        THEN sign(now * trades - shares * trades_now)::INT
        * {rounded_sql("100 * abs(now * trades - shares * trades_now)", "shares * trades_now")} END,
    CASE WHEN usd > 0 THEN sign(usd_now * days - usd * today)::INT
        * {rounded_sql("100 * abs(usd_now * days - usd * today)", "usd * today")} END,
    CASE WHEN reason IS NOT NULL THEN NULL WHEN shares = 0 THEN 'stable'
        WHEN 10 * now * days > 11 * shares * today THEN 'up'
        WHEN 10 * now * days < 9 * shares * today THEN 'down' ELSE 'stable' END,
    CASE WHEN reason IS NOT NULL OR usd IS NULL OR usd = 0 THEN NULL
        WHEN 10 * usd_now * days > 11 * usd * today THEN 'up'
        WHEN 10 * usd_now * days < 9 * usd * today THEN 'down' ELSE 'stable' END,
    reason, n::BIGINT, traded, n::BIGINT - traded, earliest
"""


def drawn_window(data: st.DataObject) -> tuple[dt.date, pl.DataFrame, pl.DataFrame]:
    """Any week, rows of its window, and any weeks that are captured, with and without holidays."""
    # The first has no holiday in its window; the others have one in the week, or several in the window.
    last = data.draw(st.sampled_from([WEEK, LABOR_DAY, dt.date(2026, 7, 10), dt.date(2026, 1, 2)]))
    window = weeks_up_to(last, WINDOW_WEEKS)
    # Many rows too: otherwise two venues of one identity hardly ever trade in the same week.
    rows = data.draw(volumes(weeks=tuple(window), max_size=80, min_size=data.draw(st.sampled_from([1, 60]))))
    known = rows.select("week_ending", "tier").unique().sort("week_ending", "tier")
    idle = pl.DataFrame(
        {"week_ending": window, "tier": [T1.name] * len(window)}, schema={"week_ending": pl.Date, "tier": pl.String}
    )
    weeks = pl.concat([known, idle]).unique().sort("week_ending", "tier")
    weeks = weeks.filter(pl.Series(data.draw(st.lists(st.booleans(), min_size=weeks.height, max_size=weeks.height))))
    dollars = st.none() if data.draw(st.booleans()) else st.decimals(min_value=0, max_value=10**9, places=6)
    rows = rows.with_columns(
        pl.Series("notional", [data.draw(dollars) for _ in range(rows.height)], VENUE_VOLUME["notional"])
    )
    return last, rows, weeks


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_six_week_figures_are_those_that_duckdb_computes(data: st.DataObject) -> None:
    """An independent engine, on any rows and any captured weeks, with and without holidays."""
    last, rows, weeks = drawn_window(data)
    summaries = symbol_summary(rows)
    expected = sql(
        f"""
        WITH whole AS (SELECT week_ending FROM captured GROUP BY 1 HAVING count(DISTINCT tier) = 3),
        known AS (FROM captured UNION ALL SELECT week_ending, 'ALL' FROM whole),
        t AS (
            SELECT week_ending, tier, symbol, total_volume, total_trades, total_notional, venue_count FROM s
            UNION ALL
            SELECT week_ending, 'ALL', symbol, sum(total_volume), sum(total_trades),
                CASE WHEN count(total_notional) = count(*) THEN sum(total_notional) END,
                CASE WHEN count(*) = 1 THEN sum(venue_count) END
            FROM s JOIN whole USING (week_ending) GROUP BY ALL
        ),
        heard AS (SELECT * FROM known WHERE tier IN (SELECT tier FROM known WHERE week_ending = '{last}')),
        spoken AS (SELECT DISTINCT t.tier, t.symbol FROM t JOIN heard USING (week_ending, tier)),
        grid AS (
            SELECT spoken.tier, spoken.symbol, heard.week_ending, t.total_volume IS NOT NULL AS traded,
                5 - (SELECT count(*) FROM closed WHERE day BETWEEN heard.week_ending - 4 AND heard.week_ending) AS days,
                coalesce((t.total_volume * 1000000)::HUGEINT, 0) AS shares,
                coalesce(t.total_trades, 0)::HUGEINT AS trades,
                CASE WHEN t.symbol IS NULL THEN 0 ELSE t.venue_count END AS venues,
                CASE WHEN t.symbol IS NULL THEN 0 ELSE (t.total_notional * 1000000)::HUGEINT END AS usd,
                (SELECT max(other.tier) FROM s AS other JOIN captured USING (week_ending, tier)
                    WHERE other.symbol = spoken.symbol AND spoken.tier <> 'ALL'
                    AND other.tier <> spoken.tier AND other.week_ending = heard.week_ending) AS elsewhere
            FROM spoken JOIN heard USING (tier) LEFT JOIN t USING (week_ending, tier, symbol)
        ),
        w AS (
            SELECT tier, symbol, count(*)::HUGEINT AS n, sum(shares)::HUGEINT AS shares, sum(trades)::HUGEINT AS trades,
                CASE WHEN count(venues) = count(*) THEN sum(venues)::HUGEINT END AS venues,
                (sum(shares) FILTER (week_ending = '{last}'))::HUGEINT AS now,
                (sum(trades) FILTER (week_ending = '{last}'))::HUGEINT AS trades_now,
                CASE WHEN count(usd) = count(*) THEN sum(usd)::HUGEINT END AS usd,
                (sum(usd) FILTER (week_ending = '{last}'))::HUGEINT AS usd_now,
                sum(days)::HUGEINT AS days, max(days) FILTER (week_ending = '{last}')::HUGEINT AS today,
                count(*) FILTER (traded) AS traded, bool_or(traded AND week_ending = '{last}') AS is_in,
                bool_or(traded AND week_ending < '{last}') AS before, min(week_ending) AS earliest,
                count(*) FILTER (NOT traded AND elsewhere IS NOT NULL) AS elsewhere,
                arg_max(elsewhere, week_ending) FILTER (NOT traded AND elsewhere IS NOT NULL) AS other_tier
            FROM grid GROUP BY tier, symbol
        ),
        r AS (
            SELECT *, CASE WHEN n < 3 THEN 'too_few_weeks' WHEN elsewhere > 0 THEN 'moved_tier'
                WHEN NOT is_in AND (SELECT count(*) FROM captured WHERE week_ending = '{last}') < 3 THEN 'tiers_pending'
                WHEN NOT before THEN 'first_week_in_window' END AS reason
            FROM w
        )
        SELECT tier, symbol, {_FIGURES_SQL}, {rounded_sql("venues", "n")}, elsewhere, other_tier
        FROM r ORDER BY tier, symbol
        """,  # noqa: S608
        s=summaries,
        captured=weeks,
        closed=pl.DataFrame({"day": CLOSED}),
    )
    made = symbol_rolling(summaries, weeks, last)
    of_other_tests = {"week_ending", "split_week", "split_ratio"}
    assert millionths(made, *(c for c in SYMBOL_ROLLING if c not in of_other_tests)) == expected


#: By venue_id, the identity, in the order of each chain: each venue is its own; three have a successor, two of them one
#: that is before them in the alphabet; or one has two successors.
_IDENTITIES: list[dict[str, str]] = [
    {},
    {"UBSA": "UBSA", "INCR": "UBSA", "JPMX": "JPMX", "SGMT": "JPMX", "7897": "7897", "149777": "7897"},
    {"JPMX": "JPMX", "UBSA": "JPMX", "INCR": "JPMX"},
]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(data=st.data(), identity_of=st.sampled_from(_IDENTITIES))
def test_six_week_figures_of_venues_are_those_that_duckdb_computes(
    data: st.DataObject, identity_of: dict[str, str]
) -> None:
    """An independent engine, on any rows and any captured weeks, with successions and without."""
    last, rows, weeks = drawn_window(data)
    shares = venue_share(rows)
    expected = sql(
        f"""
        WITH heard AS (FROM captured WHERE tier IN (SELECT tier FROM captured WHERE week_ending = '{last}')),
        s AS (
            SELECT v.*, coalesce(i.identity_id, v.venue_id) AS identity_id, i.place
            FROM v JOIN heard USING (week_ending, tier) LEFT JOIN i USING (venue_id)
        ),
        t AS (
            SELECT week_ending, tier, identity_id, sum(total_volume) AS total_volume, sum(total_trades) AS total_trades,
                CASE WHEN count(total_notional) = count(*) THEN sum(total_notional) END AS total_notional,
                max(symbol_count) AS symbol_count, coalesce(sum(market_share_pct), 0) AS share
            FROM s GROUP BY ALL
        ),
        -- In a week of both, the venue is the successor.
        named AS (
            SELECT tier, identity_id, any_value(venue_kind) AS venue_kind,
                arg_max(venue_id, (week_ending, coalesce(place, 0))) AS venue_id
            FROM s GROUP BY ALL
        ),
        once AS (
            SELECT tier, identity_id, venue_id, min(week_ending) AS since, any_value(place) AS place FROM s GROUP BY ALL
        ),
        before AS (
            SELECT tier, identity_id, string_agg(once.venue_id, ', ' ORDER BY since, place) AS predecessors
            FROM once JOIN named USING (tier, identity_id) WHERE once.venue_id <> named.venue_id GROUP BY ALL
        ),
        grid AS (
            SELECT named.tier, named.identity_id, heard.week_ending, t.total_volume IS NOT NULL AS traded,
                5 - (SELECT count(*) FROM closed WHERE day BETWEEN heard.week_ending - 4 AND heard.week_ending) AS days,
                coalesce((t.total_volume * 1000000)::HUGEINT, 0) AS shares,
                coalesce(t.total_trades, 0)::HUGEINT AS trades,
                coalesce(t.symbol_count, 0)::HUGEINT AS symbols,
                coalesce((t.share * 1000000)::HUGEINT, 0) AS pct,
                CASE WHEN t.identity_id IS NULL THEN 0 ELSE (t.total_notional * 1000000)::HUGEINT END AS usd
            FROM named JOIN heard USING (tier) LEFT JOIN t USING (week_ending, tier, identity_id)
        ),
        w AS (
            SELECT tier, identity_id, count(*)::HUGEINT AS n, sum(shares)::HUGEINT AS shares,
                sum(trades)::HUGEINT AS trades, sum(symbols)::HUGEINT AS symbols, sum(pct)::HUGEINT AS pct,
                (sum(shares) FILTER (week_ending = '{last}'))::HUGEINT AS now,
                (sum(trades) FILTER (week_ending = '{last}'))::HUGEINT AS trades_now,
                CASE WHEN count(usd) = count(*) THEN sum(usd)::HUGEINT END AS usd,
                (sum(usd) FILTER (week_ending = '{last}'))::HUGEINT AS usd_now,
                sum(days)::HUGEINT AS days, max(days) FILTER (week_ending = '{last}')::HUGEINT AS today,
                count(*) FILTER (traded) AS traded, bool_or(traded AND week_ending < '{last}') AS before,
                min(week_ending) AS earliest
            FROM grid GROUP BY tier, identity_id
        ),
        r AS (
            SELECT *, CASE WHEN n < 3 THEN 'too_few_weeks' WHEN NOT before THEN 'first_week_in_window' END AS reason
            FROM w
        )
        SELECT '{last}'::DATE, tier, venue_id, venue_kind, identity_id,
            predecessors, {_FIGURES_SQL}, {rounded_sql("symbols", "n")}, {rounded_sql("pct", "n * 1000000")}
        FROM r JOIN named USING (tier, identity_id) LEFT JOIN before USING (tier, identity_id) ORDER BY tier, venue_id
        """,  # noqa: S608
        v=shares,
        i=pl.DataFrame(
            [(*pair, place) for place, pair in enumerate(identity_of.items())],
            schema={"venue_id": pl.String, "identity_id": pl.String, "place": pl.Int64},
            orient="row",
        ),
        captured=weeks,
        closed=pl.DataFrame({"day": CLOSED}),
    )
    assert millionths(venue_rolling(shares, weeks, last, identity_of), *VENUE_ROLLING) == expected


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


@settings(max_examples=60)
@given(
    last=st.dates(dt.date(2022, 1, 31), dt.date(2026, 12, 25)).map(week_containing),
    earlier=st.sets(st.integers(1, 5), min_size=2),
    daily=st.decimals(min_value="0.000001", max_value=10**9, places=6),
)
def test_the_same_volume_on_every_trading_day_is_stable_whatever_the_holidays(
    last: dt.date, earlier: set[int], daily: Decimal
) -> None:
    numbers = [*sorted(earlier), 6]
    days = {number: open_days(last - dt.timedelta(weeks=6 - number)) for number in numbers}
    rows = history({n: [("A", "UBSA", str(daily * days[n]), 7 * days[n])] for n in numbers}, last=last)
    weeks = captured(*numbers, last=last)
    (venue,) = venue_rolling(venue_share(rows), weeks, last).to_dicts()
    for row in (of_symbol(rows, weeks, last=last), venue):
        assert (row["trend"], row["volume_vs_avg_pct"]) == ("stable", Decimal(0))
        assert (row["current_daily_volume"], row["avg_6w_daily_volume"]) == (daily, daily)
        assert row["avg_6w_daily_trades"] == Decimal(7)
        assert (row["trading_days"], row["window_trading_days"]) == (days[6], sum(days.values()))


def trends_of(rates: dict[Any, Fraction]) -> dict[str, int]:
    """The number of trends by the rule of ten percent, of volumes relative to their averages."""
    found = [
        "up" if rate > Fraction(11, 10) else "down" if rate < Fraction(9, 10) else "stable" for rate in rates.values()
    ]
    return {trend: found.count(trend) for trend in ("up", "down", "stable")}


@pytest.mark.parametrize(
    ("captured_weeks", "weekly", "daily"),
    [
        (4, {"up": 3, "down": 157, "stable": 52}, {"up": 40, "down": 49, "stable": 123}),
        (6, {"up": 2, "down": 161, "stable": 50}, {"up": 47, "down": 56, "stable": 110}),
    ],
)
def test_in_the_simulated_week_of_labor_day_most_symbols_are_no_longer_down(
    captured_weeks: int, weekly: dict[str, int], daily: dict[str, int]
) -> None:
    """Compared by whole weeks, 157 of 212 symbols of T1 were 'down'."""
    simulator = Simulator(2014, 0.1)
    weeks = weeks_up_to(LABOR_DAY, captured_weeks)
    published = [simulator.publication(week, T1, dt.date(2026, 10, 15)) for week in weeks]
    by_symbol: dict[str, dict[dt.date, Fraction]] = {}
    rows = []
    for week, frame in zip(weeks, published, strict=True):
        assert frame is not None
        of_firms = frame.filter(pl.col("summaryTypeCode").str.ends_with("_W_SMBL_FIRM"))
        named = of_firms.select(
            "issueSymbolIdentifier",
            pl.coalesce("MPID", "firmCRDNumber", pl.lit("DE_MINIMIS")),
            "totalWeeklyShareQuantity",
            "totalWeeklyTradeCount",
        ).rows()
        rows.append(volume(named, week))
        for symbol, _, shares, _ in named:
            traded = by_symbol.setdefault(symbol, {})
            traded[week] = traded.get(week, Fraction(0)) + Fraction(shares)
    sums = {symbol: sum(traded.values()) for symbol, traded in by_symbol.items()}
    now = {symbol: traded.get(LABOR_DAY, Fraction(0)) for symbol, traded in by_symbol.items()}
    assert trends_of({s: now[s] * len(weeks) / sums[s] for s in sums}) == weekly
    assert trends_of({s: now[s] / 4 * (5 * len(weeks) - 1) / sums[s] for s in sums}) == daily

    numbers = range(7 - captured_weeks, 7)
    # With all tiers captured, a symbol without trades in the week is known to have none.
    known = pl.concat([captured(*numbers, tier=tier.name, last=LABOR_DAY) for tier in (T1, T2, OTCE)])
    made = symbol_rolling(symbol_summary(pl.concat(rows)), known, LABOR_DAY).filter(pl.col("tier") == T1.name)
    assert (made.height, made["trend_reason"].null_count()) == (sum(daily.values()),) * 2
    assert dict(made["trend"].value_counts().rows()) == daily


def test_no_trend_of_apple_is_explained_by_trading_days_alone(finra_data: Path) -> None:
    """169 real weeks, in exact fractions. Whole weeks gave 'down' in four weeks with a holiday that are not."""
    content = gzip.decompress((finra_data / "api" / "aapl_ats_w_smbl_totals.json.gz").read_bytes())
    shares = {
        week_ending_of(dt.date.fromisoformat(record["weekStartDate"])): int(record["totalWeeklyShareQuantity"])
        for record in json.loads(content)
    }
    assert len(shares) == 169
    rows = pl.concat([volume([("AAPL", "UBSA", number, 1)], week) for week, number in shares.items()])
    summaries = symbol_summary(rows)
    weeks = summaries.select("week_ending", "tier")
    differing, short = {}, {}
    for last, number in shares.items():
        window = [week for week in weeks_up_to(last, WINDOW_WEEKS) if week in shares]
        total, days = sum(shares[week] for week in window), {week: open_days(week) for week in window}
        by_day = {last: Fraction(number, days[last]) / Fraction(total, sum(days.values()))}
        by_week = {last: Fraction(number) / Fraction(total, len(window))}
        (row,) = symbol_rolling(summaries, weeks, last).to_dicts()
        if len(window) < 3:
            short[last] = (row["trend"], row["trend_reason"])
            continue
        assert trends_of(by_day)[row["trend"]] == 1
        if trends_of(by_day) != trends_of(by_week):
            (weekly,) = (trend for trend, count in trends_of(by_week).items() if count)
            differing[last] = (days[last], weekly, row["trend"])
    assert short == dict.fromkeys(sorted(shares)[:2], (None, "too_few_weeks"))
    assert len(differing) == 16
    assert {week for week, found in differing.items() if found == (4, "down", "stable")} == {
        dt.date(2022, 4, 15),  # Good Friday
        dt.date(2022, 12, 30),  # Christmas
        dt.date(2024, 9, 6),  # Labor Day
        dt.date(2024, 11, 29),  # Thanksgiving, with a half-day
    }
