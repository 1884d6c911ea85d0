"""Blocks of a month: by hand, and by DuckDB on drawn rows."""

from __future__ import annotations

import calendar
import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import JULY, JULY_WEEKS, VENUE_WEEKS, sql

from otc_assets.domain.block_share import BLOCK_SHARE, block_share
from otc_assets.domain.dataset_gaps import dataset_gaps
from otc_assets.domain.datasets import ATS_BLOCKS, OTC_BLOCKS
from otc_assets.domain.periods import weeks_of_month
from otc_assets.domain.quality.datasets import month_within_weeks
from otc_assets.domain.weeks import NEW_YORK, OTCE, T1, T2, is_trading_day, week_containing

#: (venue, category, trades in blocks, shares in blocks, all shares).
Block = tuple[str, str, int, Any, Any]


def blocks(ats: list[Block], firms: list[Block]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of both data sets."""
    frames = []
    for dataset, rows in ((ATS_BLOCKS, ats), (OTC_BLOCKS, firms)):
        name = dataset.key[0]
        made = [
            {
                "week_ending": JULY_WEEKS[-1],
                "month_start": JULY,
                name: venue,
                "category": category,
                "block_trades": trades,
                "block_volume": Decimal(volume),
                "total_trades": 10**6,
                "total_volume": Decimal(total),
            }
            for venue, category, trades, volume, total in rows
        ]
        frames.append(pl.DataFrame(made, schema=dataset.schema))
    return frames[0], frames[1]


def traded(**volumes: list[int]) -> pl.DataFrame:
    """By ATS, the volume of each week of July in tier 1; half as much in tier 2, and some in OTC equities."""
    rows = []
    for venue, of_weeks in volumes.items():
        for week, volume in zip(JULY_WEEKS, of_weeks, strict=True):
            rows += [
                (week, tier.name, "ATS", venue, Decimal(volume) / part) for tier, part in ((T1, 1), (T2, 2), (OTCE, 4))
            ]
    return pl.DataFrame(rows, VENUE_WEEKS, orient="row")


def test_the_worked_example_of_the_docs() -> None:
    """By hand: 20 blocks of 300,000 shares are 10 % of 3 million, 15,000 each, and three quarters of the 400,000 in all
    blocks. The four weeks inside July have 4 x 600,000 x 1.5 = 3.6 million in both tiers: 3 million is below them."""
    ats, firms = blocks([("UBSA", "10K", 20, 300_000, 3_000_000)], [("FIRM", "10K", 5, 100_000, 500_000)])
    made = block_share(JULY_WEEKS[-1], ats, firms, traded(UBSA=[200_000, 600_000, 600_000, 600_000, 600_000]))
    assert made.to_dicts() == [
        {
            "week_ending": JULY_WEEKS[-1],
            "month_start": JULY,
            "venue_kind": "ATS",
            "venue": "UBSA",
            "category": "10K",
            "block_trades": 20,
            "block_volume": Decimal(300_000),
            "total_volume": Decimal(3_000_000),
            "block_share_pct": Decimal(10),
            "avg_block_size": Decimal(15_000),
            "market_block_share_pct": Decimal(75),
            "whole_weeks_volume": Decimal(3_600_000),
            "touching_weeks_volume": Decimal(3_900_000),
            "against_weeks": "below",
        },
        {
            "week_ending": JULY_WEEKS[-1],
            "month_start": JULY,
            "venue_kind": "NON_ATS",
            "venue": "FIRM",
            "category": "10K",
            "block_trades": 5,
            "block_volume": Decimal(100_000),
            "total_volume": Decimal(500_000),
            "block_share_pct": Decimal(20),
            "avg_block_size": Decimal(20_000),
            "market_block_share_pct": Decimal(25),
            "whole_weeks_volume": None,
            "touching_weeks_volume": None,
            "against_weeks": None,
        },
    ]
    verdict = month_within_weeks(made)
    assert (verdict.passed, verdict.detail) == (False, "1 of 1 ATSs are outside of their weeks: UBSA")


@pytest.mark.parametrize(("total", "state"), [(599, "below"), (600, "within"), (750, "within"), (751, "above")])
def test_a_month_is_at_least_its_whole_weeks_and_at_most_all_weeks_that_touch_it(total: int, state: str) -> None:
    """By hand: 4 x 100 x 1.5 = 600 inside July, and 100 x 1.5 more in the week of June 29 to July 3."""
    ats, firms = blocks([("A", "10K", 0, 0, total)], [])
    (row,) = block_share(JULY_WEEKS[-1], ats, firms, traded(A=[100] * 5)).to_dicts()
    assert row["against_weeks"] == state
    assert (row["block_share_pct"], row["avg_block_size"], row["market_block_share_pct"]) == (0, None, None)


def test_nothing_is_said_of_the_weeks_until_both_tiers_of_all_are_there() -> None:
    ats, firms = blocks([("A", "10K", 1, 1, 100), ("NEW", "10K", 1, 1, 100)], [])
    weekly = traded(A=[100] * 5)
    lacking = weekly.filter((pl.col("week_ending") != JULY_WEEKS[2]) | (pl.col("tier") != T2.name))
    assert block_share(JULY_WEEKS[-1], ats, firms, lacking)["against_weeks"].to_list() == [None, None]
    made = block_share(JULY_WEEKS[-1], ats, firms, weekly)
    # NEW has traded nothing in complete weeks, so that 100 shares are more than all of them.
    assert made.select("venue", "touching_weeks_volume", "against_weeks").rows() == [
        ("A", 750, "below"),
        ("NEW", 0, "above"),
    ]


@pytest.mark.parametrize(
    ("month", "published"),
    [("2016-08-01", "2016-10-03"), ("2019-10-01", "2019-12-02"), ("2026-07-01", "2026-09-08")],
)
def test_blocks_are_due_on_the_first_monday_of_the_second_month_after(month: str, published: str) -> None:
    """The first two are the days on which FINRA began to publish; the third Monday is Labor Day."""
    assert ATS_BLOCKS.due(dt.date.fromisoformat(month)).date() == dt.date.fromisoformat(published)


@given(st.dates(dt.date(2016, 1, 1), dt.date(2035, 1, 1)))
def test_every_month_is_captured_in_the_week_in_which_it_ends_and_due_a_month_later(day: dt.date) -> None:
    first = day.replace(day=1)
    last = first.replace(day=calendar.monthrange(first.year, first.month)[1])
    week = week_containing(last)
    assert ATS_BLOCKS.week_of(first) == week
    assert ATS_BLOCKS.periods(week) == [first]
    assert ATS_BLOCKS.periods(week - dt.timedelta(weeks=1)) in ([], [(first - dt.timedelta(days=1)).replace(day=1)])
    due = ATS_BLOCKS.due(first).date()
    assert is_trading_day(due)
    next_month = last + dt.timedelta(
        days=calendar.monthrange((last + dt.timedelta(1)).year, (last + dt.timedelta(1)).month)[1]
    )
    assert next_month < due <= next_month + dt.timedelta(days=10)
    weekdays = [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]
    assert weeks_of_month(first) == sorted({week_containing(d) for d in weekdays if d.weekday() < 5})


def test_a_month_is_a_gap_from_its_end_on() -> None:
    """June is captured. July ends on Friday the 31st, is due on September 8, and late until September 11."""

    def gaps(month: int, day: int, hour: int = 12) -> list[tuple[Any, ...]]:
        found = dataset_gaps(
            {ATS_BLOCKS.name: [dt.date(2026, 6, 1)]}, {}, dt.datetime(2026, month, day, hour, tzinfo=NEW_YORK)
        )
        return found.select("week_ending", "period", "status", "due").rows()

    assert gaps(7, 30) == []
    july = (JULY_WEEKS[-1], JULY)
    assert gaps(8, 1) == [(*july, "pending", dt.date(2026, 9, 8))]
    assert gaps(9, 8, 18)[0] == (*july, "late", dt.date(2026, 9, 8))
    # August has ended too, on a Monday.
    assert gaps(9, 12) == [
        (*july, "missing_at_end", dt.date(2026, 9, 8)),
        (dt.date(2026, 9, 4), dt.date(2026, 8, 1), "pending", dt.date(2026, 10, 5)),
    ]


#: The formula in SQL, independent of the code, in millionths.
_SQL = """
WITH all_blocks AS (SELECT 'ATS' AS kind, * FROM ats UNION ALL SELECT 'NON_ATS', * FROM firms),
nms AS (SELECT * FROM weekly WHERE tier LIKE 'NMS%'),
complete AS (SELECT count(*) = 10 AS yes FROM (SELECT DISTINCT week_ending, tier FROM nms)),
bounds AS (
    SELECT venue_id AS venue,
        coalesce(sum(volume) FILTER (WHERE month(week_ending - INTERVAL 4 DAY) = 7), 0) AS low, sum(volume) AS high
    FROM nms WHERE venue_kind = 'ATS' GROUP BY ALL
)
SELECT kind, b.venue, category, sum(block) OVER (PARTITION BY category) AS market,
    CASE WHEN yes AND kind = 'ATS' THEN coalesce(low, 0) END AS low,
    CASE WHEN yes AND kind = 'ATS' THEN coalesce(high, 0) END AS high
FROM all_blocks b CROSS JOIN complete LEFT JOIN bounds ON bounds.venue = b.venue AND kind = 'ATS'
ORDER BY kind, b.venue, category
"""
_VOLUME = st.integers(0, 10**13)
_KEY = st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(["10K", "200K"]))
_BLOCKS = st.dictionaries(
    _KEY,
    st.tuples(st.integers(0, 5), _VOLUME, _VOLUME).map(lambda drawn: (drawn[0], *sorted(drawn[1:]))),
    min_size=1,
)


def _rounded(numerator: int, denominator: int) -> Decimal | None:
    """The fraction in millionths, rounded half up, with Python's integers."""
    return Decimal((2 * numerator * 10**6 + denominator) // (2 * denominator)).scaleb(-6) if denominator else None


@pytest.mark.slow
@given(
    _BLOCKS,
    _BLOCKS,
    st.dictionaries(
        st.tuples(
            st.sampled_from(JULY_WEEKS),
            st.sampled_from([T1, T2, OTCE]),
            st.sampled_from(["ATS", "NON_ATS"]),
            st.sampled_from(["A", "B"]),
        ),
        _VOLUME,
    ),
    st.booleans(),
)
@settings(max_examples=40)
def test_block_shares_are_those_of_an_independent_formula(
    ats: dict[Any, Any], firms: dict[Any, Any], drawn: dict[Any, int], fill: bool
) -> None:
    if fill:
        drawn = {(week, tier, "ATS", "A"): 5 for week in JULY_WEEKS for tier in (T1, T2)} | drawn
    micro = Decimal("0.000001")
    weekly = [(week, tier.name, kind, venue, volume) for (week, tier, kind, venue), volume in drawn.items()]
    of = {"venue": pl.String(), "category": pl.String(), "trades": pl.Int64(), "block": pl.Int64(), "total": pl.Int64()}
    flat = [[(*key, *values) for key, values in each.items()] for each in (ats, firms)]
    expected = sql(
        _SQL,
        ats=pl.DataFrame(flat[0], of, orient="row"),
        firms=pl.DataFrame(flat[1], of, orient="row"),
        weekly=pl.DataFrame(
            weekly,
            {**{n: k for n, k in VENUE_WEEKS.items() if n != "total_volume"}, "volume": pl.Int64()},
            orient="row",
        ),
    )
    in_shares = [[(v, c, n, b * micro, t * micro) for v, c, n, b, t in rows] for rows in flat]
    made = block_share(
        JULY_WEEKS[-1],
        *blocks(in_shares[0], in_shares[1]),
        pl.DataFrame([(*row[:4], row[4] * micro) for row in weekly], VENUE_WEEKS, orient="row"),
    )
    assert made.schema == BLOCK_SHARE
    wanted = []
    for kind, venue, category, market, low, high in expected:
        trades, block, total = (ats if kind == "ATS" else firms)[venue, category]
        state = None if low is None else "below" if total < low else "above" if total > high else "within"
        wanted.append(
            (
                kind,
                venue,
                category,
                _rounded(block * 100, total),
                _rounded(block, trades * 10**6),
                _rounded(block * 100, int(market)),
                None if low is None else int(low) * micro,
                None if high is None else int(high) * micro,
                state,
            )
        )
    columns = ["venue_kind", "venue", "category", "block_share_pct", "avg_block_size", "market_block_share_pct"]
    columns += ["whole_weeks_volume", "touching_weeks_volume", "against_weeks"]
    assert made.select(columns).rows() == wanted
