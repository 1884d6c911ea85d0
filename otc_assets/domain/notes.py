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
    "publication_id": Note("the publication: its id in otc.publication"),
    "line": Note("line of the publication, from 1; the header is line 1"),
    "record": Note("the row as FINRA sent it, verbatim"),
    "total_of": Note("what the total is of: SYMBOL (one symbol), VENUE (one venue) or MARKET (the whole tier)"),
    "symbol": Note("ticker, case-sensitive: ABRpD is not ABRPD"),
    "issue_name": Note("the issue's name; '' where FINRA gives none"),
    "issue_count": Note("number of issues that traded under the symbol"),
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
    "total_notional": Note(
        "value traded; null unless every row of venue_volume has a value (`notional`)", "US dollars"
    ),
    "implied_price": Note(
        "total_notional / total_volume, the average price of the week's trades; null where either is missing or 0",
        "US dollars per share",
    ),
    "venue_count": Note("number of venues; the De Minimis group counts as one"),
    "symbol_count": Note("number of symbols"),
    "top_venue": Note("venue_id with the most shares; ties by venue_id"),
    "top_venue_share_pct": Note("the top venue's share of the volume", "percent"),
    "top_3_share_pct": Note("the three largest venues' share of the volume", "percent"),
    "market_share_pct": Note("share of the tier's volume", "percent"),
    "rank": Note("rank by volume in the tier; 1 is largest, ties by venue_id"),
    "kind_share_pct": Note(
        "share of the tier's volume at ATSs for an ATS, and at other firms (De Minimis included) for another firm",
        "percent",
    ),
    "kind_rank": Note("rank by volume among the tier's ATSs for an ATS, and among its other firms for another firm"),
    "notional_share_pct": Note("share of the tier's value; null unless every row of the tier has one", "percent"),
    "notional_rank": Note(
        "rank by value in the tier; 1 is largest, ties by venue_id; null where notional_share_pct is null"
    ),
    "kind_notional_share_pct": Note(
        "as kind_share_pct, of value instead of volume; null where notional_share_pct is null", "percent"
    ),
    "kind_notional_rank": Note("as kind_rank, by value instead of volume; null where notional_share_pct is null"),
    "notional_top_venue": Note("venue_id with the most dollars; ties by venue_id; null unless every row has a value"),
    "notional_top_venue_share_pct": Note(
        "share of the value of notional_top_venue; null unless every row has a value", "percent"
    ),
    "notional_top_3_share_pct": Note(
        "share of the value of the three venues with the most dollars; null unless every row has a value", "percent"
    ),
    "notional_hhi": Note("as hhi, in value instead of shares; null unless every row has a value"),
    "notional_hhi_lower": Note("as hhi_lower, in value instead of shares; null unless every row has a value"),
    "block_like_volume": Note(
        "volume of the rows of venue_volume whose average trade has block size: at least 10,000 shares or at least "
        "200,000 US dollars (SEC Rule 600(b)). It is based on averages and does not count blocks",
        "shares",
    ),
    "block_like_share_pct": Note("block_like_volume in percent of total_volume", "percent"),
    "block_undecided_volume": Note(
        "volume of rows with fewer than 10,000 shares per trade and no value. They can't be tested in dollars, so the "
        "block-like volume is at least block_like_volume and at most the sum of both columns; 0 where every row has a "
        "value",
        "shares",
    ),
    "window_trading_days": Note("trading days in the captured weeks of the window", "days"),
    "current_volume": Note("per week: share volume of the week; 0 where nothing traded", "shares"),
    "current_daily_volume": Note("per trading day: current_volume / trading_days", "shares per trading day"),
    "avg_6w_volume": Note(
        "per week: average over the captured weeks of the window, which includes the week itself", "shares per week"
    ),
    "avg_6w_daily_volume": Note(
        "per trading day: shares of the window / window_trading_days", "shares per trading day"
    ),
    "avg_6w_trades": Note("per week: average over the captured weeks of the window", "trades per week"),
    "avg_6w_daily_trades": Note(
        "per trading day: trades of the window / window_trading_days", "trades per trading day"
    ),
    "avg_6w_trade_size": Note("shares of the window divided by its trades", "shares per trade"),
    "avg_6w_venue_count": Note("per week: average number of venues", "venues per week"),
    "avg_6w_symbol_count": Note("per week: average number of symbols", "symbols per week"),
    "avg_6w_share_pct": Note("average of the weeks' market shares", "percent"),
    "volume_vs_avg_pct": Note(
        "per trading day: (current_daily_volume / avg_6w_daily_volume - 1) * 100; null where the average is 0. The "
        "average includes the week itself: with weeks_in_window 1 there is no history, and the result is always 0",
        "percent",
    ),
    "weekly_volume_vs_avg_pct": Note(
        "per week, without regard to trading days: (current_volume / avg_6w_volume - 1) * 100; null where the average "
        "is 0; always 0 with weeks_in_window 1, as volume_vs_avg_pct",
        "percent",
    ),
    "trend": Note(
        "per trading day: 'up' if the week is more than 10 % above the average, 'down' if it is more than 10 % below, "
        "otherwise 'stable'; null where there is a trend_reason"
    ),
    "notional_trend": Note("as trend, in dollars instead of shares; also null where notional_vs_avg_pct is null"),
    "trend_reason": Note(
        "why trend is null: 'too_few_weeks' (weeks_in_window below 3), 'moved_tier' (in a week of the window without "
        "trades in this tier, it traded in another), 'tiers_pending' (no trades in the week, and not all tiers of the "
        "week are captured: it may have moved), 'another_issue' (the issue names in the window have no word in "
        "common), 'first_week_in_window' (no trades in the window before this week: its first week, or its first "
        "after a break)"
    ),
    "current_trade_size": Note("average trade size of the week; null where there was no trade", "shares per trade"),
    "trade_size_vs_avg_pct": Note(
        "(current_trade_size / avg_6w_trade_size - 1) * 100; null where either of them is null; always 0 with "
        "weeks_traded 1, because the average is then that of the week itself",
        "percent",
    ),
    "current_notional": Note("per week: value traded in the week; null unless every row has a value", "US dollars"),
    "avg_6w_daily_notional": Note(
        "per trading day: dollars of the window / window_trading_days; null unless every row of the window has a value",
        "US dollars per trading day",
    ),
    "notional_vs_avg_pct": Note(
        "per trading day: (dollars of the week / avg_6w_daily_notional - 1) * 100; null where the average is 0 or "
        "null, and always 0 with weeks_in_window 1, as volume_vs_avg_pct",
        "percent",
    ),
    "other_tier": Note(
        "the tier in which it traded in the newest of weeks_in_other_tier; null where weeks_in_other_tier is 0"
    ),
    "split_week": Note(
        "the newest week of the window in which implied_price changed by about a split ratio; null where there is none"
    ),
    "split_ratio": Note(
        "new shares for old shares, for example '10:1': the ratio that the change of the price in split_week matches "
        "to within 10 %. Shares are not adjusted for it; notional_trend compares dollars"
    ),
    "identity_id": Note(
        "the venue's identity: the first venue_id in its chain of confirmed successions, or its own venue_id"
    ),
    "predecessors": Note(
        "other venue_ids of the identity that traded in the window, whose weeks are included; null where there are none"
    ),
    "is_new": Note(
        "whether it has no trades in the earlier weeks of the window; false where no earlier week of a tier in which "
        "it trades is captured"
    ),
    "previous_week": Note("the newest earlier week in the window in which it traded; null where there is none"),
    "previous_tier": Note("its tier in previous_week"),
    "previous_issue_name": Note("its issue name in previous_week"),
    "moved_from_tier": Note("in its first week in this tier, the tier in which it traded before; otherwise null"),
    "issue_change": Note(
        "'renamed' if the issue name differs from previous_issue_name; 'another_issue' if both have no distinctive "
        "word in common: another issuer uses the ticker, or the issuer changed its whole name; null where nothing "
        "changed"
    ),
    "previous_symbol": Note(
        "the ticker, no longer in use, under which the same issue traded before; null where there is none"
    ),
    "tiers": Note("the captured tiers in which it traded"),
    "previous_venue_id": Note("the venue_id under which the venue traded in previous_week"),
    "previous_venue_name": Note("the venue's name in previous_week"),
    "predecessor": Note("venue_id of the venue that ended"),
    "successor": Note("venue_id of the venue that began"),
    "predecessor_name": Note("the name of the venue that ended"),
    "successor_name": Note("the name of the venue that began"),
    "predecessor_last_week": Note("the last week with trades of the predecessor"),
    "successor_first_week": Note("the first week with trades of the successor"),
    "predecessor_symbols": Note(
        "number of symbols of the predecessor in the last week before the successor began", "symbols"
    ),
    "successor_symbols": Note(
        "number of symbols of the successor in the first week after the predecessor ended", "symbols"
    ),
    "symbols_in_common": Note("number of symbols that both have", "symbols"),
    "symbols_in_common_pct": Note("symbols in common, in percent of the larger of the two numbers", "percent"),
    "volume_in_common_pct": Note(
        "how much the two distributions of volume over symbols overlap: for each symbol the smaller of the two shares, "
        "added up",
        "percent",
    ),
    "volume_ratio_pct": Note("the successor's volume per trading day, in percent of the predecessor's", "percent"),
    "decision": Note("the decision in the reviewed file: 'confirmed' or 'refused'; 'proposed' where the file has none"),
    "weeks_in_window": Note("number of captured weeks among the week and the five before it", "weeks"),
    "weeks_traded": Note("number of these weeks with trades", "weeks"),
    "weeks_without_trades": Note("number of these weeks without trades, which count as zero", "weeks"),
    "weeks_in_other_tier": Note("number of weeks_without_trades with trades in another tier", "weeks"),
    "earliest_week": Note("the oldest captured week of the window"),
    "kind": Note("the kind of change"),
    "subject": Note(
        "what has changed: a symbol, a venue_id, the week whose rows were revised, or for a proposal both venues, as "
        "in 'SGMA to SGMT'"
    ),
    "previous": Note("the value before the change: a name, tier, rank, median or share; null where there was none"),
    "current": Note("the value after the change"),
    "amount": Note(
        "the size of the change, by which changes of a kind are ranked: a score for symbol_volume, places for "
        "venue_rank, percentage points for venue_share, percent of volume in common for venue_proposal, rows for "
        "revised, and shares for all other kinds"
    ),
    "evidence": Note("the figures that the change is based on, as a JSON object"),
    "hhi": Note(
        "Herfindahl-Hirschman index, 0 to 10,000, with the De Minimis group counted as one firm: the upper bound of "
        "the index"
    ),
    "hhi_lower": Note(
        "HHI with the De Minimis group counted as equal firms, one for each of its trades: the lower bound of the "
        "index, equal to hhi where there is no group; use it for rankings"
    ),
    "concentration_level": Note(
        "level of hhi: 'competitive' below 1,500, 'moderate' up to 2,500, 'concentrated' above"
    ),
    "concentration_level_lower": Note(
        "level of hhi_lower; if it differs from concentration_level, the level is not certain"
    ),
    "effective_venues": Note(
        "10,000 / hhi: the number of equally large venues that would have this index, at least", "venues"
    ),
    "effective_venues_upper": Note(
        "10,000 / hhi_lower: the number of equally large venues that would have this index, at most", "venues"
    ),
    "role": Note(
        "wholesaler, bank_desk, broker_dealer or exchange_affiliated; unattributed if the firm is not in otc.firm. The "
        "role of an ATS is that of its operator"
    ),
    "firm_count": Note("number of venues with the role; the De Minimis group counts as one"),
    "status": Note("missing_inside, missing_at_end, late, incomplete, empty or pending"),
    "due": Note("the publication day by the calendar"),
    "fetchable": Note("whether FINRA still offers the week"),
    "rows_loaded": Note("rows that were accepted", "rows"),
    "rows_expected": Note("rows that FINRA states; null where it states none", "rows"),
    "detail": Note("explanation, in words"),
    "reported_at": Note("when the gap was first reported in this form"),
    "known_from": Note("when the row was loaded"),
    "known_to": Note("when a revision replaced the row"),
    "change": Note("'changed' if the revision has another row with the same key, 'removed' if it has none"),
}
