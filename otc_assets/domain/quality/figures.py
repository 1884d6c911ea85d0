"""The checks of figures, and of weeks as a whole.

Each takes the evidence of one (week, tier) and returns one finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from otc_assets.domain.enums import Change, Decision, Grade, VenueScope
from otc_assets.domain.quality.evidence import Compared, Finding, Graded, Newest, Shares, none_of
from otc_assets.domain.schema import DE_MINIMIS_VENUE_ID


def agrees_with_aggregate(row: Mapping[str, Any]) -> Finding:
    """Compares a tier's summaries with the database's aggregate and its own sums over venue volume.

    Args:
        row: ``symbols``, their number; ``aggregate_differs`` and ``volume_differs``, the number of them for which the
            aggregate and the sums differ; the latter is None where retention has dropped the venue volume.
    """
    of_aggregate, of_volume = row["aggregate_differs"], row["volume_differs"]
    volume = "; venue_volume was dropped" if of_volume is None else f", {of_volume:,} in venue_volume"
    detail = f"{row['symbols']:,} symbols, {of_aggregate:,} of them with other figures in weekly_summary_agg{volume}"
    return none_of(of_aggregate + (of_volume or 0), detail)


def shares_sum_to_100(e: Shares) -> Finding:
    """Judges whether the venues' shares of a tier sum to 100 %; where nothing was traded there are none."""
    return _sum_to_100(e.now, "market_share_pct", "total_volume", f"the shares of {e.now.height} venues")


def notional_shares_sum_to_100(e: Shares) -> Finding:
    """Judges whether the venues' shares of a tier's value sum to 100 %, or are null if a venue has no value."""
    missing = e.now["total_notional"].null_count()
    if not missing:
        subject = f"the shares of the value of {e.now.height} venues"
        return _sum_to_100(e.now, "notional_share_pct", "total_notional", subject)
    stated = e.now["notional_share_pct"].count()
    return none_of(
        stated,
        f"{missing} of {e.now.height} venues have no value, so there are no shares of it"
        if not stated
        else f"{stated} shares of a value that {missing} of {e.now.height} venues do not have",
    )


def _sum_to_100(rows: pl.DataFrame, share: str, amount: str, of_what: str) -> Finding:
    total = Decimal(rows[share].sum() or 0)
    # Each share is rounded to six places, by half a millionth at most.
    tolerance = Decimal("0.0000005") * rows.height
    traded = bool(rows[amount].sum())
    return Finding(
        not traded or abs(total - 100) <= tolerance,
        f"{of_what} sum to {total} %",
        observed=float(total),
        threshold=100.0,
    )


def role_shares_sum_to_100(rows: pl.DataFrame) -> Finding:
    """Judges whether the shares in rows of ROLE_SHARE sum to 100 % of the tier, and of each venue_scope."""
    halves = rows.partition_by("venue_scope")
    judged = []
    for amount, of_tier, of_half in (
        ("total_volume", "market_share_pct", "kind_share_pct"),
        ("total_notional", "notional_share_pct", "kind_notional_share_pct"),
    ):
        if not rows[amount].null_count():
            for part, share in ((rows, of_tier), *((half, of_half) for half in halves)):
                scope = " and ".join(part["venue_scope"].unique().sort())
                judged.append(_sum_to_100(part, share, amount, f"{share} of {part.height} roles ({scope})"))
    return next((finding for finding in judged if not finding.passed), judged[0])


def hhi_within_bounds(rows: pl.DataFrame) -> Finding:
    """Judges whether the HHI in rows of SYMBOL_CONCENTRATION or MARKET_CONCENTRATION is possible, in shares and value.

    For n venues it is at least 10,000 / n and at most 10,000, and at least the square of the largest share. The lower
    end of its interval is at most the HHI, equal to it if there are only ATSs, and at least the square of the largest
    share if that is not the De Minimis group's. Rows of earlier versions have no trades, no lower end and no value.
    """
    in_shares = _out_of_bounds("", pl.col("total_volume") > 0, pl.col("total_trades").is_not_null())
    has_value = (pl.col("total_notional") > 0).fill_null(False)
    in_dollars = _out_of_bounds("notional_", has_value, has_value) | (
        pl.col("notional_hhi").is_not_null() & pl.col("total_notional").is_null()
    )
    out = rows.filter(in_shares.fill_null(False) | in_dollars.fill_null(False))
    example = f"; the first: {out.row(0)}" if out.height else ""
    return none_of(out.height, f"{out.height:,} of {rows.height:,} indices are out of bounds{example}")


def _out_of_bounds(prefix: str, has_index: pl.Expr, has_lower: pl.Expr) -> pl.Expr:
    slack = 2e-4  # figures are rounded to six places, and near 100 the square of a share changes 200 times as fast
    hhi, venues = pl.col(f"{prefix}hhi").cast(pl.Float64), pl.col("venue_count")
    lower = pl.col(f"{prefix}hhi_lower").cast(pl.Float64)
    top = pl.col(f"{prefix}top_venue_share_pct").cast(pl.Float64)
    return (
        (hhi > 10_000)
        | (hhi < 10_000 / venues - slack)
        | (hhi < top**2 - slack)
        | (hhi.is_null() & has_index)
        | (lower > hhi)
        | ((lower < hhi) & (pl.col("venue_scope") == VenueScope.ATS))
        | ((lower < top**2 - slack) & (pl.col(f"{prefix}top_venue") != DE_MINIMIS_VENUE_ID))
        | (lower.is_null() & hhi.is_not_null() & has_lower)
    )


def same_symbols_as_summary(e: Compared) -> Finding:
    """Compares the symbols and issue names of SYMBOL with those of SYMBOL_SUMMARY, of one tier."""
    key = ["symbol", "issue_name"]
    return none_of(
        _differing(e.rows.select(key), e.source.select(key)),
        f"{e.rows.height:,} symbols, {e.source.height:,} in symbol_summary",
    )


def same_venues_as_shares(e: Compared) -> Finding:
    """Compares the venues of VENUE with those of VENUE_SHARE over all tiers, and the kinds of each identity."""
    ours, theirs = e.rows.select("venue_id"), e.source.select("venue_id").unique()
    mixed = e.rows.group_by("identity_id").agg(pl.col("venue_kind").n_unique()).filter(pl.col("venue_kind") > 1)
    return none_of(
        _differing(ours, theirs) + mixed.height,
        f"{ours.height:,} venues, {theirs.height:,} in venue_share; {mixed.height:,} identities of several kinds",
    )


def successions_reviewed(rows: pl.DataFrame) -> Finding:
    """Counts the successions of VENUE_SUCCESSION that the reviewed file does not decide."""
    waiting = rows.filter(pl.col("decision") == Decision.PROPOSED)
    shown = ", ".join(
        f"{row['predecessor']} to {row['successor']} ({row['symbols_in_common_pct']} % of the symbols and "
        f"{row['volume_in_common_pct']} % of the volume in common)"
        for row in waiting.iter_rows(named=True)
    )
    return none_of(waiting.height, f"{rows.height:,} successions, {waiting.height:,} not reviewed: {shown or 'none'}")


def tiers_sum_to_all(rows: pl.DataFrame) -> Finding:
    """Compares the rows over all tiers in SYMBOL_ROLLING with the sums of the tiers' rows.

    A symbol without a row over all tiers traded in weeks alone of which a tier is missing.
    """
    is_all = pl.col("tier") == VenueScope.ALL
    together = rows.filter(is_all).select("symbol", "current_volume")
    sums = rows.filter(~is_all).group_by("symbol").agg(pl.col("current_volume").sum().alias("_sum"))
    compared = sums.join(together, on="symbol", how="left" if together.height else "inner")
    differs = compared.filter(pl.col("current_volume").fill_null(0) != pl.col("_sum"))
    return none_of(differs.height, f"{together.height:,} rows over all tiers, {differs.height:,} differ from the sums")


def same_volume_as_shares(e: Compared) -> Finding:
    """Compares the week's volume of VENUE_ROLLING and of VENUE_SHARE, of one tier."""
    ours, theirs = (Decimal(value or 0) for value in (e.rows["current_volume"].sum(), e.source["total_volume"].sum()))
    return Finding(
        ours == theirs, f"{ours} shares, {theirs} in venue_share", observed=float(ours - theirs), threshold=0.0
    )


def shifts_sum_to_zero(rows: pl.DataFrame) -> Finding:
    """Judges whether the changes of share in WEEK_CHANGES of one tier sum to zero, up to the rounding of each."""
    shifts = rows.filter(pl.col("kind") == Change.VENUE_SHARE)["amount"]
    total = Decimal(shifts.sum() or 0)
    detail = f"{rows.height:,} changes; the shares of {len(shifts)} venues changed by {total} points in all"
    return Finding(abs(total) <= Decimal("0.000001") * max(len(shifts), 1), detail, float(total), 0.0)


def _differing(one: pl.DataFrame, other: pl.DataFrame) -> int:
    """The number of rows that only one of two frames has, and of those that one has several times."""
    only = sum(a.join(b, on=a.columns, how="anti", nulls_equal=True).height for a, b in ((one, other), (other, one)))
    return only + abs(one.height - one.unique().height)


def grade_is_not_f(e: Graded) -> Finding:
    """Judges whether the grade is better than F. A week that retention has dropped keeps its grade."""
    detail = e.grade or "no grade: nothing of this week is captured"
    if not e.kept:
        detail = f"{e.grade or 'no grade'}; retention has dropped the week's venue volume"
    return Finding(e.grade != Grade.F, detail)


def no_gap(row: Mapping[str, Any]) -> Finding:
    """Fails for each row of GAP."""
    return Finding(False, f"{row['status']}: {row['detail']}")


def newest_week(e: Newest) -> Finding:
    """Judges whether the newest captured week is the newest that is due, or that is before the first week wanted.

    Weeks are loaded oldest first: while they are, a newer one is not missing yet.
    """
    detail = f"newest {e.week or 'none'}, due {e.due}"
    if e.week == e.due or e.due < e.first_wanted:
        return Finding(True, detail)
    return Finding(e.is_recent, detail + ("; newer weeks may still be loading" if e.is_recent else ""))
