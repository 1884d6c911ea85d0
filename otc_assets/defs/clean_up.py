"""Cleans up what is kept of runs and never deleted by Dagster: log events, results of checks, log files, and runs.

The alerts of that time are deleted, too. Dagster's own ``retention`` deletes ticks only. The weeks of our tables are
deleted by ``warehouse.retention``.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from dagster import (
    DagsterInstance,
    DefaultScheduleStatus,
    Nothing,
    OpExecutionContext,
    Out,
    ResourceParam,
    RunRequest,
    ScheduleEvaluationContext,
    job,
    op,
    schedule,
)

from otc_assets import interruption
from otc_assets.defs.spans import traced_step
from otc_assets.defs.storage import storage_url
from otc_assets.settings import Settings
from otc_assets.warehouse import alerts
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.sql import statement

#: Rows per transaction, so that none holds locks for long.
_BATCH = 10_000

#: The log files of steps and ticks, below the instance's folder ``storage``.
_LOG_FILES = frozenset({".out", ".err", ".complete", ".partial"})


class Cleaned(NamedTuple):
    """How much was deleted: log events, results of checks, log files, runs, and backfills."""

    events: int
    check_results: int
    files: int
    runs: int
    backfills: int


def clean_up_runs(
    instance: DagsterInstance, url: str | None, before: dt.datetime, runs_before: dt.datetime | None = None
) -> Cleaned:
    """Deletes what was logged of runs that ended before a time, and runs that ended before another.

    Of the first, materializations, observations and the newest result of each check and week remain; of the second,
    the newest materialization and observation of each asset and week, and the runs that they are from.

    Args:
        instance: whose folder has the log files.
        url: of Dagster's storage on PostgreSQL; None where it is a folder of SQLite files, which keeps its events.
        before: the time, with a time zone.
        runs_before: the time for runs, not after the other; None keeps them indefinitely.
    """
    events = results = runs = backfills = 0
    if url is not None:
        bound = {"before": _in_dagster(before), "runs_before": _in_dagster(runs_before)}
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        # Results first: the event of a result remains as long as the result.
        with engine.begin() as connection:
            results = connection.execute(statement("delete_check_results"), {"before": bound["before"]}).scalar_one()
        for deleted in _delete_in_batches(engine, bound):
            events += deleted
        with engine.begin() as connection:
            runs, backfills = connection.execute(statement("delete_runs"), {"runs_before": bound["runs_before"]}).one()
    files = _delete_log_files(Path(instance.storage_directory()), before.timestamp())
    return Cleaned(events, results, files, runs, backfills)


def _in_dagster(moment: dt.datetime | None) -> dt.datetime | None:
    """A time as Dagster's tables have it: without a time zone, in UTC."""
    return moment and moment.astimezone(dt.UTC).replace(tzinfo=None)


def _delete_in_batches(engine: sa.Engine, bound: dict[str, dt.datetime | None]) -> Iterator[int]:
    deleted = _BATCH
    while deleted == _BATCH:
        interruption.check()
        with engine.begin() as connection:
            deleted = connection.execute(statement("delete_run_events"), {**bound, "batch": _BATCH}).scalar_one()
        yield deleted


def _delete_log_files(folder: Path, before: float) -> int:
    """Deletes log files last written to before a time, and folders that are empty then. Returns how many files."""
    deleted = 0
    for path in sorted(folder.rglob("*"), reverse=True):  # a folder follows what is in it
        if path.is_dir():
            if path.stat().st_mtime < before and not any(path.iterdir()):
                path.rmdir()
        elif path.suffix in _LOG_FILES and path.stat().st_mtime < before:
            path.unlink()
            deleted += 1
    return deleted


_DESCRIPTION = (
    "Deletes the logs of runs that ended more than OTC_KEEP_RUN_LOGS_DAYS days ago, and runs, backfills and alerts of "
    "more than OTC_KEEP_RUNS_DAYS days ago. The newest materialization of each asset and week remains, with its run."
)


@op(out=Out(Nothing))
@traced_step
def delete_run_logs(
    context: OpExecutionContext, settings: ResourceParam[Settings], warehouse: ResourceParam[Database]
) -> None:
    """Deletes the logs of runs, runs and alerts that are older than they are kept."""
    now = dt.datetime.now(dt.UTC)
    days = settings.keep_run_logs_days
    runs_before = now - dt.timedelta(days=settings.keep_runs_days) if settings.keep_runs_days else None
    if runs_before:
        with warehouse.transaction() as connection:
            context.log.info("%d old alerts were deleted", alerts.delete(connection, before=runs_before))
    if not days:
        context.log.info("the logs of runs are kept indefinitely (OTC_KEEP_RUN_LOGS_DAYS=0), and with them the runs")
        return
    before = now - dt.timedelta(days=days)
    # A run is kept at least as long as its log.
    cleaned = clean_up_runs(context.instance, storage_url(settings), before, runs_before and min(before, runs_before))
    context.log.info(
        "of runs that ended before %s: %d log events, %d older results of checks and %d log files were deleted",
        f"{before:%Y-%m-%d %H:%M} UTC",
        cleaned.events,
        cleaned.check_results,
        cleaned.files,
    )
    if runs_before:
        context.log.info(
            "%d runs and %d backfills that ended before %s were deleted",
            cleaned.runs,
            cleaned.backfills,
            f"{runs_before:%Y-%m-%d %H:%M} UTC",
        )


@job(description=_DESCRIPTION)
def clean_up() -> None:
    delete_run_logs()


@schedule(
    job=clean_up,
    cron_schedule="30 4 * * *",
    execution_timezone="America/New_York",
    default_status=DefaultScheduleStatus.RUNNING,
    description=_DESCRIPTION,
)
def daily_clean_up(context: ScheduleEvaluationContext) -> RunRequest:
    """One run per day."""
    return RunRequest(run_key=f"clean-up on {context.scheduled_execution_time:%Y-%m-%d}")
