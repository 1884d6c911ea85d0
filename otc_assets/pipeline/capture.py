"""Captures publications: archives the bytes, parses them, and records the publication and its rejected rows.

How bytes are fetched is in ``finra``, how they are read in ``domain.parsing``; which captures become effective is in
``captures``, and computing figures from them in ``volume``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from otc_assets import interruption
from otc_assets.archive.store import Archive, ArchiveError
from otc_assets.content import Content
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.normalize import normalize, split
from otc_assets.domain.parsing import Parsed
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.weeks import Tier, due_at
from otc_assets.finra.source import Capture, RefusedReply, Source
from otc_assets.pipeline.captures import COMPARED, counts_and_dates, parsed_rows, record
from otc_assets.pipeline.changes import captured_states
from otc_assets.pipeline.results import CAPTURED_BEFORE, WeekRefused, WeekResult
from otc_assets.tracing import ARCHIVE, FETCH, LOAD, NORMALIZE, Attribute, set_attributes, span
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.events import FileRejected, append, event_context
from otc_assets.warehouse.lineage import NOTHING_EFFECTIVE
from otc_assets.warehouse.load import Recorded, recorded_before
from otc_assets.warehouse.publication import NewPublication, Publication
from otc_assets.warehouse.read import effective_publications, publication_of, rejected_rows
from otc_assets.warehouse.retention import require_kept


@dataclass(frozen=True)
class Captured:
    """A capture that was recorded: what it was, and what became of it.

    Attributes:
        publication: its particulars, as they are recorded.
        quarantined: why it is quarantined; empty where it is not.
    """

    capture: Capture
    publication: Publication
    recorded: Recorded
    rejected: pl.DataFrame
    quarantined: str

    @classmethod
    def of(cls, capture: Capture, stored: Publication, recorded: Recorded, rejected: pl.DataFrame) -> Captured:
        """A capture as it is stored."""
        reason = stored.quarantine_reason or "" if stored.quarantined else ""
        return cls(capture, stored, recorded, rejected, reason)


def capture_all(
    captures: Iterable[Capture], archive: Archive, database: Database, run_id: str | None = None
) -> Iterator[Captured]:
    """Records captures, each in one transaction; those of one file are parsed once.

    Bytes that were recorded before are known by their digest. They are not parsed; the archive compares its object with
    them, and replaces it if it is damaged.

    Raises:
        UnreadableFile: the bytes are no publication in any layout that is known; nothing was recorded of them
            but that they were refused.
    """
    content: Content | None = None
    for capture in captures:
        interruption.check()
        since = time.perf_counter()
        if (known := _known(capture, archive, database)) is not None:
            yield known
            continue
        try:
            if capture.scope != CaptureScope.PARTIAL:
                # Only the call has references to the bytes and the rows, so that it can free them early.
                yield _record(
                    capture, parsed_rows(capture.content.read, capture.origin), archive, database, run_id, since
                )
                continue
            if capture.content is not content:
                content = capture.content
                parts = split(parsed_rows(content.read, capture.origin))
            yield _record(capture, parts[capture.week_ending, capture.tier], archive, database, run_id, since)
        except UnreadableFile as error:
            record_rejection(
                database,
                run_id,
                capture.origin,
                str(error),
                digest=capture.content.digest,
                week_ending=capture.week_ending,
                tier=capture.tier.name,
            )
            raise


def failures(captured: Iterable[Captured]) -> list[str]:
    """What an operator must know of captures that were recorded and can't be used, one sentence each.

    Those of which no row was accepted, and those that are quarantined.
    """
    found = []
    for each in captured:
        publication, number = each.publication, each.recorded.publication_id
        whose = f"{publication.origin}: {publication.tier} of the week ending {publication.week_ending}"
        if not publication.rows_accepted:
            reason = each.rejected["reason"][0] if each.rejected.height else "it has no rows"
            found.append(
                f"{whose}: none of its {publication.rows_received:,} rows was accepted; the first: {reason}. It is "
                f"recorded as capture {number}; otc.rejected_record has the rows and the reasons."
            )
        elif each.quarantined:
            found.append(
                f"{whose}: quarantined as capture {number}: {each.quarantined}. The capture before it stays effective. "
                f"If FINRA did publish it so, run 'otc-assets captures accept {number}'; if not, download it again."
            )
    return found


def record_rejection(database: Database, run_id: str | None, origin: str, reason: str, **known: Any) -> None:
    """Appends that a run refused what came from ``origin``.

    It uses a transaction of its own, because nothing else is written.

    Args:
        database: where the event is appended.
        run_id: the run that refused it.
        origin: where it came from.
        reason: why it was refused.
        known: its ``digest``, ``week_ending`` and ``tier``, if known.
    """
    with event_context(run_id), database.transaction() as connection:
        append(connection, FileRejected(origin=origin, reason=reason, **known))


def _known(capture: Capture, archive: Archive, database: Database) -> Captured | None:
    """The capture as it was recorded before; None if these bytes were not."""
    key = {
        "week_ending": capture.week_ending,
        "tier": capture.tier.name,
        "scope": capture.scope,
        "summary_type": capture.summary_type,
        "digest": capture.content.digest,
    }
    with database.transaction() as connection:
        recorded = recorded_before(connection, key)
        stored = publication_of(connection, recorded.publication_id) if recorded else None
        if recorded is None or stored is None:
            return None
        rejected = rejected_rows(connection, stored)
    _archive(capture, archive)
    return Captured.of(capture, stored, recorded, rejected)


def _archive(capture: Capture, archive: Archive) -> str:
    with span(ARCHIVE, week_ending=capture.week_ending, tier=capture.tier.name, bytes=capture.content.size):
        return archive.put(capture.content, capture.origin)


def _record(
    capture: Capture, parsed: Parsed, archive: Archive, database: Database, run_id: str | None, since: float
) -> Captured:
    whose: dict[str, Attribute] = {"week_ending": capture.week_ending, "tier": capture.tier.name}
    with span(NORMALIZE, **whose):
        result = normalize(
            parsed, week_ending=capture.week_ending, tier=capture.tier, summary_type=capture.summary_type
        )
        set_attributes(rows=result.accepted, rejected=result.rejected.height)
    publication = NewPublication(
        week_ending=capture.week_ending,
        tier=capture.tier.name,
        scope=capture.scope,
        digest=_archive(capture, archive),
        origin=capture.origin,
        summary_type=capture.summary_type,
        bytes=capture.content.size,
        rows_expected=capture.rows_expected,
        run_id=run_id,
        **counts_and_dates(parsed, result, capture.scope, capture.rows_expected),
    )
    # A full-size week is in memory as text, as records and as volume: only what is still needed is kept.
    rejected, volume = result.rejected, result.volume.select(COMPARED)
    del parsed, result
    with span(LOAD, **whose, rows=publication.rows_received), database.transaction() as connection:
        recorded = record(connection, archive, publication, volume, rejected, since=since)
        set_attributes(outcome=recorded.outcome)
        stored = publication_of(connection, recorded.publication_id)
    assert stored is not None
    return Captured.of(capture, stored, recorded, rejected)


def captured_publication(week: dt.date, tier: Tier, database: Database, **details: object) -> WeekResult:
    """What is captured of a publication: the rows and the digests of its effective captures."""
    with database.transaction() as connection:
        found = effective_publications(connection, week, week).get((week, tier.name))
    captures = found.captures if found else []
    version = " ".join(capture.digest[:16] for capture in captures) or NOTHING_EFFECTIVE
    return WeekResult(sum(capture.rows_received for capture in captures), version, details or CAPTURED_BEFORE)


def _is_unchanged(week: dt.date, tier: Tier, source: Source, archive: Archive, database: Database) -> bool:
    """Whether the source states of the publication what is captured and effective, and its bytes are archived."""
    state = source.state(week, tier)
    if state is None or state not in captured_states(database, week, week).get((tier, week), ()):
        return False
    with database.transaction() as connection:
        found = effective_publications(connection, week, week)[week, tier.name]
    try:
        for capture in found.captures:
            archive.check(capture.digest)
    except ArchiveError:
        return False  # missing or damaged: fetching it again repairs the archive
    return bool(found.captures) and not found.quarantined


def capture_publication(
    week: dt.date,
    tier: Tier,
    source: Source,
    archive: Archive,
    database: Database,
    run_id: str,
    now: dt.datetime,
    *,
    only_if_changed: bool = False,
) -> WeekResult:
    """Fetches and records one publication.

    Before its publication date, and where FINRA has nothing, the result says so, with what was captured before.

    Args:
        week: the week.
        tier: the tier.
        source: where it is fetched.
        archive: where its bytes are kept.
        database: where it is recorded.
        run_id: the run that captures it.
        now: the time.
        only_if_changed: ask the source first, and do not fetch again what is captured and has not changed since.

    Raises:
        WeekRefused: what came can't be read.
        Dropped: retention has dropped the week, or would.
        SourceError: FINRA did not answer; trying again may help.
    """
    with database.transaction() as connection:
        require_kept(connection, "venue_volume", week)
    due = due_at(week, tier)
    if now < due:
        return captured_publication(week, tier, database, state=f"pending: FINRA publishes it on {due:%A, %Y-%m-%d}")
    if only_if_changed and _is_unchanged(week, tier, source, archive, database):
        return captured_publication(week, tier, database, state="unchanged at the source: not fetched again")
    with span(FETCH, week_ending=week, tier=tier.name):
        try:
            captures = source.fetch(week, tier, spool=archive.spool)
        except RefusedReply as error:
            record_rejection(database, run_id, error.origin, str(error), week_ending=week, tier=tier.name)
            raise WeekRefused(str(error)) from error
        set_attributes(captures=len(captures))
    if not captures:
        return captured_publication(week, tier, database, state="nothing there: the source has no such publication")
    try:
        captured = list(capture_all(captures, archive, database, run_id))
    except UnreadableFile as error:
        raise WeekRefused(str(error)) from error
    if failed := failures(captured):
        raise WeekRefused("; ".join(failed))
    details: dict[str, object] = {
        "state": ", ".join(sorted({c.recorded.outcome for c in captured})),
        "received": sum(c.publication.rows_received for c in captured),
        "accepted": sum(c.publication.rows_accepted for c in captured),
        "rejected": sum(c.publication.rows_rejected for c in captured),
        "digest": ", ".join(c.publication.digest for c in captured),
        "from": ", ".join(c.publication.origin for c in captured),
        "complete": all(c.publication.complete for c in captured),
    }
    reasons = pl.concat([c.rejected for c in captured])
    if reasons.height:
        details["rejected rows"] = reasons
    return captured_publication(week, tier, database, **details)
