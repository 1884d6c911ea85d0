"""Schedules: on Wednesdays the newest week of every tier and a look back for revisions; daily, retention and gaps.

What their runs do is in ``jobs``.
"""

import datetime as dt
import logging
from collections.abc import Iterator

from dagster import (
    DefaultScheduleStatus,
    ResourceParam,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from otc_assets.defs.attempts import capture_key
from otc_assets.defs.jobs import CAPTURE_JOBS, REPORT_GAPS, retention
from otc_assets.defs.partitions import WeekPartitions, key_of, range_tags
from otc_assets.domain.weeks import T1, TIERS, Tier, newest_due, publication_date
from otc_assets.finra.source import Source, SourceError
from otc_assets.pipeline.changes import WEDNESDAY_TIME, captured_states, changed, look_back
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database

#: T1 of a week is published by then, and so are T2 and OTC of the week two before it, holidays included.
WEDNESDAY_MORNING = f"0 {WEDNESDAY_TIME.hour} * * 3"


def wednesday_requests(
    tier: Tier, now: dt.datetime, database: Database, source: Source, settings: Settings, log: logging.Logger
) -> Iterator[RunRequest]:
    """The newest week of the tier and the weeks before it, as far as FINRA's state of them is not captured.

    Run keys consist of the week and of FINRA's state of it, so that a repeated request runs once. If FINRA does not
    state it, the newest week is requested all the same, unless it is captured: its run has retries.
    """
    newest = newest_due(tier, now)
    if newest < settings.first_week:
        return
    candidates = [each for each in look_back(now, settings.first_week, settings.lookback_weeks) if each[0] == tier]
    seen: set[dt.date] = set()
    try:
        for _, week, state in changed(candidates, database, source, {(tier, newest)}):
            seen.add(week)
            yield RunRequest(partition_key=key_of(week), run_key=capture_key(tier, week, state))
    except SourceError as error:
        # The revision sensor looks at the rest again.
        log.warning("the look-back was interrupted: %s", error)
        if newest not in seen and (tier, newest) not in captured_states(database, newest, newest):
            yield RunRequest(partition_key=key_of(newest), run_key=f"{tier.id} {newest} on {now:%Y-%m-%d}")


def wednesday_schedule(tier: Tier) -> ScheduleDefinition:
    """The Wednesday schedule of one tier."""

    @schedule(
        name=f"wednesday_{tier.slug}",
        job=CAPTURE_JOBS[tier.id],
        cron_schedule=WEDNESDAY_MORNING,
        execution_timezone="America/New_York",
        default_status=DefaultScheduleStatus.RUNNING,
        description=(
            f"Captures the newest week of {tier.name}, and recaptures earlier weeks that FINRA revised "
            "(OTC_LOOKBACK_WEEKS)."
        ),
    )
    def wednesday(
        context: ScheduleEvaluationContext,
        warehouse: ResourceParam[Database],
        source: ResourceParam[Source],
        settings: ResourceParam[Settings],
    ) -> Iterator[RunRequest]:
        # What fails today, the revision sensor requests again.
        yield from wednesday_requests(tier, context.scheduled_execution_time, warehouse, source, settings, context.log)

    return wednesday


@schedule(
    job=retention,
    cron_schedule="30 3 * * *",
    execution_timezone="America/New_York",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Deletes weeks outside the retention window, unless TimescaleDB has a job that does.",
)
def daily_retention(context: ScheduleEvaluationContext, warehouse: ResourceParam[Database]) -> RunRequest | SkipReason:
    """One run per day, or none where TimescaleDB's own job does the same work."""
    if warehouse.has_retention_job():
        return SkipReason("TimescaleDB's job otc.retention_job does it on this server")
    return RunRequest(run_key=f"retention on {context.scheduled_execution_time:%Y-%m-%d}")


@schedule(
    job=REPORT_GAPS,
    cron_schedule="30 6 * * *",
    execution_timezone="America/New_York",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Updates the gap report of the most recent weeks (OTC_LOOKBACK_WEEKS).",
)
def daily_gap_report(context: ScheduleEvaluationContext, settings: ResourceParam[Settings]) -> RunRequest | SkipReason:
    """One run per day over all weeks of the look-back."""
    now = context.scheduled_execution_time
    newest = WeekPartitions(settings.first_week).newest()
    if newest is None:
        begins = publication_date(settings.first_week, T1)
        return SkipReason(f"FINRA publishes the first week (OTC_FIRST_WEEK) on {begins}")
    first = max(settings.first_week, newest - dt.timedelta(weeks=settings.lookback_weeks))
    return RunRequest(
        run_key=f"gaps on {now:%Y-%m-%d}",
        tags=range_tags(first, newest),
    )


SCHEDULES = [*(wednesday_schedule(tier) for tier in TIERS), daily_retention, daily_gap_report]
