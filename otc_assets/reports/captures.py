"""Captures and whether they are effective; what files hold; captures whose archived bytes are damaged."""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from otc_assets.archive.parallel import in_threads
from otc_assets.archive.store import Archive, error_of
from otc_assets.domain.enums import CaptureStatus
from otc_assets.domain.revisions import effective, halves_covered
from otc_assets.errors import OtcError
from otc_assets.pipeline.captures import states
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.datasets import all_captures
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import by_week_and_tier, publications


def captures(database: Database, first: dt.date = dt.date.min, last: dt.date = dt.date.max) -> list[dict[str, Any]]:
    """The captures of the weeks from ``first`` to ``last``, oldest first: columns of ``otc.publication``, and `status`.

    `status` is 'effective', 'superseded', 'quarantined', 'withdrawn' or 'empty'; `detail` explains it in words.
    """
    with database.transaction() as connection:
        found = publications(connection, first, last)
    rows = {}
    for group in by_week_and_tier(found).values():
        of_group = states(group)
        for capture in group:
            status = of_group[capture.id]
            rows[capture.id] = {**vars(capture), "status": status, "detail": _why(capture, status, group)}
    return [rows[capture.id] for capture in found]


def _why(capture: Publication, status: str, group: list[Publication]) -> str:
    match status:
        case CaptureStatus.QUARANTINED:
            return capture.quarantine_reason or ""
        case CaptureStatus.WITHDRAWN:
            return capture.withdrawal_reason or ""
        case CaptureStatus.EMPTY:
            return "no row was accepted"
        case CaptureStatus.SUPERSEDED:
            halves = halves_covered(capture.scope)
            instead = sorted({base.id for half, base in effective(group).bases.items() if half in halves})
            ids = " and ".join(map(str, instead))
            return f"capture {ids} takes precedence" if instead else ""
    if capture.rows_in_use is not None and capture.rows_in_use < capture.rows_accepted:
        return f"{capture.rows_in_use:,} of {capture.rows_accepted:,} rows in use; others have newer ones"
    return "accepted from quarantine" if capture.accepted_at else ""


def capture(database: Database, capture_id: int) -> dict[str, Any]:
    """One capture, as ``captures`` has it.

    Raises:
        OtcError: there is no such capture.
    """
    for found in captures(database):
        if found["id"] == capture_id:
            return found
    raise OtcError(
        f"there is no capture {capture_id}", remedy="'otc-assets captures list' shows the captures there are."
    )


def ingested(database: Database, files: Sequence[Path], run_id: str) -> list[dict[str, Any]]:
    """The captures that files hold, by the digests of the files; those of one file, tier and status in one row.

    Args:
        database: where the captures are recorded.
        files: the files; one that can't be read has no captures.
        run_id: the run that ingested them; what an earlier one recorded has `already_ingested`.
    """
    asked = sa.text("SELECT min(week_ending), max(week_ending) FROM otc.publication WHERE digest = ANY(:digests)")
    digests = {digest for path in files if (digest := _sha256(path))}
    with database.transaction() as connection:
        first, last = connection.execute(asked, {"digests": list(digests)}).one()
    if first is None:
        return []
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in captures(database, first, last):
        if row["digest"] in digests:
            detail = row["detail"] if row["status"] != CaptureStatus.EFFECTIVE else ""
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
    database: Database, archive: Archive, sample: int | None, progress: Callable[[int, str], None]
) -> tuple[int, list[dict[str, Any]]]:
    """Reads the archived bytes of every capture, and compares them with their digest.

    Args:
        database: where the captures are recorded.
        archive: where their bytes are.
        sample: verify so many objects only, chosen at random; None verifies all.
        progress: called with the number of objects done, and how many captures are affected so far.

    Returns:
        How many objects were verified, and the captures whose bytes are missing or damaged, oldest week first.
    """
    with database.transaction() as connection:
        captures: list[dict[str, Any]] = [
            {"week_ending": c.week_ending, "tier": c.tier, "publication": c.id, "scope": c.scope}
            | {"origin": c.origin, "digest": c.digest}
            for c in publications(connection, dt.date.min, dt.date.max)
        ]
        captures += [
            {"week_ending": c["week_ending"], "tier": c["dataset"], "publication": c["id"], "scope": str(c["period"])}
            | {"origin": c["origin"], "digest": c["digest"]}
            for c in all_captures(connection)
        ]
    digests = sorted({capture["digest"] for capture in captures})
    if sample is not None and sample < len(digests):
        digests = random.sample(digests, sample)
    problems: dict[str, tuple[str, str]] = {}
    found = in_threads(lambda digest: error_of(archive, digest), digests)
    for done, (digest, error) in enumerate(zip(digests, found, strict=True)):
        progress(done, f"{len(problems)} damaged or missing")
        if error is not None:
            problems[digest] = error.problem, str(error)
    progress(len(digests), f"{len(problems)} damaged or missing")
    return len(digests), [
        {**capture, "problem": problems[capture["digest"]][0], "detail": problems[capture["digest"]][1]}
        for capture in captures
        if capture["digest"] in problems
    ]
