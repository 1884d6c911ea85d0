"""The code location: one assembly of assets, checks, jobs, schedules, sensors and resources.

``build_definitions`` takes other resources, so that tests and tools recompose it without patching.
"""

from collections.abc import Mapping
from typing import Any

from dagster import Definitions

from otc_assets.defs.assets.figures import figure_assets
from otc_assets.defs.assets.gap_report import gap_report
from otc_assets.defs.assets.publications import PUBLICATIONS
from otc_assets.defs.assets.venue_volume import venue_volume
from otc_assets.defs.assets.week_calendar import week_calendar
from otc_assets.defs.checks import CHECKS
from otc_assets.defs.executor import in_process
from otc_assets.defs.jobs import (
    CAPTURE_JOBS,
    MAKE_ROLLING,
    MAKE_WEEK,
    REPORT_GAPS,
    accept_capture,
    ingest_files,
    retention,
    withdraw_capture,
)
from otc_assets.defs.resources import PublicationSource, RawArchive, Warehouse
from otc_assets.defs.schedules import SCHEDULES
from otc_assets.defs.sensors import SENSORS
from otc_assets.defs.spans import traced_executor


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
