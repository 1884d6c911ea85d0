"""The same bytes captured again: known by their digest, downloaded once, not parsed and not loaded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from otc_assets.archive.store import LocalArchive
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.weeks import NEW_YORK, T1, Tier
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app
from otc_assets.finra.simulator.traps import Traps
from otc_assets.finra.source import Capture, MakeSpool
from otc_assets.pipeline import captures
from otc_assets.pipeline.capture import capture_publication
from otc_assets.pipeline.results import WeekRefused, WeekResult
from otc_assets.warehouse.database import Database

Sql = psycopg.Connection[tuple[object, ...]]

WEEK = dt.date(2026, 8, 21)
NOW = dt.datetime(2026, 10, 14, 12, tzinfo=NEW_YORK)
HEADER = (
    "weekStartDate|tierIdentifier|tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "summaryTypeCode|totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)


def row(symbol: str, shares: str) -> str:
    return f"2026-08-17|T1|NMS Tier 1|{symbol}|Name|UBS ATS|UBSA|ATS_W_SMBL_FIRM|{shares}|2|2026-09-08\n"


class Written:
    """A FINRA whose publication is written by hand."""

    def __init__(self, *rows: str) -> None:
        self.rows = rows

    def fetch(self, week: dt.date, tier: Tier, *, spool: MakeSpool) -> list[Capture]:
        content = spool()
        content.write("".join([HEADER, *self.rows]).encode())
        return [Capture(week, tier, CaptureScope.FULL, content, "written", len(self.rows))]


class Installed:
    """A database, an archive, and captures of one publication."""

    def __init__(self, url: str, folder: Path) -> None:
        self.database, self.archive = Database(url), LocalArchive(folder)

    def capture(self, source: Any) -> WeekResult:
        return capture_publication(WEEK, T1, source, self.archive, self.database, "run", NOW)


@pytest.fixture
def here(database: str, tmp_path: Path) -> Iterator[Installed]:
    installed = Installed(database, tmp_path / "archive")
    yield installed
    installed.database.close()


def not_parsed(*_: object, **__: object) -> None:
    pytest.fail("the bytes were parsed again")


def stored(sql: Sql) -> tuple[object, ...] | None:
    """The number of captures and events."""
    return sql.execute("SELECT (SELECT count(*) FROM otc.publication), (SELECT count(*) FROM otc.events)").fetchone()


def test_the_same_bytes_are_downloaded_once_and_neither_parsed_nor_loaded(
    here: Installed, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[int] = []
    app = httpx.WSGITransport(make_app(Simulator(scale=0.02), clock=NOW.date, traps=Traps(short_pages=300)))

    class Counting(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            requests[-1] += 1
            return app.handle_request(request)

    api = QueryApi("http://finra", transport=Counting(), requests_per_minute=60_000)
    requests.append(0)
    first = here.capture(api)
    loaded = stored(sql)
    assert loaded == (1, 1)
    assert first.rows > 900  # several pages
    requests.append(0)
    monkeypatch.setattr(captures, "parse", not_parsed)
    again = here.capture(api)
    assert requests[0] == requests[1] > 3
    assert stored(sql) == loaded
    assert (first.details["state"], again.details["state"]) == ("new", "unchanged")
    assert again.version == first.version
    for name in ("received", "accepted", "rejected", "digest", "from", "complete"):
        assert again.details[name] == first.details[name]


def test_rows_that_were_rejected_are_shown_again(here: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Written(row("ABC", "100"), row("DEF", "many"), row("GHI", "-5"), row("JKL", "7"))
    first = here.capture(source)
    monkeypatch.setattr(captures, "parse", not_parsed)
    again = here.capture(source)
    rejected: Any = again.details["rejected rows"]
    assert rejected["record"].str.contains("DEF|GHI").to_list() == [True, True]
    assert rejected.sort("line").equals(first.details["rejected rows"].sort("line"))  # type: ignore[attr-defined]


def test_a_capture_without_accepted_rows_fails_again_for_the_same_reason(here: Installed) -> None:
    said = []
    for _ in range(2):
        with pytest.raises(WeekRefused, match="none of its 1 rows was accepted; the first: ") as caught:
            here.capture(Written(row("ABC", "-5")))
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_the_same_bytes_replace_a_damaged_object_without_being_parsed(
    here: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Written(row("ABC", "100"))
    digest = str(here.capture(source).details["digest"])
    (path,) = here.archive.folder.rglob(f"{digest}.zst")
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    monkeypatch.setattr(captures, "parse", not_parsed)
    here.capture(source)
    assert here.archive.get(digest).decode() == HEADER + row("ABC", "100")


def test_an_earlier_state_that_finra_restores_is_recorded_again(here: Installed) -> None:
    """Its bytes are known, but the newest capture has others."""
    old, new = Written(row("ABC", "100")), Written(row("ABC", "200"))
    assert [here.capture(source).details["state"] for source in (old, new, new, old, old)] == [
        "new",
        "revised",
        "unchanged",
        "revised",
        "unchanged",
    ]


def test_bytes_that_are_no_publication_are_not_archived(here: Installed, sql: Sql) -> None:
    class Garbled(Written):
        def fetch(self, week: dt.date, tier: Tier, *, spool: MakeSpool) -> list[Capture]:
            content = spool()
            content.write(b"<html>maintenance</html>")
            return [Capture(week, tier, CaptureScope.FULL, content, "garbled")]

    with pytest.raises(WeekRefused, match="HTML"):
        here.capture(Garbled())
    assert [path for path in here.archive.folder.rglob("*") if path.is_file()] == []
    assert sql.execute("SELECT event_type FROM otc.events").fetchall() == [("otc.file.rejected",)]
