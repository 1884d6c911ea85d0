"""What changed in a week: one row per change, with its evidence and its rank among the changes of its kind.

Each tier is compared with its newest captured week before, and with its window. What a symbol or a venue is called, and
what it was called before, is in ``symbols`` and ``venues``; six-week averages are in ``rolling``, and the split of a
change of share is in ``shift_share``.

Norms of symbols are the median and the median absolute deviation (MAD) of volume per trading day over the captured
weeks of the window without the week itself, weeks without trades as zero. `score` is the distance from the median in
standard deviations as the MAD estimates them: (volume - median) / (1.4826 * MAD), the modified z-score of Iglewicz and
Hoaglin (1993) up to its constant. A MAD below 5 % of the median counts as that, so that a symbol with nearly constant
volume does not get an unlimited score.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from otc_assets.domain.concentration import RANKED_FROM_SHARES, RANKED_FROM_TRADES
from otc_assets.domain.enums import Change, IssueChange, VenueScope
from otc_assets.domain.reading import Read
from otc_assets.domain.schema import WEEK_CHANGES
from otc_assets.domain.shift_share import shift_share
from otc_assets.domain.splits import splits
from otc_assets.domain.venues import identities, with_identity
from otc_assets.domain.weeks import TIERS, publication_date, trading_days, weeks_up_to

#: So many movers per tier are kept: the largest.
MOVERS = 50
#: A norm needs so many earlier weeks in which the symbol traded.
NORM_WEEKS = 3
#: 1.4826 * MAD estimates the standard deviation of normally distributed values.
MAD_SCALE = 1.4826
#: The least MAD, as a part of the median.
LEAST_MAD = 0.05

_ALL = VenueScope.ALL
_KEY = ["week_ending", "tier"]
Row = dict[str, Any]


def week_changes(read: Read, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """The changes of a week.

    Args:
        read: reads SYMBOL, VENUE, VENUE_SUCCESSION, SYMBOL_SUMMARY, VENUE_SHARE and VENUE_VOLUME.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the week.

    Returns:
        WEEK_CHANGES, sorted by its key. `evidence` is a JSON object. Changes of venues over all tiers have tier ALL.
        No rows while no tier of the week is captured: what FINRA has revised follows with the week.
    """
    if captured.filter(pl.col("week_ending") == week_ending).is_empty():
        return WEEK_CHANGES.to_frame()
    weeks = weeks_up_to(week_ending)
    columns = [*_KEY, "symbol", "issue_name", "total_volume", "total_trades", "total_notional"]
    summaries = read("symbol_summary", weeks, columns).join(captured, on=_KEY, how="semi")
    shares = read("venue_share", weeks, [*_KEY, "venue_id", "venue_name", "total_volume"])
    shares = with_identity(shares.join(captured, on=_KEY, how="semi"), identities())
    before, pending = _weeks_before(captured, week_ending), _pending(captured, week_ending)
    symbols = read("symbol", [week_ending])
    rows = [
        *_symbols(symbols, summaries, week_ending),
        *_exits(symbols, summaries, before, pending),
        *_splits(summaries, week_ending),
        *_venues(read("venue", [week_ending]), read("venue_succession", [week_ending]), shares, week_ending),
        *_venue_exits(shares, before, pending, week_ending),
        *_ranks(shares, before, week_ending),
        *_movers(summaries, captured, week_ending),
        *_share_shifts(read, before, week_ending),
        *_revisions(read.rewritten(*report_period(week_ending), week_ending)),
    ]
    made = pl.DataFrame(
        [{**dict.fromkeys(WEEK_CHANGES), **row, "week_ending": week_ending} for row in rows], schema=WEEK_CHANGES
    )
    size = pl.col("amount").abs()
    return (
        made.sort(size, "subject", descending=[True, False], nulls_last=True)
        .with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("tier", "kind").alias("rank"))
        .sort("week_ending", "tier", "kind", "subject")
    )


def _weeks_before(captured: pl.DataFrame, week_ending: dt.date) -> dict[str, dt.date]:
    """By tier that is captured in the week, the newest captured week before it."""
    now = captured.filter(pl.col("week_ending") == week_ending).select("tier")
    earlier = captured.filter(pl.col("week_ending") < week_ending).join(now, on="tier", how="semi")
    return dict(earlier.group_by("tier").agg(pl.col("week_ending").max()).iter_rows())


def _pending(captured: pl.DataFrame, week_ending: dt.date) -> list[str]:
    """The tiers of the week that are not captured: what seems to have ended may be there."""
    known = set(captured.filter(pl.col("week_ending") == week_ending)["tier"])
    return [tier.name for tier in TIERS if tier.name not in known]


def _row(tier: str, kind: Change, subject: str, amount: object, evidence: Mapping[str, Any], **values: Any) -> Row:
    found = json.dumps(dict(evidence), default=str, ensure_ascii=False)
    return {"tier": tier, "kind": kind, "subject": subject, "amount": amount, "evidence": found, **values}


def _symbols(symbols: pl.DataFrame, summaries: pl.DataFrame, week_ending: dt.date) -> list[Row]:
    """Symbols that are new, moved, or have another name or ticker, by their volume of the week."""
    volume = summaries.filter(pl.col("week_ending") == week_ending).select("tier", "symbol", "total_volume")
    rows: list[Row] = []
    for row in symbols.join(volume, on=["tier", "symbol"]).iter_rows(named=True):
        evidence = {"issue_name": row["issue_name"], "volume": row["total_volume"], "last_week": row["previous_week"]}
        found: list[tuple[Change, str | None, str]] = []
        if row["moved_from_tier"]:
            found.append((Change.SYMBOL_MOVED_TIER, row["moved_from_tier"], row["tier"]))
        if row["previous_symbol"]:
            found.append((Change.SYMBOL_NEW_TICKER, row["previous_symbol"], row["symbol"]))
        elif row["is_new"]:
            found.append((Change.SYMBOL_ENTERED, None, row["issue_name"]))
        if row["issue_change"]:
            is_other = row["issue_change"] == IssueChange.ANOTHER_ISSUE
            kind = Change.SYMBOL_OTHER_ISSUE if is_other else Change.SYMBOL_RENAMED
            found.append((kind, row["previous_issue_name"], row["issue_name"]))
        subject, size = row["symbol"], row["total_volume"]
        rows += [
            _row(row["tier"], kind, subject, size, evidence, symbol=subject, previous=then, current=now)
            for kind, then, now in found
        ]
    return rows


def _exits(
    symbols: pl.DataFrame,
    summaries: pl.DataFrame,
    before: Mapping[str, dt.date],
    pending: list[str],
) -> list[Row]:
    """Symbols that traded in the tier's week before and do not trade in any captured tier of the week."""
    there = {*symbols["symbol"], *symbols["previous_symbol"].drop_nulls()}
    rows = []
    for tier, week in before.items():
        gone = summaries.filter(
            (pl.col("week_ending") == week) & (pl.col("tier") == tier) & ~pl.col("symbol").is_in(list(there))
        )
        rows += [
            _row(
                tier,
                Change.SYMBOL_EXITED,
                row["symbol"],
                row["total_volume"],
                {"volume": row["total_volume"], "last_week": week, "tiers_pending": pending},
                symbol=row["symbol"],
                previous=row["issue_name"],
            )
            for row in gone.iter_rows(named=True)
        ]
    return rows


def _splits(summaries: pl.DataFrame, week_ending: dt.date) -> list[Row]:
    """Jumps of the price in the week that are near a split ratio."""
    found = splits(summaries, ["tier", "symbol"]).filter(pl.col("split_week") == week_ending)
    now = summaries.filter(pl.col("week_ending") == week_ending)
    return [
        _row(
            row["tier"],
            Change.SYMBOL_SPLIT,
            row["symbol"],
            row["total_volume"],
            {"split_ratio": row["split_ratio"], "volume": row["total_volume"], "notional": row["total_notional"]},
            symbol=row["symbol"],
            current=row["split_ratio"],
        )
        for row in found.join(now, on=["tier", "symbol"]).iter_rows(named=True)
    ]


def _venues(
    venues: pl.DataFrame,
    found: pl.DataFrame,
    shares: pl.DataFrame,
    week_ending: dt.date,
) -> list[Row]:
    """Venues that are new, have another name or another number, over all captured tiers; and proposed successions."""
    current = shares.filter(pl.col("week_ending") == week_ending)
    now = dict(current.group_by("identity_id").agg(pl.col("total_volume").sum()).iter_rows())
    rows = []
    for row in venues.iter_rows(named=True):
        volume = now.get(row["identity_id"])
        common = {"amount": volume, "evidence": {"volume": volume, "tiers": row["tiers"]}, "venue_id": row["venue_id"]}
        then = row["previous_venue_id"]
        if row["is_new"]:
            rows.append(_row(_ALL, Change.VENUE_ENTERED, row["venue_id"], current=row["venue_name"], **common))
        if then and then != row["venue_id"]:
            rows.append(
                _row(_ALL, Change.VENUE_SUCCESSION, row["venue_id"], previous=then, current=row["venue_id"], **common)
            )
        elif row["previous_venue_name"] and row["previous_venue_name"] != row["venue_name"]:
            names = {"previous": row["previous_venue_name"], "current": row["venue_name"]}
            rows.append(_row(_ALL, Change.VENUE_RENAMED, row["venue_id"], **names, **common))
    for row in found.iter_rows(named=True):
        rows.append(
            _row(
                _ALL,
                Change.VENUE_PROPOSAL,
                f"{row['predecessor']} to {row['successor']}",
                row["volume_in_common_pct"],
                {name: row[name] for name in ("symbols_in_common_pct", "volume_in_common_pct", "volume_ratio_pct")},
                venue_id=row["successor"],
                previous=row["predecessor"],
                current=row["decision"],
            )
        )
    return rows


def _venue_exits(
    shares: pl.DataFrame, before: Mapping[str, dt.date], pending: list[str], week_ending: dt.date
) -> list[Row]:
    """Venues that reported in the tier's week before and do not report in any captured tier of the week."""
    there = shares.filter(pl.col("week_ending") == week_ending)["identity_id"].unique().to_list()
    rows = []
    for tier, week in before.items():
        last = shares.filter((pl.col("week_ending") == week) & (pl.col("tier") == tier))
        for row in last.filter(~pl.col("identity_id").is_in(there)).iter_rows(named=True):
            evidence = {"volume": row["total_volume"], "last_week": week, "tiers_pending": pending}
            of = {"venue_id": row["venue_id"], "previous": row["venue_name"]}
            rows.append(_row(tier, Change.VENUE_EXITED, row["venue_id"], row["total_volume"], evidence, **of))
    return rows


def _ranks(shares: pl.DataFrame, before: Mapping[str, dt.date], week_ending: dt.date) -> list[Row]:
    """Venues whose rank by volume in a tier has changed; they are ranked by identity."""
    rows = []
    for tier, week in before.items():
        now, then = (
            shares.filter((pl.col("tier") == tier) & (pl.col("week_ending") == of))
            .group_by("identity_id")
            .agg(pl.col("total_volume").sum(), pl.col("venue_id").sort().last())
            .sort("total_volume", "identity_id", descending=[True, False])
            .with_row_index("place", 1)
            for of in (week_ending, week)
        )
        for row in now.join(then, on="identity_id", suffix="_then").iter_rows(named=True):
            if moved := row["place_then"] - row["place"]:
                rows.append(
                    _row(
                        tier,
                        Change.VENUE_RANK,
                        row["venue_id"],
                        moved,
                        {"volume": row["total_volume"], "volume_then": row["total_volume_then"], "compared_with": week},
                        venue_id=row["venue_id"],
                        previous=str(row["place_then"]),
                        current=str(row["place"]),
                    )
                )
    return rows


def _movers(summaries: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date) -> list[Row]:
    """Symbols whose volume per trading day is far from its norm, by score."""
    earlier = captured.filter(pl.col("week_ending") < week_ending)
    days = {week: trading_days(week) for week in captured["week_ending"].unique()}
    daily = summaries.with_columns(
        (
            pl.col("total_volume").cast(pl.Float64) / pl.col("week_ending").replace_strict(days, return_dtype=pl.Int64)
        ).alias("daily")
    )
    is_current = pl.col("week_ending") == week_ending
    tiers = captured.filter(is_current).select("tier")
    in_both = daily.filter(~is_current).group_by("tier", "symbol").agg(pl.len().alias("traded"))
    # A week without trades counts as zero: every symbol with a norm has a row for every captured week of its tier.
    grid = (
        in_both.filter(pl.col("traded") >= NORM_WEEKS)
        .join(tiers, on="tier", how="semi")
        .join(earlier, on="tier")
        .join(daily.select(*_KEY, "symbol", "daily"), on=[*_KEY, "symbol"], how="left")
        .with_columns(pl.col("daily").fill_null(0.0))
    )
    middle = pl.col("daily").median()
    norms = grid.group_by("tier", "symbol").agg(
        middle.alias("median"), (pl.col("daily") - middle).abs().median().alias("mad"), pl.len().alias("weeks")
    )
    now = daily.filter(
        is_current & (pl.col("total_volume") >= RANKED_FROM_SHARES) & (pl.col("total_trades") >= RANKED_FROM_TRADES)
    )
    spread = pl.max_horizontal("mad", pl.col("median") * LEAST_MAD) * MAD_SCALE
    scored = (
        now.join(norms.filter(pl.col("median") > 0), on=["tier", "symbol"])
        .with_columns(((pl.col("daily") - pl.col("median")) / spread).round(6).alias("score"))
        .sort(pl.col("score").abs(), "symbol", descending=[True, False])
        .group_by("tier", maintain_order=True)
        .head(MOVERS)
    )
    return [
        _row(
            row["tier"],
            Change.SYMBOL_VOLUME,
            row["symbol"],
            row["amount"],
            {
                "issue_name": row["issue_name"],
                "daily_volume": round(row["daily"], 6),
                "median": round(row["median"], 6),
                "mad": round(row["mad"], 6),
                "weeks": row["weeks"],
            },
            symbol=row["symbol"],
            previous=_text(row["median"]),
            current=_text(row["daily"]),
        )
        for row in scored.with_columns(_amount("score")).iter_rows(named=True)
    ]


def _share_shifts(read: Read, before: Mapping[str, dt.date], week_ending: dt.date) -> list[Row]:
    """How each venue's share of a tier changed since the tier's week before, within symbols and by mix."""
    rows: list[Row] = []
    if not before:
        return rows
    columns = [*_KEY, "venue_id", "symbol", "share_volume"]
    volume = with_identity(read("venue_volume", {week_ending, *before.values()}, columns), identities())
    for tier, week in before.items():
        of_tier = volume.filter(pl.col("tier") == tier)
        then, now = (of_tier.filter(pl.col("week_ending") == of) for of in (week, week_ending))
        if not then.height or not now.height:
            continue
        shifts = shift_share(then, now)
        rows += [
            _row(
                tier,
                Change.VENUE_SHARE,
                row["venue_id"],
                row["amount"],
                {name: round(row[name], 6) for name in ("change", "within", "mix")} | {"compared_with": week},
                venue_id=row["venue_id"],
                previous=_text(row["share_then"]),
                current=_text(row["share_now"]),
            )
            for row in shifts.with_columns(_amount("change")).iter_rows(named=True)
        ]
    return rows


def report_period(week_ending: dt.date) -> tuple[dt.date, dt.date]:
    """The days whose revisions are in the week's report: after the first, up to the second, which is included.

    A week's report is due when its T1 is published; the report before it was due when T1 of the week before was.
    """
    tier = TIERS[0]
    return publication_date(week_ending - dt.timedelta(weeks=1), tier), publication_date(week_ending, tier)


def _revisions(rewritten: pl.DataFrame) -> list[Row]:
    """Rows of earlier weeks that FINRA rewrote since the report before, by tier and week."""
    found = rewritten.group_by(_KEY).agg(pl.col("rows", "share_volume").sum(), pl.col("last_update_date").max())
    return [
        _row(
            row["tier"],
            Change.REVISED,
            row["week_ending"].isoformat(),
            row["rows"],
            {"rows": row["rows"], "volume": row["share_volume"], "last_update_date": row["last_update_date"]},
            current=row["last_update_date"].isoformat(),
        )
        for row in found.iter_rows(named=True)
    ]


def _amount(column: str) -> pl.Expr:
    return pl.col(column).round(6).cast(WEEK_CHANGES["amount"]).alias("amount")


def _text(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
