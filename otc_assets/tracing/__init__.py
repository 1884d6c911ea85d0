"""Opening spans, their names, and whether spans are exported at all.

OpenTelemetry is used in ``otlp`` only, which is imported if a collector is configured; its environment variables are
not settings of ours. Which parts of Dagster's runs become spans is decided where the runs are executed.

A span is opened with ``with span(LOAD, tier=tier, rows=n):``. Without a collector, that costs one cache lookup.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx
    import sqlalchemy as sa

    from otc_assets.tracing.otlp import Tracing

#: The spans inside a step: a week, and inside it the stages of its computation. Requests to FINRA and database
#: statements have spans inside these, which OpenTelemetry's instrumentations open.
WEEK = "week"
FETCH, PAGE, ARCHIVE, PARSE, NORMALIZE = "fetch", "fetch page", "archive", "parse", "normalize"
COMPUTE, LOAD, REFRESH = "compute", "load", "refresh"
#: A request to the HTTP API; its trace is its own.
READ = "read"

#: The value of an attribute; None is left out.
Attribute = str | int | float | bool | dt.date | None

_NOTHING: AbstractContextManager[None] = nullcontext()

log = logging.getLogger(__name__)


@cache
def _tracing() -> Tracing | None:
    """The exporter of spans, one per process; None if no collector is configured."""
    environment = os.environ
    named = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not named or disabled or "none" in environment.get("OTEL_TRACES_EXPORTER", "otlp"):
        return None
    from otc_assets.tracing.otlp import Tracing

    try:
        return Tracing()
    except Exception as error:  # no error of tracing may fail a run
        log.error("traces are not exported: %s", error)
        return None


def is_on() -> bool:
    """Whether this process exports spans."""
    return _tracing() is not None


def span(name: str, **attributes: Attribute) -> AbstractContextManager[None]:
    """A span with a duration, attributes, and the error that its body raises.

    Args:
        name: one of the names above.
        attributes: each becomes the attribute ``otc.<name>``.
    """
    tracing = _tracing()
    return tracing.span(name, attributes) if tracing else _NOTHING


def set_attributes(**attributes: Attribute) -> None:
    """Sets attributes of the current span, each as ``otc.<name>``."""
    if tracing := _tracing():
        tracing.set_attributes(attributes)


def current_trace_id() -> str | None:
    """The ID of the current trace, 32 hex digits; None outside of spans and without a collector.

    In a run it is the run's ID.
    """
    tracing = _tracing()
    return tracing.current_trace_id() if tracing else None


def run_span(run_id: str, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[Callable[[str], None]]:
    """The root span of a run. Only one process of the run may open it.

    Its IDs are computed from the run's ID, so that a step in any process can name it as its parent.

    Args:
        run_id: Dagster's ID of the run. If it is a UUID, it is also the ID of the trace.
        name: of the span.
        attributes: of the span, with their full names.

    Returns:
        A context manager that yields a function; calling it with a reason marks the run as failed.
    """
    tracing = _tracing()
    return tracing.run(run_id, name, attributes) if tracing else nullcontext(lambda reason: None)


def step_span(run_id: str, name: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[None]:
    """The span of a step of a run, in any process. When it ends, the process's spans are sent.

    Args:
        run_id: Dagster's ID of the run.
        name: of the span.
        attributes: of the span, with their full names.
    """
    tracing = _tracing()
    return tracing.step(run_id, name, attributes) if tracing else _NOTHING


def copy_span(url: sa.URL, statement: str) -> AbstractContextManager[None]:
    """The span of a COPY, which the instrumentations of SQLAlchemy and psycopg do not record.

    Args:
        url: the URL of the database.
        statement: the SQL, with placeholders for values.
    """
    tracing = _tracing()
    return tracing.copy(url, statement) if tracing else _NOTHING


def instrument_engine(engine: sa.Engine) -> None:
    """Records each statement of ``engine`` as a span, without its parameters."""
    if tracing := _tracing():
        tracing.instrument_engine(engine)


def instrument_client(client: httpx.Client) -> None:
    """Records each request of ``client`` as a span, with any transport."""
    if tracing := _tracing():
        tracing.instrument_client(client)
