"""The sources that the setting can name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import time_machine

from otc_assets.domain.enums import SourceKind
from otc_assets.domain.weeks import T1, weeks_between
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.source import PublicationState
from otc_assets.finra.sources import SOURCES, before_revision, open_source
from otc_assets.settings import Settings


def test_every_kind_of_source_can_be_opened() -> None:
    assert set(SOURCES) == set(SourceKind)


@pytest.mark.parametrize(("kind", "opened"), [("simulator", QueryApi), ("api", QueryApi), ("files", DownloadFiles)])
def test_the_source_that_the_setting_names_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, opened: type
) -> None:
    monkeypatch.setenv("OTC_SOURCE", kind)
    monkeypatch.setenv("OTC_HOME", str(tmp_path))
    assert type(open_source(Settings())) is opened


def test_the_simulator_is_opened_as_of_the_day_before_its_last_revision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """T1 of 2026-08-28 was published on 2026-09-14 and revised on 2026-09-23, and that of 2026-10-02 is not yet."""
    monkeypatch.setenv("OTC_HOME", str(tmp_path))
    monkeypatch.setenv("OTC_SIMULATOR_SCALE", "0.01")
    weeks = weeks_between(dt.date(2026, 8, 7), dt.date(2026, 10, 2))
    week = dt.date(2026, 8, 28)
    with time_machine.travel(dt.datetime(2026, 10, 20, 12, tzinfo=dt.UTC), tick=False):
        found = before_revision(Settings(), weeks)
        assert found is not None
        tier, revised, source = found
        assert (tier, revised) == (T1, week)
        states = [each.state(week, T1) for each in (source, open_source(Settings()))]
        assert [state and state.last_update_date for state in states] == [dt.date(2026, 9, 14), dt.date(2026, 9, 23)]
        assert isinstance(states[0], PublicationState)
        assert before_revision(Settings(), [dt.date(2026, 10, 2)]) is None
        monkeypatch.setenv("OTC_SOURCE", "api")
        assert before_revision(Settings(), weeks) is None
