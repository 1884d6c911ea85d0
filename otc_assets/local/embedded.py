"""The embedded PostgreSQL server: started, joined when it runs already, and stopped by the last process that uses it.

Its files are in ``server_folder``. The schema is in ``warehouse.migrate``, and connections for data are in
``warehouse.server``.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import psycopg
from psycopg import sql

from otc_assets import embedded_files
from otc_assets.local.server_folder import EmbeddedServerError, ServerFolder, tail
from otc_assets.processes import command_of, started
from otc_assets.settings import Settings
from otc_assets.warehouse.roles import READER, WRITER
from otc_assets.warehouse.server import DatabaseUnreachable, session_options

__all__ = ["EmbeddedServer", "EmbeddedServerError", "url_of_running"]

_START_SECONDS = 60
_STOP_SECONDS = 30

#: For loads of a few hundred thousand rows at a time, on a laptop.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    "checkpoint_completion_target": "0.9",
    "password_encryption": "scram-sha-256",
    # Many iterations protect passwords that people choose. Ours have 192 random bits, and Dagster opens a connection
    # for every event: with 4,096 iterations, they took half of a run's time.
    "scram_iterations": "1",
    "log_line_prefix": "%m [%p] %a ",
    "timezone": "UTC",
    "jit": "off",
}
#: The logins beside the owner, each with the role that it is a member of.
_LOGINS = {embedded_files.APP: WRITER, embedded_files.ANALYST: READER}
#: Sessions of analysts begin with these. A session may set others: what it may do is in the rights of ``READER``.
_OF_ANALYSTS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "5min",
    "idle_in_transaction_session_timeout": "10min",
}
_DATABASE = embedded_files.DATABASE
_NAMES = {"name": sql.Identifier(_DATABASE), "owner": sql.Identifier(embedded_files.OWNER)}

#: For data that may be lost: that of tests.
_UNSAFE_AND_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


class EmbeddedServer:
    """A PostgreSQL server in the folder ``home``, on loopback, with a password.

    Several processes may use it: the first starts it, and the last one stops it. Each holds a shared ``flock`` while
    it uses the server, which the system releases when the process ends, however it ends. (The package filelock has
    shared locks too, but keeps them in an SQLite database.)

    Args:
        home: the folder of the server.
        durable: False turns off fsync, for data that may be lost.
    """

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self.home = home
        self.durable = durable
        self._folder = ServerFolder(home, durable=durable)
        self._process: subprocess.Popen[bytes] | None = None
        self._use: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the database, for its owner, who has no other right on the server."""
        return self.url_for(embedded_files.OWNER)

    def url_for(self, login: str) -> str:
        """The URL of the database, for one of its logins (``embedded_files``)."""
        return embedded_files.url_of(self.home, login)

    def running(self) -> bool:
        """Whether the server is running, whichever process started it."""
        pid = self._folder.pid()
        return pid is not None and started(pid) is not None and self._is_ours(pid)

    def _is_ours(self, pid: int) -> bool:
        """Whether the process is PostgreSQL in our folder. The ID in a stale file may be that of any process.

        Our server is started with its folder as an argument. The workers of other servers have none.
        """
        words = command_of(pid)
        if not words or not Path(words[0]).name.startswith("postgres") or "-D" not in words[:-1]:
            return False
        return os.path.realpath(words[words.index("-D") + 1]) == os.path.realpath(self._folder.data)

    def start(self) -> None:
        """Starts the server, or joins it if it is running; creates it on the first start.

        Raises:
            EmbeddedServerError: it can't be started; the message has the end of the log.
        """
        self._folder.create()
        with self._locked():
            if not (self.running() and self._wait_until_ready(self.running)):
                self._folder.initialize()
                self._folder.check_version()
                try:
                    self._launch()
                    self._create_database()
                except BaseException:
                    self._shut_down()
                    raise
            self._use = (self.home / "users").open("ab")
            fcntl.flock(self._use, fcntl.LOCK_SH)

    def stop(self) -> None:
        """Stops the server if no other process uses it, and waits until it has ended."""
        if self._use is None:
            return
        with self._locked():
            try:
                # A process that wants to use the server now waits for the lock on starting and stopping.
                fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                self._shut_down()
            finally:
                self._use.close()
                self._use = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time starts or stops the server."""
        with (self.home / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _launch(self) -> None:
        port = self._folder.choose_port()
        self._wait_for_exit()
        chosen = _SETTINGS | ({} if self.durable else _UNSAFE_AND_FAST)
        with self._folder.log.open("ab") as log:
            process = self._process = self._folder.spawn(
                "postgres",
                *("-D", str(self._folder.data), "-p", str(port)),
                *(part for name, value in chosen.items() for part in ("-c", f"{name}={value}")),
                output=log,
            )
        if not self._wait_until_ready(lambda: process.poll() is None):
            raise EmbeddedServerError(self._not_started("it ended"))

    def _shut_down(self) -> None:
        pid = self._folder.pid()
        if pid is not None and self.running():
            os.kill(pid, signal.SIGINT)  # a fast shutdown: sessions are ended, data is written
            deadline = time.monotonic() + _STOP_SECONDS
            # psutil's wait() would also wait until a zombie is collected, which in a container may never happen.
            while started(pid) is not None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGQUIT)
                    break
                time.sleep(0.02)
        if self._process is not None:
            self._process.wait()

    def _wait_for_exit(self) -> None:
        """Waits while a killed server is still in the process table, because PostgreSQL would refuse to start.

        PostgreSQL also refuses if the process ID in a stale file is that of another running process. Such a file is
        deleted. PostgreSQL's own check of shared memory still prevents two servers in one folder.
        """
        deadline = time.monotonic() + _STOP_SECONDS
        while (pid := self._folder.pid()) is not None and psutil.pid_exists(pid) and time.monotonic() < deadline:
            if started(pid) is not None and not self._is_ours(pid):
                (self._folder.data / "postmaster.pid").unlink(missing_ok=True)
                return
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # if it was a child of this process
            time.sleep(0.05)

    def _wait_until_ready(self, alive: Callable[[], bool]) -> bool:
        """Waits until the server responds. False if it ended instead, which is normal if it was just killed."""
        deadline = time.monotonic() + _START_SECONDS
        while alive():
            try:
                self._connect("postgres").close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(self._not_started(str(error))) from None
                time.sleep(0.05)
            else:
                return True
        return False

    def _not_started(self, reason: str) -> str:
        log = self._folder.log
        return f"the embedded PostgreSQL in {self.home} did not start: {reason}. The end of {log}:\n{tail(log)}"

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the administrator."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self._folder.port(),
            user="postgres",
            password=self._folder.password("postgres"),
            dbname=database,
            connect_timeout=5,
            autocommit=True,
            options=session_options(),
        )

    def _create_database(self) -> None:
        with self._connect("postgres") as connection:

            def run(statement: str, **parts: sql.Composable) -> None:
                connection.execute(sql.SQL(statement).format(**parts))  # type: ignore[arg-type] # our own text

            existing = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
            # As on any server: 'otc' may not create roles itself.
            for role in (WRITER, READER):
                if role not in existing:
                    run("CREATE ROLE {role} NOLOGIN", role=sql.Identifier(role))
            for login in (embedded_files.OWNER, *_LOGINS):
                if login not in existing:
                    run("CREATE ROLE {login} LOGIN", login=sql.Identifier(login))
                # Again at each start: the password is that of the file, also where the file was lost.
                password = sql.Literal(self._folder.password(login))
                run("ALTER ROLE {login} PASSWORD {password}", login=sql.Identifier(login), password=password)
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone():
                run("CREATE DATABASE {name} OWNER {owner}", **_NAMES)
                run("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC", **_NAMES)
            for login, role in _LOGINS.items():
                names = {"login": sql.Identifier(login), "role": sql.Identifier(role), **_NAMES}
                run("GRANT {role} TO {login}", **names)
                run("GRANT CONNECT ON DATABASE {name} TO {login}", **names)
            for name, value in _OF_ANALYSTS.items():
                parts = {"login": sql.Identifier(embedded_files.ANALYST), "name": sql.Identifier(name)}
                run("ALTER ROLE {login} SET {name} = {value}", **parts, value=sql.Literal(value))


def url_of_running(chosen: Settings, login: str = embedded_files.OWNER) -> str:
    """The URL of the database that the settings name, or of the embedded server if it is running. Starts nothing.

    Args:
        chosen: the settings.
        login: the login of the embedded server (``embedded_files``).

    Raises:
        DatabaseUnreachable: the embedded server is not running.
    """
    if chosen.database_url is not None:
        return chosen.database_url.get_secret_value()
    server = EmbeddedServer(chosen.home / embedded_files.FOLDER)
    if not server.running():
        raise DatabaseUnreachable("no database runs here. Start 'otc-assets up', or set OTC_DATABASE_URL.")
    return server.url_for(login)
