"""The embedded server: joining, recovery, stopping, and access."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from support.full_disk import full_disk

from otc_assets.local.embedded import EmbeddedServer, EmbeddedServerError

pytestmark = pytest.mark.slow


@pytest.fixture
def home(folder_for_all: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of its own for one server."""
    folder = folder_for_all / request.node.name[:40]
    folder.mkdir()
    return folder


def put(server: EmbeddedServer, value: int) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (v int)")
        connection.execute("INSERT INTO t VALUES (%s)", [value])


def got(server: EmbeddedServer) -> list[int]:
    with psycopg.connect(server.url) as connection:
        return [v for (v,) in connection.execute("SELECT v FROM t ORDER BY v")]


def test_data_and_address_are_there_again_after_a_restart(home: Path) -> None:
    with EmbeddedServer(home, durable=False) as server:
        put(server, 1)
        first = server.url
    assert not server.running()
    with EmbeddedServer(home, durable=False) as again:
        assert again.url == first
        assert got(again) == [1]


def test_rows_that_were_committed_survive_a_kill(home: Path) -> None:
    """The killed server can remain in the process table for a while, and then PostgreSQL refuses to start."""
    server = EmbeddedServer(home)
    server.start()
    put(server, 7)
    pid = server._folder.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with EmbeddedServer(home) as again:
        assert got(again) == [7]
    server.stop()  # it still counts as a user, and the last user stops the server
    assert not server.running()


def test_a_second_process_joins_the_server_and_leaves_it_running(home: Path) -> None:
    with EmbeddedServer(home, durable=False) as owner:
        with EmbeddedServer(home, durable=False) as guest:
            assert guest.url == owner.url
        assert owner.running()
    assert not owner.running()


def test_the_last_process_that_uses_the_server_stops_it(home: Path) -> None:
    """The command that had started it stopped it while others used it."""
    owner, guest = EmbeddedServer(home, durable=False), EmbeddedServer(home, durable=False)
    owner.start()
    guest.start()
    owner.stop()
    put(guest, 1)
    assert got(guest) == [1]
    guest.stop()
    assert not guest.running()
    guest.stop()  # a second time changes nothing


def test_a_user_that_was_killed_does_not_keep_the_server_running(home: Path) -> None:
    """The system releases the lock of a process when the process ends, however it ends."""
    program = "import sys; from pathlib import Path; from otc_assets.local.embedded import EmbeddedServer\n"
    program += "EmbeddedServer(Path(sys.argv[1]), durable=False).start(); print('started', flush=True); input()"
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "started\n"
    with EmbeddedServer(home, durable=False) as server:
        killed.kill()
        killed.wait()
        put(server, 1)
        assert got(server) == [1]
    assert not server.running()


def test_a_left_over_process_id_of_another_program_does_not_hold_up_the_start(home: Path) -> None:
    """After a crash, the ID in postmaster.pid may be that of any program: each command waited for a minute."""
    server = EmbeddedServer(home)
    server.start()
    put(server, 7)
    pid = server._folder.pid()
    assert pid is not None
    left_over = (home / "data" / "postmaster.pid").read_text().splitlines()
    os.kill(pid, signal.SIGKILL)
    server._wait_for_exit()
    identity: dict[str, Any] = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "120"], **identity) as other:
        (home / "data" / "postmaster.pid").write_text("\n".join([str(other.pid), *left_over[1:]]) + "\n")
        assert not server.running()
        since = time.monotonic()
        with EmbeddedServer(home) as again:
            assert got(again) == [7]
        assert time.monotonic() - since < 20
        assert other.poll() is None
        other.kill()
    server.stop()
    assert not server.running()


def test_a_left_over_process_id_of_another_servers_worker_is_not_taken_for_ours(
    home: Path, server: EmbeddedServer
) -> None:
    """Workers have no folder among their words: each command waited for a minute, and failed."""
    ours = EmbeddedServer(home, durable=False)
    ours._folder.create()
    (home / "data").mkdir()
    others = server._folder.pid()
    assert others is not None
    for worker in psutil.Process(others).children():
        (home / "data" / "postmaster.pid").write_text(f"{worker.pid}\n")
        assert not ours.running()
    assert server.running()


def test_a_first_start_that_was_killed_is_repeated(home: Path) -> None:
    """As by a power failure, or with a container: half of the data folder was taken for all of it, at every start."""
    program = "import sys; from pathlib import Path; from otc_assets.local.embedded import EmbeddedServer\n"
    program += "EmbeddedServer(Path(sys.argv[1]), durable=False).start()"
    with subprocess.Popen([sys.executable, "-c", program, str(home)]) as killed:
        while not list(home.glob("*/PG_VERSION")):
            assert killed.poll() is None
            time.sleep(0.001)
        for process in [*psutil.Process(killed.pid).children(recursive=True), psutil.Process(killed.pid)]:
            process.kill()
    assert not (home / "data").exists() or not (home / "data" / "global" / "pg_control").exists()
    with EmbeddedServer(home, durable=False) as server:
        put(server, 1)
        assert got(server) == [1]
    assert not list(home.glob("incomplete-data*"))


def test_files_that_a_full_disk_has_left_empty_are_written_again(home: Path) -> None:
    """No start succeeded any more, also when the disk had room again."""
    for name in ("password-postgres", "password-otc", "port"):
        (home / name).touch()
    with EmbeddedServer(home, durable=False) as server:
        put(server, 1)
        assert got(server) == [1]


def test_a_full_disk_leaves_the_port_as_it_was_and_no_password(home: Path) -> None:
    folder = EmbeddedServer(home)._folder
    port = folder.choose_port()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with full_disk():
            with pytest.raises(OSError, match="File too large"):
                folder.choose_port()
            with pytest.raises(OSError, match="File too large"):
                folder.password("otc")
    assert [(path.name, path.read_text()) for path in home.iterdir()] == [("port", str(port))]


def test_another_port_is_used_if_another_program_uses_ours(home: Path) -> None:
    with EmbeddedServer(home, durable=False) as server:
        put(server, 1)
        port = server._folder.port()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with EmbeddedServer(home, durable=False) as again:
            assert again._folder.port() != port
            assert got(again) == [1]


def test_only_the_owner_can_read_the_passwords_and_only_with_one_can_anyone_enter(home: Path) -> None:
    with EmbeddedServer(home, durable=False) as server:
        for role in ("otc", "postgres"):
            assert stat.S_IMODE((home / f"password-{role}").stat().st_mode) == 0o600
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=server._folder.port(), user="otc", dbname="otc", password="wrong")
        with psycopg.connect(server.url) as connection:
            listening = connection.execute("SHOW listen_addresses").fetchone()
            rights = connection.execute(
                "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    assert listening == ("127.0.0.1",)
    assert rights == (False, False, False)


def test_data_of_another_version_is_refused_with_what_to_do(home: Path) -> None:
    EmbeddedServer(home, durable=False).start()
    server = EmbeddedServer(home, durable=False)
    pid = server._folder.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    server._wait_for_exit()
    (home / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedServerError, match=r"made by PostgreSQL 14.*OTC_HOME"):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the server's account can't enter")
def test_a_folder_that_the_servers_account_cannot_enter_is_refused_with_what_to_do(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerError, match="OTC_HOME"):
        EmbeddedServer(closed / "postgres").start()
