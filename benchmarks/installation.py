"""A new installation that captures from simulated FINRA, and the processor time of what works in it.

Its processes are children of the benchmark. What they do is in the modules of the benchmarks.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from benchmarks.servers import WholeServer
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import Settings


class Spent(NamedTuple):
    """Processor seconds of our processes and of PostgreSQL."""

    ours: float
    server: float

    @property
    def whole(self) -> float:
        """Of both."""
        return self.ours + self.server

    def since(self, before: Spent) -> Spent:
        """What was spent after ``before``."""
        return Spent(self.ours - before.ours, self.server - before.server)


@dataclass(frozen=True)
class Installation:
    """An installation.

    Attributes:
        url: of its database.
        environment: for its processes.
    """

    url: str
    environment: dict[str, str]
    _watch: WholeServer

    def spent(self) -> Spent:
        """The time of the children that have ended, with their start, and of the server, up to now."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Spent(children.ru_utime + children.ru_stime, self._watch.server() / 1000)


@contextmanager
def installation(address: str, **chosen: Any) -> Iterator[Installation]:
    """A new installation, which is deleted afterwards.

    Args:
        address: the simulated FINRA's.
        chosen: settings by name.
    """
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        given = Settings(home=home, **chosen)
        with EmbeddedServer(home / "postgres") as server:
            setup.upgrade(given, server.url)
            env = {name: value for name, value in os.environ.items() if not name.startswith("OTC_")}
            env |= {**setup.resolved(given, server.url).environment(), "OTC_SOURCE": "api", "OTC_FINRA_URL": address}
            env |= {"OTC_REQUESTS_PER_MINUTE": "1200"}
            with psycopg.connect(server.url) as connection:
                watch = WholeServer(connection.info.backend_pid)
            yield Installation(server.url, env, watch)
