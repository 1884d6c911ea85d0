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
from contextlib import contextmanager
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


def test_a_client_that_sends_or_reads_too_slowly_is_disconnected_and_others_are_served(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(edge, "PART_SECONDS", 1.0)
    monkeypatch.setattr(edge, "PART_BYTES", 1 << 14)
    with served(first_run, monkeypatch) as address:
        port = int(address.rpartition(":")[2])
        silent, partial, deaf = socket.socket(), socket.socket(), socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for connection in (silent, partial, deaf):
            connection.connect(("127.0.0.1", port))
        partial.sendall(b"GET /v1/tables HTTP/1.1\r\nHost: local")
        wanted = b"GET /v1/venue_volume?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        deaf.sendall(wanted)
        assert closed_by_server(silent)
        assert closed_by_server(partial)
        whole = httpx.get(f"{address}/v1/venue_volume?limit=10000", headers={"Accept-Encoding": "identity"}, timeout=60)
        assert whole.status_code == 200
        deaf.settimeout(60)
        received = 0
        # Once it reads at last, the rest of the response is missing.
        threading.Event().wait(3)
        try:
            while block := deaf.recv(1 << 16):
                received += len(block)
        except ConnectionResetError:
            pass
        assert received < len(whole.content)
        for connection in (silent, partial, deaf):
            connection.close()


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
