"""The server as a process of its own has it: connections, slow clients, signals, and what it refuses to serve."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
from support.first_run import FirstRun

from otc_assets.api import edge, serving
from otc_assets.settings import settings

Command = Callable[..., tuple[int, str, str]]


@contextmanager
def served(first_run: FirstRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The server in a thread, on a free port."""
    monkeypatch.setenv("OTC_DATABASE_URL", first_run.reader_url)
    settings.cache_clear()
    servers: list[uvicorn.Server] = []
    kept = uvicorn.Server.__init__

    def init(self: uvicorn.Server, config: uvicorn.Config) -> None:
        kept(self, config)
        servers.append(self)

    monkeypatch.setattr(uvicorn.Server, "__init__", init)
    where: list[str] = []
    ready = threading.Event()

    def report(address: str) -> None:
        where.append(address)
        ready.set()

    thread = threading.Thread(target=serving.serve, args=(settings(), "127.0.0.1", 0, report))
    thread.start()
    assert ready.wait(60)
    try:
        yield where[0]
    finally:
        while not servers:
            thread.join(0.05)
        servers[0].should_exit = True
        thread.join()
        settings.cache_clear()


def closed_by_server(connection: socket.socket) -> bool:
    """Reads nothing until the server has closed the connection; True unless it never does."""
    connection.settimeout(60)
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def connected(port: int, request: bytes = b"", *, small: bool = False) -> socket.socket:
    """A connection that has sent a request; a ``small`` one receives little before the client reads."""
    connection = socket.socket()
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(request)
    return connection


def wait_for_status(url: str, status: int) -> None:
    """Requests until the status is this one."""
    for _ in range(300):
        if httpx.get(url, timeout=60).status_code == status:
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"{url} never gave {status}")


def test_a_client_that_sends_or_reads_too_slowly_is_disconnected_and_others_are_served(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(serving, "PART_SECONDS", 2.0)
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 4)
    wanted = b"GET /v1/venue_volume?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(first_run, monkeypatch) as address:
        port = int(address.rpartition(":")[2])
        for connection in (connected(port), connected(port, b"GET /v1/tables HTTP/1.1\r\nHost: local")):
            assert closed_by_server(connection)
            connection.close()
        whole = httpx.get(f"{address}/v1/venue_volume?limit=10000", headers={"Accept-Encoding": "identity"}, timeout=60)
        assert whole.status_code == 200
        # Parts of one response; the whole in one part; requests whose responses follow each other.
        for part, requests in ((1 << 14, 1), (1 << 30, 1), (1 << 30, 3)):
            monkeypatch.setattr(edge, "PART_BYTES", part)
            deaf = [connected(port, wanted * requests, small=True) for _ in range(3)]
            wait_for_status(f"{address}/v1/tables", 503)  # they are all the connections that there may be
            wait_for_status(f"{address}/v1/tables", 200)
            for connection in deaf:
                # Once it reads at last, the rest of the response is missing.
                received = 0
                with suppress(ConnectionResetError):
                    while block := connection.recv(1 << 16):
                        received += len(block)
                connection.close()
                assert received < len(whole.content)


def test_a_client_can_not_choose_the_address_whose_allowance_it_uses(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_API_REQUESTS_PER_MINUTE", "1")
    with served(first_run, monkeypatch) as address:
        found = [
            httpx.get(f"{address}/v1/tables", headers={"X-Forwarded-For": f"192.0.2.{number}"}, timeout=60)
            for number in range(2)
        ]
    assert [response.status_code for response in found] == [200, 429]


def test_the_command_serves_until_ctrl_c(first_run: FirstRun, tmp_path: Path) -> None:
    environment = {**os.environ, "OTC_DATABASE_URL": first_run.reader_url, "OTC_HOME": str(tmp_path)}
    command = [str(Path(sys.executable).with_name("otc-assets")), "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, line + process.stderr.read()
        assert httpx.get(f"{found[0]}/health", timeout=60).json() == {"status": "ok"}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()


def test_other_machines_are_not_served_without_keys(
    otc: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, _, errors = otc("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert code == 1
    assert "no API keys are set. Set OTC_API_KEYS" in " ".join(errors.split())
    monkeypatch.setenv("OTC_API_KEYS", str(tmp_path / "none"))
    code, _, errors = otc("serve", "--port", "0")
    assert code == 1
    assert "No such file" in errors
    code, printed, _ = otc("serve", "--new-key", "ann")
    key, line = printed.split("\n")[:2]
    assert code == 0
    assert re.fullmatch(r"otc_[\w-]{43}", key)
    assert re.fullmatch(r"ann sha256:[0-9a-f]{64}", line)
    monkeypatch.setenv("OTC_API_ORIGINS", "pro.openbb.co")
    code, _, errors = otc("serve", "--port", "0")
    assert code == 2
    assert errors.startswith("OTC_API_ORIGINS: ")
