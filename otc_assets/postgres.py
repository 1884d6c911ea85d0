"""What every connection to PostgreSQL shares, whichever driver opens it: session parameters, time limits, COPY.

Nothing here needs SQLAlchemy, so that the Python client starts quickly. Engines and writing are in
``warehouse.server``.
"""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import polars as pl

#: Every session parameter that our results depend on. The defaults of a server, database or role may be anything:
#: dates in another style can't be parsed, snapshots older than a lock read what another load has replaced.
#: The path has no schema of ours: our statements qualify names, so that nothing else is found first.
_PARAMETERS = {
    "search_path": "pg_catalog",
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_numeric": "C",
    "lc_monetary": "C",
    "lc_time": "C",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "default_transaction_isolation": "read committed",
    # Plans are for one week's values: a generic plan would open every chunk of a hypertable.
    "plan_cache_mode": "force_custom_plan",
    # Ours: a session that has it has received the others too.
    "otc.parameters": "received",
}


#: A line that breaks without a word is noticed after 60 + 3 x 10 seconds, on both sides. By Linux' defaults it takes
#: two hours, in which the server keeps the locks of a machine that is gone.
_KEEPALIVES = {"idle": 60, "interval": 10, "count": 3}

#: A timestamp with time zone in the style of ``_PARAMETERS``: 2026-09-23 12:00:00.5+00.
_MOMENT = "%Y-%m-%d %H:%M:%S%.f%#z"


#: Words of the server where it refuses a connection because there are as many as there may be: of the server, of the
#: role, or of the database. Drivers give no code of the error for a connection that was never made.
_FULL = ("too many clients", "too many connections", "remaining connection slots are reserved")

#: What to do about it, for people.
MAKE_ROOM = (
    "The server, the login or the database has as many connections as it may: max_connections, or CONNECTION LIMIT. "
    "Run less at a time, or raise that limit (docs/deploy.md, Connections)."
)


#: How often ``TimeLimits`` looks.
_EVERY_SECONDS = 0.5


def is_full(reason: str) -> bool:
    """Whether the server refused a connection because it has as many as it may. Its messages must be in English."""
    return any(words in reason for words in _FULL)


def session_options(given: str = "", **other: str) -> str:
    """The ``options`` of a connection string that set every session parameter our results depend on.

    Args:
        given: options that the user's URL has; they are kept where they set something else, or how soon a broken line
            is noticed.
        other: parameters that differ from the usual ones.
    """
    words = [f"-c tcp_keepalives_{name}={value}" for name, value in _KEEPALIVES.items()]
    if given:
        words.append(given)
    for name, value in (_PARAMETERS | other).items():
        escaped = value.replace(" ", "\\ ")
        words.append(f"-c {name}={escaped}")
    return " ".join(words)


def keepalives(given: Container[str] = ()) -> dict[str, Any]:
    """The parameters of libpq with which the client notices a line that breaks; the server's are session parameters.

    Args:
        given: the names of parameters that the user's URL has; these are the user's.
    """
    ours = {f"keepalives_{name}": value for name, value in _KEEPALIVES.items()}
    return {name: value for name, value in ours.items() if name not in given}


def cut(connection: Any) -> None:
    """Shuts down the socket of a psycopg connection. Another thread that waits for the server then fails at once."""
    # ValueError and psycopg's error, which is one of the database API: it is closed.
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


class TimeLimits:
    """Cuts connections whose work takes too long, in one thread for all of them.

    The server enforces ``statement_timeout``; a server that has stopped answering does not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[object, tuple[float, Any]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def of(self, connection: Any, seconds: float) -> Iterator[None]:
        """In the block, the connection is cut after ``seconds``, to the second."""
        work = object()
        with self._lock:
            self._until[work] = time.monotonic() + seconds, connection
            # After a fork, the thread is not in the child.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="time limits", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._until.pop(work, None)

    def _watch(self) -> None:
        while True:
            time.sleep(_EVERY_SECONDS)
            with self._lock:
                for work, (until, connection) in list(self._until.items()):
                    if time.monotonic() >= until:
                        cut(connection)
                        del self._until[work]
                if not self._until:
                    self._thread = None
                    return


def copied(
    cursor: Any, query: str, schema: pl.Schema, params: Sequence[Any] = (), *, named: bool = False
) -> pl.DataFrame:
    """The rows of ``query`` (placeholders ``%s``) as a frame of ``schema``, column by position, by COPY.

    Args:
        cursor: psycopg's.
        query: a SELECT.
        schema: the names and types of its columns.
        params: values of the placeholders, which psycopg writes into the statement as literals.
        named: whether the columns of the query have the names of the schema. Then only text is quoted, which takes a
            fifth less time: no number is written like a null.
    """
    buffer = io.BytesIO()
    text = [f'"{name}"' for name, kind in schema.items() if kind == pl.String] if named else []
    quoted = f"FORCE_QUOTE ({', '.join(text)})" if text else "FORCE_QUOTE *"
    statement = f"COPY ({query}) TO STDOUT (FORMAT csv, {quoted})"
    with cursor.copy(statement.encode(), params or None) as copy:
        for block in copy:
            buffer.write(block)
    if not buffer.tell():
        return schema.to_frame()
    buffer.seek(0)
    # The reader parses neither booleans, which arrive as t and f, nor moments with a time zone.
    as_text = {name: pl.String() for name, kind in schema.items() if kind == pl.Boolean or kind == pl.Datetime}
    # Every text is quoted and a null is not: that is how the reader distinguishes '' from null.
    frame = pl.read_csv(buffer, has_header=False, schema=pl.Schema({**schema, **as_text}))
    parsed = [
        pl.col(name).eq("t") if schema[name] == pl.Boolean else pl.col(name).str.to_datetime(_MOMENT, time_zone="UTC")
        for name in as_text
    ]
    return frame.with_columns(parsed) if parsed else frame
