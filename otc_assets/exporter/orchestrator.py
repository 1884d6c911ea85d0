"""Dagster's own health, from the tables of its PostgreSQL storage.

Its Python interface would cost an import of Dagster (66 MB), a connection per call and deserializing every tick; it has
no time limit and no counts. The few columns that are read here instead have been the same since 2022. If a table does
not exist, its metrics are left out. What runs did to our data is in ``events``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, LiteralString

from prometheus_client.core import GaugeMetricFamily, Metric

from otc_assets.exporter.database import Database
from otc_assets.exporter.families import counter, gauge
from otc_assets.exporter.sql import text

ENDED_RUNS = ("SUCCESS", "FAILURE", "CANCELED")
ENDED_TICKS = ("SUCCESS", "SKIPPED", "FAILURE")

#: The number of the newest ticks that every scrape reads again: a tick is written when it starts and updated when it
#: ends, and ids are assigned before transactions commit. These are the ticks of an hour or more.
TICKS_AGAIN = 2_000

# Dagster's columns have no time zone: they hold the local time of the session that wrote them. In our own storage that
# is UTC; in one that was configured apart, the default of the database or role, or what the options of its URL say.
_HEARTBEATS: LiteralString = """
    SELECT daemon_type AS daemon, extract(epoch FROM clock_timestamp() - "timestamp" AT TIME ZONE (
        SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'))::float8 AS age
    FROM daemon_heartbeats
"""
_QUEUE: LiteralString = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - create_timestamp AT TIME ZONE (
        SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'))), 0)::float8 AS age
    FROM runs WHERE status = 'QUEUED'
"""
_RUNS: LiteralString = "SELECT status, count(*) AS runs FROM runs WHERE status = ANY(%(ended)s) GROUP BY status"

_NEWEST_TICK: LiteralString = "SELECT coalesce(max(id), 0) AS id FROM job_ticks"
_TICKS_AFTER: LiteralString = """
    SELECT id, coalesce(substring(tick_body FROM '"job_name": *"([^"]*)"'), '') AS name, type, status
    FROM job_ticks WHERE id > %(after)s
"""


def daemons(database: Database) -> Iterator[Metric]:
    """The age of the last heartbeat of each part of the daemon."""
    yield gauge(
        "otc_dagster_heartbeat_age_seconds",
        "Time since the last heartbeat of a part of Dagster's daemon, in seconds.",
        ["daemon"],
        {row["daemon"]: max(row["age"], 0.0) for row in database.rows(_HEARTBEATS)},
    )


def queue(database: Database) -> Iterator[Metric]:
    """The waiting time of the oldest queued run."""
    yield GaugeMetricFamily(
        "otc_dagster_queued_run_age_seconds",
        "Time for which the oldest queued run has waited, in seconds; 0 if no run is queued.",
        value=max(database.rows(_QUEUE)[0]["age"], 0.0),
    )


class RunTotals:
    """The number of runs that ended, by status. Deleted runs stay counted until this process ends."""

    def __init__(self) -> None:
        self._there: Counter[str] = Counter()
        self._deleted: Counter[str] = Counter()

    def collect(self, database: Database) -> Iterator[Metric]:
        """Counts the runs of each final status."""
        there = Counter({r["status"]: r["runs"] for r in database.rows(_RUNS, {"ended": list(ENDED_RUNS)})})
        self._deleted += self._there - there
        self._there = there
        yield counter(
            "otc_dagster_runs",
            "Number of Dagster runs that have ended, by status.",
            ["status"],
            {status: there[status] + self._deleted[status] for status in ENDED_RUNS},
        )


class TickTotals:
    """The number of ticks of sensors and schedules that ended, by status.

    Dagster deletes old ticks, so counts of the table would fall. The totals begin with the stored ticks; ticks that are
    deleted later stay counted until this process ends.
    """

    def __init__(self) -> None:
        self._after: int | None = None
        self._totals: Counter[tuple[str, str, str]] = Counter()
        self._seen: dict[int, str] = {}

    def collect(self, database: Database) -> Iterator[Metric]:
        """Adds the ticks that ended since the last scrape."""
        newest = database.rows(_NEWEST_TICK)[0]["id"]
        if self._after is None or newest < self._after:  # the first scrape, or another storage
            after = max(newest - TICKS_AGAIN, 0)
            before = database.rows(text("ticks_before"), {"after": after, "ended": list(ENDED_TICKS)})
            self._after, self._seen, self._totals = after, {}, Counter()
            for row in before:
                self._add(row, row["ticks"])
        for row in database.rows(_TICKS_AFTER, {"after": self._after}):
            # A failed tick is tried again under the same id: it may end more than once.
            if self._seen.get(row["id"]) != row["status"]:
                self._add(row, 1)
            self._seen[row["id"]] = row["status"]
        self._after = max(self._after, newest - TICKS_AGAIN)
        self._seen = {tick: status for tick, status in self._seen.items() if tick > self._after}
        yield counter(
            "otc_dagster_ticks",
            "Number of ticks of Dagster sensors and schedules that have ended, by status.",
            ["kind", "name", "status"],
            self._totals,
        )

    def _add(self, row: dict[str, Any], ticks: int) -> None:
        kind, name = row["type"].lower(), row["name"]
        for status in ENDED_TICKS:  # every series begins at 0, so that its first increase is one
            self._totals.setdefault((kind, name, status), 0)
        if row["status"] in ENDED_TICKS:
            self._totals[kind, name, row["status"]] += ticks
