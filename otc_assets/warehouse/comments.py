"""Comments of tables and columns in the database, from the registry of tables.

They follow the code, so ``migrate`` compares and corrects them every time; migrations don't set them.
"""

from __future__ import annotations

import sqlalchemy as sa

from otc_assets.domain.tables import TABLES

_STORED = sa.text("""
    SELECT c.relname, a.attname, col_description(c.oid, a.attnum) AS note
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'otc'::regnamespace AND c.relname = ANY(:tables)
    ORDER BY c.relname, a.attnum
""")
# COMMENT takes no bound parameters: the server quotes the text.
_STATEMENT = sa.text("""
    SELECT format('COMMENT ON COLUMN otc.%I.%I IS %L',
        CAST(:table AS text), CAST(:column AS text), CAST(:note AS text))
""")


def save_column_comments(connection: sa.Connection) -> int:
    """Saves the note and unit of every column of the registered tables, and of their revisions, as its comment.

    Returns:
        How many comments differed. Tables that an older schema lacks are passed over.
    """
    tables = {name: table for table in TABLES.values() for name in (table.name, f"{table.name}_revision")}
    changed = 0
    for name, column, stored in connection.execute(_STORED, {"tables": list(tables)}).all():
        note = str(tables[name].note(column))
        if note != stored:
            statement = connection.execute(_STATEMENT, {"table": name, "column": column, "note": note}).scalar_one()
            connection.exec_driver_sql(statement.replace("%", "%%"))
            changed += 1
    return changed
