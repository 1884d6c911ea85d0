"""Dagster's own commands in the project's folder: they use the installation, or say in one line why they can't."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.logins import login
from support.terminal import Terminal
from support.web_server import free_port, launch, status_of, until

from otc_assets.local.embedded import EmbeddedServer
from otc_assets.processes import session_members
from otc_assets.settings import PROJECT_ROOT
from otc_assets.warehouse.roles import WRITER

pytestmark = pytest.mark.slow

WEEK = "2026-08-21"
PORT = "PORT"

#: The commands that together serve the UI and launch runs; PORT stands for that of the UI.
SERVERS = {
    "dagster dev": [("dagster", "dev", "--workspace", "workspace.yaml", "--port", PORT)],
    "dg dev": [("dg", "dev", "--port", PORT)],
    "dagster-webserver and dagster-daemon": [
        ("dagster-webserver", "--workspace", "workspace.yaml", "--port", PORT),
        ("dagster-daemon", "run", "--workspace", "workspace.yaml"),
    ],
    "the same, started by otc-assets": [
        ("otc-assets", "dagster-webserver", "--workspace", "workspace.yaml", "--port", PORT),
        ("otc-assets", "dagster-daemon", "run", "--workspace", "workspace.yaml"),
    ],
}
MATERIALIZE = (
    *("dagster", "asset", "materialize", "--module-name", "otc_assets.definitions"),
    *("--select", "week_calendar", "--partition", WEEK),
)


def calendar(database: str) -> list[tuple[object, ...]]:
    query = "SELECT tier FROM otc.week_calendar WHERE week_ending = %s ORDER BY tier"
    with psycopg.connect(database) as connection:
        return connection.execute(query, [WEEK]).fetchall()


@pytest.fixture
def installation_variables(database: str, server: EmbeddedServer, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What ``otc-assets env`` prints for a shell, with the URL of a member of the role that writes."""
    home = {"OTC_DATABASE_URL": database, "OTC_HOME": str(tmp_path), "OTC_SIMULATOR_SCALE": "0.01"}
    migration = Terminal("migrate", settings=home)
    assert migration.end() == 0, migration.text
    with server._connect(database.rpartition("/")[2]) as admin, login(admin, database, WRITER) as writer:
        home["OTC_DATABASE_URL"] = writer
        command = Terminal("env", "--json", settings=home)
        assert command.end() == 0, command.text
        yield {**home, **json.loads(command.text)}


@pytest.mark.parametrize("commands", SERVERS.values(), ids=SERVERS.keys())
def test_runs_launched_in_the_ui_of_dagsters_own_commands_use_the_database(
    commands: list[tuple[str, ...]], installation_variables: dict[str, str], database: str
) -> None:
    """Each process had a temporary storage of its own: runs stayed in the queue, which another process had."""
    port = free_port()
    running = []
    for command in commands:
        program, *arguments = (port if word == PORT else word for word in command)
        running.append(Terminal(*arguments, program=program, settings=installation_variables))
    try:
        run_id = until(lambda: launch(port, "week_calendar", WEEK), running)
        assert until(lambda: status_of(port, run_id), running) == "SUCCESS"
        assert calendar(database) == [("NMS Tier 1",), ("NMS Tier 2",), ("OTC",)]
        with psycopg.connect(database) as connection:
            stored = connection.execute("SELECT run_id, status FROM dagster.runs").fetchall()
        assert (run_id, "SUCCESS") in stored
    finally:
        for each in running:
            each.send(signal.SIGINT)
    for each in running:
        each.end()
        # Dagster's code server ends some seconds after the command that started it.
        until(lambda leader=each.process.pid: session_members(leader) == [] or None, [])


def test_dagster_asset_materialize_uses_the_database(installation_variables: dict[str, str], database: str) -> None:
    command = Terminal(*MATERIALIZE[1:], program=MATERIALIZE[0], settings=installation_variables)
    assert command.end() == 0, command.text
    assert calendar(database) == [("NMS Tier 1",), ("NMS Tier 2",), ("OTC",)]


def test_dagster_asset_materialize_takes_a_range_of_weeks(
    installation_variables: dict[str, str], database: str
) -> None:
    """Dagster accepts a range only for assets whose backfills are single runs."""
    program, *arguments = MATERIALIZE[:-2]
    settings = {**installation_variables, "OTC_SINGLE_RUNS": "true"}
    command = Terminal(*arguments, "--partition-range", f"2026-08-07...{WEEK}", program=program, settings=settings)
    assert command.end() == 0, command.text
    with psycopg.connect(database) as connection:
        weeks = connection.execute("SELECT DISTINCT week_ending::text FROM otc.week_calendar ORDER BY 1").fetchall()
    assert weeks == [("2026-08-07",), ("2026-08-14",), (WEEK,)]


ALL = {name: commands[-1] for name, commands in SERVERS.items()} | {
    "dagster-webserver": SERVERS["dagster-webserver and dagster-daemon"][0],
    "dagster asset materialize": MATERIALIZE,
}


@pytest.mark.parametrize("command", ALL.values(), ids=ALL.keys())
def test_a_database_without_our_schema_ends_dagsters_own_commands_with_what_to_do(
    command: tuple[str, ...], empty_database: str, tmp_path: Path
) -> None:
    """`relation "otc.week_calendar" does not exist` did not say it."""
    variables = {"OTC_DATABASE_URL": empty_database, "OTC_HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path)}
    (tmp_path / "dagster.yaml").write_bytes((PROJECT_ROOT / "dagster.yaml").read_bytes())
    program, *arguments = (free_port() if word == PORT else word for word in command)
    ended = Terminal(*arguments, program=program, settings=variables)
    assert ended.end() != 0
    lines = ended.text.splitlines()
    assert lines[-1] == "Error: the database has no otc-assets schema yet. Run 'otc-assets migrate' first."
    assert "Traceback" not in ended.text


def test_without_a_database_a_run_fails_at_once_and_says_so(tmp_path: Path) -> None:
    """Four attempts took two minutes. Runs are stored in one folder of DAGSTER_HOME."""
    (tmp_path / "dagster.yaml").write_bytes((PROJECT_ROOT / "dagster.yaml").read_bytes())
    variables = {"OTC_HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path)}
    command = Terminal(*MATERIALIZE[1:], program=MATERIALIZE[0], settings=variables)
    assert command.end() == 1
    assert "Failure: no database: OTC_DATABASE_URL is unset" in command.text
    assert "STEP_UP_FOR_RETRY" not in command.text
    listed = subprocess.run(
        [Path(sys.executable).parent / "dagster", "run", "list", "--limit", "1"],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Run: " in listed.stdout
    assert (tmp_path / "sqlite" / "history" / "runs.db").exists()
