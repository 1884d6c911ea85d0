"""Dagster's own storage: in the installation's database, or in a folder where no database is configured.

Chooses the storage that ``dagster.yaml`` names, and moves tables of earlier versions.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import dagster_postgres
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from dagster_postgres.utils import pg_alembic_config

from otc_assets.defs.internals import (
    ChosenBySettings,
    ConfigurableClassData,
    DagsterSqliteStorage,
    DagsterStorage,
)
from otc_assets.defs.pooling import TABLES, PooledStorage
from otc_assets.errors import OtcError
from otc_assets.retries import log_retries
from otc_assets.settings import Settings, settings
from otc_assets.warehouse.migrate import require_current
from otc_assets.warehouse.server import (
    DAGSTER_SCHEMA,
    dagster_storage_url,
    database_url,
    ensure_schema,
    opened,
    transaction,
)


class Storage(DagsterStorage, ChosenBySettings):
    """The storage that ``storage: custom`` in ``dagster.yaml`` names; it creates one of Dagster's own storages."""

    @classmethod
    def from_config_value(  # type: ignore[override]  # it creates another class
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> DagsterStorage:
        """The schema ``dagster`` of the installation's database, or SQLite files in one folder of ``DAGSTER_HOME``.

        All processes of an installation choose the same storage: the UI shows the runs that the daemon launches.

        Raises:
            ClickException: a setting is invalid, or the database is not reachable or not migrated. Dagster's commands
                show it in one line.
        """
        del config_value
        log_retries()  # the web server and the daemon import nothing else of ours
        try:
            chosen = settings()
            if chosen.database_url is not None:
                with opened(chosen.database_url.get_secret_value()) as engine:
                    require_current(engine)
            url = storage_url(chosen)
        except OtcError as error:
            raise click.ClickException(str(error)) from None
        if url is not None:
            return PooledStorage(url, inst_data=inst_data)
        folder = Path(os.environ.get("DAGSTER_HOME") or chosen.dagster_home) / "sqlite"
        return DagsterSqliteStorage.from_config_value(inst_data, {"base_dir": str(folder)})


def storage_url(chosen: Settings) -> str | None:
    """The URL of Dagster's storage: the setting, else derived from the database's; None where neither is set."""
    if chosen.dagster_storage_url is not None:
        # SQLAlchemy takes psycopg 3 for a URL without a driver, in which Dagster's NOTIFY is a syntax error.
        return database_url(chosen.dagster_storage_url.get_secret_value(), "psycopg2")
    return None if chosen.database_url is None else dagster_storage_url(chosen.database_url.get_secret_value())


# --- tables of earlier versions ------------------------------------------------------------------------

#: A daemon writes its heartbeat every 30 seconds: without one for so long it has stopped.
_SILENT_SECONDS = 75
_POLL_SECONDS = 1.0

_MOVE_LOCK = 0x07C0_0002


class StorageInUse(OtcError):
    """Dagster's tables can't be moved, because a daemon uses them. The message says what to do."""


_TABLES_IN = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = :schema AND tablename = ANY(:names)")


def _tables_in(connection: sa.Connection, schema: str) -> list[str]:
    return sorted(connection.execute(_TABLES_IN, {"schema": schema, "names": TABLES}).scalars())


def move_tables(url: str, waiting: Callable[[], None] = lambda: None) -> str:
    """Moves Dagster's tables out of the schema where earlier versions had them into DAGSTER_SCHEMA.

    That was the first schema of the database user's search path: ``otc`` for the embedded database, often ``public``
    elsewhere. It is safe to repeat, and moves all tables or none.

    Args:
        url: the database.
        waiting: called once if a daemon that wrote a heartbeat recently may still be running, before waiting for that.

    Returns:
        A remark, if tables in another schema are left unused; empty otherwise.

    Raises:
        StorageInUse: a daemon is running.
    """
    # Without our session parameters: the user's own path and time zone are what earlier versions had.
    engine = sa.create_engine(database_url(url, "psycopg"), poolclass=sa.NullPool)
    try:
        with transaction(engine) as connection:
            found = _old_schema(connection)
            if found is None:
                return ""
            if _has_runs_of_others(connection, found):
                return (
                    f"Dagster's tables in schema {found} have runs of other code locations too, and stay where they "
                    f"are; runs of this installation are stored in schema {DAGSTER_SCHEMA} from now on"
                )
            if "runs" in _tables_in(connection, DAGSTER_SCHEMA):
                return (
                    f"Dagster's tables are in schema {DAGSTER_SCHEMA}, and older ones in schema {found}, which are "
                    "not used any more"
                )
        _wait_until_silent(engine, found, waiting)
        with transaction(engine) as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MOVE_LOCK})
            if _old_schema(connection) == found:  # another process may have been first
                _move(connection, found)
        return ""
    finally:
        engine.dispose()


def _old_schema(connection: sa.Connection) -> str | None:
    """The schema of the user's search path that has Dagster's tables, other than DAGSTER_SCHEMA."""
    for schema in connection.execute(sa.text("SELECT unnest(current_schemas(false))")).scalars():
        if schema != DAGSTER_SCHEMA and {"runs", "event_logs", "job_ticks"} <= set(_tables_in(connection, schema)):
            return str(schema)
    return None


def _has_runs_of_others(connection: sa.Connection, schema: str) -> bool:
    """Whether another Dagster installation uses the tables: its runs are of a code location that is not ours."""
    others = sa.text(f"""SELECT EXISTS (
        SELECT FROM "{schema}".runs WHERE run_body ~ '"location_name": ?"(?!otc_assets")')""")  # noqa: S608 - a schema's name, from the catalog
    return bool(connection.execute(others).scalar())


def _heartbeat(engine: sa.Engine, schema: str) -> tuple[Any, float]:
    """The newest heartbeat, and its age in seconds."""
    query = sa.text(f'''
        SELECT max("timestamp"), coalesce(extract(epoch FROM localtimestamp - max("timestamp")), 1e9)::float8
        FROM "{schema}".daemon_heartbeats
    ''')  # noqa: S608 - a schema's name, from the catalog
    with transaction(engine) as connection:
        newest, age = connection.execute(query).one()
        return newest, age


def _wait_until_silent(engine: sa.Engine, schema: str, waiting: Callable[[], None]) -> None:
    first, age = _heartbeat(engine, schema)
    if age >= _SILENT_SECONDS:
        return
    waiting()
    while age < _SILENT_SECONDS:
        time.sleep(_POLL_SECONDS)
        newest, age = _heartbeat(engine, schema)
        if newest != first:
            raise StorageInUse(
                f"a Dagster daemon uses this database, and its tables can't be moved from schema {schema} to "
                f"{DAGSTER_SCHEMA} while it runs",
                remedy="Stop 'otc-assets up' (or the daemon), and run this again.",
            )


def _move(connection: sa.Connection, schema: str) -> None:
    connection.execute(sa.text("SET LOCAL lock_timeout = '30s'"))
    ensure_schema(connection, DAGSTER_SCHEMA)
    names = _tables_in(connection, schema)
    # Another application's migrations may be noted in a table of this name: it has none of Dagster's revisions then.
    has_versions = sa.text("SELECT to_regclass(:table) IS NOT NULL")
    if connection.execute(has_versions, {"table": f'"{schema}".alembic_version'}).scalar():
        stamped = set(connection.execute(sa.text(f'SELECT version_num FROM "{schema}".alembic_version')).scalars())  # noqa: S608
        known = {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}
        names += ["alembic_version"] if stamped and stamped <= known else []
    for name in names:
        # Sequences, indexes and constraints belong to the table, and go along.
        connection.exec_driver_sql(f'ALTER TABLE "{schema}"."{name}" SET SCHEMA {DAGSTER_SCHEMA}')


def _alembic_config() -> Any:
    return pg_alembic_config(dagster_postgres.__file__)
