"""Values as other programs write them: what is no value, what is a number, and what is neither."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otc_assets.domain.normalize import normalize
from otc_assets.domain.parsing import Parsed, parse
from otc_assets.domain.values import MARKERS, BadValue, value
from otc_assets.domain.weeks import T1

WEEK = dt.date(2026, 8, 21)
ATS = {
    "weekStartDate": "2026-08-17",
    "tierIdentifier": "T1",
    "tierDescription": "NMS Tier 1",
    "issueSymbolIdentifier": "ABC",
    "issueName": "Abc Inc.",
    "MPID": "PPEX",
    "firmCRDNumber": "",
    "marketParticipantName": "PPEX POOL",
    "totalWeeklyShareQuantity": "10",
    "totalWeeklyTradeCount": "4",
    "totalNotionalSum": "100.5",
    "productTypeCode": "",
    "summaryTypeCode": "ATS_W_SMBL_FIRM",
    "lastUpdateDate": "2026-09-08",
}
FIELDS = tuple(ATS)
FIRM = {
    **ATS,
    "MPID": "",
    "firmCRDNumber": "1001",
    "marketParticipantName": "FIRM",
    "summaryTypeCode": "OTC_W_SMBL_FIRM",
}
SMALL = {**FIRM, "firmCRDNumber": "", "marketParticipantName": "De Minimis Firms"}


def delimited(*records: dict[str, str]) -> bytes:
    return "\n".join(["|".join(FIELDS), *("|".join(r[f] for f in FIELDS) for r in records), ""]).encode()


def read(*records: dict[str, str], by_row: bool = False) -> Parsed:
    with pytest.MonkeyPatch.context() as patch:
        if by_row:
            patch.setattr("otc_assets.domain.parsing.delimited._read_at_once", lambda *_, **__: None)
        return parse(delimited(*records), name="f")


@pytest.mark.parametrize("by_row", [False, True], ids=["at once", "by row"])
@pytest.mark.parametrize("marker", [*sorted(MARKERS), " ", "\t  "])
def test_a_missing_value_marker_is_no_value_in_any_column_of_names_numbers_and_dates(marker: str, by_row: bool) -> None:
    """A marker became a venue called NaN, and the De Minimis group a firm."""
    marked = dict.fromkeys(("MPID", "issueName", "productTypeCode", "totalNotionalSum", "lastUpdateDate"), marker)
    publication = read({**FIRM, **marked}, {**SMALL, "firmCRDNumber": marker, "MPID": marker}, ATS, by_row=by_row)
    rows = normalize(publication, week_ending=WEEK, tier=T1)
    assert rows.rejected.height == 0
    assert rows.volume.select("venue_kind", "venue_id", "mpid", "firm_crd").rows() == [
        ("NON_ATS", "1001", None, "1001"),
        ("DE_MINIMIS", "DE_MINIMIS", None, None),
        ("ATS", "PPEX", "PPEX", None),
    ]
    assert rows.volume.row(0, named=True) | {"issue_name": "", "product_type": "", "notional": None} == rows.volume.row(
        0, named=True
    )
    assert rows.volume["last_update_date"].to_list() == [None, dt.date(2026, 9, 8), dt.date(2026, 9, 8)]


@pytest.mark.parametrize("by_row", [False, True], ids=["at once", "by row"])
@pytest.mark.parametrize("symbol", ["NA", "NAN", "NULL", "NONE", "TRUE", "INF", "FALSE"])
def test_a_ticker_that_looks_like_a_marker_is_a_symbol(symbol: str, by_row: bool) -> None:
    """Readers of CSV turn these tickers into nulls, truths and infinities."""
    publication = read({**ATS, "issueSymbolIdentifier": symbol}, by_row=by_row)
    assert publication.records["symbol"].to_list() == [symbol]
    in_json = parse(json.dumps([{**ATS, "issueSymbolIdentifier": symbol}]).encode(), name="f")
    assert normalize(in_json, week_ending=WEEK, tier=T1).volume["symbol"].to_list() == [symbol]


@pytest.mark.parametrize("by_row", [False, True], ids=["at once", "by row"])
@pytest.mark.parametrize("marker", ["NaN", "nan", "<NA>", "N/A", "None", "null", "NaT"])
def test_a_marker_that_no_ticker_can_be_is_a_missing_symbol(marker: str, by_row: bool) -> None:
    result = normalize(read({**ATS, "issueSymbolIdentifier": marker}, by_row=by_row), week_ending=WEEK, tier=T1)
    assert (result.accepted, result.rejected["reason"].to_list()) == (0, ["missing symbol"])


def test_a_bare_nan_in_json_is_null_in_every_column() -> None:
    """pandas and json.dumps write NaN without quotes; it became the text 'NaN'."""
    nan = float("nan")
    records = [
        {**ATS, "firmCRDNumber": nan, "productTypeCode": nan, "issueName": nan},
        {**FIRM, "firmCRDNumber": 1001.0, "MPID": nan},
        {**SMALL, "firmCRDNumber": nan, "MPID": nan},
        {**ATS, "issueSymbolIdentifier": nan},
        {**ATS, "totalWeeklyShareQuantity": nan},
    ]
    publication = parse(json.dumps(records).encode(), name="f")
    result = normalize(publication, week_ending=WEEK, tier=T1)
    assert result.volume.select("venue_kind", "venue_id", "firm_crd").rows() == [
        ("ATS", "PPEX", None),
        ("NON_ATS", "1001", "1001"),
        ("DE_MINIMIS", "DE_MINIMIS", None),
    ]
    assert result.rejected.select("line", "reason").rows() == [
        (4, "missing symbol"),
        (5, "totalWeeklyShareQuantity is empty"),
    ]


@pytest.mark.parametrize("infinity", [float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["issueSymbolIdentifier", "totalNotionalSum", "MPID"])
def test_an_infinity_in_json_is_no_value_of_any_column(field: str, infinity: float) -> None:
    publication = parse(json.dumps([ATS, {**ATS, field: infinity}]).encode(), name="f")
    assert publication.rejected["reason"].to_list() == [f"{field} is {json.dumps(infinity)}, not a plain value"]


def test_finras_tier_na_stays_a_code() -> None:
    assert read({**ATS, "tierIdentifier": "NA"}).records["tier_id"].to_list() == ["NA"]
    assert read({**ATS, "tierIdentifier": "NaN"}).records["tier_id"].to_list() == [None]


@pytest.mark.parametrize("by_row", [False, True], ids=["at once", "by row"])
@pytest.mark.parametrize(
    ("stated", "crd"),
    [("1001", "1001"), ("1001.0", "1001"), ("1.001e3", "1001"), ("01001", "1001"), ("0", None), ("0.0", None)],
)
def test_a_crd_number_is_the_same_firm_however_it_is_written(stated: str, crd: str | None, by_row: bool) -> None:
    """'1001.0' was a second firm beside '1001'."""
    assert read({**FIRM, "firmCRDNumber": stated}, by_row=by_row).records["firm_crd"].to_list() == [crd]


@pytest.mark.parametrize("stated", ["1001.5", "-1", "1,001", "x", "1e40"])
def test_what_is_no_crd_number_is_rejected(stated: str) -> None:
    publication = read(ATS, {**FIRM, "firmCRDNumber": stated})
    assert publication.rejected.select("line", "reason").rows() == [
        (3, f"firmCRDNumber is {stated!r}, not a CRD number")
    ]


@pytest.mark.parametrize("zero", ["0", "0.0"])
def test_crd_0_on_a_de_minimis_row_leaves_it_the_group_of_small_firms(zero: str) -> None:
    """It was taken for a firm with CRD 0, and de minimis volume was 0."""
    rows = normalize(read({**SMALL, "firmCRDNumber": zero}), week_ending=WEEK, tier=T1).volume
    assert rows.select("venue_kind", "venue_id", "firm_crd", "share_volume").rows() == [
        ("DE_MINIMIS", "DE_MINIMIS", None, Decimal(10))
    ]


@pytest.mark.parametrize(
    ("stated", "dollars"),
    [
        ("141141135.435285002", "141141135.435285"),
        ("0.30000000000000004", "0.300000"),
        ("5027197407.1234565", "5027197407.123457"),
        ("1.0000004999", "1.000000"),
    ],
)
def test_dollars_are_taken_to_six_places(stated: str, dollars: str) -> None:
    """pandas.to_json writes ten decimals, and every row of such a file was rejected."""
    assert read({**ATS, "totalNotionalSum": stated}).records["notional"].to_list() == [Decimal(dollars)]


@pytest.mark.parametrize(
    ("stated", "shares"), [("1234567.1234560001", "1234567.123456"), ("0.30000000000000004", "0.3")]
)
def test_shares_are_taken_to_six_places_where_only_a_floats_error_is_left_out(stated: str, shares: str) -> None:
    assert read({**ATS, "totalWeeklyShareQuantity": stated}).records["shares"].to_list() == [Decimal(shares)]


@pytest.mark.parametrize("stated", ["1.1234567", "0.0000001", "1e-7", "1234567.12345601", "100000000.0000001"])
def test_shares_with_a_seventh_decimal_of_their_own_are_never_rounded_in_silence(stated: str) -> None:
    publication = read(ATS, {**ATS, "totalWeeklyShareQuantity": stated})
    assert publication.records.height == 1
    assert "more than six decimals" in publication.rejected["reason"][0]


@given(st.decimals(0, 10**9, places=6))
def test_any_amount_survives_a_double_and_its_shortest_or_longest_text(amount: Decimal) -> None:
    for text in (repr(float(amount)), f"{float(amount):.17g}", f"{float(amount):.10f}"):
        assert value(text, "shares", "totalWeeklyShareQuantity") == amount


@pytest.mark.parametrize(
    "stated",
    [
        "2026-09-08 00:00:00",
        "2026-09-08T00:00:00",
        "2026-09-08T00:00:00.000Z",
        "2026-09-08T00:00:00.000",
        "2026-09-08 00:00:00+00:00",
    ],
)
def test_a_date_may_be_written_as_a_timestamp_of_midnight(stated: str) -> None:
    assert read({**ATS, "lastUpdateDate": stated}).records["last_update_date"].to_list() == [dt.date(2026, 9, 8)]


@pytest.mark.parametrize("stated", ["2026-09-08T06:00:00", "2026-09-08T00:00:01Z", "2026-09-08T", "2026-09-08 00"])
def test_a_moment_that_is_no_midnight_is_no_date(stated: str) -> None:
    with pytest.raises(BadValue, match="not a date"):
        value(stated, "last_update_date", "lastUpdateDate")


def test_reading_at_once_and_by_row_agree_on_every_marker_in_every_column() -> None:
    """Both ways of reading give the same values."""
    records = [{**ATS, field: marker} for field in FIELDS for marker in (*sorted(MARKERS), " ", "0", "7.0")]
    for record in records:
        at_once, by_row = read(ATS, record), read(ATS, record, by_row=True)
        assert at_once.records.equals(by_row.records), record
        assert at_once.rejected.equals(by_row.rejected), record
    together, one_by_one = read(ATS, *records), read(ATS, *records, by_row=True)
    assert isinstance(together.records, pl.DataFrame)
    assert together.records.equals(one_by_one.records)
