"""Runs that the command line asks for: in this process, or as a backfill that the daemon carries out.

Here: launching and following Dagster runs. Not here: what they do (``assets``), and parsing commands (``cli``).
Dagster has no public way to launch a run in a process that shows up complete in the UI, so some of its
private names stand here; the pinned release holds them still.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dagster import AssetKey, DagsterEventType, DagsterInstance, JobDefinition, RunConfig
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.selector import (
    PartitionRangeSelector,
    PartitionsByAssetSelector,
    PartitionsSelector,
)
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import MAX_RETRIES_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_backfill_id, make_new_run_id
from dagster._time import get_current_timestamp

from otc_assets import interruption
from otc_assets.definitions import defs
from otc_assets.defs.alerts import why_it_failed
from otc_assets.defs.executor import SlotWait, slot_wait
from otc_assets.defs.jobs import FilesToIngest, given_files, ingest_files
from otc_assets.defs.liveness import fail_dead_runs, process_tag
from otc_assets.defs.partitions import has_week, key_of, newest_week, week_of, weeks_of_tier
from otc_assets.defs.resources import Warehouse
from otc_assets.domain.rolling import WINDOW_WEEKS
from otc_assets.domain.tables import in_order, rolling_figures
from otc_assets.domain.weeks import T1, TIERS, Tier, due_at, weeks_between
from otc_assets.errors import OtcError
from otc_assets.pipeline.file_drop import decode_path
from otc_assets.settings import PROJECT_ROOT, settings
from otc_assets.warehouse.lineage import Lineage, lineage
from otc_assets.warehouse.read import effective_publications
from otc_assets.warehouse.retention import require_kept

#: How often a command that waits for a slot looks whether the run that holds it is alive.
_LOOK_FOR_DEAD_SECONDS = 15

#: Weeks a run in this process takes at a time: enough to be fast, few enough that the bar moves.
_WEEKS_AT_A_TIME = 4

#: What is made of the publications, all with the weeks of T1.
DOWNSTREAM = (*in_order(), "gap_report")

_QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

Progress = Callable[[int, str], None]


class RunFailed(OtcError):
    """A run did not succeed. The message has the failed steps' own words, and ``run_id`` the run to look at."""

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(f"{message} (run {run_id})")
        self.run_id = run_id


def _origin(job_name: str) -> RemoteJobOrigin:
    """Where the UI finds the code of a run: without it the run's page has no links and can't be repeated."""
    target = LoadableTargetOrigin(
        executable_path=sys.executable,
        module_name="otc_assets.definitions",
        attribute="defs",
        working_directory=str(PROJECT_ROOT),
    )
    location = ManagedGrpcPythonEnvCodeLocationOrigin(loadable_target_origin=target, location_name="otc_assets")
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job_name)


def run_assets(
    instance: DagsterInstance,
    assets: Sequence[str],
    first: dt.date,
    last: dt.date,
    *,
    waiting: Callable[[str], None] = lambda note: None,
    retries: bool = True,
) -> None:
    """Makes ``assets``, which share their weeks, for a week or a range of weeks, in this process.

    Args:
        instance: Dagster's.
        assets: names.
        first: the first week.
        last: the last week.
        waiting: called with a line for people while a step waits for a slot of a pool.
        retries: False fails a step at its first error, instead of trying again for minutes.

    Raises:
        RunFailed: the run did not succeed.
        Interrupted: a signal ended the command; the run is canceled.
    """
    whole = defs.resolve_implicit_global_asset_job_def()
    keys = {AssetKey(name) for name in assets}
    job = whole.get_subset(asset_selection=keys)  # the assets' checks come with them
    if first == last:
        tags = {"dagster/partition": key_of(first)}
    else:
        tags = {
            "dagster/asset_partition_range_start": key_of(first),
            "dagster/asset_partition_range_end": key_of(last),
        }
    config = _QUIET if retries else {**_QUIET, "execution": {"config": {"retries": {"disabled": {}}}}}
    _execute(instance, job, config, tags, _origin(whole.name), frozenset(keys), waiting)


def _execute(
    instance: DagsterInstance,
    job: JobDefinition,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    origin: RemoteJobOrigin,
    selection: frozenset[AssetKey] | None,
    waiting: Callable[[str], None],
) -> str:
    """Creates and executes one run. Whatever happens, it does not stay unfinished. Returns its id.

    Raises:
        RunFailed: the run did not succeed.
        Interrupted: a signal ended the command; the run is canceled.
    """
    interruption.check()
    run_id = make_new_run_id()
    looked = time.monotonic()

    def wait(note: str) -> None:
        nonlocal looked
        waiting(note)
        if time.monotonic() - looked > _LOOK_FOR_DEAD_SECONDS:
            looked = time.monotonic()
            fail_dead_runs(instance)

    token = slot_wait.set(SlotWait(settings().slot_wait_seconds, wait))
    try:
        run = instance.create_run_for_job(
            job_def=job,
            run_id=run_id,
            run_config=config,
            # The daemon does not start again by itself what a person started in a terminal.
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


def _end(instance: DagsterInstance, run_id: str, error: BaseException) -> None:
    """Ends a run that an error has left unfinished, in the moments in which Dagster does not look after it."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    if isinstance(error, KeyboardInterrupt):
        instance.report_run_canceled(run, "The command was interrupted.")
    else:
        instance.report_run_failed(run, f"The command failed: {error}")


@dataclass(frozen=True)
class Computed:
    """What a command computed.

    Attributes:
        weeks: the weeks of which something was computed, oldest first.
        failed: what failed of the weeks that the command was about, in words; empty where all is well.
        others_failed: what failed of other weeks, which were stale already.
    """

    weeks: list[dt.date]
    failed: list[str]
    others_failed: list[str]


def materialize(
    instance: DagsterInstance, weeks: Sequence[dt.date], tiers: Sequence[Tier], progress: Progress
) -> list[str]:
    """Captures the tiers of ``weeks`` and makes everything of them, a few weeks at a time, oldest first.

    A run that fails does not stop the others. The six-week figures of the five weeks after ``weeks`` follow.

    Args:
        instance: Dagster's.
        weeks: consecutive weeks.
        tiers: the tiers to capture; figures are made of all that is captured.
        progress: told how many weeks are done, and what is being done.

    Returns:
        What failed, in words; empty where nothing did.

    Raises:
        Dropped: the first of ``weeks`` is older than what is kept.
        Interrupted: a signal ended the command.
    """
    _refuse_dropped(weeks)
    failed: list[str] = []
    figures_failed: list[str] = []
    for start in range(0, len(weeks), _WEEKS_AT_A_TIME):
        chunk = weeks[start : start + _WEEKS_AT_A_TIME]
        for assets, some in _stages(chunk, tiers):
            figures = assets == list(DOWNSTREAM)
            progress(start, f"{some[0]}..{some[-1]} {'figures' if figures else assets[-1]}")
            try:
                run_assets(instance, assets, some[0], some[-1], waiting=partial(progress, start))
            except RunFailed as error:
                (figures_failed if figures else failed).append(f"{some[0]}..{some[-1]}: {error}")
        progress(start + len(chunk), f"{chunk[-1]} done")
    rest = compute_stale(instance, weeks, lambda done, note: progress(len(weeks), note), figures_failed)
    return failed + rest.failed


def compute_stale(
    instance: DagsterInstance,
    about: Sequence[dt.date],
    progress: Progress,
    failed_before: Sequence[str] = (),
    *,
    others: bool = False,
) -> Computed:
    """Computes until nothing is stale of the weeks ``about``, and of the five after each.

    Staleness moves on as weeks are computed: once a week is there, the six-week figures after it are stale. A week
    that can't be computed is left out of the next round, so that it does not hold up the others.

    Args:
        instance: Dagster's.
        about: the weeks that the command is about.
        progress: told how many weeks of the round are done, and what is being done.
        failed_before: what failed of these weeks before, in words: it counts if they are not well in the end.
        others: whether to compute other stale weeks too, afterwards, each without waiting to try it again.
    """
    warehouse = Warehouse()
    following = {week + dt.timedelta(weeks=n) for week in about for n in range(WINDOW_WEEKS)}

    def is_own(week: dt.date, tables: Collection[str]) -> bool:
        # A week after these that lacks more than its six-week figures was stale before: that is not our doing.
        return week in about or (week in following and set(tables) <= set(rolling_figures()))

    own = _Rounds(instance, progress, is_own, retries=True)
    own.run(warehouse)
    known = _lineage(warehouse)
    remaining = [week for week, tables in _stale_by_table(known).items() if is_own(week, tables)]
    failed = list(own.last_failed)
    if remaining or known.blocked & set(about):
        failed = list(dict.fromkeys([*failed_before, *own.failed]))
    if remaining and not failed:
        failed = [f"still stale: {', '.join(map(str, remaining))}"]
    rest = _Rounds(instance, progress, lambda week, tables: not is_own(week, tables), retries=False)
    if others:
        rest.run(warehouse)
    return Computed(sorted(own.weeks | rest.weeks), failed, rest.failed)


class _Rounds:
    """Rounds of computing what is stale, until nothing is or nothing changes.

    Args:
        instance: Dagster's.
        progress: told what is being done.
        wanted: which weeks, by week and stale tables.
        retries: whether steps are tried again.
    """

    def __init__(
        self,
        instance: DagsterInstance,
        progress: Progress,
        wanted: Callable[[dt.date, Collection[str]], bool],
        *,
        retries: bool,
    ) -> None:
        self._instance, self._progress, self._retries = instance, progress, retries
        self._wanted = wanted
        self._leave_out: set[dt.date] = set()
        self.weeks: set[dt.date] = set()
        self.failed: list[str] = []
        self.last_failed: list[str] = []

    def run(self, warehouse: Warehouse) -> None:
        before: object = None
        while (todo := self._todo(warehouse)) and todo != before:
            before = todo
            whole = [week for week, tables in todo.items() if not set(tables) <= set(rolling_figures())]
            rolling = [week for week in todo if week not in whole]
            self.weeks |= set(todo)
            self.last_failed = make_downstream(self._instance, whole, self._progress, retries=self._retries)
            self.last_failed += make_downstream(
                self._instance, rolling, self._progress, rolling_figures(), retries=self._retries
            )
            self.failed += self.last_failed
            # Its own figures did not come about: it would fail the next round's run for the others.
            still = _stale_by_table(_lineage(warehouse))
            self._leave_out |= {week for week in whole if "venue_volume" in still.get(week, ())}

    def _todo(self, warehouse: Warehouse) -> dict[dt.date, tuple[str, ...]]:
        return {
            week: tables
            for week, tables in _stale_by_table(_lineage(warehouse)).items()
            if week not in self._leave_out and self._wanted(week, tables)
        }


def _refuse_dropped(weeks: Sequence[dt.date]) -> None:
    with Warehouse().transaction() as connection:
        require_kept(connection, "venue_volume", min(weeks))


def _stages(weeks: Sequence[dt.date], tiers: Sequence[Tier]) -> Iterator[tuple[list[str], list[dt.date]]]:
    """The runs that make ``weeks``: assets with the same weeks together, in the order of the graph."""
    first = ["week_calendar", *(f"publication_{T1.slug}" for tier in tiers if tier == T1)]
    yield first, list(weeks)
    late = [tier for tier in TIERS if tier != T1 and tier in tiers]
    for tier in late[:1]:
        newest = newest_week(weeks_of_tier(tier))
        if newest and (out := [week for week in weeks if week <= newest]):
            yield [f"publication_{tier.slug}" for tier in late], out
    yield list(DOWNSTREAM), list(weeks)


def missing_weeks(warehouse: Warehouse, weeks: Sequence[dt.date], now: dt.datetime) -> list[dt.date]:
    """From the first of ``weeks`` that lacks a publication that is due, to the last: what is still to be made."""
    with warehouse.transaction() as connection:
        found = effective_publications(connection, weeks[0], weeks[-1])
    have = {key for key, of_tier in found.items() if of_tier.captures}
    lacking = [
        week for week in weeks if any(now >= due_at(week, tier) and (week, tier.name) not in have for tier in TIERS)
    ]
    return weeks_between(lacking[0], weeks[-1]) if lacking else []


def _lineage(warehouse: Warehouse) -> Lineage:
    with warehouse.transaction() as connection:
        return lineage(connection)


def _stale_by_table(known: Lineage) -> dict[dt.date, tuple[str, ...]]:
    """The stale weeks, oldest first, each with its stale tables."""
    found: dict[dt.date, list[str]] = {}
    for table in in_order():
        for week in known.stale(table):
            found.setdefault(week, []).append(table)
    return {week: tuple(tables) for week, tables in sorted(found.items()) if has_week(week)}


def stale_weeks(warehouse: Warehouse) -> list[dt.date]:
    """Weeks of which something was made from other inputs than stand there now, or not at all.

    Weeks before ``OTC_FIRST_WEEK`` are left out: they are no partitions, so nothing can be made of them.
    """
    return list(_stale_by_table(_lineage(warehouse)))


def make_downstream(
    instance: DagsterInstance,
    weeks: Sequence[dt.date],
    progress: Progress,
    assets: Sequence[str] = ("week_calendar", *DOWNSTREAM),
    *,
    retries: bool = True,
) -> list[str]:
    """Makes ``assets`` of what is captured of ``weeks``, which need not be consecutive. Returns what failed."""
    failed: list[str] = []
    done = 0
    for first, last, count in _stretches(weeks):
        progress(done, f"{first}..{last}")
        try:
            run_assets(instance, assets, first, last, waiting=partial(progress, done), retries=retries)
        except RunFailed as error:
            failed.append(f"{first}..{last}: {error}")
        done += count
        progress(done, f"{last} done")
    return failed


def _stretches(weeks: Sequence[dt.date]) -> Iterator[tuple[dt.date, dt.date, int]]:
    """(first, last, count) of stretches of consecutive weeks, at most so many at a time."""
    stretch: list[dt.date] = []
    for week in sorted(weeks):
        if stretch and (week - stretch[-1] != dt.timedelta(weeks=1) or len(stretch) == 3 * _WEEKS_AT_A_TIME):
            yield stretch[0], stretch[-1], len(stretch)
            stretch = []
        stretch.append(week)
    if stretch:
        yield stretch[0], stretch[-1], len(stretch)


def ingest(instance: DagsterInstance, files: FilesToIngest, waiting: Callable[[str], None] = lambda note: None) -> str:
    """Takes in files, in this process, as the job that the file-drop sensor launches. Returns the run's id.

    Raises:
        RunFailed: a file was refused; the others were taken in.
    """
    config = RunConfig(ops={"ingest": files}, loggers=_QUIET["loggers"])
    job = defs.resolve_job_def(ingest_files.name)
    token = given_files.set(frozenset(map(decode_path, files.paths)))
    try:
        return _execute(instance, job, config.to_config_dict(), {}, _origin(job.name), None, waiting)
    finally:
        given_files.reset(token)


def weeks_of_run(instance: DagsterInstance, run_id: str) -> list[dt.date]:
    """The weeks that a run captured, or found captured already."""
    kinds = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION}
    events = instance.get_records_for_run(run_id, of_type=kinds).records
    keys = {record.event_log_entry.dagster_event.partition for record in events if record.event_log_entry.dagster_event}
    return sorted(week_of(key) for key in keys if key)


# --- backfills by the daemon ---------------------------------------------------------------------------


@dataclass(frozen=True)
class BackfillState:
    """How far a backfill is, in partitions over all its assets."""

    done: int
    failed: int
    of: int
    ended: bool
    succeeded: bool
    status: str


def require_daemon(instance: DagsterInstance) -> None:
    """Makes sure that a daemon runs which carries out backfills.

    Raises:
        OtcError: none has sent a heartbeat in the last three minutes.
    """
    heartbeat = instance.get_daemon_heartbeats().get("BACKFILL")
    if heartbeat is None or time.time() - heartbeat.timestamp >= 180:
        raise OtcError(
            "no Dagster daemon is running, which would carry out the backfill",
            remedy="Start 'otc-assets up' in another terminal, or use 'otc-assets materialize', which does the work "
            "itself.",
        )


def launch_backfill(instance: DagsterInstance, weeks: Sequence[dt.date], tiers: Sequence[Tier]) -> str:
    """Asks the daemon to capture and make ``weeks``, as the UI's dialog does. Returns the backfill's id.

    Raises:
        Dropped: the first of ``weeks`` is older than what is kept.
    """
    _refuse_dropped(weeks)
    graph = defs.resolve_asset_graph()
    wanted: list[tuple[str, list[dt.date]]] = []
    for assets, some in _stages(weeks, tiers):
        wanted += [(asset, some) for asset in assets]
    backfill = PartitionBackfill.from_partitions_by_assets(
        partitions_by_assets=[
            PartitionsByAssetSelector(
                asset_key=AssetKey(asset),
                partitions=PartitionsSelector(
                    ranges=[PartitionRangeSelector(start=key_of(some[0]), end=key_of(some[-1]))]
                ),
            )
            for asset, some in wanted
        ],
        backfill_id=make_new_backfill_id(),
        asset_graph=graph,
        backfill_timestamp=get_current_timestamp(),
        tags={"otc/launched_by": "otc-assets"},
        dynamic_partitions_store=instance,
        title=f"weeks {weeks[0]} to {weeks[-1]}",
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def follow_backfill(instance: DagsterInstance, backfill_id: str) -> Iterator[BackfillState]:
    """The progress of a backfill, once per second; the last one has ended."""
    while not (state := backfill_state(instance, backfill_id)).ended:
        yield state
        time.sleep(1)
    yield state


def backfill_state(instance: DagsterInstance, backfill_id: str) -> BackfillState:
    """How far a backfill is."""
    backfill = instance.get_backfill(backfill_id)
    if backfill is None:
        raise LookupError(f"there is no backfill {backfill_id}")
    ended = backfill.status not in (
        BulkActionStatus.REQUESTED,
        BulkActionStatus.CANCELING,
        BulkActionStatus.FAILING,
    )
    data = backfill.asset_backfill_data
    return BackfillState(
        done=data.materialized_subset.num_partitions_and_non_partitioned_assets if data else 0,
        failed=data.failed_and_downstream_subset.num_partitions_and_non_partitioned_assets if data else 0,
        of=data.target_subset.num_partitions_and_non_partitioned_assets if data else 0,
        ended=ended,
        succeeded=backfill.status == BulkActionStatus.COMPLETED_SUCCESS,
        status=backfill.status.value,
    )
