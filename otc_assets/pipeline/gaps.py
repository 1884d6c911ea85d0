"""Finds gaps: which expected publications are missing, late, incomplete, empty or pending.

Asks the calendar, the warehouse and the source, and stores the result. What counts as a gap is in ``domain.gaps``.
"""

from __future__ import annotations

import datetime as dt
import hashlib

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.enums import GapStatus
from otc_assets.domain.gaps import classify, split_history
from otc_assets.domain.weeks import week_containing
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.source import Source, SourceError
from otc_assets.pipeline.results import WeekResult
from otc_assets.tracing import LOAD, set_attributes, span
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.load import replace_gaps
from otc_assets.warehouse.read import captured, first_captured, reported_gaps
from otc_assets.warehouse.retention import oldest_kept, retained_from
from otc_assets.warehouse.server import lock_week


def current_gaps(database: Database, source: Source, first_week: dt.date, now: dt.datetime) -> pl.DataFrame:
    """All gaps at the moment ``now``, from the first week wanted to the newest that has ended (GAP).

    Where the source does not answer, what is fetchable is judged by FINRA's stated window instead.
    """
    try:
        offered: set[tuple[dt.date, str]] | None = {(week, tier.name) for tier, week in source.offered()}
    except SourceError:
        offered = None
    with database.transaction() as connection:
        return _gaps(connection, offered, first_week, now, from_files=isinstance(source, DownloadFiles))


def _gaps(
    connection: sa.Connection,
    offered: set[tuple[dt.date, str]] | None,
    first_week: dt.date,
    now: dt.datetime,
    *,
    from_files: bool = False,
) -> pl.DataFrame:
    return classify(
        captured(connection, first_week, week_containing(now.date())),
        offered,
        first_week=first_week,
        now=now,
        retained_from=retained_from(connection, "venue_volume"),
        from_files=from_files,
    )


_MISSING = [GapStatus.MISSING_INSIDE, GapStatus.MISSING_AT_END]


def unreported_weeks(database: Database, first_week: dt.date, now: dt.datetime) -> list[dt.date]:
    """The weeks with a missing publication that the stored gaps do not have, or have under another status.

    A week is reported by the run that computes it. A capture also changes the status of weeks before it and after it
    that no run computes. Weeks that were never requested, and those that retention has passed, have no gaps: they are
    found while gaps of them are stored. The source is not asked.
    """
    with database.transaction() as connection:
        stored, first = reported_gaps(connection), first_captured(connection)
        gaps = _gaps(connection, None, first_week, now)
        oldest = oldest_kept(connection, "venue_volume")
    if not first:
        return []
    history, requested = split_history(gaps, first)
    key = ["week_ending", "tier"]
    both = requested.join(stored, on=key, how="left", suffix="_stored")
    status, before = pl.col("status"), pl.col("status_stored")
    differ = both.filter(status.ne_missing(before), status.is_in(_MISSING) | before.is_in(_MISSING))
    unwanted = history.join(stored, on=key, how="semi")
    passed = stored.filter(pl.col("week_ending") < oldest)
    return pl.concat([rows["week_ending"] for rows in (differ, unwanted, passed)]).unique().sort().to_list()


def report_gaps(week_ending: dt.date, gaps: pl.DataFrame, database: Database) -> WeekResult:
    """Replaces the stored gaps of a week by those among ``gaps`` (GAP), without what was never requested."""
    with span(LOAD), database.transaction() as connection:
        lock_week(connection, week_ending)
        _, of_week = split_history(gaps.filter(pl.col("week_ending") == week_ending), first_captured(connection))
        set_attributes(rows=of_week.height)
        replace_gaps(connection, week_ending, of_week)
    version = hashlib.sha256(of_week.write_csv().encode()).hexdigest()[:16]
    return WeekResult(of_week.height, version, {"gaps": of_week})
