"""Gauges of the present state of weeks, gaps, grades and alerts. Counters are in ``events``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import LiteralString

from prometheus_client.core import GaugeMetricFamily, Metric

from otc_assets.domain.enums import GapStatus, Grade
from otc_assets.domain.weeks import TIERS, newest_due
from otc_assets.exporter.database import Database
from otc_assets.exporter.sql import text

#: The number of newest weeks with metrics of rows and grades: the number of labels must stay limited.
NEWEST = 8

GRADES = dict(zip(Grade, (4, 3, 2, 1, 0), strict=True))
GAP_KINDS = tuple(GapStatus)

# Every graded week is loaded: what is graded are its rows in venue_volume.
_NEWEST_WEEKS: LiteralString = "SELECT tier, max(week_ending) AS week FROM otc.week_quality GROUP BY tier"
_GAPS: LiteralString = "SELECT tier, status, count(*) AS gaps FROM otc.gap GROUP BY tier, status"

_UNDELIVERED: LiteralString = "SELECT count(*) AS alerts FROM otc.alert WHERE state = 'pending'"


def _seconds(week_ending: dt.date) -> float:
    return dt.datetime.combine(week_ending, dt.time(), dt.UTC).timestamp()


def newest_weeks(database: Database, clock: Callable[[], dt.datetime]) -> Iterator[Metric]:
    """Each tier's newest week, and the newest one by the publication calendar."""
    expected = GaugeMetricFamily(
        "otc_newest_week_expected_timestamp_seconds",
        "The newest week that is published by FINRA's calendar: its week_ending, 00:00 UTC, in seconds since 1970.",
        labels=["tier"],
    )
    for tier in TIERS:
        expected.add_metric([tier.name], _seconds(newest_due(tier, clock())))
    yield expected
    if not database.has("otc.week_quality"):
        return
    newest = GaugeMetricFamily(
        "otc_newest_week_timestamp_seconds",
        "The newest week that is loaded and graded: its week_ending, 00:00 UTC, in seconds since 1970; 0 for none.",
        labels=["tier"],
    )
    there = {row["tier"]: row["week"] for row in database.rows(_NEWEST_WEEKS)}
    for tier in TIERS:
        newest.add_metric([tier.name], _seconds(there[tier.name]) if tier.name in there else 0)
    yield newest


def week_rows(database: Database) -> Iterator[Metric]:
    """The rows of the newest weeks."""
    if not (database.has("otc.events") and database.has("otc.computed_week")):
        return
    family = GaugeMetricFamily(
        "otc_week_rows",
        f"Number of rows of venue volume, by tier and week, of the newest {NEWEST} weeks.",
        labels=["tier", "week_ending"],
    )
    for row in database.rows(text("week_rows"), {"newest": NEWEST}):
        family.add_metric([row["tier"], row["week"]], row["rows"])
    yield family


def grades(database: Database) -> Iterator[Metric]:
    """The grades of the newest weeks."""
    if not database.has("otc.week_quality"):
        return
    family = GaugeMetricFamily(
        "otc_week_grade",
        f"The grade, 4 (A), 3 (B), 2 (C), 1 (D) or 0 (F), by tier and week, of the newest {NEWEST} weeks.",
        labels=["tier", "week_ending"],
    )
    for row in database.rows(text("grades"), {"newest": NEWEST}):
        family.add_metric([row["tier"], row["week"]], GRADES[row["grade"]])
    yield family


def open_gaps(database: Database) -> Iterator[Metric]:
    """The gaps in the newest report of each week."""
    if not database.has("otc.gap"):
        return
    family = GaugeMetricFamily(
        "otc_open_gaps",
        "Number of expected publications that are missing or incomplete, by tier and status; pending ones are not "
        "due yet.",
        labels=["tier", "status"],
    )
    found = {(tier.name, kind): 0 for tier in TIERS for kind in GAP_KINDS}
    found |= {(row["tier"], row["status"]): row["gaps"] for row in database.rows(_GAPS)}
    for labels, number in sorted(found.items()):
        family.add_metric(labels, number)
    yield family


def undelivered_alerts(database: Database) -> Iterator[Metric]:
    """The alerts that are not delivered yet."""
    if not database.has("otc.alert"):
        return
    yield GaugeMetricFamily(
        "otc_alerts_undelivered",
        "Number of alerts that are recorded and not delivered yet, without discarded ones.",
        value=database.rows(_UNDELIVERED)[0]["alerts"],
    )
