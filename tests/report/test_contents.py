"""The figures of a report against DuckDB on drawn rows."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import WEEK, inputs, volume

from otc_assets.domain.weeks import TIERS, trading_days, weeks_up_to
from otc_assets.report.selection import VENUES, contents

_ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([tier.name for tier in TIERS]),
        st.sampled_from(["AAPL", "MSFT", "TSLA"]),
        st.sampled_from(["UBSA", "INCR", "7897", "149777", "DE_MINIMIS"]),
        st.one_of(st.integers(0, 10**9), st.decimals(0, 10**6, places=6).map(str)),
    ),
    max_size=40,
    unique_by=lambda row: row[:4],
)

_WITNESS = """
    WITH weekly AS (
        SELECT tier, week_ending, sum(share_volume) AS shares,
            coalesce(sum(share_volume) FILTER (venue_kind = 'ATS'), 0) AS ats, sum(trade_count) AS trades,
            sum(notional) AS notional, count(DISTINCT symbol) AS symbols,
            count(DISTINCT venue_id) AS venues, any_value(days) AS days
        FROM rows JOIN days USING (week_ending) GROUP BY tier, week_ending
    ), windows AS (
        SELECT tier, sum(shares) AS shares, sum(days) AS days, count(*) AS weeks FROM weekly GROUP BY tier
    ), before AS (
        SELECT tier, max(week_ending) AS week_ending FROM weekly WHERE week_ending < $week GROUP BY tier
    )
    SELECT now.tier, now.shares, now.ats, now.trades, now.notional, now.symbols, now.venues, windows.shares,
        windows.days, windows.weeks, before.week_ending, earlier.shares, earlier.ats
    FROM weekly now JOIN windows USING (tier) LEFT JOIN before USING (tier)
    LEFT JOIN weekly earlier ON earlier.tier = now.tier AND earlier.week_ending = before.week_ending
    WHERE now.week_ending = $week
"""


def _near(value: Decimal | None, expected: Fraction | None) -> bool:
    if value is None or expected is None:
        return value is None and expected is None
    return abs(Fraction(value) - expected) < Fraction(1, 10**9)


@given(_ROWS)
@settings(max_examples=40)
def test_every_headline_figure_is_what_duckdb_says(drawn: list[Any]) -> None:
    rows = volume(drawn)
    days = pl.DataFrame({"week_ending": weeks_up_to(WEEK), "days": [trading_days(week) for week in weeks_up_to(WEEK)]})
    with duckdb.connect() as connection:
        connection.register("rows", rows.to_arrow())
        connection.register("days", days.to_arrow())
        witness = {row[0]: row[1:] for row in connection.execute(_WITNESS, {"week": WEEK}).fetchall()}
    page = contents(inputs(rows))
    assert [tier.tier for tier in page.tiers] == [tier.name for tier in TIERS if tier.name in witness]
    for tier in page.tiers:
        shares, ats, trades, notional, symbols, venues, sum_shares, sum_days, weeks, before, then, ats_then = witness[
            tier.tier
        ]
        assert (tier.total, tier.ats, tier.non_ats) == (shares, ats, shares - ats)
        assert (tier.trades, tier.notional, tier.symbols, tier.venues) == (trades, notional, symbols, venues)
        assert (tier.days, tier.captured_weeks, tier.compared_with) == (5, weeks, before)
        share = Fraction(ats) / Fraction(shares) * 100 if shares else None
        share_then = Fraction(ats_then) / Fraction(then) * 100 if then else None
        change = share - share_then if share is not None and share_then is not None else None
        above = (
            (Fraction(shares) / 5 / (Fraction(sum_shares) / sum_days) - 1) * 100 if sum_shares and weeks >= 3 else None
        )
        assert _near(tier.ats_share_pct, share)
        assert _near(tier.share_change, change)
        assert _near(tier.vs_average_pct, above)


def test_a_venues_places_are_those_won_since_the_week_before_and_a_venue_without_one_is_new() -> None:
    """By hand. Before: UBSA 300, INCR 200, 7897 100. Now: INCR 500, 149777 400, UBSA 300, 7897 100."""
    tier = TIERS[0].name
    rows = volume(
        [
            *((1, tier, "A", place, shares) for place, shares in (("UBSA", 300), ("INCR", 200), ("7897", 100))),
            *(
                (0, tier, "A", place, shares)
                for place, shares in (("INCR", 500), ("149777", 400), ("UBSA", 300), ("7897", 100))
            ),
        ]
    )
    found = contents(inputs(rows)).venues[tier]
    assert [(row.rank, row.name, row.moved, row.is_new, row.kind) for row in found] == [
        (1, "Venue INCR", 1, False, "ATS"),
        (2, "Venue 149777", None, True, "Firm"),
        (3, "Venue UBSA", -2, False, "ATS"),
        (4, "Venue 7897", -1, False, "Firm"),
    ]
    assert [row.share_change for row in found][2] == Decimal("-26.923077")  # 300 of 1,300 after 300 of 600


def test_only_the_largest_venues_are_listed_and_symbols_below_the_floors_are_not_ranked() -> None:
    tier = TIERS[0].name
    rows = volume([(0, tier, "A", f"{1000 + number}", 100 + number) for number in range(VENUES + 5)])
    page = contents(inputs(rows))
    assert len(page.venues[tier]) == VENUES
    assert page.tiers[0].venues == VENUES + 5
    assert page.concentrated == ()  # a few hundred shares
    enough = volume([(0, tier, "B", "UBSA", 100_000), (0, tier, "C", "UBSA", 99_999)])
    assert [row.symbol for row in contents(inputs(enough)).concentrated] == ["B"]


def test_the_week_before_is_the_newest_captured_one_and_not_the_calendars() -> None:
    tier = TIERS[0].name
    page = contents(inputs(volume([(0, tier, "A", "UBSA", 10), (3, tier, "A", "7897", 30)])))
    assert page.tiers[0].compared_with == WEEK - dt.timedelta(weeks=3)
    assert page.tiers[0].share_change == 100
    assert [day.total for day in page.tiers[0].history] == [None, None, 6, None, None, 2]
