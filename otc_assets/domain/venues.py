"""Venues over time: their names, and which venue continues another under a new MPID or CRD number.

FINRA identifies an ATS by its MPID and another firm by its CRD number; when a venue gets a new one, its weeks are under
two. ``venue_succession`` finds where one ends as another begins, with the evidence. Nothing follows from that alone:
``reference/venue_successions.csv`` is the reviewed list of those that are confirmed or refused. Figures that compare
weeks follow confirmed successions; they are in ``rolling``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from otc_assets.domain.enums import Decision, VenueKind
from otc_assets.domain.exact import millionths, percent, quotient
from otc_assets.domain.reading import Read
from otc_assets.domain.reviewed import BadList, entries, shipped, version
from otc_assets.domain.schema import DE_MINIMIS_VENUE_ID, VENUE, VENUE_SUCCESSION
from otc_assets.domain.weeks import trading_days, weeks_up_to

_COLUMNS = ("predecessor", "successor", "decision")

#: A succession is proposed if at least so many percent of the symbols and of the volume are in common.
PROPOSED_FROM_PCT = 50
#: With fewer symbols in common, two small firms that trade now and then would look like one.
PROPOSED_FROM_SYMBOLS = 10


@dataclass(frozen=True)
class Succession:
    """A line of the reviewed file.

    Attributes:
        predecessor, successor: venue_ids.
        decision: CONFIRMED or REFUSED.
        source: where this can be looked up.
        reviewed: the day of the review.
    """

    predecessor: str
    successor: str
    decision: Decision
    source: str
    reviewed: dt.date


def parsed(lines: Iterable[str]) -> tuple[Succession, ...]:
    """The successions of a reviewed list.

    Args:
        lines: a reviewed list with the columns ``predecessor,successor,decision``.

    Raises:
        BadList: a line is incomplete or contradicts another: a venue has one predecessor and one successor at most, and
            no chain of successions leads back to its beginning.
    """
    found: list[Succession] = []
    next_of: dict[str, str] = {}
    for where, (predecessor, successor, decision, source), day in entries(lines, _COLUMNS):
        if decision not in (Decision.CONFIRMED, Decision.REFUSED):
            raise BadList(f"{where}: the decision must be confirmed or refused, not {decision!r}")
        if any({line.predecessor, line.successor} == {predecessor, successor} for line in found):
            raise BadList(f"{where}: {predecessor} and {successor} are in the list twice")
        if decision == Decision.CONFIRMED:
            if predecessor in next_of or successor in next_of.values():
                raise BadList(f"{where}: {predecessor} has another successor, or {successor} a predecessor")
            last = successor
            while last in next_of:
                last = next_of[last]
            if last == predecessor:
                raise BadList(f"{where}: {predecessor} to {successor} leads back to {predecessor}")
            next_of[predecessor] = successor
        found.append(Succession(predecessor, successor, Decision(decision), source, day))
    return tuple(found)


#: The reviewed list that ships with the package.
SUCCESSIONS = parsed(shipped("venue_successions.csv"))
#: Of the decisions: figures that follow them are computed again when one changes. Sources don't matter.
SUCCESSIONS_VERSION = version((line.predecessor, line.successor, line.decision) for line in SUCCESSIONS)


def identities(of: Iterable[Succession] = SUCCESSIONS) -> dict[str, str]:
    """By venue_id of every venue in a confirmed succession, the first venue_id of its chain; in the order of the chain.

    Args:
        of: successions, refused ones too.
    """
    next_of = {line.predecessor: line.successor for line in of if line.decision == Decision.CONFIRMED}
    found = {}
    for first in sorted(next_of.keys() - next_of.values()):
        venue_id: str | None = first
        while venue_id is not None:
            found[venue_id] = first
            venue_id = next_of.get(venue_id)
    return found


def place_in_chain(identity_of: Mapping[str, str]) -> pl.Expr:
    """By `venue_id`, a number that is higher for a successor: in a week of both, the venue is the successor.

    Args:
        identity_of: in the order of each chain, as ``identities`` returns it.
    """
    places = {venue_id: place for place, venue_id in enumerate(identity_of)}
    return pl.col("venue_id").replace_strict(places, default=0, return_dtype=pl.Int64)


def with_identity(rows: pl.DataFrame, identity_of: Mapping[str, str]) -> pl.DataFrame:
    """The rows with `identity_id`: the identity of their `venue_id`, which is the venue_id itself in most cases."""
    return rows.with_columns(pl.col("venue_id").replace(dict(identity_of)).alias("identity_id"))


def venue(history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """What each venue is called in the week, and what it was called when it last traded.

    Args:
        history: VENUE_SHARE of the window's weeks.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the week.

    Returns:
        VENUE, sorted by its key: a row for every venue that traded in the week, in any tier. The previous week, name
        and venue_id are those of its identity in the captured weeks of the window.
    """
    identity_of = identities()
    history = with_identity(history.join(captured, on=["week_ending", "tier"], how="semi"), identity_of)
    # Without an earlier captured week of a tier, nothing in it can be called new.
    compared = captured.filter(pl.col("week_ending") < week_ending)["tier"].unique().to_list()
    named = (
        history.sort("total_volume", "tier", descending=[True, False])
        .group_by("week_ending", "venue_id", "identity_id", "venue_kind", maintain_order=True)
        .agg(
            pl.col("venue_name").drop_nulls().first(),
            pl.col("tier").unique().sort().str.join(", ").alias("tiers"),
            pl.col("tier").is_in(compared).all().alias("_compared"),
        )
    )
    current = named.filter(pl.col("week_ending") == week_ending)
    before = (
        named.filter(pl.col("week_ending") < week_ending)
        .sort("week_ending", place_in_chain(identity_of))
        .group_by("identity_id", maintain_order=True)
        .agg(
            pl.col("week_ending").last().alias("previous_week"),
            pl.col("venue_id").last().alias("previous_venue_id"),
            pl.col("venue_name").last().alias("previous_venue_name"),
        )
    )
    kind, number = pl.col("venue_kind"), pl.col("venue_id").str.contains(r"^\d+$")
    return (
        current.join(before, on="identity_id", how="left")
        .with_columns(
            pl.when(kind == VenueKind.ATS).then("venue_id").alias("mpid"),
            pl.when((kind == VenueKind.NON_ATS) & number).then("venue_id").alias("firm_crd"),
            (pl.col("previous_week").is_null() & pl.col("_compared")).alias("is_new"),
        )
        .select(list(VENUE))
        .cast(dict(VENUE))  # type: ignore[arg-type]
        .sort("week_ending", "venue_id")
    )


def venue_succession(
    read: Read,
    captured: pl.DataFrame,
    week_ending: dt.date,
    reviewed: Iterable[Succession] = SUCCESSIONS,
    least_symbols: int = PROPOSED_FROM_SYMBOLS,
) -> pl.DataFrame:
    """Where one venue ended as another began: proposed with the evidence, or as the reviewed file decides.

    Only tiers that are captured in the week are looked at. A venue has ended if it traded in the newest captured week
    before and does not trade in the week. Another of its kind began if it trades in the week, and in the window first
    in the week in which the other ended, or in the one after it.

    Args:
        read: reads VENUE_SHARE, and VENUE_VOLUME of venues that have ended and begun.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the week.
        reviewed: the decisions.
        least_symbols: a proposal needs so many symbols in common.

    Returns:
        VENUE_SUCCESSION, sorted by its key: pairs with at least half of the symbols and half of the volume in common,
        and every pair that the reviewed file decides, in either direction, whatever the evidence.
    """
    nothing = VENUE_SUCCESSION.to_frame()
    tiers = captured.filter(pl.col("week_ending") == week_ending).select("tier")
    weeks = captured.join(tiers, on="tier", how="semi")
    last = weeks.filter(pl.col("week_ending") < week_ending)["week_ending"].max()
    if not isinstance(last, dt.date):
        return nothing
    columns = ["week_ending", "tier", "venue_id", "venue_kind", "venue_name", "total_volume"]
    shares = read("venue_share", weeks_up_to(week_ending), columns).join(weeks, on=["week_ending", "tier"], how="semi")
    stays = (
        shares.filter(pl.col("venue_id") != DE_MINIMIS_VENUE_ID)
        .sort("week_ending", "total_volume")
        .group_by("venue_id", "venue_kind", maintain_order=True)
        .agg(
            pl.col("venue_name").drop_nulls().last(),
            pl.col("week_ending").min().alias("first"),
            pl.col("week_ending").max().alias("last"),
        )
    )
    # With one earlier week, a venue that traded before it would look new.
    oldest = weeks["week_ending"].min()
    ended = stays.filter(pl.col("last") == last)
    begun = stays.filter((pl.col("last") == week_ending) & (pl.col("first") >= last) & (pl.col("first") > oldest))
    pairs = ended.join(begun, on="venue_kind", suffix="_next")
    if not pairs.height:
        return nothing
    ids = {*pairs["venue_id"], *pairs["venue_id_next"]}
    volume = (
        read("venue_volume", weeks_up_to(week_ending), ["week_ending", "tier", "venue_id", "symbol", "share_volume"])
        .filter(pl.col("venue_id").is_in(list(ids)))
        .join(weeks, on=["week_ending", "tier"], how="semi")
        .group_by("venue_id", "week_ending", "symbol")
        .agg(pl.col("share_volume").sum())
    )
    decided = {frozenset((line.predecessor, line.successor)): line.decision for line in reviewed}
    found = []
    for pair in pairs.iter_rows(named=True):
        # The predecessor's last whole week: in the week in which the successor began, both may have traded.
        own_weeks = volume.filter(
            (pl.col("venue_id") == pair["venue_id"]) & (pl.col("week_ending") < pair["first_next"])
        )
        whole = own_weeks["week_ending"].max()
        if not isinstance(whole, dt.date):
            continue
        before = own_weeks.filter(pl.col("week_ending") == whole)
        after = volume.filter((pl.col("venue_id") == pair["venue_id_next"]) & (pl.col("week_ending") == week_ending))
        evidence = _evidence(before, after, whole, week_ending)
        decision = decided.get(frozenset((pair["venue_id"], pair["venue_id_next"])), Decision.PROPOSED)
        alike = all(evidence[of] >= PROPOSED_FROM_PCT for of in ("symbols_in_common_pct", "volume_in_common_pct"))
        if (alike and evidence["symbols_in_common"] >= least_symbols) or decision != Decision.PROPOSED:
            found.append(
                {
                    "week_ending": week_ending,
                    "predecessor": pair["venue_id"],
                    "successor": pair["venue_id_next"],
                    "venue_kind": pair["venue_kind"],
                    "predecessor_name": pair["venue_name"],
                    "successor_name": pair["venue_name_next"],
                    "predecessor_last_week": pair["last"],
                    "successor_first_week": pair["first_next"],
                    **evidence,
                    "decision": decision,
                }
            )
    return pl.DataFrame(found, schema=VENUE_SUCCESSION).sort("week_ending", "predecessor", "successor")


def _evidence(before: pl.DataFrame, after: pl.DataFrame, week_before: dt.date, week_after: dt.date) -> dict[str, Any]:
    """What a week of one venue and a later week of another have in common (symbol, share_volume)."""
    both = before.join(after, on="symbol", suffix="_after")
    old, new = before["share_volume"].sum(), after["share_volume"].sum()
    larger = max(before.height, after.height)
    shares = both.with_columns(pl.lit(old).alias("_old"), pl.lit(new).alias("_new")).select(
        pl.min_horizontal(
            percent(pl.col("share_volume"), pl.col("_old")), percent(pl.col("share_volume_after"), pl.col("_new"))
        )
    )
    one = pl.DataFrame({"old": [old], "new": [new], "both": [both.height], "larger": [larger]})
    return {
        "predecessor_symbols": before.height,
        "successor_symbols": after.height,
        "symbols_in_common": both.height,
        "symbols_in_common_pct": one.select(quotient(pl.col("both"), pl.col("larger"), shift=2)).item(),
        "volume_in_common_pct": shares.to_series().sum(),
        "volume_ratio_pct": one.select(
            quotient(
                millionths(pl.col("new")) * trading_days(week_before),
                millionths(pl.col("old")) * trading_days(week_after),
                shift=2,
            )
        ).item(),
    }
