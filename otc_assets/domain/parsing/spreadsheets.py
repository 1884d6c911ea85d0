"""Rows of Excel workbooks and Parquet files, read by the rules of the layout whose column names they have.

A cell is turned into the text that FINRA's file would have in its place; what the text means is in ``values``.

Excel is read with openpyxl, row by row, because it gives every cell its own type. Polars' reader (fastexcel) gives a
column one type, so that the ticker TRUE, or a ticker that Excel took for a date, could not be recognized.
"""

from __future__ import annotations

import datetime as dt
import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import polars as pl

from otc_assets.domain.parsing.layouts import FIELDS, LEGACY_FIELDS, Header, header_of
from otc_assets.domain.parsing.limits import MAX_UNPACKED_BYTES, PARQUET, UnreadableFile, refuse_many_rows
from otc_assets.domain.parsing.results import Parsed, RowCollector, panics_refused, refuse_unless_readable
from otc_assets.domain.values import BadValue, storable

_KNOWN = frozenset(FIELDS) | frozenset(LEGACY_FIELDS)
#: The XML of a workbook is several times as long as the same rows as text, and is read piece by piece.
_MOST_XML_BYTES = 4 * MAX_UNPACKED_BYTES
#: What Excel shows where a formula, or a text that it took for one, has no value.
_ERRORS = frozenset({"#NAME?", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NULL!", "#GETTING_DATA"})
_BATCH_ROWS = 20_000
#: What openpyxl, zipfile and the decompressors below them raise for damaged bytes.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ElementTree.ParseError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    OSError,
    EOFError,
    RuntimeError,  # an encrypted member, an unknown compression, or XML that is nested too deeply
)

#: A cell's text, or why it has none; None where it is empty.
Cell = str | BadValue | None


def is_workbook(data: bytes) -> bool:
    """Whether a zip archive is an Excel workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except _DAMAGED:
        return False


@dataclass(frozen=True)
class _Table:
    """A header and the rows below it.

    Attributes:
        names: the column names.
        rows: each a tuple of cells, at least as long as ``names``.
        first_line: the number of the first row, as the program that wrote the file counts.
        where: the file and the worksheet, for messages.
    """

    names: list[str]
    rows: Iterator[tuple[Any, ...]]
    first_line: int
    where: str


def parse_table(data: bytes, name: str) -> Parsed:
    """Reads an Excel workbook or a Parquet file.

    Args:
        data: the file.
        name: where it is from, for messages.

    Raises:
        UnreadableFile: it is damaged, too large, or not a publication.
    """
    table = _open(data, name)
    header = header_of(table.names, "|", table.where)
    rows = RowCollector(header.fields)
    for number, cells in enumerate(_cells(header, table.rows), table.first_line):
        rows.add(number, _values(header, cells), _verbatim(cells))
    records, rejected = rows.frames()
    remedy = "The program that saved it has changed the values: use FINRA's own file"
    refuse_unless_readable(name, records, rejected, remedy)

    @panics_refused(name)
    def read_lines() -> pl.DataFrame:
        again = _open(data, name)
        texts = pl.Series("record", (_verbatim(cells) for cells in _cells(header, again.rows)), dtype=pl.String)
        lines = pl.int_range(again.first_line, again.first_line + len(texts), dtype=pl.Int64, eager=True)
        return pl.DataFrame([lines.alias("line"), texts])

    return Parsed(name, header.layout, frozenset(header.fields), records, rejected, False, read_lines)


def _open(data: bytes, name: str) -> _Table:
    return _open_parquet(data, name) if data.startswith(PARQUET) else _open_workbook(data, name)


def _cells(header: Header, rows: Iterable[tuple[Any, ...]]) -> Iterator[list[Cell]]:
    is_symbol = [column == "symbol" for column in header.columns]
    for row in rows:
        known = zip(row, header.names, is_symbol, strict=False)
        extra = row[len(header.names) :]
        yield [_cell(*named) for named in known] + [_cell(found, "", is_symbol=False) for found in extra]


def _values(header: Header, cells: list[Cell]) -> Iterator[tuple[str, str, str | None]]:
    if any(extra is not None for extra in cells[len(header.names) :]):
        raise BadValue(f"expected {len(header.names)} fields, found {len(cells)}")
    for column, field, text in zip(header.columns, header.names, cells, strict=False):
        if column is not None:
            if isinstance(text, BadValue):
                raise text
            yield column, field, text


def _verbatim(cells: list[Cell]) -> str:
    """A row as text; a cell that can't be read has its error, and characters that can't be stored are escaped."""
    return storable("|".join("" if found is None else str(found) for found in cells))


def _cell(found: Any, field: str, is_symbol: bool) -> Cell:
    """The text that FINRA's file would have in place of a value; a symbol that is a number or a date was changed."""
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


def _open_workbook(data: bytes, name: str) -> _Table:
    """The one worksheet that has FINRA's columns.

    Raises:
        UnreadableFile: it is damaged or too large, or not exactly one worksheet has FINRA's columns.
    """
    import openpyxl

    _refuse_bomb(data, name)
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        found = []
        for sheet in book.worksheets:
            sheet.reset_dimensions()
            for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
                texts = ["" if value is None else str(value).strip() for value in row]
                if any(texts):
                    if _KNOWN & set(texts):
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
    where = f"{name}, worksheet {sheet.title!r}"
    return _Table(names, _rows_of_sheet(sheet, number + 1, len(names), where, name), number + 1, where)


def _damaged(name: str, error: BaseException) -> UnreadableFile:
    why = f"{type(error).__name__}: {error}"[:200]
    return UnreadableFile(name, f"the Excel workbook is damaged ({why})", "Open it in Excel, and save it again")


def _refuse_bomb(data: bytes, name: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except _DAMAGED as error:
        raise _damaged(name, error) from None
    # No member gives more than it states here: zipfile stops there.
    if size > _MOST_XML_BYTES:
        problem = f"the Excel workbook unpacks to {size >> 20:,} MiB, more than any publication"
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


def _open_parquet(data: bytes, name: str) -> _Table:
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
        problem = f"the texts of the Parquet file take {size >> 20:,} MiB, more than those of any publication"
        raise UnreadableFile(name, problem, "Split it into files of one week each")
    return _Table(names, frame.iter_rows(buffer_size=_BATCH_ROWS), 1, name)
