"""Lines of a capture, from the archive: those of FINRA's file, by number and by symbol."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import psycopg
import pytest

from otc_assets.archive.store import DamagedObject, LocalArchive, MissingObject
from otc_assets.content import Held
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.weeks import T1, T2
from otc_assets.finra.simulator.files import download_file
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.source import Capture
from otc_assets.pipeline.capture import capture_all
from otc_assets.pipeline.lines import NoSuchLine, capture_lines
from otc_assets.warehouse.database import Database

WEEK = dt.date(2026, 8, 21)
EARLIER = dt.date(2026, 8, 14)
RECORD = {
    "tierIdentifier": "T1",
    "issueName": "An issue",
    "MPID": "ZZZZ",
    "marketParticipantName": "ZZZZ POOL",
    "totalWeeklyShareQuantity": 1,
    "totalWeeklyTradeCount": 1,
    "summaryTypeCode": "ATS_W_SMBL_FIRM",
}


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    with closing(Database(database)) as found:
        yield found


@pytest.fixture
def archive(tmp_path: Path) -> LocalArchive:
    return LocalArchive(tmp_path)


def captured(opened: Database, archive: LocalArchive, *captures: Capture) -> list[int]:
    """The ids of recorded captures."""
    return [each.recorded.publication_id for each in capture_all(captures, archive, opened)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_line_below_the_header_is_that_of_the_file_with_its_number_there(
    opened: Database, archive: LocalArchive, line_end: str
) -> None:
    content = download_file(Simulator(scale=0.01), WEEK, T1, "ATS", dt.date(2026, 10, 14)).decode()
    file = content.replace("\n", line_end).encode()
    (number,) = captured(opened, archive, Capture(WEEK, T1, CaptureScope.ATS, Held(file), "a file"))
    in_file = dict(enumerate(content.splitlines(), 1))
    del in_file[1]
    assert len(in_file) > 100
    assert capture_lines(opened, archive, number).header == content.splitlines()[0]
    assert dict(capture_lines(opened, archive, number).rows.rows()) == in_file
    assert capture_lines(opened, archive, number, first=7, last=7).rows.rows() == [(7, in_file[7])]
    assert capture_lines(opened, archive, number, first=5, last=9).rows.rows() == [
        (n, in_file[n]) for n in range(5, 10)
    ]
    symbol = in_file[50].split("|")[1]
    of_symbol = [(n, text) for n, text in in_file.items() if text.split("|")[1] == symbol]
    assert len(of_symbol) > 1
    assert capture_lines(opened, archive, number, symbol=symbol).rows.rows() == of_symbol
    assert capture_lines(opened, archive, number, symbol="no such").rows.is_empty()


def test_a_row_of_venue_volume_leads_to_the_line_that_it_is_from(
    opened: Database, archive: LocalArchive, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """The same bytes are in no table: only a row that was not accepted is, under its number in the file."""
    header = "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    header += "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate"
    rows = [f"NMS Tier 1|{s}|{s} Inc|UBS ATS|UBSA|{n}|1|2026-09-08" for s, n in (("AA", 7), ("BB", "x"), ("CC", 9))]
    file = "\n".join([header, *rows, ""]).encode()
    (number,) = captured(opened, archive, Capture(WEEK, T1, CaptureScope.ATS, Held(file), "a file"))
    assert capture_lines(opened, archive, number, symbol="CC").rows.rows() == [(4, rows[2])]
    # Its values could not be read, and so it has no symbol; its number leads to it.
    assert capture_lines(opened, archive, number, symbol="BB").rows.is_empty()
    ((line, record),) = sql.execute("SELECT line, record FROM otc.rejected_record").fetchall()
    assert capture_lines(opened, archive, number, first=3, last=3).rows.rows() == [(line, record)] == [(3, rows[1])]


def test_of_a_file_of_several_weeks_and_tiers_each_capture_has_its_own_lines(
    opened: Database, archive: LocalArchive
) -> None:
    records = [
        {**RECORD, "weekStartDate": str(week - dt.timedelta(days=4)), "issueSymbolIdentifier": symbol} | tier
        for week, symbol, tier in (
            (WEEK, "AA", {}),
            (EARLIER, "AA", {}),
            (WEEK, "BB", {}),
            (WEEK, "AA", {"tierIdentifier": "T2"}),
        )
    ]
    file = json.dumps(records).encode()
    captures = [
        Capture(*part, CaptureScope.PARTIAL, Held(file), "records") for part in ((EARLIER, T1), (WEEK, T1), (WEEK, T2))
    ]
    numbers = captured(opened, archive, *captures)
    found = [capture_lines(opened, archive, number).rows.rows() for number in numbers]
    assert {capture_lines(opened, archive, number).header for number in numbers} == {None}
    texts = [json.dumps(record) for record in records]
    assert found == [[(2, texts[1])], [(1, texts[0]), (3, texts[2])], [(4, texts[3])]]
    with pytest.raises(NoSuchLine, match="has no line 2: its 2 rows are from line 1 to line 3"):
        capture_lines(opened, archive, numbers[1], first=2, last=2)
    assert capture_lines(opened, archive, numbers[1], first=2, last=9).rows.rows() == [(3, texts[2])]


def test_the_header_of_a_compressed_file_is_its_text_and_a_table_has_none(
    opened: Database, archive: LocalArchive
) -> None:
    """The first bytes of such a file were printed as if they were text."""
    text = download_file(Simulator(scale=0.01), WEEK, T1, "ATS", dt.date(2026, 10, 14))
    table = io.BytesIO()
    pl.read_csv(text, separator="|", infer_schema=False).write_parquet(table)
    packed, columns = (
        captured(opened, archive, Capture(week, T1, CaptureScope.ATS, Held(content), "a file"))[0]
        for week, content in ((WEEK, gzip.compress(text)), (EARLIER, table.getvalue()))
    )
    assert capture_lines(opened, archive, packed).header == text.decode().splitlines()[0]
    assert capture_lines(opened, archive, columns).header is None


def test_what_is_not_there_is_named(opened: Database, archive: LocalArchive, tmp_path: Path) -> None:
    content = download_file(Simulator(scale=0.01), WEEK, T1, "ATS", dt.date(2026, 10, 14))
    (number,) = captured(opened, archive, Capture(WEEK, T1, CaptureScope.ATS, Held(content), "a file"))
    last = len(content.splitlines())
    for line in (1, last + 1):
        with pytest.raises(
            NoSuchLine, match=f"has no line {line}: its {last - 1:,} rows are from line 2 to line {last}"
        ):
            capture_lines(opened, archive, number, first=line, last=line)
    with pytest.raises(NoSuchLine, match="there is no capture 99. 'otc-assets captures list'"):
        capture_lines(opened, archive, 99)
    (stored,) = tmp_path.rglob("*.zst")
    stored.chmod(0o644)
    stored.write_bytes(b"not what was stored")
    with pytest.raises(DamagedObject, match="is damaged"):
        capture_lines(opened, archive, number)
    stored.unlink()
    with pytest.raises(MissingObject, match="the archive has no"):
        capture_lines(opened, archive, number)
