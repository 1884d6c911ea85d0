"""The database of an installation, as use cases and Dagster hold it: transactions, and what follows a load.

How connections are made is in ``server``; what the server can do is in ``timescale``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from otc_assets.errors import OtcError
from otc_assets.warehouse.journal import appended_events
from otc_assets.warehouse.migrate import SchemaMismatch, require_current
from otc_assets.warehouse.server import autocommit, connect, transaction
from otc_assets.warehouse.timescale import capabilities
from otc_assets.warehouse.timescale.aggregates import refresh_after_load

#: Called with the journal id and the events of a transaction that was committed.
Committed = Callable[[str, list[dict[str, Any]]], None]


class NoDatabase(OtcError):
    """No database is configured for this process."""


#: Errors that no retry can repair, because the installation is not prepared.
NOT_PREPARED = (NoDatabase, SchemaMismatch)


class Database:
    """A database with one pool of connections, which is opened when it is first used.

    The schema is checked then, so that a process that was started by a tool of Dagster's, and not by an otc-assets
    command, reports an unmigrated database instead of a missing table.

    Args:
        url: the address; None where no database is known yet, which is an error only when it is used.
        committed: called after each transaction that appended events.
    """

    def __init__(self, url: str | SecretStr | None, committed: Committed | None = None) -> None:
        self._url = url.get_secret_value() if isinstance(url, SecretStr) else url
        self._committed = committed

    @cached_property
    def _engine(self) -> sa.Engine:
        if self._url is None:
            raise NoDatabase(
                "no database: OTC_DATABASE_URL is unset, and no otc-assets command started this process",
                remedy="Set it to postgresql://USER:PASSWORD@HOST:PORT/DATABASE. For the embedded database, start "
                "'otc-assets up --database-only', and run: eval \"$(otc-assets env)\"",
            )
        engine = connect(self._url)
        try:
            require_current(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction on the database.

        Raises:
            NoDatabase: there is no address.
            SchemaMismatch: the schema is of another version.
            DatabaseUnreachable: the server does not answer.
        """
        with transaction(self._engine) as connection:
            yield connection
            appended = appended_events(connection) if self._committed else []
        for journal_id, events in appended:
            assert self._committed is not None
            self._committed(journal_id, events)

    @contextmanager
    def answers_withheld(self) -> Iterator[None]:
        """In the block, no answer as of a moment is given: rows of the past are being written."""
        # The lock of a load that has been running since 2020: see otc.known_until().
        with autocommit(self._engine) as connection:
            connection.exec_driver_sql("SELECT pg_advisory_lock_shared(19850000, 0)")
            try:
                yield
            finally:
                connection.exec_driver_sql("SELECT pg_advisory_unlock_shared(19850000, 0)")

    def refresh_after_load(self, week_ending: dt.date, *tables: str) -> None:
        """Refreshes statistics and aggregates after the week of ``tables`` was written and committed."""
        refresh_after_load(self._engine, week_ending, tables)

    def has_retention_job(self) -> bool:
        """Whether the server's own jobs apply retention."""
        return capabilities.of(self._engine).community

    def close(self) -> None:
        """Closes the pool's connections; using the database again opens a new pool."""
        if engine := self.__dict__.pop("_engine", None):
            engine.dispose()
