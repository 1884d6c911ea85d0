"""Reads the reviewed lists that ship with the package, in ``reference``: what somebody has looked up, with its source.

Every list is a CSV file whose last columns are `source` and `reviewed`. What its other columns mean is in the module
that uses it.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources

from otc_assets.errors import OtcError


class BadList(OtcError):
    """A list is not usable. The message says which line, and why."""


def shipped(name: str) -> list[str]:
    """The lines of a list of the package."""
    path = resources.files("otc_assets.domain") / "reference" / name
    return path.read_text(encoding="utf-8").splitlines()


def version(rows: Iterable[Sequence[str]]) -> str:
    """A digest of what figures take from a list: they are computed again when it changes."""
    return hashlib.sha256("\n".join(map(",".join, rows)).encode()).hexdigest()[:12]


def entries(lines: Iterable[str], columns: Sequence[str]) -> Iterator[tuple[str, list[str], dt.date]]:
    """The lines of a list: where each is, the values of ``columns`` and of `source`, and the day of the review.

    Args:
        lines: a CSV file whose header is ``columns``, `source` and `reviewed`.
        columns: the columns of this list.

    Raises:
        BadList: the header differs, a line has another number of values, an empty one or one with spaces around it, or
            its last value is not a day.
    """
    header = [*columns, "source", "reviewed"]
    reader = csv.reader(lines, strict=True)
    try:
        if next(reader, None) != header:
            raise BadList(f"line 1: the header must be {','.join(header)}")
        for values in reader:
            where = f"line {reader.line_num}"
            if len(values) != len(header) or any(value != value.strip() or not value for value in values):
                raise BadList(f"{where}: a line has {len(header)} values, none of them empty or with spaces around it")
            *values, reviewed = values
            try:
                day = dt.date.fromisoformat(reviewed)
            except ValueError:
                raise BadList(f"{where}: reviewed must be a day as 2026-11-26, not {reviewed!r}") from None
            yield where, values, day
    except csv.Error as error:
        raise BadList(f"line {reader.line_num}: {error}") from None
