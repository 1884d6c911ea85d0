"""A figure over several weeks is repeated before the loads that it had not read."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

from otc_assets.archive.journal import Entry
from otc_assets.pipeline.reading_order import in_reading_order

WEEK = dt.date(2026, 8, 21)
BEFORE = WEEK - dt.timedelta(weeks=1)


def digest(*window: tuple[dt.date, str]) -> str:
    """As docs of ``otc.computed_week`` have it: a digest of the versions of the weeks."""
    return hashlib.sha256("\n".join(f"{week}={version}" for week, version in window).encode()).hexdigest()[:16]


def entry(event_type: str, week: dt.date, **payload: Any) -> Entry:
    return Entry([{"event_type": event_type, "payload": {"week_ending": week.isoformat(), **payload}}])


def summary(week: dt.date, version: str) -> Entry:
    return entry("otc.summary.computed", week, table="symbol_summary", version=version)


def rolling(*window: tuple[dt.date, str]) -> Entry:
    return entry("otc.metrics.computed", WEEK, table="symbol_rolling", version=digest(*window))


def graded(week: dt.date, grade: str) -> Entry:
    return entry("otc.week.checked", week, version="T1:1", grades={"NMS Tier 1": {"grade": grade, "score": 1}})


def test_a_figure_that_read_before_another_load_ended_is_before_it() -> None:
    first, own, loaded = summary(BEFORE, "T1:1"), summary(WEEK, "T1:2"), summary(BEFORE, "T1:1 T2:3")
    unrelated = summary(WEEK + dt.timedelta(weeks=1), "T1:9")
    read = rolling((BEFORE, "T1:1"), (WEEK, "T1:2"))
    assert in_reading_order([first, own, loaded, unrelated, read]) == [first, own, read, loaded, unrelated]


def test_a_figure_that_read_what_was_loaded_stays_where_it_is() -> None:
    story = [
        summary(BEFORE, "T1:1"),
        summary(WEEK, "T1:2"),
        summary(BEFORE, "T1:1 T2:3"),
        rolling((BEFORE, "T1:1 T2:3"), (WEEK, "T1:2")),
    ]
    assert in_reading_order(story) == story


def test_a_figure_that_left_out_a_week_graded_f_is_after_the_grade_and_before_the_next() -> None:
    story = [summary(BEFORE, "T1:1"), summary(WEEK, "T1:2"), graded(BEFORE, "F"), graded(BEFORE, "A")]
    read = rolling((WEEK, "T1:2"))
    assert in_reading_order([*story, read]) == [*story[:3], read, story[3]]


def test_a_figure_of_unknown_inputs_stays_where_it_is() -> None:
    story = [summary(BEFORE, "T1:1"), summary(WEEK, "T1:2"), rolling((WEEK, "rebuild"))]
    assert in_reading_order(story) == story


def test_weeks_that_retention_deleted_are_no_inputs() -> None:
    dropped = Entry(
        [
            {
                "event_type": "otc.retention.applied",
                "payload": {"what": "summaries", "retained_from": WEEK.isoformat(), "weeks": 1},
            }
        ]
    )
    story = [summary(BEFORE, "T1:1"), summary(WEEK, "T1:2"), dropped, rolling((WEEK, "T1:2"))]
    assert in_reading_order(story) == story
    read = rolling((BEFORE, "T1:1"), (WEEK, "T1:2"))
    assert in_reading_order([*story[:3], read]) == [*story[:2], read, dropped]
