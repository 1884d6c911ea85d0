"""Replacing rows so that what they were stays askable.

A row is known from the moment of the load that wrote it until that of the load that replaced it; what was
replaced goes to ``<table>_revision`` with both moments. Here: the moment of a load, the comparison that leaves
equal rows untouched, and the answers to which nothing can be added any more. Not here: which rows are the
truth (``load``), reading as of a moment (``read``), the SQL functions ``otc.*_as_of`` (``migrations``).
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
from otc_assets.domain.tables import TABLES
from otc_assets.warehouse.server import copy_in, copy_out


def moment(connection: sa.Connection) -> dt.datetime:
    """The moment from which what this transaction writes is known; the same one throughout.

    Taken when the first row is about to be written, with the week's lock held: the time at which the
    transaction began may lie before the end of a load that it waited for.
    """
    taken: dt.datetime = connection.execute(sa.text("SELECT otc.write_moment()")).scalar_one()
    return taken


def known_until(connection: sa.Connection) -> dt.datetime:
    """Answers as of moments before this one are final: no load that is under way can add to them."""
    until: dt.datetime = connection.execute(sa.text("SELECT otc.known_until()")).scalar_one()
    return until


@dataclass(frozen=True)
class Change:
    """How the rows of a week, or of a tier of it, differ from what they replaced.

    Shares are sums of the table's column of shares.
    """

    added: int
    changed: int
    removed: int
    unchanged: int
    shares_before: Decimal
    shares_after: Decimal

    @property
    def rows(self) -> int:
        """Rows that stand there now."""
        return self.added + self.changed + self.unchanged

    @property
    def touched(self) -> int:
        """Rows that are not as they were."""
        return self.added + self.changed + self.removed

    @property
    def revised(self) -> bool:
        """Whether rows were there before, and are not as they were."""
        return self.touched > 0 and self.changed + self.removed + self.unchanged > 0


#: The scope stands here as values, and not in a join alone: only so does TimescaleDB leave other chunks, and other
#: segments of the same one, alone. The keys are arrays, because of those the planner knows how many there are: of rows
#: in a table that were written a moment ago it expects one, and goes through a week once for each.
_DELETE = """
    DELETE FROM otc.{table} old USING unnest({arrays}) AS gone ({names})
    WHERE {scope} AND {same_key}
"""


@cache
def _delete(table: str, scope: tuple[str, ...], key: tuple[str, ...]) -> sa.TextClause:
    """The statement that deletes rows by key within a scope; names are this project's, values are bound."""
    return sa.text(
        _DELETE.format(
            table=table,
            arrays=", ".join(f"CAST(:{name}_s AS text[])" for name in key),
            names=", ".join(key),
            scope=" AND ".join(f"old.{name} = :{name}" for name in scope),
            same_key=" AND ".join(f"old.{name} = gone.{name}" for name in key),
        )
    )


def replace_rows(connection: sa.Connection, table: str, scope: Mapping[str, object], rows: pl.DataFrame) -> Change:
    """Makes ``rows`` the rows of ``otc.<table>`` within ``scope``; what differed is kept as a revision.

    A row that did not change is not touched, so that ``known_from`` says since when it has been as it is. What
    stands there is read and compared here: a week that comes again unchanged costs a read, and a revision that and
    the rows it changes, where comparing in the database would load, index and join the whole week each time.

    Args:
        connection: inside a transaction that holds the week's lock.
        table: one that keeps what a revision replaced.
        scope: columns and the values that all ``rows`` have in them; ``week_ending`` among them.
        rows: all rows within the scope, in the table's columns but for ``known_from``.

    Raises:
        ValueError: a row stands in ``rows`` twice.
    """
    declared = TABLES[table]
    columns, key, shares = rows.columns, list(declared.key), declared.volume
    assert shares is not None, f"otc.{table} has no column of shares"
    old = copy_out(
        connection,
        f"SELECT {', '.join(columns)}, known_from FROM otc.{table}"  # noqa: S608 - names are this project's
        f" WHERE {' AND '.join(f'{name} = %s' for name in scope)}",
        pl.Schema([*rows.schema.items(), ("known_from", pl.String())]),
        list(scope.values()),
    )
    if old.is_empty():
        new, gone = rows, old  # not copied to find that all of it is new: a full-size week is large
    else:
        new = rows.join(old, on=columns, how="anti", nulls_equal=True)
        gone = old.join(rows, on=columns, how="anti", nulls_equal=True)
    unchanged = old.height - gone.height
    if new.height + unchanged != rows.height:
        raise ValueError(f"rows for otc.{table} stand there twice: {scope}")
    when = moment(connection)
    is_changed = pl.struct(key).is_in(new.select(pl.struct(key)).to_series().implode())
    gone = gone.with_columns(
        pl.lit(when.isoformat()).alias("known_to"),
        pl.when(is_changed).then(pl.lit(RowChange.CHANGED)).otherwise(pl.lit(RowChange.REMOVED)).alias("change"),
    )
    if gone.height:
        copy_in(connection, f"otc.{table}_revision", gone)
        within = tuple(name for name in key if name not in scope)
        keys = {f"{name}_s": gone[name].to_list() for name in within}
        connection.execute(_delete(table, tuple(scope), within), {**scope, **keys})
    if new.height:
        copy_in(connection, f"otc.{table}", new.with_columns(pl.lit(when.isoformat()).alias("known_from")))
    changed = int((gone["change"] == RowChange.CHANGED).sum())
    return Change(
        added=new.height - changed,
        changed=changed,
        removed=gone.height - changed,
        unchanged=unchanged,
        shares_before=Decimal(old[shares].sum() or 0),
        shares_after=Decimal(rows[shares].sum() or 0),
    )
