"""Fetching from FINRA: time against the limit that latency, pages and budget set, memory, and the same bytes again.

The simulated FINRA is in a process of its own, as FINRA is, and answers each request after 200 ms. Fetching is timed by
the clock, because it consists of waiting; the rest is processor time, of this process and of the database's sessions.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks.publications import simulated_finra
from benchmarks.results import Measured, Row, Table, Value
from benchmarks.servers import Stopwatch, prepared
from otc_assets.archive.store import LocalArchive
from otc_assets.domain.weeks import NEW_YORK, TIERS, Tier
from otc_assets.finra.paging import PAGE_ROWS
from otc_assets.finra.queries import FIELDS
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.source import Capture
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.pipeline.capture import capture_publication
from otc_assets.settings import FINRA_REQUESTS_PER_MINUTE, PAGES_IN_FLIGHT, Settings
from otc_assets.warehouse.database import Database

LATENCY = 0.2
WEEK, BEFORE = dt.date(2026, 8, 21), dt.date(2026, 8, 14)
#: In flight, and requests a minute: one page at a time, the defaults, and FINRA's limit.
_SETTINGS = (
    (1, FINRA_REQUESTS_PER_MINUTE),
    (PAGES_IN_FLIGHT, Settings.model_fields["requests_per_minute"].default),
    (PAGES_IN_FLIGHT, FINRA_REQUESTS_PER_MINUTE),
    (2 * PAGES_IN_FLIGHT, FINRA_REQUESTS_PER_MINUTE),
)


def limit(pages: list[int], page: float, in_flight: int, per_minute: int) -> float:
    """The seconds that a week takes at least.

    Each publication's number of rows is known from its first page; the others come ``in_flight`` at a time. No more
    requests are sent than the budget allows, apart from its burst, which the time before has saved.
    """
    latency = sum(page * (1 + math.ceil((count - 1) / in_flight)) for count in pages)
    burst = per_minute / 30
    return max(latency, (sum(pages) - 1 - burst) * 60 / per_minute + page)


def times(url: str) -> list[Row]:
    """A week of all tiers into an archive's spool, one tier after another as a run does it.

    The limit is that of 200 ms a page, and beside it that of a page as it took in the first row, one at a time: it has
    the simulator's own work, and on a busy machine the wait for a processor.
    """
    rows = []
    page = 0.0
    with tempfile.TemporaryDirectory() as folder:
        archive = LocalArchive(Path(folder))
        for in_flight, per_minute in _SETTINGS:
            api = QueryApi(url, pages_in_flight=in_flight, requests_per_minute=per_minute)
            time.sleep(2.5)  # so that the budget has its burst
            begun, spent = time.perf_counter(), time.process_time()
            captures = [api.fetch(WEEK, tier, spool=archive.spool)[0] for tier in TIERS]
            seconds, spent = time.perf_counter() - begun, time.process_time() - spent
            api.close()
            pages = [math.ceil((capture.rows_expected or 0) / PAGE_ROWS) for capture in captures]
            page = page or seconds / sum(pages)
            least, real = (limit(pages, each, in_flight, per_minute) for each in (LATENCY, page))
            row: dict[str, Value] = {"seconds": f"{seconds:.2f}"}
            row |= {"limit at 200 ms": f"{least:.2f}", "limit at a real page": f"{real:.2f}"}
            row |= {"ratio of that": f"{seconds / real:.2f}", "processor seconds": f"{spent:.2f}"}
            rows.append(Row(f"{in_flight} in flight, {per_minute:,} requests a minute", row, seconds / least))
    return rows


# --- memory --------------------------------------------------------------------------------------------


def rows_of(total: int) -> Callable[[httpx.Request], httpx.Response]:
    """A FINRA in this process with as many rows as wanted, which it makes when they are requested."""
    header = "|".join(FIELDS)

    def reply(request: httpx.Request) -> httpx.Response:
        asked = httpx.Response(200, content=request.content).json()
        first, count = asked["offset"], min(asked["limit"], total - asked["offset"])
        rows = (f"2026-08-17||T2|NMS Tier 2|S{n:07}|{'A name ' * 8}|PPEX||POOL|5|1|||X|||" for n in range(count))
        text = "\n".join([header, *rows, ""]).replace("|S", f"|S{first}-")
        return httpx.Response(200, text=text, headers={"Record-Total": str(total)})

    return reply


def peak_memory() -> float:
    """The largest memory of this process up to now, in MiB; what ``getrusage`` says includes that of its parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def grown(rows: int) -> float:
    """By how many MiB the largest memory of this process grows when it fetches and archives so many rows."""
    api = QueryApi("http://finra", transport=httpx.MockTransport(rows_of(rows)), requests_per_minute=1_000_000)
    small = QueryApi("http://finra", transport=httpx.MockTransport(rows_of(PAGE_ROWS)), requests_per_minute=1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        archive = LocalArchive(Path(folder))
        small.fetch(WEEK, TIERS[1], spool=archive.spool)
        before = peak_memory()
        (capture,) = api.fetch(WEEK, TIERS[1], spool=archive.spool)
        archive.put(capture.content)
        archive.put(capture.content)
    return peak_memory() - before


def memory() -> list[Row]:
    """A publication, and one of ten times its size, each in a process of its own."""
    found = []
    for rows in (90_000, 900_000):
        command = [sys.executable, "-m", "benchmarks.fetching", "--memory-of", str(rows)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(Row(f"{rows:,}", {"memory grows by MiB": float(said)}))
    return found


# --- the same bytes again ------------------------------------------------------------------------------


class _Downloaded:
    """A source that has downloaded the captures already."""

    def __init__(self, api: QueryApi, week: dt.date) -> None:
        self.captures = {tier: api.fetch(week, tier) for tier in TIERS}

    def fetch(self, _: dt.date, tier: Tier, **__: object) -> list[Capture]:
        return self.captures[tier]


def again(url: str) -> list[Row]:
    """A first load of a week against a second one of the same bytes, without the download."""
    api = QueryApi(url, pages_in_flight=12)
    now = dt.datetime.now(NEW_YORK)
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with EmbeddedServer(home / "database") as server:
            prepared(server.url).dispose()
            database, archive = Database(server.url), LocalArchive(home / "archive")

            def capture(week: dt.date, source: _Downloaded, run: str) -> None:
                for tier in TIERS:
                    capture_publication(week, tier, source, archive, database, run, now)  # type: ignore[arg-type]

            capture(BEFORE, _Downloaded(api, BEFORE), "warm")
            source = _Downloaded(api, WEEK)
            with database.transaction() as connection:
                watch = Stopwatch(connection)
            spent = [watch.processor()]
            for run in ("first", "again"):
                capture(WEEK, source, run)
                spent.append(watch.processor())
            database.close()
    first, second = spent[1] - spent[0], spent[2] - spent[1]
    return [Row("a week", {"first load ms": first, "the same bytes again ms": second}, second / first)]


def run() -> Measured:
    """All of them."""
    with simulated_finra(1.0, latency=LATENCY) as url:
        warm = QueryApi(url, pages_in_flight=12)
        for tier in TIERS:  # the simulator makes its rows when they are requested first
            warm.fetch(WEEK, tier)
        tables = {"times": Table("allowed", times(url)), "again": Table("capture of", again(url))}
    return Measured(tables | {"memory": Table("rows", memory())})


def main() -> None:
    """The memory of a process, for ``memory``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory-of", type=int, required=True, metavar="ROWS")
    print(grown(parser.parse_args().memory_of))


if __name__ == "__main__":
    main()
