"""Restores rows of ``raw_record`` from the archive, after their retention was raised.

The rows of a capture are dropped when they leave the retention window, or are not stored at all where the capture is
older than that. Which captures lack rows is in ``warehouse.read``; storing rows is in ``warehouse.load``.
"""

from __future__ import annotations

from collections.abc import Callable

from otc_assets.archive.store import Archive, ArchiveError
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.pipeline.captures import parsed_capture
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.load import restore_raw_rows
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import without_raw_rows
from otc_assets.warehouse.retention import retained_from

Progress = Callable[[int, str], None]


def restorable(database: Database) -> list[Publication]:
    """The captures whose weeks are inside the retention window of ``raw_record``, and that have no rows there."""
    with database.transaction() as connection:
        return without_raw_rows(connection, retained_from(connection, "raw_record"))


def restore(captures: list[Publication], database: Database, archive: Archive, progress: Progress) -> list[str]:
    """Stores the raw rows of ``captures`` again, one capture per transaction, so that it can be interrupted.

    Args:
        captures: those that have no rows, as ``restorable`` returns them.
        database: where to store the rows.
        archive: where their bytes are.
        progress: called with the number of captures done, and the one that is next.

    Returns:
        Which captures could not be restored, and why; the others are.
    """
    failed = []
    for done, capture in enumerate(captures):
        which = f"{capture.week_ending} {capture.tier}"
        progress(done, which)
        try:
            raw = parsed_capture(capture, archive).read_lines()
        except (ArchiveError, UnreadableFile) as error:
            failed.append(f"{which}: {error}")
            continue
        with database.transaction() as connection:
            restore_raw_rows(connection, capture.week_ending, capture.id, raw)
        database.refresh_after_load(capture.week_ending, "raw_record")
    progress(len(captures), "done")
    return failed
