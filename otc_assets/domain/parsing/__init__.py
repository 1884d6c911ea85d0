"""Reads the bytes of FINRA's publications into typed records, in any layout.

Layouts are the website's download file, its legacy form with a trailer line, and records of the Query API as delimited
text or JSON. An Excel workbook or Parquet file has the layout whose column names it has.

This package decides what a row is and whether it can be read. What a row means, and whether it is accepted, is in
``domain.normalize``; reading files from disk is in ``finra.download_files``.
"""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import suppress

from otc_assets.domain.parsing.delimited import parse_delimited
from otc_assets.domain.parsing.json_records import is_json, parse_json
from otc_assets.domain.parsing.layouts import FIELDS
from otc_assets.domain.parsing.limits import (
    GZIP,
    MAX_LINE_BYTES,
    PARQUET,
    ZIP,
    UnreadableFile,
    join_bounded,
    refuse_large,
    unpacked,
)
from otc_assets.domain.parsing.results import Parsed, panics_refused
from otc_assets.domain.parsing.spreadsheets import is_workbook, parse_table

__all__ = ["FIELDS", "Parsed", "UnreadableFile", "is_parquet", "panics_refused", "parse"]

_UNPACK = "Unpack it, and ingest the files in it"
#: Formats that are recognized by their first bytes and not read: what they are, and what to do.
_OTHER_FORMATS = {
    b"PK\x05\x06": ("an empty zip archive", "Download it again"),
    ZIP: ("a zip archive and not an Excel workbook", _UNPACK),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (.xls)", "Save it as .xlsx, or download FINRA's file again"),
    b"%PDF": ("a PDF document", "Use FINRA's download file, or records of its Query API"),
    b"ARROW1": ("an Arrow (Feather) file", "Save it as Parquet, or use FINRA's download file"),
    b"BZh": ("compressed with bzip2", _UNPACK),
    b"\xfd7zXZ\x00": ("compressed with xz", _UNPACK),
    b"7z\xbc\xaf'\x1c": ("a 7-Zip archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed with Zstandard", _UNPACK),
    b"SQLite format 3": ("a SQLite database", "Save its table as CSV or Parquet"),
    b"\x80\x04\x95": ("a Python pickle, which is never loaded", "Save it as Parquet"),
}


def parse(data: bytes, *, name: str) -> Parsed:
    """Reads a publication in any layout.

    A byte order mark, CRLF line ends, gzip, and a missing last newline change nothing. A row that can't be read does
    not stop the others: it is in ``rejected``, with the reason.

    Args:
        data: the file or reply.
        name: where it is from, for messages.

    Raises:
        UnreadableFile: it is not a publication.
    """
    with panics_refused(name):
        refuse_large(len(data), name)
        if data[:2] == GZIP:
            data = _gunzip(data, name)
        if data.startswith(PARQUET) or (data.startswith(ZIP) and is_workbook(data)):
            return parse_table(data, name)
        text = _text(data, name)
        return parse_json(text, name) if is_json(text) else parse_delimited(text, name)


def is_parquet(data: bytes) -> bool:
    """Whether ``parse`` reads the file as Parquet; it may be packed with gzip."""
    if data[:2] == GZIP:
        with suppress(OSError, EOFError, zlib.error), gzip.open(io.BytesIO(data)) as packed:
            return packed.read(len(PARQUET)) == PARQUET
    return data.startswith(PARQUET)


def _gunzip(data: bytes, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            return join_bounded(unpacked(packed.read, len(data), name), name=f"{name}, unpacked")
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(name, f"its gzip is damaged ({error})", "Download it again") from None


def _text(data: bytes, name: str) -> bytes:
    """The text, with LF line ends.

    Raises:
        UnreadableFile: it is not text of rows.
    """
    for magic, (what, remedy) in _OTHER_FORMATS.items():
        if data.startswith(magic):
            raise UnreadableFile(name, f"it is {what}", remedy)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnreadableFile(name, "it is UTF-16", "FINRA's files are UTF-8: download it again, or convert it")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data[:1].isspace() and is_json(data):
        data = data.lstrip()
    if not data[:4096].strip() and not data.strip():
        raise UnreadableFile(name, "it is empty", "Download it again: FINRA's files have at least a header")
    if (at := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, at) + 1
        raise UnreadableFile(name, "it has NUL bytes", "The file is damaged: download it again", line=line)
    if data[:4096].lstrip()[:1] == b"<":
        raise UnreadableFile(name, "it is a page of HTML or XML, not data", "The download failed: try it again")
    if not is_json(data):
        _refuse_long_lines(data, name)
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def _refuse_long_lines(data: bytes, name: str) -> None:
    start = 0
    while len(data) - start > MAX_LINE_BYTES:
        newline = data.rfind(b"\n", start, start + MAX_LINE_BYTES + 1)
        if newline < 0:
            line = data.count(b"\n", 0, start) + 1
            remedy = "It is not a FINRA file: download it again"
            raise UnreadableFile(name, "the line is longer than 1 MiB", remedy, line=line)
        start = newline + 1
