"""The report's tables: captions, headings with units, and cells as text. The template writes them as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from otc_assets.domain.concentration import RANKED_FROM_SHARES, RANKED_FROM_TRADES
from otc_assets.report import formats as f
from otc_assets.report import sentences
from otc_assets.report.contents import Contents, TierWeek


@dataclass(frozen=True)
class Cell:
    """A cell that is more than text.

    Attributes:
        text: what it shows.
        bar: the length of a bar beside it, in percent of the longest.
        note: a remark, below the text.
        data: attributes that name a figure, and ``value``, its exact value: what the checks read.
    """

    text: str
    bar: Decimal | None = None
    note: str = ""
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: unique on the page.
        caption: what it shows.
        columns: the headings; those of numbers begin with a space and are aligned right.
        rows: the cells, as many as columns.
        head: which cell of a row is its heading.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    head: int = 0


def headline(page: Contents) -> Table:
    """The tiers per trading day."""
    return Table(
        "headline-table",
        "Per trading day, by tier",
        ("Tier", " Shares (million)", " Against the average", " ATS share", " Trades", " Value", " Symbols", " Venues"),
        [
            (
                tier.tier,
                f.millions(tier.daily),
                f.signed_pct(tier.vs_average_pct),
                f.pct(tier.ats_share_pct),
                f.number(Decimal(tier.trades) / tier.days),
                f.dollars(tier.notional / tier.days if tier.notional is not None else None),
                f.number(tier.symbols),
                f.number(tier.venues),
            )
            for tier in page.tiers
        ],
    )


def kinds(page: Contents) -> Table:
    """ATSs and other firms, in shares of the week."""

    def cell(tier: TierWeek, figure: str, value: Decimal) -> Cell:
        return Cell(f.number(value), data={"tier": tier.tier, "figure": figure, "value": str(value)})

    return Table(
        "kinds-table",
        "Shares of the week, by tier",
        ("Tier", " ATSs", " Other firms", " All", " ATS share", " Change (points)", "Compared with the week ending"),
        [
            (
                tier.tier,
                cell(tier, "ats_volume", tier.ats),
                cell(tier, "non_ats_volume", tier.non_ats),
                cell(tier, "total_volume", tier.total),
                f.pct(tier.ats_share_pct),
                f.signed(tier.share_change),
                f.day(tier.compared_with),
            )
            for tier in page.tiers
        ],
    )


def window(tier: TierWeek) -> Table:
    """A tier's window: the figures of the charts."""
    return Table(
        f"window-{_slug(tier.tier)}",
        f"{tier.tier}, shares per trading day",
        ("Week ending", " ATSs (million)", " Other firms (million)", " ATS share"),
        [
            (f.day(day.week_ending), f.millions(day.ats), f.millions(day.non_ats), f.pct(day.ats_share_pct))
            for day in tier.history
        ],
    )


def venues(page: Contents, tier: TierWeek) -> Table:
    """The largest venues of a tier."""
    rows = page.venues[tier.tier]
    largest = max((row.share_pct for row in rows), default=Decimal(0))
    return Table(
        f"venues-{_slug(tier.tier)}",
        f"{tier.tier}: the {len(rows)} largest of {f.count(tier.venues, 'venue')}, by shares",
        (" Rank", " Places", "Venue", "Kind", " Shares per day (million)", " Share of the tier", " Change (points)"),
        [
            (
                f.number(row.rank),
                "new" if row.is_new else _places(row.moved),
                row.name,
                row.kind,
                f.millions(row.daily, 2),
                Cell(f.pct(row.share_pct, 2), bar=row.share_pct / largest * 100 if largest else None),
                f.signed(row.share_change, 2),
            )
            for row in rows
        ],
        head=2,
    )


def _places(moved: int | None) -> str:
    return f.NONE if moved is None else "=" if not moved else f.signed(Decimal(moved), 0)


def movers(page: Contents, tier: TierWeek) -> Table:
    """The symbols of a tier that are farthest from their norm."""
    return Table(
        f"movers-{_slug(tier.tier)}",
        f"{tier.tier}: the {len(page.movers[tier.tier])} symbols farthest from their norm",
        ("Symbol", "Issue", " Shares per day", " Norm", " Times the norm", " Score"),
        [
            (
                row.symbol,
                Cell(row.issue_name, note=f"split {row.split} in the window" if row.split else ""),
                f.number(row.daily),
                f.number(row.norm),
                f"{f.number(row.times, 2)}{f.NBSP}×",
                f.signed(row.score),
            )
            for row in page.movers[tier.tier]
        ],
    )


def markets(page: Contents) -> Table:
    """The concentration of the tiers."""
    return Table(
        "markets-table",
        "Concentration of shares over venues: HHI, 0 to 10,000",
        ("Market", " Venues", " HHI", " Change", "Level", " Largest three", "Largest venue"),
        [
            (
                f"{row.tier}, {row.scope}",
                f.number(row.venues),
                sentences.hhi(row.hhi_lower, row.hhi),
                f.signed(row.change, 0),
                row.level,
                f.pct(row.top_3_share_pct),
                f"{row.top_venue}, {f.pct(row.top_share_pct)}",
            )
            for row in page.markets
        ],
    )


def concentrated(page: Contents) -> Table:
    """The most concentrated symbols above the floors."""
    return Table(
        "concentrated-table",
        f"The {len(page.concentrated)} most concentrated symbols with at least {RANKED_FROM_SHARES:,} shares and "
        f"{RANKED_FROM_TRADES:,} trades",
        ("Symbol", "Tier", "Issue", " HHI", " Shares", "Largest venue"),
        [
            (
                row.symbol,
                row.tier,
                row.issue_name,
                sentences.hhi(row.hhi_lower, row.hhi),
                f.number(row.shares),
                f"{row.top_venue}, {f.pct(row.top_share_pct)}",
            )
            for row in page.concentrated
        ],
    )


def changes(page: Contents) -> Table:
    """Changes of other kinds."""
    return Table(
        "changes-table",
        "Changes since each tier's week before",
        ("Change", "Tier", "The largest"),
        [
            (
                f"{row.count:,}{f.NBSP}{sentences.CHANGES[row.kind][row.count != 1]}",
                row.tier,
                "; ".join(row.examples)
                + (f"; and {row.count - len(row.examples):,} more" if row.count > len(row.examples) else ""),
            )
            for row in page.changes
        ],
    )


def revisions(page: Contents) -> Table:
    """What FINRA rewrote of earlier weeks."""
    return Table(
        "revisions-table",
        "Rows of earlier weeks that FINRA rewrote",
        ("Week ending", "Tier", " Rows", " Shares in these rows", "Newest rewrite"),
        [
            (f.day(row.week_ending), row.tier, f.number(row.rows), f.number(row.shares), f.day(row.last_update))
            for row in page.revisions
        ],
    )


def coverage(page: Contents) -> Table:
    """What there is of each tier."""
    return Table(
        "coverage-table",
        "FINRA's publications of the week",
        (
            "Tier",
            "Status",
            "Grade",
            " Rows",
            " Rows that FINRA states",
            "FINRA's publication day",
            "FINRA's newest date",
        ),
        [
            (
                each.tier.name,
                sentences.status(each),
                each.grade or f.NONE,
                f.number(each.captured.rows if each.captured else None),
                f.number(each.captured.rows_expected if each.captured else None),
                f.day(each.published),
                f.day(each.captured.last_update if each.captured else None),
            )
            for each in page.coverage
        ],
    )


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def by_tier(page: Contents, table: str) -> Iterator[Table]:
    """A table of each tier that has rows for it."""
    make, rows = {"venues": (venues, page.venues), "movers": (movers, page.movers)}[table]
    return (make(page, tier) for tier in page.tiers if rows[tier.tier])
