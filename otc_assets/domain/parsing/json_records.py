"""Records of the Query API as JSON: a list, several lists one after another, or an object around a list.

A record's line is its number, from 1. The text is read record by record, so that a damaged one does not lose the
others, and so that a large file does not become gigabytes of objects.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import polars as pl

from otc_assets.domain.enums import FileLayout
from otc_assets.domain.parsing.layouts import FIELDS
from otc_assets.domain.parsing.limits import MAX_LINE_BYTES, UnreadableFile, refuse_many_rows
from otc_assets.domain.parsing.results import Parsed, RowCollector, panics_refused
from otc_assets.domain.values import BadValue

_SPACE = re.compile(r"[\s,]*")
#: A member's name within an object, and all text up to its value.
_MEMBER = re.compile(r'[\s,]*"((?:[^"\\]|\\.){0,200})"\s*:\s*')
_LIST_OF_OBJECTS = re.compile(r"\[\s*\{")


def is_json(data: bytes) -> bool:
    """Whether the bytes begin as JSON does."""
    return data[:4096].lstrip()[:1] in (b"[", b"{")


def _constant(literal: str) -> float | None:
    """The value of JSON's extensions: NaN is null in any column; no column can have an infinity."""
    return None if literal == "NaN" else float(literal)


class _Repeating(dict[str, Any]):
    """An object that names a member more than once: JSON has no rule for which value is meant."""

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__(members)
        self.repeated = sorted(name for name, count in Counter(name for name, _ in members).items() if count > 1)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    return found if len(found) == len(members) else _Repeating(members)


def _skip_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it also matches nothing


def _is_record(text: str, at: int) -> bool:
    """Whether the object at ``at`` begins as a record, and not as an object around a list of them."""
    first = _MEMBER.match(text, at + 1)
    return first is not None and first[1] in FIELDS


class _ValueReader:
    """Reads the values of a JSON text, each from a window of it: no value may be longer than a line may.

    Without that limit, one value of a large file could become gigabytes of objects.
    """

    _WINDOW = 8 * MAX_LINE_BYTES

    def __init__(self, text: str) -> None:
        self._text = text
        self._start = 0
        self._window = text[: self._WINDOW]
        # Numbers stay text until they become decimals: a float would round them.
        self._decoder = json.JSONDecoder(
            parse_float=str, parse_int=str, parse_constant=_constant, object_pairs_hook=_object
        )

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
        """Finds the first list of objects among the members of an object, from ``at`` on.

        Returns:
            The position of its bracket, or None; and the position up to which the members were read.
        """
        while member := _MEMBER.match(self._text, at):
            value_at = member.end()
            if member[1] in FIELDS:  # a record, in which a list is only a value
                return None, at
            if self._text[value_at : value_at + 1] == "[" and _LIST_OF_OBJECTS.match(self._text, value_at):
                return value_at, value_at
            try:
                _, at = self.decode(value_at)
            except (json.JSONDecodeError, RecursionError):
                return None, at
            at = _skip_space(self._text, at)
        return None, at


def parse_json(data: bytes, name: str) -> Parsed:
    """Reads records in JSON.

    Raises:
        UnreadableFile: it is not UTF-8, not a publication, or has too many rows.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(name, "it is not valid UTF-8", "Fetch it again", line=line) from None
    reader = _ValueReader(text)
    rows = RowCollector({column: field for field, column in FIELDS.items()})
    spans: list[tuple[int, int]] = []
    columns: set[str] = set()
    at = 0
    in_array = in_wrapper = False
    while (at := _skip_space(text, at)) < len(text):
        if text[at] == ("]" if in_array else "["):
            in_array = not in_array
            at += 1
            continue
        if in_wrapper and not in_array:
            # After the list: the wrapper's other members, and its end.
            if text[at] == "}":
                in_wrapper, at = False, at + 1
                continue
            start, at = reader.list_of_records(at)
            if start is not None:
                raise UnreadableFile(name, "its object holds two lists of records", "Save each list to its own file")
            if text[at : at + 1] != "}":
                spans.append((at, len(text)))
                rows.reject(len(spans), text[at:], "not valid JSON: the object around the records does not end here")
                break
            continue
        if not in_array and text[at] == "{" and not _is_record(text, at):
            start, _ = reader.list_of_records(at + 1)
            if start is not None:
                in_wrapper, at = True, start
                continue
        try:
            record, end = reader.decode(at)
        except (json.JSONDecodeError, RecursionError) as error:
            why = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
            spans.append((at, len(text)))
            rows.reject(len(spans), text[at:], f"not valid JSON: {why}")
            in_array = True
            break
        spans.append((at, end))
        refuse_many_rows(len(spans), name)
        if row := rows.add(len(spans), _values(record), text[at:end]):
            columns |= row.keys()
        at = end
    records, rejected = rows.frames()
    if not records.height and rejected.height:
        raise UnreadableFile(name, rejected["reason"][0], "It is not a reply of FINRA's API: fetch it again")
    # Within a list, a record or an object around them, the text is truncated.
    truncated = in_array or in_wrapper
    read_lines = panics_refused(name)(lambda: _slices(text, spans))
    return Parsed(name, FileLayout.API_JSON, frozenset(columns), records, rejected, truncated, read_lines)


def _values(record: Any) -> Iterator[tuple[str, str, Any]]:
    if not isinstance(record, dict) or not any(field in record for field in FIELDS):
        raise BadValue("not a FINRA record: it has none of its fields")
    if isinstance(record, _Repeating):
        raise BadValue(f"the record names {', '.join(record.repeated)} more than once, so its values are ambiguous")
    for field, column in FIELDS.items():
        if field in record:
            yield column, field, record[field]


def _slices(text: str, spans: list[tuple[int, int]]) -> pl.DataFrame:
    """The records, verbatim: columns ``line`` and ``record``."""
    records = pl.Series("record", (text[start:end] for start, end in spans), dtype=pl.String)
    return pl.DataFrame({"line": pl.int_range(1, len(spans) + 1, dtype=pl.Int64, eager=True), "record": records})
