"""The report's sentences, generated from its figures; each is true also where a figure is missing or zero."""

from __future__ import annotations

from decimal import Decimal

from otc_assets.domain.changes import NORM_WEEKS, report_period
from otc_assets.domain.enums import Change, GapStatus
from otc_assets.domain.rolling import TREND_WEEKS
from otc_assets.domain.weeks import WINDOW_WEEKS
from otc_assets.report import formats as f
from otc_assets.report.contents import Contents, Coverage, TierWeek

#: What a kind of change is called, for one and for several.
CHANGES = {
    Change.SYMBOL_ENTERED: ("symbol entered", "symbols entered"),
    Change.SYMBOL_EXITED: ("symbol did not trade any more", "symbols did not trade any more"),
    Change.SYMBOL_MOVED_TIER: ("symbol moved to this tier", "symbols moved to this tier"),
    Change.SYMBOL_RENAMED: ("symbol has another issue name", "symbols have other issue names"),
    Change.SYMBOL_OTHER_ISSUE: ("ticker is of another issue", "tickers are of other issues"),
    Change.SYMBOL_NEW_TICKER: ("symbol has another ticker", "symbols have other tickers"),
    Change.SYMBOL_SPLIT: ("price jump near a split ratio", "price jumps near a split ratio"),
    Change.VENUE_ENTERED: ("venue entered", "venues entered"),
    Change.VENUE_EXITED: ("venue reported nothing any more", "venues reported nothing any more"),
    Change.VENUE_RENAMED: ("venue has another name", "venues have other names"),
    Change.VENUE_SUCCESSION: ("venue continues another", "venues continue others"),
    Change.VENUE_PROPOSAL: ("possible succession of venues", "possible successions of venues"),
}

_GAPS = {
    GapStatus.PENDING: "Not published yet",
    GapStatus.LATE: "Late",
    GapStatus.MISSING_INSIDE: "Missing",
    GapStatus.MISSING_AT_END: "Missing",
    GapStatus.INCOMPLETE: "Incomplete",
    GapStatus.EMPTY: "Empty",
}


def summary(page: Contents) -> list[str]:
    """The page in a few sentences, for its beginning and for previews."""
    if not page.tiers:
        return ["No figures are available for this week.", *missing(page)]
    return [*(_tier(tier) for tier in page.tiers), *missing(page)]


def _tier(tier: TierWeek) -> str:
    if not tier.total:
        return f"{tier.tier}: no shares traded off exchange."
    text = f"{tier.tier}: {f.words(tier.daily)} shares per trading day off exchange"
    text += f", {against_average(tier)}." if tier.vs_average_pct is not None else "."
    if tier.ats_share_pct is not None:
        text += f" ATSs had {f.pct(tier.ats_share_pct)} of the shares{_share_change(tier)}."
    return text


def against_average(tier: TierWeek) -> str:
    """The week against its window, in words; the tier has an average."""
    assert tier.vs_average_pct is not None, f"{tier.tier} has no average"
    is_whole = tier.captured_weeks == WINDOW_WEEKS
    average = "the six-week average" if is_whole else f"the average of {tier.captured_weeks} captured weeks"
    change = f.rounded(tier.vs_average_pct, 1)
    if not change:
        return f"the same as {average}"
    return f"{f.pct(abs(change))} {'above' if change > 0 else 'below'} {average}"


def _share_change(tier: TierWeek) -> str:
    if tier.share_change is None or tier.compared_with is None:
        return ""
    change = f.rounded(tier.share_change, 1)
    since = f"in the week ending {f.day(tier.compared_with)}"
    if not change:
        return f", as {since}"
    unit = "point" if abs(change) == 1 else "points"
    return f", {f.number(abs(change), 1)}{f.NBSP}{unit} {'more' if change > 0 else 'less'} than {since}"


def no_average(tier: TierWeek) -> str:
    """Why the tier's week has no comparison with its window."""
    if tier.captured_weeks < TREND_WEEKS:
        return f"{tier.tier}: {tier.captured_weeks} of {WINDOW_WEEKS} weeks captured, too few for an average."
    return f"{tier.tier}: nothing traded in the window."


def missing(page: Contents) -> list[str]:
    """One sentence for each reason why tiers are not on the page."""
    absent = [each for each in page.coverage if each.captured is None or not each.captured.rows]
    pending = [each for each in absent if each.gap and each.gap[0] == GapStatus.PENDING]
    texts = []
    for day in sorted({each.published for each in pending}):
        names = f.listed([each.tier.name for each in pending if each.published == day])
        texts.append(f"{names}: not published yet. FINRA publishes this week on {f.long_day(day)}.")
    if other := f.listed([each.tier.name for each in absent if each not in pending]):
        texts.append(f"{other}: no rows are captured, although this week should be published.")
    return texts


def trading_week(page: Contents) -> str:
    """The trading days of the week."""
    if not page.days:
        return "The NYSE did not trade in this week."
    text = f.count(page.days, "trading day")
    if not page.closed:
        return f"{text}."
    return f"{text}: the NYSE was closed on {f.listed([f.long_day(day) for day in page.closed])}."


def status(coverage: Coverage) -> str:
    """The state of a tier's publication, in a word or two."""
    if coverage.gap is not None:
        return _GAPS[GapStatus(coverage.gap[0])]
    if coverage.captured is None:
        return "Not captured"
    if not coverage.captured.rows:
        return "Empty"
    return "Complete" if coverage.captured.complete else "Incomplete"


def revisions(page: Contents) -> str:
    """What FINRA revised of earlier weeks, in a sentence."""
    after, until = report_period(page.week_ending)
    period = f"after {f.day(after)} and up to {f.day(until)}"
    if not page.revisions:
        return f"No captured row of an earlier week was rewritten by FINRA {period}."
    rows = sum(each.rows for each in page.revisions)
    return f"FINRA rewrote {f.count(rows, 'row')} of earlier weeks {period}."


def own_revisions(page: Contents) -> str:
    """Whether this week has been revised since it was first loaded."""
    replaced = {tier: rows for tier, rows in page.replaced_rows.items() if rows}
    if not replaced:
        return "No row of this week has been replaced since it was first loaded."
    parts = f.listed([f"{f.count(rows, 'row')} of {tier}" for tier, rows in replaced.items()])
    are = "has" if sum(replaced.values()) == 1 else "have"
    return f"{parts} of this week {are} been replaced since they were first loaded; the page has the newest figures."


def no_movers(tier: TierWeek) -> str:
    """Why a tier has no movers."""
    if tier.captured_weeks <= NORM_WEEKS:
        return f"{tier.tier}: no norm, because too few earlier weeks are captured."
    return f"{tier.tier}: no symbol above the floors has a norm."


def chart_of_volume(tier: TierWeek) -> str:
    """The text alternative of the chart of a tier's volume."""
    parts = []
    for day in tier.history:
        label = f.short_day(day.week_ending)
        if day.ats is None or day.non_ats is None:
            parts.append(f"{label} not captured")
        else:
            parts.append(f"{label} ATSs {f.millions(day.ats)}, others {f.millions(day.non_ats)}")
    return f"{tier.tier}, million shares per trading day by week: {'; '.join(parts)}."


def chart_of_share(tier: TierWeek) -> str:
    """The text alternative of the chart of the ATSs' share."""
    parts = [
        f"{f.short_day(day.week_ending)} "
        + (f.pct(day.ats_share_pct) if day.ats_share_pct is not None else "not known")
        for day in tier.history
    ]
    return f"{tier.tier}, the ATSs' share of the shares by week: {'; '.join(parts)}."


def hhi(lower: Decimal | None, upper: Decimal) -> str:
    """An index, as an interval where its ends differ."""
    low, high = f.number(lower) if lower is not None else None, f.number(upper)
    return high if low in (None, high) else f"{low}{f.NONE}{high}"
