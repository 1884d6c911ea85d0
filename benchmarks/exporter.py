"""The exporter at ten times the rate at which Prometheus asks, alone, and among clients that misbehave.

The database has the events of a decade. Latency means something on a quiet machine only; processor time per scrape
does on any.
"""

from __future__ import annotations

import socket
import statistics
import time
from contextlib import suppress

import httpx
import psutil
import psycopg

from benchmarks.events import fill
from benchmarks.processes import processor, serving
from benchmarks.results import Measured, Row, Table
from benchmarks.servers import embedded
from otc_assets.settings import settings
from otc_assets.warehouse.migrate import migrate

#: As many as in ``growth``, of weekly operation with retries and failures.
_EVENTS_OF_A_DECADE = 93_259
#: Prometheus asks every 30 seconds (``otc_assets/prometheus/prometheus.yml``). Ten times as often:
_EVERY_SECONDS, _SCRAPES = 3, 20
#: The exporter serves 256 connections. Half of ours send nothing, half ask and read nothing.
_CONNECTIONS = 500
_LONG_HEAD = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n"


class _Crowd:
    """Connections of clients that misbehave. Those that the exporter has closed are opened again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = [self._connect(number) for number in range(_CONNECTIONS)]

    def _connect(self, number: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=5)
        if number % 2:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.setblocking(False)
        return connection

    def renew(self) -> int:
        """Opens those again that are closed. Returns their number."""
        closed = 0
        for number, connection in enumerate(self._open):
            with suppress(BlockingIOError):
                with suppress(ConnectionError):
                    if connection.recv(1, socket.MSG_PEEK):
                        continue
                connection.close()
                self._open[number] = self._connect(number)
                closed += 1
        return closed

    def close(self) -> None:
        for connection in self._open:
            connection.close()


def _status_of_long_head(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        with suppress(ConnectionError):
            connection.sendall(_LONG_HEAD)
        return int(connection.recv(100).split()[1])


def _scrapes(port: int, process: psutil.Process, crowd: _Crowd | None = None) -> dict[str, float | int]:
    """Asks at a steady rate on one connection, and once more if that was closed, as Prometheus's HTTP client does."""
    latencies, statuses, reopened, peak = [], [], 0, 0
    where, before = f"http://127.0.0.1:{port}/metrics", processor(process)
    with httpx.Client(timeout=10) as client:
        begun = time.perf_counter()
        for number in range(_SCRAPES):
            planned = begun + number * _EVERY_SECONDS
            time.sleep(max(planned - time.perf_counter(), 0))
            if crowd:
                reopened += crowd.renew()
                assert _status_of_long_head(port) == 431
            asked = time.perf_counter()
            try:
                answer = client.get(where)
            except httpx.RemoteProtocolError:
                answer = client.get(where)
            assert answer.status_code != 200 or "otc_up 1.0" in answer.text
            statuses.append(answer.status_code)
            latencies.append((time.perf_counter() - asked) * 1000)
            peak = max(peak, process.memory_info().rss)
    spent = processor(process) - before
    return {
        "scrapes": _SCRAPES,
        "answered": statuses.count(200),
        "503": statuses.count(503),
        "p50 ms": statistics.median(latencies),
        "max ms": max(latencies),
        "exporter CPU ms": spent / _SCRAPES * 1000,
        "peak MiB": peak / 2**20,
        "connections closed": reopened,
    }


def run() -> Measured:
    """Fills a table of events, and asks an exporter."""
    with embedded(durable=False) as server:
        migrate(server.url, settings())
        with psycopg.connect(server.url, autocommit=True) as sql:
            fill(sql, _EVENTS_OF_A_DECADE)
        with serving("metrics", OTC_DATABASE_URL=server.url) as (port, process):
            httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).raise_for_status()  # reads all events
            alone = _scrapes(port, process)
            crowd = _Crowd(port)
            try:
                among = _scrapes(port, process, crowd)
            finally:
                crowd.close()
    ratio = float(among["exporter CPU ms"]) / float(alone["exporter CPU ms"])
    rows = [Row("Prometheus alone", alone), Row(f"among {_CONNECTIONS} other connections", among, ratio)]
    return Measured({"exporter": Table("ten times the usual rate", rows)})
