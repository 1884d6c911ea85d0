"""Which expected publications are missing, late, incomplete, empty, or not due yet.

Publications are expected by the publication calendar, tier by tier, from the first week wanted to the newest week that
has ended. The kinds of gaps:

- ``pending``: the week has ended, and its publication is not due yet.
- ``late``: it was due less than seven days ago, and no later week of the tier is captured.
- ``missing_at_end``: it was due longer ago, and no later week of the tier is captured.
- ``missing_inside``: it was due, and a later week of the tier is captured.
- ``incomplete``: captured, but with fewer rows than FINRA states, or only a part of the publication.
- ``empty``: captured, but no row was accepted.

This module classifies; what FINRA offers and what is captured are its arguments.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from otc_assets.domain.enums import GapStatus
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

#: The status, in reports, of a publication that ``was_never_requested``; the table ``gap`` does not have it.
NEVER_REQUESTED = "never_requested"

#: For this long after its publication day a publication is late; then it is missing.
LATE_FOR = dt.timedelta(days=7)

#: FINRA states that it offers the last twelve months, and four more years as history: five years of 52 weeks.
STATED_WINDOW = dt.timedelta(weeks=5 * 52)


def expected(first_week: dt.date, now: dt.datetime, tiers: Iterable[Tier] = TIERS) -> list[tuple[dt.date, Tier]]:
    """Every (week_ending, tier) from ``first_week`` to the newest week that has ended at ``now``, oldest first.

    Weeks whose publication is not due yet are included. A week ends on its Friday.
    """
    today = now.astimezone(NEW_YORK).date()
    newest = week_containing(today)
    if newest > today:
        newest -= dt.timedelta(weeks=1)
    return [(week, tier) for week in weeks_between(first_week, newest) for tier in tiers]


def classify(
    captured: pl.DataFrame,
    offered: set[tuple[dt.date, str]] | None,
    *,
    first_week: dt.date,
    now: dt.datetime,
    retained_from: dt.date | None = None,
    tiers: Iterable[Tier] = TIERS,
    from_files: bool = False,
) -> pl.DataFrame:
    """The expected publications that are not captured completely, oldest week first.

    Args:
        captured: columns `week_ending`, `tier`, `rows_loaded`, `rows_expected`, `complete`.
        offered: the (week_ending, tier name) that can be fetched now; None where FINRA could not be asked: then its
            stated window is used, and `detail` says so.
        first_week: the first week wanted, a Friday.
        now: the current time, with a time zone.
        retained_from: weeks that end before this day were dropped by retention and are not gaps.
        tiers: the tiers that are wanted.
        from_files: ``offered`` is what a folder of downloaded files has, not what FINRA offers.

    Returns:
        GAP, one row per (week_ending, tier).
    """
    tiers = tuple(tiers)
    have = {(row["week_ending"], row["tier"]): row for row in captured.iter_rows(named=True)}
    # A capture without rows does not show that FINRA has published a later week.
    newest = dict(captured.filter(pl.col("rows_loaded") > 0).group_by("tier").agg(pl.col("week_ending").max()).rows())
    rows = []
    for week, tier in expected(first_week, now, tiers):
        if retained_from is not None and week < retained_from:
            continue
        row = have.get((week, tier.name))
        if row is not None and row["rows_loaded"] and row["complete"]:
            continue
        status, detail = _status(week, tier, row, newest.get(tier.name), now)
        fetchable, remark = _fetchable(week, tier, offered, now, from_files)
        if status != GapStatus.PENDING and remark:
            detail += f"; {remark}"
        rows.append(
            {
                "week_ending": week,
                "tier": tier.name,
                "status": status,
                "due": publication_date(week, tier),
                "fetchable": fetchable,
                "rows_loaded": row["rows_loaded"] if row else 0,
                "rows_expected": row["rows_expected"] if row else None,
                "detail": detail,
            }
        )
    return pl.DataFrame(rows, schema=GAP).sort("week_ending", "tier")


def _status(
    week: dt.date, tier: Tier, row: dict[str, Any] | None, newest_captured: dt.date | None, now: dt.datetime
) -> tuple[GapStatus, str]:
    due = due_at(week, tier)
    if row is not None and not row["rows_loaded"]:
        return GapStatus.EMPTY, "no row of the captured publication was accepted"
    if row is not None:
        loaded, stated = row["rows_loaded"], row["rows_expected"]
        if stated is not None and loaded < stated:
            return (
                GapStatus.INCOMPLETE,
                f"{loaded:,} of FINRA's {stated:,} rows are loaded: {stated - loaded:,} are missing",
            )
        return GapStatus.INCOMPLETE, f"{loaded:,} rows are loaded: only a part of the publication was captured"
    status = status_of_missing(week, tier, newest_captured, now)
    if status == GapStatus.PENDING:
        return status, f"FINRA publishes it on {due:%A, %Y-%m-%d}"
    return status, f"it was due on {due:%A, %Y-%m-%d}" + _REMARKS.get(status, "")


_REMARKS = {
    GapStatus.MISSING_INSIDE: ", and later weeks of the tier are captured",
    GapStatus.MISSING_AT_END: ", and no later week of the tier is captured",
}


def status_of_missing(week: dt.date, tier: Tier, newest_captured: dt.date | None, now: dt.datetime) -> GapStatus:
    """The status of a publication of which nothing is captured, by the newest captured week of its tier."""
    due = due_at(week, tier)
    if now < due:
        return GapStatus.PENDING
    if newest_captured is not None and week < newest_captured:
        return GapStatus.MISSING_INSIDE
    return GapStatus.LATE if now < due + LATE_FOR else GapStatus.MISSING_AT_END


def was_never_requested(week: dt.date, tier: str, status: str, first_captured: Mapping[str, dt.date]) -> bool:
    """Whether a missing publication is older than all that was requested.

    An installation that captured only recent weeks has not lost the years before them.

    Args:
        week: its week.
        tier: the name of its tier.
        status: its status as a gap; what is not due yet could not be requested.
        first_captured: the first captured week of each tier; a tier without one begins with the first captured week
            of any tier.
    """
    return status != GapStatus.PENDING and week < first_captured.get(tier, min(first_captured.values(), default=week))


def split_history(gaps: pl.DataFrame, first_captured: Mapping[str, dt.date]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """GAP, in two parts: history that was never requested, and gaps since each tier's first capture."""
    keys = gaps.select("week_ending", "tier", "status").iter_rows()
    is_history = pl.Series(
        [was_never_requested(week, tier, status, first_captured) for week, tier, status in keys], dtype=pl.Boolean
    )
    return gaps.filter(is_history), gaps.filter(~is_history)


def _fetchable(
    week: dt.date, tier: Tier, offered: set[tuple[dt.date, str]] | None, now: dt.datetime, from_files: bool
) -> tuple[bool, str]:
    """Whether the source offers the week, and a remark if it does not, or could not be asked."""
    due = due_at(week, tier)
    if offered is not None:
        if (week, tier.name) in offered:
            return True, ""
        if from_files:
            return False, "no file in the OTC_FILES folder has it"
        return False, "no longer available from FINRA" if now >= due + LATE_FOR else "FINRA does not offer it yet"
    oldest = now.astimezone(NEW_YORK).date() - STATED_WINDOW
    inside = week >= oldest and now >= due
    verdict = "still available" if inside else "no longer available"
    return inside, f"FINRA could not be asked: by its stated five years, the week is {verdict}"


def ranges(gaps: pl.DataFrame) -> pl.DataFrame:
    """Combines gaps of consecutive weeks with the same tier, status and fetchability into one row.

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


def ranges_and_history(gaps: pl.DataFrame, first_captured: Mapping[str, dt.date]) -> pl.DataFrame:
    """``ranges`` of the gaps since each tier's first capture, after one row per tier for the weeks before it.

    Args:
        gaps: as ``classify`` returns them.
        first_captured: as in ``was_never_requested``.

    Returns:
        The columns of ``ranges``. History has the status ``never_requested``; it is `fetchable` where at least one
        of its weeks is.
    """
    before, since = split_history(gaps, first_captured)
    history = (
        before.group_by("tier")
        .agg(
            pl.lit(NEVER_REQUESTED).alias("status"),
            pl.col("fetchable").any().alias("fetchable"),
            pl.col("week_ending").min().alias("first_week"),
            pl.col("week_ending").max().alias("last_week"),
            pl.len().cast(pl.Int64).alias("weeks"),
            pl.col("fetchable").sum().alias("_fetchable"),
        )
        .with_columns(
            pl.when(pl.col("_fetchable") == pl.col("weeks"))
            .then(pl.lit("all fetchable"))
            .otherwise(pl.concat_str("_fetchable", pl.lit(" fetchable")))
            .alias("detail")
        )
        .drop("_fetchable")
        .sort("tier")
    )
    folded = ranges(since)
    return pl.concat([history.select(folded.columns), folded])
