"""A folder of download files, as a source."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from download_rows import HEADER, TODAY, WEEK, put, rows

from otc_assets.domain.weeks import OTCE, T1, T2, weeks_between
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.simulator.files import write_files
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.source import PublicationState


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(scale=0.02)


def test_a_folder_of_files_is_a_source(simulator: Simulator, tmp_path: Path) -> None:
    weeks = weeks_between(dt.date(2026, 8, 14), WEEK)
    write_files(simulator, tmp_path, weeks, [T1, OTCE], TODAY)
    put(tmp_path, "notes.csv", "not a publication")
    put(tmp_path, ".hidden", "x")
    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    assert source.offered() == {(tier, week) for tier in (T1, OTCE) for week in weeks}
    captures = source.fetch(WEEK, T1)
    assert sorted(c.scope for c in captures) == ["ATS", "NON_ATS"]
    publication = simulator.publication(WEEK, T1, TODAY)
    assert publication is not None
    firm_rows = publication.filter(publication["summaryTypeCode"].str.ends_with("_SMBL_FIRM"))
    assert source.state(WEEK, T1) == PublicationState(firm_rows.height, firm_rows["lastUpdateDate"].max())  # type: ignore[arg-type]
    assert source.state(WEEK, T2) is None
    assert source.fetch(WEEK, T2) == []


def test_an_unforeseen_error_of_one_file_leaves_the_others_and_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole folder was no source any more."""
    put(tmp_path, "a.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    put(tmp_path, "b.csv", HEADER + rows(T2, dt.date(2026, 9, 21)))

    def fail(content: bytes, origin: str) -> None:
        if origin == "a.csv":
            raise RuntimeError("the trial of a.csv failed: MemoryError")

    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    with monkeypatch.context() as patch:
        patch.setattr("otc_assets.finra.file_reader.refuse_fatal", fail)
        assert {tier for tier, _ in source.offered()} == {T2}
    assert "the trial of a.csv failed" in caplog.text
    assert {tier for tier, _ in source.offered()} == {T1, T2}


def test_of_two_files_for_one_half_the_one_with_newer_rows_is_used(tmp_path: Path) -> None:
    put(tmp_path, "b-old.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    put(tmp_path, "a-new.csv", HEADER + rows(T1, dt.date(2026, 9, 8), 9) + rows(T1, dt.date(2026, 10, 1), 1))
    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    assert [c.origin for c in source.fetch(WEEK, T1)] == ["a-new.csv"]
    state = source.state(WEEK, T1)
    assert state is not None
    assert state.last_update_date == dt.date(2026, 10, 1)


def test_of_two_files_with_rows_of_the_same_day_the_one_with_more_rows_is_used(tmp_path: Path) -> None:
    """The other may be cut short. By their names alone, it was used, and the whole file was not captured at all."""
    put(tmp_path, "a (1).csv", HEADER + rows(T1, dt.date(2026, 9, 8), 6))
    put(tmp_path, "a.csv", HEADER + rows(T1, dt.date(2026, 9, 8), 10))
    put(tmp_path, "b.csv", HEADER + rows(T1, dt.date(2026, 9, 8), 7))
    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    assert [c.origin for c in source.fetch(WEEK, T1)] == ["a.csv"]
    assert source.state(WEEK, T1) == PublicationState(10, dt.date(2026, 9, 8))


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    assert source.state(WEEK, T1) == PublicationState(10, dt.date(2026, 9, 8))
    path.write_text(HEADER + rows(T1, dt.date(2026, 9, 8), 11))
    os.utime(path, (1, 1))
    assert source.state(WEEK, T1) == PublicationState(11, dt.date(2026, 9, 8))


def test_a_file_of_a_future_week_is_offered_on_its_publication_day(tmp_path: Path) -> None:
    """A long-lived source once never forgot that it had refused the file."""
    put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    today = dt.date(2026, 9, 7)
    source = DownloadFiles(tmp_path, clock=lambda: today)
    assert source.offered() == set()
    today = dt.date(2026, 9, 8)
    assert source.offered() == {(T1, WEEK)}
