"""Chooses and computes the figures of a report from the rows of a week's tables.

Figures per trading day are the week's divided by its trading days; averages are over the captured weeks of the window,
their volume by their trading days, as in ``rolling``. What they are called is in ``contents``, words in ``sentences``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from otc_assets.domain.concentration import RANKED_FROM_SHARES, RANKED_FROM_TRADES
from otc_assets.domain.enums import Change, VenueKind, VenueScope
from otc_assets.domain.rolling import TREND_WEEKS
from otc_assets.domain.weeks import TIERS, is_trading_day, publication_date, trading_days, week_start_of, weeks_up_to
from otc_assets.report.contents import (
    Contents,
    Coverage,
    Day,
    Market,
    Mover,
    OtherChange,
    Revision,
    Symbol,
    TierWeek,
    VenueRow,
)
from otc_assets.report.inputs import Inputs

#: The rows of a table of the page.
VENUES, MOVERS, CONCENTRATED, EXAMPLES = 12, 8, 10, 3

_VENUE_KINDS = {VenueKind.ATS: "ATS", VenueKind.NON_ATS: "Firm", VenueKind.DE_MINIMIS: "Group"}


def contents(inputs: Inputs) -> Contents:
    """The figures of the report of a week."""
    week, tables = inputs.week_ending, inputs.tables
    tiers = tuple(_tier_weeks(inputs))
    names = dict(tables["venue_share"].sort("week_ending").select("venue_id", "venue_name").iter_rows())
    changes = _with_evidence(tables["week_changes"])
    start = week_start_of(week)
    return Contents(
        week_ending=week,
        made_at=inputs.made_at,
        days=trading_days(week),
        closed=tuple(day for day in (start + dt.timedelta(days=n) for n in range(5)) if not is_trading_day(day)),
        is_simulated=any(found.origin.startswith("http://simulator/") for found in inputs.captured.values()),
        tiers=tiers,
        venues={tier.tier: tuple(_venues(tier, tables["venue_share"], changes, week)) for tier in tiers},
        movers={tier.tier: tuple(_movers(tier.tier, changes, tables["symbol_rolling"])) for tier in tiers},
        markets=tuple(_markets(tables["market_concentration"], names, week)),
        concentrated=tuple(_concentrated(tables["symbol_concentration"], tables["symbol_summary"], names)),
        changes=tuple(_other_changes(changes, names)),
        revisions=tuple(_revisions(changes)),
        replaced_rows=inputs.replaced_rows,
        coverage=tuple(
            Coverage(
                tier,
                publication_date(week, tier),
                inputs.captured.get(tier.name),
                inputs.grades.get(tier.name),
                inputs.gaps.get(tier.name),
            )
            for tier in TIERS
        ),
    )


def _tier_weeks(inputs: Inputs) -> Iterator[TierWeek]:
    week, shares, summaries = inputs.week_ending, inputs.tables["venue_share"], inputs.tables["symbol_summary"]
    days = trading_days(week)
    for tier in TIERS:
        of_tier = summaries.filter(pl.col("tier") == tier.name)
        if of_tier.is_empty():
            continue
        history = tuple(_history(shares.filter(pl.col("tier") == tier.name), week))
        now, before = history[-1], [day for day in history[:-1] if day.total is not None]
        share, share_before = now.ats_share_pct, before[-1].ats_share_pct if before else None
        total = _sum(of_tier["total_volume"])
        yield TierWeek(
            tier=tier.name,
            total=total,
            ats=_sum(of_tier["ats_volume"]),
            non_ats=_sum(of_tier["non_ats_volume"]),
            trades=int(of_tier["total_trades"].sum()),
            notional=None if of_tier["total_notional"].null_count() else _sum(of_tier["total_notional"]),
            symbols=of_tier.height,
            venues=shares.filter((pl.col("tier") == tier.name) & (pl.col("week_ending") == week)).height,
            days=days,
            history=history,
            vs_average_pct=_against_average(history, total / days),
            compared_with=before[-1].week_ending if before else None,
            share_change=share - share_before if share is not None and share_before is not None else None,
        )


def _sum(column: pl.Series) -> Decimal:
    return Decimal(column.sum())


def _history(shares: pl.DataFrame, week_ending: dt.date) -> Iterator[Day]:
    is_ats = pl.col("venue_kind") == VenueKind.ATS
    sums = {
        week: (ats, other)
        for week, ats, other in shares.group_by("week_ending")
        .agg(
            pl.col("total_volume").filter(is_ats).sum().alias("ats"),
            pl.col("total_volume").filter(~is_ats).sum().alias("other"),
        )
        .iter_rows()
    }
    for week in weeks_up_to(week_ending):
        ats, other = sums.get(week, (None, None))
        days = trading_days(week)
        yield Day(week, None if ats is None else ats / days, None if other is None else other / days)


def _against_average(history: tuple[Day, ...], daily: Decimal) -> Decimal | None:
    known = [(day.total, trading_days(day.week_ending)) for day in history if day.total is not None]
    shares = sum((total * days for total, days in known), Decimal(0))
    if len(known) < TREND_WEEKS or not shares:
        return None
    return (daily / (shares / sum(days for _, days in known)) - 1) * 100


def _with_evidence(changes: pl.DataFrame) -> list[dict[str, Any]]:
    return [{**row, "evidence": json.loads(row["evidence"])} for row in changes.sort("rank").iter_rows(named=True)]


def _of(changes: list[dict[str, Any]], kind: Change, tier: str | None = None) -> Iterator[dict[str, Any]]:
    return (row for row in changes if row["kind"] == kind and tier in (None, row["tier"]))


def _venues(
    tier: TierWeek, shares: pl.DataFrame, changes: list[dict[str, Any]], week_ending: dt.date
) -> Iterator[VenueRow]:
    moved = {row["venue_id"]: int(row["amount"]) for row in _of(changes, Change.VENUE_RANK, tier.tier)}
    shifts = {row["venue_id"]: row for row in _of(changes, Change.VENUE_SHARE, tier.tier)}
    now = shares.filter((pl.col("tier") == tier.tier) & (pl.col("week_ending") == week_ending))
    for row in now.sort("rank").head(VENUES).iter_rows(named=True):
        shift = shifts.get(row["venue_id"])
        # Each venue of both weeks has a change of its share, and those that kept their place none of their rank.
        is_new = tier.compared_with is not None and (shift is None or Decimal(shift["previous"]) == 0)
        yield VenueRow(
            rank=row["rank"],
            moved=None if tier.compared_with is None or is_new else moved.get(row["venue_id"], 0),
            is_new=is_new,
            name=_venue_name(row["venue_name"], row["venue_id"]),
            kind=_VENUE_KINDS[VenueKind(row["venue_kind"])],
            daily=row["total_volume"] / tier.days,
            share_pct=row["market_share_pct"],
            share_change=shift["amount"] if shift else None,
        )


def _venue_name(name: str | None, venue_id: str) -> str:
    """FINRA's name in one line; the MPID or CRD number where there is none."""
    return " ".join(name.split()) if name else venue_id


def _movers(tier: str, changes: list[dict[str, Any]], rolling: pl.DataFrame) -> Iterator[Mover]:
    splits = dict(
        rolling.filter((pl.col("tier") == tier) & pl.col("split_ratio").is_not_null())
        .select("symbol", "split_ratio")
        .iter_rows()
    )
    for row in list(_of(changes, Change.SYMBOL_VOLUME, tier))[:MOVERS]:
        evidence = row["evidence"]
        yield Mover(
            symbol=row["symbol"],
            issue_name=evidence["issue_name"] or "",
            daily=Decimal(str(evidence["daily_volume"])),
            norm=Decimal(str(evidence["median"])),
            score=row["amount"],
            split=splits.get(row["symbol"]),
        )


def _markets(rows: pl.DataFrame, names: Mapping[str, str], week_ending: dt.date) -> Iterator[Market]:
    order = {name: number for number, name in enumerate([*(tier.name for tier in TIERS), VenueScope.ALL])}
    scopes = {VenueScope.ATS: "ATSs", VenueScope.NON_ATS: "other firms", VenueScope.ALL: "all venues"}
    before = {
        (row["tier"], row["venue_scope"]): row["hhi"]
        for row in rows.filter(pl.col("week_ending") < week_ending).sort("week_ending").iter_rows(named=True)
    }
    now = rows.filter((pl.col("week_ending") == week_ending) & pl.col("hhi").is_not_null()).to_dicts()
    for row in sorted(now, key=lambda row: (order[row["tier"]], list(scopes).index(row["venue_scope"]))):
        earlier = before.get((row["tier"], row["venue_scope"]))
        low, high = row["concentration_level_lower"], row["concentration_level"]
        yield Market(
            tier="All tiers" if row["tier"] == VenueScope.ALL else row["tier"],
            scope=scopes[row["venue_scope"]],
            venues=row["venue_count"],
            hhi_lower=row["hhi_lower"],
            hhi=row["hhi"],
            level=high if low in (None, high) else f"{low} to {high}",
            top_venue=_venue_name(names.get(row["top_venue"]), row["top_venue"]),
            top_share_pct=row["top_venue_share_pct"],
            top_3_share_pct=row["top_3_share_pct"],
            change=row["hhi"] - earlier if earlier is not None else None,
        )


def _concentrated(rows: pl.DataFrame, summaries: pl.DataFrame, names: Mapping[str, str]) -> Iterator[Symbol]:
    ranked = rows.filter(
        (pl.col("venue_scope") == VenueScope.ALL)
        & (pl.col("total_volume") >= RANKED_FROM_SHARES)
        & (pl.col("total_trades") >= RANKED_FROM_TRADES)
        & pl.col("hhi_lower").is_not_null()
    ).sort("hhi_lower", "tier", "symbol", descending=[True, False, False])
    issues = summaries.select("tier", "symbol", "issue_name")
    found = ranked.head(CONCENTRATED).join(issues, on=["tier", "symbol"], how="left", maintain_order="left")
    for row in found.iter_rows(named=True):
        yield Symbol(
            symbol=row["symbol"],
            tier=row["tier"],
            issue_name=row["issue_name"] or "",
            hhi_lower=row["hhi_lower"],
            hhi=row["hhi"],
            shares=row["total_volume"],
            top_venue=_venue_name(names.get(row["top_venue"]), row["top_venue"]),
            top_share_pct=row["top_venue_share_pct"],
        )


#: The kinds that have a section of their own.
_ELSEWHERE = {Change.SYMBOL_VOLUME, Change.VENUE_RANK, Change.VENUE_SHARE, Change.REVISED}


def _other_changes(changes: list[dict[str, Any]], names: Mapping[str, str]) -> Iterator[OtherChange]:
    tiers = [*(tier.name for tier in TIERS), VenueScope.ALL.value]
    for kind in Change:
        for tier in tiers if kind not in _ELSEWHERE else ():
            found = list(_of(changes, kind, tier))
            if found:
                examples = tuple(_example(row, names) for row in found[:EXAMPLES])
                yield OtherChange(kind, "All tiers" if tier == VenueScope.ALL else tier, len(found), examples)


def _example(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A change in a few words, by its kind."""
    previous, current = row["previous"] or "", row["current"] or ""
    venue = _venue_name(names.get(row["venue_id"] or ""), row["venue_id"] or row["subject"])
    match row["kind"]:
        case Change.SYMBOL_ENTERED:
            return f"{row['symbol']} ({current})"
        case Change.SYMBOL_EXITED:
            return f"{row['symbol']} ({previous})"
        case Change.SYMBOL_SPLIT:
            return f"{row['symbol']} ({current})"
        case Change.SYMBOL_MOVED_TIER:
            return f"{row['symbol']} (from {previous})"
        case Change.SYMBOL_NEW_TICKER:
            return f"{current} (was {previous})"
        case Change.SYMBOL_RENAMED | Change.SYMBOL_OTHER_ISSUE:
            return f"{row['symbol']} ({current}; was {previous})"
        case Change.VENUE_ENTERED | Change.VENUE_EXITED:
            return " ".join((current or previous or venue).split())
        case Change.VENUE_RENAMED:
            return f"{' '.join(current.split())} (was {' '.join(previous.split())})"
        case Change.VENUE_PROPOSAL:
            return f"{row['subject']} ({current})"
        case _:
            return f"{venue}: {previous} to {current}"


def _revisions(changes: list[dict[str, Any]]) -> Iterator[Revision]:
    for row in sorted(_of(changes, Change.REVISED), key=lambda row: (row["subject"], row["tier"])):
        yield Revision(
            tier=row["tier"],
            week_ending=dt.date.fromisoformat(row["subject"]),
            rows=int(row["evidence"]["rows"]),
            shares=Decimal(str(row["evidence"]["volume"])),
            last_update=dt.date.fromisoformat(row["evidence"]["last_update_date"]),
        )
