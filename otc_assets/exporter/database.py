"""The exporter's one connection: read-only, with a time limit that holds even if the server stops answering."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
import sqlalchemy as sa
from psycopg.rows import dict_row

from otc_assets.postgres import cut, keepalives
from otc_assets.warehouse.server import (
    DAGSTER_SCHEMA,
    database_url,
    libpq_url,
    options_in,
    prepare_session,
    session_options,
)

#: The time limit for connecting, per host; libpq allows no less.
_CONNECT_SECONDS = 2

# In a separate Dagster storage, its own search path and time zone apply.
_PREPARE: LiteralString = "SET default_transaction_read_only = on"
_PREPARE_OTHER: LiteralString = "SET default_transaction_read_only = on; SET TimeZone = 'UTC'"


class OutOfTime(Exception):
    """The scrape's time was used up before this query."""


class Database:
    """One connection, opened when it is first needed and kept. Not thread-safe.

    Args:
        url: returns the database's URL; called for each new connection.
        ours: False for a separate Dagster storage: the options in its URL apply.
    """

    def __init__(self, url: Callable[[], str], *, ours: bool = True) -> None:
        self._url = url
        self._ours = ours
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._until = 0.0
        self._is_over = False

    @contextmanager
    def scrape(self, seconds: float) -> Iterator[None]:
        """A scrape of at most ``seconds``: after that the connection is closed, whatever it waits for.

        The server enforces statement timeouts; a server that has stopped answering does not.

        Raises:
            psycopg.OperationalError: no connection could be made.
        """
        self._is_over = False
        watch = threading.Timer(seconds, self._cut)
        watch.daemon = True
        watch.start()
        try:
            self._until = time.monotonic() + _CONNECT_SECONDS
            try:
                if self._connection is not None:
                    with self.reading(_CONNECT_SECONDS):
                        self.rows("SELECT 1")
            except psycopg.Error:
                self.close()  # the server was restarted since: connect again
            if self._connection is None:
                self._connect()
            yield
        finally:
            watch.cancel()

    @contextmanager
    def reading(self, seconds: float) -> Iterator[None]:
        """A transaction of at most ``seconds``, on one snapshot, so that its failure does not affect others."""
        if self._connection is None or self._connection.closed:
            raise psycopg.OperationalError("the connection is closed")
        self._until = time.monotonic() + seconds
        with self._connection.transaction():
            yield

    def rows(self, query: LiteralString, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of ``query``.

        Raises:
            OutOfTime: there is no time left.
            psycopg.Error: the query failed, or took longer than the time that was left.
        """
        assert self._connection is not None
        left = self.left()
        if left <= 0:
            raise OutOfTime("no time was left for it in this scrape")
        self._connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{int(left * 1000) + 1}ms"])
        return self._connection.execute(query, params).fetchall()

    def has(self, table: str) -> bool:
        """Whether the table or view exists and is visible."""
        return bool(self.rows("SELECT to_regclass(%(table)s) IS NOT NULL AS there", {"table": table})[0]["there"])

    def left(self) -> float:
        """The seconds that are left of this reading."""
        return self._until - time.monotonic()

    def close(self) -> None:
        """Closes the connection; the next scrape opens another."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    @property
    def alive(self) -> bool:
        """Whether there is a connection that still answers."""
        return self._connection is not None and not self._connection.closed

    def _connect(self) -> None:
        url = self._url()
        address = sa.make_url(database_url(url, "psycopg"))
        options = options_in(address)
        if self._ours:
            # Our tables are named with their schema, Dagster's without: in a separate storage it is another.
            options = session_options(options, search_path=DAGSTER_SCHEMA)
        # The connection is known before it is prepared, so that a server that says nothing after the login is cut off.
        self._connection = connection = psycopg.connect(
            libpq_url(url),
            options=options,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=_CONNECT_SECONDS,
            application_name="otc-assets metrics",
            prepare_threshold=None,  # a pooler may run every transaction in another session
            **keepalives(address.query),
        )
        if self._is_over:
            raise OutOfTime("connecting took all the time of this scrape")
        if self._ours:
            prepare_session(connection)
        connection.execute(_PREPARE if self._ours else _PREPARE_OTHER)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

    def _cut(self) -> None:
        self._is_over = True
        if self._connection is not None:
            cut(self._connection)
