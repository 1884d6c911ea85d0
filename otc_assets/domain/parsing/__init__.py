"""Bytes of FINRA's publications to typed records, whatever their layout.

Layouts: the website's download file, its legacy form with a trailer line, and records of the Query API as
delimited text or JSON. Excel workbooks and Parquet files have the layout whose column names they have.
Here: what a line is, and whether it can be read. Not here: what a row means and whether it is
accepted (``domain.normalize``), and reading files from disk (``finra.download_files``).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from otc_assets.domain.parsing.limits import (
    GZIP,
    MAX_LINE_BYTES,
    PARQUET,
    ZIP,
    UnreadableFile,
    join_bounded,
    refuse_large,
    refuse_many_rows,
    unpacked,
)
from otc_assets.domain.parsing.spreadsheets import Cell, Table, cell, is_workbook, open_parquet, open_workbook
from otc_assets.domain.schema import AMOUNT, RECORD, REJECTED
from otc_assets.domain.values import NEVER_NULL, BadValue, is_whole_date, maybe_missing, require, value
from otc_assets.domain.weeks import TIER_BY_NAME

WEBSITE, LEGACY, API, API_JSON = "website", "legacy", "api", "api-json"


#: FINRA's field names (Query API and download file), and where they go.
FIELDS = {
    "weekStartDate": "week_start",
    "tierIdentifier": "tier_id",
    "tierDescription": "tier_name",
    "issueSymbolIdentifier": "symbol",
    "issueName": "issue_name",
    "productTypeCode": "product_type",
    "summaryTypeCode": "summary_type",
    "MPID": "mpid",
    "firmCRDNumber": "firm_crd",
    "marketParticipantName": "participant_name",
    "totalWeeklyShareQuantity": "shares",
    "totalWeeklyTradeCount": "trades",
    "totalNotionalSum": "notional",
    "lastUpdateDate": "last_update_date",
    "initialPublishedDate": "initial_published_date",
    "lastReportedDate": "last_reported_date",
}
#: The column names of files to about 2018.
LEGACY_FIELDS = {
    "Report_Type": "tier_name",
    "Symbol": "symbol",
    "Issue_Description": "issue_name",
    "ATS_Description": "participant_name",
    "OTC_Non-ATS_Description": "participant_name",
    "ATS_MPID": "mpid",
    "Shares": "shares",
    "Trades": "trades",
    "Last_Updated": "last_update_date",
    "Shares_Last_Updated": "last_update_date",
}
_REQUIRED = {
    WEBSITE: (
        "tier_name",
        "symbol",
        "issue_name",
        "participant_name",
        "mpid",
        "shares",
        "trades",
        "last_update_date",
    ),
    LEGACY: ("tier_name", "symbol", "issue_name", "participant_name", "shares", "trades", "last_update_date"),
    API: ("week_start", "symbol", "shares", "trades"),
}


@dataclass(frozen=True)
class Parsed:
    """A publication's rows, typed.

    Attributes:
        name: where the bytes are from, for messages.
        layout: WEBSITE, LEGACY, API or API_JSON.
        columns: the columns of RECORD that the layout carries.
        records: RECORD, the rows that could be read.
        rejected: REJECTED, those that could not.
        cut_off: whether the bytes end within a row, or before the trailer.
        read_lines: reads every row as it came, verbatim, each time it is called; ``raw`` reads them once.
    """

    name: str
    layout: str
    columns: frozenset[str]
    records: pl.DataFrame
    rejected: pl.DataFrame
    cut_off: bool
    read_lines: Callable[[], pl.DataFrame]

    @property
    def received(self) -> int:
        """Rows that came: those that could be read and those that could not."""
        return self.records.height + self.rejected.height

    @cached_property
    def raw(self) -> pl.DataFrame:
        """Every row as it came, verbatim: columns ``line`` and ``record``."""
        return self.read_lines()


@contextmanager
def panics_refused(name: str) -> Iterator[None]:
    """Turns a panic in Polars into the refusal of one file.

    A panic is a ``BaseException`` that no ``except Exception`` handles: without this, one file would end the
    whole run, and the other files with it.

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


def parse(data: bytes, *, name: str) -> Parsed:
    """Reads a publication in whatever layout it is.

    A byte order mark, CRLF line ends, gzip, and a missing last newline are taken as they are. A row that
    can't be read does not stop the others: it is in ``rejected``, with its reason.

    Args:
        data: the file or reply.
        name: where it is from, for messages.

    Raises:
        UnreadableFile: it is no publication.
    """
    with panics_refused(name):
        refuse_large(len(data), name)
        if data[:2] == GZIP:
            data = _gunzip(data, name)
        if data.startswith(PARQUET) or (data.startswith(ZIP) and is_workbook(data)):
            return _parse_table(data, name)
        data = _unwrap(data, name)
        if _is_json(data):
            return _parse_json(data, name)
        return _parse_delimited(data, name)


def _is_json(data: bytes) -> bool:
    return data[:4096].lstrip()[:1] in (b"[", b"{")


# --- before the first row ------------------------------------------------------------------------------


_UNPACK = "Unpack it, and give the files inside"
#: Formats that are recognized and not read, by what they begin with: what they are, and what to do.
_FORMATS = {
    b"PK\x05\x06": ("an empty zip archive", "Download it again"),
    ZIP: ("a zip archive and no Excel workbook", _UNPACK),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (.xls)", "Save it as .xlsx, or download FINRA's file again"),
    b"%PDF": ("a PDF document", "Give FINRA's download file, or records of its Query API"),
    b"ARROW1": ("an Arrow (Feather) file", "Write it as Parquet, or give FINRA's download file"),
    b"BZh": ("compressed with bzip2", _UNPACK),
    b"\xfd7zXZ\x00": ("compressed with xz", _UNPACK),
    b"7z\xbc\xaf'\x1c": ("a 7-Zip archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed with Zstandard", _UNPACK),
    b"SQLite format 3": ("a SQLite database", "Write its table as CSV or Parquet"),
    b"\x80\x04\x95": ("a Python pickle, which is never loaded", "Write it as Parquet"),
}


def _unwrap(data: bytes, name: str) -> bytes:
    """The text itself, with LF line ends; refuses what is no text of rows at all."""
    for magic, (what, remedy) in _FORMATS.items():
        if data.startswith(magic):
            raise UnreadableFile(name, f"it is {what}", remedy)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnreadableFile(name, "it is UTF-16", "FINRA's files are UTF-8: download it again, or convert it")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data[:1].isspace() and _is_json(data):
        data = data.lstrip()
    if not data[:4096].strip() and not data.strip():
        raise UnreadableFile(name, "it is empty", "Download it again: a file of FINRA's has a header at least")
    if (at := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, at) + 1
        raise UnreadableFile(name, "it has NUL bytes", "The file is damaged: download it again", line=line)
    if data[:4096].lstrip()[:1] == b"<":
        raise UnreadableFile(name, "it is a page of HTML or XML, not data", "The download failed: try it again")
    if not _is_json(data):
        _refuse_long_lines(data, name)
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def _refuse_long_lines(data: bytes, name: str) -> None:
    start = 0
    while len(data) - start > MAX_LINE_BYTES:
        newline = data.rfind(b"\n", start, start + MAX_LINE_BYTES + 1)
        if newline < 0:
            line = data.count(b"\n", 0, start) + 1
            problem, remedy = "the line is longer than 1 MiB", "It is no file of FINRA's: download it again"
            raise UnreadableFile(name, problem, remedy, line=line)
        start = newline + 1


def _gunzip(data: bytes, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            return join_bounded(unpacked(packed.read, len(data), name), name=f"{name}, unpacked")
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(name, f"its gzip is damaged ({error})", "Download it again") from None


def _without_blank_end(data: bytes) -> bytes:
    """The text without the blank lines after its last row: editors and spreadsheets add them."""
    end_of_data = data[-4096:]  # of the whole, without a copy, where that is enough
    kept = end_of_data.rstrip(b" \t\r\n")
    last = len(data) - len(end_of_data) + len(kept) if kept else len(data.rstrip(b" \t\r\n"))
    end = data.find(b"\n", last) + 1
    return data[:end] if 0 < end < len(data) else data


@dataclass(frozen=True)
class _Header:
    layout: str
    delimiter: str
    quoted: bool
    names: list[str]
    columns: list[str | None]  # by position; None is a column that we have no use for


def _header(line: bytes, name: str) -> _Header:
    # Refusals go to events and alerts. They quote nothing of what may be any file of this machine.
    text = line.decode(errors="replace")
    delimiter = next((d for d in "|,;\t" if d in text), None)
    if delimiter is None:
        raise UnreadableFile(
            name,
            "its first line is no header of FINRA's",
            "A download file begins with tierDescription|issueSymbolIdentifier|...",
            line=1,
        )
    try:
        names = [column.strip() for column in next(csv.reader([text], delimiter=delimiter))]
    except csv.Error as error:
        raise UnreadableFile(
            name,
            f"its header can't be read ({error})",
            "Lines end with LF or CRLF in FINRA's files: download it again",
            line=1,
        ) from None
    return _header_of(names, delimiter, name, is_quoted='"' in text)


def _header_of(names: list[str], delimiter: str, name: str, *, is_quoted: bool = False) -> _Header:
    """The layout that the column names are of.

    Raises:
        UnreadableFile: they are of none.
    """
    known: Mapping[str, str]
    if any(column in FIELDS for column in names):
        known, layout = FIELDS, API if "weekStartDate" in names else WEBSITE
    elif any(column in LEGACY_FIELDS for column in names):
        known, layout = LEGACY_FIELDS, LEGACY
    else:
        raise UnreadableFile(
            name,
            f"its header has none of FINRA's columns in the {len(names)} that it names",
            "A download file begins with tierDescription|issueSymbolIdentifier|...",
            line=1,
        )
    if layout != API and delimiter != "|":
        raise UnreadableFile(
            name,
            f"its columns are separated by {delimiter!r}, and FINRA's by '|'",
            "It was opened and saved by another program: download it again",
            line=1,
        )
    columns = [known.get(column) for column in names]
    missing = [c for c in _REQUIRED[layout] if c not in columns]
    if layout == API and "tier_id" not in columns and "tier_name" not in columns:
        missing.append("tier_id")
    if missing:
        theirs = {ours: field for field, ours in reversed(known.items())}
        raise UnreadableFile(
            name,
            f"its header lacks {', '.join(theirs[c] for c in missing)}; of its {len(names)} columns, FINRA's are "
            f"{', '.join(column for column in names if column in known)}",
            "The file is not whole, or FINRA has changed it: download it again",
            line=1,
        )
    twice = sorted({column for column in names if column in known and names.count(column) > 1})
    if twice:
        raise UnreadableFile(
            name,
            f"its header names {', '.join(twice)} more than once",
            "It can't be told which of them counts: download it again",
            line=1,
        )
    return _Header(layout, delimiter, is_quoted or (layout == API and delimiter != "|"), names, columns)


# --- delimited text ------------------------------------------------------------------------------------


def _parse_delimited(data: bytes, name: str) -> Parsed:
    end = data.find(b"\n")
    first = data[: end if end >= 0 else len(data)]
    header = _header(first, name)
    data = _without_blank_end(data)
    refuse_many_rows(data.count(b"\n") - 1, name)
    body_starts = len(first) + 1
    whole_text = data.endswith(b"\n")
    trailer_missing = False
    if header.layout == LEGACY:
        data, trailer_missing = _without_trailer(data, header)
        whole_text = True
    if len(data) <= body_starts:
        nothing = RECORD.to_frame()
        return Parsed(
            name,
            header.layout,
            _carried(header),
            nothing,
            REJECTED.to_frame(),
            trailer_missing,
            _no_lines,
        )
    last_is_whole = whole_text or _last_row_is_whole(data, header)
    cut_off = trailer_missing or not last_is_whole
    # Without a copy of the body, where all is well.
    records = _read_at_once(data, header, skip_lines=1, first=2) if last_is_whole else None
    rejected = REJECTED.to_frame()
    if records is None:
        records, rejected = _read_in_blocks(data, body_starts, header, last_is_whole)
        if not records.height:
            raise UnreadableFile(
                name,
                f"not one of its {rejected.height} rows can be read; the first: {rejected['reason'][0]}",
                "Its header and its rows don't agree: download it again",
                line=rejected["line"][0],
            )
    read_lines = panics_refused(name)(lambda: _lines(data))
    return Parsed(name, header.layout, _carried(header), records, rejected, cut_off, read_lines)


def _carried(header: _Header) -> frozenset[str]:
    return frozenset(column for column in header.columns if column is not None)


def _without_trailer(data: bytes, header: _Header) -> tuple[bytes, bool]:
    """A legacy file without its trailer line, and whether that is missing or counts other rows than there are."""
    text = data.rstrip(b"\n")
    start = text.rfind(b"\n") + 1
    trailer = text[start:].decode(errors="replace")
    counted = re.findall(r"[0-9]+", trailer.replace(",", ""))
    rows = text.count(b"\n") - 1
    # Without a count, or beginning as rows do, it is the last row that came: there is no trailer to drop.
    if not counted or trailer.split(header.delimiter)[0] in TIER_BY_NAME:
        return data if data.endswith(b"\n") else data + b"\n", True
    return data[:start], str(rows) not in counted


def _last_row_is_whole(data: bytes, header: _Header) -> bool:
    """Whether a last row without its newline ends with what can only be a whole value.

    Where the last column is a date, ten characters are. Elsewhere nothing tells, and a row with all its
    fields counts as whole.
    """
    last = data[data.rfind(b"\n") + 1 :].decode(errors="replace")
    values = last.split(header.delimiter)
    if len(values) != len(header.names):
        return False
    column = header.columns[-1]
    return column is None or RECORD[column] != pl.Date or is_whole_date(values[-1])


#: An amount as FINRA writes it. Polars takes more, and rounds a seventh decimal or 1e-7 away without a word.
_PLAIN_AMOUNT = r"^-?[0-9]+(\.[0-9]{1,6})?$"


def _read_at_once(data: bytes, header: _Header, *, skip_lines: int, first: int) -> pl.DataFrame | None:
    """All rows of lines by one read, or None where anything about it is in doubt.

    Args:
        data: lines, after ``skip_lines`` of which the rows begin.
        header: their columns.
        skip_lines: how many lines are no rows.
        first: the number of the first row's line.
    """
    if header.quoted or b"\r" in data:
        return None
    schema = {
        # Only whole numbers does Polars read as strictly as they are read one by one.
        column if column is not None else f"unused {position}": pl.Int64
        if column is not None and RECORD[column] == pl.Int64
        else pl.String
        for position, column in enumerate(header.columns)
    }
    if len(schema) != len(header.columns):
        return None
    amounts = [column for column in schema if RECORD.get(column) == AMOUNT]
    dates = [column for column in schema if RECORD.get(column) == pl.Date]
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            skip_lines=skip_lines,
            separator=header.delimiter,
            quote_char=None,
            schema=schema,
        )
        if not all(frame.select(pl.col(amounts).str.contains(_PLAIN_AMOUNT).all()).row(0)):
            return None
        texts = [column for column in schema if RECORD.get(column) == pl.String]
        odd = frame.select(maybe_missing(column) for column in texts).row(0)
        read_singly = [c for c, is_odd in zip(texts, odd, strict=True) if is_odd or c == "firm_crd"]
        frame = frame.with_columns(
            pl.col(amounts).cast(AMOUNT), *(_by_distinct(frame[column]) for column in (*dates, *read_singly))
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError, BadValue):
        return None
    # The newlines prove that no line was passed over. Longer rows Polars refuses itself; shorter ones it fills
    # up with nulls: a last column without any, or the number of delimiters, proves that there was none.
    text = np.frombuffer(data, np.uint8)
    rows = int(np.count_nonzero(text == ord("\n"))) + (not data.endswith(b"\n")) - skip_lines
    if frame.height != rows or any(frame[column].null_count() for column in NEVER_NULL):
        return None
    if frame[frame.columns[-1]].null_count():
        delimiters = int(np.count_nonzero(text == ord(header.delimiter)))
        if delimiters != (rows + skip_lines) * (len(header.columns) - 1):
            return None
    line = pl.int_range(first, first + rows, dtype=pl.Int64).alias("line")
    return frame.select(line, *_as_record(frame.columns))


def _by_distinct(texts: pl.Series) -> pl.Series:
    """A column of texts, typed: each distinct text is read once, and columns have few.

    Raises:
        BadValue: one of them is none of the column's.
    """
    kind = RECORD[texts.name]
    distinct = texts.unique().drop_nulls().to_list()
    values = [value(text, texts.name, texts.name) for text in distinct]
    if values == distinct or not distinct:
        return texts.cast(kind)
    return texts.replace_strict(distinct, values, return_dtype=kind)


def _as_record(have: Iterable[str]) -> list[pl.Expr]:
    """All columns of RECORD but ``line``, null where they are not among ``have``."""
    present = set(have)
    return [
        pl.col(column) if column in present else pl.lit(None, kind).alias(column)
        for column, kind in RECORD.items()
        if column != "line"
    ]


#: Rows are read one by one in blocks of about so many bytes in which one of them can't be read.
_BLOCK_BYTES = 1 << 17


def _read_in_blocks(data: bytes, start: int, header: _Header, last_is_whole: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What can be read, and what can't and why: a bad row slows down, and swells, its own block alone."""
    records: list[pl.DataFrame] = []
    rejected: list[pl.DataFrame] = []
    first = 2
    while start < len(data):
        newline = data.find(b"\n", start + _BLOCK_BYTES)
        end = newline + 1 if newline >= 0 else len(data)
        block, whole = data[start:end], last_is_whole or end < len(data)
        good = _read_at_once(block, header, skip_lines=0, first=first) if whole else None
        if good is None:
            good, bad = _read_row_by_row(block, header, first, whole)
            rejected.append(bad)
        records.append(good)
        first += block.count(b"\n")
        start = end
    return pl.concat(records, rechunk=True), pl.concat([REJECTED.to_frame(), *rejected], rechunk=True)


def _read_row_by_row(
    body: bytes, header: _Header, first: int, last_is_whole: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Every row for itself: what can be read, and what can't and why."""
    rows: list[dict[str, Any]] = []
    rejected: list[tuple[int, str, str]] = []
    lines = body.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    last = first + len(lines) - 1
    for number, raw in enumerate(lines, first):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            rejected.append(
                (number, raw.decode(errors="backslashreplace"), f"not valid UTF-8 at byte {error.start + 1}")
            )
            continue
        try:
            values = (
                next(csv.reader([text], delimiter=header.delimiter), [])
                if header.quoted
                else text.split(header.delimiter)
            )
        except csv.Error as error:
            rejected.append((number, text, f"its fields can't be told apart: {error}"))
            continue
        if len(values) != len(header.names):
            reason = f"expected {len(header.names)} fields, found {len(values) if text else 0}"
            rejected.append((number, text, reason))
            continue
        try:
            row = {
                column: value(text or None, column, field)
                for column, field, text in zip(header.columns, header.names, values, strict=True)
                if column is not None
            }
            require(row, dict(zip(header.columns, header.names, strict=True)))
            if number == last and not last_is_whole:
                raise BadValue(f"the file ends within this row, in {header.names[-1]}")
        except BadValue as bad:
            rejected.append((number, text, str(bad)))
            continue
        row["line"] = number
        rows.append(row)
    return pl.DataFrame(rows, schema=RECORD), pl.DataFrame(rejected, schema=REJECTED, orient="row")


def _lines(data: bytes) -> pl.DataFrame:
    try:
        if b"\r" in data or b"\x01" in data:  # Polars takes both for more than text at the end of a line
            raise pl.exceptions.ComputeError
        # A separator that no row has makes the whole line one column; fields are never split here.
        frame = pl.read_csv(
            data,
            has_header=False,
            skip_lines=1,
            separator="\x01",
            quote_char=None,
            schema={"record": pl.String},
            empty_string_is_null=False,
        )
    except pl.exceptions.PolarsError:
        texts = [line.decode(errors="backslashreplace") for line in data.removesuffix(b"\n").split(b"\n")[1:]]
        frame = pl.DataFrame({"record": texts})
    return frame.select(pl.int_range(2, frame.height + 2, dtype=pl.Int64).alias("line"), "record")


def _no_lines() -> pl.DataFrame:
    return pl.DataFrame(schema={"line": pl.Int64, "record": pl.String})


# --- Excel and Parquet ----------------------------------------------------------------------------------


def _parse_table(data: bytes, name: str) -> Parsed:
    """A workbook or a Parquet file: columns and rules are those of the layout that its column names are of."""
    table, rows = _open_table(data, name)
    header = _header_of(table.names, "|", name if table.sheet is None else f"{name}, worksheet {table.sheet!r}")
    fields = dict(zip(header.columns, header.names, strict=True))
    typed: list[dict[str, Any]] = []
    blocks: list[pl.DataFrame] = []
    rejected: list[tuple[int, str, str]] = []
    for number, cells in enumerate(_cells(header, rows), table.first_line):
        try:
            if len(cells) > len(header.names) and any(extra is not None for extra in cells[len(header.names) :]):
                raise BadValue(f"expected {len(header.names)} fields, found {len(cells)}")
            row = {}
            for column, field, text in zip(header.columns, header.names, cells, strict=False):
                if column is not None:
                    if isinstance(text, BadValue):
                        raise text
                    row[column] = value(text, column, field)
            require(row, fields)
        except BadValue as bad:
            rejected.append((number, _verbatim(cells), str(bad)))
            continue
        typed.append({**row, "line": number})
        if len(typed) == _BLOCK_ROWS:
            blocks.append(pl.DataFrame(typed, schema=RECORD))
            typed = []
    records = pl.concat([*blocks, pl.DataFrame(typed, schema=RECORD)], rechunk=True)
    if rejected and not records.height:
        raise UnreadableFile(
            name,
            f"not one of its {len(rejected)} rows can be read; the first: {rejected[0][2]}",
            "The program that saved it has changed the values: give FINRA's own file",
            line=rejected[0][0],
        )

    @panics_refused(name)
    def read_lines() -> pl.DataFrame:
        table, rows = _open_table(data, name)
        texts = pl.Series("record", (_verbatim(cells) for cells in _cells(header, rows)), dtype=pl.String)
        first = table.first_line
        lines = pl.int_range(first, first + len(texts), dtype=pl.Int64, eager=True).alias("line")
        return pl.DataFrame([lines, texts])

    refused = pl.DataFrame(rejected, schema=REJECTED, orient="row")
    return Parsed(name, header.layout, _carried(header), records, refused, False, read_lines)


def _open_table(data: bytes, name: str) -> tuple[Table, Iterator[tuple[Any, ...]]]:
    if data.startswith(PARQUET):
        return open_parquet(data, name)
    return open_workbook(data, name, frozenset(FIELDS) | frozenset(LEGACY_FIELDS))


def _cells(header: _Header, rows: Iterable[tuple[Any, ...]]) -> Iterator[list[Cell]]:
    width = len(header.names)
    is_symbol = [column == "symbol" for column in header.columns]
    for row in rows:
        texts = [cell(row[n], header.names[n], is_symbol=is_symbol[n]) for n in range(min(width, len(row)))]
        yield texts + [cell(found, "", is_symbol=False) for found in row[width:]]


def _verbatim(cells: list[Cell]) -> str:
    """A row as text, with what it holds where a cell has no value; whatever can't be stored is escaped."""
    text = "|".join("" if found is None else str(found) for found in cells)
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


# --- JSON ----------------------------------------------------------------------------------------------

_SPACE = re.compile(r"[\s,]*")
#: So many records are dictionaries at once.
_BLOCK_ROWS = 20_000


def _constant(literal: str) -> float | None:
    """What JSON's extensions mean: NaN is no value, in any column; infinities are values that no column can have."""
    return None if literal == "NaN" else float(literal)


#: A member's name within an object, and all up to its value.
_MEMBER = re.compile(r'[\s,]*"((?:[^"\\]|\\.){0,200})"\s*:\s*')

_LIST_OF_OBJECTS = re.compile(r"\[\s*\{")


def _is_record(text: str, at: int) -> bool:
    """Whether the object at ``at`` begins as a record, and not as an object around a list of them."""
    first = _MEMBER.match(text, at + 1)
    return first is not None and first[1] in FIELDS


class _Values:
    """The values in a JSON text, each read out of a window of it: none may be longer than a line may.

    Without that bound, one value of a large file could become gigabytes of objects.
    """

    _WINDOW = 8 * MAX_LINE_BYTES

    def __init__(self, text: str) -> None:
        self._text = text
        self._start = 0
        self._window = text[: self._WINDOW]
        # Numbers stay text until they become decimals: a float would round them.
        self._decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_constant)

    def decode(self, at: int) -> tuple[Any, int]:
        """The value at ``at``, and where it ends.

        Raises:
            json.JSONDecodeError: there is none, or it is too long.
            RecursionError: it is nested too deeply.
        """
        end = self._start + len(self._window)
        if at < self._start or (at > end - MAX_LINE_BYTES and end < len(self._text)):
            self._start, self._window = at, self._text[at : at + self._WINDOW]
        try:
            found, end = self._decoder.raw_decode(self._window, at - self._start)
        except json.JSONDecodeError as error:
            is_cut = self._start + len(self._window) < len(self._text)
            if is_cut and len(self._window) - error.pos < 64:
                raise json.JSONDecodeError("a value is longer than 1 MiB", self._text, at) from None
            raise json.JSONDecodeError(error.msg, self._text, self._start + error.pos) from None
        return found, self._start + end

    def list_of_records(self, at: int) -> tuple[int | None, int]:
        """Where, among the members of an object from ``at`` on, the first list of objects begins.

        Returns:
            The place of its bracket, or None; and how far the members were read.
        """
        while member := _MEMBER.match(self._text, at):
            value_at = member.end()
            if member[1] in FIELDS:  # a record, which has a list of its own
                return None, at
            if self._text[value_at : value_at + 1] == "[" and _LIST_OF_OBJECTS.match(self._text, value_at):
                return value_at, value_at
            try:
                _, at = self.decode(value_at)
            except (json.JSONDecodeError, RecursionError):
                return None, at
            at = _SPACE.match(self._text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        return None, at


def _parse_json(data: bytes, name: str) -> Parsed:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(name, "it is not valid UTF-8", "Fetch it again", line=line) from None
    reader = _Values(text)
    rows: list[dict[str, Any]] = []
    blocks: list[pl.DataFrame] = []
    rejected: list[tuple[int, str, str]] = []
    spans: list[tuple[int, int]] = []
    columns: set[str] = set()
    at = number = 0
    in_array = in_wrapper = False
    while (at := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing, too
        if text[at] == ("]" if in_array else "["):
            in_array = not in_array
            at += 1
            continue
        if in_wrapper and not in_array:
            # Behind the list: the wrapper's other members, and its end.
            if text[at] == "}":
                in_wrapper, at = False, at + 1
                continue
            start, at = reader.list_of_records(at)
            if start is not None:
                problem = "its object holds two lists of records"
                raise UnreadableFile(name, problem, "Give each list in a file of its own")
            if text[at : at + 1] != "}":
                number += 1
                rejected.append((number, text[at:], "not valid JSON: the object around the records does not end here"))
                spans.append((at, len(text)))
                break
            continue
        if not in_array and text[at] == "{" and not _is_record(text, at):
            start, _ = reader.list_of_records(at + 1)
            if start is not None:
                in_wrapper, at = True, start
                continue
        number += 1
        refuse_many_rows(number, name)
        try:
            record, end = reader.decode(at)
        except (json.JSONDecodeError, RecursionError) as error:
            why = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
            rejected.append((number, text[at:], f"not valid JSON: {why}"))
            spans.append((at, len(text)))
            in_array = True
            break
        spans.append((at, end))
        source, at = text[at:end], end
        if not isinstance(record, dict) or not any(field in record for field in FIELDS):
            rejected.append((number, source, "not a record of FINRA's: it has none of its fields"))
            continue
        try:
            row = {column: value(record[field], column, field) for field, column in FIELDS.items() if field in record}
            require(row, {column: field for field, column in FIELDS.items()})
        except BadValue as bad:
            rejected.append((number, source, str(bad)))
            continue
        columns |= row.keys()
        row["line"] = number
        rows.append(row)
        if len(rows) == _BLOCK_ROWS:
            # Typed, a row takes a tenth of what it does as a dictionary.
            blocks.append(pl.DataFrame(rows, schema=RECORD))
            rows = []
    records = pl.concat([*blocks, pl.DataFrame(rows, schema=RECORD)], rechunk=True)
    if not records.height and rejected:
        raise UnreadableFile(name, rejected[0][2], "It is no reply of FINRA's: fetch it again")
    return Parsed(
        name,
        API_JSON,
        frozenset(columns),
        records,
        pl.DataFrame(rejected, schema=REJECTED, orient="row"),
        in_array or in_wrapper,  # it ends within an array, a record or an object around them
        panics_refused(name)(lambda: _slices(text, spans)),
    )


def _slices(text: str, spans: list[tuple[int, int]]) -> pl.DataFrame:
    records = pl.Series("record", (text[start:end] for start, end in spans), dtype=pl.String)
    return pl.DataFrame({"line": pl.int_range(1, len(spans) + 1, dtype=pl.Int64, eager=True), "record": records})
