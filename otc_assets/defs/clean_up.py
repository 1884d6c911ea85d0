"""Cleans up what Dagster keeps of runs and never deletes: log events, results of checks, and log files.

Dagster's own ``retention`` deletes ticks only. The weeks of our tables are deleted by ``warehouse.retention``.
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
from otc_assets.warehouse.sql import statement

#: Rows per transaction, so that none holds locks for long.
_BATCH = 10_000

#: The log files of steps and ticks, below the instance's folder ``storage``.
_LOG_FILES = frozenset({".out", ".err", ".complete", ".partial"})


class Cleaned(NamedTuple):
    """How much was deleted: log events, results of checks, and log files."""

    events: int
    check_results: int
    files: int


def clean_up_runs(instance: DagsterInstance, url: str | None, before: dt.datetime) -> Cleaned:
    """Deletes what was logged of runs that ended before a time.

    Runs, materializations, observations and the newest result of each check and week remain.

    Args:
        instance: whose folder has the log files.
        url: of Dagster's storage on PostgreSQL; None where it is a folder of SQLite files, which keeps its events.
        before: the time, with a time zone.
    """
    events = results = 0
    if url is not None:
        # Dagster's tables have timestamps without a time zone, in UTC.
        bound = {"before": before.astimezone(dt.UTC).replace(tzinfo=None)}
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        # Results first: the event of a result remains as long as the result.
        with engine.begin() as connection:
            results = connection.execute(statement("delete_check_results"), bound).scalar_one()
        for deleted in _delete_in_batches(engine, bound):
            events += deleted
    return Cleaned(events, results, _delete_log_files(Path(instance.storage_directory()), before.timestamp()))


def _delete_in_batches(engine: sa.Engine, bound: dict[str, dt.datetime]) -> Iterator[int]:
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


@op(out=Out(Nothing))
@traced_step
def delete_run_logs(context: OpExecutionContext, settings: ResourceParam[Settings]) -> None:
    """Deletes the logs of runs that ended longer ago than they are kept."""
    days = settings.keep_run_logs_days
    if not days:
        context.log.info("the logs of runs are kept indefinitely (OTC_KEEP_RUN_LOGS_DAYS=0)")
        return
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    cleaned = clean_up_runs(context.instance, storage_url(settings), before)
    context.log.info(
        "of runs that ended before %s: %d log events, %d older results of checks and %d log files were deleted",
        f"{before:%Y-%m-%d %H:%M} UTC",
        cleaned.events,
        cleaned.check_results,
        cleaned.files,
    )


@job(description="Deletes the logs of runs that ended more than OTC_KEEP_RUN_LOGS_DAYS days ago.")
def clean_up() -> None:
    delete_run_logs()


@schedule(
    job=clean_up,
    cron_schedule="30 4 * * *",
    execution_timezone="America/New_York",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Deletes the logs of runs that ended more than OTC_KEEP_RUN_LOGS_DAYS days ago.",
)
def daily_clean_up(context: ScheduleEvaluationContext) -> RunRequest:
    """One run per day."""
    return RunRequest(run_key=f"clean-up on {context.scheduled_execution_time:%Y-%m-%d}")
