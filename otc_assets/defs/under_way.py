"""Finds what runs and backfills in progress cover: for each asset, the weeks that they are about to materialize.

Sensors leave these weeks alone. Only the runs of this code location count: an instance may have others, whose runs
never end. Which weeks are stale or revised is decided in ``stale`` and ``captures``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RepositoryDefinition,
    RunsFilter,
    SensorEvaluationContext,
)

from otc_assets.defs.internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    REPOSITORY_LABEL_TAG,
    BulkActionsFilter,
    BulkActionStatus,
    DagsterDefinitionChangedDeserializationError,
    PartitionBackfill,
)
from otc_assets.defs.jobs import ingest_files
from otc_assets.defs.liveness import UNFINISHED
from otc_assets.defs.partitions import week_if_any
from otc_assets.domain.weeks import weeks_between

#: The name of the code location in ``workspace.yaml``, and of its repository: runs of commands have both.
LOCATION_NAME, REPOSITORY_NAME = "otc_assets", "__repository__"

QUEUED_OR_UNFINISHED = [DagsterRunStatus.QUEUED, *UNFINISHED]

_BACKFILLS = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


@dataclass(frozen=True)
class UnderWay:
    """What is in progress.

    Attributes:
        covered: the weeks that runs and backfills cover, each with their assets; None for all assets.
        ingesting: whether a run ingests files, whose weeks are not known yet.
    """

    covered: tuple[tuple[frozenset[str] | None, frozenset[dt.date]], ...]
    ingesting: bool

    def weeks(self, asset: str | None = None) -> set[dt.date]:
        """The weeks of an asset that are in progress; of any asset if none is given."""
        return {
            week
            for assets, weeks in self.covered
            if asset is None or assets is None or asset in assets
            for week in weeks
        }


def under_way(context: SensorEvaluationContext) -> UnderWay:
    """Looks at the unfinished runs and backfills of the sensor's code location."""
    repository = context.repository_def
    assert repository is not None, "Dagster passes the repository to sensors"
    labels = {f"{REPOSITORY_NAME}@{LOCATION_NAME}"}
    if context.code_location_origin:
        labels.add(f"{context.repository_name}@{context.code_location_origin.location_name}")
    runs = list(_unfinished_runs(context.instance, labels))
    covered = [(_assets_of(run, repository), frozenset(_weeks_of(run))) for run in runs]
    for backfill in context.instance.get_backfills(filters=BulkActionsFilter(statuses=_BACKFILLS)):
        covered += _not_finished(backfill, repository, labels)
    return UnderWay(tuple(covered), any(run.job_name == ingest_files.name for run in runs))


def _unfinished_runs(instance: DagsterInstance, labels: set[str]) -> Iterator[DagsterRun]:
    """The runs of these code locations that are queued or being executed.

    A run that a command of Dagster's own executes has no code location: it counts. Such runs are never queued, so that
    they are looked for only among those that are executed, whose number is limited.
    """
    yield from instance.get_runs(
        RunsFilter(statuses=[DagsterRunStatus.QUEUED], tags={REPOSITORY_LABEL_TAG: sorted(labels)})
    )
    for run in instance.get_runs(RunsFilter(statuses=UNFINISHED)):
        if run.remote_job_origin is None or run.remote_job_origin.repository_origin.get_label() in labels:
            yield run


def _assets_of(run: DagsterRun, repository: RepositoryDefinition) -> frozenset[str] | None:
    """The assets of a run; None for all: an earlier version had jobs that this one does not know."""
    keys: Iterable[AssetKey] = run.asset_selection or ()
    if not keys and repository.has_job(run.job_name):
        keys = repository.get_job(run.job_name).asset_layer.executable_asset_keys
    return frozenset(key.to_user_string() for key in keys) or None


def _weeks_of(run: DagsterRun) -> list[dt.date]:
    """The weeks of a run."""
    first, last = run.tags.get(ASSET_PARTITION_RANGE_START_TAG), run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if first and last:
        ends = sorted(_valid_weeks([first, last]))
        return weeks_between(*ends) if len(ends) == 2 else []
    return _valid_weeks([run.tags.get(PARTITION_NAME_TAG, "")])


def _valid_weeks(keys: Iterable[str]) -> list[dt.date]:
    """The weeks of keys; a key of something else, such as a run of another location that has no origin, has none."""
    return [week for key in keys if (week := week_if_any(key)) is not None]


def _not_finished(
    backfill: PartitionBackfill, repository: RepositoryDefinition, labels: set[str]
) -> Iterator[tuple[frozenset[str] | None, frozenset[dt.date]]]:
    """The weeks that a backfill has yet to finish: what it targets, without what it has materialized or failed."""
    if not backfill.is_asset_backfill:
        # It launches one run per week, in the order of the names; those that are launched are runs in progress.
        origin, names = backfill.partition_set_origin, list(backfill.partition_names or ())
        if origin is None or origin.repository_origin.get_label() not in labels:
            return
        if backfill.last_submitted_partition_name in names:
            names = names[names.index(backfill.last_submitted_partition_name) + 1 :]
        yield None, frozenset(_valid_weeks(names))
        return
    graph = repository.asset_graph
    if not any(graph.has(key) for key in backfill.asset_selection or ()):
        return
    try:
        data = backfill.get_asset_backfill_data(graph)
    except DagsterDefinitionChangedDeserializationError:
        return  # its weeks are those of other settings: the daemon will end it
    missing = data.get_targeted_partitions_without_materialization_status()
    for key, subset in missing.partitions_subsets_by_asset_key.items():
        if graph.has(key):
            yield frozenset([key.to_user_string()]), frozenset(_valid_weeks(subset.get_partition_keys()))
