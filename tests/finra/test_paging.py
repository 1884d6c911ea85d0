"""Pages of a publication that are requested at the same time: nothing is missing, twice or out of order."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from wsgiref.types import StartResponse, WSGIEnvironment

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from query_replies import A_ROW, HEADER_LINE, answering

from otc_assets.domain.weeks import T2
from otc_assets.finra.exchange import Deadlines, RequestBudget
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator.server import serve
from otc_assets.finra.source import Capture, PermanentSourceError, SourceError
from otc_assets.settings import PROJECT_ROOT

WEEK = dt.date(2026, 8, 21)
PAGE = 5_000


def row(number: int, version: str = "Abc") -> str:
    return A_ROW.replace("|ABC|Abc|", f"|S{number:06}|{version}|")


def whole(rows: int, version: str = "Abc") -> bytes:
    """The publication as one text, by hand."""
    return "".join(f"{line}\n" for line in [HEADER_LINE, *(row(n, version) for n in range(rows))]).encode()


def assert_whole(capture: Capture, rows: int, version: str = "Abc") -> None:
    """By size and digest: a difference of megabytes would take minutes to show."""
    wanted = whole(rows, version)
    assert (capture.rows_expected, capture.content.size) == (rows, len(wanted))
    assert capture.content.digest == hashlib.sha256(wanted).hexdigest()
    assert hashlib.sha256(capture.content.read()).hexdigest() == capture.content.digest


def asked(request: httpx.Request) -> tuple[int, int]:
    """The first row and the number of rows that a request wants."""
    query = json.loads(request.content)
    return query["offset"], query["limit"]


def reply(first: int, last: int, total: int, version: str = "Abc") -> httpx.Response:
    lines = [HEADER_LINE, *(row(n, version) for n in range(first, min(last, total)))]
    return httpx.Response(200, text="\n".join([*lines, ""]), headers={"Record-Total": str(total)})


def page_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("finra-page")]


# --- ranges and short pages ----------------------------------------------------------------------------


def test_as_many_pages_as_set_are_requested_at_the_same_time_and_no_more() -> None:
    """Each waits until three others are there: with fewer at a time, nobody would ever answer."""
    together, lock = threading.Barrier(4, timeout=60), threading.Lock()
    now, most = 0, 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        first, limit = asked(request)
        with lock:
            now += 1
            most = max(most, now)
        if first:
            time.sleep(0.05)  # for one that is too many
            together.wait()
        with lock:
            now -= 1
        return reply(first, first + limit, 9 * PAGE)

    (capture,) = answering(handler, pages_in_flight=4).fetch(WEEK, T2)
    assert_whole(capture, 9 * PAGE)
    assert most == 4


@settings(max_examples=40)
@given(
    total=st.integers(1, 3_000),
    lengths=st.lists(st.integers(60, 900), min_size=1, max_size=12),
    in_flight=st.integers(1, 5),
)
def test_the_bytes_are_those_of_the_publication_wherever_pages_end(
    total: int, lengths: list[int], in_flight: int
) -> None:
    """A short page was once treated as the last one; with ranges, it could leave a gap or come twice."""

    def handler(request: httpx.Request) -> httpx.Response:
        first, limit = asked(request)
        return reply(first, first + min(limit, lengths[first % len(lengths)]), total)

    (capture,) = answering(handler, pages_in_flight=in_flight).fetch(WEEK, T2)
    assert_whole(capture, total)


def test_one_very_short_first_page_does_not_make_the_others_as_short() -> None:
    requests = []

    def handler(request: httpx.Request) -> httpx.Response:
        first, limit = asked(request)
        requests.append((first, limit))
        return reply(first, 1 if first == 0 else first + limit, 2_001)

    (capture,) = answering(handler).fetch(WEEK, T2)
    assert_whole(capture, 2_001)
    assert sorted(requests) == [(0, 5_000), (1, 500), (501, 500), (1_001, 500), (1_501, 500)]


# --- changes and failures in the middle ----------------------------------------------------------------


def test_a_total_that_changes_in_the_middle_starts_over_and_mixes_nothing() -> None:
    """Half of one state and half of another would pass as a publication."""
    count, lock = 0, threading.Lock()

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal count
        first, limit = asked(request)
        with lock:
            count += 1
            state = (6 * PAGE, "old") if count <= 3 else (6 * PAGE + 1, "new")
        return reply(first, first + limit, *state)

    (capture,) = answering(handler, pages_in_flight=3).fetch(WEEK, T2)
    assert_whole(capture, 6 * PAGE + 1, "new")


class Repeating:
    """A proxy that gives the rows of another page for the one that begins at ``at``, so many times."""

    def __init__(self, at: int, instead: int, total: int) -> None:
        self._at, self._instead, self._total = at, instead, total
        self.times = 1

    def __call__(self, request: httpx.Request) -> httpx.Response:
        first, limit = asked(request)
        if first == self._at and self.times:
            self.times -= 1
            first = self._instead
        return reply(first, first + limit, self._total)


def test_a_reply_that_a_proxy_repeats_for_another_page_starts_over_and_is_an_error_if_it_stays() -> None:
    proxy = Repeating(3 * PAGE, 2 * PAGE, 5 * PAGE)
    (capture,) = answering(proxy, pages_in_flight=3).fetch(WEEK, T2)
    assert_whole(capture, 5 * PAGE)
    assert proxy.times == 0
    proxy.times = 1_000
    with pytest.raises(SourceError, match="changed while they were read, 5 times in a row"):
        answering(proxy, pages_in_flight=3).fetch(WEEK, T2)


def test_the_first_rows_in_place_of_the_last_ones_start_over() -> None:
    """The last page is shorter than the first, so the pages differ; their first rows do not."""
    proxy = Repeating(2 * PAGE, 0, 2 * PAGE + 700)
    (capture,) = answering(proxy, pages_in_flight=3).fetch(WEEK, T2)
    assert_whole(capture, 2 * PAGE + 700)
    assert proxy.times == 0


def test_more_rows_than_requested_are_never_taken() -> None:
    """They would be rows of the next range, and come twice."""
    with pytest.raises(SourceError, match="changed while they were read"):
        answering(lambda request: reply(asked(request)[0], asked(request)[0] + 6_000, 30_000)).fetch(WEEK, T2)


def test_a_page_that_fails_once_is_requested_again_alone() -> None:
    times: Counter[int] = Counter()

    def handler(request: httpx.Request) -> httpx.Response:
        first, limit = asked(request)
        times[first] += 1
        return httpx.Response(504) if (first, times[first]) == (2 * PAGE, 1) else reply(first, first + limit, 5 * PAGE)

    (capture,) = answering(handler, pages_in_flight=4).fetch(WEEK, T2)
    assert_whole(capture, 5 * PAGE)
    assert times == {0: 1, PAGE: 1, 2 * PAGE: 2, 3 * PAGE: 1, 4 * PAGE: 1}


def test_retry_after_holds_all_pages_and_not_only_the_one_that_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pages are under way when the first is refused; the others are answered once the client knows."""
    paused, together = threading.Event(), threading.Barrier(3, timeout=60)
    refused_at: list[float] = []
    sent_at: list[float] = []
    pause = RequestBudget.pause

    def noted(budget: RequestBudget, seconds: float) -> None:
        refused_at.append(time.monotonic())
        pause(budget, seconds)
        paused.set()

    monkeypatch.setattr(RequestBudget, "pause", noted)

    def handler(request: httpx.Request) -> httpx.Response:
        first, limit = asked(request)
        if refused_at:
            sent_at.append(time.monotonic())
        elif first:
            if together.wait() == 0:
                return httpx.Response(429, headers={"Retry-After": "0.5"})
            assert paused.wait(60)
        return reply(first, first + limit, 9 * PAGE)

    (capture,) = answering(handler, pages_in_flight=3).fetch(WEEK, T2)
    assert_whole(capture, 9 * PAGE)
    assert len(sent_at) == 6  # the five that had not been requested, and the one that was refused
    assert min(sent_at) - refused_at[0] >= 0.5


# --- interruptions -------------------------------------------------------------------------------------


@contextmanager
def stalling(total: int, answered: int, refused: int | None = None) -> Iterator[tuple[QueryApi, threading.Semaphore]]:
    """A FINRA that answers pages up to a row, refuses one, and never answers others; a client, and what counts those.

    The client waits for a reply for ten minutes.
    """
    ended, stalled = threading.Event(), threading.Semaphore(0)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        query = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        if query["offset"] == refused:
            assert stalled.acquire(timeout=60)
            start_response("400 Bad Request", [("Content-Length", "0")])
            return []
        if query["offset"] > answered:
            stalled.release()
            ended.wait(600)
        found = reply(query["offset"], query["offset"] + query["limit"], total)
        start_response("200 OK", [("Record-Total", str(total)), ("Content-Length", str(len(found.content)))])
        return [found.content]

    with serve(app) as url:
        api = QueryApi(
            url,
            requests_per_minute=60_000,
            pages_in_flight=3,
            deadlines=Deadlines(silence=600, reply=600, tries=600),
        )
        try:
            yield api, stalled
        finally:
            api.close()
            ended.set()


def interrupted(api: QueryApi, when: Callable[[], object]) -> None:
    """Fetches, and presses Ctrl-C after the second page."""

    def progress(done: int, _: int) -> None:
        if done == 2 * PAGE:
            when()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.fetch(WEEK, T2, progress)


def test_an_error_of_one_page_ends_the_others_and_is_the_error_of_the_publication() -> None:
    """The page before it has no reply yet, and is not waited for."""
    with stalling(9 * PAGE, answered=0, refused=2 * PAGE) as (api, _):
        with pytest.raises(PermanentSourceError, match="refused the request with 400"):
            api.fetch(WEEK, T2)
        assert page_threads() == []


def test_ctrl_c_ends_requests_that_wait_for_a_reply_and_leaves_no_thread() -> None:
    """A thread can't be interrupted: it would wait for FINRA for ten minutes, and the command with it."""
    with stalling(9 * PAGE, answered=PAGE) as (api, stalled):
        interrupted(api, lambda: [stalled.acquire(timeout=60) for _ in range(3)])
        assert page_threads() == []


def test_ctrl_c_ends_requests_that_wait_for_the_budget_and_leaves_no_thread() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        first, limit = asked(request)
        if first == PAGE:
            api._budget.pause(600)
        return reply(first, first + limit, 9 * PAGE)

    api = answering(handler, pages_in_flight=1)
    interrupted(api, lambda: None)
    assert page_threads() == []


# --- memory --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_times_the_rows_do_not_need_more_memory_than_the_pages_in_flight() -> None:
    """Of 40,000 rows and of 400,000, which are 80 MB of text, with archiving: by the largest memory of a process."""

    def grown(rows: int) -> float:
        command = [sys.executable, "-m", "benchmarks.fetching", "--memory-of", str(rows)]
        return float(subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout)

    small, large = grown(40_000), grown(400_000)
    assert large - small < 40
