"""A local installation: the database, Dagster's home, and the processes that serve the UI.

Here: what ``otc-assets`` starts and stops on this machine. Not here: deployments (``helm``), and what the
processes do.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from dagster import DagsterInstance

from otc_assets.settings import PROJECT_ROOT, Settings, settings
from otc_assets.warehouse.embedded import EmbeddedServer
from otc_assets.warehouse.migrate import Migrated, migrate
from otc_assets.warehouse.server import database_url

#: Steps at once that speak to FINRA, and that work in the database: two cores, and one address at FINRA.
POOLS = {"finra_api": 2, "database": 2}

#: How long the UI may take until it answers, and the processes until they have stopped.
_READY_SECONDS = 300
_STOP_SECONDS = 30


class NotStarted(Exception):
    """Something of the local installation did not come up. The message says what and what to do."""


def project_file(name: str) -> Path:
    """A top-level file of the project: in the checkout, or inside an installed package."""
    checkout = PROJECT_ROOT / name
    return checkout if checkout.exists() else Path(__file__).parent / "_project" / name


@contextmanager
def database(chosen: Settings) -> Iterator[str]:
    """The URL of the database: the one that was set, or an embedded server's, started and stopped here.

    An embedded server that another process of ours runs already is used as it stands, and left running.
    """
    if chosen.database_url is not None:
        yield chosen.database_url.get_secret_value()
        return
    server = EmbeddedServer(chosen.home / "postgres")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def prepare(chosen: Settings, url: str) -> Migrated:
    """Migrates the database, lays out ``DAGSTER_HOME``, and sets what processes of ours read from the environment.

    Returns:
        What the migration did.
    """
    migrated = migrate(url)
    home = chosen.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(project_file("dagster.yaml"), home / "dagster.yaml")
    chosen.files_folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        OTC_HOME=str(chosen.home),
        OTC_DATABASE_URL=url,
        OTC_DAGSTER_STORAGE_URL=database_url(url, "psycopg2"),
        DAGSTER_HOME=str(home),
        OTC_PORT=str(chosen.port),  # perhaps from --port; links in alerts name it
    )
    settings.cache_clear()
    return migrated


@contextmanager
def instance() -> Iterator[DagsterInstance]:
    """The Dagster instance of a prepared installation, with the limits of its pools set."""
    with DagsterInstance.get() as dagster:
        for pool, limit in POOLS.items():
            dagster.event_log_storage.set_concurrency_slots(pool, limit)
        yield dagster


@dataclass
class Served:
    """The UI and daemon, as processes of ours."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def running(self) -> bool:
        """Whether they still run."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Stops them, and waits until they have."""
        if self.running():
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def serve(chosen: Settings, waiting: Callable[[], None] = lambda: None) -> Served:
    """Starts the UI with daemon, schedules and sensors, and returns when it answers.

    Raises:
        NotStarted: the port is taken, or it ended, or did not answer in time; the log's last lines are in the
            message.
    """
    url = f"http://127.0.0.1:{chosen.port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", chosen.port))
        except OSError:
            raise NotStarted(
                f"port {chosen.port} is in use, perhaps by another 'otc-assets up'. Stop that one, or choose another "
                "port: OTC_PORT=3001, or --port."
            ) from None
    log = chosen.home / "dagster.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant arguments
            [
                *(sys.executable, "-m", "otc_assets.web", "dagster-dev"),
                *("--workspace", str(project_file("workspace.yaml"))),
                *("--host", "127.0.0.1", "--port", str(chosen.port)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C reaches us alone, and we stop it in order, before the database. A
            # shell's background jobs inherit an ignored SIGINT, which Dagster would then ignore too.
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
    served = Served(process, url, log)
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        waiting()
        if not served.running():
            raise NotStarted(f"the Dagster UI ended as it started. {log} says:\n{tail(log)}")
        try:
            if httpx.get(f"{url}/server_info", timeout=2).is_success:
                return served
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            served.stop()
            raise NotStarted(
                f"the Dagster UI did not answer at {url} within {_READY_SECONDS} s. {log} says:\n{tail(log)}"
            )
        time.sleep(0.25)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(nothing)"
