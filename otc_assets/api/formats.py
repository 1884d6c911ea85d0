"""Frames as bytes: JSON with exact numbers, CSV, Arrow and Parquet; and which of them a request asks for."""

from __future__ import annotations

import io
import json
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
        encode: a frame as bytes; JSON also takes what follows the rows.
    """

    name: str
    media_type: str
    encode: Callable[[pl.DataFrame], bytes]


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


def _rows(frame: pl.DataFrame) -> bytes:
    return b"[" + b",\n".join(json_rows(frame)) + b"]"


FORMATS = {
    each.name: each
    for each in (
        Format("json", "application/json", _rows),
        Format("csv", "text/csv", _csv),
        Format("arrow", "application/vnd.apache.arrow.stream", _arrow),
        Format("parquet", "application/vnd.apache.parquet", _parquet),
    )
}


def json_rows(frame: pl.DataFrame) -> list[bytes]:
    """Each row as a JSON object. Decimals are numbers with all their digits, without zeros at the end.

    Polars writes decimals as text, and Python's encoder only floats as numbers, which have about 15 digits.

    >>> from decimal import Decimal
    >>> json_rows(pl.DataFrame({"a": ["x"], "b": [Decimal("12345678901234567890.120000")]}))
    [b'{"a":"x","b":12345678901234567890.12}']
    """
    if frame.is_empty():
        return []
    parts: list[pl.Expr] = []
    others: list[str] = []

    def flush() -> None:
        if others:
            parts.append(pl.struct(others).struct.json_encode().str.slice(1).str.head(-1))
            others.clear()

    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Decimal):
            flush()
            parts.append(pl.concat_str(pl.lit(f"{json.dumps(name)}:"), digits(pl.col(name)).fill_null("null")))
        else:
            others.append(name)
    flush()
    row = pl.concat_str(pl.lit("{"), pl.concat_str(parts, separator=","), pl.lit("}"))
    return [text.encode() for text in frame.select(row).to_series()]


def digits(column: pl.Expr) -> pl.Expr:
    """A decimal column as text without zeros at its end. Its type must have a scale above 0."""
    return column.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def with_text_decimals(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its decimals as text, for readers whose numbers are doubles."""
    return frame.with_columns(
        digits(pl.col(name)) for name, kind in frame.schema.items() if isinstance(kind, pl.Decimal) and kind.scale
    )


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


def json_text(value: object) -> bytes:
    """A value as JSON."""
    return json.dumps(value).encode()
