"""Executes Dagster runs in the process of a command, complete in the UI.

Which assets and weeks a command runs is decided in ``materialize``; backfills by the daemon are in ``backfill``; what
runs do is in ``pipeline``.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster import AssetKey, DagsterEventType, DagsterInstance, Definitions, JobDefinition, RunConfig

from otc_assets import interruption
from otc_assets.defs.executor import SlotWait, slot_wait
from otc_assets.defs.failures import why_it_failed
from otc_assets.defs.internals import (
    MAX_RETRIES_TAG,
    PARTITION_NAME_TAG,
    InMemoryJob,
    LoadableTargetOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    execute_run,
    make_new_run_id,
)
from otc_assets.defs.jobs import FilesToIngest, given_files, ingest_files
from otc_assets.defs.liveness import fail_dead_runs, process_tag
from otc_assets.defs.partitions import WeekPartitions, key_of, range_tags, week_of
from otc_assets.defs.under_way import LOCATION_NAME, REPOSITORY_NAME
from otc_assets.errors import OtcError
from otc_assets.pipeline.file_drop import decode_path
from otc_assets.settings import PROJECT_ROOT, Settings
from otc_assets.warehouse.database import Database

#: How often a command that waits for a slot checks whether the run that holds it is alive.
_CHECK_FOR_DEAD_SECONDS = 15

_QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

#: Called with a line for people while a step waits for a slot of a pool.
Waiting = Callable[[str], None]


def _ignore(note: str) -> None:
    """No one follows the waiting."""


class RunFailed(OtcError):
    """A run did not succeed. The message has the errors of the failed steps, and ``run_id`` the run to look at."""

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(f"{message} (run {run_id})")
        self.run_id = run_id


@dataclass(frozen=True)
class Launcher:
    """Executes runs of an installation in this process.

    Attributes:
        instance: Dagster's.
        definitions: the code location.
        settings: the installation's.
        database: the installation's.
    """

    instance: DagsterInstance
    definitions: Definitions
    settings: Settings
    database: Database

    @property
    def weeks(self) -> WeekPartitions:
        """The weeks of the installation."""
        return WeekPartitions(self.settings.first_week)

    def run_assets(
        self, assets: Sequence[str], first: dt.date, last: dt.date, *, waiting: Waiting = _ignore, retries: bool = True
    ) -> None:
        """Materializes ``assets``, which share their weeks, for a week or a range of weeks.

        Args:
            assets: names.
            first: the first week.
            last: the last week.
            waiting: called with a line for people while a step waits for a slot of a pool.
            retries: False fails a step at its first error, instead of retrying it for minutes.

        Raises:
            RunFailed: the run did not succeed.
            Interrupted: a signal ended the command; the run is canceled.
        """
        whole = self.definitions.resolve_implicit_global_asset_job_def()
        keys = {AssetKey(name) for name in assets}
        job = whole.get_subset(asset_selection=keys)  # includes the assets' checks
        tags = {PARTITION_NAME_TAG: key_of(first)} if first == last else range_tags(first, last)
        config = _QUIET if retries else {**_QUIET, "execution": {"config": {"retries": {"disabled": {}}}}}
        self._execute(job, config, tags, _origin(whole.name), frozenset(keys), waiting)

    def ingest(self, files: FilesToIngest, waiting: Waiting = _ignore) -> str:
        """Ingests files, with the job that the file-drop sensor launches. Returns the run's id.

        Raises:
            RunFailed: a file was refused; the others were ingested.
        """
        config = RunConfig(ops={"ingest": files}, loggers=_QUIET["loggers"])
        job = self.definitions.resolve_job_def(ingest_files.name)
        token = given_files.set(frozenset(map(decode_path, files.paths)))
        try:
            return self._execute(job, config.to_config_dict(), {}, _origin(job.name), None, waiting)
        finally:
            given_files.reset(token)

    def weeks_of_run(self, run_id: str) -> list[dt.date]:
        """The weeks that a run captured, or found captured already."""
        kinds = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION}
        records = self.instance.get_records_for_run(run_id, of_type=kinds).records
        events = [record.event_log_entry.dagster_event for record in records]
        return sorted({week_of(event.partition) for event in events if event and event.partition})

    def _execute(
        self,
        job: JobDefinition,
        config: Mapping[str, Any],
        tags: Mapping[str, str],
        origin: RemoteJobOrigin,
        selection: frozenset[AssetKey] | None,
        waiting: Waiting,
    ) -> str:
        """Creates and executes one run. Whatever happens, it does not stay unfinished. Returns its id.

        Raises:
            RunFailed: the run did not succeed.
            Interrupted: a signal ended the command; the run is canceled.
        """
        interruption.check()
        instance, run_id = self.instance, make_new_run_id()
        checked = time.monotonic()

        def wait(note: str) -> None:
            nonlocal checked
            waiting(note)
            if time.monotonic() - checked > _CHECK_FOR_DEAD_SECONDS:
                checked = time.monotonic()
                fail_dead_runs(instance)

        token = slot_wait.set(SlotWait(self.settings.slot_wait_seconds, wait))
        try:
            run = instance.create_run_for_job(
                job_def=job,
                run_id=run_id,
                run_config=config,
                # The daemon does not restart by itself what a person started in a terminal.
                tags={**tags, **process_tag(run_id), MAX_RETRIES_TAG: "0", "otc/launched_by": "otc-assets"},
                asset_selection=selection,
                remote_job_origin=origin,
            )
            succeeded = execute_run(InMemoryJob(job), run, instance, raise_on_error=False).success
        except BaseException as error:
            _end(instance, run_id, error)
            raise
        finally:
            slot_wait.reset(token)
        interruption.check()
        if not succeeded:
            raise RunFailed(why_it_failed(instance, run_id), run_id)
        return run_id


def _origin(job_name: str) -> RemoteJobOrigin:
    """Where the UI finds the code of a run: without it the run's page has no links, and the run can't be repeated.

    Dagster finds the code location by its name. On Kubernetes the location is a gRPC server, and the run can be
    repeated too, with the code of that server.
    """
    target = LoadableTargetOrigin(
        executable_path=sys.executable,
        module_name="otc_assets.definitions",
        attribute="defs",
        working_directory=str(PROJECT_ROOT),
    )
    location = ManagedGrpcPythonEnvCodeLocationOrigin(loadable_target_origin=target, location_name=LOCATION_NAME)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, REPOSITORY_NAME), job_name)


def _end(instance: DagsterInstance, run_id: str, error: BaseException) -> None:
    """Ends a run that an error has left unfinished while Dagster was not in charge of it."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    if isinstance(error, KeyboardInterrupt):
        instance.report_run_canceled(run, "The command was interrupted.")
    else:
        instance.report_run_failed(run, f"The command failed: {error}")
