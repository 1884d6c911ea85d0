"""The words of the data: tiers' codes, venue kinds, and the columns and types of every frame and table.

Here: one Polars schema a table of the warehouse (same names, same order as its columns in ``otc``), and of
the frames between the stages. Not here: SQL types and keys (``migrations``), and what the figures mean
(the module that computes them says so).

Shares and money are decimals, exact to six places: FINRA publishes fractional shares on non-ATS rows.
"""

from __future__ import annotations

import polars as pl

#: Shares, money, averages: exact to six places.
AMOUNT = pl.Decimal(38, 6)
#: Percentages, HHI, numbers of effective venues: six places, rounded half up.
RATIO = pl.Decimal(18, 6)

ATS, NON_ATS, DE_MINIMIS = "ATS", "NON_ATS", "DE_MINIMIS"
#: Figures over ATSs and non-ATS firms together (the word of `venue_scope`, never of `venue_kind`).
ALL = "ALL"

#: `venue_id` of the group of small firms that FINRA publishes as one row a symbol, and FINRA's name for it.
DE_MINIMIS_VENUE_ID = "DE_MINIMIS"
DE_MINIMIS_NAME = "De Minimis Firms"

#: FINRA's `summaryTypeCode`s, by what their rows are. Summing over all codes counts everything four times.
FIRM_ROW_CODES = {"ATS_W_SMBL_FIRM": ATS, "OTC_W_SMBL_FIRM": NON_ATS}
SYMBOL_TOTAL_CODES = {"ATS_W_SMBL": ATS, "OTC_W_SMBL": NON_ATS}
FIRM_TOTAL_CODES = {"ATS_W_FIRM": ATS, "OTC_W_FIRM": NON_ATS}
MARKET_TOTAL_CODES = {"ATS_W_VOL_STATS": ATS, "OTC_W_VOL_STATS": NON_ATS}
SUMMARY_CODES = frozenset({**FIRM_ROW_CODES, **SYMBOL_TOTAL_CODES, **FIRM_TOTAL_CODES, **MARKET_TOTAL_CODES})

#: The week by the calendar: the days the NYSE traded, and the day on which FINRA publishes the tier.
WEEK_CALENDAR = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "week_start": pl.Date,
        "trading_days": pl.Int64,
        "publication_date": pl.Date,
    }
)

#: A row as FINRA states it, typed: what ``domain.parsing`` makes of every layout. Columns that a layout
#: does not carry are null. `line` is the 1-based line of the file (of the object, in JSON).
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

#: A row that was not accepted: `record` is it, verbatim; `reason` says why, in words for a person.
REJECTED = pl.Schema({"line": pl.Int64, "record": pl.String, "reason": pl.String})

#: (week_ending, tier, symbol, issue_name, product_type, venue_id) is unique.
VENUE_VOLUME = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        "issue_name": pl.String,  # '' where FINRA gives none
        "product_type": pl.String,  # '' where FINRA gives none
        "venue_kind": pl.String,  # ATS, NON_ATS, DE_MINIMIS
        "venue_id": pl.String,  # the MPID; a firm's CRD; DE_MINIMIS; 'name:...' where a file gives neither
        "mpid": pl.String,
        "firm_crd": pl.String,
        "venue_name": pl.String,
        "share_volume": AMOUNT,  # shares
        "trade_count": pl.Int64,
        "notional": AMOUNT,  # US dollars; null where the layout has none
        "avg_trade_size": AMOUNT,  # shares a trade; null where there was no trade
        "last_update_date": pl.Date,
        "initial_published_date": pl.Date,
    }
)

#: FINRA's own totals. `total_of`: 'SYMBOL' (symbol set), 'VENUE' (venue_id set), 'MARKET' (neither).
#: `venue_kind` is ATS or NON_ATS, the latter with the De Minimis group inside.
PUBLISHED_TOTAL = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "total_of": pl.String,
        "venue_kind": pl.String,
        "symbol": pl.String,  # '' unless total_of is SYMBOL
        "issue_name": pl.String,
        "product_type": pl.String,
        "venue_id": pl.String,  # '' unless total_of is VENUE
        "share_volume": AMOUNT,
        "trade_count": pl.Int64,
        "notional": AMOUNT,
        "last_update_date": pl.Date,
    }
)
#: What names a row of PUBLISHED_TOTAL.
TOTAL_KEY = ("week_ending", "tier", "total_of", "venue_kind", "symbol", "issue_name", "product_type", "venue_id")

SYMBOL_SUMMARY = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        "issue_name": pl.String,  # the issue with most of the volume, where a ticker stands for two
        "issue_count": pl.Int64,  # issues that traded under the symbol
        "total_volume": AMOUNT,  # shares
        "ats_volume": AMOUNT,
        "non_ats_volume": AMOUNT,  # De Minimis group included
        "de_minimis_volume": AMOUNT,
        "total_trades": pl.Int64,
        "total_notional": AMOUNT,  # null unless every row carries it
        "venue_count": pl.Int64,  # distinct venue_id; the De Minimis group counts as one
        "avg_trade_size": AMOUNT,
        "top_venue": pl.String,  # venue_id with most shares; ties by venue_id
        "top_venue_share_pct": RATIO,
    }
)

#: (week_ending, tier, venue_id). A tier at a time, because tiers of a week come two weeks apart: shares
#: over whatever happens to be out would not compare from week to week.
VENUE_SHARE = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "venue_id": pl.String,
        "venue_kind": pl.String,
        "venue_name": pl.String,
        "total_volume": AMOUNT,
        "total_trades": pl.Int64,
        "symbol_count": pl.Int64,
        "avg_trade_size": AMOUNT,
        "market_share_pct": RATIO,  # of all volume of the tier
        "rank": pl.Int64,  # 1 is largest by volume; ties by venue_id
        "kind_share_pct": RATIO,  # of the volume of ATSs, or of non-ATS (De Minimis included)
        "kind_rank": pl.Int64,
    }
)

_ROLLING = {
    "current_volume": AMOUNT,  # 0 in a week without trades
    "avg_6w_volume": AMOUNT,
    "avg_6w_trades": AMOUNT,
    "avg_6w_trade_size": AMOUNT,  # shares of the window over trades of the window
    "volume_vs_avg_pct": RATIO,  # (current / average - 1) * 100; null where the average is 0
    "trend": pl.String,  # 'up', 'down', 'stable' at +-10 %
    "weeks_in_window": pl.Int64,  # weeks of the six that are captured for the tier
    "weeks_traded": pl.Int64,
    "weeks_without_trades": pl.Int64,  # captured, but nothing traded: they count as zero in the averages
    "earliest_week": pl.Date,  # the oldest captured week of the window
}
SYMBOL_ROLLING = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        **_ROLLING,
        "avg_6w_venue_count": AMOUNT,
        "weeks_in_other_tier": pl.Int64,  # of the weeks without trades: those in which another tier had some
    }
)
VENUE_ROLLING = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "venue_id": pl.String,
        "venue_kind": pl.String,
        **_ROLLING,
        "avg_6w_symbol_count": AMOUNT,
        "avg_6w_share_pct": RATIO,
    }
)

_CONCENTRATION = {
    "total_volume": AMOUNT,
    "venue_count": pl.Int64,
    "hhi": RATIO,  # 0 to 10,000
    "concentration_level": pl.String,  # 'competitive' < 1,500 <= 'moderate' <= 2,500 < 'concentrated'
    "top_venue": pl.String,
    "top_venue_share_pct": RATIO,
    "top_3_share_pct": RATIO,
    "effective_venues": RATIO,  # 10,000 / HHI
}
#: `venue_scope`: ATS, NON_ATS (De Minimis included) or ALL.
SYMBOL_CONCENTRATION = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "symbol": pl.String,
        "venue_scope": pl.String,
        **_CONCENTRATION,
    }
)
#: `tier` is a tier's name, or ALL once all three tiers of the week are loaded (an HHI can't be added up).
MARKET_CONCENTRATION = pl.Schema(
    {"week_ending": pl.Date, "tier": pl.String, "venue_scope": pl.String, **_CONCENTRATION}
)

#: What names a row, by table: the tables whose history is kept.
KEYS = {
    "venue_volume": ("week_ending", "tier", "symbol", "issue_name", "product_type", "venue_id"),
    "symbol_summary": ("week_ending", "tier", "symbol"),
    "venue_share": ("week_ending", "tier", "venue_id"),
    "symbol_rolling": ("week_ending", "tier", "symbol"),
    "venue_rolling": ("week_ending", "tier", "venue_id"),
    "symbol_concentration": ("week_ending", "tier", "symbol", "venue_scope"),
    "market_concentration": ("week_ending", "tier", "venue_scope"),
}

#: One finding of the quality judgement of a (week, tier).
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
        "status": pl.String,  # missing_inside, missing_at_end, late, incomplete, empty, pending
        "due": pl.Date,  # the publication day of the calendar
        "fetchable": pl.Boolean,  # FINRA still offers the week
        "rows_loaded": pl.Int64,
        "rows_expected": pl.Int64,  # what FINRA says there is; null where it said nothing
        "detail": pl.String,
    }
)

#: What each column means, with its unit, for the catalog and whoever reads a table.
COLUMN_NOTES = {
    "week_ending": "the Friday that the week ends with",
    "tier": "FINRA's tier: 'NMS Tier 1', 'NMS Tier 2', 'OTC'; in market_concentration also ALL",
    "week_start": "the Monday that the week begins with: FINRA's weekStartDate",
    "trading_days": "days on which the NYSE traded",
    "publication_date": "the day on which FINRA publishes the tier of the week",
    "publication_id": "otc.publication.id",
    "line": "line of the publication, from 1; the header is line 1",
    "record": "the row as FINRA sent it, verbatim",
    "symbol": "ticker, case-sensitive: ABRpD is not ABRPD",
    "issue_name": "the issue's name; '' where FINRA gives none",
    "issue_count": "issues that traded under the symbol",
    "product_type": "FINRA's productTypeCode; '' where it gives none",
    "venue_kind": "ATS, NON_ATS (another member firm) or DE_MINIMIS (small firms, as a group)",
    "venue_scope": "venues counted: ATS, NON_ATS (De Minimis included) or ALL",
    "venue_id": "names the venue: MPID, CRD number, DE_MINIMIS, or 'name:...' where a file gives neither number",
    "mpid": "market participant identifier of an ATS",
    "firm_crd": "CRD number of a non-ATS firm",
    "venue_name": "FINRA's marketParticipantName",
    "share_volume": "shares, exact to six places",
    "trade_count": "trades",
    "notional": "US dollars; null where the source has none",
    "avg_trade_size": "shares a trade",
    "last_update_date": "when FINRA last wrote the row",
    "initial_published_date": "when FINRA first published the row",
    "total_volume": "shares",
    "ats_volume": "shares at ATSs",
    "non_ats_volume": "shares at other firms, De Minimis included",
    "de_minimis_volume": "shares at the group of small firms",
    "total_trades": "trades",
    "total_notional": "US dollars; null unless every row carries them",
    "venue_count": "distinct venues; the De Minimis group counts as one",
    "symbol_count": "distinct symbols",
    "top_venue": "venue_id with most shares",
    "top_venue_share_pct": "its share of the volume, percent",
    "top_3_share_pct": "share of the three largest venues, percent",
    "market_share_pct": "share of the tier's volume, percent",
    "rank": "by volume in the tier; 1 is largest",
    "kind_share_pct": "share of the volume of ATSs, or of other firms, percent",
    "kind_rank": "by volume among ATSs, or among other firms",
    "current_volume": "shares in the week; 0 where nothing traded",
    "avg_6w_volume": "shares a week, over the captured weeks of the window",
    "avg_6w_trades": "trades a week, over the captured weeks of the window",
    "avg_6w_trade_size": "shares of the window over its trades",
    "avg_6w_venue_count": "venues a week",
    "avg_6w_symbol_count": "symbols a week",
    "avg_6w_share_pct": "market share, percent",
    "volume_vs_avg_pct": "(week / six-week average - 1) * 100",
    "trend": "'up' or 'down' by more than 10 % of the average, else 'stable'",
    "weeks_in_window": "weeks of the six that are captured",
    "weeks_traded": "of those, weeks with trades",
    "weeks_without_trades": "of those, weeks without: they count as zero",
    "weeks_in_other_tier": "of the weeks without trades, those in which another tier had some",
    "earliest_week": "the oldest captured week of the window",
    "hhi": "Herfindahl-Hirschman index, 0 to 10,000",
    "concentration_level": "'competitive' below 1,500, 'moderate' to 2,500, 'concentrated' above",
    "effective_venues": "10,000 / HHI",
    "status": "missing_inside, missing_at_end, late, incomplete, empty or pending",
    "due": "the publication day of the calendar",
    "fetchable": "whether FINRA still offers the week",
    "rows_loaded": "rows that were accepted",
    "rows_expected": "rows that FINRA says there are; null where it said nothing",
    "detail": "in words",
}
