"""Computes venue volume from the effective captures of a week.

Assembles the rows of a week tier by tier and replaces the week in one transaction. Which captures are effective and
how their rows merge is decided in ``domain.revisions``; what a row means, in ``domain.normalize``.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from otc_assets.archive.store import Archive
from otc_assets.domain.revisions import Effective, assemble
from otc_assets.domain.weeks import TIERS
from otc_assets.pipeline.captures import read_part
from otc_assets.pipeline.results import WeekResult
from otc_assets.tracing import LOAD, span
from otc_assets.warehouse import events
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.history import Change
from otc_assets.warehouse.lineage import volume_version
from otc_assets.warehouse.load import mark_computed, replace_totals, replace_volume, save_rows_in_use
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import effective_publications, week_rows
from otc_assets.warehouse.server import lock_week


def compute_volume(week_ending: dt.date, database: Database, archive: Archive) -> WeekResult:
    """Computes the week of ``otc.venue_volume`` and ``otc.published_total`` from what was captured of it.

    Returns:
        The week's rows and version, and by tier how its rows changed.

    Raises:
        Dropped: retention has dropped the week, or would.
    """
    with database.transaction() as connection:
        lock_week(connection, week_ending)
        stored = store_volume(connection, week_ending, archive)
        for tier, change in stored.changes.items():
            _append_events(connection, week_ending, tier, change, stored.version, stored.seconds[tier])
    database.refresh_after_load(week_ending, "venue_volume", "published_total")
    return _result(stored.version, stored.changes)


@dataclass
class Stored:
    """A week of venue volume that was replaced: its version, and by tier how its rows changed and how long it took."""

    version: str
    changes: dict[str, Change] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def store_volume(connection: sa.Connection, week_ending: dt.date, archive: Archive) -> Stored:
    """Replaces the week's rows, without events. ``connection`` is inside a transaction that holds the week's lock."""
    found = {
        tier: of_tier for (_, tier), of_tier in effective_publications(connection, week_ending, week_ending).items()
    }
    stored = Stored(volume_version(found))
    # One tier at a time, so that a full-size week of all tiers is not in memory twice.
    for tier, of_tier in found.items():
        if of_tier.captures or _has_rows(connection, week_ending, tier):
            since = time.perf_counter()
            merged = assemble([read_part(p, archive, base_of) for p, base_of in _in_order(of_tier)])
            with span(LOAD, tier=tier, rows=merged.volume.height):
                stored.changes[tier] = replace_volume(connection, week_ending, tier, merged.volume)
                replace_totals(connection, week_ending, tier, merged.totals)
                save_rows_in_use(connection, week_ending, tier, merged.rows_in_use)
            del merged
            stored.seconds[tier] = time.perf_counter() - since
    rows = sum(change.rows for change in stored.changes.values())
    mark_computed(connection, "venue_volume", week_ending, stored.version, rows)
    return stored


def _has_rows(connection: sa.Connection, week_ending: dt.date, tier: str) -> bool:
    """Whether the tier's week has rows or totals, which may be of captures that are not effective any more."""
    tables = ("venue_volume", "published_total")  # a capture may have totals alone
    return any(week_rows(connection, table, [week_ending], tier, ["symbol"]).height for table in tables)


def _in_order(found: Effective[Publication]) -> list[tuple[Publication, frozenset[str]]]:
    """The effective captures, each with the halves that it is the base of; partial ones last, oldest first."""
    whole = {capture.id: capture for capture in found.bases.values()}
    bases = [
        (capture, frozenset(half for half, base in found.bases.items() if base.id == number))
        for number, capture in whole.items()
    ]
    return [*bases, *((capture, frozenset[str]()) for capture in found.partial)]


def _append_events(
    connection: sa.Connection, week_ending: dt.date, tier: str, change: Change, version: str, seconds: float
) -> None:
    """Appends that the tier's week was normalized; if its rows differ from the earlier ones, also how."""
    whose: dict[str, Any] = {"week_ending": week_ending, "tier": tier, "version": version}
    rows, shares = change.rows, change.shares_after
    events.append(connection, events.WeekNormalized(**whose, rows=rows, shares=shares, seconds=seconds))
    if change.revised:
        columns = ("added", "changed", "removed", "shares_before", "shares_after")
        difference = {name: getattr(change, name) for name in columns}
        events.append(connection, events.WeekRevised(**whose, **difference))


def _result(version: str, changes: dict[str, Change]) -> WeekResult:
    details: dict[str, object] = {"captures": version or "none"}
    for tier in TIERS:
        change = changes.get(tier.name)
        name = tier.id
        details[f"{name} rows"] = change.rows if change else 0
        if change and change.revised:
            details[f"{name} revised"] = (
                f"{change.added:,} rows added, {change.changed:,} changed, {change.removed:,} removed; "
                f"{change.shares_before:,} shares before, {change.shares_after:,} after"
            )
    rows = sum(change.rows for change in changes.values())
    return WeekResult(rows, version, details)
