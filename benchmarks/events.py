"""Counters of events: one GROUP BY over all events, against a bare scan and against reading only new events.

The exporter has three seconds for its counters at every scrape. ``python -m benchmarks.events`` runs this alone.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psycopg

from otc_assets.exporter.database import Database
from otc_assets.exporter.events import EventTotals
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.migrate import migrate

EVENTS = 1_000_000

_FILL = """
    INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata)
    SELECT (ARRAY['otc.week.normalized', 'otc.file.ingested', 'otc.summary.computed'])[n %% 3 + 1], 'week', n::text, 1,
        jsonb_build_object('week_ending', '2026-08-21', 'tier', (ARRAY['NMS Tier 1', 'NMS Tier 2', 'OTC'])[n %% 3 + 1],
            'table', 'venue_share', 'rows', n, 'seconds', n %% 700 / 3.0, 'rows_accepted', n, 'rows_rejected', 0,
            'version', 'T1:1', 'digest', sha256(n::text::bytea)::text), '{"schema": 1}'
    FROM generate_series(1, %s) n
"""
_SCAN = "SELECT count(*) FROM otc.events WHERE payload IS NOT NULL"
_TOTALS = """
    SELECT event_type, payload ->> 'tier', payload ->> 'table', payload ->> 'asset', payload ->> 'check',
        payload ->> 'severity', payload ->> 'blocking',
        width_bucket((payload ->> 'seconds')::float8, '{0.1,0.25,0.5,1,2.5,5,10,30,60,120,300,600}'), count(*),
        sum((payload ->> 'seconds')::numeric), sum((payload ->> 'rows_accepted')::bigint),
        sum((payload ->> 'rows_rejected')::bigint)
    FROM otc.events GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def main() -> None:
    """Fills a table of events, and prints the times and their ratio."""
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedServer(Path(folder) / "events") as server:
            migrate(server.url, settings())
            with psycopg.connect(server.url, autocommit=True) as sql:
                sql.execute("ALTER TABLE otc.events DISABLE TRIGGER USER")
                sql.execute(_FILL, [EVENTS])
                sql.execute("VACUUM ANALYZE otc.events")
                scan, group = (min(_seconds(sql, query) for _ in range(3)) for query in (_SCAN, _TOTALS))
            print(f"{EVENTS:,} events: GROUP BY {group:.2f} s, {group / scan:.0f} x a bare scan of {scan:.2f} s")
            print(f"  reading only new events {_next_scrape(server.url):.3f} s (wanted: at most 3 s per scrape)")


def _seconds(sql: psycopg.Connection[tuple[object, ...]], query: str) -> float:
    begun = time.perf_counter()
    sql.execute(query.encode()).fetchall()
    return time.perf_counter() - begun


def _next_scrape(url: str) -> float:
    """The time of a scrape that follows one which has read the history."""
    totals, database = EventTotals(), Database(lambda: url)
    for _ in range(2):
        with database.scrape(600), database.reading(600):
            begun = time.perf_counter()
            list(totals.collect(database))
    database.close()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
