"""Judges the checks of a week or of all data: gathers the evidence, and records failures and recoveries as events.

How evidence is judged is in ``domain.checks``, where all checks are declared; the grade of a week is in ``grading``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets import report
from otc_assets.archive.store import Archive
from otc_assets.domain.checks import EXPORT, GRADE, NEWEST_WEEK, Check, checks_of, findings, judge_rows, judge_shares
from otc_assets.domain.datasets import DATASETS, Dataset
from otc_assets.domain.enums import GapStatus, Severity
from otc_assets.domain.estimates import ESTIMATES
from otc_assets.domain.gaps import split_history
from otc_assets.domain.quality.datasets import Periods
from otc_assets.domain.quality.evidence import Compared, Graded, Newest
from otc_assets.domain.quality.report import ReportPage
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.schema import FINDING
from otc_assets.domain.weeks import TIERS, newest_due
from otc_assets.finra.source import Source
from otc_assets.pipeline.export import Target, exported_files
from otc_assets.pipeline.gaps import current_gaps
from otc_assets.pipeline.grading import grade_of_week, judge_week
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.datasets import newest_captures, stored_rows
from otc_assets.warehouse.events import CheckFailed, CheckRecovered, append, last_types
from otc_assets.warehouse.read import (
    computed_version,
    first_captured,
    previous_week,
    summary_differences,
    summary_totals,
    was_captured_within,
    week_rows,
)
from otc_assets.warehouse.retention import is_kept
from otc_assets.warehouse.server import lock_week

_IS_PENDING = pl.col("status") == GapStatus.PENDING

#: For this long after a week was captured, newer ones may still be loading.
_LOADING_FOR = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Verdict:
    """The result of one check, for one week or for all data.

    Attributes:
        check: the check.
        passed: whether it passed.
        serious: whether a failure counts as an error; otherwise it is a warning.
        details: by label, what was found.
    """

    check: Check
    passed: bool
    serious: bool
    details: dict[str, Any]


def weekly_checks_of(asset: str) -> list[Check]:
    """The checks of an asset that judge one week at a time."""
    return [check for check in checks_of(asset) if check.by_week]


def judge_checks(
    database: Database,
    asset: str,
    week_ending: dt.date,
    only: Collection[str] | None = None,
    *,
    exports: Target | None = None,
    archive: Archive | None = None,
) -> list[Verdict]:
    """Judges the weekly checks of an asset for one week, and records failures and recoveries as events.

    Args:
        database: the installation's.
        asset: the asset.
        week_ending: the week.
        only: the names of the checks; None for all.
        exports: the exported data set, for the checks of its files.
        archive: where the pages of reports are, for the checks of a report.
    """
    judge = _JUDGES.get(asset) or (lambda connection, week: judge_rows(asset, week_rows(connection, asset, [week])))
    if asset == EXPORT:
        assert exports is not None, "the checks of the export need its files"
        files = exported_files(database, exports, week_ending)
        judge = lambda _, week: findings(checks_of(asset), [(week, "all tables", files)])  # noqa: E731
    if asset == WEEKLY_REPORT.name:
        assert archive is not None, "the page of a report is in the archive"
        judge = partial(_judge_report, report.find(archive, week_ending))
    with database.transaction() as connection:
        lock_week(connection, week_ending)
        judged = judge(connection, week_ending)
        verdicts = [
            _verdict(check, judged.filter(pl.col("check_name") == check.name))
            for check in weekly_checks_of(asset)
            if only is None or check.name in only
        ]
        _record(connection, verdicts, week_ending)
    return verdicts


def judge_newest_week(database: Database, source: Source, first_week: dt.date, now: dt.datetime) -> Verdict:
    """Compares the newest captured week with the calendar, tier by tier, and records a failure as an event."""
    newest = []
    with database.transaction() as connection:
        for tier in TIERS:
            due = newest_due(tier, now)
            week = previous_week(connection, due + dt.timedelta(weeks=1), tier.name)
            is_recent = week is not None and was_captured_within(connection, week, tier.name, _LOADING_FOR)
            newest.append((due, tier.name, Newest(week, due, first_week, is_recent)))
        first = first_captured(connection)
    verdict = _verdict(NEWEST_WEEK, findings([NEWEST_WEEK], newest))
    _, gaps = split_history(current_gaps(database, source, first_week, now), first)
    verdict.details["publications not captured since the first captured week"] = gaps.filter(~_IS_PENDING).height
    with database.transaction() as connection:
        _record(connection, [verdict], None)
    return verdict


def _verdict(check: Check, found: pl.DataFrame) -> Verdict:
    """One check of one week, from a finding per tier."""
    failed = found.filter(~pl.col("passed"))
    details: dict[str, Any] = {}
    for row in found.iter_rows(named=True):
        details[row["tier"]] = row["detail"]
        if row["observed"] is not None:
            details[f"{row['tier']} observed"] = row["observed"]
    return Verdict(check, not failed.height, bool((failed["severity"] != Severity.WARN).any()), details)


def _record(connection: sa.Connection, verdicts: Sequence[Verdict], week_ending: dt.date | None) -> None:
    """Appends an event for each check that failed, and for each that passed after it had failed."""
    recoveries = {
        verdict.check: CheckRecovered(week_ending=week_ending, asset=verdict.check.asset, check=verdict.check.name)
        for verdict in verdicts
        if verdict.passed
    }
    before = last_types(connection, "check", [recovery.aggregate_id for recovery in recoveries.values()])
    for verdict in verdicts:
        if not verdict.passed:
            append(
                connection,
                CheckFailed(
                    week_ending=week_ending,
                    asset=verdict.check.asset,
                    check=verdict.check.name,
                    severity="ERROR" if verdict.serious else "WARN",
                    blocking=verdict.check.blocking,
                    detail={name: str(value) for name, value in verdict.details.items()},
                ),
            )
        elif before.get(recoveries[verdict.check].aggregate_id) == CheckFailed.event_type:
            append(connection, recoveries[verdict.check])


def _judge_volume(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    # Dropped rows can't be judged: the week keeps the grade of the time when they were stored.
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


def _judge_with_source(asset: str, source: str, connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    """Judges the rows of each tier together with those of the source."""
    rows, theirs = (week_rows(connection, table, [week_ending]) for table in (asset, source))
    tiers = sorted(set(theirs["tier"]) | set(rows["tier"]))
    is_tier = pl.col("tier")
    return findings(
        checks_of(asset),
        [(week_ending, t, Compared(rows.filter(is_tier == t), theirs.filter(is_tier == t))) for t in tiers],
    )


def _judge_venues(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    rows, shares = (week_rows(connection, table, [week_ending]) for table in ("venue", "venue_share"))
    return findings(checks_of("venue"), [(week_ending, "all tiers", Compared(rows, shares))])


def _judge_whole(asset: str, of: str, connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    """Judges all rows of the week together, under the label ``of``."""
    return findings(checks_of(asset), [(week_ending, of, week_rows(connection, asset, [week_ending]))])


def _judge_gaps(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    rows = week_rows(connection, "gap", [week_ending]).filter(~_IS_PENDING)
    return findings(
        weekly_checks_of("gap_report"), [(week_ending, row["tier"], row) for row in rows.iter_rows(named=True)]
    )


def _judge_report(page: report.Report | None, connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    is_computed = computed_version(connection, "symbol_summary", week_ending) is not None
    sums = summary_totals(connection, week_ending) if is_computed else None
    evidence = ReportPage(page.html.decode() if page else None, sums)
    return findings(checks_of(WEEKLY_REPORT.name), [(week_ending, "page", evidence)])


def _judge_dataset(dataset: Dataset, connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    captures = newest_captures(connection, [dataset], week_ending, week_ending)
    gaps = week_rows(connection, "dataset_gap", [week_ending]).filter(
        (pl.col("dataset") == dataset.name) & ~_IS_PENDING
    )
    stored, contradictory = stored_rows(connection, dataset, week_ending)
    evidence = Periods(
        captured=len(captures),
        missing=tuple(gaps["period"].sort()),
        rows_expected=sum(capture["rows_expected"] for capture in captures),
        rows_received=sum(capture["rows_received"] for capture in captures),
        rows_accepted=sum(capture["rows_accepted"] for capture in captures),
        rows_stored=stored,
        contradictory=contradictory,
        dropped=not is_kept(connection, dataset.retention, week_ending),
    )
    return findings(checks_of(dataset.table), [(week_ending, dataset.name, evidence)])


#: By asset, how to judge the checks that need more evidence than the rows of the asset's table.
_JUDGES: dict[str, Callable[[sa.Connection, dt.date], pl.DataFrame]] = {
    "venue_volume": _judge_volume,
    "symbol_summary": _judge_summary,
    "venue_share": _judge_shares,
    "symbol": partial(_judge_with_source, "symbol", "symbol_summary"),
    "venue": _judge_venues,
    "venue_succession": partial(_judge_whole, "venue_succession", "all tiers"),
    "symbol_rolling": partial(_judge_whole, "symbol_rolling", "all tiers"),
    "venue_rolling": partial(_judge_with_source, "venue_rolling", "venue_share"),
    "gap_report": _judge_gaps,
    **{dataset.table: partial(_judge_dataset, dataset) for dataset in DATASETS},
    **{estimate.name: partial(_judge_whole, estimate.name, "all symbols") for estimate in ESTIMATES},
}
