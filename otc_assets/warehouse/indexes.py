"""Indexes that only some versions of PostgreSQL need. Those that every version needs are in the migrations."""

from __future__ import annotations

import sqlalchemy as sa

#: The first version of PostgreSQL that can look up a symbol in an index that begins with week and tier: it skips from
#: one week and tier to the next.
_SKIP_SCAN = 180_000
_VERSION = sa.text("SELECT current_setting('server_version_num')::integer")


def reconcile(connection: sa.Connection) -> None:
    """Creates the index of venue volume by symbol on servers that need it, and drops it on the others.

    PostgreSQL 18 reads a symbol's weeks by the table's key in the same time. The index takes a quarter of the time of a
    load, and more as the table grows: the symbols of a week are in as many places of it (docs/benchmarks.md).
    """
    if connection.execute(_VERSION).scalar_one() >= _SKIP_SCAN:
        connection.exec_driver_sql("DROP INDEX IF EXISTS otc.venue_volume_by_symbol")
    else:
        connection.exec_driver_sql(
            "CREATE INDEX IF NOT EXISTS venue_volume_by_symbol ON otc.venue_volume (symbol, week_ending)"
        )
