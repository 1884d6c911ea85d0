"""The files of reports: found by their week in every archive, replaced as a whole, printed with a font of their own."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from otc_assets import report
from otc_assets.archive.opening import open_archive
from otc_assets.archive.store import LocalArchive
from otc_assets.archive_url import parse_archive_url
from otc_assets.report.files import address
from otc_assets.report.pdf import to_pdf

WEEKS = [dt.date(2026, 8, 14), dt.date(2026, 8, 21)]


def _saved_and_replaced(url: str) -> None:
    archive = open_archive(parse_archive_url(url))
    assert report.newest_week(archive) is None
    assert report.find(archive, WEEKS[0]) is None
    for week in reversed(WEEKS):
        report.save(archive, week, report.Report(b"<p>one", b"%PDF one"))
    report.save(archive, WEEKS[0], report.Report(b"<p>two", b"%PDF two"))
    assert report.newest_week(archive) == WEEKS[1]
    assert report.find(archive, WEEKS[0]) == report.Report(b"<p>two", b"%PDF two")
    assert report.find(archive, WEEKS[1]) == report.Report(b"<p>one", b"%PDF one")
    assert list(archive.digests()) == []  # the pages are not raw bytes


def test_reports_in_a_folder_are_found_and_replaced(tmp_path: Path) -> None:
    _saved_and_replaced(tmp_path.as_uri())
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        f"{week}.{kind}" for week in WEEKS for kind in ("html", "pdf")
    ]
    path = address(parse_archive_url(tmp_path.as_uri()), WEEKS[0])
    assert Path(path).read_bytes() == b"<p>two"


def test_reports_on_s3_are_found_and_replaced(bucket: str) -> None:
    _saved_and_replaced(f"s3://{bucket}/otc")
    found = address(parse_archive_url(f"s3://{bucket}/otc"), WEEKS[1], "pdf")
    assert found == f"s3://{bucket}/otc/reports/2026-08-21.pdf"


def test_a_page_that_is_half_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = LocalArchive(tmp_path)
    before = report.Report(b"<p>before", b"%PDF before")
    report.save(archive, WEEKS[0], before)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.save(archive, WEEKS[0], report.Report(b"<p>after", b"%PDF after"))
    monkeypatch.undo()
    assert report.find(archive, WEEKS[0]) == before


def _uncompressed(pdf: bytes) -> bytes:
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S)
    return pdf + b"".join(_inflated(stream) for stream in streams)


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""  # an image or a font in another encoding


def test_a_pdf_has_its_font_on_a_machine_without_fonts(tmp_path: Path) -> None:
    """Containers have none: every page was blank, and nothing failed."""
    (tmp_path / "fonts.conf").write_text(
        f'<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>{tmp_path}</dir>'
        f"<cachedir>{tmp_path}/cache</cachedir></fontconfig>"
    )
    code = (
        "import sys; from otc_assets.report.pdf import to_pdf;"
        "sys.stdout.buffer.write(to_pdf('<html><body><p>Shares <b style=\"font-weight:600\">1</b></p></body></html>'))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FONTCONFIG_FILE": str(tmp_path / "fonts.conf")},
        check=True,
        capture_output=True,
    ).stdout
    names = set(re.findall(rb"/FontName\s*/(?:[A-Z]{6}\+)?([\w-]+)", _uncompressed(printed)))
    assert names == {b"SourceSansPro-Regular", b"SourceSansPro-Semibold"}


def test_a_page_of_two_sheets_is_a_pdf_of_two_pages() -> None:
    pdf = to_pdf('<html><body><p>one</p><p style="break-before: page">two</p></body></html>')
    assert pdf.startswith(b"%PDF-")
    assert re.findall(rb"/Count (\d+)", _uncompressed(pdf)) == [b"2"]
