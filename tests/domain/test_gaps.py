"""Kinds of gaps: the life of a publication from the end of its week on, case by case."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otc_assets.domain.gaps import classify, expected, ranges, ranges_and_history, was_never_requested
from otc_assets.domain.schema import GAP
from otc_assets.domain.weeks import NEW_YORK, OTCE, T1, T2, TIERS, Tier, due_at, weeks_between

D = dt.date
WEEK = D(2026, 8, 21)  # T1 is due on Tuesday 2026-09-08 (Labor Day before it), T2 and OTC on 2026-09-21
CAPTURED = {
    "week_ending": pl.Date,
    "tier": pl.String,
    "rows_loaded": pl.Int64,
    "rows_expected": pl.Int64,
    "complete": pl.Boolean,
}


def at(text: str) -> dt.datetime:
    """A moment in New York."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


def captured(*weeks: D, tier: Tier = T1, loaded: int = 10, of: int | None = 10, complete: bool = True) -> pl.DataFrame:
    """What is captured of a tier."""
    return pl.DataFrame([(week, tier.name, loaded, of, complete) for week in weeks], schema=CAPTURED, orient="row")


def state(
    now: str, have: pl.DataFrame, week: D = WEEK, offered: set[tuple[D, str]] | None = None, tier: Tier = T1
) -> dict[str, Any]:
    """The gap of one (week, tier); only the status 'complete' where it is none."""
    made = classify(have, offered, first_week=D(2026, 7, 31), now=at(now), tiers=[tier])
    (row,) = made.filter(pl.col("week_ending") == week).to_dicts() or [{"status": "complete"}]
    return row


BEFORE = captured(D(2026, 8, 14))
LATER = captured(D(2026, 8, 28))


@pytest.mark.parametrize(
    ("now", "have", "status"),
    [
        ("2026-08-21 00:00", BEFORE, "pending"),  # the week's Friday
        ("2026-09-08 05:59", BEFORE, "pending"),  # FINRA publishes from 06:00 on
        ("2026-09-08 05:59", LATER, "pending"),
        ("2026-09-08 06:00", BEFORE, "late"),
        ("2026-09-15 05:59", BEFORE, "late"),
        ("2026-09-15 06:00", BEFORE, "missing_at_end"),
        ("2027-09-15 06:00", BEFORE, "missing_at_end"),
        ("2026-09-08 06:00", LATER, "missing_inside"),
        ("2027-09-15 06:00", LATER, "missing_inside"),
        ("2027-09-15 06:00", captured(D(2026, 8, 28), loaded=0), "missing_at_end"),  # an empty capture is no sign
        ("2026-10-01 06:00", captured(WEEK), "complete"),
        ("2026-09-07 12:00", captured(WEEK), "complete"),  # published early
        ("2026-10-01 06:00", captured(WEEK, loaded=9, complete=False), "incomplete"),
        ("2026-10-01 06:00", captured(WEEK, loaded=9, of=None, complete=False), "incomplete"),
        ("2026-10-01 06:00", captured(WEEK, loaded=0, of=0), "empty"),
        ("2026-10-01 06:00", captured(WEEK, loaded=0, of=10, complete=False), "empty"),
    ],
)
def test_a_publication_is_pending_then_late_then_missing(now: str, have: pl.DataFrame, status: str) -> None:
    """The limits: its publication hour, seven days later, and whether a later week is captured."""
    assert state(now, have)["status"] == status


def test_a_later_week_of_another_tier_does_not_make_a_late_week_missing_inside() -> None:
    """T1 is always two weeks ahead of the other tiers: they are not missing because of that."""
    assert state("2026-09-22 12:00", captured(D(2026, 9, 4), tier=T1), tier=OTCE)["status"] == "late"


def test_a_week_is_expected_from_its_friday_on_and_tier_by_tier() -> None:
    """By hand: on Thursday the newest week is the one before."""
    thursday, friday = at("2026-08-20 23:59"), at("2026-08-21 00:00")
    first = D(2026, 8, 14)
    assert expected(first, thursday) == [(first, tier) for tier in TIERS]
    assert expected(first, friday, [T1]) == [(first, T1), (WEEK, T1)]
    assert expected(D(2026, 8, 28), friday) == []


def test_the_report_says_what_is_missing_and_when_it_was_due() -> None:
    """What a person reads first."""
    row = state("2026-09-09 12:00", BEFORE)
    assert row["due"] == D(2026, 9, 8)
    assert "Tuesday, 2026-09-08" in row["detail"]
    short = state("2026-10-01 06:00", captured(WEEK, loaded=71_000, of=72_000, complete=False))
    assert (short["rows_loaded"], short["rows_expected"]) == (71_000, 72_000)
    assert "71,000 of FINRA's 72,000 rows" in short["detail"]
    assert "1,000 are missing" in short["detail"]
    part = state("2026-10-01 06:00", captured(WEEK, loaded=30, of=30, complete=False))
    assert "only a part" in part["detail"]


def test_a_gap_says_whether_finra_still_offers_the_week() -> None:
    """A gap that can be fetched is work to do; one that can't is a fact to state."""
    there = state("2026-10-01 06:00", BEFORE, offered={(WEEK, T1.name)})
    gone = state("2026-10-01 06:00", BEFORE, offered={(WEEK, OTCE.name)})
    not_yet = state("2026-09-08 07:00", BEFORE, offered=set())
    assert [row["fetchable"] for row in (there, gone, not_yet)] == [True, False, False]
    assert "no longer available from FINRA" in gone["detail"]
    assert "does not offer it yet" in not_yet["detail"]
    assert "offer" not in there["detail"]


def test_a_folder_of_files_is_not_taken_for_finra() -> None:
    """With OTC_SOURCE=files, a week without a file was said to be gone at FINRA, which was never asked."""
    now = at("2026-10-01 12:00")
    (row,) = (
        classify(captured(), set(), first_week=WEEK, now=now, tiers=[T1], from_files=True)
        .filter(pl.col("week_ending") == WEEK)
        .to_dicts()
    )
    assert not row["fetchable"]
    assert row["detail"].endswith("; no file in the OTC_FILES folder has it")
    assert "FINRA" not in row["detail"]


def test_where_finra_could_not_be_asked_its_stated_window_decides_and_the_detail_says_so() -> None:
    """A guess must not look like an answer. By hand: five years of 52 weeks before 2026-10-01 is 2021-10-07."""
    made = classify(captured(), None, first_week=D(2021, 10, 1), now=at("2026-10-01 12:00"), tiers=[T1])
    by_week = {row["week_ending"]: row for row in made.to_dicts()}
    assert [by_week[week]["fetchable"] for week in (D(2021, 10, 1), D(2021, 10, 8), WEEK)] == [False, True, True]
    assert by_week[D(2026, 9, 25)]["fetchable"] is False  # not out yet
    assert "could not be asked" in by_week[D(2021, 10, 1)]["detail"]
    assert "could not be asked" in by_week[WEEK]["detail"]


def test_weeks_that_retention_dropped_are_not_gaps() -> None:
    """Dropped on purpose is not missing; the day of the cut may be any day of the week."""
    for cut in (D(2026, 8, 15), D(2026, 8, 21)):
        made = classify(captured(), None, first_week=D(2026, 7, 31), now=at("2026-10-01 12:00"), retained_from=cut)
        assert made["week_ending"].min() == WEEK


def test_a_complete_publication_is_not_a_gap() -> None:
    """The report shows what needs doing."""
    arguments: dict[str, Any] = {"first_week": D(2026, 8, 14), "now": at("2026-09-09 12:00"), "tiers": [T1]}
    gaps = classify(captured(D(2026, 8, 14)), set(), **arguments)
    assert gaps.schema == GAP
    assert gaps.select("week_ending", "status").rows() == [
        (D(2026, 8, 21), "late"),
        (D(2026, 8, 28), "pending"),
        (D(2026, 9, 4), "pending"),
    ]


def test_consecutive_weeks_of_one_tier_and_status_are_folded_into_a_range() -> None:
    """A year that is missing is one line, not fifty-two. By hand: holes of two weeks and of one."""
    weeks = weeks_between(D(2026, 5, 1), D(2026, 6, 26))
    have = captured(*(week for n, week in enumerate(weeks) if n not in (2, 3, 6)))
    gaps = classify(have, set(), first_week=weeks[0], now=at("2026-07-26 12:00"), tiers=[T1])
    made = ranges(gaps).select("tier", "status", "first_week", "last_week", "weeks").rows()
    assert made == [
        ("NMS Tier 1", "missing_inside", D(2026, 5, 15), D(2026, 5, 22), 2),
        ("NMS Tier 1", "missing_inside", D(2026, 6, 12), D(2026, 6, 12), 1),
        ("NMS Tier 1", "late", D(2026, 7, 3), D(2026, 7, 3), 1),
        ("NMS Tier 1", "pending", D(2026, 7, 10), D(2026, 7, 24), 3),
    ]


def test_weeks_before_a_tiers_first_capture_are_history_and_no_gaps() -> None:
    """By hand: T1 is captured from the fourth week on, T2 never, and so begins where T1 does."""
    weeks = weeks_between(D(2026, 5, 1), D(2026, 6, 26))
    have = captured(weeks[3], weeks[5])
    offered = {(week, tier.name) for week in weeks[1:] for tier in (T1, T2)}
    gaps = classify(have, offered, first_week=weeks[0], now=at("2026-08-05 12:00"), tiers=[T1, T2]).filter(
        pl.col("status") != "pending"
    )
    made = ranges_and_history(gaps, {"NMS Tier 1": weeks[3]})
    assert made.columns == ranges(gaps).columns
    kept = ["tier", "status", "fetchable", "first_week", "last_week", "weeks"]
    assert made.select(kept).rows()[:4] == [
        ("NMS Tier 1", "never_requested", True, weeks[0], weeks[2], 3),
        ("NMS Tier 2", "never_requested", True, weeks[0], weeks[2], 3),
        ("NMS Tier 2", "missing_at_end", True, weeks[3], weeks[8], 6),
        ("NMS Tier 1", "missing_inside", True, weeks[4], weeks[4], 1),
    ]
    assert made["detail"].to_list()[0] == "2 fetchable"
    assert ranges_and_history(gaps, {}).equals(ranges(gaps))


@pytest.mark.parametrize(
    ("tier", "status", "first", "expected"),
    [
        ("OTC", "missing_at_end", {"OTC": D(2026, 5, 8)}, True),
        ("OTC", "missing_inside", {"OTC": D(2026, 5, 1)}, False),
        ("OTC", "late", {"NMS Tier 1": D(2026, 5, 8)}, True),
        ("OTC", "late", {"NMS Tier 1": D(2026, 5, 8), "OTC": D(2026, 4, 3)}, False),
        ("OTC", "pending", {"NMS Tier 1": D(2026, 5, 8)}, False),
        ("OTC", "missing_at_end", {}, False),
    ],
)
def test_a_publication_was_never_requested_before_the_first_capture_and_not_if_it_is_not_due(
    tier: str, status: str, first: dict[str, D], expected: bool
) -> None:
    assert was_never_requested(D(2026, 5, 1), tier, status, first) is expected


def test_no_gaps_fold_into_no_ranges() -> None:
    """A platform without gaps must not fail over its report."""
    assert ranges(GAP.to_frame()).is_empty()


WEEKS = weeks_between(D(2026, 5, 1), D(2026, 7, 31))


@settings(max_examples=100, deadline=None)
@given(
    have=st.sets(st.tuples(st.sampled_from(WEEKS), st.sampled_from(TIERS))),
    now=st.integers(0, 24 * 150).map(lambda n: dt.datetime(2026, 5, 1, tzinfo=NEW_YORK) + dt.timedelta(hours=n)),
)
def test_every_expected_publication_is_either_complete_or_one_gap(have: set[tuple[D, Tier]], now: dt.datetime) -> None:
    """Nothing is expected twice or forgotten, and the statuses keep their definitions at any moment."""
    frames = [captured(week, tier=tier) for week, tier in have]
    made = classify(pl.concat([captured(), *frames]), None, first_week=WEEKS[0], now=now)
    keys = [(week, tier.name) for week, tier in expected(WEEKS[0], now) if (week, tier) not in have]
    assert sorted(made.select("week_ending", "tier").rows()) == sorted(keys)
    for week, name, status in made.select("week_ending", "tier", "status").rows():
        tier = next(t for t in TIERS if t.name == name)
        due, later = due_at(week, tier), any(w > week and t is tier for w, t in have)
        assert week <= now.date()
        assert (status == "pending") == (now < due)
        assert (status == "missing_inside") == (now >= due and later)
        assert (status == "late") == (due <= now < due + dt.timedelta(days=7) and not later)


@settings(max_examples=50, deadline=None)
@given(have=st.sets(st.tuples(st.sampled_from(WEEKS), st.sampled_from(TIERS))))
def test_ranges_unfold_to_the_gaps_that_they_were_folded_from(have: set[tuple[D, Tier]]) -> None:
    """A range must not swallow a week that is there, or leave one out."""
    frames = [captured(week, tier=tier) for week, tier in have]
    gaps = classify(pl.concat([captured(), *frames]), set(), first_week=WEEKS[0], now=at("2026-08-20 12:00"))
    unfolded = [
        (week, row["tier"], row["status"])
        for row in ranges(gaps).to_dicts()
        for week in weeks_between(row["first_week"], row["last_week"])
    ]
    assert sorted(unfolded) == sorted(gaps.select("week_ending", "tier", "status").rows())
