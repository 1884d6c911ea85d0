"""Spans by OTLP: OpenTelemetry's SDK, exporter and instrumentations, set up for this platform.

This module is imported only if a collector is configured. All of OpenTelemetry's environment variables have their
effect (endpoint, headers, time-out, sampler, resource, batch sizes, ...).

The exporter is ``opentelemetry-exporter-otlp-proto-http``. Its retries are kept: they run in the SDK's thread. What
is added is a limit on how long a run waits for them, because the SDK has none: ``force_flush`` ignores its time-out,
and a shutdown waits up to half a minute for a collector that does not respond. The other additions are in ``export``
(secrets, log lines) and ``ids`` (one trace per run).

The root span of a run is exported by the run's executor, which runs in exactly one process of each run.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import httpx
import sqlalchemy as sa
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from otc_assets.tracing.export import Exporter, record_error
from otc_assets.tracing.ids import RunIds, RunSampler, ids_of_run

#: Loggers whose lines get the IDs as text: ours, and Dagster's ``context.log``.
_LINES_WITH_IDS = ("dagster", "otc_assets")

#: Attributes that inner spans take from outer ones, so that inner spans can be searched for by them.
_INHERITED = ("otc.week_ending", "otc.tier")


def _named(attributes: Mapping[str, object]) -> dict[str, AttributeValue]:
    """Attributes with the prefix of their names, and values of OpenTelemetry's types."""
    return {
        f"otc.{name}": value if isinstance(value, str | bool | int | float) else str(value)
        for name, value in attributes.items()
        if value is not None
    }


def _version() -> str:
    try:
        return importlib.metadata.version("otc-assets")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _resource() -> Resource:
    """Name and version of this service; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    ours = Resource.create({"service.name": "otc-assets", "service.version": _version()})
    return ours.merge(OTELResourceDetector().detect())


class Tracing:
    """The spans of this process, and their export.

    Raises:
        ValueError: one of OpenTelemetry's variables has a value that is not supported; the message names it.
    """

    def __init__(self) -> None:
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        if protocol not in (None, "", "http/protobuf"):
            raise ValueError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and only http/protobuf is supported. Unset it, and "
                "set the endpoint to the collector's HTTP port, which is usually 4318."
            )
        # Attributes by the stable conventions (db.query.text, url.full); by default they are those of earlier ones.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
        self._ids = RunIds()
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.sampler = RunSampler(self._provider.sampler)
        self._exporter = Exporter()
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
            record_exception=False,  # record_error does, without secrets
            set_status_on_exception=False,
        ) as opened:
            try:
                yield
            except GeneratorExit:  # the caller did not need the rest; no error
                raise
            except BaseException as error:  # also the end of an interrupted run
                record_error(opened, error)
                raise

    def span(self, name: str, attributes: Mapping[str, object]) -> AbstractContextManager[None]:
        """A span inside the current one, of the same week and tier."""
        around = getattr(trace.get_current_span(), "attributes", None) or {}
        inherited = {name: around[name] for name in _INHERITED if name in around}
        return self._open(name, {**inherited, **_named(attributes)})

    def set_attributes(self, attributes: Mapping[str, object]) -> None:
        """Sets attributes of the current span."""
        trace.get_current_span().set_attributes(_named(attributes))

    def copy(self, url: sa.URL, statement: str) -> AbstractContextManager[None]:
        """A COPY, with the attributes that SQLAlchemy's instrumentation records of other statements."""
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
        """The root span of a run. It does not become the current span: work between two steps belongs to no span."""
        token = self._ids.of_root.set(ids_of_run(run_id))
        root = self._tracer.start_span(name, context=Context(), attributes=attributes)
        self._ids.of_root.reset(token)
        try:
            yield lambda reason: root.set_status(Status(StatusCode.ERROR, reason))
        except GeneratorExit:
            raise
        except BaseException as error:
            record_error(root, error)
            raise
        finally:
            root.end()
            self.flush()

    @contextmanager
    def step(self, run_id: str, name: str, attributes: Mapping[str, str | int]) -> Iterator[None]:
        """A step's span, below the root span of its run."""
        trace_id, root_id = ids_of_run(run_id)
        # The same decision as for the root span, which another process may have started.
        sampled = self._provider.sampler.should_sample(Context(), trace_id, name).decision.is_sampled()
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        root = trace.NonRecordingSpan(SpanContext(trace_id, root_id, is_remote=True, trace_flags=flags))
        try:
            with self._open(name, attributes, parent=trace.set_span_in_context(root, Context())):
                yield
        finally:
            self.flush()

    def current_trace_id(self) -> str | None:
        """The ID of the current trace."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    # --- sending ---------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Sends the spans that have ended, and waits for that, but no longer than the exporter's patience.

        The SDK's ``force_flush`` waits while the exporter retries, for ten seconds and more, so a thread calls it.
        After a wait in vain, later calls do not wait until the collector responds again.
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
        """Sends the spans that have ended, and exports no more."""
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
        """A log record with ``trace_id`` and ``span_id``; our lines and Dagster's have them as text, too.

        A record factory is used because no filter or handler of a logger gets every record: Dagster creates a logger
        per step for ``context.log``, which is in no registry, and formats lines itself. For the same reason
        OpenTelemetry's instrumentation of logging is not used: it adds attributes, which Dagster does not print.
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
            # Dagster passes a line from logger to logger, and each creates a record of it.
            if ours and isinstance(record.msg, str) and "trace_id=" not in record.msg:
                record.msg += "".join(f" {name}={value}" for name, value in ids.items())
        return record

    # --- instrumentations ------------------------------------------------------------------------------

    def instrument_engine(self, engine: sa.Engine) -> None:
        """Records the statements of one engine as spans.

        ``SQLAlchemyInstrumentor`` accepts one engine per process, and also traces every engine that is created later,
        including the one of Dagster's storage with its thousands of events. So its listener is put on our engine
        directly.
        """
        tracer = self._provider.get_tracer("opentelemetry.instrumentation.sqlalchemy")
        connections = metrics.NoOpMeter("otc_assets").create_up_down_counter("db.client.connections.usage")
        EngineTracer(tracer, engine, connections)

    def instrument_client(self, client: httpx.Client) -> None:
        """Records the requests of one client as spans."""
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=self._provider)
