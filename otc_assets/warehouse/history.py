"""Replaces rows and keeps the replaced ones, so that tables can be read as of a moment.

A row is known from the moment of the load that wrote it until that of the load that replaced it; replaced rows are
moved to ``<table>_revision`` with both moments. Which rows are loaded is up to ``load``; reading as of a moment is in
``read``, the SQL functions ``otc.*_as_of`` in ``definitions``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.enums import RowChange
from otc_assets.domain.table import Table
from otc_assets.domain.tables import TABLES
from otc_assets.warehouse.server import copy_in, copy_out


def moment(connection: sa.Connection) -> dt.datetime:
    """The moment from which the rows that this transaction writes are known; the same one throughout.

    It is determined before the first row is written, with the week's lock held: the transaction may have begun before
    the end of a load that it waited for.
    """
    taken: dt.datetime = connection.execute(sa.text("SELECT otc.write_moment()")).scalar_one()
    return taken


def known_until(connection: sa.Connection) -> dt.datetime:
    """Answers as of moments before this one are final: no running load can add to them."""
    until: dt.datetime = connection.execute(sa.text("SELECT otc.known_until()")).scalar_one()
    return until


@dataclass(frozen=True)
class Change:
    """How the rows of a week, or of a tier of it, differ from what they replaced.

    Shares are sums of the table's column of shares; 0 where it has none.
    """

    added: int
    changed: int
    removed: int
    unchanged: int
    shares_before: Decimal
    shares_after: Decimal

    @property
    def rows(self) -> int:
        """The number of rows after the load."""
        return self.added + self.changed + self.unchanged

    @property
    def touched(self) -> int:
        """The number of rows that differ."""
        return self.added + self.changed + self.removed

    @property
    def revised(self) -> bool:
        """Whether there were rows before, and some differ."""
        return self.touched > 0 and self.changed + self.removed + self.unchanged > 0


#: The scope is given as values, and not only in a join: otherwise TimescaleDB would decompress other chunks, and other
#: segments and batches of the same one. The keys are arrays because the planner knows their length: for rows of a
#: temporary table it would expect one, and scan the week once for each.
_DELETE = """
    DELETE FROM otc.{table} old USING unnest({arrays}) AS gone ({names})
    WHERE {scope} AND {same_key}
"""


#: Up to so many symbols (or venues) are deleted by a statement each, which decompresses the batches that have the
#: symbol. One statement for all of them decompresses every batch within the scope. With 100 symbols of symbol_summary,
#: the first takes half the time of the second; with one, a fiftieth.
_ONE_BY_ONE = 100


def _parts(gone: pl.DataFrame, table: Table) -> list[tuple[dict[str, object], pl.DataFrame]]:
    """The rows to delete with one statement each, and the value that they have in common, by column."""
    if table.layout is None or gone[table.layout.first].n_unique() > _ONE_BY_ONE:
        return [({}, gone)]
    first = table.layout.first
    return [({first: value}, rows) for (value,), rows in gone.group_by(first, maintain_order=True)]


@cache
def _delete(table: str, scope: tuple[str, ...], key: tuple[str, ...]) -> sa.TextClause:
    """The statement that deletes rows by key within a scope; names are from the registry, values are bound."""
    return sa.text(
        _DELETE.format(
            table=table,
            arrays=", ".join(f"CAST(:{name}_s AS text[])" for name in key),
            names=", ".join(key),
            scope=" AND ".join(f"old.{name} = :{name}" for name in scope),
            same_key=" AND ".join(f"old.{name} = gone.{name}" for name in key),
        )
    )


#: Comparing a full-size week at once takes 50 MiB.
_COMPARED_AT_ONCE = 32_768


def _without(rows: pl.DataFrame, others: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The rows that ``others`` lacks, or has with other values, ``known_from`` aside. Compared part by part."""
    columns = [name for name in rows.columns if name != "known_from"]
    parts = 1 + rows.height // _COMPARED_AT_ONCE
    part, part_of_others = (frame.select(key).hash_rows() % parts for frame in (rows, others))
    return pl.concat(
        rows.filter(part == number).join(
            others.filter(part_of_others == number), on=columns, how="anti", nulls_equal=True
        )
        for number in range(parts)
    )


def replace_rows(connection: sa.Connection, table: str, scope: Mapping[str, object], rows: pl.DataFrame) -> Change:
    """Replaces the rows of ``otc.<table>`` within ``scope`` with ``rows``; those that differ are kept as a revision.

    A row that did not change is not touched: its ``known_from`` remains the time since which it has been the same. The
    stored rows are read and compared here. So an unchanged week costs one read, and a revision costs that and the rows
    that it changes; comparing in the database would load, index and join the whole week every time.

    Args:
        connection: inside a transaction that holds the week's lock.
        table: one that keeps replaced rows.
        scope: columns and the values that all ``rows`` have in them; ``week_ending`` among them.
        rows: all rows within the scope, with the table's columns except ``known_from``.

    Raises:
        ValueError: a row is in ``rows`` twice.
    """
    declared = TABLES[table]
    columns, key, shares = rows.columns, list(declared.key), declared.volume
    old = copy_out(
        connection,
        f"SELECT {', '.join(columns)}, known_from FROM otc.{table}"  # noqa: S608 - names are this project's
        f" WHERE {' AND '.join(f'{name} = %s' for name in scope)}",
        pl.Schema([*rows.schema.items(), ("known_from", pl.String())]),
        list(scope.values()),
    )
    if old.is_empty():
        new, gone = rows, old  # no copy of a full-size week, all of which is new
    else:
        new, gone = _without(rows, old, key), _without(old, rows, key)
    unchanged = old.height - gone.height
    if new.height + unchanged != rows.height:
        raise ValueError(f"a row of otc.{table} occurs twice: {scope}")
    when = moment(connection)
    changed = gone.clear()
    if gone.height:
        changed = gone.join(new, on=key, how="semi")
        removed = gone.join(new, on=key, how="anti")
        for replaced, change in ((changed, RowChange.CHANGED), (removed, RowChange.REMOVED)):
            of_change = pl.lit(when.isoformat()).alias("known_to"), pl.lit(change).alias("change")
            copy_in(connection, f"otc.{table}_revision", replaced.with_columns(of_change))
        within = tuple(name for name in key if name not in scope)
        for common, part in _parts(gone, declared):
            keys = {f"{name}_s": part[name].to_list() for name in within}
            values = {**scope, **common}
            connection.execute(_delete(table, tuple(values), within), {**values, **keys})
    if new.height:
        copy_in(connection, f"otc.{table}", new.with_columns(pl.lit(when.isoformat()).alias("known_from")))
    return Change(
        added=new.height - changed.height,
        changed=changed.height,
        removed=gone.height - changed.height,
        unchanged=unchanged,
        shares_before=Decimal(old[shares].sum() or 0) if shares else Decimal(0),
        shares_after=Decimal(rows[shares].sum() or 0) if shares else Decimal(0),
    )
