"""The code location: one assembly of assets, checks, jobs, schedules, sensors and resources."""

from collections.abc import Mapping
from typing import Any

from otc_assets.memory import importing  # before what imports Polars

with importing():
    from dagster import DagsterInstance, Definitions, definitions

    from otc_assets.defs.assets import all_assets
    from otc_assets.defs.checks import all_checks
    from otc_assets.defs.clean_up import clean_up, daily_clean_up
    from otc_assets.defs.datasets import CAPTURE_DATASETS, other_datasets
    from otc_assets.defs.exports import EXPORT_WEEKS, parquet_export, stale_exports
    from otc_assets.defs.jobs import JOBS
    from otc_assets.defs.launch import Launcher
    from otc_assets.defs.links import with_links
    from otc_assets.defs.partitions import WeekPartitions
    from otc_assets.defs.resources import make_resources
    from otc_assets.defs.schedules import SCHEDULES
    from otc_assets.defs.sensors import SENSORS
    from otc_assets.defs.spans import traced_executor
    from otc_assets.defs.step_pods import by_tag
    from otc_assets.retries import log_retries
    from otc_assets.settings import Settings, settings


def build_definitions(chosen: Settings, resources: Mapping[str, Any] | None = None) -> Definitions:
    """Builds the definitions of an installation.

    Args:
        chosen: its settings.
        resources: objects in place of those that the settings describe, by name: ``warehouse``, ``archive``,
            ``exports``, ``source``, ``settings``.
    """
    weeks = WeekPartitions(chosen.first_week, chosen.single_runs)
    return Definitions(
        assets=[with_links(asset, chosen) for asset in (*all_assets(weeks), parquet_export(weeks))],
        asset_checks=all_checks(weeks),
        jobs=[*JOBS, CAPTURE_DATASETS, EXPORT_WEEKS, clean_up],
        schedules=[*SCHEDULES, daily_clean_up],
        sensors=[*SENSORS, other_datasets, stale_exports],
        resources={**make_resources(chosen), **(resources or {})},
        executor=traced_executor(by_tag),
    )


def make_launcher(instance: DagsterInstance, chosen: Settings) -> Launcher:
    """Makes the launcher that executes runs of an installation in this process.

    Args:
        instance: Dagster's.
        chosen: the installation's settings.
    """
    resources = make_resources(chosen)
    return Launcher(instance, build_definitions(chosen, resources), chosen, resources["warehouse"])


@definitions
def defs() -> Definitions:
    """The definitions that Dagster's web server, daemon and runs load: those of the process's settings."""
    log_retries()
    return build_definitions(settings())
