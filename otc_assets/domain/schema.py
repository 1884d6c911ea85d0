"""FINRA's codes, and the columns of every frame and table.

There is one Polars schema per table of the warehouse, with the names and order of its columns in ``otc``, and one per
frame between stages. What columns mean is in ``notes``; keys, layouts and other facts about tables are in
``tables``; SQL types are in ``migrations``.

Shares and money are decimals, exact to six places: FINRA publishes fractional shares on non-ATS rows.
"""

from __future__ import annotations

import polars as pl

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.weeks import TIERS

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

_BLOCK_LIKE = {"block_like_volume": AMOUNT, "block_like_share_pct": RATIO, "block_undecided_volume": AMOUNT}
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
        "implied_price": AMOUNT,
        "notional_top_venue": pl.String,
        "notional_top_venue_share_pct": RATIO,
        **_BLOCK_LIKE,
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
        "symbol_count": pl.Int64,
        "avg_trade_size": AMOUNT,
        "market_share_pct": RATIO,
        "rank": pl.Int64,
        "kind_share_pct": RATIO,
        "kind_rank": pl.Int64,
        "total_notional": AMOUNT,
        "notional_share_pct": RATIO,
        "notional_rank": pl.Int64,
        "kind_notional_share_pct": RATIO,
        "kind_notional_rank": pl.Int64,
        **_BLOCK_LIKE,
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
    "total_notional": AMOUNT,
    "notional_hhi_lower": RATIO,
    "notional_hhi": RATIO,
    "notional_top_venue": pl.String,
    "notional_top_venue_share_pct": RATIO,
    "notional_top_3_share_pct": RATIO,
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

#: One change per row, whatever its kind: `previous` and `current` are what was and what is, as text.
WEEK_CHANGES = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "kind": pl.String,
        "subject": pl.String,
        "rank": pl.Int64,
        "symbol": pl.String,
        "venue_id": pl.String,
        "previous": pl.String,
        "current": pl.String,
        "amount": AMOUNT,
        "evidence": pl.String,
    }
)

#: Rows of venue volume that FINRA rewrote after it published them, counted by week, tier and day.
REWRITTEN = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "last_update_date": pl.Date,
        "rows": pl.Int64,
        "share_volume": AMOUNT,
    }
)

ROLE_SHARE = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "venue_scope": pl.String,
        "role": pl.String,
        "firm_count": pl.Int64,
        "total_volume": AMOUNT,
        "total_trades": pl.Int64,
        "market_share_pct": RATIO,
        "kind_share_pct": RATIO,
        "kind_rank": pl.Int64,
        "total_notional": AMOUNT,
        "notional_share_pct": RATIO,
        "kind_notional_share_pct": RATIO,
        "kind_notional_rank": pl.Int64,
    }
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


def weeks_of_all_tiers(rows: pl.DataFrame) -> pl.DataFrame:
    """The weeks (`week_ending`) of which ``rows`` have all three tiers: only those have figures over all tiers."""
    tiers = rows.group_by("week_ending").agg(pl.col("tier").n_unique())
    return tiers.filter(pl.col("tier") == len(TIERS)).select("week_ending")
