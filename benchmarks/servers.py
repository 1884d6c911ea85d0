"""The servers that are compared: databases of our own on a TimescaleDB community server, and an embedded one.

This creates and drops them, shows their settings, and measures time. What is measured is in the other modules.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from otc_assets.settings import settings
from otc_assets.warehouse.migrate import migrate
from otc_assets.warehouse.server import autocommit, connect
from otc_assets.warehouse.timescale import capabilities

#: No job of the server's runs while we measure.
_NEVER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)

#: What makes one server faster than another; the same in every session of ours, the rest is printed.
_SESSION = "SET jit = off; SET work_mem = '32MB'; SET max_parallel_workers_per_gather = 0"
_SESSIONS = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
"""
_SHOWN = ("server_version", "shared_buffers", "work_mem", "fsync", "synchronous_commit", "full_page_writes")


def timescale_url() -> str:
    """The community server's URL, from OTC_TEST_TIMESCALE_URL; ends the program where there is none."""
    url = os.environ.get("OTC_TEST_TIMESCALE_URL", "")
    if not url:
        sys.exit(
            "OTC_TEST_TIMESCALE_URL is not set. Set it to the URL of a TimescaleDB community server and of a user\n"
            "who may create databases and the extension there, such as postgresql://postgres@127.0.0.1:5432/postgres"
        )
    return url


def prepared(url: str) -> sa.Engine:
    """A migrated database that keeps everything, and an engine on it."""
    os.environ["OTC_KEEP_VENUE_VOLUME_WEEKS"] = "0"
    settings.cache_clear()
    migrate(url, settings(), start=_NEVER)
    engine = connect(url, pool_size=4)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        connection.cursor().execute(_SESSION)
        connection.commit()

    return engine


@contextmanager
def community(name: str) -> Iterator[sa.Engine]:
    """A migrated database ``name`` on the community server; dropped afterwards."""
    url = sa.make_url(timescale_url())
    admin = connect(url.render_as_string(hide_password=False))

    def run(statement: str) -> None:
        with autocommit(admin) as connection:
            connection.exec_driver_sql(statement)

    run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    run(f"CREATE DATABASE {name}")
    try:
        engine = prepared(url.set(database=name).render_as_string(hide_password=False))
        with engine.connect() as connection:
            can = capabilities.detect(connection)
        if not can.community:
            sys.exit(f"the server of OTC_TEST_TIMESCALE_URL is {can}: a community edition is needed.")
        yield engine
        engine.dispose()
    finally:
        run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.dispose()


def description(engine: sa.Engine) -> str:
    """The server's kind and version, and the settings that matter."""
    with engine.connect() as connection:
        values = [f"{name} {connection.exec_driver_sql(f'SHOW {name}').scalar()}" for name in _SHOWN]
        return f"{capabilities.detect(connection)}: {', '.join(values)}"


class Stopwatch:
    """Processor time of this process and of sessions of the server, which a busy machine does not distort.

    Where the server is on another machine, or this one keeps no such books, it is this process's alone.

    Args:
        connection: of the database whose sessions, as they are now, count.
    """

    def __init__(self, connection: sa.Connection) -> None:
        asked = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        self.sessions = list(connection.exec_driver_sql(asked).scalars())

    def processor(self) -> float:
        """Milliseconds up to now; the difference of two is what was spent between them."""
        spent = time.process_time() * 1000
        for session in self.sessions:
            with suppress(OSError):
                spent += int(Path(f"/proc/{session}/schedstat").read_text().split()[0]) / 1e6
        return spent


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one go."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def median(work: Callable[[], object], times: int = 9) -> float:
    """The median of several goes in milliseconds, after one that warms up."""
    work()
    return statistics.median(timed(work) for _ in range(times))


def table_of(rows: list[dict[str, object]]) -> str:
    """Rows as a Markdown table, for the terminal and for docs/benchmarks.md alike."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    cells.insert(1, ["-" * width for width in widths])
    lines = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
