"""Sessions: results do not depend on the defaults of a server, database or role, nor on who calls a function."""

from __future__ import annotations

import datetime as dt
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa
from support.hostile_defaults import HOSTILE_DEFAULTS, make_hostile
from support.migration import migrate
from timescale.servers import TimescaleServer
from warehouse_rows import T1, WEEK, frame, row

from otc_assets.client import Client
from otc_assets.exporter.server import Exporter
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.warehouse import load
from otc_assets.warehouse.server import InvalidDatabaseUrl, connect, prepare_session, session_options, transaction
from otc_assets.warehouse.timescale.aggregates import refresh_after_load

ON_HOSTILE_DEFAULTS = True


def test_every_parameter_that_results_depend_on_is_set(engine: sa.Engine) -> None:
    """A server with DateStyle 'SQL, DMY' broke every asset that reads a timestamp."""
    with transaction(engine) as connection:
        found = {name: connection.scalar(sa.text(f"SHOW {name}")) for name in HOSTILE_DEFAULTS}
    assert found == {
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "TimeZone": "UTC",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "quote_all_identifiers": "off",
        "default_transaction_isolation": "read committed",
        "search_path": "pg_catalog",
    }


def test_options_in_a_users_url_are_kept_and_do_not_change_results(database: str) -> None:
    """Ours replaced them in silence."""
    engine = connect(f"{database}?options=-c%20statement_timeout%3D61s%20-c%20DateStyle%3DGerman")
    with transaction(engine) as connection:
        found = [connection.scalar(sa.text(f"SHOW {name}")) for name in ("statement_timeout", "DateStyle")]
    engine.dispose()
    assert found == ["61s", "ISO, YMD"]


def test_a_line_that_breaks_without_a_word_is_noticed_by_both_sides_within_minutes(database: str) -> None:
    """By Linux' defaults, a server keeps the locks of a machine that is gone for two hours."""
    engine = connect(database)
    theirs = connect(f"{database}?keepalives_idle=30&options=-c%20tcp_keepalives_idle%3D40")
    with Client(database) as client, closing(Exporter(lambda: database)) as exporter:
        exporter.collect()
        of_exporter = exporter._main._connection
        assert of_exporter is not None
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        for ask in (
            lambda name: client.sql(f"SHOW {name}").item(),
            lambda name: of_exporter.execute(f"SHOW {name}").fetchone()[name],  # type: ignore[index,union-attr]
            lambda name: _value(engine, name),
        ):
            assert [ask(name) for name in names] == ["60", "10", "3"]
        assert _value(theirs, "tcp_keepalives_idle") == "40"
        for each, idle in ((engine, "60"), (theirs, "30")):
            with transaction(each) as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, psycopg.Connection)
                assert driver.info.get_parameters()["keepalives_idle"] == idle
        assert of_exporter.info.get_parameters()["keepalives_idle"] == "60"
    engine.dispose()
    theirs.dispose()


def _value(engine: sa.Engine, name: str) -> object:
    with transaction(engine) as connection:
        return connection.scalar(sa.text(f"SHOW {name}"))


def test_a_pooler_that_drops_the_parameters_is_refused(database: str) -> None:
    """PgBouncer does with ``ignore_startup_parameters = options``: Dagster's tables were then created in schema otc."""
    with psycopg.connect(database) as connection, pytest.raises(InvalidDatabaseUrl, match="pooler ignores them"):
        prepare_session(connection)
    with psycopg.connect(database, options=session_options()) as connection:
        prepare_session(connection)
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)


def test_functions_called_from_a_session_of_someone_else_give_the_same_results(
    engine: sa.Engine, database: str
) -> None:
    """As psql, a job of the server, or an analyst's tool calls them: with the defaults of the database."""
    weeks = [WEEK - dt.timedelta(weeks=1), WEEK]
    for week in weeks:
        with transaction(engine) as connection:
            load.replace_volume(connection, week, T1, frame(row("A", "V1", "5", week_ending=week)))
            load.mark_computed(connection, "venue_volume", week, "v", 1)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = 'venue_volume'")
        other.execute("SELECT otc.apply_retention(%s::date)", [(WEEK + dt.timedelta(weeks=1)).isoformat()])
        assert other.execute(
            "SELECT array_agg(week_ending)::text[] = ARRAY[%s::date]::text[] FROM otc.venue_volume", [WEEK.isoformat()]
        ).fetchone() == (True,)
        (payload,) = other.execute("SELECT payload FROM otc.events WHERE aggregate_type = 'retention'").fetchone() or ()
        assert payload == {"what": "venue_volume", "weeks": 1, "retained_from": WEEK.isoformat()}
        with other.transaction():
            # Through a setting, as text, and back: India's IST is Israel's, to a reader of abbreviations.
            first = other.execute("SELECT extract(epoch FROM otc.write_moment())").fetchone()
            again = other.execute("SELECT extract(epoch FROM otc.write_moment())").fetchone()
        assert first == again


def test_every_function_but_those_that_are_inlined_has_a_search_path_of_its_own(
    sql: psycopg.Connection[tuple[object, ...]],
) -> None:
    """With CREATE OR REPLACE a function loses its settings: a migration that uses it has to repeat them."""
    found = sql.execute("""
        SELECT proname, coalesce(proconfig::text, '') FROM pg_proc WHERE pronamespace = 'otc'::regnamespace
    """).fetchall()
    unset = {str(name) for name, config in found if "search_path=pg_catalog, pg_temp" not in str(config)}
    assert all(name.endswith("_as_of") for name in unset)
    with_config = {str(name) for name, config in found if config}
    assert not {name for name in with_config if name.endswith("_as_of")}
    assert {"append_event", "apply_retention", "write_moment", "retained_from"} <= with_config


def test_timescaledb_may_be_in_any_schema(community: TimescaleServer) -> None:
    with community.database(extension=False) as url:
        with psycopg.connect(url, autocommit=True) as sql:
            sql.execute("CREATE SCHEMA extensions")
            sql.execute("CREATE EXTENSION timescaledb SCHEMA extensions")
        assert migrate(url, start=dt.datetime(2100, 1, 1, tzinfo=dt.UTC)).server.endswith("community edition")
        engine = connect(url)
        week = WEEK - dt.timedelta(weeks=60)
        with transaction(engine) as connection:
            load.replace_volume(connection, week, T1, frame(row("A", "V1", "5", week_ending=week)))
        refresh_after_load(engine, week, ["symbol_summary", "venue_volume"])
        with psycopg.connect(url, autocommit=True) as sql:
            sql.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = 'venue_volume'")
            sql.execute("SELECT otc.retention_job(0, '{}')")
            assert sql.execute("SELECT count(*) FROM otc.venue_volume").fetchone() == (0,)
        engine.dispose()


def test_a_migration_does_not_depend_on_the_defaults(server: EmbeddedServer, empty_database: str) -> None:
    make_hostile(server, empty_database.rpartition("/")[2])
    migrate(empty_database)
    migrate(empty_database, "base")
    migrate(empty_database)
    with psycopg.connect(empty_database) as connection:
        (tables,) = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname IN ('shadow', 'public')"
        ).fetchone() or (None,)
    assert tables == 0
