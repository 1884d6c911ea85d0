"""The assets, in the order in which data flows. Each runs one function of ``pipeline`` for every week of the run.

Functions return the assets, because their partitions begin with the first week of the settings. What a run over one
week or several has in common is in ``weekly``.
"""

import datetime as dt
from dataclasses import replace
from pathlib import Path

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, ResourceParam, asset

from otc_assets.alerting.reports import announcer
from otc_assets.archive.store import Archive
from otc_assets.defs.datasets import dataset_assets
from otc_assets.defs.partitions import WeekPartitions, same_week_if_published
from otc_assets.defs.run_events import weeks_done_before
from otc_assets.defs.spans import traced_step
from otc_assets.defs.weekly import (
    CAPTURES,
    YEAR,
    WeekEvents,
    common_options,
    each_week,
    if_several,
    publication_metadata,
    table_options,
)
from otc_assets.domain.normalize import NORMALIZER_VERSION
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import figures
from otc_assets.domain.weeks import NEW_YORK, TIERS, Tier
from otc_assets.finra.source import Source
from otc_assets.pipeline.calendar import compute_calendar
from otc_assets.pipeline.capture import capture_publication, captured_publication
from otc_assets.pipeline.datasets import report_dataset_gaps
from otc_assets.pipeline.figures import compute_figure, current_week
from otc_assets.pipeline.gaps import current_gaps, report_gaps
from otc_assets.pipeline.report import current_report, make_report
from otc_assets.pipeline.results import Link, WeekResult
from otc_assets.pipeline.volume import compute_volume
from otc_assets.report.files import address
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database


def all_assets(weeks: WeekPartitions) -> list[AssetsDefinition]:
    """All assets, whose partitions are ``weeks``."""
    return [
        week_calendar(weeks),
        *(publication(tier, weeks) for tier in TIERS),
        venue_volume(weeks),
        *(figure_asset(figure, weeks) for figure in figures()),
        gap_report(weeks),
        weekly_report(weeks),
        *dataset_assets(weeks),
    ]


def week_calendar(weeks: WeekPartitions) -> AssetsDefinition:
    """The root of the graph: with it, one choice of weeks in the UI's dialog reaches all tiers, whatever their lag."""

    @asset(**table_options("week_calendar", weeks), kinds={"postgres"})
    @traced_step
    def week_calendar(context: AssetExecutionContext, warehouse: ResourceParam[Database]) -> WeekEvents:
        yield from each_week(context, lambda week: compute_calendar(week, warehouse))

    return week_calendar


def publication(tier: Tier, weeks: WeekPartitions) -> AssetsDefinition:
    """The asset of one tier's publications, with that tier's lag."""

    @asset(
        name=f"publication_{tier.slug}",
        deps=[AssetDep("week_calendar", partition_mapping=same_week_if_published)],
        partitions_def=weeks.of_tier(tier),
        **common_options("finra_api", weeks, CAPTURES),
        kinds={"finra", "postgres"},
        description=(
            f"FINRA's publications of {tier.name}, published {tier.lag_weeks} weeks after the week's Monday: the "
            "bytes as received, archived indefinitely by digest; the capture in `otc.publication`, and the rows that "
            "were not accepted in `otc.rejected_record` with the reason. `otc-assets captures lines` prints the lines."
        ),
        metadata=publication_metadata(),
    )
    @traced_step
    def publication(
        context: AssetExecutionContext,
        source: ResourceParam[Source],
        archive: ResourceParam[Archive],
        warehouse: ResourceParam[Database],
    ) -> WeekEvents:
        now, run_id = dt.datetime.now(NEW_YORK), context.run.run_id
        done = weeks_done_before(context.instance, context.run, context.asset_key)
        ask_first = len(context.partition_keys) > 1
        yield from each_week(
            context,
            lambda week: capture_publication(
                week, tier, source, archive, warehouse, run_id, now, only_if_changed=ask_first
            ),
            lambda week: captured_publication(week, tier, warehouse) if week in done else None,
        )

    return publication


def venue_volume(weeks: WeekPartitions) -> AssetsDefinition:
    """Venue volume, from the publications of all tiers."""

    @asset(
        deps=[AssetDep(f"publication_{tier.slug}", partition_mapping=same_week_if_published) for tier in TIERS],
        **table_options("venue_volume", weeks),
        code_version=NORMALIZER_VERSION,
        kinds={"polars", "postgres"},
    )
    @traced_step
    def venue_volume(
        context: AssetExecutionContext, warehouse: ResourceParam[Database], archive: ResourceParam[Archive]
    ) -> WeekEvents:
        yield from each_week(
            context,
            lambda week: compute_volume(week, warehouse, archive),
            if_several(context, lambda week: current_week("venue_volume", week, warehouse)),
        )

    return venue_volume


def figure_asset(figure: Figure, weeks: WeekPartitions) -> AssetsDefinition:
    """The asset of a figure of the registry."""

    @asset(
        name=figure.name,
        # Week to week also for figures over six weeks. With a mapping of the window, Dagster's dialog adds the five
        # weeks after each choice, captured or not, and a backfill fails them all where one week fails. The sensor
        # ``stale_weeks`` recomputes them when a week before them has changed.
        deps=list(figure.sources),
        **table_options(figure.name, weeks),
        kinds={"polars", "postgres"},
        code_version=figure.code_version,
    )
    @traced_step
    def computed(context: AssetExecutionContext, warehouse: ResourceParam[Database]) -> WeekEvents:
        yield from each_week(
            context,
            lambda week: compute_figure(figure, week, warehouse),
            if_several(context, lambda week: current_week(figure.name, week, warehouse)),
        )

    return computed


def gap_report(weeks: WeekPartitions) -> AssetsDefinition:
    """The gap report, which follows whatever was captured of a week."""

    @asset(deps=[AssetDep("venue_volume")], **table_options("gap", weeks), kinds={"polars", "postgres"})
    @traced_step
    def gap_report(
        context: AssetExecutionContext,
        warehouse: ResourceParam[Database],
        source: ResourceParam[Source],
        settings: ResourceParam[Settings],
    ) -> WeekEvents:
        now = dt.datetime.now(NEW_YORK)
        gaps = current_gaps(warehouse, source, settings.first_week, now)
        report_dataset_gaps(warehouse, source, now)
        yield from each_week(context, lambda week: report_gaps(week, gaps, warehouse))

    return gap_report


def weekly_report(weeks: WeekPartitions) -> AssetsDefinition:
    """The weekly report, which follows the tables that it is made of, and the gaps of the week."""

    @asset(
        name=WEEKLY_REPORT.name,
        deps=[*WEEKLY_REPORT.sources, "gap_report"],
        **common_options("database", weeks, YEAR),
        partitions_def=weeks.of_figures,
        description=WEEKLY_REPORT.description,
        code_version=WEEKLY_REPORT.code_version,
        kinds={"html"},
    )
    @traced_step
    def report(
        context: AssetExecutionContext,
        warehouse: ResourceParam[Database],
        archive: ResourceParam[Archive],
        settings: ResourceParam[Settings],
    ) -> WeekEvents:
        now = dt.datetime.now(NEW_YORK)

        def make(week: dt.date) -> WeekResult:
            made = make_report(week, warehouse, archive, now, announcer(settings, now))
            url, where = settings.report_link(week), address(settings.archive, week)
            link = {"page": Link(url) if url else Path(where) if settings.archive.folder else where}
            return replace(made, details={**link, **made.details}) if made.rows else made

        yield from each_week(context, make, if_several(context, lambda week: current_report(week, warehouse, archive)))

    return report
