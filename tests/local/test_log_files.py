"""The rotation of logs that another process has open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.full_disk import full_disk

from otc_assets.local.log_files import rotate

WRITE_LINES = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def test_a_large_log_is_moved_and_its_writer_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    log = tmp_path / "dagster.log"
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [sys.executable, "-c", WRITE_LINES], stdin=subprocess.PIPE, stdout=output, text=True
        ) as writer,
    ):

        def write(line: str) -> None:
            assert writer.stdin is not None
            size = log.stat().st_size
            writer.stdin.write(f"{line}\n")
            writer.stdin.flush()
            while log.stat().st_size == size:
                pass

        for number in range(6):
            write(f"line {number}")
            rotate(log, most_bytes=14)  # two lines
        writer.communicate()
    assert log.read_text() == ""
    assert [(tmp_path / f"dagster.log.{number}").read_text() for number in (1, 2, 3)] == [
        "line 4\nline 5\n",
        "line 2\nline 3\n",
        "line 0\nline 1\n",
    ]


def test_the_oldest_content_is_dropped_and_a_missing_log_is_no_error(tmp_path: Path) -> None:
    log = tmp_path / "dagster.log"
    rotate(log, most_bytes=1)
    assert list(tmp_path.iterdir()) == []
    for number in range(5):
        log.write_text(f"content {number}")
        rotate(log, most_bytes=1)
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("dagster.log", ""),
        ("dagster.log.1", "content 4"),
        ("dagster.log.2", "content 3"),
        ("dagster.log.3", "content 2"),
    ]


def test_a_full_disk_ends_nothing_and_loses_no_content(tmp_path: Path) -> None:
    """It ended `up`, whose loop rotates the logs."""
    log = tmp_path / "dagster.log"
    for number in range(3):
        log.write_text(f"content {number}")
        rotate(log, most_bytes=1)
    log.write_text("content 3")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    with full_disk():
        rotate(log, most_bytes=1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
