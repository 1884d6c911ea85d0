"""The outbox of alerts, ``otc.alert``: recorded once, claimed by one process at a time, delivered or kept.

Every statement on that table is here. Which failures become alerts is in ``alerting.checks`` and ``defs.alerts``;
sending them is in ``alerting.delivery``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from otc_assets.domain.enums import AlertKind
from otc_assets.warehouse.sql import statement

_LOCK = sa.text("LOCK TABLE otc.alert IN SHARE ROW EXCLUSIVE MODE")


@dataclass(frozen=True)
class NewAlert:
    """A failure that may become an alert.

    Attributes:
        kind: one of ``AlertKind``.
        subject: what fails, as in 'venue_volume.grade 2026-08-21'; a subject that failed before and has not
            passed since gets no second alert.
        severity: 'error' or 'warn'.
        week_ending: the week that it is about, if it is about one.
        title: one line.
        body: lines with the figures.
        run_id: the run that reported it.
        event_id: the event that reported it: for a check, its id in ``otc.events``; for a run, Dagster's storage id.
        happened_at: when it happened, UTC.
        blocking: whether it blocks downstream assets.
    """

    kind: str
    subject: str
    severity: str
    week_ending: dt.date | None
    title: str
    body: str
    run_id: str | None
    event_id: int
    happened_at: dt.datetime
    blocking: bool = False


@dataclass(frozen=True)
class Alert:
    """An alert that is pending. Its fields are columns of ``otc.alert``.

    Attributes:
        resolved_at: when the check passed again.
        recipients: of a recovery, the destinations that have the alert of the failure; None for other alerts.
        kind: one of ``AlertKind``.
    """

    id: int
    severity: str
    title: str
    body: str
    run_id: str | None
    attempts: int
    delivered_to: list[str]
    resolved_at: dt.datetime | None = None
    recipients: list[str] | None = None
    kind: str = AlertKind.CHECK


def lock_outbox(connection: sa.Connection) -> None:
    """Waits until no other transaction writes alerts, and makes others wait until this one ends."""
    connection.execute(_LOCK)


def record(connection: sa.Connection, alert: NewAlert, *, now: dt.datetime, quiet: dt.timedelta) -> bool:
    """Puts an alert into the outbox, unless it is there or its subject was failing already.

    Args:
        connection: inside a transaction that holds the lock of the outbox.
        alert: the failure.
        now: the present time, UTC.
        quiet: new alerts are collected for this long after an attempt to send; an error does not wait because of a
            warning or a recovery, nor what blocks because of what does not.

    Returns:
        Whether it is new.
    """
    values = {
        **alert.__dict__,
        "dedupe_key": f"{alert.subject} {alert.event_id} {alert.run_id or ''}".rstrip(),
        "now": now,
        "quiet": quiet,
    }
    return connection.execute(statement("record_alert"), values).rowcount == 1


def resolve(connection: sa.Connection, recovery: NewAlert, *, now: dt.datetime, quiet: dt.timedelta) -> None:
    """Records that a check passed: its next failure is a new alert. If its failure was sent, so is the recovery.

    Args:
        connection: inside a transaction that holds the lock of the outbox.
        recovery: what is to be sent; its subject is the check's.
        now: the present time, UTC.
        quiet: see ``record``.
    """
    connection.execute(statement("resolve_alert"), {**recovery.__dict__, "now": now, "quiet": quiet})


_DISCARD_PENDING = sa.text("UPDATE otc.alert SET state = 'discarded', attempts = 0 WHERE state = 'pending'")


def discard_pending(connection: sa.Connection) -> int:
    """Marks pending alerts as discarded: there is no destination. Returns their number."""
    return connection.execute(_DISCARD_PENDING).rowcount


def discard_recoveries(connection: sa.Connection, destinations: Sequence[str], now: dt.datetime) -> None:
    """Marks recoveries as discarded if no destination has their failure, or the check has failed since."""
    connection.execute(statement("discard_recoveries"), {"destinations": list(destinations), "now": now})


def claim(connection: sa.Connection, *, now: dt.datetime, until: dt.datetime) -> list[Alert]:
    """Claims the pending alerts, if one of them is due; no other process gets them before ``until``.

    Returns:
        Errors first, then other failures, recoveries and reports, each in the order in which they were recorded.
    """
    rows = connection.execute(statement("claim_alerts"), {"now": now, "until": until}).mappings()
    alerts = (Alert(**row) for row in rows)
    last = {AlertKind.RECOVERY: 1, AlertKind.REPORT: 2}
    return sorted(alerts, key=lambda alert: (last.get(AlertKind(alert.kind), 0), alert.severity != "error", alert.id))


_MARK_DELIVERED = sa.text(
    "UPDATE otc.alert SET delivered_to = array_append(delivered_to, :destination) WHERE id = ANY(:ids)"
)


def mark_delivered(connection: sa.Connection, ids: Sequence[int], destination: str) -> None:
    """Records that a destination has received these alerts."""
    connection.execute(_MARK_DELIVERED, {"ids": list(ids), "destination": destination})


def end_attempt(
    connection: sa.Connection,
    ids: Sequence[int],
    *,
    destinations: Sequence[str],
    error: str | None,
    now: dt.datetime,
    again_at: dt.datetime,
) -> None:
    """Ends an attempt on claimed alerts: delivered if every destination has them, else due at ``again_at``.

    Args:
        connection: inside a transaction.
        ids: the alerts that were claimed.
        destinations: all destinations.
        error: why one of them did not receive them, without secrets.
        now: the present time, UTC.
        again_at: when to try again, if that is needed.
    """
    values = {"ids": list(ids), "destinations": list(destinations), "error": error, "now": now, "again_at": again_at}
    connection.execute(statement("end_alert_attempt"), values)


def delete(connection: sa.Connection, *, before: dt.datetime) -> int:
    """Deletes alerts from before a time, unless they are pending or prevent another alert. Returns their number."""
    return connection.execute(statement("delete_alerts"), {"before": before}).rowcount


_STUCK = sa.text("""
    SELECT count(*) AS count, min(recorded_at) AS since, max(last_error) AS error, min(due_at) AS again_at
    FROM otc.alert WHERE state = 'pending' AND attempts > 0
""")


@dataclass(frozen=True)
class Stuck:
    """Alerts that are not delivered although sending them was tried.

    Attributes:
        count: their number.
        since: when the oldest of them was recorded; None if there is none.
        error: why, without secrets.
        again_at: when they are tried again.
    """

    count: int
    since: dt.datetime | None
    error: str | None
    again_at: dt.datetime | None


def stuck(connection: sa.Connection) -> Stuck:
    """The alerts that are not delivered although sending them was tried."""
    return Stuck(**connection.execute(_STUCK).mappings().one())


_RECENT = sa.text("""
    SELECT id, happened_at, kind, subject, severity, week_ending, title, body, run_id, state, attempts, last_error,
        delivered_at, resolved_at
    FROM otc.alert ORDER BY id DESC LIMIT :count
""")


def recent(connection: sa.Connection, count: int) -> list[dict[str, Any]]:
    """The newest ``count`` alerts, newest first, with the state of their delivery."""
    return [dict(row) for row in connection.execute(_RECENT, {"count": count}).mappings()]
