"""The contents of a report: plain values, as ``selection`` chooses them and ``page`` shows them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from otc_assets.domain.enums import Change
from otc_assets.domain.weeks import Tier
from otc_assets.report.inputs import Captured


@dataclass(frozen=True)
class Day:
    """A tier's week per trading day; None for a week that is not captured."""

    week_ending: dt.date
    ats: Decimal | None
    non_ats: Decimal | None

    @property
    def total(self) -> Decimal | None:
        """Shares of both."""
        return None if self.ats is None or self.non_ats is None else self.ats + self.non_ats

    @property
    def ats_share_pct(self) -> Decimal | None:
        """The ATSs' part of the shares; None where nothing was traded."""
        return self.ats / self.total * 100 if self.ats is not None and self.total else None


@dataclass(frozen=True)
class TierWeek:
    """A captured tier's week.

    Attributes:
        tier: its name.
        total, ats, non_ats: shares of the week.
        trades: trades of the week.
        notional: value in US dollars; None if a row has none.
        symbols, venues: their numbers.
        days: the week's trading days.
        history: the window per trading day, oldest first, the week last.
        vs_average_pct: shares per trading day against the window's average; None with fewer than three captured weeks.
        compared_with: the newest captured week of the tier before it in the window.
        share_change: the change of the ATSs' share since that week, in points.
    """

    tier: str
    total: Decimal
    ats: Decimal
    non_ats: Decimal
    trades: int
    notional: Decimal | None
    symbols: int
    venues: int
    days: int
    history: tuple[Day, ...]
    vs_average_pct: Decimal | None
    compared_with: dt.date | None
    share_change: Decimal | None

    @property
    def daily(self) -> Decimal:
        """Shares per trading day."""
        return self.total / self.days

    @property
    def captured_weeks(self) -> int:
        """How many weeks of the window are captured."""
        return sum(day.total is not None for day in self.history)

    @property
    def ats_share_pct(self) -> Decimal | None:
        """The ATSs' part of the shares."""
        return self.history[-1].ats_share_pct


@dataclass(frozen=True)
class VenueRow:
    """A venue in the ranking of a tier. ``moved``: places won since the week before; None if there is no comparison."""

    rank: int
    moved: int | None
    is_new: bool
    name: str
    kind: str
    daily: Decimal
    share_pct: Decimal
    share_change: Decimal | None


@dataclass(frozen=True)
class Mover:
    """A symbol that is far from its norm. ``split``: the ratio of a split in the window; nothing is adjusted."""

    symbol: str
    issue_name: str
    daily: Decimal
    norm: Decimal
    score: Decimal
    split: str | None

    @property
    def times(self) -> Decimal:
        """The week as a multiple of the norm, which is above zero."""
        return self.daily / self.norm


@dataclass(frozen=True)
class Market:
    """The concentration of a tier over venues. ``change`` is that of the HHI since the tier's week before."""

    tier: str
    scope: str
    venues: int
    hhi_lower: Decimal | None
    hhi: Decimal
    level: str
    top_venue: str
    top_share_pct: Decimal
    top_3_share_pct: Decimal
    change: Decimal | None


@dataclass(frozen=True)
class Symbol:
    """A symbol with a high concentration."""

    symbol: str
    tier: str
    issue_name: str
    hhi_lower: Decimal
    hhi: Decimal
    shares: Decimal
    top_venue: str
    top_share_pct: Decimal


@dataclass(frozen=True)
class OtherChange:
    """The changes of a kind in a tier: their number, and the largest in words."""

    kind: Change
    tier: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Revision:
    """Rows of an earlier week that FINRA rewrote."""

    tier: str
    week_ending: dt.date
    rows: int
    shares: Decimal
    last_update: dt.date


@dataclass(frozen=True)
class Coverage:
    """What there is of a tier's publication."""

    tier: Tier
    published: dt.date
    captured: Captured | None
    grade: str | None
    gap: tuple[str, str] | None


@dataclass(frozen=True)
class Contents:
    """Everything on the page. By tier, in FINRA's order, only tiers that are captured."""

    week_ending: dt.date
    made_at: dt.datetime
    days: int
    closed: tuple[dt.date, ...]
    is_simulated: bool
    tiers: tuple[TierWeek, ...]
    venues: Mapping[str, tuple[VenueRow, ...]]
    movers: Mapping[str, tuple[Mover, ...]]
    markets: tuple[Market, ...]
    concentrated: tuple[Symbol, ...]
    changes: tuple[OtherChange, ...]
    revisions: tuple[Revision, ...]
    replaced_rows: Mapping[str, int]
    coverage: tuple[Coverage, ...]
