"""The client of the Query API, with simulated, recorded and hand-written replies."""

from __future__ import annotations

import datetime as dt
import json
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import polars as pl
import pytest
from pydantic import SecretStr
from query_replies import A_ROW, HEADER_LINE, answering, page

from otc_assets.domain.datasets import MONTHLY_SUMMARY
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.parsing import parse
from otc_assets.domain.weeks import OTCE, T1, T2
from otc_assets.finra.exchange import Deadlines
from otc_assets.finra.queries import FIELDS, KEY
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.replies import retry_after
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app, serve
from otc_assets.finra.simulator.traps import NO_TRAPS, Traps
from otc_assets.finra.source import PermanentSourceError, PublicationState, RefusedReply, SourceError

WEEK = dt.date(2026, 8, 21)
TODAY = dt.date(2026, 10, 14)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    """A FINRA of about 7,000 rows a week: several pages."""
    return Simulator(scale=0.1)


def client(simulator: Simulator, traps: Traps = NO_TRAPS) -> QueryApi:
    app = make_app(simulator, clock=lambda: TODAY, traps=traps)
    return QueryApi("http://simulated", transport=httpx.WSGITransport(app=app), requests_per_minute=60_000)


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
def test_a_publication_is_complete_after_temporary_failures(simulator: Simulator, traps: Traps) -> None:
    """A short page was once treated as the last one, and a truncated page as complete."""
    (capture,) = client(simulator, traps).fetch(WEEK, T2)
    wanted = simulator.publication(WEEK, T2, TODAY)
    assert wanted is not None
    assert (capture.scope, capture.rows_expected) == (CaptureScope.FULL, wanted.height)
    got = parse(capture.content.read(), name="reply").records
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
    """Without a sort the order changes, every fetch has another digest, and each looks like a revision."""
    first = client(simulator).fetch(WEEK, OTCE)[0].content.read()
    again = client(simulator, Traps(short_pages=111)).fetch(WEEK, OTCE)[0].content.read()
    assert first == again


def test_a_total_that_keeps_changing_is_an_error_and_one_that_stops_is_not(simulator: Simulator) -> None:
    with pytest.raises(SourceError, match="changed while they were read"):
        client(simulator, Traps(moving_total=2, short_pages=2_000)).fetch(WEEK, T2)
    (capture,) = client(simulator, Traps(moving_total=6, short_pages=5_000)).fetch(WEEK, T2)
    assert parse(capture.content.read(), name="x").received == capture.rows_expected


@pytest.mark.parametrize("as_list", [False, True])
def test_no_data_is_no_capture_and_no_state(simulator: Simulator, as_list: bool) -> None:
    """204 with nothing, or, as in 2021, 200 with an empty list."""
    api = client(simulator, Traps(empty_as_list=as_list))
    unpublished = dt.date(2026, 10, 9)
    assert api.fetch(unpublished, T1) == []
    assert api.state(unpublished, T1) is None


def test_the_state_has_the_number_of_rows_and_the_newest_date(simulator: Simulator) -> None:
    publication = simulator.publication(WEEK, T1, TODAY)
    assert publication is not None
    newest = publication["lastUpdateDate"].max()
    assert client(simulator).state(WEEK, T1) == PublicationState(publication.height, newest)  # type: ignore[arg-type]


def test_offered_are_the_listed_weeks_of_the_three_tiers_by_their_friday(simulator: Simulator) -> None:
    """The double weeks are listed under NMS, too."""
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


def test_rows_are_requested_by_post_with_both_filters_and_the_unique_key_as_order() -> None:
    """FINRA ignores filters of GET requests, which gave a public data set of 261 identical weeks."""
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


def test_progress_is_reported_page_by_page(simulator: Simulator) -> None:
    reported: list[tuple[int, int]] = []
    (capture,) = client(simulator, Traps(short_pages=4_000)).fetch(
        WEEK, T2, lambda done, of: reported.append((done, of))
    )
    total = capture.rows_expected
    assert reported == [(min(n * 4_000, total or 0), total) for n in range(1, len(reported) + 1)]
    assert reported[-1][0] == total


def test_retry_after_is_honoured_in_seconds_and_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = httpx.Response(429, headers={"Retry-After": "17"})
    assert retry_after(reply) == 17
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    dated = httpx.Response(429, headers={"Retry-After": later.strftime("%a, %d %b %Y %H:%M:%S GMT")})
    assert 80 < (retry_after(dated) or 0) <= 90
    assert retry_after(httpx.Response(429, headers={"Retry-After": "soon"})) is None
    assert retry_after(httpx.Response(429)) is None
    year = httpx.Response(429, headers={"Retry-After": "Fri, 01 Jan 99999999999999999999 00:00:00 GMT"})
    assert retry_after(year) is None


def test_attempts_end_and_the_error_names_the_request_and_the_reply() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(504)

    with pytest.raises(SourceError, match=r"weeklySummary.*504"):
        answering(handler).fetch(WEEK, T1)
    assert len(asked) == 6


def test_a_request_that_times_out_is_repeated_and_then_an_error() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(SourceError, match="no answer after 6 tries"):
        answering(handler).state(WEEK, T1)
    assert len(asked) == 6


def test_a_reply_that_names_a_codec_that_can_not_read_it_is_quoted_all_the_same() -> None:
    """Python's codecs include some that read no text, and the error of one hid that of the reply."""
    wrong = {"Content-Type": "text/html; charset=hex"}
    api = answering(lambda request: httpx.Response(400, headers=wrong, content=b"no such field"))
    with pytest.raises(PermanentSourceError, match="no such field"):
        api.fetch(WEEK, T1)


def test_a_refused_request_is_permanent_and_quotes_finra() -> None:
    api = answering(lambda request: httpx.Response(400, text='{"message": "sortFields need filters"}'))
    with pytest.raises(PermanentSourceError, match="sortFields need filters"):
        api.fetch(WEEK, T1)


def test_the_error_for_missing_credentials_names_the_variables_to_set() -> None:
    api = answering(lambda request: httpx.Response(401))
    with pytest.raises(PermanentSourceError, match=r"OTC_FINRA_CLIENT_ID and OTC_FINRA_CLIENT_SECRET"):
        api.state(WEEK, T1)


def test_a_page_of_html_is_no_data() -> None:
    api = answering(lambda request: httpx.Response(200, text="<html>maintenance</html>"))
    with pytest.raises(SourceError, match="HTML.*maintenance"):
        api.fetch(WEEK, T1)


def test_a_reply_without_a_total_is_refused_because_it_may_be_incomplete() -> None:
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


@pytest.mark.parametrize(
    "granted",
    [
        '{"access_token": "t\\u00f6ken", "expires_in": "1800"}',
        '{"access_token": "two\\r\\nlines", "expires_in": "1800"}',
        '{"access_token": "", "expires_in": "1800"}',
        '{"access_token": ["token"], "expires_in": "1800"}',
        '{"access_token": "token", "expires_in": 1e999}',
    ],
)
def test_what_is_no_token_is_an_error_of_the_source(granted: str) -> None:
    """Text that no header can have was a UnicodeEncodeError, which the user was shown as a bug."""
    api = answering(lambda request: httpx.Response(200, text=granted), client_id="me", client_secret=SecretStr("x"))
    with pytest.raises(SourceError, match="the reply has no access token"):
        api.state(WEEK, T1)


@pytest.mark.parametrize("name", ["darkpool_otc_2022-03-29", "getATSdata_2021-12-21", "getTickerFINRAdata_2022-03-29"])
def test_recorded_replies_have_the_headers_and_shapes_that_the_client_relies_on(finra_data: Path, name: str) -> None:
    """FINRA can't be reached from a test: the simulator is compared with its recorded replies."""
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
    """An empty reply of a proxy, or a redirect, was treated as a week without data."""
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


def test_a_redirect_is_not_followed_and_the_error_names_its_target() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"Location": "https://login.example/sign-in?next=1"})

    with pytest.raises(SourceError, match=r"302, a redirect to https://login.example/sign-in\. .*check OTC_FINRA_URL"):
        answering(handler).fetch(WEEK, T1)
    assert len(asked) == 1


@pytest.mark.parametrize("header", ["Total-Records-On-Page", "Record-Total"])
@pytest.mark.parametrize("stated", ["abc", "-1", "1e3", "1_0", "", "\u0661", "\x1d1"])
def test_a_header_that_is_not_a_number_of_rows_is_an_error_that_names_it(header: str, stated: str) -> None:
    """It was a ValueError of int()."""
    headers = {"Record-Total": "1", header: stated.encode()}
    api = answering(lambda request: httpx.Response(200, text=f"{HEADER_LINE}\n{A_ROW}\n", headers=headers))  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=f"{header} is .*, not a number of rows"):
        api.fetch(WEEK, T1)


@pytest.mark.parametrize("zone", ["-0000", "+0000", "GMT"])
def test_retry_after_may_be_a_date_with_any_notation_of_utc(zone: str) -> None:
    """A zone of -0000 is a date without a zone to Python: subtracting it was a TypeError."""
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    reply = httpx.Response(429, headers={"Retry-After": later.strftime(f"%a, %d %b %Y %H:%M:%S {zone}")})
    assert 80 < (retry_after(reply) or 0) <= 90


def test_a_reply_that_lacks_a_requested_field_is_an_error_that_names_it() -> None:
    """A renamed MPID column would have been treated as a publication without ATSs."""
    renamed = httpx.Response(
        200, text=f"{HEADER_LINE}\n{A_ROW}\n".replace("MPID", "marketParticipantId"), headers={"Record-Total": "1"}
    )
    with pytest.raises(SourceError, match="unexpected response format: the reply lacks MPID, which"):
        answering(lambda request: renamed).fetch(WEEK, T1)


def test_a_connection_failure_has_a_remedy_and_no_cause_that_hides_it() -> None:
    """Its cause, an `httpcore.ConnectError` without a message, was shown in its place."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    api = QueryApi(f"http://me:hunter2@127.0.0.1:{port}", requests_per_minute=60_000)
    with pytest.raises(SourceError, match=r"no answer after 6 tries \(ConnectError: .*Check the network") as caught:
        api.fetch(WEEK, T1)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "hunter2" not in str(caught.value)


def test_a_record_total_that_no_publication_has_is_refused_at_the_first_page() -> None:
    """A client went on reading towards 10^9 rows."""
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return page(A_ROW, total=10**9)

    with pytest.raises(RefusedReply, match="1,000,000,000 rows by Record-Total"):
        answering(handler).fetch(WEEK, T1)
    assert len(asked) == 1


@pytest.mark.slow
def test_pages_of_one_row_are_not_read_without_end() -> None:
    with pytest.raises(RefusedReply, match="2,001 of them in 2,001 pages"):
        answering(lambda request: page(A_ROW, total=500_000)).fetch(WEEK, T1)


def test_a_publication_that_is_too_slow_is_an_error_with_the_number_of_rows() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        time.sleep(0.05)
        return page(A_ROW, total=1_000)

    since = time.monotonic()
    api = answering(handler, deadlines=Deadlines(publication=0.3))
    with pytest.raises(SourceError, match=r"[1-9]\d* of 1,000 rows came in 0 seconds.*try again later"):
        api.fetch(WEEK, T1)
    assert time.monotonic() - since < 5


def _monthly(has: tuple[str, ...]) -> Callable[[httpx.Request], httpx.Response]:
    """FINRA with one row of a month in each of these markets."""
    header = [field.name for field in MONTHLY_SUMMARY.fields]

    def handler(request: httpx.Request) -> httpx.Response:
        if "/partitions/" in request.url.path:
            listed = [{"partitions": values} for market in has for values in (["2026-07-01", market],)]
            listed.append({"partitions": ["OTCE", "2026-06-01"]})
            return httpx.Response(200, json={"availablePartitions": listed})
        filters = {f["fieldName"]: f["fieldValue"] for f in json.loads(request.content)["compareFilters"]}
        market = filters["tierIdentifier"]
        if market not in has:
            return httpx.Response(204)
        row = {"monthStartDate": filters["monthStartDate"], "tierIdentifier": market}
        lines = "|".join(header), "|".join(row.get(name, "") for name in header)
        return httpx.Response(200, text="\n".join([*lines, ""]), headers={"Record-Total": "1"})

    return handler


def test_a_period_of_two_partitions_is_whole_or_an_error_and_offered_once_both_are_listed() -> None:
    """Half a month was FINRA's whole month to sums over it."""
    july = dt.date(2026, 7, 1)
    both = answering(_monthly(("NMS", "OTCE")))
    assert both.offered_periods(MONTHLY_SUMMARY) == {july}
    capture = both.fetch_period(MONTHLY_SUMMARY, july)
    assert capture is not None
    header, *rows = capture.content.read().decode().splitlines()
    assert header.split("|") == [field.name for field in MONTHLY_SUMMARY.fields]
    assert ([row.split("|")[:2] for row in rows], capture.rows_expected) == (
        [["2026-07-01", "NMS"], ["2026-07-01", "OTCE"]],
        2,
    )
    half = answering(_monthly(("NMS",)))
    assert half.offered_periods(MONTHLY_SUMMARY) == set()
    with pytest.raises(SourceError, match="no rows of monthlySummary 2026-07-01 OTCE, and has the rest"):
        half.fetch_period(MONTHLY_SUMMARY, july)
    assert answering(_monthly(())).fetch_period(MONTHLY_SUMMARY, july) is None


@pytest.mark.parametrize("values", [["2026-07-01"], ["2026-07-01", "NMS", "another field"], ["NMS", "OTCE"]])
def test_a_partition_with_unexpected_values_is_an_error_and_not_a_period_that_is_not_offered(values: list[str]) -> None:
    """A field that FINRA adds would make every period look as if it was not published."""
    listed = {"availablePartitions": [{"partitions": values}]}
    with pytest.raises(SourceError, match="unexpected"):
        answering(lambda _: httpx.Response(200, json=listed)).offered_periods(MONTHLY_SUMMARY)
