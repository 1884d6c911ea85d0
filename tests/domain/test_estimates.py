"""Estimates: by hand, and by DuckDB on drawn rows."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import sql

from otc_assets.domain.datasets import SHORT_INTEREST
from otc_assets.domain.estimates import (
    VOLUME_ESTIMATE,
    cycle_of,
    off_exchange_share,
    volume_estimate,
    weeks_read,
)
from otc_assets.domain.schema import AMOUNT
from otc_assets.domain.threshold_stay import threshold_stay
from otc_assets.domain.weeks import (
    NEW_YORK,
    T1,
    T2,
    due_at,
    is_trading_day,
    trading_days,
    week_containing,
    week_start_of,
    weeks_between,
)

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


#: The formula in SQL, independent of the code: DuckDB's sums of whole numbers of millionths are exact.
_SQL = f"""
WITH reported AS (
    SELECT week_ending, replace(symbol, '/', '.') AS symbol, sum(total) AS total, sum(short) AS short
    FROM daily GROUP BY ALL
), days AS (SELECT week_ending, count(DISTINCT trade_date) AS days FROM daily GROUP BY ALL),
actual AS (SELECT week_ending, symbol, sum(total) AS total FROM weekly GROUP BY ALL),
pairs AS (
    SELECT r.symbol, r.total AS reported, a.total AS actual
    FROM reported r JOIN actual a USING (week_ending, symbol)
    JOIN days d USING (week_ending) JOIN calendar c USING (week_ending)
    WHERE d.days = c.days AND r.total > 0 AND week_ending BETWEEN DATE '{WEEK}' - 70 AND DATE '{WEEK}' - 35
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
WHERE r.week_ending = DATE '{WEEK}' ORDER BY r.symbol
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


def _fitting(value: Decimal | None) -> Decimal | None:
    """The column has twelve digits before the point."""
    return None if value is None or abs(value) >= 10**12 else value


def test_an_error_that_no_column_has_room_for_is_null() -> None:
    """It ended the computation of the week."""
    ten_billion, millionth = Decimal(10**10), Decimal("0.000001")
    (week,) = [day for day in weeks_read(WEEK) if day == WEEK]
    daily, weekly = frames([(week, week, "A", Decimal(0), ten_billion)], [(week, "A", millionth)])
    (row,) = volume_estimate(WEEK, daily, weekly).to_dicts()
    assert (row["actual_volume"], row["error_pct"]) == (millionth, None)


@pytest.mark.slow
@given(_drawn())
@settings(max_examples=25)
def test_estimates_are_those_of_an_independent_formula(
    drawn: tuple[list[tuple[object, ...]], list[tuple[object, ...]]],
) -> None:
    daily_rows, weekly_rows = drawn
    whole = {"week_ending": pl.Date(), "trade_date": pl.Date(), "symbol": pl.String(), "short": pl.Int64()}
    weekly_schema = {"week_ending": pl.Date(), "symbol": pl.String(), "total": pl.Int64()}
    calendar = [(week, trading_days(week)) for week in weeks_read(WEEK)]
    expected = sql(
        _SQL,
        daily=pl.DataFrame(daily_rows, {**whole, "total": pl.Int64()}, orient="row"),
        weekly=pl.DataFrame(weekly_rows, weekly_schema, orient="row"),
        calendar=pl.DataFrame(calendar, {"week_ending": pl.Date(), "days": pl.Int64()}, orient="row"),
    )
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
                "error_pct": None if actual is None else _fitting(_rounded((size - actual) * 100, actual)),
            }
        )
    assert made.to_dicts() == wanted


# --- the share of trading that is off exchange ----------------------------------------------------------

SUMMARY = pl.Schema(
    {"week_ending": pl.Date(), "symbol": pl.String(), "total_volume": AMOUNT, "ats_volume": AMOUNT}
)  # fmt: skip


def positions(*rows: tuple[str, str, str | None]) -> pl.DataFrame:
    """Short interest of the cycle: (symbol, average daily volume, split flag)."""
    cycle = cycle_of(WEEK)
    return pl.DataFrame(
        [
            {
                "week_ending": week_containing(cycle),
                "settlement_date": cycle,
                "symbol": symbol,
                "short_position": Decimal(500),
                "avg_daily_volume": Decimal(average),
                "days_to_cover": Decimal("1.25"),
                "stock_split_flag": split,
            }
            for symbol, average, split in rows
        ],
        schema=SHORT_INTEREST.schema,
    )


def traded(*rows: tuple[str, str, str]) -> pl.DataFrame:
    """A week's summaries: (symbol, total volume, volume at ATSs)."""
    return pl.DataFrame([(WEEK, s, Decimal(t), Decimal(a)) for s, t, a in rows], SUMMARY, orient="row")


def test_the_worked_example_of_the_share() -> None:
    """By hand: an average of 400 shares on five days is 2,000; 900 of them off exchange are 45 %, 300 at ATSs 15 %."""
    (row,) = off_exchange_share(WEEK, traded(("BRK.B", "900", "300")), positions(("BRKB", "400", None))).to_dicts()
    assert row == {
        "week_ending": WEEK,
        "symbol": "BRK.B",
        "settlement_date": dt.date(2026, 8, 31),
        "trading_days": 5,
        "total_volume": Decimal(900),
        "ats_volume": Decimal(300),
        "avg_daily_volume": Decimal(400),
        "consolidated_volume": Decimal(2000),
        "off_exchange_share_pct": Decimal(45),
        "ats_share_pct": Decimal(15),
        "share_reason": None,
        "short_position": Decimal(500),
        "days_to_cover": Decimal("1.25"),
    }


def test_there_is_no_share_where_the_cycle_has_a_split_or_no_volume() -> None:
    made = off_exchange_share(
        WEEK, traded(("A", "9", "3"), ("B", "9", "3")), positions(("A", "4", "S"), ("B", "0", None))
    )
    assert made.select("symbol", "off_exchange_share_pct", "ats_share_pct", "share_reason").rows() == [
        ("A", None, None, "split"),
        ("B", None, None, "no_volume"),
    ]


def test_tickers_that_short_interest_spells_alike_are_left_out() -> None:
    """It is not known which of them is meant; ABRpD is not ABRPD."""
    weekly = traded(("A.B", "1", "0"), ("AB", "2", "0"), ("ABRpD", "3", "0"), ("ABRPD", "4", "0"), ("X.WS", "5", "0"))
    codes = positions(("AB", "9", None), ("ABRPRD", "9", None), ("ABRPD", "9", None), ("XWS", "9", None))
    made = off_exchange_share(WEEK, weekly, codes)
    assert made.select("symbol", "total_volume").rows() == [("ABRPD", 4), ("ABRpD", 3), ("X.WS", 5)]


@pytest.mark.parametrize(
    ("settled", "published"),
    [
        ("2025-11-14", "2025-11-25"),
        ("2025-12-15", "2025-12-24"),
        ("2025-12-31", "2026-01-12"),
        ("2026-01-15", "2026-01-27"),
    ],
)
def test_settlement_dates_and_their_publication_are_those_of_finras_schedule(settled: str, published: str) -> None:
    """Four rows of FINRA's schedule, as reported: docs/finra.md."""
    day = dt.date.fromisoformat(settled)
    assert day in SHORT_INTEREST.periods(week_containing(day))
    assert SHORT_INTEREST.due(day).date() == dt.date.fromisoformat(published)


@given(st.dates(dt.date(2019, 1, 1), dt.date(2030, 1, 1)))
def test_there_are_two_settlement_dates_a_month_each_the_newest_trading_day(day: dt.date) -> None:
    """The judge counts back from the 15th and from the end of the month."""
    first = day.replace(day=1)
    last = (first + dt.timedelta(days=31)).replace(day=1) - dt.timedelta(days=1)
    expected = []
    for wanted in (first + dt.timedelta(days=14), last):
        while not is_trading_day(wanted):
            wanted -= dt.timedelta(days=1)
        expected.append(wanted)
    weeks = weeks_between(week_containing(first), week_containing(last))
    found = [each for week in weeks for each in SHORT_INTEREST.periods(week) if each.month == first.month]
    assert found == expected


@given(
    st.dictionaries(_SYMBOLS.map(lambda s: s.replace("/", ".")), st.tuples(_VOLUME, _VOLUME)),
    st.dictionaries(st.sampled_from(["A", "ABRPRD", "ABRPD", "BRKB", "XWS", "Z"]), st.tuples(_VOLUME, st.booleans())),
)
@settings(max_examples=60)
def test_shares_are_those_of_an_independent_formula(
    weekly: dict[str, tuple[int, int]], codes: dict[str, tuple[int, bool]]
) -> None:
    micro = Decimal("0.000001")
    rows = [(s, str((t + a) * micro), str(a * micro)) for s, (t, a) in weekly.items()]
    made = off_exchange_share(
        WEEK,
        traded(*rows),
        positions(*((c, str(v * micro), "S" if split else None) for c, (v, split) in codes.items())),
    )
    spelled = {"A": "A", "ABRpD": "ABRPRD", "ABRPD": "ABRPD", "BRK.B": "BRKB", "X.WS": "XWS"}
    wanted = []
    for symbol, (rest, ats) in sorted(weekly.items()):
        if (code := spelled[symbol]) not in codes:
            continue
        average, split = codes[code]
        wanted.append(
            (
                symbol,
                average * 5 * micro,
                None if split else _rounded((rest + ats) * 100, average * 5),
                None if split else _rounded(ats * 100, average * 5),
            )
        )
    assert made.select("symbol", "consolidated_volume", "off_exchange_share_pct", "ats_share_pct").rows() == wanted


# --- the threshold list -----------------------------------------------------------------------------------


def test_a_stay_on_the_threshold_list_is_counted_back_to_a_day_off_it_or_not_captured() -> None:
    """By hand, Monday the 10th to Friday the 21st, all captured but the 12th. A is listed from the 13th to the 21st
    without a break: 7 days, and perhaps longer. B is off on the 18th, and listed on the 19th and 20th."""
    days = [dt.date(2026, 8, day) for day in (10, 11, 13, 14, 17, 18, 19, 20, 21)]
    listed = [("A", day) for day in days] + [("B", day) for day in days if day.day not in (18, 21)]
    listed += [("GONE", dt.date(2026, 8, 14))]
    frame = pl.DataFrame(listed, {"symbol": pl.String(), "trade_date": pl.Date()}, orient="row")
    made = threshold_stay(WEEK, days, frame, traded(("A", "700", "0")))
    assert made.to_dicts() == [
        {
            "week_ending": WEEK,
            "symbol": "A",
            "days_captured": 5,
            "days_listed": 5,
            "listed_at_end": True,
            "consecutive_days": 7,
            "first_day": dt.date(2026, 8, 13),
            "at_least": True,
            "total_volume": Decimal(700),
        },
        {
            "week_ending": WEEK,
            "symbol": "B",
            "days_captured": 5,
            "days_listed": 3,
            "listed_at_end": False,
            "consecutive_days": 2,
            "first_day": dt.date(2026, 8, 19),
            "at_least": False,
            "total_volume": None,
        },
    ]
