"""The OTLP exporter: OpenTelemetry's own, without secrets in failed spans, and with one log line per outage.

How long a run waits for the exporter is decided in ``otlp``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

from otc_assets.settings import without_secrets

#: How many seconds the end of a step may wait for the collector. After a wait in vain, nothing waits until the
#: collector responds again.
PATIENCE = 1.0

_LONGEST_MESSAGE = 2_000


class Exporter(OTLPSpanExporter):
    """The OTLP exporter. It logs once that the collector does not accept spans, and again only after a success.

    Attributes:
        patience: how many seconds a flush may wait; 0 after one that waited in vain.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patience = PATIENCE
        self._logged = False
        # The library logs one line per attempt.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._once)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans; called by OpenTelemetry's thread."""
        result = super().export([one if one.status.is_unset else _without_secrets(one) for one in spans])
        if result is SpanExportResult.SUCCESS:
            self.patience, self._logged = PATIENCE, False
        return result

    def shutdown(self) -> None:
        """Sends no more spans."""
        super().shutdown()
        logging.getLogger(OTLPSpanExporter.__module__).removeFilter(self._once)

    def _once(self, record: logging.LogRecord) -> bool:
        if self._logged or self._shutdown:
            return False
        self._logged = True
        record.msg = (
            f"traces do not reach {without_secrets(self._endpoint)} ({record.getMessage()}). Runs continue without "
            "traces. Check OTEL_EXPORTER_OTLP_ENDPOINT, and that the collector is running."
        )
        record.args = ()
        return True


def record_error(span: trace.Span, error: BaseException) -> None:
    """Records the error that the body of a span raised: message and stack, without values of a statement.

    SQLAlchemy's messages include the parameters, and PostgreSQL's include the row after their first line. So only
    that line is recorded, and the stack without the causes of the error.
    """
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    cause = getattr(error, "orig", None) or error
    message = (getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause))[:_LONGEST_MESSAGE]
    stack = "".join(traceback.format_tb(error.__traceback__))
    span.add_event(
        "exception", {"exception.type": kind, "exception.message": message, "exception.stacktrace": stack + kind}
    )
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, message or kind))


def _without_secrets(span: ReadableSpan) -> ReadableSpan:
    """A failed span without secrets. The instrumentations record errors too, with the libraries' messages."""
    message = without_secrets(span.status.description or "")
    if span.kind is SpanKind.CLIENT:
        message = message.partition("\n")[0]  # PostgreSQL's messages have values after the first line
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
        status=Status(StatusCode.ERROR, message or None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
