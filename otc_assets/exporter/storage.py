"""Gauges of chunks and compression, if the server has TimescaleDB."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from otc_assets.exporter.database import Database
from otc_assets.warehouse.timescale.hypertables import chunks


def compression(database: Database) -> Iterator[Metric]:
    """Chunk counts and compression ratios by table."""
    found = chunks(database.rows)
    if not found:
        return
    counts = GaugeMetricFamily(
        "otc_chunks",
        "Number of chunks of a table, by whether they are compressed.",
        labels=["table", "compressed"],
    )
    ratios = GaugeMetricFamily(
        "otc_compression_ratio",
        "Bytes of a table's compressed chunks before compression, divided by those after, indexes included.",
        labels=["table"],
    )
    for table in found:
        counts.add_metric([table.table, "true"], table.compressed_chunks)
        counts.add_metric([table.table, "false"], table.chunks - table.compressed_chunks)
        if table.ratio is not None:
            ratios.add_metric([table.table], table.ratio)
    yield counts
    yield ratios
