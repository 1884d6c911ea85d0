"""Hypertables: their layout, their chunks and sizes. Which tables have which layout is in ``domain.tables``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import sqlalchemy as sa

from otc_assets.domain.table import Layout
from otc_assets.domain.tables import hypertables
from otc_assets.warehouse.digests import Digests
from otc_assets.warehouse.sql import text
from otc_assets.warehouse.timescale.capabilities import Capabilities

_TABLES = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'otc'")
_HYPERTABLES = sa.text("""
    SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_schema = 'otc'
""")

_UNLIMITED = sa.text("""
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name = 'timescaledb.max_tuples_decompressed_per_dml_transaction'
""")


def allow_changes_of_compressed_rows(connection: sa.Connection) -> None:
    """Lets this transaction change any number of compressed rows: a migration may change all rows of a table."""
    connection.execute(_UNLIMITED)


def reconcile(connection: sa.Connection, can: Capabilities, digests: Digests) -> None:
    """Converts tables to hypertables, rows included, if the server can, and applies layouts that have changed.

    On the community edition the layout of compressed chunks is set, too; no chunk is compressed or rewritten here: a
    changed layout applies to chunks that are created or compressed later.
    """
    if not can.hypertables:
        return
    tables = set(connection.execute(_TABLES).scalars())
    compressible: dict[str, bool] = {row[0]: row[1] for row in connection.execute(_HYPERTABLES)}
    for table, layout in hypertables().items():
        if table not in tables:
            continue
        changed = digests.differs(*_definition(table, layout))
        if table not in compressible:
            connection.exec_driver_sql(
                f"SELECT create_hypertable('otc.{table}', by_range('week_ending', INTERVAL '{layout.chunk} days'),"
                " create_default_indexes => false, migrate_data => true)"
            )
        elif changed:
            connection.exec_driver_sql(f"SELECT set_chunk_time_interval('otc.{table}', INTERVAL '{layout.chunk} days')")
        if can.community and (changed or not compressible.get(table)):
            connection.exec_driver_sql(
                f"ALTER TABLE otc.{table} SET (timescaledb.compress,"
                f" timescaledb.compress_segmentby = '{layout.segment_by}',"
                f" timescaledb.compress_orderby = '{layout.order_by}')"
            )
        digests.save(*_definition(table, layout))


def _definition(table: str, layout: Layout) -> tuple[str, str]:
    return f"hypertable {table}", f"{layout.chunk}|{layout.segment_by}|{layout.order_by}"


@dataclass(frozen=True)
class Chunks:
    """The chunks of a hypertable.

    Attributes:
        table: the hypertable.
        chunks, compressed_chunks: the number of chunks, and of those that are compressed.
        bytes_before, bytes_after: of the compressed ones, indexes included; None if none is.
    """

    table: str
    chunks: int
    compressed_chunks: int
    bytes_before: int | None
    bytes_after: int | None

    @property
    def ratio(self) -> float | None:
        """By what factor compression has reduced them; None if none is compressed."""
        return self.bytes_before / self.bytes_after if self.bytes_before and self.bytes_after else None


_IS_INSTALLED: LiteralString = "SELECT FROM pg_extension WHERE extname = 'timescaledb'"
_SIZES: LiteralString = """
    SELECT tablename::text AS "table", pg_total_relation_size(format('otc.%I', tablename)) AS bytes
    FROM pg_tables WHERE schemaname = 'otc'
"""
_HYPERTABLE_SIZES: LiteralString = """
    SELECT hypertable_name::text AS "table", hypertable_size(format('otc.%I', hypertable_name)::regclass) AS bytes
    FROM timescaledb_information.hypertables WHERE hypertable_schema = 'otc'
"""

#: Runs a query, and returns its rows by column.
Rows = Callable[[LiteralString], Sequence[Mapping[str, Any]]]


def chunks(rows: Rows) -> list[Chunks]:
    """The chunks of every hypertable of ours, by its name; nothing on a server without TimescaleDB.

    Args:
        rows: runs a query on the database, on any connection. No query waits for a lock on a table.
    """
    return [Chunks(**row) for row in rows(text("chunks"))] if rows(_IS_INSTALLED) else []


def sizes(rows: Rows) -> dict[str, int]:
    """Bytes on disk, indexes included, of the tables that grow by week; largest first.

    Args:
        rows: runs a query on the database, on any connection.
    """
    found = {row["table"]: row["bytes"] for row in rows(_SIZES)}
    if rows(_IS_INSTALLED):
        found |= {row["table"]: row["bytes"] for row in rows(_HYPERTABLE_SIZES)}
    return dict(sorted(((t, found[t]) for t in hypertables() if t in found), key=lambda item: -item[1]))
