"""Counters of events: one GROUP BY over all events, against a bare scan and against reading only new events.

The exporter has three seconds for its counters at every scrape.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from benchmarks.results import Measured, Row, Table
from benchmarks.servers import WholeServer, embedded
from otc_assets.exporter.database import Database
from otc_assets.exporter.events import EventTotals
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


def fill(sql: psycopg.Connection[tuple[object, ...]], count: int) -> None:
    """Fills a table of events.

    Args:
        sql: in autocommit mode.
        count: the number of events.
    """
    sql.execute("ALTER TABLE otc.events DISABLE TRIGGER USER")
    sql.execute(_FILL, [count])
    sql.execute("VACUUM ANALYZE otc.events")


def run() -> Measured:
    """Fills a table of events, and measures."""
    with embedded() as server:
        migrate(server.url, settings())
        with psycopg.connect(server.url, autocommit=True) as sql:
            fill(sql, EVENTS)
            clock = WholeServer(sql.info.backend_pid).processor
            scan, group = (min(_milliseconds(clock, sql, query) for _ in range(3)) for query in (_SCAN, _TOTALS))
            scraped = _next_scrape(clock, server.url)
    found = {"a bare scan": scan, "one GROUP BY of all": group, "only new events, as the exporter reads": scraped}
    rows = [
        Row(name, {"events": EVENTS, "CPU ms": spent}, spent / scan if spent != scan else None)
        for name, spent in found.items()
    ]
    return Measured({"events": Table("read", rows)})


def _milliseconds(clock: Callable[[], float], sql: psycopg.Connection[tuple[object, ...]], query: str) -> float:
    begun = clock()
    sql.execute(query.encode()).fetchall()
    return clock() - begun


def _next_scrape(clock: Callable[[], float], url: str) -> float:
    """The milliseconds of a scrape that follows one which has read the history."""
    totals, database = EventTotals(), Database(lambda: url)
    for _ in range(2):
        with database.scrape(600), database.reading(600):
            begun = clock()
            list(totals.collect(database))
            spent = clock() - begun
    database.close()
    return spent
