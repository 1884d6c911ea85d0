"""The metrics' HTTP server: what it answers, and that no number of connections stops it."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from support.sockets import read_to_end

from otc_assets import http_server
from otc_assets.exporter import http
from otc_assets.exporter.http import serve
from otc_assets.exporter.server import Exporter, serving
from otc_assets.http_guard import LOOPBACK_NAMES

pytestmark = pytest.mark.slow

PATIENCE = 300


@contextmanager
def counting(
    gate: threading.Event | None = None, host: str = "127.0.0.1"
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server whose answers are numbered, and the (query, Accept) of each that was made."""
    made: list[tuple[str, str]] = []

    def app(environ: dict[str, str], start: Callable[..., object]) -> Iterable[bytes]:
        made.append((environ["QUERY_STRING"], environ["HTTP_ACCEPT"]))
        if gate is not None:
            gate.wait(PATIENCE)
        start("200 OK", [("Content-Type", "text/plain")])
        return [f"answer {len(made)}\n".encode()]

    with serve(app, host, 0, LOOPBACK_NAMES) as port:
        yield f"http://127.0.0.1:{port}", made


def test_requests_are_answered_one_after_another_on_one_connection() -> None:
    with counting() as (url, made), httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert [client.get("/metrics").text for _ in range(3)] == [f"answer {n}\n" for n in (1, 2, 3)]
        assert client.get("/metrics?name[]=otc_up", headers={"Accept": "a/b"}).text == "answer 4\n"
        assert made[3] == ("name[]=otc_up", "a/b")
        head = client.head("/metrics")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "9")
        assert client.get("/other").status_code == 404
        posted = client.post("/metrics", content=b"x" * 1_000_000)
        assert (posted.status_code, posted.text) == (405, "Metrics are read with GET.\n")
        assert len(made) == 5
        assert client.get("/").text == "answer 6\n"


def test_metrics_under_another_sites_name_are_refused_on_loopback_alone() -> None:
    """DNS rebinding: a page that gives its own name our address could read every metric."""
    with counting() as (url, made):
        refused = httpx.get(f"{url}/metrics", headers={"Host": "evil.example"}, timeout=PATIENCE)
        assert (refused.status_code, "OTC_ALLOWED_HOSTS" in refused.text, made) == (403, True, [])
        port = url.rpartition(":")[2]
        assert httpx.get(f"{url}/metrics", headers={"Host": f"localhost:{port}"}, timeout=PATIENCE).is_success
    with counting(host="0.0.0.0") as (url, _):  # noqa: S104 - every name is accepted there
        assert httpx.get(f"{url}/metrics", headers={"Host": "10.1.2.3:9464"}, timeout=PATIENCE).is_success


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_no_page_of_another_site_may_read_the_metrics(method: str) -> None:
    """A browser gives a page the answer of another site only if the answer has a header that allows it."""
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    with counting() as (url, _):
        for headers in (asking, {**asking, "Origin": "null"}, {**asking, "Origin": url}):
            reply = httpx.request(method, f"{url}/metrics", headers=headers, timeout=PATIENCE)
            assert reply.status_code == (405 if method == "OPTIONS" else 200)
            assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_what_is_not_http_and_a_large_head_are_refused_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the largest heads, the client gets the reason although it has not sent all of it. The log has no warning."""
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 600.0)
    begun = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
    large = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    with counting() as (url, made):
        port = int(url.rpartition(":")[2])
        for sent, status, reason in (
            (b"\x16\x03\x01 not HTTP\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"not a request in HTTP/1.1"),
            (begun + b"x" * 20_000, large, b"may have 16,384 bytes"),
            (begun + b"x" * 20_000 + b"\r\n\r\n", large, b"may have 16,384 bytes"),
            (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", large, b"may have 16,384 bytes"),
            (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000, large, b"may have 16,384 bytes"),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                client.sendall(sent)
                received = read_to_end(client, PATIENCE)
                assert received.startswith(status)
                assert reason in received
                assert b"connection: close\r\n" in received
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            # Two requests in one piece, and a third that arrives in small ones: each head is counted by itself.
            client.sendall((begun + b"x" * 10_000 + b"\r\n\r\n") * 2 + begun)
            for _ in range(100):
                client.sendall(b"x" * 100)
            client.sendall(b"\r\nConnection: close\r\n\r\n")
            assert read_to_end(client, PATIENCE).count(b"HTTP/1.1 200 OK") == 3
        # A request that asks for a WebSocket gets what it would get without.
        asking = {"Connection": "Upgrade", "Upgrade": "websocket"}
        for headers in (asking, {}):
            assert httpx.get(f"{url}/metrics", headers=headers, timeout=PATIENCE).text == f"answer {len(made)}\n"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_connection_that_sends_no_whole_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    with counting() as (url, _):
        port = int(url.rpartition(":")[2])
        for sent in (b"", b"GET /metrics HTTP/1.1\r\nHost:"):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                client.sendall(sent)
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(100) == b""


def test_silent_connections_make_room_before_one_that_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus keeps its connection, and is silent on it most of the time."""
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 10)
    monkeypatch.setattr(http_server, "IDLE_SECONDS", 600.0)
    with counting() as (url, _), contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        get = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
        kept = stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
        kept.sendall(get)
        assert b"answer 1" in kept.recv(1 << 16)
        silent = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(12)]
        assert httpx.get(f"{url}/metrics", timeout=PATIENCE).status_code == 503  # they may still send their requests
        monkeypatch.setattr(http_server, "IDLE_SECONDS", 0.0)
        for _ in range(5):
            assert httpx.get(f"{url}/metrics", timeout=PATIENCE).is_success
        kept.sendall(get)
        assert b"HTTP/1.1 200 OK" in kept.recv(1 << 16)
        answered = 0
        for connection in silent:
            with contextlib.suppress(ConnectionError):
                connection.sendall(get)
                answered += b"HTTP/1.1 200 OK" in connection.recv(1 << 16)
        assert 1 <= answered <= 8  # no more were closed than had to be


def test_a_client_that_reads_nothing_makes_room_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(http_server, "UNREAD_SECONDS", 0.0)

    def large(environ: object, start: Callable[..., object]) -> Iterable[bytes]:
        start("200 OK", [])
        return [b"x" * 8_000_000]

    with serve(large, "127.0.0.1", 0, LOOPBACK_NAMES) as port, contextlib.ExitStack() as stack:
        for _ in range(4):
            deaf = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert deaf.recv(1) == b"H"
        assert len(httpx.get(f"http://127.0.0.1:{port}", timeout=PATIENCE).content) == 8_000_000


def test_500_scrapes_over_connections_of_their_own_are_answered_or_told_to_come_again() -> None:
    """More than are served at a time. None is closed without an answer, and afterwards all is as before."""
    gate = threading.Event()
    with counting(gate) as (url, made), ThreadPoolExecutor(500) as pool:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))

        def scrape() -> bytes:
            with socket.create_connection(address, timeout=PATIENCE) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return read_to_end(connection, PATIENCE)

        answers = [pool.submit(scrape) for _ in range(500)]
        refused = [done.result() for done in itertools.islice(as_completed(answers), 500 - http.MAX_CONNECTIONS)]
        gate.set()
        replies = [answer.result() for answer in answers]
        for reply in refused:
            assert reply.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"retry-after: 1\r\n" in reply
            assert b"\r\n\r\n256 connections are open" in reply
        assert sum(reply.startswith(b"HTTP/1.1 200 OK\r\n") for reply in replies) == http.MAX_CONNECTIONS
        assert len(made) < 10
        assert httpx.get(f"{url}/metrics", timeout=PATIENCE).is_success


def test_200_scrapes_at_once_are_all_answered_from_a_few_scrapes_of_the_database(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 200, 64 once timed out, because every one was rendered by itself, and few could wait."""
    scrapes: list[int] = []
    gate = threading.Event()
    scrape = Exporter._scrape

    def counted(self: Exporter) -> list[object]:
        scrapes.append(1)
        gate.wait(PATIENCE)
        return scrape(self)  # type: ignore[return-value]

    monkeypatch.setattr(Exporter, "_scrape", counted)
    with (
        closing(Exporter(lambda: database)) as exporter,
        serving(exporter, "127.0.0.1", 0) as url,
        ThreadPoolExecutor(200) as pool,
    ):
        answers = [pool.submit(httpx.get, url, timeout=PATIENCE) for _ in range(200)]
        time.sleep(3)  # until most of them wait
        gate.set()
        replies = [answer.result() for answer in answers]
    assert {reply.status_code for reply in replies} == {200}
    assert all("otc_up 1.0" in reply.text for reply in replies)
    assert len(scrapes) < 20


def test_openmetrics_and_compression_are_given_to_those_who_ask(database: str) -> None:
    with closing(Exporter(lambda: database)) as exporter, serving(exporter, "127.0.0.1", 0) as url:
        with httpx.stream("GET", url, headers={"Accept-Encoding": "gzip"}, timeout=PATIENCE) as reply:
            assert b"otc_up 1.0" in gzip.decompress(b"".join(reply.iter_raw()))
        open_metrics = httpx.get(
            url, headers={"Accept": "application/openmetrics-text; version=1.0.0"}, timeout=PATIENCE
        )
        assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
        assert open_metrics.text.endswith("# EOF\n")


@pytest.fixture
def many_files() -> Iterator[None]:
    """Leave to have more than a thousand sockets open in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2_000:
        pytest.skip(f"this account may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_idle_connections_than_a_process_may_have_files_stop_nothing(
    database: str, tmp_path: Path, many_files: None
) -> None:
    """1,020 of them once stopped the exporter, and kept a processor busy with refusing to accept."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))}
    env |= {"OTC_DATABASE_URL": database, "OTC_HOME": str(tmp_path)}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    command = [sys.executable, "-c", "from otc_assets.cli import main; main()", "metrics", "--port", "0"]
    with subprocess.Popen(
        command,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard)),
    ) as served:
        assert served.stderr is not None
        url = served.stderr.readline().split()[1]
        port = int(url.split(":")[2].partition("/")[0])
        with contextlib.ExitStack() as stack:
            for _ in range(1_100):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            time.sleep(http_server.IDLE_SECONDS)  # until then they may be about to send their requests
            for _ in range(3):
                assert "otc_up 1.0" in httpx.get(url, timeout=PATIENCE).text
            assert len(os.listdir(f"/proc/{served.pid}/fd")) < http.MAX_CONNECTIONS + 50
            before = cpu_seconds(served.pid)
            time.sleep(2)
            assert cpu_seconds(served.pid) - before < 0.5
        served.send_signal(signal.SIGTERM)
        assert served.wait(PATIENCE) == 143


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, however busy the machine is."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
