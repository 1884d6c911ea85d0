"""Alerts of checks, from events: which are recorded, their figures, and where a reader continues."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from support.migration import migrate

from otc_assets.alerting.checks import record_check_alerts
from otc_assets.domain.enums import Severity
from otc_assets.warehouse import events
from otc_assets.warehouse.database import Database

Sql = psycopg.Connection[tuple[Any, ...]]

WEEK = dt.date(2026, 8, 21)
SUBJECT = "venue_volume.grade 2026-08-21"


@pytest.fixture
def warehouse(database: str) -> Iterator[Database]:
    opened = Database(database)
    yield opened
    opened.close()


def append(warehouse: Database, *payloads: events.Payload) -> list[events.Event]:
    """Appends each in a transaction of its own."""
    appended = []
    for payload in payloads:
        with events.event_context("run-7"), warehouse.transaction() as connection:
            appended.append(events.append(connection, payload))
    return appended


def failed(week: dt.date | None = WEEK, check: str = "grade", **other: Any) -> events.CheckFailed:
    values = {"severity": "ERROR", "blocking": True, "detail": {"all tiers": "F"}, **other}
    return events.CheckFailed(week_ending=week, asset="venue_volume", check=check, **values)


def recovered(week: dt.date | None = WEEK, check: str = "grade") -> events.CheckRecovered:
    return events.CheckRecovered(week_ending=week, asset="venue_volume", check=check)


def record(warehouse: Database, cursor: str | None = None, severity: Severity = Severity.ERROR) -> tuple[int, str]:
    return record_check_alerts(warehouse, cursor, severity, dt.datetime.now(dt.UTC))


def insert(sql: Sql, check: str, age: str, version: int = 1) -> int:
    """Inserts that a check failed, as of some time ago. Returns the id of the event."""
    row = sql.execute(
        """INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata, created_at)
           VALUES ('otc.check.failed', 'check', %s, %s, %s, '{"schema": 1}', now() - %s::interval) RETURNING id""",
        [f"venue_volume.{check} 2026-08-21", version, failed(check=check).model_dump_json(), age],
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_failure_becomes_an_alert_with_its_figures_run_and_event(warehouse: Database, sql: Sql) -> None:
    detail = {
        "NMS Tier 1": "12345 rows differ",
        "NMS Tier 1 observed": "1234567.0",
        "OTC observed": "-0.25",
        "Tier 2 observed": "1234.5",
        "weeks": "1234",
        "tiny": "1e-07",
        "unknown": "nan",
        "long": "x" * 500,
    }
    (event,) = append(warehouse, failed(detail=detail))
    assert record(warehouse) == (1, str(event.cursor))
    (row,) = sql.execute(
        "SELECT kind, subject, severity, week_ending, title, body, run_id, event_id, happened_at FROM otc.alert"
    ).fetchall()
    assert row[:5] == ("check", SUBJECT, "error", WEEK, "venue_volume.grade failed for week 2026-08-21")
    assert row[5].splitlines() == [
        "ERROR, blocking: downstream assets of the week are not computed",
        "NMS Tier 1: 12345 rows differ",
        "NMS Tier 1 observed: 1,234,567",
        "OTC observed: -0.25",
        "Tier 2 observed: 1,234.5",
        f"long: {'x' * 399}…",
        "tiny: 1e-07",
        "unknown: nan",
        "weeks: 1,234",
    ]
    assert row[6:] == ("run-7", event.id, event.created_at)


def test_warnings_become_alerts_only_if_the_setting_includes_them(warehouse: Database, sql: Sql) -> None:
    append(warehouse, failed(severity="WARN", blocking=False), failed(None, "newest_week", severity="WARN"))
    assert record(warehouse)[0] == 0
    assert record(warehouse, severity=Severity.WARN)[0] == 2
    assert sql.execute("SELECT subject, title, body FROM otc.alert ORDER BY id").fetchall() == [
        (SUBJECT, "venue_volume.grade failed for week 2026-08-21", "WARN\nall tiers: F"),
        ("venue_volume.newest_week", "venue_volume.newest_week failed", "WARN\nall tiers: F"),
    ]


def test_a_check_that_recovered_and_fails_again_is_a_second_alert(warehouse: Database, sql: Sql) -> None:
    _, _, passed, again = append(warehouse, failed(), failed(), recovered(), failed())
    assert record(warehouse)[0] == 2
    rows = sql.execute("SELECT event_id, resolved_by, resolved_at FROM otc.alert ORDER BY id").fetchall()
    assert rows == [(passed.id - 2, passed.id, passed.created_at), (again.id, None, None)]


def test_events_that_are_read_again_after_a_crash_repeat_no_alert(warehouse: Database, sql: Sql) -> None:
    """The process died after the commit of the alerts and before Dagster stored the cursor."""
    append(warehouse, failed(), recovered(), failed(), failed(check="rows_reconciled"))
    first = record(warehouse)
    stored = sql.execute("SELECT * FROM otc.alert ORDER BY id").fetchall()
    assert first[0] == len(stored) == 3
    assert record(warehouse) == (0, first[1])
    assert sql.execute("SELECT * FROM otc.alert ORDER BY id").fetchall() == stored


def test_without_a_cursor_it_looks_back_a_day(warehouse: Database, sql: Sql) -> None:
    insert(sql, "months", "90 days")
    insert(sql, "yesterday", "25 hours")
    recent = insert(sql, "today", "23 hours")
    count, cursor = record(warehouse)
    assert (count, events.Cursor.parse(cursor).id) == (1, recent)
    assert sql.execute("SELECT subject FROM otc.alert").fetchall() == [("venue_volume.today 2026-08-21",)]


def test_a_cursor_of_dagsters_ids_begins_at_the_newest_event(warehouse: Database, sql: Sql) -> None:
    assert record(warehouse, "4711") == (0, "0-0")
    (before,) = append(warehouse, failed())
    assert record(warehouse, "4711") == (0, str(before.cursor))
    append(warehouse, failed(check="rows_reconciled"))
    assert record(warehouse, str(before.cursor))[0] == 1
    assert sql.execute("SELECT subject FROM otc.alert").fetchall() == [("venue_volume.rows_reconciled 2026-08-21",)]


def test_after_a_restore_on_another_server_every_failure_that_was_not_read_has_its_alert(
    warehouse: Database, sql: Sql
) -> None:
    """A reader would otherwise wait until the server's transactions reach the number, or skip what the dump has."""
    read = insert(sql, "read", "9 days")
    assert record(warehouse, str(events.START))[0] == 1
    insert(sql, "dumped unread", "8 days")
    insert(sql, "today", "1 hour")
    count, cursor = record(warehouse, f"{2**40}-{read}")
    assert (count, events.Cursor.parse(cursor).xid < 2**40) == (2, True)
    subjects = sql.execute("SELECT subject FROM otc.alert ORDER BY id").fetchall()
    assert [name.split()[0] for (name,) in subjects] == [
        "venue_volume.read",
        "venue_volume.dumped",
        "venue_volume.today",
    ]
    assert record(warehouse, f"{2**40}-{read}")[0] == 0


def test_more_events_than_one_page_are_all_read(warehouse: Database, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otc_assets.alerting.checks._PAGE", 2)
    append(warehouse, *(failed(check=f"c{number}") for number in range(7)))
    assert record(warehouse)[0] == 7
    assert sql.execute("SELECT count(DISTINCT subject) FROM otc.alert").fetchone() == (7,)


ALERTS = "SELECT subject, event_id, resolved_by FROM otc.alert ORDER BY subject, id"


def _stored_alert(sql: Sql, subject: str, kind: str, event_id: int, resolved_by: int | None) -> None:
    sql.execute(
        """INSERT INTO otc.alert (dedupe_key, kind, subject, severity, title, body, event_id, happened_at, recorded_at,
               due_at, resolved_at, resolved_by)
           VALUES (%(key)s, %(kind)s, %(subject)s, 'error', 't', 'b', %(event)s, now(), now(), now(),
               CASE WHEN %(by)s::bigint IS NOT NULL THEN now() END, %(by)s)""",
        {"key": f"{subject} {event_id}", "kind": kind, "subject": subject, "event": event_id, "by": resolved_by},
    )


def test_alerts_of_dagsters_ids_stay_open_or_resolved_when_the_schema_is_migrated_up_and_down(
    warehouse: Database, database: str, sql: Sql
) -> None:
    append(warehouse, failed(), failed(check="rows_reconciled"))
    migrate(database, "032")
    failing, recovers = (f"venue_volume.{check} 2026-08-21" for check in ("grade", "rows_reconciled"))
    _stored_alert(sql, failing, "check", 9000, 9500)
    _stored_alert(sql, failing, "check", 9600, None)
    _stored_alert(sql, recovers, "check", 9700, None)
    _stored_alert(sql, "venue_volume.renamed 2026-08-21", "check", 9800, None)
    _stored_alert(sql, "run x", "run", 9900, None)
    migrate(database)
    migrated = [
        ("run x", 9900, None),
        (failing, 0, 0),
        (failing, 0, None),
        ("venue_volume.renamed 2026-08-21", 0, 0),
        (recovers, 0, None),
    ]
    assert sql.execute(ALERTS).fetchall() == migrated

    *_, passed, again, renamed = append(
        warehouse,
        failed(),
        recovered(check="rows_reconciled"),
        failed(check="rows_reconciled"),
        failed(check="renamed"),
    )
    assert record(warehouse)[0] == 2
    assert sql.execute(ALERTS).fetchall() == [
        *migrated[:4],
        ("venue_volume.renamed 2026-08-21", renamed.id, None),
        (recovers, 0, passed.id),
        (recovers, again.id, None),
    ]

    migrate(database, "032")
    assert sql.execute(ALERTS).fetchall() == [
        *migrated[:4],
        ("venue_volume.renamed 2026-08-21", 0, None),
        (recovers, 0, 0),
        (recovers, 0, None),
    ]
    constraint = sa.text("SELECT count(*) FROM otc.alert WHERE (resolved_at IS NULL) <> (resolved_by IS NULL)")
    with warehouse.transaction() as connection:
        assert connection.execute(constraint).scalar_one() == 0
