"""The checks of figures, and of weeks as a whole.

Each takes the evidence of one (week, tier) and returns one finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from otc_assets.domain.enums import Grade, VenueScope
from otc_assets.domain.quality.evidence import Finding, Graded, Newest, Shares, none_of
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
