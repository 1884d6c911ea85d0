"""An installation whose archive is on S3: from the capture to the rebuilt database, with outages and kills between."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from dagster_graphql.schema import create_schema
from support.faulty_proxy import FaultyProxy, faulty_proxy
from support.migration import migrate
from support.s3_server import SECRET_KEY, S3Server

from otc_assets.defs import weekly
from otc_assets.defs.instance import open_instance
from otc_assets.settings import settings

Command = Callable[..., tuple[int, str, str]]
Sql = psycopg.Connection[tuple[object, ...]]

#: Published and final: the simulator and the commands use the real date.
WEEK = dt.date(2026, 8, 21)
MATERIALIZE = ("materialize", "--weeks", str(WEEK), "--tier", "T1")
TABLES = ("publication", "rejected_record", "venue_volume", "symbol_summary", "symbol_rolling", "events")
LOGS = "query ($key: [String!]!) { capturedLogs(logKey: $key) { stdout stderr } }"
#: A process that logs as runs of the daemon do; runs of commands print nothing.
LOUD = """
from otc_assets.defs import launch
launch._QUIET["loggers"]["console"]["config"]["log_level"] = "INFO"
from otc_assets.cli import main
main()
"""
#: A process that is killed when the bytes are archived, and the database has nothing of them.
KILLED = """
import os, signal
from otc_assets.pipeline import capture
capture.record = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
from otc_assets.cli import main
main()
"""


@pytest.fixture
def proxy(s3: S3Server, bucket: str, installation: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """An installation with the archive in a bucket, behind a proxy."""
    with faulty_proxy(s3.port) as proxy:
        s3.describe(monkeypatch, proxy.port)
        monkeypatch.setenv("OTC_ARCHIVE_URL", f"s3://{bucket}/otc")
        settings.cache_clear()
        yield proxy


def counts(url: str) -> dict[str, object]:
    """The rows of the tables, and a digest of them without what a rebuild does not repeat."""
    with psycopg.connect(url, options="-c search_path=otc -c TimeZone=UTC") as connection:
        row = "(to_jsonb(t) - 'xid')::text"
        query = f"SELECT count(*), md5(string_agg({row}, ',' ORDER BY {row})) FROM {{}} t"
        return {table: connection.execute(query.format(table)).fetchone() for table in TABLES}


def kinds(s3: S3Server, bucket: str) -> dict[str, int]:
    """How many objects a bucket has of each kind."""
    names = [key.split("/")[1] for key in s3.keys(bucket)]
    return {name: names.count(name) for name in sorted(set(names))}


def test_a_week_is_captured_verified_recomputed_and_rebuilt_and_its_logs_are_shown(
    otc: Command,
    proxy: FaultyProxy,
    s3: S3Server,
    bucket: str,
    database: str,
    empty_database: str,
    installation: Path,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = subprocess.run([sys.executable, "-c", LOUD, *MATERIALIZE], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = kinds(s3, bucket)
    ((digest, origin, rows, events),) = sql.execute(
        "SELECT digest, origin, rows_received, (SELECT count(DISTINCT xid) FROM otc.events) FROM otc.publication"
    ).fetchall()
    assert (found["sha256"], found["journal"]) == (1, events)
    head = s3.client().head_object(Bucket=bucket, Key=f"otc/sha256/{str(digest)[:2]}/{str(digest)[2:]}.zst")
    assert head["Metadata"] == {"sha256": digest, "origin": origin}
    assert not (installation / "archive").exists()

    # The process and its disk are gone; the UI's query finds what the step printed.
    folder = installation / "dagster" / "storage"
    assert list(folder.rglob("*.err")) == []
    shutil.rmtree(folder, ignore_errors=True)
    keys = [key.removeprefix("otc/compute-logs/storage/") for key in s3.keys(bucket) if key.endswith(".err")]
    assert keys
    with open_instance(settings()) as instance:
        texts = []
        for key in keys:
            variables = {"key": key.removesuffix(".err").split("/")}
            answer = create_schema().execute(
                LOGS, variables=variables, context_value=SimpleNamespace(instance=instance)
            )
            assert answer.errors is None
            texts.append(answer.data["capturedLogs"]["stderr"])
    assert any(f"publication_t1 - {WEEK}: {rows:,} rows (week 1 of 1)" in (text or "") for text in texts)

    code, output, errors = otc("archive", "verify")
    assert (code, output.strip()) == (0, "1 archived objects verified: each matches its digest"), errors
    assert otc("rebuild", "--weeks", str(WEEK))[0] == 0
    before = counts(database)
    migrate(empty_database)
    monkeypatch.setenv("OTC_DATABASE_URL", empty_database)
    proxy.disturb("not found", "GET", "/sha256/")
    code, output, errors = otc("rebuild", "--from", "archive", "--leave-out-damaged")
    assert (code, output) == (1, ""), "an outage was taken for damage"
    assert "can't be read at http://127.0.0.1:" in errors
    code, output, errors = otc("rebuild", "--from", "archive")
    assert code == 0, errors
    assert "0 results differ" in output
    assert counts(empty_database) == before
    assert before["venue_volume"][0] > 0  # type: ignore[index]

    # Damage is found, named, and repaired by another capture.
    s3.client().put_object(Bucket=bucket, Key=f"otc/sha256/{str(digest)[:2]}/{str(digest)[2:]}.zst", Body=b"damaged")
    code, output, _ = otc("archive", "verify", "--sample", "5")
    assert code == 4
    assert "damaged" in output.splitlines()[1]
    assert f"s3://{bucket}/otc/sha256/" in output
    assert otc(*MATERIALIZE)[0] == 0
    assert otc("archive", "verify")[0] == 0


def test_a_process_that_is_killed_between_archive_and_commit_leaves_nothing_that_a_repeat_does_not_use(
    otc: Command, proxy: FaultyProxy, s3: S3Server, bucket: str, sql: Sql
) -> None:
    command = [sys.executable, "-c", KILLED, *MATERIALIZE]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (0,)
    (key,) = (key for key in s3.keys(bucket) if "/sha256/" in key)
    written = s3.client().head_object(Bucket=bucket, Key=key)["LastModified"]
    assert otc(*MATERIALIZE)[0] == 0
    assert [key for key in s3.keys(bucket) if "/sha256/" in key] == [key]
    assert s3.client().head_object(Bucket=bucket, Key=key)["LastModified"] == written
    assert otc("archive", "verify")[0] == 0


def test_an_outage_commits_nothing_without_its_bytes_and_one_of_journal_and_logs_fails_no_week(
    otc: Command, proxy: FaultyProxy, s3: S3Server, bucket: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weekly, "_TEMPORARY", ())  # the step would be repeated after 10, 20 and 40 seconds
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.disturb("slow down", "PUT", "/sha256/")
    code, _, errors = otc(*MATERIALIZE)
    assert code == 1
    assert f"s3://{bucket}/otc/sha256/" in errors
    assert "(SlowDown). It is overloaded or has a fault. Try again later" in errors
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (0,)
    assert "sha256" not in kinds(s3, bucket)

    before = kinds(s3, bucket)
    for part in ("/journal/", "/compute-logs/"):
        proxy.disturb("reset", "PUT", part, times=10_000)
    code, _, errors = otc(*MATERIALIZE)
    assert code == 0, errors
    assert kinds(s3, bucket) == before | {"sha256": 1}
    # Migrate copies what the journal lacks.
    proxy.calm()
    code, _, errors = otc("migrate")
    assert (code, "events written to the archive, which lacked them" in errors) == (0, True), errors
    (transactions,) = sql.execute("SELECT count(DISTINCT xid) FROM otc.events").fetchone() or ()
    assert kinds(s3, bucket)["journal"] == transactions
    code, _, errors = otc("archive", "verify")
    assert code == 0, errors


def test_an_outage_refuses_no_file(
    otc: Command, proxy: FaultyProxy, sql: Sql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is refused is not ingested again."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert otc("simulate", str(tmp_path / "files"), "--weeks", str(WEEK))[0] == 0
    file = str(next((tmp_path / "files").glob("*.csv")))
    proxy.disturb("slow down", "PUT", "/sha256/")
    code, _, errors = otc("ingest", file)
    assert (code, "(SlowDown). It is overloaded" in errors) == (1, True), errors
    assert sql.execute("SELECT count(*) FROM otc.events WHERE event_type = 'otc.file.rejected'").fetchone() == (0,)
    code, _, errors = otc("ingest", file)
    assert code == 0, errors
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (1,)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OTC_ARCHIVE_URL", "s3://no-such-bucket/otc", "s3://no-such-bucket/otc can't be listed"),
        ("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-anyone", "(SignatureDoesNotMatch). Check the credentials"),
        (
            "AWS_ENDPOINT_URL",
            "http://127.0.0.1:1",
            "at http://127.0.0.1:1 (EndpointConnectionError). Check AWS_ENDPOINT",
        ),
    ],
)
def test_an_archive_that_can_not_be_used_ends_each_command_at_its_start(
    otc: Command, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str, sql: Sql
) -> None:
    monkeypatch.setenv(variable, value)
    for command in (
        MATERIALIZE,
        ("up",),
        ("migrate",),
        ("rebuild", "--weeks", str(WEEK)),
        ("rebuild", "--from", "archive"),
        ("archive", "verify"),
        ("archive", "copy", "--to", "file:///tmp/otc-copy"),
    ):
        code, output, errors = otc(*command)
        assert (code, output) == (1, ""), command
        assert message in errors, command
        assert SECRET_KEY not in errors
        assert value == "s3://no-such-bucket/otc" or value not in errors or variable == "AWS_ENDPOINT_URL"
        assert len(errors.strip().splitlines()) == 1, errors
    assert sql.execute("SELECT count(*) FROM otc.events").fetchone() == (0,)


@pytest.mark.parametrize("url", ["s3:///otc", "s3://Bucket/otc", "ftp://host/otc"])
def test_an_invalid_address_is_an_error_of_the_setting(otc: Command, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OTC_ARCHIVE_URL", url)
    code, _, errors = otc("archive", "verify")
    assert (code, "OTC_ARCHIVE_URL: " in errors) == (2, True), errors
