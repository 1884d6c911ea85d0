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

from otc_assets.domain.schema import KEYS
from otc_assets.warehouse.server import copy_in


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

    Shares are sums of the column that was named.
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


@dataclass(frozen=True)
class _Statements:
    """The SQL that replaces rows of one table within one scope; names are this project's, values are bound."""

    before: sa.TextClause
    stage: sa.TextClause
    index_stage: sa.TextClause
    keep_old: sa.TextClause
    delete_old: sa.TextClause
    insert_new: sa.TextClause


@cache
def _statements(table: str, columns: tuple[str, ...], scope: tuple[str, ...], shares: str) -> _Statements:
    key = KEYS[table]
    same_key = " AND ".join(f"old.{name} = new.{name}" for name in key)
    same_row = "({}) IS NOT DISTINCT FROM ({})".format(
        ", ".join(f"old.{name}" for name in columns), ", ".join(f"new.{name}" for name in columns)
    )
    # The week stands here as a value and not as a join alone: only so does TimescaleDB leave other chunks out.
    where = " AND ".join(f"old.{name} = :{name}" for name in scope)
    old_columns = ", ".join(f"old.{name}" for name in columns)
    new_columns = ", ".join(f"new.{name}" for name in columns)
    names = ", ".join(columns)
    return _Statements(
        before=sa.text(
            f"SELECT count(*) AS rows, coalesce(sum({shares}), 0) AS shares FROM otc.{table} old WHERE {where}"  # noqa: S608
        ),
        stage=sa.text(f"CREATE TEMPORARY TABLE incoming (LIKE otc.{table}) ON COMMIT DROP"),
        index_stage=sa.text(f"CREATE UNIQUE INDEX ON incoming ({', '.join(key)})"),
        keep_old=sa.text(f"""
            INSERT INTO otc.{table}_revision ({names}, known_from, known_to, change)
            SELECT {old_columns}, old.known_from, :moment,
                   CASE WHEN new.week_ending IS NULL THEN 'removed' ELSE 'changed' END
            FROM otc.{table} old LEFT JOIN incoming new ON {same_key}
            WHERE {where} AND (new.week_ending IS NULL OR NOT {same_row})
            RETURNING change
        """),  # noqa: S608
        delete_old=sa.text(f"""
            DELETE FROM otc.{table} old
            WHERE {where} AND NOT EXISTS (SELECT FROM incoming new WHERE {same_key} AND {same_row})
        """),  # noqa: S608
        insert_new=sa.text(f"""
            INSERT INTO otc.{table} ({names}, known_from)
            SELECT {new_columns}, :moment FROM incoming new
            WHERE NOT EXISTS (SELECT FROM otc.{table} old WHERE {where} AND {same_key})
        """),  # noqa: S608
    )


def replace_rows(
    connection: sa.Connection, table: str, scope: Mapping[str, object], rows: pl.DataFrame, shares: str
) -> Change:
    """Makes ``rows`` the rows of ``otc.<table>`` within ``scope``; what differed is kept as a revision.

    A row that did not change is not touched, so that ``known_from`` says since when it has been as it is.

    Args:
        connection: inside a transaction that holds the week's lock.
        table: one of KEYS, with a ``_revision`` beside it.
        scope: columns and the values that all ``rows`` have in them; ``week_ending`` among them.
        rows: all rows within the scope, in the table's columns but for ``known_from``.
        shares: the column whose sums before and after are told.
    """
    statements = _statements(table, tuple(rows.columns), tuple(scope), shares)
    before = connection.execute(statements.before, scope).one()
    when = moment(connection)
    shares_after = Decimal(rows[shares].sum() or 0)
    if not before.rows:
        known_from = pl.lit(when.isoformat()).alias("known_from")
        copy_in(connection, f"otc.{table}", rows.with_columns(known_from))
        return Change(rows.height, 0, 0, 0, Decimal(0), shares_after)
    values = {**scope, "moment": when}
    connection.execute(sa.text("DROP TABLE IF EXISTS pg_temp.incoming"))
    connection.execute(statements.stage)
    # A staged row is never read for it; NOT NULL came along with the column.
    connection.execute(sa.text("ALTER TABLE pg_temp.incoming DROP COLUMN known_from"))
    copy_in(connection, "incoming", rows)
    connection.execute(statements.index_stage)
    connection.execute(sa.text("ANALYZE pg_temp.incoming"))
    changes = connection.execute(statements.keep_old, values).scalars().all()
    connection.execute(statements.delete_old, scope)
    inserted = connection.execute(statements.insert_new, values).rowcount
    connection.execute(sa.text("DROP TABLE pg_temp.incoming"))
    changed, removed = changes.count("changed"), changes.count("removed")
    return Change(
        added=inserted - changed,
        changed=changed,
        removed=removed,
        unchanged=before.rows - changed - removed,
        shares_before=before.shares,
        shares_after=shares_after,
    )
