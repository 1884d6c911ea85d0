"""Reads lines of a capture as FINRA sent them, from its archived bytes.

What a line is, is up to ``domain.parsing``. The rows that were not accepted are in ``otc.rejected_record``, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from otc_assets.archive.store import Archive
from otc_assets.errors import OtcError
from otc_assets.pipeline.captures import parsed_capture
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.read import publication_of


class NoSuchLine(OtcError):
    """There is no such capture, or it has no such line. The message says which there are."""


@dataclass(frozen=True)
class Lines:
    """Lines of a capture.

    Attributes:
        header: the line that names the columns; None in files that have none.
        rows: columns ``line``, as in FINRA's file, and ``record``, verbatim.
    """

    header: str | None
    rows: pl.DataFrame


def capture_lines(
    database: Database,
    archive: Archive,
    capture_id: int,
    *,
    first: int | None = None,
    last: int | None = None,
    symbol: str | None = None,
) -> Lines:
    """Lines of a capture, verbatim.

    Args:
        database: where the capture is recorded.
        archive: where its bytes are.
        capture_id: the capture.
        first, last: only these lines and those between them; None: from the first, to the last.
        symbol: only the lines of this symbol. A row that can't be read has none.

    Raises:
        NoSuchLine: there is no such capture, or it has no line from ``first`` to ``last``.
        ArchiveError: the archive does not have its bytes, or they are damaged.
        UnreadableFile: under the current rules, its bytes are no publication of its week and tier.
    """
    with database.transaction() as connection:
        capture = publication_of(connection, capture_id)
    if capture is None:
        raise NoSuchLine(
            f"there is no capture {capture_id}", remedy="'otc-assets captures list' shows the captures there are."
        )
    parsed = parsed_capture(capture, archive)
    lines = parsed.read_lines()
    begin, end = lines["line"].min() if first is None else first, lines["line"].max() if last is None else last
    chosen = lines.filter(pl.col("line").is_between(begin, end))
    if chosen.is_empty() and lines.height:
        asked = f"line {first}" if first == last else f"lines {first or ''}..{last or ''}"
        raise NoSuchLine(
            f"capture {capture_id} has no {asked}: its {lines.height:,} rows are from line {lines['line'][0]} to "
            f"line {lines['line'][-1]}"
        )
    if symbol is not None:
        of_symbol = parsed.records.filter(pl.col("symbol") == symbol)["line"]
        chosen = chosen.filter(pl.col("line").is_in(of_symbol.implode()))
    return Lines(parsed.header, chosen)
