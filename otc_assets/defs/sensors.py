"""Sensors: files that were dropped, weeks that came late or were revised, weeks that are stale.

Here: what each looks at, and which run it asks for. Not here: what a run does (``jobs``), and the sensors that
tell people of failures (``alerts``).
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
    RunConfig,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.tags import PARTITION_NAME_TAG

from otc_assets.defs.alerts import ALERT_SENSORS
from otc_assets.defs.attempts import REQUEST_TAG, attempts
from otc_assets.defs.jobs import (
    CAPTURE_JOBS,
    LOOKED_AT_ALL_TAG,
    MAKE_ROLLING,
    MAKE_WEEK,
    FilesToIngest,
    ingest_files,
)
from otc_assets.defs.liveness import fail_dead_runs
from otc_assets.defs.partitions import has_week, key_of, week_of
from otc_assets.defs.resources import PublicationSource, Warehouse
from otc_assets.domain.tables import rolling_figures, weekly_figures
from otc_assets.domain.weeks import NEW_YORK
from otc_assets.finra.source import SourceError
from otc_assets.pipeline.changes import changed, look_back, promised
from otc_assets.pipeline.file_drop import Progress, look
from otc_assets.settings import settings
from otc_assets.warehouse.lineage import Lineage, lineage

#: Questions to FINRA in one tick of the revision sensor; the next tick goes on where it stopped.
_QUESTIONS_A_TICK = 30


_UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@sensor(
    job=ingest_files,
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Takes in files of FINRA's website, or of API records, that are put into the folder OTC_FILES.",
)
def file_drop(context: SensorEvaluationContext) -> SensorResult:
    """Asks for runs that take in the new and changed files, many files a run."""
    folder = settings().files_folder
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
        f"{len(progress.pending)} runs are taking in files" if progress.pending else f"no new file in {folder}"
    )
    return SensorResult(run_requests=ready, cursor=str(progress), skip_reason=None if ready else SkipReason(words))


@sensor(
    jobs=list(CAPTURE_JOBS.values()),
    minimum_interval_seconds=900,
    default_status=DefaultSensorStatus.RUNNING,
    description="Captures weeks that came late, and those that FINRA has revised, within the look-back.",
)
def late_and_revised(
    context: SensorEvaluationContext, warehouse: Warehouse, publication_source: PublicationSource
) -> SensorResult | SkipReason:
    """Goes round the publications of the look-back, a few a tick, and asks for those that have changed.

    Also for those that a Wednesday's run was to capture and did not, since this sensor first ran.
    """
    now = dt.datetime.now(NEW_YORK)
    candidates = look_back(now)
    cursor = _Round.parse(context.cursor, now)
    start = cursor.position % max(len(candidates), 1)
    turn = candidates[start : start + _QUESTIONS_A_TICK]
    try:
        found = list(changed(turn, warehouse, publication_source.open(), promised(turn, cursor.since, now)))
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
    """How far the revision sensor is, and since when it has been at work."""

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
    """Runs that make every stale week anew, oldest first: whole weeks, or their six-week figures alone.

    Run keys name the version to be made: a version is asked for again only after a pause (``attempts``).
    """
    whole = sorted({week for table in ("venue_volume", *weekly_figures()) for week in now_known.stale(table)})
    for week in whole:
        key = f"week {week} {now_known.version('venue_volume', week)}"
        if now_known.dropped_until and week <= now_known.dropped_until:
            # The same version was made before retention dropped it; now it is kept for longer.
            key += f" kept from {now_known.kept_from}"
        yield RunRequest(job_name=MAKE_WEEK.name, partition_key=key_of(week), run_key=key)
    rolling = sorted({week for table in rolling_figures() for week in now_known.stale(table)} - set(whole))
    for week in rolling:
        versions = " ".join(str(now_known.version(table, week)) for table in rolling_figures())
        yield RunRequest(job_name=MAKE_ROLLING.name, partition_key=key_of(week), run_key=f"rolling {week} {versions}")


def something_runs(instance: DagsterInstance) -> bool:
    """Whether runs or backfills are under way: they may be about to make what is stale now."""
    backfills = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    return bool(
        instance.get_run_ids(RunsFilter(statuses=_UNDER_WAY), limit=1)
        or instance.get_backfills(filters=backfills, limit=1)
    )


@sensor(
    jobs=[MAKE_WEEK, MAKE_ROLLING],
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Makes weeks anew whose inputs have changed: after a tier arrived or was revised, the week itself and "
        "the six-week figures of the five weeks after it."
    ),
)
def stale_weeks(context: SensorEvaluationContext, warehouse: Warehouse) -> SensorResult | SkipReason:
    """Compares what every week was made from with what stands there now."""
    if something_runs(context.instance):
        return SkipReason("runs are under way: what is stale is judged when they have ended")
    with warehouse.transaction() as connection:
        found = list(requests_for_stale_weeks(lineage(connection)))
    wanted = [request for request in found if has_week(week_of(str(request.partition_key)))]
    ready, waiting = attempts(context.instance, wanted, dt.datetime.now(dt.UTC), after_success=True)
    if ready:
        return SensorResult(run_requests=ready)
    return SkipReason("; ".join(map(str, waiting)) or "every week is up to date")


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process has ended without a word, and frees the slots of their pools.",
)
def dead_runs(context: SensorEvaluationContext) -> SkipReason:
    """Looks for the processes of all runs that are under way."""
    ended = fail_dead_runs(context.instance)
    return SkipReason(f"ended: {', '.join(ended)}" if ended else "every run that is under way has its process")


SENSORS = [dead_runs, file_drop, late_and_revised, stale_weeks, *ALERT_SENSORS]
