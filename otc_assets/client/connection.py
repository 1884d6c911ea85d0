"""Connections of the Python client, read-only, and frames from statements.

psycopg is imported with the first connection, so that ``import otc_assets.client`` does not wait for it.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from otc_assets import embedded_files
from otc_assets.client.errors import ClientError, InvalidQuery, NotFinal, QueryFailed, TimedOut, Unreachable
from otc_assets.client.selection import Statement
from otc_assets.postgres import MAKE_ROOM, TimeLimits, copied, is_full, keepalives, session_options
from otc_assets.text import first_line, shortened

if TYPE_CHECKING:
    import psycopg

#: The errors of ``otc.require_final``: the moment is too recent, or a load ended during the query.
_NOT_FINAL = ("OT001", "40001")
_CANCELLED, _NO_RIGHT, _NOT_THERE = "57014", "42501", ("42P01", "42703", "42883", "3F000")

#: The server enforces the time-out of a statement. If it does not answer at all, we wait for this many seconds longer.
_GRACE_SECONDS = 5
_CONNECT_SECONDS = 10

_limits = TimeLimits()

#: The longest text of a caller that an error shows.
_SHOWN = 100

Answer = TypeVar("Answer")

_ADDRESS = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def default_url() -> str:
    """The URL of ``OTC_DATABASE_URL``, or of the embedded database of this account for its analyst login.

    Raises:
        Unreachable: there is neither.
    """
    if url := os.environ.get("OTC_DATABASE_URL"):
        return url
    from otc_assets.settings import settings

    chosen = settings()
    if chosen.database_url is not None:
        return chosen.database_url.get_secret_value()
    folder = chosen.home / embedded_files.FOLDER
    try:
        return embedded_files.url_of(folder, embedded_files.ANALYST)
    except FileNotFoundError:
        raise Unreachable(
            f"there is no database in {folder}",
            remedy=f"Start 'otc-assets up', or set OTC_DATABASE_URL to {_ADDRESS}, or OTC_HOME to the folder of the "
            "installation.",
        ) from None
    except OSError as error:
        raise Unreachable(
            f"{error.filename}: {error.strerror}",
            remedy="Only the account that runs 'otc-assets up' can read its passwords. It gets a URL with 'otc-assets "
            "db url'; set OTC_DATABASE_URL to it.",
        ) from None


class Connections:
    """Connections to one database, opened when needed and kept for the next statement. Several threads may use it.

    Args:
        url: gives the URL when a connection is opened: a restarted embedded server has another port.
        timeout: seconds after which the server stops a statement; 0 for never.
        most: the largest number of connections at a time; further threads wait.
    """

    def __init__(self, url: Callable[[], str], *, timeout: float, most: int) -> None:
        self._url = url
        self._timeout = timeout
        self._idle: list[psycopg.Connection[Any]] = []
        self._free = threading.BoundedSemaphore(most)

    def rows(self, statement: Statement) -> pl.DataFrame:
        """The rows of a statement whose columns are known, by COPY."""
        return self._run(lambda c: copied(c.cursor(), statement.text, statement.schema, statement.params, named=True))

    def tuples(self, statement: Statement) -> list[tuple[Any, ...]]:
        """The rows of a statement as tuples: a few values by COPY and Polars would take five times as long."""
        return self._run(lambda c: c.execute(statement.text, statement.params).fetchall())  # type: ignore[arg-type]

    def query(
        self, text: str, params: Sequence[Any] | Mapping[str, Any] | None = None, *, isolated: bool = False
    ) -> pl.DataFrame:
        """The rows of one statement, with the types that the server states.

        Args:
            text: the statement.
            params: its values.
            isolated: it is a caller's own: it can't write, whatever the login may, and what it sets is undone.
        """

        def run(connection: psycopg.Connection[Any]) -> pl.DataFrame:
            # The binary protocol takes one statement only, so that none can follow a COMMIT.
            cursor = connection.cursor(binary=True)
            with _read_only(connection) if isolated else nullcontext():
                cursor.execute(text, params)  # type: ignore[arg-type] # not a literal
                if cursor.description is None:
                    raise InvalidQuery("the statement returns no rows", remedy="The client only reads.")
                return _typed(cursor)

        return self._run(run)

    def close(self) -> None:
        """Closes the idle connections; using the client again opens new ones."""
        while self._idle:
            self._idle.pop().close()

    def _run(self, work: Callable[[psycopg.Connection[Any]], Answer]) -> Answer:
        import psycopg

        with self._free:
            kept, begun = bool(self._idle), time.monotonic()
            try:
                return self._work(work)
            except UnicodeEncodeError as error:
                # Bytes of a command line that are not UTF-8 arrive as lone surrogates.
                text = shortened(ascii(error.object), _SHOWN)
                raise InvalidQuery(f"{text} is not text in UTF-8", remedy="Check how the terminal writes it.") from None
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if self._timeout and time.monotonic() - begun >= self._timeout + _GRACE_SECONDS:
                    raise TimedOut(
                        f"the server has not answered for {time.monotonic() - begun:.0f} seconds",
                        remedy="Check the server and the network, and ask again.",
                    ) from None
                # The server was restarted since: an error without a state is one of the connection.
                if not kept or error.sqlstate not in (None, "57P01", "57P02", "57P03"):
                    raise _explained(error) from None
            except psycopg.Error as error:
                raise _explained(error) from None
            self.close()
            try:
                return self._work(work)
            except psycopg.Error as error:
                raise _explained(error) from None

    def _work(self, work: Callable[[psycopg.Connection[Any]], Answer]) -> Answer:
        with (
            self._connection() as connection,
            _limits.of(connection, self._timeout + _GRACE_SECONDS) if self._timeout else nullcontext(),
        ):
            return work(connection)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _connect(self._url(), self._timeout)
        try:
            yield connection
        except BaseException:
            if connection.info.transaction_status != 0:  # not idle: interrupted in the middle of an answer
                connection.close()
            raise
        finally:
            if not connection.closed:
                self._idle.append(connection)


@contextmanager
def _read_only(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """A transaction that is rolled back. A session's default alone could be changed by the statement in it."""
    import psycopg

    connection.execute("BEGIN READ ONLY")
    try:
        yield
    finally:
        if not connection.closed:
            # It fails while a COPY is under way: the connection is closed then, and the error says what was wrong.
            with suppress(psycopg.OperationalError):
                connection.execute("ROLLBACK")


def _connect(url: str, timeout: float) -> psycopg.Connection[Any]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        # SQLAlchemy's URLs, which OTC_DATABASE_URL may be, name a driver.
        address = conninfo_to_dict(re.sub(r"^postgres(ql)?\+\w+://", "postgresql://", url))
    except psycopg.ProgrammingError:
        # Its message has the URL.
        raise InvalidQuery(
            "the URL of the database is not one of PostgreSQL",
            remedy=f"Write {_ADDRESS}, special characters percent-encoded (@ as %40).",
        ) from None
    options = session_options(
        str(address.pop("options", None) or ""),
        default_transaction_read_only="on",
        statement_timeout=str(int(timeout * 1000)),
    )
    where = f"{address.get('host') or 'the local socket'}:{address.get('port') or 5432}/{address.get('dbname') or ''}"
    usual: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "otc-assets client",
        **keepalives(),
    }
    try:
        connection: psycopg.Connection[Any] = psycopg.connect(**usual | address, options=options, autocommit=True)
    except psycopg.OperationalError as error:
        reason, password = first_line(error), str(address.get("password") or "")
        raise Unreachable(
            f"no connection to {where}: {reason.replace(password, '***') if password else reason}",
            remedy=MAKE_ROOM if is_full(reason) else "Check that 'otc-assets up' runs, or the URL.",
        ) from None
    try:
        with _limits.of(connection, _CONNECT_SECONDS):
            received = connection.execute("SELECT current_setting('otc.parameters', true)").fetchone()
    except psycopg.OperationalError as error:
        connection.close()
        raise Unreachable(
            f"{where} accepted the connection, and then did not answer: {first_line(error)}",
            remedy="Check the server, and the pooler if there is one between.",
        ) from None
    if received != ("received",):
        connection.close()
        raise Unreachable(
            f"{where}: the parameters of the connection (options) did not reach the server: a pooler ignores them",
            remedy="Connect to the server itself. With PgBouncer, see docs/scale-out.md.",
        )
    return connection


def _explained(error: psycopg.Error) -> ClientError:
    message = error.diag.message_primary or first_line(error)
    if error.sqlstate in _NOT_FINAL:
        return NotFinal(f"{message}. {error.diag.message_detail or ''}".strip())
    if error.sqlstate == _CANCELLED:
        return TimedOut(
            f"the statement was stopped: {message}",
            remedy="Ask for fewer weeks or symbols, or set a longer time-out: Client(timeout=600).",
        )
    if error.sqlstate == _NO_RIGHT:
        return QueryFailed(f"database error: {message}", remedy="The login must be a member of otc_reader.")
    if error.sqlstate in _NOT_THERE:
        return QueryFailed(
            f"database error: {message}",
            remedy="If a table or column of this version is missing, 'otc-assets migrate' adds it. Tables are written "
            "with their schema, as in otc.venue_volume.",
        )
    return QueryFailed(f"database error: {message}")


# --- types of the server -------------------------------------------------------------------------------

_TYPES: dict[int, Any] = {
    16: pl.Boolean,
    **dict.fromkeys((20, 21, 23, 26), pl.Int64),
    **dict.fromkeys((700, 701), pl.Float64),
    **dict.fromkeys((18, 19, 25, 1042, 1043), pl.String),
    1082: pl.Date,
    1114: pl.Datetime("us"),
    1184: pl.Datetime("us", "UTC"),
}
_NUMERIC, _JSON = 1700, (114, 3802)
_DIGITS = 38


def _typed(cursor: psycopg.Cursor[Any]) -> pl.DataFrame:
    assert cursor.description is not None
    rows = cursor.fetchall()
    names = [column.name for column in cursor.description]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidQuery(
            f"the statement has several columns {', '.join(repeated)}", remedy="Give them names: SELECT a AS b."
        )
    values = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    columns = [_series(column, found) for column, found in zip(cursor.description, values, strict=True)]
    return pl.DataFrame(columns)


def _series(column: psycopg.Column, values: Sequence[Any]) -> pl.Series:
    code = column.type_code
    if code == _NUMERIC:
        return pl.Series(column.name, values, dtype=_decimal(column, values))
    if code in _JSON:
        values = [None if value is None else json.dumps(value, default=str) for value in values]
        return pl.Series(column.name, values, dtype=pl.String)
    if code in _TYPES:
        return pl.Series(column.name, values, dtype=_TYPES[code])
    if any(isinstance(value, list) for value in values):
        return pl.Series(column.name, values, strict=False)
    return pl.Series(column.name, [None if value is None else str(value) for value in values], dtype=pl.String)


def _decimal(column: psycopg.Column, values: Sequence[Decimal | None]) -> pl.Decimal:
    """The type of a numeric column: as the server states it, or, of a computed one, as its values need it."""
    if column.precision is not None and column.precision <= _DIGITS:
        return pl.Decimal(column.precision, column.scale or 0)
    given = [value for value in values if value is not None]
    parts = [value.as_tuple() for value in given]
    if any(not isinstance(part.exponent, int) for part in parts):
        raise InvalidQuery(f"{column.name} has values that are not numbers", remedy="Cast it: x::float8.")
    scale = max((max(-int(part.exponent), 0) for part in parts), default=0)
    whole = max((max(value.adjusted() + 1, 0) for value in given), default=0)
    if whole + scale > _DIGITS:
        raise InvalidQuery(
            f"{column.name} has more than {_DIGITS} digits", remedy="Round it: round(x, 6), or cast it: x::float8."
        )
    return pl.Decimal(_DIGITS, scale)
