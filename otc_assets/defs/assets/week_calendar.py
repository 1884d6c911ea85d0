"""The root of the graph: the weeks themselves, by the calendar.

Every publication stands downstream of its week, so that one choice of weeks in the UI's dialog reaches all
assets, whatever lag their tier has. Here: the calendar as a table. Not here: its rules (``domain.weeks``).
"""

import datetime as dt

import polars as pl
from dagster import AssetExecutionContext, asset

from otc_assets.defs.assets.weekly import Made, WeekMade, asset_options, each_week, preview
from otc_assets.defs.resources import Warehouse
from otc_assets.defs.spans import traced_step
from otc_assets.domain.schema import WEEK_CALENDAR
from otc_assets.domain.weeks import TIERS, publication_date, trading_days, week_start_of
from otc_assets.tracing import LOAD, span
from otc_assets.warehouse.load import replace_week


def calendar_rows(week_ending: dt.date) -> pl.DataFrame:
    """The week's rows of ``otc.week_calendar``, one a tier."""
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


def make_week_calendar(week_ending: dt.date, warehouse: Warehouse) -> WeekMade:
    """Makes the week of ``otc.week_calendar``."""
    rows = calendar_rows(week_ending)
    with span(LOAD, rows=rows.height), warehouse.transaction() as connection:
        replace_week(connection, "week_calendar", week_ending, rows, version="calendar")
    return WeekMade(rows.height, "calendar", {"preview": preview(rows)})


@asset(
    **asset_options("week_calendar"),
    kinds={"postgres"},
)
@traced_step
def week_calendar(context: AssetExecutionContext, warehouse: Warehouse) -> Made:
    """Computes the calendar of the run's weeks."""
    yield from each_week(context, lambda week: make_week_calendar(week, warehouse))
