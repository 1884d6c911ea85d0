"""Traces: real spans of real runs, sent by the real exporter to a receiver of OTLP, and what they cost."""

import datetime as dt
import gzip
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import timeit
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from dagster import (
    DagsterEventType,
    DagsterInstance,
    Definitions,
    JobDefinition,
    OpDefinition,
    OpExecutionContext,
    RetryPolicy,
    define_asset_job,
    execute_job,
    in_process_executor,
    job,
    multiprocess_executor,
    op,
)
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import execute_run
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pytest_httpserver import HTTPServer
from starlette.testclient import TestClient
from support import installed

from otc_assets import tracing
from otc_assets.api.app import make_app
from otc_assets.client import Client
from otc_assets.defs import launch
from otc_assets.defs.assets import venue_volume, week_calendar
from otc_assets.defs.datasets import ASSETS as OTHER_DATASETS
from otc_assets.defs.jobs import FilesToIngest
from otc_assets.defs.spans import traced_executor, traced_step
from otc_assets.domain.checks import EXPORT
from otc_assets.domain.weeks import NEW_YORK, T1, newest_due
from otc_assets.finra.simulator.files import write_files
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.settings import settings
from otc_assets.tracing import LOAD, WEEK, export, set_attributes, span
from otc_assets.warehouse import events
from otc_assets.warehouse.server import connect

#: Today, in runs in this process. Those in processes of their own have the machine's clock, and a week of its.
NOW = dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC)
RECENT = newest_due(T1, dt.datetime.now(NEW_YORK))


class Span:
    """A span as it was received."""

    def __init__(self, sent: Any, resource: dict[str, Any]) -> None:
        self.name: str = sent.name
        self.trace_id: str = sent.trace_id.hex()
        self.id: str = sent.span_id.hex()
        self.parent_id: str | None = sent.parent_span_id.hex() or None
        self.start, self.end = sent.start_time_unix_nano, sent.end_time_unix_nano
        self.attributes = _values(sent.attributes)
        self.failed: bool = sent.status.code == 2
        self.words: str = sent.status.message
        self.is_client: bool = sent.kind == 3
        self.errors = [_values(event.attributes) for event in sent.events if event.name == "exception"]
        self.resource = resource

    def __repr__(self) -> str:
        return f"{self.name} {self.attributes}"


def _values(attributes: Any) -> dict[str, Any]:
    found = {}
    for attribute in attributes:
        (value,) = MessageToDict(attribute.value).values()
        found[attribute.key] = int(value) if attribute.value.HasField("int_value") else value
    return found


class Collector:
    """A receiver of OTLP over HTTP."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Span] = []
        self.raw = b""
        self.headers: dict[str, str] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    collector._take(body, dict(self.headers))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _take(self, body: bytes, headers: dict[str, str]) -> None:
        self.raw += body
        self.headers = headers
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [Span(sent, resource) for sent in of_scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trace(self, run_id: str) -> "Trace":
        """The trace of a run."""
        return Trace([one for one in self.spans if one.trace_id == uuid.UUID(run_id).hex])


class Trace:
    """The spans of one trace, as a tree."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans
        self._by_id = {one.id: one for one in spans}
        assert len(self._by_id) == len(spans), "a span came twice"

    def root(self) -> Span:
        """The one span without a parent; all others have theirs, and lie within it in time."""
        (root,) = [one for one in self.spans if one.parent_id is None]
        for one in self.spans:
            if one.parent_id is not None:
                parent = self._by_id[one.parent_id]
                assert parent.start <= one.start <= one.end <= parent.end, one
        return root

    def path(self, one: Span) -> list[str]:
        """The names from the root to the span."""
        above = self.path(self._by_id[one.parent_id]) if one.parent_id else []
        return [*above, one.name]

    def below(self, parent: Span, name: str | None = None) -> list[Span]:
        """The children of a span, in the order in which they began."""
        children = [one for one in self.spans if one.parent_id == parent.id and name in (None, one.name)]
        return sorted(children, key=lambda one: one.start)

    def one(self, name: str) -> Span:
        """The span of that name."""
        (found,) = [one for one in self.spans if one.name == name]
        return found

    def all(self, name: str) -> list[Span]:
        """The spans of that name."""
        return [one for one in self.spans if one.name == name]


@pytest.fixture
def dagster(dagster: DagsterInstance) -> Iterator[DagsterInstance]:
    """The instance of runs in this process, and their day."""
    with time_machine.travel(NOW, tick=True):
        yield dagster


@pytest.fixture(autouse=True)
def _no_traces_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    tracing._tracing.cache_clear()
    yield
    if exporting := tracing._tracing():
        exporting.close()
    tracing._tracing.cache_clear()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A receiver of OTLP, which this process exports to."""
    with closing(Collector()) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        # A busy machine may take longer than a second to send them.
        monkeypatch.setattr(export, "PATIENCE", 30.0)
        yield receiver


def quiet(done: int, note: str) -> None:
    """No progress bar."""


def newest_run(instance: DagsterInstance) -> str:
    return instance.get_runs(limit=1)[0].run_id


# --- the tree ------------------------------------------------------------------------------------------


def test_a_run_is_one_trace_of_run_steps_weeks_and_stages(
    dagster: DagsterInstance, collector: Collector, week: dt.date
) -> None:
    assert installed.materialize_weeks(dagster, [week]) == []
    runs = dagster.get_runs()
    assert {one.trace_id for one in collector.spans} == {uuid.UUID(run.run_id).hex for run in runs}
    for run in runs:
        trace = collector.trace(run.run_id)
        root = trace.root()
        assert root.name == f"run {run.job_name}"
        assert root.attributes == {
            "dagster.run.id": run.run_id,
            "dagster.job.name": run.job_name,
            "dagster.partition.key": str(week),
        }
        # Every step of the run has a span: an asset or check without one is noticed here.
        started = dagster.get_records_for_run(run.run_id, of_type=DagsterEventType.STEP_START).records
        steps = trace.below(root)
        assert [one.attributes["dagster.step.key"] for one in steps] == [
            record.event_log_entry.step_key for record in started
        ]
        for step in steps:
            assert step.name == f"step {step.attributes['dagster.step.key']}"
            assert step.attributes["dagster.run.id"] == run.run_id
            assert step.attributes["dagster.step.attempt"] == 1
            if step.attributes["dagster.step.key"] != "gap_report_newest_week":
                assert [one.attributes["otc.week_ending"] for one in trace.below(step, WEEK)] == [str(week)]
        assert not any(one.failed for one in trace.spans)
        assert all(one.resource["service.name"] == "otc-assets" for one in trace.spans)
        assert all(one.resource["service.version"] for one in trace.spans)
    keys = {one.attributes["dagster.step.key"] for one in collector.spans if one.name.startswith("step ")}
    assets = {key.to_user_string() for key in installed.definitions().resolve_asset_graph().get_all_asset_keys()}
    assert keys >= assets - {*OTHER_DATASETS, EXPORT}
    checks = {one.name: one.attributes["dagster.asset.key"] for one in collector.spans if one.name.startswith("step j")}
    assert checks["step judge_venue_volume"] == "venue_volume"


def test_the_events_of_a_run_name_its_trace(dagster: DagsterInstance, collector: Collector, week: dt.date) -> None:
    """From an event to the spans of its work."""
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
    installed.launcher(dagster).run_assets(["venue_volume", "gap_report"], week, week)
    with installed.database().transaction() as connection:
        recorded = {(event.event_type, event.metadata["run_id"]): event for event in events.newest(connection, 100)}
    assert {kind for kind, _ in recorded} >= {"otc.file.ingested", "otc.week.normalized", "otc.week.checked"}
    for (_, run_id), event in recorded.items():
        assert event.metadata["trace_id"] == uuid.UUID(run_id).hex
        assert collector.trace(run_id).root()


def test_every_step_that_can_be_launched_has_a_span() -> None:
    """An asset, check or op without ``traced_step`` would be a hole in the trace."""
    without = set()
    jobs = [*installed.repository().get_all_jobs(), installed.definitions().resolve_implicit_global_asset_job_def()]
    for node in [node for one in jobs for node in one.graph.node_defs]:
        body = node.compute_fn.decorated_fn  # type: ignore[union-attr]
        if Path(body.__code__.co_filename).name != "spans.py":
            without.add(node.name)
    assert not without
    assert {"ingest", "venue_volume", "judge_gap_report"} <= {node.name for one in jobs for node in one.graph.node_defs}


def test_the_stages_of_a_capture_hold_its_requests_and_statements(
    dagster: DagsterInstance, collector: Collector, monkeypatch: pytest.MonkeyPatch, week: dt.date
) -> None:
    monkeypatch.setattr("otc_assets.finra.paging.PAGE_ROWS", 500)
    installed.launcher(dagster).run_assets(["publication_t1"], week, week)
    trace = collector.trace(newest_run(dagster))
    (of_week,) = trace.below(trace.one("step publication_t1"), WEEK)
    stages = [one.name for one in trace.below(of_week) if not one.is_client]
    assert stages == ["fetch", "parse", "normalize", "archive", "load"]
    rows = of_week.attributes["otc.rows"]
    fetch = trace.one("fetch")
    pages = trace.below(fetch)
    assert [page.name for page in pages] == ["fetch page"] * len(pages)
    assert len(pages) == -(-rows // 500) > 1
    assert sorted(page.attributes["otc.offset"] for page in pages) == [500 * number for number in range(len(pages))]
    assert sum(page.attributes["otc.rows"] for page in pages) == rows
    for page in pages:
        (request,) = trace.below(page)
        assert request.is_client
        assert request.attributes["http.request.method"] == "POST"
        assert request.attributes["http.response.status_code"] == 200
        assert request.attributes["url.full"].startswith("http://simulator/data/")
    for name in ("fetch", "normalize", "archive", "load"):
        assert trace.one(name).attributes["otc.tier"] == T1.name
        assert trace.one(name).attributes["otc.week_ending"] == str(week)
    assert trace.one("parse").attributes["otc.rows"] == rows
    assert {page.attributes["otc.tier"] for page in pages} == {T1.name}
    (load,) = trace.below(of_week, LOAD)
    assert load.attributes["otc.rows"] == rows
    statements = trace.below(load)
    assert {one.name.split()[0] for one in statements} >= {"SELECT", "INSERT", "COPY"}
    for statement in statements:
        assert statement.is_client
        assert statement.attributes["db.system.name"] == "postgresql"
        assert statement.attributes["db.namespace"].startswith("test_")
        assert statement.attributes["server.address"] == "127.0.0.1"
    texts = [one.attributes["db.query.text"] for one in statements]
    assert "COPY otc.rejected_record FROM STDIN" in texts
    assert any("%(week_ending)s" in text for text in texts)
    # The values of a statement stay here, and so does the password.
    assert str(week) not in "".join(texts)
    assert settings().database_url
    assert str(sa.make_url(settings().database_url.get_secret_value()).password).encode() not in collector.raw


def test_a_range_has_a_span_a_week(dagster: DagsterInstance, collector: Collector, week: dt.date) -> None:
    before = week - dt.timedelta(weeks=1)
    installed.launcher(dagster).run_assets(["week_calendar"], before, week)
    trace = collector.trace(newest_run(dagster))
    assert trace.root().attributes["dagster.partition.range.end"] == str(week)
    weeks = trace.below(trace.one("step week_calendar"), WEEK)
    assert [(one.attributes["otc.week_ending"], one.attributes["otc.rows"]) for one in weeks] == [
        (str(before), 3),
        (str(week), 3),
    ]


def test_ingested_files_have_their_stages(
    dagster: DagsterInstance, collector: Collector, tmp_path: Path, week: dt.date
) -> None:
    paths = write_files(Simulator(settings().simulator_seed, 0.01), tmp_path / "f", [week], [T1], NOW.date())
    run_id = installed.launcher(dagster).ingest(FilesToIngest(paths=[str(paths[0])]))
    trace = collector.trace(run_id)
    assert trace.root().name == "run ingest_files"
    stages = [one for one in trace.below(trace.one("step ingest")) if not one.is_client]
    assert [one.name for one in stages] == ["fetch", "parse", "normalize", "archive", "load"]
    assert stages[0].attributes["otc.file"] == paths[0].name


def two_steps() -> JobDefinition:
    """Two steps that need nothing of each other, each in a process of its own."""
    definitions = Definitions(
        assets=[week_calendar(installed.weeks()), venue_volume(installed.weeks())],
        resources={"warehouse": installed.database(), "archive": installed.archive()},
        jobs=[define_asset_job("two_steps")],
        executor=traced_executor(multiprocess_executor),
    )
    return definitions.resolve_job_def("two_steps")


def test_a_run_over_several_processes_is_one_trace(
    installation: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing is handed from process to process but the run's id."""
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        tags = {"dagster/partition": str(RECENT)}
        with execute_job(ReconstructableJob.for_file(__file__, "two_steps"), instance, tags=tags) as result:
            assert result.success
            run_id = result.run_id
    trace = collector.trace(run_id)
    assert len(trace.spans) == len(collector.spans)
    steps = trace.below(trace.root())
    assert {one.name for one in steps} == {"step week_calendar", "step venue_volume"}
    assert len({one.resource["service.instance.id"] for one in [trace.root(), *steps]}) == 3


# --- errors --------------------------------------------------------------------------------------------


def test_a_refused_request_is_recorded_without_secrets(
    dagster: DagsterInstance,
    collector: Collector,
    httpserver: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    week: dt.date,
) -> None:
    httpserver.expect_request("/token").respond_with_json({"access_token": "token-of-finra", "expires_in": "1800"})
    httpserver.expect_request("/data/group/otcMarket/name/weeklySummary").respond_with_data("no", status=403)
    monkeypatch.setenv("OTC_SOURCE", "api")
    monkeypatch.setenv("OTC_FINRA_URL", httpserver.url_for("").replace("http://", "http://somebody:hunter2@"))
    monkeypatch.setenv("OTC_FINRA_CLIENT_ID", "the-client")
    monkeypatch.setenv("OTC_FINRA_CLIENT_SECRET", "secret-of-the-client")
    monkeypatch.setattr("otc_assets.finra.query_api.QueryApi.__init__.__kwdefaults__", _with_token_url(httpserver))
    settings.cache_clear()
    with pytest.raises(launch.RunFailed, match="403"):
        installed.launcher(dagster).run_assets(["publication_t1"], week, week)
    trace = collector.trace(newest_run(dagster))
    root = trace.root()
    assert (root.failed, root.words) == (True, "steps failed: publication_t1")
    refused = trace.one("fetch page")
    assert trace.path(refused)[1:] == ["step publication_t1", "week", "fetch", "fetch page"]
    for one in (refused, trace.one("fetch"), trace.one("week"), trace.one("step publication_t1")):
        assert one.failed
        assert "FINRA answered 403" in one.words
        (error,) = one.errors
        assert error["exception.type"] == one.attributes["error.type"]
        assert "query_api.py" in error["exception.stacktrace"] or one.name.startswith("step")
    assert refused.attributes["error.type"] == "otc_assets.finra.source.PermanentSourceError"
    token, request = trace.below(refused)
    assert (token.attributes["http.response.status_code"], request.attributes["http.response.status_code"]) == (
        200,
        403,
    )
    assert request.failed
    for secret in (b"hunter2", b"secret-of-the-client", b"token-of-finra"):
        assert secret not in collector.raw


def _with_token_url(httpserver: HTTPServer) -> dict[str, Any]:
    from otc_assets.finra.query_api import QueryApi

    return {**(QueryApi.__init__.__kwdefaults__ or {}), "token_url": httpserver.url_for("/token")}


def test_a_retried_step_has_a_span_per_attempt_and_only_the_last_one_counts_for_the_run(collector: Collector) -> None:
    tries = []

    @op(retry_policy=RetryPolicy(max_retries=1))
    @traced_step
    def second_time_lucky(context: OpExecutionContext) -> None:
        tries.append(context.retry_number)
        if len(tries) < 2:
            raise RuntimeError("not yet")

    trace = executed(collector, second_time_lucky)
    assert not trace.root().failed
    first, second = trace.below(trace.root())
    assert (first.attributes["dagster.step.attempt"], first.failed, first.words) == (1, True, "not yet")
    assert (second.attributes["dagster.step.attempt"], second.failed) == (2, False)


def test_an_interrupted_run_ends_its_spans(collector: Collector) -> None:
    """What ends a run that is cancelled in the UI is no Exception."""

    @op
    @traced_step
    def interrupted(context: OpExecutionContext) -> None:
        raise DagsterExecutionInterruptedError("enough")

    trace = executed(collector, interrupted)
    root = trace.root()
    (step,) = trace.below(root)
    assert (root.failed, step.failed, step.words) == (True, True, "enough")


def executed(collector: Collector, one: OpDefinition) -> Trace:
    """The trace of a run of one op, whether or not it succeeds."""

    @job(executor_def=traced_executor(in_process_executor))
    def alone() -> None:
        one()

    with DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(alone)
        execute_run(InMemoryJob(alone), run, instance, raise_on_error=False)
    return collector.trace(run.run_id)


def test_a_statement_that_fails_is_recorded_without_its_values(collector: Collector, database: str) -> None:
    """SQLAlchemy's own text of an error has the statement's parameters."""
    engine = connect(database)
    statement = sa.text("INSERT INTO otc.gap (detail) VALUES (:words)")
    row = {"words": "a-value-of-a-row"}
    run_id = str(uuid.uuid4())
    with (
        pytest.raises(sa.exc.IntegrityError, match="a-value-of-a-row"),
        tracing.step_span(run_id, "step", {}),
        span(LOAD),
        engine.begin() as connection,
    ):
        connection.execute(statement, row)
    engine.dispose()
    trace = collector.trace(run_id)
    load = trace.one("load")
    assert load.attributes["error.type"] == "sqlalchemy.exc.IntegrityError"
    assert "violates not-null constraint" in load.words
    (asked,) = [one for one in trace.below(load) if one.name.startswith("INSERT")]
    assert asked.failed
    assert "a-value-of-a-row" not in load.words + asked.words + str(load.errors) + str(asked.attributes)


def test_a_request_to_the_http_api_is_a_trace_with_its_path_and_rows(collector: Collector, database: str) -> None:
    with Client(database) as client:
        api = TestClient(make_app(client))
        assert api.get("/v1/weeks").status_code == 200
        assert api.get("/v1/symbols/AAPL/summary").status_code == 404
    exporting = tracing._tracing()
    assert exporting is not None
    exporting.flush()
    found, failed = collector.spans
    assert (found.name, found.parent_id, found.failed) == ("read", None, False)
    assert found.attributes["otc.path"] == "/v1/weeks"
    assert (found.attributes["otc.rows"], found.attributes["otc.how"]) == (0, "database")
    assert (failed.attributes["otc.path"], failed.failed) == ("/v1/symbols/{symbol}/summary", True)
    assert failed.trace_id != found.trace_id


def test_passwords_in_texts_are_replaced(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from otc_assets.settings import without_secrets

    monkeypatch.setenv("OTC_DATABASE_URL", "postgresql://otc:correct%20horse@db/otc")
    monkeypatch.setenv("OTC_FINRA_CLIENT_SECRET", "battery-staple")
    settings.cache_clear()
    said = "no postgresql://u:pw@h:5432/d, nor host=h password=correct, 'correct horse' or battery-staple at a:b"
    assert without_secrets(said) == "no postgresql://u:***@h:5432/d, nor host=h password=*** '***' or *** at a:b"


# --- the collector does not answer ---------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True], ids=["no listener", "a listener that does not respond"])
def test_a_dead_collector_costs_a_process_a_second_and_fails_nothing(silent: bool) -> None:
    """A flush for each of five steps, and the end of the process: each may wait for half a minute by itself."""
    program = textwrap.dedent("""
        import logging, sys, threading, time, uuid
        from otc_assets import tracing
        logged = threading.Event()
        logging.lastResort.addFilter(lambda record: logged.set() or True)
        assert tracing.is_on()
        started = time.monotonic()
        for number in range(5):
            with tracing.step_span(str(uuid.uuid4()), "step", {}), tracing.span(tracing.LOAD):
                pass
        print(time.monotonic() - started)
        if len(sys.argv) > 1 and logged.wait(60):
            time.sleep(0.5)  # until it is written
    """)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if silent:
            deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        # A busy machine may take longer to log the failure than the program takes to end.
        ended = python(program, *([] if silent else ["wait"]), OTEL_EXPORTER_OTLP_ENDPOINT=url)
    said = time.monotonic()
    # Without a limit each of the five steps takes ten seconds and more; a busy machine takes some of its own.
    assert 0.9 < float(ended.stdout) < 30
    assert said - ended.at < 60
    lines = ended.stderr.strip().splitlines()
    assert len(lines) <= 1, "it is logged once"
    if not silent:
        assert "traces do not reach http://127.0.0.1" in lines[0]
        assert "Check OTEL_EXPORTER_OTLP_ENDPOINT" in lines[0]


class Ended(subprocess.CompletedProcess[str]):
    """A process that ended, and when it began."""

    at: float


def python(program: str, *arguments: str, **environment: str) -> Ended:
    """Runs a program in a process of its own, which has to succeed."""
    at = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    ended = Ended(run.args, run.returncode, run.stdout, run.stderr)
    ended.at = at
    return ended


def test_a_run_goes_through_without_its_collector(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch, week: dt.date
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    started = time.monotonic()
    installed.launcher(dagster).run_assets(["week_calendar", "venue_volume"], week, week)
    assert tracing.is_on()
    assert time.monotonic() - started < 60  # without a limit: half a minute a step


def test_a_collector_that_comes_back_gets_spans_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One outage must not leave a long-lived process without traces, or without flushes, for good."""
    port = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    step()
    exporting = tracing._tracing()
    assert exporting
    with closing(Collector(port)) as receiver:
        deadline = time.monotonic() + 120
        while (flushed := step()) not in {one.trace_id for one in receiver.spans}:
            assert time.monotonic() < deadline, "no step was flushed as it ended"
            time.sleep(0.1)
        assert flushed in {one.trace_id for one in receiver.spans}


def step(**attributes: str) -> str:
    """A step's span, and one inside. Returns the trace's id."""
    run_id = uuid.uuid4()
    with tracing.step_span(str(run_id), "step", attributes), span(LOAD):
        pass
    return run_id.hex


# --- variables -----------------------------------------------------------------------------------------


def test_the_variables_of_opentelemetry_count(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "otc-staging")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=markets")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    step()
    resource = collector.spans[0].resource
    assert resource["service.name"] == "otc-staging"
    assert resource["deployment.environment.name"] == "staging"
    assert collector.headers["x-tenant"] == "markets"
    assert collector.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_sampled_run_is_sampled_whole(collector: Collector, monkeypatch: pytest.MonkeyPatch, sampler: str) -> None:
    """Two bits of a UUID are fixed: judged by the plain id, a ratio of one half samples nothing at all."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    runs = [str(uuid.UUID(int=(number << 70) | (1 << 63) | number, version=4)) for number in range(60)]
    for run_id in runs:
        with tracing.run_span(run_id, "run", {}), tracing.step_span(run_id, "step", {}), span(LOAD):
            pass
    found = [{one.name for one in collector.trace(run_id).spans} for run_id in runs]
    assert all(names in (set(), {"run", "step", "load"}) for names in found)
    assert 15 < sum(map(bool, found)) < 45


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
)
def test_traces_can_be_turned_off(collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    step()
    assert not tracing.is_on()
    assert collector.spans == []


def test_an_unsupported_protocol_is_logged_and_stops_nothing(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    step()
    assert not tracing.is_on()
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in caplog.text


# --- log lines and ids ---------------------------------------------------------------------------------


def test_log_lines_carry_the_ids_of_their_span(
    dagster: DagsterInstance, collector: Collector, caplog: pytest.LogCaptureFixture, week: dt.date
) -> None:
    installed.launcher(dagster).run_assets(["week_calendar"], week, week)
    run_id = newest_run(dagster)
    of_step = collector.trace(run_id).one("step week_calendar")
    lines = [entry.user_message for entry in dagster.all_logs(run_id) if not entry.is_dagster_event]
    assert lines == [f"{week}: 3 rows (week 1 of 1) trace_id={of_step.trace_id} span_id={of_step.id}"]
    caplog.clear()
    trace_id = str(uuid.uuid4())
    with tracing.step_span(trace_id, "step", {}):
        logging.getLogger("otc_assets.somewhere").warning("100 %% of %s", "it")
        logging.getLogger("of.others").warning("as it is")
    logging.getLogger("otc_assets.somewhere").warning("outside")
    ours, others, outside = caplog.records
    assert ours.getMessage() == f"100 % of it trace_id={ours.trace_id} span_id={ours.span_id}"  # type: ignore[attr-defined]
    assert ours.trace_id == uuid.UUID(trace_id).hex == others.trace_id  # type: ignore[attr-defined]
    assert (others.getMessage(), outside.getMessage()) == ("as it is", "outside")
    assert not hasattr(outside, "trace_id")


def test_the_current_trace_id_is_that_of_the_run(collector: Collector) -> None:
    run_id = uuid.uuid4()
    assert tracing.current_trace_id() is None
    with tracing.step_span(str(run_id), "step", {}), span(LOAD):
        assert tracing.current_trace_id() == run_id.hex
    assert tracing.current_trace_id() is None


def test_any_run_id_has_a_trace(collector: Collector) -> None:
    """A run can be launched with any ID."""
    for _ in range(2):
        with tracing.step_span("nightly-17", "step", {}):
            trace_id = tracing.current_trace_id()
            assert trace_id
            assert len(trace_id) == 32
    assert {one.trace_id for one in collector.spans} == {trace_id}


def test_statements_outside_of_spans_are_no_traces(collector: Collector, database: str) -> None:
    """A sensor looks into the database every half minute."""
    engine = connect(database)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT 1"))
    step()
    engine.dispose()
    assert {one.name for one in collector.spans} == {"step", "load"}


# --- without a collector -------------------------------------------------------------------------------


def test_without_a_collector_nothing_of_opentelemetry_is_loaded(installation: Path) -> None:
    """A whole run in a process of its own, as the command line does it."""
    ended = python(
        textwrap.dedent(f"""
            import datetime as dt, sys
            import otc_assets.cli
            from dagster import DagsterInstance
            from otc_assets.definitions import make_launcher
            from otc_assets.settings import settings
            week = dt.date.fromisoformat("{RECENT}")
            with DagsterInstance.ephemeral() as instance:
                make_launcher(instance, settings()).run_assets(["week_calendar", "venue_volume"], week, week)
            print([name for name in sys.modules if name.startswith("opentelemetry")])
        """)
    )
    assert ended.stdout.strip() == "[]"


def test_without_a_collector_a_span_costs_next_to_nothing() -> None:
    def one() -> None:
        with span(LOAD, tier="OTC", rows=1):
            set_attributes(rows=2)

    each = min(timeit.repeat(one, number=20_000, repeat=5)) / 20_000
    assert each < 10e-6  # half a microsecond here; a statement takes hundreds
