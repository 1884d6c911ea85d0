"""What parsing returns, and the collector of rows that are read one by one.

How rows are read is in the modules of the layouts: ``delimited``, ``spreadsheets`` and ``json_records``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from otc_assets.domain.enums import FileLayout
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.schema import RECORD, REJECTED
from otc_assets.domain.values import BadValue, require, storable, value

#: As a typed frame, a row takes a tenth of the memory that it takes as a dictionary.
_BLOCK_ROWS = 20_000


@dataclass(frozen=True)
class Parsed:
    """A publication's rows, typed.

    Attributes:
        name: where the bytes are from, for messages.
        layout: the layout of the bytes.
        columns: the columns of RECORD that the layout has.
        records: RECORD, the rows that could be read.
        rejected: REJECTED, those that could not.
        truncated: whether the bytes end within a row, or before the trailer.
        read_lines: reads every row verbatim, each time it is called; ``raw`` reads them once.
        header: the line that names the columns of delimited text, verbatim; None in other layouts.
    """

    name: str
    layout: FileLayout
    columns: frozenset[str]
    records: pl.DataFrame
    rejected: pl.DataFrame
    truncated: bool
    read_lines: Callable[[], pl.DataFrame]
    header: str | None = None

    @property
    def received(self) -> int:
        """Rows that were received: those that could be read and those that could not."""
        return self.records.height + self.rejected.height

    @cached_property
    def raw(self) -> pl.DataFrame:
        """Every row as it was received, verbatim: columns ``line`` and ``record``."""
        return self.read_lines()


class RowCollector:
    """Collects rows that are read one by one, as typed values or as rejected rows.

    Args:
        fields: by column of RECORD, FINRA's name of it in this layout, for messages.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self._rows: list[dict[str, Any]] = []
        self._blocks: list[pl.DataFrame] = []
        self._rejected: list[tuple[int, str, str]] = []

    def add(self, line: int, values: Iterable[tuple[str, str, Any]], verbatim: str) -> dict[str, Any] | None:
        """Adds a row, or rejects it where one of its values can't be read.

        Args:
            line: the row's line in the file.
            values: (column, FINRA's field, text). Iterating may raise BadValue: then the row is rejected.
            verbatim: the row as it was received.

        Returns:
            The row's values, or None where it is rejected.
        """
        try:
            row = {column: value(text, column, field) for column, field, text in values}
            require(row, self._fields)
        except BadValue as bad:
            self.reject(line, verbatim, str(bad))
            return None
        self._rows.append({**row, "line": line})
        if len(self._rows) == _BLOCK_ROWS:
            self._blocks.append(pl.DataFrame(self._rows, schema=RECORD))
            self._rows = []
        return row

    def reject(self, line: int, verbatim: str, reason: str) -> None:
        """Rejects a row for a reason that is not about a value. It may quote what the row has, such as a name."""
        self._rejected.append((line, verbatim, storable(reason)))

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows (RECORD) and the rejected rows (REJECTED)."""
        records = pl.concat([*self._blocks, pl.DataFrame(self._rows, schema=RECORD)], rechunk=True)
        return records, pl.DataFrame(self._rejected, schema=REJECTED, orient="row")


def refuse_unless_readable(name: str, records: pl.DataFrame, rejected: pl.DataFrame, remedy: str) -> None:
    """Refuses a file whose rows are all rejected.

    Raises:
        UnreadableFile: it has rows, and none of them can be read.
    """
    if rejected.height and not records.height:
        problem = f"none of its {rejected.height:,} rows can be read; the first: {rejected['reason'][0]}"
        raise UnreadableFile(name, problem, remedy, line=rejected["line"][0])


@contextmanager
def panics_refused(name: str) -> Iterator[None]:
    """Turns a panic in Polars into the refusal of one file.

    A panic is a ``BaseException``, which no ``except Exception`` handles: it would end the whole run, and the other
    files of the run would not be read.

    Args:
        name: the file, for the message.

    Raises:
        UnreadableFile: Polars panicked.
    """
    try:
        yield
    except pl.exceptions.PanicException as panic:
        raise UnreadableFile(
            name,
            f"Polars failed on its rows ({' '.join(str(panic).split())[:200]})",
            "This is a fault of the software, not of the file: report it, and keep the file",
        ) from None
