"""The HTTP API beside bare SQL: a symbol's year, at a steady number of requests per second.

Requests are sent at their times, whether earlier ones are answered or not, and their
latency counts from those times: a server that is too slow can't slow the clock down. Rows are read from the database,
kept in memory, or not modified; the first of these uses another page size for each request, so that no response is the
one before. Latency means something on a quiet machine only; processor time per request does on any.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time

import psutil
import psycopg

from benchmarks.client import fill
from benchmarks.layout import busy_symbol
from benchmarks.processes import processor, serving
from benchmarks.results import Measured, Row, Table
from benchmarks.servers import embedded
from benchmarks.weeks import newest_weeks
from otc_assets.client import select
from otc_assets.postgres import session_options

_WEEKS, _CONNECTIONS, _WARM = 52, 16, 200
_NAMES = {
    "database": "read from the database",
    "memory": "kept in memory",
    "not modified": "not modified (304)",
}
_RATE, _SECONDS = 200, 10
_PATH = "/v1/symbols/{symbol}/summary?weeks=last+52"


class _Connections:
    """Connections that are kept open, each with one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self, count: int) -> None:
        for _ in range(count):
            self._idle.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    async def get(self, path: str, etag: str = "") -> tuple[int, str, bytes]:
        """Sends a request: (status, ETag, body)."""
        reader, writer = await self._idle.get()
        condition = f"If-None-Match: {etag}\r\n" if etag else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{condition}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self._idle.put_nowait((reader, writer))
        found = re.search(r"etag: (\S+)", head)
        return int(head.split()[1]), found[1] if found else "", body


async def _load(port: int, how: str, symbol: str, rate: float, seconds: float) -> list[float]:
    """Sends requests at a steady rate. Returns the milliseconds of each."""
    connections = _Connections(port)
    await connections.open(_CONNECTIONS)
    path = _PATH.format(symbol=symbol)
    status, etag, body = await connections.get(path)
    assert (status, body.count(b'"week_ending"')) == (200, _WEEKS)
    latencies: list[float] = []

    async def request(number: int, planned: float) -> None:
        other = f"{path}&limit={1000 + number % 9000}" if how == "database" else path
        status, _, body = await connections.get(other, etag if how == "not modified" else "")
        latencies.append((time.perf_counter() - planned) * 1000)
        assert status == (304 if how == "not modified" else 200)
        assert how == "not modified" or body.count(b'"week_ending"') == _WEEKS

    async with asyncio.TaskGroup() as group:
        begun = time.perf_counter()
        for number in range(int(rate * seconds)):
            planned = begun + number / rate
            await asyncio.sleep(max(planned - time.perf_counter(), 0))
            group.create_task(request(number, planned))
    return latencies


def bare(url: str, symbol: str, weeks: list[str]) -> tuple[float, float]:
    """Milliseconds of the same rows by psycopg, without HTTP: by the clock, and of the processor of both sides."""
    text, params, _ = select("summary", {"symbols": symbol}, weeks=f"{weeks[0]}..{weeks[-1]}").statement()
    clock: list[float] = []
    with psycopg.connect(url, autocommit=True, options=session_options()) as connection:
        server = psutil.Process(connection.info.backend_pid)
        for number in range(_WARM * 2):
            if number == _WARM:
                before = processor(server) + time.process_time()
            begun = time.perf_counter()
            assert len(connection.execute(text, params).fetchall()) == _WEEKS
            clock.append((time.perf_counter() - begun) * 1000)
        spent = processor(server) + time.process_time() - before
    return statistics.median(clock[_WARM:]), spent / _WARM * 1000


def run() -> Measured:
    """Fills a server, and sends requests to an API."""
    weeks, symbol = newest_weeks(_WEEKS), busy_symbol()
    with embedded(durable=False) as server:
        fill(server.url, symbol, weeks)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO otc.computed_week (table_name, week_ending, version, rows)"
                " SELECT 'symbol_summary', week_ending, 'v', count(*) FROM otc.symbol_summary GROUP BY week_ending"
            )
            (postmaster,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
            postgres = psutil.Process(postmaster).parent()
            assert postgres is not None
            clock, least = bare(server.url, symbol, [str(week) for week in weeks])
            rows = [Row("bare SQL, without HTTP", {"requests": _WARM, "p50 ms": clock, "PostgreSQL CPU ms": least})]
            with serving("serve", OTC_DATABASE_URL=server.url, OTC_API_REQUESTS_PER_MINUTE="0") as (port, process):
                asyncio.run(_load(port, "database", symbol, 20, _WARM / 20))  # opens connections, fills caches
                for how in ("database", "memory", "not modified"):
                    before = processor(process), processor(postgres)
                    found = sorted(asyncio.run(_load(port, how, symbol, _RATE, _SECONDS)))
                    ours, theirs = processor(process) - before[0], processor(postgres) - before[1]
                    row = {"requests": len(found), "p50 ms": statistics.median(found)}
                    row |= {"p99 ms": found[int(len(found) * 0.99)], "max ms": found[-1]}
                    row |= {"API CPU ms": ours / len(found) * 1000, "PostgreSQL CPU ms": theirs / len(found) * 1000}
                    rows.append(Row(_NAMES[how], row, (ours + theirs) / len(found) * 1000 / least))
    return Measured({"requests": Table("rows are", rows)})
