"""The Query API's client, against its traps: simulated, recorded, and made by hand."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import logging
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import polars as pl
import pytest
from pydantic import SecretStr
from raw_http import head, raw_server

from otc_assets.domain.parsing import parse
from otc_assets.domain.weeks import OTCE, T1, T2
from otc_assets.finra.exchange import Deadlines, RequestBudget
from otc_assets.finra.query_api import FIELDS, KEY, QueryApi
from otc_assets.finra.replies import retry_after
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app, serve
from otc_assets.finra.simulator.traps import NO_TRAPS, Traps
from otc_assets.finra.source import FULL, PermanentSourceError, PublicationState, RefusedReply, SourceError

WEEK = dt.date(2026, 8, 21)
TODAY = dt.date(2026, 10, 14)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    """A FINRA of about 7,000 rows a week: several pages."""
    return Simulator(scale=0.1)


def client(simulator: Simulator, traps: Traps = NO_TRAPS) -> QueryApi:
    app = make_app(simulator, clock=lambda: TODAY, traps=traps)
    return QueryApi("http://simulated", transport=httpx.WSGITransport(app=app), requests_per_minute=60_000)


def answering(handler: Callable[[httpx.Request], httpx.Response], **more: object) -> QueryApi:
    transport = httpx.MockTransport(handler)
    return QueryApi("http://api", transport=transport, requests_per_minute=60_000, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "traps",
    [
        NO_TRAPS,
        Traps(too_many_requests=3),
        Traps(server_errors=3),
        Traps(truncated=3),
        Traps(short_pages=700),
        Traps(too_many_requests=7, server_errors=5, truncated=4, short_pages=1_900),
    ],
    ids=lambda traps: ",".join(k for k, v in vars(traps).items() if v and k != "retry_after") or "none",
)
def test_whatever_goes_wrong_on_the_way_the_publication_arrives_whole(simulator: Simulator, traps: Traps) -> None:
    """A short page was once taken for the last one, and a cut one for a whole one."""
    (capture,) = client(simulator, traps).fetch(WEEK, T2)
    wanted = simulator.publication(WEEK, T2, TODAY)
    assert wanted is not None
    assert (capture.scope, capture.rows_expected) == (FULL, wanted.height)
    got = parse(capture.content, name="reply").records
    assert got.height == wanted.height
    ours = got.select("summary_type", "symbol", "mpid", "firm_crd", "shares", "trades", "notional").sort(pl.all())
    theirs = wanted.select(
        "summaryTypeCode",
        "issueSymbolIdentifier",
        "MPID",
        "firmCRDNumber",
        "totalWeeklyShareQuantity",
        "totalWeeklyTradeCount",
        "totalNotionalSum",
    ).sort(pl.all())
    assert ours.rows() == theirs.rows()


def test_the_same_publication_gives_the_same_bytes(simulator: Simulator) -> None:
    """Without a sort the order moves, every fetch has a digest of its own, and everything looks revised."""
    first = client(simulator).fetch(WEEK, OTCE)[0].content
    again = client(simulator, Traps(short_pages=111)).fetch(WEEK, OTCE)[0].content
    assert first == again


def test_a_total_that_keeps_moving_is_an_error_and_one_that_settles_is_not(simulator: Simulator) -> None:
    with pytest.raises(SourceError, match="changed while they were read"):
        client(simulator, Traps(moving_total=2, short_pages=2_000)).fetch(WEEK, T2)
    (capture,) = client(simulator, Traps(moving_total=6, short_pages=5_000)).fetch(WEEK, T2)
    assert parse(capture.content, name="x").received == capture.rows_expected


@pytest.mark.parametrize("as_list", [False, True])
def test_no_data_is_no_capture_and_no_state(simulator: Simulator, as_list: bool) -> None:
    """204 with nothing, or, as in 2021, 200 with an empty list."""
    api = client(simulator, Traps(empty_as_list=as_list))
    unpublished = dt.date(2026, 10, 9)
    assert api.fetch(unpublished, T1) == []
    assert api.state(unpublished, T1) is None


def test_the_state_is_told_by_one_small_question(simulator: Simulator) -> None:
    publication = simulator.publication(WEEK, T1, TODAY)
    assert publication is not None
    newest = publication["lastUpdateDate"].max()
    assert client(simulator).state(WEEK, T1) == PublicationState(publication.height, newest)  # type: ignore[arg-type]


def test_offered_are_the_listed_weeks_of_the_three_tiers_by_their_friday(simulator: Simulator) -> None:
    """The double weeks stand in the list under NMS, too."""
    offered = client(simulator).offered()
    assert {tier.id for tier, _ in offered} == {"T1", "T2", "OTCE"}
    assert (T1, dt.date(2026, 9, 25)) in offered
    assert (T1, dt.date(2026, 10, 2)) not in offered
    assert (T2, dt.date(2026, 9, 18)) not in offered
    assert all(week.weekday() == 4 for _, week in offered)


def test_it_works_over_a_socket_too(simulator: Simulator) -> None:
    with serve(make_app(simulator, clock=lambda: TODAY)) as url:
        api = QueryApi(url, requests_per_minute=60_000)
        assert len(api.fetch(WEEK, OTCE)) == 1
        api.close()


def test_rows_are_asked_for_by_post_with_both_filters_and_the_unique_key_as_order() -> None:
    """GET filters are ignored in silence: a public data set of 261 identical weeks came of it."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    answering(handler).fetch(WEEK, OTCE)
    (request,) = seen
    query = json.loads(request.content)
    assert request.method == "POST"
    assert {(f["fieldName"], f["fieldValue"], f["compareType"]) for f in query["compareFilters"]} == {
        ("weekStartDate", "2026-08-17", "EQUAL"),
        ("tierIdentifier", "OTCE", "EQUAL"),
    }
    assert query["sortFields"] == list(KEY)
    assert query["fields"] == list(FIELDS)
    assert (query["limit"], query["offset"], query["delimiter"], query["quoteValues"]) == (5000, 0, "|", False)
    assert request.headers["Accept"] == "text/plain"


def test_progress_is_told_page_by_page(simulator: Simulator) -> None:
    told: list[tuple[int, int]] = []
    (capture,) = client(simulator, Traps(short_pages=4_000)).fetch(WEEK, T2, lambda done, of: told.append((done, of)))
    total = capture.rows_expected
    assert told == [(min(n * 4_000, total or 0), total) for n in range(1, len(told) + 1)]
    assert told[-1][0] == total


def test_retry_after_is_honoured_in_seconds_and_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = httpx.Response(429, headers={"Retry-After": "17"})
    assert retry_after(reply) == 17
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    dated = httpx.Response(429, headers={"Retry-After": later.strftime("%a, %d %b %Y %H:%M:%S GMT")})
    assert 80 < (retry_after(dated) or 0) <= 90
    assert retry_after(httpx.Response(429, headers={"Retry-After": "soon"})) is None
    assert retry_after(httpx.Response(429)) is None


def test_tries_end_and_the_error_says_what_was_asked_and_what_came() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(504)

    with pytest.raises(SourceError, match=r"weeklySummary.*504"):
        answering(handler).fetch(WEEK, T1)
    assert len(asked) == 6


def test_a_time_out_is_tried_again_and_then_an_error() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(SourceError, match="no answer after 6 tries"):
        answering(handler).state(WEEK, T1)
    assert len(asked) == 6


def test_a_refused_request_is_permanent_and_quotes_finra() -> None:
    api = answering(lambda request: httpx.Response(400, text='{"message": "sortFields need filters"}'))
    with pytest.raises(PermanentSourceError, match="sortFields need filters"):
        api.fetch(WEEK, T1)


def test_a_network_that_must_say_who_asks_is_told_which_variables_to_set() -> None:
    api = answering(lambda request: httpx.Response(401))
    with pytest.raises(PermanentSourceError, match=r"OTC_FINRA_CLIENT_ID and OTC_FINRA_CLIENT_SECRET"):
        api.state(WEEK, T1)


def test_a_page_of_html_is_no_data() -> None:
    api = answering(lambda request: httpx.Response(200, text="<html>maintenance</html>"))
    with pytest.raises(SourceError, match="HTML.*maintenance"):
        api.fetch(WEEK, T1)


def test_a_reply_without_a_total_is_refused_because_nothing_tells_that_it_is_whole() -> None:
    api = answering(lambda request: httpx.Response(200, text="weekStartDate\n2026-08-17\n"))
    with pytest.raises(SourceError, match="Record-Total"):
        api.fetch(WEEK, T1)


def test_a_token_is_fetched_once_renewed_when_refused_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """FINRA sends `expires_in` as text."""
    tokens = iter(["first", "second"])
    used: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if "access_token" in str(request.url):
            return httpx.Response(200, json={"access_token": next(tokens), "expires_in": "1800"})
        used.append(request.headers["Authorization"])
        if used[-1] == "Bearer first" and len(used) > 2:
            return httpx.Response(401)
        return httpx.Response(204)

    caplog.set_level(logging.DEBUG)
    api = answering(handler, client_id="me", client_secret=SecretStr("hunter2"))
    for _ in range(3):
        assert api.state(WEEK, T1) is None
    assert used == ["Bearer first", "Bearer first", "Bearer first", "Bearer second"]
    assert "hunter2" not in caplog.text + repr(vars(api))


def test_wrong_credentials_are_permanent_and_do_not_show_the_secret() -> None:
    api = answering(lambda request: httpx.Response(401), client_id="me", client_secret=SecretStr("hunter2"))
    with pytest.raises(PermanentSourceError, match="refused the credentials") as caught:
        api.state(WEEK, T1)
    assert "hunter2" not in str(caught.value)


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


@pytest.mark.parametrize("name", ["darkpool_otc_2022-03-29", "getATSdata_2021-12-21", "getTickerFINRAdata_2022-03-29"])
def test_recorded_replies_have_the_headers_and_shapes_that_the_client_relies_on(finra_data: Path, name: str) -> None:
    """FINRA can't be reached from a test: its recorded replies hold the simulator to the truth."""
    pairs = json.loads((finra_data / "api" / "recorded" / f"{name}.json").read_text())
    for pair in pairs:
        headers, body = pair["response"]["headers"], json.loads(pair["response"]["body"] or "[]")
        assert pair["request"]["method"] == "POST"
        if not body:
            continue
        assert int(headers["Record-Max-Limit"]) == 5000
        assert int(headers["Record-Total"]) >= int(headers["Total-Records-On-Page"])
        assert int(headers["Record-Limit"]) <= 5000
        if "totalWeeklyShareQuantity" in body[0]:
            reply = httpx.Response(
                200, headers={"Record-Total": headers["Record-Total"]}, text=pair["response"]["body"]
            )
            api = answering(lambda request, reply=reply: reply)
            state = api.state(WEEK, T1)
            assert state is not None
            assert state.rows == int(headers["Record-Total"])


HEADER_LINE = "|".join(FIELDS)


def page(*rows: str, total: int | None = None, **headers: str) -> httpx.Response:
    text = "\n".join([HEADER_LINE, *rows, ""])
    return httpx.Response(
        200, text=text, headers={"Record-Total": str(len(rows) if total is None else total), **headers}
    )


A_ROW = "2026-08-17||T1|NMS Tier 1|ABC|Abc|PPEX||POOL|5|1|||ATS_W_SMBL_FIRM|2026-09-08|2026-09-08|"


# --- what is no data, and what is not ------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(301),
        httpx.Response(302, headers={"Location": "https://u:p@login.example/x?secret=1"}),
        httpx.Response(200),
        httpx.Response(200, text="  \n"),
        httpx.Response(206),
        httpx.Response(206, text="[]"),
        httpx.Response(202, text="[]"),
        httpx.Response(200, text="[]", headers={"Record-Total": "5"}),
        httpx.Response(204, text="x"),
        httpx.Response(200, text="null"),
        httpx.Response(200, text="{}"),
        httpx.Response(200, text="<html>maintenance</html>"),
        httpx.Response(200, text=HEADER_LINE, headers={"Record-Total": "0"}),
    ],
    ids=lambda reply: f"{reply.status_code} {reply.text[:20]!r} of {reply.headers.get('Record-Total')}",
)
def test_a_reply_without_rows_is_an_error_unless_it_is_finras_for_no_data(reply: httpx.Response) -> None:
    """An empty reply of a proxy, or a redirect, passed for a week without data."""
    api = answering(lambda request: httpx.Response(reply.status_code, headers=reply.headers, text=reply.text))
    for ask in (api.fetch, api.state):
        with pytest.raises(SourceError) as caught:
            ask(WEEK, T1)
        assert "http://api/data/group/otcMarket/name/weeklySummary" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(204),
        httpx.Response(200, text="[]"),
        httpx.Response(200, text="[]\n"),
        httpx.Response(200, text="[]", headers={"Record-Total": "0"}),
    ],
)
def test_finras_own_replies_for_no_data_are_no_data(reply: httpx.Response) -> None:
    api = answering(lambda request: reply)
    assert api.fetch(WEEK, T1) == []
    assert api.state(WEEK, T1) is None


def test_a_redirect_is_not_followed_and_says_where_it_leads() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"Location": "https://login.example/sign-in?next=1"})

    with pytest.raises(SourceError, match=r"302, a redirect to https://login.example/sign-in\. .*check OTC_FINRA_URL"):
        answering(handler).fetch(WEEK, T1)
    assert len(asked) == 1


@pytest.mark.parametrize("header", ["Total-Records-On-Page", "Record-Total"])
@pytest.mark.parametrize("stated", ["abc", "-1", "1e3", "1_0", "", "\u0661"])
def test_a_header_that_is_no_number_of_rows_is_an_error_that_names_it(header: str, stated: str) -> None:
    """It was a ValueError of int()."""
    headers = {"Record-Total": "1", header: stated.encode()}
    api = answering(lambda request: httpx.Response(200, text=f"{HEADER_LINE}\n{A_ROW}\n", headers=headers))  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=f"{header} is .*, not a number of rows"):
        api.fetch(WEEK, T1)


@pytest.mark.parametrize("zone", ["-0000", "+0000", "GMT"])
def test_retry_after_may_be_a_date_of_any_way_to_write_utc(zone: str) -> None:
    """A zone of -0000 is a date without a zone to Python: subtracting it was a TypeError."""
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    reply = httpx.Response(429, headers={"Retry-After": later.strftime(f"%a, %d %b %Y %H:%M:%S {zone}")})
    assert 80 < (retry_after(reply) or 0) <= 90


def test_a_reply_that_lacks_a_field_that_was_asked_for_is_an_error_that_names_it() -> None:
    """A renamed MPID column would have passed for a publication without ATSs."""
    renamed = httpx.Response(
        200, text=f"{HEADER_LINE}\n{A_ROW}\n".replace("MPID", "marketParticipantId"), headers={"Record-Total": "1"}
    )
    with pytest.raises(SourceError, match="unexpected response format: the reply lacks MPID, which"):
        answering(lambda request: renamed).fetch(WEEK, T1)


def test_a_connection_failure_says_what_to_do_and_hides_no_cause_behind_it() -> None:
    """The cause below it, `httpcore.ConnectError` without words, was shown in its place."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    api = QueryApi(f"http://me:hunter2@127.0.0.1:{port}", requests_per_minute=60_000)
    with pytest.raises(SourceError, match=r"no answer after 6 tries \(ConnectError: .*Check the network") as caught:
        api.fetch(WEEK, T1)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "hunter2" not in str(caught.value)


# --- what is packed, large, slow or endless ------------------------------------------------------------


def packed(text: bytes) -> bytes:
    return gzip.compress(text)


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("gzip", b"not packed at all", "can't be decompressed as gzip"),
        ("gzip", packed(b"x" * 5_000)[:-20], "ends within its gzip data"),
        ("br", b"whatever", "compressed as 'br', which was not requested"),
    ],
)
def test_a_reply_that_is_not_packed_as_it_says_is_an_error_of_ours(encoding: str, body: bytes, said: str) -> None:
    """A false gzip was a bare zlib.error."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head(Content_Encoding=encoding, Content_Length=str(len(body)), Record_Total="1") + body)

    with raw_server(answer) as url, pytest.raises(SourceError, match=said):
        QueryApi(url, requests_per_minute=60_000).fetch(WEEK, T1)


def test_a_packed_reply_is_unpacked() -> None:
    body = packed(f"{HEADER_LINE}\n{A_ROW}\n".encode())

    def answer(connection: socket.socket) -> None:
        connection.sendall(head(Content_Encoding="gzip", Content_Length=str(len(body)), Record_Total="1") + body)

    with raw_server(answer) as url:
        (capture,) = QueryApi(url, requests_per_minute=60_000).fetch(WEEK, T1)
    assert capture.content == f"{HEADER_LINE}\n{A_ROW}\n".encode()


@pytest.mark.slow
@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_a_reply_of_600_megabytes_is_refused_without_being_held(is_packed: bool) -> None:
    """300 MB took 1.9 GB, and 0.6 MB packed the same."""
    packer = zlib.compressobj(wbits=31)
    piece = b"x" * (1 << 20)
    bomb = b"".join([packer.compress(piece) for _ in range(600)]) + packer.flush()

    def answer(connection: socket.socket) -> None:
        if is_packed:
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


def test_a_record_total_that_no_publication_has_is_refused_at_the_first_page() -> None:
    """10^9 rows were read on for ever."""
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return page(A_ROW, total=10**9)

    with pytest.raises(RefusedReply, match="1,000,000,000 rows by Record-Total"):
        answering(handler).fetch(WEEK, T1)
    assert len(asked) == 1


def test_pages_of_one_row_are_not_read_without_end() -> None:
    with pytest.raises(RefusedReply, match="2,001 of them in 2,001 pages"):
        answering(lambda request: page(A_ROW, total=500_000)).fetch(WEEK, T1)


def test_a_publication_that_comes_too_slowly_is_given_up_and_says_how_much_came() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        time.sleep(0.05)
        return page(A_ROW, total=1_000)

    since = time.monotonic()
    api = answering(handler, deadlines=Deadlines(publication=0.3))
    with pytest.raises(SourceError, match=r"[1-9] of 1,000 rows came in 0 seconds.*try again later"):
        api.fetch(WEEK, T1)
    assert time.monotonic() - since < 5


def test_a_server_that_drips_a_byte_at_a_time_has_a_deadline() -> None:
    """Every byte was in time, and the whole never came."""

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
    """A server that answers ``text`` at once, and then one more byte of a header from time to time, without end."""

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
    """Every byte was in time, and the request lasted as long as the server sent them."""
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
    """After the header of a handshake record of 16 KB its bytes come one by one."""
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
    """Each address had the time-out of a connection to itself."""
    tried: list[str] = []

    def connect(address: tuple[str, int], timeout: float, source_address: object) -> socket.socket:
        tried.append(address[0])
        time.sleep(min(timeout, 0.2))
        raise TimeoutError("timed out")

    addresses = [f"192.0.2.{number}" for number in range(1, 51)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **more: found)
    monkeypatch.setattr(socket, "create_connection", connect)
    api = QueryApi("http://api.test", requests_per_minute=60_000, deadlines=Deadlines(reply=0.5, tries=0.1))
    with pytest.raises(SourceError, match=r"0 bytes came in 0.5 seconds"):
        api.state(WEEK, T1)
    assert tried == addresses[:3]


def test_a_server_that_stalls_is_given_up_within_the_time_for_all_tries() -> None:
    """Six tries of a minute each were waited for."""

    def answer(connection: socket.socket) -> None:
        time.sleep(20)

    since = time.monotonic()
    with raw_server(answer) as url:
        api = QueryApi(url, requests_per_minute=60_000, deadlines=Deadlines(silence=0.2, tries=0.5))
        with pytest.raises(SourceError, match=r"no answer after 3 tries \(ReadTimeout"):
            api.state(WEEK, T1)
    assert time.monotonic() - since < 5
