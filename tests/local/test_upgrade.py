"""Only 'up' and 'migrate' change schema, retention and compression, and shorten retention only with --yes."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance
from support import installed
from support.migration import migrate

from otc_assets.archive.store import LocalArchive
from otc_assets.defs.instance import POOLS, clean_instance
from otc_assets.domain.tables import hypertables
from otc_assets.domain.weeks import TIERS, weeks_between
from otc_assets.local import services, setup
from otc_assets.settings import settings
from otc_assets.warehouse.migrate import SchemaMismatch, newest_version, require_current
from otc_assets.warehouse.server import opened

Command = Callable[..., tuple[int, str, str]]
Sql = psycopg.Connection[tuple[object, ...]]

RETENTION = "SELECT what, keep_weeks FROM otc.retention ORDER BY what"
DEFAULT = [("summaries", None), ("venue_volume", 104)]
#: Commands that work with the installation as it is.
OTHERS = (
    ["status"],
    ["gaps"],
    ["storage"],
    ["alerts"],
    ["events", "tail"],
    ["events", "replay"],
    ["materialize", "--weeks", "2026-08-21"],
    ["ingest", __file__],
)


def stored(sql: Sql) -> list[tuple[object, ...]]:
    return sql.execute(RETENTION).fetchall()


@pytest.fixture
def october() -> Iterator[None]:
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield


@pytest.mark.parametrize("arguments", OTHERS, ids=lambda arguments: arguments[0])
def test_a_command_in_a_shell_without_the_settings_leaves_the_stored_retention(
    otc: Command, sql: Sql, arguments: list[str], october: None
) -> None:
    """`status` in a shell without OTC_KEEP_VENUE_VOLUME_WEEKS set unlimited retention to 104 weeks."""
    sql.execute("UPDATE otc.retention SET keep_weeks = NULL")
    otc(*arguments)
    assert stored(sql) == [("summaries", None), ("venue_volume", None)]


def test_a_command_in_a_shell_with_another_setting_leaves_compression(
    otc: Command, migrated_community_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`OTC_COMPRESS_AFTER_WEEKS=0 otc-assets events tail` removed every compression policy."""
    policies = """
        SELECT hypertable_name, config ->> 'compress_after' FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_compression' ORDER BY 1
    """
    monkeypatch.setenv("OTC_DATABASE_URL", migrated_community_database)
    with psycopg.connect(migrated_community_database, autocommit=True) as sql:
        before = sql.execute(policies).fetchall()
        assert len(before) == len(hypertables())
        monkeypatch.setenv("OTC_COMPRESS_AFTER_WEEKS", "0")
        assert otc("events", "tail")[0] == 0
        assert sql.execute(policies).fetchall() == before
        assert otc("migrate")[0] == 0
        assert sql.execute(policies).fetchall() == []


@pytest.fixture
def four_weeks(dagster: DagsterInstance, october: None) -> list[dt.date]:
    """Four weeks, computed."""
    weeks = weeks_between(dt.date(2026, 7, 31), dt.date(2026, 8, 21))
    assert installed.materialize_weeks(dagster, weeks, TIERS[:1]) == []
    return weeks


def test_shorter_retention_needs_yes_and_the_message_counts_what_it_deletes(
    otc: Command, sql: Sql, four_weeks: list[dt.date], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten setting, and the next retention job deleted years of data."""
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", "9")  # 2026-08-14 and later, on 2026-10-14
    code, _, errors = otc("migrate")
    assert code == 1
    assert stored(sql) == DEFAULT
    assert (
        "retention of venue_volume stays as stored (for 104 weeks): OTC_KEEP_VENUE_VOLUME_WEEKS=9 is shorter" in errors
    )
    assert "from 2026-08-14" in errors
    assert "2 of venue_volume, 2 of published_total" in errors
    assert "summaries" not in errors
    assert "--yes" in errors
    code, _, errors = otc("migrate", "--yes")
    assert (code, errors) == (0, "")
    assert stored(sql) == [("summaries", None), ("venue_volume", 9)]


def test_longer_retention_takes_effect_without_yes(otc: Command, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", "300")
    assert otc("migrate")[0] == 0
    assert stored(sql) == [("summaries", None), ("venue_volume", 300)]


def test_up_continues_with_the_stored_retention_and_prints_a_remark(
    otc: Command, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(*_: object) -> None:
        raise setup.NotStarted("the UI is not part of this test")

    monkeypatch.setattr(services, "serve", serve)
    sql.execute("UPDATE otc.retention SET keep_weeks = NULL")
    code, _, errors = otc("up")
    assert (code, "the UI is not part of this test" in errors) == (1, True)
    assert "retention of venue_volume stays as stored (indefinitely): OTC_KEEP_VENUE_VOLUME_WEEKS=104" in errors
    assert "no week that is stored now" in errors
    assert stored(sql) == [("summaries", None), ("venue_volume", None)]
    _, _, errors = otc("up", "--yes")
    assert "retention" not in errors
    assert stored(sql) == DEFAULT


@pytest.mark.parametrize("arguments", OTHERS, ids=lambda arguments: arguments[0])
def test_a_schema_that_is_behind_is_refused_in_one_line_and_not_touched(
    otc: Command, empty_database: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, october: None
) -> None:
    """Any command migrated the database that it found, from whatever shell and version."""
    monkeypatch.setenv("OTC_DATABASE_URL", empty_database)
    code, _, errors = otc(*arguments)
    assert code == 1
    assert errors.splitlines() == ["the database has no otc-assets schema yet. Run 'otc-assets migrate' first."]
    with psycopg.connect(empty_database) as sql:
        assert sql.execute("SELECT to_regnamespace('otc')").fetchone() == (None,)
    migrate(empty_database, "026")
    code, _, errors = otc(*arguments)
    assert code == 1
    (line,) = errors.splitlines()
    assert line.startswith(f"the database schema is at version 026, and this otc-assets needs {newest_version()}. Run")
    with psycopg.connect(empty_database) as sql:
        assert sql.execute("SELECT version_num FROM otc.schema_version").fetchone() == ("026",)


def test_a_schema_with_raw_rows_is_migrated_once_the_archive_has_the_bytes_of_each(
    otc: Command, empty_database: str, installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table has the last copy of what the archive lacks. The setting of before is no error."""
    archive = LocalArchive(installation / "archive")
    digests = [archive.put(content) for content in (b"header\nrow 1\n", b"header\nrow 2\n", b"header\nrow 3\n")]
    migrate(empty_database, "052")
    with psycopg.connect(empty_database) as sql:
        for digest in digests:
            insert = """
                INSERT INTO otc.publication (week_ending, tier, scope, revision, digest, origin, layout, bytes,
                    rows_received, rows_accepted, rows_rejected, complete)
                VALUES ('2026-08-21', 'OTC', 'FULL', %s, %s, 'a file', 'website', 13, 1, 1, 0, true) RETURNING id
            """
            (number,) = sql.execute(insert, [digests.index(digest) + 1, digest]).fetchone() or ()
            sql.execute("INSERT INTO otc.raw_record VALUES ('2026-08-21', %s, 2, 'row')", [number])
    monkeypatch.setenv("OTC_DATABASE_URL", empty_database)
    monkeypatch.setenv("OTC_KEEP_RAW_RECORD_WEEKS", "26")
    missing, damaged = (installation / "archive" / d[:2] / f"{d}.zst" for d in digests[:2])
    kept = missing.rename(installation / "kept")
    damaged.chmod(0o644)
    damaged.write_bytes(b"something else")
    for command in (["migrate"], ["migrate", "--to", newest_version()], ["up", "--database-only"]):
        code, _, errors = otc(*command)
        assert code == 1
        assert f"2 of 3 captures: capture 1 (OTC, week ending 2026-08-21): {digests[0]} is missing; " in errors
        assert f"capture 2 (OTC, week ending 2026-08-21): {digests[1]} is damaged. Make OTC_ARCHIVE_URL" in errors
        with psycopg.connect(empty_database) as sql:
            assert sql.execute("SELECT count(*) FROM otc.raw_record").fetchone() == (3,)
    kept.rename(missing)
    archive.put(b"header\nrow 2\n")
    code, output, errors = otc("migrate", "--yes")
    assert code == 0, errors
    assert f"schema {newest_version()}, was 052" in output
    with psycopg.connect(empty_database) as sql:
        assert sql.execute("SELECT to_regclass('otc.raw_record')").fetchone() == (None,)
        assert sql.execute("SELECT digest FROM otc.publication ORDER BY id").fetchall() == [(d,) for d in digests]
    assert otc("archive", "verify")[0] == 0


def test_a_schema_of_a_newer_version_is_refused(database: str, sql: Sql) -> None:
    sql.execute("UPDATE otc.schema_version SET version_num = '999'")
    with opened(database) as engine, pytest.raises(SchemaMismatch, match="at version 999.*Update this installation"):
        require_current(engine)


@pytest.mark.slow
def test_the_first_command_on_a_machine_with_nothing_initializes_the_embedded_database() -> None:
    """It has no data that could be lost, and a new user may begin with any command."""
    with tempfile.TemporaryDirectory(prefix="otc-first-") as home:
        Path(home).chmod(0o755)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))} | {"OTC_HOME": home}
        command = [Path(sys.executable).parent / "otc-assets", "storage", "--json"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert '"table": "venue_volume"' in done.stdout


def test_other_commands_leave_dagsters_configuration_and_limits_that_were_changed(
    installation: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command replaced dagster.yaml while a daemon was running, and reset the limits set in the UI."""
    prepared = setup.prepare(settings(), database)
    with clean_instance(prepared) as instance:
        assert {p.name: p.limit for p in instance.event_log_storage.get_pool_limits()} == POOLS
        instance.event_log_storage.set_concurrency_slots("finra_api", 1)
    config = installation / "dagster" / "dagster.yaml"
    ours = config.read_text()
    config.write_text(ours + "# changed\n")
    prepared = setup.prepare(settings(), database)
    with clean_instance(prepared) as instance:
        limits = {p.name: p.limit for p in instance.event_log_storage.get_pool_limits()}
    assert limits == {"finra_api": 1, "database": 2}
    assert config.read_text() == ours + "# changed\n"
    setup.upgrade(settings(), database)
    assert config.read_text() == ours
    assert [path.name for path in config.parent.glob("dagster.yaml*")] == ["dagster.yaml"]
