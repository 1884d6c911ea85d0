"""The checks that compare a week with the tier's newest captured week before it.

Each takes the evidence of one (week, tier) and returns one finding. Without an earlier week they pass.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.quality.evidence import Evidence, Finding, Shares, none_of
from otc_assets.domain.weeks import trading_days

#: Single venues come and go. A fifth of them missing at once suggests an incomplete file.
VENUE_COUNT_DROP_PCT = 20
#: Of the volume per trading day, so that weeks with holidays compare. A whole tier that trades half more or half less
#: is exceptional, or its file is incomplete: an operator should look at it.
VOLUME_SWING_PCT = 50
#: In percentage points of a venue's share of its tier.
SHARE_SHIFT_POINTS = 10

_NO_EARLIER = "there is no earlier week to compare with"


def _comparable(e: Evidence) -> tuple[pl.DataFrame, pl.DataFrame] | str:
    """The rows of the week and of the week before that can be compared, or the reason why there are none.

    They are of the venue kinds that were captured completely and that the week before has too: where only ATSs were
    captured, they are compared with the ATSs of the week before.
    """
    if e.previous is None or not e.previous.height:
        return _NO_EARLIER
    kinds = e.covered_kinds & set(e.previous["venue_kind"].unique())
    if not kinds:
        return f"only a part of the week was captured: not compared with the week ending {_week_of(e.previous)}"
    in_kinds = pl.col("venue_kind").is_in(list(kinds))
    return e.volume.filter(in_kinds), e.previous.filter(in_kinds)


def _week_of(rows: pl.DataFrame) -> dt.date:
    week: dt.date = rows["week_ending"][0]
    return week


#: The number of venues that a finding names.
_NAMED = 5
_BY_NAME = pl.col("venue_id").str.starts_with("name:")


def venue_identity(e: Evidence) -> Finding:
    """Judges whether venues keep the MPID or CRD number by which they are identified, and ATSs remain ATSs.

    A publication whose MPID column is empty, or renamed, can be parsed: its ATSs are then identified by name, or taken
    for firms, and the figures of a venue over several weeks are wrong. Venues are compared by name with the week
    before. Download files have no CRD numbers, so a firm that is identified by name there has not lost one. Without an
    earlier week, the check fails if no ATS has an MPID.
    """
    identity = ("venue_kind", "venue_id", "venue_name")
    # Records of the API have a first publication date; rows of download files do not.
    has_numbers = pl.col("initial_published_date").is_not_null().any().over("venue_kind", "venue_id")
    now = e.volume.select(*identity, has_numbers.alias("has_numbers")).unique()
    ats = now.filter(pl.col("venue_kind") == VenueKind.ATS)
    if ats.height and ats.select(_BY_NAME.all()).item():
        return Finding(False, f"none of {ats.height} ATSs has an MPID", observed=float(ats.height))
    if e.previous is None or not e.previous.height:
        return Finding(True, _NO_EARLIER, observed=0.0)
    before = e.previous.select(identity).unique().drop_nulls("venue_name")
    known = before.filter(~_BY_NAME).select("venue_name", "venue_kind", known_as="venue_id")
    firms_before = before.filter(pl.col("venue_kind") != VenueKind.ATS).select("venue_name")
    same_name = now.join(known, on="venue_name", suffix="_before")
    was_ats, is_ats = pl.col("venue_kind_before") == VenueKind.ATS, pl.col("venue_kind") == VenueKind.ATS
    lost = same_name.filter(_BY_NAME & (was_ats | pl.col("has_numbers")))
    moved = (
        same_name.filter(was_ats & ~is_ats)
        .join(ats.select("venue_name"), on="venue_name", how="anti")
        .join(firms_before, on="venue_name", how="anti")
    )
    changed = pl.concat([lost, moved]).select("venue_name", "known_as").unique().sort("known_as", "venue_name")
    week = _week_of(e.previous)
    if not changed.height:
        return none_of(0, f"every venue known from the week ending {week} has the same identity")
    named = ", ".join(f"{name} ({known_as})" for name, known_as in changed.head(_NAMED).rows())
    more = f" and {changed.height - _NAMED} more" if changed.height > _NAMED else ""
    return none_of(
        changed.height,
        f"{changed.height} venues of the week ending {week} have lost their MPID or CRD number, or are no longer ATSs: "
        f"{named}{more}. Is a column of the publication empty?",
    )


def venue_count_drop(e: Evidence) -> Finding:
    """Compares the number of venues with the week before."""
    limit = float(VENUE_COUNT_DROP_PCT)
    frames = _comparable(e)
    if isinstance(frames, str):
        return Finding(True, frames, threshold=limit)
    rows, before = frames
    now, then = rows["venue_id"].n_unique(), before["venue_id"].n_unique()
    drop = 100 * (then - now) / then
    return Finding(
        100 * (then - now) <= VENUE_COUNT_DROP_PCT * then,
        f"{now} venues, {then} in the week ending {_week_of(before)}",
        observed=drop,
        threshold=limit,
    )


def volume_swing(e: Evidence) -> Finding:
    """Compares the volume per trading day with the week before."""
    limit = float(VOLUME_SWING_PCT)
    frames = _comparable(e)
    if isinstance(frames, str):
        return Finding(True, frames, threshold=limit)
    rows, before = frames
    then_week = _week_of(before)
    days, then_days = trading_days(e.week_ending), trading_days(then_week)
    now, then = (Decimal(frame["share_volume"].sum()) for frame in (rows, before))
    if not then or not days or not then_days:
        idle = then_week if not then or not then_days else e.week_ending
        detail = f"nothing was traded in the week ending {idle}: there is nothing to compare with"
        return Finding(True, detail, threshold=limit)
    swing = 100 * (now * then_days - then * days) / (then * days)
    return Finding(
        abs(swing) <= VOLUME_SWING_PCT,
        f"{now / days:,.0f} shares per trading day ({days} days), {then / then_days:,.0f} in the week ending "
        f"{then_week} ({then_days} days): {swing:+.1f} %",
        observed=float(swing),
        threshold=limit,
    )


def venue_share_shift(e: Shares) -> Finding:
    """Compares the venues' shares with the week before; a venue that is new or missing moved by its whole share."""
    if e.previous is None or not e.previous.height:
        detail, shift = _NO_EARLIER, Decimal(0)
    else:
        top = (
            e.now.select("venue_id", "market_share_pct")
            .join(
                e.previous.select("venue_id", _then="market_share_pct"),
                on="venue_id",
                how="full",
                coalesce=True,
            )
            .with_columns((pl.col("market_share_pct").fill_null(0) - pl.col("_then").fill_null(0)).alias("shift"))
            .sort(pl.col("shift").abs(), "venue_id", descending=[True, False])
            .row(0, named=True)
        )
        shift = top["shift"]
        detail = (
            f"{top['venue_id']} moved most: {float(top['_then'] or 0):.2f} % to "
            f"{float(top['market_share_pct'] or 0):.2f} % since the week ending {_week_of(e.previous)}"
        )
    return Finding(abs(shift) <= SHARE_SHIFT_POINTS, detail, observed=float(shift), threshold=float(SHARE_SHIFT_POINTS))
