"""Runs the benchmarks: parse and normalize, load, and the memory of a run that makes one whole week.

Each compares with the bare tool on the same rows, in one run; a ratio means something on any machine, the
seconds beside it only on this one.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import polars as pl
import sqlalchemy as sa

from benchmarks.layout import REVISED_ROWS, revised
from benchmarks.servers import community, description, prepared
from otc_assets.domain.normalize import normalize
from otc_assets.domain.parsing import FIELDS, parse
from otc_assets.domain.schema import RECORD, VENUE_VOLUME
from otc_assets.domain.weeks import TIERS, Tier
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.warehouse.load import replace_volume
from otc_assets.warehouse.server import transaction
from otc_assets.warehouse.timescale import capabilities
from otc_assets.warehouse.timescale.aggregates import refresh_after_load

WEEK = dt.date(2026, 8, 21)
TODAY = dt.date(2026, 10, 14)
_TIMES = 15


def best(work: Callable[[], object], times: int = _TIMES) -> float:
    """The shortest of several times, in seconds."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def whole_week() -> dict[Tier, bytes]:
    """One full-size week as the Query API gives it."""
    simulator = Simulator(scale=1.0)
    transport = httpx.WSGITransport(app=make_app(simulator, clock=lambda: TODAY))
    api = QueryApi("http://simulated", transport=transport, requests_per_minute=100_000)
    return {tier: api.fetch(WEEK, tier)[0].content.read() for tier in TIERS}


@dataclass(frozen=True)
class Row:
    """What a parser that goes row by row makes of a row; hashable, to find rows that occur twice."""

    week_start: dt.date
    tier: str
    symbol: str
    issue: str
    mpid: str | None
    crd: str | None
    venue: str | None
    shares: Decimal
    trades: int
    notional: Decimal
    code: str
    updated: dt.date


def row_by_row(content: bytes) -> set[Row]:
    """The usual way: csv.DictReader into dataclasses, each row once."""
    rows = csv.DictReader(io.StringIO(content.decode()), delimiter="|", quoting=csv.QUOTE_NONE)
    return {
        Row(
            dt.date.fromisoformat(r["weekStartDate"]),
            r["tierIdentifier"],
            r["issueSymbolIdentifier"],
            r["issueName"],
            r["MPID"] or None,
            r["firmCRDNumber"] or None,
            r["marketParticipantName"] or None,
            Decimal(r["totalWeeklyShareQuantity"]),
            int(r["totalWeeklyTradeCount"]),
            Decimal(r["totalNotionalSum"]),
            r["summaryTypeCode"],
            dt.date.fromisoformat(r["lastUpdateDate"]),
        )
        for r in rows
    }


def bare_read(content: bytes) -> pl.DataFrame:
    """Polars alone, with the types."""
    names = content.partition(b"\n")[0].decode().split("|")
    schema = {name: RECORD[FIELDS[name]] if name in FIELDS else pl.String for name in names}
    return pl.read_csv(content, separator="|", quote_char=None, schema=schema)


def parse_and_normalize(week: dict[Tier, bytes]) -> None:
    """Ours against a bare read and against row by row."""
    rows = sum(content.count(b"\n") - 1 for content in week.values())
    size = sum(map(len, week.values())) / 1e6

    def ours() -> None:
        for tier, content in week.items():
            normalize(parse(content, name="benchmark"), week_ending=WEEK, tier=tier)

    mine = best(ours)
    bare = best(lambda: [bare_read(content) for content in week.values()])
    slow = best(lambda: [row_by_row(content) for content in week.values()], 2)
    print(f"parse and normalize, {rows:,} rows, {size:.0f} MB")
    print(f"  ours {mine:.3f} s   bare polars.read_csv {bare:.3f} s   csv.DictReader into dataclasses {slow:.3f} s")
    print(f"  {mine / bare:.2f} x a bare read (wanted: at most 3)")
    print(f"  {slow / mine:.1f} x faster than row by row (wanted: at least 15)")


def load(week: dict[Tier, bytes], engine: sa.Engine) -> None:
    """Ours against a bare COPY of the same rows into the same table; and what comes after the first load."""
    frames = {t: normalize(parse(c, name="b"), week_ending=WEEK, tier=t).volume for t, c in week.items()}
    rows = sum(frame.height for frame in frames.values())
    known_from = pl.lit(dt.datetime.now(dt.UTC).isoformat()).alias("known_from")
    text = {
        t: f.with_columns(known_from).write_csv(include_header=False, quote_style="non_numeric").encode()
        for t, f in frames.items()
    }
    columns = ", ".join([*VENUE_VOLUME, "known_from"])
    changed = {t: revised(f, "share_volume") for t, f in frames.items()}

    def empty() -> None:
        with transaction(engine) as connection:
            connection.execute(sa.text("TRUNCATE otc.venue_volume, otc.venue_volume_revision"))

    def bare() -> None:
        with transaction(engine) as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            for content in text.values():
                statement = f"COPY otc.venue_volume ({columns}) FROM STDIN (FORMAT csv)"
                with driver.cursor() as cursor, cursor.copy(statement) as copy:
                    copy.write(content)

    def ours(rows: dict[Tier, pl.DataFrame] = frames) -> None:
        with transaction(engine) as connection:
            for tier, frame in rows.items():
                replace_volume(connection, WEEK, tier.name, frame)

    def compress() -> None:
        with transaction(engine) as connection:
            connection.execute(sa.text("SELECT compress_chunk(c, true) FROM show_chunks('otc.venue_volume') c"))

    def compress_again() -> None:
        refresh_after_load(engine, WEEK, ["venue_volume"])

    mine, theirs = [], []
    for _ in range(5):  # in turn, so that a machine that is busy for a while is so for both
        empty()
        theirs.append(best(bare, 1))
        empty()
        mine.append(best(ours, 1))
    print(f"load, {rows:,} rows of venue volume, {description(engine)}")
    print(f"  ours {min(mine):.3f} s   bare COPY {min(theirs):.3f} s")
    print(f"  {min(mine) / min(theirs):.2f} x a bare COPY (wanted: at most 1.5)")
    again, revision = best(ours, 3), best(lambda: ours(changed), 1)
    print(f"  the same week again {again:.3f} s   {REVISED_ROWS} rows revised {revision:.3f} s")
    if not capabilities.of(engine).community:
        return
    packed = best(compress, 1)
    print(f"  compressed in {packed:.3f} s; then:")
    again = best(lambda: ours(changed), 3)
    print(f"  the same week again {again:.3f} s   {REVISED_ROWS} rows revised {best(ours, 1):.3f} s", end="")
    print(f"   compressed again {best(compress_again, 1):.3f} s")


def memory(home: Path) -> None:
    """The peak memory of a process that captures and makes one full-size week."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTC_")}
    env |= {"OTC_HOME": str(home), "OTC_SIMULATOR_SCALE": "1"}
    command = [sys.executable, "-m", "benchmarks.one_week", str(WEEK)]
    print("one full-size week, captured and made, in a process of its own")
    begun = time.perf_counter()
    subprocess.run(command, env=env, check=True)
    print(f"  {time.perf_counter() - begun:.1f} s in all, with start and stop of the server")


def main() -> None:
    """All of them."""
    week = whole_week()
    parse_and_normalize(week)
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with EmbeddedServer(home / "load") as server:
            engine = prepared(server.url)
            load(week, engine)
            engine.dispose()
        if os.environ.get("OTC_TEST_TIMESCALE_URL"):
            with community("bench_load") as engine:
                load(week, engine)
        else:
            print("load into TimescaleDB: set OTC_TEST_TIMESCALE_URL to a community server, as a superuser")
        (home / "week").mkdir()
        memory(home / "week")


if __name__ == "__main__":
    main()
