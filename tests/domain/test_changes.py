"""The changes of a week: by hand, by DuckDB on drawn rows, and that nothing is left over of a change of share."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from decimal import Decimal
from statistics import median
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import WEEK, Frames, sql, volume_row

from otc_assets.domain.changes import LEAST_MAD, MAD_SCALE, MOVERS, report_period, week_changes
from otc_assets.domain.enums import Change
from otc_assets.domain.schema import PUBLISHED_TOTAL, REWRITTEN, VENUE_VOLUME, WEEK_CHANGES
from otc_assets.domain.shift_share import shift_share
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.symbols import symbol
from otc_assets.domain.venues import venue, venue_succession
from otc_assets.domain.weeks import T1, T2, TIERS, trading_days, weeks_up_to

WEEKS = weeks_up_to(WEEK)
ONE, TWO = T1.name, T2.name

#: (number of the week from 1 to 6, tier, symbol, venue, shares)
Traded = tuple[int, str, str, str, int]


def volume_of(rows: Iterable[Traded], **columns: Any) -> pl.DataFrame:
    made = [
        volume_row(ticker, place, shares, 1_000, WEEKS[number - 1], tier) | columns
        for number, tier, ticker, place, shares in rows
    ]
    return pl.DataFrame(made, schema=VENUE_VOLUME)


def captured(numbers: Iterable[int] = range(1, 7), tiers: Iterable[str] = tuple(t.name for t in TIERS)) -> pl.DataFrame:
    of = list(tiers)
    return pl.DataFrame(
        [(WEEKS[number - 1], tier) for number in numbers for tier in of],
        schema={"week_ending": pl.Date, "tier": pl.String},
        orient="row",
    )


def changes(
    rows: pl.DataFrame, weeks: pl.DataFrame | None = None, rewritten: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The changes of WEEK, from all tables that they are computed from."""
    known = captured() if weeks is None else weeks
    frames: dict[str, pl.DataFrame] = {
        "venue_volume": rows,
        "symbol_summary": symbol_summary(rows),
        "venue_share": venue_share(rows),
        "published_total": PUBLISHED_TOTAL.to_frame(),
    }
    read = Frames(frames, rewritten)
    frames["symbol"] = symbol(read, known, WEEK)
    frames["venue"] = venue(frames["venue_share"], known, WEEK)
    frames["venue_succession"] = venue_succession(read, known, WEEK)
    made = week_changes(read, known, WEEK)
    assert made.schema == WEEK_CHANGES
    assert made.select("week_ending", "tier", "kind", "subject").is_unique().all()
    return made


def of_kind(made: pl.DataFrame, kind: Change, *columns: str) -> list[tuple[Any, ...]]:
    return made.filter(pl.col("kind") == kind).sort("tier", "rank").select(columns).rows()


#: Symbols A and B at two ATSs in every week.
STEADY: list[Traded] = [
    (number, ONE, ticker, place, 1_000_000) for number in range(1, 7) for ticker in "AB" for place in ("UBSA", "INCR")
]


def test_where_nothing_changed_no_change_has_an_amount() -> None:
    made = changes(volume_of(STEADY))
    assert set(made["kind"]) == {Change.VENUE_SHARE, Change.SYMBOL_VOLUME}
    assert made["amount"].to_list() == [Decimal(0)] * 4


def test_a_symbol_that_is_new_and_one_that_has_ended_are_ranked_by_volume() -> None:
    rows = [
        *STEADY,
        (6, ONE, "NEW", "UBSA", 500),
        (6, ONE, "NEWER", "UBSA", 900),
        (5, ONE, "OLD", "UBSA", 70),
        (4, ONE, "OLDER", "UBSA", 70),  # it ended earlier: that was in the report of the week after
    ]
    made = changes(volume_of(rows))
    columns = ("rank", "symbol", "previous", "current", "amount")
    assert of_kind(made, Change.SYMBOL_ENTERED, *columns) == [
        (1, "NEWER", None, "NEWER Inc.", Decimal(900)),
        (2, "NEW", None, "NEW Inc.", Decimal(500)),
    ]
    assert of_kind(made, Change.SYMBOL_EXITED, *columns) == [(1, "OLD", "OLD Inc.", None, Decimal(70))]


def test_an_exit_says_which_tiers_of_the_week_are_pending_as_the_symbol_may_have_moved_there() -> None:
    rows = volume_of([*STEADY, (5, ONE, "OLD", "UBSA", 70)])
    (found,) = of_kind(changes(rows, captured(tiers=[ONE])), Change.SYMBOL_EXITED, "evidence")
    assert json.loads(found[0])["tiers_pending"] == ["NMS Tier 2", "OTC"]
    (found,) = of_kind(changes(rows), Change.SYMBOL_EXITED, "evidence")
    assert json.loads(found[0]) == {"volume": "70.000000", "last_week": str(WEEKS[4]), "tiers_pending": []}


def test_an_exit_of_a_venue_says_so_too() -> None:
    rows = volume_of([*STEADY, (5, ONE, "A", "CROS", 300)])
    (found,) = of_kind(changes(rows, captured(tiers=[ONE])), Change.VENUE_EXITED, "evidence")
    assert json.loads(found[0])["tiers_pending"] == ["NMS Tier 2", "OTC"]
    (found,) = of_kind(changes(rows), Change.VENUE_EXITED, "evidence")
    assert json.loads(found[0]) == {"volume": "300.000000", "last_week": str(WEEKS[4]), "tiers_pending": []}


def test_a_symbol_that_moves_to_another_tier_neither_enters_nor_ends() -> None:
    rows = [*STEADY, *((number, ONE, "A.", "UBSA", 100) for number in range(1, 6)), (6, TWO, "A.", "UBSA", 100)]
    made = changes(volume_of(rows))
    assert of_kind(made, Change.SYMBOL_MOVED_TIER, "tier", "symbol", "previous", "current") == [(TWO, "A.", ONE, TWO)]
    assert not of_kind(made, Change.SYMBOL_ENTERED, "symbol")
    assert not of_kind(made, Change.SYMBOL_EXITED, "symbol")


def test_a_security_with_a_new_ticker_neither_enters_nor_ends() -> None:
    old = volume_of([(number, ONE, "OLD", "UBSA", 100) for number in range(1, 6)], issue_name="Granite Inc.")
    new = volume_of([(6, ONE, "NEW", "UBSA", 100)], issue_name="Granite Inc.")
    made = changes(pl.concat([volume_of(STEADY), old, new]))
    assert of_kind(made, Change.SYMBOL_NEW_TICKER, "symbol", "previous", "current") == [("NEW", "OLD", "NEW")]
    assert not of_kind(made, Change.SYMBOL_ENTERED, "symbol")
    assert not of_kind(made, Change.SYMBOL_EXITED, "symbol")


def test_other_issue_names_are_told_apart_from_other_issues() -> None:
    def named(ticker: str, then: str, now: str) -> list[pl.DataFrame]:
        before = [(number, ONE, ticker, "UBSA", 10) for number in range(1, 6)]
        return [volume_of(before, issue_name=then), volume_of([(6, ONE, ticker, "UBSA", 10)], issue_name=now)]

    rows = [*named("X", "Granite Inc.", "Granite Holdings"), *named("Y", "Granite Inc.", "Umber Corp.")]
    made = changes(pl.concat([volume_of(STEADY), *rows]))
    columns = ("symbol", "previous", "current")
    assert of_kind(made, Change.SYMBOL_RENAMED, *columns) == [("X", "Granite Inc.", "Granite Holdings")]
    assert of_kind(made, Change.SYMBOL_OTHER_ISSUE, *columns) == [("Y", "Granite Inc.", "Umber Corp.")]


def test_venues_that_begin_end_or_have_another_name_are_in_all_tiers_together() -> None:
    rows = [*STEADY, (6, ONE, "A", "LEVL", 400), (5, TWO, "A", "CROS", 300)]
    renamed = pl.when((pl.col("venue_id") == "INCR") & (pl.col("week_ending") == WEEK)).then(pl.lit("NEW NAME"))
    made = changes(volume_of(rows).with_columns(renamed.otherwise("venue_name").alias("venue_name")))
    columns = ("tier", "venue_id", "previous", "current", "amount")
    assert of_kind(made, Change.VENUE_ENTERED, *columns) == [("ALL", "LEVL", None, "Venue LEVL", Decimal(400))]
    assert of_kind(made, Change.VENUE_EXITED, *columns) == [(TWO, "CROS", "Venue CROS", None, Decimal(300))]
    assert of_kind(made, Change.VENUE_RENAMED, *columns) == [
        ("ALL", "INCR", "Venue INCR", "NEW NAME", Decimal(2_000_000))
    ]


def test_a_confirmed_succession_is_one_change_and_no_entry_or_end() -> None:
    symbols = [f"S{number}" for number in range(12)]
    rows = [*STEADY, *((number, ONE, s, "SGMA", 100) for number in range(1, 6) for s in symbols)]
    made = changes(volume_of([*rows, *((6, ONE, s, "SGMT", 100) for s in symbols)]))
    assert of_kind(made, Change.VENUE_SUCCESSION, "tier", "previous", "current") == [("ALL", "SGMA", "SGMT")]
    assert of_kind(made, Change.VENUE_PROPOSAL, "subject", "current") == [("SGMA to SGMT", "confirmed")]
    assert not of_kind(made, Change.VENUE_ENTERED, "venue_id")
    assert not of_kind(made, Change.VENUE_EXITED, "venue_id")
    # Its share did not change either: it is one venue.
    shifts = dict(of_kind(made, Change.VENUE_SHARE, "venue_id", "amount"))
    assert shifts["SGMT"] == 0


def test_venues_whose_rank_changed_are_ranked_by_the_places() -> None:
    """By hand: C was third and is first, so that both others lose a place."""
    rows = [(5, ONE, "A", place, shares) for place, shares in (("AAAA", 30), ("BBBB", 20), ("CCCC", 10))]
    rows += [(6, ONE, "A", place, shares) for place, shares in (("AAAA", 30), ("BBBB", 20), ("CCCC", 90))]
    made = changes(volume_of(rows))
    assert of_kind(made, Change.VENUE_RANK, "rank", "venue_id", "previous", "current", "amount") == [
        (1, "CCCC", "3", "1", Decimal(2)),
        (2, "AAAA", "1", "2", Decimal(-1)),
        (3, "BBBB", "2", "3", Decimal(-1)),
    ]


def test_a_mover_is_scored_by_its_own_median_and_mad() -> None:
    """By hand: 10, 12, 14, 16, 18 million shares a week are 2 to 3.6 a day: median 2.8, deviations 0.8, 0.4, 0, 0.4,
    0.8, their median 0.4. 8 million a day are (8 - 2.8) / (1.4826 * 0.4) = 8.768380 deviations above.
    """
    weekly = dict(enumerate((10, 12, 14, 16, 18, 40), 1))
    made = changes(volume_of([(n, ONE, "A", "UBSA", shares * 1_000_000) for n, shares in weekly.items()]))
    ((amount, previous, current, evidence),) = of_kind(
        made, Change.SYMBOL_VOLUME, "amount", "previous", "current", "evidence"
    )
    assert (amount, previous, current) == (Decimal("8.768380"), "2800000", "8000000")
    assert json.loads(evidence) == {
        "issue_name": "A Inc.",
        "daily_volume": 8_000_000.0,
        "median": 2_800_000.0,
        "mad": 400_000.0,
        "weeks": 5,
    }


def test_a_change_of_share_is_what_was_won_within_symbols_and_what_the_mix_gave() -> None:
    """By hand: UBSA has 50 of 100 shares of A and 0 of 100 of B: 25 %. Then 60 of 100 of A and 0 of 300 of B: 15 %.

    Within: the mean weight of A (0.5 + 0.25) / 2, times 10 points: 3.75. Mix: its mean share 55 %, times the loss of
    A's weight, 0.25: -13.75. Together -10.
    """

    def week(number: int, *rows: tuple[str, str, int]) -> pl.DataFrame:
        return volume_of([(number, ONE, *row) for row in rows])

    then = week(5, ("A", "UBSA", 50), ("A", "INCR", 50), ("B", "INCR", 100))
    now = week(6, ("A", "UBSA", 60), ("A", "INCR", 40), ("B", "INCR", 300))
    made = changes(pl.concat([then, now]))
    evidence = {row[0]: json.loads(row[1]) for row in of_kind(made, Change.VENUE_SHARE, "venue_id", "evidence")}
    compared = {"compared_with": str(WEEKS[4])}
    assert evidence == {
        "INCR": {"change": 10.0, "within": -3.75, "mix": 13.75, **compared},
        "UBSA": {"change": -10.0, "within": 3.75, "mix": -13.75, **compared},
    }


def test_a_split_is_a_change_of_its_week() -> None:
    rows = volume_of([(n, ONE, "A", "UBSA", 1_000 if n < 6 else 10_000) for n in range(1, 7)], notional=Decimal(50_000))
    made = changes(rows)
    assert of_kind(made, Change.SYMBOL_SPLIT, "symbol", "current") == [("A", "10:1")]


def test_rows_that_finra_rewrote_since_the_report_before_are_a_change() -> None:
    """The report of the week of 2026-08-21 is due on 2026-09-08, because its Monday is Labor Day; the one before was
    due on 2026-08-31.
    """
    assert report_period(WEEK) == (dt.date(2026, 8, 31), dt.date(2026, 9, 8))
    old = WEEK - dt.timedelta(weeks=20)
    rewritten = pl.DataFrame(
        [
            (old, TWO, dt.date(2026, 8, 31), 1, Decimal(5)),  # in the report before
            (old, TWO, dt.date(2026, 9, 2), 2, Decimal(7)),
            (old, TWO, dt.date(2026, 9, 8), 3, Decimal(9)),
            (old, TWO, dt.date(2026, 9, 9), 4, Decimal(5)),  # in the next
        ],
        schema=REWRITTEN,
        orient="row",
    )
    made = changes(volume_of(STEADY), rewritten=rewritten)
    ((subject, tier, amount, current, evidence),) = of_kind(
        made, Change.REVISED, "subject", "tier", "amount", "current", "evidence"
    )
    assert (subject, tier, amount, current) == (str(old), TWO, Decimal(5), "2026-09-08")
    assert json.loads(evidence) == {"rows": 5, "volume": "16.000000", "last_update_date": "2026-09-08"}
    # A week that is pending would be the newest one with changes, with nothing but these.
    assert changes(volume_of(STEADY), captured(range(1, 6)), rewritten).is_empty()
    assert changes(volume_of(STEADY), captured([6], [ONE]), rewritten).height


@pytest.mark.parametrize("numbers", [(6,), ()])
def test_without_a_week_before_there_is_nothing_to_compare(numbers: tuple[int, ...]) -> None:
    assert not changes(volume_of(STEADY), captured(numbers)).height


_TRADED = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.just(ONE),
        st.sampled_from("ABCDE"),
        st.sampled_from(["UBSA", "INCR", "JPMX", "7897"]),
        st.integers(1, 10**9),
    ),
    unique_by=lambda row: row[:4],
    min_size=4,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(rows=_TRADED)
def test_within_and_mix_are_the_change_that_duckdb_finds_and_all_changes_sum_to_zero(rows: list[Traded]) -> None:
    volume = volume_of(rows)
    then, now = (volume.filter(pl.col("week_ending") == week) for week in WEEKS[4:])
    if not then.height or not now.height:
        return
    identity = pl.col("venue_id").alias("identity_id")
    made = shift_share(then.with_columns(identity), now.with_columns(identity))
    expected = sql(
        """
        WITH a AS (SELECT venue_id, sum(share_volume)::DOUBLE AS v FROM t GROUP BY 1),
        b AS (SELECT venue_id, sum(share_volume)::DOUBLE AS v FROM n GROUP BY 1)
        SELECT venue_id, 100 * coalesce(a.v, 0) / (SELECT sum(v) FROM a),
            100 * coalesce(b.v, 0) / (SELECT sum(v) FROM b)
        FROM a FULL JOIN b USING (venue_id) ORDER BY 1
        """,
        t=then,
        n=now,
    )
    assert made["venue_id"].to_list() == [row[0] for row in expected]
    assert made["share_then"].to_list() == pytest.approx([row[1] for row in expected])
    assert made["share_now"].to_list() == pytest.approx([row[2] for row in expected])
    assert (made["within"] + made["mix"]).to_list() == pytest.approx(made["change"].to_list(), abs=1e-9)
    for part in ("change", "within", "mix"):
        assert made[part].sum() == pytest.approx(0, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=_TRADED)
def test_scores_are_those_of_pythons_medians(rows: list[Traded]) -> None:
    """Another implementation: the standard library's, symbol by symbol, with idle weeks as zero."""
    weekly: dict[str, list[int]] = {}
    traded: dict[str, set[int]] = {}
    for number, _, ticker, _, shares in rows:
        weekly.setdefault(ticker, [0] * 6)[number - 1] += shares
        traded.setdefault(ticker, set()).add(number)
    expected = {}
    for ticker, shares in weekly.items():
        daily = [value / trading_days(week) for value, week in zip(shares, WEEKS, strict=True)]
        middle = median(daily[:5])
        spread = max(median(abs(value - middle) for value in daily[:5]), LEAST_MAD * middle)
        if len(traded[ticker] - {6}) >= 3 and shares[5] >= 100_000 and middle:
            expected[ticker] = (daily[5] - middle) / (MAD_SCALE * spread)
    found = dict(of_kind(changes(volume_of(rows)), Change.SYMBOL_VOLUME, "symbol", "amount"))
    assert {ticker: float(score) for ticker, score in found.items()} == pytest.approx(expected, rel=1e-6, abs=2e-6)


def test_the_largest_movers_are_kept() -> None:
    rows = [(n, ONE, f"S{s}", "UBSA", 10**6 * (s if n == 6 else 1)) for n in range(1, 7) for s in range(1, MOVERS + 6)]
    found = of_kind(changes(volume_of(rows)), Change.SYMBOL_VOLUME, "rank", "symbol")
    assert [rank for rank, _ in found] == list(range(1, MOVERS + 1))
    assert found[0] == (1, f"S{MOVERS + 5}")
