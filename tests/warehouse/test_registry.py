"""The registry of tables against the database that the migrations make."""

from __future__ import annotations

import psycopg
import pytest
from support.migration import migrate

from otc_assets.domain.tables import TABLES, with_history
from otc_assets.warehouse.definitions import save_comments
from otc_assets.warehouse.server import connect, transaction

Sql = psycopg.Connection[tuple[object, ...]]

#: Columns that the database keeps for itself, by table.
BOOKKEEPING = {"gap": ["reported_at"], **{name: ["known_from"] for name in with_history()}}

_COLUMNS = """
    SELECT column_name FROM information_schema.columns
    WHERE table_schema = 'otc' AND table_name = %s ORDER BY ordinal_position
"""
_KEY = """
    SELECT a.attname FROM pg_constraint c
    CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
    WHERE c.contype = 'p' AND c.conrelid = %s::regclass ORDER BY k.place
"""


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_columns_and_the_key_of_its_entry(sql: Sql, name: str) -> None:
    """In any order: columns that a migration adds are the last ones, and rows are copied by the columns' names."""
    columns = [column for (column,) in sql.execute(_COLUMNS, [name])]
    assert sorted(map(str, columns)) == sorted([*TABLES[name].schema, *BOOKKEEPING.get(name, [])])
    assert tuple(column for (column,) in sql.execute(_KEY, [f"otc.{name}"])) == TABLES[name].key


_COMMENTS = """
    SELECT a.attname, col_description(a.attrelid, a.attnum) FROM pg_attribute a
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""


@pytest.mark.parametrize("name", [*TABLES, *(f"{name}_revision" for name in with_history())])
def test_every_column_says_in_the_database_what_it_means(sql: Sql, name: str) -> None:
    """psql and every BI tool show comments; only a few columns had one."""
    table = TABLES[name.removesuffix("_revision")]
    comments = dict(sql.execute(_COMMENTS, [f"otc.{name}"]).fetchall())  # type: ignore[arg-type]
    assert comments
    assert comments == {column: str(table.note(str(column))) for column in comments}


def test_every_column_of_every_table_and_view_has_a_comment(sql: Sql, database: str) -> None:
    """Also after an aggregate was replaced: its comments are dropped with it."""
    without = """
        SELECT c.relname, a.attname FROM pg_class c
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'otc'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND (coalesce(col_description(c.oid, a.attnum), '') = '' OR obj_description(c.oid, 'pg_class') IS NULL)
    """
    assert sql.execute(without).fetchall() == []
    sql.execute("COMMENT ON COLUMN otc.alert.title IS NULL")
    assert sql.execute(without).fetchall() == [("alert", "title")]
    sql.execute("UPDATE otc.definition SET digest = '' WHERE name = 'weekly_summary_agg'")
    migrate(database)
    assert sql.execute(without).fetchall() == []


def test_columns_of_the_same_name_have_the_same_comment_in_aggregates(sql: Sql) -> None:
    comments = dict(sql.execute(_COMMENTS, ["otc.weekly_summary_agg"]).fetchall())  # type: ignore[arg-type]
    of_table = dict(sql.execute(_COMMENTS, ["otc.symbol_summary"]).fetchall())  # type: ignore[arg-type]
    shared = comments.keys() & of_table.keys()
    assert shared == {"symbol", "tier", "total_volume", "total_trades", "venue_count"}
    assert {name: comments[name] for name in shared} == {name: of_table[name] for name in shared}


def test_the_volumes_of_a_symbols_week_say_which_of_them_add_up(sql: Sql) -> None:
    """The De Minimis group's volume is in non_ats_volume: adding all three would exceed the total."""
    comments = dict(sql.execute(_COMMENTS, ["otc.symbol_summary"]).fetchall())  # type: ignore[arg-type]
    volumes = sorted(str(name) for name in comments if str(name).endswith("_volume"))
    of_blocks = ["block_like_volume", "block_undecided_volume"]
    assert volumes == ["ats_volume", *of_blocks, "non_ats_volume", "of_which_de_minimis_volume", "total_volume"]
    assert "ats_volume + non_ats_volume = total_volume" in comments["non_ats_volume"]
    assert "part of non_ats_volume" in comments["of_which_de_minimis_volume"]


def test_migrate_corrects_comments_that_differ_and_leaves_the_others(sql: Sql, database: str) -> None:
    def changed() -> int:
        engine = connect(database)
        try:
            with transaction(engine) as connection:
                return save_comments(connection)
        finally:
            engine.dispose()

    assert changed() == 0
    sql.execute("COMMENT ON COLUMN otc.symbol_rolling.trend IS '100 % wrong'")
    sql.execute("COMMENT ON COLUMN otc.gap.due IS NULL")
    migrate(database)
    assert changed() == 0
    comments = dict(sql.execute(_COMMENTS, ["otc.symbol_rolling"]).fetchall())  # type: ignore[arg-type]
    assert comments["trend"] == str(TABLES["symbol_rolling"].note("trend"))
    assert "10 %" in str(comments["trend"])


def test_exactly_the_tables_with_revisions_in_the_registry_have_them_and_answer_as_of_a_moment(sql: Sql) -> None:
    kept = sql.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'otc' AND tablename LIKE '%\\_revision'")
    assert {name for (name,) in kept} == {f"{name}_revision" for name in with_history()}
    answering = sql.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'otc'::regnamespace")
    assert {f"{name}_as_of" for name in with_history()} <= {name for (name,) in answering}


def test_retention_drops_the_tables_of_each_class(sql: Sql) -> None:
    wanted: dict[str, set[str]] = {}
    for table in TABLES.values():
        if table.retention:
            of_class = wanted.setdefault(table.retention, set())
            of_class |= {table.name, *([f"{table.name}_revision"] if table.revisions else [])}
    stored = sql.execute("SELECT what, tables FROM otc.retention").fetchall()
    assert {what: set(tables) for what, tables in stored} == wanted  # type: ignore[call-overload]
