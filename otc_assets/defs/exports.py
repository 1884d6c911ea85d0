"""The exported Parquet files in Dagster: the asset, its job, and the sensor that requests weeks whose tables changed.

What is written is in ``pipeline.export``. The weeks are those of the data sets by day: the current week is one.
"""

import datetime as dt
from functools import cache

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
    TableColumn,
    TableSchema,
    asset,
    define_asset_job,
    sensor,
)

from otc_assets.defs.attempts import attempts
from otc_assets.defs.partitions import WeekPartitions, same_week_if_published
from otc_assets.defs.requests import requests_over_weeks
from otc_assets.defs.spans import traced_step
from otc_assets.defs.under_way import under_way
from otc_assets.defs.weekly import WRITTEN_BY, YEAR, WeekEvents, common_options, each_week
from otc_assets.domain.checks import EXPORT
from otc_assets.domain.parquet import exported_tables
from otc_assets.domain.weeks import NEW_YORK, week_containing
from otc_assets.pipeline.export import Target, export_week, weeks_to_export
from otc_assets.pipeline.results import WeekResult
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database

#: A row of the asset is a file: what its manifest says of it.
_COLUMNS = {
    "table": "the table in the schema otc",
    "week_ending": "the Friday on which the week ends",
    "path": "the file, below OTC_EXPORT_URL",
    "rows": "the rows in the file",
    "bytes": "the size of the file",
    "sha256": "the SHA-256 of the file",
    "version": "what the rows were computed from",
}


def parquet_export(weeks: WeekPartitions) -> AssetsDefinition:
    """The asset of the exported files."""
    assets = dict.fromkeys(WRITTEN_BY.get(name, name) for name in exported_tables())

    @asset(
        name=EXPORT,
        deps=[AssetDep(name, partition_mapping=same_week_if_published) for name in assets],
        partitions_def=weeks.of_datasets,
        **common_options("database", weeks, YEAR),
        kinds={"parquet"},
        description=(
            "All tables of the week as Parquet files, in the folder or bucket OTC_EXPORT_URL: "
            "`<table>/week_ending=<week>/part.parquet`, with `manifest.json`, change files and `datapackage.json`.\n\n"
            "Files whose tables have not changed are not written again. Exported weeks stay when retention deletes the "
            "rows. Of a week graded F, venue volume is not exported. docs/export.md says how to read and to follow "
            "the files."
        ),
        metadata={
            "dagster/column_schema": TableSchema([TableColumn(c, description=text) for c, text in _COLUMNS.items()])
        },
    )
    @traced_step
    def exported(
        context: AssetExecutionContext, warehouse: ResourceParam[Database], exports: ResourceParam[Target]
    ) -> WeekEvents:
        now = dt.datetime.now(dt.UTC)
        # Someone's request, mostly; the sensor requests single weeks, too. All files of the week are read, and damaged
        # ones are replaced: of one week, this is cheap.
        repair = len(context.partition_keys) == 1
        prepare = cache(exports.prepare)  # once a run, as an error of the first week that has it

        def export(week: dt.date) -> WeekResult:
            prepare()
            return export_week(week, warehouse, exports, now, repair=repair)

        yield from each_week(context, export)

    return exported


EXPORT_WEEKS = define_asset_job(
    "export_weeks",
    selection=AssetSelection.assets(EXPORT),
    description="Exports weeks as Parquet files (OTC_EXPORT_URL).",
)

#: Weeks per run: a full-size week takes a few seconds.
_WEEKS_PER_RUN = 26


@sensor(
    job=EXPORT_WEEKS,
    minimum_interval_seconds=60,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Exports weeks whose tables have changed since they were exported, one run at a time. Leaves weeks alone that "
        "a run or a backfill in progress covers: they are exported when it has ended."
    ),
)
def stale_exports(
    context: SensorEvaluationContext,
    warehouse: ResourceParam[Database],
    exports: ResourceParam[Target],
    settings: ResourceParam[Settings],
) -> SensorResult | SkipReason:
    """Compares the manifest with the versions of the tables."""
    now = dt.datetime.now(dt.UTC)
    busy = under_way(context)
    if busy.weeks(EXPORT):
        return SkipReason("weeks are being exported")
    wanted = weeks_to_export(warehouse, exports)
    current, covered = week_containing(now.astimezone(NEW_YORK).date()), busy.weeks()
    due = {
        week: " ".join(f"{table}={version}" for table, version in sorted(tables.items()))
        for week, tables in wanted.items()
        if settings.first_week <= week <= current and week not in covered
    }
    ready, waiting = attempts(
        context.instance, requests_over_weeks("export", due, _WEEKS_PER_RUN), now, after_success=True
    )
    if ready:
        return SensorResult(run_requests=ready[:1])
    left = len(set(wanted) & covered)
    reasons = [*([f"{left} weeks are covered by runs in progress"] if left else []), *map(str, waiting)]
    return SkipReason("; ".join(reasons) or "every week is exported")
