"""The UI and the daemon that ``otc-assets up`` runs on this machine: starting, stopping, and orphans.

An orphan is a process that an ``up`` left behind when it was killed. What the processes do is Dagster's matter; the
checks in front of the UI are in ``defs.web``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from otc_assets.defs.instance import clean_instance, newest_heartbeat, open_instance
from otc_assets.defs.liveness import fail_dead_runs
from otc_assets.local.daemon import OnlyDaemon, wait_until_silent
from otc_assets.local.server_folder import is_free, tail
from otc_assets.local.setup import NotStarted, project_file
from otc_assets.processes import Identity, command_of, is_dead, session_members, started, this_process
from otc_assets.settings import Settings, child_environment
from otc_assets.whole_files import write_whole

#: The time limits for the first response of the UI, and for the end of the processes.
_READY_SECONDS = 300
_STOP_SECONDS = 30
#: UI and daemon have this much time to end before the runs get a signal, too.
_RUNS_AFTER_SECONDS = 2


@contextmanager
def right_to_serve(chosen: Settings, say: Callable[[str], None]) -> Iterator[OnlyDaemon]:
    """The right to run UI and daemon on the database.

    Orphans of a killed ``up`` are stopped first. At the end, runs that UI and daemon left unfinished are cleaned up.

    Args:
        chosen: the settings of a prepared installation.
        say: called with each line of text for the user.

    Raises:
        NotStarted: another ``up``, or another daemon, uses the database.
    """
    if count := stop_orphans(chosen):
        say(f"orphans   stopped {count} processes of an earlier 'otc-assets up' that was killed")
    assert chosen.database_url is not None
    only = OnlyDaemon(chosen.database_url.get_secret_value())
    only.take()
    try:
        with clean_instance(chosen, no_code_server=True) as dagster:
            if count:
                dagster.wipe_daemon_heartbeats()
            wait_until_silent(lambda: newest_heartbeat(dagster), say)
        try:
            yield only
        finally:
            _clean_up(chosen)
    finally:
        only.release()


@dataclass
class Served:
    """The UI and the daemon: the process of ``dagster dev``, and those that it started."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def running(self) -> bool:
        """Whether they still run."""
        return self.process.poll() is None

    def ended(self) -> str:
        """The message for their unexpected end, with the end of the log."""
        return f"the Dagster UI ended. The end of {self.log}:\n{tail(self.log)}"

    def stop(self) -> None:
        """Stops them and the runs that they launched, and waits until all have ended."""
        _stop_session(self.process.pid, self.running)
        self.process.wait()


def serve(chosen: Settings, waiting: Callable[[], None] = lambda: None) -> Served:
    """Starts the UI with daemon, schedules and sensors, and returns when the UI responds.

    Args:
        chosen: the settings of a prepared installation.
        waiting: called repeatedly while the UI starts.

    Raises:
        NotStarted: the port is in use, or the UI ended or did not respond in time; the message has the end of the
            log.
    """
    if not is_free(chosen.port):
        raise NotStarted(
            f"port {chosen.port} is in use by another program",
            remedy="Stop that one, or choose another port: OTC_PORT=3001, or --port.",
        )
    log = chosen.home / "dagster.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant arguments
            [
                *(sys.executable, "-m", "otc_assets.defs.web", "dagster-dev"),
                *("--workspace", str(project_file("workspace.yaml"))),
                *("--host", "127.0.0.1", "--port", str(chosen.port)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(chosen),
            # In a session of its own, Ctrl-C does not reach it: it has to be stopped before the database. A shell's
            # background jobs inherit an ignored SIGINT, and Dagster would ignore it too.
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
    served = Served(process, f"http://127.0.0.1:{chosen.port}", log)
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
            raise NotStarted(served.ended())
        try:
            # Not by way of the proxy that the environment may name: loopback is another machine there.
            if httpx.get(f"{served.url}/server_info", timeout=2, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise NotStarted(
                f"the Dagster UI did not respond at {served.url} within {_READY_SECONDS} s. The end of {served.log}:\n"
                f"{tail(served.log)}"
            )
        time.sleep(0.25)


def _clean_up(chosen: Settings) -> None:
    """Ends the runs that ended with UI and daemon, and deletes the daemon's heartbeats."""
    with open_instance(chosen) as dagster:
        fail_dead_runs(dagster, no_code_server=True)
        dagster.wipe_daemon_heartbeats()
    _state_file(chosen).unlink(missing_ok=True)


# --- stopping, and orphans -----------------------------------------------------------------------------


def _stop_session(leader: int, leader_runs: Callable[[], bool]) -> None:
    """Stops the processes of a ``dagster dev``: UI and daemon first, so that nothing new starts, then the runs."""
    if leader_runs():
        os.kill(leader, signal.SIGINT)
    begun = time.monotonic()
    signalled: set[int] = set()
    while (members := session_members(leader)) or leader_runs():
        waited = time.monotonic() - begun
        for pid in members if waited > _STOP_SECONDS else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in members if waited > _RUNS_AFTER_SECONDS else ():
            # The code server waits for its runs: each rolls its transaction back, and is marked as failed.
            if pid not in signalled and (_is_run(pid) or not leader_runs()):
                signalled.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT if _is_run(pid) else signal.SIGTERM)
        time.sleep(0.1)


def _is_run(pid: int) -> bool:
    """Whether the process is one that a code server has started for a run."""
    return any("spawn_main" in word for word in command_of(pid))


def _is_dagster(pid: int) -> bool:
    return _is_run(pid) or any("dagster" in word for word in command_of(pid))


def _state_file(chosen: Settings) -> Path:
    return chosen.home / "up.json"


def _write_state(chosen: Settings, services: int) -> None:
    """Records the processes of this ``up``, so that the next one can stop them if this one is killed."""
    me = this_process()
    state = {
        "up": str(me),
        "services": str(replace(me, pid=services, started=started(services) or "")),
        "port": chosen.port,
    }
    write_whole(_state_file(chosen), json.dumps(state).encode())


def served_url(chosen: Settings) -> str:
    """The address of Dagster's web server: that of a running ``up`` of this folder, else that of the settings."""
    try:
        return f"http://127.0.0.1:{json.loads(_state_file(chosen).read_text())['port']}"
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return chosen.ui_url


def stop_orphans(chosen: Settings) -> int:
    """Stops the processes that an ``up`` of this folder left behind when it was killed. Returns their number.

    Raises:
        NotStarted: that ``up`` is still running.
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

    # If the leader has ended, its ID is not given to another process while its session has members.
    orphans = [pid for pid in session_members(services.pid) if _is_dagster(pid)]
    if orphans and (leader_runs() or started(services.pid) is None):
        _stop_session(services.pid, leader_runs)
    _state_file(chosen).unlink(missing_ok=True)
    return len(orphans)
