"""Metrics of the API's requests, in a registry of their own; they are served at ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Measures:
    """The metrics of one server. Paths are those of the description, so that their number is bounded."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "otc_api_requests", "Requests, by path and HTTP status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "otc_api_request_duration_seconds",
            "Time from the request to the end of its response, in seconds.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._rows = Counter("otc_api_rows", "Rows in responses, by path.", ["path"], registry=self._registry)
        self._reads = Counter(
            "otc_api_reads",
            "How rows were answered: read from the database, kept in memory, or not modified.",
            ["how"],
            registry=self._registry,
        )
        self.open = Gauge("otc_api_open_requests", "Requests without a complete response.", registry=self._registry)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Counts a request that has ended."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_rows(self, path: str, how: str, rows: int) -> None:
        """Counts rows, and how they were answered: ``database``, ``memory`` or ``not_modified``."""
        self._reads.labels(how).inc()
        if rows:
            self._rows.labels(path).inc(rows)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)
