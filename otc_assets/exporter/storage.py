"""Gauges of chunks and compression, if the server has TimescaleDB."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from otc_assets.exporter.database import Database
from otc_assets.exporter.families import gauge
from otc_assets.warehouse.timescale.hypertables import chunks


def compression(database: Database) -> Iterator[Metric]:
    """Chunk counts and compression ratios by table."""
    found = chunks(database.rows)
    if not found:
        return
    yield gauge(
        "otc_chunks",
        "Number of chunks of a table, by whether they are compressed.",
        ["table", "compressed"],
        {(table.table, "true"): table.compressed_chunks for table in found}
        | {(table.table, "false"): table.chunks - table.compressed_chunks for table in found},
    )
    yield gauge(
        "otc_compression_ratio",
        "Bytes of a table's compressed chunks before compression, divided by those after, indexes included.",
        ["table"],
        {table.table: table.ratio for table in found if table.ratio is not None},
    )
