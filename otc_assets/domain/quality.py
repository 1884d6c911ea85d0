"""The judgements on which asset checks are based: whether rows of a week can be trusted.

Each function judges the evidence of one (week, tier) and returns one finding. Which check each of them belongs to, how
serious it is, and how findings are combined into a grade is in ``checks``; reading the rows is in ``warehouse.read``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl

from otc_assets.domain.enums import Grade, Severity, TotalOf, VenueKind
from otc_assets.domain.normalize import MOST_SHARES, MOST_TRADES
from otc_assets.domain.schema import AMOUNT, half_of_venue
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import Tier, publication_date, trading_days, week_published_on

#: A venue that leaves is news; a fifth of them at once is a file with a hole.
VENUE_COUNT_DROP_PCT = 20
#: Of the volume a trading day against the week before: holidays shorten weeks and must not alarm. A whole tier
#: that trades half more or less is news, or a file with a hole: someone should look.
VOLUME_SWING_PCT = 50
#: Dollars of rows and totals were whole ones until 2025-03, each rounded by itself: 130 of 169 weeks of AAPL
#: differ from their total by up to a few dollars.
HALF_A_DOLLAR = Decimal("0.5")
#: Of a venue's share of its tier, in points: a tenth of a market does not change hands in a week unnoticed.
SHARE_SHIFT_POINTS = 10
#: FINRA's files have one bad row in five thousand; one in a hundred is another layout than we think.
REJECTED_PCT = 1


@dataclass(frozen=True)
class Finding:
    """The result of one check on one (week, tier).

    Attributes:
        passed: whether the check passed.
        detail: the reason, in words.
        observed, threshold: the value that was compared, and its limit, where there is one.
        severity: ERROR or WARN where it depends on the evidence; None for the check's own.
    """

    passed: bool
    detail: str
    observed: float | None = None
    threshold: float | None = None
    severity: Severity | None = None


@dataclass(frozen=True)
class Evidence:
    """All that a (week, tier) of venue volume is judged by.

    Attributes:
        volume: VENUE_VOLUME of the week and tier.
        totals: PUBLISHED_TOTAL of the same.
        rows_received, rows_accepted, rows_rejected: of the effective captures.
        rows_published_twice: of the rejected ones, those whose twin was accepted.
        rows_expected: how many rows FINRA counts, where one full publication is effective; else None.
        rows_in_use: how many rows of the effective captures are in the tables; others were replaced by newer ones.
        quarantined: the captures that are quarantined, each with the reason.
        whole_kinds: the kinds of venues of which it is the whole.
        complete: whether the effective captures are a complete publication.
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
    rows_in_use: int | None = None
    quarantined: tuple[tuple[int, str], ...] = ()


# --- venue volume, finding by finding ------------------------------------------------------------------


def books_balance(e: Evidence) -> Finding:
    """Judges whether every received row is accepted or rejected, and every row in use is in the tables."""
    difference = e.rows_received - e.rows_accepted - e.rows_rejected
    stored = e.volume.height + e.totals.height
    # Of a single publication every accepted row is in the tables; of several captures, those in use are.
    expected = e.rows_accepted if e.complete and e.rows_expected is not None else e.rows_in_use
    lost = expected - stored if expected is not None else 0
    replaced = f" ({e.rows_accepted - stored:,} were replaced by newer ones)" if e.rows_accepted > stored else ""
    return Finding(
        difference == 0 and lost == 0,
        f"{e.rows_received:,} rows received = {e.rows_accepted:,} accepted + {e.rows_rejected:,} rejected; "
        f"{e.volume.height:,} rows of venue volume and {e.totals.height:,} totals are in the tables{replaced}",
        observed=float(abs(difference) + abs(lost)),
        threshold=0.0,
    )


def unique_keys(e: Evidence) -> Finding:
    """Judges whether each row has a key of its own."""
    twice = e.volume.height - e.volume.select(TABLES["venue_volume"].key).n_unique()
    return Finding(
        twice == 0,
        f"{twice:,} rows stand twice under one key" if twice else "every row has a key of its own",
        observed=float(twice),
        threshold=0.0,
    )


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
    return Finding(
        bad.height == 0,
        f"{bad.height:,} rows have negative or absurd values{example}",
        observed=float(bad.height),
        threshold=0.0,
    )


def known_tier(e: Evidence) -> Finding:
    """Judges whether all rows are of the tier."""
    others = e.volume.filter(pl.col("tier") != e.tier.name)["tier"].unique().to_list()
    return Finding(
        not others,
        f"rows of other tiers: {', '.join(map(str, others))}" if others else f"all rows are of {e.tier.name}",
        observed=float(len(others)),
        threshold=0.0,
    )


def week_in_calendar(e: Evidence) -> Finding:
    """No row may have come out before the week did, and most not on the day of a later week.

    Single rows may well come later: FINRA adds and rewrites them for months.
    """
    due = publication_date(e.week_ending, e.tier)
    published = e.volume.select(pl.coalesce("initial_published_date", "last_update_date")).to_series().drop_nulls()
    early = published.filter(published < due).sort()
    usual: dt.date | None = published.mode().sort().first() if published.len() else None  # type: ignore[assignment]
    other = week_published_on(usual, e.tier) if usual is not None and usual > due else None
    wrong = early.len()
    detail = f"FINRA publishes this week on {due}; "
    if early.len():
        detail += f"{early.len():,} rows say they were published before, on {early[0]}: they are of another week"
    elif other is not None:
        wrong = published.filter(published == usual).len()
        detail += f"{wrong:,} rows say {usual}, when the week ending {other} came out: they may be of that week"
    else:
        detail += f"most rows say {usual}" if usual is not None else "the rows don't say when they were"
    return Finding(not wrong, detail, observed=float(wrong), threshold=0.0)


def matches_finra_totals(e: Evidence) -> Finding:
    """Sums of our rows against FINRA's own totals, to the share and the trade, ATSs and firms apart.

    By symbol and by venue. Of one whole publication both sides must have the same symbols and venues; of
    several captures, those are compared that both have. Where only some rows of a kind were captured, sums
    that fall short are what is to be expected, and a warning; sums above FINRA's are an error there too.
    Dollars are compared where every row and the total carry them. FINRA rounds the dollars of each row and
    of the total by themselves, so they may differ by half a dollar for each of them, and do.

    Totals of single firms that differ are a warning: FINRA states what a firm trades below its threshold with
    the De Minimis group, symbol by symbol, and does not say whether a firm's total has it. Rows that are lost
    or doubled are seen in the totals by symbol.
    """
    side = half_of_venue().alias("side")
    is_whole = pl.col("side").is_in(list(e.whole_kinds))
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
        if total_of == TotalOf.VENUE:  # a part has some of a venue's symbols only
            both = both.filter(is_whole)
        above = (shares > pl.col("share_volume_finra")) | (trades > pl.col("trade_count_finra"))
        unequal = shares.ne_missing(pl.col("share_volume_finra")) | trades.ne_missing(pl.col("trade_count_finra"))
        rounding = (pl.col("_rows") + pl.col("_rows_finra")).cast(AMOUNT) * HALF_A_DOLLAR
        other_dollars = ((notional - pl.col("notional_finra")).abs() > rounding).fill_null(False)
        of_one_firm = (pl.col("side") == VenueKind.NON_ATS) & pl.lit(total_of == TotalOf.VENUE)
        differs = pl.when(is_whole).then(unequal | other_dollars).otherwise(above).fill_null(True)
        judged = both.with_columns(
            (differs & ~of_one_firm).alias("_differs"),
            ((~is_whole & unequal) | (differs & of_one_firm)).alias("_short"),
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
        detail = f"{short:,} of {compared:,} sums are below FINRA's totals, as they may be: only a part was captured"
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


def _figures_of(row: dict[str, Any], whose: str) -> str:
    if row[f"share_volume{whose}"] is None:
        return "none"
    dollars = row[f"notional{whose}"]
    stated = f", {dollars:,} dollars" if dollars is not None else ""
    return f"{row[f'share_volume{whose}']:,} shares, {row[f'trade_count{whose}']:,} trades{stated}"


def complete(e: Evidence) -> Finding:
    """Judges whether the publication is there in full."""
    stated = f" of {e.rows_expected:,}" if e.rows_expected is not None else ""
    missing = " and ".join(kind for kind in (VenueKind.ATS, VenueKind.NON_ATS) if kind not in e.whole_kinds)
    whole = e.complete and (e.rows_expected is None or e.rows_received >= e.rows_expected)
    lack = f"; not whole: {missing}" if missing else "; a capture was cut off" if not whole else ""
    in_use = e.rows_in_use
    replaced = f", {in_use:,} of them in use" if in_use is not None and in_use != e.rows_accepted else ""
    return Finding(
        whole,
        f"{e.rows_received:,} rows{stated} captured{replaced}{lack}",
        observed=float(e.rows_received),
        threshold=float(e.rows_expected) if e.rows_expected is not None else None,
    )


def none_quarantined(e: Evidence) -> Finding:
    """No capture waits for a decision: one that does may be what FINRA published last."""
    found = "; ".join(f"capture {number} is quarantined: {reason}" for number, reason in e.quarantined)
    remedy = ". Accept it ('otc-assets captures accept'), or capture the week again"
    return Finding(
        not e.quarantined,
        found + remedy if found else "no capture is quarantined",
        observed=float(len(e.quarantined)),
        threshold=0.0,
    )


def few_rejected(e: Evidence) -> Finding:
    """Judges the share of rows that were rejected; one bad row always passes."""
    bad = e.rows_rejected - e.rows_published_twice
    share = 100 * bad / e.rows_received if e.rows_received else 0.0
    return Finding(
        share <= REJECTED_PCT or bad <= 1,  # one bad row says nothing of the others, in however small a file
        f"{bad:,} of {e.rows_received:,} rows were rejected, and {e.rows_published_twice:,} that FINRA published "
        "twice; otc.rejected_record has them and why",
        observed=share,
        threshold=float(REJECTED_PCT),
    )


_NO_EARLIER = "there is no earlier week to compare with"


def _comparable(e: Evidence) -> tuple[pl.DataFrame, pl.DataFrame] | str:
    """The rows of the week and of the one before that can be compared; or why there are none.

    Of kinds of venues that are whole in the week and that the week before has too: a week of which only the
    ATSs came is compared with the ATSs of the week before.
    """
    if e.previous is None or not e.previous.height:
        return _NO_EARLIER
    kinds = e.whole_kinds & set(e.previous["venue_kind"].unique())
    if not kinds:
        return f"only a part of the week was captured: not compared with the week ending {_week_of(e.previous)}"
    in_kinds = pl.col("venue_kind").is_in(list(kinds))
    return e.volume.filter(in_kinds), e.previous.filter(in_kinds)


def _week_of(rows: pl.DataFrame) -> dt.date:
    week: dt.date = rows["week_ending"][0]
    return week


#: So many venues are named in a finding.
_NAMED = 5
_BY_NAME = pl.col("venue_id").str.starts_with("name:")


def venue_identity(e: Evidence) -> Finding:
    """No venue may lose the MPID or CRD number that it is known by, and no ATS become a firm.

    A publication whose MPID column is empty, or renamed, parses well: its ATSs are then identified by name, or
    taken for firms, and every figure of a venue over several weeks breaks. Compared are venues of the same name in
    the week before. Download files carry no CRD numbers: a firm that is identified by name there has lost nothing.
    Without a week before, ATSs none of which has an MPID fail.
    """
    identity = ("venue_kind", "venue_id", "venue_name")
    # Records of the API say when they were first published; rows of download files don't.
    has_numbers = pl.col("initial_published_date").is_not_null().any().over("venue_kind")
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
        return Finding(True, f"every venue known from the week ending {week} kept its identity")
    named = ", ".join(f"{name} ({known_as})" for name, known_as in changed.head(_NAMED).rows())
    more = f" and {changed.height - _NAMED} more" if changed.height > _NAMED else ""
    return Finding(
        False,
        f"{changed.height} venues of the week ending {week} have lost their MPID or CRD number, or are no longer ATSs: "
        f"{named}{more}. Is a column of the publication empty?",
        observed=float(changed.height),
        threshold=0.0,
    )


def venue_count_drop(e: Evidence) -> Finding:
    """Judges the number of venues against the week before."""
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
    """Judges the volume per trading day against the week before."""
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
        f"{now / days:,.0f} shares a trading day ({days} days), {then / then_days:,.0f} in the week ending "
        f"{then_week} ({then_days} days): {swing:+.1f} %",
        observed=float(swing),
        threshold=limit,
    )


# --- tables computed from venue volume -------------------------------------------------------------------


def agrees_with_aggregate(row: Mapping[str, Any]) -> Finding:
    """A tier's summaries, the database's aggregate and its sums over venue volume are the same.

    Args:
        row: ``symbols``, and of how many of them the aggregate and the sums over venue volume differ:
            ``aggregate_differs``, ``volume_differs``; the latter is None where venue volume was dropped.
    """
    of_aggregate, of_volume = row["aggregate_differs"], row["volume_differs"]
    differ = of_aggregate + (of_volume or 0)
    volume = "; venue_volume is dropped" if of_volume is None else f", {of_volume:,} other in venue_volume"
    detail = f"{row['symbols']:,} symbols, {of_aggregate:,} of them other in weekly_summary_agg{volume}"
    return Finding(not differ, detail, observed=float(differ), threshold=0.0)


@dataclass(frozen=True)
class Shares:
    """VENUE_SHARE of a (week, tier), and of the tier's newest captured week before, or None."""

    now: pl.DataFrame
    previous: pl.DataFrame | None


def shares_add_up(e: Shares) -> Finding:
    """The venues' shares of a tier add up to 100 %; where nothing was traded there are none."""
    total = Decimal(e.now["market_share_pct"].sum() or 0)
    # Each share is rounded to six places: half a millionth off at most.
    tolerance = Decimal("0.0000005") * e.now.height
    traded = bool(e.now["total_volume"].sum())
    return Finding(
        not traded or abs(total - 100) <= tolerance,
        f"the shares of {e.now.height} venues add up to {total} %",
        observed=float(total),
        threshold=100.0,
    )


def venue_share_shift(e: Shares) -> Finding:
    """No venue's share moved by much since the week before; a venue that is gone or new moved by all of its share."""
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


def hhi_within_bounds(rows: pl.DataFrame) -> Finding:
    """The HHI of rows of SYMBOL_CONCENTRATION or MARKET_CONCENTRATION lies within its bounds.

    By n venues it is at least 10,000 / n and at most 10,000, and at least the square of the largest share.
    """
    slack = 2e-4  # figures are rounded to six places, and the square of a share of 100 moves 200 times as fast
    hhi, venues = pl.col("hhi").cast(pl.Float64), pl.col("venue_count")
    top = pl.col("top_venue_share_pct").cast(pl.Float64)
    out = rows.filter(
        (hhi > 10_000)
        | (hhi < 10_000 / venues - slack)
        | (hhi < top**2 - slack)
        | (hhi.is_null() & (pl.col("total_volume") > 0))
    )
    example = f"; the first: {out.row(0)}" if out.height else ""
    return Finding(
        not out.height,
        f"{out.height:,} of {rows.height:,} indices lie outside their bounds{example}",
        observed=float(out.height),
        threshold=0.0,
    )


# --- weeks as a whole --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graded:
    """A week's grade, the worst of its tiers'; ``kept``: whether its venue volume is kept."""

    grade: str | None
    kept: bool = True


def grade_is_not_f(e: Graded) -> Finding:
    """The week is not graded F. A week that retention has dropped keeps the grade that it had."""
    if not e.kept:
        detail = f"{e.grade or 'no grade'}; retention has dropped the week's venue volume"
    else:
        detail = e.grade or "nothing is captured of this week yet"
    return Finding(e.grade != Grade.F, detail)


def no_gap(row: Mapping[str, Any]) -> Finding:
    """The report has no gap: each row of GAP fails the check."""
    return Finding(False, f"{row['status']}: {row['detail']}")


@dataclass(frozen=True)
class Newest:
    """A tier's newest captured week, the newest that is due by the calendar, and the first week wanted."""

    week: dt.date | None
    due: dt.date
    first_wanted: dt.date


def newest_week(e: Newest) -> Finding:
    """The newest captured week is the newest that is due, unless that is before the first week wanted."""
    return Finding(e.week == e.due or e.due < e.first_wanted, f"newest {e.week or 'none'}, due {e.due}")
