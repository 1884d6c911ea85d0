"""Connections to the server, and typed frames over COPY in both directions.

This module has engines, database URLs, COPY of Polars frames to and from tables, and the lock of a week. Statements on
tables are in ``load`` and ``read``.
"""

from __future__ import annotations

import datetime as dt
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import polars as pl
import psycopg
import sqlalchemy as sa
import stamina
from psycopg import sql

from otc_assets.errors import OtcError
from otc_assets.postgres import MAKE_ROOM, copied, is_full, keepalives, session_options
from otc_assets.settings import without_secrets
from otc_assets.text import first_line
from otc_assets.tracing import copy_span, instrument_engine

#: Rows per slice of COPY: enough to be fast, few enough that a week is never in memory twice.
_SLICE_ROWS = 20_000

#: The schema of Dagster's own tables: not ``otc``, so that a reader can be granted everything in ``otc``.
DAGSTER_SCHEMA = "dagster"

#: How long a connection is tried for while the server has as many as it may. Runs end meanwhile, and others begin.
FULL_SECONDS = 30.0

#: A connection that was idle for longer is tested by asking the server.
SILENT_SECONDS = 10.0

#: The first key of our advisory locks: no other program uses it.
LOCK_SPACE = 0x07C0


# TimescaleDB's functions are called by their names alone, and their schema was chosen when the extension was created.
_PREPARE: LiteralString = """
    SELECT (
        SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), false)
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'
    )
    WHERE current_setting('otc.parameters', true) = 'received'
"""


class DatabaseUnreachable(OtcError):
    """The server did not answer, or refused the connection. The message never contains a password."""


class InvalidDatabaseUrl(OtcError, ValueError):
    """The URL is not a PostgreSQL URL, or is ambiguous. The message never contains a password."""


def prepare_session(connection: psycopg.Connection[Any]) -> None:
    """Sets what ``session_options`` can't: the schema of TimescaleDB's functions, if it is installed.

    Raises:
        InvalidDatabaseUrl: a connection pooler has dropped the parameters. Results would depend on the server's
            defaults, and Dagster's tables would be created in the first schema of the user's path.
    """
    before, connection.autocommit = connection.autocommit, True
    if connection.execute(_PREPARE).fetchone() is None:
        raise InvalidDatabaseUrl(
            "the parameters of the connection (options) did not reach the server: a connection pooler ignores them",
            remedy="Connect to the server itself. With PgBouncer, see docs/scale-out.md.",
        )
    connection.autocommit = before


def database_url(url: str, driver: str) -> str:
    """``url`` with the SQLAlchemy driver named: ``psycopg`` for our data, ``psycopg2`` for Dagster's storage.

    Raises:
        InvalidDatabaseUrl: not a PostgreSQL URL.
    """
    # Of more than one @, which one ends the password? A guess would take a part of it for the host, and print it.
    if url.count("@") > 1:
        raise InvalidDatabaseUrl(
            "OTC_DATABASE_URL has more than one @",
            remedy="Percent-encode special characters in user name and password (@ as %40, : as %3A, / as %2F, # as "
            "%23, ? as %3F). Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        )
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        parsed, backend = None, ""
    if parsed is None or backend not in ("postgresql", "postgres"):
        raise InvalidDatabaseUrl(
            "OTC_DATABASE_URL is not a URL of a PostgreSQL server, the only kind supported",
            remedy="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, special characters percent-encoded (@ as %40)",
        )
    return parsed.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)


def libpq_url(url: str) -> str:
    """``url`` as libpq reads it, and with it psycopg, psql and other programs: without a driver.

    SQLAlchemy writes blanks as they are, and those of a parameter's value as ``+``: libpq refuses the first, and takes
    the second for plus signs.

    Raises:
        InvalidDatabaseUrl: not a PostgreSQL URL.
    """
    address, mark, parameters = database_url(url, "psycopg").replace("+psycopg", "", 1).partition("?")
    return address.replace(" ", "%20") + mark + parameters.replace("+", "%20")


def options_in(url: sa.URL) -> str:
    """The ``options`` in a URL, such as ``-c statement_timeout=60000``; empty if it has none."""
    given = url.query.get("options", "")
    return given if isinstance(given, str) else " ".join(given)


def dagster_storage_url(url: str) -> str:
    """The URL of Dagster's storage in the database at ``url``: the driver psycopg2, and the schema DAGSTER_SCHEMA.

    Raises:
        InvalidDatabaseUrl: not a PostgreSQL URL.
    """
    address = sa.make_url(database_url(url, "psycopg2"))
    options = session_options(options_in(address), search_path=DAGSTER_SCHEMA)
    return address.update_query_dict({"options": options}).render_as_string(hide_password=False)


def ensure_schema(connection: sa.Connection, name: str) -> None:
    """Creates a schema if it does not exist. If it exists, no right to create schemas is needed."""
    if connection.execute(sa.text("SELECT to_regnamespace(:name)"), {"name": name}).scalar() is None:
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {name}")


def wait_where_full(engine: sa.Engine) -> None:
    """Has an engine wait, and try again, where the server has as many connections as it may.

    Without that, a step would fail that needs a connection while another process has one more than usual. Connections
    that are refused for other reasons are refused at once.

    Args:
        engine: of any driver. After FULL_SECONDS it raises DatabaseUnreachable, which names the limit.
    """

    def made(dialect: Any, _: object, args: Any, parameters: Any) -> Any:
        failure = dialect.loaded_dbapi.OperationalError

        def full(error: Exception) -> bool:
            return isinstance(error, failure) and is_full(str(error))

        try:
            for attempt in stamina.retry_context(
                on=full, attempts=None, timeout=FULL_SECONDS, wait_initial=0.5, wait_max=5
            ):
                with attempt:
                    return dialect.connect(*args, **parameters)
        except failure as error:
            if not full(error):
                raise
            raise _unreachable(engine.url, error) from None

    sa.event.listen(engine, "do_connect", made)


def check_before_use(engine: sa.Engine) -> None:
    """Has an engine check a connection of its pool before it is used, and replace it if the server has ended it.

    Shortly after its last use, it is enough that the server has sent nothing since: what ends a connection is sent, or
    closes the socket. Asking the server before each use, as ``pool_pre_ping`` does, was a twentieth of the time of a
    run over small weeks. After a while the server is asked: a network can drop a connection without telling.

    Args:
        engine: of any driver for PostgreSQL.
    """
    dialect: Any = engine.dialect

    def returned(_: object, record: Any) -> None:
        record.info["since"] = time.monotonic()

    def taken(connection: Any, record: Any, _: object) -> None:
        since = record.info.get("since")
        if since is None:
            return  # it is new
        try:
            if time.monotonic() - since > SILENT_SECONDS or _has_sent_something(connection):
                dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError(first_line(error)) from None

    sa.event.listen(engine, "checkin", returned)
    sa.event.listen(engine, "checkout", taken)


def _has_sent_something(connection: Any) -> bool:
    """Whether the server of an idle connection has sent something that was not read yet."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def connect(url: str, *, pool_size: int = 2) -> sa.Engine:
    """An engine for the server at ``url``; it connects when it is first used."""
    address = sa.make_url(database_url(url, "psycopg"))
    engine = sa.create_engine(
        address.difference_update_query(["options"]),
        pool_size=pool_size,
        max_overflow=4,
        connect_args={
            "application_name": "otc-assets",
            "connect_timeout": 10,
            "options": session_options(options_in(address)),
            **keepalives(address.query),
        },
    )
    wait_where_full(engine)
    check_before_use(engine)
    sa.event.listen(engine, "connect", lambda connection, _: prepare_session(connection))
    instrument_engine(engine)
    return engine


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """An engine for the server at ``url``, whose connections are closed at the end."""
    engine = connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


#: What to do about a server whose certificate was refused.
_CERTIFICATE = (
    "In OTC_DATABASE_URL, sslrootcert must be the file with the certificate of the authority that has signed the "
    "server's, and the host must be a name in the server's certificate (docs/security.md)."
)


def _unreachable(at: sa.URL, error: BaseException | None) -> DatabaseUnreachable:
    # Not as a URL: its query may have a password, too.
    host, port = at.query.get("host", at.host) or "the local socket", at.query.get("port", at.port) or 5432
    reason = without_secrets(first_line(error)) if error else "no answer"
    remedy = "Check OTC_DATABASE_URL and that the server runs."
    if "certificate" in reason:
        remedy = _CERTIFICATE
    elif is_full(str(error)):
        remedy = MAKE_ROOM
    return DatabaseUnreachable(f"no connection to {host}:{port}/{at.database or ''}: {reason}", remedy=remedy)


def _open(engine: sa.Engine) -> sa.Connection:
    try:
        return engine.connect()
    except sa.exc.OperationalError as error:
        raise _unreachable(engine.url, error.orig) from None
    except sa.exc.TimeoutError as error:
        raise DatabaseUnreachable(
            f"no connection of this process became free: {first_line(error)}", remedy="Run less at a time in it."
        ) from None


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction: all of it, or nothing.

    Raises:
        DatabaseUnreachable: no connection could be made.
    """
    with _open(engine) as connection, connection.begin():
        yield connection


@contextmanager
def autocommit(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in autocommit mode, for statements that can't run in a transaction: extensions, refreshes.

    Raises:
        DatabaseUnreachable: no connection could be made.
    """
    with _open(engine) as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def lock_week(connection: sa.Connection, week_ending: dt.date) -> None:
    """Waits until no other transaction writes the week, and makes others wait until this one ends."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(:space, :week)"),
        {"space": LOCK_SPACE, "week": week_ending.toordinal()},
    )


def _cursor(connection: sa.Connection) -> psycopg.Cursor[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.cursor()


def copy_in(connection: sa.Connection, table: str, frame: pl.DataFrame) -> int:
    """Appends ``frame`` to ``table`` (``schema.name`` or a temporary one's name) by COPY, column by name.

    Quoted CSV keeps nulls, empty strings and line breaks apart exactly.

    Returns:
        The number of rows.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    )
    with (
        copy_span(connection.engine.url, f"COPY {table} FROM STDIN"),
        _cursor(connection) as cursor,
        cursor.copy(statement) as copy,
    ):
        for rows in frame.iter_slices(_SLICE_ROWS):
            copy.write(rows.write_csv(include_header=False, quote_style="non_numeric").encode())
    return frame.height


def copy_out(
    connection: sa.Connection, query: str, schema: pl.Schema, params: Sequence[Any] = (), *, named: bool = False
) -> pl.DataFrame:
    """The rows of ``query`` as a frame of ``schema``, by COPY. Arguments are those of ``postgres.copied``."""
    with copy_span(connection.engine.url, f"COPY ({query}) TO STDOUT"), _cursor(connection) as cursor:
        return copied(cursor, query, schema, params, named=named)
