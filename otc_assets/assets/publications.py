"""The first stage: FINRA's publications, captured as raw bytes, one asset a tier.

Here: capture, that is archive the bytes, parse them to balance the books, record publication, raw and
rejected rows. Not here: the figures (``venue_volume``); how bytes are fetched (``finra``) or read
(``domain.parsing``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl
from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, asset

from otc_assets.archive.store import Archive
from otc_assets.assets.weekly import IN_QUARTERS, OWNERS, RETRY, WeekMade, WeekRefused, each_week, table_metadata
from otc_assets.domain.normalize import normalize
from otc_assets.domain.parsing import Parsed, UnreadableFile, parse, raw_lines
from otc_assets.domain.weeks import NEW_YORK, TIERS, Tier, due_at
from otc_assets.finra.source import FULL, PARTIAL, Capture
from otc_assets.partitions import weeks_of_tier
from otc_assets.resources import PublicationSource, RawArchive, Warehouse
from otc_assets.warehouse.load import NewPublication, Recorded, record_publication
from otc_assets.warehouse.read import publications

RAW = pl.Schema({"week_ending": pl.Date, "publication_id": pl.Int64, "line": pl.Int64, "record": pl.String})


@dataclass(frozen=True)
class Captured:
    """A capture that was recorded: what it was, and what became of it."""

    capture: Capture
    publication: NewPublication
    recorded: Recorded
    rejected: pl.DataFrame


def capture_all(
    captures: Iterable[Capture], archive: Archive, warehouse: Warehouse, run_id: str | None = None
) -> Iterator[Captured]:
    """Records captures, each in one transaction; those of one file are parsed once.

    Raises:
        UnreadableFile: the bytes are no publication in any layout that is known; nothing was recorded of it.
    """
    parsed: Parsed | None = None
    lines = pl.DataFrame()
    content = b""
    for capture in captures:
        if parsed is None or capture.content is not content:
            content = capture.content
            parsed = parse(content, name=capture.origin)
            lines = raw_lines(content, name=capture.origin)
        yield _record(capture, parsed, lines, archive, warehouse, run_id)


def _record(
    capture: Capture, parsed: Parsed, lines: pl.DataFrame, archive: Archive, warehouse: Warehouse, run_id: str | None
) -> Captured:
    result = normalize(
        parsed, week_ending=capture.week_ending, tier=capture.tier, summary_type=capture.summary_type
    )
    digest = archive.put(capture.content)
    whole = capture.scope != PARTIAL and not parsed.cut_off
    if capture.rows_expected is not None:
        whole = whole and parsed.received == capture.rows_expected
    publication = NewPublication(
        week_ending=capture.week_ending,
        tier=capture.tier.name,
        scope=capture.scope,
        digest=digest,
        origin=capture.origin,
        summary_type=capture.summary_type,
        layout=parsed.layout,
        bytes=len(capture.content),
        rows_received=result.received,
        rows_accepted=result.accepted,
        rows_rejected=result.rejected.height,
        rows_expected=capture.rows_expected,
        complete=whole,
        initial_published_date=result.initial_published_date,
        last_update_date=result.last_update_date,
        run_id=run_id,
    )
    with warehouse.transaction() as connection:
        recorded = record_publication(connection, publication, lines, result.rejected)
    return Captured(capture, publication, recorded, result.rejected)
