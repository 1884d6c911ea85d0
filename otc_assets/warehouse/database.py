"""The database of an installation, as use cases and Dagster hold it: transactions, and what follows a load.

How connections are made is in ``server``; what the server can do is in ``timescale``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import sqlalchemy as sa
from pydantic import SecretStr

from otc_assets.warehouse.server import DatabaseUnreachable, connect, transaction
from otc_assets.warehouse.timescale import capabilities
from otc_assets.warehouse.timescale.aggregates import refresh_after_load


class Database:
    """A database with one pool of connections, which is opened when it is first used.

    Args:
        url: the address; None where no database is known yet, which is an error only when it is used.
    """

    def __init__(self, url: str | SecretStr | None) -> None:
        self._url = url.get_secret_value() if isinstance(url, SecretStr) else url

    @cached_property
    def _engine(self) -> sa.Engine:
        if self._url is None:
            raise DatabaseUnreachable(
                "no database: OTC_DATABASE_URL is unset and no embedded server was started for this process",
                remedy="Start through 'otc-assets up' (or another otc-assets command), or set OTC_DATABASE_URL to "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
            )
        return connect(self._url)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction on the database.

        Raises:
            DatabaseUnreachable: there is no address, or the server does not answer.
        """
        with transaction(self._engine) as connection:
            yield connection

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
