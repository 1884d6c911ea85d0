"""A folder of downloaded files, as a source of publications. Each file is read in ``file_reader``."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from otc_assets.content import Spool
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.weeks import Tier
from otc_assets.finra.file_reader import read_captures_and_rows, read_file
from otc_assets.finra.source import Capture, MakeSpool, PermanentSourceError, Progress, PublicationState
from otc_assets.text import printable_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Known:
    """A file of the folder, and what it contains.

    Attributes:
        mark: the file's time and size, and the day on which it was read.
    """

    mark: tuple[int, int, dt.date]
    captures: tuple[tuple[dt.date, Tier, str], ...] = ()
    rows: int = 0
    last_update_date: dt.date | None = None
    digest: str = ""

    @property
    def rank(self) -> tuple[dt.date, int]:
        """Of files with the same part, the one with the highest rank is used."""
        return self.last_update_date or dt.date.min, self.rows


class DownloadFiles:
    """A folder of downloaded files, as a source.

    Files that can't be read, or whose week can't be inferred, are logged and skipped. ``otc-assets ingest`` prints
    what to do about one.

    Args:
        folder: the folder; it need not exist.
        clock: returns the current day.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], dt.date]) -> None:
        self.folder = folder
        self._clock = clock
        self._known: dict[Path, _Known] = {}

    def offered(self) -> set[tuple[Tier, dt.date]]:
        """Every (tier, week_ending) of which the folder has a file."""
        return {(tier, week) for known in self._index().values() for week, tier, _ in known.captures}

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        """Rows and newest date of the files with the publication's halves."""
        files = [
            known
            for known in self._files_of(week_ending, tier).values()
            if known.captures[0][2] != CaptureScope.PARTIAL
        ]
        if not files:
            return None
        dates = [known.last_update_date for known in files if known.last_update_date]
        return PublicationState(sum(known.rows for known in files), max(dates, default=None))

    def fetch(
        self, week_ending: dt.date, tier: Tier, progress: Progress | None = None, *, spool: MakeSpool = Spool
    ) -> list[Capture]:
        """The publication's files: one per half, and those of records that have some of it.

        Raises:
            PermanentSourceError: a file can't be read any more.
        """
        del spool  # files are read as a whole
        captures = []
        for path in self._files_of(week_ending, tier):
            captures += [
                capture
                for capture in read_file(path, today=self._clock())
                if (capture.week_ending, capture.tier) == (week_ending, tier)
            ]
            if progress:
                progress(len(captures), len(captures))
        return captures

    def _files_of(self, week_ending: dt.date, tier: Tier) -> dict[Path, _Known]:
        """The files with the publication. Of two files with the same half, the one with the newer rows is used.

        Of two with rows of the same day it is the one with more of them, as among captures: the other may be cut short.
        """
        chosen: dict[str, tuple[Path, _Known]] = {}
        for path, known in self._index().items():
            for week, of_tier, scope in known.captures:
                if (week, of_tier) != (week_ending, tier):
                    continue
                part = f"{scope} {known.digest}" if scope == CaptureScope.PARTIAL else scope
                other = chosen.get(part)
                if other is not None:
                    is_newer = known.rank > other[1].rank
                    used = path if is_newer else other[0]
                    log.info("%s and %s have the same part; %s is used", other[0].name, path.name, used.name)
                    if not is_newer:
                        continue
                chosen[part] = (path, known)
        return dict(chosen.values())

    def _index(self) -> dict[Path, _Known]:
        """The content of every file; a file is read again only if it has changed."""
        found: dict[Path, _Known] = {}
        today = self._clock()
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        for path in sorted(p for p in paths if p.is_file() and not p.name.startswith(".")):
            try:
                state = path.stat()
            except FileNotFoundError:  # it was removed in the meantime
                continue
            # A file that was refused because its week is in the future is accepted on a later day.
            mark = (state.st_mtime_ns, state.st_size, today)
            known = self._known.get(path)
            if known is None or known.mark[:2] != mark[:2] or (not known.captures and known.mark != mark):
                try:
                    captures, parsed = read_captures_and_rows(path, None, None, today)
                except (UnreadableFile, PermanentSourceError) as error:
                    log.warning("skipped: %s", error)
                    known = _Known(mark)
                except Exception as error:
                    # Of this file alone, as in ``ingest``. It may be one of the machine: the file is read again.
                    log.error("skipped: %s could not be read", printable_name(path.name), exc_info=error)
                    continue
                else:
                    parts = tuple((c.week_ending, c.tier, c.scope) for c in captures)
                    newest = parsed.records["last_update_date"].max()
                    digest = captures[0].content.digest
                    known = _Known(mark, parts, parsed.received, newest, digest)  # type: ignore[arg-type]
            found[path] = known
        self._known = found
        return found
