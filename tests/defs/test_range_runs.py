"""Runs over several weeks: each week is reported by itself, fails by itself, and is not done twice."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from support import installed

from otc_assets.defs import launch
from otc_assets.defs.internals import ActiveExecution, InMemoryJob, execute_run
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.domain.datasets import DATASETS, THRESHOLD_LIST, Dataset
from otc_assets.domain.estimates import STAY
from otc_assets.domain.tables import figures, in_order
from otc_assets.domain.weeks import Tier, weeks_between
from otc_assets.finra.source import (
    Capture,
    DatasetCapture,
    DatasetSource,
    PermanentSourceError,
    PublicationState,
    Source,
    SourceError,
)
from otc_assets.settings import settings

Sql = psycopg.Connection[tuple[Any, ...]]

#: All tiers of these weeks are published.
WEEKS = weeks_between(dt.date(2026, 7, 24), dt.date(2026, 8, 21))
FIRST, BAD, LAST = WEEKS[0], WEEKS[2], WEEKS[-1]
GOOD = [week for week in WEEKS if week != BAD]
T1_ASSETS = ["week_calendar", "publication_t1"]


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC), tick=True):
        yield


class Recorded:
    """A source that records what it is asked, and fails for weeks when it is told to."""

    def __init__(self, source: Source, failing: dict[dt.date, Exception] | None = None) -> None:
        self._source, self.failing = source, failing or {}
        self.fetched: list[dt.date] = []
        self.asked: list[dt.date] = []

    def offered(self) -> set[tuple[Tier, dt.date]]:
        return self._source.offered()

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        self.asked.append(week_ending)
        return self._source.state(week_ending, tier)

    def fetch(self, week_ending: dt.date, tier: Tier, progress: Any = None, **more: Any) -> list[Capture]:
        self.fetched.append(week_ending)
        if error := self.failing.get(week_ending):
            raise error
        return self._source.fetch(week_ending, tier, progress, **more)


@pytest.fixture
def source(installation: object, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded(installed.source())
    installed.replace(monkeypatch, source=recorded)
    return recorded


def run(dagster: DagsterInstance, *assets: str, first: dt.date = FIRST, last: dt.date = LAST) -> str:
    """Runs assets without retries of steps, and returns the run's id; it may fail."""
    try:
        installed.launcher(dagster).run_assets(assets, first, last, retries=False)
    except launch.RunFailed as error:
        return error.run_id
    (newest,) = dagster.get_run_ids(limit=1)
    return newest


def materialized(dagster: DagsterInstance, run_id: str) -> dict[str, list[dt.date]]:
    """By asset, the weeks that a run has materialized, in the order of the events."""
    found: dict[str, list[dt.date]] = {}
    records = dagster.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    for record in records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        assert event.asset_key is not None
        assert event.partition is not None
        found.setdefault(event.asset_key.to_user_string(), []).append(dt.date.fromisoformat(event.partition))
    return found


def failures(dagster: DagsterInstance, run_id: str) -> dict[str, str]:
    """By failed step, its message."""
    found = {}
    for record in dagster.get_records_for_run(run_id, of_type=DagsterEventType.STEP_FAILURE).records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        told = event.step_failure_data.user_failure_data
        error = event.step_failure_data.error
        found[str(event.step_key)] = str(told.description if told else error and error.message)
    return found


def newest(dagster: DagsterInstance, asset: str, week: dt.date) -> Any:
    """The newest materialization of a week."""
    wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[week.isoformat()])
    (record,) = dagster.fetch_materializations(wanted, limit=1).records
    return record.asset_materialization


def stale_statuses(dagster: DagsterInstance, assets: list[str]) -> dict[tuple[str, dt.date], StaleStatus]:
    """What the UI shows as stale."""
    graph = installed.definitions().resolve_asset_graph()
    resolver = CachingStaleStatusResolver(dagster, graph, LoadingContextForTest(dagster))
    return {(a, week): resolver.get_status(AssetKey(a), week.isoformat()) for a in assets for week in WEEKS}


def archived(week: dt.date) -> Path:
    """The archive's file of a week's capture of T1, which has to be the only one."""
    with installed.database().transaction() as connection:
        query = sa.text("SELECT digest FROM otc.publication WHERE week_ending = :week")
        digest = connection.execute(query, {"week": week}).scalar_one()
    (path,) = (settings().home / "archive" / digest[:2]).glob(f"{digest}*")
    return path


def lose_bytes(week: dt.date) -> None:
    """Deletes the archived bytes of a week's capture of T1."""
    archived(week).unlink()


def test_each_week_has_one_materialization_with_its_own_rows_and_version(
    dagster: DagsterInstance, source: Recorded, sql: Sql
) -> None:
    """Every week once had the totals of the run, and a version of its own in each run."""
    for assets in (T1_ASSETS, list(DOWNSTREAM)):
        done = materialized(dagster, run(dagster, *assets))
        assert done == dict.fromkeys(assets, WEEKS)
    recorded = sql.execute("SELECT table_name, week_ending, version, rows FROM otc.computed_week").fetchall()
    computed = {(table, week): (version, rows) for table, week, version, rows in recorded}
    for table in in_order():
        for week in WEEKS:
            event = newest(dagster, table, week)
            stated = (event.tags["dagster/data_version"], event.metadata["dagster/partition_row_count"].value)
            assert stated == computed[table, week]
    digests: dict[dt.date, str] = dict(
        sql.execute("SELECT week_ending, left(digest, 16) FROM otc.publication").fetchall()
    )
    for week in WEEKS:
        event = newest(dagster, "publication_t1", week)
        assert event.tags["dagster/data_version"] == digests[week]
        assert event.metadata["digest"].value.startswith(digests[week])
    shown = newest(dagster, "symbol_summary", LAST).metadata
    bars, dates = str(shown["rows, recent weeks"].value).split(" ", 1)
    assert (len(bars), dates.split(";")[0]) == (len(WEEKS), f"{FIRST} to {LAST}")
    assert str(shown["grade"].value) in ("NMS Tier 1 A", "NMS Tier 1 B")
    assert len({newest(dagster, "symbol_summary", week).tags["dagster/data_version"] for week in WEEKS}) == len(WEEKS)


def test_unchanged_weeks_that_run_again_leave_downstream_assets_fresh_and_a_revised_week_does_not(
    dagster: DagsterInstance, source: Recorded, sql: Sql, tmp_path: Any
) -> None:
    run(dagster, *T1_ASSETS)
    run(dagster, *DOWNSTREAM)
    assets = ["publication_t1", *DOWNSTREAM]
    assert set(stale_statuses(dagster, assets).values()) == {StaleStatus.FRESH}
    run(dagster, *T1_ASSETS)
    run(dagster, "venue_volume")
    run(dagster, "venue_volume", first=BAD, last=BAD)
    assert set(stale_statuses(dagster, assets).values()) == {StaleStatus.FRESH}
    # A capture is withdrawn: the week has other rows.
    sql.execute(
        "UPDATE otc.publication SET withdrawn_at = now(), withdrawal_reason = 'x' WHERE week_ending = %s", [BAD]
    )
    run(dagster, "venue_volume")
    stale = {key for key, status in stale_statuses(dagster, assets).items() if status == StaleStatus.STALE}
    direct = {figure.name for figure in figures() if "venue_volume" in figure.sources}
    assert stale == {(asset, BAD) for asset in (*direct, "gap_report")}


def test_weeks_are_reported_while_the_run_goes_on(dagster: DagsterInstance, source: Recorded) -> None:
    """The UI showed 0 % until a step ended."""
    seen: list[int] = []

    class Watching(Recorded):
        def fetch(self, week_ending: dt.date, tier: Tier, progress: Any = None, **more: Any) -> list[Capture]:
            seen.append(len(dagster.get_materialized_partitions(AssetKey("publication_t1"))))
            return super().fetch(week_ending, tier, progress, **more)

    with pytest.MonkeyPatch.context() as patch:
        installed.replace(patch, source=Watching(installed.source()))
        run(dagster, *T1_ASSETS)
    assert seen == [0, 1, 2, 3, 4]


def test_a_week_without_its_bytes_fails_alone_and_the_others_get_all_their_figures(
    dagster: DagsterInstance, source: Recorded, sql: Sql
) -> None:
    """One missing file of the archive failed 39 of 39 partitions, and nine weeks were never attempted."""
    run(dagster, *T1_ASSETS)
    lose_bytes(BAD)
    run_id = run(dagster, *DOWNSTREAM)
    found = dagster.get_run_by_id(run_id)
    assert found is not None
    assert found.status == DagsterRunStatus.FAILURE
    assert materialized(dagster, run_id) == dict.fromkeys(DOWNSTREAM, GOOD)
    (step,) = failures(dagster, run_id)
    assert step == "venue_volume"
    assert failures(dagster, run_id)[step].startswith(f"{BAD}: the archive has no ")
    assert all(str(week) not in failures(dagster, run_id)[step] for week in GOOD)
    computed = "SELECT week_ending FROM otc.computed_week WHERE table_name = %s ORDER BY 1"
    for table in in_order():
        assert [week for (week,) in sql.execute(computed, [table])] == GOOD


def test_a_week_graded_f_fails_its_check_alone_and_the_others_get_six_week_figures_and_gap_reports(
    dagster: DagsterInstance, source: Recorded, sql: Sql
) -> None:
    """Six-week figures and gap reports of all weeks of the range were skipped."""
    run(dagster, *T1_ASSETS)
    # One share off FINRA's own total is F. The bytes are changed in the archive's place: in the totals of the week.
    run(dagster, "venue_volume", first=BAD, last=BAD)
    sql.execute(
        "UPDATE otc.published_total SET share_volume = share_volume + 1 WHERE ctid = (SELECT min(ctid) FROM "
        "otc.published_total WHERE week_ending = %s AND total_of = 'SYMBOL')",
        [BAD],
    )
    sql.execute("DELETE FROM otc.week_quality WHERE week_ending = %s", [BAD])
    run_id = run(dagster, *DOWNSTREAM)
    rest = [asset for asset in DOWNSTREAM if asset != "venue_volume"]
    assert materialized(dagster, run_id) == {"venue_volume": WEEKS} | dict.fromkeys(rest, GOOD)
    message = failures(dagster, run_id)
    assert list(message) == ["judge_venue_volume"]
    assert f"{BAD}: the blocking check 'grade' of venue_volume failed: all tiers F" in message["judge_venue_volume"]
    stored = sql.execute("SELECT DISTINCT week_ending FROM otc.venue_rolling ORDER BY 1").fetchall()
    assert [week for (week,) in stored] == GOOD


def test_a_week_that_the_source_refuses_fails_alone(dagster: DagsterInstance, source: Recorded) -> None:
    source.failing = {BAD: PermanentSourceError("FINRA: 403")}
    run_id = run(dagster, *T1_ASSETS)
    assert materialized(dagster, run_id) == {"week_calendar": WEEKS, "publication_t1": GOOD}
    assert failures(dagster, run_id) == {"publication_t1": f"{BAD}: FINRA: 403"}


def test_a_step_that_is_retried_fetches_only_the_weeks_that_had_a_temporary_error(
    dagster: DagsterInstance, source: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.failing = {BAD: SourceError("FINRA did not answer")}

    def answer_again(execution: ActiveExecution) -> None:
        source.failing = {}
        execution._waiting_to_retry = dict.fromkeys(execution._waiting_to_retry, 0.0)

    monkeypatch.setattr(ActiveExecution, "sleep_til_ready", answer_again)
    installed.launcher(dagster).run_assets(T1_ASSETS, FIRST, LAST)
    assert source.fetched == [*WEEKS, BAD]


def test_a_source_that_is_down_is_left_alone_after_two_weeks(dagster: DagsterInstance, source: Recorded) -> None:
    source.failing = dict.fromkeys(WEEKS[1:], SourceError("FINRA did not answer"))
    run_id = run(dagster, *T1_ASSETS)
    assert source.fetched == WEEKS[:3]
    assert materialized(dagster, run_id)["publication_t1"] == WEEKS[:1]
    told = failures(dagster, run_id)["publication_t1"]
    assert told.split("; ") == [
        *(f"{week}: FINRA did not answer" for week in WEEKS[1:3]),
        *(f"{week}: not attempted after these errors" for week in WEEKS[3:]),
    ]


def _continue(dagster: DagsterInstance, run_id: str, assets: list[str], **tags: str) -> str:
    """Runs the weeks of a run again, as its child."""
    launcher = installed.launcher(dagster)
    parent = dagster.get_run_by_id(run_id)
    assert parent is not None
    job = launcher.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={AssetKey(asset) for asset in assets}
    )
    kept = {key: value for key, value in parent.tags.items() if "partition_range" in key}
    child = dagster.create_run_for_job(
        job, tags={**kept, **tags}, parent_run_id=run_id, root_run_id=parent.root_run_id or run_id
    )
    execute_run(InMemoryJob(job), child, dagster)
    return child.run_id


def test_a_run_that_dagster_starts_again_after_a_crash_goes_on_at_the_week_where_it_was(
    dagster: DagsterInstance, source: Recorded
) -> None:
    """A worker killed at week 30 of 52 began with week 1 again."""
    source.failing = dict.fromkeys(WEEKS[3:], KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(BaseException):  # noqa: B017, PT011 - the process ends
        installed.launcher(dagster).run_assets(T1_ASSETS, FIRST, LAST, retries=False)
    (killed,) = dagster.get_run_ids(limit=1)
    assert materialized(dagster, killed)["publication_t1"] == WEEKS[:3]
    source.failing, source.fetched, source.asked = {}, [], []
    again = _continue(dagster, killed, T1_ASSETS, **{"dagster/retry_number": "1"})
    assert (source.fetched, source.asked) == (WEEKS[3:], WEEKS[3:])
    assert materialized(dagster, again)["publication_t1"] == WEEKS
    state = newest(dagster, "publication_t1", FIRST).metadata["state"].value
    assert state == "captured by an earlier attempt of this run"
    third = _continue(dagster, again, T1_ASSETS, **{"dagster/retry_number": "2"})
    assert source.fetched == WEEKS[3:]
    assert materialized(dagster, third)["publication_t1"] == WEEKS


class Periods(Recorded):
    """A source of the other data sets that records which periods it is asked for, and ends the process at some."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.periods: list[dt.date] = []
        self.ends_at: dt.date | None = None

    def offered_periods(self, dataset: Dataset) -> set[dt.date]:
        return self._datasets.offered_periods(dataset)

    def fetch_period(self, dataset: Dataset, period: dt.date, **more: Any) -> DatasetCapture | None:
        if self.ends_at is not None and period >= self.ends_at:
            raise KeyboardInterrupt
        self.periods.append(period)
        return self._datasets.fetch_period(dataset, period, **more)

    @property
    def _datasets(self) -> DatasetSource:
        assert isinstance(self._source, DatasetSource)
        return self._source


@pytest.fixture
def periods(installation: object, monkeypatch: pytest.MonkeyPatch) -> Periods:
    recorded = Periods(installed.source())
    installed.replace(monkeypatch, source=recorded)
    return recorded


def test_a_run_over_another_data_set_that_is_started_again_captures_no_week_twice(
    dagster: DagsterInstance, periods: Periods
) -> None:
    table = THRESHOLD_LIST.table
    periods.ends_at = THRESHOLD_LIST.periods(WEEKS[3])[0]
    with pytest.raises(BaseException):  # noqa: B017, PT011 - the process ends
        installed.launcher(dagster).run_assets([table], FIRST, LAST, retries=False)
    (killed,) = dagster.get_run_ids(limit=1)
    assert materialized(dagster, killed)[table] == WEEKS[:3]
    periods.ends_at, periods.periods = None, []
    again = _continue(dagster, killed, [table], **{"dagster/retry_number": "1"})
    assert materialized(dagster, again)[table] == WEEKS
    assert periods.periods == [period for week in WEEKS[3:] for period in THRESHOLD_LIST.periods(week)]
    known = newest(dagster, table, FIRST)
    assert known.metadata["state"].value == "captured by an earlier attempt of this run"
    assert known.metadata["dagster/partition_row_count"].value > 0


def test_a_range_computes_only_the_weeks_of_an_estimate_that_are_not_up_to_date_or_lack_rows(
    dagster: DagsterInstance, periods: Periods, sql: Sql
) -> None:
    run(dagster, THRESHOLD_LIST.table, STAY.name)
    before = {week: newest(dagster, STAY.name, week) for week in WEEKS}
    assert sql.execute("DELETE FROM otc.threshold_stay WHERE week_ending = %s", [BAD]).rowcount > 0
    run(dagster, STAY.name)
    after = {week: newest(dagster, STAY.name, week) for week in WEEKS}
    known = [week for week in WEEKS if "state" in after[week].metadata]
    assert known == GOOD
    assert {after[week].metadata["state"].value for week in GOOD} == {"up to date: not computed again"}
    for week in WEEKS:
        assert after[week].tags["dagster/data_version"] == before[week].tags["dagster/data_version"]
        assert rows_of(after[week]) == rows_of(before[week])
    counted = "SELECT count(*) FROM otc.threshold_stay WHERE week_ending = %s"
    assert sql.execute(counted, [BAD]).fetchone() == (rows_of(before[BAD]),)


def rows_of(materialization: Any) -> int:
    """The rows of a week, as its materialization states them."""
    return int(materialization.metadata["dagster/partition_row_count"].value)


def test_captured_weeks_of_a_range_are_asked_for_and_not_fetched_unless_they_changed_or_their_bytes_are_lost_or_damaged(
    dagster: DagsterInstance, source: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(dagster, *T1_ASSETS)
    source.fetched.clear()
    versions = [newest(dagster, "publication_t1", week).tags["dagster/data_version"] for week in WEEKS]
    lose_bytes(BAD)
    damaged = archived(GOOD[0])
    damaged.chmod(0o644)
    damaged.write_bytes(b"damaged")
    source.asked.clear()
    run_id = run(dagster, *T1_ASSETS)
    assert source.asked == WEEKS
    assert source.fetched == [GOOD[0], BAD]
    assert materialized(dagster, run_id)["publication_t1"] == WEEKS
    assert [newest(dagster, "publication_t1", week).tags["dagster/data_version"] for week in WEEKS] == versions
    # It states one row more than was captured.
    changed = PublicationState(1, None)
    monkeypatch.setattr(source, "state", lambda week, tier: changed if week == LAST else None)
    source.fetched.clear()
    run(dagster, "publication_t1", first=WEEKS[3])
    assert source.fetched == WEEKS[3:]


def test_a_single_week_is_always_fetched_and_computed(dagster: DagsterInstance, source: Recorded, sql: Sql) -> None:
    """Who materializes one week has a reason to."""
    run(dagster, *T1_ASSETS)
    run(dagster, *DOWNSTREAM)
    source.fetched.clear()
    run(dagster, "publication_t1", first=BAD, last=BAD)
    assert source.fetched == [BAD]
    sql.execute("UPDATE otc.symbol_summary SET venue_count = 99 WHERE week_ending = %s", [BAD])
    run(dagster, "symbol_summary", first=BAD, last=BAD)
    wrong = "SELECT count(*) FROM otc.symbol_summary WHERE venue_count = 99"
    assert sql.execute(wrong).fetchone() == (0,)


def test_a_range_computes_only_the_weeks_that_are_not_up_to_date_or_lack_rows(
    dagster: DagsterInstance, source: Recorded, sql: Sql
) -> None:
    run(dagster, *T1_ASSETS)
    run(dagster, *DOWNSTREAM)
    before = sql.execute("SELECT count(*) FROM otc.symbol_summary").fetchone()
    sql.execute("DELETE FROM otc.symbol_summary WHERE week_ending = %s", [BAD])
    sql.execute(
        "UPDATE otc.computed_week SET version = 'other' WHERE table_name = 'venue_share' AND week_ending = %s", [LAST]
    )
    since = sql.execute("SELECT clock_timestamp()").fetchone()
    run_id = run(dagster, "venue_volume", "symbol_summary", "venue_share")
    computed = sql.execute(
        "SELECT table_name, week_ending FROM otc.computed_week WHERE computed_at > %s ORDER BY 1, 2", since
    ).fetchall()
    assert computed == [("symbol_summary", BAD), ("venue_share", LAST)]
    assert sql.execute("SELECT count(*) FROM otc.symbol_summary").fetchone() == before
    # The weeks that needed no work are reported, too, with their versions and rows.
    assert materialized(dagster, run_id) == dict.fromkeys(("venue_volume", "symbol_summary", "venue_share"), WEEKS)
    left = newest(dagster, "venue_volume", FIRST)
    assert left.metadata["state"].value == "up to date: not computed again"
    rows = sql.execute("SELECT count(*) FROM otc.venue_volume WHERE week_ending = %s", [FIRST]).fetchone()
    assert (left.metadata["dagster/partition_row_count"].value,) == rows


def test_a_run_that_is_executed_again_from_failure_does_what_failed_and_what_was_left_out(
    dagster: DagsterInstance, source: Recorded, sql: Sql
) -> None:
    run(dagster, *T1_ASSETS)
    lose_bytes(BAD)
    failed = run(dagster, *DOWNSTREAM)
    run(dagster, "publication_t1", first=BAD, last=BAD)
    again = _continue(dagster, failed, list(DOWNSTREAM), **{"dagster/is_resume_retry": "true"})
    found = dagster.get_run_by_id(again)
    assert found is not None
    assert found.status == DagsterRunStatus.SUCCESS
    assert installed.stale_weeks() == []
    assert materialized(dagster, again) == dict.fromkeys(DOWNSTREAM, WEEKS)


def test_capture_runs_of_a_backfill_are_short_enough_for_the_limit_of_a_run(installation: object) -> None:
    """By hand, from FINRA's sizes: 34 pages of T2 and 5 of OTC a week; a page may take 14 s, and takes about one."""
    graph = installed.definitions().resolve_asset_graph()
    policies = {key.to_user_string(): graph.get(key).backfill_policy for key in graph.get_all_asset_keys()}
    sizes = {name: policy.max_partitions_per_run for name, policy in policies.items() if policy}
    datasets = {dataset.table for dataset in DATASETS}
    captures = {name: size for name, size in sizes.items() if name.startswith("publication_") or name in datasets}
    assert set(captures.values()) == {13}
    assert 13 * (34 + 5) * 14 <= 7200
    assert {size for name, size in sizes.items() if name not in captures} == {52}
