"""The IDs of a run's trace, and the sampling that follows from them.

A run is one trace over all its processes, and they pass nothing to each other: the trace's ID is the run's ID, and
the ID of its root span is a digest of it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import AttributeValue


def ids_of_run(run_id: str) -> tuple[int, int]:
    """The ID of a run's trace, which is the run's if that is a UUID, and the ID of its root span."""
    digest = hashlib.sha256(run_id.encode()).digest()
    try:
        trace_id = uuid.UUID(run_id).int
    except ValueError:  # a run can be launched with any ID
        trace_id = int.from_bytes(digest[8:24])
    return trace_id, int.from_bytes(digest[:8])


class RunIds(RandomIdGenerator):
    """Random IDs, except for the root span of a run.

    Attributes:
        of_root: the IDs of the trace and of the span that is about to be started; None for random ones.
    """

    def __init__(self) -> None:
        self.of_root: ContextVar[tuple[int, int] | None] = ContextVar("IDs of a run's root span", default=None)

    def generate_trace_id(self) -> int:
        """The ID of a new trace."""
        fixed = self.of_root.get()
        return fixed[0] if fixed else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The ID of a new span."""
        fixed = self.of_root.get()
        return fixed[1] if fixed else super().generate_span_id()


class RunSampler(Sampler):
    """The sampler that ``OTEL_TRACES_SAMPLER`` names, with two differences.

    It gets a digest of the trace's ID. A ratio sampler compares bits of the ID, and two bits of a UUID never change,
    so ratios of up to one half would sample nothing. And a statement or request outside of our spans, such as those
    of a sensor's tick, does not become a trace.
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
        """Whether a span is recorded."""
        if kind is SpanKind.CLIENT and not trace.get_current_span(parent_context).get_span_context().is_valid:
            return SamplingResult(Decision.DROP)
        even = int.from_bytes(hashlib.sha256(trace_id.to_bytes(16)).digest()[:16])
        return self._chosen.should_sample(parent_context, even, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """The description of the sampler that was chosen."""
        return self._chosen.get_description()
