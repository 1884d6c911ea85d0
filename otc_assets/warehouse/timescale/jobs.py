"""The jobs of a server with the community edition: compression, refresh, retention."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from otc_assets.domain.tables import hypertables
from otc_assets.warehouse.sql import statement
from otc_assets.warehouse.timescale.aggregates import AGGREGATES
from otc_assets.warehouse.timescale.capabilities import Capabilities

RETENTION_JOB = "retention_job"

_COMPRESSED_AFTER = sa.text("""
    SELECT hypertable_name, config ->> 'compress_after' FROM timescaledb_information.jobs
    WHERE hypertable_schema = 'otc' AND proc_name = 'policy_compression'
""")
_OUR_JOBS = sa.text("SELECT job_id FROM timescaledb_information.jobs WHERE proc_schema = 'otc' AND proc_name = :name")

_HAS_BATCHES = sa.text("""
    SELECT EXISTS (SELECT FROM pg_proc
        WHERE proname = 'add_continuous_aggregate_policy' AND 'buckets_per_batch' = ANY(proargnames))
""")


def reconcile(
    connection: sa.Connection, can: Capabilities, compress_after_weeks: int, *, start: dt.datetime | None = None
) -> None:
    """Creates the jobs that are missing, if the server has jobs, and replaces those that differ from the settings.

    The retention job asks ``otc.retention`` what to delete whenever it runs, so it never has to be changed.

    Args:
        connection: inside a transaction.
        can: what the server can do.
        compress_after_weeks: the age in weeks at which a chunk is compressed; 0 for never.
        start: when the jobs first run; None: at once.
    """
    if not can.community:
        return
    first = f", initial_start => '{start.isoformat()}'" if start else ""
    run = connection.exec_driver_sql
    wanted = f"{compress_after_weeks * 7} days" if compress_after_weeks else None
    current: dict[str, str] = {row[0]: row[1] for row in connection.execute(_COMPRESSED_AFTER)}
    for table in hypertables():
        if current.get(table) == wanted:
            continue
        if table in current:
            # if_not_exists would leave the job at the old interval.
            run(f"SELECT remove_compression_policy('otc.{table}')")
        if wanted:
            run(f"SELECT add_compression_policy('otc.{table}', INTERVAL '{wanted}'{first})")
    _reconcile_refreshes(connection, first)
    if connection.execute(_OUR_JOBS, {"name": RETENTION_JOB}).first() is None:
        run(f"SELECT add_job('otc.{RETENTION_JOB}', INTERVAL '1 day'{first})")


def _reconcile_refreshes(connection: sa.Connection, first: str) -> None:
    """Creates the jobs that refresh the aggregates, or replaces them if they refresh in batches.

    Over all weeks: only what has changed is computed. A window that ended some weeks ago would leave older weeks stale
    that were loaded or revised. In one batch: TimescaleDB 2.28.2 and earlier leave out the newest week that has changed
    when they divide the weeks into batches, as they do by default since 2.21.
    """
    refreshed: dict[str, int | None] = {row[0]: row[1] for row in connection.execute(statement("refreshed_aggregates"))}
    has_batches = connection.execute(_HAS_BATCHES).scalar_one()
    for name in AGGREGATES:
        if name in refreshed:
            if not has_batches or refreshed[name] == 0:
                continue
            connection.exec_driver_sql(f"SELECT remove_continuous_aggregate_policy('otc.{name}')")
        one_batch = ", buckets_per_batch => 0" if has_batches else ""
        connection.exec_driver_sql(
            f"SELECT add_continuous_aggregate_policy('otc.{name}', start_offset => NULL, end_offset => NULL,"
            f" schedule_interval => INTERVAL '1 day'{one_batch}{first})"
        )
