"""Chunks and compression, where TimescaleDB is there.

Here: the gauges. Not here: asking the server (``warehouse.timescale``).
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from otc_assets.exporter.database import Database
from otc_assets.warehouse.timescale import storage


def compression(database: Database) -> Iterator[Metric]:
    """Chunk counts and compression ratios by table."""
    found = [(table, table.chunks) for table in storage(database.rows) if table.chunks is not None]
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
    for table, count in found:
        chunks.add_metric([table.table, "true"], table.compressed_chunks)
        chunks.add_metric([table.table, "false"], count - table.compressed_chunks)
        if table.bytes_before and table.bytes_after:
            ratio.add_metric([table.table], table.bytes_before / table.bytes_after)
    yield chunks
    yield ratio
