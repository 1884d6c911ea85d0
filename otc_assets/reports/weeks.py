"""The state of weeks: rows and grades, what is stale, gaps, and what the tables occupy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.checks import worst
from otc_assets.domain.enums import CaptureStatus, GapStatus
from otc_assets.domain.gaps import NEVER_REQUESTED, ranges_and_history, status_of_missing, was_never_requested
from otc_assets.domain.revisions import effective
from otc_assets.domain.tables import in_order
from otc_assets.domain.weeks import TIERS, Tier, newest_weeks
from otc_assets.finra.source import Source
from otc_assets.pipeline.captures import states
from otc_assets.pipeline.datasets import current_dataset_gaps
from otc_assets.pipeline.gaps import current_gaps
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import by_week_and_tier, first_captured, publications
from otc_assets.warehouse.retention import kept_tables
from otc_assets.warehouse.timescale.hypertables import chunks, sizes

_BY_WEEK = sa.text("""
    SELECT week_ending, tier, count(*) AS rows, sum(share_volume) AS shares FROM otc.venue_volume
    WHERE week_ending BETWEEN :first AND :last GROUP BY week_ending, tier
""")
_GRADES = sa.text("SELECT week_ending, tier, grade FROM otc.week_quality WHERE week_ending BETWEEN :first AND :last")


def week_status(database: Database, count: int, first_week: dt.date, now: dt.datetime) -> list[dict[str, Any]]:
    """The newest weeks, newest last: by tier rows or a state; then rows, grade, shares, and what is stale.

    The state of a tier without rows is 'dropped' by retention, 'captured' and not computed yet (again, after
    retention was raised), 'never_requested', or the status of a gap.
    """
    weeks = newest_weeks(count, first_week, now)
    if not weeks:
        return []
    span = {"first": weeks[0], "last": weeks[-1]}
    with database.transaction() as connection:
        loaded = {(row.week_ending, row.tier): row for row in connection.execute(_BY_WEEK, span)}
        grades: dict[dt.date, list[str]] = {}
        for week, _, grade in connection.execute(_GRADES, span):
            grades.setdefault(week, []).append(grade)
        known = lineage(connection)
        recorded = by_week_and_tier(publications(connection, weeks[0], weeks[-1]))
        first = first_captured(connection)
    captured = {key for key, group in recorded.items() if effective(group).captures}
    remarks = _remarks(recorded)
    stale = {table: set(known.stale(table)) for table in in_order()}
    newest = {tier.name: max((week for week, name in captured if name == tier.name), default=None) for tier in TIERS}

    def of_tier(week: dt.date, tier: Tier) -> int | str:
        if part := loaded.get((week, tier.name)):
            return int(part.rows)
        if known.kept_from and week < known.kept_from:
            return "dropped"
        if (week, tier.name) in captured:
            return "captured"
        status = status_of_missing(week, tier, newest[tier.name], now)
        return NEVER_REQUESTED if was_never_requested(week, tier.name, status, first) else status

    def state(week: dt.date) -> str:
        if week in known.blocked:
            return "blocked"
        tables = [table for table, found in stale.items() if week in found]
        return f"stale: {', '.join(tables)}" if tables else ""

    rows = []
    for week in weeks:
        parts = [part for tier in TIERS if (part := loaded.get((week, tier.name)))]
        rows.append(
            {
                "week_ending": week,
                **{tier.id: of_tier(week, tier) for tier in TIERS},
                "rows": sum(part.rows for part in parts),
                "grade": worst(grades.get(week, [])),
                "shares": int(sum(part.shares for part in parts)),
                "state": "; ".join(filter(None, [state(week), *remarks.get(week, [])])),
            }
        )
    return rows


def _remarks(recorded: Mapping[tuple[dt.date, str], list[Publication]]) -> dict[dt.date, list[str]]:
    """By week, the captures that a user must know of: quarantined ones, and a newest one that is not effective."""
    remarks: dict[dt.date, list[str]] = {}
    for (week, _), group in sorted(recorded.items()):
        of_group = states(group)
        newest = max(of_group)
        remarks.setdefault(week, []).extend(
            f"capture {number} {status}"
            for number, status in of_group.items()
            if status == CaptureStatus.QUARANTINED or (number == newest and status != CaptureStatus.EFFECTIVE)
        )
    return remarks


def storage_by_table(database: Database) -> list[dict[str, Any]]:
    """The tables that grow by week, largest first: size, chunks, compressed chunks and their ratio, kept_from."""
    with database.transaction() as connection:

        def rows(query: str) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(sa.text(query)).mappings()]

        first = {table: week for _, tables, week in kept_tables(connection) for table in tables}
        chunked = {found.table: found for found in chunks(rows)}
        on_disk = sizes(rows)
    return [
        {
            "table": table,
            "size_mb": round(size / 1e6, 1),
            "chunks": found.chunks if (found := chunked.get(table)) else None,
            "compressed": found.compressed_chunks if found else None,
            "ratio": round(found.ratio, 1) if found and found.ratio else None,
            "kept_from": first.get(table),
        }
        for table, size in on_disk.items()
    ]


def gap_ranges(
    database: Database, source: Source, first_week: dt.date, now: dt.datetime, *, with_pending: bool
) -> list[dict[str, Any]]:
    """The gaps at this moment, consecutive weeks folded into one row; history that was never requested comes first."""
    found = current_gaps(database, source, first_week, now)
    if not with_pending:
        found = found.filter(pl.col("status") != GapStatus.PENDING)
    with database.transaction() as connection:
        first = first_captured(connection)
    return ranges_and_history(found, first).to_dicts()


def dataset_gap_ranges(
    database: Database, source: Source, now: dt.datetime, *, with_pending: bool
) -> list[dict[str, Any]]:
    """The gaps of the other data sets at this moment: one row per week, data set and status."""
    found = current_dataset_gaps(database, source, now)
    if not with_pending:
        found = found.filter(pl.col("status") != GapStatus.PENDING)
    return [
        {
            "first_week": week,
            "last_week": week,
            "weeks": 1,
            "tier": dataset,
            "status": status,
            "fetchable": fetchable,
            "detail": "not captured: " + ", ".join(map(str, rows["period"])),
        }
        for (week, dataset, status, fetchable), rows in found.group_by(
            "week_ending", "dataset", "status", "fetchable", maintain_order=True
        )
    ]
