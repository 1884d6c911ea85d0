"""Replaces what is stored of a capture with what its bytes give under the current rules, and makes its week stale.

Parsing the bytes is up to ``pipeline.rebuild``; recording a capture for the first time is in ``load``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.estimates import CALIBRATED_BY, ESTIMATES
from otc_assets.domain.report import over_weeks
from otc_assets.domain.tables import in_order
from otc_assets.domain.weeks import WINDOW_WEEKS
from otc_assets.warehouse import events
from otc_assets.warehouse.load import insert_rejected
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.server import lock_week
from otc_assets.warehouse.sql import statement

_COUNTS = ("rows_received", "rows_accepted", "rows_rejected")
_DELETE_REJECTED = sa.text("""
    DELETE FROM otc.rejected_record WHERE week_ending = :week_ending AND publication_id = :id
""")


def recount(
    connection: sa.Connection, capture: Publication, found: Mapping[str, Any], rejected: pl.DataFrame
) -> dict[str, Any] | None:
    """Replaces the counts, dates and rejected rows of a recorded capture; appends an event if a count changed.

    Args:
        connection: inside a transaction.
        capture: as it is recorded.
        found: the fields that follow from its bytes and the current rules.
        rejected: REJECTED, the rows that are not accepted now.

    Returns:
        The counts of now and of before, as the event has them; None if they are the same.
    """
    lock_week(connection, capture.week_ending)
    which = {"id": capture.id, "week_ending": capture.week_ending}
    connection.execute(statement("recount_capture"), {**found, "id": capture.id})
    connection.execute(_DELETE_REJECTED, which)
    insert_rejected(connection, capture.week_ending, capture.id, rejected)
    counts = {name: int(found[name]) for name in _COUNTS}
    before = {name: int(getattr(capture, name)) for name in _COUNTS}
    if counts == before:
        return None
    changed: dict[str, Any] = {**counts, **{f"{name}_before": count for name, count in before.items()}}
    whose: dict[str, Any] = {
        name: getattr(capture, name) for name in ("week_ending", "tier", "scope", "origin", "digest")
    }
    events.append(connection, events.CaptureRecounted(**whose, publication_id=capture.id, **changed))
    return changed


def mark_stale(connection: sa.Connection, week_ending: dt.date) -> None:
    """Makes a week stale, with all that is computed from it, whatever the versions are.

    Raised code versions do that already; this is for a rule that was changed without one. The recomputed week has its
    earlier version again, so that what follows from it is marked here, too: six-week figures, reports and estimates.
    """
    values = {
        "week_ending": week_ending,
        "until": week_ending + dt.timedelta(weeks=WINDOW_WEEKS - 1),
        "estimates_until": week_ending + dt.timedelta(weeks=max(CALIBRATED_BY)),
        "tables": in_order(),
        "rolling": over_weeks(),
        "estimates": [estimate.name for estimate in ESTIMATES],
    }
    connection.execute(statement("mark_stale"), values)
