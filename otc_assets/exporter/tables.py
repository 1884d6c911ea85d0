"""Gauges of the present state of weeks, gaps, grades and alerts. Counters are in ``events``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import LiteralString

from prometheus_client.core import GaugeMetricFamily, Metric

from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.enums import GapStatus, Grade
from otc_assets.domain.weeks import TIERS, newest_due
from otc_assets.exporter.database import Database
from otc_assets.exporter.families import gauge
from otc_assets.exporter.sql import text

#: The number of newest weeks with metrics of rows and grades: the number of labels must stay limited.
NEWEST = 8

GRADES = dict(zip(Grade, (4, 3, 2, 1, 0), strict=True))

# Every graded week is loaded: what is graded are its rows in venue_volume.
_NEWEST_WEEKS: LiteralString = "SELECT tier, max(week_ending) AS week FROM otc.week_quality GROUP BY tier"
_GAPS: LiteralString = "SELECT tier, status, count(*) AS gaps FROM otc.gap GROUP BY tier, status"
_DATASET_GAPS: LiteralString = "SELECT dataset, status, count(*) AS gaps FROM otc.dataset_gap GROUP BY dataset, status"
#: A period of a data set is there as a whole or not at all.
_DATASET_STATUSES = (GapStatus.PENDING, GapStatus.LATE, GapStatus.MISSING_INSIDE, GapStatus.MISSING_AT_END)

#: Alerts are collected for some minutes before they are sent: those that are still collected are not late.
_UNDELIVERED: LiteralString = """
    SELECT count(*) AS alerts FROM otc.alert
    WHERE state = 'pending' AND (attempts > 0 OR due_at < now() - interval '5 minutes')
"""


def _seconds(week_ending: dt.date) -> float:
    return dt.datetime.combine(week_ending, dt.time(), dt.UTC).timestamp()


def newest_weeks(database: Database, clock: Callable[[], dt.datetime], first_week: dt.date) -> Iterator[Metric]:
    """Each tier's newest week, and the newest one by the publication calendar, unless it is before the first wanted."""
    expected = {tier.name: newest_due(tier, clock()) for tier in TIERS}
    yield gauge(
        "otc_newest_week_expected_timestamp_seconds",
        "The newest week that is published by FINRA's calendar: its week_ending, 00:00 UTC, in seconds since 1970; "
        "none if it is before OTC_FIRST_WEEK.",
        ["tier"],
        {name: _seconds(week) for name, week in expected.items() if week >= first_week},
    )
    if not database.has("otc.week_quality"):
        return
    there = {row["tier"]: _seconds(row["week"]) for row in database.rows(_NEWEST_WEEKS)}
    yield gauge(
        "otc_newest_week_timestamp_seconds",
        "The newest week that is loaded and graded: its week_ending, 00:00 UTC, in seconds since 1970; 0 for none.",
        ["tier"],
        {tier.name: there.get(tier.name, 0) for tier in TIERS},
    )


def week_rows(database: Database) -> Iterator[Metric]:
    """The rows of the newest weeks."""
    yield gauge(
        "otc_week_rows",
        f"Number of rows of venue volume, by tier and week, of the newest {NEWEST} weeks.",
        ["tier", "week_ending"],
        {(row["tier"], row["week"]): row["rows"] for row in database.rows(text("week_rows"), {"newest": NEWEST})},
    )


def grades(database: Database) -> Iterator[Metric]:
    """The grades of the newest weeks."""
    rows = database.rows(text("grades"), {"newest": NEWEST})
    yield gauge(
        "otc_week_grade",
        f"The grade, 4 (A), 3 (B), 2 (C), 1 (D) or 0 (F), by tier and week, of the newest {NEWEST} weeks.",
        ["tier", "week_ending"],
        {(row["tier"], row["week"]): GRADES[row["grade"]] for row in rows},
    )


def open_gaps(database: Database) -> Iterator[Metric]:
    """The gaps in the newest report of each week."""
    found = {(tier.name, status): 0 for tier in TIERS for status in GapStatus}
    yield gauge(
        "otc_open_gaps",
        "Number of expected publications that are missing or incomplete, by tier and status; pending ones are not "
        "due yet.",
        ["tier", "status"],
        found | {(row["tier"], row["status"]): row["gaps"] for row in database.rows(_GAPS)},
    )


def open_dataset_gaps(database: Database) -> Iterator[Metric]:
    """The newest report of the gaps of FINRA's neighbouring data sets."""
    found = {(dataset.name, status): 0 for dataset in DATASETS for status in _DATASET_STATUSES}
    yield gauge(
        "otc_open_dataset_gaps",
        "Number of expected periods of FINRA's other data sets that are missing, by data set and status; pending ones "
        "are not due yet.",
        ["dataset", "status"],
        found | {(row["dataset"], row["status"]): row["gaps"] for row in database.rows(_DATASET_GAPS)},
    )


def undelivered_alerts(database: Database) -> Iterator[Metric]:
    """The alerts that are not delivered yet."""
    yield GaugeMetricFamily(
        "otc_alerts_undelivered",
        "Number of alerts that are not delivered although sending them was tried, or has been due for five minutes; "
        "without discarded ones.",
        value=database.rows(_UNDELIVERED)[0]["alerts"],
    )
