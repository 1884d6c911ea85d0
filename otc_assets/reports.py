"""Tables for the command line: the state of weeks, gaps, what was taken in, what happened, alerts.

Here: asking the warehouse and shaping rows for people and programs. Not here: printing (``cli``), judging
(``domain``).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import polars as pl
import sqlalchemy as sa

from otc_assets.assets.gap_report import current_gaps
from otc_assets.domain.gaps import PENDING, ranges_and_history
from otc_assets.domain.quality import worst
from otc_assets.domain.weeks import T1, TIERS, due_at, newest_due, weeks_up_to
from otc_assets.finra.source import Source
from otc_assets.resources import Warehouse
from otc_assets.settings import settings
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse import events
from otc_assets.warehouse.lineage import ROLLING_TABLES, WEEKLY_TABLES, lineage
from otc_assets.warehouse.retention import kept_tables
from otc_assets.warehouse.timescale import chunks, sizes

_BY_WEEK = sa.text("""
    SELECT week_ending, tier, count(*) AS rows, sum(share_volume) AS shares FROM otc.venue_volume
    WHERE week_ending BETWEEN :first AND :last GROUP BY week_ending, tier
""")
_GRADES = sa.text("SELECT week_ending, tier, grade FROM otc.week_quality WHERE week_ending BETWEEN :first AND :last")
_CAPTURED = sa.text("""
    SELECT origin, tier, scope, count(*) AS weeks, min(week_ending) AS first, max(week_ending) AS last,
        sum(rows_received) AS received, sum(rows_accepted) AS accepted, sum(rows_rejected) AS rejected
    FROM otc.publication WHERE run_id = :run_id
    GROUP BY origin, tier, scope ORDER BY min(id)
""")

_FIRST_CAPTURED = sa.text("SELECT tier, min(week_ending) AS week FROM otc.publication GROUP BY tier")


def week_status(warehouse: Warehouse, count: int, now: dt.datetime) -> list[dict[str, Any]]:
    """The newest weeks, newest last: by tier rows, 'pending', 'missing' or 'dropped'; rows, grade, shares, state."""
    weeks = [week for week in weeks_up_to(newest_due(T1, now), count) if week >= settings().first_week]
    span = {"first": weeks[0], "last": weeks[-1]}
    with warehouse.transaction() as connection:
        loaded = {(row.week_ending, row.tier): row for row in connection.execute(_BY_WEEK, span)}
        grades: dict[dt.date, list[str]] = {}
        for week, _, grade in connection.execute(_GRADES, span):
            grades.setdefault(week, []).append(grade)
        known = lineage(connection)
    stale = {t: set(known.stale(t)) for t in ("venue_volume", *WEEKLY_TABLES, *ROLLING_TABLES)}
    rows = []
    for week in weeks:
        parts = {tier.id: loaded.get((week, tier.name)) for tier in TIERS}
        waiting = [table for table, found in stale.items() if week in found]
        rows.append(
            {
                "week_ending": week,
                **{
                    tier.id: part.rows
                    if (part := parts[tier.id])
                    else "dropped"
                    if known.kept_from and week < known.kept_from
                    else "pending"
                    if now < due_at(week, tier)
                    else "missing"
                    for tier in TIERS
                },
                "rows": sum(part.rows for part in parts.values() if part),
                "grade": worst(grades.get(week, [])),
                "shares": int(sum(part.shares for part in parts.values() if part)),
                "state": "blocked" if week in known.blocked else f"stale: {', '.join(waiting)}" if waiting else "",
            }
        )
    return rows


def storage_by_table(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The tables that grow by week, largest first: MB on disk, chunks, compressed ones and their ratio, kept_from."""
    with warehouse.transaction() as connection:

        def rows(query: str) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(sa.text(query)).mappings()]

        first = {table: week for _, tables, week in kept_tables(connection) for table in tables}
        chunked = {found.table: found for found in chunks(rows)}
        on_disk = sizes(rows)
    return [
        {
            "table": table,
            "MB": round(size / 1e6, 1),
            "chunks": found.chunks if (found := chunked.get(table)) else None,
            "compressed": found.compressed_chunks if found else None,
            "ratio": round(found.ratio, 1) if found and found.ratio else None,
            "kept_from": first.get(table),
        }
        for table, size in on_disk.items()
    ]


def gap_ranges(warehouse: Warehouse, source: Source, now: dt.datetime, *, with_pending: bool) -> list[dict[str, Any]]:
    """The gaps at this moment, consecutive weeks folded into one row; history that was never requested comes first."""
    found = current_gaps(warehouse, source, now)
    if not with_pending:
        found = found.filter(pl.col("status") != PENDING)
    with warehouse.transaction() as connection:
        first_captured = {row.tier: row.week for row in connection.execute(_FIRST_CAPTURED)}
    return ranges_and_history(found, first_captured).to_dicts()


def captured_by(warehouse: Warehouse, run_id: str) -> list[dict[str, Any]]:
    """What a run captured, by file and tier."""
    with warehouse.transaction() as connection:
        found = connection.execute(_CAPTURED, {"run_id": run_id}).mappings().all()
    return [
        {
            "origin": row["origin"],
            "weeks": str(row["first"]) if row["weeks"] == 1 else f"{row['first']}..{row['last']} ({row['weeks']})",
            "tier": row["tier"],
            "scope": row["scope"],
            **{name: int(row[name]) for name in ("received", "accepted", "rejected")},
        }
        for row in found
    ]


# --- events --------------------------------------------------------------------------------------------

#: How often a follower looks for new events.
_FOLLOW_SECONDS = 0.5


def _said(event: events.Event) -> str:
    """An event in a line, for people; one that a newer version wrote as it is stored."""
    where = " ".join(str(event.payload[name]) for name in ("week_ending", "tier") if name in event.payload)
    try:
        told = event.told()
    except events.UnknownEvent:
        return json.dumps(event.payload)
    match told:
        case events.FileIngested():
            what = f"{told.outcome}, {told.rows_accepted:,} rows accepted, {told.rows_rejected:,} rejected"
            what += "" if told.complete else ", not complete"
        case events.FileRejected():
            what = told.reason
        case events.WeekNormalized():
            what = f"{told.rows:,} rows"
        case events.WeekRevised():
            what = f"{told.added:,} rows added, {told.changed:,} changed, {told.removed:,} removed"
        case events.SummaryComputed() | events.MetricsComputed():
            what = f"{told.table}, {told.rows:,} rows"
        case events.WeekChecked():
            what = ", ".join(f"{tier} {judged.grade}" for tier, judged in sorted(told.grades.items()))
        case events.GapOpened() | events.GapClosed():
            what = told.status
        case events.CheckFailed():
            what = f"{told.asset}.{told.check} {told.severity}{', blocking' if told.blocking else ''}"
        case events.RetentionApplied():
            what = f"{told.what}: {told.weeks:,} weeks before {told.retained_from} dropped"
        case _:
            what = json.dumps(event.payload)
    return f"{where}: {what}" if where else what


def _event(event: events.Event) -> dict[str, Any]:
    """An event for people and programs: all that is stored, and in ``what`` a line that says it."""
    stored = ("id", "event_id", "event_type", "aggregate_type", "aggregate_id", "version", "payload", "metadata")
    return {
        **{name: getattr(event, name) for name in stored},
        "created_at": event.created_at.isoformat(),
        "cursor": str(event.cursor),
        "what": _said(event),
    }


def newest_events(warehouse: Warehouse, count: int, event_type: str | None) -> list[dict[str, Any]]:
    """The newest events, oldest first."""
    with warehouse.transaction() as connection:
        return [_event(event) for event in events.newest(connection, count, event_type)]


def follow_events(
    warehouse: Warehouse, count: int, event_type: str | None, wait: Callable[[float], bool]
) -> Iterator[list[dict[str, Any]]]:
    """The newest events that are final, and then those that come, none twice and none left out.

    Args:
        warehouse: where they are.
        count: how many of the newest.
        event_type: events of this type alone.
        wait: waits so many seconds, and says whether that was enough.
    """
    with warehouse.transaction() as connection:
        found = events.newest(connection, max(count, 1), event_type, final=True)
    cursor = found[-1].cursor if found else events.START
    yield [_event(event) for event in found] if count else []
    while not wait(0 if found else _FOLLOW_SECONDS):
        with warehouse.transaction() as connection:
            found = events.read(connection, cursor, event_type=event_type)
        if found:
            cursor = found[-1].cursor
            yield [_event(event) for event in found]


def event_of(warehouse: Warehouse, which: int | UUID) -> dict[str, Any] | None:
    """The event of an id or an event_id; None where there is none."""
    with warehouse.transaction() as connection:
        found = events.find(connection, which)
    return _event(found) if found else None


def week_history(warehouse: Warehouse, week_ending: dt.date) -> dict[str, Any]:
    """How far the week is, tier by tier, and all that has happened to it, oldest first."""
    with warehouse.transaction() as connection:
        return {
            "week_ending": week_ending,
            "tiers": [dict(row) for row in events.week_states(connection, week_ending)],
            "events": [_event(event) for event in events.history(connection, week_ending)],
        }


def replay_events(warehouse: Warehouse) -> dict[str, Any]:
    """Makes the projections of events anew: how many events there are, and rows by projection."""
    with warehouse.transaction() as connection:
        count, rows = events.replay(connection)
    return {"events": count, "rows": rows}


# --- alerts --------------------------------------------------------------------------------------------


def recent_alerts(warehouse: Warehouse, count: int) -> list[dict[str, Any]]:
    """The newest alerts, newest first: columns of ``otc.alert``, and `delivery`, which says it in words."""
    with warehouse.transaction() as connection:
        rows = outbox.recent(connection, count)
    for row in rows:
        attempts = f"{row['attempts']} failed attempt{'' if row['attempts'] == 1 else 's'}"
        row["delivery"] = {
            "waiting": f"pending, {attempts}: {row['last_error']}" if row["last_error"] else "pending",
            "unwanted": "not sent: OTC_ALERT_URL was not set",
            "delivered": f"delivered {row['delivered_at']:%Y-%m-%d %H:%M}" if row["delivered_at"] else "",
        }[row["state"]]
    return rows
