"""The simulated FINRA: its publications, its download files, and the Query API with its traps.

Not here: the client that reads them.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import duckdb
import httpx
import polars as pl
import pytest
from support.legacy_files import legacy_file

from otc_assets.domain.parsing import parse
from otc_assets.domain.weeks import OTCE, T1, T2, TIERS, Tier, publication_date, weeks_between
from otc_assets.finra.simulator import traps
from otc_assets.finra.simulator.files import download_file, write_files
from otc_assets.finra.simulator.generator import FIRST_WEEK, Simulator
from otc_assets.finra.simulator.server import make_app, serve
from otc_assets.finra.simulator.traps import NO_TRAPS, Traps

WEEK = dt.date(2026, 3, 6)
LATER = dt.date(2026, 11, 2)
DATA = "/data/group/otcMarket/name/"
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "api" / "recorded"
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def small() -> Simulator:
    return Simulator(scale=0.02)


def _published(simulator: Simulator, week: dt.date, tier: Tier, as_of: dt.date = LATER) -> pl.DataFrame:
    rows = simulator.publication(week, tier, as_of)
    assert rows is not None
    return rows


def _client(simulator: Simulator, traps: Traps = NO_TRAPS) -> httpx.Client:
    app = make_app(simulator, clock=lambda: LATER, traps=traps)
    return httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://finra.test")


def _equal(**wanted: str) -> list[dict[str, str]]:
    return [{"compareType": "EQUAL", "fieldName": name, "fieldValue": value} for name, value in wanted.items()]


def _week(**more: object) -> dict[str, object]:
    return {"compareFilters": _equal(weekStartDate="2026-03-02", tierIdentifier="T1"), **more}


# --- publications --------------------------------------------------------------------------------------

_DIGEST = """
import datetime as dt, hashlib, sys
from otc_assets.domain.weeks import TIERS
from otc_assets.finra.simulator.generator import Simulator
simulator, digests = Simulator(seed=7, scale=0.02), {}
for number in (int(text) for text in sys.argv[1:]):
    week = dt.date(2024, 1, 5) + dt.timedelta(weeks=number // 3)
    rows = simulator.publication(week, TIERS[number % 3], dt.date(2026, 1, 5))
    digests[number] = hashlib.sha256(rows.write_csv().encode()).hexdigest()
print(sorted(digests.items()))
"""


def test_the_same_seed_gives_the_same_bytes_in_any_process_and_any_order() -> None:
    """Guards against draws that depend on what was asked before, or on Python's hash seed."""
    answers = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST, *order],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed, order in (("1", "012345"), ("2", "530421"))
    }
    assert len(answers) == 1
    assert answers.pop().count("'") == 12


def test_a_full_size_week_has_as_many_rows_as_finras() -> None:
    """The sizes that demos and benchmarks rely on, within 5 %."""
    simulator = Simulator()
    for tier, rows in ((T1, 72_000), (T2, 168_000), (OTCE, 24_000)):
        assert _published(simulator, WEEK, tier).height == pytest.approx(rows, rel=0.05)


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.id)
def test_every_total_is_the_sum_of_its_rows(small: Simulator, tier: Tier, tmp_path: Path) -> None:
    """Guards FINRA's totals, with which ours are reconciled; DuckDB adds up the rows independently."""
    _published(small, WEEK, tier).write_csv(tmp_path / "rows.csv")
    with duckdb.connect() as duck:
        duck.execute(
            "CREATE TABLE rows AS SELECT * REPLACE (totalWeeklyShareQuantity::DECIMAL(38, 6)"
            " AS totalWeeklyShareQuantity, totalNotionalSum::DECIMAL(38, 6) AS totalNotionalSum)"
            " FROM read_csv(?, all_varchar = true, header = true, delim = ',', quote = '\"')",
            [str(tmp_path / "rows.csv")],
        )
        for level, key in (("SMBL", "issueSymbolIdentifier, issueName"), ("FIRM", "marketParticipantName")):
            for side in ("ATS", "OTC"):
                summed, stated = (
                    duck.execute(
                        f"SELECT {key}, sum(totalWeeklyShareQuantity), sum(totalWeeklyTradeCount::BIGINT),"
                        f" sum(totalNotionalSum) FROM rows WHERE summaryTypeCode = ?"
                        f" GROUP BY {key} ORDER BY ALL",
                        [code],
                    ).fetchall()
                    for code in (f"{side}_W_SMBL_FIRM", f"{side}_W_{level}")
                )
                assert summed
                assert summed == stated


def test_rows_name_their_venue_as_finra_does(small: Simulator) -> None:
    """ATS rows have an MPID and no CRD, firm rows the reverse, the De Minimis group neither."""
    rows = _published(small, WEEK, T1).filter(pl.col("summaryTypeCode").str.ends_with("SMBL_FIRM"))
    ats = pl.col("summaryTypeCode") == "ATS_W_SMBL_FIRM"
    small_firms = pl.col("marketParticipantName") == "De Minimis Firms"
    assert rows.filter(ats)["MPID"].null_count() == 0
    assert rows.filter(ats)["firmCRDNumber"].drop_nulls().len() == 0
    assert rows.filter(~ats)["MPID"].drop_nulls().len() == 0
    assert rows.filter(small_firms)["firmCRDNumber"].drop_nulls().len() == 0
    assert rows.filter(~ats & ~small_firms)["firmCRDNumber"].null_count() == 0
    assert rows["productTypeCode"].drop_nulls().len() == 0


def test_symbols_differ_by_case_alone() -> None:
    """Guards the trap of upper-casing, which merges securities."""
    symbols = _published(Simulator(scale=0.1), WEEK, T2)["issueSymbolIdentifier"].drop_nulls().unique()
    assert symbols.str.to_uppercase().n_unique() < symbols.len()


@pytest.mark.parametrize(
    ("week", "column", "code", "decimal"),
    [
        (dt.date(2026, 2, 20), "totalWeeklyShareQuantity", "OTC_W_SMBL_FIRM", False),
        (dt.date(2026, 2, 27), "totalWeeklyShareQuantity", "OTC_W_SMBL_FIRM", True),
        (dt.date(2026, 2, 27), "totalWeeklyShareQuantity", "ATS_W_SMBL_FIRM", False),
        (dt.date(2025, 3, 7), "totalNotionalSum", "ATS_W_SMBL_FIRM", False),
        (dt.date(2025, 3, 14), "totalNotionalSum", "ATS_W_SMBL_FIRM", True),
    ],
)
def test_decimals_begin_with_their_week(small: Simulator, week: dt.date, column: str, code: str, decimal: bool) -> None:
    """Fractional shares on non-ATS rows from the week of 2026-02-23, decimal notional from 2025-03-10."""
    values = _published(small, week, T1).filter(pl.col("summaryTypeCode") == code)[column]
    assert any(value != int(value) for value in values.to_list()) is decimal


def test_a_publication_whose_monday_is_a_holiday_is_published_on_the_tuesday(small: Simulator) -> None:
    """The week of 2025-12-29: T1's Monday, 2026-01-19, is Martin Luther King Day."""
    week = dt.date(2026, 1, 2)
    assert small.publication(week, T1, dt.date(2026, 1, 19)) is None
    assert _published(small, week, T1, dt.date(2026, 1, 20))["initialPublishedDate"].unique().to_list() == [
        dt.date(2026, 1, 20)
    ]


def test_a_revision_is_visible_from_its_day_on_with_its_totals(small: Simulator) -> None:
    """Guards look-back and as-of reading: nothing of a revision is seen before its day."""
    revised = [
        (week, tier, day)
        for week in weeks_between(FIRST_WEEK, dt.date(2025, 12, 26))
        for tier in TIERS
        for day in small.revisions(week, tier)
    ]
    assert 0.08 < len(revised) / (len(weeks_between(FIRST_WEEK, dt.date(2025, 12, 26))) * 3) < 0.15
    assert all(2 <= (day - small.published_on(week, tier)).days <= 164 for week, tier, day in revised)

    by_chance = next(each for each in revised if (each[2] - small.published_on(*each[:2])).days > 9)
    example = next(each for each in revised if each[0].year == 2025 and each[1] == T1)
    for week, tier, day in (by_chance, example):
        published = small.published_on(week, tier)
        before = _published(small, week, tier, day - dt.timedelta(days=1))
        after = _published(small, week, tier, day)
        assert before.equals(_published(small, week, tier, published))
        assert before["lastUpdateDate"].max() == published
        newer = after.filter(pl.col("lastUpdateDate") == day)
        assert {"SMBL_FIRM", "SMBL", "FIRM"} == {code[6:] for code in newer["summaryTypeCode"]}
        assert newer["initialPublishedDate"].unique().to_list() == [published]


def test_seventeen_weeks_are_published_twice_with_the_same_rows(small: Simulator) -> None:
    """Guards against counting a week of 2023 double: NMS is another name of T1."""
    weeks = [week for week, tier_id in small.partitions(LATER) if tier_id == "NMS"]
    assert len(weeks) == 17
    assert dt.date(2023, 6, 5) in weeks
    with _client(small) as client:
        both = [
            client.post(
                DATA + "weeklySummary",
                json={
                    "compareFilters": _equal(weekStartDate="2023-06-05", tierIdentifier=tier_id),
                    "fields": ["issueSymbolIdentifier", "MPID", "totalWeeklyShareQuantity"],
                    "limit": 5_000,
                },
            ).text
            for tier_id in ("T1", "NMS")
        ]
    assert both[0] == both[1]
    assert both[0].count("\n") > 100


# --- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ATS", "NON_ATS"])
@pytest.mark.parametrize("make", [download_file, legacy_file])
def test_a_download_file_holds_every_firm_row_of_its_half(small: Simulator, make: object, kind: str) -> None:
    """Both layouts are read completely by the parser that reads FINRA's own."""
    content = make(small, WEEK, OTCE, kind, LATER)  # type: ignore[operator]
    code = "ATS_W_SMBL_FIRM" if kind == "ATS" else "OTC_W_SMBL_FIRM"
    rows = _published(small, WEEK, OTCE).filter(pl.col("summaryTypeCode") == code)
    parsed = parse(content, name="simulated")
    assert parsed.rejected.height == 0
    assert not parsed.truncated
    assert parsed.records.height == rows.height
    assert parsed.records["shares"].sum() == rows["totalWeeklyShareQuantity"].sum()
    assert not content.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in content


def test_only_files_of_published_weeks_are_written(small: Simulator, tmp_path: Path) -> None:
    """On the publication day of T1, T2 and OTCE are due two weeks later."""
    written = write_files(small, tmp_path, [WEEK], TIERS, publication_date(WEEK, T1))
    assert len(written) == 2
    assert all(path.stat().st_size > 1_000 for path in written)


# --- the Query API -------------------------------------------------------------------------------------


def test_pages_add_up_to_record_total(small: Simulator) -> None:
    """Guards paging: advancing by the rows received gives every row once."""
    seen: list[str] = []
    with _client(small, Traps(short_pages=400)) as client:
        while True:
            body = _week(sortFields=["summaryTypeCode"], limit=5_000, offset=len(seen), delimiter="|")
            page = client.post(DATA + "weeklySummary", json=body)
            seen += page.text.splitlines()[1:]
            assert int(page.headers["Total-Records-On-Page"]) <= 400
            if len(seen) >= int(page.headers["Record-Total"]):
                break
    assert len(seen) == len(set(seen)) == _published(small, WEEK, T1).height


def test_a_limit_above_5000_is_clamped() -> None:
    """A larger limit is not an error, and does not give a larger page."""
    with _client(Simulator(scale=0.2)) as client:
        page = client.post(DATA + "weeklySummary", json=_week(limit=50_000))
    assert page.headers["Record-Limit"] == page.headers["Total-Records-On-Page"] == "5000"
    assert len(page.text.splitlines()) == 5_001


def test_sorting_without_both_partition_fields_is_refused(small: Simulator) -> None:
    """FINRA answers 400 since 2021."""
    body = {"compareFilters": _equal(weekStartDate="2026-03-02"), "sortFields": ["MPID"]}
    with _client(small) as client:
        assert client.post(DATA + "weeklySummary", json=body).status_code == 400
        assert client.post(DATA + "weeklySummaryHistoric", json=_week(sortFields=["MPID"])).status_code == 400


def test_no_data_is_204_or_an_empty_list(small: Simulator) -> None:
    """204 today, `200 []` in 2021 and 2022."""
    body = {"compareFilters": _equal(weekStartDate="2026-11-02", tierIdentifier="T1")}
    with _client(small) as client:
        today = client.post(DATA + "weeklySummary", json=body, headers=JSON)
    with _client(small, Traps(empty_as_list=True)) as client:
        then = client.post(DATA + "weeklySummary", json=body, headers=JSON)
    assert (today.status_code, today.content) == (204, b"")
    assert (then.status_code, then.json()) == (200, [])


def test_failures_depend_on_the_number_of_the_request(small: Simulator) -> None:
    """The same requests fail on every run, so that a test of a client can say which."""
    with _client(small, Traps(too_many_requests=2, server_errors=3, retry_after="7")) as client:
        replies = [client.post(DATA + "weeklySummary", json=_week(limit=1)) for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 429, 504, 429]
    assert replies[1].headers["Retry-After"] == "7"


def test_a_truncated_reply_ends_within_a_row(small: Simulator) -> None:
    """Guards against treating an incomplete reply as complete."""
    with _client(small, Traps(truncated=2)) as client:
        whole, cut = (client.post(DATA + "weeklySummary", json=_week(limit=5), headers=JSON) for _ in range(2))
    assert len(whole.json()) == 5
    with pytest.raises(json.JSONDecodeError):
        cut.json()


def test_the_total_moves_between_pages(small: Simulator) -> None:
    """Guards the restart of a fetch whose publication was rewritten in the meantime."""
    with _client(small, Traps(moving_total=2)) as client:
        first, second = (client.post(DATA + "weeklySummary", json=_week(limit=5)) for _ in range(2))
    assert int(second.headers["Record-Total"]) == int(first.headers["Record-Total"]) + 1


def test_requests_need_a_token_if_the_trap_says_so(small: Simulator) -> None:
    """Some networks get 401; `expires_in` is a string."""
    with _client(small, Traps(needs_token=True)) as client:
        assert client.post(DATA + "weeklySummary", json=_week()).status_code == 401
        granted = client.post(
            "/fip/rest/ews/oauth2/access_token?grant_type=client_credentials", auth=("id", "secret")
        ).json()
        bearer = {"Authorization": f"Bearer {granted['access_token']}"}
        assert client.post(DATA + "weeklySummary", json=_week(limit=1), headers=bearer).status_code == 200
    assert isinstance(granted["expires_in"], str)


def test_partitions_are_listed_newest_first(small: Simulator) -> None:
    """The list from which gaps and backfills are planned."""
    with _client(small) as client:
        listed = [
            entry["partitions"]
            for entry in client.get("/partitions/group/otcMarket/name/weeklySummary").json()["availablePartitions"]
        ]
    starts = [start for start, _ in listed]
    assert starts == sorted(starts, reverse=True)
    assert listed[0] == ["2026-10-12", "T1"]  # out three weeks later, on 2026-11-02
    assert listed[-1][0] == "2021-12-06"


def test_it_is_served_on_a_loopback_socket(small: Simulator) -> None:
    """The same application, for clients that are other processes."""
    with serve(make_app(small, clock=lambda: LATER)) as address:
        page = httpx.post(address + DATA + "weeklySummary", json=_week(limit=3), headers=JSON, timeout=30)
    assert address.startswith("http://127.0.0.1:")
    assert len(page.json()) == 3


def test_replies_have_the_headers_of_recorded_ones(small: Simulator) -> None:
    """Every header of a real reply, and its limits, in a simulated one."""
    if not RECORDED.exists():
        pytest.skip("needs ../shared/data: FINRA's recorded replies are not part of the project")
    recorded = json.loads((RECORDED / "getFINRAdata_offset_2022-03-29.json").read_text())[0]["response"]
    with _client(small) as client:
        reply = client.post(DATA + "weeklySummary", json=_week(limit=5_000, offset=0), headers=JSON)
    assert recorded["headers"].keys() - {"Record-Total"} <= {name.title() for name in reply.headers} | {
        "Response-Payload-Max-Size"
    }
    for name in ("Content-Type", "Record-Max-Limit", "Record-Offset", "Response-Payload-Max-Size"):
        assert reply.headers[name] == recorded["headers"][name]


# --- faults, over a socket -----------------------------------------------------------------------------


def _second_reply(small: Simulator, traps: Traps, **options: Any) -> tuple[httpx.Response, httpx.Response]:
    """The same page without a fault, and with one: traps are every second request."""
    app = make_app(small, clock=lambda: LATER, traps=traps)
    with serve(app) as address, httpx.Client(timeout=options.pop("timeout", 120)) as client:
        ask = {"json": _week(limit=50), "headers": {"Accept": "text/plain"}, **options}
        good, faulty = (client.post(address + DATA + "weeklySummary", **ask) for _ in range(2))
    assert good.status_code == 200
    assert good.headers["Record-Total"] == str(len(small.publication(WEEK, T1, LATER)))  # type: ignore[arg-type]
    return good, faulty


@pytest.mark.slow
def test_replies_that_are_not_data_are_sent_on_request(small: Simulator) -> None:
    _, page = _second_reply(small, Traps(html=2))
    assert (page.status_code, page.headers["Content-Type"], page.text[:15]) == (200, "text/html", "<!DOCTYPE html>")
    _, nothing = _second_reply(small, Traps(empty=2))
    assert (nothing.status_code, nothing.content) == (200, b"")
    _, elsewhere = _second_reply(small, Traps(redirect=2))
    assert (elsewhere.status_code, elsewhere.headers["Location"]) == (302, "/login")


def test_a_huge_total_and_a_changed_schema_leave_the_rows_unchanged(small: Simulator) -> None:
    good, huge = _second_reply(small, Traps(huge_total=2))
    assert (huge.headers["Record-Total"], huge.content) == ("999999999999", good.content)
    good, changed = _second_reply(small, Traps(changed_schema=2))
    assert "totalWeeklyShareQuantity" in good.text
    assert "totalWeeklyShareQuantity" not in changed.text
    assert changed.text.splitlines()[1:] == good.text.splitlines()[1:]


def test_429_can_lack_retry_after_and_500_is_an_error_of_finras_in_json(small: Simulator) -> None:
    _, many = _second_reply(small, Traps(too_many_requests=2, retry_after=""))
    assert (many.status_code, "Retry-After" in many.headers) == (429, False)
    _, error = _second_reply(small, Traps(internal_errors=2))
    assert (error.status_code, error.json()["statusCode"]) == (500, 500)


def test_a_page_can_be_half_of_what_it_could_be_or_the_first_one_again(small: Simulator) -> None:
    with _client(small) as client:
        first, second = (
            client.post(DATA + "weeklySummary", json=_week(limit=50, offset=offset)).text.splitlines()[1:]
            for offset in (0, 50)
        )
    _, half = _second_reply(small, Traps(halved=2), json=_week(limit=50, offset=50))
    assert half.text.splitlines()[1:] == second[:25]
    assert half.headers["Total-Records-On-Page"] == "25"
    _, again = _second_reply(small, Traps(repeated=2), json=_week(limit=50, offset=50))
    assert again.text.splitlines()[1:] == first
    assert again.headers["Record-Offset"] == "50"


def test_faults_end_after_the_last_one(small: Simulator) -> None:
    with _client(small, Traps(server_errors=2, last_fault=5)) as client:
        replies = [client.post(DATA + "weeklySummary", json=_week(limit=1)) for _ in range(6)]
    assert [reply.status_code for reply in replies] == [200, 504, 200, 504, 200, 200]


def test_a_body_that_is_not_gzip_is_a_decoding_error(small: Simulator) -> None:
    with pytest.raises(httpx.DecodingError):
        _second_reply(small, Traps(wrong_gzip=2))


def test_a_gzip_body_that_ends_half_way_begins_as_the_complete_one(small: Simulator) -> None:
    app = make_app(small, clock=lambda: LATER, traps=Traps(truncated_gzip=2))
    asked = _week(limit=50)
    with serve(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        good = client.post(DATA + "weeklySummary", json=asked).content
        with client.stream("POST", DATA + "weeklySummary", json=asked) as reply:
            packed = b"".join(reply.iter_raw())
    assert (reply.headers["Content-Encoding"], int(reply.headers["Content-Length"])) == ("gzip", len(packed))
    decompressor = zlib.decompressobj(wbits=31)
    begins = decompressor.decompress(packed)
    assert good.startswith(begins)
    assert 0 < len(begins) < len(good)
    assert not decompressor.eof


@pytest.mark.slow
def test_a_connection_is_reset_or_stalls_within_the_body(small: Simulator) -> None:
    with pytest.raises(httpx.ReadError, match="reset"):
        _second_reply(small, Traps(reset=2))
    with pytest.raises(httpx.ReadTimeout):
        _second_reply(small, Traps(stall=2, stall_seconds=30), timeout=httpx.Timeout(60, read=5))


@pytest.mark.slow
def test_a_trickling_body_comes_byte_by_byte(small: Simulator) -> None:
    app = make_app(small, clock=lambda: LATER, traps=Traps(trickle=1))
    asked = _week(limit=50)
    with serve(app) as address, httpx.stream("POST", address + DATA + "weeklySummary", json=asked, timeout=60) as reply:
        pieces = reply.iter_raw()
        began = time.monotonic()
        assert [len(next(pieces)) for _ in range(3)] == [1, 1, 1]
        assert time.monotonic() - began >= 1.5


@pytest.mark.slow
def test_a_slow_body_takes_the_stated_time_and_is_complete(small: Simulator) -> None:
    began = time.monotonic()
    good, slow = _second_reply(small, Traps(slow=2, slow_seconds=1.5))
    assert slow.content == good.content
    assert time.monotonic() - began >= 1.4


def test_traps_are_read_as_they_are_written() -> None:
    assert traps.parse([]) == NO_TRAPS
    chosen = traps.parse(["reset=3", "slow_seconds=0.5", "needs_token=TRUE", "retry_after=7", "reset=4"])
    assert chosen == Traps(reset=4, slow_seconds=0.5, needs_token=True, retry_after="7")
    described = traps.describe()
    assert all(f"{name}=" in described for name in vars(NO_TRAPS))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("nonsense=1", "The traps are: too_many_requests, "),
        ("reset", "Write reset=VALUE"),
        ("reset=-1", "whole number"),
        ("reset=often", "whole number"),
        ("slow_seconds=inf", "from 0 to 86400"),
        ("slow_seconds=soon", "from 0 to 86400"),
        ("needs_token=1", "true or false"),
        ("retry_after=1\r\nX: y", "printable"),
    ],
)
def test_an_invalid_trap_is_refused_with_the_valid_ones(setting: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        traps.parse([setting])
