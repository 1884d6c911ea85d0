"""Sensors: new files in a folder, late and revised weeks, stale weeks, and runs whose process has died.

What their runs do is in ``jobs``; the sensors that raise alerts are in ``alerts``.
"""

import datetime as dt
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    ResourceParam,
    RunConfig,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from otc_assets.defs.alerts import ALERT_SENSORS
from otc_assets.defs.attempts import REQUEST_TAG, attempts
from otc_assets.defs.internals import PARTITION_NAME_TAG, BulkActionsFilter, BulkActionStatus
from otc_assets.defs.jobs import (
    CAPTURE_JOBS,
    LOOKED_AT_ALL_TAG,
    COMPUTE_ROLLING,
    COMPUTE_WEEK,
    FilesToIngest,
    ingest_files,
)
from otc_assets.defs.liveness import UNFINISHED, fail_dead_runs
from otc_assets.defs.partitions import WeekPartitions, key_of, week_of
from otc_assets.domain.tables import rolling_figures, weekly_figures
from otc_assets.domain.weeks import NEW_YORK
from otc_assets.finra.source import Source, SourceError
from otc_assets.pipeline.changes import changed, look_back, promised
from otc_assets.pipeline.file_drop import Progress, look
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.lineage import Lineage, lineage

#: Requests to FINRA in one tick of the revision sensor; the next tick continues where it stopped.
_QUESTIONS_A_TICK = 30


_UNDER_WAY = [DagsterRunStatus.QUEUED, *UNFINISHED]


@sensor(
    job=ingest_files,
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Ingests files of FINRA's website, or of API records, that are put into the folder OTC_FILES.",
)
def file_drop(context: SensorEvaluationContext, settings: ResourceParam[Settings]) -> SensorResult:
    """Requests runs that ingest the new and changed files, many files per run."""
    folder = settings.files_folder
    progress = Progress.parse(context.cursor)
    for batch in list(progress.pending):
        runs = context.instance.get_runs(RunsFilter(tags={REQUEST_TAG: batch.key}))
        if any(run.status == DagsterRunStatus.SUCCESS or LOOKED_AT_ALL_TAG in run.tags for run in runs):
            progress.done_with(batch)
    progress.pending += look(folder, progress, time.time(), context.log.warning)
    wanted = [
        RunRequest(
            run_key=batch.key,
            run_config=RunConfig(ops={"ingest": FilesToIngest(paths=batch.paths)}),
            tags={"otc/file": batch.title},
        )
        for batch in progress.pending
    ]
    ready, waiting = attempts(context.instance, wanted, dt.datetime.now(dt.UTC))
    words = "; ".join(map(str, waiting)) or (
        f"{len(progress.pending)} runs are ingesting files" if progress.pending else f"no new file in {folder}"
    )
    return SensorResult(run_requests=ready, cursor=str(progress), skip_reason=None if ready else SkipReason(words))


@sensor(
    jobs=list(CAPTURE_JOBS.values()),
    minimum_interval_seconds=900,
    default_status=DefaultSensorStatus.RUNNING,
    description="Captures weeks that were published late or revised, among the most recent weeks (OTC_LOOKBACK_WEEKS).",
)
def late_and_revised(
    context: SensorEvaluationContext,
    warehouse: ResourceParam[Database],
    source: ResourceParam[Source],
    settings: ResourceParam[Settings],
) -> SensorResult:
    """Looks at the publications of the look-back in turn, a few per tick, and requests those that have changed.

    It also requests those that a Wednesday's run should have captured and did not, since this sensor first ran.
    """
    now = dt.datetime.now(NEW_YORK)
    candidates = look_back(now, settings.first_week, settings.lookback_weeks)
    cursor = _Round.parse(context.cursor, now)
    start = cursor.position % max(len(candidates), 1)
    turn = candidates[start : start + _QUESTIONS_A_TICK]
    try:
        found = list(changed(turn, warehouse, source, promised(turn, cursor.since, now)))
    except SourceError as error:
        # The position stays: the next tick asks the same again.
        return SensorResult(skip_reason=SkipReason(f"the source did not answer: {error}"), cursor=str(cursor))
    under_way = {
        (run.job_name, run.tags.get(PARTITION_NAME_TAG))
        for run in context.instance.get_runs(RunsFilter(statuses=_UNDER_WAY))
    }
    wanted = [
        RunRequest(
            job_name=CAPTURE_JOBS[tier.id].name,
            partition_key=key_of(week),
            run_key=f"{tier.id} {week} {state.fingerprint()}",
        )
        for tier, week, state in found
        if (CAPTURE_JOBS[tier.id].name, key_of(week)) not in under_way
    ]
    ready, waiting = attempts(context.instance, wanted, now)
    following = _Round((start + len(turn)) % max(len(candidates), 1), cursor.since)
    return SensorResult(
        run_requests=ready,
        cursor=str(following),
        skip_reason=SkipReason("; ".join(map(str, waiting)) or "nothing has changed") if not ready else None,
    )


@dataclass(frozen=True)
class _Round:
    """How far the revision sensor is, and since when it runs."""

    position: int
    since: dt.datetime

    @classmethod
    def parse(cls, cursor: str | None, now: dt.datetime) -> "_Round":
        """The cursor's; a new one where there is none. A plain number is that of an earlier version."""
        if cursor is None or cursor.isdigit():
            return cls(int(cursor or 0), now)
        stored = json.loads(cursor)
        return cls(int(stored["position"]), dt.datetime.fromisoformat(stored["since"]))

    def __str__(self) -> str:
        return json.dumps({"position": self.position, "since": self.since.isoformat()})


def requests_for_stale_weeks(now_known: Lineage) -> Iterator[RunRequest]:
    """Runs that recompute every stale week, oldest first: whole weeks, or their six-week figures alone.

    Run keys name the version to compute: a version is requested again only after a pause (``attempts``).
    """
    whole = sorted({week for table in ("venue_volume", *weekly_figures()) for week in now_known.stale(table)})
    for week in whole:
        key = f"week {week} {now_known.version('venue_volume', week)}"
        if now_known.dropped_until and week <= now_known.dropped_until:
            # The same version was computed before retention dropped it; now it is kept for longer.
            key += f" kept from {now_known.kept_from}"
        yield RunRequest(job_name=COMPUTE_WEEK.name, partition_key=key_of(week), run_key=key)
    rolling = sorted({week for table in rolling_figures() for week in now_known.stale(table)} - set(whole))
    for week in rolling:
        versions = " ".join(str(now_known.version(table, week)) for table in rolling_figures())
        yield RunRequest(job_name=COMPUTE_ROLLING.name, partition_key=key_of(week), run_key=f"rolling {week} {versions}")


def something_runs(instance: DagsterInstance) -> bool:
    """Whether runs or backfills are under way: they may be about to compute what is stale now."""
    backfills = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    return bool(
        instance.get_run_ids(RunsFilter(statuses=_UNDER_WAY), limit=1)
        or instance.get_backfills(filters=backfills, limit=1)
    )


@sensor(
    jobs=[COMPUTE_WEEK, COMPUTE_ROLLING],
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Recomputes weeks whose inputs have changed. If a tier is published or revised: the week itself and "
        "the six-week figures of the five weeks after it."
    ),
)
def stale_weeks(
    context: SensorEvaluationContext, warehouse: ResourceParam[Database], settings: ResourceParam[Settings]
) -> SensorResult | SkipReason:
    """Compares what every week was computed from with what is captured now."""
    if something_runs(context.instance):
        return SkipReason("runs are in progress: stale weeks are determined when they have ended")
    with warehouse.transaction() as connection:
        found = list(requests_for_stale_weeks(lineage(connection)))
    weeks = WeekPartitions(settings.first_week)
    wanted = [request for request in found if weeks.has(week_of(str(request.partition_key)))]
    ready, waiting = attempts(context.instance, wanted, dt.datetime.now(dt.UTC), after_success=True)
    if ready:
        return SensorResult(run_requests=ready)
    return SkipReason("; ".join(map(str, waiting)) or "every week is up to date")


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process has ended, and frees their pool slots.",
)
def dead_runs(context: SensorEvaluationContext) -> SkipReason:
    """Looks for the processes of all runs that are under way."""
    ended = fail_dead_runs(context.instance)
    return SkipReason(f"ended: {', '.join(ended)}" if ended else "every run in progress has a process")


SENSORS = [dead_runs, file_drop, late_and_revised, stale_weeks, *ALERT_SENSORS]
