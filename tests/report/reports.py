"""Inputs of reports, built from short rows of venue volume by the formulas of the domain, without a database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from otc_assets.domain.changes import week_changes
from otc_assets.domain.concentration import market_concentration, symbol_concentration
from otc_assets.domain.enums import GapStatus, VenueKind
from otc_assets.domain.rolling import symbol_rolling
from otc_assets.domain.schema import DE_MINIMIS_VENUE_ID, PUBLISHED_TOTAL, REWRITTEN, VENUE_VOLUME
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.symbols import symbol
from otc_assets.domain.venues import venue, venue_succession
from otc_assets.domain.weeks import T1, TIERS, publication_date, weeks_up_to
from otc_assets.report.inputs import Captured, Inputs

WEEK = dt.date(2026, 8, 21)
MADE_AT = dt.datetime(2026, 9, 30, 10, 5, tzinfo=dt.UTC)

#: (weeks before the last, tier, symbol, venue, shares)
Traded = tuple[int, str, str, str, int | str]


def volume(rows: Iterable[Traded], week: dt.date = WEEK, **columns: Any) -> pl.DataFrame:
    """VENUE_VOLUME; MPIDs are letters, CRD numbers digits. Each row has 1,000 trades."""
    kinds = {True: VenueKind.NON_ATS, False: VenueKind.ATS}
    return pl.DataFrame(
        [
            dict.fromkeys(VENUE_VOLUME)
            | {
                "week_ending": week - dt.timedelta(weeks=ago),
                "tier": tier,
                "symbol": ticker,
                "issue_name": f"{ticker} Inc.",
                "product_type": "",
                "venue_kind": VenueKind.DE_MINIMIS if place == DE_MINIMIS_VENUE_ID else kinds[place.isdigit()],
                "venue_id": place,
                "venue_name": f"Venue {place}",
                "share_volume": Decimal(shares),
                "trade_count": 1_000,
                "notional": Decimal(shares) * 10,
            }
            | columns
            for ago, tier, ticker, place, shares in rows
        ],
        schema=VENUE_VOLUME,
    )


class _Read:
    """Reads the rows of frames instead of a database's (``domain.reading.Read``)."""

    def __init__(self, tables: Mapping[str, pl.DataFrame], rewritten: pl.DataFrame) -> None:
        self.tables, self.rows_rewritten = tables, rewritten

    def __call__(self, table: str, weeks: Iterable[dt.date], columns: Iterable[str] | None = None) -> pl.DataFrame:
        found = self.tables[table].filter(pl.col("week_ending").is_in(list(weeks)))
        return found.select(list(columns)) if columns else found

    def rewritten(self, after: dt.date, until: dt.date, week_ending: dt.date) -> pl.DataFrame:
        day = pl.col("last_update_date")
        return self.rows_rewritten.filter((day > after) & (day <= until) & (pl.col("week_ending") < week_ending))


def inputs(rows: pl.DataFrame, week: dt.date = WEEK, rewritten: pl.DataFrame | None = None, **changed: Any) -> Inputs:
    """The inputs of the report of ``week``; tiers without rows are pending."""
    known = rows.select("week_ending", "tier").unique()
    frames: dict[str, pl.DataFrame] = {
        "venue_volume": rows,
        "symbol_summary": symbol_summary(rows),
        "venue_share": venue_share(rows),
        "market_concentration": market_concentration(rows),
        "symbol_concentration": symbol_concentration(rows),
        "published_total": PUBLISHED_TOTAL.to_frame(),
    }
    read = _Read(frames, REWRITTEN.to_frame() if rewritten is None else rewritten)
    frames["symbol"] = symbol(read, known, week)
    frames["venue"] = venue(frames["venue_share"], known, week)
    frames["venue_succession"] = venue_succession(read, known, week)
    frames["week_changes"] = week_changes(read, known, week)
    frames["symbol_rolling"] = symbol_rolling(frames["symbol_summary"], known, week)
    for name in ("symbol_summary", "symbol_concentration"):
        frames[name] = frames[name].filter(pl.col("week_ending") == week)
    window = weeks_up_to(week)
    for name in ("venue_share", "market_concentration"):
        frames[name] = frames[name].filter(pl.col("week_ending").is_in(window))
    there = set(known.filter(pl.col("week_ending") == week)["tier"])
    due = publication_date(week, T1)
    values: dict[str, Any] = {
        "week_ending": week,
        "made_at": MADE_AT,
        "tables": frames,
        "captured": {tier: Captured(10, 10, True, due, "https://api.finra.org/") for tier in there},
        "grades": dict.fromkeys(there, "A"),
        "gaps": {
            tier.name: (GapStatus.PENDING, f"FINRA publishes it on {publication_date(week, tier):%A, %Y-%m-%d}")
            for tier in TIERS
            if tier.name not in there
        },
        "replaced_rows": {},
    }
    return Inputs(**{**values, **changed})


def six_weeks(tiers: Iterable[str] = tuple(tier.name for tier in TIERS)) -> pl.DataFrame:
    """Six weeks of a few symbols and venues, in which one symbol triples in the last week."""
    rows: list[Traded] = []
    for ago in range(6):
        for tier in tiers:
            rows += [
                (ago, tier, "AAPL", "UBSA", 400_000 + 1_000 * ago),
                (ago, tier, "AAPL", "7897", 500_000),
                (ago, tier, "AAPL", DE_MINIMIS_VENUE_ID, 1_500),
                (ago, tier, "MSFT", "INCR", 200_000 if ago else 600_000),
                (ago, tier, "MSFT", "149777", 100_000 + 500 * ago),
            ]
    return volume(rows)
