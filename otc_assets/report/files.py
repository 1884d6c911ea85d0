"""The files of reports: objects of the archive under ``reports``, named after their week.

They are in the archive, and not in ``OTC_HOME``, because every process of an installation reaches it: on Kubernetes the
run that makes a page and the server that shows it are different machines. Objects by name are replaced completely or
not at all.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from otc_assets.archive.store import Archive, MissingObject
from otc_assets.archive_url import ArchiveUrl

_FOLDER = "reports"
_NAME = re.compile(rf"{_FOLDER}/(\d{{4}}-\d\d-\d\d)\.html")


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        html: the page, UTF-8, complete in itself.
        pdf: the same page as a PDF.
    """

    html: bytes
    pdf: bytes


def save(archive: Archive, week_ending: dt.date, report: Report) -> None:
    """Replaces the files of the week's report, the page last: where there is a page, there is a PDF."""
    archive.put_named(_name(week_ending, "pdf"), report.pdf)
    archive.put_named(_name(week_ending, "html"), report.html)


def find(archive: Archive, week_ending: dt.date) -> Report | None:
    """The week's report; None if none was made.

    Raises:
        ArchiveUnavailable: the archive can't be reached.
    """
    html, pdf = (read(archive, week_ending, kind) for kind in ("html", "pdf"))
    return Report(html, pdf) if html is not None and pdf is not None else None


def read(archive: Archive, week_ending: dt.date, kind: str) -> bytes | None:
    """One file of the week's report, ``html`` or ``pdf``; None if there is none.

    Raises:
        ArchiveUnavailable: the archive can't be reached.
    """
    try:
        return archive.get_named(_name(week_ending, kind))
    except MissingObject:
        return None


def newest_week(archive: Archive) -> dt.date | None:
    """The newest week that has a report; None if there is none.

    Raises:
        ArchiveUnavailable: the archive can't be reached.
    """
    found = (_NAME.fullmatch(name) for name in archive.names(_FOLDER))
    return max((dt.date.fromisoformat(match[1]) for match in found if match), default=None)


def address(url: ArchiveUrl, week_ending: dt.date, kind: str = "html") -> str:
    """Where a file of the week's report is: a path, or an ``s3://`` address."""
    return url.place(_name(week_ending, kind))


def _name(week_ending: dt.date, kind: str) -> str:
    return f"{_FOLDER}/{week_ending.isoformat()}.{kind}"
