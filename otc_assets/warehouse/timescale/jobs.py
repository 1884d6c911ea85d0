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
    refreshed = set(connection.execute(statement("refreshed_aggregates")).scalars())
    for name in AGGREGATES:
        if name not in refreshed:
            # Over all weeks: only what has changed is computed. A window that ended some weeks ago would leave older
            # weeks stale that were loaded or revised.
            run(
                f"SELECT add_continuous_aggregate_policy('otc.{name}', start_offset => NULL, end_offset => NULL,"
                f" schedule_interval => INTERVAL '1 day'{first})"
            )
    if connection.execute(_OUR_JOBS, {"name": RETENTION_JOB}).first() is None:
        run(f"SELECT add_job('otc.{RETENTION_JOB}', INTERVAL '1 day'{first})")
