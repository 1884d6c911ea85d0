"""The servers that are compared: databases of our own on a TimescaleDB community server, and an embedded one.

This creates and drops them, shows their settings, and measures time. What is measured is in the other modules.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import sqlalchemy as sa

from benchmarks.results import NotMeasured
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.migrate import migrate
from otc_assets.warehouse.server import autocommit, connect
from otc_assets.warehouse.timescale import capabilities

#: No job of the server's runs while we measure.
_NEVER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)

#: What makes one server faster than another; the same in every session of ours, the rest is printed.
_SESSION = "SET jit = off; SET work_mem = '32MB'; SET max_parallel_workers_per_gather = 0"
_SHOWN = ("server_version", "shared_buffers", "work_mem", "fsync", "synchronous_commit", "full_page_writes")


def timescale_url() -> str:
    """The community server's URL, from OTC_TEST_TIMESCALE_URL.

    Raises:
        NotMeasured: it is not set.
    """
    url = os.environ.get("OTC_TEST_TIMESCALE_URL", "")
    if not url:
        raise NotMeasured(
            "OTC_TEST_TIMESCALE_URL is not set. Set it to the URL of a TimescaleDB community server and of a user "
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
            raise NotMeasured(f"the server of OTC_TEST_TIMESCALE_URL is {can}: a community edition is needed.")
        yield engine
        engine.dispose()
    finally:
        run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.dispose()


@contextmanager
def embedded(*, durable: bool = True) -> Iterator[EmbeddedServer]:
    """A new embedded server, which is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedServer(Path(folder) / "server", durable=durable) as server:
            yield server


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
        return process_clock() + sum(map(_of_process, self.sessions))


class WholeServer:
    """Processor time of this process and of the sessions of a server on this machine, ended ones included.

    The server's own processes, which write later what sessions left to write, do not count.

    Args:
        session: the id of the process of one of its sessions.
    """

    def __init__(self, session: int) -> None:
        parent = psutil.Process(session).parent()
        assert parent is not None
        self._main = parent

    def server(self) -> float:
        """Milliseconds of the server up to now."""
        while True:
            ended = self._ended()
            living = sum(_of_process(process.pid) for process in self._main.children() if _is_session(process))
            if self._ended() == ended:  # otherwise a session has ended in between
                return ended + living

    def _ended(self) -> float:
        """Milliseconds of the processes that have ended."""
        times = self._main.cpu_times()
        return (times.children_user + times.children_system) * 1000

    def processor(self) -> float:
        """Milliseconds of the server and of this process up to now."""
        return self.server() + process_clock()


def _is_session(process: psutil.Process) -> bool:
    """Whether it is not one of the server's own processes, whose titles have no address of a client."""
    try:
        title = " ".join(process.cmdline())
    except psutil.ZombieProcess:
        title = ""
    except psutil.NoSuchProcess:
        return False
    return not title or "(" in title  # without a title, it ends, and its time is not yet among that of ended ones


def _of_process(number: int) -> float:
    """Milliseconds of a process up to now; 0 if it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{number}/schedstat").read_text().split()[0]) / 1e6
    return 0.0


def in_turn(
    clock: Callable[[], float],
    works: Mapping[str, tuple[Callable[[], object], int]],
    before: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """The least processor time of each work, in milliseconds; in turn, so that other work disturbs all alike.

    Args:
        clock: the milliseconds up to now.
        works: by name, each with how often it runs.
        before: what is done before each, and not measured.
    """
    spent: dict[str, list[float]] = {name: [] for name in works}
    for number in range(max(times for _, times in works.values())):
        for name, (work, times) in works.items():
            if number < times:
                before()
                begun = clock()
                work()
                spent[name].append(clock() - begun)
    return {name: min(found) for name, found in spent.items()}


def process_clock() -> float:
    """Milliseconds of processor time of this process."""
    return time.process_time() * 1000
