"""What the export asks of the database: the versions of the weeks to export, a snapshot, and a lock.

Rows are read with ``read.week_rows``; what is written, and where, is in ``pipeline.export``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.parquet import exported_tables, layout_of
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.read import blocked_between, week_count
from otc_assets.warehouse.retention import dropped_until, retained_from
from otc_assets.warehouse.sql import statement

#: Tables of few rows, of which no version is recorded, or always the same: a digest of the rows identifies them.
_BY_ROWS = ("gap", "dataset_gap", "week_calendar")

#: Loaded together with venue volume, and as little to be used where the week is graded F.
_WITH_VOLUME = ("venue_volume", "published_total")

#: By data set, its table.
_TABLE_OF = {dataset.name: dataset.table for dataset in DATASETS}


@contextmanager
def export_lock(database: Database, target: str) -> Iterator[None]:
    """In the block, no other process of this database exports to ``target``."""
    with database.transaction() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:target, 0))"), {"target": target})
        yield


@contextmanager
def snapshot(database: Database) -> Iterator[sa.Connection]:
    """A transaction in which all tables are read as of one moment. It does not make loads wait."""
    with database.transaction() as connection:
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        yield connection


def export_versions(
    connection: sa.Connection, first: dt.date = dt.date.min, last: dt.date = dt.date.max
) -> dict[dt.date, dict[str, str]]:
    """By week and table, the version of the rows to export, oldest week first.

    Weeks outside the retention window are left out, and those that retention has dropped; so is the venue volume of
    weeks graded F: what was exported of them stays.
    """
    span = {"first": first, "last": last}
    stored = [
        (_TABLE_OF.get(name, name), week, version)
        for name, week, version in connection.execute(statement("export_versions"), span)
        if name not in _BY_ROWS
    ]
    stored += [("published_total", week, version) for table, week, version in stored if table == "venue_volume"]
    for table in _BY_ROWS:
        stored += [(table, *row) for row in connection.execute(_digests(table), span)]
    blocked = blocked_between(connection, first, last)
    declared = exported_tables()
    classes = {table.retention for table in declared.values() if table.retention}
    kept = {what: retained_from(connection, what) for what in classes}
    dropped = {what: dropped_until(connection, what) for what in classes}
    versions: dict[dt.date, dict[str, str]] = {}
    for name, week, version in sorted(stored, key=lambda row: row[1]):
        if name not in declared or (week in blocked and name in _WITH_VOLUME):
            continue
        of_class = declared[name].retention
        oldest, last_dropped = (kept[of_class], dropped[of_class]) if of_class else (None, None)
        may_be_gone = name in _TABLE_OF.values() and last_dropped is not None and week <= last_dropped
        if may_be_gone and not week_count(connection, name, week):
            continue  # a capture stays recorded when its rows are dropped
        if oldest is None or week >= oldest:
            versions.setdefault(week, {})[name] = f"{version} {layout_of(declared[name])}"
    return versions


def _digests(table: str) -> sa.TextClause:
    """(week_ending, digest) of the rows of a table."""
    declared = exported_tables()[table]
    columns, key = ", ".join(declared.schema), ", ".join(declared.key)
    return sa.text(
        f"SELECT week_ending, md5(string_agg(ROW({columns})::text, ' ' ORDER BY {key})) FROM otc.{table}"  # noqa: S608
        " WHERE week_ending BETWEEN :first AND :last GROUP BY week_ending"
    )
