"""Rows of venue volume, captures and figures, made by hand for the warehouse's tests."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl

from otc_assets.domain.schema import VENUE_VOLUME
from otc_assets.warehouse.publication import NewPublication

WEEK = dt.date(2026, 8, 21)
T1 = "NMS Tier 1"


def row(symbol: str, venue: str, shares: str, **other: object) -> dict[str, object]:
    """A row of venue volume; what is not said is ordinary."""
    return {
        "week_ending": WEEK,
        "tier": T1,
        "symbol": symbol,
        "issue_name": "",
        "product_type": "",
        "venue_kind": "ATS",
        "venue_id": venue,
        "mpid": venue,
        "firm_crd": None,
        "venue_name": f'{venue} "X",  Y',
        "share_volume": Decimal(shares),
        "trade_count": 3,
        "notional": None,
        "avg_trade_size": None,
        "last_update_date": None,
        "initial_published_date": None,
        **other,
    }


def frame(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=VENUE_VOLUME)


def publication(**other: object) -> NewPublication:
    values: dict[str, object] = {
        "week_ending": WEEK,
        "tier": T1,
        "scope": "FULL",
        "digest": "a" * 64,
        "origin": "test",
        "summary_type": None,
        "layout": "api",
        "bytes": 10,
        "rows_received": 2,
        "rows_accepted": 1,
        "rows_rejected": 1,
        "rows_expected": 2,
        "complete": True,
        "initial_published_date": None,
        "last_update_date": None,
        "run_id": None,
    }
    return NewPublication(**(values | other))  # type: ignore[arg-type]
