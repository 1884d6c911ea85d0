"""The last stage: which expected publications are missing, late, incomplete, empty or pending.

Here: asking the calendar, the warehouse and the source, and keeping the answer. Not here: what counts as a
gap (``domain.gaps``).
"""

import datetime as dt

import polars as pl
from dagster import AssetDep, AssetExecutionContext, asset

from otc_assets.defs.assets.weekly import Made, WeekMade, asset_options, each_week, preview
from otc_assets.defs.resources import PublicationSource, Warehouse
from otc_assets.defs.spans import traced_step
from otc_assets.domain.gaps import classify
from otc_assets.domain.weeks import NEW_YORK, week_containing
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.source import Source, SourceError
from otc_assets.settings import settings
from otc_assets.tracing import LOAD, span
from otc_assets.warehouse.load import replace_gaps
from otc_assets.warehouse.read import captured
from otc_assets.warehouse.retention import retained_from
from otc_assets.warehouse.server import lock_week


def current_gaps(warehouse: Warehouse, source: Source, now: dt.datetime) -> pl.DataFrame:
    """All gaps at the moment ``now``, from the first week wanted to the newest that has ended (GAP).

    Where the source does not answer, what is fetchable is judged by FINRA's stated window instead.
    """
    try:
        offered: set[tuple[dt.date, str]] | None = {(week, tier.name) for tier, week in source.offered()}
    except SourceError:
        offered = None
    first = settings().first_week
    with warehouse.transaction() as connection:
        have = captured(connection, first, week_containing(now.date()))
        kept_from = retained_from(connection, "venue_volume")
    return classify(
        have,
        offered,
        first_week=first,
        now=now,
        retained_from=kept_from,
        from_files=isinstance(source, DownloadFiles),
    )


@asset(
    deps=[AssetDep("venue_volume")],
    **asset_options("gap"),
    kinds={"polars", "postgres"},
)
@traced_step
def gap_report(context: AssetExecutionContext, warehouse: Warehouse, publication_source: PublicationSource) -> Made:
    """Computes the gap report of the run's weeks."""
    gaps = current_gaps(warehouse, publication_source.open(), dt.datetime.now(NEW_YORK))

    def report(week: dt.date) -> WeekMade:
        of_week = gaps.filter(pl.col("week_ending") == week)
        with span(LOAD, rows=of_week.height), warehouse.transaction() as connection:
            lock_week(connection, week)
            replace_gaps(connection, week, of_week)
        return WeekMade(of_week.height, metadata={"gaps": preview(of_week)})

    yield from each_week(context, report)
