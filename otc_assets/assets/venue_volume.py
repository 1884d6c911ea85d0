"""The second stage: venue volume, made of all captures that speak for a week.

Here: normalizing the captures of a week, tier by tier, and replacing the week in one transaction. Not here:
which captures speak (``domain.revisions``), what a row means (``domain.normalize``).
"""

import datetime as dt
import time
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from dagster import AssetDep, AssetExecutionContext, asset

from otc_assets.archive.store import Archive
from otc_assets.assets.publications import parsed_rows
from otc_assets.assets.spans import traced_step
from otc_assets.assets.weekly import IN_YEARS, OWNERS, RETRY, Made, WeekMade, each_week, table_metadata
from otc_assets.domain.normalize import normalize, split
from otc_assets.domain.parsing import Parsed
from otc_assets.domain.revisions import Part, assemble
from otc_assets.domain.schema import VENUE_VOLUME
from otc_assets.domain.weeks import TIER_BY_NAME, TIERS, Tier
from otc_assets.finra.source import PARTIAL
from otc_assets.partitions import same_week_if_published, weeks
from otc_assets.resources import RawArchive, Warehouse
from otc_assets.tracing import ARCHIVE, LOAD, NORMALIZE, span, tell
from otc_assets.warehouse import events
from otc_assets.warehouse.history import Change
from otc_assets.warehouse.lineage import volume_version
from otc_assets.warehouse.load import mark_computed, replace_totals, replace_volume
from otc_assets.warehouse.read import Publication, speaking_publications
from otc_assets.warehouse.server import lock_week


def _archived_rows(archive: Archive, digest: str, origin: str) -> Parsed:
    with span(ARCHIVE, digest=digest):
        content = archive.get(digest)
        tell(bytes=len(content))
    return parsed_rows(content, origin)


@lru_cache(maxsize=2)
def _parts_of_records(archive: Archive, digest: str, origin: str) -> dict[tuple[dt.date, Tier], Parsed]:
    """A file of records by week and tier: such a file may span years, and is read once for all of them."""
    return split(_archived_rows(archive, digest, origin))


def parsed_capture(publication: Publication, archive: Archive) -> Parsed:
    """The parsed rows of a capture, from its archived bytes.

    Raises:
        ArchiveError: the archive does not have its bytes, or they are damaged.
    """
    if publication.scope == PARTIAL:
        parts = _parts_of_records(archive, publication.digest, publication.origin)  # type: ignore[arg-type]
        return parts[publication.week_ending, TIER_BY_NAME[publication.tier]]
    return _archived_rows(archive, publication.digest, publication.origin)


def read_part(publication: Publication, archive: Archive) -> Part:
    """The rows of a captured publication, from its archived bytes."""
    week, tier = publication.week_ending, TIER_BY_NAME[publication.tier]
    parsed = parsed_capture(publication, archive)
    with span(NORMALIZE, tier=tier.name):
        result = normalize(parsed, week_ending=week, tier=tier, summary_type=publication.summary_type)
        tell(rows=result.accepted, rejected=result.rejected.height)
    return Part(publication.scope, result.volume, result.totals)


def make_venue_volume(week_ending: dt.date, warehouse: Warehouse, archive: Archive) -> tuple[str, dict[str, Change]]:
    """Makes the week of ``otc.venue_volume`` and ``otc.published_total`` from what was captured of it.

    Returns:
        The version that the week now has, and by tier how it changed.

    Raises:
        Dropped: retention has dropped the week, or would.
    """
    changes: dict[str, Change] = {}
    with warehouse.transaction() as connection:
        lock_week(connection, week_ending)
        speaking = {
            tier: captures
            for (_, tier), captures in speaking_publications(connection, week_ending, week_ending).items()
        }
        version = volume_version(speaking)
        # One tier at a time: a full-size week of all tiers would not stand in memory twice.
        for tier, captures in speaking.items():
            if captures:
                since = time.perf_counter()
                volume, totals = assemble([read_part(publication, archive) for publication in captures])
                with span(LOAD, tier=tier, rows=volume.height):
                    changes[tier] = replace_volume(connection, week_ending, tier, volume)
                    replace_totals(connection, week_ending, tier, totals)
                del volume, totals
                _append_events(connection, week_ending, tier, changes[tier], version, time.perf_counter() - since)
        rows = sum(change.rows for change in changes.values())
        mark_computed(connection, "venue_volume", week_ending, version, rows)
    warehouse.settle(week_ending, "venue_volume", "published_total")
    return version, changes


def _append_events(
    connection: sa.Connection, week_ending: dt.date, tier: str, change: Change, version: str, seconds: float
) -> None:
    """That the tier's week was normalized, and how its rows differ from those of before, where they do."""
    whose: dict[str, Any] = {"week_ending": week_ending, "tier": tier, "version": version}
    rows, shares = change.rows, change.shares_after
    events.append(connection, events.WeekNormalized(**whose, rows=rows, shares=shares, seconds=seconds))
    if change.revised:
        told = ("added", "changed", "removed", "shares_before", "shares_after")
        difference = {name: getattr(change, name) for name in told}
        events.append(connection, events.WeekRevised(**whose, **difference))


def _shown(version: str, changes: dict[str, Change]) -> WeekMade:
    metadata: dict[str, object] = {"captures": version or "none"}
    for tier in TIERS:
        change = changes.get(tier.name)
        name = tier.id
        metadata[f"{name} rows"] = change.rows if change else 0
        if change and change.revised:
            metadata[f"{name} revised"] = (
                f"{change.added:,} rows added, {change.changed:,} changed, {change.removed:,} removed; "
                f"{change.shares_before:,} shares before, {change.shares_after:,} after"
            )
    rows = sum(change.rows for change in changes.values())
    return WeekMade(rows=rows, version=version, metadata=metadata)


@asset(
    deps=[AssetDep(f"publication_{tier.slug}", partition_mapping=same_week_if_published) for tier in TIERS],
    partitions_def=weeks,
    backfill_policy=IN_YEARS,
    retry_policy=RETRY,
    pool="database",
    group_name="volume",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("venue_volume", VENUE_VOLUME),
)
@traced_step
def venue_volume(context: AssetExecutionContext, warehouse: Warehouse, raw_archive: RawArchive) -> Made:
    """Shares and trades of each symbol at each venue: ATSs by MPID, other firms by CRD, small firms as a group.

    Made of the tiers that are out so far, and made again when another arrives or one is revised: what a
    revision replaced is kept in `otc.venue_volume_revision`.
    """
    archive = raw_archive.open()
    yield from each_week(context, lambda week: _shown(*make_venue_volume(week, warehouse, archive)))
