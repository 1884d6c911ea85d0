"""Stale weeks, by real ticks on stored captures: which weeks are put into which runs, and what holds a week up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import psycopg
import pytest
import time_machine
from dagster import AssetKey, DagsterInstance, DagsterRun, DagsterRunStatus, RunRequest, build_sensor_context
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.selector import PartitionRangeSelector, PartitionsByAssetSelector, PartitionsSelector
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.utils import make_new_run_id
from support import installed
from support.published import Published

from otc_assets.defs.attempts import WEEKS_TAG
from otc_assets.defs.partitions import key_of
from otc_assets.domain.weeks import NEW_YORK, OTCE, T1, T2, TIERS, Tier, weeks_between
from otc_assets.pipeline.capture import capture_publication

Sql = psycopg.Connection[tuple[object, ...]]

NOW = dt.datetime(2026, 10, 14, 6, tzinfo=NEW_YORK)
MINUTE = dt.timedelta(minutes=1)
WEEKS = weeks_between(dt.date(2026, 1, 2), dt.date(2026, 7, 24))  # 30 weeks


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def capture(weeks: Sequence[dt.date], tiers: Sequence[Tier] = TIERS) -> None:
    """Captures weeks as a run does, from a small FINRA."""
    source = Published(lambda: NOW.date())
    for week in weeks:
        for tier in tiers:
            capture_publication(week, tier, source, installed.archive(), installed.database(), "a run", NOW)


def tick(dagster: DagsterInstance, name: str = "stale_weeks") -> tuple[list[RunRequest], str]:
    """One tick: what it requests, or what it says."""
    context = build_sensor_context(
        dagster,
        resources=installed.resources(),
        repository_def=installed.repository(),
        repository_name="__repository__",
    )
    result = installed.definitions().resolve_sensor_def(name).evaluate_tick(context)
    return list(result.run_requests or []), str(result.skip_message)


def asked(requests: Sequence[RunRequest]) -> list[tuple[str, str]]:
    """The first and last week of each request."""
    found = []
    for request in requests:
        first, last = (request.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
        found.append((first or str(request.partition_key), last or str(request.partition_key)))
    return found


def keys(*weeks: dt.date) -> tuple[str, str]:
    return key_of(weeks[0]), key_of(weeks[-1])


def origin(location: str) -> RemoteJobOrigin:
    return RemoteJobOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__"), "compute_week"
    )


def started(
    dagster: DagsterInstance,
    request: RunRequest,
    status: DagsterRunStatus = DagsterRunStatus.STARTED,
    location: str = "otc_assets",
) -> DagsterRun:
    """The run that the daemon launches for a request."""
    tags = dict(request.tags)
    if request.partition_key:
        tags["dagster/partition"] = request.partition_key
    run = DagsterRun(
        request.job_name or "compute_week",
        run_id=make_new_run_id(),
        tags=tags,
        status=status,
        remote_job_origin=origin(location),
    )
    return dagster.add_run(run)


def executed(dagster: DagsterInstance, request: RunRequest) -> None:
    """Executes a request for real."""
    job = installed.definitions().resolve_job_def(str(request.job_name))
    assert job.execute_in_process(
        instance=dagster, tags=dict(request.tags), partition_key=request.partition_key
    ).success


def test_consecutive_stale_weeks_are_computed_in_few_runs_of_a_bounded_size(dagster: DagsterInstance, sql: Sql) -> None:
    """151 stale weeks were 151 runs, and one tick that was busy for minutes."""
    capture(WEEKS, [T1])
    requests, _ = tick(dagster)
    assert asked(requests) == [keys(*WEEKS[:13]), keys(*WEEKS[13:26])]
    assert tick(dagster)[0] == requests  # nothing was launched yet
    run = started(dagster, requests[0])
    assert asked(tick(dagster)[0]) == [keys(*WEEKS[13:26])]
    started(dagster, requests[1], DagsterRunStatus.QUEUED)
    nothing, words = tick(dagster)
    assert nothing == []
    assert words.startswith("4 stale weeks wait until earlier runs of this sensor end; 26 stale weeks are covered by")
    dagster.report_run_failed(run)
    assert asked(tick(dagster)[0]) == [keys(*WEEKS[26:])]


@pytest.mark.slow
def test_a_requested_range_leaves_no_week_of_it_stale(dagster: DagsterInstance, sql: Sql) -> None:
    """A real run of the real request; the six-week figures after it are computed in one run, too."""
    capture(WEEKS[:2] + WEEKS[3:6], [T1])
    requests, _ = tick(dagster)
    assert asked(requests) == [keys(*WEEKS[:2]), keys(*WEEKS[3:6])]
    for request in requests:
        executed(dagster, request)
    assert tick(dagster) == ([], "every week is up to date")
    computed = sql.execute(
        "SELECT count(*) FROM otc.computed_week WHERE table_name = 'symbol_rolling' AND rows > 0"
    ).fetchone()
    assert computed == (5,)
    # The week between them arrives: it is computed first, and then the six-week figures after it alone.
    capture(WEEKS[2:3], [T1])
    requests, _ = tick(dagster)
    assert [(request.job_name, request.partition_key) for request in requests] == [("compute_week", key_of(WEEKS[2]))]
    executed(dagster, requests[0])
    requests, _ = tick(dagster)
    assert [request.job_name for request in requests] == ["compute_rolling"]
    assert asked(requests) == [keys(*WEEKS[3:6])]
    executed(dagster, requests[0])
    assert tick(dagster) == ([], "every week is up to date")


def test_runs_of_other_code_locations_hold_nothing_up(dagster: DagsterInstance) -> None:
    """In a shared instance something always runs: stale weeks were never recomputed."""
    capture(WEEKS[:3], [T1])
    week = {"dagster/partition": key_of(WEEKS[1])}
    for status in (DagsterRunStatus.QUEUED, DagsterRunStatus.STARTED, DagsterRunStatus.STARTING):
        started(dagster, RunRequest(tags=week), status, location="another")
    assert asked(tick(dagster)[0]) == [keys(*WEEKS[:3])]


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])
def test_a_run_in_progress_holds_up_its_own_weeks_alone(dagster: DagsterInstance, status: DagsterRunStatus) -> None:
    """Also a run of an earlier version, whose job has another name now."""
    capture(WEEKS[:8], [T1])
    started(dagster, RunRequest(job_name="make_week", partition_key=key_of(WEEKS[1])), status)
    span = {f"dagster/asset_partition_range_{end}": key_of(WEEKS[n]) for end, n in (("start", 4), ("end", 5))}
    started(dagster, RunRequest(job_name="capture_t1", tags=span), status)
    assert asked(tick(dagster)[0]) == [keys(WEEKS[0]), keys(*WEEKS[2:4])]


def test_a_run_without_a_code_location_holds_up_its_weeks(dagster: DagsterInstance) -> None:
    """Such are the runs of Dagster's own commands, in their own process."""
    capture(WEEKS[:2], [T1])
    job = installed.definitions().resolve_job_def("capture_t1")
    tags = {"dagster/partition": key_of(WEEKS[0])}
    dagster.create_run_for_job(job_def=job, status=DagsterRunStatus.STARTED, tags=tags)
    assert asked(tick(dagster)[0]) == [keys(WEEKS[1])]


@pytest.mark.parametrize("span", [("2026-08-01", "2026-08-31"), ("eu", "us")])
def test_a_range_of_anothers_partitions_holds_nothing_up(dagster: DagsterInstance, span: tuple[str, str]) -> None:
    """Dagster's own command executes it, with the code of another project: every tick failed while it took."""
    capture(WEEKS[:2], [T1])
    tags = {f"dagster/asset_partition_range_{end}": key for end, key in zip(("start", "end"), span, strict=True)}
    dagster.add_run(DagsterRun("theirs", run_id=make_new_run_id(), tags=tags, status=DagsterRunStatus.STARTED))
    assert asked(tick(dagster)[0]) == [keys(*WEEKS[:2])]


def backfill(assets: Sequence[str], first: dt.date, last: dt.date) -> PartitionBackfill:
    chosen = PartitionsSelector(ranges=[PartitionRangeSelector(start=key_of(first), end=key_of(last))])
    return PartitionBackfill.from_partitions_by_assets(
        backfill_id="abcdefgh",
        asset_graph=installed.repository().asset_graph,
        backfill_timestamp=NOW.timestamp(),
        tags={},
        dynamic_partitions_store=None,  # type: ignore[arg-type]
        partitions_by_assets=[
            PartitionsByAssetSelector(asset_key=AssetKey(asset), partitions=chosen) for asset in assets
        ],
        title=None,
        description=None,
        run_config=None,
    )


def test_a_backfill_holds_up_the_weeks_that_it_has_not_finished(dagster: DagsterInstance) -> None:
    """Between its runs, weeks are stale: a backfill of 150 weeks was computed twice, tier by tier."""
    capture(WEEKS[:4], [T1])
    whole = backfill(["publication_t2", "venue_volume"], WEEKS[1], WEEKS[3])
    dagster.add_backfill(whole)
    requests, _ = tick(dagster)
    assert asked(requests) == [keys(WEEKS[0])]
    started(dagster, requests[0])
    assert tick(dagster) == ([], "4 stale weeks are covered by runs or backfills in progress")
    # The capture of one week failed, and what follows on it; another week is finished.
    data = whole.asset_backfill_data
    assert data is not None
    volume, t2 = AssetKey("venue_volume"), AssetKey("publication_t2")

    def part(*weeks: dt.date) -> AssetGraphSubset:
        subsets = {key: data.target_subset.get_partitions_subset(key) for key in (volume, t2)}
        wanted = set(map(key_of, weeks))
        return AssetGraphSubset({key: s.empty_subset().with_partition_keys(wanted) for key, s in subsets.items()})

    data = data._replace(failed_and_downstream_subset=part(WEEKS[1]), materialized_subset=part(WEEKS[3]))
    dagster.update_backfill(whole.with_asset_backfill_data(data, dagster, installed.repository().asset_graph))
    assert asked(tick(dagster)[0]) == [keys(WEEKS[1])]
    ended = next(iter(dagster.get_backfills())).with_status(BulkActionStatus.CANCELED)
    dagster.update_backfill(ended)
    assert asked(tick(dagster)[0]) == [keys(*WEEKS[1:4])]


def test_what_a_backfill_is_about_to_capture_is_no_late_week(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill of 150 weeks was joined by 36 captures of the same weeks."""
    installed.replace(monkeypatch, source=Published(lambda: NOW.date()))
    capture(WEEKS[-2:-1], [T1])
    late = {key_of(week) for week in weeks_between(WEEKS[-1], dt.date(2026, 9, 25))}
    assert {request.partition_key for request in tick(dagster, "late_and_revised")[0]} == late
    dagster.add_backfill(backfill(["publication_t1"], WEEKS[-1], dt.date(2026, 9, 18)))
    assert asked(tick(dagster, "late_and_revised")[0]) == [("2026-09-25", "2026-09-25")]


def test_a_week_waits_a_few_minutes_for_the_tiers_that_are_due(
    dagster: DagsterInstance, clock: time_machine.Traveller, sql: Sql
) -> None:
    """Computed tier by tier, a week was computed three times, and its gap report warned of tiers that came."""
    both_due, one_due = WEEKS[0], dt.date(2026, 9, 25)
    capture([both_due], [T1, T2])
    capture([one_due], [T1])
    sql.execute("UPDATE otc.publication SET captured_at = %s", [NOW])
    assert asked(tick(dagster)[0]) == [keys(one_due)]  # FINRA publishes its other tiers in two weeks
    started(dagster, tick(dagster)[0][0])
    clock.shift(5 * MINUTE - dt.timedelta(seconds=1))
    assert "1 weeks wait for tiers that are due, until 10:05 UTC at the latest" in tick(dagster)[1]
    clock.shift(dt.timedelta(seconds=2))
    assert asked(tick(dagster)[0]) == [keys(both_due)]


def test_a_week_whose_due_tiers_are_all_captured_does_not_wait(dagster: DagsterInstance, sql: Sql) -> None:
    capture([WEEKS[0]], [T1, T2])
    capture([WEEKS[0]], [OTCE])
    sql.execute("UPDATE otc.publication SET captured_at = %s", [NOW])
    assert asked(tick(dagster)[0]) == [keys(WEEKS[0])]


def test_files_that_are_being_ingested_may_bring_the_other_tiers(
    dagster: DagsterInstance, clock: time_machine.Traveller, sql: Sql
) -> None:
    capture([WEEKS[0]], [T1])
    sql.execute("UPDATE otc.publication SET captured_at = %s", [NOW])
    run = started(dagster, RunRequest(job_name="ingest_files"))
    clock.shift(60 * MINUTE)
    assert tick(dagster)[0] == []
    dagster.report_run_failed(run)
    assert asked(tick(dagster)[0]) == [keys(WEEKS[0])]


def test_the_weeks_of_a_failed_range_are_attempted_again_in_smaller_runs(
    dagster: DagsterInstance, clock: time_machine.Traveller
) -> None:
    """A week that ends the process of its run must not keep the others from being computed for good."""
    capture(WEEKS[:13], [T1])
    sizes = []
    for pause in (2, 4, 8, 16):
        requests, _ = tick(dagster)
        sizes.append([len(request.tags[WEEKS_TAG].split()) for request in requests])
        for request in requests:
            dagster.report_run_failed(started(dagster, request))
        # Those that found no place are due at once; the others wait.
        while more := tick(dagster)[0]:
            for request in more:
                dagster.report_run_failed(started(dagster, request))
        assert "'week 2026-01-02' was attempted" in tick(dagster)[1]
        clock.shift(pause * MINUTE + dt.timedelta(seconds=1))
    assert sizes == [[13], [6, 6], [3, 3], [1, 1]]


def test_a_week_with_a_new_capture_does_not_wait_for_the_pause_of_the_old_one(dagster: DagsterInstance) -> None:
    capture(WEEKS[:1], [T1])
    (request,), _ = tick(dagster)
    dagster.report_run_failed(started(dagster, request))
    assert tick(dagster)[0] == []
    capture(WEEKS[:1], [T2])
    (request,), _ = tick(dagster)
    assert request.tags[WEEKS_TAG].endswith(":1")
