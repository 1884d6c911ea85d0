"""Whether a week can be trusted: findings, and the grade A to F that they add up to.

Here: judging frames, one (week, tier) at a time. Not here: reading the frames (``warehouse.read``), telling
Dagster (``checks``).

The score is 100 less what each failed finding costs (``COST``); A from 95, B from 85, C from 70, D from 50. A
finding in ``FATAL`` is F at once: the rows are not FINRA's, and nothing may be made of them. A week that is
only in part there, and right as far as it goes, is D.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl

from otc_assets.domain.normalize import MOST_SHARES, MOST_TRADES
from otc_assets.domain.schema import ATS, FINDING, NON_ATS, VENUE_VOLUME_KEY, WEEK_QUALITY
from otc_assets.domain.weeks import Tier, publication_date, trading_days

#: A venue that leaves is news; a fifth of them at once is a file with a hole.
VENUE_COUNT_DROP_PCT = 20
#: Of the volume a trading day against the week before: holidays shorten weeks and must not alarm.
VOLUME_SWING_PCT = 50
#: Of a venue's share of its tier, in points.
SHARE_SHIFT_POINTS = 10
#: FINRA's files have one bad row in five thousand; one in a hundred is another layout than we think.
REJECTED_PCT = 1

ERROR, WARN = "error", "warn"

#: What makes rows useless, whatever else is right.
FATAL = frozenset({"books_balance", "unique_keys", "plausible_values", "known_tier", "matches_finra_totals"})
#: What other failed findings cost, of 100 points.
COST = {
    "complete": 40,
    "week_in_calendar": 20,
    "few_rejected": 20,
    "venue_count_drop": 10,
    "volume_swing": 10,
}
GRADES = (("A", 95), ("B", 85), ("C", 70), ("D", 50), ("F", 0))


@dataclass(frozen=True)
class Evidence:
    """All that a (week, tier) of venue volume is judged by.

    Attributes:
        volume: VENUE_VOLUME of the week and tier.
        totals: PUBLISHED_TOTAL of the same.
        rows_received, rows_accepted, rows_rejected: of the captures that speak for it.
        rows_published_twice: of the rejected ones, those whose twin was accepted.
        rows_expected: what FINRA said there are; None where it said nothing.
        whole_kinds: the kinds of venues of which it is the whole.
        complete: whether every capture that speaks is complete, and they are the whole publication.
        previous: VENUE_VOLUME of the tier's newest captured week before, or None.
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
    whole_kinds: frozenset[str]
    complete: bool
    previous: pl.DataFrame | None = None


def _finding(
    week_ending: dt.date,
    tier: str,
    name: str,
    passed: bool,
    detail: str,
    *,
    severity: str = ERROR,
    observed: float | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    return {
        "week_ending": week_ending,
        "tier": tier,
        "check_name": name,
        "passed": passed,
        "severity": severity,
        "observed": observed,
        "threshold": threshold,
        "detail": detail,
    }


def judge_volume(evidence: Evidence) -> pl.DataFrame:
    """The findings on a (week, tier) of venue volume (FINDING), one a check."""
    judges = (
        _books_balance,
        _unique_keys,
        _plausible_values,
        _known_tier,
        _week_in_calendar,
        _matches_finra_totals,
        _complete,
        _few_rejected,
        _venue_count_drop,
        _volume_swing,
    )
    return pl.DataFrame([judge(evidence) for judge in judges], schema=FINDING)


#: The checks on venue volume, in the order in which they are judged.
VOLUME_CHECKS = (
    "books_balance",
    "unique_keys",
    "plausible_values",
    "known_tier",
    "week_in_calendar",
    "matches_finra_totals",
    "complete",
    "few_rejected",
    "venue_count_drop",
    "volume_swing",
)


def grade(findings: pl.DataFrame) -> pl.DataFrame:
    """The grades (WEEK_QUALITY) that findings on venue volume add up to, one a (week_ending, tier)."""
    grades = []
    for (week, tier), group in findings.group_by("week_ending", "tier", maintain_order=True):
        failed = group.filter(~pl.col("passed"))
        score = max(0, 100 - sum(COST.get(name, 0) for name in failed["check_name"]))
        letter = next(letter for letter, least in GRADES if score >= least)
        if FATAL & set(failed["check_name"]):
            letter, score = "F", 0
        shown = failed.select("check_name", "severity", "observed", "threshold", "detail").to_dicts()
        grades.append(
            {
                "week_ending": week,
                "tier": tier,
                "grade": letter,
                "score": score,
                "findings": json.dumps(shown),
            }
        )
    return pl.DataFrame(grades, schema=WEEK_QUALITY)


def worst(grades: list[str]) -> str | None:
    """The worst of the tiers' grades: the week's; None where there is none."""
    return max(grades, default=None)


# --- venue volume, finding by finding ------------------------------------------------------------------


def _of(e: Evidence, name: str, passed: bool, detail: str, **figures: Any) -> dict[str, Any]:
    return _finding(e.week_ending, e.tier.name, name, passed, detail, **figures)


def _books_balance(e: Evidence) -> dict[str, Any]:
    difference = e.rows_received - e.rows_accepted - e.rows_rejected
    stored = e.volume.height + e.totals.height
    # Only of a single whole publication are the rows that stand in the tables the rows that were accepted.
    lost = e.rows_accepted - stored if e.complete and e.rows_expected is not None else 0
    return _of(
        e,
        "books_balance",
        difference == 0 and lost == 0,
        f"{e.rows_received:,} rows received = {e.rows_accepted:,} accepted + {e.rows_rejected:,} rejected; "
        f"{e.volume.height:,} rows of venue volume and {e.totals.height:,} totals stand in the tables",
        observed=float(abs(difference) + abs(lost)),
        threshold=0.0,
    )


def _unique_keys(e: Evidence) -> dict[str, Any]:
    twice = e.volume.height - e.volume.select(VENUE_VOLUME_KEY).n_unique()
    return _of(
        e,
        "unique_keys",
        twice == 0,
        f"{twice:,} rows stand twice under one key" if twice else "every row has a key of its own",
        observed=float(twice),
        threshold=0.0,
    )


def _plausible_values(e: Evidence) -> dict[str, Any]:
    bad = e.volume.filter(
        (pl.col("share_volume") < 0)
        | (pl.col("trade_count") < 0)
        | (pl.col("notional") < 0)
        | (pl.col("share_volume") > MOST_SHARES)
        | (pl.col("trade_count") > MOST_TRADES)
    )
    example = f"; the first: {bad['symbol'][0]} at {bad['venue_id'][0]}" if bad.height else ""
    return _of(
        e,
        "plausible_values",
        bad.height == 0,
        f"{bad.height:,} rows have negative or absurd values{example}",
        observed=float(bad.height),
        threshold=0.0,
    )


def _known_tier(e: Evidence) -> dict[str, Any]:
    others = e.volume.filter(pl.col("tier") != e.tier.name)["tier"].unique().to_list()
    return _of(
        e,
        "known_tier",
        not others,
        f"rows of other tiers: {', '.join(map(str, others))}" if others else f"all rows are of {e.tier.name}",
        observed=float(len(others)),
        threshold=0.0,
    )


def _week_in_calendar(e: Evidence) -> dict[str, Any]:
    due = publication_date(e.week_ending, e.tier)
    published = e.volume.select(pl.coalesce("initial_published_date", "last_update_date")).to_series().drop_nulls()
    early = published.filter(published < due)
    first, first_early = (str(days.min()) for days in (published, early))
    detail = f"FINRA publishes this week on {due}; "
    if early.len():
        detail += f"{early.len():,} rows say they were published before, on {first_early}: they are of another week"
    else:
        detail += f"the rows say {first}" if published.len() else "the rows don't say when they were"
    return _of(e, "week_in_calendar", not early.len(), detail, observed=float(early.len()), threshold=0.0)


def _matches_finra_totals(e: Evidence) -> dict[str, Any]:
    """Sums of our rows against FINRA's own totals, to the share and the trade.

    By symbol and by venue, ATSs and firms apart. Of a kind that is whole, both sides must have the same
    symbols and venues; of a part, those that both have are compared.
    """
    side = pl.when(pl.col("venue_kind") == ATS).then(pl.lit(ATS)).otherwise(pl.lit(NON_ATS)).alias("side")
    ours = e.volume.with_columns(side)
    whole = [kind for kind in (ATS, NON_ATS) if kind in e.whole_kinds]
    compared = differing = 0
    examples: list[str] = []
    for total_of, name in (("SYMBOL", "symbol"), ("VENUE", "venue_id")):
        key = ["side", name]
        sums = ours.group_by(key).agg(pl.col("share_volume").sum(), pl.col("trade_count").sum())
        stated = (
            e.totals.filter(pl.col("total_of") == total_of)
            .rename({"venue_kind": "side"})
            .group_by(key)
            .agg(pl.col("share_volume").sum().alias("_shares"), pl.col("trade_count").sum().alias("_trades"))
        )
        if total_of == "VENUE":  # a part has some of a venue's symbols only
            sums, stated = (f.filter(pl.col("side").is_in(whole)) for f in (sums, stated))
        sides_stated = stated["side"].unique().to_list()
        both = sums.filter(pl.col("side").is_in(sides_stated)).join(stated, on=key, how="full", coalesce=True)
        both = both.filter(
            pl.col("side").is_in(whole) | pl.all_horizontal(pl.col("share_volume", "_shares").is_not_null())
        )
        wrong = both.filter(
            pl.col("share_volume").ne_missing(pl.col("_shares")) | pl.col("trade_count").ne_missing(pl.col("_trades"))
        ).sort(key)
        compared += both.height
        differing += wrong.height
        examples += [
            f"{row['side']} {row[name]}: ours {row['share_volume'] or 0:,} shares, {row['trade_count'] or 0:,} "
            f"trades; FINRA's {row['_shares'] or 0:,} and {row['_trades'] or 0:,}"
            for row in wrong.head(3).iter_rows(named=True)
        ]
    if not compared:
        detail = "FINRA's totals of this week were not captured: there is nothing to compare with"
    elif differing:
        detail = f"{differing:,} of {compared:,} totals differ from FINRA's: {'; '.join(examples[:3])}"
    else:
        detail = f"{compared:,} totals equal FINRA's, to the share"
    return _of(e, "matches_finra_totals", differing == 0, detail, observed=float(differing), threshold=0.0)


def _complete(e: Evidence) -> dict[str, Any]:
    stated = f" of {e.rows_expected:,}" if e.rows_expected is not None else ""
    missing = " and ".join(kind for kind in (ATS, NON_ATS) if kind not in e.whole_kinds)
    lack = f"; not whole: {missing}" if missing else "; a capture was cut off" if not e.complete else ""
    return _of(
        e,
        "complete",
        e.complete,
        f"{e.rows_received:,} rows{stated} captured{lack}",
        observed=float(e.rows_received),
        threshold=float(e.rows_expected) if e.rows_expected is not None else None,
    )


def _few_rejected(e: Evidence) -> dict[str, Any]:
    bad = e.rows_rejected - e.rows_published_twice
    share = 100 * bad / e.rows_received if e.rows_received else 0.0
    return _of(
        e,
        "few_rejected",
        share <= REJECTED_PCT,
        f"{bad:,} of {e.rows_received:,} rows were rejected, and {e.rows_published_twice:,} that FINRA published "
        "twice; otc.rejected_record has them and why",
        observed=share,
        threshold=float(REJECTED_PCT),
    )


def _before(e: Evidence) -> pl.DataFrame | None:
    return e.previous if e.previous is not None and e.previous.height else None


_NO_EARLIER = "there is no earlier week to compare with"


def _venue_count_drop(e: Evidence) -> dict[str, Any]:
    limit = float(VENUE_COUNT_DROP_PCT)
    if (before := _before(e)) is None:
        return _of(e, "venue_count_drop", True, _NO_EARLIER, severity=WARN, threshold=limit)
    now, then = e.volume["venue_id"].n_unique(), before["venue_id"].n_unique()
    drop = 100 * (then - now) / then
    return _of(
        e,
        "venue_count_drop",
        drop <= VENUE_COUNT_DROP_PCT,
        f"{now} venues, {then} in the week ending {before['week_ending'][0]}",
        severity=WARN,
        observed=drop,
        threshold=limit,
    )


def _volume_swing(e: Evidence) -> dict[str, Any]:
    limit = float(VOLUME_SWING_PCT)
    if (before := _before(e)) is None:
        return _of(e, "volume_swing", True, _NO_EARLIER, severity=WARN, threshold=limit)
    then_week: dt.date = before["week_ending"][0]
    days, then_days = trading_days(e.week_ending), trading_days(then_week)
    now, then = (Decimal(frame["share_volume"].sum() or 0) for frame in (e.volume, before))
    if not then or not days or not then_days:
        return _of(e, "volume_swing", True, _NO_EARLIER, severity=WARN, threshold=limit)
    swing = 100 * float((now / days) / (then / then_days) - 1)
    return _of(
        e,
        "volume_swing",
        abs(swing) <= VOLUME_SWING_PCT,
        f"{now / days:,.0f} shares a trading day ({days} days), {then / then_days:,.0f} in the week ending "
        f"{then_week} ({then_days} days): {swing:+.1f} %",
        severity=WARN,
        observed=swing,
        threshold=limit,
    )


# --- what is made of venue volume ----------------------------------------------------------------------


def judge_shares(shares: pl.DataFrame, previous: pl.DataFrame | None) -> pl.DataFrame:
    """Findings on a week of VENUE_SHARE, by tier: shares add up to 100 %, and no venue's moved by much.

    Args:
        shares: the week's rows.
        previous: the rows of the newest captured week before, or None.
    """
    findings = []
    for (week, tier), group in shares.group_by("week_ending", "tier", maintain_order=True):
        total = Decimal(group["market_share_pct"].sum() or 0)
        # Each share is rounded to six places: half a millionth off at most.
        tolerance = Decimal("0.0000005") * group.height
        moved = bool(group["total_volume"].sum())
        findings.append(
            _finding(
                week,
                tier,
                "shares_add_up",
                not moved or abs(total - 100) <= tolerance,
                f"the shares of {group.height} venues add up to {total} %",
                observed=float(total),
                threshold=100.0,
            )
        )
        before = previous.filter(pl.col("tier") == tier) if previous is not None else None
        limit = float(SHARE_SHIFT_POINTS)
        if before is None or not before.height:
            detail, shift = _NO_EARLIER, 0.0
        else:
            shifts = (
                group.select("venue_id", "market_share_pct")
                .join(
                    before.select("venue_id", _then="market_share_pct"),
                    on="venue_id",
                    how="full",
                    coalesce=True,
                )
                .with_columns((pl.col("market_share_pct").fill_null(0) - pl.col("_then").fill_null(0)).alias("shift"))
                .sort(pl.col("shift").abs(), "venue_id", descending=[True, False])
            )
            top = shifts.row(0, named=True)
            shift = float(top["shift"])
            detail = (
                f"{top['venue_id']} moved most: {float(top['_then'] or 0):.2f} % to "
                f"{float(top['market_share_pct'] or 0):.2f} % since the week ending {before['week_ending'][0]}"
            )
        findings.append(
            _finding(
                week,
                tier,
                "venue_share_shift",
                abs(shift) <= SHARE_SHIFT_POINTS,
                detail,
                severity=WARN,
                observed=shift,
                threshold=limit,
            )
        )
    return pl.DataFrame(findings, schema=FINDING)


def judge_concentration(rows: pl.DataFrame) -> pl.DataFrame:
    """Findings on a week of SYMBOL_CONCENTRATION or MARKET_CONCENTRATION: the HHI lies within its bounds.

    By n venues it is at least 10,000 / n and at most 10,000, and at least the square of the largest share.
    """
    slack = 1e-4  # the published figures are rounded to six places
    hhi, venues = pl.col("hhi").cast(pl.Float64), pl.col("venue_count")
    top = pl.col("top_venue_share_pct").cast(pl.Float64)
    findings = []
    for (week, tier), group in rows.group_by("week_ending", "tier", maintain_order=True):
        out = group.filter(
            (hhi > 10_000)
            | (hhi < 10_000 / venues - slack)
            | (hhi < top**2 - slack)
            | (hhi.is_null() & (pl.col("total_volume") > 0))
        )
        example = f"; the first: {out.row(0)}" if out.height else ""
        findings.append(
            _finding(
                week,
                tier,
                "hhi_within_bounds",
                not out.height,
                f"{out.height:,} of {group.height:,} indices lie outside their bounds{example}",
                observed=float(out.height),
                threshold=0.0,
            )
        )
    return pl.DataFrame(findings, schema=FINDING)
