"""Which expected publications are missing, late, incomplete, empty, or not due yet.

Expected is what the publication calendar says, tier by tier, from the first week wanted to the newest that
has ended. Here: telling the kinds of gaps apart. Not here: asking FINRA or the warehouse.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import polars as pl

from otc_assets.domain.schema import GAP
from otc_assets.domain.weeks import (
    NEW_YORK,
    TIERS,
    Tier,
    due_at,
    publication_date,
    week_containing,
    weeks_between,
)

PENDING, LATE, MISSING_INSIDE = "pending", "late", "missing_inside"
MISSING_AT_END, INCOMPLETE, EMPTY = "missing_at_end", "incomplete", "empty"
COMPLETE = "complete"

#: For so long after its day a publication is late; after that it is missing.
LATE_FOR = dt.timedelta(days=7)

#: FINRA states that it offers a rolling twelve months, and four years more as history.
STATED_WINDOW = dt.timedelta(days=5 * 365)


def coverage(
    captured: pl.DataFrame,
    offered: set[tuple[dt.date, str]] | None,
    *,
    first_week: dt.date,
    now: dt.datetime,
    retained_from: dt.date | None = None,
    tiers: Iterable[Tier] = TIERS,
) -> pl.DataFrame:
    """Every expected publication with its state, GAP's columns, newest week last.

    Args:
        captured: columns `week_ending`, `tier`, `rows_loaded`, `rows_expected`, `complete`.
        offered: the (week_ending, tier name) that can be fetched now; None where nobody could be asked:
            then FINRA's stated window decides.
        first_week: the first week wanted.
        now: the moment of judging, with a time zone.
        retained_from: weeks before it were dropped by retention: they are no gaps.
        tiers: the tiers that are wanted.

    Returns:
        A row a (week_ending, tier): `status` is one of the six kinds of gap, or 'complete'.
    """
    today = now.astimezone(NEW_YORK).date()
    newest_ended = week_containing(today) if today.weekday() >= 5 else week_containing(today) - dt.timedelta(weeks=1)
    first = max(first_week, retained_from) if retained_from else first_week
    have = {(row["week_ending"], row["tier"]): row for row in captured.iter_rows(named=True)}
    rows = []
    for tier in tiers:
        last_captured = max((w for (w, t), row in have.items() if t == tier.name and row["rows_loaded"]), default=None)
        for week in weeks_between(first, newest_ended) if first <= newest_ended else []:
            due = publication_date(week, tier)
            row = have.get((week, tier.name))
            status, detail = _status(week, tier, row, last_captured, now)
            if offered is None:
                fetchable = today - STATED_WINDOW <= week and now >= due_at(week, tier)
            else:
                fetchable = (week, tier.name) in offered
            if status not in (PENDING, COMPLETE) and not fetchable:
                detail += (
                    "; FINRA offers it no more"
                    if now >= due_at(week, tier) + LATE_FOR
                    else "; FINRA does not offer it yet"
                )
            rows.append(
                {
                    "week_ending": week,
                    "tier": tier.name,
                    "status": status,
                    "due": due,
                    "fetchable": fetchable,
                    "rows_loaded": row["rows_loaded"] if row else 0,
                    "rows_expected": row["rows_expected"] if row else None,
                    "detail": detail,
                }
            )
    return pl.DataFrame(rows, schema=GAP).sort("week_ending", "tier")


def _status(
    week: dt.date, tier: Tier, row: dict[str, object] | None, last_captured: dt.date | None, now: dt.datetime
) -> tuple[str, str]:
    due = due_at(week, tier)
    if row is not None and not row["rows_loaded"]:
        return EMPTY, "what came had no row that could be accepted"
    if row is not None and not row["complete"]:
        expected = row["rows_expected"]
        stated = f" of {expected:,}" if expected is not None else ""
        return (
            INCOMPLETE,
            f"{row['rows_loaded']:,} rows{stated} are loaded: only a part of the publication came",
        )
    if row is not None:
        return COMPLETE, ""
    if now < due:
        return PENDING, f"FINRA publishes it on {due:%A, %Y-%m-%d}"
    if last_captured is not None and week < last_captured:
        return MISSING_INSIDE, "later weeks of the tier are there"
    if now < due + LATE_FOR:
        return LATE, f"it was due on {due:%A, %Y-%m-%d}"
    return MISSING_AT_END, f"it was due on {due:%A, %Y-%m-%d}, and no later week of the tier is there"


def classify(
    captured: pl.DataFrame,
    offered: set[tuple[dt.date, str]] | None,
    *,
    first_week: dt.date,
    now: dt.datetime,
    retained_from: dt.date | None = None,
) -> pl.DataFrame:
    """The gaps alone (GAP): ``coverage`` without the complete publications, with the same arguments."""
    return coverage(captured, offered, first_week=first_week, now=now, retained_from=retained_from).filter(
        pl.col("status") != COMPLETE
    )


def ranges(gaps: pl.DataFrame) -> pl.DataFrame:
    """Gaps of one tier, status and fetchability in weeks that follow each other, folded into one row.

    Returns:
        Columns `tier`, `status`, `fetchable`, `first_week`, `last_week`, `weeks`, `detail` (of the first).
    """
    kind = ["tier", "status", "fetchable"]
    new_run = (pl.col("week_ending").diff().over(kind) != pl.duration(weeks=1)).fill_null(True)
    return (
        gaps.sort("week_ending")
        .with_columns(new_run.cum_sum().over(kind).alias("_run"))
        .group_by(*kind, "_run")
        .agg(
            pl.col("week_ending").min().alias("first_week"),
            pl.col("week_ending").max().alias("last_week"),
            pl.len().cast(pl.Int64).alias("weeks"),
            pl.col("detail").first(),
        )
        .drop("_run")
        .sort("first_week", "tier", "status")
    )
