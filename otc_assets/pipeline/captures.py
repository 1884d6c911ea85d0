"""Captures: reading their rows back from the archive, recording them, and an operator's decisions on them.

Which captures are effective is decided in ``domain.revisions``; parsing is in ``domain.parsing``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets.archive.store import Archive, ArchiveError
from otc_assets.domain.enums import CaptureScope, CaptureStatus, VenueKind
from otc_assets.domain.normalize import Normalized, normalize, split
from otc_assets.domain.parsing import Parsed, parse
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.revisions import HALVES, Part, effective, half_date, halves_covered, ranked, removal
from otc_assets.domain.weeks import TIER_BY_NAME, Tier
from otc_assets.errors import OtcError
from otc_assets.tracing import ARCHIVE, NORMALIZE, PARSE, set_attributes, span
from otc_assets.warehouse import load
from otc_assets.warehouse.load import Recorded
from otc_assets.warehouse.publication import NewPublication, Publication
from otc_assets.warehouse.read import publication_of, publications
from otc_assets.warehouse.server import lock_week

#: The columns of VENUE_VOLUME by which two captures are compared.
COMPARED = ("symbol", "issue_name", "product_type", "venue_kind", "venue_id", "venue_name", "share_volume")


class CaptureNotChangeable(OtcError):
    """A capture can't be accepted, withdrawn or restored. The message says why and what to do."""


# --- rows of a capture ---------------------------------------------------------------------------------


def parsed_rows(read: Callable[[], bytes], origin: str) -> Parsed:
    """The rows of a publication's bytes, in any known layout.

    The bytes are not kept: few publications have rejected rows, whose lines are needed.

    Args:
        read: reads the bytes. It is called again for the lines.
        origin: where they are from.

    Raises:
        UnreadableFile: the bytes are no publication.
    """
    content = read()
    with span(PARSE, origin=origin):
        parsed = parse(content, name=origin)
        set_attributes(rows=parsed.received, rejected=parsed.rejected.height)
        return replace(parsed, read_lines=lambda: parse(read(), name=origin).raw)


def _archived_rows(archive: Archive, digest: str, origin: str) -> Parsed:
    def read() -> bytes:
        with span(ARCHIVE, digest=digest):
            content = archive.get(digest)
            set_attributes(bytes=len(content))
            return content

    return parsed_rows(read, origin)


@lru_cache(maxsize=2)
def _parts_of_records(archive: Archive, digest: str, origin: str) -> dict[tuple[dt.date, Tier], Parsed]:
    """A file of records by week and tier: such a file may span years, and is read once for all of them."""
    return split(_archived_rows(archive, digest, origin))


def parsed_capture(publication: Publication, archive: Archive) -> Parsed:
    """The parsed rows of a recorded capture, from its archived bytes.

    Raises:
        ArchiveError: the archive does not have its bytes, or they are damaged.
        UnreadableFile: under the current rules, its bytes are no publication of its week and tier.
    """
    if publication.scope == CaptureScope.PARTIAL:
        parts = _parts_of_records(archive, publication.digest, publication.origin)  # type: ignore[arg-type]
        key = (publication.week_ending, TIER_BY_NAME[publication.tier])
        if key not in parts:
            raise UnreadableFile(
                publication.origin,
                f"it has no rows of {publication.tier}, week ending {publication.week_ending}, under the current rules",
                f"Withdraw capture {publication.id}, which came from it",
            )
        return parts[key]
    return _archived_rows(archive, publication.digest, publication.origin)


def counts_and_dates(parsed: Parsed, result: Normalized, scope: str, rows_expected: int | None) -> dict[str, Any]:
    """The fields of a publication that follow from its bytes and the current rules.

    Args:
        parsed: the parsed rows.
        result: the same rows, normalized.
        scope: the capture's scope.
        rows_expected: the number of rows that FINRA stated, if it did.
    """
    complete = scope != CaptureScope.PARTIAL and not parsed.truncated
    return {
        "layout": parsed.layout,
        "rows_received": result.received,
        "rows_accepted": result.accepted,
        "rows_rejected": result.rejected.height,
        "complete": complete and rows_expected in (None, parsed.received),
        "initial_published_date": result.initial_published_date,
        "last_update_date": result.last_update_date,
        "ats_last_update_date": result.last_update_of(HALVES[VenueKind.ATS]),
        "non_ats_last_update_date": result.last_update_of(HALVES[VenueKind.NON_ATS]),
    }


def normalized_rows(publication: Publication, parsed: Parsed) -> Normalized:
    """The normalized rows of a recorded capture, from its parsed rows."""
    week, tier = publication.week_ending, TIER_BY_NAME[publication.tier]
    with span(NORMALIZE, tier=tier.name):
        result = normalize(parsed, week_ending=week, tier=tier, summary_type=publication.summary_type)
        set_attributes(rows=result.accepted, rejected=result.rejected.height)
    return result


def archived(publication: Publication, archive: Archive) -> Normalized:
    """The normalized rows of a recorded capture, from its archived bytes.

    Raises:
        ArchiveError: the archive does not have its bytes, or they are damaged.
    """
    return normalized_rows(publication, parsed_capture(publication, archive))


def read_part(publication: Publication, archive: Archive, base_of: frozenset[str]) -> Part:
    """The rows of an effective capture, which is the base of the halves ``base_of``."""
    rows = archived(publication, archive)
    return Part(publication.id, rows.volume, rows.totals, base_of, publication.complete)


# --- recording -----------------------------------------------------------------------------------------


def record(
    connection: sa.Connection,
    archive: Archive,
    publication: NewPublication,
    volume: pl.DataFrame,
    rejected: pl.DataFrame,
    *,
    since: float | None = None,
) -> Recorded:
    """Records a capture; one that can't be a revision of the capture before it is quarantined.

    The captures of each half are compared in the order of FINRA's dates, not of their arrival: where an older
    capture arrives late and shows that the effective one lacks a large part, the effective one is quarantined.

    Args:
        connection: inside a transaction.
        archive: has the bytes of the captures that were recorded before.
        publication: the capture's particulars.
        volume: its rows (VENUE_VOLUME).
        rejected: REJECTED, the rows that were not accepted.
        since: ``time.perf_counter()`` when the work on the capture began; None: now.

    Raises:
        Dropped: retention has dropped the week's venue volume, or would.
    """
    since = time.perf_counter() if since is None else since
    lock_week(connection, publication.week_ending)
    if (same := load.recorded_before(connection, publication.__dict__)) is not None:
        return same
    week = publication.week_ending
    earlier = [p for p in publications(connection, week, week) if p.tier == publication.tier]
    reason, suspects = _compare(archive, publication, volume, earlier)
    for suspect, why in suspects:
        load.quarantine(connection, suspect, why)
    judged = publication.model_copy(update={"quarantine_reason": reason})
    return load.record_publication(connection, judged, rejected, since=since)


#: The id of a capture that is not recorded yet: the newest of all.
_UNRECORDED = 2**62


def _as_recorded(new: NewPublication) -> Publication:
    """A capture as it will be recorded, for comparison with those that are."""
    captured_at = dt.datetime.max.replace(tzinfo=dt.UTC)
    return Publication(**new.__dict__, id=_UNRECORDED, revision=0, captured_at=captured_at)


def _compare(
    archive: Archive, publication: NewPublication, volume: pl.DataFrame, earlier: list[Publication]
) -> tuple[str | None, list[tuple[Publication, str]]]:
    """Why the capture is quarantined, if it is; and which recorded captures it shows to lack a large part."""
    if not publication.rows_accepted:
        return None, []
    candidate = _as_recorded(publication)
    suspects: dict[int, tuple[Publication, str]] = {}
    rows: dict[int, pl.DataFrame | None] = {}

    def of(capture: Publication, half: str) -> pl.DataFrame | None:
        """The rows of a half; None where the archive lacks the capture: then nothing can be compared."""
        if capture.id not in rows:
            try:
                rows[capture.id] = archived(capture, archive).volume.select(COMPARED)
            except ArchiveError:
                rows[capture.id] = None
        found = rows[capture.id]
        return None if found is None else _half(found, half)

    for half in halves_covered(publication.scope):
        complete = [c for c in ranked([*earlier, candidate], half) if c.complete]
        if not publication.complete:
            if complete:
                return f"it was truncated, and capture {complete[-1].id} is complete", []
            continue
        at = complete.index(candidate)
        before, after = complete[at - 1] if at else None, complete[at + 1] if at + 1 < len(complete) else None
        mine = _half(volume, half)
        if after is not None:
            same_day = half_date(after, half) == half_date(candidate, half)
            if same_day:
                before = after
            elif after.accepted_over is None and after.rows_expected is None:
                # FINRA did not count its rows, and the older capture has what it lacks.
                theirs = of(after, half)
                if theirs is not None and (what := removal(mine, theirs)):
                    suspects[after.id] = (after, f"it would remove {what} of an older capture that arrived later")
                continue
            else:
                continue
        if before is not None:
            theirs = of(before, half)
            if theirs is not None and (what := removal(theirs, mine)):
                return f"it would remove {what} of capture {before.id}", []
    return None, list(suspects.values())


def _half(rows: pl.DataFrame, half: str) -> pl.DataFrame:
    return rows.filter(pl.col("venue_kind").is_in(list(HALVES[half])))


# --- an operator's decisions ---------------------------------------------------------------------------


def _changeable(connection: sa.Connection, publication_id: int) -> Publication:
    found = publication_of(connection, publication_id)
    if found is None:
        raise CaptureNotChangeable(
            f"there is no capture {publication_id}. 'otc-assets captures list' shows the captures there are."
        )
    lock_week(connection, found.week_ending)
    return publication_of(connection, publication_id) or found


def accept(connection: sa.Connection, publication_id: int) -> Publication:
    """Makes a quarantined capture effective: it takes precedence over what was effective until now.

    Raises:
        CaptureNotChangeable: there is no such capture, it is not quarantined, or another one stays effective.
    """
    capture = _changeable(connection, publication_id)
    if capture.withdrawn:
        raise CaptureNotChangeable(f"capture {capture.id} is withdrawn", remedy="Restore it first.")
    if not capture.quarantined:
        raise CaptureNotChangeable(f"capture {capture.id} is not quarantined: there is nothing to accept.")
    load.accept(connection, capture, accepted_over(connection, capture))
    week = capture.week_ending
    of_tier = [each for each in publications(connection, week, week) if each.tier == capture.tier]
    now = effective(of_tier)
    if capture.id not in {each.id for each in now.captures}:
        # Of two accepted ones of the same day, the one with more rows has precedence.
        bases = sorted({now.bases[half].id for half in halves_covered(capture.scope) if half in now.bases})
        raise CaptureNotChangeable(
            f"accepting capture {capture.id} would change nothing: {' and '.join(f'capture {n}' for n in bases)} would "
            "stay effective.",
            remedy="Withdraw that one first: 'otc-assets captures withdraw'.",
        )
    return capture


def accepted_over(connection: sa.Connection, capture: Publication) -> dt.date:
    """The newest lastUpdateDate of the captures that are effective until a quarantined capture is accepted."""
    week = capture.week_ending
    others = [p for p in publications(connection, week, week) if p.tier == capture.tier]
    bases = effective(others).bases
    dates = [
        max(half_date(bases[half], half), bases[half].accepted_over or dt.date.min)
        for half in halves_covered(capture.scope)
        if half in bases
    ]
    return max([*dates, dt.date(1, 1, 1)])


def withdraw(connection: sa.Connection, publication_id: int, reason: str) -> Publication:
    """Makes a capture ineffective, until it is restored.

    Raises:
        CaptureNotChangeable: there is no such capture, it is withdrawn, or no reason is given.
    """
    if not reason.strip():
        raise CaptureNotChangeable("a reason is required: it is recorded with the withdrawal.")
    capture = _changeable(connection, publication_id)
    if capture.withdrawn:
        raise CaptureNotChangeable(f"capture {capture.id} is withdrawn already: {capture.withdrawal_reason}")
    load.withdraw(connection, capture, reason.strip())
    return capture


def restore(connection: sa.Connection, publication_id: int) -> Publication:
    """Takes the withdrawal of a capture back.

    Raises:
        CaptureNotChangeable: there is no such capture, or it is not withdrawn.
    """
    capture = _changeable(connection, publication_id)
    if not capture.withdrawn:
        raise CaptureNotChangeable(f"capture {capture.id} is not withdrawn: there is nothing to restore.")
    load.restore(connection, capture)
    return capture


def states(captures: list[Publication]) -> Mapping[int, CaptureStatus]:
    """By id, the status of each capture of one (week, tier)."""
    chosen = {capture.id for capture in effective(captures).captures}
    return {
        capture.id: CaptureStatus.WITHDRAWN
        if capture.withdrawn
        else CaptureStatus.QUARANTINED
        if capture.quarantined
        else CaptureStatus.EMPTY
        if not capture.rows_accepted
        else CaptureStatus.EFFECTIVE
        if capture.id in chosen
        else CaptureStatus.SUPERSEDED
        for capture in captures
    }
