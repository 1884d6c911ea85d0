"""Rows of delimited text: FINRA's download files, their legacy form with a trailer line, and the API's CSV.

All rows are read at once by Polars where that gives the same values as reading them one by one; otherwise the blocks
that have a doubtful row are read row by row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

import polars as pl

from otc_assets.domain.enums import FileLayout
from otc_assets.domain.parsing.layouts import Header, header_of
from otc_assets.domain.parsing.limits import UnreadableFile, refuse_many_rows
from otc_assets.domain.parsing.results import Parsed, RowCollector, panics_refused, refuse_unless_readable
from otc_assets.domain.schema import AMOUNT, RECORD, REJECTED
from otc_assets.domain.values import NEVER_NULL, BadValue, is_whole_date, maybe_missing, value
from otc_assets.domain.weeks import TIER_BY_NAME


def parse_delimited(data: bytes, name: str) -> Parsed:
    """Reads a file of delimited text with LF line ends.

    Raises:
        UnreadableFile: it is not a publication.
    """
    end = data.find(b"\n")
    first = data[: end if end >= 0 else len(data)]
    header = _header(first, name)
    data = _without_blank_end(data)
    newlines = data.count(b"\n")
    refuse_many_rows(newlines - 1, name)
    body_starts = len(first) + 1
    trailer_missing = False
    if header.layout == FileLayout.LEGACY:
        data, trailer_missing = _without_trailer(data, header)
        newlines = data.count(b"\n")
    ends_with_line = len(data) <= body_starts or data.endswith(b"\n")
    last_is_whole = ends_with_line or header.layout == FileLayout.LEGACY or _last_row_is_whole(data, header)
    # Usually all rows are read at once, and the body is not copied.
    records = _read_at_once(data, header, newlines, skip_lines=1, first=2) if last_is_whole else None
    rejected = REJECTED.to_frame()
    if records is None:
        records, rejected = _read_in_blocks(data, body_starts, header, last_is_whole)
        refuse_unless_readable(name, records, rejected, "Its rows do not match its header: download it again")
    truncated = trailer_missing or not last_is_whole
    read_lines = panics_refused(name)(lambda: _lines(data))
    text = first.decode(errors="backslashreplace")
    return Parsed(name, header.layout, frozenset(header.fields), records, rejected, truncated, read_lines, text)


def _header(line: bytes, name: str) -> Header:
    text = line.decode(errors="replace")
    delimiter = next((d for d in "|,;\t" if d in text), "|")
    try:
        names = [column.strip() for column in next(csv.reader([text], delimiter=delimiter))]
    except csv.Error as error:
        remedy = "Lines end with LF or CRLF in FINRA's files: download it again"
        raise UnreadableFile(name, f"its header can't be read ({error})", remedy, line=1) from None
    return header_of(names, delimiter, name, is_quoted='"' in text)


def _without_blank_end(data: bytes) -> bytes:
    """The text without the blank lines after its last row: editors and spreadsheets add them."""
    end_of_data = data[-4096:]  # usually enough, and saves a copy of the whole
    kept = end_of_data.rstrip(b" \t\r\n")
    last = len(data) - len(end_of_data) + len(kept) if kept else len(data.rstrip(b" \t\r\n"))
    end = data.find(b"\n", last) + 1
    return data[:end] if 0 < end < len(data) else data


def _without_trailer(data: bytes, header: Header) -> tuple[bytes, bool]:
    """A legacy file without its trailer line, and whether that line is missing or has another number of rows."""
    text = data.rstrip(b"\n")
    start = text.rfind(b"\n") + 1
    trailer = text[start:].decode(errors="replace")
    counted = re.findall(r"[0-9]+", trailer.replace(",", ""))
    rows = text.count(b"\n") - 1
    # A last line without a number, or one that begins like a row, is a row: the file has no trailer.
    if not counted or trailer.split(header.delimiter)[0] in TIER_BY_NAME:
        return data if data.endswith(b"\n") else data + b"\n", True
    return data[:start], str(rows) not in counted


def _last_row_is_whole(data: bytes, header: Header) -> bool:
    """Whether a last row without its newline is certainly complete.

    A date has a fixed length. Where the last column has another type, a row with all its fields counts as complete.
    """
    last = data[data.rfind(b"\n") + 1 :].decode(errors="replace")
    values = last.split(header.delimiter)
    if len(values) != len(header.names):
        return False
    column = header.columns[-1]
    return column is None or RECORD[column] != pl.Date or is_whole_date(values[-1])


# --- all rows at once ----------------------------------------------------------------------------------

#: An amount as FINRA writes it. Polars accepts more, and rounds a seventh decimal or 1e-7 away silently.
_PLAIN_AMOUNT = r"^-?[0-9]+(\.[0-9]{1,6})?$"


def _read_at_once(data: bytes, header: Header, newlines: int, *, skip_lines: int, first: int) -> pl.DataFrame | None:
    """All rows in one read, or None where any of them is doubtful.

    Args:
        data: lines.
        header: their columns.
        newlines: how many there are in ``data``.
        skip_lines: the number of lines before the first row.
        first: the line number of the first row.
    """
    if header.quoted or b"\r" in data:
        return None
    schema = {
        # Only whole numbers are read by Polars as strictly as by ``value``.
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
        by_value = [c for c, is_odd in zip(texts, odd, strict=True) if is_odd or c == "firm_crd"]
        frame = frame.with_columns(
            pl.col(amounts).cast(AMOUNT), *(_by_distinct(frame[column]) for column in (*dates, *by_value))
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError, BadValue):
        return None
    # The number of newlines proves that no line was skipped. Polars refuses longer rows, and fills shorter ones with
    # nulls: a last column without nulls, or the number of delimiters, proves that there was none.
    rows = newlines + (not data.endswith(b"\n")) - skip_lines
    if frame.height != rows or any(frame[column].null_count() for column in NEVER_NULL):
        return None
    delimiters = (rows + skip_lines) * (len(header.columns) - 1)
    if frame[frame.columns[-1]].null_count() and data.count(header.delimiter.encode()) != delimiters:
        return None
    line = pl.int_range(first, first + rows, dtype=pl.Int64).alias("line")
    return frame.select(line, *_as_record(frame.columns))


def _by_distinct(texts: pl.Series) -> pl.Series:
    """A column of texts, typed. Each distinct text is read once: columns have few of them.

    Raises:
        BadValue: the column can't have one of them.
    """
    kind = RECORD[texts.name]
    # Of one text in all rows, as dates mostly are, no table of the texts is made.
    is_constant = texts.eq_missing(texts.first()).all()
    distinct = (texts.head(1) if is_constant else texts.unique()).drop_nulls().to_list()
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


# --- row by row ----------------------------------------------------------------------------------------

#: The size of a block that is read row by row, where one of its rows can't be read.
_BLOCK_BYTES = 1 << 17


def _read_in_blocks(data: bytes, start: int, header: Header, last_is_whole: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows (RECORD) and the rejected rows (REJECTED); a bad row costs time and memory in its own block only."""
    records = [RECORD.to_frame()]
    rejected = [REJECTED.to_frame()]
    first = 2
    while start < len(data):
        newline = data.find(b"\n", start + _BLOCK_BYTES)
        end = newline + 1 if newline >= 0 else len(data)
        block, whole = data[start:end], last_is_whole or end < len(data)
        newlines = block.count(b"\n")
        good = _read_at_once(block, header, newlines, skip_lines=0, first=first) if whole else None
        if good is None:
            good, bad = _read_row_by_row(block, header, first, whole)
            rejected.append(bad)
        records.append(good)
        first += newlines
        start = end
    return pl.concat(records, rechunk=True), pl.concat(rejected, rechunk=True)


def _read_row_by_row(
    block: bytes, header: Header, first: int, last_is_whole: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = RowCollector(header.fields)
    lines = block.removesuffix(b"\n").split(b"\n")
    last = first + len(lines) - 1
    for number, line in enumerate(lines, first):
        is_cut = number == last and not last_is_whole
        rows.add(number, _values(line, header, is_cut), line.decode(errors="backslashreplace"))
    return rows.frames()


def _values(line: bytes, header: Header, is_cut: bool) -> Iterator[tuple[str, str, str]]:
    try:
        text = line.decode()
        values = (
            next(csv.reader([text], delimiter=header.delimiter), []) if header.quoted else text.split(header.delimiter)
        )
    except UnicodeDecodeError as error:
        raise BadValue(f"not valid UTF-8 at byte {error.start + 1}") from None
    except csv.Error as error:
        raise BadValue(f"its fields can't be separated: {error}") from None
    if len(values) != len(header.names):
        raise BadValue(f"expected {len(header.names)} fields, found {len(values) if text else 0}")
    for column, field, found in zip(header.columns, header.names, values, strict=True):
        if column is not None:
            yield column, field, found
    if is_cut:
        raise BadValue(f"the file ends within this row, in {header.names[-1]}")


def _lines(data: bytes) -> pl.DataFrame:
    """The lines below the header, verbatim: columns ``line`` and ``record``."""
    try:
        if b"\r" in data or b"\x01" in data:  # at the end of a line, Polars does not read either as text
            raise pl.exceptions.ComputeError
        # A separator that no row has makes the whole line one column; fields are not split here.
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
        frame = pl.DataFrame({"record": texts}, schema={"record": pl.String})
    return frame.select(pl.int_range(2, frame.height + 2, dtype=pl.Int64).alias("line"), "record")
