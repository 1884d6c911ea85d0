"""Definitions in the database that follow the code: as-of functions and comments. ``migrate`` reconciles them.

Tables and all other functions are in ``migrations``; hypertables, aggregates and jobs are in ``timescale``.
"""

from __future__ import annotations

import re

import sqlalchemy as sa

from otc_assets.domain.notes import NOTES
from otc_assets.domain.tables import TABLES, with_history
from otc_assets.warehouse.digests import Digests
from otc_assets.warehouse.grants import kept_grants
from otc_assets.warehouse.sql import statement, text

_INVALID_FUNCTION_DEFINITION = "42P13"


def reconcile(connection: sa.Connection, digests: Digests) -> None:
    """Replaces the definitions that differ from the code's."""
    columns = connection.execute(statement("as_of_columns"), {"tables": with_history()})
    functions = {f"{row.name}_as_of": text("as_of").format(**row._mapping, table=row.name) for row in columns}
    others = ("require_final", "weekly_summary_agg_as_of", "monthly_summary_agg_as_of")
    functions |= {name: text(name) for name in others}
    for name, definition in functions.items():
        if digests.differs(name, definition):
            _replace(connection, name, definition)
            digests.save(name, definition)
    if digests.differs("comments", comments := text("comments")):
        connection.exec_driver_sql(comments)
        digests.save("comments", comments)
    save_comments(connection)


def _replace(connection: sa.Connection, name: str, definition: str) -> None:
    written = definition.replace("%", "%%")  # psycopg would take it for a placeholder
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(written)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _INVALID_FUNCTION_DEFINITION:
            raise
        # Other columns than before: such a function, of a table as of a moment, can't be replaced in place.
        with kept_grants(connection, [name]):
            connection.exec_driver_sql(f"DROP FUNCTION otc.{name}(timestamptz)")
            connection.exec_driver_sql(written)


# COMMENT takes no bound parameters: the server quotes the text.
_COMMENT = sa.text("SELECT format('COMMENT ON %s IS %L', CAST(:object AS text), CAST(:comment AS text))")


def comment_of(table: str, column: str) -> str:
    """What a column of a table that is not in the registry means, as the database has it."""
    found = re.search(rf" COLUMN otc\.{table}\.{column} IS\s+'((?:[^']|'')*)';", text("comments"))
    return found[1].replace("''", "'") if found else str(NOTES[column])


def save_comments(connection: sa.Connection) -> int:
    """Saves the comments that follow the registry: descriptions of its tables, and notes and units of columns.

    A column of another table or view has the note of its name, unless ``comments.sql`` has a comment on it.

    Returns:
        The number of comments that differed.
    """
    tables = {name: table for table in TABLES.values() for name in (table.name, f"{table.name}_revision")}
    others = text("comments")
    changed = 0
    for name, column, stored in connection.execute(statement("comments_stored")).all():
        kind = f"TABLE otc.{name}" if column is None else f"COLUMN otc.{name}.{column}"
        table = tables.get(name)
        if table is None:
            if column not in NOTES or f" {kind} IS" in others:
                continue
            comment = str(NOTES[column])
        elif column is not None:
            comment = str(table.note(column))
        elif name == table.name:
            comment = table.description.partition("\n\n")[0]
        else:
            comment = f"A row of {table.name} as it was before it changed, valid from known_from until known_to."
        if comment != stored:
            command = connection.execute(_COMMENT, {"object": kind, "comment": comment}).scalar_one()
            connection.exec_driver_sql(command.replace("%", "%%"))
            changed += 1
    return changed
