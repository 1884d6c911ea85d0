"""Weeks that a run keeps: never other rows than those of the tables."""

from __future__ import annotations

import datetime as dt
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pytest
import sqlalchemy as sa
from warehouse_rows import T1, WEEK, frame, row

from otc_assets.domain.schema import VENUE_VOLUME
from otc_assets.domain.weeks import T2, TIERS
from otc_assets.warehouse import load, read
from otc_assets.warehouse.kept_weeks import KeptWeeks, kept_weeks, weeks_kept
from otc_assets.warehouse.server import transaction

BEFORE = WEEK - dt.timedelta(weeks=1)


def load_week(engine: sa.Engine, rows: pl.DataFrame, version: str, week: dt.date = WEEK, tier: str = T1) -> None:
    with transaction(engine) as connection:
        load.replace_volume(connection, week, tier, rows)
        load.mark_computed(connection, "venue_volume", week, version, rows.height)


@contextmanager
def elsewhere() -> Iterator[None]:
    """In the block, the files are those of another run."""
    with weeks_kept():
        yield


def load_elsewhere(engine: sa.Engine, rows: pl.DataFrame, version: str) -> None:
    """Another run loads the week."""
    with elsewhere():
        load_week(engine, rows, version)


def symbols(engine: sa.Engine, tier: str | None = None) -> list[str]:
    with transaction(engine) as connection:
        return read.week_rows(connection, "venue_volume", [WEEK], tier, ["symbol"])["symbol"].sort().to_list()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that read rows from the tables."""
    queries: list[str] = []
    copy_out = read.copy_out

    def counted(connection: sa.Connection, query: str, *rest: Any, **named: Any) -> pl.DataFrame:
        queries.append(query)
        return copy_out(connection, query, *rest, **named)

    monkeypatch.setattr(read, "copy_out", counted)
    return queries


@pytest.fixture
def run(tmp_path: Path) -> Iterator[None]:
    with weeks_kept(tmp_path):
        yield
    assert list(tmp_path.iterdir()) == []


def test_files_are_in_the_folder_that_is_given_if_it_is_there(tmp_path: Path) -> None:
    for folder, place in ((tmp_path, tmp_path), (tmp_path / "none", Path(tempfile.gettempdir()))):
        with weeks_kept(folder):
            kept = kept_weeks()
            assert kept is not None
            kept.keep((WEEK, "venue_volume", T1), "1", frame(row("A", "V1", "5")))
            opened = [os.readlink(file.path) for file in os.scandir("/proc/self/fd") if file.is_symlink()]
            assert any(Path(name).parent == place for name in opened if "(deleted)" in name), opened


@pytest.mark.usefixtures("run")
def test_a_run_reads_once_what_it_did_not_write_whichever_columns_and_tier_are_asked_for(
    engine: sa.Engine, asked: list[str]
) -> None:
    rows = frame(row("A", "V1", "5.25"), row("B", "V1", "10", issue_name="a | b", notional=None))
    late = frame(row("C", "V2", "1")).with_columns(tier=pl.lit(T2.name))
    load_week(engine, rows, "1")
    load_week(engine, late, "2", tier=T2.name)
    assert symbols(engine) == ["A", "B", "C"]
    with transaction(engine) as connection:
        found = read.week_rows(connection, "venue_volume", [WEEK])
    assert found.schema == VENUE_VOLUME
    assert found.sort("symbol").equals(pl.concat([rows, late]).sort("symbol"))
    assert (symbols(engine, T1), symbols(engine, T2.name)) == (["A", "B"], ["C"])
    assert len(asked) == len(TIERS) - 1  # each tier once, but for the one that was loaded last


@pytest.mark.usefixtures("run")
def test_what_another_run_has_loaded_since_is_read(engine: sa.Engine, asked: list[str]) -> None:
    load_week(engine, frame(row("A", "V1", "5")), "1")
    assert symbols(engine) == ["A"]
    load_elsewhere(engine, frame(row("B", "V1", "5")), "2")
    assert symbols(engine) == ["B"]
    # The same rows again are a load, too: whether they are the same is not known without reading them.
    load_elsewhere(engine, frame(row("B", "V1", "5")), "2")
    assert symbols(engine) == ["B"]
    assert len(asked) == 3 * len(TIERS) - 1  # what this run loaded of T1 was not read


@pytest.mark.usefixtures("run")
def test_what_a_run_has_written_is_found_as_the_tables_have_it_and_is_not_read(
    engine: sa.Engine, asked: list[str]
) -> None:
    rows = frame(row("A", "V1", "5.25"), row("", "V1", "0.000001", issue_name='a | "b"\n', notional=None))
    load_week(engine, rows, "1")
    with transaction(engine) as connection:
        found = read.week_rows(connection, "venue_volume", [WEEK], T1)
    assert asked == []
    with elsewhere(), transaction(engine) as connection:
        stored = read.week_rows(connection, "venue_volume", [WEEK], T1)
    assert found.schema == stored.schema
    assert found.sort("symbol").equals(stored.sort("symbol"))


@pytest.mark.usefixtures("run")
def test_a_load_that_is_not_committed_is_seen_by_itself_and_leaves_nothing(engine: sa.Engine) -> None:
    load_week(engine, frame(row("A", "V1", "5")), "1")
    assert symbols(engine) == ["A"]
    with engine.connect() as connection, connection.begin() as begun:
        load.replace_volume(connection, WEEK, T1, frame(row("B", "V1", "5")))
        for _ in range(2):
            assert read.week_rows(connection, "venue_volume", [WEEK], None, ["symbol"])["symbol"].to_list() == ["B"]
            load.mark_computed(connection, "venue_volume", WEEK, "2", 1)
        begun.rollback()
    assert symbols(engine) == ["A"]


@pytest.mark.usefixtures("run")
def test_a_week_that_retention_deletes_is_gone(engine: sa.Engine) -> None:
    load_week(engine, frame(row("A", "V1", "5")), "1")
    assert symbols(engine) == ["A"]
    with transaction(engine) as connection:
        connection.execute(sa.text("DELETE FROM otc.venue_volume"))
        connection.execute(sa.text("DELETE FROM otc.computed_week"))
    assert symbols(engine) == []


@pytest.mark.usefixtures("run")
def test_weeks_that_are_kept_and_weeks_that_are_not_are_read_together(engine: sa.Engine) -> None:
    load_week(engine, frame(row("A", "V1", "5")), "1")
    earlier = frame(row("A", "V1", "7")).with_columns(week_ending=pl.lit(BEFORE))
    with transaction(engine) as connection:
        load.replace_volume(connection, BEFORE, T1, earlier)  # not computed as a whole
    for _ in range(2):
        with transaction(engine) as connection:
            found = read.week_rows(connection, "venue_volume", [BEFORE, WEEK], T1, ["week_ending", "share_volume"])
        assert sorted(found.rows()) == [(BEFORE, 7), (WEEK, 5)]


def test_the_oldest_weeks_are_given_up_where_files_would_take_too_much() -> None:
    rows = frame(row("A", "V1", "5"))
    kept = KeptWeeks()
    kept.keep((WEEK, "venue_volume", T1), "1", rows)
    size = kept.bytes
    kept.close()
    assert (size > 0, kept.bytes) == (True, 0)
    small = KeptWeeks(most_bytes=2 * size)
    for week in (WEEK, BEFORE, WEEK - dt.timedelta(weeks=2)):
        small.keep((week, "venue_volume", T1), "1", rows)
    found = {
        week: small.find((week, "venue_volume", T1), "1", ["symbol"]) is not None
        for week in (WEEK, BEFORE, WEEK - dt.timedelta(weeks=2))
    }
    assert found == {WEEK: True, BEFORE: True, WEEK - dt.timedelta(weeks=2): False}
    small.close()


def test_a_full_disk_keeps_nothing_and_fails_nothing() -> None:
    kept = KeptWeeks(open_file=lambda: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
    kept.keep((WEEK, "venue_volume", T1), "1", frame(row("A", "V1", "5")))
    assert kept.find((WEEK, "venue_volume", T1), "1", ["symbol"]) is None
    assert kept.bytes == 0


def test_a_disk_without_room_for_another_file_fails_nothing_either() -> None:
    """Only writing was caught: with no inode left, every figure failed that could have been read again."""

    def refuse() -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kept = KeptWeeks(open_file=refuse)
    kept.keep((WEEK, "venue_volume", T1), "1", frame(row("A", "V1", "5")))
    assert kept.find((WEEK, "venue_volume", T1), "1", ["symbol"]) is None


def test_nothing_is_kept_outside_of_a_run(engine: sa.Engine, asked: list[str]) -> None:
    load_week(engine, frame(row("A", "V1", "5")), "1")
    assert (symbols(engine), symbols(engine), kept_weeks()) == (["A"], ["A"], None)
    assert len(asked) == 2
