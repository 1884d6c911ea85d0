"""The code location: one assembly of assets, checks, jobs, schedules, sensors and resources.

``build_definitions`` takes other resources, so that tests and tools recompose it without patching.
"""

from collections.abc import Mapping
from typing import Any

from dagster import Definitions

from otc_assets.assets.executor import in_process
from otc_assets.assets.figures import figure_assets
from otc_assets.assets.gap_report import gap_report
from otc_assets.assets.publications import PUBLICATIONS
from otc_assets.assets.spans import traced_executor
from otc_assets.assets.venue_volume import venue_volume
from otc_assets.assets.week_calendar import week_calendar
from otc_assets.automation.jobs import (
    CAPTURE_JOBS,
    MAKE_ROLLING,
    MAKE_WEEK,
    REPORT_GAPS,
    accept_capture,
    ingest_files,
    retention,
    withdraw_capture,
)
from otc_assets.automation.schedules import SCHEDULES
from otc_assets.automation.sensors import SENSORS
from otc_assets.checks.weekly import CHECKS
from otc_assets.resources import PublicationSource, RawArchive, Warehouse


def build_definitions(resources: Mapping[str, Any] | None = None) -> Definitions:
    """The definitions, with ``resources`` in place of those that the settings make."""
    return Definitions(
        assets=[week_calendar, *PUBLICATIONS, venue_volume, *figure_assets(), gap_report],
        asset_checks=CHECKS,
        jobs=[
            *CAPTURE_JOBS.values(),
            MAKE_WEEK,
            MAKE_ROLLING,
            REPORT_GAPS,
            ingest_files,
            accept_capture,
            withdraw_capture,
            retention,
        ],
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={
            "warehouse": Warehouse(),
            "raw_archive": RawArchive(),
            "publication_source": PublicationSource(),
            **(resources or {}),
        },
        executor=traced_executor(in_process),
    )


defs = build_definitions()
