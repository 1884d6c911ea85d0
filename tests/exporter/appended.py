"""Appends events for tests: each function appends one, with plausible values for what the test does not name."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import psycopg

from otc_assets.warehouse.events import CheckFailed, FileIngested, WeekNormalized, WeekRevised
from otc_assets.warehouse.events.payloads import Payload

Sql = psycopg.Connection[tuple[object, ...]]


def append(sql: Sql, payload: Payload) -> None:
    """Appends an event through the function of the database."""
    text = payload.model_dump_json(exclude_none=True)
    values = [payload.event_type, payload.aggregate_type, payload.aggregate_id, text]
    sql.execute("SELECT otc.append_event(%s, %s, %s, %s::jsonb)", values)


def ingested(
    sql: Sql,
    tier: str = "NMS Tier 1",
    week: str = "2026-08-21",
    accepted: int = 10,
    rejected: int = 0,
    seconds: float = 1.0,
    digest: str = "a" * 64,
    outcome: str = "new",
) -> None:
    """A publication was captured."""
    append(
        sql,
        FileIngested(
            publication_id=1,
            week_ending=dt.date.fromisoformat(week),
            tier=tier,
            scope="FULL",
            revision=1,
            digest=digest,
            origin="query api",
            layout="api",
            bytes=1000,
            rows_received=accepted + rejected,
            rows_accepted=accepted,
            rows_rejected=rejected,
            complete=True,
            outcome=outcome,
            seconds=seconds,
        ),
    )


def normalized(sql: Sql, tier: str = "NMS Tier 1", week: str = "2026-08-21", rows: int = 10) -> None:
    """A week's venue volume was computed."""
    append(
        sql,
        WeekNormalized(
            week_ending=dt.date.fromisoformat(week),
            tier=tier,
            rows=rows,
            shares=Decimal("1000.000000"),
            version="T1:1",
            seconds=0.5,
        ),
    )


def revised(sql: Sql, tier: str = "NMS Tier 1", week: str = "2026-08-21") -> None:
    """A week's rows were revised."""
    append(
        sql,
        WeekRevised(
            week_ending=dt.date.fromisoformat(week),
            tier=tier,
            added=1,
            changed=2,
            removed=3,
            shares_before=Decimal("1000.000000"),
            shares_after=Decimal("1100.000000"),
            version="T1:2",
        ),
    )


def check_failed(
    sql: Sql,
    check: str = "grade",
    asset: str = "venue_volume",
    severity: str = "ERROR",
    blocking: bool = True,
    week: str = "2026-08-21",
) -> None:
    """A check failed."""
    append(
        sql,
        CheckFailed(
            asset=asset,
            check=check,
            severity=severity,
            blocking=blocking,
            week_ending=dt.date.fromisoformat(week),
            detail={"NMS Tier 1": "it failed"},
        ),
    )
