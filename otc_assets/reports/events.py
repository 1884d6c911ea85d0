"""Events and alerts: what happened, in lines for people, and how far the delivery of alerts is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from otc_assets.domain.enums import AlertKind, AlertState
from otc_assets.errors import OtcError
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse import events
from otc_assets.warehouse.database import Database

#: The pause between looking for new events.
_FOLLOW_SECONDS = 0.5


def _summary(event: events.Event) -> str:
    """An event in one line, for people; one that a newer version wrote is shown as it is stored."""
    where = " ".join(str(event.payload[name]) for name in ("week_ending", "tier") if name in event.payload)
    try:
        payload = event.typed_payload()
    except events.UnknownEvent:
        return json.dumps(event.payload)
    match payload:
        case events.FileIngested():
            what = f"{payload.outcome}, {payload.rows_accepted:,} rows accepted, {payload.rows_rejected:,} rejected"
            what += "" if payload.complete else ", not complete"
        case events.DatasetCaptured():
            what = f"{payload.dataset} {payload.period}: {payload.outcome}, {payload.rows_accepted:,} rows accepted, "
            what += f"{payload.rows_rejected:,} rejected"
        case events.CaptureQuarantined() | events.CaptureWithdrawn():
            what = f"capture {payload.publication_id}: {payload.reason}"
        case events.CaptureAccepted() | events.CaptureRestored():
            what = f"capture {payload.publication_id} of {payload.origin}"
        case events.CaptureRecounted():
            what = f"capture {payload.publication_id}: {payload.rows_accepted:,} rows accepted, "
            what += f"{payload.rows_rejected:,} rejected; before {payload.rows_accepted_before:,} and "
            what += f"{payload.rows_rejected_before:,}"
        case events.FileRejected():
            what = payload.reason
        case events.WeekNormalized():
            what = f"{payload.rows:,} rows"
        case events.WeekRevised():
            what = f"{payload.added:,} rows added, {payload.changed:,} changed, {payload.removed:,} removed"
        case events.SummaryComputed() | events.MetricsComputed():
            what = f"{payload.table}, {payload.rows:,} rows"
        case events.ReportWritten():
            what = f"weekly_report, {payload.bytes:,} bytes"
        case events.WeekChecked():
            what = ", ".join(f"{tier} {judged.grade}" for tier, judged in sorted(payload.grades.items()))
        case events.GapChanged():
            what = f"{payload.status}, {payload.rows_loaded:,} rows"
        case events.GapOpened() | events.GapClosed():
            what = payload.status
        case events.CheckFailed():
            what = f"{payload.asset}.{payload.check} {payload.severity}{', blocking' if payload.blocking else ''}"
        case events.CheckRecovered():
            what = f"{payload.asset}.{payload.check}"
        case events.RetentionApplied():
            what = f"{payload.what}: {payload.weeks:,} weeks before {payload.retained_from} dropped"
        case _:
            what = json.dumps(event.payload)
    return f"{where}: {what}" if where else what


def _event(event: events.Event) -> dict[str, Any]:
    """An event for people and programs: all that is stored, and in ``what`` a line that summarizes it."""
    stored = ("id", "event_id", "event_type", "aggregate_type", "aggregate_id", "version", "payload", "metadata")
    return {
        **{name: getattr(event, name) for name in stored},
        "created_at": event.created_at.isoformat(),
        "cursor": str(event.cursor),
        "what": _summary(event),
    }


def newest_events(database: Database, count: int, event_type: str | None) -> list[dict[str, Any]]:
    """The newest events, oldest first."""
    with database.transaction() as connection:
        return [_event(event) for event in events.newest(connection, count, event_type)]


def follow_events(
    database: Database, count: int, event_type: str | None, wait: Callable[[float], bool]
) -> Iterator[list[dict[str, Any]]]:
    """The newest events that are final, and then new ones; none is repeated or omitted.

    Args:
        database: where they are.
        count: how many of the newest.
        event_type: events of this type alone.
        wait: waits for a number of seconds, and returns whether to stop.
    """
    with database.transaction() as connection:
        found = events.newest(connection, max(count, 1), event_type, final=True)
    cursor = found[-1].cursor if found else events.START
    yield [_event(event) for event in found] if count else []
    while not wait(0 if found else _FOLLOW_SECONDS):
        with database.transaction() as connection:
            found = events.read(connection, cursor, event_types=[event_type] if event_type else None)
        if found:
            cursor = found[-1].cursor
            yield [_event(event) for event in found]


def event_of(database: Database, which: int | UUID) -> dict[str, Any]:
    """The event of an id or an event_id.

    Raises:
        OtcError: there is no such event.
    """
    with database.transaction() as connection:
        found = events.find(connection, which)
    if found is None:
        raise OtcError(f"there is no event {which}", remedy="'otc-assets events tail' shows the most recent events.")
    return _event(found)


def week_history(database: Database, week_ending: dt.date) -> dict[str, Any]:
    """The state of a week, tier by tier, and all its events, oldest first."""
    with database.transaction() as connection:
        return {
            "week_ending": week_ending,
            "tiers": [dict(row) for row in events.week_states(connection, week_ending)],
            "events": [_event(event) for event in events.history(connection, week_ending)],
        }


def replay_events(database: Database) -> dict[str, Any]:
    """Recomputes the projections of events. Returns the number of events, and rows by projection."""
    with database.transaction() as connection:
        count, rows = events.replay(connection)
    return {"events": count, "rows": rows}


def recent_alerts(database: Database, count: int) -> list[dict[str, Any]]:
    """The newest alerts, newest first: columns of ``otc.alert``, and `delivery`, which says it in words."""
    with database.transaction() as connection:
        rows = outbox.recent(connection, count)
    for row in rows:
        attempts = f"{row['attempts']} failed attempt{'' if row['attempts'] == 1 else 's'}"
        reason = "OTC_ALERT_URL was not set"
        if row["kind"] == AlertKind.RECOVERY:
            reason = "no destination has the alert of the failure, or the check failed again"
        row["delivery"] = {
            AlertState.PENDING: f"pending, {attempts}: {row['last_error']}" if row["last_error"] else "pending",
            AlertState.DISCARDED: f"not sent: {reason}",
            AlertState.DELIVERED: f"delivered {row['delivered_at']:%Y-%m-%d %H:%M}" if row["delivered_at"] else "",
        }[row["state"]]
    return rows
