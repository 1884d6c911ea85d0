"""The checks of week-keyed assets, recorded week by week in single runs and in runs over ranges.

Here: which findings are checks of which asset, and how Dagster is told. Not here: how a finding comes about.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from otc_assets.domain.quality import VOLUME_CHECKS, WARN, judge_concentration, judge_shares
from otc_assets.domain.schema import FINDING
from otc_assets.domain.weeks import NEW_YORK, TIERS, newest_due
from otc_assets.partitions import key_of, weeks, weeks_of
from otc_assets.resources import PublicationSource, Warehouse
from otc_assets.settings import settings
from otc_assets.tracing import WEEK, span
from otc_assets.warehouse.events import CheckFailed, append, told_by
from otc_assets.warehouse.read import previous_week, summary_differences, week_rows
from otc_assets.warehouse.retention import is_kept
from otc_assets.warehouse.server import lock_week

#: What each check looks at, for its page.
DESCRIPTIONS = {
    "books_balance": "Rows received = rows accepted + rows rejected, and the accepted ones stand in the tables.",
    "unique_keys": "No two rows have the same week, tier, symbol, issue, product type and venue.",
    "plausible_values": "No shares, trades or dollars are negative, or more than the whole market could trade.",
    "known_tier": "Every row is of one of FINRA's three tiers.",
    "week_in_calendar": "No row was published before the day on which the calendar has this week published.",
    "matches_finra_totals": "Our sums equal FINRA's own totals by symbol and by venue, to the share.",
    "complete": "The publication came whole: every row that FINRA counts, ATSs and firms.",
    "none_quarantined": "No capture of the week is quarantined: cut off, or lacking a large part of the one before it.",
    "few_rejected": "Not more than one row in a hundred was rejected.",
    "venue_identity": (
        "Every venue known from the week before by its MPID or CRD number still has one, and every ATS is still an ATS."
    ),
    "venue_count_drop": "Not more than a fifth of the venues is gone since the week before.",
    "volume_swing": "The volume a trading day is within half of that of the week before.",
    "grade": "The week's grade, the worst of its tiers'. F stops everything that is made of it.",
    "shares_add_up": "The venues' market shares of each tier add up to 100 %.",
    "venue_share_shift": "No venue's share of a tier moved by more than ten points since the week before.",
    "agrees_with_aggregate": (
        "Volume, trades and venues of each symbol are the same in weekly_summary_agg, and in the database's own sums "
        "over venue volume."
    ),
    "hhi_within_bounds": "Every HHI lies between 10,000 / n and 10,000, and not below its largest share squared.",
    "no_gap": "The week is there, whole, in every tier that is due.",
}

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


def _tell_failure(
    connection: sa.Connection, asset: str, check: str, verdict: Verdict, week: dt.date | None, *, blocking: bool
) -> None:
    """Appends that a check failed, where it did."""
    passed, severity, metadata = verdict
    if not passed:
        append(
            connection,
            CheckFailed(
                week_ending=week,
                asset=asset,
                check=check,
                severity=severity.value,
                blocking=blocking,
                detail={name: str(value) for name, value in metadata.items()},
            ),
        )


def _weekly_checks(
    asset: str, names: Sequence[str], judge: Judge, blocking: str | None = None
) -> AssetChecksDefinition:
    """Checks of one asset that are judged together: the findings of ``judge`` by their `check_name`.

    A run over a range records every week by itself, and one result for the range beside them. That of a
    blocking check passes as long as one week does: the assets downstream leave out the weeks that failed.
    """
    key = AssetKey(asset)
    specs = [
        AssetCheckSpec(name, asset=key, description=DESCRIPTIONS[name], blocking=name == blocking, partitions_def=weeks)
        for name in names
    ]

    @multi_asset_check(specs=specs, name=f"judge_{asset}", pool="database")
    @traced_step
    def checks(context: AssetCheckExecutionContext, warehouse: Warehouse) -> Iterator[AssetCheckResult]:
        op = context.op_execution_context
        passed: dict[str, list[bool]] = {name: [] for name in names}
        last: dict[str, Verdict] = {}
        for week in weeks_of(op.partition_keys):
            with span(WEEK, week_ending=week), told_by(op.run_id), warehouse.transaction() as connection:
                lock_week(connection, week)
                findings = judge(connection, week)
                verdicts = {name: _verdict(findings.filter(pl.col("check_name") == name)) for name in names}
                for name, verdict in verdicts.items():
                    _tell_failure(connection, asset, name, verdict, week, blocking=name == blocking)
            for name, verdict in verdicts.items():
                passed[name].append(verdict[0])
                last[name] = verdict
                if not op.has_partition_key:
                    # log_event takes evaluations; its annotation does not say so.
                    evaluation: Any = AssetCheckEvaluation(
                        asset_key=key,
                        check_name=name,
                        passed=verdict[0],
                        severity=verdict[1],
                        metadata=verdict[2],
                        partition=key_of(week),
                        target_materialization_data=_target(op, key, key_of(week)),
                        blocking=name == blocking,
                    )
                    op.log_event(evaluation)
        for name in names:
            if op.has_partition_key:
                good, severity, metadata = last[name]
            else:
                good = any(passed[name]) if name == blocking else all(passed[name])
                severity = last[name][1] if len(passed[name]) == 1 else AssetCheckSeverity.WARN
                metadata = {"weeks": len(passed[name]), "weeks that failed": passed[name].count(False)}
            yield AssetCheckResult(asset_key=key, check_name=name, passed=good, severity=severity, metadata=metadata)

    return checks


def _judge_volume(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    if is_kept(connection, "venue_volume", week_ending):
        findings = judge_week(connection, week_ending)
        detail = grade = grade_of_week(connection, week_ending)
    else:
        # What retention has dropped can't be judged: the grade is that of the time when it was there.
        findings = FINDING.to_frame()
        grade = grade_of_week(connection, week_ending)
        detail = f"{grade or 'no grade'}; retention has dropped the week's venue volume"
    row = {
        "week_ending": week_ending,
        "tier": "all tiers",
        "check_name": "grade",
        "passed": grade != "F",
        "severity": "error",
        "observed": None,
        "threshold": None,
        "detail": detail or "nothing is captured of this week yet",
    }
    return pl.concat([findings, pl.DataFrame([row], schema=FINDING)])


def _judge_summary(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    kept = is_kept(connection, "venue_volume", week_ending)
    found = []
    for row in summary_differences(connection, week_ending):
        of_volume = row["volume_differs"] if kept else 0
        said = f"{row['symbols']:,} symbols, {row['aggregate_differs']:,} of them other in weekly_summary_agg"
        found.append(
            {
                "week_ending": week_ending,
                "tier": row["tier"],
                "check_name": "agrees_with_aggregate",
                "passed": not row["aggregate_differs"] and not of_volume,
                "severity": "error",
                "observed": float(row["aggregate_differs"] + of_volume),
                "threshold": 0.0,
                "detail": f"{said}, {of_volume:,} other in venue_volume"
                if kept
                else f"{said}; venue_volume is dropped",
            }
        )
    return pl.DataFrame(found, schema=FINDING)


def _judge_shares(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    shares = week_rows(connection, "venue_share", [week_ending])
    before = [
        week_rows(connection, "venue_share", [earlier], tier)
        for tier in shares["tier"].unique()
        if (earlier := previous_week(connection, week_ending, tier)) is not None
    ]
    return judge_shares(shares, pl.concat(before) if before else None)


def _judge_indices(table: str) -> Judge:
    return lambda connection, week: judge_concentration(week_rows(connection, table, [week]))


def _judge_gaps(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    rows = week_rows(connection, "gap", [week_ending]).filter(pl.col("status") != kinds.PENDING)
    found = [
        {
            "week_ending": week_ending,
            "tier": row["tier"],
            "check_name": "no_gap",
            "passed": False,
            "severity": WARN,
            "observed": None,
            "threshold": None,
            "detail": f"{row['status']}: {row['detail']}",
        }
        for row in rows.iter_rows(named=True)
    ]
    return pl.DataFrame(found, schema=FINDING)


@asset_check(
    asset="gap_report",
    description="The newest week of every tier is the one that the publication calendar has as the newest.",
)
@traced_step
def newest_week(
    context: AssetCheckExecutionContext, warehouse: Warehouse, publication_source: PublicationSource
) -> AssetCheckResult:
    """Compares the newest week that stands in the table with the calendar, tier by tier."""
    now = dt.datetime.now(NEW_YORK)
    behind: Mapping[str, str] = {}
    metadata: dict[str, Any] = {}
    with warehouse.transaction() as connection:
        for tier in TIERS:
            due = newest_due(tier, now)
            newest = previous_week(connection, due + dt.timedelta(weeks=1), tier.name)
            metadata[tier.name] = f"newest {newest or 'none'}, due {due}"
            if newest != due and due >= settings().first_week:
                behind = {**behind, tier.name: f"{newest or 'none'} instead of {due}"}
    gaps = current_gaps(warehouse, publication_source.open(), now)
    open_gaps = gaps.filter(pl.col("status") != kinds.PENDING).height
    metadata["publications missing since the first week wanted"] = open_gaps
    verdict = not behind, AssetCheckSeverity.WARN, metadata
    with told_by(context.op_execution_context.run_id), warehouse.transaction() as connection:
        _tell_failure(connection, "gap_report", "newest_week", verdict, None, blocking=False)
    return AssetCheckResult(passed=verdict[0], severity=verdict[1], metadata=verdict[2])


CHECKS = [
    _weekly_checks("venue_volume", [*VOLUME_CHECKS, "grade"], _judge_volume, blocking="grade"),
    _weekly_checks("symbol_summary", ["agrees_with_aggregate"], _judge_summary),
    _weekly_checks("venue_share", ["shares_add_up", "venue_share_shift"], _judge_shares),
    _weekly_checks("symbol_concentration", ["hhi_within_bounds"], _judge_indices("symbol_concentration")),
    _weekly_checks("market_concentration", ["hhi_within_bounds"], _judge_indices("market_concentration")),
    _weekly_checks("gap_report", ["no_gap"], _judge_gaps),
    newest_week,
]
