"""Weeks that a run has written or read, kept in temporary files for its figures and checks.

A week that the run itself wrote is not read from its table at all, and any other is read once. A week is kept under
the transaction that computed it (``otc.computed_week``), which every load of the week changes, and retention deletes.
What a transaction reads after it has written something always comes from the tables. How rows are read is in ``read``.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import polars as pl
import sqlalchemy as sa

#: Bytes of all files of a run: about sixty weeks of FINRA's size.
MOST_BYTES = 2**30

#: By table that is read by week, the table whose computed weeks say when it was loaded.
_LOADED_WITH = {"published_total": "venue_volume"}

#: A week, a table that is read by week, and the tier, if the week is read tier by tier.
Part = tuple[dt.date, str, str | None]

#: The load under which a week that this transaction writes will be found, if it is committed.
_THIS_LOAD = sa.text("SELECT pg_current_xact_id()::text")

_LOADS = sa.text("""
    SELECT week_ending, xid::text FROM otc.computed_week
    WHERE table_name = :table AND week_ending = ANY(:weeks) AND pg_current_xact_id_if_assigned() IS NULL
""")


def _temporary_file(folder: Path | None = None) -> IO[bytes]:
    """A file without a name: a process that is killed leaves none."""
    return tempfile.TemporaryFile(dir=folder if folder and folder.is_dir() else None)


@dataclass(frozen=True)
class _Kept:
    load: str
    file: IO[bytes]
    bytes: int


class KeptWeeks:
    """The weeks of tables that a run has written or read.

    Args:
        most_bytes: the most that the files may take; the oldest weeks are given up first, because a run over weeks
            goes from the oldest to the newest, table by table.
        open_file: opens a file for a week; it is deleted when it is closed.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, open_file: Callable[[], IO[bytes]] = _temporary_file) -> None:
        self._most_bytes, self._open_file = most_bytes, open_file
        self._kept: dict[Part, _Kept] = {}

    @property
    def bytes(self) -> int:
        """What the files take."""
        return sum(kept.bytes for kept in self._kept.values())

    def loads(self, connection: sa.Connection, table: str, weeks: Iterable[dt.date]) -> dict[dt.date, str]:
        """By week that can be kept, the load that wrote it; none if this transaction has written something."""
        values = {"table": _LOADED_WITH.get(table, table), "weeks": list(weeks)}
        return {row.week_ending: row.xid for row in connection.execute(_LOADS, values)}

    def find(self, part: Part, load: str, columns: Sequence[str]) -> pl.DataFrame | None:
        """The rows as ``load`` wrote them; None if they are not kept."""
        kept = self._kept.get(part)
        if kept is None or kept.load != load:
            return None
        kept.file.seek(0)
        return pl.read_ipc(kept.file, columns=list(columns))

    def keep(self, part: Part, load: str, rows: pl.DataFrame) -> None:
        """Keeps rows, with all columns, if there is room for them."""
        self._drop(part)
        try:
            file = self._open_file()
        except OSError:
            return  # the disk is full: the week is read again
        try:
            rows.write_ipc(file, compression="lz4")
        except (OSError, pl.exceptions.ComputeError):
            file.close()  # likewise
            return
        self._kept[part] = _Kept(load, file, file.tell())
        while self.bytes > self._most_bytes:
            self._drop(min(self._kept, key=lambda kept: kept[0]))

    def keep_written(self, connection: sa.Connection, part: Part, rows: pl.DataFrame) -> None:
        """Keeps rows that this transaction has written: all of the part, with the columns of the table's schema.

        If the transaction is rolled back, or does not record the week as computed, no load has its number: the rows are
        not found.
        """
        self.keep(part, connection.execute(_THIS_LOAD).scalar_one(), rows)

    def _drop(self, part: Part) -> None:
        if kept := self._kept.pop(part, None):
            kept.file.close()

    def close(self) -> None:
        """Deletes the files."""
        for part in list(self._kept):
            self._drop(part)


_of_run: ContextVar[KeptWeeks | None] = ContextVar("kept_weeks", default=None)


def kept_weeks() -> KeptWeeks | None:
    """The weeks of the run that is under way in this context; None outside of one."""
    return _of_run.get()


@contextmanager
def weeks_kept(folder: Path | None = None) -> Iterator[None]:
    """In the block, weeks that were written or read are kept in files in ``folder``.

    By default, or if it does not exist, these are in the folder for temporary files, which may be in memory.
    """
    weeks, before = KeptWeeks(open_file=partial(_temporary_file, folder)), _of_run.get()
    _of_run.set(weeks)
    try:
        yield
    finally:
        _of_run.set(before)
        weeks.close()
