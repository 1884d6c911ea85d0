"""Sensors: new files in a folder, late and revised weeks, and runs whose process has died.

What their runs do is in ``jobs``; the sensor of stale weeks is in ``stale``, those that raise alerts in ``alerts``.
"""

import datetime as dt
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dagster import (
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
from otc_assets.defs.attempts import REQUEST_TAG, attempts, capture_key
from otc_assets.defs.gaps import unreported_gaps
from otc_assets.defs.jobs import CAPTURE_JOBS, LOOKED_AT_ALL_TAG, FilesToIngest, ingest_files
from otc_assets.defs.liveness import fail_dead_runs
from otc_assets.defs.partitions import key_of
from otc_assets.defs.stale import stale_weeks
from otc_assets.defs.under_way import under_way
from otc_assets.domain.weeks import NEW_YORK, TIER_BY_ID, TIERS, Tier
from otc_assets.finra.source import PublicationState, Source, SourceError
from otc_assets.pipeline.changes import TierWeek, changed, look_back, promised
from otc_assets.pipeline.file_drop import Progress, look
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database

#: Requests to FINRA in one tick of the revision sensor, and how many of them are about what is missing; the next tick
#: continues where it stopped. A tick has a minute.
_QUESTIONS_A_TICK, _ABOUT_MISSING = 30, 10


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
    looked = _Round.parse(context.cursor, now)
    candidates = look_back(now, settings.first_week, settings.lookback_weeks, looked.before)
    turn, position = looked.turn(candidates)
    found: list[tuple[Tier, dt.date, PublicationState]] = []
    problem = ""
    try:
        begun_from = min((week for _, week in candidates), default=now.date())
        found.extend(changed(turn, warehouse, source, promised(turn, looked.since, now), begun_from))
    except SourceError as error:
        # The position stays: the next tick asks the same again.
        problem = f"the source did not answer: {error}"
    else:
        looked = looked.after(turn, [(tier, week) for tier, week, _ in found], position)
        if position >= len(candidates):
            looked = looked.next_round(now)
    in_progress = under_way(context)
    wanted = [
        RunRequest(
            job_name=CAPTURE_JOBS[tier.id].name, partition_key=key_of(week), run_key=capture_key(tier, week, state)
        )
        for tier, week, state in sorted(found, key=lambda each: (TIERS.index(each[0]), each[1]))
        if week not in in_progress.weeks(f"publication_{tier.slug}")
    ]
    ready, waiting = attempts(context.instance, wanted, now, after_success=True)
    reasons = "; ".join([problem] * bool(problem) + [str(each) for each in waiting])
    return SensorResult(
        run_requests=ready,
        cursor=str(looked),
        skip_reason=None if ready else SkipReason(reasons or f"nothing new in {len(turn)} publications"),
    )


@dataclass(frozen=True)
class _Round:
    """How far the revision sensor is.

    Attributes:
        position: the number of candidates of this round that it has looked at.
        since: since when the sensor runs.
        began: when this round began.
        before: when the last complete round began: what has left the look-back since then, while no daemon ran, is
            looked at once more.
        missing: what has changed and is not captured yet: it is looked at in every tick, also outside the look-back.
    """

    position: int
    since: dt.datetime
    began: dt.datetime
    before: dt.datetime
    missing: tuple[TierWeek, ...] = ()

    @classmethod
    def parse(cls, cursor: str | None, now: dt.datetime) -> "_Round":
        """The cursor's; a new one where there is none. Earlier versions stored less, the first one a plain number."""
        plain = cursor is None or cursor.isdigit()
        stored: dict[str, Any] = {"position": int(cursor or 0)} if plain else json.loads(str(cursor))
        since, began, before = (
            dt.datetime.fromisoformat(stored[name]) if name in stored else now for name in ("since", "began", "before")
        )
        missing = ((TIER_BY_ID[tier], dt.date.fromisoformat(week)) for tier, week in stored.get("missing", ()))
        return cls(int(stored["position"]), since, began, before, tuple(missing))

    def __str__(self) -> str:
        return json.dumps(
            {
                "position": self.position,
                "since": self.since.isoformat(),
                "began": self.began.isoformat(),
                "before": self.before.isoformat(),
                "missing": [(tier.id, week.isoformat()) for tier, week in self.missing],
            }
        )

    def turn(self, candidates: Sequence[TierWeek]) -> tuple[list[TierWeek], int]:
        """What one tick looks at: what is missing, the newest week of each tier, and the next of the round.

        Args:
            candidates: the publications of the round, the weeks of each tier newest first.

        Returns:
            The publications, and the position after them.
        """
        newest = {tier: (tier, week) for tier, week in reversed(candidates)}
        first = list(dict.fromkeys([*self.missing[:_ABOUT_MISSING], *newest.values()]))
        end = self.position + _QUESTIONS_A_TICK - len(first)
        return list(dict.fromkeys([*first, *candidates[self.position : end]])), end

    def after(self, turn: Sequence[TierWeek], found: Sequence[TierWeek], position: int) -> "_Round":
        """The state after a tick that looked at ``turn``, and found ``found`` of it changed."""
        # What is still missing goes to the end, so that all of it has its turn.
        still = [each for each in self.missing if each not in turn]
        return replace(self, position=position, missing=tuple(dict.fromkeys([*still, *found])))

    def next_round(self, now: dt.datetime) -> "_Round":
        """The beginning of the next round."""
        return replace(self, position=0, began=now, before=self.began)


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process has ended, and frees their pool slots.",
)
def dead_runs(context: SensorEvaluationContext) -> SkipReason:
    """Looks for the processes of all runs that are under way."""
    ended = fail_dead_runs(context.instance)
    return SkipReason(f"ended: {', '.join(ended)}" if ended else "every run in progress has a process")


SENSORS = [dead_runs, file_drop, late_and_revised, stale_weeks, unreported_gaps, *ALERT_SENSORS]
