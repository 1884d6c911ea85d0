"""Writes publications with their rows, venue volume with its revisions, computed weeks, grades and gaps.

Each function works inside the caller's transaction, so a week is replaced as a whole or not touched. Reading is in
``read``; what to write is decided in ``domain``.
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

from otc_assets.domain.estimates import ESTIMATES
from otc_assets.domain.schema import REJECTED
from otc_assets.domain.tables import TABLES, figures
from otc_assets.warehouse import events
from otc_assets.warehouse.history import Change, replace_rows
from otc_assets.warehouse.kept_weeks import kept_weeks
from otc_assets.warehouse.publication import INSERT, NewPublication, Publication, PublicationFields
from otc_assets.warehouse.read import effective_publications
from otc_assets.warehouse.retention import require_kept
from otc_assets.warehouse.server import copy_in, lock_week
from otc_assets.warehouse.sql import statement


@dataclass(frozen=True)
class Recorded:
    """How a capture was recorded.

    Attributes:
        publication_id: the capture's id; if the same bytes were recorded before, the earlier capture's.
        revision: 1, 2, ... of the captures of one scope of the (week, tier).
        outcome: 'new', 'revised', or 'unchanged' (the same bytes again: nothing was written); 'superseded' if another
            effective capture takes precedence, 'quarantined' if it waits for an operator's decision.
    """

    publication_id: int
    revision: int
    outcome: str


def recorded_before(connection: sa.Connection, fields: Mapping[str, Any]) -> Recorded | None:
    """The capture of the same bytes that was recorded before, with outcome 'unchanged'; None if there is none.

    Args:
        connection: of the database.
        fields: ``week_ending``, ``tier``, ``scope``, ``summary_type`` and ``digest`` of the bytes.
    """
    same = connection.execute(statement("same_capture"), fields).one_or_none()
    return None if same is None else Recorded(same.id, same.revision, "unchanged")


def record_publication(
    connection: sa.Connection,
    publication: NewPublication,
    rejected: pl.DataFrame,
    *,
    since: float | None = None,
) -> Recorded:
    """Records a capture with the rows that were not accepted, and appends the event. Its bytes are in the archive.

    Args:
        connection: inside a transaction.
        publication: its fields.
        rejected: REJECTED, the rows that were not accepted.
        since: ``time.perf_counter()`` when the work on the capture began; None: now.

    Returns:
        How it was recorded; on 'unchanged' nothing was written, and no event appended.

    Raises:
        Dropped: retention has deleted the week's venue volume, or would delete it.
    """
    since = time.perf_counter() if since is None else since
    lock_week(connection, publication.week_ending)
    require_kept(connection, "venue_volume", publication.week_ending)
    same = recorded_before(connection, publication.__dict__)
    if same is not None:
        return same
    number, revision = insert_publication(connection, publication, rejected)
    recorded = Recorded(number, revision, _outcome(connection, publication, number, revision))
    payload = publication.model_dump(include=set(PublicationFields.model_fields))
    seconds = time.perf_counter() - since
    with events.event_context(publication.run_id):
        events.append(connection, events.FileIngested(**payload, **recorded.__dict__, seconds=seconds))
        if publication.quarantine_reason is not None:
            capture = _capture_fields(publication, number)
            events.append(connection, events.CaptureQuarantined(**capture, reason=publication.quarantine_reason))
    return recorded


def insert_publication(
    connection: sa.Connection, publication: NewPublication, rejected: pl.DataFrame
) -> tuple[int, int]:
    """Inserts a capture with the rows that were not accepted, without an event. Returns its id and revision."""
    row = connection.execute(INSERT, publication.__dict__).one()
    insert_rejected(connection, publication.week_ending, row.id, rejected)
    return row.id, row.revision


def insert_rejected(
    connection: sa.Connection, week_ending: dt.date, publication_id: int, rejected: pl.DataFrame
) -> None:
    """Inserts the rows of a capture that were not accepted (REJECTED)."""
    keys = [pl.lit(week_ending).alias("week_ending"), pl.lit(publication_id, pl.Int64).alias("publication_id")]
    copy_in(connection, "otc.rejected_record", rejected.select(*keys, *REJECTED))


def _outcome(connection: sa.Connection, publication: NewPublication, number: int, revision: int) -> str:
    if publication.quarantine_reason is not None:
        return "quarantined"
    found = effective_publications(connection, publication.week_ending, publication.week_ending)
    effective = [p.id for p in found[publication.week_ending, publication.tier].captures]
    if publication.rows_accepted and number not in effective:
        return "superseded"
    return "new" if revision == 1 else "revised"


def _capture_fields(capture: NewPublication, number: int) -> dict[str, Any]:
    """The fields of the events of an operator's decisions on the capture whose id is ``number``."""
    names = events.CaptureAccepted.model_fields.keys() - {"publication_id"}
    return {"publication_id": number, **{name: getattr(capture, name) for name in names}}


Decision = events.CaptureQuarantined | events.CaptureAccepted | events.CaptureWithdrawn | events.CaptureRestored
_DECISIONS: dict[type[Decision], sa.TextClause] = {
    events.CaptureQuarantined: sa.text("UPDATE otc.publication SET quarantine_reason = :reason WHERE id = :id"),
    events.CaptureAccepted: sa.text(
        "UPDATE otc.publication SET accepted_at = otc.transaction_time(), accepted_over = :over WHERE id = :id"
    ),
    events.CaptureWithdrawn: sa.text(
        "UPDATE otc.publication SET withdrawn_at = otc.transaction_time(), withdrawal_reason = :reason WHERE id = :id"
    ),
    events.CaptureRestored: sa.text(
        "UPDATE otc.publication SET withdrawn_at = NULL, withdrawal_reason = NULL WHERE id = :id"
    ),
}


def save_decision(connection: sa.Connection, decision: Decision, over: dt.date | None = None) -> None:
    """Saves a decision on a recorded capture, without an event; an accepted one takes precedence ``over`` a day."""
    values = {"id": decision.publication_id, "reason": getattr(decision, "reason", None), "over": over}
    connection.execute(_DECISIONS[type(decision)], values)


def _decide(connection: sa.Connection, decision: Decision, over: dt.date | None = None) -> None:
    save_decision(connection, decision, over)
    events.append(connection, decision)


def quarantine(connection: sa.Connection, capture: Publication, reason: str) -> None:
    """Quarantines a recorded capture: it is not effective until it is accepted."""
    _decide(connection, events.CaptureQuarantined(**_capture_fields(capture, capture.id), reason=reason))


def accept(connection: sa.Connection, capture: Publication, over: dt.date) -> None:
    """Accepts a quarantined capture: it takes precedence over captures whose newest row is of the day ``over``."""
    _decide(connection, events.CaptureAccepted(**_capture_fields(capture, capture.id)), over)


def withdraw(connection: sa.Connection, capture: Publication, reason: str) -> None:
    """Withdraws a capture: it is not effective until it is restored."""
    _decide(connection, events.CaptureWithdrawn(**_capture_fields(capture, capture.id), reason=reason))


def restore(connection: sa.Connection, capture: Publication) -> None:
    """Revokes a withdrawal."""
    _decide(connection, events.CaptureRestored(**_capture_fields(capture, capture.id)))


_IN_USE = sa.text("""
    UPDATE otc.publication SET rows_in_use = coalesce((CAST(:counts AS jsonb) ->> id::text)::bigint, 0)
    WHERE week_ending = :week_ending AND tier = :tier
""")


def save_rows_in_use(connection: sa.Connection, week_ending: dt.date, tier: str, in_use: Mapping[int, int]) -> None:
    """Saves how many rows of each capture of the week and tier are in the tables; captures not named have none."""
    counts = json.dumps({str(number): count for number, count in in_use.items()})
    connection.execute(_IN_USE, {"counts": counts, "week_ending": week_ending, "tier": tier})


def replace_volume(connection: sa.Connection, week_ending: dt.date, tier: str, volume: pl.DataFrame) -> Change:
    """Replaces the week's rows of the tier with ``volume`` (VENUE_VOLUME); those that differ are kept as a revision.

    Raises:
        Dropped: retention has deleted the week, or would delete it.
    """
    lock_week(connection, week_ending)
    require_kept(connection, "venue_volume", week_ending)
    change = replace_rows(connection, "venue_volume", {"week_ending": week_ending, "tier": tier}, volume)
    _keep(connection, "venue_volume", week_ending, tier, volume)
    return change


def replace_totals(connection: sa.Connection, week_ending: dt.date, tier: str, totals: pl.DataFrame) -> None:
    """Replaces FINRA's totals of the week and tier with ``totals`` (PUBLISHED_TOTAL)."""
    connection.execute(
        sa.text("DELETE FROM otc.published_total WHERE week_ending = :week_ending AND tier = :tier"),
        {"week_ending": week_ending, "tier": tier},
    )
    copy_in(connection, "otc.published_total", totals)
    _keep(connection, "published_total", week_ending, tier, totals)


def replace_week(connection: sa.Connection, table: str, week_ending: dt.date, rows: pl.DataFrame, version: str) -> None:
    """Replaces the week's rows of a figure, an estimate or the calendar with ``rows``, which are of ``version``.

    Raises:
        ValueError: ``table`` is none of these, or a row is of another week.
    """
    names = ["week_calendar", *(figure.name for figure in figures()), *(estimate.name for estimate in ESTIMATES)]
    if table not in names:
        raise ValueError(f"{table!r} is not a computed table; those are {', '.join(names)}")
    if rows.height and not (rows["week_ending"] == week_ending).all():
        raise ValueError(f"rows of other weeks than {week_ending} were given for otc.{table}")
    lock_week(connection, week_ending)
    if table == "week_calendar":
        connection.execute(_DELETE_CALENDAR, {"week_ending": week_ending})
        copy_in(connection, f"otc.{table}", rows)
    else:
        replace_rows(connection, table, {"week_ending": week_ending}, rows)
        _keep(connection, table, week_ending, None, rows)
    mark_computed(connection, table, week_ending, version, rows.height)


def _keep(connection: sa.Connection, table: str, week_ending: dt.date, tier: str | None, rows: pl.DataFrame) -> None:
    """Keeps a week that was written for the steps of the run that read it, if a run is under way."""
    if (kept := kept_weeks()) is not None and rows.schema == TABLES[table].schema:
        kept.keep_written(connection, (week_ending, table, tier), rows)


_DELETE_CALENDAR = sa.text("DELETE FROM otc.week_calendar WHERE week_ending = :week_ending")


def mark_computed(connection: sa.Connection, table: str, week_ending: dt.date, version: str, rows: int) -> None:
    """Records the version from which the week of ``table`` was computed."""
    connection.execute(
        statement("mark_computed"),
        {"table_name": table, "week_ending": week_ending, "version": version, "rows": rows},
    )


_DELETE_QUALITY = sa.text("DELETE FROM otc.week_quality WHERE week_ending = :week_ending AND tier = :tier")


def delete_quality(connection: sa.Connection, week_ending: dt.date, tier: str) -> None:
    """Deletes the grade of a week and tier that has no effective capture any more."""
    connection.execute(_DELETE_QUALITY, {"week_ending": week_ending, "tier": tier})


def save_quality(connection: sa.Connection, quality: pl.DataFrame, version: str) -> None:
    """Saves the grades (WEEK_QUALITY) of venue volume of ``version``, and appends one event per week."""
    save_grades(connection, quality, version)
    grades: dict[dt.date, dict[str, events.TierGrade]] = {}
    for row in quality.iter_rows(named=True):
        grade = events.TierGrade(grade=row["grade"], score=row["score"])
        grades.setdefault(row["week_ending"], {})[row["tier"]] = grade
    for week_ending, by_tier in grades.items():
        events.append(connection, events.WeekChecked(week_ending=week_ending, grades=by_tier, version=version))


def save_grades(connection: sa.Connection, quality: pl.DataFrame, version: str) -> None:
    """Saves the grades (WEEK_QUALITY) of venue volume of ``version``, without an event."""
    for row in quality.iter_rows(named=True):
        connection.execute(statement("save_quality"), {**row, "version": version})


_GAPS = sa.text("SELECT * FROM otc.gap WHERE week_ending = :week_ending")
_DELETE_GAP = sa.text("DELETE FROM otc.gap WHERE week_ending = :week_ending AND tier = :tier")


def replace_gaps(connection: sa.Connection, week_ending: dt.date, gaps: pl.DataFrame) -> None:
    """Replaces the reported gaps of the week with ``gaps`` (GAP), and appends what has opened, changed and closed.

    A gap that is reported as before is not touched: its ``reported_at`` is the time since which it is reported so.
    """
    stored = {row["tier"]: row for row in connection.execute(_GAPS, {"week_ending": week_ending}).mappings()}
    found = {row["tier"]: row for row in gaps.iter_rows(named=True)}
    same = {t for t, row in found.items() if t in stored and all(stored[t][name] == row[name] for name in row)}
    for tier in stored.keys() - same:
        delete_gap(connection, week_ending, tier)
    save_gaps(connection, gaps.filter(~pl.col("tier").is_in(list(same))))
    events.append_gap_changes(connection, week_ending, gaps, changed=found.keys() - same)


def delete_gap(connection: sa.Connection, week_ending: dt.date, tier: str) -> None:
    """Deletes a reported gap, without an event."""
    connection.execute(_DELETE_GAP, {"week_ending": week_ending, "tier": tier})


def save_gaps(connection: sa.Connection, gaps: pl.DataFrame) -> None:
    """Saves reported gaps (GAP) that are not stored, without an event."""
    copy_in(connection, "otc.gap", gaps)
