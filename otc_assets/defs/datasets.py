"""FINRA's neighbouring data sets in Dagster: their assets, the estimates, the job, and the sensor that requests it.

Their weeks begin before those of the tiers: the current week is a partition. What is captured of a week, and what is
computed from it, is in ``pipeline.datasets``.
"""

import datetime as dt

from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSelection,
    DefaultSensorStatus,
    ResourceParam,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    asset,
    define_asset_job,
    sensor,
)

from otc_assets.archive.store import Archive
from otc_assets.defs.attempts import attempts
from otc_assets.defs.partitions import WeekPartitions, same_week_if_published
from otc_assets.defs.requests import requests_over_weeks
from otc_assets.defs.run_events import weeks_done_before
from otc_assets.defs.spans import traced_step
from otc_assets.defs.under_way import under_way
from otc_assets.defs.weekly import (
    CAPTURES,
    WeekEvents,
    common_options,
    each_week,
    if_several,
    table_metadata,
    table_options,
)
from otc_assets.domain.datasets import DATASETS, Dataset
from otc_assets.domain.estimates import ESTIMATES, Estimate
from otc_assets.domain.weeks import NEW_YORK, week_containing, weeks_between
from otc_assets.finra.source import DatasetSource, Source
from otc_assets.pipeline.datasets import (
    capture_week,
    captured_week,
    compute_estimate,
    current_estimate,
    report_dataset_gaps,
    weeks_to_capture,
    weeks_to_estimate,
)
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.read import first_captured


def dataset_assets(weeks: WeekPartitions) -> list[AssetsDefinition]:
    """The assets of the data sets and of the estimates."""
    return [
        *(dataset_asset(dataset, weeks) for dataset in DATASETS),
        *(estimate_asset(estimate, weeks) for estimate in ESTIMATES),
    ]


def dataset_asset(dataset: Dataset, weeks: WeekPartitions) -> AssetsDefinition:
    """The asset of a data set."""

    @asset(
        name=dataset.table,
        deps=[AssetDep("week_calendar", partition_mapping=same_week_if_published)],
        partitions_def=weeks.of_datasets,
        **common_options("finra_api", weeks, CAPTURES),
        kinds={"finra", "postgres"},
        description=dataset.description,
        metadata=table_metadata(dataset.table),
    )
    @traced_step
    def captured(
        context: AssetExecutionContext,
        source: ResourceParam[Source],
        archive: ResourceParam[Archive],
        warehouse: ResourceParam[Database],
    ) -> WeekEvents:
        now, run_id = dt.datetime.now(NEW_YORK), context.run.run_id
        done = weeks_done_before(context.instance, context.run, context.asset_key)
        try:
            yield from each_week(
                context,
                lambda week: capture_week(dataset, week, source, archive, warehouse, run_id, now),
                lambda week: captured_week(dataset, week, warehouse) if week in done else None,
            )
        except Exception:  # a week failed; the end of a run is none of these, and does not wait for FINRA
            report_dataset_gaps(warehouse, source, now)
            raise
        # Once, and not for every week: a report asks FINRA which periods of each data set it offers.
        report_dataset_gaps(warehouse, source, now)

    return captured


def estimate_asset(estimate: Estimate, weeks: WeekPartitions) -> AssetsDefinition:
    """The asset of an estimate. Its partitions begin weeks before those of the weekly publications."""
    options = table_options(estimate.name, weeks) | {"partitions_def": weeks.of_datasets}

    @asset(
        name=estimate.name,
        deps=[AssetDep(source, partition_mapping=same_week_if_published) for source in estimate.sources],
        **options,
        kinds={"polars", "postgres"},
    )
    @traced_step
    def estimated(context: AssetExecutionContext, warehouse: ResourceParam[Database]) -> WeekEvents:
        yield from each_week(
            context,
            lambda week: compute_estimate(estimate.name, week, warehouse),
            if_several(context, lambda week: current_estimate(estimate.name, week, warehouse)),
        )

    return estimated


#: The assets of the job below: all have the same weeks.
ASSETS = (*(dataset.table for dataset in DATASETS), *(estimate.name for estimate in ESTIMATES))

CAPTURE_DATASETS = define_asset_job(
    "capture_datasets",
    selection=AssetSelection.assets(*ASSETS),
    description="Captures FINRA's other data sets of a week, and computes the estimates from them.",
)


_ESTIMATES = [estimate.name for estimate in ESTIMATES]


@sensor(
    job=CAPTURE_DATASETS,
    minimum_interval_seconds=300,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Captures the periods of FINRA's other data sets that are due, of the weeks since the first captured one and "
        "within the look-back (OTC_LOOKBACK_WEEKS), and recomputes estimates whose inputs have changed."
    ),
)
def other_datasets(
    context: SensorEvaluationContext,
    warehouse: ResourceParam[Database],
    source: ResourceParam[Source],
    settings: ResourceParam[Settings],
) -> SensorResult | SkipReason:
    """Requests runs over consecutive weeks, one for each stretch."""
    if not isinstance(source, DatasetSource):
        return SkipReason("this source (OTC_SOURCE) has only the weekly publications")
    now = dt.datetime.now(NEW_YORK)
    current = week_containing(now.date())
    with warehouse.transaction() as connection:
        first = min(first_captured(connection).values(), default=None)
        if first is None:
            return SkipReason("no weekly publication is captured yet")
        begin = max(settings.first_week, first, current - dt.timedelta(weeks=settings.lookback_weeks))
        weeks = weeks_between(begin, current)
        missing = weeks_to_capture(connection, weeks, now)
        stale = weeks_to_estimate(connection, weeks)
    busy = under_way(context)
    covered = {week for name in ASSETS for week in busy.weeks(name)}
    wanted = [
        *requests_over_weeks("datasets", {w: what for w, what in missing.items() if w not in covered}, CAPTURES),
        *requests_over_weeks(
            "estimates",
            {w: what for w, what in stale.items() if w not in covered and w not in missing},
            CAPTURES,
            _ESTIMATES,
        ),
    ]
    ready, waiting = attempts(context.instance, wanted, now.astimezone(dt.UTC), after_success=True)
    why = "; ".join(map(str, waiting)) or "every due period is captured, and every estimate is up to date"
    return SensorResult(run_requests=ready, skip_reason=None if ready else SkipReason(why))
