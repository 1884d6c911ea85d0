"""The checks of venue volume that look at one week alone.

Each takes the evidence of one (week, tier) and returns one finding.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl

from otc_assets.domain.enums import Severity, TotalOf, VenueKind
from otc_assets.domain.normalize import MOST_SHARES, MOST_TRADES
from otc_assets.domain.quality.evidence import Evidence, Finding, none_of
from otc_assets.domain.schema import AMOUNT, half_of_venue
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import publication_date, week_published_on

#: Notional values were whole dollars until 2025-03, each rounded on its own: 130 of 169 weeks of AAPL differ from their
#: total by up to a few dollars.
HALF_A_DOLLAR = Decimal("0.5")
#: In FINRA's files about one row in 5,000 is rejected. More than one in 100 suggests an unknown layout.
REJECTED_PCT = 1


def rows_reconciled(e: Evidence) -> Finding:
    """Judges whether every received row is accepted or rejected, and every row in use is in the tables."""
    difference = e.rows_received - e.rows_accepted - e.rows_rejected
    stored = e.volume.height + e.totals.height
    # All accepted rows of a single publication are in the tables; of several captures, the rows in use are.
    expected = e.rows_accepted if e.complete and e.rows_expected is not None else e.rows_in_use
    lost = expected - stored if expected is not None else 0
    replaced = f" ({e.rows_accepted - stored:,} were replaced by newer ones)" if e.rows_accepted > stored else ""
    return none_of(
        abs(difference) + abs(lost),
        f"{e.rows_received:,} rows received = {e.rows_accepted:,} accepted + {e.rows_rejected:,} rejected; "
        f"{e.volume.height:,} rows of venue volume and {e.totals.height:,} totals are in the tables{replaced}",
    )


def unique_keys(e: Evidence) -> Finding:
    """Judges whether the key of every row is unique."""
    repeated = e.volume.height - e.volume.select(TABLES["venue_volume"].key).n_unique()
    return none_of(repeated, f"{repeated:,} rows repeat the key of another row" if repeated else "every key is unique")


def plausible_values(e: Evidence) -> Finding:
    """Judges whether shares, trades and dollars are possible."""
    bad = e.volume.filter(
        (pl.col("share_volume") < 0)
        | (pl.col("trade_count") < 0)
        | (pl.col("notional") < 0)
        | (pl.col("share_volume") > MOST_SHARES)
        | (pl.col("trade_count") > MOST_TRADES)
    )
    example = f"; the first: {bad['symbol'][0]} at {bad['venue_id'][0]}" if bad.height else ""
    return none_of(bad.height, f"{bad.height:,} rows have negative or implausible values{example}")


def known_tier(e: Evidence) -> Finding:
    """Judges whether all rows are of the tier."""
    others = e.volume.filter(pl.col("tier") != e.tier.name)["tier"].unique().to_list()
    found = f"rows of other tiers: {', '.join(map(str, others))}" if others else f"all rows are of {e.tier.name}"
    return none_of(len(others), found)


def week_in_calendar(e: Evidence) -> Finding:
    """Judges the publication dates: none before the week's own, and most not on that of a later week.

    Single rows may have later dates, because FINRA adds and rewrites rows for months.
    """
    due = publication_date(e.week_ending, e.tier)
    published = e.volume.select(pl.coalesce("initial_published_date", "last_update_date")).to_series().drop_nulls()
    early = published.filter(published < due).sort()
    usual: dt.date | None = published.mode().sort().first() if published.len() else None  # type: ignore[assignment]
    other = week_published_on(usual, e.tier) if usual is not None and usual > due else None
    wrong = early.len()
    detail = f"FINRA publishes this week on {due}; "
    if wrong:
        detail += f"{wrong:,} rows were published before, the first on {early[0]}: they are of another week"
    elif other is not None:
        wrong = published.filter(published == usual).len()
        detail += f"{wrong:,} rows have the date {usual}, the publication day of the week ending {other}"
    else:
        detail += f"most rows have the date {usual}" if usual is not None else "the rows have no publication date"
    return none_of(wrong, detail)


def matches_finra_totals(e: Evidence) -> Finding:
    """Compares sums of our rows with FINRA's own totals by symbol and by venue, to the share and the trade.

    ATSs and other firms are compared separately. For one complete publication, both sides must have the same symbols
    and venues; for several captures, only those that both sides have are compared. Where only some rows of a venue
    kind were captured, sums below FINRA's totals are expected, and are a warning; sums above them are an error.
    Dollars are compared where every row and the total have them. FINRA rounds the dollars of each row and of the total
    separately, so the sums may differ by half a dollar for each of them.

    A total of a single firm that differs is a warning: FINRA reports what a firm trades below a threshold with the De
    Minimis group, symbol by symbol, and does not say whether the firm's total includes it. Lost or duplicated rows
    also show in the totals by symbol.
    """
    side = half_of_venue().alias("side")
    is_covered = pl.col("side").is_in(list(e.covered_kinds))
    one_publication = e.complete and e.rows_expected is not None
    shares, trades, notional = pl.col("share_volume"), pl.col("trade_count"), pl.col("notional")
    dollars = pl.when(notional.is_not_null().all()).then(notional.sum()).alias("notional")
    figures = (shares.sum(), trades.sum(), dollars, pl.len().alias("_rows"))
    compared = differing = short = firms = 0
    examples: list[str] = []
    for total_of, name in ((TotalOf.SYMBOL, "symbol"), (TotalOf.VENUE, "venue_id")):
        key = ["side", name]
        ours = e.volume.with_columns(side).group_by(key).agg(figures)
        stated = e.totals.filter(pl.col("total_of") == total_of).rename({"venue_kind": "side"})
        both = ours.filter(pl.col("side").is_in(stated["side"].unique().to_list())).join(
            stated.group_by(key).agg(figures),
            on=key,
            how="full" if one_publication else "inner",
            coalesce=True,
            suffix="_finra",
        )
        if total_of == TotalOf.VENUE:  # a part has only some of a venue's symbols
            both = both.filter(is_covered)
        above = (shares > pl.col("share_volume_finra")) | (trades > pl.col("trade_count_finra"))
        unequal = shares.ne_missing(pl.col("share_volume_finra")) | trades.ne_missing(pl.col("trade_count_finra"))
        rounding = (pl.col("_rows") + pl.col("_rows_finra")).cast(AMOUNT) * HALF_A_DOLLAR
        other_dollars = ((notional - pl.col("notional_finra")).abs() > rounding).fill_null(False)
        of_one_firm = (pl.col("side") == VenueKind.NON_ATS) & pl.lit(total_of == TotalOf.VENUE)
        differs = pl.when(is_covered).then(unequal | other_dollars).otherwise(above).fill_null(True)
        judged = both.with_columns(
            (differs & ~of_one_firm).alias("_differs"),
            ((~is_covered & unequal) | (differs & of_one_firm)).alias("_short"),
        ).sort(key)
        wrong = judged.filter("_differs")
        compared += judged.height
        differing += wrong.height
        short += judged.filter(pl.col("_short") & ~pl.col("_differs") & ~of_one_firm).height
        firms += judged.filter(pl.col("_short") & of_one_firm).height
        examples += [
            f"{row['side']} {row[name]}: ours {_figures_of(row, '')}; FINRA's {_figures_of(row, '_finra')}"
            for row in wrong.head(3).iter_rows(named=True)
        ]
    if not compared:
        detail = "FINRA's totals of this week were not captured: there is nothing to compare with"
    elif differing:
        detail = f"{differing:,} of {compared:,} totals differ from FINRA's: {'; '.join(examples[:3])}"
    elif short:
        detail = f"{short:,} of {compared:,} sums are below FINRA's totals, as expected: only a part was captured"
    elif firms:
        detail = f"{firms:,} of {compared:,} totals, all of single firms, differ from FINRA's"
    else:
        detail = f"{compared:,} totals equal FINRA's, to the share"
    return Finding(
        differing + short + firms == 0,
        detail,
        severity=Severity.ERROR if differing or not (short or firms) else Severity.WARN,
        observed=float(differing + short + firms),
        threshold=0.0,
    )


def _figures_of(row: dict[str, Any], suffix: str) -> str:
    if row[f"share_volume{suffix}"] is None:
        return "none"
    dollars = row[f"notional{suffix}"]
    stated = f", {dollars:,} dollars" if dollars is not None else ""
    return f"{row[f'share_volume{suffix}']:,} shares, {row[f'trade_count{suffix}']:,} trades{stated}"


def complete(e: Evidence) -> Finding:
    """Judges whether the publication was captured completely."""
    stated = f" of {e.rows_expected:,}" if e.rows_expected is not None else ""
    missing = " and ".join(kind for kind in (VenueKind.ATS, VenueKind.NON_ATS) if kind not in e.covered_kinds)
    whole = e.complete and (e.rows_expected is None or e.rows_received >= e.rows_expected)
    lack = f"; incomplete: {missing}" if missing else "; a capture was truncated" if not whole else ""
    in_use = e.rows_in_use
    replaced = f", {in_use:,} of them in use" if in_use is not None and in_use != e.rows_accepted else ""
    return Finding(
        whole,
        f"{e.rows_received:,} rows{stated} captured{replaced}{lack}",
        observed=float(e.rows_received),
        threshold=float(e.rows_expected) if e.rows_expected is not None else None,
    )


def none_quarantined(e: Evidence) -> Finding:
    """Judges whether a capture is quarantined: it may be what FINRA published last."""
    found = "; ".join(f"capture {number} is quarantined: {reason}" for number, reason in e.quarantined)
    remedy = ". Accept it ('otc-assets captures accept'), or capture the week again"
    return none_of(len(e.quarantined), found + remedy if found else "no capture is quarantined")


def rejection_rate(e: Evidence) -> Finding:
    """Judges the share of rows that were rejected; one bad row always passes."""
    bad = e.rows_rejected - e.rows_published_twice
    share = 100 * bad / e.rows_received if e.rows_received else 0.0
    return Finding(
        share <= REJECTED_PCT or bad <= 1,  # even in a small file, one bad row is no sign of an unknown layout
        f"{bad:,} of {e.rows_received:,} rows were rejected, and {e.rows_published_twice:,} that FINRA published "
        "twice; otc.rejected_record has the rows and the reasons",
        observed=share,
        threshold=float(REJECTED_PCT),
    )
