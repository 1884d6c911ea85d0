"""The Parquet files of the export: which tables, in which order, as bytes; and how two states of a week differ.

When files are written and where is in ``pipeline.export``, the description of the data set in ``data_package``.
"""

from __future__ import annotations

import hashlib
import io

import polars as pl

from otc_assets.domain.enums import RowChange
from otc_assets.domain.table import Table
from otc_assets.domain.tables import TABLES

#: Few rows, so that a symbol is found in one or two row groups, and enough for the compression.
ROW_GROUP = 16_384

#: The column of a change file that says what happened to the row.
CHANGE = "change"
ADDED = "added"

#: Raise it when files of the same rows would be written otherwise: every week is exported again.
_LAYOUT = "1"


def exported_tables() -> dict[str, Table]:
    """The tables that are exported: all of the registry."""
    return TABLES


def columns_of(table: Table) -> list[str]:
    """The columns of a file. The week is that of the file's folder: readers refuse a column that is in both."""
    return [name for name in table.schema if name != "week_ending"]


def order_of(table: Table) -> list[str]:
    """The key within a week, a symbol first: only then do the statistics of row groups exclude other symbols."""
    key = [name for name in table.key if name != "week_ending"]
    return sorted(key, key=lambda name: name != "symbol")


def layout_of(table: Table) -> str:
    """A digest of everything but the rows that a file depends on."""
    text = f"{_LAYOUT} {order_of(table)} {[(name, str(table.schema[name])) for name in columns_of(table)]}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def in_file_order(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of a week as its file has them."""
    return rows.select(columns_of(table)).sort(order_of(table))


def to_parquet(rows: pl.DataFrame) -> bytes:
    """The bytes of a file, compressed, with statistics for each row group."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", statistics=True, row_group_size=ROW_GROUP)
    return buffer.getvalue()


def from_parquet(content: bytes) -> pl.DataFrame:
    """The rows of a file."""
    return pl.read_parquet(io.BytesIO(content), hive_partitioning=False)


def row_changes(table: Table, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """What a reader of ``before`` does to have ``after``: CHANGE, and the columns of the file.

    Added and changed rows are complete. A removed row has its key, and nulls otherwise.
    """
    key, columns = order_of(table), columns_of(table)
    new = after.join(before, on=columns, how="anti", nulls_equal=True)
    is_known = pl.struct(key).is_in(before.select(pl.struct(key)).to_series().implode())
    written = new.select(
        pl.when(is_known).then(pl.lit(RowChange.CHANGED)).otherwise(pl.lit(ADDED)).alias(CHANGE), *columns
    )
    gone = before.join(after, on=key, how="anti", nulls_equal=True)
    empty = [pl.lit(None, table.schema[name]).alias(name) for name in columns if name not in key]
    removed = gone.select(pl.lit(RowChange.REMOVED).alias(CHANGE), pl.all()).with_columns(empty)
    return pl.concat([written, removed]).sort(key)
