"""What the columns of the tables mean, and their units.

The columns themselves are in ``schema``. A table in which a column means something else says so in ``tables``.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    "notional": Note(
        "value traded: whole dollars before the trading week that began on 2025-03-10, with decimals since; null in "
        "rows from the website's files, which have no values",
        "US dollars",
    ),
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
    "total_notional": Note("value traded; null unless every row has it (`notional` of venue_volume)", "US dollars"),
    "implied_price": Note(
        "total_notional / total_volume, the average price of the week's trades; null where either is missing or 0",
        "US dollars per share",
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
    "notional_share_pct": Note("share of the tier's value; null unless every row of the tier has one", "percent"),
    "notional_rank": Note("rank by value in the tier; 1 is largest, ties by venue_id; null as notional_share_pct"),
    "kind_notional_share_pct": Note(
        "share of the value at ATSs, or at other firms (De Minimis included); null as notional_share_pct", "percent"
    ),
    "kind_notional_rank": Note("rank by value among ATSs, or among other firms; null as notional_share_pct"),
    "notional_top_venue": Note("venue_id with the most dollars; ties by venue_id; null unless every row has a value"),
    "notional_top_venue_share_pct": Note("its share of the value; null unless every row has one", "percent"),
    "notional_top_3_share_pct": Note(
        "share of the value of the three venues with the most dollars; null unless every row has one", "percent"
    ),
    "notional_hhi": Note("hhi, of value instead of shares; null unless every row has a value"),
    "notional_hhi_lower": Note("hhi_lower, of value instead of shares; null unless every row has a value"),
    "block_like_volume": Note(
        "volume of the rows of venue_volume whose average trade is of block size: at least 10,000 shares, or at least "
        "200,000 US dollars (SEC Rule 600(b), 'block size'). An average, not a count of blocks",
        "shares",
    ),
    "block_like_share_pct": Note("block_like_volume in percent of total_volume", "percent"),
    "block_undecided_volume": Note(
        "volume of rows with fewer than 10,000 shares per trade and no value: they can't be tested in dollars, so the "
        "block-like volume is between block_like_volume and the sum of both; 0 where every row has a value",
        "shares",
    ),
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
    "kind": Note("what kind of change it is"),
    "subject": Note(
        "what has changed: a symbol, a venue_id, 'SGMA to SGMT' of a proposal, or the week whose rows were revised"
    ),
    "previous": Note("what it was: a name, tier, rank, median or share; null where there was nothing"),
    "current": Note("what it is"),
    "amount": Note(
        "what rank is by: shares of a symbol or venue, the score of symbol_volume, places of venue_rank, percentage "
        "points of venue_share, percent of volume in common of venue_proposal, rows of revised"
    ),
    "evidence": Note("the figures behind the change, as a JSON object"),
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
    "role": Note(
        "wholesaler, bank_desk, broker_dealer, exchange_affiliated; unattributed: not in otc.firm. Of an ATS, the role "
        "of its operator"
    ),
    "firm_count": Note("venues with the role; the De Minimis group counts as one"),
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
