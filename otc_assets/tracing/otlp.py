"""Spans by OTLP: OpenTelemetry's SDK and exporter as this platform needs them.

Here: ids that follow from a run's id, sending without holding a run up, errors without secrets, log lines with
ids, the instrumentations of SQLAlchemy and httpx. Loaded only where a collector is named: nothing else imports
OpenTelemetry. All of its variables count (endpoint, headers, time-out, sampler, resource, batch sizes, ...).

A run is one trace over all its processes. Nothing is handed from one to the other: the trace's id is the run's id,
and the id of its root span is a digest of it, so that a step in any process names the right parent. The root span
itself is exported by the run's executor (``assets.spans``), which runs once a run, in the UI's and the daemon's run
workers as in a terminal.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.metadata
import logging
import os
import queue
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import httpx
import sqlalchemy as sa
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

from otc_assets.settings import without_secrets

#: How long a step's end may wait for the collector, in seconds; after that nothing waits until it answers again.
PATIENCE = 1.0

#: Loggers whose lines carry ids as text: ours and Dagster's ``context.log``.
_LINES_WITH_IDS = ("dagster", "otc_assets")

#: What is true of all that is inside: so that spans can be searched for by it, not only found below others.
_INHERITED = ("otc.week_ending", "otc.tier")

_LONGEST_WORDS = 2_000


def ids_of_run(run_id: str) -> tuple[int, int]:
    """The trace's id, which is the run's where that is a UUID, and the root span's."""
    digest = hashlib.sha256(run_id.encode()).digest()
    try:
        trace_id = uuid.UUID(run_id).int
    except ValueError:  # whoever launches a run may give it any id
        trace_id = int.from_bytes(digest[8:24])
    return trace_id, int.from_bytes(digest[:8])


def _record(opened: trace.Span, error: BaseException) -> None:
    """Records the error that leaves a span: its words, where it was raised, and no value of a statement.

    Those stand in the text of SQLAlchemy's errors (the parameters), and in what PostgreSQL adds to the first line
    of its own (the row). So that line alone is told, and the stack without the errors that it came from.
    """
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    cause = getattr(error, "orig", None) or error
    words = (getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause))[:_LONGEST_WORDS]
    stack = "".join(traceback.format_tb(error.__traceback__))
    opened.add_event(
        "exception", {"exception.type": kind, "exception.message": words, "exception.stacktrace": stack + kind}
    )
    opened.set_attribute("error.type", kind)
    opened.set_status(Status(StatusCode.ERROR, words or kind))


def _without_secrets(span: ReadableSpan) -> ReadableSpan:
    """A failed span as it may be sent: the instrumentations record errors too, in the libraries' words."""
    words = without_secrets(span.status.description or "")
    if span.kind is SpanKind.CLIENT:
        words = words.partition("\n")[0]  # what follows in PostgreSQL's are values
    events = [
        Event(
            event.name,
            {name: without_secrets(v) if isinstance(v, str) else v for name, v in (event.attributes or {}).items()},
            event.timestamp,
        )
        for event in span.events
    ]
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=Status(StatusCode.ERROR, words or None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(told: Mapping[str, object]) -> dict[str, AttributeValue]:
    """What is told of a span, as attributes."""
    return {
        f"otc.{name}": value if isinstance(value, str | bool | int | float) else str(value)
        for name, value in told.items()
        if value is not None
    }


def _version() -> str:
    try:
        return importlib.metadata.version("otc-assets")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _resource() -> Resource:
    """Who we are; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes first."""
    ours = Resource.create({"service.name": "otc-assets", "service.version": _version()})
    return ours.merge(OTELResourceDetector().detect())


class _Ids(RandomIdGenerator):
    """Random ids, but for the root span of a run."""

    def __init__(self) -> None:
        self.of_root: ContextVar[tuple[int, int] | None] = ContextVar("ids of a run's root span", default=None)

    def generate_trace_id(self) -> int:
        fixed = self.of_root.get()
        return fixed[0] if fixed else super().generate_trace_id()

    def generate_span_id(self) -> int:
        fixed = self.of_root.get()
        return fixed[1] if fixed else super().generate_span_id()


class _Sampler(Sampler):
    """The sampler that ``OTEL_TRACES_SAMPLER`` names, with two things put right.

    It gets a digest of the trace's id: a ratio is judged by bits of it, of which a UUID has two that never change,
    and each ratio up to a half would sample nothing. And a statement or request that stands in no span of ours,
    such as those of a sensor's tick, does not become a trace of its own.
    """

    def __init__(self, chosen: Sampler) -> None:
        self._chosen = chosen

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if kind is SpanKind.CLIENT and not trace.get_current_span(parent_context).get_span_context().is_valid:
            return SamplingResult(Decision.DROP)
        even = int.from_bytes(hashlib.sha256(trace_id.to_bytes(16)).digest()[:16])
        return self._chosen.should_sample(parent_context, even, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self._chosen.get_description()


class _Exporter(OTLPSpanExporter):
    """The OTLP exporter, which says once that the collector does not take spans, and forgives when it does again."""

    def __init__(self) -> None:
        super().__init__()
        self.patience = PATIENCE
        self._told = False
        # The library's own words, a line a try, would be all that a terminal shows.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._once)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export([one if one.status.is_unset else _without_secrets(one) for one in spans])
        if result is SpanExportResult.SUCCESS:
            self.patience, self._told = PATIENCE, False
        return result

    def shutdown(self) -> None:
        super().shutdown()
        logging.getLogger(OTLPSpanExporter.__module__).removeFilter(self._once)

    def _once(self, record: logging.LogRecord) -> bool:
        if self._told or self._shutdown:
            return False
        self._told = True
        record.msg = (
            f"traces do not reach {without_secrets(self._endpoint)} ({record.getMessage()}). Runs go on without. "
            "Check OTEL_EXPORTER_OTLP_ENDPOINT, and that the collector runs."
        )
        record.args = ()
        return True


class Tracing:
    """Everything of a process that has to do with traces.

    Raises:
        ValueError: a variable of OpenTelemetry's has a value that can't be served; it names the variable.
    """

    def __init__(self) -> None:
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        if protocol not in (None, "", "http/protobuf"):
            raise ValueError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and http/protobuf alone is spoken here. Unset it, and "
                "name the collector's HTTP port, which is 4318 in most."
            )
        # The instrumentations' attributes by the conventions that are stable now (db.query.text, url.full), and not
        # by those that they began with.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
        self._ids = _Ids()
        # Not shut down by itself at exit: that waits half a minute for a collector that does not answer.
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.sampler = _Sampler(self._provider.sampler)
        self._exporter = _Exporter()
        self._processor = BatchSpanProcessor(self._exporter)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("otc_assets", _version())
        self._flushes: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._flush_on_demand, name="otc-assets traces", daemon=True).start()
        self._plain_records = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._record_with_ids)
        atexit.register(self.close)

    # --- spans -----------------------------------------------------------------------------------------

    @contextmanager
    def _open(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue],
        parent: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            record_exception=False,  # by us, without secrets
            set_status_on_exception=False,
        ) as opened:
            try:
                yield
            except GeneratorExit:  # nobody wanted the rest: no error
                raise
            except BaseException as error:  # an interrupted run too
                _record(opened, error)
                raise

    def span(self, name: str, told: Mapping[str, object]) -> AbstractContextManager[None]:
        """A span inside the one that is open, of the same week and tier."""
        around = getattr(trace.get_current_span(), "attributes", None) or {}
        inherited = {name: around[name] for name in _INHERITED if name in around}
        return self._open(name, {**inherited, **_attributes(told)})

    def tell(self, told: Mapping[str, object]) -> None:
        """Adds to the span that is open."""
        trace.get_current_span().set_attributes(_attributes(told))

    def copy(self, url: sa.URL, statement: str) -> AbstractContextManager[None]:
        """A COPY, as the instrumentation of SQLAlchemy tells of other statements."""
        attributes: dict[str, AttributeValue | None] = {
            "db.system.name": "postgresql",
            "db.namespace": url.database,
            "db.operation.name": "COPY",
            "db.query.text": statement,
            "server.address": url.host,
            "server.port": url.port,
        }
        known = {name: value for name, value in attributes.items() if value is not None}
        return self._open(f"COPY {url.database}", known, kind=SpanKind.CLIENT)

    @contextmanager
    def run(self, run_id: str, name: str, attributes: Mapping[str, str]) -> Iterator[Callable[[str], None]]:
        """The root span of a run. It is not made the open one: what is between two steps belongs to no span."""
        token = self._ids.of_root.set(ids_of_run(run_id))
        root = self._tracer.start_span(name, context=Context(), attributes=attributes)
        self._ids.of_root.reset(token)
        try:
            yield lambda words: root.set_status(Status(StatusCode.ERROR, words))
        except GeneratorExit:
            raise
        except BaseException as error:
            _record(root, error)
            raise
        finally:
            root.end()
            self.flush()

    @contextmanager
    def step(self, run_id: str, name: str, attributes: Mapping[str, str | int]) -> Iterator[None]:
        """A step's span, below the root span of its run."""
        trace_id, root_id = ids_of_run(run_id)
        # Asked as for the root span, which is perhaps started in another process: both come to the same answer.
        sampled = self._provider.sampler.should_sample(Context(), trace_id, name).decision.is_sampled()
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        root = trace.NonRecordingSpan(SpanContext(trace_id, root_id, is_remote=True, trace_flags=flags))
        try:
            with self._open(name, attributes, parent=trace.set_span_in_context(root, Context())):
                yield
        finally:
            self.flush()

    def current_trace_id(self) -> str | None:
        """The id of the trace that is open."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    # --- sending ---------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Sends the spans that have ended, and waits for it, but not long.

        The SDK's own ``force_flush`` takes no time-out: it waits while the exporter tries again, ten seconds and
        more. So a thread waits in our place; and once it was in vain, nothing waits until the collector answers.
        """
        if self._exporter.patience <= 0:
            return
        done = threading.Event()
        self._flushes.put(done)
        if not done.wait(self._exporter.patience):
            self._exporter.patience = 0.0

    def _flush_on_demand(self) -> None:
        while True:
            done = self._flushes.get()
            self._processor.force_flush()
            done.set()

    def close(self) -> None:
        """Sends what has ended, and exports no more."""
        atexit.unregister(self.close)
        self.flush()
        if logging.getLogRecordFactory() == self._record_with_ids:
            logging.setLogRecordFactory(self._plain_records)
        if self._exporter.patience > 0:
            self._processor.shutdown()
        else:
            self._exporter.shutdown()

    # --- logs ------------------------------------------------------------------------------------------

    def _record_with_ids(self, *args: object, **kwargs: object) -> logging.LogRecord:
        """A log record with ``trace_id`` and ``span_id``, and in ours and Dagster's lines as text.

        A record factory, because no filter or handler of a logger sees every record: Dagster makes a logger a
        step for ``context.log``, which is in no registry, and formats lines by itself. For the same reason
        OpenTelemetry's instrumentation of logging would not do: it adds attributes, which Dagster does not print.
        """
        record = self._plain_records(*args, **kwargs)
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            ids = {
                "trace_id": trace.format_trace_id(context.trace_id),
                "span_id": trace.format_span_id(context.span_id),
            }
            record.__dict__.update(ids)
            ours = isinstance(record.name, str) and record.name.startswith(_LINES_WITH_IDS)
            # Dagster hands a line on from logger to logger, and each makes a record of it.
            if ours and isinstance(record.msg, str) and "trace_id=" not in record.msg:
                record.msg += "".join(f" {name}={value}" for name, value in ids.items())
        return record

    # --- instrumentations ------------------------------------------------------------------------------

    def instrument_engine(self, engine: sa.Engine) -> None:
        """Has the statements of one engine leave spans.

        ``SQLAlchemyInstrumentor`` takes one engine a process, and has every later ``create_engine`` traced too, that
        is Dagster's storage with its thousands of events. What it would put on the engine is put on ours alone.
        """
        tracer = self._provider.get_tracer("opentelemetry.instrumentation.sqlalchemy")
        connections = metrics.NoOpMeter("otc_assets").create_up_down_counter("db.client.connections.usage")
        EngineTracer(tracer, engine, connections)

    def instrument_client(self, client: httpx.Client) -> None:
        """Has the requests of one client leave spans."""
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=self._provider)
