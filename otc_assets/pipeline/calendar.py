"""Stores the calendar of weeks as a table. Its rules are in ``domain.weeks``."""

from __future__ import annotations

import datetime as dt

import polars as pl

from otc_assets.domain.schema import WEEK_CALENDAR
from otc_assets.domain.weeks import TIERS, publication_date, trading_days, week_start_of
from otc_assets.pipeline.results import WeekResult
from otc_assets.tracing import LOAD, span
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.load import replace_week


def calendar_rows(week_ending: dt.date) -> pl.DataFrame:
    """The week's rows of ``otc.week_calendar``, one per tier."""
    return pl.DataFrame(
        [
            {
                "week_ending": week_ending,
                "tier": tier.name,
                "week_start": week_start_of(week_ending),
                "trading_days": trading_days(week_ending),
                "publication_date": publication_date(week_ending, tier),
            }
            for tier in TIERS
        ],
        schema=WEEK_CALENDAR,
    )


def compute_calendar(week_ending: dt.date, database: Database) -> WeekResult:
    """Computes the week of ``otc.week_calendar``."""
    rows = calendar_rows(week_ending)
    with span(LOAD, rows=rows.height), database.transaction() as connection:
        replace_week(connection, "week_calendar", week_ending, rows, version="calendar")
    return WeekResult(rows.height, "calendar", {"preview": rows})
