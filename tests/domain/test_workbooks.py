"""Excel workbooks, Parquet files and objects around records: what people keep, read by the same rules."""

from __future__ import annotations

import datetime as dt
import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest

from otc_assets.domain.enums import CaptureScope, FileLayout
from otc_assets.domain.normalize import normalize, split
from otc_assets.domain.parsing import UnreadableFile, parse
from otc_assets.domain.weeks import T1
from otc_assets.finra.file_reader import read_file

API, API_JSON, WEBSITE = FileLayout.API, FileLayout.API_JSON, FileLayout.WEBSITE

WEEK = dt.date(2026, 8, 21)
#: A date as pandas and Excel hold it.
MIDNIGHT = dt.datetime(2026, 9, 8)  # noqa: DTZ001 - neither knows a zone
WEBSITE_NAMES = [
    "tierDescription",
    "issueSymbolIdentifier",
    "issueName",
    "marketParticipantName",
    "MPID",
    "totalWeeklyShareQuantity",
    "totalWeeklyTradeCount",
    "lastUpdateDate",
]
WEBSITE_ROW = ["NMS Tier 1", "ABC", "Abc, Inc. | A\n", "POOL", "PPEX", 1234567.123456, 7, MIDNIGHT]
RECORD: dict[str, Any] = {
    "weekStartDate": dt.date(2026, 8, 17),
    "tierIdentifier": "T1",
    "tierDescription": "NMS Tier 1",
    "issueSymbolIdentifier": "ABC",
    "issueName": "Abc Inc.",
    "MPID": "PPEX",
    "firmCRDNumber": None,
    "marketParticipantName": "POOL",
    "totalWeeklyShareQuantity": 10.000001,
    "totalWeeklyTradeCount": 4,
    "totalNotionalSum": 141141135.435285,
    "summaryTypeCode": "ATS_W_SMBL_FIRM",
    "lastUpdateDate": MIDNIGHT,
}
FIRM = {
    **RECORD,
    "MPID": None,
    "firmCRDNumber": 1001.0,
    "marketParticipantName": "FIRM",
    "summaryTypeCode": "OTC_W_SMBL_FIRM",
}
SMALL = {**FIRM, "firmCRDNumber": 0.0, "marketParticipantName": "De Minimis Firms"}


def workbook(*sheets: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet {number}")
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def records_in_a_workbook(*records: dict[str, Any]) -> bytes:
    return workbook([list(RECORD), *([record[name] for name in RECORD] for record in records)])


def records_in_parquet(*records: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(list(records), infer_schema_length=None).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("write", [records_in_a_workbook, records_in_parquet], ids=["xlsx", "parquet"])
def test_records_in_a_table_are_read_as_those_of_the_api_are(write: Any) -> None:
    """A workbook was 'a zip archive, unpack it', and a Parquet file 'damaged'."""
    publication = parse(write(RECORD, FIRM, SMALL), name="week.table")
    assert (publication.layout, publication.truncated, publication.received) == (API, False, 3)
    rows = normalize(publication, week_ending=WEEK, tier=T1)
    assert rows.rejected.height == 0
    assert rows.volume.select("venue_kind", "venue_id", "share_volume", "notional", "last_update_date").rows() == [
        (kind, venue, Decimal("10.000001"), Decimal("141141135.435285"), dt.date(2026, 9, 8))
        for kind, venue in [("ATS", "PPEX"), ("NON_ATS", "1001"), ("DE_MINIMIS", "DE_MINIMIS")]
    ]


@pytest.mark.parametrize("write", [records_in_a_workbook, records_in_parquet], ids=["xlsx", "parquet"])
def test_rows_of_a_table_that_cannot_be_read_are_rejected_with_their_line(write: Any) -> None:
    bad = {**RECORD, "totalWeeklyShareQuantity": 0.12345678, "issueSymbolIdentifier": "BAD"}
    publication = parse(write(RECORD, bad, FIRM), name="week.table")
    first = publication.raw["line"][0]
    assert first == (1 if write is records_in_parquet else 2)
    assert publication.records["line"].to_list() == [first, first + 2]
    ((line, record, reason),) = publication.rejected.rows()
    assert (line, record) == (first + 1, publication.raw["record"][1])
    assert "BAD|Abc Inc.|PPEX" in record
    assert "more than six decimals" in reason


def test_a_workbook_of_the_websites_columns_is_a_half_of_a_publication(tmp_path: Path) -> None:
    """Headers may follow empty rows, and empty rows the last one; a name keeps whatever it holds."""
    path = tmp_path / "t1.xlsx"
    path.write_bytes(workbook([[], WEBSITE_NAMES, WEBSITE_ROW, [None] * 8, [""] * 8], [["notes"], ["mine"]]))
    (capture,) = read_file(path)
    assert (capture.week_ending, capture.tier, capture.scope) == (WEEK, T1, CaptureScope.ATS)
    publication = parse(capture.content.read(), name="t1.xlsx")
    (row,) = publication.records.iter_rows(named=True)
    assert (publication.layout, row["line"], row["issue_name"]) == (WEBSITE, 3, "Abc, Inc. | A\n")
    assert (row["shares"], row["last_update_date"]) == (Decimal("1234567.123456"), dt.date(2026, 9, 8))


def test_a_parquet_file_is_parts_of_its_weeks(tmp_path: Path) -> None:
    path = tmp_path / "weeks.parquet"
    other = {**RECORD, "weekStartDate": dt.date(2026, 8, 10)}
    path.write_bytes(records_in_parquet(RECORD, other))
    assert [(c.week_ending, c.scope) for c in read_file(path)] == [
        (dt.date(2026, 8, 14), CaptureScope.PARTIAL),
        (WEEK, CaptureScope.PARTIAL),
    ]
    parts = split(parse(path.read_bytes(), name="f"))
    assert [part.raw["line"].to_list() for part in parts.values()] == [[2], [1]]


@pytest.mark.parametrize("is_true", [True, False])
def test_a_ticker_that_excel_took_for_a_truth_is_that_ticker(is_true: bool) -> None:
    publication = parse(records_in_a_workbook({**RECORD, "issueSymbolIdentifier": is_true}), name="f")
    assert publication.records["symbol"].to_list() == [str(is_true).upper()]


@pytest.mark.parametrize("changed", [MIDNIGHT, 1e10, 5, "#NAME?"])
def test_a_ticker_that_excel_has_changed_rejects_its_row(changed: object) -> None:
    """MAR1 becomes a date: what the symbol was can't be known."""
    publication = parse(records_in_a_workbook(RECORD, {**RECORD, "issueSymbolIdentifier": changed}), name="f")
    assert publication.records["line"].to_list() == [2]
    assert publication.rejected["reason"][0].startswith("issueSymbolIdentifier is ")


def test_a_cut_or_damaged_table_is_refused_by_name() -> None:
    for data, what in ((records_in_a_workbook(RECORD), "xlsx"), (records_in_parquet(RECORD), "parquet")):
        for cut in (len(data) // 2, len(data) - 10, 50):
            with pytest.raises(UnreadableFile, match=f"^week.{what}: ") as caught:
                parse(data[:cut], name=f"week.{what}")
            assert str(caught.value).count(". ") >= 1
        damaged = bytearray(data)
        damaged[len(data) // 3] ^= 0xFF
        try:
            assert parse(bytes(damaged), name="f").received in (0, 1)
        except UnreadableFile as error:
            assert str(error).startswith("f")  # noqa: PT017 - either is right


_UNREAD = frozenset({"docProps/app.xml", "_rels/.rels"})


@pytest.mark.parametrize("damage", ["deflated", "encrypted", "method"])
def test_a_workbook_with_a_damaged_member_is_refused_by_name_whichever_it_is(damage: str) -> None:
    """A changed byte was a zlib.error, and an encrypted member a RuntimeError: both were shown as bugs."""
    whole = workbook([WEBSITE_NAMES, WEBSITE_ROW])
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        # openpyxl does not read the others.
        members = [member for member in archive.infolist() if member.filename not in _UNREAD]
    for member in members:
        data = bytearray(whole)
        names = len(member.filename.encode())
        if damage == "deflated":  # the type of the first block of the compressed data
            data[member.header_offset + 30 + names] |= 0b110
        at = _directory_entry(data, member.filename)
        if damage == "encrypted":
            data[member.header_offset + 6] |= 1
            data[at + 8] |= 1
        elif damage == "method":  # LZMA, whose properties the data does not begin with
            data[member.header_offset + 8] = data[at + 10] = 14
        with pytest.raises(UnreadableFile, match=r"^f.xlsx: the Excel workbook is damaged \("):
            parse(bytes(data), name="f.xlsx")


def _directory_entry(data: bytearray, filename: str) -> int:
    """Where the entry of a member in the directory at the end of a zip archive begins."""
    at = data.find(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(filename)] != filename.encode():
        at = data.find(b"PK\x01\x02", at + 4)
        assert at >= 0
    return at


def test_a_workbook_with_several_tables_of_finras_is_refused_by_their_names() -> None:
    data = workbook([WEBSITE_NAMES, WEBSITE_ROW], [WEBSITE_NAMES, WEBSITE_ROW])
    with pytest.raises(UnreadableFile, match=r"2 worksheets have FINRA's columns \('Sheet 0', 'Sheet 1'\)"):
        parse(data, name="f.xlsx")
    with pytest.raises(UnreadableFile, match=r"0 worksheets have FINRA's columns \(none\)"):
        parse(workbook([["a", "b"], [1, 2]]), name="f.xlsx")


@pytest.mark.slow
def test_a_workbook_that_unpacks_to_gigabytes_is_refused_before_it_is() -> None:
    buffer = io.BytesIO(records_in_a_workbook(RECORD))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/more.xml", "w") as member:
        for _ in range(1_100):
            member.write(bytes(1 << 20))
    with pytest.raises(UnreadableFile, match=r"f.xlsx: the Excel workbook unpacks to 1,1\d\d MiB"):
        parse(buffer.getvalue(), name="f.xlsx")


def test_text_in_a_table_that_cannot_be_stored_rejects_its_row() -> None:
    publication = parse(records_in_parquet(RECORD, {**RECORD, "issueName": "a\0b"}), name="f")
    assert publication.rejected["reason"].to_list() == [
        "issueName contains U+0000 at character 2, which can't be stored"
    ]
    assert not any("\0" in text for text in (*publication.raw["record"], *publication.rejected["record"]))


@pytest.mark.parametrize("start", [b"\xd0\xcf\x11\xe0", b"%PDF-1.7", b"ARROW1\0\0", b"BZh9", b"\x28\xb5\x2f\xfd"])
def test_other_formats_are_refused_with_what_they_are_and_what_to_do(start: bytes) -> None:
    with pytest.raises(UnreadableFile, match=r"^f: it is (an?|compressed) .*\. [A-Z]") as caught:
        parse(start + bytes(100), name="f")
    assert "NUL" not in str(caught.value)


# --- an object around the records ----------------------------------------------------------------------

JSON_RECORD = json.loads(json.dumps(RECORD, default=lambda day: str(day)[:10]))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda records: {"rows": records},
        lambda records: {"data": records, "total": 2},
        lambda records: {"status": {"code": 200, "of": [1]}, "message": "}] ok", "results": records, "next": None},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_records_in_an_objects_one_list_are_read(wrap: Any, indent: int | None) -> None:
    other = {**JSON_RECORD, "issueSymbolIdentifier": "B"}
    publication = parse(json.dumps(wrap([JSON_RECORD, other]), indent=indent).encode(), name="f")
    assert (publication.layout, publication.truncated, publication.rejected.height) == (API_JSON, False, 0)
    assert publication.records.select("line", "symbol").rows() == [(1, "ABC"), (2, "B")]
    assert json.loads(publication.raw["record"][1]) == other


def test_an_object_around_the_records_that_is_truncated_says_so_and_loses_nothing() -> None:
    text = json.dumps({"rows": [JSON_RECORD, JSON_RECORD], "total": 2})
    for cut in range(1, 14):
        publication = parse(text[:-cut].encode(), name="f")
        assert (publication.records.height, publication.truncated) == (2, True)
    rejected = parse((text[:-1] + " and more").encode(), name="f").rejected
    assert rejected["record"].to_list() == ["and more"]


def test_two_lists_of_records_in_one_object_are_refused() -> None:
    text = json.dumps({"ats": [JSON_RECORD], "otc": [JSON_RECORD]})
    with pytest.raises(UnreadableFile, match="two lists of records"):
        parse(text.encode(), name="f")


def test_a_record_with_a_list_of_objects_of_its_own_is_still_one_record() -> None:
    text = json.dumps([{"id": 1, **JSON_RECORD, "tags": [{"a": 1}]}])
    assert parse(text.encode(), name="f").records["symbol"].to_list() == ["ABC"]


@pytest.mark.parametrize("text", ['{"rows": []}', '{"message": "no"}', '{"rows": [{"a": 1}]}', '{"a": [1], "b": 2}'])
def test_an_object_without_records_is_refused(text: str) -> None:
    with pytest.raises(UnreadableFile, match="^f: .*it has none of its fields"):
        parse(text.encode(), name="f")


def test_one_value_longer_than_a_line_is_not_made_into_objects() -> None:
    """Half a gigabyte of numbers in one member would be 20 GB of objects."""
    text = "[" + json.dumps(JSON_RECORD)[:-1] + ', "x": [' + "11," * 4_000_000 + "1]}]"
    with pytest.raises(UnreadableFile, match="longer than 1 MiB"):
        parse((text + "]").encode(), name="f")
