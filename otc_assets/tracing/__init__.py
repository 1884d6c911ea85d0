"""Spans that anyone may open, and the trace that is open.

Here: opening spans, their names, and whether traces are wanted at all. Not here: OpenTelemetry itself, which is
loaded only where a collector is named (``otlp``); what of Dagster's runs and steps becomes a span
(``assets.spans``). The variables are OpenTelemetry's own, not settings of ours.

A span of ours is opened with ``with span(LOAD, tier=tier, rows=n):``; where no collector is named, that costs a
look into a cache.
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

#: The spans inside a step, from the outside in: a week, and the stages of making it. What reads a page from FINRA
#: or asks the database has spans of its own inside these, made by OpenTelemetry's instrumentations.
WEEK = "week"
FETCH, PAGE, ARCHIVE, PARSE, NORMALIZE = "fetch", "fetch page", "archive", "parse", "normalize"
COMPUTE, LOAD, REFRESH = "compute", "load", "refresh"

#: What may be told of a span: each becomes the attribute ``otc.<name>``; None is left out.
Told = str | int | float | bool | dt.date | None

_NOTHING: AbstractContextManager[None] = nullcontext()

log = logging.getLogger(__name__)


@cache
def _tracing() -> Tracing | None:
    """What exports spans, made once a process; None where no collector is named."""
    environment = os.environ
    named = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not named or disabled or "none" in environment.get("OTEL_TRACES_EXPORTER", "otlp"):
        return None
    from otc_assets.tracing.otlp import Tracing

    try:
        return Tracing()
    except Exception as error:  # whatever is wrong with it: a run is worth more than its trace
        log.error("there are no traces: %s", error)
        return None


def is_on() -> bool:
    """Whether spans are exported by this process."""
    return _tracing() is not None


def span(name: str, **told: Told) -> AbstractContextManager[None]:
    """A span around what is done inside: its duration, what is ``told`` of it, and the error that leaves it.

    Args:
        name: one of the names above.
        told: attributes, each as ``otc.<name>``.
    """
    tracing = _tracing()
    return tracing.span(name, told) if tracing else _NOTHING


def tell(**told: Told) -> None:
    """Adds attributes, each as ``otc.<name>``, to the span that is open."""
    if tracing := _tracing():
        tracing.tell(told)


def current_trace_id() -> str | None:
    """The id of the trace that is open, 32 hex digits: in a run that of its id; None outside and without traces."""
    tracing = _tracing()
    return tracing.current_trace_id() if tracing else None


def run_span(run_id: str, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[Callable[[str], None]]:
    """The root span of a run, whose ids follow from the run's id, so that steps anywhere can name it as parent.

    To be opened by one process of the run alone.

    Args:
        run_id: Dagster's; a UUID, which is then the trace's id.
        name: of the span.
        attributes: of the span, under their full names.

    Returns:
        A context manager that gives a function which marks the run as failed, in words.
    """
    tracing = _tracing()
    return tracing.run(run_id, name, attributes) if tracing else nullcontext(lambda words: None)


def step_span(run_id: str, name: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[None]:
    """The span of a step of a run, in whichever process; at its end the process's spans are sent off.

    Args:
        run_id: Dagster's.
        name: of the span.
        attributes: of the span, under their full names.
    """
    tracing = _tracing()
    return tracing.step(run_id, name, attributes) if tracing else _NOTHING


def copy_span(url: sa.URL, statement: str) -> AbstractContextManager[None]:
    """The span of a COPY, which no instrumentation sees: neither SQLAlchemy's nor psycopg's knows it.

    Args:
        url: the database's.
        statement: the SQL, with placeholders for values.
    """
    tracing = _tracing()
    return tracing.copy(url, statement) if tracing else _NOTHING


def instrument_engine(engine: sa.Engine) -> None:
    """Has every statement of ``engine`` leave a span, without its parameters."""
    if tracing := _tracing():
        tracing.instrument_engine(engine)


def instrument_client(client: httpx.Client) -> None:
    """Has every request of ``client`` leave a span, whatever its transport."""
    if tracing := _tracing():
        tracing.instrument_client(client)
