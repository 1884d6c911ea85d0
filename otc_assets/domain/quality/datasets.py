"""The checks of FINRA's neighbouring data sets, and of the estimates that are computed from them.

Each takes the evidence of one week and returns one finding.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from otc_assets.domain.quality.evidence import Finding, none_of

#: Estimates of smaller volumes are not judged: a few trades outside regular hours change them by any percentage.
JUDGED_FROM_SHARES = 100_000
#: The most that the median of the errors' sizes may be, in percent.
MEDIAN_ERROR_PCT = 15.0


@dataclass(frozen=True)
class Periods:
    """What is captured of a data set's week.

    Attributes:
        captured: the number of captured periods.
        missing: periods that are due and not captured.
        rows_expected, rows_received, rows_accepted: of the newest capture of each period.
        rows_stored: rows of the week in the table.
        dropped: retention has dropped the week, or would.
        contradictory: stored rows whose values contradict each other, or the other rows.
    """

    captured: int
    missing: tuple[dt.date, ...]
    rows_expected: int
    rows_received: int
    rows_accepted: int
    rows_stored: int
    contradictory: int = 0
    dropped: bool = False


def periods_captured(e: Periods) -> Finding:
    """Judges whether every period that is due is captured."""
    named = f", missing: {', '.join(map(str, e.missing))}" if e.missing else ""
    return none_of(len(e.missing), f"{e.captured} periods captured{named}")


def period_rows_reconciled(e: Periods) -> Finding:
    """Judges whether all rows that FINRA states were received, and all accepted ones are stored."""
    return Finding(
        e.rows_expected == e.rows_received and (e.dropped or e.rows_accepted == e.rows_stored),
        f"{e.rows_expected:,} rows stated, {e.rows_received:,} received, {e.rows_accepted:,} accepted, "
        + ("which retention has dropped" if e.dropped else f"{e.rows_stored:,} stored"),
        observed=float(e.rows_stored),
        threshold=float(e.rows_accepted),
    )


def period_rejection_rate(e: Periods) -> Finding:
    """Judges whether at most one row in a hundred was rejected."""
    rejected = e.rows_received - e.rows_accepted
    rate = rejected / e.rows_received if e.rows_received else 0.0
    return Finding(
        rate <= 0.01, f"{rejected:,} of {e.rows_received:,} rows were rejected", observed=rate, threshold=0.01
    )


def short_within_total(e: Periods) -> Finding:
    """Judges whether no row has more short volume than volume, or more exempt than short volume."""
    return none_of(e.contradictory, f"{e.contradictory:,} of {e.rows_stored:,} rows contradict themselves")


def estimate_error(rows: pl.DataFrame) -> Finding:
    """Judges how far the estimates of a week (VOLUME_ESTIMATE) are from the actual volume, where that is published."""
    judged = rows.filter((pl.col("actual_volume") >= JUDGED_FROM_SHARES) & pl.col("error_pct").is_not_null())
    if judged.is_empty():
        return Finding(True, f"{rows.height:,} estimates; no actual volume is published yet")
    sizes = judged["error_pct"].cast(pl.Float64).abs()
    median = float(sizes.median())  # type: ignore[arg-type]
    estimated, actual = (float(judged[name].sum()) for name in ("estimated_volume", "actual_volume"))
    return Finding(
        median <= MEDIAN_ERROR_PCT,
        f"{judged.height:,} estimates of at least {JUDGED_FROM_SHARES:,} shares: median error {median:.1f} %, nine in "
        f"ten within {float(sizes.quantile(0.9)):.1f} %, all together {(estimated / actual - 1) * 100:+.1f} %",  # type: ignore[arg-type]
        observed=median,
        threshold=MEDIAN_ERROR_PCT,
    )


def change_agrees(e: Periods) -> Finding:
    """Judges whether FINRA's change of every position is the difference of its two positions."""
    return none_of(e.contradictory, f"{e.contradictory:,} of {e.rows_stored:,} positions have another change")


def share_within_100(rows: pl.DataFrame) -> Finding:
    """Judges how many estimated shares (OFF_EXCHANGE_SHARE) exceed 100 %."""
    share = pl.col("off_exchange_share_pct")
    judged = rows.filter((pl.col("total_volume") >= JUDGED_FROM_SHARES) & share.is_not_null())
    above = judged.filter(share > 100).height
    return Finding(
        above * 20 <= judged.height,
        f"{above:,} of {judged.height:,} symbols with at least {JUDGED_FROM_SHARES:,} shares are above 100 %",
        observed=float(above),
        threshold=judged.height / 20,
    )


def stays_within_week(rows: pl.DataFrame) -> Finding:
    """Judges whether the days of every stay (THRESHOLD_STAY) are possible."""
    listed, captured = pl.col("days_listed"), pl.col("days_captured")
    wrong = rows.filter((listed < 1) | (listed > captured) | (captured > 5) | (pl.col("consecutive_days") < 1))
    return none_of(wrong.height, f"{wrong.height:,} of {rows.height:,} stays have impossible days")


def blocks_within_total(e: Periods) -> Finding:
    """Judges whether no row has more blocks than trades, or more shares in blocks than shares."""
    return none_of(
        e.contradictory, f"{e.contradictory:,} of {e.rows_stored:,} rows have more in blocks than in all trades"
    )


def month_totals_agree(e: Periods) -> Finding:
    """Judges whether FINRA's totals of a month are the sums of its rows."""
    return none_of(e.contradictory, f"{e.contradictory:,} of FINRA's totals differ from the sums of its rows")


def month_covers_weeks(rows: pl.DataFrame) -> Finding:
    """Judges whether FINRA's months of firms (FIRM_MONTH) have at least what the weeks inside the month have."""
    judged = rows.filter(pl.col("against_weeks").is_not_null())
    wrong = judged.filter(pl.col("against_weeks") == "below").sort("market", "rank")["venue_id"]
    named = f": {', '.join(wrong.head(5))}" if wrong.len() else ""
    return none_of(wrong.len(), f"{wrong.len():,} of {judged.height:,} firms have less than in their weeks{named}")


def month_within_weeks(rows: pl.DataFrame) -> Finding:
    """Judges whether FINRA's months (BLOCK_SHARE) agree with the weekly publications, as far as weeks can tell."""
    judged = rows.filter(pl.col("against_weeks").is_not_null()).unique("venue")
    wrong = judged.filter(pl.col("against_weeks") != "within")["venue"].sort()
    named = f": {', '.join(wrong.head(5))}" if wrong.len() else ""
    return none_of(wrong.len(), f"{wrong.len():,} of {judged.height:,} ATSs are outside of their weeks{named}")
