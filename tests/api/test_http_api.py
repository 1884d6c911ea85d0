"""The HTTP API, on the weeks that a first run loads. What it has to answer comes from psycopg or from DuckDB."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import re
import threading
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from support.first_run import REVISED, FirstRun
from support.relay import relay

from otc_assets.api import access, edge, routes
from otc_assets.api.access import InvalidKeys, Keys, Limiter, new_key
from otc_assets.api.app import make_app
from otc_assets.api.parameters import JSON_LIMIT, MAX_LIMIT
from otc_assets.api.problems import KINDS
from otc_assets.client import VERBS, Client, TimedOut
from otc_assets.client.verbs import sql_text
from otc_assets.postgres import session_options
from otc_assets.settings import PROJECT_ROOT
from otc_assets.whole_files import MOST_BYTES

SUMMARY = "SELECT week_ending, tier, symbol, total_volume, avg_trade_size FROM otc.symbol_summary ORDER BY 1, 2, 3"
COLUMNS = "columns=week_ending,tier,symbol,total_volume,avg_trade_size"


def pages(api: TestClient, path: str) -> list[list[dict[str, Any]]]:
    """The rows of all pages, with decimals."""
    found, following = [], path
    while following is not None:
        response = api.get(following)
        assert response.status_code == 200, response.text
        body = json.loads(response.text, parse_float=Decimal)
        assert body["rows"] == len(body["data"])
        found.append(body["data"])
        following = body["next"]
        assert response.links.get("next", {}).get("url") == following
    return found


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    """The problem that a response describes."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["type"] == f"urn:otc-assets:{kind}"
    return body


# --- rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VERBS)
def test_the_pages_of_every_path_are_the_rows_that_sql_reads(api: TestClient, first_run: FirstRun, name: str) -> None:
    verb = VERBS[name]
    source = f"({sql_text(verb.statement)})" if verb.statement else f"otc.{verb.table.name}"
    tiers = "r.tier <> 'ALL'" if "tiers" in verb.defaults else "true"
    scopes = "r.venue_scope = 'ALL'" if "scopes" in verb.defaults else "true"
    week = REVISED if verb.table.schema.get("week_ending") is not None else None
    with psycopg.connect(first_run.url, options=session_options()) as connection:
        names, order = ", ".join(verb.table.schema), ", ".join(verb.order)
        expected = connection.execute(
            f"SELECT {names} FROM {source} r WHERE {tiers} AND {scopes} AND week_ending = %s ORDER BY {order}", [week]
        ).fetchall()
    found = [row for page in pages(api, f"/v1/{name}?weeks={week}&limit=700") for row in page]
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        for value, sql in zip(row.values(), wanted, strict=True):
            if isinstance(sql, Decimal | int | str | None):
                assert value == sql
            else:
                assert value.startswith(str(sql)[:10])


def test_every_format_has_the_same_exact_values_as_sql(api: TestClient, first_run: FirstRun, tmp_path: Path) -> None:
    expected = first_run.sql(SUMMARY)
    path = f"/v1/summary?{COLUMNS}&limit=10000"
    parquet, arrow = (api.get(f"{path}&format={name}").content for name in ("parquet", "arrow"))
    (tmp_path / "rows.parquet").write_bytes(parquet)
    assert duckdb.sql(f"SELECT * FROM '{tmp_path}/rows.parquet'").fetchall() == expected
    assert pl.read_parquet(io.BytesIO(parquet)).rows() == expected
    frame = pl.read_ipc_stream(io.BytesIO(arrow))
    assert frame.rows() == expected
    stream = frame.to_arrow()
    assert duckdb.sql("SELECT * FROM stream").fetchall() == expected
    assert stream.num_rows == len(expected)
    text = api.get(path, headers={"Accept": "text/csv"}).text
    rows = list(csv.reader(io.StringIO(text)))[1:]
    assert [(week, tier, symbol, Decimal(a), Decimal(b)) for week, tier, symbol, a, b in rows] == [
        (str(week), *rest) for week, *rest in expected
    ]


def test_decimals_in_json_are_exact_numbers_or_exact_texts(api: TestClient, first_run: FirstRun) -> None:
    sum_of_tier = "SELECT sum(total_volume) FROM otc.symbol_summary"
    rows = [row for page in pages(api, "/v1/summary?columns=total_volume&limit=1000") for row in page]
    assert sum(Decimal(row["total_volume"]) for row in rows) == first_run.sql(sum_of_tier)[0][0]
    texts = api.get("/v1/summary?columns=total_volume&decimals=string&limit=1000").json()["data"]
    assert [text["total_volume"] for text in texts] == [str(row["total_volume"]) for row in rows[:1000]]


@settings(max_examples=8)
@given(limit=st.integers(40, 2000), tiers=st.lists(st.sampled_from(["T1", "T2", "OTCE"]), unique=True), data=st.data())
def test_pages_together_are_the_whole_and_no_row_is_in_two(
    api: TestClient, first_run: FirstRun, limit: int, tiers: list[str], data: st.DataObject
) -> None:
    venue = data.draw(st.sampled_from(["", "UBSA", "149823"]))
    given = "".join([f"&tiers={','.join(tiers)}" if tiers else "", f"&venues={venue}" if venue else ""])
    names = {"T1": "NMS Tier 1", "T2": "NMS Tier 2", "OTCE": "OTC"}
    wanted = [names[tier] for tier in tiers or names]
    expected = first_run.duck.execute(
        "SELECT week, tier, symbol, id, shares FROM rows WHERE list_contains($tiers, tier) AND ($venue IN ('', id))",
        {"tiers": wanted, "venue": venue},
    ).fetchall()
    columns = "columns=week_ending,tier,symbol,venue_id,share_volume"
    found = pages(api, f"/v1/venue_volume?{columns}&limit={limit}{given}")
    assert all(len(page) == limit for page in found[:-1])
    rows = [tuple(row.values()) for page in found for row in page]
    assert sorted(rows) == sorted((str(week), *rest) for week, *rest in expected)


def test_a_symbols_venues_are_its_rows_of_venue_volume(api: TestClient, first_run: FirstRun) -> None:
    expected = first_run.duck.execute(
        "SELECT id, shares FROM rows WHERE symbol = 'AAPL' AND week = ? ORDER BY id", [REVISED]
    ).fetchall()
    rows = api.get(f"/v1/symbols/AAPL/venues?weeks={REVISED}&columns=venue_id,share_volume").text
    found = json.loads(rows, parse_float=Decimal)["data"]
    assert sorted((row["venue_id"], row["share_volume"]) for row in found) == expected
    assert api.get("/v1/symbols/AAPL").json()["data"][0]["issue_name"] == "Apple Inc. Common Stock"
    assert api.get("/v1/venues/UBSA").json()["data"][0]["venue_kind"] == "ATS"
    assert api.get("/v1/find?text=citadel").json()["data"][0]["id"] == "116797"


# --- errors ----------------------------------------------------------------------------------------------


def test_errors_are_problems_that_say_what_to_do(api: TestClient) -> None:
    unknown = problem(api.get("/v1/symbols/AAPLE"), 404, "unknown-name")
    assert unknown["suggestions"] == ["AAPL"]
    assert "'week'. There are symbols" in problem(api.get("/v1/summary?week=newest"), 400, "invalid-request")["detail"]
    assert "twice" in problem(api.get("/v1/rolling?tiers=ALL,T1"), 422, "invalid-query")["detail"]
    assert "pending" in problem(api.get("/v1/summary?weeks=2026-12-25"), 404, "no-rows")["detail"]
    problem(api.get("/v1/nothing"), 404, "not-found")
    assert problem(api.post("/v1/weeks"), 405, "method-not-allowed")
    problem(api.get("/v1/weeks", headers={"Accept": "image/png"}), 406, "not-acceptable")
    problem(api.get("/v1/summary?as_of=2099-01-01T00:00:00Z"), 409, "not-final")


@pytest.mark.parametrize(
    ("query", "wrong", "right"),
    [
        (
            "summary?weeks=foo",
            "weeks can't be 'foo'",
            "weeks: Write a day (2026-08-21), a range (2026-08-07..2026-08-28",
        ),
        ("summary?weeks=newest,2026-13-01", "weeks can't be '2026-13-01'", "'last 12' or 'newest'"),
        (
            "summary?as_of=2026-10-01",
            "as_of can't be '2026-10-01'",
            "a moment with a time zone, as in 2026-09-30T18:00",
        ),
        (
            "revisions?since=may",
            "since can't be 'may'",
            "since: Write a day, as in 2026-09-30, or a moment with a time",
        ),
        (
            "summary?tiers=T9",
            "tiers can't be 'T9'",
            "It can be 'T1', 'NMS Tier 1', 'T2', 'NMS Tier 2', 'OTCE' or 'OTC'",
        ),
        ("summary?limit=0", "limit can't be '0'", "limit: Write a number of at least 1."),
        ("summary?limit=10001", "limit can't be '10001'", "limit: Write a number of at most 10,000."),
        ("summary?limit=many", "limit can't be 'many'", "limit: Write a whole number."),
        ("summary?columns=price", "columns can't be 'price'", "columns: It can be 'week_ending', 'tier', 'symbol'"),
        ("summary?symbols=A%00", r"symbols can't be 'A\x00'", "Write 1 to 100 characters, without control characters."),
        ("find", "text is missing", "/openapi.json describes the parameters."),
        ("find?text=", "text can't be ''", "text: Write at least 1 character."),
        (f"find?text={'x' * 101}", "text can't be 'xxx", "text: Write at most 100 characters."),
        ("summary?symbols=" + "A," * 200 + "B", "symbols has 201 values", "symbols: Write at most 200 values."),
    ],
)
def test_a_parameter_that_is_not_valid_is_answered_with_what_is(
    api: TestClient, query: str, wrong: str, right: str
) -> None:
    """The answers were patterns of regular expressions."""
    found = problem(api.get(f"/v1/{query}"), 400, "invalid-request")
    assert found["detail"].startswith(wrong)
    assert right in found["remedy"]
    assert not {"^", "\\d", "pattern"} & set(re.findall(r"\^|\\d|pattern", found["detail"]))


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("symbol_concentration", ["/v1/concentration"]),
        ("venue-volume", ["/v1/venue_volume"]),
        ("venue_concentration", ["/v1/concentration", "/v1/market_concentration"]),
        ("tables/symbol_summary", ["/v1/tables/summary"]),
        ("venues/UBSA/foo", [f"/v1/venues/UBSA/{part}" for part in ("symbols", "shares", "rolling", "changes")]),
    ],
)
def test_a_path_that_is_a_tables_full_name_or_nearly_one_is_answered_with_the_path(
    api: TestClient, path: str, meant: list[str]
) -> None:
    found = problem(api.get(f"/v1/{path}"), 404, "not-found")
    assert found["suggestions"] == meant
    assert found["remedy"] == f"Use {' or '.join(meant)}."
    assert all(api.get(each, params={"limit": 1} if "tables" not in each else {}).status_code == 200 for each in meant)


def test_a_cursor_is_refused_if_it_is_damaged_or_of_another_query(api: TestClient) -> None:
    following = api.get("/v1/summary?limit=1").json()["next"]
    cursor = following.partition("cursor=")[2]
    for path in (f"/v1/summary?limit=1&tiers=T1&cursor={cursor}", "/v1/summary?cursor=abc", "/v1/summary?cursor=W10"):
        problem(api.get(path), 422, "invalid-query")


def test_no_response_and_no_log_has_the_password_of_the_database(
    first_run: FirstRun, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "canary-in-a-cage"
    nowhere = first_run.reader_url.partition("@")[2]
    urls = {
        "wrong password": f"postgresql://otc_analyst:{canary}@{nowhere}",
        "no server": f"postgresql://otc_analyst:{canary}@127.0.0.1:1/otc",
        "no address": f"postgresql://otc_analyst:{canary}@%%:x/otc",
    }
    for url in urls.values():
        with Client(url) as client:
            broken = TestClient(make_app(client), raise_server_exceptions=False)
            for path in (
                "/health",
                "/v1/weeks",
                "/v1/summary?weeks=newest",
                "/v1/symbols/AAPL",
                "/metrics",
                "/openapi.json",
            ):
                response = broken.get(path)
                assert canary not in response.text + str(response.headers)
                if path in ("/v1/weeks", "/health") and url != urls["no address"]:
                    problem(response, 503, "unavailable")
    assert caplog.records
    assert canary not in caplog.text


def test_health_waits_for_no_other_request_and_not_long_for_the_database(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(first_run.reader_url, connections=1) as busy, Client(first_run.reader_url) as probe:
        api = TestClient(make_app(busy, probe=probe))

        def sleep() -> None:
            with suppress(TimedOut):  # it is cancelled below
                busy.sql("SELECT pg_sleep(60)::text AS nothing")

        slow = threading.Thread(target=sleep)
        with psycopg.connect(first_run.reader_url, autocommit=True) as watch:
            sleeping = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"
            slow.start()
            while not (found := watch.execute(sleeping).fetchall()):
                slow.join(0.05)
            assert api.get("/health").status_code == 200
            assert slow.is_alive()
            watch.execute("SELECT pg_cancel_backend(%s)", found[0])
        slow.join()
        frozen = threading.Event()
        monkeypatch.setattr(routes, "_PROBE_SECONDS", 0.2)
        monkeypatch.setattr(routes, "_HEALTH_SECONDS", 0.0)
        monkeypatch.setattr(probe, "sql", lambda _: frozen.wait(60))
        for _ in range(2):
            problem(api.get("/health"), 503, "unavailable")
        frozen.set()


def test_questions_of_health_do_not_add_up_while_the_database_is_silent(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each left a thread that waited for the database, and that the process waited for at its end."""
    monkeypatch.setattr(routes, "_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(routes, "_HEALTH_SECONDS", 0.0)
    with (
        relay(first_run.reader_url) as between,
        Client(between.url, timeout=1, connections=1) as probe,
        TestClient(make_app(probe, probe=probe), raise_server_exceptions=False) as api,
    ):
        assert api.get("/health").status_code == 200
        between.silence.set()
        before = threading.active_count()
        for _ in range(5):
            problem(api.get("/health"), 503, "unavailable")
        assert threading.active_count() <= before + 2  # the question, and the one that watches its time
        between.silence.clear()
        while api.get("/health").status_code != 200:
            time.sleep(0.05)


def test_rows_that_retention_has_deleted_change_the_version_of_a_data_set(database: str) -> None:
    """Captures stay recorded when it deletes their rows: the answers of before were kept for good."""
    weeks = (dt.date(2024, 11, 8), dt.date(2026, 11, 20))
    with psycopg.connect(database, autocommit=True) as sql:
        for week in weeks:
            sql.execute(
                "INSERT INTO otc.dataset_capture (dataset, period, week_ending, digest, origin, bytes, rows_expected,"
                " rows_received, rows_accepted, rows_rejected)"
                " VALUES ('regShoDaily', %(week)s, %(week)s, repeat('a', 64), 'x', 1, 1, 1, 1, 0)",
                {"week": week},
            )
            sql.execute(
                "INSERT INTO otc.short_volume_daily (week_ending, trade_date, symbol, market_code, facility,"
                " short_volume, short_exempt_volume, total_volume, known_from)"
                " VALUES (%(week)s, %(week)s, 'AAPL', 'N', 'NYTRF', 1, 0, 2, now())",
                {"week": week},
            )
        sql.execute("UPDATE otc.retention SET keep_weeks = 52 WHERE what = 'venue_volume'")
        url = "/v1/short_volume_daily?symbols=AAPL&columns=week_ending"
        with Client(database) as client:
            api = TestClient(make_app(client))
            before = api.get(url)
            assert len(before.json()["data"]) == 2
            sql.execute("SELECT otc.apply_retention()")
            after = api.get(url, headers={"If-None-Match": before.headers["ETag"]})
        assert after.json()["data"] == [{"week_ending": str(weeks[1])}]


def test_a_bug_is_a_problem_too_and_is_logged_without_secrets(
    reader: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("postgresql://otc:canary-in-a-cage@127.0.0.1/otc")

    monkeypatch.setattr(reader, "version", fail)
    api = TestClient(make_app(reader), raise_server_exceptions=False)
    assert "canary" not in str(problem(api.get("/v1/summary"), 500, "internal-error"))
    assert "ZeroDivisionError" in caplog.text
    assert "canary" not in caplog.text


# --- caching ---------------------------------------------------------------------------------------------


def test_an_etag_is_answered_by_304_and_differs_between_rows_and_formats(api: TestClient) -> None:
    paths = [
        "/v1/summary?limit=5",
        "/v1/summary?limit=6",
        "/v1/summary?limit=5&format=csv",
        "/v1/coverage",
        "/v1/find?text=UBSA",
    ]
    tags = [api.get(path).headers["etag"] for path in paths]
    assert len(set(tags)) == len(tags)
    for path, tag in zip(paths, tags, strict=True):
        again = api.get(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_large_responses_are_compressed_where_the_client_accepts_it(api: TestClient) -> None:
    path = "/v1/summary?limit=100"
    plain = api.get(path, headers={"Accept-Encoding": "identity"})
    refused = api.get(path, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    with api.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 2
    head = api.head(path, headers={"Accept-Encoding": "identity"})
    assert (head.content, head.headers["content-length"]) == (b"", str(len(plain.content)))


# --- access ----------------------------------------------------------------------------------------------


def test_a_key_is_needed_where_there_are_keys_and_a_new_file_takes_effect(
    reader: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_CHECK_SECONDS", 0.0)
    (first, line), (second, other) = new_key("ann"), new_key("bob")
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{line}\n")
    assert first not in path.read_text()
    api = TestClient(make_app(reader, keys=Keys(path)))
    problem(api.get("/v1/tables"), 401, "no-key")
    problem(api.get("/v1/tables", headers={"Authorization": f"Bearer {second}"}), 401, "no-key")
    problem(api.get("/metrics"), 401, "no-key")
    assert api.get("/health").json() == {"status": "ok"}
    for headers in ({"Authorization": f"Bearer {first}"}, {"X-API-Key": first}):
        assert api.get("/v1/tables", headers=headers).status_code == 200
    path.write_text(f"{other}\n\n")
    assert api.get("/v1/tables", headers={"X-API-Key": first}).status_code == 401
    assert api.get("/v1/tables", headers={"X-API-Key": second}).status_code == 200
    for text, part in (("ann secret\n", "line 1"), ("# none\n", "has no key")):
        path.write_text(text)
        with pytest.raises(InvalidKeys, match=part):
            Keys(path)
    with pytest.raises(InvalidKeys, match="No such file"):
        Keys(tmp_path / "none")
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(InvalidKeys, match="File too large"):
        Keys(path)


def test_only_the_keys_that_are_in_the_file_are_admitted_whatever_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "_CHECK_SECONDS", 0.0)
    made = [new_key(name) for name in ("ann", "ann", "bob")]
    lines = [line for _, line in made]
    path = tmp_path / "keys"
    path.write_text("\n".join(lines))
    keys = Keys(path)

    def admitted() -> list[str | None]:
        return [keys.name_of(key) for key, _ in made]

    assert admitted() == ["ann", "ann", "bob"]
    path.write_text(f"{lines[0]}\nbob sha256:typo\n{lines[1]}\n")
    assert admitted() == ["ann", "ann", None]
    assert admitted() == ["ann", "ann", None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "keys, line 2: this is not a name" in caplog.text
    path.write_text("# none\n")
    assert admitted() == [None, None, None]
    assert "has no key" in caplog.text
    path.write_text(lines[2])
    assert admitted() == [None, None, "bob"]
    path.unlink()
    assert admitted() == [None, None, None]
    assert "No such file" in caplog.text
    path.write_bytes(b"\xff")
    assert admitted() == [None, None, None]
    assert "it is not text" in caplog.text
    path.write_text(lines[2])
    assert admitted() == [None, None, "bob"]


def test_other_host_names_are_refused_and_other_sites_read_only_if_they_are_set(reader: Client) -> None:
    api = TestClient(
        make_app(reader, names=["localhost"], origins=["https://pro.openbb.co"]), base_url="http://localhost"
    )
    problem(api.get("/v1/tables", headers={"Host": "evil.example"}), 403, "forbidden")
    allowed = api.get("/v1/tables", headers={"Origin": "https://pro.openbb.co"})
    assert allowed.headers["access-control-allow-origin"] == "https://pro.openbb.co"
    other = api.get("/v1/tables", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    asked = {"Origin": "https://pro.openbb.co", "Access-Control-Request-Method": "GET"}
    preflight = api.options("/v1/tables", headers={**asked, "Access-Control-Request-Headers": "X-API-Key"})
    assert preflight.status_code == 200
    none = TestClient(make_app(reader)).get("/v1/tables", headers={"Origin": "https://pro.openbb.co"})
    assert "access-control-allow-origin" not in none.headers


def test_more_requests_than_the_limit_are_refused_and_the_headers_say_when_to_come_back(reader: Client) -> None:
    api = TestClient(make_app(reader, requests_per_minute=2))
    found = [api.get("/v1/tables") for _ in range(3)]
    assert [response.status_code for response in found] == [200, 200, 429]
    assert [response.headers["ratelimit"].partition(";t=")[0] for response in found] == [
        '"default";r=1',
        '"default";r=0',
        '"default";r=0',
    ]
    assert found[0].headers["ratelimit-policy"] == '"default";q=2;w=60'
    problem(found[2], 429, "rate-limited")
    assert 1 <= int(found[2].headers["retry-after"]) <= 30
    assert api.get("/health").status_code == 200


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 40)), max_size=60), st.integers(1, 20))
def test_no_caller_gets_more_than_the_limit_in_any_minute(steps: list[tuple[str, float]], per_minute: int) -> None:
    now = 0.0
    limiter = Limiter(per_minute, lambda: now)
    allowed: dict[str, list[float]] = {"a": [], "b": []}
    for caller, pause in steps:
        now += pause
        left = limiter.take(caller)
        if left.allowed:
            allowed[caller].append(now)
        else:
            assert _copy(limiter, now + left.seconds).take(caller).allowed
    for times in allowed.values():
        for begin in times:
            # A full allowance may be used at once, and is refilled in the minute that follows.
            assert sum(begin <= time < begin + 60 for time in times) <= 2 * per_minute


def _copy(limiter: Limiter, now: float) -> Limiter:
    copied = Limiter(limiter.per_minute, lambda: now)
    copied._left = limiter._left.copy()
    return copied


def test_the_machines_of_an_ipv6_network_are_one_caller() -> None:
    assert access.caller_at("2001:db8::1") == access.caller_at("2001:db8::ffff")
    assert access.caller_at("2001:db8:0:1::1") != access.caller_at("2001:db8::1")
    assert access.caller_at("192.0.2.1") == "192.0.2.1"


def test_requests_are_counted_by_the_path_of_the_description(reader: Client) -> None:
    api = TestClient(make_app(reader))
    for path in (
        "/v1/symbols/AAPL/summary?limit=3",
        "/v1/symbols/AAPL/summary?limit=3",
        "/v1/nothing",
        "/v1/summary?x=1",
    ):
        api.get(path)
    lines = api.get("/metrics").text.splitlines()
    for line in (
        'otc_api_requests_total{path="/v1/symbols/{symbol}/summary",status="200"} 2.0',
        'otc_api_requests_total{path="other",status="404"} 1.0',
        'otc_api_requests_total{path="/v1/summary",status="400"} 1.0',
        'otc_api_rows_total{path="/v1/symbols/{symbol}/summary"} 6.0',
        'otc_api_reads_total{how="database"} 1.0',
        'otc_api_reads_total{how="memory"} 1.0',
    ):
        assert line in lines


def test_a_large_response_is_sent_in_parts(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/v1/venue_volume?limit=3000"
    whole = api.get(path).content
    monkeypatch.setattr(edge, "PART_BYTES", 1000)
    with api.stream("GET", path, headers={"Accept-Encoding": "identity"}) as response:
        parts = list(response.iter_raw())
    assert b"".join(parts) == whole


# --- the document ----------------------------------------------------------------------------------------


def test_the_document_has_every_kind_of_problem_and_its_paths_return_rows(api: TestClient) -> None:
    text = (PROJECT_ROOT / "docs" / "api.md").read_text()
    table = re.findall(r"^\| ([\d, ]+) \| ((?:`[\w-]+`(?:, )?)+) \|", text, re.MULTILINE)
    documented = {
        kind: status for statuses, kinds in table for kind in re.findall("[\\w-]+", kinds) for status in [statuses]
    }
    assert set(documented) == set(KINDS)
    assert all(str(KINDS[kind][0]) in statuses for kind, statuses in documented.items())
    paths = re.findall(r"http://127\.0\.0\.1:8000(/[^'\s]+)", text) + re.findall(
        r"^\| `(/v1/[^`]+)`", text, re.MULTILINE
    )
    assert len(paths) > 8
    for path in paths:
        expected = 404 if path.endswith("/AAPLE") else 200
        assert api.get(path).status_code == expected, path


def test_a_page_without_a_limit_is_larger_in_formats_that_cannot_name_the_next_one(api: TestClient) -> None:
    path = "/v1/venue_volume?columns=symbol"
    assert api.get(path).json()["rows"] == JSON_LIMIT
    assert pl.read_parquet(io.BytesIO(api.get(f"{path}&format=parquet").content)).height == MAX_LIMIT
    assert api.get(f"{path}&format=parquet").links["next"]["url"].startswith(path)


# --- OpenBB ----------------------------------------------------------------------------------------------


def test_every_widget_of_openbb_reads_a_path_that_has_its_columns(api: TestClient) -> None:
    widgets = api.get("/widgets.json").json()
    assert len(widgets) == len(VERBS)
    description = api.get("/openapi.json").json()
    for widget in widgets.values():
        given = {each["paramName"] for each in widget["params"]}
        operation = description["paths"]["/" + widget["endpoint"]]["get"]
        assert given <= {each["name"] for each in operation["parameters"]}
    summary = widgets["otc_summary"]
    values = {each["paramName"]: each["value"] for each in summary["params"] if each["value"]}
    rows = api.get("/" + summary["endpoint"], params=values).json()[summary["data"]["dataKey"]]
    assert set(rows[0]) == {each["field"] for each in summary["data"]["table"]["columnsDefs"]}
    (app,) = api.get("/apps.json").json()
    shown = {each["i"] for tab in app["tabs"].values() for each in tab["layout"]}
    assert shown <= set(widgets)
    assert set(app["groups"][0]["widgetIds"]) <= shown
