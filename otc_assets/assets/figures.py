"""The stages after venue volume: summaries, rolling figures, concentration, each made week by week.

Here: for each figure its inputs, the domain function that makes it, and its table. Not here: the formulas
(``domain``), the gap report.
"""

import datetime as dt
from collections.abc import Callable

import polars as pl
import sqlalchemy as sa
from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, asset

from otc_assets.assets.grading import grade_of_week
from otc_assets.assets.spans import traced_step
from otc_assets.assets.weekly import (
    IN_YEARS,
    OWNERS,
    RETRY,
    Made,
    WeekMade,
    WeekRefused,
    each_week,
    preview,
    table_metadata,
)
from otc_assets.domain import schema
from otc_assets.domain.concentration import market_concentration, symbol_concentration
from otc_assets.domain.rolling import WINDOW_WEEKS, symbol_rolling, venue_rolling
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.weeks import TIERS, weeks_up_to
from otc_assets.partitions import rolling_window, weeks
from otc_assets.resources import Warehouse
from otc_assets.tracing import COMPUTE, LOAD, span, tell
from otc_assets.warehouse.lineage import ROLLING_TABLES, lineage
from otc_assets.warehouse.load import replace_week
from otc_assets.warehouse.read import summarized_tiers, week_rows
from otc_assets.warehouse.retention import require_kept
from otc_assets.warehouse.server import lock_week


def _of_one_week(compute: Callable[[pl.DataFrame], pl.DataFrame], *columns: str) -> Callable[..., pl.DataFrame]:
    """Figures of a week's venue volume alone, of those of its columns that they need."""
    needed = ["week_ending", "tier", "venue_kind", "venue_id", "share_volume", *columns]

    def read_and_compute(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
        return compute(week_rows(connection, "venue_volume", [week_ending], columns=needed))

    return read_and_compute


def _of_each_tier(compute: Callable[[pl.DataFrame], pl.DataFrame], *columns: str) -> Callable[..., pl.DataFrame]:
    """The same, where no figure is over several tiers: one at a time, which takes half the memory."""
    needed = ["week_ending", "tier", "venue_kind", "venue_id", "share_volume", *columns]

    def read_and_compute(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
        return pl.concat(
            compute(week_rows(connection, "venue_volume", [week_ending], tier.name, needed)) for tier in TIERS
        )

    return read_and_compute


def _of_six_weeks(table: str, compute: Callable[..., pl.DataFrame]) -> Callable[..., pl.DataFrame]:
    """Figures of the six weeks of ``table`` that end with the week."""

    def read_and_compute(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
        window = weeks_up_to(week_ending, WINDOW_WEEKS)
        captured = summarized_tiers(connection, window)
        history = week_rows(connection, table, window).join(captured, on=["week_ending", "tier"], how="semi")
        return compute(history, captured, week_ending)

    return read_and_compute


def make_figures(
    table: str,
    compute: Callable[[sa.Connection, dt.date], pl.DataFrame],
    week_ending: dt.date,
    warehouse: Warehouse,
) -> WeekMade:
    """Makes the week of ``otc.<table>``, and notes the version of the inputs it was made from.

    Raises:
        WeekRefused: the week is graded F: nothing is made of it until it is right.
        Dropped: it is made of venue volume alone, which retention has dropped: the figures stay as they are.
    """
    # The grade is kept in a transaction of its own: a refusal must not take it back.
    with warehouse.transaction() as connection:
        lock_week(connection, week_ending)
        grade = grade_of_week(connection, week_ending)
    if grade == "F":
        raise WeekRefused(
            f"venue_volume is graded F, so otc.{table} is not made of it. The failed checks of "
            "venue_volume say why; capture the week again once FINRA has put it right."
        )
    with warehouse.transaction() as connection:
        lock_week(connection, week_ending)
        if table not in ROLLING_TABLES:
            require_kept(connection, "venue_volume", week_ending)
        span_start = weeks_up_to(week_ending, WINDOW_WEEKS)[0]
        version = lineage(connection, span_start, week_ending).version(table, week_ending)
        if version is None:
            return WeekMade(0, metadata={"state": "nothing is captured of this week yet"})
        with span(COMPUTE):
            rows = compute(connection, week_ending)
            tell(rows=rows.height)
        with span(LOAD, rows=rows.height):
            replace_week(connection, table, week_ending, rows, version)
    warehouse.settle(week_ending, table)
    return WeekMade(rows.height, version, {"preview": preview(rows)})


def _figures(
    table: str,
    columns: pl.Schema,
    compute: Callable[[sa.Connection, dt.date], pl.DataFrame],
    group: str,
    description: str,
) -> AssetsDefinition:
    """The asset that keeps ``otc.<table>`` up to date, week by week."""
    upstream = ROLLING_TABLES.get(table, "venue_volume")
    mapping = rolling_window if table in ROLLING_TABLES else None

    @asset(
        name=table,
        deps=[AssetDep(upstream, partition_mapping=mapping)],
        partitions_def=weeks,
        backfill_policy=IN_YEARS,
        retry_policy=RETRY,
        pool="database",
        group_name=group,
        kinds={"polars", "postgres"},
        owners=OWNERS,
        description=description,
        metadata=table_metadata(table, columns),
    )
    @traced_step
    def figures(context: AssetExecutionContext, warehouse: Warehouse) -> Made:
        yield from each_week(context, lambda week: make_figures(table, compute, week, warehouse))

    return figures


FIGURES = [
    _figures(
        "symbol_summary",
        schema.SYMBOL_SUMMARY,
        _of_each_tier(symbol_summary, "symbol", "issue_name", "trade_count", "notional"),
        "summaries",
        "A symbol's week: volume, trades, venues, average trade size, and the venue with most of it.",
    ),
    _figures(
        "venue_share",
        schema.VENUE_SHARE,
        _of_each_tier(venue_share, "symbol", "venue_name", "trade_count"),
        "summaries",
        "A venue's week in a tier: volume, trades, symbols, market share and rank, among all and its kind.",
    ),
    _figures(
        "symbol_rolling",
        schema.SYMBOL_ROLLING,
        _of_six_weeks("symbol_summary", symbol_rolling),
        "rolling",
        "A symbol's six-week averages, and how its week stands against them. Weeks without trades count as "
        "zero and are stated.",
    ),
    _figures(
        "venue_rolling",
        schema.VENUE_ROLLING,
        _of_six_weeks("venue_share", venue_rolling),
        "rolling",
        "A venue's six-week averages in a tier, and how its week stands against them.",
    ),
    _figures(
        "symbol_concentration",
        schema.SYMBOL_CONCENTRATION,
        _of_each_tier(symbol_concentration, "symbol"),
        "concentration",
        "How concentrated a symbol's trading is: HHI, top shares, effective venues; ATS, non-ATS, and both.",
    ),
    _figures(
        "market_concentration",
        schema.MARKET_CONCENTRATION,
        _of_one_week(market_concentration),
        "concentration",
        "How concentrated the market is, by tier and for all tiers: HHI, top shares, effective venues.",
    ),
]
