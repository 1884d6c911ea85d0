"""The sensor that recomputes stale weeks: which weeks are due, and how they are put into runs.

Which weeks are stale is known from ``warehouse.lineage``; what runs and backfills cover, from ``under_way``; the pause
after a failed run is in ``attempts``.
"""

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from otc_assets.defs.attempts import RECOMPUTE, REQUEST_TAG, WEEKS_TAG, StaleWeek, Waiting, weeks_due
from otc_assets.defs.jobs import COMPUTE_ROLLING, COMPUTE_WEEK
from otc_assets.defs.partitions import WeekPartitions, key_of, range_tags
from otc_assets.defs.under_way import QUEUED_OR_UNFINISHED, under_way
from otc_assets.domain.report import over_weeks
from otc_assets.domain.tables import weekly_figures
from otc_assets.domain.weeks import WINDOW_WEEKS, stretches, weeks_up_to
from otc_assets.pipeline.changes import awaited_weeks
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.lineage import Lineage, lineage

#: Weeks per run. Full-size weeks take less than a minute each: a run ends long before ``max_runtime_seconds``.
WEEKS_PER_RUN = 13

#: Runs of this sensor at a time: as many as steps can use the database, and few enough that other runs can start.
RUNS_AT_ONCE = 2

#: For so long after a capture, the other tiers of its week that are due are awaited; longer while files are ingested.
TIERS_AWAITED = dt.timedelta(minutes=5)
_AWAITED_WHILE_INGESTING = dt.timedelta(hours=2)

_NAMED = 5


def stale_now(known: Lineage, weeks: WeekPartitions, busy: Collection[dt.date]) -> Iterator[StaleWeek]:
    """The stale weeks that can be computed now, oldest first: whole weeks, then six-week figures and reports alone.

    Args:
        known: the versions of all weeks.
        weeks: the weeks of the installation; others are no partitions.
        busy: weeks that are left alone: they are being computed, or about to be. The six-week figures of the weeks
            after them wait too, because they would be stale again.
    """
    whole = sorted({week for table in ("venue_volume", *weekly_figures()) for week in known.stale(table)})
    for week in whole:
        if week in busy or not weeks.has(week):
            continue
        version = str(known.version("venue_volume", week))
        if known.dropped_until and week <= known.dropped_until:
            # The same version was computed before retention dropped it; now it is kept for longer.
            version += f" kept from {known.kept_from}"
        yield StaleWeek(COMPUTE_WEEK.name, week, version)
    rolling = {week for table in over_weeks() for week in known.stale(table)}
    for week in sorted(rolling - set(whole)):
        if weeks.has(week) and not set(weeks_up_to(week, WINDOW_WEEKS)) & set(busy):
            versions = " ".join(str(known.version(table, week)) for table in over_weeks())
            yield StaleWeek(COMPUTE_ROLLING.name, week, versions)


@dataclass(frozen=True)
class _Run:
    """A run to request: consecutive weeks of one job, which are all attempted for the same time."""

    weeks: Sequence[StaleWeek]
    attempt: int

    def request(self) -> RunRequest:
        """The request, without a run key: what is under way is known from the runs, and a used key is ignored."""
        first, last = self.weeks[0], self.weeks[-1]
        tags = {REQUEST_TAG: RECOMPUTE, WEEKS_TAG: " ".join(week.as_tag(self.attempt) for week in self.weeks)}
        if first == last:
            return RunRequest(job_name=first.job, partition_key=key_of(first.week), tags=tags)
        return RunRequest(job_name=first.job, tags=tags | range_tags(first.week, last.week))


def into_runs(due: Sequence[tuple[StaleWeek, int]]) -> Iterator[_Run]:
    """Puts consecutive weeks into one run, each with the number of its attempt.

    What has failed is repeated in runs of half as many weeks each time: a week that ends the process of its run
    otherwise keeps the others from being computed.
    """
    for job, attempt in dict.fromkeys((week.job, attempt) for week, attempt in due):
        by_week = {week.week: week for week, number in due if (week.job, number) == (job, attempt)}
        size = max(WEEKS_PER_RUN >> (attempt - 1), 1)
        for part in stretches(by_week, size):
            yield _Run([by_week[week] for week in part], attempt)


@sensor(
    jobs=[COMPUTE_WEEK, COMPUTE_ROLLING],
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Recomputes weeks whose inputs have changed, consecutive weeks in one run. If a tier is published or revised: "
        "the week itself and the six-week figures of the five weeks after it. Leaves weeks alone that a run or a "
        "backfill in progress covers, and waits a few minutes for the tiers of a week that are due."
    ),
)
def stale_weeks(
    context: SensorEvaluationContext, warehouse: ResourceParam[Database], settings: ResourceParam[Settings]
) -> SensorResult | SkipReason:
    """Compares what every week was computed from with what is captured now."""
    now = dt.datetime.now(dt.UTC)
    in_progress = under_way(context)
    patience = _AWAITED_WHILE_INGESTING if in_progress.ingesting else TIERS_AWAITED
    with warehouse.transaction() as connection:
        known = lineage(connection, with_gaps=True)
        awaited = awaited_weeks(connection, now, patience)
    covered = in_progress.weeks()
    wanted = list(stale_now(known, WeekPartitions(settings.first_week), covered | awaited.keys()))
    due, waiting = weeks_due(context.instance, wanted, now)
    whole = {week.week for week, _ in due if week.job == COMPUTE_WEEK.name}
    # Six-week figures that follow a week which is computed first would be stale again.
    due = [(w, n) for w, n in due if w.job == COMPUTE_WEEK.name or not whole & set(weeks_up_to(w.week, WINDOW_WEEKS))]
    running = RunsFilter(statuses=QUEUED_OR_UNFINISHED, tags={REQUEST_TAG: RECOMPUTE})
    free = RUNS_AT_ONCE - len(context.instance.get_run_ids(running))
    requests = [run.request() for run in into_runs(due)][: max(free, 0)]
    if requests:
        return SensorResult(run_requests=requests)
    return SkipReason(_why_nothing(known, covered, awaited, waiting, len(due)))


def _why_nothing(
    known: Lineage,
    covered: Collection[dt.date],
    awaited: dict[dt.date, dt.datetime],
    waiting: Sequence[Waiting],
    due: int,
) -> str:
    """The reason why a tick requests nothing, for the tick's page."""
    stale = {week for table in ("venue_volume", *weekly_figures(), *over_weeks()) for week in known.stale(table)}
    parts = [f"{due} stale weeks wait until earlier runs of this sensor end"] if due else []
    if number := len(stale & set(covered)):
        parts.append(f"{number} stale weeks are covered by runs or backfills in progress")
    if late := sorted((stale & awaited.keys()) - set(covered)):
        until = max(awaited[week] for week in late)
        parts.append(f"{len(late)} weeks wait for tiers that are due, until {until:%H:%M} UTC at the latest")
    parts += [str(each) for each in waiting[:_NAMED]]
    if len(waiting) > _NAMED:
        parts.append(f"and {len(waiting) - _NAMED} more")
    return "; ".join(parts) or "every week is up to date"
