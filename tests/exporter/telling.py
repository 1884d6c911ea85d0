"""Events for tests: told by hand, or after the fact for what a pipeline run has left in the tables."""

from __future__ import annotations

import json
from typing import Any

import psycopg

#: As the migrations have it; there already wherever they made it.
STORE = """
CREATE TABLE IF NOT EXISTS otc.events (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id       uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    event_type     text NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    version        bigint NOT NULL,
    payload        jsonb NOT NULL,
    metadata       jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    UNIQUE (aggregate_type, aggregate_id, version)
);
CREATE INDEX IF NOT EXISTS events_in_order ON otc.events (xid, id);
"""
APPEND = """
INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata)
SELECT %(type)s, %(aggregate)s, %(id)s, coalesce(max(version), 0) + 1, %(payload)s, '{"schema": 1}'
FROM otc.events WHERE aggregate_type = %(aggregate)s AND aggregate_id = %(id)s
"""

Sql = psycopg.Connection[tuple[object, ...]]


def tell(sql: Sql, event_type: str, aggregate: str, of: str, **payload: Any) -> None:
    """Appends an event."""
    values = {"type": event_type, "aggregate": aggregate, "id": of, "payload": json.dumps(payload)}
    sql.execute(APPEND, values)


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


#: What a run would have told, of what it left in the tables.
_AFTER_THE_FACT = """
INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata)
SELECT 'otc.file.ingested', 'file', digest || id, 1, to_jsonb(p) || jsonb_build_object(
    'publication_id', id, 'seconds', 0.4, 'outcome', CASE revision WHEN 1 THEN 'new' ELSE 'revised' END),
    '{"schema": 1}'::jsonb
FROM otc.publication p
UNION ALL
SELECT 'otc.week.normalized', 'week', week_ending::text, row_number() OVER (PARTITION BY week_ending ORDER BY tier),
    jsonb_build_object('week_ending', week_ending, 'tier', tier, 'rows', count(*), 'shares', sum(share_volume)::text,
        'version', '', 'seconds', 0.2), '{"schema": 1}'::jsonb
FROM otc.venue_volume GROUP BY week_ending, tier
UNION ALL
SELECT CASE WHEN table_name IN ('symbol_summary', 'venue_share') THEN 'otc.summary.computed'
        ELSE 'otc.metrics.computed' END,
    'week', week_ending::text, 100 + row_number() OVER (PARTITION BY week_ending ORDER BY table_name),
    jsonb_build_object('week_ending', week_ending, 'table', table_name, 'rows', rows, 'version', version,
        'seconds', 0.1), '{"schema": 1}'::jsonb
FROM otc.computed_week WHERE table_name NOT IN ('venue_volume', 'week_calendar')
"""


def tell_what_ran(sql: Sql) -> None:
    """Tells what a pipeline run did, where it did not tell it itself."""
    sql.execute(STORE)
    if not sql.execute("SELECT count(*) FROM otc.events").fetchone()[0]:  # type: ignore[index]
        sql.execute(_AFTER_THE_FACT)
