"""Frames as bytes: JSON with exact numbers, CSV, Arrow and Parquet; and which of them a request asks for."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from otc_assets.api.problems import Problem


@dataclass(frozen=True)
class Format:
    """A representation of rows.

    Attributes:
        name: the value of ``format``.
        media_type: the value of ``Accept`` and ``Content-Type``.
        encode: a frame as bytes; None of JSON, which the database writes.
    """

    name: str
    media_type: str
    encode: Callable[[pl.DataFrame], bytes] | None = None


def _csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6f%:z").encode()


def _arrow(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    # Plain strings: not every reader knows views yet.
    frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
    return buffer.getvalue()


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


FORMATS = {
    each.name: each
    for each in (
        Format("json", "application/json"),
        Format("csv", "text/csv", _csv),
        Format("arrow", "application/vnd.apache.arrow.stream", _arrow),
        Format("parquet", "application/vnd.apache.parquet", _parquet),
    )
}


def json_rows(frame: pl.DataFrame, *, text_decimals: bool = False) -> list[str]:
    """Each row as a JSON object, as the database writes them for tables (``Client.json_rows``).

    Polars writes decimals as text, and Python's encoder only floats as numbers, which have about 15 digits. The
    quotation marks are removed here: in a value they are escaped, so that no value looks like a member.

    >>> from decimal import Decimal
    >>> json_rows(pl.DataFrame({"a": ["x"], "b": [Decimal("12345678901234567890.120000")]}))
    ['{"a":"x","b":12345678901234567890.12}']
    """
    lines = [line for line in frame.write_ndjson().split("\n") if line]
    names = [re.escape(json.dumps(name)) for name, kind in frame.schema.items() if isinstance(kind, pl.Decimal)]
    if not names:
        return lines
    member = re.compile(rf'((?:{"|".join(names)}):)"(-?\d+)(?:(\.\d*?[1-9])0*|\.0*)?"(?=[,}}])')
    written = r'\1"\2\3"' if text_decimals else r"\1\2\3"
    return [member.sub(written, line) for line in lines]


def wanted(accept: str) -> Format:
    """The format that an ``Accept`` header prefers; JSON where it names none.

    >>> wanted("text/csv;q=0.5, application/vnd.apache.parquet").name
    'parquet'

    Raises:
        Problem: none of its types is ours.
    """
    best, quality = None, 0.0
    for position, part in enumerate(accept.split(",") if accept.strip() else ["*/*"]):
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        try:
            q = next((float(word[2:]) for word in parameters if word.startswith("q=")), 1.0) - position * 1e-9
        except ValueError:
            q = 0.0
        found = next((each for each in FORMATS.values() if _matches(media_type, each.media_type)), None)
        if found is not None and q > quality:
            best, quality = found, q
    if best is None:
        offered = ", ".join(each.media_type for each in FORMATS.values())
        raise Problem("not-acceptable", "none of the types in Accept is offered", remedy=f"There are {offered}.")
    return best


def _matches(pattern: str, media_type: str) -> bool:
    kind, _, _ = media_type.partition("/")
    return pattern in (media_type, "*/*", f"{kind}/*")
