"""Asset checks: reports to Dagster what ``pipeline.checks`` found, week by week.

Checks are declared in ``domain.checks``; how they are judged is in ``pipeline.checks``.
"""

import datetime as dt
from collections.abc import Iterator, Sequence

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    Failure,
    OpExecutionContext,
    Output,
    ResourceParam,
    TimeWindowPartitionsDefinition,
    asset_check,
    multi_asset_check,
)

from otc_assets.archive.store import Archive
from otc_assets.defs.datasets import ASSETS as DATASET_ASSETS
from otc_assets.defs.internals import AssetCheckEvaluationTargetMaterializationData, DagsterAssetCheckFailedError
from otc_assets.defs.partitions import WeekPartitions, key_of, week_of, weeks_of
from otc_assets.defs.run_events import weeks_failed_upstream
from otc_assets.defs.spans import traced_step
from otc_assets.domain.checks import CHECKS, EXPORT, NEWEST_WEEK, checks_of
from otc_assets.domain.weeks import NEW_YORK
from otc_assets.finra.source import Source
from otc_assets.pipeline.checks import Verdict, judge_checks, judge_newest_week, weekly_checks_of
from otc_assets.pipeline.export import Target
from otc_assets.settings import Settings
from otc_assets.tracing import WEEK, span
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.events import event_context


def _targets(
    context: OpExecutionContext, asset: AssetKey, keys: Sequence[str]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """By week, the materialization that is judged; without it the UI shows the week's check as missing."""
    kind = DagsterEventType.ASSET_MATERIALIZATION
    # Dagster takes no weeks for all weeks.
    newest = context.instance.get_latest_storage_id_by_partition(asset, kind, set(keys)) if keys else {}
    if not newest:
        return {}
    wanted = AssetRecordsFilter(asset_key=asset, storage_ids=list(newest.values()))
    return {
        str(record.partition_key): AssetCheckEvaluationTargetMaterializationData(
            run_id=record.event_log_entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp
        )
        for record in context.instance.fetch_materializations(wanted, limit=len(newest)).records
    }


def _evaluation(
    verdict: Verdict,
    week: dt.date,
    target: AssetCheckEvaluationTargetMaterializationData | None,
    partition: str | None,
) -> AssetCheckEvaluation:
    """The evaluation of a check for a week, under the week's partition or without one."""
    return AssetCheckEvaluation(
        asset_key=AssetKey(verdict.check.asset),
        check_name=verdict.check.name,
        passed=verdict.passed,
        severity=AssetCheckSeverity.ERROR if verdict.serious else AssetCheckSeverity.WARN,
        metadata=verdict.details if partition else {"week_ending": key_of(week), **verdict.details},
        partition=partition,
        target_materialization_data=target,
        blocking=verdict.check.blocking,
    )


def _weeks(context: OpExecutionContext, asset: AssetKey, weeks: TimeWindowPartitionsDefinition) -> list[dt.date]:
    """The weeks of the run; of a run without weeks, the newest that is materialized, else the newest there is.

    Weeks whose materialization failed in the same run are left out.

    Raises:
        Failure: the run has no weeks, and nothing is published yet.
    """
    if context.has_partition_key or context.has_partition_key_range:
        chosen = weeks_of(context.partition_keys)
        left_out = weeks_failed_upstream(context.instance, context.run_id, [asset], chosen)
        for week, reason in left_out.items():
            context.log.warning("%s: not checked, because %s", week, reason)
        return [week for week in chosen if week not in left_out]
    newest = max(context.instance.get_materialized_partitions(asset), default=weeks.get_last_partition_key())
    if newest is None:
        raise Failure(
            "there is no week to check: FINRA has not published the first one (OTC_FIRST_WEEK)", allow_retries=False
        )
    return [week_of(newest)]


def weekly_checks(asset: str, weeks: TimeWindowPartitionsDefinition) -> AssetChecksDefinition:
    """The weekly checks of one asset, which are judged together. Each can also run alone."""
    specs = [
        AssetCheckSpec(
            check.name, asset=asset, description=check.description, blocking=check.blocking, partitions_def=weeks
        )
        for check in weekly_checks_of(asset)
    ]

    @multi_asset_check(specs=specs, name=f"judge_{asset}", pool="database", can_subset=True)
    @traced_step
    def checks(
        context: AssetCheckExecutionContext,
        warehouse: ResourceParam[Database],
        archive: ResourceParam[Archive],
        exports: ResourceParam[Target],
    ) -> Iterator[AssetCheckEvaluation | Output[None]]:
        op = context.op_execution_context
        selected = context.selected_asset_check_keys
        names = {key.name for key in selected}
        has_weeks = op.has_partition_key or op.has_partition_key_range
        blocked: dict[dt.date, str] = {}
        chosen = _weeks(op, AssetKey(asset), weeks)
        targets = _targets(op, AssetKey(asset), [key_of(week) for week in chosen])
        for week in chosen:
            with span(WEEK, week_ending=week), event_context(op.run_id):
                verdicts = judge_checks(warehouse, asset, week, names, archive=archive, exports=exports)
            target = targets.get(key_of(week))
            for verdict in verdicts:
                # Not as results, which Dagster stores without a week in a run over several.
                yield _evaluation(verdict, week, target, key_of(week))
                if not has_weeks:
                    # Dagster has planned an evaluation without a week, too.
                    yield _evaluation(verdict, week, target, None)
                if verdict.check.blocking and verdict.serious and not verdict.passed:
                    found = ", ".join(f"{label} {value}" for label, value in verdict.details.items())
                    blocked[week] = f"the blocking check '{verdict.check.name}' of {asset} failed: {found}"
        for key in selected:
            # Without the output of a blocking check, downstream assets do not run.
            if len(blocked) < len(chosen) or not _is_blocking(key):
                yield Output(None, op.assets_def.get_output_name_for_asset_check_key(key))
        if blocked:
            raise DagsterAssetCheckFailedError("; ".join(f"{week}: {why}" for week, why in blocked.items()))

    return checks


def _is_blocking(key: AssetCheckKey) -> bool:
    return any(check.blocking and check.name == key.name for check in checks_of(key.asset_key.to_user_string()))


@asset_check(asset=NEWEST_WEEK.asset, name=NEWEST_WEEK.name, description=NEWEST_WEEK.description)
@traced_step
def newest_week(
    context: AssetCheckExecutionContext,
    warehouse: ResourceParam[Database],
    source: ResourceParam[Source],
    settings: ResourceParam[Settings],
) -> AssetCheckResult:
    """Compares the newest captured week with the calendar, tier by tier."""
    with event_context(context.op_execution_context.run_id):
        verdict = judge_newest_week(warehouse, source, settings.first_week, dt.datetime.now(NEW_YORK))
    return AssetCheckResult(
        passed=verdict.passed,
        severity=AssetCheckSeverity.ERROR if verdict.serious else AssetCheckSeverity.WARN,
        metadata=verdict.details,
    )


def all_checks(weeks: WeekPartitions) -> list[AssetChecksDefinition]:
    """The checks of all assets."""
    assets = dict.fromkeys(check.asset for check in CHECKS)
    current = {*DATASET_ASSETS, EXPORT}
    of_asset = {name: weeks.of_datasets if name in current else weeks.of_figures for name in assets}
    return [*(weekly_checks(asset, partitions) for asset, partitions in of_asset.items()), newest_week]
