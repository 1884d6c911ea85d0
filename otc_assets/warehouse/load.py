"""Writing: publications with their rows, venue volume with its revisions, computed weeks, grades, gaps.

Here: every statement that changes a row of ours. Each function works inside the caller's transaction, so
that a week is replaced whole or not touched. Not here: reading (``read``), deciding what to write (``domain``).
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.schema import REJECTED
from otc_assets.domain.tables import figures
from otc_assets.warehouse import events
from otc_assets.warehouse.history import Change, replace_rows
from otc_assets.warehouse.read import Publication, effective_publications
from otc_assets.warehouse.retention import is_kept, require_kept
from otc_assets.warehouse.server import copy_in, lock_week


@dataclass(frozen=True)
class NewPublication:
    """A capture, judged and ready to be recorded. Columns of ``otc.publication`` of the same names."""

    week_ending: dt.date
    tier: str
    scope: str
    digest: str
    origin: str
    summary_type: str | None
    layout: str
    bytes: int
    rows_received: int
    rows_accepted: int
    rows_rejected: int
    rows_expected: int | None
    complete: bool
    initial_published_date: dt.date | None
    last_update_date: dt.date | None
    run_id: str | None
    ats_last_update_date: dt.date | None = None
    non_ats_last_update_date: dt.date | None = None
    quarantine_reason: str | None = None


@dataclass(frozen=True)
class Recorded:
    """What became of a capture.

    Attributes:
        publication_id: the capture's id; of the same bytes again, that of the first.
        revision: 1, 2, ... of the captures of one scope of the (week, tier).
        outcome: 'new', 'revised', or 'unchanged' (the same bytes again: nothing was written); 'superseded' where an
            effective capture takes precedence over it, 'quarantined' where it waits for a decision.
    """

    publication_id: int
    revision: int
    outcome: str


# The same bytes are recorded once: FINRA dates every revision, so that bytes of before are an older capture. A full
# publication is what FINRA's API answers now: one that FINRA took back to what it was is recorded again.
_SAME_BYTES = sa.text("""
    SELECT id, revision FROM (
        SELECT id, revision, digest, summary_type, scope, revision = max(revision) OVER () AS newest
        FROM otc.publication
        WHERE week_ending = :week_ending AND tier = :tier AND scope = :scope
    ) earlier
    WHERE digest = :digest AND summary_type IS NOT DISTINCT FROM :summary_type AND (newest OR scope <> 'FULL')
    ORDER BY revision DESC LIMIT 1
""")

_INSERT_PUBLICATION = sa.text("""
    INSERT INTO otc.publication (
        week_ending, tier, scope, revision, digest, origin, summary_type, layout, bytes, rows_received,
        rows_accepted, rows_rejected, rows_expected, complete, initial_published_date, last_update_date, run_id,
        ats_last_update_date, non_ats_last_update_date, quarantine_reason
    )
    SELECT :week_ending, :tier, :scope, coalesce(max(revision), 0) + 1, :digest, :origin, :summary_type, :layout,
        :bytes, :rows_received, :rows_accepted, :rows_rejected, CAST(:rows_expected AS bigint), :complete,
        CAST(:initial_published_date AS date), CAST(:last_update_date AS date), CAST(:run_id AS text),
        CAST(:ats_last_update_date AS date), CAST(:non_ats_last_update_date AS date), CAST(:quarantine_reason AS text)
    FROM otc.publication
    WHERE week_ending = :week_ending AND tier = :tier AND scope = :scope
    RETURNING id, revision
""")


def recorded_before(connection: sa.Connection, publication: NewPublication) -> Recorded | None:
    """The capture of the same bytes that was recorded before, with outcome 'unchanged'; None where there is none."""
    same = connection.execute(_SAME_BYTES, publication.__dict__).one_or_none()
    return None if same is None else Recorded(same.id, same.revision, "unchanged")


def record_publication(
    connection: sa.Connection,
    publication: NewPublication,
    raw: pl.DataFrame,
    rejected: pl.DataFrame,
    *,
    since: float | None = None,
) -> Recorded:
    """Records a capture with its rows as FINRA sent them and those that were not accepted, and appends the event.

    Rows of a week of which retention keeps no raw rows are not stored as rows; their bytes are in the archive.

    Args:
        connection: inside a transaction.
        publication: its particulars.
        raw: columns ``line`` and ``record``, every row received.
        rejected: REJECTED, the rows that were not accepted.
        since: ``time.perf_counter()`` when the work on the capture began; None: now.

    Returns:
        What became of it; on 'unchanged' nothing was written, and no event appended.

    Raises:
        Dropped: retention has dropped the week's venue volume, or would.
    """
    since = time.perf_counter() if since is None else since
    lock_week(connection, publication.week_ending)
    require_kept(connection, "venue_volume", publication.week_ending)
    same = recorded_before(connection, publication)
    if same is not None:
        return same
    values = publication.__dict__
    row = connection.execute(_INSERT_PUBLICATION, values).one()
    whose = _whose(publication.week_ending, row.id)
    if is_kept(connection, "raw_record", publication.week_ending):
        copy_in(connection, "otc.raw_record", raw.select(*whose, "line", "record"))
    copy_in(connection, "otc.rejected_record", rejected.select(*whose, *REJECTED))
    recorded = Recorded(row.id, row.revision, _outcome(connection, publication, row.id, row.revision))
    payload = {name: values[name] for name in events.FileIngested.model_fields.keys() & values.keys()}
    seconds = time.perf_counter() - since
    with events.event_context(publication.run_id):
        events.append(connection, events.FileIngested(**payload, **recorded.__dict__, seconds=seconds))
        if publication.quarantine_reason is not None:
            events.append(connection, _quarantined(row.id, publication, publication.quarantine_reason))
    return recorded


def _outcome(connection: sa.Connection, publication: NewPublication, number: int, revision: int) -> str:
    if publication.quarantine_reason is not None:
        return "quarantined"
    found = effective_publications(connection, publication.week_ending, publication.week_ending)
    effective = [p.id for p in found[publication.week_ending, publication.tier].captures]
    if publication.rows_accepted and number not in effective:
        return "superseded"
    return "new" if revision == 1 else "revised"


def _quarantined(number: int, whose: NewPublication | Publication, reason: str) -> events.CaptureQuarantined:
    return events.CaptureQuarantined(
        publication_id=number,
        week_ending=whose.week_ending,
        tier=whose.tier,
        scope=whose.scope,
        origin=whose.origin,
        digest=whose.digest,
        reason=reason,
    )


_QUARANTINE = sa.text("UPDATE otc.publication SET quarantine_reason = :reason WHERE id = :id")
_ACCEPT = sa.text("UPDATE otc.publication SET accepted_at = now(), accepted_over = :over WHERE id = :id")
_WITHDRAW = sa.text("UPDATE otc.publication SET withdrawn_at = now(), withdrawal_reason = :reason WHERE id = :id")
_RESTORE = sa.text("UPDATE otc.publication SET withdrawn_at = NULL, withdrawal_reason = NULL WHERE id = :id")


def quarantine(connection: sa.Connection, capture: Publication, reason: str) -> None:
    """Quarantines a recorded capture: it is not effective until it is accepted."""
    connection.execute(_QUARANTINE, {"id": capture.id, "reason": reason})
    events.append(connection, _quarantined(capture.id, capture, reason))


def accept(connection: sa.Connection, capture: Publication, over: dt.date) -> None:
    """Accepts a quarantined capture: it takes precedence over captures whose newest row is of the day ``over``."""
    connection.execute(_ACCEPT, {"id": capture.id, "over": over})
    events.append(connection, events.CaptureAccepted(**_particulars(capture)))


def withdraw(connection: sa.Connection, capture: Publication, reason: str) -> None:
    """Withdraws a capture: it is not effective until it is restored."""
    connection.execute(_WITHDRAW, {"id": capture.id, "reason": reason})
    events.append(connection, events.CaptureWithdrawn(**_particulars(capture), reason=reason))


def restore(connection: sa.Connection, capture: Publication) -> None:
    """Takes a withdrawal back."""
    connection.execute(_RESTORE, {"id": capture.id})
    events.append(connection, events.CaptureRestored(**_particulars(capture)))


def _particulars(capture: Publication) -> dict[str, Any]:
    names = events.CaptureAccepted.model_fields.keys() - {"publication_id"}
    return {"publication_id": capture.id, **{name: getattr(capture, name) for name in names}}


_IN_USE = sa.text("""
    UPDATE otc.publication SET rows_in_use = coalesce((CAST(:counts AS jsonb) ->> id::text)::bigint, 0)
    WHERE week_ending = :week_ending AND tier = :tier
""")


def save_rows_in_use(connection: sa.Connection, week_ending: dt.date, tier: str, in_use: Mapping[int, int]) -> None:
    """Saves how many rows of each capture of the week and tier are in the tables; of those not named, none are."""
    counts = json.dumps({str(number): count for number, count in in_use.items()})
    connection.execute(_IN_USE, {"counts": counts, "week_ending": week_ending, "tier": tier})


def _whose(week_ending: dt.date, publication_id: int) -> list[pl.Expr]:
    return [pl.lit(week_ending).alias("week_ending"), pl.lit(publication_id, pl.Int64).alias("publication_id")]


_HAS_RAW_ROWS = sa.text("""
    SELECT EXISTS (
        SELECT FROM otc.raw_record WHERE week_ending = :week_ending AND publication_id = :publication_id
    )
""")


def restore_raw_rows(connection: sa.Connection, week_ending: dt.date, publication_id: int, raw: pl.DataFrame) -> None:
    """Stores the raw rows (``line``, ``record``) of a recorded capture again, if it has none and they are kept."""
    lock_week(connection, week_ending)
    which = {"week_ending": week_ending, "publication_id": publication_id}
    if is_kept(connection, "raw_record", week_ending) and not connection.execute(_HAS_RAW_ROWS, which).scalar_one():
        copy_in(connection, "otc.raw_record", raw.select(*_whose(week_ending, publication_id), "line", "record"))


def replace_volume(connection: sa.Connection, week_ending: dt.date, tier: str, volume: pl.DataFrame) -> Change:
    """Makes ``volume`` (VENUE_VOLUME, all rows of the week and tier) the truth; what differed is kept as a revision.

    Raises:
        Dropped: retention has dropped the week, or would.
    """
    lock_week(connection, week_ending)
    require_kept(connection, "venue_volume", week_ending)
    scope = {"week_ending": week_ending, "tier": tier}
    return replace_rows(connection, "venue_volume", scope, volume)


def replace_totals(connection: sa.Connection, week_ending: dt.date, tier: str, totals: pl.DataFrame) -> None:
    """Makes ``totals`` (PUBLISHED_TOTAL) FINRA's totals of the week and tier."""
    connection.execute(
        sa.text("DELETE FROM otc.published_total WHERE week_ending = :week_ending AND tier = :tier"),
        {"week_ending": week_ending, "tier": tier},
    )
    copy_in(connection, "otc.published_total", totals)


def replace_week(connection: sa.Connection, table: str, week_ending: dt.date, rows: pl.DataFrame, version: str) -> None:
    """Makes ``rows`` the week's rows of a figure or of the calendar, computed from inputs of ``version``.

    Raises:
        ValueError: ``table`` is neither, or a row is of another week.
    """
    names = ["week_calendar", *(figure.name for figure in figures())]
    if table not in names:
        raise ValueError(f"{table!r} is no computed table; those are {', '.join(names)}")
    if rows.height and not (rows["week_ending"] == week_ending).all():
        raise ValueError(f"rows of other weeks than {week_ending} were given for otc.{table}")
    lock_week(connection, week_ending)
    if table == "week_calendar":
        connection.execute(_DELETE_CALENDAR, {"week_ending": week_ending})
        copy_in(connection, f"otc.{table}", rows)
    else:
        replace_rows(connection, table, {"week_ending": week_ending}, rows)
    mark_computed(connection, table, week_ending, version, rows.height)


_DELETE_CALENDAR = sa.text("DELETE FROM otc.week_calendar WHERE week_ending = :week_ending")


_MARK = sa.text("""
    INSERT INTO otc.computed_week (table_name, week_ending, version, rows, computed_at)
    VALUES (:table_name, :week_ending, :version, :rows, otc.write_moment())
    ON CONFLICT (table_name, week_ending) DO UPDATE
    SET version = excluded.version, rows = excluded.rows, computed_at = excluded.computed_at, xid = excluded.xid
""")


def mark_computed(connection: sa.Connection, table: str, week_ending: dt.date, version: str, rows: int) -> None:
    """Notes that the week of ``table`` was made from inputs of ``version``."""
    connection.execute(_MARK, {"table_name": table, "week_ending": week_ending, "version": version, "rows": rows})


_DELETE_QUALITY = sa.text("DELETE FROM otc.week_quality WHERE week_ending = :week_ending AND tier = :tier")


def delete_quality(connection: sa.Connection, week_ending: dt.date, tier: str) -> None:
    """Deletes the grade of a week and tier of which no capture is effective any more."""
    connection.execute(_DELETE_QUALITY, {"week_ending": week_ending, "tier": tier})


_SAVE_QUALITY = sa.text("""
    INSERT INTO otc.week_quality (week_ending, tier, grade, score, findings, version)
    VALUES (:week_ending, :tier, :grade, :score, CAST(:findings AS jsonb), :version)
    ON CONFLICT (week_ending, tier) DO UPDATE
    SET grade = excluded.grade, score = excluded.score, findings = excluded.findings,
        version = excluded.version, judged_at = now()
""")


def save_quality(connection: sa.Connection, quality: pl.DataFrame, version: str) -> None:
    """Saves the grades (WEEK_QUALITY) of venue volume of ``version``, and tells of them week by week."""
    grades: dict[dt.date, dict[str, events.TierGrade]] = {}
    for row in quality.iter_rows(named=True):
        connection.execute(_SAVE_QUALITY, {**row, "version": version})
        grade = events.TierGrade(grade=row["grade"], score=row["score"])
        grades.setdefault(row["week_ending"], {})[row["tier"]] = grade
    for week_ending, by_tier in grades.items():
        events.append(connection, events.WeekChecked(week_ending=week_ending, grades=by_tier, version=version))


def replace_gaps(connection: sa.Connection, week_ending: dt.date, gaps: pl.DataFrame) -> None:
    """Makes ``gaps`` (GAP) the reported gaps of the week, and tells which have opened and closed."""
    connection.execute(sa.text("DELETE FROM otc.gap WHERE week_ending = :week_ending"), {"week_ending": week_ending})
    copy_in(connection, "otc.gap", gaps)
    events.append_gap_changes(connection, week_ending, gaps)
