"""Asset checks: reports to Dagster what ``pipeline.checks`` found, week by week.

Checks are declared in ``domain.checks``; how they are judged is in ``pipeline.checks``.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetRecordsFilter,
    OpExecutionContext,
    ResourceParam,
    TimeWindowPartitionsDefinition,
    asset_check,
    multi_asset_check,
)

from otc_assets.defs.internals import AssetCheckEvaluationTargetMaterializationData
from otc_assets.defs.partitions import key_of, weeks_of
from otc_assets.defs.spans import traced_step
from otc_assets.domain.checks import CHECKS, NEWEST_WEEK
from otc_assets.domain.weeks import NEW_YORK
from otc_assets.finra.source import Source
from otc_assets.pipeline.checks import Verdict, judge_checks, judge_newest_week, weekly_checks_of
from otc_assets.settings import Settings
from otc_assets.tracing import WEEK, span
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.events import event_context


def _target(
    context: OpExecutionContext, asset: AssetKey, key: str
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """The materialization that is judged; without it the UI shows the week's check as missing."""
    found = context.instance.fetch_materializations(
        AssetRecordsFilter(asset_key=asset, asset_partitions=[key]), limit=1
    ).records
    if not found:
        return None
    record = found[0]
    return AssetCheckEvaluationTargetMaterializationData(
        run_id=record.event_log_entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp
    )


def _severity(verdict: Verdict) -> AssetCheckSeverity:
    return AssetCheckSeverity.ERROR if verdict.serious else AssetCheckSeverity.WARN


def _log_evaluation(context: OpExecutionContext, verdict: Verdict, week: dt.date) -> None:
    """Records the check of one week of a run over several: Dagster stores one result per run, without a week."""
    asset = AssetKey(verdict.check.asset)
    # log_event takes evaluations; its annotation does not say so.
    evaluation: Any = AssetCheckEvaluation(
        asset_key=asset,
        check_name=verdict.check.name,
        passed=verdict.passed,
        severity=_severity(verdict),
        metadata=verdict.details,
        partition=key_of(week),
        target_materialization_data=_target(context, asset, key_of(week)),
        blocking=verdict.check.blocking,
    )
    context.log_event(evaluation)


def _of_range(verdicts: list[Verdict]) -> AssetCheckResult:
    """The result of a run over several weeks, which Dagster stores beside those of the weeks.

    That of a blocking check passes if one week does: downstream assets leave out the weeks that failed.
    """
    check, passed = verdicts[-1].check, [verdict.passed for verdict in verdicts]
    return AssetCheckResult(
        asset_key=AssetKey(check.asset),
        check_name=check.name,
        passed=any(passed) if check.blocking else all(passed),
        severity=_severity(verdicts[-1]) if len(passed) == 1 else AssetCheckSeverity.WARN,
        metadata={"weeks": len(passed), "weeks that failed": passed.count(False)},
    )


def _of_week(verdict: Verdict) -> AssetCheckResult:
    return AssetCheckResult(
        asset_key=AssetKey(verdict.check.asset),
        check_name=verdict.check.name,
        passed=verdict.passed,
        severity=_severity(verdict),
        metadata=verdict.details,
    )


def weekly_checks(asset: str, weeks: TimeWindowPartitionsDefinition) -> AssetChecksDefinition:
    """The weekly checks of one asset, which are judged together."""
    declared = weekly_checks_of(asset)
    specs = [
        AssetCheckSpec(
            check.name, asset=asset, description=check.description, blocking=check.blocking, partitions_def=weeks
        )
        for check in declared
    ]

    @multi_asset_check(specs=specs, name=f"judge_{asset}", pool="database")
    @traced_step
    def checks(context: AssetCheckExecutionContext, warehouse: ResourceParam[Database]) -> Iterator[AssetCheckResult]:
        op = context.op_execution_context
        by_week: list[list[Verdict]] = []
        for week in weeks_of(op.partition_keys):
            with span(WEEK, week_ending=week), event_context(op.run_id):
                by_week.append(judge_checks(warehouse, asset, week))
            if not op.has_partition_key:
                for verdict in by_week[-1]:
                    _log_evaluation(op, verdict, week)
        for verdicts in zip(*by_week, strict=True):
            yield _of_week(verdicts[0]) if op.has_partition_key else _of_range(list(verdicts))

    return checks


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
    return _of_week(verdict)


def all_checks(weeks: TimeWindowPartitionsDefinition) -> list[AssetChecksDefinition]:
    """The checks of all assets."""
    return [*(weekly_checks(asset, weeks) for asset in dict.fromkeys(check.asset for check in CHECKS)), newest_week]
