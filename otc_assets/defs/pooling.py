"""Dagster's storage in PostgreSQL, with one pool of connections for the whole process.

Dagster's own opens a connection for every statement outside its web server: about a thousand for a week, each of which
costs the server a process. Which storage an installation has is chosen in ``storage``.
"""

import os
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import sqlalchemy as sa
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config, retry_pg_connection_fn

from otc_assets.defs.internals import (
    ConfigurableClassData,
    RunStorageSqlMetadata,
    ScheduleStorageSqlMetadata,
    SqlEventLogStorageMetadata,
    share_engine,
)
from otc_assets.postgres import keepalives
from otc_assets.warehouse.server import check_before_use, wait_where_full

#: Dagster's tables.
TABLES = sorted(
    {
        *RunStorageSqlMetadata.tables,
        *SqlEventLogStorageMetadata.tables,
        *ScheduleStorageSqlMetadata.tables,
    }
)

#: A connection is not used for longer: firewalls forget those that were silent for some minutes.
_RECYCLE_SECONDS = 300


@cache
def _engine(url: str) -> sa.Engine:
    """The process's engine: instances come and go, in a code server one for each tick of a sensor.

    One connection is kept, and as many as threads need are opened beside it. It is tested before each use, so that a
    restart of the server does not fail a run: Dagster does not try a statement again.
    """
    engine = sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # as Dagster's own
        pool_size=1,
        max_overflow=-1,
        pool_recycle=_RECYCLE_SECONDS,
        connect_args=keepalives(sa.make_url(url).query),
    )
    wait_where_full(engine)
    check_before_use(engine)
    # Two processes must not use one connection: a fork opens its own.
    os.register_at_fork(after_in_child=partial(engine.dispose, close=False))
    return engine


def close_idle(url: str) -> None:
    """Closes the connection that is kept; the next statement opens another."""
    _engine(url).dispose()


class PooledStorage(DagsterPostgresStorage):
    """Dagster's storage in PostgreSQL, whose parts use the engine of the process."""

    def __init__(
        self, postgres_url: str, should_autocreate_tables: bool = True, inst_data: ConfigurableClassData | None = None
    ) -> None:
        engine = _engine(postgres_url)
        if should_autocreate_tables:
            # Dagster would look for them three times, over connections of its own.
            found = retry_pg_connection_fn(lambda: sa.inspect(engine).get_table_names())
            should_autocreate_tables = not set(TABLES) <= set(found)
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        share_engine(self, engine)

    @classmethod
    def from_config_value(  # type: ignore[override]  # as in Dagster
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "PooledStorage":
        """The storage at ``postgres_url``."""
        return cls(pg_url_from_config(config_value), inst_data=inst_data)
