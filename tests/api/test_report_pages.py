"""The pages of weekly reports over HTTP: from an archive in a folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from otc_assets import report
from otc_assets.api.app import make_app
from otc_assets.archive.store import ArchiveUnavailable, LocalArchive
from otc_assets.client import Client

WEEK = dt.date(2026, 8, 21)


@pytest.fixture
def archive(tmp_path: Path) -> LocalArchive:
    """An archive with the reports of two weeks."""
    kept = LocalArchive(tmp_path / "archive")
    for week in (WEEK - dt.timedelta(weeks=1), WEEK):
        report.save(kept, week, report.Report(f"<h1>{week}</h1>".encode(), b"%PDF " + str(week).encode()))
    return kept


@pytest.fixture
def pages(archive: LocalArchive) -> TestClient:
    """The API in this process; reports need no database."""
    # Nothing listens there: reports are read from the archive alone.
    client = Client("postgresql://otc@127.0.0.1:1/otc")
    return TestClient(make_app(client, archive=archive), raise_server_exceptions=False)


def test_the_newest_report_and_one_of_a_week_are_pages_that_load_nothing(pages: TestClient) -> None:
    newest = pages.get("/reports", follow_redirects=False)
    assert (newest.status_code, newest.headers["location"]) == (307, "/reports/2026-08-21")
    page = pages.get("/reports/2026-08-14")
    assert (page.text, page.headers["content-type"]) == ("<h1>2026-08-14</h1>", "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    pdf = pages.get("/reports/2026-08-14.pdf")
    assert (pdf.content, pdf.headers["content-type"]) == (b"%PDF 2026-08-14", "application/pdf")


def test_a_report_that_the_reader_has_is_not_sent_again(pages: TestClient, archive: LocalArchive) -> None:
    etag = pages.get("/reports/2026-08-21").headers["etag"]
    known = {"If-None-Match": etag}
    assert pages.get("/reports/2026-08-21", headers=known).status_code == 304
    report.save(archive, WEEK, report.Report(b"revised", b"%PDF"))
    assert pages.get("/reports/2026-08-21", headers=known).text == "revised"


def test_a_week_without_a_report_and_a_day_that_is_none_are_problems_that_say_so(
    pages: TestClient, monkeypatch: pytest.MonkeyPatch, archive: LocalArchive
) -> None:
    missing = pages.get("/reports/2026-08-28")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert "no report of the week ending 2026-08-28" in missing.json()["detail"]
    assert pages.get("/reports/..%2f..%2fetc").status_code in (400, 404)
    assert pages.get("/reports/2026-13-01").headers["content-type"] == "application/problem+json"

    def unavailable(*_: object) -> bytes:
        raise ArchiveUnavailable("s3://bucket: no answer")

    monkeypatch.setattr(archive, "get_named", unavailable)
    down = pages.get("/reports/2026-08-21")
    assert (down.status_code, down.headers["retry-after"]) == (503, "10")
