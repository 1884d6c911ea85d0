"""Events for tests, told by hand."""

from __future__ import annotations

import json
from typing import Any

import psycopg

Sql = psycopg.Connection[tuple[object, ...]]


def tell(sql: Sql, event_type: str, aggregate: str, of: str, **payload: Any) -> None:
    """Appends an event, as the database itself does it for everybody."""
    values = [event_type, aggregate, of, json.dumps(payload)]
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
    """Tells that a publication was captured."""
    tell(
        sql,
        "otc.file.ingested",
        "file",
        digest,
        publication_id=1,
        week_ending=week,
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
    )


def normalized(sql: Sql, tier: str = "NMS Tier 1", week: str = "2026-08-21", rows: int = 10) -> None:
    """Tells that a week's venue volume was made."""
    told = {"week_ending": week, "tier": tier, "rows": rows, "shares": "1000.000000", "version": "T1:1"}
    tell(sql, "otc.week.normalized", "week", week, **told, seconds=0.5)


def revised(sql: Sql, tier: str = "NMS Tier 1", week: str = "2026-08-21") -> None:
    """Tells that a week's rows were revised."""
    rows = {"added": 1, "changed": 2, "removed": 3}
    shares = {"shares_before": "1000.000000", "shares_after": "1100.000000"}
    tell(sql, "otc.week.revised", "week", week, week_ending=week, tier=tier, **rows, **shares, version="T1:2")


def check_failed(
    sql: Sql,
    check: str = "grade",
    asset: str = "venue_volume",
    severity: str = "ERROR",
    blocking: bool = True,
    week: str = "2026-08-21",
) -> None:
    """Tells that a check failed."""
    told = {"asset": asset, "check": check, "severity": severity, "blocking": blocking, "week_ending": week}
    tell(sql, "otc.check.failed", "check", f"{asset}.{check} {week}", **told, detail={"NMS Tier 1": "it is bad"})
