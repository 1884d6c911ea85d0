"""The registry of asset checks, and the grade A to F that the checks of venue volume are combined into.

Every check is declared once, here: specs, grades and documentation derive from it. What a check compares is in
``quality``; gathering its evidence is in ``pipeline.checks``, and reporting to Dagster in ``defs.checks``.

The score is 100 minus the ``cost`` of each failed check; A from 95, B from 85, C from 70, D from 50. An error of a
``fatal`` check is grade F: the rows differ from FINRA's, and nothing may be computed from them. A correct part of a
publication is D: the missing rows explain why its sums are below FINRA's totals, and why it is not compared with the
week before.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from otc_assets.domain.datasets import ATS_BLOCKS, DATASETS, MONTHLY_SUMMARY, OTC_BLOCKS, REG_SHO_DAILY, SHORT_INTEREST
from otc_assets.domain.enums import Grade, Severity
from otc_assets.domain.quality import comparisons, datasets, exports, figures, report, volume
from otc_assets.domain.quality.evidence import Evidence, Finding, Shares
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.schema import FINDING, WEEK_QUALITY


@dataclass(frozen=True)
class Check:
    """An asset check.

    Attributes:
        name: unique within the asset.
        asset: the asset that is checked.
        description: what passes, for the check's page.
        judge: the function that judges the evidence of one (week, tier).
        severity: the severity of a failure, unless the finding has its own.
        fatal: an error makes the grade F.
        cost: the points that a failure costs, of 100.
        blocking: a failure blocks downstream assets.
        by_week: results are recorded week by week; otherwise the check is about the asset as a whole.
    """

    name: str
    asset: str
    description: str
    judge: Callable[[Any], Finding]
    severity: Severity = Severity.ERROR
    fatal: bool = False
    cost: int = 0
    blocking: bool = False
    by_week: bool = True


#: The asset of the exported files, which are no table.
EXPORT = "parquet_export"

#: Every check, by asset in the order in which it is judged. By the costs, a correct part of a publication is D, and
#: with any other failure F. A doubtful week or layout alone is C. One unusual value is B, two are C.
CHECKS = (
    Check(
        "rows_reconciled",
        "venue_volume",
        "Rows received = rows accepted + rows rejected, and the accepted rows are in the tables.",
        volume.rows_reconciled,
        fatal=True,
    ),
    Check(
        "unique_keys",
        "venue_volume",
        "No two rows have the same week, tier, symbol, issue, product type and venue.",
        volume.unique_keys,
        fatal=True,
    ),
    Check(
        "plausible_values",
        "venue_volume",
        "No shares, trades or dollars are negative, or more than the whole market could trade.",
        volume.plausible_values,
        fatal=True,
    ),
    Check(
        "known_tier",
        "venue_volume",
        "Every row is of one of FINRA's three tiers.",
        volume.known_tier,
        fatal=True,
    ),
    Check(
        "week_in_calendar",
        "venue_volume",
        "No row was published before the publication day of this week.",
        volume.week_in_calendar,
        cost=20,
    ),
    Check(
        "matches_finra_totals",
        "venue_volume",
        "Our sums equal FINRA's own totals by symbol and by venue, to the share.",
        volume.matches_finra_totals,
        fatal=True,
    ),
    Check(
        "complete",
        "venue_volume",
        "The publication is complete: every row that FINRA counts, ATSs and firms.",
        volume.complete,
        cost=40,
    ),
    Check(
        "none_quarantined",
        "venue_volume",
        "No capture of the week is quarantined because it was truncated or would remove a large part of the week.",
        volume.none_quarantined,
        cost=15,
    ),
    Check(
        "rejection_rate",
        "venue_volume",
        "At most one row in a hundred was rejected.",
        volume.rejection_rate,
        cost=20,
    ),
    Check(
        "venue_identity",
        "venue_volume",
        "Every venue known from the week before by its MPID or CRD number still has one, and every ATS is still an "
        "ATS.",
        comparisons.venue_identity,
        fatal=True,
    ),
    Check(
        "venue_count_drop",
        "venue_volume",
        "At most a fifth of the venues of the week before are missing.",
        comparisons.venue_count_drop,
        severity=Severity.WARN,
        cost=10,
    ),
    Check(
        "volume_swing",
        "venue_volume",
        "The volume per trading day is within half of that of the week before.",
        comparisons.volume_swing,
        severity=Severity.WARN,
        cost=10,
    ),
    Check(
        "grade",
        "venue_volume",
        "The week's grade, the worst of its tiers'. Grade F blocks downstream assets.",
        figures.grade_is_not_f,
        blocking=True,
    ),
    Check(
        "agrees_with_aggregate",
        "symbol_summary",
        "Volume, trades and venues of each symbol are the same in weekly_summary_agg, and in the database's own sums "
        "over venue volume.",
        figures.agrees_with_aggregate,
    ),
    Check(
        "shares_sum_to_100",
        "venue_share",
        "The venues' market shares of each tier sum to 100 %.",
        figures.shares_sum_to_100,
    ),
    Check(
        "notional_shares_sum_to_100",
        "venue_share",
        "The venues' shares of each tier's value sum to 100 %, or are null if a venue has no value.",
        figures.notional_shares_sum_to_100,
    ),
    Check(
        "venue_share_shift",
        "venue_share",
        "No venue's share of a tier moved by more than ten points since the week before.",
        comparisons.venue_share_shift,
        severity=Severity.WARN,
    ),
    Check(
        "same_symbols_as_summary",
        "symbol",
        "Every symbol of the tier's summaries has one row, under the same issue name.",
        figures.same_symbols_as_summary,
    ),
    Check(
        "same_venues_as_shares",
        "venue",
        "Every venue of the week's shares has one row, and the venues of an identity are of one kind.",
        figures.same_venues_as_shares,
    ),
    Check(
        "successions_reviewed",
        "venue_succession",
        "Every succession of venues that was found is confirmed or refused in the reviewed file.",
        figures.successions_reviewed,
        severity=Severity.WARN,
    ),
    Check(
        "shifts_sum_to_zero",
        "week_changes",
        "What venues won of a tier's volume, others lost: the changes of share of each tier sum to zero.",
        figures.shifts_sum_to_zero,
    ),
    Check(
        "tiers_sum_to_all",
        "symbol_rolling",
        "The week's volume and trades of the rows over all tiers are the sums of the tiers'.",
        figures.tiers_sum_to_all,
    ),
    Check(
        "same_volume_as_shares",
        "venue_rolling",
        "The week's volume of all venues of a tier is that of the tier's shares: no succession adds or loses any.",
        figures.same_volume_as_shares,
    ),
    Check(
        "role_shares_sum_to_100",
        "role_share",
        "The roles' shares sum to 100 % of each tier, of its ATSs and of its other firms, in volume and in value.",
        figures.role_shares_sum_to_100,
    ),
    *(
        Check(
            "hhi_within_bounds",
            table,
            "Every HHI is between 10,000 / n and 10,000, and not below the square of the largest share. Its lower "
            "bound is not above it, and equal to it for ATSs. The same in shares and in value.",
            figures.hhi_within_bounds,
        )
        for table in ("symbol_concentration", "market_concentration")
    ),
    Check(
        "no_gap",
        "gap_report",
        "The week is captured completely in every tier that is due.",
        figures.no_gap,
        severity=Severity.WARN,
    ),
    *(
        check
        for dataset in DATASETS
        for check in (
            Check(
                "periods_captured",
                dataset.table,
                "Every period of the week that is due is captured.",
                datasets.periods_captured,
                severity=Severity.WARN,
            ),
            Check(
                "rows_reconciled",
                dataset.table,
                "Every row that FINRA states was received, and every accepted one is in the table.",
                datasets.period_rows_reconciled,
            ),
            Check(
                "rejection_rate",
                dataset.table,
                "At most one row in a hundred was rejected.",
                datasets.period_rejection_rate,
                severity=Severity.WARN,
            ),
        )
    ),
    Check(
        "short_within_total",
        REG_SHO_DAILY.table,
        "No row has more short volume than volume, or more exempt than short volume.",
        datasets.short_within_total,
        severity=Severity.WARN,
    ),
    Check(
        "change_agrees",
        SHORT_INTEREST.table,
        "FINRA's change of every position is the difference of the two positions, except where there was a split.",
        datasets.change_agrees,
        severity=Severity.WARN,
    ),
    Check(
        "share_within_100",
        "off_exchange_share",
        f"At most one in twenty symbols with at least {datasets.JUDGED_FROM_SHARES:,} shares has an estimated share "
        "above 100 %.",
        datasets.share_within_100,
        severity=Severity.WARN,
    ),
    Check(
        "stays_within_week",
        "threshold_stay",
        "Every security is listed on at least one day of the week, and on no more days than are captured.",
        datasets.stays_within_week,
    ),
    *(
        Check(
            "blocks_within_total",
            dataset.table,
            "No row has more blocks than trades, or more shares in blocks than shares.",
            datasets.blocks_within_total,
            severity=Severity.WARN,
        )
        for dataset in (ATS_BLOCKS, OTC_BLOCKS)
    ),
    Check(
        "month_within_weeks",
        "block_share",
        "Once the weeks of the month are published: FINRA's volume of every ATS in the month is at least that of the "
        "weeks that lie in it, and at most that of the weeks that touch it.",
        datasets.month_within_weeks,
        severity=Severity.WARN,
    ),
    Check(
        "month_totals_agree",
        MONTHLY_SUMMARY.table,
        "FINRA's totals of every symbol, every firm and the market are the sums of its rows by symbol and firm.",
        datasets.month_totals_agree,
    ),
    Check(
        "month_covers_weeks",
        "firm_month",
        "Once the weeks of the month are published: FINRA's volume of every firm in the month is at least that of the "
        "weeks that lie in it.",
        datasets.month_covers_weeks,
        severity=Severity.WARN,
    ),
    Check(
        "estimate_error",
        "volume_estimate",
        f"Once the week's volume is published: the median error of the estimates of at least "
        f"{datasets.JUDGED_FROM_SHARES:,} shares is at most {datasets.MEDIAN_ERROR_PCT:.0f} %.",
        datasets.estimate_error,
        severity=Severity.WARN,
    ),
    Check(
        "files_match_manifest",
        EXPORT,
        "Each file of the week is there, with the digest that the manifest has.",
        exports.files_match_manifest,
    ),
    Check(
        "rows_match_tables",
        EXPORT,
        "Each file, read back, has as many rows as its table. Files that are older than the table, and weeks that "
        "retention has deleted, are left out.",
        exports.rows_match_tables,
    ),
    Check(
        "totals_match_summaries",
        WEEKLY_REPORT.name,
        "The totals on the page equal the sums of symbol_summary by the database, to the share.",
        report.totals_match_summaries,
    ),
    Check(
        "sections_present",
        WEEKLY_REPORT.name,
        "Every section is on the page, once and in order.",
        report.sections_present,
    ),
    Check(
        "page_complete",
        WEEKLY_REPORT.name,
        "The page is complete HTML, and loads nothing from elsewhere.",
        report.page_complete,
    ),
    Check(
        "newest_week",
        "gap_report",
        "The newest captured week of every tier is the newest that is due by the publication calendar, or was captured "
        "within the last hour: newer weeks may still be loading.",
        figures.newest_week,
        severity=Severity.WARN,
        by_week=False,
    ),
)


def checks_of(asset: str) -> tuple[Check, ...]:
    """The checks of an asset, in the order in which they are judged."""
    return tuple(check for check in CHECKS if check.asset == asset)


#: The checks that a grade is combined from.
GRADED = tuple(check for check in CHECKS if check.fatal or check.cost)
#: The check of the grade itself.
(GRADE,) = (check for check in CHECKS if check.blocking)
#: The check that is not recorded by week.
(NEWEST_WEEK,) = (check for check in CHECKS if not check.by_week)


def findings(checks: Sequence[Check], evidence: Iterable[tuple[dt.date, str, Any]]) -> pl.DataFrame:
    """The findings (FINDING) of ``checks`` on each (week_ending, tier, evidence), in that order."""
    rows = []
    for week_ending, tier, judged in evidence:
        for check in checks:
            finding = check.judge(judged)
            rows.append(
                {
                    "week_ending": week_ending,
                    "tier": tier,
                    "check_name": check.name,
                    **vars(finding),
                    "severity": finding.severity or check.severity,
                }
            )
    return pl.DataFrame(rows, schema=FINDING)


def judge_volume(evidence: Evidence) -> pl.DataFrame:
    """The findings (FINDING) on a (week, tier) of venue volume, one per check that is graded."""
    return findings(GRADED, [(evidence.week_ending, evidence.tier.name, evidence)])


def judge_shares(shares: pl.DataFrame, previous: pl.DataFrame | None) -> pl.DataFrame:
    """The findings (FINDING) on a week of VENUE_SHARE, tier by tier.

    Args:
        shares: the week's rows.
        previous: the rows of the newest captured week before it, or None.
    """
    return findings(
        checks_of("venue_share"),
        (
            (week, tier, Shares(rows, previous.filter(pl.col("tier") == tier) if previous is not None else None))
            for week, tier, rows in _by_tier(shares)
        ),
    )


def judge_rows(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The findings (FINDING) of checks that need only the week's rows of ``table``, tier by tier."""
    return findings(checks_of(table), _by_tier(rows))


def _by_tier(rows: pl.DataFrame) -> Iterable[tuple[dt.date, str, pl.DataFrame]]:
    for (week, tier), group in rows.group_by("week_ending", "tier", maintain_order=True):
        yield week, tier, group


# --- grades --------------------------------------------------------------------------------------------

GRADES = ((Grade.A, 95), (Grade.B, 85), (Grade.C, 70), (Grade.D, 50), (Grade.F, 0))
#: Errors that do not question the captured rows.
_HARMLESS = frozenset({"complete", "none_quarantined"})
#: A part of a publication, or an unusual value, is never F: it would block usable data.
LEAST_WITHOUT_ERRORS = 50


def grade(judged: pl.DataFrame) -> pl.DataFrame:
    """Combines findings on venue volume into grades (WEEK_QUALITY), one per (week_ending, tier)."""
    cost = {check.name: check.cost for check in GRADED}
    fatal = {check.name for check in GRADED if check.fatal}
    grades = []
    for week, tier, group in _by_tier(judged):
        failed = group.filter(~pl.col("passed"))
        score = max(0, 100 - sum(cost.get(name, 0) for name in failed["check_name"]))
        errors = set(failed.filter(pl.col("severity") == Severity.ERROR)["check_name"])
        if not errors - _HARMLESS:
            score = max(score, LEAST_WITHOUT_ERRORS)
        letter = next(letter for letter, least in GRADES if score >= least)
        if fatal & errors:
            letter, score = Grade.F, 0
        shown = failed.select("check_name", "severity", "observed", "threshold", "detail").to_dicts()
        grades.append(
            {
                "week_ending": week,
                "tier": tier,
                "grade": letter,
                "score": score,
                "findings": json.dumps(shown),
            }
        )
    return pl.DataFrame(grades, schema=WEEK_QUALITY)


def worst(grades: Sequence[str]) -> str | None:
    """The week's grade: the worst of the tiers' grades; None where there is none."""
    return max(grades, default=None)
