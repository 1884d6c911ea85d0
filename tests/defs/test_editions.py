"""Plain PostgreSQL, TimescaleDB's Apache edition and its community edition give the same rows.

On each, an owner without further rights migrates, and everything else is done by a member of the role that writes.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from dagster import DagsterInstance
from support import installed
from support.logins import login
from support.migration import migrate
from support.revised_week import a_revised_week

from otc_assets.domain.tables import with_history
from otc_assets.domain.weeks import week_containing, weeks_up_to
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.history import known_until
from otc_assets.warehouse.roles import WRITER, create
from otc_assets.warehouse.server import autocommit, opened
from otc_assets.warehouse.timescale.aggregates import AGGREGATES
from otc_assets.warehouse.timescale.jobs import RETENTION_JOB

NEVER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
#: Numbers that a database gives out, moments, and what names a run: not the same twice on any server.
_ITS_OWN = {"id", "publication_id", "known_from", "known_to", "captured_at", "computed_at", "judged_at", "reported_at"}
_ITS_OWN |= {"run_id", "xid", "version", "event_id", "created_at", "metadata"}
_ITS_OWN |= {"began_at", "write_moment", "journal_id"}
_ITS_OWN |= {f"{done}_at" for done in ("first", "last", "opened", "closed", "updated", "captured", "normalized")}
_ITS_OWN |= {f"{done}_at" for done in ("revised", "symbol_summary", "venue_share", "checked", "retired")}
#: In the events, a publication's number, a version and seconds also differ by database.
_TOLD = {"payload": "payload - ARRAY['publication_id', 'version', 'seconds']"}
_COLUMNS = """
    SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'otc' ORDER BY ordinal_position
"""


@contextmanager
def installation_on(url: str, writer: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Settings with which the database is written, migrated by its owner's URL, and a Dagster instance."""

    with monkeypatch.context() as set_for_this:
        for name, value in {
            "OTC_DATABASE_URL": writer,
            "OTC_HOME": str(home),
            "OTC_SOURCE": "simulator",
            "OTC_SIMULATOR_SCALE": "0.005",
        }.items():
            set_for_this.setenv(name, value)
        settings.cache_clear()
        migrate(url, start=NEVER)
        with DagsterInstance.ephemeral() as instance:
            yield instance
        installed.close()
    settings.cache_clear()


def everything(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables and aggregates, without values that differ by database."""
    with psycopg.connect(url, autocommit=True) as connection:
        columns: dict[str, list[str]] = {}
        for table, column in connection.execute(_COLUMNS):
            columns.setdefault(table, []).append(column)
        return {
            table: sorted(
                connection.execute(
                    f"SELECT {', '.join(_TOLD.get(n, n) for n in names if n not in _ITS_OWN)} FROM otc.{table}"  # type: ignore[arg-type]
                ).fetchall(),
                key=str,
            )
            for table, names in columns.items()
            if table not in ("retention", "definition")
        }


def as_of(url: str, moments: list[dt.datetime]) -> list[dict[str, list[tuple[object, ...]]]]:
    """The answers of every function for each of the moments."""
    found = []
    with psycopg.connect(url, autocommit=True) as connection:
        for moment in moments:
            answers = {}
            for table in (*with_history(), *AGGREGATES):
                rows = connection.execute(f"SELECT * FROM otc.{table}_as_of(%s)", [moment])  # type: ignore[arg-type]
                keep = [n for n, column in enumerate(rows.description or []) if column.name not in _ITS_OWN]
                answers[table] = sorted((tuple(row[n] for n in keep) for row in rows), key=str)
            found.append(answers)
    return found


def live_through(url: str, writer: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Four weeks are captured, one is revised, one is dropped; the rows, and the answers as of each moment."""
    week, day = a_revised_week(dt.date(2025, 12, 5))
    weeks = weeks_up_to(week, 4)
    moments = []
    with installation_on(url, writer, home, monkeypatch) as instance:
        for today in (day - dt.timedelta(days=1), day + dt.timedelta(days=1)):
            with time_machine.travel(dt.datetime.combine(today, dt.time(18), dt.UTC), tick=True):
                assert installed.materialize_weeks(instance, weeks) == []
            with installed.database().transaction() as connection:
                moments.append(known_until(connection))
            time.sleep(0.01)
        answered = as_of(url, moments)
        keep = (week_containing(dt.date.today()) - weeks[1]).days // 7  # noqa: DTZ011 - the database's clock
        monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", str(keep))
        settings.cache_clear()
        server = migrate(url, start=NEVER, shorten_retention=True).server
        if installed.database().has_retention_job():
            with opened(url) as engine, autocommit(engine) as connection:
                job = connection.execute(
                    sa.text("SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = :name"),
                    {"name": RETENTION_JOB},
                ).scalar()
                connection.exec_driver_sql(f"CALL run_job({job})")
        else:
            assert installed.definitions().resolve_job_def("retention").execute_in_process(instance=instance).success
        made = {"server": server, "tables": everything(url), "answered": answered, "later": as_of(url, moments)}
        assert installed.stale_weeks() == []
    monkeypatch.delenv("OTC_KEEP_VENUE_VOLUME_WEEKS")
    return made


def test_the_same_weeks_with_a_revision_and_a_retention_are_the_same_on_every_server(
    empty_database: str,
    apache_database: str,
    community_database: str,
    server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lives = []
    for number, url in enumerate((empty_database, apache_database, community_database)):
        (home := tmp_path / str(number)).mkdir()
        with ExitStack() as stack:
            if url == empty_database:
                admin = stack.enter_context(server._connect(url.rpartition("/")[2]))
            else:
                admin = stack.enter_context(psycopg.connect(url, autocommit=True))
                with opened(url) as engine, autocommit(engine) as connection:
                    assert create(connection) == ""
            owner = stack.enter_context(login(admin, url, owns_database=True))
            writer = stack.enter_context(login(admin, url, WRITER))
            lives.append(live_through(owner, writer, home, monkeypatch))
    plain, *others = lives
    assert plain["server"] == "plain PostgreSQL"
    assert [life["server"].rpartition(", ")[2] for life in others] == ["Apache edition", "community edition"]
    weeks = weeks_up_to(a_revised_week(dt.date(2025, 12, 5))[0], 4)
    tables = plain["tables"]
    assert {row[0] for row in tables["venue_volume"]} == set(weeks[1:])
    assert {row[0] for row in tables["symbol_summary"]} == set(weeks)
    assert tables["venue_volume_revision"]
    assert tables["symbol_summary_revision"]
    for life in others:
        assert life["tables"].keys() == tables.keys()
        for table in tables:
            assert life["tables"][table] == tables[table], f"{table} on {life['server']}"
        assert life["answered"] == plain["answered"]
        assert life["later"] == plain["later"]
    first, second = plain["answered"]
    assert first["venue_volume"] != second["venue_volume"]
    # Old answers about figures are the same after retention; those about venue volume, for the weeks that are kept.
    for then, later in zip(plain["answered"], plain["later"], strict=True):
        kept = {table: [row for row in rows if row[0] != weeks[0]] for table, rows in then.items()}
        assert {**then, "venue_volume": kept["venue_volume"]} == later
