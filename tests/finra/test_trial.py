"""A damaged Parquet file is refused, although Polars ends the process that reads it."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import polars as pl
import pytest

from otc_assets.domain.parsing import UnreadableFile
from otc_assets.finra import trial
from otc_assets.finra.file_reader import read_file


def packed() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"weekStartDate": ["2026-08-17"]}).write_parquet(buffer, compression="uncompressed")
    return buffer.getvalue()


def with_a_page_of_minus_one_rows() -> bytes:
    """By the format of Parquet: field 5 of a page's header begins with its number of rows, 1 as 02 and -1 as 01."""
    whole = packed()
    assert whole.count(b"\x2c\x15\x02") == 1
    return whole.replace(b"\x2c\x15\x02", b"\x2c\x15\x01")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_file_that_ends_the_process_that_reads_it_is_refused(pack: type[bytes], tmp_path: Path) -> None:
    path = tmp_path / "week.parquet"
    path.write_bytes(pack(with_a_page_of_minus_one_rows()))
    with pytest.raises(UnreadableFile, match=r"week\.parquet: the Parquet file is damaged \(SIGABRT ends the process"):
        read_file(path)


def test_whole_files_and_other_damage_are_left_to_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    trial.refuse_fatal(packed(), "whole")
    trial.refuse_fatal(packed()[:-20], "cut off")
    monkeypatch.setattr(trial, "sys", None)  # no process is started for other files
    trial.refuse_fatal(b"tier|symbol", "text")
    trial.refuse_fatal(gzip.compress(b"tier|symbol"), "packed text")
    trial.refuse_fatal(gzip.compress(b"tier|symbol")[:15], "damaged gzip")


def test_a_file_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 0.001)
    with pytest.raises(UnreadableFile, match=r"reading it takes more than 0\.001 seconds"):
        trial.refuse_fatal(packed(), "slow")


def test_a_process_that_fails_for_another_reason_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "__name__", "otc_assets.no_such_module")
    with pytest.raises(RuntimeError, match="No module named otc_assets"):
        trial.refuse_fatal(packed(), "whole")
