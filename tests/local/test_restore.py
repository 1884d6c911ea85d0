"""``otc-assets restore`` and ``restore-check``: an equal system by one command, and what it lacks if not whole."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from dumps import program, rows
from psycopg import sql
from support import installed
from support.logins import login

from otc_assets.archive.store import LocalArchive
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.local.restore import restore_dump
from otc_assets.settings import PROJECT_ROOT
from otc_assets.warehouse.roles import WRITER

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_october")]

Command = Callable[..., tuple[int, str, str]]

WEEK = dt.date(2026, 8, 14)


def lacking(otc: Command) -> list[tuple[str, str]]:
    """What restore-check says: the part of the installation, and the problem."""
    code, output, errors = otc("restore-check", "--json")
    assert output, errors
    told = json.loads(output)
    assert (code, told["whole"]) == ((0, True) if not told["lacking"] else (1, False)), errors
    assert all(item["remedy"] for item in told["lacking"])
    return [(item["what"], item["problem"]) for item in told["lacking"]]


def test_one_command_restores_an_equal_system_and_its_check_names_whatever_is_then_lost(
    otc: Command,
    database: str,
    server: EmbeddedServer,
    other_server: EmbeddedServer,
    installation: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
    assert otc("materialize", "--weeks", f"2026-08-07..{WEEK}")[0] == 0
    assert lacking(otc) == []
    with server._connect(urlsplit(database).path[1:]) as admin, login(admin, database, WRITER) as url:
        # The platform's own login saw no sequence, and was told that taken ids would be given again.
        assert otc("migrate")[0] == 0  # grants the rights on Dagster's tables, which are there now
        monkeypatch.setenv("OTC_DATABASE_URL", url)
        assert lacking(otc) == []
        installed.close()
        monkeypatch.setenv("OTC_DATABASE_URL", database)
    before = rows(database)
    kept = tmp_path_factory.mktemp("backup")
    dump, name = str(kept / "otc.dump"), urlsplit(database).path[1:]
    program(server, "pg_dump", database, "--format=custom", "--no-owner", "--no-acl", f"--file={dump}", name)
    shutil.copytree(installation / "archive", kept / "archive")

    home = tmp_path_factory.mktemp("elsewhere")
    installed.close()
    monkeypatch.setenv("OTC_DATABASE_URL", other_server.url)
    monkeypatch.setenv("OTC_HOME", str(home))
    code, output, errors = otc("restore", dump, "--archive", (kept / "archive").as_uri())
    assert (code, output.splitlines()[-1].partition(":")[0]) == (0, "the installation is whole"), errors
    assert rows(other_server.url) == before
    assert otc("materialize", "--weeks", "2026-08-21")[0] == 0
    assert lacking(otc) == []

    code, _, errors = otc("restore", dump)
    assert (code, errors.count("is restored into an empty one")) == (1, 1)

    with psycopg.connect(other_server.url, autocommit=True) as connection:
        # A row of a table, a capture's rejected rows and an event are lost, and the next id is one that is taken.
        connection.execute("DELETE FROM otc.symbol_summary WHERE week_ending = %s", [WEEK])
        (lost,) = connection.execute(
            "SELECT aggregate_id FROM otc.events WHERE aggregate_type = 'check' AND version = 1 ORDER BY id LIMIT 1"
        ).fetchone() or connection.execute(
            "SELECT aggregate_id FROM otc.events WHERE event_type = 'otc.week.normalized' LIMIT 1"
        ).fetchone() or (None,)  # fmt: skip
        connection.execute("ALTER TABLE otc.events DISABLE TRIGGER append_only")
        connection.execute("DELETE FROM otc.events WHERE aggregate_id = %s AND version = 1", [lost])
        connection.execute("ALTER TABLE otc.events ENABLE ALWAYS TRIGGER append_only")
        connection.execute("SELECT setval(pg_get_serial_sequence('otc.events', 'id'), 5)")
        (digest, number) = connection.execute(
            "SELECT digest, id FROM otc.publication WHERE week_ending = %s AND tier = 'NMS Tier 1'", [WEEK]
        ).fetchone() or ("", 0)
        connection.execute(
            "DELETE FROM otc.computed_week WHERE table_name = 'venue_share' AND week_ending = %s", [WEEK]
        )
        connection.execute(
            # As if another machine had executed it: the process of this test still runs.
            """UPDATE dagster.runs SET status = 'STARTED',
                   run_body = replace(replace(run_body, 'SUCCESS', 'STARTED'), 'otc/process', 'otc/other')
               WHERE id = (SELECT min(id) FROM dagster.runs)"""
        )
    archived = home / "archive" / digest[:2] / f"{digest}.zst"
    archived.chmod(0o644)
    flipped = bytearray(archived.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    archived.write_bytes(flipped)
    found = lacking(otc)
    assert {what for what, _ in found} == {"tables", "events", "lineage", "archive", "Dagster"}
    texts = " / ".join(problem for _, problem in found)
    assert f"otc.symbol_summary has other numbers of rows than were loaded, in 1 weeks, the first {WEEK}: 0" in texts
    assert f"events of {'check' if '.' in str(lost) else 'week'} {lost} are missing" in texts
    assert "the next id of otc.events would be 6" in texts
    assert f"the bytes of capture {number} (NMS Tier 1, week ending {WEEK}) are damaged: {digest}" in texts
    assert f"1 weeks of otc.venue_share are missing or stale: {WEEK} to {WEEK}" in texts
    assert "1 runs are in progress" in texts
    archived.unlink()
    assert any("are missing: " + digest in problem for _, problem in lacking(otc))


def test_a_dump_is_restored_to_the_server_of_the_url_whatever_service_the_environment_names(
    database: str,
    server: EmbeddedServer,
    other_server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """libpq prefers what a service says to the variables in which pg_restore gets the URL."""
    dump, name = tmp_path / "otc.dump", urlsplit(database).path[1:]
    program(server, "pg_dump", database, "--format=custom", "--no-owner", "--no-acl", f"--file={dump}", name)
    services = tmp_path / "services"
    services.write_text("[elsewhere]\nhost=127.0.0.1\nport=1\nuser=somebody\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    restore_dump(dump, other_server.url, is_embedded=False)
    assert rows(other_server.url) == rows(database)


@pytest.mark.parametrize("is_in_url", [True, False])
def test_a_dump_is_restored_into_the_database_of_the_url_whatever_its_name_and_wherever_it_is_given(
    database: str,
    server: EmbeddedServer,
    other_server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_in_url: bool,
) -> None:
    """pg_restore takes a name with an equals sign for parameters; a URL without a name has that of the environment."""
    dump, name = tmp_path / "otc.dump", urlsplit(database).path[1:]
    program(server, "pg_dump", database, "--format=custom", "--no-owner", "--no-acl", f"--file={dump}", name)
    target = 'Copy "of" = user'
    with other_server._connect("postgres") as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER otc").format(sql.Identifier(target)))
    without_name = other_server.url.rpartition("/")[0]
    url = f"{without_name}/{quote(target)}"
    if not is_in_url:
        monkeypatch.setenv("PGDATABASE", target)
    restore_dump(dump, url if is_in_url else without_name, is_embedded=False)
    assert rows(url) == rows(database)


def test_the_embedded_database_is_dumped_as_the_page_says_and_restored_into_a_new_folder(
    otc: Command, folder_for_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the archive created OTC_HOME first, for this account only, and the server of root could not start."""
    page = (PROJECT_ROOT / "docs" / "deploy.md").read_text()
    (block,) = [block for block in re.findall(r"^  ```sh\n(.*?)^  ```$", page, re.M | re.S) if "pg_dump" in block]
    monkeypatch.delenv("OTC_DATABASE_URL")
    monkeypatch.setenv("OTC_HOME", str(home := folder_for_all / "embedded"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with EmbeddedServer(home / "postgres", durable=False):
        assert otc("migrate")[0] == 0
        subprocess.run(["/bin/sh", "-ec", textwrap.dedent(block)], cwd=home, check=True)
    LocalArchive(home / "archive").put(b"raw")

    monkeypatch.setenv("OTC_HOME", str(folder_for_all / "restored"))
    code, output, errors = otc("restore", str(home / "otc.dump"), "--archive", (home / "archive").as_uri())
    assert (code, output.splitlines()[-1].partition(":")[0]) == (0, "the installation is whole"), errors
