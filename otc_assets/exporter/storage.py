"""Chunks and compression, where TimescaleDB is there.

Here: one query on its views, and the gauges. Not here: compressing anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, LiteralString

from prometheus_client.core import GaugeMetricFamily, Metric

from otc_assets.exporter.database import Database

_IS_THERE: LiteralString = "SELECT count(*) AS there FROM pg_extension WHERE extname = 'timescaledb'"
_STORAGE: LiteralString = """
    SELECT h.hypertable_name::text AS "table", h.num_chunks AS chunks,
           coalesce(s.number_compressed_chunks, 0) AS compressed_chunks,
           s.before_compression_total_bytes AS bytes_before, s.after_compression_total_bytes AS bytes_after
    FROM timescaledb_information.hypertables h
    LEFT JOIN LATERAL hypertable_compression_stats(
        format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass) s ON true
    WHERE h.hypertable_schema = 'otc'
    ORDER BY 1
"""


def storage(rows: Callable[[LiteralString], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """How each hypertable lies on the disk; nothing on a server without TimescaleDB.

    Args:
        rows: gives a query's rows as dictionaries.

    Returns:
        A row a table: table, chunks, compressed_chunks, and of the compressed chunks bytes_before and
        bytes_after compression, with indexes; both None where none is compressed.
    """
    return rows(_STORAGE) if rows(_IS_THERE)[0]["there"] else []


def compression(database: Database) -> Iterator[Metric]:
    """Chunk counts and compression ratios by table."""
    found = storage(database.rows)
    if not found:
        return
    chunks = GaugeMetricFamily(
        "otc_chunks",
        "Chunks of a table, in number, by whether they are compressed.",
        labels=["table", "compressed"],
    )
    ratio = GaugeMetricFamily(
        "otc_compression_ratio",
        "Bytes of a table's compressed chunks before compression, divided by those after, indexes included.",
        labels=["table"],
    )
    for row in found:
        chunks.add_metric([row["table"], "true"], row["compressed_chunks"])
        chunks.add_metric([row["table"], "false"], row["chunks"] - row["compressed_chunks"])
        if row["bytes_after"]:
            ratio.add_metric([row["table"]], row["bytes_before"] / row["bytes_after"])
    yield chunks
    yield ratio
