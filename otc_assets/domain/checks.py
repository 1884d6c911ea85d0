"""The registry of asset checks, and the grade A to F that the checks of venue volume are combined into.

Every check is declared once, here: specs, grades and documentation derive from it. What a check compares is in
``quality``; gathering its evidence and reporting to Dagster is in ``otc_assets.checks``.

The score is 100 less the ``cost`` of each failed check; A from 95, B from 85, C from 70, D from 50. An error of a
``fatal`` check is F at once: the rows are not FINRA's, and nothing may be computed from them. A week of which only a
part was captured, and which is right as far as it goes, is D: what it lacks explains why its sums fall short of FINRA's
totals, and why it is not compared with the week before.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from otc_assets.domain import quality
from otc_assets.domain.enums import Grade, Severity
from otc_assets.domain.quality import Evidence, Finding, Shares
from otc_assets.domain.schema import FINDING, WEEK_QUALITY


@dataclass(frozen=True)
class Check:
    """An asset check.

    Attributes:
        name: unique within the asset.
        asset: the asset that is checked.
        description: what passes, for the check's page.
        judge: the judgement on the evidence of one (week, tier).
        severity: ERROR or WARN, unless the finding has its own.
        fatal: an error makes the grade F.
        cost: the points that a failure costs, of 100.
        blocking: a failure blocks downstream assets.
        by_week: it is recorded week by week; otherwise it is about the asset as a whole.
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


#: Every check, by asset in the order in which it is judged. Of the costs: a part of a publication, otherwise right, is
#: D, and with anything else wrong F. A doubtful week or layout alone is C. What is merely unusual is B, twice C.
CHECKS = (
    Check(
        "books_balance",
        "venue_volume",
        "Rows received = rows accepted + rows rejected, and the accepted ones are in the tables.",
        quality.books_balance,
        fatal=True,
    ),
    Check(
        "unique_keys",
        "venue_volume",
        "No two rows have the same week, tier, symbol, issue, product type and venue.",
        quality.unique_keys,
        fatal=True,
    ),
    Check(
        "plausible_values",
        "venue_volume",
        "No shares, trades or dollars are negative, or more than the whole market could trade.",
        quality.plausible_values,
        fatal=True,
    ),
    Check(
        "known_tier",
        "venue_volume",
        "Every row is of one of FINRA's three tiers.",
        quality.known_tier,
        fatal=True,
    ),
    Check(
        "week_in_calendar",
        "venue_volume",
        "No row was published before the day on which the calendar has this week's publication.",
        quality.week_in_calendar,
        cost=20,
    ),
    Check(
        "matches_finra_totals",
        "venue_volume",
        "Our sums equal FINRA's own totals by symbol and by venue, to the share.",
        quality.matches_finra_totals,
        fatal=True,
    ),
    Check(
        "complete",
        "venue_volume",
        "The publication is complete: every row that FINRA counts, ATSs and firms.",
        quality.complete,
        cost=40,
    ),
    Check(
        "none_quarantined",
        "venue_volume",
        "No capture of the week is quarantined: cut off, or lacking a large part of the one before it.",
        quality.none_quarantined,
        cost=15,
    ),
    Check(
        "few_rejected",
        "venue_volume",
        "Not more than one row in a hundred was rejected.",
        quality.few_rejected,
        cost=20,
    ),
    Check(
        "venue_identity",
        "venue_volume",
        "Every venue known from the week before by its MPID or CRD number still has one, and every ATS is still an "
        "ATS.",
        quality.venue_identity,
        fatal=True,
    ),
    Check(
        "venue_count_drop",
        "venue_volume",
        "Not more than a fifth of the venues is gone since the week before.",
        quality.venue_count_drop,
        severity=Severity.WARN,
        cost=10,
    ),
    Check(
        "volume_swing",
        "venue_volume",
        "The volume per trading day is within half of that of the week before.",
        quality.volume_swing,
        severity=Severity.WARN,
        cost=10,
    ),
    Check(
        "grade",
        "venue_volume",
        "The week's grade, the worst of its tiers'. Grade F blocks downstream assets.",
        quality.grade_is_not_f,
        blocking=True,
    ),
    Check(
        "agrees_with_aggregate",
        "symbol_summary",
        "Volume, trades and venues of each symbol are the same in weekly_summary_agg, and in the database's own sums "
        "over venue volume.",
        quality.agrees_with_aggregate,
    ),
    Check(
        "shares_add_up",
        "venue_share",
        "The venues' market shares of each tier add up to 100 %.",
        quality.shares_add_up,
    ),
    Check(
        "venue_share_shift",
        "venue_share",
        "No venue's share of a tier moved by more than ten points since the week before.",
        quality.venue_share_shift,
        severity=Severity.WARN,
    ),
    *(
        Check(
            "hhi_within_bounds",
            table,
            "Every HHI lies between 10,000 / n and 10,000, and not below its largest share squared.",
            quality.hhi_within_bounds,
        )
        for table in ("symbol_concentration", "market_concentration")
    ),
    Check(
        "no_gap",
        "gap_report",
        "The week is captured completely in every tier that is due.",
        quality.no_gap,
        severity=Severity.WARN,
    ),
    Check(
        "newest_week",
        "gap_report",
        "The newest captured week of every tier is the newest that the publication calendar has.",
        quality.newest_week,
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
        previous: the rows of the newest captured week before, or None.
    """
    return findings(
        checks_of("venue_share"),
        (
            (week, tier, Shares(rows, previous.filter(pl.col("tier") == tier) if previous is not None else None))
            for week, tier, rows in _by_tier(shares)
        ),
    )


def judge_rows(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The findings (FINDING) of checks that look at the week's rows of ``table`` alone, tier by tier."""
    return findings(checks_of(table), _by_tier(rows))


def _by_tier(rows: pl.DataFrame) -> Iterable[tuple[dt.date, str, pl.DataFrame]]:
    for (week, tier), group in rows.group_by("week_ending", "tier", maintain_order=True):
        yield week, tier, group


# --- grades --------------------------------------------------------------------------------------------

GRADES = ((Grade.A, 95), (Grade.B, 85), (Grade.C, 70), (Grade.D, 50), (Grade.F, 0))
#: Errors that say nothing against the rows that are there.
_HARMLESS = frozenset({"complete", "none_quarantined"})
#: A part of a publication, or what is merely unusual, is never F: it would block what can well be used.
LEAST_WITHOUT_ERRORS = 50


def grade(judged: pl.DataFrame) -> pl.DataFrame:
    """The grades (WEEK_QUALITY) that findings on venue volume are combined into, one per (week_ending, tier)."""
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
    """The worst of the tiers' grades: the week's; None where there is none."""
    return max(grades, default=None)
