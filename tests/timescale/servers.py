"""Servers with TimescaleDB for tests: a native one whose URL is set, or PostgreSQL in WebAssembly.

This finds or starts a server, and creates databases on it that one test uses. The server in WebAssembly is the
Node.js program in this folder; ``CREATE DATABASE`` and ``DROP DATABASE`` mean the same on both. The databases have
nothing of ours, except for what a test has prepared.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psycopg
import sqlalchemy as sa
from support.tools import missing

Edition = Literal["community", "apache"]

_FOLDER = Path(__file__).resolve().parent
_OLDEST_NODE = 18
_INSTALL_SECONDS = 300

_numbers = itertools.count(1)


class TimescaleServer:
    """A server with TimescaleDB, and databases on it.

    Args:
        url: a database that is always there, as a superuser.
        runs_jobs: it has processes that run jobs when they are due.
    """

    def __init__(self, url: str, *, runs_jobs: bool) -> None:
        self.url = url
        self.runs_jobs = runs_jobs
        self._templates: dict[str, str] = {}

    @contextmanager
    def database(self, *, extension: bool = True, prepare: Callable[[str], object] | None = None) -> Iterator[str]:
        """A database of one's own, dropped at the end; the URL of it, as a superuser.

        No job runs in it by itself, only by ``run_job``. A test that creates the extension itself on a native
        server calls ``stop_jobs`` to have that.

        Args:
            extension: False for a database without TimescaleDB, which can be created there.
            prepare: what is done to it, once for all databases that ask for the same (a function of the module,
                such as ``migrate``): it gets the URL of an empty one, and what it leaves is copied.
        """
        template = self._template(prepare) if extension else "template0"
        name = self._create(template)
        try:
            if extension:
                self.stop_jobs(self._url_of(name))
            yield self._url_of(name)
        finally:
            self._drop(name)

    def stop_jobs(self, url: str) -> None:
        """No job in the database starts by itself from now on."""
        if not self.runs_jobs:
            return
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT _timescaledb_functions.stop_background_workers()")

    def close(self) -> None:
        """Removes what was prepared."""
        while self._templates:
            self._drop(self._templates.popitem()[1])

    def _template(self, prepare: Callable[[str], object] | None) -> str:
        key = f"{prepare.__module__}.{prepare.__qualname__}" if prepare else ""
        if key not in self._templates:
            name = self._templates[key] = self._create(self._template(None) if prepare else "template0")
            if prepare is None:
                self._run_in(name, "CREATE EXTENSION timescaledb")
            self.stop_jobs(self._url_of(name))
            if prepare is not None:
                prepare(self._url_of(name))
            # A template is copied only while no session uses it. TimescaleDB's scheduler, which comes back just
            # before that, can't get into a closed one.
            self._run_in("", f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        return self._templates[key]

    def _create(self, template: str) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self._run_in("", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _drop(self, name: str) -> None:
        self._run_in("", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _run_in(self, name: str, statement: str) -> None:
        with psycopg.connect(self._url_of(name) if name else self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _url_of(self, name: str) -> str:
        return sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def native_server(url: str) -> Iterator[TimescaleServer]:
    """The server at ``url``, somebody's own: it stays as it was."""
    server = TimescaleServer(url, runs_jobs=True)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def webassembly_server(edition: Edition) -> Iterator[TimescaleServer]:
    """A server in WebAssembly, started for the purpose and stopped; skips the test where it can't be had."""
    instead = ", or set OTC_TEST_TIMESCALE_URL to a superuser's URL of a server with TimescaleDB"
    if edition == "apache":
        instead = ""
    node = _node(f"install Node.js {_OLDEST_NODE} or later with npm{instead}")
    _install(f"see that npm reaches its registry{instead}")
    # It lives as long as its standard input, so it is gone when this process is, however that ends.
    command = [node, "--expose-gc", str(_FOLDER / "server.mjs"), edition]
    # Ctrl-C is for the tests: they still need it to tidy up.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            assert port, "the server in WebAssembly did not start: what it said is above"
            yield TimescaleServer(f"postgresql://postgres@127.0.0.1:{port}/postgres", runs_jobs=False)
        finally:
            process.stdin.close()


def _node(remedy: str) -> str:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        missing("Node.js and npm are not installed", remedy)
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.match(r"v(\d+)", version)
    if number is None or int(number[1]) < _OLDEST_NODE:
        missing(f"Node.js is {version.strip()}", remedy)
    return node


def _install(remedy: str) -> None:
    """The package of the lock file, unless it is there already."""
    lock, installed = _FOLDER / "package-lock.json", _FOLDER / "node_modules" / ".package-lock.json"
    with (_FOLDER / "package.json").open() as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)  # two test runs may start at once
        if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
            return
        command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(
                command, cwd=_FOLDER, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
            )
            if done.returncode == 0:
                return
            said = done.stderr.strip().partition("\n")[0]
        except subprocess.TimeoutExpired:
            said = f"not done after {_INSTALL_SECONDS} s"
        missing(f"'npm ci' in tests/timescale failed ({said})", remedy)
