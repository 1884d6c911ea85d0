"""Alerts, from a real run's failure to a real receiver: what is news, and that it arrives once, and surely."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from dagster import (
    AssetCheckKey,
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    build_sensor_context,
)
from dagster._core.utils import make_new_run_id
from dagster._utils.error import SerializableErrorInfo, serializable_error_info_from_exc_info
from pytest_httpserver import HTTPServer
from support import installed
from werkzeug import Request, Response

from otc_assets.alerting import delivery
from otc_assets.alerting.delivery import AlertsUndelivered, BadAlertUrl, compose
from otc_assets.defs import launch
from otc_assets.defs.alerts import is_final
from otc_assets.defs.failures import what_went_wrong, why_it_failed
from otc_assets.defs.jobs import FilesToIngest
from otc_assets.domain.quality import volume
from otc_assets.domain.weeks import weeks_between
from otc_assets.finra.source import SourceError
from otc_assets.settings import settings
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse import events
from otc_assets.warehouse.alerts import Alert

NOW = dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC)
WEEKS = weeks_between(dt.date(2026, 8, 14), dt.date(2026, 8, 21))

Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=True) as traveller:
        yield traveller


class Daemon:
    """Ticks sensors as the daemon does: each on its own, and with the cursor that its last tick left."""

    def __init__(self, dagster: DagsterInstance) -> None:
        self.dagster = dagster
        self.cursors: dict[str, str | None] = {}

    def tick(self, name: str) -> str:
        """One tick; returns what it says."""
        context = build_sensor_context(
            self.dagster,
            cursor=self.cursors.get(name),
            resources=installed.resources(),
            repository_def=installed.repository(),
        )
        data = installed.definitions().resolve_sensor_def(name).evaluate_tick(context)
        assert not data.run_requests
        self.cursors[name] = data.cursor
        return str(data.skip_message)


@pytest.fixture
def daemon(dagster: DagsterInstance) -> Daemon:
    return Daemon(dagster)


class Receiver:
    """A webhook: keeps every message, and answers what it is told to."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.url = f"json://otc:hunter2@{server.host}:{server.port}/hooks/hunter3"
        self.answers: list[int] = []
        self.messages: list[dict[str, Any]] = []
        self.delay = 0.0
        server.expect_request("/hooks/hunter3", method="POST").respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        time.sleep(self.delay)
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.messages.append(json.loads(request.data))
        return Response(status=status)


@pytest.fixture
def receiver(httpserver: HTTPServer, set_url: Callable[[str], None]) -> Receiver:
    receiver = Receiver(httpserver)
    set_url(receiver.url)
    return receiver


@pytest.fixture
def set_url(installation: object, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def change(url: str) -> None:
        monkeypatch.setenv("OTC_ALERT_URL", url)
        settings.cache_clear()

    return change


def report(
    daemon: Daemon,
    week: dt.date | None,
    *,
    passed: bool = False,
    check: str = "matches_finra_totals",
    severity: str = "ERROR",
    asset: str = "venue_volume",
    blocking: bool = False,
) -> events.Event:
    """Appends that a check failed or recovered, as a run of its own does."""
    of_check: dict[str, Any] = {"week_ending": week, "asset": asset, "check": check}
    payload: events.Payload = events.CheckRecovered(**of_check)
    if not passed:
        detail = {"NMS Tier 1": "FINRA says 5, we say 4"}
        payload = events.CheckFailed(**of_check, severity=severity, blocking=blocking, detail=detail)
    with events.event_context(make_new_run_id()), installed.database().transaction() as connection:
        return events.append(connection, payload)


def subjects(sql: Sql) -> list[object]:
    return [subject for (subject,) in sql.execute("SELECT subject FROM otc.alert ORDER BY id")]


# --- which failures are news ---------------------------------------------------------------------------


def test_a_failing_check_of_a_real_run_is_recorded_once_with_its_figures_and_its_run(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails twice, passes, and fails again: that is news twice."""
    installed.launcher(daemon.dagster).run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[0])

    def run(most_shares: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(volume, "MOST_SHARES", most_shares)
            try:
                installed.launcher(daemon.dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[0])
            except launch.RunFailed:
                assert most_shares == 1

    run(most_shares=1)
    assert daemon.tick("failed_checks") == "checks that began to fail: 2"
    found = sql.execute("SELECT subject, severity, week_ending, title, body, run_id, state FROM otc.alert ORDER BY id")
    plausible, graded = found.fetchall()
    runs = {run.run_id for run in daemon.dagster.get_runs()}
    assert plausible[:4] == (
        "venue_volume.plausible_values 2026-08-14",
        "error",
        WEEKS[0],
        "venue_volume.plausible_values failed for week 2026-08-14",
    )
    assert "NMS Tier 1: 1,758 rows have negative or implausible values" in str(plausible[4])
    assert "NMS Tier 1 observed: 1,758\n" in f"{plausible[4]}\n"
    assert plausible[5] in runs
    assert graded[0] == "venue_volume.grade 2026-08-14"
    assert str(graded[4]).splitlines() == [
        "ERROR, blocking: downstream assets of the week are not computed",
        "all tiers: F",
    ]

    run(most_shares=1)
    assert daemon.tick("failed_checks") == "checks that began to fail: 0"
    run(most_shares=volume.MOST_SHARES)
    assert daemon.tick("failed_checks") == "checks that began to fail: 0"
    assert sql.execute("SELECT count(*) FROM otc.alert WHERE resolved_at IS NOT NULL").fetchone() == (2,)
    run(most_shares=1)
    assert daemon.tick("failed_checks") == "checks that began to fail: 2"
    assert sql.execute("SELECT count(*), count(resolved_at) FROM otc.alert").fetchone() == (4, 2)


def test_a_check_of_a_real_run_recovers_once_after_it_has_failed(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that has never failed, or has passed since, appends nothing."""
    installed.launcher(daemon.dagster).run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[1])
    for most_shares in (1, volume.MOST_SHARES, volume.MOST_SHARES):
        with monkeypatch.context() as patch:
            patch.setattr(volume, "MOST_SHARES", most_shares)
            with pytest.raises(launch.RunFailed) if most_shares == 1 else nullcontext():
                installed.launcher(daemon.dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[0])
    installed.launcher(daemon.dagster).run_assets(["venue_volume"], WEEKS[1], WEEKS[1])
    appended = sql.execute(
        "SELECT aggregate_id, event_type, payload FROM otc.events WHERE aggregate_type = 'check' ORDER BY id"
    ).fetchall()
    assert [row[:2] for row in appended] == [
        ("venue_volume.plausible_values 2026-08-14", "otc.check.failed"),
        ("venue_volume.grade 2026-08-14", "otc.check.failed"),
        ("venue_volume.plausible_values 2026-08-14", "otc.check.recovered"),
        ("venue_volume.grade 2026-08-14", "otc.check.recovered"),
    ]
    assert appended[3][2] == {"week_ending": "2026-08-14", "asset": "venue_volume", "check": "grade"}


def test_a_range_run_alerts_by_the_week_and_not_for_the_range(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alerts of a range are those of its weeks."""
    monkeypatch.setenv("OTC_ALERT_SEVERITY", "warn")
    settings.cache_clear()
    installed.launcher(daemon.dagster).run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[1])
    monkeypatch.setattr(volume, "MOST_SHARES", 1)
    with pytest.raises(launch.RunFailed):
        installed.launcher(daemon.dagster).run_assets(["venue_volume", "symbol_summary"], WEEKS[0], WEEKS[1])
    daemon.tick("failed_checks")
    assert sorted(map(str, subjects(sql))) == [
        "venue_volume.grade 2026-08-14",
        "venue_volume.grade 2026-08-21",
        "venue_volume.plausible_values 2026-08-14",
        "venue_volume.plausible_values 2026-08-21",
    ]
    # The same week by itself: it is known to fail.
    with pytest.raises(launch.RunFailed):
        installed.launcher(daemon.dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[0])
    assert daemon.tick("failed_checks") == "checks that began to fail: 0"


def test_a_check_that_belongs_to_no_week_is_told_where_warnings_are_wanted(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest week against the calendar: no partition, and no range's result either."""
    installed.launcher(daemon.dagster).run_assets(["week_calendar", "gap_report"], WEEKS[0], WEEKS[0])
    assert daemon.tick("failed_checks") == "checks that began to fail: 0"
    monkeypatch.setenv("OTC_ALERT_SEVERITY", "warn")
    settings.cache_clear()
    daemon.cursors.clear()
    daemon.tick("failed_checks")
    found = sql.execute("SELECT subject, severity, body FROM otc.alert ORDER BY subject").fetchall()
    assert [row[:2] for row in found] == [("gap_report.newest_week", "warn"), ("gap_report.no_gap 2026-08-14", "warn")]
    assert "NMS Tier 1: newest none, due 2026-09-25" in str(found[0][2])


def test_a_warning_that_becomes_an_error_is_news_and_the_other_way_round_is_not(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_ALERT_SEVERITY", "warn")
    settings.cache_clear()
    for severity in ("WARN", "ERROR", "WARN"):
        report(daemon, WEEKS[0], severity=severity)
    daemon.tick("failed_checks")
    assert sql.execute("SELECT severity FROM otc.alert ORDER BY id").fetchall() == [("warn",), ("error",)]


def test_each_tick_records_the_failures_since_the_last_one_and_the_cursor_ascends(daemon: Daemon, sql: Sql) -> None:
    cursors = []
    for number in range(8):
        event = report(daemon, WEEKS[0] - dt.timedelta(weeks=number))
        assert daemon.tick("failed_checks") == "checks that began to fail: 1"
        assert daemon.cursors["failed_checks"] == str(event.cursor)
        cursors.append(event.cursor.xid)
    assert len(subjects(sql)) == len(set(subjects(sql))) == 8
    assert cursors == sorted(cursors)
    assert daemon.tick("failed_checks") == "checks that began to fail: 0"
    assert daemon.cursors["failed_checks"] == str(event.cursor)


def test_an_event_whose_transaction_commits_after_a_newer_one_is_not_lost(daemon: Daemon, sql: Sql) -> None:
    """Ids are assigned before a transaction ends: a cursor at the newest id would pass the slower one."""
    with installed.database().transaction() as slower:
        failure = events.CheckFailed(
            week_ending=WEEKS[0], asset="venue_volume", check="grade", severity="ERROR", blocking=True, detail={}
        )
        slow = events.append(slower, failure)
        assert report(daemon, WEEKS[1]).id > slow.id
        assert daemon.tick("failed_checks") == "checks that began to fail: 0"
    assert daemon.tick("failed_checks") == "checks that began to fail: 2"
    assert subjects(sql) == ["venue_volume.grade 2026-08-14", "venue_volume.matches_finra_totals 2026-08-21"]


def test_events_that_are_read_again_after_a_pass_do_not_open_what_is_over(daemon: Daemon, sql: Sql) -> None:
    """A restart with a lost cursor reads the last day again: fail, fail, pass, fail."""
    for passed in (False, False, True, False):
        report(daemon, WEEKS[0], passed=passed)
    for _ in range(3):
        daemon.cursors.clear()
        daemon.tick("failed_checks")
        assert sql.execute("SELECT count(*), count(resolved_at) FROM otc.alert").fetchone() == (2, 1)


def test_a_failed_run_is_recorded_with_its_steps_own_words(daemon: Daemon, sql: Sql, tmp_path: Any) -> None:
    path = tmp_path / "page.csv"
    path.write_text("<html>Sorry</html>")
    with pytest.raises(launch.RunFailed) as failure:
        installed.launcher(daemon.dagster).ingest(FilesToIngest(paths=[str(path)]))
    assert daemon.tick("failed_runs") == "runs that failed: 1"
    assert daemon.tick("failed_runs") == "runs that failed: 0"
    found = sql.execute("SELECT kind, severity, title, body, run_id FROM otc.alert").fetchall()
    assert [row[:3] for row in found] == [("run", "error", "the run of ingest_files failed")]
    assert "page.csv: it is a page of HTML" in str(found[0][3])
    assert found[0][4] == failure.value.run_id


def test_an_error_of_ours_is_shown_in_its_own_words_whatever_its_cause() -> None:
    """The deepest cause was shown in their place: `httpcore.ConnectError`, without a word on what to do."""
    try:
        try:
            raise OSError("connection refused")
        except OSError as cause:
            raise SourceError("http://api: no answer. Check OTC_FINRA_URL.") from cause
    except SourceError:
        ours = serializable_error_info_from_exc_info(sys.exc_info())
    around = SerializableErrorInfo("Error occurred in step", [], "DagsterExecutionStepExecutionError", ours)
    assert ours.cause is not None
    assert what_went_wrong(around) == "http://api: no answer. Check OTC_FINRA_URL."


def test_an_error_of_a_library_alone_is_shown_by_its_deepest_cause() -> None:
    """SQLAlchemy's words hold the whole statement; psycopg's say what is wrong."""

    def info(name: str, cause: SerializableErrorInfo | None) -> SerializableErrorInfo:
        return SerializableErrorInfo(f"{name}: words of {name}\n", [], name, cause)

    deepest = info("UndefinedTable", None)
    assert what_went_wrong(info("DagsterExecutionStepExecutionError", info("ProgrammingError", deepest))) == (
        "UndefinedTable: words of UndefinedTable"
    )
    ours = info("WeekRefused", info("KeyError", None))
    assert what_went_wrong(info("DagsterExecutionStepExecutionError", ours)) == "WeekRefused: words of WeekRefused"


def test_a_failed_run_names_the_week_or_the_weeks_and_what_it_was_to_make(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.launcher(daemon.dagster).run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[1])
    installed.launcher(daemon.dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[1])
    # The weeks are judged again, and worse.
    monkeypatch.setattr(volume, "MOST_SHARES", 1)
    sql.execute("DELETE FROM otc.week_quality")
    for last in WEEKS:
        with pytest.raises(launch.RunFailed, match="graded F"):
            installed.launcher(daemon.dagster).run_assets(["symbol_summary"], WEEKS[0], last)
    daemon.tick("failed_runs")
    found = sql.execute("SELECT title, week_ending FROM otc.alert ORDER BY id").fetchall()
    assert found == [
        ("the run of symbol_summary failed for week 2026-08-14", WEEKS[0]),
        ("the run of symbol_summary failed for weeks 2026-08-14 to 2026-08-21", None),
    ]


def test_a_run_that_dagster_tries_again_is_no_alert_until_it_gives_up(installation: object, sql: Sql) -> None:
    """Crashes are retried twice; one alert each would cry wolf."""
    retries = {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    with DagsterInstance.ephemeral(settings={"run_retries": retries}) as dagster:
        daemon = Daemon(dagster)
        job = installed.definitions().resolve_job_def("capture_t1")
        crashed = dagster.create_run_for_job(job_def=job, status=DagsterRunStatus.STARTED)
        # It says so a moment after the event: until then nobody knows.
        assert (is_final(dagster, crashed, age=5), is_final(dagster, crashed, age=200)) == (False, True)
        dagster.report_run_failed(crashed, "the worker was killed")
        assert daemon.tick("failed_runs") == "runs that failed: 0"
        dagster.add_run_tags(crashed.run_id, {"dagster/will_retry": "false"})
        assert daemon.tick("failed_runs") == "runs that failed: 1"
        assert "the worker was killed" in why_it_failed(dagster, crashed.run_id)
    assert "the worker was killed" in str(sql.execute("SELECT body FROM otc.alert").fetchall())


def test_a_run_that_fails_because_of_a_blocking_check_is_no_alert_beside_that_of_the_check(
    daemon: Daemon, receiver: Receiver, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first message was 'DagsterAssetCheckFailed'; the figures came five minutes later."""
    launcher = installed.launcher(daemon.dagster)
    launcher.run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[0])
    monkeypatch.setattr(volume, "MOST_SHARES", 1)
    with pytest.raises(launch.RunFailed):
        launcher.run_assets(["venue_volume", "symbol_summary", "symbol_rolling"], WEEKS[0], WEEKS[0])
    # In the worst order of ticks.
    assert daemon.tick("failed_runs") == "runs that failed: 0; because of checks alone: 1"
    assert daemon.tick("deliver_alerts") == "nothing is due"
    assert daemon.tick("failed_checks") == "checks that began to fail: 2"
    assert daemon.tick("deliver_alerts") == "alerts delivered: 2"
    (message,) = receiver.messages
    first, second = message["message"].splitlines()
    assert first.startswith(
        "ERROR venue_volume.plausible_values failed for week 2026-08-14 (NMS Tier 1: 1,758 rows have negative or"
    )
    assert second.startswith("ERROR venue_volume.grade failed for week 2026-08-14 (all tiers: F)")
    assert sql.execute("SELECT count(*) FROM otc.alert WHERE kind = 'run'").fetchone() == (0,)


def test_a_range_with_a_blocked_week_is_no_alert_beside_that_of_the_check(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downstream assets leave out the week, and their steps fail because of it."""
    launcher = installed.launcher(daemon.dagster)
    launcher.run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[1])
    launcher.run_assets(["venue_volume"], WEEKS[0], WEEKS[1])
    largest = sql.execute("SELECT max(share_volume) FROM otc.venue_volume GROUP BY week_ending").fetchall()
    monkeypatch.setattr(volume, "MOST_SHARES", min(shares for (shares,) in largest))
    with pytest.raises(launch.RunFailed, match="the blocking check .grade. of venue_volume failed"):
        launcher.run_assets(["venue_volume", "symbol_summary", "venue_share"], WEEKS[0], WEEKS[1])
    assert daemon.tick("failed_runs") == "runs that failed: 0; because of checks alone: 1"
    assert daemon.tick("failed_checks") == "checks that began to fail: 2"


def test_a_run_with_another_failure_beside_a_blocking_check_is_an_alert(
    daemon: Daemon, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = installed.launcher(daemon.dagster)
    launcher.run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[0])
    monkeypatch.setattr(volume, "MOST_SHARES", 1)
    monkeypatch.setattr(installed.database(), "refresh_after_load", lambda *_: 1 / 0)
    with pytest.raises(launch.RunFailed):
        launcher.run_assets(["venue_volume", "publication_t1"], WEEKS[0], WEEKS[0])
    assert daemon.tick("failed_runs") == "runs that failed: 1"
    assert "division by zero" in str(sql.execute("SELECT body FROM otc.alert WHERE kind = 'run'").fetchall())


def test_a_failed_run_of_checks_alone_names_their_asset_and_week(daemon: Daemon, sql: Sql) -> None:
    """It was 'the run of __ASSET_JOB failed'."""
    checks = {AssetCheckKey(AssetKey("venue_volume"), name) for name in ("grade", "plausible_values")}
    run = daemon.dagster.add_run(
        DagsterRun(
            "__ASSET_JOB",
            run_id=make_new_run_id(),
            asset_selection=frozenset(),
            asset_check_selection=frozenset(checks),
            tags={"dagster/partition": "2026-08-14"},
            status=DagsterRunStatus.STARTED,
        )
    )
    daemon.dagster.report_run_failed(run, "the worker was killed")
    daemon.tick("failed_runs")
    found = sql.execute("SELECT title, week_ending FROM otc.alert").fetchall()
    assert found == [("the run of the checks of venue_volume failed for week 2026-08-14", WEEKS[0])]


@pytest.mark.parametrize("key", ["us|2026-08-14", "2026-08-13", "2026-08-14-00:00"])
def test_a_failed_run_of_another_code_location_may_have_any_partition(daemon: Daemon, sql: Sql, key: str) -> None:
    """An instance may have several; the sensor failed at every tick, and no failed run became an alert any more."""
    for tags in ({"dagster/partition": key}, {"dagster/partition": "2026-08-14"}):
        run = daemon.dagster.add_run(
            DagsterRun("theirs", run_id=make_new_run_id(), tags=tags, status=DagsterRunStatus.STARTED)
        )
        daemon.dagster.report_run_failed(run, "the worker was killed")
    assert daemon.tick("failed_runs") == "runs that failed: 2"
    assert sql.execute("SELECT title, week_ending FROM otc.alert ORDER BY id").fetchall() == [
        (f"the run of theirs failed for partition {key}", None),
        ("the run of theirs failed for week 2026-08-14", WEEKS[0]),
    ]


# --- recoveries ----------------------------------------------------------------------------------------


def test_a_check_that_passes_again_is_reported_once_after_its_failure_was_sent(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By real runs: it fails, passes, and passes again."""
    launcher = installed.launcher(daemon.dagster)
    launcher.run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[0])
    said = []
    for most_shares in (1, volume.MOST_SHARES, volume.MOST_SHARES):
        with monkeypatch.context() as patch:
            patch.setattr(volume, "MOST_SHARES", most_shares)
            with pytest.raises(launch.RunFailed) if most_shares == 1 else nullcontext():
                launcher.run_assets(["venue_volume"], WEEKS[0], WEEKS[0])
        for _ in range(2):
            daemon.tick("failed_checks")
            said.append(daemon.tick("deliver_alerts"))
            clock.shift(dt.timedelta(minutes=6))
    assert said == ["alerts delivered: 2", "nothing is due", "alerts delivered: 2", *["nothing is due"] * 3]
    failed, recovered = receiver.messages
    assert (failed["type"], recovered["type"]) == ("failure", "success")
    assert recovered["title"] == "otc-assets: 2 recoveries"
    assert [line.rpartition(" http")[0] for line in recovered["message"].splitlines()] == [
        "RECOVERED venue_volume.plausible_values passed again for week 2026-08-14",
        "RECOVERED venue_volume.grade passed again for week 2026-08-14",
    ]


def test_a_failure_that_was_not_sent_has_no_recovery(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller, sql: Sql
) -> None:
    """It is sent late, and says that it is over: a message that something fails must not be the last one."""
    receiver.answers = [500]
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    daemon.tick("deliver_alerts")
    report(daemon, WEEKS[0], passed=True)
    daemon.tick("failed_checks")
    clock.shift(dt.timedelta(minutes=10))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    assert [message["title"] for message in receiver.messages] == [
        "otc-assets: venue_volume.matches_finra_totals failed for week 2026-08-14; it has passed since"
    ]
    clock.shift(dt.timedelta(minutes=10))
    assert daemon.tick("deliver_alerts") == "nothing is due"


def test_a_recovery_is_sent_to_those_who_have_the_failure_alone(
    daemon: Daemon, receiver: Receiver, set_url: Callable[[str], None], clock: time_machine.Traveller, sql: Sql
) -> None:
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    daemon.tick("deliver_alerts")
    other = receiver.server.url_for("/other").replace("http://", "json://")
    received: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        received.append(json.loads(request.data))
        return Response()

    receiver.server.expect_request("/other", method="POST").respond_with_handler(answer)
    set_url(f"{receiver.url} {other}")
    report(daemon, WEEKS[1])
    report(daemon, WEEKS[0], passed=True)
    daemon.tick("failed_checks")
    clock.shift(dt.timedelta(minutes=10))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 2"
    assert [message["title"] for message in received] == [
        "otc-assets: venue_volume.matches_finra_totals failed for week 2026-08-21"
    ]
    assert receiver.messages[-1]["title"] == "otc-assets: 1 alert, 1 recovery"
    # The one that has it is no recipient any more: nothing is left to send.
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    clock.shift(dt.timedelta(minutes=10))
    daemon.tick("deliver_alerts")
    set_url("json://127.0.0.1:9/nobody")
    report(daemon, WEEKS[0], passed=True)
    daemon.tick("failed_checks")
    clock.shift(dt.timedelta(minutes=10))
    assert daemon.tick("deliver_alerts") == "nothing is due"


def test_a_recovery_that_was_not_delivered_is_tried_again_and_arrives_once(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller, sql: Sql
) -> None:
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    daemon.tick("deliver_alerts")
    receiver.answers = [500]
    report(daemon, WEEKS[0], passed=True)
    said = []
    for _ in range(4):
        daemon.cursors.pop("failed_checks")  # a lost cursor reads the events of the last day again
        daemon.tick("failed_checks")
        clock.shift(dt.timedelta(minutes=6))
        said.append(re.sub(r" at .*", "", daemon.tick("deliver_alerts")))
    assert said == ["next attempt", "alerts delivered: 1", "nothing is due", "nothing is due"]
    assert [message["type"] for message in receiver.messages] == ["failure", "success"]
    assert sql.execute("SELECT kind, state FROM otc.alert ORDER BY id").fetchall() == [
        ("check", "delivered"),
        ("recovery", "delivered"),
    ]


def test_a_check_that_fails_again_before_its_recovery_was_sent_has_no_recovery(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller
) -> None:
    for passed in (False, True, False):
        report(daemon, WEEKS[0], passed=passed)
        daemon.tick("failed_checks")
        daemon.tick("deliver_alerts")
    clock.shift(dt.timedelta(minutes=6))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    assert [message["type"] for message in receiver.messages] == ["failure", "failure"]


# --- delivery ------------------------------------------------------------------------------------------


def test_what_blocks_is_sent_at_once_whatever_was_sent_before(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller
) -> None:
    """The message of a blocking check waited for the five minutes after another message."""
    said = []
    for number, blocking in enumerate([False, True, False, True]):
        report(daemon, WEEKS[0] - dt.timedelta(weeks=number), blocking=blocking)
        daemon.tick("failed_checks")
        said.append(daemon.tick("deliver_alerts"))
        clock.shift(dt.timedelta(seconds=30))
    # The last one joins the next message, so that a backfill of bad weeks is not a message each.
    assert said == ["alerts delivered: 1", "alerts delivered: 1", "nothing is due", "nothing is due"]
    clock.shift(dt.timedelta(minutes=5))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 2"


def test_an_alert_reaches_the_receiver_with_week_check_figures_and_a_link_to_the_run(
    daemon: Daemon, receiver: Receiver, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_PUBLIC_URL", "https://dagster.example.org/otc/")
    settings.cache_clear()
    installed.launcher(daemon.dagster).run_assets(["week_calendar", "publication_t1"], WEEKS[0], WEEKS[0])
    monkeypatch.setattr(volume, "MOST_SHARES", 1)
    with pytest.raises(launch.RunFailed) as failure:
        installed.launcher(daemon.dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[0])
    daemon.tick("failed_checks")
    sql.execute("DELETE FROM otc.alert WHERE subject NOT LIKE '%grade%'")
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    (message,) = receiver.messages
    assert message["title"] == "otc-assets: venue_volume.grade failed for week 2026-08-14"
    assert message["type"] == "failure"
    assert message["message"].splitlines() == [
        "ERROR, blocking: downstream assets of the week are not computed",
        "all tiers: F",
        f"https://dagster.example.org/otc/runs/{failure.value.run_id}",
    ]
    assert daemon.tick("deliver_alerts") == "nothing is due"
    assert len(receiver.messages) == 1


def test_a_delivery_that_fails_is_tried_again_also_after_a_restart_and_arrives_once(
    daemon: Daemon, receiver: Receiver, sql: Sql, clock: time_machine.Traveller
) -> None:
    receiver.answers = [500, 503]
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    said = daemon.tick("deliver_alerts")
    assert re.match(r"next attempt at 12:0\d:\d\d UTC: 1. JSON \(1 of 1\): Failed to send", said)
    assert "error=500" in said
    # Not before its time, and later each time it fails.
    assert daemon.tick("deliver_alerts") == "nothing is due"
    clock.shift(dt.timedelta(seconds=31))
    assert "error=503" in daemon.tick("deliver_alerts")
    assert sql.execute("SELECT attempts, delivered_at FROM otc.alert").fetchall() == [(2, None)]
    clock.shift(dt.timedelta(seconds=31))
    assert daemon.tick("deliver_alerts") == "nothing is due"
    assert receiver.messages == []
    clock.shift(dt.timedelta(seconds=30))
    restarted = Daemon(daemon.dagster)
    assert restarted.tick("deliver_alerts") == "alerts delivered: 1"
    clock.shift(dt.timedelta(hours=2))
    assert restarted.tick("deliver_alerts") == "nothing is due"
    assert len(receiver.messages) == 1
    ((state, attempts, error),) = sql.execute("SELECT state, attempts, last_error FROM otc.alert").fetchall()
    assert (state, attempts, error) == ("delivered", 3, None)


def test_a_destination_that_has_it_does_not_get_it_again_because_another_failed(
    daemon: Daemon, receiver: Receiver, set_url: Callable[[str], None], clock: time_machine.Traveller, sql: Sql
) -> None:
    other: list[int] = [500]
    asked: list[bytes] = []

    def answer(request: Request) -> Response:
        asked.append(request.data)
        return Response(status=other.pop() if other else 200)

    receiver.server.expect_request("/other", method="POST").respond_with_handler(answer)
    address = f"{receiver.server.host}:{receiver.server.port}"
    set_url(f"{receiver.url} json://{address}/other")
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    assert "JSON (2 of 2): Failed" in daemon.tick("deliver_alerts")
    clock.shift(dt.timedelta(minutes=1))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    assert (len(receiver.messages), len(asked)) == (1, 2)


def test_what_does_not_arrive_for_an_hour_makes_the_sensor_fail_until_it_does(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller, sql: Sql
) -> None:
    """Prometheus sees failed ticks; silence would be seen by nobody."""
    receiver.answers = [500] * 20
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    failed_at: dict[int, str] = {}
    for minute in range(0, 90, 5):
        try:
            daemon.tick("deliver_alerts")
        except AlertsUndelivered as error:
            failed_at[minute] = str(error)
        clock.shift(dt.timedelta(minutes=5))
    assert list(failed_at) == [60, 65, 70, 75, 80, 85]
    assert "alerts not delivered: 1, the oldest since 2026-10-15 12:0" in failed_at[60]
    assert "error=500" in failed_at[60]
    assert sql.execute("SELECT count(*) FROM otc.alert WHERE delivered_at IS NULL AND attempts > 0").fetchone() == (1,)
    receiver.answers = []
    clock.shift(dt.timedelta(minutes=15))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    assert len(receiver.messages) == 1


def test_hundreds_of_failures_become_one_message_that_lists_ten_and_counts_the_rest(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller, sql: Sql
) -> None:
    for number in range(230):
        report(daemon, dt.date(2026, 8, 21) - dt.timedelta(weeks=number))
    assert daemon.tick("failed_checks") == "checks that began to fail: 230"
    assert daemon.tick("deliver_alerts") == "alerts delivered: 230"
    (message,) = receiver.messages
    assert message["title"] == "otc-assets: 230 alerts"
    lines = message["message"].splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(
        "ERROR venue_volume.matches_finra_totals failed for week 2026-08-21 (NMS Tier 1: FINRA says 5, we say 4) http"
    )
    assert lines[10] == "and 220 more: 'otc-assets alerts' lists them all"
    assert len(message["message"]) <= 2000
    # What a backfill goes on to bring within five minutes comes in one message more, not in one each.
    for number in range(5):
        clock.shift(dt.timedelta(seconds=30))
        report(daemon, WEEKS[0] - dt.timedelta(weeks=number), check="grade")
        daemon.tick("failed_checks")
        daemon.tick("deliver_alerts")
    assert len(receiver.messages) == 1
    clock.shift(dt.timedelta(minutes=3))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 5"
    assert len(receiver.messages) == 2


def test_an_error_does_not_wait_because_a_recovery_was_sent(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller
) -> None:
    said = []
    for week, passed, minutes in ((WEEKS[0], False, 6), (WEEKS[0], True, 1), (WEEKS[1], False, 1)):
        report(daemon, week, passed=passed)
        daemon.tick("failed_checks")
        said.append(daemon.tick("deliver_alerts"))
        clock.shift(dt.timedelta(minutes=minutes))
    assert said == ["alerts delivered: 1"] * 3
    assert [message["type"] for message in receiver.messages] == ["failure", "success", "failure"]


def test_an_error_does_not_wait_because_a_warning_was_told(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_ALERT_SEVERITY", "warn")
    settings.cache_clear()
    told = []
    for number, severity in enumerate(["WARN", "ERROR", "WARN"]):
        clock.shift(dt.timedelta(seconds=30))
        report(daemon, WEEKS[0] - dt.timedelta(weeks=number), severity=severity)
        daemon.tick("failed_checks")
        told.append(daemon.tick("deliver_alerts"))
    assert told == ["alerts delivered: 1", "alerts delivered: 1", "nothing is due"]
    assert [message["type"] for message in receiver.messages] == ["warning", "failure"]


def test_a_clock_that_was_a_day_ahead_delays_no_alert_recovery_or_retry(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller
) -> None:
    """What had been sent, or was to be sent again, on the next day by the clock was waited for."""
    clock.shift(dt.timedelta(days=1))
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    clock.shift(dt.timedelta(minutes=6))
    receiver.answers = [500]
    report(daemon, WEEKS[1])
    daemon.tick("failed_checks")
    assert daemon.tick("deliver_alerts").startswith("next attempt at ")
    clock.move_to(NOW)
    said = [daemon.tick("deliver_alerts")]
    for week, passed in ((WEEKS[0], True), (WEEKS[0], False)):
        clock.shift(dt.timedelta(minutes=6))
        report(daemon, week, passed=passed)
        daemon.tick("failed_checks")
        said.append(daemon.tick("deliver_alerts"))
    assert said == ["alerts delivered: 1"] * 3
    assert [message["type"] for message in receiver.messages] == ["failure", "failure", "success", "failure"]


def test_the_most_serious_are_listed_first_and_long_words_are_cut() -> None:
    def alert(number: int, severity: str) -> Alert:
        body = f"{severity.upper()}\n" + "x" * 5000
        return Alert(number, severity, f"check {number} failed", body, f"{number:036}", 1, [])

    message = compose([alert(1, "error"), alert(2, "warn"), alert(3, "warn")], "http://127.0.0.1:3000")
    assert message.title == "otc-assets: 3 alerts, 1 of them errors"
    assert message.body.splitlines()[0].startswith("ERROR check 1 failed (xxx")
    assert message.body.splitlines()[2].endswith(f"http://127.0.0.1:3000/runs/{3:036}")
    assert message.kind == "failure"
    assert len(compose([alert(1, "error")], "http://127.0.0.1:3000").body) < 2000
    assert len(compose([alert(n, "error") for n in range(300)], "http://127.0.0.1:3000").body) < 2000


def test_two_daemons_at_once_deliver_an_alert_once(daemon: Daemon, receiver: Receiver) -> None:
    receiver.delay = 1.0
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    said: list[str] = []
    now = dt.datetime.now(dt.UTC)
    threads = [
        threading.Thread(target=lambda: said.append(delivery.deliver(installed.database(), settings(), now)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["alerts delivered: 1", "nothing is due", "nothing is due", "nothing is due"]
    assert len(receiver.messages) == 1


def test_what_is_being_sent_is_left_out_when_another_process_sends_what_is_new(daemon: Daemon) -> None:
    now = dt.datetime.now(dt.UTC)

    def claimed(week: dt.date) -> list[str]:
        report(daemon, week)
        daemon.tick("failed_checks")
        with installed.database().transaction() as connection:
            connection.execute(sa.text("UPDATE otc.alert SET due_at = :now"), {"now": now})
            found = outbox.claim(connection, now=now, until=now + dt.timedelta(minutes=2))
        return [alert.title for alert in found]

    assert claimed(WEEKS[0]) == ["venue_volume.matches_finra_totals failed for week 2026-08-14"]
    assert claimed(WEEKS[1]) == ["venue_volume.matches_finra_totals failed for week 2026-08-21"]


def test_two_daemons_at_once_record_a_failure_once(daemon: Daemon, sql: Sql) -> None:
    report(daemon, WEEKS[0])
    daemons = [Daemon(daemon.dagster) for _ in range(4)]
    threads = [threading.Thread(target=one.tick, args=["failed_checks"]) for one in daemons]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(subjects(sql)) == 1


def test_an_alert_whose_sender_died_is_sent_by_the_next(
    daemon: Daemon, receiver: Receiver, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    """A pod that is killed between claiming and sending."""
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(delivery.Destination, "send", killed)
        with pytest.raises(SystemExit):
            daemon.tick("deliver_alerts")
    assert daemon.tick("deliver_alerts") == "nothing is due"
    clock.shift(dt.timedelta(minutes=3))
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    assert len(receiver.messages) == 1


def test_without_a_url_alerts_are_kept_and_a_url_set_later_gets_the_new_ones_alone(
    daemon: Daemon, httpserver: HTTPServer, set_url: Callable[[str], None], sql: Sql
) -> None:
    """Years of old failures must not arrive on the day on which somebody sets the URL."""
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    said = daemon.tick("deliver_alerts")
    assert said == "OTC_ALERT_URL is not set: alerts are not sent (1 new); 'otc-assets alerts' lists them"
    assert sql.execute("SELECT state, attempts FROM otc.alert").fetchall() == [("discarded", 0)]
    receiver = Receiver(httpserver)
    set_url(receiver.url)
    assert daemon.tick("deliver_alerts") == "nothing is due"
    report(daemon, WEEKS[1])
    daemon.tick("failed_checks")
    assert daemon.tick("deliver_alerts") == "alerts delivered: 1"
    assert [message["title"] for message in receiver.messages] == [
        "otc-assets: venue_volume.matches_finra_totals failed for week 2026-08-21"
    ]


# --- what must not be seen -----------------------------------------------------------------------------


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """What a process that logs at DEBUG writes. (caplog listens to loggers that nobody else hears, too.)"""
    text = io.StringIO()
    library = logging.getLogger("urllib3")  # the client of Kubernetes sets its level when it is imported
    level_of_library = library.level
    library.setLevel(logging.NOTSET)
    handler = logging.StreamHandler(text)
    handler.addFilter(lambda record: record.name != "werkzeug")  # the receiver's own
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)
    library.setLevel(level_of_library)


@pytest.mark.parametrize("answers", ["500", "nothing", "garbage"])
def test_the_url_is_shown_nowhere_when_a_delivery_fails(
    answers: str,
    daemon: Daemon,
    receiver: Receiver,
    set_url: Callable[[str], None],
    clock: time_machine.Traveller,
    everything_logged: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    sql: Sql,
) -> None:
    """Libraries log the addresses that they call, Apprise the URLs that it can't read."""
    receiver.answers = [500] * 9
    if answers == "nothing":
        set_url("json://otc:hunter2@127.0.0.1:9/hooks/hunter3?+X-Token=hunter4")
    if answers == "garbage":
        set_url("nonsense://hunter2/hunter3")
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    told = []
    for _ in range(2):
        try:
            told.append(daemon.tick("deliver_alerts"))
        except (AlertsUndelivered, BadAlertUrl) as error:
            told.append(str(error))
        clock.shift(dt.timedelta(minutes=70))
    assert len(told) == 2
    assert "next attempt at" in told[0] or "URL 1 of 1 is not a valid Apprise URL" in told[0]
    kept = str(sql.execute("SELECT a::text FROM otc.alert a").fetchall())
    logging.getLogger("urllib3.connectionpool").debug("the log is listened to")
    logged = everything_logged.getvalue()
    assert "the log is listened to" in logged
    for shown in (*told, kept, logged, "".join(capfd.readouterr()), repr(settings())):
        assert "hunter" not in shown


def test_what_apprise_says_is_shown_without_any_piece_of_the_url(
    daemon: Daemon, set_url: Callable[[str], None]
) -> None:
    set_url("json://otc:hunter2@127.0.0.1:9/hooks/hunter3")
    report(daemon, WEEKS[0])
    daemon.tick("failed_checks")
    said = daemon.tick("deliver_alerts")
    assert said.endswith("JSON (1 of 1): A Connection error occurred sending JSON notification to ***.")
