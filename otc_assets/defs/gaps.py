"""The sensor that reports gaps of weeks that no run computes: a backfill that leaves weeks out makes them.

Which weeks they are is in ``pipeline.gaps``. The daily gap report is in ``schedules``.
"""

import datetime as dt

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from otc_assets.defs.attempts import attempts
from otc_assets.defs.jobs import REPORT_GAPS
from otc_assets.defs.partitions import WeekPartitions, range_tags
from otc_assets.defs.under_way import under_way
from otc_assets.domain.weeks import NEW_YORK, TIERS
from otc_assets.pipeline.gaps import unreported_weeks
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.read import newest_capture

#: What changes gaps: while it is in progress, no gap is reported.
_CHANGING = (*(f"publication_{tier.slug}" for tier in TIERS), "venue_volume", "gap_report")

#: For so long after a capture, the next one may fill a hole: commands and files capture weeks one after another.
_QUIET = dt.timedelta(minutes=2)


@sensor(
    job=REPORT_GAPS,
    minimum_interval_seconds=60,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Updates the gap report, in one run, once captures and backfills have ended: weeks that they left out are "
        "gaps, and no run computes them."
    ),
)
def unreported_gaps(
    context: SensorEvaluationContext, warehouse: ResourceParam[Database], settings: ResourceParam[Settings]
) -> SensorResult | SkipReason:
    """Compares the gaps that there are with the reported ones."""
    busy = under_way(context)
    if busy.ingesting or any(busy.weeks(asset) for asset in _CHANGING):
        return SkipReason("waits until captures, figures and gap reports in progress have ended")
    now = dt.datetime.now(NEW_YORK)
    with warehouse.transaction() as connection:
        newest = newest_capture(connection)
    if newest is None or now < newest + _QUIET:
        return SkipReason("nothing is captured yet" if newest is None else "waits for the end of captures")
    partitions = WeekPartitions(settings.first_week)
    weeks = [week for week in unreported_weeks(warehouse, settings.first_week, now) if partitions.has(week)]
    if not weeks:
        return SkipReason("every gap is reported")
    # One run from the first to the last: a report of a week that has no gap takes milliseconds.
    request = RunRequest(
        run_key=f"gaps of {len(weeks)} weeks, {weeks[0]}..{weeks[-1]}", tags=range_tags(weeks[0], weeks[-1])
    )
    ready, waiting = attempts(context.instance, [request], now.astimezone(dt.UTC), after_success=True)
    return SensorResult(run_requests=ready, skip_reason=None if ready else SkipReason("; ".join(map(str, waiting))))
