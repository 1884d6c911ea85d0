"""What a week is made of, when several captures speak for it.

Here: which captures speak, and how their rows are put together. Not here: how a replaced row is kept
(``warehouse.load``), and parsing (``domain.parsing``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import polars as pl

from otc_assets.domain.schema import ATS, DE_MINIMIS, NON_ATS, PUBLISHED_TOTAL, VENUE_VOLUME


class Captured(Protocol):
    """A capture of a (week, tier), as far as it matters here."""

    @property
    def scope(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def rows_accepted(self) -> int: ...


C = TypeVar("C", bound=Captured)

#: The venue kinds that a capture of each scope is the whole of.
_COVERS = {
    "FULL": frozenset({ATS, NON_ATS, DE_MINIMIS}),
    "ATS": frozenset({ATS}),
    "NON_ATS": frozenset({NON_ATS, DE_MINIMIS}),
}
_WHOLE = _COVERS["FULL"]


def speaking(captures: Iterable[C]) -> list[C]:
    """The captures that speak for a (week, tier), in the order in which they apply.

    The newest full publication alone, where there is one. Otherwise the newest file of each half, and
    records of parts, oldest first, for what no half covers: a part never replaces a whole. A capture
    without an accepted row never speaks: an empty answer must not wipe out a week.
    """
    by_scope: dict[str, list[C]] = {}
    for capture in sorted(captures, key=lambda c: c.revision):
        if capture.rows_accepted:
            by_scope.setdefault(capture.scope, []).append(capture)
    if "FULL" in by_scope:
        return [by_scope["FULL"][-1]]
    halves = [by_scope[scope][-1] for scope in ("ATS", "NON_ATS") if scope in by_scope]
    # Totals in records of parts judge the halves too, so they are kept beside them.
    return [*by_scope.get("PARTIAL", []), *halves]


def covered_kinds(captures: Iterable[Captured]) -> frozenset[str]:
    """The venue kinds of which the captures are the whole."""
    return frozenset().union(*(_COVERS.get(capture.scope, frozenset()) for capture in captures))


def is_whole(captures: Iterable[Captured]) -> bool:
    """Whether the captures together are a whole publication: full, or both halves."""
    return covered_kinds(captures) == _WHOLE


@dataclass(frozen=True)
class Part:
    """The rows of one capture: ``volume`` (VENUE_VOLUME) and ``totals`` (PUBLISHED_TOTAL)."""

    scope: str
    volume: pl.DataFrame
    totals: pl.DataFrame


def assemble(parts: Sequence[Part]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of a (week, tier) from the parts that speak for it, in their order.

    A half replaces all rows of its kinds. A part of a publication replaces what earlier parts said of the
    same symbols at venues of the same kind, for kinds that no half covers. Totals: the last word on each.

    Returns:
        Frames of VENUE_VOLUME and PUBLISHED_TOTAL.
    """
    covered = frozenset().union(*(_COVERS.get(part.scope, frozenset()) for part in parts))
    volume = VENUE_VOLUME.to_frame()
    for part in parts:
        if part.scope == "PARTIAL":
            rows = part.volume.filter(~pl.col("venue_kind").is_in(list(covered)))
            spoken_for = ["symbol", "venue_kind"]
            volume = volume.join(rows.select(spoken_for).unique(), on=spoken_for, how="anti")
        else:
            rows = part.volume
        volume = pl.concat([volume, rows])
    totals = pl.concat([PUBLISHED_TOTAL.to_frame(), *(part.totals for part in parts)])
    figures = ("share_volume", "trade_count", "notional")
    key = [name for name in PUBLISHED_TOTAL if name not in figures]
    return volume, totals.unique(subset=key, keep="last", maintain_order=True)
