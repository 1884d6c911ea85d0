"""The sources that the setting can name."""

from __future__ import annotations

from pathlib import Path

import pytest

from otc_assets.domain.enums import SourceKind
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.sources import SOURCES, open_source
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
