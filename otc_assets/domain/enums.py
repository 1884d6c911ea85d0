"""The values of columns and fields that can have only certain values.

Each enumeration is a ``StrEnum``: its members are strings, in SQL parameters, in JSON and in Polars expressions. A test
compares them with the constraints of the database. FINRA's tiers have more than a name; they are in ``weeks``.
"""

from __future__ import annotations

from enum import StrEnum


class SourceKind(StrEnum):
    """Where publications come from; ``finra.sources`` has a function that opens each."""

    SIMULATOR = "simulator"
    API = "api"
    FILES = "files"


class VenueKind(StrEnum):
    """The kind of a venue; ATS and NON_ATS are also the two halves of a publication."""

    ATS = "ATS"
    NON_ATS = "NON_ATS"
    DE_MINIMIS = "DE_MINIMIS"


class VenueScope(StrEnum):
    """The venues that a concentration is computed over; NON_ATS includes De Minimis firms."""

    ATS = "ATS"
    NON_ATS = "NON_ATS"
    ALL = "ALL"


class TotalOf(StrEnum):
    """What one of FINRA's own totals is the total of."""

    SYMBOL = "SYMBOL"
    VENUE = "VENUE"
    MARKET = "MARKET"


class Market(StrEnum):
    """FINRA's tiers of monthly data: NMS stocks are tiers 1 and 2 of the weekly data together."""

    NMS = "NMS"
    OTCE = "OTCE"


class MonthRow(StrEnum):
    """FINRA's ``summaryTypeCode`` of monthly data: what a row is, or what it is the total of."""

    SYMBOL_FIRM = "OTC_M_SMBL_FIRM"
    SYMBOL = "OTC_M_SMBL"
    FIRM = "OTC_M_FIRM"
    TOTAL = "OTC_M_VOL_STATS"


class CaptureScope(StrEnum):
    """The part of a publication that a capture is: all of it, one half of it, or some rows."""

    FULL = "FULL"
    ATS = "ATS"
    NON_ATS = "NON_ATS"
    PARTIAL = "PARTIAL"


class CaptureStatus(StrEnum):
    """What a recorded capture is used for; SUPERSEDED: another one takes precedence, EMPTY: no row was accepted."""

    EFFECTIVE = "effective"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"
    WITHDRAWN = "withdrawn"
    EMPTY = "empty"


class FileLayout(StrEnum):
    """The layout of a publication's bytes; LEGACY: files until about 2018."""

    WEBSITE = "website"
    LEGACY = "legacy"
    API = "api"
    API_JSON = "api-json"


class GapStatus(StrEnum):
    """The kind of a gap; ``gaps`` describes them."""

    PENDING = "pending"
    LATE = "late"
    MISSING_INSIDE = "missing_inside"
    MISSING_AT_END = "missing_at_end"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"


class RowChange(StrEnum):
    """What a revision did to the row that it replaced."""

    CHANGED = "changed"
    REMOVED = "removed"


class Severity(StrEnum):
    """How serious a failed check is."""

    ERROR = "error"
    WARN = "warn"


class Grade(StrEnum):
    """The quality of a week, from best to worst; F blocks downstream assets."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    F = "F"


class Trend(StrEnum):
    """A week's volume per trading day against its six-week average."""

    UP = "up"
    DOWN = "down"
    STABLE = "stable"


class TrendReason(StrEnum):
    """Why there is no trend, in the order in which reasons are looked for; ``rolling`` describes them."""

    TOO_FEW_WEEKS = "too_few_weeks"
    MOVED_TIER = "moved_tier"
    TIERS_PENDING = "tiers_pending"
    ANOTHER_ISSUE = "another_issue"
    FIRST_WEEK_IN_WINDOW = "first_week_in_window"


class IssueChange(StrEnum):
    """How a symbol's issue name differs from the one before; ANOTHER_ISSUE: no word of it is the same."""

    RENAMED = "renamed"
    ANOTHER_ISSUE = "another_issue"


class Decision(StrEnum):
    """What the reviewed file says of a succession of venues; PROPOSED: nothing yet."""

    PROPOSED = "proposed"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class Change(StrEnum):
    """A kind of change between two weeks; ``changes`` finds them."""

    SYMBOL_ENTERED = "symbol_entered"
    SYMBOL_EXITED = "symbol_exited"
    SYMBOL_MOVED_TIER = "symbol_moved_tier"
    SYMBOL_RENAMED = "symbol_renamed"
    SYMBOL_OTHER_ISSUE = "symbol_other_issue"
    SYMBOL_NEW_TICKER = "symbol_new_ticker"
    SYMBOL_SPLIT = "symbol_split"
    SYMBOL_VOLUME = "symbol_volume"
    VENUE_ENTERED = "venue_entered"
    VENUE_EXITED = "venue_exited"
    VENUE_RENAMED = "venue_renamed"
    VENUE_SUCCESSION = "venue_succession"
    VENUE_PROPOSAL = "venue_proposal"
    VENUE_RANK = "venue_rank"
    VENUE_SHARE = "venue_share"
    REVISED = "revised"


class ConcentrationLevel(StrEnum):
    """The level of an HHI."""

    COMPETITIVE = "competitive"
    MODERATE = "moderate"
    CONCENTRATED = "concentrated"


class FirmRole(StrEnum):
    """What a firm is in the market, or the operator of an ATS; ``domain.firms`` has the list.

    WHOLESALER: brokers route orders of retail customers to it, and it belongs to no bank. BANK_DESK: the broker-dealer
    of a bank. BROKER_DEALER: another named firm. EXCHANGE_AFFILIATED: owned by the owner of an exchange. UNATTRIBUTED:
    not in the list.
    """

    WHOLESALER = "wholesaler"
    BANK_DESK = "bank_desk"
    BROKER_DEALER = "broker_dealer"
    EXCHANGE_AFFILIATED = "exchange_affiliated"
    UNATTRIBUTED = "unattributed"


class Retention(StrEnum):
    """A class of tables whose weeks are kept equally long."""

    VENUE_VOLUME = "venue_volume"
    SUMMARIES = "summaries"


class AlertKind(StrEnum):
    """What failed; RECOVERY: a check that passed again; REPORT: not a failure, a new weekly report."""

    CHECK = "check"
    RUN = "run"
    RECOVERY = "recovery"
    REPORT = "report"


class AlertState(StrEnum):
    """How far the delivery of an alert is; DISCARDED: not sent, as OTC_ALERT_URL was not set."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DISCARDED = "discarded"
