"""Weeks and the publication calendar, against the days on which FINRA really published."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otc_assets.domain.weeks import (
    NEW_YORK,
    OTCE,
    T1,
    T2,
    TIERS,
    Tier,
    due_at,
    is_trading_day,
    newest_by_week,
    newest_due,
    publication_date,
    stretches,
    tier_of,
    trading_days,
    week_containing,
    week_ending_of,
    week_published_on,
    week_start_of,
    weeks_between,
    weeks_up_to,
)

D = dt.date
DAYS = st.dates(D(2014, 6, 2), D(2035, 12, 31))
FRIDAYS = DAYS.map(week_containing)


# --- naming a week -------------------------------------------------------------------------------------


def test_a_week_is_named_by_the_friday_four_days_after_finras_monday() -> None:
    """FINRA's week starts are Mondays, also on a holiday: Labor Day, 2026-09-07."""
    assert week_ending_of(D(2026, 9, 7)) == D(2026, 9, 11)
    assert week_start_of(D(2026, 9, 11)) == D(2026, 9, 7)


@pytest.mark.parametrize("wrong", [D(2026, 9, 8), D(2026, 9, 13)])
def test_no_other_day_passes_for_a_week_start(wrong: D) -> None:
    """The most frequent error with these files: the publication day is given as the week."""
    with pytest.raises(ValueError, match="starts on a Monday"):
        week_ending_of(wrong)


@pytest.mark.parametrize("wrong", [D(2026, 9, 10), D(2026, 9, 12)])
def test_no_other_day_passes_for_a_week_ending(wrong: D) -> None:
    """A key of another weekday would make a second week beside the first."""
    with pytest.raises(ValueError, match="is a Friday"):
        week_start_of(wrong)
    with pytest.raises(ValueError, match="is a Friday"):
        weeks_between(wrong, D(2026, 9, 25))


@given(day=DAYS)
def test_every_day_is_in_the_week_from_its_monday_to_its_sunday(day: D) -> None:
    """Guards the edges: Saturdays and Sundays belong to the Friday before."""
    week = week_containing(day)
    assert week.strftime("%A") == "Friday"
    assert week.isocalendar()[:2] == day.isocalendar()[:2]
    assert week_ending_of(week_start_of(week)) == week


@given(first=FRIDAYS, count=st.integers(1, 60))
def test_weeks_follow_each_other_without_a_hole(first: D, count: int) -> None:
    """Backfills and windows use these lists."""
    last = first + dt.timedelta(weeks=count - 1)
    weeks = weeks_between(first, last)
    assert weeks == [first + dt.timedelta(days=7 * n) for n in range(count)]
    assert weeks_up_to(last, count) == weeks
    assert weeks_between(last + dt.timedelta(weeks=1), last) == []


@pytest.mark.parametrize(
    ("text", "tier"),
    [("T1", T1), ("t2", T2), (" OTCE ", OTCE), ("NMS Tier 1", T1), ("nms tier 2", T2), ("OTC", OTCE)],
)
def test_a_tier_is_known_by_identifier_and_by_description(text: str, tier: Tier) -> None:
    """``OTC`` is a description and no identifier; people use it as both."""
    assert tier_of(text) is tier


@pytest.mark.parametrize("text", ["NMS", "NA", "T3", ""])
def test_an_unknown_tier_is_refused_and_never_taken_for_otc(text: str) -> None:
    """NMS and NA are FINRA's own, and none of its tiers."""
    with pytest.raises(ValueError, match=r"unknown tier.*T1 \(NMS Tier 1\).*OTCE"):
        tier_of(text)


# --- trading days --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("week", "days"),
    [
        (D(2026, 8, 21), 5),
        (D(2026, 9, 11), 4),  # Labor Day, Monday
        (D(2026, 11, 27), 4),  # Thanksgiving, Thursday; the short Friday is a trading day
        (D(2026, 4, 3), 4),  # Good Friday itself, no federal holiday
        (D(2026, 10, 16), 5),  # Columbus Day: the NYSE trades
        (D(2026, 11, 13), 5),  # Veterans' Day: the NYSE trades
        (D(2026, 6, 19), 4),  # Juneteenth
        (D(2020, 6, 19), 5),  # before the NYSE kept it
        (D(2025, 1, 10), 4),  # day of mourning for President Carter, Thursday 2025-01-09
        (D(2021, 12, 31), 5),  # New Year's Day of 2022 was a Saturday: no day off before it
    ],
)
def test_trading_days_are_those_of_the_nyse(week: D, days: int) -> None:
    """Swings of volume are judged per trading day: federal holidays would be wrong."""
    assert trading_days(week) == days


# --- the publication calendar --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("week", "tier", "published"),
    [
        # Measured: 2026-09-07 is Labor Day, so that T1 came a day later.
        (D(2026, 8, 21), T1, D(2026, 9, 8)),
        # Measured: the website's files of 2025-12-15 and 2025-12-22 hold the weeks that began 2025-11-10 and -17.
        (D(2025, 11, 14), OTCE, D(2025, 12, 15)),
        (D(2025, 11, 21), OTCE, D(2025, 12, 22)),
        # Measured, AAPL: the week that began 2021-12-06 came on 2021-12-27, that of 2021-12-27 on 2022-01-18,
        # the day after Martin Luther King's.
        (D(2021, 12, 10), T1, D(2021, 12, 27)),
        (D(2021, 12, 31), T1, D(2022, 1, 18)),
        # Columbus Day 2025-10-13 does not shift: T1 of the week that began 2025-09-22, T2 of 2025-09-08.
        (D(2025, 9, 26), T1, D(2025, 10, 13)),
        (D(2025, 9, 12), T2, D(2025, 10, 13)),
        # Veterans' Day on a Monday, 2024-11-11, does not either.
        (D(2024, 10, 25), T1, D(2024, 11, 11)),
        (D(2024, 10, 11), OTCE, D(2024, 11, 11)),
        # Christmas on a Monday, 2023-12-25, does.
        (D(2023, 12, 8), T1, D(2023, 12, 26)),
    ],
)
def test_publication_days_are_those_on_which_finra_published(week: D, tier: Tier, published: D) -> None:
    """The week of a file is inferred from these days: if one is wrong, the file is loaded as another week."""
    assert publication_date(week, tier) == published
    assert week_published_on(published, tier) == week


@given(week=FRIDAYS, tier=st.sampled_from(TIERS))
def test_publication_is_three_or_five_weeks_after_the_monday_or_a_trading_day_later(week: D, tier: Tier) -> None:
    """Measured on 248 weeks of T1: +21 days in 221 and +22 in 27, which are the weeks after Monday holidays."""
    lag = {"T1": 21, "T2": 35, "OTCE": 35}[tier.id]
    monday = week - dt.timedelta(days=4) + dt.timedelta(days=lag)
    published = publication_date(week, tier)
    assert published == (monday if is_trading_day(monday) else monday + dt.timedelta(days=1))
    assert is_trading_day(published)


def test_of_the_248_weeks_from_december_2021_finra_published_27_a_day_late() -> None:
    """Measured on all 248 weeks of AAPL: the calendar must have the same count."""
    weeks = weeks_up_to(D(2026, 9, 4), 248)
    lags = [(publication_date(week, T1) - week_start_of(week)).days for week in weeks]
    assert (lags.count(21), lags.count(22)) == (221, 27)


def test_finras_own_rows_were_published_on_the_calendars_days(finra_data: Path) -> None:
    """169 weeks of real rows; the weeks above show the same."""
    with gzip.open(finra_data / "api" / "aapl_ats_w_smbl_firm.json.gz") as file:
        rows = json.load(file)
    days = {(row["weekStartDate"], row["initialPublishedDate"]) for row in rows if row["tierIdentifier"] == "T1"}
    assert len(days) == 169
    for start, published in days:
        assert publication_date(week_ending_of(D.fromisoformat(start)), T1) == D.fromisoformat(published)


@given(day=DAYS, tier=st.sampled_from(TIERS))
def test_a_day_publishes_at_most_one_week_and_the_calendar_leads_back_to_it(day: D, tier: Tier) -> None:
    """Settling a file's week turns the calendar around."""
    week = week_published_on(day, tier)
    around = [week_containing(day) - dt.timedelta(weeks=n) for n in range(8)]
    assert [w for w in around if publication_date(w, tier) == day] == ([week] if week else [])


# --- what must be out ----------------------------------------------------------------------------------


def test_a_week_is_due_at_six_in_new_york_in_summer_and_winter() -> None:
    """10:00 UTC in summer, 11:00 in winter: a clock of fixed hours would be early for half the year."""
    assert due_at(D(2026, 7, 31), T1).astimezone(dt.UTC) == dt.datetime(2026, 8, 17, 10, tzinfo=dt.UTC)
    assert due_at(D(2025, 11, 14), OTCE).astimezone(dt.UTC) == dt.datetime(2025, 12, 15, 11, tzinfo=dt.UTC)


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.id)
@pytest.mark.parametrize(
    "start", [D(2026, 8, 24), D(2026, 10, 26), D(2025, 12, 15)], ids=["Labor Day", "winter time", "year's end"]
)
def test_the_newest_week_due_is_the_last_of_all_that_are_due_in_every_hour_of_four_weeks(tier: Tier, start: D) -> None:
    """The schedule, the gap report and the newest-week check all ask this; the witness tries every week."""
    weeks = weeks_between(
        week_containing(start) - dt.timedelta(weeks=9), week_containing(start) + dt.timedelta(weeks=5)
    )
    due = {week: due_at(week, tier) for week in weeks}
    moment = dt.datetime.combine(start, dt.time(), dt.UTC)
    for hour in range(4 * 7 * 24):
        now = moment + dt.timedelta(hours=hour)
        assert newest_due(tier, now) == max(week for week, at in due.items() if at <= now)


def test_the_newest_week_changes_at_six_and_not_a_second_before() -> None:
    """A run at 05:59 would ask FINRA for what it does not have and call it missing."""
    six = dt.datetime(2026, 9, 8, 6, tzinfo=NEW_YORK)
    assert newest_due(T1, six - dt.timedelta(seconds=1)) == D(2026, 8, 14)
    assert newest_due(T1, six) == D(2026, 8, 21)


def test_the_newest_weeks_are_grouped_because_t2_and_otc_share_theirs() -> None:
    """On Monday, 2026-10-12, T1 of the week of 09-21 was due, and T2 and OTC of the week of 09-07."""
    wednesday = dt.datetime(2026, 10, 14, 8, tzinfo=NEW_YORK)
    both = {D(2026, 9, 11): (T2, OTCE), D(2026, 9, 25): (T1,)}
    assert newest_by_week(TIERS, D(2021, 12, 10), wednesday) == both
    assert list(newest_by_week(TIERS, D(2021, 12, 10), wednesday)) == sorted(both)
    assert newest_by_week(TIERS, D(2026, 9, 18), wednesday) == {D(2026, 9, 25): (T1,)}
    assert newest_by_week([T2], D(2026, 9, 18), wednesday) == {}


@given(
    now=st.integers(0, 20 * 365 * 24 * 60).map(
        lambda n: dt.datetime(2015, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=n)
    ),
    tier=st.sampled_from(TIERS),
)
def test_the_newest_week_is_due_and_the_next_one_is_not(now: dt.datetime, tier: Tier) -> None:
    """The definition, at any moment of twenty years."""
    week = newest_due(tier, now)
    assert due_at(week, tier) <= now < due_at(week + dt.timedelta(weeks=1), tier)


@given(monday=DAYS.map(lambda day: day - dt.timedelta(days=day.weekday())))
def test_on_a_wednesday_every_tiers_publication_of_the_week_is_out(monday: D) -> None:
    """Why the schedule runs on Wednesdays: holidays shift to Tuesday at most."""
    wednesday = dt.datetime.combine(monday + dt.timedelta(days=2), dt.time(6), NEW_YORK)
    for tier in TIERS:
        assert newest_due(tier, wednesday) == monday + dt.timedelta(days=4) - dt.timedelta(weeks=tier.lag_weeks)


def test_weeks_that_follow_each_other_are_one_stretch() -> None:
    """`ingest` once named three weeks by the range from the first to the last, which held six."""
    first = dt.date(2026, 8, 14)
    week = [first + dt.timedelta(weeks=n) for n in range(6)]
    assert stretches([week[5], week[0], week[1], week[3], week[1]]) == [[week[0], week[1]], [week[3]], [week[5]]]
    assert stretches([]) == []
    parts = [[week[0], week[1]], [week[2]], [week[4], week[5]]]
    assert stretches([*week[:3], *week[4:]], 2) == parts
