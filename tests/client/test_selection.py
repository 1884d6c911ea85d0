"""Weeks and selections as a caller writes them, without a database."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otc_assets.client import VERBS, InvalidQuery, parse_weeks, select
from otc_assets.client.weeks import Span
from otc_assets.domain.tables import TABLES

FRIDAY = dt.date(2026, 8, 21)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2100, 12, 31)))
def test_any_day_names_the_week_that_contains_it(day: dt.date) -> None:
    for written in (day, str(day), f" {day} ", dt.datetime.combine(day, dt.time(23, 59))):
        (span,) = parse_weeks(written).spans
        assert span.first == span.last
        assert span.first is not None
        assert span.first.isoweekday() == 5
        assert span.first.isocalendar()[:2] == day.isocalendar()[:2]


def test_ranges_lists_and_the_newest_weeks_are_understood() -> None:
    assert parse_weeks("2026-08-05..2026-08-19").spans == (Span(dt.date(2026, 8, 7), FRIDAY),)
    assert parse_weeks("2026-08-19..").spans == (Span(FRIDAY, None),)
    assert parse_weeks("..2026-08-19").spans == (Span(None, FRIDAY),)
    assert parse_weeks(["2026-08-21", dt.date(2026, 8, 7)]).spans == parse_weeks("2026-08-21,2026-08-07").spans
    assert [parse_weeks(text).newest for text in ("last 12", "Last 1 week", "newest")] == [12, 1, 1]
    assert parse_weeks("last 3").resolved(FRIDAY).spans == (Span(dt.date(2026, 8, 7), FRIDAY),)
    assert not parse_weeks(None)


@pytest.mark.parametrize(
    "written", ["last week", "2026-13-01", "last 0", [], "2026-08-21..2026-08-07", "9999-12-31", ""]
)
def test_what_names_no_week_is_refused_with_the_ways_to_write_one(written: str | list[str]) -> None:
    with pytest.raises(InvalidQuery, match=r"Write (a day|the older week)"):
        parse_weeks(written)


def test_every_table_is_a_verb_and_orders_its_rows_by_all_of_its_key() -> None:
    assert {verb.table.name for verb in VERBS.values()} == TABLES.keys() | {"revisions", "coverage", "weeks"}
    for verb in VERBS.values():
        assert set(verb.table.key) <= set(verb.order) <= set(verb.table.schema), verb.name
        assert all(verb.table.note(column).text for column in verb.table.schema), verb.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("summry", {}), "no 'summry' to read.*summary"),
        (("summary", {"venues": "UBSA"}), "can't be filtered by venues.*symbols, tiers"),
        (("summary", {"tiers": "T3"}), "unknown tier 'T3': FINRA's tiers are T1"),
        (("summary", {"tiers": "ALL"}), "no rows over all tiers; rolling.*can be added"),
        (("rolling", {"tiers": ["ALL", "T1"]}), "count everything twice"),
        (("concentration", {"scopes": "DARK"}), "can't be 'DARK'.*ATS, NON_ATS, ALL"),
        (("summary", {"symbols": []}), "symbols is empty"),
        (("summary", {"symbols": [7]}), "7 is not text"),
    ],
)
def test_a_selection_that_is_not_valid_is_refused_with_what_is(
    arguments: tuple[str, dict[str, str]], message: str
) -> None:
    with pytest.raises(InvalidQuery, match=re.compile(message, re.S)):
        select(*arguments)


def test_moments_need_a_time_zone_and_a_table_with_history() -> None:
    for moment in ("2026-09-30", "2026-09-30T12:00:00", dt.datetime(2026, 9, 30), "soon"):  # noqa: DTZ001
        with pytest.raises(InvalidQuery, match="time zone"):
            select("summary", as_of=moment)
    with pytest.raises(InvalidQuery, match="no history is kept of gaps"):
        select("gaps", as_of="2026-09-30T12:00Z")
    with pytest.raises(InvalidQuery, match="takes no 'since'"):
        select("summary", since="2026-09-30T12:00Z")
    assert select("summary", as_of="2026-09-30T18:00-04:00").as_of == dt.datetime(2026, 9, 30, 22, tzinfo=dt.UTC)


def test_values_are_bound_and_never_part_of_the_statement() -> None:
    hostile = "x'; DROP TABLE otc.gap; --"
    statement = select("venue_volume", {"symbols": hostile, "venues": hostile}, weeks="2026-08-21", limit=3).statement()
    assert hostile not in statement.text
    assert statement.params == [hostile, hostile, FRIDAY, 3]
    with pytest.raises(InvalidQuery, match="has no column"):
        select("venue_volume", columns=[hostile])


def test_without_a_filter_rows_that_contain_others_are_left_out() -> None:
    assert select("rolling").filters == {"tier": ("NMS Tier 1", "NMS Tier 2", "OTC")}
    assert select("concentration").filters == {"venue_scope": ("ALL",)}
    assert select("rolling", {"tiers": "all"}).filters == {"tier": ("ALL",)}
    assert select("role_share").filters == {}
