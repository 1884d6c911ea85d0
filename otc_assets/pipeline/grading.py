"""The grade of a week: judged when venue volume was computed, and again whenever it has changed.

Gathers the evidence and saves the grade. How a week is judged is in ``domain.checks``; reporting to Dagster is in
``defs.checks``.
"""

from __future__ import annotations

import datetime as dt

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.checks import grade, judge_volume, worst
from otc_assets.domain.normalize import PUBLISHED_TWICE
from otc_assets.domain.quality.evidence import Evidence
from otc_assets.domain.schema import FINDING
from otc_assets.domain.weeks import TIER_BY_NAME
from otc_assets.warehouse.load import delete_quality, save_quality
from otc_assets.warehouse.read import (
    computed_version,
    effective_publications,
    previous_week,
    quality,
    rejected_for,
    week_rows,
)

#: The columns of the week before that are compared with those of the week.
_OF_PREVIOUS = ("week_ending", "tier", "venue_kind", "venue_id", "venue_name", "share_volume")


def judge_week(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    """Judges the week's venue volume, tier by tier, and saves the grades with an event. Returns FINDING."""
    judged = week_findings(connection, week_ending)
    version = computed_version(connection, "venue_volume", week_ending)
    if version is not None:
        save_quality(connection, grade(judged), version)
    return judged


def week_findings(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    """The findings (FINDING) of the week, tier by tier. Deletes the grades of tiers without effective captures."""
    findings = [FINDING.to_frame()]
    for (_, tier), found in sorted(effective_publications(connection, week_ending, week_ending).items()):
        captures = found.captures
        if not captures:
            delete_quality(connection, week_ending, tier)
            continue
        before = previous_week(connection, week_ending, tier)
        whole = found.publication
        findings.append(
            judge_volume(
                Evidence(
                    week_ending=week_ending,
                    tier=TIER_BY_NAME[tier],
                    volume=week_rows(connection, "venue_volume", [week_ending], tier),
                    totals=week_rows(connection, "published_total", [week_ending], tier),
                    rows_received=sum(p.rows_received for p in captures),
                    rows_accepted=sum(p.rows_accepted for p in captures),
                    rows_rejected=sum(p.rows_rejected for p in captures),
                    rows_published_twice=rejected_for(connection, [p.id for p in captures], PUBLISHED_TWICE),
                    rows_expected=whole.rows_expected if whole else None,
                    rows_in_use=sum(p.rows_in_use or 0 for p in captures),
                    quarantined=tuple((p.id, p.quarantine_reason or "") for p in found.quarantined),
                    covered_kinds=found.covered_kinds,
                    complete=found.complete,
                    previous=week_rows(connection, "venue_volume", [before], tier, _OF_PREVIOUS) if before else None,
                )
            )
        )
    return pl.concat(findings)


def grade_of_week(connection: sa.Connection, week_ending: dt.date) -> str | None:
    """The week's grade, the worst of its tiers'; None where nothing is there to be graded.

    If the grade is that of an earlier version of the week, the week is graded again.
    """
    version = computed_version(connection, "venue_volume", week_ending)
    grades = quality(connection, week_ending)
    if version and (not grades or any(row["version"] != version for row in grades)):
        judge_week(connection, week_ending)
        grades = quality(connection, week_ending)
    return worst([row["grade"] for row in grades])
