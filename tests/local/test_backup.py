"""A backup as ``docs/deploy.md`` describes it: a dump and a copy of the archive, restored on another server."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from dumps import program, rows
from support import installed

from otc_assets.local.embedded import EmbeddedServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_october")]

Command = Callable[..., tuple[int, str, str]]

LATER = dt.date(2026, 8, 21)


def answers(url: str, moment: dt.datetime) -> list[tuple[object, ...]]:
    """Venue volume and its six-week figures as they were known at a moment."""
    found: list[tuple[object, ...]] = []
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as connection:
        for table in ("venue_volume", "symbol_rolling"):
            found += connection.execute(
                f"SELECT '{table}', a.* FROM otc.{table}_as_of(%s) a ORDER BY a::text",  # type: ignore[arg-type]
                [moment],
            ).fetchall()
    return found


def figures(url: str) -> dict[str, list[tuple[object, ...]]]:
    """The figures of the week that was captured after the dump, without when and by which capture they came."""
    with psycopg.connect(url, autocommit=True) as connection:
        return {
            table: connection.execute(
                f"SELECT (to_jsonb(t) - %s::text[])::text AS r FROM otc.{table} t WHERE week_ending = %s ORDER BY r",
                [["known_from", "publication_id", "computed_at"], LATER],
            ).fetchall()
            for table in ("venue_volume", "symbol_summary", "symbol_rolling", "market_concentration")
        }


def materializations(url: str) -> list[tuple[object, ...]]:
    """What Dagster's UI shows as materialized: asset, week, run."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            """SELECT asset_key, partition, run_id FROM dagster.event_logs
               WHERE dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id"""
        ).fetchall()


def test_a_restored_backup_has_all_rows_and_goes_on(
    otc: Command,
    database: str,
    server: EmbeddedServer,
    other_server: EmbeddedServer,
    installation: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        # A server that has been running for a long time: its transaction numbers are high.
        connection.execute("DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
    assert otc("materialize", "--weeks", "2026-08-07..2026-08-14")[0] == 0
    before, ran = rows(database), materializations(database)
    with psycopg.connect(database, autocommit=True) as connection:
        (moment,) = connection.execute("SELECT max(known_from) FROM otc.symbol_rolling").fetchone() or (None,)
    assert isinstance(moment, dt.datetime)
    known = answers(database, moment)
    assert len(before["publication"]) == 6
    assert len(known) > 1000
    assert len(ran) >= 22

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE dagster.runs SET status = 'STARTED' WHERE run_id = %s", [ran[0][2]])

    # The dump comes before the copy of the archive, so the copy has every object that the dump names, and more.
    kept = tmp_path_factory.mktemp("backup")
    dump, name = str(kept / "otc.dump"), urlsplit(database).path[1:]
    program(server, "pg_dump", database, "--format=custom", "--no-owner", "--no-acl", f"--file={dump}", name)
    assert otc("materialize", "--weeks", str(LATER))[0] == 0
    shutil.copytree(installation / "archive", kept / "archive")
    lost = figures(database)
    assert all(lost.values())

    restored = other_server.url
    program(other_server, "pg_restore", restored, "--no-owner", "--no-acl", "--exit-on-error", "--dbname=otc", dump)
    home = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(kept / "archive", home / "archive")
    installed.close()
    monkeypatch.setenv("OTC_DATABASE_URL", restored)
    monkeypatch.setenv("OTC_HOME", str(home))
    code, _, errors = otc("migrate")
    assert (code, errors.count("migrate --restored")) == (1, 1)
    assert otc("migrate", "--restored")[0] == 0
    assert rows(restored) == before
    assert answers(restored, moment) == known
    assert materializations(restored) == ran
    with psycopg.connect(restored, autocommit=True) as connection:
        found = connection.execute("SELECT run_id, status FROM dagster.runs WHERE status <> 'SUCCESS'").fetchall()
    assert found == [(ran[0][2], "FAILURE")]
    assert otc("archive", "verify")[0] == 0

    assert otc("materialize", "--weeks", str(LATER))[0] == 0
    assert figures(restored) == lost
    assert otc("archive", "verify")[0] == 0
    assert otc("events", "tail")[0] == 0


def test_a_dump_that_is_older_than_the_archive_gets_a_journal_of_its_own(
    otc: Command, database: str, server: EmbeddedServer, installation: Path
) -> None:
    dump, name = str(installation / "otc.dump"), urlsplit(database).path[1:]
    assert otc("materialize", "--weeks", "2026-08-14", "--tier", "T1")[0] == 0
    program(server, "pg_dump", database, "--format=custom", "--clean", f"--file={dump}", name)
    assert otc("materialize", "--weeks", str(LATER), "--tier", "T1")[0] == 0
    installed.close()
    # On the same server, transactions are numbered further: only the journal tells that events are lacking.
    program(server, "pg_restore", database, "--clean", "--exit-on-error", f"--dbname={name}", dump)
    assert otc("migrate")[0] == 0
    code, _, errors = otc("archive", "verify")
    assert (code, errors.count("migrate --restored")) == (4, 1)
    assert otc("migrate", "--restored")[0] == 0
    assert otc("archive", "verify")[0] == 0
