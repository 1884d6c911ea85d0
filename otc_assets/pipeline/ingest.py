"""Ingests downloaded files: captures the publications that they hold.

How files are read is in ``finra.download_files``; which files a folder has that are new is in ``file_drop``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path

import sqlalchemy as sa

from otc_assets import interruption
from otc_assets.archive.store import Archive, ArchiveUnavailable
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.finra.file_reader import read_bounded, read_file
from otc_assets.finra.source import Capture, PermanentSourceError
from otc_assets.pipeline.capture import Captured, capture_all, failures, record_rejection
from otc_assets.text import printable_name
from otc_assets.tracing import FETCH, span
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.retention import oldest_kept, refusal
from otc_assets.warehouse.server import DatabaseUnreachable

#: Temporary errors that concern the files that follow as well.
_TEMPORARY = (ArchiveUnavailable, DatabaseUnreachable, sa.exc.OperationalError, sa.exc.InterfaceError)

#: Called with the reason why a file, or a capture in it, is refused, and the error if it was not foreseen.
Refuse = Callable[[str, Exception | None], None]


def allowed_file(path: str, folder: Path, given: Set[str]) -> Path:
    """The file to open for a requested path.

    Args:
        path: as requested, absolute or relative to ``folder``.
        folder: the folder for files.
        given: files outside of it that may be opened too, because the user of this process named them.

    Raises:
        PermanentSourceError: it is outside of the folder, also by way of a link.
    """
    if path in given:
        return Path(path)
    inside = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(inside, path))
    if os.path.commonpath([inside, target]) != inside:
        raise PermanentSourceError(
            f"{printable_name(path)} is not in the folder for files (OTC_FILES)",
            remedy="Put it there, or ingest it with 'otc-assets ingest' on the machine itself.",
        )
    return Path(target)


def ingest_files(
    paths: Iterable[str],
    database: Database,
    archive: Archive,
    *,
    find: Callable[[str], Path],
    week_ending: dt.date | None,
    summary_type: str | None,
    today: dt.date,
    run_id: str,
    refuse: Refuse,
) -> Iterator[tuple[str, Captured]]:
    """Captures what the files hold, one after another. A file that is refused does not stop the others.

    Args:
        paths: the files.
        database: where the captures are recorded.
        archive: where their bytes go.
        find: finds the file to open for a path, or raises PermanentSourceError.
        week_ending: the week of files whose names and rows do not identify one.
        summary_type: FINRA's ``summaryTypeCode``, for files of totals without that column.
        today: the date at FINRA.
        run_id: the run that ingests them.
        refuse: called for every refusal, which is recorded as an event as well.

    Yields:
        The name of the file, and a capture that was recorded.

    Raises:
        DatabaseUnreachable, OperationalError, InterfaceError: the database does not answer.
        ArchiveUnavailable: the archive can't be reached, or refuses requests.
    """
    for path in paths:
        interruption.check()
        name, file = printable_name(path), None
        try:
            file = find(path)
            name = printable_name(file.name)
            with span(FETCH, file=name):
                found = read_file(file, week_ending=week_ending, summary_type=summary_type, today=today)
        except (UnreadableFile, PermanentSourceError) as error:
            record_rejection(database, run_id, name, str(error), digest=_digest(file) if file else None)
            refuse(str(error), None)
            continue
        except Exception as error:
            _refuse_unexpected(database, run_id, name, error, refuse)
            continue
        try:
            for captured in _capture(found, name, database, archive, run_id, refuse):
                yield name, captured
        except UnreadableFile as error:
            refuse(str(error), None)
        except _TEMPORARY:
            raise
        except Exception as error:
            _refuse_unexpected(database, run_id, name, error, refuse)


def _capture(
    found: list[Capture], name: str, database: Database, archive: Archive, run_id: str, refuse: Refuse
) -> Iterator[Captured]:
    with database.transaction() as connection:
        oldest = oldest_kept(connection, "venue_volume")
    if beyond := [capture.week_ending for capture in found if capture.week_ending < oldest]:
        # The file's other weeks are captured all the same.
        refuse(f"{name}: {refusal('venue_volume', min(beyond), oldest)}", None)
    for captured in capture_all([c for c in found if c.week_ending >= oldest], archive, database, run_id):
        for problem in failures([captured]):
            refuse(problem, None)
        yield captured


def _refuse_unexpected(database: Database, run_id: str, name: str, error: Exception, refuse: Refuse) -> None:
    """Refuses a file because of an error that was not foreseen."""
    reason = f"{name} could not be ingested: {type(error).__name__}; the log of run {run_id} says more"
    record_rejection(database, run_id, name, reason)
    refuse(reason, error)


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file; None where it can't be read to its end."""
    try:
        return hashlib.sha256(read_bounded(path)).hexdigest()
    except (UnreadableFile, PermanentSourceError):
        return None
