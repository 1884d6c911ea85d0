"""Run by ``tests/test_contributing.py`` in a copy of the project that has the source of the guide."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support import installed

from otc_assets.domain.weeks import NEW_YORK, OTCE, T1
from otc_assets.finra.source import PublicationState
from otc_assets.pipeline.capture import capture_publication
from otc_assets.pipeline.results import WeekResult
from otc_assets.settings import InvalidSettings, Settings, settings

Sql = psycopg.Connection[tuple[Any, ...]]

NOW = dt.datetime(2026, 10, 15, 12, tzinfo=NEW_YORK)
HEADER = (
    "weekStartDate,tierIdentifier,tierDescription,issueSymbolIdentifier,issueName,marketParticipantName,MPID,"
    "summaryTypeCode,totalWeeklyShareQuantity,totalWeeklyTradeCount,lastUpdateDate\n"
)
REPLY = (
    HEADER
    + "2026-08-17,T1,NMS Tier 1,AAPL,Apple Inc.,UBS ATS,UBSA,ATS_W_SMBL_FIRM,1250,12,2026-09-08\n"
    + "2026-08-17,T1,NMS Tier 1,ABRpD,Arbor,UBS ATS,UBSA,ATS_W_SMBL_FIRM,30.5,2,2026-09-08\n"
)


@pytest.fixture
def folder(installation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OTC_SOURCE", "saved")
    settings.cache_clear()
    folder = installation / "saved"
    folder.mkdir()
    return folder


def capture(week: dt.date, tier: Any = T1) -> WeekResult:
    return capture_publication(week, tier, installed.source(), installed.archive(), installed.database(), "run-1", NOW)


def test_the_source_that_the_setting_names_delivers_publications(folder: Path, sql: Sql, week: dt.date) -> None:
    (folder / "T1 2026-08-21.csv").write_text(REPLY)
    source = installed.source()
    assert type(source).__name__ == "SavedReplies"
    assert source.offered() == {(T1, week)}
    assert source.state(week, T1) == PublicationState(2, None)
    result = capture(week)
    assert (result.rows, result.details["accepted"], result.details["state"]) == (2, 2, "new")
    stored = sql.execute("SELECT tier, scope, origin, rows_accepted, digest FROM otc.publication").fetchall()
    digest = result.details["digest"]
    assert stored == [("NMS Tier 1", "FULL", str(folder / "T1 2026-08-21.csv"), 2, digest)]
    assert installed.archive().get(str(digest)) == REPLY.encode()


def test_a_publication_that_the_source_does_not_have_is_no_failure(folder: Path, sql: Sql, week: dt.date) -> None:
    assert installed.source().state(week, OTCE) is None
    assert capture(week, OTCE).rows == 0
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (0,)


def test_the_kinds_are_the_values_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_SOURCE", "saved")
    assert Settings().source == "saved"
    monkeypatch.setenv("OTC_SOURCE", "unknown")
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match="'simulator', 'api', 'files' or 'saved'"):
        settings()
