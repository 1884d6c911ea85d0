"""Estimates: by hand, and by DuckDB on drawn rows."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otc_assets.domain.estimates import VOLUME_ESTIMATE, volume_estimate, weeks_read
from otc_assets.domain.schema import AMOUNT
from otc_assets.domain.weeks import NEW_YORK, T1, T2, due_at, trading_days, week_start_of

WEEK = dt.date(2026, 8, 21)
DAILY = pl.Schema(
    {
        "week_ending": pl.Date(),
        "trade_date": pl.Date(),
        "symbol": pl.String(),
        "short_volume": AMOUNT,
        "total_volume": AMOUNT,
    }
)
WEEKLY = pl.Schema({"week_ending": pl.Date(), "symbol": pl.String(), "total_volume": AMOUNT})


def days(week: dt.date, symbol: str, total: str, short: str = "0", count: int = 5) -> list[tuple[object, ...]]:
    """The same volume on each of the first ``count`` days of a week."""
    start = week_start_of(week)
    return [(week, start + dt.timedelta(days=n), symbol, Decimal(short), Decimal(total)) for n in range(count)]


def earlier(weeks: int) -> dt.date:
    """The week so many weeks before."""
    return WEEK - dt.timedelta(weeks=weeks)


def frames(daily: list[tuple[object, ...]], weekly: list[tuple[object, ...]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows as frames."""
    return pl.DataFrame(daily, DAILY, orient="row"), pl.DataFrame(weekly, WEEKLY, orient="row")


def test_the_worked_example_of_the_docs() -> None:
    """By hand: in three weeks 1,500 shares a week were reported and 1,650 traded, a ratio of 1.1. Four days of the week
    have 400 shares each: 1,600 x 5 / 4 x 1.1 = 2,200. The weekly publication says 2,000: 10 % too much."""
    daily = [row for n in (5, 6, 8) for row in days(earlier(n), "BRK/B", "300")]
    daily += days(WEEK, "BRK/B", "400", "100", count=4)
    weekly = [(earlier(n), "BRK.B", Decimal(1650)) for n in (5, 6, 8)] + [(WEEK, "BRK.B", Decimal(2000))]
    (row,) = volume_estimate(WEEK, *frames(daily, weekly)).to_dicts()
    assert row == {
        "week_ending": WEEK,
        "symbol": "BRK.B",
        "trading_days": 5,
        "days_reported": 4,
        "reported_volume": Decimal(1600),
        "short_volume": Decimal(400),
        "short_share_pct": Decimal(25),
        "calibration": "symbol",
        "calibration_weeks": 3,
        "calibration_ratio": Decimal("1.1"),
        "estimated_volume": Decimal(2200),
        "actual_volume": Decimal(2000),
        "error_pct": Decimal(10),
    }


def test_a_symbol_with_few_weeks_has_the_ratio_of_the_market() -> None:
    """By hand: OLD reported 3 x 500 and traded 3 x 600; NEW reported 50 and traded 100. Together 1,900 / 1,550."""
    daily = [row for n in (5, 6, 8) for row in days(earlier(n), "OLD", "100")] + days(earlier(5), "NEW", "10")
    daily += days(WEEK, "NEW", "31", count=5)
    weekly = [(earlier(n), "OLD", Decimal(600)) for n in (5, 6, 8)] + [(earlier(5), "NEW", Decimal(100))]
    (row,) = volume_estimate(WEEK, *frames(daily, weekly)).to_dicts()
    assert (row["symbol"], row["calibration"], row["calibration_weeks"]) == ("NEW", "market", 1)
    assert row["estimated_volume"] == Decimal(190)  # 155 x 1,900 / 1,550
    assert (row["actual_volume"], row["error_pct"]) == (None, None)


def test_without_earlier_weeks_the_reported_volume_is_the_estimate() -> None:
    (row,) = volume_estimate(WEEK, *frames(days(WEEK, "A", "7"), [])).to_dicts()
    assert (row["calibration"], row["calibration_ratio"], row["estimated_volume"]) == ("none", 1, 35)


def test_a_week_that_lacks_a_day_does_not_calibrate() -> None:
    """Its ratio would be a quarter too high."""
    daily = [row for n in (5, 6, 8) for row in days(earlier(n), "A", "100", count=4 if n == 6 else 5)]
    weekly = [(earlier(n), "A", Decimal(500)) for n in (5, 6, 8)]
    (row,) = volume_estimate(WEEK, *frames([*daily, *days(WEEK, "A", "1")], weekly)).to_dicts()
    assert (row["calibration_weeks"], row["calibration"], row["calibration_ratio"]) == (2, "market", 1)


@pytest.mark.parametrize("week", [dt.date(2026, 8, 21), dt.date(2026, 1, 23), dt.date(2026, 11, 27)])
def test_what_calibrates_an_estimate_was_published_when_its_week_ended(week: dt.date) -> None:
    """Guards against an estimate that looks ahead: a backtest of it would be better than what anyone could have had."""
    friday = dt.datetime.combine(week, dt.time(18), NEW_YORK)
    *calibrating, last = weeks_read(week)
    assert last == week
    assert all(due_at(each, tier) <= friday for each in calibrating for tier in (T1, T2))


#: The formula in SQL, independent of the code. Whole numbers of millionths are exact in HUGEINT.
_SQL = """
WITH reported AS (
    SELECT week_ending, replace(symbol, '/', '.') AS symbol, sum(total) AS total, sum(short) AS short
    FROM daily GROUP BY ALL
), days AS (SELECT week_ending, count(DISTINCT trade_date) AS days FROM daily GROUP BY ALL),
actual AS (SELECT week_ending, symbol, sum(total) AS total FROM weekly GROUP BY ALL),
pairs AS (
    SELECT r.symbol, r.total AS reported, a.total AS actual
    FROM reported r JOIN actual a USING (week_ending, symbol)
    JOIN days d USING (week_ending) JOIN calendar c USING (week_ending)
    WHERE d.days = c.days AND r.total > 0 AND week_ending BETWEEN $week::date - 70 AND $week::date - 35
),
own AS (SELECT symbol, count(*) AS weeks, sum(actual) AS a, sum(reported) AS r FROM pairs GROUP BY ALL),
market AS (SELECT sum(actual) AS a, sum(reported) AS r FROM pairs)
SELECT r.symbol, c.days, d.days, r.total, r.short, coalesce(own.weeks, 0),
    CASE WHEN own.weeks >= 3 THEN 'symbol' WHEN market.r > 0 THEN 'market' ELSE 'none' END AS calibration,
    CASE WHEN own.weeks >= 3 THEN own.a WHEN market.r > 0 THEN market.a ELSE 1 END AS a,
    CASE WHEN own.weeks >= 3 THEN own.r WHEN market.r > 0 THEN market.r ELSE 1 END AS b,
    actual.total
FROM reported r JOIN calendar c USING (week_ending) JOIN days d USING (week_ending) CROSS JOIN market
LEFT JOIN own ON own.symbol = r.symbol
LEFT JOIN actual ON actual.symbol = r.symbol AND actual.week_ending = r.week_ending
WHERE r.week_ending = $week ORDER BY r.symbol
"""

_SYMBOLS = st.sampled_from(["A", "ABRpD", "ABRPD", "BRK/B", "X/WS"])
_VOLUME = st.integers(0, 10**12)


@st.composite
def _drawn(draw: st.DrawFn) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    daily, weekly = {}, {}
    for week in weeks_read(WEEK):
        for _ in range(draw(st.integers(0, 8))):
            symbol = draw(_SYMBOLS)
            for n in draw(st.sets(st.integers(0, 4), min_size=1)):
                total = draw(_VOLUME)
                daily[week, week_start_of(week) + dt.timedelta(days=n), symbol] = (draw(st.integers(0, total)), total)
        for symbol in draw(st.sets(_SYMBOLS)):
            weekly[week, symbol.replace("/", ".")] = draw(_VOLUME)
    return [(*key, *volumes) for key, volumes in daily.items()], [(*key, volume) for key, volume in weekly.items()]


def _rounded(numerator: int, denominator: int) -> Decimal | None:
    """The fraction in millionths, rounded half up, with Python's integers."""
    if not denominator:
        return None
    size = (2 * abs(numerator) * 10**6 + denominator) // (2 * denominator)
    return Decimal(size if numerator >= 0 else -size).scaleb(-6)


@given(_drawn())
@settings(max_examples=60)
def test_estimates_are_those_of_an_independent_formula(
    drawn: tuple[list[tuple[object, ...]], list[tuple[object, ...]]],
) -> None:
    daily_rows, weekly_rows = drawn
    with duckdb.connect() as base:
        base.execute(
            "CREATE TABLE daily (week_ending date, trade_date date, symbol text, short hugeint, total hugeint)"
        )
        base.execute("CREATE TABLE weekly (week_ending date, symbol text, total hugeint)")
        base.execute("CREATE TABLE calendar (week_ending date, days int)")
        for name, rows in (("daily", daily_rows), ("weekly", weekly_rows)):
            if rows:
                base.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        base.executemany(
            "INSERT INTO calendar VALUES (?, ?)", [(week, trading_days(week)) for week in weeks_read(WEEK)]
        )
        expected = base.execute(_SQL, {"week": WEEK}).fetchall()
    micro = Decimal("0.000001")
    made = volume_estimate(
        WEEK,
        *frames(
            [(*row[:3], row[3] * micro, row[4] * micro) for row in daily_rows],  # type: ignore[operator]
            [(*row[:2], row[2] * micro) for row in weekly_rows],  # type: ignore[operator]
        ),
    )
    assert made.schema == VOLUME_ESTIMATE
    wanted = []
    for symbol, in_week, reported_days, total, short, weeks, calibration, a, b, actual in expected:
        estimated = _rounded(total * in_week * a, reported_days * b * 10**6)
        assert estimated is not None
        size = int(estimated.scaleb(6))
        wanted.append(
            {
                "week_ending": WEEK,
                "symbol": symbol,
                "trading_days": in_week,
                "days_reported": reported_days,
                "reported_volume": total * micro,
                "short_volume": short * micro,
                "short_share_pct": _rounded(short * 100, total),
                "calibration": calibration,
                "calibration_weeks": weeks,
                "calibration_ratio": _rounded(a, b),
                "estimated_volume": estimated,
                "actual_volume": None if actual is None else actual * micro,
                "error_pct": None if actual is None else _rounded((size - actual) * 100, actual),
            }
        )
    assert made.to_dicts() == wanted
