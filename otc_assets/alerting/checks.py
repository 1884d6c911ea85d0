"""Alerts of checks: reads the events of checks, and records in the outbox those that started to fail, or recovered.

Sending alerts is in ``delivery``; the outbox itself is ``warehouse.alerts``.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import cast

import sqlalchemy as sa

from otc_assets.alerting.delivery import QUIET
from otc_assets.domain.enums import AlertKind, Severity
from otc_assets.text import shortened
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse import events
from otc_assets.warehouse.alerts import NewAlert
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.events import CheckFailed, CheckRecovered

#: How far back a reader without a cursor begins.
_LOOK_BACK = dt.timedelta(days=1)

#: Events per transaction, and transactions per call.
_PAGE, _PAGES = 1000, 10

#: The longest text that an alert keeps of one figure.
_LONGEST = 400

_TYPES = (CheckFailed.event_type, CheckRecovered.event_type)
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def _figure(text: str) -> str:
    """A figure of an event, with thousands separators if it is a number."""
    if _NUMBER.fullmatch(text):
        number = int(text) if text.lstrip("-").isdigit() else float(text)
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        text = f"{number:,}"
    return shortened(text, _LONGEST)


def alert_of(event: events.Event, failure: CheckFailed) -> NewAlert:
    """The alert of a failed check.

    Args:
        event: an event of the type ``otc.check.failed``.
        failure: its payload.
    """
    serious = failure.severity == "ERROR"
    week = failure.week_ending
    blocks = failure.blocking and serious
    kind = (
        f"{failure.severity}, blocking: downstream assets of the week are not computed" if blocks else failure.severity
    )
    return NewAlert(
        kind=AlertKind.CHECK,
        subject=event.aggregate_id,
        severity=Severity.ERROR if serious else Severity.WARN,
        week_ending=week,
        title=f"{failure.asset}.{failure.check} failed" + (f" for week {week}" if week else ""),
        body="\n".join([kind, *(f"{label}: {_figure(text)}" for label, text in sorted(failure.detail.items()))]),
        run_id=event.metadata.get("run_id"),
        event_id=event.id,
        happened_at=event.created_at,
        blocking=blocks,
    )


def recovery_of(event: events.Event, recovery: CheckRecovered) -> NewAlert:
    """What is sent when a check has passed again, to those who have the alert of its failure.

    Args:
        event: an event of the type ``otc.check.recovered``.
        recovery: its payload.
    """
    week = recovery.week_ending
    return NewAlert(
        kind=AlertKind.RECOVERY,
        subject=event.aggregate_id,
        severity=Severity.WARN,
        week_ending=week,
        title=f"{recovery.asset}.{recovery.check} passed again" + (f" for week {week}" if week else ""),
        body="RECOVERED",
        run_id=event.metadata.get("run_id"),
        event_id=event.id,
        happened_at=event.created_at,
    )


def record_check_alerts(
    database: Database, cursor: str | None, severity: Severity, now: dt.datetime
) -> tuple[int, str]:
    """Records alerts of checks that started to fail since the cursor, and resolves those of checks that recovered.

    Events that are read again, because the cursor was not stored, do not repeat an alert.

    Args:
        database: where the events and the outbox are.
        cursor: what the last call returned; None for the first call, which looks back a day. One of before a restore
            looks back a day from the event that was read last.
        severity: the lowest severity of failed checks that become alerts.
        now: the present time, UTC.

    Returns:
        The number of new alerts, and the cursor for the next call.
    """
    recorded = 0
    with database.transaction() as connection:
        position = _position(connection, cursor, now)
    for _ in range(_PAGES):
        with database.transaction() as connection:
            found = events.read(connection, position, _PAGE, _TYPES)
            if found:
                recorded += _record(connection, found, severity, now)
                position = found[-1].cursor
        if len(found) < _PAGE:
            break
    return recorded, str(position)


def _position(connection: sa.Connection, cursor: str | None, now: dt.datetime) -> events.Cursor:
    """Where to continue."""
    if cursor is not None and cursor.isdigit():
        # Earlier versions stored an id of Dagster's events, and recorded their alerts up to there.
        found = events.newest(connection, 1, final=True)
        return found[-1].cursor if found else events.START
    if cursor is not None:
        position = events.Cursor.parse(cursor)
        event = events.find(connection, position.id)
        if position == events.START or (event is not None and event.cursor == position):
            return position
        # The events were restored from a dump and renumbered: this cursor could be ahead of all of them. What had not
        # been read when the database was dumped comes after the event that had been, however old the dump is.
        if event is not None:
            now = min(now, event.created_at)
    found = events.newest(connection, 1, final=True, before=now - _LOOK_BACK)
    return found[-1].cursor if found else events.START


def _record(connection: sa.Connection, found: list[events.Event], severity: Severity, now: dt.datetime) -> int:
    outbox.lock_outbox(connection)
    recorded = 0
    for event in found:
        if event.event_type == CheckRecovered.event_type:
            recovery = recovery_of(event, cast(CheckRecovered, event.typed_payload()))
            outbox.resolve(connection, recovery, now=now, quiet=QUIET)
            continue
        alert = alert_of(event, cast(CheckFailed, event.typed_payload()))
        if alert.severity == Severity.ERROR or severity == Severity.WARN:
            recorded += outbox.record(connection, alert, now=now, quiet=QUIET)
    return recorded
