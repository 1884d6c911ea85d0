"""A local installation: the database, Dagster's home, and the processes that serve the UI.

Here: what ``otc-assets`` starts and stops on this machine. Not here: deployments (``helm``), and what the
processes do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
from dagster import DagsterInstance

from otc_assets.archive.store import LocalArchive
from otc_assets.dagster_storage import move_tables
from otc_assets.errors import OtcError
from otc_assets.liveness import fail_dead_runs
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.processes import Identity, command_of, is_dead, session_members, started, this_process
from otc_assets.resources import Warehouse
from otc_assets.settings import PROJECT_ROOT, Settings, settings
from otc_assets.warehouse.migrate import Migrated, is_unmigrated, migrate, require_current
from otc_assets.warehouse.server import LOCK_SPACE, dagster_storage_url

#: Steps at once that speak to FINRA, and that work in the database: two cores, and one address at FINRA.
POOLS = {"finra_api": 2, "database": 2}

#: How long the UI may take until it answers, and the processes until they have stopped.
_READY_SECONDS = 300
_STOP_SECONDS = 30
#: So long UI and daemon have to end before the runs are told to.
_RUNS_AFTER_SECONDS = 2
#: A daemon says every 30 seconds that it is alive: after so long without a word there is none.
_SILENCE_SECONDS = 75

#: How often ``up`` looks whether it still holds its lock.
_HOLD_SECONDS = 10

#: The advisory lock that ``up`` holds, and who holds it.
_DAEMON_LOCK = (LOCK_SPACE, 1)
_LOCK_HOLDER = """
    SELECT activity.application_name FROM pg_locks lock JOIN pg_stat_activity activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.classid = %s AND lock.objid = %s AND lock.objsubid = 2 AND lock.granted
"""


class NotStarted(OtcError):
    """Something of the local installation did not come up. The message says what and what to do."""


def project_file(name: str) -> Path:
    """A top-level file of the project: in the checkout, or inside an installed package."""
    checkout = PROJECT_ROOT / name
    return checkout if checkout.exists() else Path(__file__).parent.parent / "_project" / name


@contextmanager
def database(chosen: Settings) -> Iterator[str]:
    """The URL of the database: the one that was set, or an embedded server's, started and stopped here.

    An embedded server that another process of ours runs already is used as it stands; the last one to leave stops it.
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


def upgrade(
    chosen: Settings, url: str, *, shorten_retention: bool = False, waiting: Callable[[], None] = lambda: None
) -> Migrated:
    """Brings the database and ``DAGSTER_HOME`` to this version and to the settings, and prepares the environment.

    Only 'up' and 'migrate' call this for an existing installation.

    Args:
        chosen: the settings.
        url: the database.
        shorten_retention: store shorter retention periods, too.
        waiting: called once if it has to wait until it is certain that no daemon of an earlier version runs.

    Returns:
        What the migration did.

    Raises:
        StorageInUse: a daemon of an earlier version is running.
    """
    # A storage that was configured apart stays where its users expect it.
    apart = chosen.dagster_storage_url
    unused = move_tables(url, waiting) if apart is None or apart.get_secret_value() == dagster_storage_url(url) else ""
    migrated = migrate(url, shorten_retention=shorten_retention)
    migrated = migrated._replace(remark="; ".join(filter(None, [migrated.remark, unused])))
    _lay_out(chosen, replace=True)
    _set_environment(chosen, url)
    return migrated


def prepare(chosen: Settings, url: str) -> None:
    """Prepares the environment of a command that works with the installation as it is.

    An embedded database without a schema is initialized first: there is nothing in it to lose.

    Raises:
        SchemaMismatch: the schema is of another version; 'otc-assets migrate' has to run first.
    """
    if chosen.database_url is None and is_unmigrated(url):
        migrate(url)
    require_current(url)
    _lay_out(chosen, replace=False)
    _set_environment(chosen, url)


@contextmanager
def installation(chosen: Settings) -> Iterator[Warehouse]:
    """The warehouse, for a command that leaves schema and retention as they are.

    Raises:
        SchemaMismatch: the schema is of another version; 'otc-assets migrate' has to run first.
    """
    with database(chosen) as url:
        prepare(chosen, url)
        yield Warehouse()


def _lay_out(chosen: Settings, *, replace: bool) -> None:
    """Makes the folders and Dagster's configuration file, which a running 'up' may be reading right now."""
    home = chosen.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    chosen.files_folder.mkdir(parents=True, exist_ok=True)
    content, path = project_file("dagster.yaml").read_bytes(), home / "dagster.yaml"
    if path.exists() and (not replace or path.read_bytes() == content):
        return
    partial = home / f"dagster.yaml.{os.getpid()}"
    partial.write_bytes(content)
    partial.replace(path)


def _set_environment(chosen: Settings, url: str) -> None:
    """Sets what this process and its children read from the environment."""
    os.environ.update(
        OTC_HOME=str(chosen.home),
        OTC_DATABASE_URL=url,
        OTC_DAGSTER_STORAGE_URL=dagster_storage_url(url),
        DAGSTER_HOME=str(chosen.dagster_home),
        OTC_PORT=str(chosen.port),  # perhaps from --port; links in alerts name it
    )
    settings.cache_clear()


@contextmanager
def instance(*, no_code_server: bool = False) -> Iterator[DagsterInstance]:
    """The Dagster instance of a prepared installation.

    Its pools have limits; one that was changed since, in the UI for example, stays. What killed processes left behind
    is cleaned up: unfinished runs, and half-written files of the archive.

    Args:
        no_code_server: the caller knows that none runs: runs that one was about to start are dead too.
    """
    with DagsterInstance.get() as dagster:
        storage = dagster.event_log_storage
        chosen = {pool.name for pool in storage.get_pool_limits() if not pool.from_default}
        for pool, limit in POOLS.items():
            if pool not in chosen:
                storage.set_concurrency_slots(pool, limit)
        fail_dead_runs(dagster, no_code_server=no_code_server)
        LocalArchive(settings().archive_folder).remove_partials()
        yield dagster


@contextmanager
def dagster(chosen: Settings) -> Iterator[DagsterInstance]:
    """The Dagster instance of an installation, for a command that leaves schema and retention as they are."""
    with installation(chosen), instance() as found:
        yield found


# --- one daemon a database -----------------------------------------------------------------------------


class OnlyDaemon:
    """The right to run Dagster's daemon on a database, which one ``up`` has at a time.

    It is an advisory lock of a connection's session, so it holds whatever folder or machine the other ``up`` runs
    from, and PostgreSQL releases it when its process ends. A connection pooler must be in session mode.

    Args:
        url: the database's.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._checked = time.monotonic()

    def take(self) -> None:
        """Takes the right.

        Raises:
            NotStarted: another ``up`` has it.
        """
        name = f"otc-assets up, process {os.getpid()} on {socket.gethostname()}"[:63]
        connection = psycopg.connect(self._url, autocommit=True, application_name=name, connect_timeout=10)
        if connection.execute("SELECT pg_try_advisory_lock(%s, %s)", _DAEMON_LOCK).fetchone() != (True,):
            found = connection.execute(_LOCK_HOLDER, _DAEMON_LOCK).fetchone()
            connection.close()
            raise NotStarted(
                f"another 'otc-assets up' uses this database ({found[0] if found else 'unknown'}), and two daemons "
                "would start every run twice",
                remedy="Stop that one, or use another database (OTC_DATABASE_URL, OTC_HOME).",
            )
        self._connection = connection

    def hold(self) -> None:
        """Makes sure that it is still held: after a restart of the database it is taken again.

        Raises:
            NotStarted: another ``up`` has taken it meanwhile.
        """
        if time.monotonic() - self._checked < _HOLD_SECONDS:
            return
        self._checked = time.monotonic()
        try:
            assert self._connection is not None
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError:
            with suppress(psycopg.OperationalError):  # the database does not answer: the next time, then
                self.take()

    def release(self) -> None:
        """Gives the right up."""
        if self._connection is not None:
            self._connection.close()


def await_silence(dagster: DagsterInstance, say: Callable[[str], None]) -> None:
    """Waits until it is clear that no other daemon works on the database: one that an ``up`` left behind elsewhere.

    A daemon that was stopped in order has taken its heartbeats back, so that this takes no time.

    Raises:
        NotStarted: a daemon is at work.
    """
    first = _newest_heartbeat(dagster)
    if first and time.time() - first < _SILENCE_SECONDS:
        say("waiting   up to 75 s, to make sure that no other Dagster daemon uses this database")
    while (newest := _newest_heartbeat(dagster)) and time.time() - newest < _SILENCE_SECONDS:
        if first and newest > first:
            raise NotStarted(
                "another Dagster daemon uses this database, and two would start every run twice. It was started by "
                "'dagster dev', or by an 'otc-assets up' on another machine or in another OTC_HOME that was killed",
                remedy="Stop it there; starting and stopping 'otc-assets up' there stops it.",
            )
        time.sleep(1)


@contextmanager
def right_to_serve(chosen: Settings, url: str, say: Callable[[str], None]) -> Iterator[OnlyDaemon]:
    """The right to run UI and daemon on the database: what a killed ``up`` left behind is ended first, and when they
    have ended, what they left unfinished is cleaned up.

    Raises:
        NotStarted: another ``up``, or another daemon, works on the database.
    """
    if count := end_orphans(chosen):
        say(f"orphans   stopped {count} processes of an earlier 'otc-assets up' that was killed")
    only = OnlyDaemon(url)
    only.take()
    try:
        with instance(no_code_server=True) as dagster:
            if count:
                dagster.wipe_daemon_heartbeats()
            await_silence(dagster, say)
        try:
            yield only
        finally:
            clean_up(chosen)
    finally:
        only.release()


def _newest_heartbeat(dagster: DagsterInstance) -> float | None:
    return max((beat.timestamp for beat in dagster.get_daemon_heartbeats().values()), default=None)


# --- the UI and the daemon -----------------------------------------------------------------------------


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
        """Stops them and the runs that they launched, and waits until all have ended."""
        _end_session(self.process.pid, lambda: self.process.poll() is None)
        self.process.wait()


def _end_session(leader: int, leader_runs: Callable[[], bool]) -> None:
    """Ends the processes of a ``dagster dev``: UI and daemon first, so that nothing new starts, then the runs."""
    if leader_runs():
        os.kill(leader, signal.SIGINT)
    begun = time.monotonic()
    told: set[int] = set()
    while (members := session_members(leader)) or leader_runs():
        waited = time.monotonic() - begun
        if waited > _STOP_SECONDS:
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
            return
        for pid in members if waited > _RUNS_AFTER_SECONDS else ():
            # The code server waits for its runs: each rolls its transaction back, and is marked as failed.
            if pid not in told and (_is_run(pid) or not leader_runs()):
                told.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT if _is_run(pid) else signal.SIGTERM)
        time.sleep(0.1)


def _is_run(pid: int) -> bool:
    """Whether the process is one that a code server has started for a run."""
    return any("spawn_main" in word for word in command_of(pid))


def _state_file(chosen: Settings) -> Path:
    return chosen.home / "up.json"


def _write_state(chosen: Settings, services: int) -> None:
    """Notes which processes this ``up`` is, for one that comes after it."""
    me = this_process()
    state = {
        "up": str(me),
        "services": str(replace(me, pid=services, started=started(services) or "")),
        "port": chosen.port,
    }
    partial = _state_file(chosen).with_suffix(".partial")
    partial.write_text(json.dumps(state))
    partial.replace(_state_file(chosen))


def end_orphans(chosen: Settings) -> int:
    """Ends the processes that an ``up`` of this folder left behind when it was killed. Returns how many they were.

    Raises:
        NotStarted: that ``up`` still runs.
    """
    try:
        state = json.loads(_state_file(chosen).read_text())
        before, services = Identity.parse(state["up"]), Identity.parse(state["services"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0
    here = this_process()
    if before is None or services is None or (services.boot, services.namespace) != (here.boot, here.namespace):
        return 0
    if not is_dead(before) and before.pid != here.pid:
        raise NotStarted(
            f"another 'otc-assets up' (process {before.pid}) is running in {chosen.home}; its UI is at "
            f"http://127.0.0.1:{state.get('port')}",
            remedy="Stop that one, or set OTC_HOME to another folder.",
        )

    def leader_runs() -> bool:
        return started(services.pid) == services.started

    # Where the leader has ended, its number can't be given to another process while its session has members.
    orphans = [pid for pid in session_members(services.pid) if _is_dagster(pid)]
    if orphans and (leader_runs() or started(services.pid) is None):
        _end_session(services.pid, leader_runs)
    _state_file(chosen).unlink(missing_ok=True)
    return len(orphans)


def _is_dagster(pid: int) -> bool:
    return _is_run(pid) or any("dagster" in word for word in command_of(pid))


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
                f"port {chosen.port} is in use by another program",
                remedy="Stop that one, or choose another port: OTC_PORT=3001, or --port.",
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
    try:
        _write_state(chosen, process.pid)
        _wait_until_served(served, waiting)
    except BaseException:
        served.stop()
        raise
    return served


def _wait_until_served(served: Served, waiting: Callable[[], None]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        waiting()
        if not served.running():
            raise NotStarted(f"the Dagster UI ended as it started. The end of {served.log}:\n{tail(served.log)}")
        try:
            if httpx.get(f"{served.url}/server_info", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise NotStarted(
                f"the Dagster UI did not answer at {served.url} within {_READY_SECONDS} s. The end of {served.log}:\n"
                f"{tail(served.log)}"
            )
        time.sleep(0.25)


def clean_up(chosen: Settings) -> None:
    """After UI and daemon have ended: marks the runs that ended with them, and takes their heartbeats back."""
    with DagsterInstance.get() as dagster:
        fail_dead_runs(dagster, no_code_server=True)
        dagster.wipe_daemon_heartbeats()
    _state_file(chosen).unlink(missing_ok=True)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(nothing)"
