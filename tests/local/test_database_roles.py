"""An installation whose processes have logins of their own: one owner, one writer, one reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from support import installed
from support.logins import login

from otc_assets.defs.instance import POOLS, clean_instance
from otc_assets.exporter.server import exporter_of, exposition
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.roles import READER, WRITER

pytestmark = pytest.mark.slow

Sql = psycopg.Connection[tuple[object, ...]]
Command = Callable[..., tuple[int, str, str]]
WEEK = "2026-08-21"


class Logins(NamedTuple):
    """The URLs of one database."""

    owner: str
    writer: str
    reader: str


@pytest.fixture
def logins(server: EmbeddedServer, installation: Path, database: str) -> Iterator[Logins]:
    """The URLs of the installation's database."""
    with server._connect(database.rpartition("/")[2]) as admin, ExitStack() as stack:
        yield Logins(database, *(stack.enter_context(login(admin, database, role)) for role in (WRITER, READER)))
        installed.close()


@pytest.fixture
def now() -> Iterator[None]:
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield


def test_migrations_limit_the_pools_before_the_first_run(otc: Command, sql: Sql) -> None:
    """Where no 'up' does: in containers, FINRA's pool had Dagster's default limit."""
    assert otc("migrate")[0] == 0
    assert dict(sql.execute('SELECT concurrency_key, "limit" FROM dagster.concurrency_limits').fetchall()) == POOLS  # type: ignore[arg-type]
    sql.execute("UPDATE dagster.concurrency_limits SET \"limit\" = 7 WHERE concurrency_key = 'finra_api'")
    assert otc("migrate")[0] == 0
    changed = sql.execute("SELECT \"limit\" FROM dagster.concurrency_limits WHERE concurrency_key = 'finra_api'")
    assert changed.fetchall() == [(7,)]


def test_a_writer_runs_everything_but_migrations_and_a_reader_sees_it(
    otc: Command, logins: Logins, sql: Sql, monkeypatch: pytest.MonkeyPatch, now: None
) -> None:
    assert otc("migrate")[0] == 0
    monkeypatch.setenv("OTC_DATABASE_URL", logins.writer)
    for command in (
        ("materialize", "--weeks", WEEK),
        ("captures", "withdraw", "1", "--reason", "a test"),
        ("captures", "restore", "1"),
        ("rebuild", "--weeks", WEEK),
        ("events", "replay"),
        ("archive", "verify"),
    ):
        code, text, said = otc(*command)
        assert code == 0, f"{command}: {text}{said}"
    happened = {row[0] for row in sql.execute("SELECT DISTINCT event_type FROM otc.events")}
    assert happened >= {"otc.capture.withdrawn", "otc.week.normalized", "otc.week.checked", "otc.summary.computed"}

    # Dagster's jobs, as its daemon starts them: retention keeps nine weeks, so the week that was loaded is deleted.
    sql.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = 'venue_volume'")
    sql.execute("UPDATE dagster.runs SET update_timestamp = '2020-01-01', end_time = 1577836800")
    sql.execute("UPDATE dagster.event_logs SET \"timestamp\" = '2020-01-01'")
    before = sql.execute("SELECT count(*) FROM dagster.event_logs").fetchone()
    settings.cache_clear()
    with clean_instance(setup.resolved(settings(), logins.writer)) as instance:
        for job in ("retention", "clean_up"):
            assert installed.definitions().resolve_job_def(job).execute_in_process(instance=instance).success, job
    assert sql.execute("SELECT count(*) FROM otc.venue_volume").fetchone() == (0,)
    assert sql.execute("SELECT retired_at IS NOT NULL FROM otc.week_state").fetchall() == [(True,)] * 3
    left = "SELECT count(*) FROM dagster.event_logs WHERE \"timestamp\" = '2020-01-01'"
    assert (sql.execute(left).fetchone() or (0,))[0] < (before or (0,))[0]  # type: ignore[operator]

    monkeypatch.setenv("OTC_DATABASE_URL", logins.reader)
    for command in (
        ("status",),
        ("gaps",),
        ("storage",),
        ("alerts",),
        ("captures", "list"),
        ("events", "tail"),
        ("events", "history", WEEK),
    ):
        code, text, said = otc(*command)
        assert code == 0, f"{command}: {text}{said}"
        assert text


def test_a_separate_storage_of_dagster_has_its_own_owner_writer_and_reader(
    otc: Command, logins: Logins, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, now: None
) -> None:
    with server._connect("postgres") as admin, ExitStack() as stack:
        admin.execute("CREATE DATABASE of_dagster OWNER otc STRATEGY file_copy")
        stack.callback(admin.execute, "DROP DATABASE of_dagster WITH (FORCE)")
        there = stack.enter_context(server._connect("of_dagster"))
        there.execute("REVOKE CONNECT ON DATABASE of_dagster FROM PUBLIC")
        address = sa.make_url(logins.owner).set(database="of_dagster")
        of_dagster = [address.render_as_string(hide_password=False)]
        for role in (WRITER, READER):
            of_dagster.append(stack.enter_context(login(there, of_dagster[0], role)))
            there.execute(f"GRANT CONNECT ON DATABASE of_dagster TO {sa.make_url(of_dagster[-1]).username}".encode())
        for url, storage, command in (
            (logins.owner, of_dagster[0], ("migrate",)),
            (logins.writer, of_dagster[1], ("materialize", "--weeks", WEEK)),
            (logins.reader, of_dagster[2], ("status",)),
        ):
            monkeypatch.setenv("OTC_DATABASE_URL", url)
            monkeypatch.setenv("OTC_DAGSTER_STORAGE_URL", storage)
            code, text, said = otc(*command)
            assert code == 0, f"{command}: {text}{said}"
        (runs,) = there.execute("SELECT count(*) FROM public.runs").fetchone() or (0,)
        assert runs
        settings.cache_clear()
        metrics = exposition(exporter_of(settings(), lambda: logins.reader))
        assert f'otc_dagster_runs_total{{status="SUCCESS"}} {float(runs)}' in metrics  # type: ignore[arg-type]
        assert 'otc_scrape_errors{collector="ticks"} 0.0' in metrics
        with psycopg.connect(of_dagster[2], autocommit=True) as reader:
            for attempt in ("SELECT run_body FROM runs", "SELECT event FROM event_logs", "DELETE FROM runs"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(attempt.encode())
            reader.close()


def test_migrate_creates_dagsters_tables_and_brings_those_of_another_version_up_to_date(
    otc: Command, logins: Logins, sql: Sql
) -> None:
    """The writer may not create them."""
    assert otc("migrate")[0] == 0
    version = "SELECT version_num FROM dagster.alembic_version"
    newest = sql.execute(version).fetchall()
    # As an earlier version of Dagster left it.
    sql.execute("UPDATE dagster.alembic_version SET version_num = '6b7fb194ff9c'")
    sql.execute("ALTER TABLE dagster.concurrency_limits DROP COLUMN using_default_limit")
    assert otc("migrate")[0] == 0
    assert sql.execute(version).fetchall() == newest
    with psycopg.connect(logins.writer, autocommit=True) as writer:
        added = writer.execute("SELECT DISTINCT using_default_limit FROM dagster.concurrency_limits")
        assert added.fetchall() == [(False,)]
        writer.execute("INSERT INTO dagster.kvs (key, value) VALUES ('a', 'b')")
        for attempt in (
            "UPDATE dagster.alembic_version SET version_num = ''",
            "DROP TABLE dagster.kvs",
            "CREATE TABLE dagster.of_a_writer (x int)",
            "TRUNCATE dagster.runs",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                writer.execute(attempt.encode())
        writer.close()
