"""The asset of the exported files, its checks, the sensor that requests it, and the command, on a simulated week."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pytest
import time_machine
from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    RunRequest,
    SensorResult,
    SkipReason,
    build_sensor_context,
)
from support import installed
from support.s3_server import S3Server

from otc_assets.archive import store
from otc_assets.domain.checks import EXPORT
from otc_assets.domain.parquet import exported_tables
from otc_assets.pipeline.calendar import compute_calendar
from otc_assets.pipeline.checks import judge_checks
from otc_assets.settings import Settings, settings

Sql = psycopg.Connection[tuple[Any, ...]]
Command = Callable[..., tuple[int, str, str]]

WEEK = dt.date(2026, 8, 21)

pytestmark = pytest.mark.slow


@pytest.fixture
def today() -> Iterator[None]:
    with time_machine.travel(dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC), tick=True):
        yield


@pytest.fixture
def computed(dagster: DagsterInstance, today: None) -> DagsterInstance:
    """A week of T1, captured, and some of its tables."""
    launcher = installed.launcher(dagster)
    launcher.run_assets(["week_calendar", "publication_t1"], WEEK, WEEK)
    launcher.run_assets(["venue_volume", "symbol_summary", "venue_share"], WEEK, WEEK)
    return dagster


def tick(dagster: DagsterInstance) -> list[RunRequest] | str:
    """What the sensor requests, or why it requests nothing."""
    context = build_sensor_context(dagster, resources=installed.resources(), repository_def=installed.repository())
    result = installed.definitions().resolve_sensor_def("stale_exports").evaluate_tick(context)
    if result.run_requests:
        return list(result.run_requests)
    assert isinstance(result, SkipReason | SensorResult) or result.skip_message
    return str(result.skip_message)


def weeks_of(request: RunRequest) -> tuple[str, str]:
    return (
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


def test_a_computed_week_is_requested_exported_checked_and_requested_again_once_it_has_changed(
    computed: DagsterInstance, installation: Path, sql: Sql
) -> None:
    requests = tick(computed)
    assert isinstance(requests, list)
    assert weeks_of(requests[0]) == (str(WEEK), str(WEEK))
    installed.launcher(computed).run_assets([EXPORT], WEEK, WEEK)
    assert tick(computed) == "every week is exported"

    # As the database and another reader have it, and not as the export says.
    rows = 0
    for table in exported_tables():
        (count,) = sql.execute(f"SELECT count(*) FROM otc.{table} WHERE week_ending = %s", [WEEK]).fetchone() or (0,)
        assert isinstance(count, int)
        folder = installation / "export" / table
        if folder.is_dir():
            glob = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
            assert duckdb.sql(f"SELECT count(*), min(week_ending) FROM {glob}").fetchall() == [
                (count, WEEK if count else None)
            ]
        else:
            assert count == 0
        rows += count
    wanted = AssetRecordsFilter(AssetKey(EXPORT), asset_partitions=[str(WEEK)])
    (record,) = computed.fetch_materializations(wanted, limit=1).records
    assert record.asset_materialization is not None
    metadata = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    files = list((installation / "export").glob("[a-z]*/*/*.parquet"))
    assert metadata["dagster/partition_row_count"] == rows > 1000
    assert metadata["bytes"] == sum(file.stat().st_size for file in files)
    assert metadata["files"] == len(files)
    assert metadata["path"] == f"{(installation / 'export').as_uri()}/*/week_ending={WEEK}/part.parquet"

    for name in ("files_match_manifest", "rows_match_tables"):
        assert judged(computed, name) is True

    # A file that is damaged, and a table that has lost a row.
    sql.execute("DELETE FROM otc.symbol_summary WHERE symbol = (SELECT min(symbol) FROM otc.symbol_summary)")
    path = installation / f"export/venue_share/week_ending={WEEK}/part.parquet"
    path.chmod(0o644)
    path.write_bytes(b"PAR1")
    found = {
        verdict.check.name: (verdict.passed, str(verdict.details["all tables"]))
        for verdict in judge_checks(installed.database(), EXPORT, WEEK, exports=installed.resources()["exports"])
    }
    passed, detail = found["files_match_manifest"]
    assert (passed, detail.endswith("missing or damaged: venue_share")) == (False, True)
    passed, detail = found["rows_match_tables"]
    assert (passed, "rows in file and table differ: symbol_summary" in detail) == (False, True)

    # A week by itself is read, and what is damaged is written again.
    sql.execute("UPDATE otc.computed_week SET version = version || ' x' WHERE table_name = 'symbol_summary'")
    assert [weeks_of(request) for request in tick(computed)] == [(str(WEEK), str(WEEK))]  # type: ignore[arg-type]
    installed.launcher(computed).run_assets([EXPORT], WEEK, WEEK)
    for name in ("files_match_manifest", "rows_match_tables"):
        assert judged(computed, name) is True


def judged(dagster: DagsterInstance, name: str) -> bool:
    """The newest result of a check of the export."""
    history = dagster.event_log_storage.get_asset_check_execution_history(AssetCheckKey(AssetKey(EXPORT), name), 1)
    assert history[0].event is not None
    evaluation = history[0].event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
    return evaluation.passed


@pytest.fixture
def gap(installation: Path, sql: Sql) -> None:
    """A week with rows in two tables."""
    compute_calendar(WEEK, installed.database())
    sql.execute(
        "INSERT INTO otc.gap (week_ending, tier, status, due, fetchable, rows_loaded, detail) "
        "VALUES (%s, 'OTC', 'late', '2026-09-21', true, 0, 'not captured')",
        [WEEK],
    )


def test_a_run_removes_what_a_killed_export_left_half_written_and_not_what_is_being_written(
    computed: DagsterInstance, installation: Path
) -> None:
    """Only the command did, and not the runs of the daemon."""
    folder = installation / "export" / "venue_volume" / f"week_ending={WEEK}"
    folder.mkdir(parents=True)
    write = "import sys, tempfile; from otc_assets.archive import store; "
    write += "tempfile.mkstemp(dir=sys.argv[1], prefix=store._prefix())"
    subprocess.run([sys.executable, "-c", write, str(folder)], check=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=store._prefix()) as under_way:
        assert len(list(folder.iterdir())) == 2
        installed.launcher(computed).run_assets([EXPORT], WEEK, WEEK)
        assert {path.name for path in folder.iterdir()} == {"part.parquet", Path(under_way.name).name}


@pytest.mark.usefixtures("gap")
def test_the_command_exports_some_tables_to_a_folder_continues_and_verifies(otc: Command, tmp_path: Path) -> None:
    copy = tmp_path / "Anna's copy"
    to = ("--to", copy.as_uri())
    code, output, errors = otc("export", "--tables", "gap, venue_share", "--weeks", str(WEEK), *to)
    assert (code, output.startswith("1 files (")) == (0, True), errors
    assert duckdb.sql(errors.partition("In DuckDB: ")[2]).fetchall() == pl.read_parquet(copy / "gap").rows()
    assert {path.name for path in copy.iterdir() if path.is_dir()} == {"gap"}
    code, output, errors = otc("export", *to, "--json")
    shown = json.loads(output)
    assert (code, shown["weeks"], shown["files"], shown["failed"]) == (0, [str(WEEK)], 1, []), errors
    assert otc("export", *to)[1] == f"{to[1]} is up to date\n"
    assert otc("export", "verify", *to)[:2] == (0, f"2 files in {to[1]} verified: each matches its digest\n")
    code, _, errors = otc("export", *to, "verify")
    assert (code, "write options after 'verify'" in errors) == (2, True)
    (copy / f"gap/week_ending={WEEK}/part.parquet").unlink()
    code, output, _ = otc("export", "verify", *to, "--json")
    problems = [{"path": f"gap/week_ending={WEEK}/part.parquet", "problem": "missing"}]
    assert (code, json.loads(output)["problems"]) == (4, problems)
    assert otc("export", "--repair", *to)[0] == 0
    assert otc("export", "verify", *to)[0] == 0
    assert pl.read_parquet(copy / f"gap/week_ending={WEEK}/part.parquet").height == 1


@pytest.mark.usefixtures("gap")
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device. The disk is full. Free space and export again"),
        (errno.EACCES, "Permission denied. This account may not write there. Grant the right, or name another folder"),
    ],
)
def test_a_disk_that_is_full_or_read_only_is_an_error_with_a_remedy_and_the_export_continues(
    otc: Command, installation: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fails)
        code, output, errors = otc("export")
    assert (code, output) == (1, "")
    assert remedy in errors
    assert list(installation.glob("export/**/*.parquet")) == []
    assert otc("export")[0] == 0
    assert len(list(installation.glob("export/*/*/part.parquet"))) == 2


def test_addresses_and_tables_that_can_not_be_used_are_refused(
    otc: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, output, errors = otc("export", "--to", (tmp_path / "file").as_uri())
    assert (code, output) == (1, "")
    assert "Not a directory. Correct this, or name another folder (OTC_EXPORT_URL, --to)." in errors
    code, _, errors = otc("export", "--tables", "publication")
    assert (code, "publication: no such table." in errors) == (2, True)
    code, _, errors = otc("export", "--to", "ftp://host/folder")
    assert (code, "the scheme 'ftp' is unknown" in errors) == (2, True)
    monkeypatch.setenv("OTC_EXPORT_URL", "s3://Bucket")
    code, _, errors = otc("export")
    assert (code, "OTC_EXPORT_URL: Value error, 'Bucket' is not a bucket's name" in errors) == (2, True)


def test_an_unreachable_s3_server_ends_the_command_at_its_start(
    otc: Command, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.describe(monkeypatch)
    code, _, errors = otc("export", "--to", "s3://no-such-bucket/otc")
    assert (code, "Create it, or correct OTC_EXPORT_URL." in errors) == (1, True), errors
    s3.describe(monkeypatch, port=1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    code, _, errors = otc("export", "--to", "s3://no-such-bucket/otc")
    assert (code, "(EndpointConnectionError). Check AWS_ENDPOINT_URL and the network." in errors) == (1, True), errors


def test_by_default_the_files_are_below_the_archive_or_in_the_home(tmp_path: Path) -> None:
    def where(**given: Any) -> str:
        return str(Settings(home=tmp_path, **given).export)

    assert where() == (tmp_path / "export").as_uri()
    assert where(archive_url="s3://bucket/otc") == "s3://bucket/otc/export"
    assert where(archive_url="s3://bucket") == "s3://bucket/export"
    assert where(archive_url="file:///data/archive") == "file:///data/archive/export"
    assert where(archive_url="s3://bucket/otc", export_url="file:///data/export") == "file:///data/export"
    assert Settings(home=tmp_path, export_url="s3://b-1/x").environment()["OTC_EXPORT_URL"] == "s3://b-1/x"
    assert "OTC_EXPORT_URL" not in settings().environment()
