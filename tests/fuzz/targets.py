"""What is fuzzed: for each kind of input its reader, the invariants that any bytes must keep, and inputs to begin with.

A target takes bytes, gives them to the product as it would get them, and asserts on what comes back. An error that is
written for users is an answer; any other exception is a fault, and so is a panic in Polars. How many inputs are tried,
and how long one may take, is in ``run`` (coverage-guided, many) and ``test_fuzz_targets`` (in the suite, few).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import openpyxl
import polars as pl
import typer

from otc_assets.archive.store import ArchiveError, LocalArchive
from otc_assets.archive_url import parse_archive_url
from otc_assets.cli.app import app
from otc_assets.cli.options import week_range
from otc_assets.content import Held
from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.enums import FileLayout
from otc_assets.domain.normalize import normalize, split
from otc_assets.domain.parsing import Parsed, UnreadableFile, parse
from otc_assets.domain.parsing.dataset_rows import read_dataset
from otc_assets.domain.weeks import T1
from otc_assets.errors import OtcError
from otc_assets.finra.file_reader import read_captures_and_rows
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.source import PermanentSourceError, SourceError
from otc_assets.finra.trial import refuse_fatal
from otc_assets.pipeline.file_drop import Progress, decode_path, encode_path, look
from otc_assets.settings import InvalidSettings, Settings, settings, without_secrets
from otc_assets.text import printable_name

WEEK = dt.date(2026, 8, 21)
TODAY = dt.date(2026, 10, 14)
_NAME = "FINRA's file"

HEADER = (
    b"tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    b"totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)
_ROW = b"NMS Tier 1|ABC|Abc, Inc.|SOME POOL|PPEX|123.5|7|2026-09-08\n"
_LEGACY = (
    b"Report_Type|Symbol|Issue_Description|ATS_Description|Shares|Trades|Last_Updated\n"
    b"NMS Tier 1|ABC|Abc Inc.|SOME POOL|1,234|7|2014-06-02\nTotal rows: 1\n"
)
API_HEADER = (
    b"weekStartDate|tierIdentifier|tierDescription|issueSymbolIdentifier|issueName|productTypeCode|summaryTypeCode|"
    b"MPID|firmCRDNumber|marketParticipantName|totalWeeklyShareQuantity|totalWeeklyTradeCount|totalNotionalSum|"
    b"lastUpdateDate|initialPublishedDate|lastReportedDate\n"
)
_API_ROW = (
    b"2026-08-17|T1|NMS Tier 1|ABC|Abc Inc.|NMS|ATS_W_SMBL_FIRM|PPEX|12|POOL|10.000001|4|9.5|2026-09-08|2026-09-08|"
    b"2026-09-08\n"
)
_RECORD = dict(zip(API_HEADER.decode().split("|"), _API_ROW.decode().strip().split("|"), strict=True))
_RECORD |= {"totalWeeklyShareQuantity": 10.5, "totalWeeklyTradeCount": 4, "firmCRDNumber": None}  # type: ignore[dict-item]


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        check: gives bytes to the product and asserts on the answer.
        seeds: inputs to begin with.
        words: what inputs of this kind are made of, for the mutations.
    """

    check: Callable[[bytes], None]
    seeds: list[bytes]
    words: tuple[bytes, ...] = ()


TARGETS: dict[str, Target] = {}


def _target(seeds: list[bytes], words: tuple[bytes, ...] = ()) -> Callable[[Callable[[bytes], None]], Any]:
    def add(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[check.__name__] = Target(check, seeds, words)
        return check

    return add


_WORDS = (b"|", b"\n", b"\r\n", b"NaN", b"1e400", b"-0", b"0000-00-00", b"9999-12-31", b"\xff", b'"', b"NMS Tier 1")


# --- files ---------------------------------------------------------------------------------------------


def _every_row_is_counted(data: bytes) -> None:
    """Rows received = rows read + rows rejected, each with its line; after normalizing = accepted + rejected."""
    try:
        parsed = parse(data, name=_NAME)
    except UnreadableFile as refused:
        assert str(refused).startswith(_NAME)  # noqa: PT017
        return
    lines = pl.concat([parsed.records["line"], parsed.rejected["line"]]).sort()
    assert lines.equals(parsed.raw["line"])
    assert parsed.received == parsed.raw.height
    try:
        parts = _parts(parsed)
        results = [(part, normalize(part, week_ending=week, tier=tier)) for part, week, tier in parts]
    except UnreadableFile:
        return
    assert sum(part.received for part, _ in results) == parsed.received
    for part, found in results:
        assert found.received == found.accepted + found.rejected.height == part.received
        assert found.rejected["reason"].null_count() == 0


def _parts(parsed: Parsed) -> list[tuple[Parsed, dt.date, Any]]:
    if parsed.layout in (FileLayout.API, FileLayout.API_JSON):
        return [(part, week, tier) for (week, tier), part in split(parsed).items()]
    return [(parsed, WEEK, T1)]


@_target([HEADER + _ROW * 2, _LEGACY, API_HEADER + _API_ROW, HEADER], _WORDS)
def download_file(data: bytes) -> None:
    """Any bytes as a download file or as the API's delimited text."""
    _every_row_is_counted(data)


@_target([_ROW, _ROW * 3, b""], _WORDS)
def download_rows(data: bytes) -> None:
    """Any bytes below a valid header."""
    _every_row_is_counted(HEADER + data)


@_target([_API_ROW, _API_ROW * 2, b""], (*_WORDS, b"OTC_W_SMBL", b"ATS_W_VOL_STATS", b"T2", b"OTCE", b"NMS"))
def api_rows(data: bytes) -> None:
    """Any bytes below the API's header: weeks, tiers and kinds of rows may be mixed."""
    _every_row_is_counted(API_HEADER + data)


@_target(
    [
        json.dumps([_RECORD] * 2).encode(),
        json.dumps({"a": 1, "rows": [_RECORD]}).encode(),
        # A name twice that can't be stored.
        json.dumps([_RECORD]).encode().replace(b"{", b'{"\\ud800": 1, "\\ud800": 2, '),
        b"[]",
        b"{}",
    ],
    (b"NaN", b"Infinity", b"-", b"1e999999999", b"null", b"true", b"[", b"]", b"{", b"}", b"\\ud800", b"\\u0000"),
)
def json_records(data: bytes) -> None:
    """Any bytes that begin as JSON does."""
    _every_row_is_counted(data if data[:1] in (b"[", b"{") else b"[" + data)


@_target([gzip.compress(HEADER + _ROW, 0, mtime=0), gzip.compress(HEADER + _ROW, 9, mtime=0)])
def gzip_file(data: bytes) -> None:
    """Damaged gzip, then any bytes in intact gzip."""
    _every_row_is_counted(data if data[:2] == b"\x1f\x8b" else b"\x1f\x8b" + data)
    _every_row_is_counted(gzip.compress(data, 1, mtime=0))


def _workbook(compression: int) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(HEADER.decode().strip().split("|"))
    sheet.append(["NMS Tier 1", "ABC", "Abc", "POOL", "PPEX", 12.5, 7, "2026-09-08"])
    packed = io.BytesIO()
    book.save(packed)
    return _repacked(packed.getvalue(), {}, compression)


def _repacked(data: bytes, other: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", compression) as new:
        for member in old.infolist():
            new.writestr(zipfile.ZipInfo(member.filename), other.get(member.filename, old.read(member)), compression)
    return packed.getvalue()


_STORED = _workbook(zipfile.ZIP_STORED)
_SHEET = "xl/worksheets/sheet1.xml"
_XML = zipfile.ZipFile(io.BytesIO(_STORED)).read(_SHEET)


@_target([_STORED, _workbook(zipfile.ZIP_DEFLATED)])
def workbook(data: bytes) -> None:
    """Damaged Excel workbooks."""
    _every_row_is_counted(data)


@_target(
    [_XML],
    (b'<c r="A1" t="s"><v>9</v></c>', b't="d"', b't="e"', b't="b"', b't="str"', b't="inlineStr"', b'r="ZZZ9999999"',
     b"<v>1e999</v>", b"<v>-1</v>", b'<row r="0">', b"&#0;", b"<f>1/0</f>", b's="99"'),
)  # fmt: skip
def worksheet(data: bytes) -> None:
    """A workbook whose container is intact, with any bytes as its worksheet."""
    _every_row_is_counted(_repacked(_STORED, {_SHEET: data}))


def _parquet(columns: dict[str, list[Any]], **options: Any) -> bytes:
    packed = io.BytesIO()
    pl.DataFrame(columns).write_parquet(packed, **options)
    return packed.getvalue()


_COLUMNS: dict[str, list[Any]] = {name: [text] for name, text in _RECORD.items()}


@_target(
    [
        _parquet(_COLUMNS, compression="uncompressed"),
        _parquet({**_COLUMNS, "weekStartDate": [dt.date(2026, 8, 17)]}, compression="zstd"),
        _parquet({"a": [1]}, compression="snappy"),
        # A page of -1 rows, for which Polars asks for more memory than there is.
        _parquet({"a": ["x"]}, compression="uncompressed").replace(b"\x2c\x15\x02", b"\x2c\x15\x01"),
    ]
)
def parquet_file(data: bytes) -> None:
    """Damaged Parquet files. Some end the process that reads them, which is therefore not this one."""
    data = data if data[:4] == b"PAR1" else b"PAR1" + data
    with contextlib.suppress(UnreadableFile):
        refuse_fatal(data, "damaged")
        _every_row_is_counted(data)


# --- FINRA's replies -----------------------------------------------------------------------------------

_STATUS = (200, 200, 200, 200, 204, 301, 400, 401, 404, 429, 500, 600)


@_target(
    [
        b"\0Record-Total: 1\nTotal-Records-On-Page: 1\n\n" + API_HEADER + _API_ROW,
        b'\0Record-Total: 1\n\n[{"lastUpdateDate": "2026-09-08"}]',
        b'\0Content-Type: application/json\n\n{"availablePartitions": [{"partitions": ["2026-08-17", "T1"]}]}',
        b"\5Location: https://example.org/a?b\n\n",
        b"\x09Retry-After: Wed, 21 Oct 2026 07:28:00 -0000\n\n",
        b"\4\n\n",
        b"\0Record-Total:\x1d1\n\n" + API_HEADER + _API_ROW,
    ],
    (b"Retry-After: ", b"Record-Total: ", b"Content-Encoding: gzip", b"charset=", b"Location: ", b"9" * 20,
     b"nan", b"inf", b"[]", b"null", b'{"availablePartitions":'),
)  # fmt: skip
def api_reply(data: bytes) -> None:
    """A status, headers and a body: each request ends with data, none, or an error of the source."""
    status = _STATUS[(data[:1] or b"\0")[0] % len(_STATUS)]
    head, _, body = data[1:].partition(b"\n\n")
    headers = [(k.strip(), v.strip()) for k, _, v in (line.partition(b":") for line in head.split(b"\n")) if k.strip()]

    _reply[:] = [lambda: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))]
    api = _api()
    for ask in (lambda: api.fetch(WEEK, T1), lambda: api.state(WEEK, T1), api.offered):
        with contextlib.suppress(SourceError, UnreadableFile):
            ask()


_reply: list[Callable[[], httpx.Response]] = []


@cache
def _api() -> QueryApi:
    """One client for all inputs: creating one takes longer than a request."""
    transport = httpx.MockTransport(lambda request: _reply[0]())
    api = QueryApi("http://finra", transport=transport, requests_per_minute=10**9, pages_in_flight=1)
    api._budget.pause = lambda seconds: None  # type: ignore[method-assign]
    return api


def _dataset_seeds() -> Iterator[bytes]:
    for number, dataset in enumerate(DATASETS):
        header = "|".join(field.name for field in dataset.fields)
        row = "|".join("2026-08-21" if field.kind == pl.Date else "1" for field in dataset.fields)
        yield bytes([number]) + f"{header}\n{row}\n{row}\n".encode()


@_target(list(_dataset_seeds()), _WORDS)
def dataset_reply(data: bytes) -> None:
    """A period of FINRA's other data sets: any bytes, and any bytes below its header."""
    dataset = list(DATASETS)[(data[:1] or b"\0")[0] % len(list(DATASETS))]
    header = "|".join(field.name for field in dataset.fields).encode() + b"\n"
    for content in (data[1:], header + data[1:]):
        try:
            found = read_dataset(dataset, WEEK, content)
        except UnreadableFile:
            continue
        lines = [line for line in content.decode().split("\n")[1:] if line.removesuffix("\r")]
        assert found.received == found.accepted.height + found.rejected.height == len(lines)


# --- names, settings, arguments, the archive -----------------------------------------------------------


@_target(
    [b"weekly_2026-09-08.csv", b"a 20260821 b", b"\xff\xfe", b"x" * 300, "\u202eé😀".encode(), b"-\n\x1b[2J"],
    (b"2026-02-30", b"99999999", b"0000-00-00", b"..", b"bytes:", b"%ff", b"\x1b]0;"),
)
def file_name(data: bytes) -> None:
    """A file of any name, in the folder of dropped files and on the command line."""
    name = data.replace(b"/", b"").replace(b"\0", b"")[:255]
    shown = printable_name(os.fsdecode(data))
    shown.encode()
    assert not any(character in shown for character in "\n\r\x1b\u202e")
    assert decode_path(encode_path("/" + os.fsdecode(data))) == "/" + os.fsdecode(data)
    decode_path(quote_from_bytes(data))
    if name in (b"", b".", b".."):
        return
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / os.fsdecode(name)
        path.write_bytes(HEADER + _ROW)
        os.utime(path, (0, 0))
        progress = Progress()
        warned: list[str] = []
        (batch,) = look(Path(folder), progress, 10**9, warned.append) or (None,)
        if name.startswith(b"."):
            assert batch is None
        else:
            assert batch is not None
            assert [decode_path(text) for text in batch.paths] == [str(path)]
            batch.title.encode()
            progress.pending.append(batch)
            assert Progress.parse(str(progress)) == progress
        with contextlib.suppress(UnreadableFile, PermanentSourceError):
            read_captures_and_rows(path, None, None, TODAY)


@cache
def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


_SETTINGS = sorted(Settings.model_fields)


@_target(
    [bytes([number]) + value for number in range(len(_SETTINGS)) for value in (b"", b"5", b"https://a.example/b")]
    + [b"\0postgresql://u:p@h/d", b"\0s3://bucket/prefix", b"\0file:///folder", b"\0*.example.org"],
    (b"://", b"@", b"[::1]", b"%zz", b"*.", b",", b"2026-08-21", b"1e999", b"nan", b"s3://", b"file:///", b"\xff"),
)
def environment(data: bytes) -> None:
    """Any value of any setting: it is used, or refused by its name and without the value."""
    name = f"OTC_{_SETTINGS[(data[:1] or bytes(1))[0] % len(_SETTINGS)]}".upper()
    text = os.fsdecode(data[1:].replace(b"\0", b""))
    before = dict(os.environ)
    os.environ[name] = text
    try:
        settings.cache_clear()
        chosen = settings()
        for made in (chosen.archive, chosen.export, chosen.host_names, chosen.origins, chosen.ui_url):
            str(made)
        chosen.environment()
    except InvalidSettings as refused:
        assert name in str(refused)  # noqa: PT017
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()
    without_secrets(text)
    with contextlib.suppress(ValueError):
        parse_archive_url(text)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Lets what the command line shows as a usage error pass, as ``cli.app`` tells it apart."""
    try:
        yield
    except (typer.Exit, typer.Abort, OtcError):
        pass
    except Exception as error:
        if not hasattr(error, "show"):
            raise


@cache
def _command() -> Any:
    return typer.main.get_command(app)


@_target(
    [
        b"materialize\0--weeks\x002026-08-07..2026-08-14",
        b"rebuild\0--from\0archive",
        b"query\0sql\0select 1",
        b"captures\0lines\x0052",
        b"events\0tail\0--json",
        b"archive\0verify\0--sample\x005",
        b"archive\0copy\0--to\0s3://b/p",
        b"ingest\0/tmp/x\0--week-ending\x002026-08-21\0--summary-type\0ATS_W_SMBL",
        b"simulate\0--trap\0truncated=3",
        b"serve\0--port\x0099999",
        b"up\0--weeks\0-1",
        b"--help",
    ],
    (b"\0", b"--weeks", b"--tier", b"--help", b"..", b"-", b"--", b"2026-08-21", b"\xff", b"0001-01-01", b"9999-12-31"),
)
def arguments(data: bytes) -> None:
    """Any command line: its words are read, or refused as a usage error. No command is run."""
    words = [os.fsdecode(word) for word in data.split(b"\0")][:20]
    settings.cache_clear()
    with contextlib.redirect_stdout(io.StringIO()), _refusals():
        group = _command()
        context = group.make_context("otc-assets", list(words), obj=None)
        rest = [*context._protected_args, *context.args]
        while rest and hasattr(group, "resolve_command"):
            name, group, rest = group.resolve_command(context, rest)
            context = group.make_context(name, rest, parent=context)
            rest = [*getattr(context, "_protected_args", []), *context.args] if hasattr(group, "commands") else []
    for word in words:
        with _refusals():
            week_range(word)


@_target([Held(b"x").packed().read(), Held(HEADER + _ROW * 9).packed().read(), b""])
def archive_object(data: bytes) -> None:
    """An object of the archive with any bytes: they are returned if they are those of the digest, else refused."""
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        archive = LocalArchive(Path(folder))
        digest = archive.put(b"x")
        path = archive._path(digest)
        path.chmod(0o600)
        path.write_bytes(data)
        with contextlib.suppress(ArchiveError):
            assert archive.get(digest) == b"x"
