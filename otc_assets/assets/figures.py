"""The stages after venue volume: one asset per figure of ``domain.tables``, computed week by week.

Formulas are in the domain; the gap report is in ``gap_report``.
"""

import datetime as dt
import time

import polars as pl
import sqlalchemy as sa
from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, asset

from otc_assets.assets.grading import grade_of_week
from otc_assets.assets.spans import traced_step
from otc_assets.assets.weekly import Made, WeekMade, WeekRefused, asset_options, each_week, preview
from otc_assets.domain.tables import Figure, figures
from otc_assets.domain.weeks import TIERS, weeks_up_to
from otc_assets.partitions import window
from otc_assets.resources import Warehouse
from otc_assets.tracing import COMPUTE, LOAD, span, tell
from otc_assets.warehouse import events
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.load import replace_week
from otc_assets.warehouse.read import summarized_tiers, week_rows
from otc_assets.warehouse.retention import require_kept
from otc_assets.warehouse.server import lock_week


def compute_figure(connection: sa.Connection, figure: Figure, week_ending: dt.date) -> pl.DataFrame:
    """The week's rows of ``figure``, computed from what is stored of its source."""

    def read(weeks: list[dt.date], tier: str | None = None) -> pl.DataFrame:
        return week_rows(connection, figure.source, weeks, tier, figure.reads)

    weeks = weeks_up_to(week_ending, figure.weeks)
    if figure.weeks > 1:
        captured = summarized_tiers(connection, weeks)
        history = read(weeks).join(captured, on=["week_ending", "tier"], how="semi")
        return figure.formula(history, captured, week_ending)
    if figure.by_tier:
        return pl.concat(figure.formula(read(weeks, tier.name)) for tier in TIERS)
    return figure.formula(read(weeks))


def make_figure(figure: Figure, week_ending: dt.date, warehouse: Warehouse) -> WeekMade:
    """Computes the week of a figure, and saves it with the version of the inputs it was computed from.

    Raises:
        WeekRefused: the week is graded F: nothing is computed from it until it is right.
        Dropped: it is computed from venue volume alone, which retention has dropped: the figures stay as they are.
    """
    table = figure.name
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
        if figure.source == "venue_volume":
            require_kept(connection, "venue_volume", week_ending)
        since = time.perf_counter()
        span_start = weeks_up_to(week_ending, figure.weeks)[0]
        version = lineage(connection, span_start, week_ending).version(table, week_ending)
        if version is None:
            return WeekMade(0, metadata={"state": "nothing is captured of this week yet"})
        with span(COMPUTE):
            rows = compute_figure(connection, figure, week_ending)
            tell(rows=rows.height)
        with span(LOAD, rows=rows.height):
            replace_week(connection, table, week_ending, rows, version)
        seconds = time.perf_counter() - since
        payload = {
            "week_ending": week_ending,
            "table": table,
            "rows": rows.height,
            "version": version,
            "seconds": seconds,
        }
        events.append(connection, events.PAYLOADS[figure.event].model_validate(payload))
    warehouse.refresh_after_load(week_ending, table)
    return WeekMade(rows.height, version, {"preview": preview(rows)})


def figure_asset(figure: Figure) -> AssetsDefinition:
    """The asset that keeps the table of ``figure`` up to date, week by week."""

    @asset(
        name=figure.name,
        deps=[AssetDep(figure.source, partition_mapping=window(figure.weeks))],
        **asset_options(figure.name),
        kinds={"polars", "postgres"},
        code_version=figure.code_version,
    )
    @traced_step
    def computed(context: AssetExecutionContext, warehouse: Warehouse) -> Made:
        yield from each_week(context, lambda week: make_figure(figure, week, warehouse))

    return computed


def figure_assets() -> list[AssetsDefinition]:
    """The assets of all figures of the registry."""
    return [figure_asset(figure) for figure in figures()]
