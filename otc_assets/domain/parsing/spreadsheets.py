"""Rows of Excel workbooks and Parquet files, as the texts that a file of FINRA's would have in their place.

What the texts mean is in ``values``, and which columns a layout has is in ``parsing``.

Excel is read with openpyxl, row by row: it gives every cell its own type. Polars' reader (fastexcel) gives a column
one type, and so turns the ticker TRUE and a ticker that Excel took for a date into texts like any other.
"""

from __future__ import annotations

import datetime as dt
import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import polars as pl

from otc_assets.domain.parsing.limits import MAX_UNPACKED_BYTES, UnreadableFile, refuse_many_rows
from otc_assets.domain.values import BadValue

#: XML of a workbook is several times as long as the same rows as text, and is read piece by piece.
_MOST_XML_BYTES = 4 * MAX_UNPACKED_BYTES
#: What Excel shows where a formula, or a text that it took for one, has no value.
_ERRORS = frozenset({"#NAME?", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NULL!", "#GETTING_DATA"})
_BATCH_ROWS = 20_000

#: A cell's text, or why it has none; None where it is empty.
Cell = str | BadValue | None


@dataclass(frozen=True)
class Table:
    """A header and the rows below it.

    Attributes:
        names: the column names.
        first_line: the number of the first row, counted as the program that wrote it does.
        sheet: the worksheet, where there is one.
    """

    names: list[str]
    first_line: int
    sheet: str | None = None


def is_workbook(data: bytes) -> bool:
    """Whether a zip archive is an Excel workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def cell(found: Any, field: str, *, is_symbol: bool) -> Cell:
    """The text that a value of Excel's or Parquet's would be in a file of FINRA's.

    Args:
        found: the value.
        field: FINRA's name of the column, for messages.
        is_symbol: whether it is a symbol, which no number or date can be: Excel has changed it there.
    """
    if found is None:
        return None
    if isinstance(found, str):
        return BadValue(f"{field} is the error {found}") if found in _ERRORS else found
    if isinstance(found, bool):
        return str(found).upper() if is_symbol else BadValue(f"{field} is {found}, not a plain value")
    if isinstance(found, float) and math.isnan(found):
        return None
    if is_symbol:
        return BadValue(f"{field} is {found}, not text: the program that saved the file has changed the symbol")
    if isinstance(found, int):
        return str(found)
    if isinstance(found, float):
        return repr(found) if math.isfinite(found) else BadValue(f"{field} is {found}, not a number")
    if isinstance(found, Decimal):
        return f"{found:f}"
    if isinstance(found, dt.datetime):
        return found.replace(tzinfo=None).isoformat(" ")
    if isinstance(found, dt.date):
        return found.isoformat()
    return BadValue(f"{field} is of type {type(found).__name__}, not a plain value")


# --- Excel ---------------------------------------------------------------------------------------------


def open_workbook(data: bytes, name: str, known: frozenset[str]) -> tuple[Table, Iterator[tuple[Any, ...]]]:
    """The header of the one worksheet that has FINRA's columns, and the rows below it.

    Args:
        data: the workbook.
        name: where it is from, for messages.
        known: FINRA's column names.

    Raises:
        UnreadableFile: it is damaged or too large, or not exactly one worksheet has FINRA's columns.
    """
    import openpyxl

    _refuse_bomb(data, name)
    damaged = f"{name}, worksheet"
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        found = []
        for sheet in book.worksheets:
            sheet.reset_dimensions()
            for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
                texts = ["" if value is None else str(value).strip() for value in row]
                if any(texts):
                    if known & set(texts):
                        found.append((sheet, number, texts))
                    break
    except _DAMAGED as error:
        raise _damaged(name, error) from None
    if len(found) != 1:
        sheets = ", ".join(repr(sheet.title) for sheet, _, _ in found) or "none"
        raise UnreadableFile(
            name,
            f"it is an Excel workbook in which {len(found)} worksheets have FINRA's columns ({sheets})",
            "Keep one worksheet, with FINRA's column names (tierDescription, issueSymbolIdentifier, ...) in its first "
            "row",
        )
    ((sheet, number, names),) = found
    while names and not names[-1]:
        names.pop()
    rows = _rows_of_sheet(sheet, number + 1, len(names), f"{damaged} {sheet.title!r}", name)
    return Table(names, number + 1, sheet.title), rows


_DAMAGED = (
    zipfile.BadZipFile,
    ElementTree.ParseError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OSError,
    EOFError,
    NotImplementedError,
)


def _damaged(name: str, error: BaseException) -> UnreadableFile:
    why = f"{type(error).__name__}: {error}"[:200]
    return UnreadableFile(name, f"the Excel workbook is damaged ({why})", "Open it in Excel, and save it again")


def _refuse_bomb(data: bytes, name: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise _damaged(name, error) from None
    # No member gives more than it states here: zipfile stops there.
    if size > _MOST_XML_BYTES:
        problem = f"the Excel workbook unpacks to {size >> 20:,} MiB, which no publication does"
        raise UnreadableFile(name, problem, "Split it into workbooks of one week each")


def _rows_of_sheet(sheet: Any, first: int, width: int, where: str, name: str) -> Iterator[tuple[Any, ...]]:
    """The rows below the header, each at least ``width`` long, without empty ones behind the last."""
    empty = 0
    nothing = (None,) * width
    try:
        for number, row in enumerate(sheet.iter_rows(min_row=first, values_only=True), 1):
            refuse_many_rows(number, where)
            if all(value is None or value == "" for value in row):
                empty += 1
                continue
            for _ in range(empty):
                yield nothing
            empty = 0
            yield row + nothing[len(row) :]
    except _DAMAGED as error:
        if isinstance(error, UnreadableFile):
            raise
        raise _damaged(name, error) from None


# --- Parquet -------------------------------------------------------------------------------------------


def open_parquet(data: bytes, name: str) -> tuple[Table, Iterator[tuple[Any, ...]]]:
    """The columns of a Parquet file, and its rows.

    Raises:
        UnreadableFile: it is damaged or too large.
    """
    try:
        lazy = pl.scan_parquet(io.BytesIO(data))
        names = lazy.collect_schema().names()
        refuse_many_rows(lazy.select(pl.len()).collect().item(), name)
        frame = lazy.collect()
        texts = [column for column, kind in frame.schema.items() if kind == pl.String]
        size = sum(frame.select(pl.col(texts).str.len_bytes().sum()).row(0)) if texts and frame.height else 0
    except (pl.exceptions.PolarsError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise UnreadableFile(name, f"the Parquet file is damaged ({why})", "Write it again") from None
    if size > MAX_UNPACKED_BYTES:
        problem = f"the texts of the Parquet file take {size >> 20:,} MiB, which no publication's do"
        raise UnreadableFile(name, problem, "Split it into files of one week each")
    return Table(names, 1), frame.iter_rows(buffer_size=_BATCH_ROWS)
