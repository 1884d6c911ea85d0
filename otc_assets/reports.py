"""Tables for the command line: the state of weeks, gaps, what was taken in, what happened, alerts.

Here: asking the warehouse and shaping rows for people and programs. Not here: printing (``cli``), judging
(``domain``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import sqlalchemy as sa

from otc_assets.archive.store import Archive, ArchiveError, MissingObject
from otc_assets.assets.gap_report import current_gaps
from otc_assets.domain.checks import worst
from otc_assets.domain.gaps import PENDING, ranges_and_history
from otc_assets.domain.revisions import effective, halves_covered
from otc_assets.domain.tables import in_order
from otc_assets.domain.weeks import TIERS, due_at
from otc_assets.errors import OtcError
from otc_assets.finra.source import Source
from otc_assets.partitions import newest_weeks
from otc_assets.pipeline.captures import states
from otc_assets.resources import Warehouse
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse import events
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import effective_publications, publications
from otc_assets.warehouse.retention import kept_tables
from otc_assets.warehouse.timescale.hypertables import chunks, sizes

_BY_WEEK = sa.text("""
    SELECT week_ending, tier, count(*) AS rows, sum(share_volume) AS shares FROM otc.venue_volume
    WHERE week_ending BETWEEN :first AND :last GROUP BY week_ending, tier
""")
_GRADES = sa.text("SELECT week_ending, tier, grade FROM otc.week_quality WHERE week_ending BETWEEN :first AND :last")

_FIRST_CAPTURED = sa.text("SELECT tier, min(week_ending) AS week FROM otc.publication GROUP BY tier")


def week_status(warehouse: Warehouse, count: int, now: dt.datetime) -> list[dict[str, Any]]:
    """The newest weeks, newest last: by tier rows or a state; then rows, grade, shares, and what is stale.

    The state of a tier without rows is 'dropped' by retention, 'captured' and not computed yet (again, after
    retention was raised), 'pending' or 'missing'.
    """
    weeks = newest_weeks(count, now)
    if not weeks:
        return []
    span = {"first": weeks[0], "last": weeks[-1]}
    with warehouse.transaction() as connection:
        loaded = {(row.week_ending, row.tier): row for row in connection.execute(_BY_WEEK, span)}
        grades: dict[dt.date, list[str]] = {}
        for week, _, grade in connection.execute(_GRADES, span):
            grades.setdefault(week, []).append(grade)
        known = lineage(connection)
        recorded = publications(connection, weeks[0], weeks[-1])
        effective_now = effective_publications(connection, weeks[0], weeks[-1])
    captured = {key for key, found in effective_now.items() if found.captures}
    remarks = _remarks(recorded)
    stale = {t: set(known.stale(t)) for t in in_order()}
    rows = []
    for week in weeks:
        parts = {tier.id: loaded.get((week, tier.name)) for tier in TIERS}
        waiting = [table for table, found in stale.items() if week in found]
        rows.append(
            {
                "week_ending": week,
                **{
                    tier.id: part.rows
                    if (part := parts[tier.id])
                    else "dropped"
                    if known.kept_from and week < known.kept_from
                    else "captured"
                    if (week, tier.name) in captured
                    else "pending"
                    if now < due_at(week, tier)
                    else "missing"
                    for tier in TIERS
                },
                "rows": sum(part.rows for part in parts.values() if part),
                "grade": worst(grades.get(week, [])),
                "shares": int(sum(part.shares for part in parts.values() if part)),
                "state": "; ".join(
                    [
                        *(
                            ["blocked"]
                            if week in known.blocked
                            else [f"stale: {', '.join(waiting)}"]
                            if waiting
                            else []
                        ),
                        *remarks.get(week, []),
                    ]
                ),
            }
        )
    return rows


def _remarks(recorded: Sequence[Publication]) -> dict[dt.date, list[str]]:
    """By week, the captures that a user must know of: quarantined ones, and a newest one that is not effective."""
    groups: dict[tuple[dt.date, str], list[Publication]] = {}
    for capture in recorded:
        groups.setdefault((capture.week_ending, capture.tier), []).append(capture)
    remarks: dict[dt.date, list[str]] = {}
    for (week, _), group in sorted(groups.items()):
        of_group = states(group)
        newest = max(of_group)
        remarks.setdefault(week, []).extend(
            f"capture {number} {status}"
            for number, status in of_group.items()
            if status == "quarantined" or (number == newest and status != "effective")
        )
    return remarks


def storage_by_table(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The tables that grow by week, largest first: size, chunks, compressed chunks and their ratio, kept_from."""
    with warehouse.transaction() as connection:

        def rows(query: str) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(sa.text(query)).mappings()]

        first = {table: week for _, tables, week in kept_tables(connection) for table in tables}
        chunked = {found.table: found for found in chunks(rows)}
        on_disk = sizes(rows)
    return [
        {
            "table": table,
            "size_mb": round(size / 1e6, 1),
            "chunks": found.chunks if (found := chunked.get(table)) else None,
            "compressed": found.compressed_chunks if found else None,
            "ratio": round(found.ratio, 1) if found and found.ratio else None,
            "kept_from": first.get(table),
        }
        for table, size in on_disk.items()
    ]


def gap_ranges(warehouse: Warehouse, source: Source, now: dt.datetime, *, with_pending: bool) -> list[dict[str, Any]]:
    """The gaps at this moment, consecutive weeks folded into one row; history that was never requested comes first."""
    found = current_gaps(warehouse, source, now)
    if not with_pending:
        found = found.filter(pl.col("status") != PENDING)
    with warehouse.transaction() as connection:
        first_captured = {row.tier: row.week for row in connection.execute(_FIRST_CAPTURED)}
    return ranges_and_history(found, first_captured).to_dicts()


# --- captures ------------------------------------------------------------------------------------------


def captures(warehouse: Warehouse, first: dt.date = dt.date.min, last: dt.date = dt.date.max) -> list[dict[str, Any]]:
    """The captures of the weeks from ``first`` to ``last``, oldest first: columns of ``otc.publication``, and `status`.

    `status` is 'effective', 'superseded', 'quarantined', 'withdrawn' or 'empty'; `detail` explains it in words.
    """
    with warehouse.transaction() as connection:
        found = publications(connection, first, last)
    groups: dict[tuple[dt.date, str], list[Publication]] = {}
    for capture in found:
        groups.setdefault((capture.week_ending, capture.tier), []).append(capture)
    rows = {}
    for group in groups.values():
        of_group = states(group)
        for capture in group:
            status = of_group[capture.id]
            rows[capture.id] = {**vars(capture), "status": status, "detail": _why(capture, status, group)}
    return [rows[capture.id] for capture in found]


def _why(capture: Publication, status: str, group: list[Publication]) -> str:
    match status:
        case "quarantined":
            return capture.quarantine_reason or ""
        case "withdrawn":
            return capture.withdrawal_reason or ""
        case "empty":
            return "no row was accepted"
        case "superseded":
            halves = halves_covered(capture.scope)
            instead = sorted({base.id for half, base in effective(group).bases.items() if half in halves})
            ids = " and ".join(map(str, instead))
            return f"capture {ids} takes precedence" if instead else ""
    if capture.rows_in_use is not None and capture.rows_in_use < capture.rows_accepted:
        return f"{capture.rows_in_use:,} of {capture.rows_accepted:,} rows in use; others have newer ones"
    return "accepted from quarantine" if capture.accepted_at else ""


def capture(warehouse: Warehouse, capture_id: int) -> dict[str, Any]:
    """One capture, as ``captures`` has it.

    Raises:
        OtcError: there is no such capture.
    """
    for found in captures(warehouse):
        if found["id"] == capture_id:
            return found
    raise OtcError(
        f"there is no capture {capture_id}", remedy="'otc-assets captures list' shows the captures there are."
    )


def ingested(warehouse: Warehouse, files: Sequence[Path], run_id: str) -> list[dict[str, Any]]:
    """The captures that files hold, by the digests of the files; those of one file, tier and status in one row.

    Args:
        warehouse: where the captures are recorded.
        files: the files; one that can't be read has no captures.
        run_id: the run that ingested them; what an earlier one recorded has `already_ingested`.
    """
    asked = sa.text("SELECT min(week_ending), max(week_ending) FROM otc.publication WHERE digest = ANY(:digests)")
    digests = {digest for path in files if (digest := _sha256(path))}
    with warehouse.transaction() as connection:
        first, last = connection.execute(asked, {"digests": list(digests)}).one()
    if first is None:
        return []
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in captures(warehouse, first, last):
        if row["digest"] in digests:
            detail = row["detail"] if row["status"] != "effective" else ""
            key = (row["digest"], row["tier"], row["scope"], row["status"], detail, row["run_id"] == run_id)
            groups.setdefault(key, []).append(row)
    found = []
    for (_, tier, scope, status, detail, is_new), rows in groups.items():
        weeks = sorted({row["week_ending"] for row in rows})
        counts = {
            name: sum(row[f"rows_{name}"] or 0 for row in rows)
            for name in ("received", "accepted", "rejected", "in_use")
        }
        found.append(
            {
                "origin": rows[0]["origin"],
                "weeks": str(weeks[0]) if len(weeks) == 1 else f"{weeks[0]}..{weeks[-1]} ({len(weeks)})",
                "tier": tier,
                "scope": scope,
                **counts,
                "status": status,
                "detail": detail,
                "already_ingested": not is_new,
                "capture_ids": [row["id"] for row in rows],
            }
        )
    return found


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def damaged_captures(
    warehouse: Warehouse, archive: Archive, sample: int | None, progress: Callable[[int, str], None]
) -> tuple[int, list[dict[str, Any]]]:
    """Reads the archived bytes of every capture, and compares them with their digest.

    Args:
        warehouse: where the captures are recorded.
        archive: where their bytes are.
        sample: verify so many objects only, chosen at random; None verifies all.
        progress: called with the number of objects done, and how many captures are affected so far.

    Returns:
        How many objects were verified, and the captures whose bytes are missing or damaged, oldest week first.
    """
    with warehouse.transaction() as connection:
        captures = publications(connection, dt.date.min, dt.date.max)
    digests = sorted({capture.digest for capture in captures})
    if sample is not None and sample < len(digests):
        digests = random.sample(digests, sample)
    problems: dict[str, tuple[str, str]] = {}
    for done, digest in enumerate(digests):
        progress(done, f"{len(problems)} damaged or missing")
        try:
            archive.get(digest)
        except MissingObject as error:
            problems[digest] = "missing", str(error)
        except ArchiveError as error:
            problems[digest] = "damaged", str(error)
    progress(len(digests), f"{len(problems)} damaged or missing")
    return len(digests), [
        {
            "week_ending": capture.week_ending,
            "tier": capture.tier,
            "publication": capture.id,
            "scope": capture.scope,
            "origin": capture.origin,
            "digest": capture.digest,
            "problem": problems[capture.digest][0],
            "detail": problems[capture.digest][1],
        }
        for capture in captures
        if capture.digest in problems
    ]


# --- events --------------------------------------------------------------------------------------------

#: How often a follower looks for new events.
_FOLLOW_SECONDS = 0.5


def _said(event: events.Event) -> str:
    """An event in a line, for people; one that a newer version wrote as it is stored."""
    where = " ".join(str(event.payload[name]) for name in ("week_ending", "tier") if name in event.payload)
    try:
        told = event.typed_payload()
    except events.UnknownEvent:
        return json.dumps(event.payload)
    match told:
        case events.FileIngested():
            what = f"{told.outcome}, {told.rows_accepted:,} rows accepted, {told.rows_rejected:,} rejected"
            what += "" if told.complete else ", not complete"
        case events.CaptureQuarantined() | events.CaptureWithdrawn():
            what = f"capture {told.publication_id}: {told.reason}"
        case events.CaptureAccepted() | events.CaptureRestored():
            what = f"capture {told.publication_id} of {told.origin}"
        case events.FileRejected():
            what = told.reason
        case events.WeekNormalized():
            what = f"{told.rows:,} rows"
        case events.WeekRevised():
            what = f"{told.added:,} rows added, {told.changed:,} changed, {told.removed:,} removed"
        case events.SummaryComputed() | events.MetricsComputed():
            what = f"{told.table}, {told.rows:,} rows"
        case events.WeekChecked():
            what = ", ".join(f"{tier} {judged.grade}" for tier, judged in sorted(told.grades.items()))
        case events.GapOpened() | events.GapClosed():
            what = told.status
        case events.CheckFailed():
            what = f"{told.asset}.{told.check} {told.severity}{', blocking' if told.blocking else ''}"
        case events.RetentionApplied():
            what = f"{told.what}: {told.weeks:,} weeks before {told.retained_from} dropped"
        case _:
            what = json.dumps(event.payload)
    return f"{where}: {what}" if where else what


def _event(event: events.Event) -> dict[str, Any]:
    """An event for people and programs: all that is stored, and in ``what`` a line that says it."""
    stored = ("id", "event_id", "event_type", "aggregate_type", "aggregate_id", "version", "payload", "metadata")
    return {
        **{name: getattr(event, name) for name in stored},
        "created_at": event.created_at.isoformat(),
        "cursor": str(event.cursor),
        "what": _said(event),
    }


def newest_events(warehouse: Warehouse, count: int, event_type: str | None) -> list[dict[str, Any]]:
    """The newest events, oldest first."""
    with warehouse.transaction() as connection:
        return [_event(event) for event in events.newest(connection, count, event_type)]


def follow_events(
    warehouse: Warehouse, count: int, event_type: str | None, wait: Callable[[float], bool]
) -> Iterator[list[dict[str, Any]]]:
    """The newest events that are final, and then those that come, none twice and none left out.

    Args:
        warehouse: where they are.
        count: how many of the newest.
        event_type: events of this type alone.
        wait: waits so many seconds, and says whether that was enough.
    """
    with warehouse.transaction() as connection:
        found = events.newest(connection, max(count, 1), event_type, final=True)
    cursor = found[-1].cursor if found else events.START
    yield [_event(event) for event in found] if count else []
    while not wait(0 if found else _FOLLOW_SECONDS):
        with warehouse.transaction() as connection:
            found = events.read(connection, cursor, event_type=event_type)
        if found:
            cursor = found[-1].cursor
            yield [_event(event) for event in found]


def event_of(warehouse: Warehouse, which: int | UUID) -> dict[str, Any]:
    """The event of an id or an event_id.

    Raises:
        OtcError: there is no such event.
    """
    with warehouse.transaction() as connection:
        found = events.find(connection, which)
    if found is None:
        raise OtcError(f"there is no event {which}", remedy="'otc-assets events tail' shows the most recent events.")
    return _event(found)


def week_history(warehouse: Warehouse, week_ending: dt.date) -> dict[str, Any]:
    """How far the week is, tier by tier, and all that has happened to it, oldest first."""
    with warehouse.transaction() as connection:
        return {
            "week_ending": week_ending,
            "tiers": [dict(row) for row in events.week_states(connection, week_ending)],
            "events": [_event(event) for event in events.history(connection, week_ending)],
        }


def replay_events(warehouse: Warehouse) -> dict[str, Any]:
    """Makes the projections of events anew: how many events there are, and rows by projection."""
    with warehouse.transaction() as connection:
        count, rows = events.replay(connection)
    return {"events": count, "rows": rows}


# --- alerts --------------------------------------------------------------------------------------------


def recent_alerts(warehouse: Warehouse, count: int) -> list[dict[str, Any]]:
    """The newest alerts, newest first: columns of ``otc.alert``, and `delivery`, which says it in words."""
    with warehouse.transaction() as connection:
        rows = outbox.recent(connection, count)
    for row in rows:
        attempts = f"{row['attempts']} failed attempt{'' if row['attempts'] == 1 else 's'}"
        row["delivery"] = {
            "waiting": f"pending, {attempts}: {row['last_error']}" if row["last_error"] else "pending",
            "unwanted": "not sent: OTC_ALERT_URL was not set",
            "delivered": f"delivered {row['delivered_at']:%Y-%m-%d %H:%M}" if row["delivered_at"] else "",
        }[row["state"]]
    return rows
