"""Which captures of a (week, tier) are effective, how their rows merge, and which captures are quarantined.

A publication has two halves: the ATS rows, and the rows of all other firms (the De Minimis group among them). A
capture is all of a publication (FULL), one half of it (ATS, NON_ATS: the website's download files), or some rows
(PARTIAL). The rules follow FINRA's own dates, so that the order in which captures arrive does not matter:

- Each half has one *base*: of the captures that cover it, complete ones first, then the one with the newest
  ``lastUpdateDate``, whatever its scope; of equals a full publication, the file with more rows, the later capture.
- The rows of partial captures merge into the base by row key. Where two captures have the same key, the row with the
  newer ``lastUpdateDate`` wins. A key that a complete base does not have is added only if it is newer than the base.
- A capture that would remove more than ``MOST_REMOVED_PCT`` percent of the rows, symbols or shares of the capture
  before it is *quarantined*: FINRA revises single rows and never withdraws a large part of a publication, so the
  download was incomplete. So is a truncated capture, where a complete one is there. An operator accepts it or leaves
  it.

This module works on attributes of captures and on frames. Recording captures and keeping replaced rows is in
``warehouse``; reading bytes is in ``parsing``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

import polars as pl

from otc_assets.domain.enums import CaptureScope, TotalOf, VenueKind
from otc_assets.domain.schema import PUBLISHED_TOTAL, VENUE_VOLUME, half_of_venue
from otc_assets.domain.tables import TABLES

#: The halves of a publication, each with the venue kinds in it.
HALVES: Mapping[str, frozenset[str]] = {
    VenueKind.ATS: frozenset({VenueKind.ATS}),
    VenueKind.NON_ATS: frozenset({VenueKind.NON_ATS, VenueKind.DE_MINIMIS}),
}

#: The halves that a capture of each scope covers.
_COVERS: Mapping[str, tuple[str, ...]] = {
    CaptureScope.FULL: tuple(HALVES),
    CaptureScope.ATS: (VenueKind.ATS,),
    CaptureScope.NON_ATS: (VenueKind.NON_ATS,),
    CaptureScope.PARTIAL: (),
}

#: The percentage of the rows, symbols and shares of the capture before it that a capture may remove; one row may always
#: be removed. FINRA's revisions change a few rows of a publication and rarely remove one.
MOST_REMOVED_PCT = 2


class Captured(Protocol):
    """The attributes of a capture of a (week, tier) that decide whether it is effective.

    Attributes:
        id: ascending in the order of recording.
        ats_last_update_date, non_ats_last_update_date: the newest ``lastUpdateDate`` of each half's rows.
        complete: the capture has all rows of its scope.
        quarantined: an operator has to accept or withdraw it.
        accepted_over: set when an operator accepted a quarantined capture: the ``lastUpdateDate`` of the capture that
            was effective until then.
        withdrawn: an operator has withdrawn it.
    """

    @property
    def id(self) -> int: ...
    @property
    def scope(self) -> str: ...
    @property
    def complete(self) -> bool: ...
    @property
    def rows_accepted(self) -> int: ...
    @property
    def ats_last_update_date(self) -> dt.date | None: ...
    @property
    def non_ats_last_update_date(self) -> dt.date | None: ...
    @property
    def quarantined(self) -> bool: ...
    @property
    def accepted_over(self) -> dt.date | None: ...
    @property
    def withdrawn(self) -> bool: ...


C = TypeVar("C", bound=Captured)


@dataclass(frozen=True)
class Effective(Generic[C]):
    """The captures that a (week, tier) is computed from.

    Attributes:
        bases: by half, the capture that is its base, where there is one.
        partial: the partial captures whose rows merge into the bases, oldest first.
        quarantined: the captures that an operator has to accept or withdraw; they are not effective.
    """

    bases: Mapping[str, C]
    partial: Sequence[C] = ()
    quarantined: Sequence[C] = ()

    @property
    def captures(self) -> list[C]:
        """The effective captures, each once, in the order of recording."""
        found = {capture.id: capture for capture in (*self.bases.values(), *self.partial)}
        return [found[number] for number in sorted(found)]

    @property
    def covered_kinds(self) -> frozenset[str]:
        """The venue kinds of the halves that have a base."""
        return frozenset().union(*(HALVES[half] for half in self.bases))

    @property
    def complete(self) -> bool:
        """Whether both halves have a complete base."""
        return len(self.bases) == len(HALVES) and all(capture.complete for capture in self.bases.values())

    @property
    def publication(self) -> C | None:
        """The one full capture that is the base of both halves, where no other capture adds to it; else None."""
        found = self.captures
        return found[0] if len(found) == 1 and found[0].scope == CaptureScope.FULL else None


def half_date(capture: Captured, half: str) -> dt.date:
    """The newest ``lastUpdateDate`` of the capture's rows of a half; the earliest date where they have none."""
    stated = capture.ats_last_update_date if half == VenueKind.ATS else capture.non_ats_last_update_date
    return stated or dt.date.min


def _rank(capture: Captured, half: str) -> tuple[bool, dt.date, bool, bool, int, int]:
    """The rank of a capture of a half; the highest is the base."""
    accepted = capture.accepted_over is not None
    return (
        capture.complete or accepted,
        max(half_date(capture, half), capture.accepted_over or dt.date.min),
        accepted,
        capture.scope == CaptureScope.FULL,
        # FINRA's API returns the current rows, so that a later reply is newer. For files, that is not known.
        0 if capture.scope == CaptureScope.FULL else capture.rows_accepted,
        capture.id,
    )


def usable(capture: Captured) -> bool:
    """Whether a capture can be effective: it has accepted rows, and is neither quarantined nor withdrawn."""
    return capture.rows_accepted > 0 and not capture.quarantined and not capture.withdrawn


def ranked(captures: Iterable[C], half: str) -> list[C]:
    """The usable captures that cover a half, the lowest first: the last one is its base."""
    covering = [capture for capture in captures if usable(capture) and half in _COVERS[capture.scope]]
    return sorted(covering, key=lambda capture: _rank(capture, half))


def effective(captures: Iterable[C]) -> Effective[C]:
    """The effective captures of one (week, tier), of all that were recorded of it."""
    captures = sorted(captures, key=lambda capture: capture.id)
    bases = {half: found[-1] for half in HALVES if (found := ranked(captures, half))}
    partial = [capture for capture in captures if capture.scope == CaptureScope.PARTIAL and usable(capture)]
    # Of two rows with the same date, that of the capture with the newer rows is used.
    partial.sort(key=lambda c: (max(half_date(c, half) for half in HALVES), c.id))
    quarantined = [capture for capture in captures if capture.quarantined and not capture.withdrawn]
    return Effective(bases, partial, quarantined)


def halves_covered(scope: str) -> tuple[str, ...]:
    """The halves that a capture of the scope covers."""
    return _COVERS[scope]


# --- merging rows --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """The rows of one capture.

    Attributes:
        capture_id: the capture.
        volume: VENUE_VOLUME.
        totals: PUBLISHED_TOTAL.
        base_of: the halves of which the capture is the base; none for a partial capture.
        complete: the capture has all rows of its scope.
    """

    capture_id: int
    volume: pl.DataFrame
    totals: pl.DataFrame
    base_of: frozenset[str] = frozenset()
    complete: bool = True


@dataclass(frozen=True)
class Assembled:
    """The rows of a (week, tier).

    Attributes:
        volume: VENUE_VOLUME.
        totals: PUBLISHED_TOTAL.
        rows_in_use: by capture, the number of its rows among them.
    """

    volume: pl.DataFrame
    totals: pl.DataFrame
    rows_in_use: dict[int, int]


def _in_half(half: str) -> pl.Expr:
    return pl.col("venue_kind").is_in(list(HALVES[half]))


def assemble(parts: Sequence[Part]) -> Assembled:
    """The rows of a (week, tier) from its effective captures.

    Args:
        parts: the effective captures' rows; partial ones oldest first (``Effective.partial``).
    """
    if len(parts) == 1 and parts[0].base_of == frozenset(HALVES):
        (only,) = parts  # nothing to merge: a full-size week is not copied
        return Assembled(only.volume, only.totals, {only.capture_id: only.volume.height + only.totals.height})
    volume = pl.concat([VENUE_VOLUME.to_frame().with_columns(_ORIGIN), *(_half_rows(parts, half) for half in HALVES)])
    totals = _merged_totals(parts, volume)
    used = pl.concat([volume.select("_capture"), totals.select("_capture")])
    counts = dict(used.group_by("_capture").len().rows())
    return Assembled(
        volume.select(list(VENUE_VOLUME)),
        totals.select(list(PUBLISHED_TOTAL)),
        {part.capture_id: counts.get(part.capture_id, 0) for part in parts},
    )


_ORIGIN = pl.lit(None, pl.Int64).alias("_capture")


def _half_rows(parts: Sequence[Part], half: str) -> pl.DataFrame:
    """The rows of one half, with the capture that each is from in ``_capture``."""
    base = next((part for part in parts if half in part.base_of), None)
    rows = (base.volume if base else VENUE_VOLUME.to_frame()).filter(_in_half(half))
    rows = rows.with_columns(pl.lit(base.capture_id if base else None, pl.Int64).alias("_capture"))
    newest = rows["last_update_date"].max() if base and base.complete else None
    for part in parts:
        if part.base_of:
            continue
        other = part.volume.filter(_in_half(half)).with_columns(pl.lit(part.capture_id, pl.Int64).alias("_capture"))
        if other.height:
            rows = _merge(rows, other, base, newest)  # type: ignore[arg-type]  # max() of a column of dates
    return _with_numbers(rows)


def _with_numbers(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of one half, where a firm that some of them give only by name has the number that others give.

    Files of the website have no CRD numbers, and records of the API do: one firm would be two venues.
    """
    by_name, name = pl.col("venue_id").str.starts_with("name:"), pl.col("venue_name").str.to_uppercase().alias("_name")
    numbers = ["venue_id", "mpid", "firm_crd"]
    known = rows.filter(~by_name).select(name, *numbers).unique().filter(pl.len().over("_name") == 1)
    if known.is_empty() or not rows.select(by_name.any()).item():
        return rows
    found = rows.with_columns(name).join(known, on="_name", how="left", suffix="_known", maintain_order="left")
    given = by_name & pl.col("venue_id_known").is_not_null()
    return found.with_columns(
        pl.when(given).then(f"{column}_known").otherwise(column).alias(column) for column in numbers
    ).select(rows.columns)


def _merge(rows: pl.DataFrame, other: pl.DataFrame, base: Part | None, newest: dt.date | None) -> pl.DataFrame:
    """``rows`` with those of a partial capture merged in by row key; the newer ``lastUpdateDate`` wins.

    Args:
        rows: the half so far, with ``_capture``.
        other: the partial capture's rows of the half, with ``_capture``.
        base: the half's base.
        newest: the newest date of a complete base; None where there is none.
    """
    key = _common_key(rows, other)
    date = pl.col("last_update_date").fill_null(dt.date.min)
    of_base = pl.lit(False) if base is None else pl.col("_capture") == base.capture_id
    marked = rows.with_columns(date.alias("_date"), of_base.alias("_of_base"), *key)
    names = [expression.meta.output_name() for expression in key]
    known = marked.group_by(names).agg(
        pl.col("_date").max().alias("_known_date"), pl.col("_of_base").any(), pl.len().alias("_matches")
    )
    compared = other.with_columns(date.alias("_date"), *key).join(known, on=names, how="left", nulls_equal=True)
    is_new = pl.col("_matches").is_null()
    # A complete base of that day or later does not have the row: FINRA did not publish it.
    added = is_new & (pl.lit(True) if newest is None else pl.col("_date") > newest)
    # A key that lacks a column of the other capture may fit several rows: none of them is replaced then.
    newer = (pl.col("_date") > pl.col("_known_date")) | (
        (pl.col("_date") == pl.col("_known_date")) & ~pl.col("_of_base")
    )
    replaces = ~is_new & (pl.col("_matches") == 1) & newer
    taken = compared.filter(added | replaces)
    kept = marked.join(taken.select(names), on=names, how="anti", nulls_equal=True)
    return pl.concat([kept.select(rows.columns), taken.select(rows.columns)])


def _common_key(rows: pl.DataFrame, other: pl.DataFrame) -> list[pl.Expr]:
    """The key by which rows of both frames are matched, as expressions named ``_key...``.

    A layout without a product type, an issue name or CRD numbers leaves them empty in all rows: rows of two layouts are
    matched by the columns that both have, and firms then by name.
    """
    key = [pl.col("symbol").alias("_key_symbol")]
    for column in ("issue_name", "product_type"):
        if not any(frame.height and (frame[column] == "").all() for frame in (rows, other)):
            key.append(pl.col(column).alias(f"_key_{column}"))
    by_name = any(frame["venue_id"].str.starts_with("name:").any() for frame in (rows, other))
    venue = pl.coalesce("venue_name", "venue_id").str.to_uppercase() if by_name else pl.col("venue_id")
    return [*key, venue.alias("_key_venue")]


def _merged_totals(parts: Sequence[Part], volume: pl.DataFrame) -> pl.DataFrame:
    """The newest of each of FINRA's totals, with ``_capture``.

    A total that is older than one of its rows is left out: it was published before FINRA revised that row.
    """
    frames = [part.totals.with_columns(pl.lit(part.capture_id, pl.Int64).alias("_capture")) for part in parts]
    totals = pl.concat([PUBLISHED_TOTAL.to_frame().with_columns(_ORIGIN), *frames])
    date = pl.col("last_update_date").fill_null(dt.date.min)
    is_base = pl.col("_capture").is_in([part.capture_id for part in parts if part.base_of])
    order = [date.alias("_date"), is_base.alias("_is_base"), pl.int_range(pl.len()).alias("_number")]
    totals = (
        totals.with_columns(order)
        .sort("_date", "_is_base", "_number")
        .unique(subset=TABLES["published_total"].key, keep="last", maintain_order=True)
        .sort("_number")
    )
    rows = volume.with_columns(half_of_venue().alias("venue_kind"))
    for total_of, name in ((TotalOf.SYMBOL, "symbol"), (TotalOf.VENUE, "venue_id")):
        newest = rows.group_by("venue_kind", name).agg(pl.col("last_update_date").max().alias("_newest"))
        totals = totals.join(newest, on=["venue_kind", name], how="left")
        older = (pl.col("total_of") == total_of) & (pl.col("last_update_date") < pl.col("_newest"))
        totals = totals.filter(~older.fill_null(False)).drop("_newest")
    return totals.select([*PUBLISHED_TOTAL, "_capture"])


# --- quarantine ----------------------------------------------------------------------------------------


def _shares(amounts: pl.Series) -> Decimal:
    return Decimal(amounts.fill_null(0).sum() or 0)


def removal(before: pl.DataFrame, after: pl.DataFrame) -> str | None:
    """Why the rows ``after`` can't be a revision of the rows ``before``; None where they can.

    Args:
        before, after: VENUE_VOLUME of one half of a publication, of two captures.

    Returns:
        What would be removed, in words, where it is more than ``MOST_REMOVED_PCT`` percent of the rows, the symbols
        or the shares: '84 of 200 rows (42.0 %), ...'. One row may always change. Another issue name removes nothing.
    """
    key = [column for column in _common_key(before, after) if column.meta.output_name() != "_key_issue_name"]
    names = [expression.meta.output_name() for expression in key]
    shares = pl.col("share_volume").sum()
    then = before.group_by(key).agg(shares.alias("_then"), pl.len().alias("_rows"))
    now = after.group_by(key).agg(shares.alias("_now"))
    both = then.join(now, on=names, how="left", nulls_equal=True)
    gone = both.filter(pl.col("_now").is_null())
    less = both.filter(pl.col("_now").fill_null(0) < pl.col("_then"))
    if less.height <= 1:
        return None
    had = before["symbol"].n_unique()
    symbols_gone = had - before.select("symbol").unique().join(after, on="symbol", how="semi").height
    lost, total = _shares(less["_then"]) - _shares(less["_now"]), _shares(before["share_volume"])
    counts = (
        (int(gone["_rows"].sum()), before.height, "rows"),
        (symbols_gone, had, "symbols"),
        (int(lost), int(total), "shares"),
    )
    found = [
        f"{part:,} of {whole:,} {what} ({100 * part / whole:.1f} %)"
        for part, whole, what in counts
        if whole and 100 * part > MOST_REMOVED_PCT * whole and (part > 1 or what == "shares")
    ]
    return ", ".join(found) or None
