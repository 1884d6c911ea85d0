"""What the registry says of a table: its columns, key, formula, layout and retention. The tables are in ``tables``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from otc_assets.domain.enums import Retention
from otc_assets.domain.notes import NOTES, Note


@dataclass(frozen=True)
class Layout:
    """How a hypertable is cut into chunks, and how a compressed chunk is laid out.

    Attributes:
        chunk: the days in a chunk.
        segment_by: columns whose values a compressed batch has in common.
        order_by: the order within.
    """

    chunk: int
    segment_by: str
    order_by: str

    @property
    def first(self) -> str:
        """The first column of the order: batches are found by its values."""
        return self.order_by.partition(",")[0]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that is keyed by week.

    Attributes:
        name: its name in the schema ``otc``.
        description: its content, for the page of its asset.
        schema: its columns; the database adds bookkeeping columns after them.
        key: the columns that identify a row.
        notes: for columns that are not in NOTES, or mean something else here.
        volume: the column of shares whose sums before and after a revision are compared.
        layout: its layout as a hypertable; None for tables of a few rows per week, which are ordinary tables.
        revisions: the layout of ``<name>_revision``, where replaced rows are kept; None where none are.
        retention: the retention class; None where weeks are kept indefinitely.
    """

    name: str
    description: str
    schema: pl.Schema
    key: tuple[str, ...]
    notes: Mapping[str, Note] = field(default_factory=dict)
    volume: str | None = None
    layout: Layout | None = None
    revisions: Layout | None = None
    retention: Retention | None = None

    def note(self, column: str) -> Note:
        """What a column means."""
        return self.notes.get(column) or NOTES[column]


@dataclass(frozen=True, kw_only=True)
class Figure(Table):
    """A table that is computed by a formula, week by week.

    Attributes:
        sources: the tables that it is computed from; over several weeks, venue volume is not the only one.
        weeks: how many weeks of the sources, up to its own.
        formula: takes rows of its source; if ``weeks`` is more than one, also the captured (week_ending, tier) of these
            weeks, and the week. A formula with several sources takes a function that reads rows (``Read``) instead of
            rows.
        reads: the columns of the only source that the formula needs; None for all.
        by_tier: no figure is over several tiers, so that tiers are computed one at a time, in half the memory.
        follows_revisions: whether its weeks have revisions of other weeks too (``Read.rewritten``).
        event: the type of the event that a week was computed.
        code_version: of the formula; raise it when the same source rows would give other figures. Venue volume has
            ``normalize.NORMALIZER_VERSION``.
    """

    retention: Retention | None = Retention.SUMMARIES
    sources: tuple[str, ...] = ("venue_volume",)
    weeks: int = 1
    formula: Callable[..., pl.DataFrame]
    reads: tuple[str, ...] | None = None
    by_tier: bool = True
    follows_revisions: bool = False
    event: str
    code_version: str = "1"
