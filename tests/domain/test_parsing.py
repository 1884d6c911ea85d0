"""Reading bytes: every layout, and every kind of damage."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import resource
import subprocess
import sys
import zipfile
import zlib
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.legacy_files import legacy_file

from otc_assets.domain.enums import FileLayout
from otc_assets.domain.parsing import UnreadableFile, delimited, parse
from otc_assets.domain.values import is_missing
from otc_assets.domain.weeks import OTCE, T1
from otc_assets.finra.simulator.files import download_file
from otc_assets.finra.simulator.generator import Simulator

API, API_JSON, LEGACY, WEBSITE = FileLayout.API, FileLayout.API_JSON, FileLayout.LEGACY, FileLayout.WEBSITE
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate"
)
ROW = 'OTC|ABRpD|Say "Hi", Inc.  #1 $ ! &|SOME  VENUE|PPEX|123.000001|7|2025-12-22'


def website(*rows: str, end: str = "\n") -> bytes:
    return ("\n".join([HEADER, *rows]) + end).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"root:x:0:0:SECRET\n",
        b"SECRET|b|c\n1|2|3\n",
        b'Symbol|"SECRET\r"x|c\n1|2|3\n',
        b"Symbol,SECRET\nA,SECRET\n",
        b"<html>SECRET</html>",
        b"\x1f\x8bSECRET",
        b'{"password": "SECRET"}',
        b"SECRET\0",
    ],
)
def test_a_refusal_quotes_nothing_of_a_file_that_is_not_finras(content: bytes) -> None:
    """Refusals reach events and alerts: the first line of any file on the machine could be read there."""
    with pytest.raises(UnreadableFile) as refused:
        parse(content, name="f")
    assert "SECRET" not in str(refused.value)


def test_a_row_is_read_to_the_letter_and_the_last_decimal() -> None:
    """Quotes, double blanks and case are part of names; fractions are part of shares."""
    parsed = parse(website(ROW), name="f")
    (row,) = parsed.records.iter_rows(named=True)
    assert (parsed.layout, parsed.received, parsed.truncated) == (WEBSITE, 1, False)
    assert row["symbol"] == "ABRpD"
    assert row["issue_name"] == 'Say "Hi", Inc.  #1 $ ! &'
    assert row["participant_name"] == "SOME  VENUE"
    assert row["shares"] == Decimal("123.000001")
    assert (row["trades"], row["last_update_date"], row["line"]) == (7, dt.date(2025, 12, 22), 2)
    assert row["firm_crd"] is None


@pytest.mark.parametrize(
    "data",
    [
        website(ROW, end=""),
        b"\xef\xbb\xbf" + website(ROW),
        website(ROW).replace(b"\n", b"\r\n"),
        gzip.compress(website(ROW), mtime=0),
    ],
    ids=["no last newline", "byte order mark", "CRLF", "gzip"],
)
def test_a_byte_order_mark_crlf_gzip_or_a_missing_last_newline_changes_nothing(data: bytes) -> None:
    assert parse(data, name="f").records.equals(parse(website(ROW), name="f").records)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("OTC|A|B|C|D|1|1", "expected 8 fields, found 7"),
        ("OTC|A|B|C|D|1|1|2025-12-22|x", "expected 8 fields, found 9"),
        ("OTC|A|B|C|D|1x|1|2025-12-22", "totalWeeklyShareQuantity is '1x', not a number"),
        ("OTC|A|B|C|D|NaN|1|2025-12-22", "totalWeeklyShareQuantity is 'NaN', not a number"),
        ("OTC|A|B|C|D|1|1.5|2025-12-22", "totalWeeklyTradeCount is '1.5', not a whole number"),
        ("OTC|A|B|C|D|1|1|2025-13-22", "lastUpdateDate is '2025-13-22', not a date"),
        ("OTC|A|B|C|D|1.1234567|1|2025-12-22", "more than six decimals"),
        ("OTC|A|B|C|D|1e-7|1|2025-12-22", "more than six decimals"),
        ("OTC|A|B|C|D|1_0|1|2025-12-22", "totalWeeklyShareQuantity is '1_0', not a number"),
        (f"OTC|A|B|C|D|1{'0' * 32}|1|2025-12-22", "32 digits"),
        ("OTC|A|B|C|D|1|1|0000-12-22", "lastUpdateDate is '0000-12-22', not a date"),
        ("OTC|A|B|C|D|1|1|22-12-2025", "lastUpdateDate is '22-12-2025', not a date"),
        ("OTC|A|B|C|D|1|1|2025/12/22", "lastUpdateDate is '2025/12/22', not a date"),
        ("OTC|A|B|C|D||1|2025-12-22", "totalWeeklyShareQuantity is empty"),
        ("OTC|A|B|C|D|1||2025-12-22", "totalWeeklyTradeCount is empty"),
        ("", "expected 8 fields, found 0"),
    ],
)
def test_a_row_that_cannot_be_read_is_rejected_verbatim_with_the_reason_and_the_others_are_read(
    bad: str, reason: str
) -> None:
    parsed = parse(website(ROW, bad, ROW), name="f")
    assert (parsed.records["line"].to_list(), parsed.received) == ([2, 4], 3)
    ((line, record, said),) = parsed.rejected.rows()
    assert (line, record) == (3, bad)
    assert reason in said
    assert parsed.raw.rows() == [(2, ROW), (3, bad), (4, ROW)]


def test_dates_that_are_all_day_first_are_never_read_as_some_other_day() -> None:
    """Polars guesses a column's order of day and month by its first value: 01-02-2025 was 1 February to it."""
    rows = [f"OTC|S{n}|B|C|D|1|1|0{n}-02-2025" for n in range(1, 9)]
    parsed = parse(website(ROW, *rows), name="f")
    assert (parsed.records["line"].to_list(), parsed.rejected.height) == ([2], 8)


def test_a_large_number_that_is_exact_is_read_beside_a_row_that_cannot_be() -> None:
    """Its check once overflowed the decimal context, and one row stopped the whole file."""
    large = f"OTC|A|B|C|D|1{'0' * 30}.000001|1|2025-12-22"
    parsed = parse(website(large, "x"), name="f")
    assert parsed.records["shares"].to_list() == [Decimal(f"1{'0' * 30}.000001")]
    assert parsed.rejected["record"].to_list() == ["x"]


@pytest.mark.parametrize("last", ["", "7"], ids=["empty", "given"])
def test_rows_whose_last_column_may_be_empty_are_not_mistaken_for_cut_ones(last: str) -> None:
    """Polars fills short rows up with nulls, just as it reads an empty last field."""
    header = "weekStartDate|tierIdentifier|issueSymbolIdentifier|totalWeeklyShareQuantity|totalWeeklyTradeCount|MPID"
    whole, short = f"2026-08-17|T1|A|1|1|{last}", "2026-08-17|T1|B|1|1"
    parsed = parse("\n".join([header, whole, short, whole, ""]).encode(), name="f")
    assert parsed.records.select("line", "mpid").rows() == [(2, last or None), (4, last or None)]
    assert parsed.rejected.rows() == [(3, short, "expected 6 fields, found 5")]


def test_a_bad_row_among_many_is_the_only_one_that_is_rejected() -> None:
    """Rows are read one by one around it alone; line numbers go on across the blocks."""
    rows = [f"OTC|S{n}|B|C|D|{n}|1|2025-12-22" for n in range(10_000)]
    bad = {1234: "OTC|BAD", 8765: "OTC|A|B|C|D|x|1|2025-12-22"}
    parsed = parse(website(*(bad.get(n, row) for n, row in enumerate(rows))), name="f")
    assert parsed.rejected.select("line", "record").rows() == [(n + 2, row) for n, row in bad.items()]
    assert parsed.records.select("line", "symbol", "shares").rows() == [
        (n + 2, f"S{n}", n) for n in range(10_000) if n not in bad
    ]


@pytest.mark.parametrize("odd", ["\rx", "\x01", "A\rB", "x\x01\x01"])
def test_control_characters_stay_in_the_verbatim_row(odd: str) -> None:
    """Polars drops a carriage return, or an empty column, at the end of a line."""
    parsed = parse(website(ROW, odd, ROW + odd), name="f")
    assert parsed.raw["record"].to_list() == [ROW, odd, ROW + odd]
    assert parsed.received == 3


def test_a_row_that_is_not_utf8_is_rejected_and_the_others_are_read() -> None:
    parsed = parse(website(ROW) + b"OTC|\xff|B|C|D|1|1|2025-12-22\n", name="f")
    ((line, record, reason),) = parsed.rejected.rows()
    assert (line, record, parsed.records.height) == (3, "OTC|\\xff|B|C|D|1|1|2025-12-22", 1)
    assert "UTF-8" in reason


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_file_that_ends_within_a_row_says_so_and_loses_no_other_row(cut: int) -> None:
    """`2025-12-2` reads as a date: a cut row must not pass for a whole one."""
    parsed = parse(website(ROW, ROW)[:-1][:-cut], name="f")
    assert parsed.truncated
    assert (parsed.records.height, parsed.rejected.height) == (1, 1)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("f.csv", website(ROW))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (b"<!DOCTYPE html><html><body>Sorry</body></html>", "page of HTML"),
        (zipped(), "zip archive"),
        (website(ROW).replace(b"|", b","), "separated by ','"),
        (website(ROW).replace(b"|", b";"), "separated by ';'"),
        (website(ROW).replace(b"|totalWeeklyShareQuantity", b""), "lacks totalWeeklyShareQuantity"),
        (website(ROW).replace(b"|MPID", b""), "lacks MPID"),
        (website(ROW)[:200] + b"\0" + website(ROW)[200:], "line 2: it has NUL bytes"),
        (website(ROW, "x" * (3 << 20)), "line 3: the line is longer than 1 MiB"),
        (website(ROW, "x" * ((1 << 20) + 1), ROW), "line 3: the line is longer than 1 MiB"),
        (website(ROW).replace(b"\n", b"\r"), "header can't be read"),
        (website(ROW).replace(b"issueName", b"MPID", 1), "lacks issueName"),
        (website(ROW).replace(b"|MPID", b"|MPID|MPID", 1), "names MPID more than once"),
        (b"[" * 100_000, "not valid JSON"),
        (b"a|b|c\n1|2|3\n", "none of FINRA's columns"),
        (b"hello\nworld\n", "not a FINRA header"),
        (website(ROW).decode().encode("utf-16"), "UTF-16"),
        (gzip.compress(website(ROW), mtime=0)[:-9], "gzip is damaged"),
        (b'[{"hello": 1}]', "none of its fields"),
        (b'[{"weekStartDate": ', "not valid JSON"),
    ],
)
def test_what_is_not_a_publication_is_refused_with_name_problem_and_remedy(data: bytes, said: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        parse(data, name="weekly.csv")
    message = str(caught.value)
    assert message.startswith("weekly.csv")
    assert said in message
    assert message.count(". ") >= 1


def test_a_gzip_bomb_is_refused_long_before_it_is_unpacked() -> None:
    """256 MiB of one line in a quarter of a megabyte: reading stops after the first MiB or two."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([packer.compress(b"x" * (1 << 20)) for _ in range(256)]) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableFile, match="weekly.gz, unpacked: a line is longer than 1 MiB"):
        parse(bomb, name="weekly.gz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000


@pytest.mark.parametrize("at", range(10, 70, 3))
def test_a_gzip_file_with_a_wrong_byte_is_refused_as_damaged(at: int) -> None:
    """A wrong byte in the stream is neither an OSError nor an EOFError: it once came through as it was."""
    packed = bytearray(gzip.compress(website(*[ROW] * 50)))
    packed[at] ^= 0xFF
    with pytest.raises(UnreadableFile):
        parse(bytes(packed), name="weekly.gz")


def test_a_header_alone_is_a_publication_of_no_rows() -> None:
    parsed = parse(website(), name="f")
    assert (parsed.received, parsed.raw.height, parsed.truncated) == (0, 0, False)


JSON_ROW = {
    "weekStartDate": "2026-08-17",
    "tierIdentifier": "T1",
    "tierDescription": "NMS Tier 1",
    "issueSymbolIdentifier": "EXR",
    "issueName": None,
    "MPID": "PPEX",
    "totalWeeklyTradeCount": 3,
    "summaryTypeCode": "ATS_W_SMBL_FIRM",
}


def test_numbers_in_json_never_pass_through_a_float() -> None:
    """5027197407.123456 has sixteen digits: a double holds fifteen."""
    text = json.dumps([JSON_ROW])[:-2] + ', "totalNotionalSum": 5027197407.123457, "totalWeeklyShareQuantity": 0.1}]'
    parsed = parse(text.encode(), name="f")
    (row,) = parsed.records.iter_rows(named=True)
    assert parsed.layout == API_JSON
    assert row["notional"] == Decimal("5027197407.123457")
    assert row["shares"] == Decimal("0.1")
    assert row["issue_name"] is None
    assert parsed.raw["record"][0] == text[1:-1]


def test_a_record_that_names_a_field_twice_is_rejected_and_the_others_are_read() -> None:
    """The last of two values counted, without a word. A header with a name twice is refused, too."""
    record = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5})
    twice = f'{record[:-1]}, "totalWeeklyShareQuantity": 6}}'
    parsed = parse(f"[{record},{twice},{record}]".encode(), name="f")
    assert parsed.records["line"].to_list() == [1, 3]
    reason = "the record names totalWeeklyShareQuantity more than once, so its values are ambiguous"
    assert parsed.rejected.select("line", "record", "reason").rows() == [(2, twice, reason)]


def test_replies_that_follow_one_another_in_one_file_are_all_read() -> None:
    """Records after the first array's end were once ignored."""
    record = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5})
    several = parse(f" \n[{record}]\n[{record},{record}]\n{record}\n".encode(), name="f")
    assert (several.records.height, several.truncated) == (4, False)
    more = parse(f"[{record}] and more".encode(), name="f")
    assert (more.records.height, more.rejected["record"].to_list(), more.truncated) == (1, ["and more"], True)


def test_an_empty_text_is_nothing_in_json_as_in_a_delimited_file() -> None:
    """A firm with an empty MPID was once taken for an ATS."""
    parsed = parse(json.dumps([{**JSON_ROW, "MPID": "", "totalWeeklyShareQuantity": 1.5e3}]).encode(), name="f")
    assert parsed.records.select("mpid", "shares").rows() == [(None, Decimal(1500))]


def test_json_that_is_truncated_keeps_its_whole_records() -> None:
    whole = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5})
    parsed = parse(f"[{whole},\n{whole[:40]}".encode(), name="f")
    assert (parsed.records.height, parsed.rejected.height, parsed.truncated) == (1, 1, True)
    assert parsed.rejected["record"][0] == whole[:40]


def test_api_records_as_quoted_csv_are_read_too() -> None:
    """FINRA quotes and separates by commas unless asked otherwise."""
    text = (
        '"weekStartDate","tierIdentifier","issueSymbolIdentifier","issueName","totalWeeklyShareQuantity",'
        '"totalWeeklyTradeCount"\n"2026-08-17","T1","EXR","Extra Space, Inc. ""A""","1.5","2"\n'
    )
    parsed = parse(text.encode(), name="f")
    (row,) = parsed.records.iter_rows(named=True)
    assert (parsed.layout, row["issue_name"], row["shares"]) == (API, 'Extra Space, Inc. "A"', Decimal("1.5"))


@pytest.mark.parametrize("kind", ["ATS", "NON_ATS"])
def test_a_legacy_file_is_read_without_its_trailer_which_is_checked(kind: str) -> None:
    simulator, week, today = Simulator(scale=0.02), dt.date(2026, 8, 21), dt.date(2026, 10, 14)
    legacy = legacy_file(simulator, week, T1, kind, today)
    current = parse(download_file(simulator, week, T1, kind, today), name="f")
    parsed = parse(legacy, name="f")
    assert (parsed.layout, parsed.truncated, parsed.rejected.height) == (LEGACY, False, 0)
    columns = ["symbol", "participant_name", "shares", "trades"]
    assert parsed.records.select(columns).equals(current.records.select(columns))
    lines = legacy.split(b"\n")
    missing_row = b"\n".join(lines[:5] + lines[6:])
    assert parse(missing_row, name="f").truncated
    without_trailer = b"\n".join(lines[:-2]) + b"\n"
    cut = parse(without_trailer, name="f")
    assert (cut.truncated, cut.received) == (True, parsed.received)


@pytest.mark.parametrize("end", ["NMS Tier 1|AA", "NMS T"], ids=["after a field", "within the first"])
def test_a_legacy_file_cut_within_a_row_has_no_trailer_to_drop(end: str) -> None:
    """The cut row was once dropped as if it were the trailer."""
    header = "Report_Type|Symbol|Issue_Description|ATS_Description|ATS_MPID|Shares|Trades|Last_Updated"
    parsed = parse(f"{header}\nNMS Tier 1|A|A Inc|POOL|PPEX|5|1|2015-01-26\n{end}".encode(), name="f")
    assert (parsed.records.height, parsed.rejected["record"].to_list(), parsed.truncated) == (1, [end], True)


def test_one_typed_read_and_row_by_row_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading give the same values."""
    data = download_file(Simulator(scale=0.05), dt.date(2026, 8, 21), OTCE, "NON_ATS", dt.date(2026, 10, 14))
    at_once = parse(data, name="f")
    monkeypatch.setattr(delimited, "_read_at_once", lambda *_, **__: None)
    assert parse(data, name="f").records.equals(at_once.records)


NAME = st.text(
    st.characters(blacklist_characters="|\n\r\0\x01", blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20
).filter(lambda text: not any(is_missing(text, column) for column in ("symbol", "issue_name")))


@given(
    rows=st.lists(
        st.tuples(
            NAME,
            NAME,
            st.decimals(0, 10**12, places=6),
            st.integers(0, 10**9),
            st.dates(dt.date(2014, 1, 1), dt.date(2030, 1, 1)),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_rows_come_back_as_they_were_written(
    rows: list[tuple[str, str, Decimal, int, dt.date]],
) -> None:
    lines = [f"OTC|{symbol}|{name}|V|MPID|{shares}|{trades}|{day}" for symbol, name, shares, trades, day in rows]
    parsed = parse(website(*lines), name="f")
    assert parsed.rejected.height == 0
    got = parsed.records.select("symbol", "issue_name", "shares", "trades", "last_update_date").rows()
    assert got == rows


@given(data=st.data())
def test_no_line_is_ever_lost_whatever_happens_to_the_bytes(data: st.DataObject) -> None:
    """received = read + rejected, for any damage that leaves the header alone."""
    body = bytearray("\n".join([ROW] * 4).encode())
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.sampled_from(list(b'|\nx9"\xff- .e+/\r\x01')))
    content = HEADER.encode() + b"\n" + bytes(body)
    try:
        parsed = parse(content, name="f")
    except UnreadableFile:
        return
    lines = content.replace(b"\r\n", b"\n").split(b"\n")[1:]
    while lines and not lines[-1].strip(b" \t\r"):
        lines.pop()
    assert parsed.received == len(lines)
    assert parsed.raw["record"].to_list() == [line.decode(errors="backslashreplace") for line in lines]
    assert sorted([*parsed.records["line"], *parsed.rejected["line"]]) == list(range(2, len(lines) + 2))
    assert pl.concat([parsed.records["line"], parsed.rejected["line"]]).n_unique() == len(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_read_at_once", lambda *_, **__: None)
        by_row = parse(content, name="f")
    assert by_row.records.equals(parsed.records)
    assert by_row.rejected.equals(parsed.rejected)


def test_a_panic_in_polars_while_a_file_is_read_refuses_that_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic is a BaseException that no handler catches: one file ended the whole run."""

    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("index out of bounds")

    monkeypatch.setattr(pl, "read_csv", panic)
    with pytest.raises(UnreadableFile, match=r"^weekly.csv: Polars failed on its rows \(index out of bounds\)"):
        parse(website(ROW), name="weekly.csv")


def test_a_panic_while_the_verbatim_rows_are_read_refuses_that_file(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = parse(website(ROW), name="weekly.csv")

    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("index out of bounds")

    monkeypatch.setattr(pl, "read_csv", panic)
    with pytest.raises(UnreadableFile, match=r"^weekly.csv: Polars failed"):
        _ = parsed.raw
    with pytest.raises(UnreadableFile, match=r"^weekly.csv: Polars failed"):
        parsed.read_lines()


@pytest.mark.parametrize(
    ("escape", "code"),
    [("\\u0000", "U+0000"), ("\\ud800", "U+D800"), ("\\udfff", "U+DFFF"), ("a\\ude00\\ud83d", "U+DE00")],
)
@pytest.mark.parametrize(
    "field", ["issueSymbolIdentifier", "issueName", "marketParticipantName", "MPID", "tierIdentifier"]
)
def test_text_that_cannot_be_stored_rejects_its_own_row_and_loads_the_others(
    escape: str, code: str, field: str
) -> None:
    """One such name was accepted, and no load of its week could succeed again; a surrogate ended the whole run."""
    good = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5})
    bad = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5, field: "A@B"}).replace("@", escape)
    parsed = parse(f"[{good},\n{bad},\n{good}]".encode(), name="f")
    assert parsed.records["line"].to_list() == [1, 3]
    ((line, record, reason),) = parsed.rejected.rows()
    assert (line, record) == (2, bad)
    assert reason.startswith(f"{field} contains {code} at character ")
    for text in (*parsed.raw["record"], record, reason):
        assert "\0" not in text.encode().decode()


@pytest.mark.parametrize("value", ['"\\u0000"', '["\\ud800"]', '{"\\u0000": 1}'])
@pytest.mark.parametrize("field", ["totalWeeklyShareQuantity", "lastUpdateDate", "firmCRDNumber", "\\u0000"])
def test_the_reason_of_a_rejection_can_be_stored_whatever_the_value(field: str, value: str) -> None:
    good = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5})
    bad = good.replace("{", f'{{"{field}": {value}, ', 1).replace('"totalWeeklyShareQuantity": 5', '"x": 5')
    parsed = parse(f"[{good},{bad}]".encode(), name="f")
    assert parsed.rejected["line"].to_list() == [2]
    for text in (*parsed.rejected["record"], *parsed.rejected["reason"], *parsed.raw["record"]):
        assert "\0" not in text.encode().decode()


@pytest.mark.parametrize(("escape", "shown"), [("\\u0000", "\\x00"), ("\\ud800", "\\ud800")])
def test_a_name_that_is_there_twice_and_cannot_be_stored_rejects_its_own_row(escape: str, shown: str) -> None:
    """The reason quotes it: the whole file was an error, or its load was."""
    good = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5})
    bad = good.replace("{", f'{{"a{escape}": 1, "a{escape}": 2, ', 1)
    parsed = parse(f"[{good},{bad},{good}]".encode(), name="f")
    assert parsed.records["line"].to_list() == [1, 3]
    reason = f"the record names a{shown} more than once, so its values are ambiguous"
    assert parsed.rejected.select("line", "record", "reason").rows() == [(2, bad, reason)]


def test_a_pair_of_surrogates_is_one_character_and_stays_in_the_name() -> None:
    bad = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5, "issueName": "A \N{GRINNING FACE}"})
    assert "\\ud83d\\ude00" in bad
    assert parse(bad.encode(), name="f").records["issue_name"].to_list() == ["A \N{GRINNING FACE}"]


@pytest.mark.parametrize("blank", ["\n", "\n\n", " \n", "\t\n \n", "\r\n\r\n", "  ", "\n" * 1000 + " \r\n\t"])
def test_blank_lines_after_the_last_row_are_not_rows(blank: str) -> None:
    """Two of them in a small file were two rejected rows of 32, and grade F."""
    parsed = parse(website(ROW, ROW) + blank.encode(), name="f")
    assert (parsed.records["line"].to_list(), parsed.rejected.height, parsed.truncated) == ([2, 3], 0, False)
    assert parsed.raw.rows() == [(2, ROW), (3, ROW)]


def test_blank_lines_between_rows_are_rejected_rows() -> None:
    """These lines are counted as rejected rows."""
    parsed = parse(website(ROW, "", " ", ROW) + b"\n\n", name="f")
    assert parsed.records["line"].to_list() == [2, 5]
    assert parsed.rejected.rows() == [(3, "", "expected 8 fields, found 0"), (4, " ", "expected 8 fields, found 1")]


def test_blank_lines_after_the_trailer_of_a_legacy_file_change_nothing() -> None:
    simulator, week, today = Simulator(scale=0.02), dt.date(2026, 8, 21), dt.date(2026, 10, 14)
    legacy = legacy_file(simulator, week, T1, "ATS", today)
    with_blanks, without = parse(legacy + b"\r\n \n\n", name="f"), parse(legacy, name="f")
    assert (with_blanks.truncated, with_blanks.rejected.height) == (False, 0)
    assert with_blanks.records.equals(without.records)


def test_a_row_of_a_tab_separated_file_keeps_its_empty_last_fields() -> None:
    """Tabs at the end of the last row are fields, and no blank end of the file."""
    header = (
        "weekStartDate\ttierIdentifier\tissueSymbolIdentifier\ttotalWeeklyShareQuantity\ttotalWeeklyTradeCount\tMPID"
    )
    parsed = parse(f"{header}\n2026-08-17\tT1\tA\t1\t1\t\n\n\n".encode(), name="f")
    assert parsed.records.select("symbol", "mpid").rows() == [("A", None)]


def test_a_header_with_blank_lines_is_a_publication_of_no_rows() -> None:
    assert parse(website() + b"\n\n \n", name="f").received == 0


#: Runs in a process of its own: reads the bytes that an expression gives, and prints what came of it and how far
#: the process grew meanwhile, in MiB.
MEASURED = """
import json, resource, sys, zlib
from otc_assets.domain.parsing import UnreadableFile, parse

HEADER, ROW, JSON_ROW = (text.encode() for text in json.loads(sys.argv[2]))


def packed(start, piece, times):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(start) + b"".join(packer.compress(piece) for _ in range(times)) + packer.flush()


data = eval(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
try:
    parsed = parse(data, name="f")
    result = [parsed.records.height, parsed.rejected.height, parsed.raw.height]
except UnreadableFile as error:
    result = str(error)
print(json.dumps([result, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("packed(HEADER + ROW, b'\\n' * 10**6, 80)", "unpacks to more than 200 times its size"),
        ("packed(JSON_ROW, b' ' * 10**6, 80)", "unpacks to more than 200 times its size"),
        ("HEADER + ROW + b'\\n' * 10**7", [1, 0, 1]),
        ("HEADER + ROW + b'\\n' * 10**7 + ROW", "more than 1,000,000 rows"),
        ("HEADER + ROW + b'\\n' * 900_000 + ROW", [2, 900_000, 900_002]),
        ("b'[' + b'1,' * 10**7 + b'1]'", "more than 1,000,000 rows"),
        ("b'[' + JSON_ROW + b' ' * 10**8 + b']'", [1, 0, 1]),
        ("b'[' + b','.join([JSON_ROW] * 200_000) + b']'", [200_000, 0, 200_000]),
        ("b' ' * ((256 << 20) + 1) + HEADER", "larger than 256 MiB"),
    ],
)
def test_no_bytes_make_a_reader_take_more_than_half_a_gigabyte(data: str, expected: object) -> None:
    """A 78 KB gzip file of one row and 80 million newlines took 7 GB and ended the process."""
    json_row = json.dumps({**JSON_ROW, "totalWeeklyShareQuantity": 5})
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, data, json.dumps([f"{HEADER}\n", f"{ROW}\n", json_row])],
        capture_output=True,
        text=True,
        check=True,
    )
    result, grown = json.loads(ran.stdout)
    assert grown < 512
    if isinstance(expected, str):
        assert expected in result
    else:
        assert result == expected


def test_a_value_that_can_just_be_read_is_rejected_however_deep_it_is_nested() -> None:
    """Showing it in the reason needs more of the stack than reading it, and no other row was read for that."""
    good = {"issueSymbolIdentifier": "A", "totalWeeklyShareQuantity": 1, "totalWeeklyTradeCount": 1}
    for depth in range(800, 1001):
        nested = '{"issueSymbolIdentifier": ' + "[" * depth + "]" * depth + "}"
        parsed = parse(f"[{json.dumps(good)}, {nested}]".encode(), name="a.json")
        assert (parsed.records.height, parsed.rejected.height) == (1, 1)
