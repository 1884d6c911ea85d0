"""One exchange with the Query API: its rate, compression, size and deadline."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from query_replies import A_ROW, HEADER_LINE
from raw_http import head, raw_server

from otc_assets.domain.weeks import T1
from otc_assets.finra import deadline, query_api
from otc_assets.finra.exchange import Deadlines, RequestBudget
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.source import SourceError

WEEK = dt.date(2026, 8, 21)


def test_the_budget_lets_a_burst_through_and_then_keeps_the_rate() -> None:
    """By hand: 60 a minute is one a second, with a burst of two."""
    now, waited = [100.0], []

    def sleep(seconds: float) -> None:
        waited.append(round(seconds, 3))
        now[0] += seconds

    budget = RequestBudget(60, clock=lambda: now[0])
    for _ in range(5):
        budget.wait(sleep)
    assert sum(waited) == pytest.approx(4, abs=2)
    now[0] += 3600
    waited.clear()
    for _ in range(12):
        budget.wait(sleep)
    assert sum(waited) == pytest.approx(12 - 2 - 1, abs=1)


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("gzip", b"not packed at all", "can't be decompressed as gzip"),
        ("gzip", gzip.compress(b"x" * 5_000, mtime=0)[:-20], "ends within its gzip data"),
        ("br", b"whatever", "compressed as 'br', which was not requested"),
    ],
)
def test_a_reply_that_is_not_compressed_as_stated_is_a_source_error(encoding: str, body: bytes, said: str) -> None:
    """An invalid gzip was a zlib.error."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head(Content_Encoding=encoding, Content_Length=str(len(body)), Record_Total="1") + body)

    with raw_server(answer) as url, pytest.raises(SourceError, match=said):
        QueryApi(url, requests_per_minute=60_000).fetch(WEEK, T1)


def test_a_compressed_reply_is_decompressed() -> None:
    body = gzip.compress(f"{HEADER_LINE}\n{A_ROW}\n".encode())

    def answer(connection: socket.socket) -> None:
        connection.sendall(head(Content_Encoding="gzip", Content_Length=str(len(body)), Record_Total="1") + body)

    with raw_server(answer) as url:
        (capture,) = QueryApi(url, requests_per_minute=60_000).fetch(WEEK, T1)
    assert capture.content.read() == f"{HEADER_LINE}\n{A_ROW}\n".encode()


def test_no_data_may_say_that_it_is_compressed() -> None:
    """A proxy adds the header to every reply; a week without rows failed after all tries."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head("204 No Content", Content_Encoding="gzip"))

    with raw_server(answer) as url:
        assert QueryApi(url, requests_per_minute=60_000).fetch(WEEK, T1) == []


@pytest.mark.slow
@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "compressed"])
def test_a_reply_of_600_megabytes_is_refused_without_being_kept_in_memory(is_compressed: bool) -> None:
    """300 MB took 1.9 GB of memory, and so did 0.6 MB of compressed data."""
    packer = zlib.compressobj(wbits=31)
    piece = b"x" * (1 << 20)
    bomb = b"".join([packer.compress(piece) for _ in range(600)]) + packer.flush()

    def answer(connection: socket.socket) -> None:
        if is_compressed:
            connection.sendall(head(Content_Encoding="gzip", Record_Total="1", Connection="close") + bomb)
            return
        connection.sendall(head(Record_Total="1", Connection="close"))
        for _ in range(600):
            connection.sendall(piece)

    asking = (
        "import datetime as dt, resource, sys\n"
        "from otc_assets.domain.weeks import T1\n"
        "from otc_assets.finra.query_api import QueryApi\n"
        "from otc_assets.finra.source import RefusedReply\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    QueryApi(sys.argv[1]).fetch(dt.date(2026, 8, 21), T1)\n"
        "except RefusedReply as error:\n"
        "    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)\n"
    )
    with raw_server(answer) as url:
        ran = subprocess.run([sys.executable, "-c", asking, url], capture_output=True, text=True, check=True)
    grown, _, said = ran.stdout.partition(" ")
    assert int(grown) < 150
    assert "the reply is larger than 32 MiB" in said


def test_a_server_that_drips_a_byte_at_a_time_has_a_deadline() -> None:
    """Each byte was in time, but the reply never ended."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head(Content_Length="1000000", Record_Total="1"))
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    since = time.monotonic()
    with raw_server(answer) as url:
        api = QueryApi(url, requests_per_minute=60_000, deadlines=Deadlines(reply=0.3, tries=0.5))
        with pytest.raises(SourceError, match=r"bytes came in 0.3 seconds, and the rest is not waited for"):
            api.fetch(WEEK, T1)
    assert time.monotonic() - since < 5


def drip_after(text: bytes) -> Callable[[socket.socket], None]:
    """A server that sends ``text`` at once, and then one byte at a time, without end."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(text)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return answer


def continue_without_end(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


HEADERS_WITHOUT_END = {
    "status line": drip_after(b"HTTP/1.1 200 "),
    "header": drip_after(b"HTTP/1.1 200 OK\r\nX-Name: "),
    "interim replies": continue_without_end,
}


@pytest.mark.parametrize("answer", HEADERS_WITHOUT_END.values(), ids=HEADERS_WITHOUT_END.keys())
def test_headers_that_never_end_have_a_deadline(answer: Callable[[socket.socket], None]) -> None:
    """Each byte was in time, and the request lasted as long as the server sent them."""
    since = time.monotonic()
    with raw_server(answer) as url:
        api = QueryApi(url, requests_per_minute=60_000, deadlines=Deadlines(reply=0.3, tries=0.5))
        with pytest.raises(SourceError, match=r"weeklySummary: 0 bytes came in 0.3 seconds, and the rest is not"):
            api.state(WEEK, T1)
    assert time.monotonic() - since < 5


def test_a_token_whose_headers_never_end_has_a_deadline() -> None:
    since = time.monotonic()
    with raw_server(HEADERS_WITHOUT_END["header"]) as url:
        api = QueryApi(
            url,
            client_id="me",
            client_secret=SecretStr("hunter2"),
            token_url=f"{url}/token",
            requests_per_minute=60_000,
            deadlines=Deadlines(reply=0.3, tries=0.5),
        )
        with pytest.raises(SourceError, match=r"/token.*: 0 bytes came in 0.3 seconds") as caught:
            api.state(WEEK, T1)
    assert time.monotonic() - since < 5
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_headers_that_never_end_have_a_deadline_through_a_proxy(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    since = time.monotonic()
    with raw_server(HEADERS_WITHOUT_END["header"]) as url:
        monkeypatch.setenv(f"{scheme}_proxy", url)
        api = QueryApi(f"{scheme}://api.test", requests_per_minute=60_000, deadlines=Deadlines(reply=0.3, tries=0.5))
        with pytest.raises(SourceError, match=r"0 bytes came in 0.3 seconds"):
            api.state(WEEK, T1)
    assert time.monotonic() - since < 5


def test_a_tls_handshake_that_never_ends_has_a_deadline() -> None:
    """After the header of a handshake record of 16 KB its bytes are sent one by one."""
    since = time.monotonic()
    with raw_server(drip_after(b"\x16\x03\x03\x40\x00")) as url:
        api = QueryApi(
            url.replace("http:", "https:"),
            requests_per_minute=60_000,
            deadlines=Deadlines(reply=0.3, tries=0.5),
        )
        with pytest.raises(SourceError, match=r"0 bytes came in 0.3 seconds"):
            api.state(WEEK, T1)
    assert time.monotonic() - since < 5


def test_all_addresses_of_a_host_are_tried_within_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address had the whole time-out of a connection."""
    tried: list[str] = []
    now = 0.0

    def connect(address: tuple[str, int], timeout: float, source_address: object) -> socket.socket:
        nonlocal now
        tried.append(address[0])
        now += min(timeout, 0.1875)
        raise TimeoutError("timed out")

    addresses = [f"192.0.2.{number}" for number in range(1, 51)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **more: found)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now))
    api = QueryApi("http://api.test", requests_per_minute=60_000, deadlines=Deadlines(reply=0.5, tries=0))
    with pytest.raises(SourceError, match=r"0 bytes came in 0.5 seconds"):
        api.state(WEEK, T1)
    assert tried == addresses[:3]


def test_a_server_that_stalls_is_an_error_within_the_time_for_all_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six attempts took a minute each. Between attempts, the clock goes on by the time of one, as busy as it may be."""
    clock = itertools.count(step=0.2)
    monkeypatch.setattr(query_api, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def answer(connection: socket.socket) -> None:
        time.sleep(20)

    since = time.monotonic()
    with raw_server(answer) as url:
        api = QueryApi(url, requests_per_minute=60_000, deadlines=Deadlines(silence=0.2, tries=0.5))
        with pytest.raises(SourceError, match=r"no answer after 3 tries \(ReadTimeout"):
            api.state(WEEK, T1)
    assert time.monotonic() - since < 5
