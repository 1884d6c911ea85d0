"""The points of a materialization at which a fault can happen, and the faults that are made there.

A point is just before a statement, a commit, a COPY or the change of a file. What happens after one point and before
the next changes nothing outside the process: a fault after a statement is a fault at the next point. A commit is the
exception: it can take effect while its answer is lost (``Fault.UNCONFIRMED``). Between two statements that only read,
no fault is made: it would find what a fault before the first of them finds. Which cases there are is in
``test_fault_matrix``; this module is for processes that end after one operation: an audit hook can't be removed.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NoReturn

import psycopg
import psycopg2
from sqlalchemy.engine.default import DefaultDialect

from otc_assets.processes import started


class Fault(StrEnum):
    """What can happen at a point."""

    KILLED = "the process is killed"
    DISCONNECTED = "the database's connections are lost"
    UNCONFIRMED = "the commit takes effect, and the connection is lost before the answer"
    STOPPED = "the server is stopped"
    FULL = "the disk is full"
    STORAGE_DISCONNECTED = "the connections of Dagster's storage are lost"
    STORAGE_DOWN = "Dagster's storage does not answer any more"


class Place(StrEnum):
    """Where a point is."""

    DATABASE = "database"  # our tables
    STORAGE = "Dagster's storage"
    FILES = "files"  # below OTC_HOME


@dataclass(frozen=True)
class Point:
    """A point of an operation: the ``number``-th time that it does ``what``."""

    place: Place
    what: str
    number: int
    reads: bool = field(default=False, compare=False)  # whether what follows it changes nothing

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" + (f" ({self.number})" if self.number > 1 else "")

    @property
    def is_commit(self) -> bool:
        """Whether the point is before a commit."""
        return self.what == "commit"

    @property
    def is_write(self) -> bool:
        """Whether bytes are written to a file here: a full disk is noticed then, and nothing else differs."""
        return self.what.startswith("write ")


def cases_of(points: Sequence[Point]) -> Iterator[tuple[Fault, Point]]:
    """The faults before and after everything that changes something.

    A process that is killed before a change is in the state that the change before it left. That is its case.
    """
    after_read = False
    for point in points:
        for fault in _faults_at(point):
            if not (after_read and (point.reads or fault == Fault.KILLED)):
                yield fault, point
        after_read = point.reads


def _faults_at(point: Point) -> list[Fault]:
    if point.place == Place.FILES:
        return [Fault.FULL] if point.is_write else [Fault.KILLED, Fault.FULL] if _fills(point) else [Fault.KILLED]
    if point.place == Place.STORAGE:
        return [Fault.KILLED, Fault.STOPPED, Fault.STORAGE_DISCONNECTED, Fault.STORAGE_DOWN]
    of_commit = [Fault.UNCONFIRMED] if point.is_commit else []
    return [Fault.KILLED, Fault.STOPPED, Fault.DISCONNECTED, *of_commit]


def _fills(point: Point) -> bool:
    """Whether the operation needs room on the disk."""
    return point.what.startswith(("open ", "mkdir ", "rename ", "fsync "))


#: Parts of the names of files that differ from run to run, each with what is shown in its place.
_VARIABLE = [
    (re.compile(r"\.partial-[^/]*"), ".partial"),
    (re.compile(r"(?<=/)tmp\w{8}$"), "a temporary file"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{12}(\+\d+)*-[0-9a-f]{16}"), "EVENTS"),
    (re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"(?<=archive/)[0-9a-f]{2}(?=/|$)"), "DIGEST"),
    (re.compile(r"compute_logs/[a-z]{8}"), "compute_logs/NAME"),
]
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SHOWN = 70

_COMMENT = re.compile(r"--[^\n]*\n|/\*.*?\*/", re.DOTALL)
#: Statements that only read: those that call no function of ours, which may write, and take no lock.
_READING = re.compile(
    r"\s*(SELECT|SHOW|SET|NOTIFY)\b(?!.*(\botc\.\w+|\bpg_advisory_\w+)\s*\()", re.DOTALL | re.IGNORECASE
)


def _only_reads(statement: str) -> bool:
    return _READING.match(_COMMENT.sub(" ", statement)) is not None


def _of_statement(statement: str) -> str:
    words = " ".join(statement.split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


class Points:
    """Records the points that are reached, and makes a fault at one of them.

    Args:
        home: the folder whose files count.
        fault: what happens.
        at: where it happens; None: nowhere.
        admin: the URL of the database for a superuser, who ends connections.
        postmaster: the process of the server.
        reached: called when the point of the fault is reached.
    """

    def __init__(
        self,
        home: Path,
        fault: Fault | None = None,
        at: Point | None = None,
        admin: str = "",
        postmaster: int = 0,
        reached: Callable[[], None] = lambda: None,
    ) -> None:
        self._home, self._fault, self._at = f"{os.path.realpath(home)}/", fault, at
        self._admin, self._postmaster, self._reached = admin, postmaster, reached
        self._counts: Counter[tuple[Place, str]] = Counter()
        self._lock = threading.Lock()
        self._active = False
        self._storage_is_down = False
        self.found: list[Point] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """In the block, points are recorded, and the fault happens."""
        self._install()
        self._active = True
        try:
            yield
        finally:
            self._active = False

    # --- where points are ------------------------------------------------------------------------------

    def _install(self) -> None:
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            self._before_statements(name)
        self._around_commits()
        self._before_connecting()
        self._around_copy()
        self._around_files()
        sys.addaudithook(self._audit)

    def _before_statements(self, name: str) -> None:
        original = getattr(DefaultDialect, name)

        def execute(dialect: Any, cursor: Any, statement: str, *arguments: Any, **options: Any) -> Any:
            self._reach(_place_of(dialect), _of_statement(statement), reads=_only_reads(statement))
            self._refuse_if_down(dialect)
            return original(dialect, cursor, statement, *arguments, **options)

        setattr(DefaultDialect, name, execute)

    def _around_commits(self) -> None:
        original = DefaultDialect.do_commit

        def do_commit(dialect: Any, connection: Any) -> None:
            if _place_of(dialect) == Place.STORAGE:  # its statements commit themselves
                original(dialect, connection)
                return
            fault = self._reach(Place.DATABASE, "commit")
            original(dialect, connection)
            if fault == Fault.UNCONFIRMED:
                self._disconnect(Place.DATABASE)
                raise psycopg.OperationalError("server closed the connection unexpectedly")

        DefaultDialect.do_commit = do_commit  # type: ignore[method-assign, assignment]

    def _before_connecting(self) -> None:
        original = DefaultDialect.connect

        def connect(dialect: Any, *arguments: Any, **options: Any) -> Any:
            self._refuse_if_down(dialect)
            return original(dialect, *arguments, **options)

        DefaultDialect.connect = connect  # type: ignore[method-assign]

    def _around_copy(self) -> None:
        original = psycopg.Cursor.copy

        @contextmanager
        def copy(cursor: Any, statement: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
            text = statement if isinstance(statement, str | bytes) else statement.as_string(cursor)
            what = _of_statement(text.decode() if isinstance(text, bytes) else text)
            self._reach(Place.DATABASE, what)
            with original(cursor, statement, *arguments, **options) as opened:
                self._reach(Place.DATABASE, f"within {what}")
                yield opened

        psycopg.Cursor.copy = copy  # type: ignore[assignment, method-assign]

    def _around_files(self) -> None:
        """Points that no audit event has: writing to the files of ``tempfile``, and fsync."""
        make, open_unnamed, sync = tempfile.mkstemp, tempfile.TemporaryFile, os.fsync

        def mkstemp(*arguments: Any, **options: Any) -> tuple[int, str]:
            descriptor, path = make(*arguments, **options)
            self._reach_write(descriptor, path)
            return descriptor, path

        def temporary_file(*arguments: Any, **options: Any) -> IO[Any]:
            opened: IO[Any] = open_unnamed(*arguments, **options)
            self._reach_write(opened.fileno(), f"{options.get('dir') or tempfile.gettempdir()}/a temporary file")
            return opened

        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if not os.path.isdir(path):
                self._reach_file("fsync", path)
            sync(descriptor)

        tempfile.mkstemp = mkstemp  # type: ignore[assignment]
        tempfile.TemporaryFile = temporary_file  # type: ignore[assignment, misc]
        os.fsync = fsync  # type: ignore[assignment]

    def _reach_write(self, descriptor: int, path: str) -> None:
        if self._reach_file("write", path) == Fault.FULL:
            with open("/dev/full", "wb") as full:  # a write to it fails as on a full disk
                os.dup2(full.fileno(), descriptor)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                self._reach_file("open", path)
        elif event in ("os.rename", "os.link"):
            self._reach_file(event.removeprefix("os."), arguments[1])
        elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"):
            self._reach_file(event.removeprefix("os."), arguments[0])

    def _reach_file(self, what: str, path: object) -> Fault | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None  # a descriptor
        name = os.path.abspath(os.fsdecode(path))
        if not f"{name}/".startswith(self._home):
            return None
        for pattern, shown in _VARIABLE:
            name = pattern.sub(shown, name)
        below = f"{name}/".removeprefix(self._home).rstrip("/")
        return self._reach(Place.FILES, f"{what} {below or 'OTC_HOME'}")

    # --- faults ----------------------------------------------------------------------------------------

    def _reach(self, place: Place, what: str, *, reads: bool = False) -> Fault | None:
        """Records a point, and makes the fault that happens there. Returns a fault that the caller has to make."""
        if not self._active:
            return None
        with self._lock:
            self._counts[place, what] += 1
            point = Point(place, what, self._counts[place, what], reads)
            self.found.append(point)
        if point != self._at:
            return None
        self._reached()
        match self._fault:
            case Fault.KILLED:
                os.kill(os.getpid(), signal.SIGKILL)
            case Fault.DISCONNECTED:
                self._disconnect(Place.DATABASE)
            case Fault.STORAGE_DISCONNECTED:
                self._disconnect(Place.STORAGE)
            case Fault.STORAGE_DOWN:
                self._storage_is_down = True
            case Fault.STOPPED:
                os.kill(self._postmaster, signal.SIGQUIT)
                while started(self._postmaster) is not None:
                    time.sleep(0.005)
            case Fault.FULL if not point.is_write:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), point.what.partition(" ")[2])
        return self._fault

    def _disconnect(self, place: Place) -> None:
        ours = "=" if place == Place.DATABASE else "<>"
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                f" AND pid <> pg_backend_pid() AND application_name {ours} 'otc-assets'"  # type: ignore[arg-type]
            )

    def _refuse_if_down(self, dialect: Any) -> None:
        if self._active and self._storage_is_down and _place_of(dialect) == Place.STORAGE:
            _refuse()


def _refuse() -> NoReturn:
    raise psycopg2.OperationalError(
        'connection to server at "127.0.0.1", port 5432 failed: server closed the connection unexpectedly'
    )


def _place_of(dialect: Any) -> Place:
    return Place.STORAGE if dialect.driver == "psycopg2" else Place.DATABASE
