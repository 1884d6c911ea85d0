"""The aggregates of ``symbol_summary``: continuous ones or views, and refreshing them after a load.

They are computed from ``symbol_summary``, which is kept indefinitely by default, and not from ``venue_volume``: a
continuous aggregate on a table that loses weeks loses them too, at the next refresh that covers them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
import stamina

from otc_assets.tracing import REFRESH, span
from otc_assets.warehouse.digests import Digests
from otc_assets.warehouse.grants import kept_grants
from otc_assets.warehouse.server import autocommit
from otc_assets.warehouse.sql import text
from otc_assets.warehouse.timescale import capabilities
from otc_assets.warehouse.timescale.capabilities import Capabilities

#: In the order in which they are refreshed: the second is computed from the first. Their queries are in
#: ``sql/<name>.sql``; ``migrate`` builds an aggregate again if its query has changed.
AGGREGATES = ("weekly_summary_agg", "monthly_summary_agg")

#: The queries of views of the same names: those of continuous ones would hide the index of the week.
_OF_VIEWS = {"weekly_summary_agg": "weekly_summary_view", "monthly_summary_agg": "monthly_summary_view"}

#: The errors of a chunk or an aggregate that a job is working on: deadlock, serialization failure, lock not available,
#: object in use. They pass.
_BUSY = ("40P01", "40001", "55P03", "55006")
_INVALID_TABLE_DEFINITION = "42P16"
_OTHERS_DEPEND_ON_IT = "2BP01"

_CONTINUOUS = sa.text("SELECT view_name FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'otc'")
_VIEWS = sa.text("SELECT viewname FROM pg_views WHERE schemaname = 'otc' AND viewname = ANY(:names)")


def reconcile(connection: sa.Connection, can: Capabilities, digests: Digests) -> bool:
    """Creates the aggregates, or replaces them if their form or a query has changed.

    They are continuous aggregates if the server has those, otherwise views of the same names and columns.

    Returns:
        Whether continuous aggregates were created. They are empty until ``refresh_aggregates``, which can't run in a
        transaction.
    """
    continuous = set(connection.execute(_CONTINUOUS).scalars()) if can.hypertables else set()
    existing = continuous if can.community else set(connection.execute(_VIEWS, {"names": list(AGGREGATES)}).scalars())
    queries = {name: text(name if can.community else _OF_VIEWS[name]) for name in AGGREGATES}
    if existing == set(AGGREGATES) and not any(digests.differs(name, query) for name, query in queries.items()):
        return False
    if can.community or continuous or not _replaced_in_place(connection, queries):
        with kept_grants(connection, AGGREGATES):
            for name in reversed(AGGREGATES):
                kind = "MATERIALIZED VIEW" if name in continuous else "VIEW"
                connection.exec_driver_sql(f"DROP {kind} IF EXISTS otc.{name}")
            (_create_continuous if can.community else _create_views)(connection, queries)
    _drop_bucket(connection)
    for name, query in queries.items():
        digests.save(name, query)
    digests.save("comments", "")  # those on views that were dropped are gone
    return can.community


def _replaced_in_place(connection: sa.Connection, queries: dict[str, str]) -> bool:
    """Replaces the queries of views, so that the views of others that read them stay; False if their columns differ."""
    try:
        with connection.begin_nested():
            _create_views(connection, queries)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _INVALID_TABLE_DEFINITION:
            raise
        return False
    return True


def _drop_bucket(connection: sa.Connection) -> None:
    """Drops the function that our views of earlier versions used, unless a view of a user's uses it, too."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS otc.bucket(text, date)")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _OTHERS_DEPEND_ON_IT:
            raise


def _create_views(connection: sa.Connection, queries: dict[str, str]) -> None:
    for name, query in queries.items():
        connection.exec_driver_sql(f"CREATE OR REPLACE VIEW otc.{name} AS {query}")


def _create_continuous(connection: sa.Connection, queries: dict[str, str]) -> None:
    for name, query in queries.items():
        connection.exec_driver_sql(
            f"CREATE MATERIALIZED VIEW otc.{name} WITH (timescaledb.continuous, timescaledb.materialized_only = true)"
            f" AS {query} WITH NO DATA"
        )


def _busy(error: Exception) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and getattr(error.orig, "sqlstate", None) in _BUSY


@stamina.retry(on=_busy, attempts=5, wait_initial=0.5)
def _call(connection: sa.Connection, statement: sa.TextClause, **values: object) -> None:
    connection.execute(statement, values)


_COMPRESS = sa.text("SELECT otc.compress_again(:tables, :week)")
_REFRESH_AS_ANOTHER = sa.text("SELECT otc.refresh_aggregates(:week)")
_IS_OWNER = sa.text("""
    SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class
    WHERE relnamespace = 'otc'::regnamespace AND relname = ANY(:names)
""")


def refresh_after_load(engine: sa.Engine, week_ending: dt.date, tables: Sequence[str]) -> None:
    """Refreshes the week's aggregates, after the transaction that wrote the week, and compresses what is complete.

    Chunks that were compressed before are compressed again if the week is their last one. The server's jobs do all of
    this within a day, too.

    Args:
        engine: the server's.
        week_ending: the week that was written.
        tables: the tables that were written; their revision tables are included.
    """
    if not capabilities.of(engine).community:
        return
    both = [name for table in tables for name in (table, f"{table}_revision")]
    # A refresh can't run inside a transaction.
    with span(REFRESH), autocommit(engine) as connection:
        if "symbol_summary" in tables:
            # TimescaleDB lets only the owner refresh.
            if connection.execute(_IS_OWNER, {"names": list(AGGREGATES)}).scalar():
                refresh_aggregates(connection, week_ending)
            else:
                _call(connection, _REFRESH_AS_ANOTHER, week=week_ending)
        _call(connection, _COMPRESS, tables=both, week=week_ending)


def refresh_aggregates(connection: sa.Connection, week_ending: dt.date | None = None) -> None:
    """Refreshes the continuous aggregates in order: refreshing one does not refresh those computed from it.

    Args:
        connection: the owner's, in autocommit mode.
        week_ending: only this week and its month; None: everything that has changed.
    """
    windows = dict.fromkeys(AGGREGATES, "NULL, NULL")
    if week_ending is not None:
        month = week_ending.replace(day=1)
        next_month = (month + dt.timedelta(days=31)).replace(day=1)
        windows = {
            "weekly_summary_agg": f"DATE '{week_ending}', DATE '{week_ending + dt.timedelta(days=1)}'",
            "monthly_summary_agg": f"DATE '{month}', DATE '{next_month}'",
        }
    for name, window in windows.items():
        _call(connection, sa.text(f"CALL refresh_continuous_aggregate('otc.{name}', {window})"))
