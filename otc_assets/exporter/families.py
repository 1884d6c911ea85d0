"""Families of metrics from values by label, as Prometheus' text format has them. What they show is in the sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


def gauge(name: str, documentation: str, labels: Sequence[str], values: Mapping[Any, float]) -> GaugeMetricFamily:
    """A gauge, with a value for each label, or for each tuple of labels."""
    return _filled(GaugeMetricFamily(name, documentation, labels=labels), values)


def counter(name: str, documentation: str, labels: Sequence[str], values: Mapping[Any, float]) -> CounterMetricFamily:
    """A counter, with a value for each label, or for each tuple of labels."""
    return _filled(CounterMetricFamily(name, documentation, labels=labels), values)


def _filled(family: Any, values: Mapping[Any, float]) -> Any:
    for key, value in sorted(values.items()):
        family.add_metric([key] if isinstance(key, str) else key, value)
    return family
