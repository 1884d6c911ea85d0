"""The checks of week-keyed assets, recorded week by week in single runs and in runs over ranges.

Gathers the evidence of each asset's checks, and reports the findings to Dagster. The checks are declared in
``domain.checks``.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import sqlalchemy as sa
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
    asset_check,
    multi_asset_check,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from otc_assets.assets.gap_report import current_gaps
from otc_assets.assets.grading import grade_of_week, judge_week
from otc_assets.assets.spans import traced_step
from otc_assets.domain import gaps as kinds
from otc_assets.domain.checks import CHECKS as REGISTERED
from otc_assets.domain.checks import (
    GRADE,
    NEWEST_WEEK,
    Check,
    checks_of,
    findings,
    judge_rows,
    judge_shares,
)
from otc_assets.domain.quality import WARN, Graded, Newest
from otc_assets.domain.schema import FINDING
from otc_assets.domain.weeks import NEW_YORK, TIERS, newest_due
from otc_assets.partitions import key_of, weeks, weeks_of
from otc_assets.resources import PublicationSource, Warehouse
from otc_assets.settings import settings
from otc_assets.tracing import WEEK, span
from otc_assets.warehouse.events import CheckFailed, append, event_context
from otc_assets.warehouse.read import previous_week, summary_differences, week_rows
from otc_assets.warehouse.retention import is_kept
from otc_assets.warehouse.server import lock_week

_IS_PENDING = pl.col("status") == kinds.PENDING

Judge = Callable[[sa.Connection, dt.date], pl.DataFrame]

#: Whether a check passed, how serious it is, and what its page shows.
Verdict = tuple[bool, AssetCheckSeverity, dict[str, Any]]


def _target(
    context: OpExecutionContext, asset: AssetKey, key: str
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """The materialization that is judged; without it the UI takes the check of the week for missing."""
    found = context.instance.fetch_materializations(
        AssetRecordsFilter(asset_key=asset, asset_partitions=[key]), limit=1
    ).records
    if not found:
        return None
    record = found[0]
    return AssetCheckEvaluationTargetMaterializationData(
        run_id=record.event_log_entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp
    )


def _verdict(findings: pl.DataFrame) -> Verdict:
    """One check of one week, out of a finding a tier."""
    failed = findings.filter(~pl.col("passed"))
    serious = (failed["severity"] != WARN).any()
    metadata: dict[str, Any] = {}
    for row in findings.iter_rows(named=True):
        metadata[row["tier"]] = row["detail"]
        if row["observed"] is not None:
            metadata[f"{row['tier']} observed"] = row["observed"]
    return not failed.height, AssetCheckSeverity.ERROR if serious else AssetCheckSeverity.WARN, metadata


def _append_failure(connection: sa.Connection, check: Check, verdict: Verdict, week: dt.date | None) -> None:
    """Appends that a check failed, where it did."""
    passed, severity, metadata = verdict
    if not passed:
        append(
            connection,
            CheckFailed(
                week_ending=week,
                asset=check.asset,
                check=check.name,
                severity=severity.value,
                blocking=check.blocking,
                detail={name: str(value) for name, value in metadata.items()},
            ),
        )


def weekly_checks(asset: str) -> AssetChecksDefinition:
    """The weekly checks of one asset, which are judged together.

    A run over a range records every week by itself, and one result for the range beside them. That of a
    blocking check passes as long as one week does: the assets downstream leave out the weeks that failed.
    """
    key = AssetKey(asset)
    judge = _JUDGES.get(asset) or (lambda connection, week: judge_rows(asset, week_rows(connection, asset, [week])))
    declared = [check for check in checks_of(asset) if check.by_week]
    specs = [
        AssetCheckSpec(c.name, asset=key, description=c.description, blocking=c.blocking, partitions_def=weeks)
        for c in declared
    ]

    @multi_asset_check(specs=specs, name=f"judge_{asset}", pool="database")
    @traced_step
    def checks(context: AssetCheckExecutionContext, warehouse: Warehouse) -> Iterator[AssetCheckResult]:
        op = context.op_execution_context
        found: dict[Check, list[Verdict]] = {check: [] for check in declared}
        for week in weeks_of(op.partition_keys):
            with span(WEEK, week_ending=week), event_context(op.run_id), warehouse.transaction() as connection:
                lock_week(connection, week)
                judged = judge(connection, week)
                for check in declared:
                    verdict = _verdict(judged.filter(pl.col("check_name") == check.name))
                    _append_failure(connection, check, verdict, week)
                    found[check].append(verdict)
            if not op.has_partition_key:
                for check, verdicts in found.items():
                    passed, severity, metadata = verdicts[-1]
                    # log_event takes evaluations; its annotation does not say so.
                    evaluation: Any = AssetCheckEvaluation(
                        asset_key=key,
                        check_name=check.name,
                        passed=passed,
                        severity=severity,
                        metadata=metadata,
                        partition=key_of(week),
                        target_materialization_data=_target(op, key, key_of(week)),
                        blocking=check.blocking,
                    )
                    op.log_event(evaluation)
        for check, verdicts in found.items():
            passed, severity, metadata = verdicts[-1]
            if not op.has_partition_key:
                good = [verdict[0] for verdict in verdicts]
                passed = any(good) if check.blocking else all(good)
                severity = severity if len(good) == 1 else AssetCheckSeverity.WARN
                metadata = {"weeks": len(good), "weeks that failed": good.count(False)}
            yield AssetCheckResult(
                asset_key=key, check_name=check.name, passed=passed, severity=severity, metadata=metadata
            )

    return checks


def _judge_volume(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    # What retention has dropped can't be judged: the grade is that of the time when it was there.
    kept = is_kept(connection, "venue_volume", week_ending)
    judged = judge_week(connection, week_ending) if kept else FINDING.to_frame()
    graded = Graded(grade_of_week(connection, week_ending), kept)
    return pl.concat([judged, findings([GRADE], [(week_ending, "all tiers", graded)])])


def _judge_summary(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    kept = is_kept(connection, "venue_volume", week_ending)
    rows = summary_differences(connection, week_ending)
    if not kept:
        rows = [{**row, "volume_differs": None} for row in rows]
    return findings(checks_of("symbol_summary"), [(week_ending, row["tier"], row) for row in rows])


def _judge_shares(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    shares = week_rows(connection, "venue_share", [week_ending])
    before = [
        week_rows(connection, "venue_share", [earlier], tier)
        for tier in shares["tier"].unique()
        if (earlier := previous_week(connection, week_ending, tier)) is not None
    ]
    return judge_shares(shares, pl.concat(before) if before else None)


def _judge_gaps(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    rows = week_rows(connection, "gap", [week_ending]).filter(~_IS_PENDING)
    declared = [check for check in checks_of("gap_report") if check.by_week]
    return findings(declared, [(week_ending, row["tier"], row) for row in rows.iter_rows(named=True)])


@asset_check(asset=NEWEST_WEEK.asset, name=NEWEST_WEEK.name, description=NEWEST_WEEK.description)
@traced_step
def newest_week(
    context: AssetCheckExecutionContext, warehouse: Warehouse, publication_source: PublicationSource
) -> AssetCheckResult:
    """Compares the newest captured week with the calendar, tier by tier."""
    now = dt.datetime.now(NEW_YORK)
    newest = []
    with warehouse.transaction() as connection:
        for tier in TIERS:
            due = newest_due(tier, now)
            week = previous_week(connection, due + dt.timedelta(weeks=1), tier.name)
            newest.append((due, tier.name, Newest(week, due, settings().first_week)))
    verdict = passed, severity, metadata = _verdict(findings([NEWEST_WEEK], newest))
    gaps = current_gaps(warehouse, publication_source.open(), now)
    metadata["publications missing since the first week wanted"] = gaps.filter(~_IS_PENDING).height
    with event_context(context.op_execution_context.run_id), warehouse.transaction() as connection:
        _append_failure(connection, NEWEST_WEEK, verdict, None)
    return AssetCheckResult(passed=passed, severity=severity, metadata=metadata)


#: By asset, how its checks are judged that look at more than the rows of its table.
_JUDGES: dict[str, Judge] = {
    "venue_volume": _judge_volume,
    "symbol_summary": _judge_summary,
    "venue_share": _judge_shares,
    "gap_report": _judge_gaps,
}
CHECKS = [*(weekly_checks(asset) for asset in dict.fromkeys(c.asset for c in REGISTERED)), newest_week]
