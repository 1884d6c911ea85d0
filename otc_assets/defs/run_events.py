"""What Dagster's events of a run say of its weeks: which are done already, and which failed upstream.

How an asset runs over its weeks is in ``weekly``; how a check does, in ``checks``.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterator

from dagster import AssetCheckSeverity, AssetKey, DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun

from otc_assets.defs.internals import RESUME_RETRY_TAG, RETRY_NUMBER_TAG
from otc_assets.defs.partitions import key_of, week_of


def weeks_done_before(instance: DagsterInstance, run: DagsterRun, asset: AssetKey) -> set[dt.date]:
    """The weeks of ``asset`` that this run, or a run that it continues, has materialized already.

    A run continues its parent if Dagster started it after a crash, or a user executed it again from failure. A run that
    a user executed again as a whole does not.
    """
    return {
        week_of(event.partition)
        for run_id in _continued(instance, run)
        for event in _events(instance, run_id, DagsterEventType.ASSET_MATERIALIZATION)
        if event.asset_key == asset and event.partition
    }


def weeks_failed_upstream(
    instance: DagsterInstance, run_id: str, assets: Collection[AssetKey], weeks: Collection[dt.date]
) -> dict[dt.date, str]:
    """Those of ``weeks`` that this run should have materialized of ``assets`` and has not, each with the reason.

    A week counts too if a blocking check has failed for it in this run.
    """
    planned: set[AssetKey] = set()
    done: dict[AssetKey, set[str]] = defaultdict(set)
    blocked: dict[AssetKey, set[str]] = defaultdict(set)
    for event in _events(
        instance,
        run_id,
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_CHECK_EVALUATION,
    ):
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            if found.blocking and not found.passed and found.severity == AssetCheckSeverity.ERROR and found.partition:
                blocked[found.asset_key].add(found.partition)
        elif event.asset_key is not None:
            planned.add(event.asset_key)
            if event.partition and event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
                done[event.asset_key].add(event.partition)
    reasons: dict[dt.date, str] = {}
    for asset in sorted(planned & set(assets)):
        for week in weeks:
            if key_of(week) not in done[asset]:
                reasons.setdefault(week, f"{asset.to_user_string()} was not materialized in this run")
            elif key_of(week) in blocked[asset]:
                reasons.setdefault(week, f"a blocking check of {asset.to_user_string()} failed")
    return reasons


def _continued(instance: DagsterInstance, run: DagsterRun) -> Iterator[str]:
    """The id of the run, and those of the runs that it continues."""
    yield run.run_id
    if run.parent_run_id and (RETRY_NUMBER_TAG in run.tags or RESUME_RETRY_TAG in run.tags):
        parent = instance.get_run_by_id(run.parent_run_id)
        if parent is not None:
            yield from _continued(instance, parent)


def _events(instance: DagsterInstance, run_id: str, *kinds: DagsterEventType) -> Iterator[DagsterEvent]:
    for record in instance.get_records_for_run(run_id, of_type=set(kinds)).records:
        if (event := record.event_log_entry.dagster_event) is not None:
            yield event
