"""The server as a process of its own has it: connections, slow clients, signals, and what it refuses to serve."""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn
from support.first_run import FirstRun
from support.sockets import read_to_end

from otc_assets import http_server
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


def answer_to(address: str, request: bytes) -> bytes:
    """The answer to a request over a connection of its own, which it closes."""
    with connected(int(address.rpartition(":")[2]), request) as connection:
        return read_to_end(connection, 60)


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
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(http_server, "PART_SECONDS", 2.0)
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 3)
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


def test_requests_beyond_those_worked_on_wait_for_a_while_and_are_then_refused(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database does not answer 2 requests. Before there were turns, others waited as long as it took."""
    monkeypatch.setattr(edge, "TURN_SECONDS", 0.5)
    monkeypatch.setattr(serving, "DATABASE_CONNECTIONS", 2)
    with served(first_run, monkeypatch) as address, ThreadPoolExecutor(42) as pool:
        with psycopg.connect(first_run.url) as owner:
            owner.execute("LOCK TABLE otc.symbol_summary IN ACCESS EXCLUSIVE MODE")
            get = b"GET /v1/summary?limit=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            answers = [pool.submit(answer_to, address, get) for _ in range(42)]
            refused = [done.result() for done in itertools.islice(as_completed(answers), 40)]
            for reply in refused:
                assert reply.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                assert b"\r\nretry-after: 5\r\n" in reply
                assert json.loads(reply.partition(b"\r\n\r\n")[2])["type"] == "urn:otc-assets:busy"
            assert httpx.get(f"{address}/health", timeout=60).status_code == 200
            counted = httpx.get(f"{address}/metrics", timeout=60).text
            assert re.search(r'otc_api_requests_total\{path="other",status="503"\} 40\.0', counted)
            assert not any(reply.startswith(b"HTTP/1.1 200") for reply in refused)
        replies = [answer.result() for answer in answers]
        assert sum(reply.startswith(b"HTTP/1.1 200 OK\r\n") for reply in replies) == 2
        assert httpx.get(f"{address}/v1/summary?limit=1", timeout=60).status_code == 200


def test_500_connections_are_answered_or_told_to_come_again_and_health_is_answered(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 500 connections at once, those beyond twice the limit are closed at once: their number is bounded."""
    monkeypatch.setattr(http_server, "IDLE_SECONDS", 600.0)
    with served(first_run, monkeypatch) as address, ExitStack() as stack:
        port = int(address.rpartition(":")[2])
        open_ones = [stack.enter_context(connected(port)) for _ in range(500)]
        closed = [each for each in open_ones if select.select([each], [], [], 0)[0]]
        while len(closed) < 500 - 2 * serving.MAX_CONNECTIONS:
            closed = [each for each in open_ones if select.select([each], [], [], 0.01)[0]]
        assert len(closed) == 500 - 2 * serving.MAX_CONNECTIONS
        waiting = [each for each in open_ones if each not in closed]
        head = b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        healthy, *others = waiting
        healthy.sendall(head % b"health")
        assert read_to_end(healthy, 60).startswith(b"HTTP/1.1 200 OK\r\n")
        for each in others:
            each.sendall(head % b"v1/tables")
        replies = [read_to_end(each, 60) for each in others]
        refused = [reply for reply in replies if reply.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")]
        assert refused
        assert all(b"urn:otc-assets:busy" in reply and b"\r\nretry-after: 5\r\n" in reply for reply in refused)
        served_ones = sum(reply.startswith(b"HTTP/1.1 200 OK\r\n") for reply in replies)
        assert served_ones == len(others) - len(refused)
        assert served_ones >= serving.MAX_CONNECTIONS
        assert httpx.get(f"{address}/v1/tables", timeout=60).status_code == 200


def test_a_large_head_is_refused_with_a_reason(first_run: FirstRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(first_run, monkeypatch) as address:
        found = httpx.get(f"{address}/v1/tables", headers={"X-Large": "x" * 20_000}, timeout=60)
        assert (found.status_code, found.headers["connection"]) == (431, "close")
        assert "16,384 bytes" in found.text
        assert httpx.get(f"{address}/v1/tables", headers={"X-Large": "x" * 10_000}, timeout=60).status_code == 200


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


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_the_command_serves_until_a_signal_and_its_code_says_which(
    first_run: FirstRun, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Every signal was once reported as Ctrl-C: the web server's event loop had the file descriptor of signals."""
    environment = {**os.environ, "OTC_DATABASE_URL": first_run.reader_url, "OTC_HOME": str(tmp_path)}
    command = [str(Path(sys.executable).with_name("otc-assets")), "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, line + process.stderr.read()
        assert httpx.get(f"{found[0]}/health", timeout=60).json() == {"status": "ok"}
        process.send_signal(number)
        assert process.wait(60) == code
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
