"""What Dagster's events of a run say of its weeks: which are done already, and which failed upstream.

How an asset runs over its weeks is in ``weekly``; how a check does, in ``checks``.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from dagster import (
    AssetCheckSeverity,
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    EventLogRecord,
)

from otc_assets.defs.internals import RESUME_RETRY_TAG, RETRY_NUMBER_TAG
from otc_assets.defs.partitions import key_of, week_of

_TYPES = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_CHECK_EVALUATION,
}


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
    known = _known_of(run_id)
    known.read(instance)
    reasons: dict[dt.date, str] = {}
    for asset in sorted(known.planned & set(assets)):
        for week in weeks:
            if key_of(week) not in known.done[asset]:
                reasons.setdefault(week, f"{asset.to_user_string()} was not materialized in this run")
            elif key_of(week) in known.blocked[asset]:
                reasons.setdefault(week, f"a blocking check of {asset.to_user_string()} failed")
    return reasons


class _Known:
    """What a run's events say of its weeks, as far as they were read.

    Every step asks, and a run's events become more with each: only those that are new are read. No other process
    adds any while a step asks: the steps of a run are executed one after another, or each in a process of its own.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._cursor: str | None = None
        self.planned: set[AssetKey] = set()
        self.done: dict[AssetKey, set[str]] = defaultdict(set)
        self.blocked: dict[AssetKey, set[str]] = defaultdict(set)

    def read(self, instance: DagsterInstance) -> None:
        found = instance.get_records_for_run(self._run_id, cursor=self._cursor, of_type=_TYPES)
        for event in _events_in(found.records):
            self._add(event)
        self._cursor = found.cursor

    def _add(self, event: DagsterEvent) -> None:
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            if found.blocking and not found.passed and found.severity == AssetCheckSeverity.ERROR and found.partition:
                self.blocked[found.asset_key].add(found.partition)
        elif event.asset_key is not None:
            self.planned.add(event.asset_key)
            if event.partition and event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
                self.done[event.asset_key].add(event.partition)


#: A process executes one run at a time.
_known_of = lru_cache(maxsize=1)(_Known)


def _continued(instance: DagsterInstance, run: DagsterRun) -> Iterator[str]:
    """The id of the run, and those of the runs that it continues."""
    yield run.run_id
    if run.parent_run_id and (RETRY_NUMBER_TAG in run.tags or RESUME_RETRY_TAG in run.tags):
        parent = instance.get_run_by_id(run.parent_run_id)
        if parent is not None:
            yield from _continued(instance, parent)


def _events(instance: DagsterInstance, run_id: str, kind: DagsterEventType) -> Iterator[DagsterEvent]:
    return _events_in(instance.get_records_for_run(run_id, of_type=kind).records)


def _events_in(records: Iterable[EventLogRecord]) -> Iterator[DagsterEvent]:
    for record in records:
        if (event := record.event_log_entry.dagster_event) is not None:
            yield event
