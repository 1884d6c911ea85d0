"""A line of installations: each is what the one before became by one operation, so that faults can be tried in between.

``Line`` performs operations undisturbed, one after another. Before an operation it takes a copy of the database and the
folder; ``Line.disturbed`` performs the operation on a copy of that copy, with a fault, and then again without.
"""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.forks import Forks, Outcome, Task
from faults.points import Fault, Point
from faults.state import Run, State, remains, runs_of, state_of

from otc_assets.local.embedded import EmbeddedServer

#: How long the server takes at most to notice that a process has ended.
_NOTICE_SECONDS = 10

_number = itertools.count(1)


@dataclass(frozen=True)
class Installation:
    """An installation: a database of its own, and a folder."""

    server: EmbeddedServer
    database: str
    home: Path

    @property
    def url(self) -> str:
        return self.server.url.rpartition("/")[0] + f"/{self.database}"

    @property
    def admin(self) -> str:
        """The URL for the superuser."""
        folder = self.server._folder
        return f"postgresql://postgres:{folder.password('postgres')}@127.0.0.1:{folder.port()}/{self.database}"

    def copy(self, name: str) -> Installation:
        """Another installation that is as this one; one of that name is replaced."""
        other = Installation(self.server, name, self.home.with_name(name))
        other.remove()
        with self.server._connect("postgres") as admin:
            admin.execute(f"CREATE DATABASE {name} OWNER otc TEMPLATE {self.database} STRATEGY file_copy")  # type: ignore[arg-type]
        shutil.copytree(self.home, other.home)
        return other

    def remove(self) -> None:
        with self.server._connect("postgres") as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")  # type: ignore[arg-type]
        shutil.rmtree(self.home, ignore_errors=True)

    def task(
        self, now: dt.datetime, *operation: str, settings: Mapping[str, str] | None = None, **options: Any
    ) -> Task:
        """A task on this installation, with settings in place of its own."""
        postmaster = self.server._folder.pid() or 0
        environment = self.environment | dict(settings or {})
        return Task(operation, environment, now, admin=self.admin, postmaster=postmaster, **options)

    @property
    def environment(self) -> dict[str, str]:
        """The settings."""
        return {
            "OTC_DATABASE_URL": self.url,
            "OTC_HOME": str(self.home),
            "OTC_SOURCE": "simulator",
            "OTC_SIMULATOR_SCALE": "0.001",
            "OTC_SLOT_WAIT_SECONDS": "20",
        }

    def state(self) -> State:
        return state_of(self.url, self.home)

    def remains(self) -> list[str]:
        """What is left behind once the server has noticed which processes have ended."""
        deadline = time.monotonic() + _NOTICE_SECONDS
        while (found := remains(self.url, self.home)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


@dataclass(frozen=True)
class Case:
    """A fault at a point of an operation."""

    operation: tuple[str, ...]
    fault: Fault
    at: Point

    def __str__(self) -> str:
        return f"{' '.join(self.operation)}, {self.at}: {self.fault}"


class Disturbed:
    """An operation that can be disturbed: its points, and what it makes of an installation if it is not.

    Args:
        forks: performs tasks.
        before: the installation before it.
        operation: its name and arguments.
        now: the time.
        outcome: what became of it, undisturbed.
        expected: the state that it made.
    """

    def __init__(
        self,
        forks: Forks,
        before: Installation,
        operation: tuple[str, ...],
        now: dt.datetime,
        outcome: Outcome,
        expected: State,
    ) -> None:
        self._forks, self._before, self._operation, self._now = forks, before, operation, now
        self.points, self._expected = outcome.points, expected

    def case(self, fault: Fault, at: Point) -> Case:
        """A case of the operation."""
        return Case(self._operation, fault, at)

    def problems(self, case: Case) -> list[str]:
        """Performs the operation with a fault, and then again. Returns what is wrong after that, in words."""
        here = self._before.copy("disturbed")
        number = len(runs_of(here.url))
        (outcome,) = self._forks.perform(here.task(self._now, *case.operation, fault=case.fault, at=case.at))
        if case.fault == Fault.STOPPED:
            restart(here.server)
        found = _problems_of(outcome, case)
        (again,) = self._forks.perform(here.task(self._now, *case.operation, is_again=True))
        if again.code != 0:
            return [*found, f"and then again: {again.error or again.code}", again.log]
        found += here.remains()
        found += _problems_of_runs(runs_of(here.url)[number:], case)
        found += self._expected.differences(here.state())
        if found:
            found.append(outcome.log)
        return found


#: What an error must say of a fault: one of these texts.
_SAID = {
    Fault.DISCONNECTED: ("terminating connection", "server closed the connection", "connection is lost"),
    # All connections of the process are lost. One around it, such as that of a lock, says so in other words.
    Fault.UNCONFIRMED: ("server closed the connection", "terminating connection"),
    Fault.STOPPED: ("no connection to", "server closed the connection", "connection is lost", "refused"),
    Fault.FULL: ("No space left on device",),
    Fault.STORAGE_DISCONNECTED: ("terminating connection", "server closed the connection"),
    Fault.STORAGE_DOWN: ("server closed the connection",),
}


#: What is said of a run whose process was found to have ended: a killed process can't say anything itself.
_KILLED = "ended without finishing the run: it was killed"


def _problems_of(outcome: Outcome, case: Case) -> list[str]:
    """What is wrong with how the operation ended that was disturbed."""
    found = []
    if not outcome.reached:
        return [f"the point was not reached (exit code {outcome.code}): {outcome.error}"]
    if case.fault == Fault.KILLED:
        return [] if outcome.code == -9 else [f"exit code {outcome.code}"]
    if outcome.code not in (0, 1):
        found.append("it hung" if outcome.code is None else f"exit code {outcome.code}")
    if "bug in otc-assets" in outcome.error or "Traceback" in outcome.error:
        found.append(f"an error that is not explained: {outcome.error}")
    elif outcome.code == 1 and not any(text in outcome.error for text in _SAID[case.fault]):
        found.append(f"an error that does not say what happened: {outcome.error}")
    return found


def _problems_of_runs(runs: list[Run], case: Case) -> list[str]:
    """What is wrong with the runs of the operation that was disturbed, and with that of the next one."""
    if not runs or runs[-1].status != "SUCCESS":
        return [f"the run after the fault did not succeed: {[(run.id, run.status) for run in runs]}"]
    found = []
    # Without one, the fault was before the run was stored. One that succeeded was disturbed after that.
    for run in runs[:-1]:
        if run.status not in ("SUCCESS", "FAILURE"):
            found.append(f"the disturbed run {run.id} is {run.status}")
        elif run.status == "FAILURE" and not run.reason:
            found.append(f"no event says why the run {run.id} failed")
        elif run.status == "FAILURE" and case.fault == Fault.KILLED and _KILLED not in run.reason:
            found.append(f"the run {run.id} does not say that its process was killed: {run.reason}")
    return found


def restart(server: EmbeddedServer) -> None:
    """Starts a server whose process has ended."""
    assert server._process is not None
    server._process.wait()
    with server._locked():
        server._launch()


class Line:
    """Operations on one installation, one after another.

    Args:
        forks: performs them.
        first: the installation, which is changed.
    """

    def __init__(self, forks: Forks, first: Installation) -> None:
        self._forks, self._here = forks, first

    def go_on(self, now: dt.datetime, *operation: str) -> Outcome:
        """Performs an operation."""
        (outcome,) = self._forks.perform(self._here.task(now, *operation))
        assert outcome.code == 0, (operation, outcome.error, outcome.log)
        return outcome

    @contextmanager
    def disturbed(self, now: dt.datetime, *operation: str) -> Iterator[Disturbed]:
        """Performs an operation, and provides it for cases."""
        before = self._here.copy("before")
        outcome = self.go_on(now, *operation)
        assert self._here.remains() == []
        yield Disturbed(self._forks, before, operation, now, outcome, self._here.state())
        before.remove()
