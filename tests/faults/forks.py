"""Processes that each perform one operation of an installation and end: forked from one that has imported everything.

Importing Dagster takes as long as ten operations. ``Forks`` is the test's end of a pipe; ``python -m faults.forks`` is
the process at the other end, which forks. It has used neither Polars nor a connection itself, so a fork is safe.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import faulthandler
import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import time_machine
from faults import operations
from faults.points import Fault, Place, Point, Points
from support.retries import retry_without_waiting

from otc_assets import cli
from otc_assets.cli.app import _show_error
from otc_assets.finra.exchange import Deadlines
from otc_assets.finra.query_api import QueryApi
from otc_assets.settings import settings

#: A process that takes longer hangs.
_LONGEST_SECONDS = 600


@dataclass(frozen=True)
class Task:
    """What a process does.

    Attributes:
        operation: the name of one of ``OPERATIONS``, and its arguments.
        environment: the settings.
        now: the time that it sees at its beginning.
        is_again: whether it follows a fault.
        fault, at: what happens to it, and where.
        admin: the URL of the database for a superuser.
        postmaster: the process of the database server.
        patience: how many seconds FINRA may be silent, and twice as many a reply may take; None for as many as usual.
    """

    operation: tuple[str, ...]
    environment: dict[str, str]
    now: dt.datetime
    is_again: bool = False
    fault: Fault | None = None
    at: Point | None = None
    admin: str = ""
    postmaster: int = 0
    patience: float | None = None


@dataclass
class Outcome:
    """What became of a task.

    Attributes:
        code: the exit code of the process: 0, 1 after an error, -9 if it was killed; None if it hung.
        error: the error as the command line shows it.
        points: those that were reached.
        reached: whether the point of the fault was.
        log: what the process has printed.
    """

    code: int | None
    error: str = ""
    points: list[Point] = field(default_factory=list)
    reached: bool = False
    log: str = ""


class Forks:
    """Performs tasks in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))}
        tests = Path(__file__).resolve().parent.parent
        self._server = subprocess.Popen(
            [sys.executable, "-m", "faults.forks"],
            # One thread: of so few rows, Polars' threads mostly wait for each other, for a tenth of all processor time.
            env=environment | {"PYTHONPATH": str(tests), "POLARS_MAX_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tests.parent,
        )

    def perform(self, *tasks: Task) -> list[Outcome]:
        """Performs tasks at the same time. Returns what became of each."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        orders = []
        for number, task in enumerate(tasks):
            folder = self._folder / str(number)
            folder.mkdir(exist_ok=True)
            orders.append({"task": asdict(task) | {"now": task.now.isoformat()}, "folder": str(folder)})
        self._server.stdin.write(json.dumps(orders) + "\n")
        self._server.stdin.flush()
        return [_outcome(**found) for found in json.loads(self._server.stdout.readline())]

    def close(self) -> None:
        """Ends the process."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)


def _point(found: dict[str, Any]) -> Point:
    return Point(Place(found["place"]), found["what"], found["number"], found["reads"])


def _outcome(code: int | None, folder: str) -> Outcome:
    result = Path(folder, "result.json")
    found = json.loads(result.read_text()) if result.exists() else {}
    return Outcome(
        code,
        found.get("error", ""),
        [_point(point) for point in found.get("points", ())],
        Path(folder, "reached").exists(),
        Path(folder, "log").read_text(errors="replace"),
    )


# --- the process that forks ----------------------------------------------------------------------------


def _perform(task: Task, folder: Path) -> int:
    """Performs a task in this process. Returns the exit code."""

    os.environ.update(task.environment)
    settings.cache_clear()
    retry_without_waiting()
    cli.err._width = 1000
    if task.patience is not None:
        assert QueryApi.__init__.__kwdefaults__ is not None
        QueryApi.__init__.__kwdefaults__["deadlines"] = Deadlines(
            silence=task.patience, reply=2 * task.patience, tries=3 * task.patience
        )
    points = Points(
        Path(task.environment["OTC_HOME"]),
        task.fault,
        task.at,
        task.admin,
        task.postmaster,
        lambda: (folder / "reached").touch(),
    )
    error, code = "", 0
    with time_machine.travel(task.now, tick=True):
        try:
            if task.is_again:
                operations.perform_again(task.operation, settings())
            else:
                operations.perform(task.operation, settings(), points)
        except Exception as raised:
            shown = io.StringIO()
            with contextlib.redirect_stderr(shown):
                code = _show_error(raised)
            error = " ".join(shown.getvalue().split())
            traceback.print_exc()
    result = {"error": error, "points": [asdict(point) for point in points.found]}
    (folder / "result.json").write_text(json.dumps(result))
    return code


def _start(order: dict[str, Any]) -> int:
    """Forks a process for an order. Returns its ID."""
    folder, given = Path(order["folder"]), order["task"]
    for name in ("reached", "result.json"):
        (folder / name).unlink(missing_ok=True)
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (0, 1, 2):
            os.dup2(log if stream else os.open(os.devnull, os.O_RDONLY), stream)
        given["now"] = dt.datetime.fromisoformat(given["now"])
        given["operation"] = tuple(given["operation"])
        given["fault"] = given["fault"] and Fault(given["fault"])
        given["at"] = given["at"] and _point(given["at"])
        faulthandler.dump_traceback_later(_LONGEST_SECONDS * 0.9)
        code = _perform(Task(**given), folder)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(process: int, deadline: float) -> int | None:
    """The exit code of a process; None if it has to be killed at the deadline."""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.003)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _warm_up() -> None:
    """Does once what every process would do: imports, and what Dagster derives from type hints."""
    import dagster as dg
    import psycopg2.extras  # noqa: F401
    import upath.implementations.local  # noqa: F401

    import otc_assets.defs.compute_logs
    import otc_assets.defs.instance
    import otc_assets.local.setup
    import otc_assets.report.page
    import otc_assets.report.pdf  # noqa: F401
    from otc_assets.definitions import build_definitions
    from otc_assets.domain.weeks import TIERS, due_at
    from otc_assets.settings import Settings

    due_at(dt.date(2026, 7, 3), TIERS[0])  # the holidays
    definitions = build_definitions(Settings(database_url="postgresql://nobody@127.0.0.1/nowhere", home=Path()))
    definitions.resolve_implicit_global_asset_job_def()
    nothing = dg.asset(lambda: None, name="nothing", partitions_def=dg.StaticPartitionsDefinition(["it"]))
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([nothing], instance=instance, partition_key="it")
    gc.collect()
    gc.freeze()


def _serve() -> None:
    """Performs the orders on standard input, a line at a time, until it ends."""
    _warm_up()
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        orders = json.loads(line)
        deadline = time.monotonic() + _LONGEST_SECONDS
        processes = [_start(order) for order in orders]
        ended = [
            {"code": _wait(process, deadline), "folder": order["folder"]}
            for process, order in zip(processes, orders, strict=True)
        ]
        replies.write(json.dumps(ended) + "\n")
        replies.flush()


if __name__ == "__main__":
    _serve()
