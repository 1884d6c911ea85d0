"""FINRA's codes, and the columns of every frame and table, with notes and units.

There is one Polars schema per table of the warehouse, with the names and order of its columns in ``otc``, and one per
frame between stages. Keys, layouts and other facts about tables are in ``tables``; SQL types are in ``migrations``.

Shares and money are decimals, exact to six places: FINRA publishes fractional shares on non-ATS rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from otc_assets.domain.enums import VenueKind

#: Shares, money, averages: exact to six places.
AMOUNT = pl.Decimal(38, 6)
#: Percentages, HHI, numbers of effective venues: six places, rounded half up.
RATIO = pl.Decimal(18, 6)

#: `venue_id` of the group of small firms that FINRA publishes as one row per symbol, and FINRA's name for it.
DE_MINIMIS_VENUE_ID = "DE_MINIMIS"
DE_MINIMIS_NAME = "De Minimis Firms"

#: FINRA's `summaryTypeCode`s, by kind of rows. A sum over all codes counts everything four times.
FIRM_ROW_CODES = {"ATS_W_SMBL_FIRM": VenueKind.ATS, "OTC_W_SMBL_FIRM": VenueKind.NON_ATS}
SYMBOL_TOTAL_CODES = {"ATS_W_SMBL": VenueKind.ATS, "OTC_W_SMBL": VenueKind.NON_ATS}
FIRM_TOTAL_CODES = {"ATS_W_FIRM": VenueKind.ATS, "OTC_W_FIRM": VenueKind.NON_ATS}
MARKET_TOTAL_CODES = {"ATS_W_VOL_STATS": VenueKind.ATS, "OTC_W_VOL_STATS": VenueKind.NON_ATS}
SUMMARY_CODES = frozenset({**FIRM_ROW_CODES, **SYMBOL_TOTAL_CODES, **FIRM_TOTAL_CODES, **MARKET_TOTAL_CODES})

#: The week in the calendar: the days on which the NYSE traded, and the day on which FINRA publishes the tier.
WEEK_CALENDAR = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "week_start": pl.Date,
        "trading_days": pl.Int64,
        "publication_date": pl.Date,
    }
)

#: A row as FINRA publishes it, typed by ``parsing`` from any layout. Columns that a layout does not have are null.
#: `line` is the line of the file, from 1; in JSON, the number of the record.
RECORD = pl.Schema(
    {
        "line": pl.Int64,
        "week_start": pl.Date,  # weekStartDate, a Monday
        "tier_id": pl.String,  # tierIdentifier: T1, T2, OTCE, and FINRA's undocumented NMS, NA
        "tier_name": pl.String,  # tierDescription
        "symbol": pl.String,  # issueSymbolIdentifier, case kept
        "issue_name": pl.String,
        "product_type": pl.String,  # productTypeCode
        "summary_type": pl.String,  # summaryTypeCode
        "mpid": pl.String,
        "firm_crd": pl.String,  # firmCRDNumber
        "participant_name": pl.String,  # marketParticipantName
        "shares": AMOUNT,
        "trades": pl.Int64,
        "notional": AMOUNT,
        "last_update_date": pl.Date,
        "initial_published_date": pl.Date,
        "last_reported_date": pl.Date,
    }
)

#: A row as FINRA sent it.
RAW_RECORD = pl.Schema({"week_ending": pl.Date, "publication_id": pl.Int64, "line": pl.Int64, "record": pl.String})

#: A row that was not accepted, verbatim, with the reason.
REJECTED = pl.Schema({"line": pl.Int64, "record": pl.String, "reason": pl.String})

VENUE_VOLUME = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        "issue_name": pl.String,
        "product_type": pl.String,
        "venue_kind": pl.String,
        "venue_id": pl.String,
        "mpid": pl.String,
        "firm_crd": pl.String,
        "venue_name": pl.String,
        "share_volume": AMOUNT,
        "trade_count": pl.Int64,
        "notional": AMOUNT,
        "avg_trade_size": AMOUNT,
        "last_update_date": pl.Date,
        "initial_published_date": pl.Date,
    }
)

PUBLISHED_TOTAL = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "total_of": pl.String,
        "venue_kind": pl.String,
        "symbol": pl.String,
        "issue_name": pl.String,
        "product_type": pl.String,
        "venue_id": pl.String,
        "share_volume": AMOUNT,
        "trade_count": pl.Int64,
        "notional": AMOUNT,
        "last_update_date": pl.Date,
    }
)
SYMBOL_SUMMARY = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        "issue_name": pl.String,
        "issue_count": pl.Int64,
        "total_volume": AMOUNT,
        "ats_volume": AMOUNT,
        "non_ats_volume": AMOUNT,
        "of_which_de_minimis_volume": AMOUNT,
        "total_trades": pl.Int64,
        "total_notional": AMOUNT,
        "venue_count": pl.Int64,
        "avg_trade_size": AMOUNT,
        "top_venue": pl.String,
        "top_venue_share_pct": RATIO,
    }
)

#: Per tier, because the tiers of a week are published two weeks apart: shares over the published tiers would not
#: compare from week to week.
VENUE_SHARE = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "venue_id": pl.String,
        "venue_kind": pl.String,
        "venue_name": pl.String,
        "total_volume": AMOUNT,
        "total_trades": pl.Int64,
        "total_notional": AMOUNT,
        "symbol_count": pl.Int64,
        "avg_trade_size": AMOUNT,
        "market_share_pct": RATIO,
        "rank": pl.Int64,
        "kind_share_pct": RATIO,
        "kind_rank": pl.Int64,
    }
)

_ROLLING = {
    "trading_days": pl.Int64,
    "window_trading_days": pl.Int64,
    "current_volume": AMOUNT,
    "current_daily_volume": AMOUNT,
    "current_trade_size": AMOUNT,
    "current_notional": AMOUNT,
    "avg_6w_volume": AMOUNT,
    "avg_6w_daily_volume": AMOUNT,
    "avg_6w_trades": AMOUNT,
    "avg_6w_daily_trades": AMOUNT,
    "avg_6w_trade_size": AMOUNT,
    "avg_6w_daily_notional": AMOUNT,
    "volume_vs_avg_pct": RATIO,
    "weekly_volume_vs_avg_pct": RATIO,
    "trade_size_vs_avg_pct": RATIO,
    "notional_vs_avg_pct": RATIO,
    "trend": pl.String,
    "notional_trend": pl.String,
    "trend_reason": pl.String,
    "weeks_in_window": pl.Int64,
    "weeks_traded": pl.Int64,
    "weeks_without_trades": pl.Int64,
    "earliest_week": pl.Date,
}
SYMBOL_ROLLING = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        **_ROLLING,
        "avg_6w_venue_count": AMOUNT,
        "weeks_in_other_tier": pl.Int64,
        "other_tier": pl.String,
        "split_week": pl.Date,
        "split_ratio": pl.String,
    }
)
VENUE_ROLLING = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "venue_id": pl.String,
        "venue_kind": pl.String,
        "identity_id": pl.String,
        "predecessors": pl.String,
        **_ROLLING,
        "avg_6w_symbol_count": AMOUNT,
        "avg_6w_share_pct": RATIO,
    }
)

#: What is known of a symbol in a week, and what has changed since it last traded.
SYMBOL = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        "issue_name": pl.String,
        "issue_count": pl.Int64,
        "product_type": pl.String,
        "is_new": pl.Boolean,
        "previous_week": pl.Date,
        "previous_tier": pl.String,
        "previous_issue_name": pl.String,
        "moved_from_tier": pl.String,
        "issue_change": pl.String,
        "previous_symbol": pl.String,
    }
)
#: What is known of a venue in a week.
VENUE = pl.Schema(
    {
        "week_ending": pl.Date,
        "venue_id": pl.String,
        "identity_id": pl.String,
        "venue_kind": pl.String,
        "mpid": pl.String,
        "firm_crd": pl.String,
        "venue_name": pl.String,
        "tiers": pl.String,
        "is_new": pl.Boolean,
        "previous_week": pl.Date,
        "previous_venue_id": pl.String,
        "previous_venue_name": pl.String,
    }
)
#: A venue that ended as another began, with the evidence that they are one.
VENUE_SUCCESSION = pl.Schema(
    {
        "week_ending": pl.Date,
        "predecessor": pl.String,
        "successor": pl.String,
        "venue_kind": pl.String,
        "predecessor_name": pl.String,
        "successor_name": pl.String,
        "predecessor_last_week": pl.Date,
        "successor_first_week": pl.Date,
        "predecessor_symbols": pl.Int64,
        "successor_symbols": pl.Int64,
        "symbols_in_common": pl.Int64,
        "symbols_in_common_pct": RATIO,
        "volume_in_common_pct": RATIO,
        "volume_ratio_pct": RATIO,
        "decision": pl.String,
    }
)

_CONCENTRATION = {
    "total_volume": AMOUNT,
    "total_trades": pl.Int64,
    "venue_count": pl.Int64,
    "hhi_lower": RATIO,
    "hhi": RATIO,
    "concentration_level_lower": pl.String,
    "concentration_level": pl.String,
    "top_venue": pl.String,
    "top_venue_share_pct": RATIO,
    "top_3_share_pct": RATIO,
    "effective_venues": RATIO,
    "effective_venues_upper": RATIO,
}
SYMBOL_CONCENTRATION = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        "venue_scope": pl.String,
        **_CONCENTRATION,
    }
)
MARKET_CONCENTRATION = pl.Schema(
    {"week_ending": pl.Date, "tier": pl.String, "venue_scope": pl.String, **_CONCENTRATION}
)

#: One finding on a (week, tier).
FINDING = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "check_name": pl.String,
        "passed": pl.Boolean,
        "severity": pl.String,  # 'error' or 'warn'
        "observed": pl.Float64,
        "threshold": pl.Float64,
        "detail": pl.String,
    }
)
WEEK_QUALITY = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "grade": pl.String,  # A to F
        "score": pl.Int64,  # 0 to 100
        "findings": pl.String,  # JSON: the failed findings
    }
)

GAP = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "status": pl.String,
        "due": pl.Date,
        "fetchable": pl.Boolean,
        "rows_loaded": pl.Int64,
        "rows_expected": pl.Int64,
        "detail": pl.String,
    }
)


def half_of_venue() -> pl.Expr:
    """The half of a publication that a row's venue is in: ATS, or NON_ATS, which includes De Minimis firms."""
    is_ats = pl.col("venue_kind") == VenueKind.ATS
    return pl.when(is_ats).then(pl.lit(VenueKind.ATS)).otherwise(pl.lit(VenueKind.NON_ATS))


@dataclass(frozen=True)
class Note:
    """What a column means, and the unit of its values, where they have one."""

    text: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.unit})" if self.unit else self.text


#: What each column means, in every table that has it; a table in which it means something else has its own note.
NOTES = {
    "week_ending": Note("the Friday on which the week ends"),
    "tier": Note("FINRA's tier: 'NMS Tier 1', 'NMS Tier 2', 'OTC'"),
    "week_start": Note("the Monday on which the week begins: FINRA's weekStartDate"),
    "trading_days": Note("days of the week on which the NYSE traded; a half-day counts as one", "days"),
    "publication_date": Note("the day on which FINRA publishes the tier of the week"),
    "publication_id": Note("otc.publication.id"),
    "line": Note("line of the publication, from 1; the header is line 1"),
    "record": Note("the row as FINRA sent it, verbatim"),
    "total_of": Note("SYMBOL (symbol set), VENUE (venue_id set) or MARKET (neither)"),
    "symbol": Note("ticker, case-sensitive: ABRpD is not ABRPD"),
    "issue_name": Note("the issue's name; '' where FINRA gives none"),
    "issue_count": Note("issues that traded under the symbol"),
    "product_type": Note("FINRA's productTypeCode; '' where it gives none"),
    "venue_kind": Note("ATS, NON_ATS (another member firm) or DE_MINIMIS (small firms, as a group)"),
    "venue_scope": Note("venues counted: ATS, NON_ATS (De Minimis included) or ALL"),
    "venue_id": Note("the venue: MPID, CRD number, DE_MINIMIS, or 'name:...' where a file gives neither number"),
    "mpid": Note("market participant identifier of an ATS"),
    "firm_crd": Note("CRD number of a non-ATS firm"),
    "venue_name": Note("FINRA's marketParticipantName"),
    "share_volume": Note("share volume, exact to six places", "shares"),
    "trade_count": Note("number of trades", "trades"),
    "notional": Note("value traded; null where the source has none", "US dollars"),
    "avg_trade_size": Note("average trade size; null where there was no trade", "shares per trade"),
    "last_update_date": Note("when FINRA last updated the row"),
    "initial_published_date": Note("when FINRA first published the row"),
    "total_volume": Note("share volume", "shares"),
    "ats_volume": Note("share volume at ATSs", "shares"),
    "non_ats_volume": Note("share volume at all other firms; ats_volume + non_ats_volume = total_volume", "shares"),
    "of_which_de_minimis_volume": Note(
        "the part of non_ats_volume at the group of small firms; do not add it to the other volumes", "shares"
    ),
    "total_trades": Note("number of trades", "trades"),
    "total_notional": Note(
        "value traded; null unless every row has it: download files have none. Whole dollars before the week of "
        "2025-03-10",
        "US dollars",
    ),
    "venue_count": Note("distinct venues; the De Minimis group counts as one"),
    "symbol_count": Note("distinct symbols"),
    "top_venue": Note("venue_id with the most shares; ties by venue_id"),
    "top_venue_share_pct": Note("the top venue's share of the volume", "percent"),
    "top_3_share_pct": Note("the three largest venues' share of the volume", "percent"),
    "market_share_pct": Note("share of the tier's volume", "percent"),
    "rank": Note("rank by volume in the tier; 1 is largest, ties by venue_id"),
    "kind_share_pct": Note("share of the volume of ATSs, or of other firms (De Minimis included)", "percent"),
    "kind_rank": Note("rank by volume among ATSs, or among other firms"),
    "window_trading_days": Note("trading days of the captured weeks of the window", "days"),
    "current_volume": Note("per week: share volume of the week; 0 where nothing traded", "shares"),
    "current_daily_volume": Note("per trading day: current_volume / trading_days", "shares per trading day"),
    "avg_6w_volume": Note("per week: average over the captured weeks of the window", "shares per week"),
    "avg_6w_daily_volume": Note(
        "per trading day: shares of the window / window_trading_days", "shares per trading day"
    ),
    "avg_6w_trades": Note("per week: average over the captured weeks of the window", "trades per week"),
    "avg_6w_daily_trades": Note(
        "per trading day: trades of the window / window_trading_days", "trades per trading day"
    ),
    "avg_6w_trade_size": Note("shares of the window over its trades", "shares per trade"),
    "avg_6w_venue_count": Note("per week: average number of venues", "venues per week"),
    "avg_6w_symbol_count": Note("per week: average number of symbols", "symbols per week"),
    "avg_6w_share_pct": Note("average of the weeks' market shares", "percent"),
    "volume_vs_avg_pct": Note(
        "per trading day: (current_daily_volume / avg_6w_daily_volume - 1) * 100; null where the average is 0",
        "percent",
    ),
    "weekly_volume_vs_avg_pct": Note(
        "per week, whatever the trading days: (current_volume / avg_6w_volume - 1) * 100; null where the average is 0",
        "percent",
    ),
    "trend": Note(
        "per trading day: 'up' or 'down' by more than 10 % of the average, else 'stable'; null with a trend_reason"
    ),
    "notional_trend": Note("as trend, of dollars instead of shares; null also where notional_vs_avg_pct is"),
    "trend_reason": Note(
        "why trend is null: 'too_few_weeks' (weeks_in_window below 3), 'moved_tier' (in the window it traded in "
        "another tier while not in this one), 'tiers_pending' (no trades in the week, and not all tiers of the week "
        "are captured: it may have moved), 'another_issue' (the issue names of the window have no word in common), "
        "'first_week_in_window' (no trades in the window before this week: a first week ever, or after a break)"
    ),
    "current_trade_size": Note("average trade size of the week; null where there was no trade", "shares per trade"),
    "trade_size_vs_avg_pct": Note(
        "(current_trade_size / avg_6w_trade_size - 1) * 100; null where either is", "percent"
    ),
    "current_notional": Note("per week: value traded in the week; null unless every row has it", "US dollars"),
    "avg_6w_daily_notional": Note(
        "per trading day: dollars of the window / window_trading_days; null unless every row of the window has a value",
        "US dollars per trading day",
    ),
    "notional_vs_avg_pct": Note(
        "per trading day: (dollars of the week / avg_6w_daily_notional - 1) * 100; null where the average is 0 or null",
        "percent",
    ),
    "other_tier": Note("the tier of the newest of weeks_in_other_tier; null where that is 0"),
    "split_week": Note("the newest week of the window whose price differs from the one before by about a split ratio"),
    "split_ratio": Note(
        "new shares for old ones, as '10:1': the ratio that the jump of the price in split_week is within 10 % of. "
        "Shares before and after are not adjusted; notional_trend compares dollars"
    ),
    "identity_id": Note("the venue's identity: the first venue_id of a chain of confirmed successions, else venue_id"),
    "predecessors": Note(
        "other venue_ids of the identity that traded in the window; their weeks are in the figures. Null where none"
    ),
    "is_new": Note("whether it has no trades in the earlier weeks of the window; false where none are captured"),
    "previous_week": Note("the newest earlier week of the window with trades; null where there is none"),
    "previous_tier": Note("its tier in previous_week"),
    "previous_issue_name": Note("its issue name in previous_week"),
    "moved_from_tier": Note(
        "the tier that it traded in before, in its first week in this one; null where it did not move"
    ),
    "issue_change": Note(
        "'renamed' if the issue name differs from previous_issue_name, 'another_issue' if they have no word in common "
        "that tells issuers apart: another issuer has the ticker, or the issuer changed its whole name"
    ),
    "previous_symbol": Note("the ticker under which the same issue traded until it ended; null where there is no one"),
    "tiers": Note("the tiers in which it traded, of those captured"),
    "previous_venue_id": Note("the venue_id of the identity in previous_week"),
    "previous_venue_name": Note("the venue's name in previous_week"),
    "predecessor": Note("venue_id of the venue that ended"),
    "successor": Note("venue_id of the venue that began"),
    "predecessor_name": Note("the name of the venue that ended"),
    "successor_name": Note("the name of the venue that began"),
    "predecessor_last_week": Note("the last week with trades of the predecessor"),
    "successor_first_week": Note("the first week with trades of the successor"),
    "predecessor_symbols": Note("symbols of the predecessor in the last week before the successor began", "symbols"),
    "successor_symbols": Note("symbols of the successor in the first week after the predecessor ended", "symbols"),
    "symbols_in_common": Note("symbols that both have", "symbols"),
    "symbols_in_common_pct": Note("symbols in common over the larger of both numbers", "percent"),
    "volume_in_common_pct": Note(
        "the overlap of both distributions of volume over symbols: the sum of the smaller share of each symbol",
        "percent",
    ),
    "volume_ratio_pct": Note("the successor's volume per trading day over the predecessor's", "percent"),
    "decision": Note("what the reviewed file says: 'confirmed', 'refused', or 'proposed' where it says nothing"),
    "weeks_in_window": Note("weeks of the six that are captured", "weeks"),
    "weeks_traded": Note("of those, weeks with trades", "weeks"),
    "weeks_without_trades": Note("of those, weeks without trades: they count as zero", "weeks"),
    "weeks_in_other_tier": Note("of the weeks without trades, those with trades in another tier", "weeks"),
    "earliest_week": Note("the oldest captured week of the window"),
    "hhi": Note(
        "Herfindahl-Hirschman index, 0 to 10,000, with the De Minimis group as one firm: the upper bound of the index"
    ),
    "hhi_lower": Note(
        "HHI with the De Minimis group as equal firms, one for each of its trades: the lower bound, equal to hhi if "
        "there is no group; rank by it"
    ),
    "concentration_level": Note("level of hhi: 'competitive' below 1,500, 'moderate' to 2,500, 'concentrated' above"),
    "concentration_level_lower": Note("level of hhi_lower; if it differs from concentration_level, neither is certain"),
    "effective_venues": Note("10,000 / hhi: at least so many venues of equal size", "venues"),
    "effective_venues_upper": Note("10,000 / hhi_lower: at most so many venues of equal size", "venues"),
    "status": Note("missing_inside, missing_at_end, late, incomplete, empty or pending"),
    "due": Note("the publication day of the calendar"),
    "fetchable": Note("whether FINRA still offers the week"),
    "rows_loaded": Note("rows that were accepted", "rows"),
    "rows_expected": Note("rows that FINRA states; null where it states none", "rows"),
    "detail": Note("explanation, in words"),
    "reported_at": Note("since when the gap has been reported like this"),
    "known_from": Note("when the row was loaded"),
    "known_to": Note("when a revision replaced the row"),
    "change": Note("'changed' where the revision has another row of this key, 'removed' where it has none"),
}
