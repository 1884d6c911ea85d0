"""Finds runs whose process has ended, marks them as failed, and frees their slots.

Dagster's default launcher has no health check, and a run in the process of a command has no launcher at all: a
closed terminal would leave it STARTED for hours, with a slot of its pool. Every run therefore carries the identity
of its process as a tag, set when it is created (by a command) or when it begins to execute (by the executor). What
executes runs is in ``launch`` and ``executor``.
"""

from __future__ import annotations

import logging

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from otc_assets.processes import Identity, is_dead, this_process

#: The tag with the identity of the process that executes the run.
PROCESS_TAG = "otc/process"
#: Set by Dagster's default launcher: where the code server is that started the run's process.
_CODE_SERVER_TAG = ".dagster/grpc_info"

#: The states of a run that was taken from the queue and has not ended.
UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]

#: The names of jobs in earlier versions, whose runs this version can't execute.
_RENAMED_JOBS = {"make_week": "compute_week", "make_rolling": "compute_rolling"}

log = logging.getLogger(__name__)


def process_tag(run_id: str) -> dict[str, str]:
    """The tag that says that this process executes the run. It names the run, because a retry copies the tags."""
    return {PROCESS_TAG: f"{run_id}|{this_process()}"}


def process_of(run: DagsterRun) -> Identity | None:
    """The process that executes the run; None where the run does not say."""
    whose, _, identity = run.tags.get(PROCESS_TAG, "").partition("|")
    return Identity.parse(identity) if whose == run.run_id else None


def _has_dead_process(run: DagsterRun) -> bool:
    process = process_of(run)
    return process is not None and is_dead(process)


def has_no_process(run: DagsterRun) -> bool:
    """Whether the run is unfinished, and no process of this machine is known to execute it."""
    if run.status not in UNFINISHED:
        return False
    process = process_of(run)
    return process is None or process.host != this_process().host or is_dead(process)


def fail_dead_runs(instance: DagsterInstance, *, no_code_server: bool = False) -> list[str]:
    """Ends the runs whose process no longer exists, and frees the slots of pools that they held.

    Args:
        instance: Dagster's.
        no_code_server: the caller knows that no code server runs: runs that one was about to start are dead too.

    Returns:
        The ids of the runs that were ended.
    """
    ended = []
    for run in instance.get_runs(RunsFilter(statuses=UNFINISHED)):
        process = process_of(run)
        if process is None:
            if not (no_code_server and _CODE_SERVER_TAG in run.tags):
                continue
            whose = "Its code server"
        elif is_dead(process):
            whose = f"Its process ({process.pid} on {process.host.partition('/')[0]})"
        else:
            continue
        current = instance.get_run_by_id(run.run_id)
        if current is None or current.is_finished:
            continue
        if current.status == DagsterRunStatus.CANCELING:
            instance.report_run_canceled(current, f"{whose} has ended; the run was to be canceled.")
        else:
            instance.report_run_failed(
                current, f"{whose} ended without finishing the run: it was killed, or the machine went down."
            )
        ended.append(run.run_id)
    _free_slots(instance)
    if ended:
        log.warning("marked as failed, because their process has ended: %s", ", ".join(ended))
    return ended


def fail_restored_runs(instance: DagsterInstance) -> None:
    """Marks unfinished runs as failed in a database that was restored from a dump: no process executes them here."""
    for run in instance.get_runs(RunsFilter(statuses=UNFINISHED)):
        instance.report_run_failed(run, "The database was restored from a dump that was made during this run.")
    _free_slots(instance)


def cancel_runs_of_renamed_jobs(instance: DagsterInstance) -> None:
    """Cancels queued runs of jobs that have another name since an upgrade: they would fail, and cause alerts."""
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.QUEUED])):
        if new := _RENAMED_JOBS.get(run.job_name):
            instance.report_run_canceled(run, f"The job is now {new}: the sensor stale_weeks requests its weeks again.")


def _free_slots(instance: DagsterInstance) -> None:
    """Frees slots that finished or deleted runs still hold. A run whose process may be at work keeps its own."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    holders = set(storage.get_concurrency_run_ids())
    if not holders:
        return
    known = {run.run_id: run for run in instance.get_runs(RunsFilter(run_ids=list(holders)))}
    for run_id in holders:
        run = known.get(run_id)
        if run is None or (run.is_finished and _has_dead_process(run)):
            storage.free_concurrency_slots_for_run(run_id)
