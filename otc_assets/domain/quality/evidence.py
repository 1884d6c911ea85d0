"""What checks are given, and what they return.

The checks are in ``volume``, ``comparisons`` and ``figures``. Reading the rows is in ``warehouse.read``.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from otc_assets.domain.enums import Severity
from otc_assets.domain.weeks import Tier


@dataclass(frozen=True)
class Finding:
    """The result of one check on one (week, tier).

    Attributes:
        passed: whether the check passed.
        detail: the reason, in words.
        observed, threshold: the value that was compared, and its limit, where there is one.
        severity: where it depends on the evidence; None for the check's own.
    """

    passed: bool
    detail: str
    observed: float | None = None
    threshold: float | None = None
    severity: Severity | None = None


def none_of(count: int, detail: str) -> Finding:
    """The finding of a check that passes where there is none of what it counts."""
    return Finding(count == 0, detail, observed=float(count), threshold=0.0)


@dataclass(frozen=True)
class Evidence:
    """What the checks of venue volume are given of one (week, tier).

    Attributes:
        volume: VENUE_VOLUME of the week and tier.
        totals: PUBLISHED_TOTAL of the same.
        rows_received, rows_accepted, rows_rejected: rows of the effective captures.
        rows_published_twice: rejected rows whose duplicate was accepted.
        rows_expected: the number of rows that FINRA states, where one full publication is effective; else None.
        covered_kinds: the venue kinds of which all rows were captured.
        complete: whether the effective captures are a complete publication.
        previous: VENUE_VOLUME of the tier's newest captured week before it, or None.
        rows_in_use: the rows of the effective captures that are in the tables; others were replaced by newer ones.
        quarantined: the quarantined captures, each with the reason.
    """

    week_ending: dt.date
    tier: Tier
    volume: pl.DataFrame
    totals: pl.DataFrame
    rows_received: int
    rows_accepted: int
    rows_rejected: int
    rows_published_twice: int
    rows_expected: int | None
    covered_kinds: frozenset[str]
    complete: bool
    previous: pl.DataFrame | None = None
    rows_in_use: int | None = None
    quarantined: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Shares:
    """VENUE_SHARE of a (week, tier), and of the tier's newest captured week before it, or None."""

    now: pl.DataFrame
    previous: pl.DataFrame | None


@dataclass(frozen=True)
class Compared:
    """The rows of a table, and those of its source, of one (week, tier) or of a week."""

    rows: pl.DataFrame
    source: pl.DataFrame


@dataclass(frozen=True)
class Graded:
    """A week's grade, which is the worst of its tiers', and whether the week's venue volume is still kept."""

    grade: str | None
    kept: bool = True


@dataclass(frozen=True)
class Newest:
    """A tier's newest captured week, the newest that is due by the calendar, and the first week wanted.

    ``is_recent``: the newest week was captured a short time ago, so newer weeks may still be loading.
    """

    week: dt.date | None
    due: dt.date
    first_wanted: dt.date
    is_recent: bool = False
