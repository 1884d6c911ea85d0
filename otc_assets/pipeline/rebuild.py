"""Rebuilds weeks under the current rules: counts the rows of their captures again, from the archived bytes.

Afterwards the weeks are stale, and computing them gives what a new database would have. Which captures are quarantined
is not decided again: that, and an operator's decisions, stay as they are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from otc_assets import interruption
from otc_assets.archive.store import Archive, ArchiveError
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.pipeline.captures import counts_and_dates, normalized_rows, parsed_capture
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import publications
from otc_assets.warehouse.recount import mark_stale, recount
from otc_assets.warehouse.retention import require_kept
from otc_assets.warehouse.server import lock_week

Progress = Callable[[int, str], None]


@dataclass
class Recounted:
    """What was counted again.

    Attributes:
        weeks: the weeks whose captures were counted again, oldest first; they are stale now.
        captures: the number of their captures.
        changed: the captures whose counts changed: id, week, tier, and the counts of now and before.
        failed: by week that stays as it is, why.
    """

    weeks: list[dt.date] = field(default_factory=list)
    captures: int = 0
    changed: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[dt.date, str] = field(default_factory=dict)


def recount_weeks(weeks: Sequence[dt.date], database: Database, archive: Archive, progress: Progress) -> Recounted:
    """Counts the rows of every capture of ``weeks`` again, from its archived bytes and under the current rules.

    A week is one transaction: it is counted as a whole, or left as it is. A week that can't be counted does not stop
    the others.

    Args:
        weeks: their Fridays, oldest first; those without captures are left out.
        database: where the captures are recorded.
        archive: where their bytes are.
        progress: called with the number of weeks done, and the week that is next.

    Raises:
        Dropped: the first of ``weeks`` is older than what is kept.
        Interrupted: a signal ended the command; the weeks that were counted are stale.
    """
    with database.transaction() as connection:
        require_kept(connection, "venue_volume", min(weeks))
    done = Recounted()
    for number, week in enumerate(weeks):
        interruption.check()
        progress(number, str(week))
        try:
            with database.transaction() as connection:
                lock_week(connection, week)
                captures = publications(connection, week, week)
                changed = [found for capture in captures if (found := _recount(connection, capture, archive))]
                mark_stale(connection, week)
        except (ArchiveError, UnreadableFile) as error:
            done.failed[week] = str(error)
            continue
        if captures:
            done.weeks.append(week)
            done.captures += len(captures)
            done.changed += changed
    progress(len(weeks), "done")
    return done


def _recount(connection: sa.Connection, capture: Publication, archive: Archive) -> dict[str, Any] | None:
    """Counts one capture again. Returns its id, week, tier and counts if these changed.

    A withdrawn one that can't be read keeps its counts: nothing is computed from it, and withdrawing it is what the
    error of a capture advises.
    """
    try:
        parsed = parsed_capture(capture, archive)
    except (ArchiveError, UnreadableFile):
        if capture.withdrawn:
            return None
        raise
    result = normalized_rows(capture, parsed)
    found = counts_and_dates(parsed, result, capture.scope, capture.rows_expected)
    changed = recount(connection, capture, found, result.rejected)
    return {"id": capture.id, "week_ending": capture.week_ending, "tier": capture.tier, **changed} if changed else None
