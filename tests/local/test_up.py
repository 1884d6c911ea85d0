"""`otc-assets up`: killed and started again, started twice, and stopped by a closed terminal."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from pytest_httpserver import HTTPServer
from support.relay import relay
from support.sockets import ports_on_loopback
from support.terminal import Terminal
from support.web_server import free_port, launch, name_unreachable_proxy, until

from otc_assets.local.daemon import OnlyDaemon
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.local.services import Served, _wait_until_served
from otc_assets.local.setup import NotStarted
from otc_assets.processes import Identity, is_dead, session_members

pytestmark = pytest.mark.slow


def services(home: Path) -> Identity:
    """The `dagster dev` process that an `up` has recorded."""
    found = Identity.parse(json.loads((home / "up.json").read_text())["services"])
    assert found is not None
    return found


def test_up_sees_its_own_ui_where_the_environment_names_a_proxy(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a company's network, `up` waited for five minutes, and failed although the UI was there."""
    name_unreachable_proxy(monkeypatch)
    monkeypatch.setattr("otc_assets.local.services._READY_SECONDS", 2)
    httpserver.expect_request("/server_info").respond_with_json({})
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        served = Served(process, httpserver.url_for("").rstrip("/"), tmp_path / "dagster.log")
        _wait_until_served(served, lambda: None)
    assert len(httpserver.log) == 1


def test_the_right_to_run_the_daemon_is_taken_also_with_a_url_that_names_a_driver(database: str) -> None:
    """Every other part of `up` took such a URL."""
    first = OnlyDaemon(database.replace("postgresql://", "postgresql+psycopg2://"))
    first.take()
    with pytest.raises(NotStarted, match="another command uses this database"):
        OnlyDaemon(database).take()
    first.release()


def test_a_line_that_only_the_client_has_lost_does_not_end_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server still had the lock for the lost session: `up` ended itself, because of `another` process, itself."""
    monkeypatch.setattr("otc_assets.local.daemon._CHECK_SECONDS", 0)
    with relay(database) as between:
        only = OnlyDaemon(between.url)
        only.take()
        between.lose_clients()
        only.hold()
        only.hold()
        with pytest.raises(NotStarted, match="another command uses this database"):
            OnlyDaemon(database).take()
        only.release()
    with psycopg.connect(database, autocommit=True) as connection:
        of_up = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'otc-assets up%'"
        while connection.execute(of_up).fetchone() != (0,):
            time.sleep(0.05)


def test_orphans_of_a_killed_up_are_stopped_and_no_two_daemons_use_one_database(database: str, tmp_path: Path) -> None:
    """After a kill the port was in use; on another port, as the message advised, two daemons used one database."""
    port = free_port()
    env = {
        "OTC_DATABASE_URL": database,
        "OTC_HOME": str(tmp_path / "one"),
        "OTC_SIMULATOR_SCALE": "0.01",
        "OTC_PORT": port,
        "OTC_METRICS_PORT": "0",
    }
    home = tmp_path / "one"
    killed = Terminal("up", "--newest", "0", settings=env)
    killed.wait_for("ready ")
    # Another one is refused: from the same folder, and from another one on the same database.
    same = Terminal("up", "--newest", "0", "--port", free_port(), settings=env)
    assert same.end() == 1
    assert f"another 'otc-assets up' (process {killed.process.pid}) is running in {home}" in " ".join(same.text.split())
    elsewhere = Terminal("up", settings={**env, "OTC_HOME": str(tmp_path / "two"), "OTC_PORT": free_port()})
    assert elsewhere.end() == 1
    assert "another command uses this database (otc-assets up, process" in " ".join(elsewhere.text.split())
    # After a kill its children remain; the next `up` stops them, and the port is free.
    killed.send(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    orphaned = services(home)
    assert not is_dead(orphaned)
    again = Terminal("up", "--newest", "0", settings=env)
    again.wait_for("ready ")
    assert "of an earlier 'otc-assets up' that was killed" in again.text
    assert is_dead(orphaned)
    assert session_members(orphaned.pid) == []
    # A closed terminal stops everything.
    serving = services(home)
    again.send(signal.SIGHUP)
    assert again.end() == 129, again.text
    assert is_dead(serving)
    assert session_members(serving.pid) == []
    assert not (home / "up.json").exists()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM dagster.daemon_heartbeats").fetchone() == (0,)


def begun(database: str) -> set[str]:
    """The runs of which a step has begun to capture."""
    query = "SELECT run_id FROM dagster.event_logs WHERE dagster_event_type = 'STEP_START'"
    with psycopg.connect(database) as connection:
        return {run_id for (run_id,) in connection.execute(query)}


def test_ctrl_c_ends_the_runs_in_flight_and_only_then_the_database(folder_for_all: Path) -> None:
    """The code server was still alive after an hour, and the database had been stopped underneath its runs."""
    home, port = folder_for_all / "in_flight", free_port()
    home.mkdir(mode=0o755)
    with closing(socket.create_server(("127.0.0.1", 0))) as finra:  # never replies
        env = {
            "OTC_HOME": str(home),
            "OTC_SOURCE": "api",
            "OTC_FINRA_URL": f"http://127.0.0.1:{finra.getsockname()[1]}",
            "OTC_PORT": port,
            "OTC_METRICS_PORT": free_port(),
        }
        up = Terminal("up", "--newest", "0", settings=env)
        up.wait_for("ready ")
        run_ids = [
            until(lambda week=week: launch(port, "publication_t1", week), [up]) for week in ("2026-08-14", "2026-08-21")
        ]
        server = EmbeddedServer(home / "postgres")
        until(lambda: begun(server.url) >= set(run_ids) or None, [up])
        serving = services(home)
        assert len(session_members(serving.pid)) > len(run_ids)
        of_database = int((home / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])
        roots = [psutil.Process(pid) for pid in (up.process.pid, serving.pid, of_database)]
        ports = ports_on_loopback([*roots, *(child for root in roots for child in root.children(recursive=True))])
        # The UI, the metrics and the database; each code server has a port of its own choice, or a socket.
        assert {int(port), int(env["OTC_METRICS_PORT"]), sa.make_url(server.url).port} <= ports
        up.send(signal.SIGINT)
        assert up.end() == 0, up.text
    assert session_members(serving.pid) == []
    log = (home / "dagster.log").read_text(errors="replace")
    assert "terminating connection due to administrator command" not in log
    assert not server.running()
    with server, psycopg.connect(server.url) as connection:
        ended = connection.execute("SELECT status FROM dagster.runs WHERE run_id = ANY(%s)", [run_ids]).fetchall()
    assert [status for (status,) in ended] == ["FAILURE", "FAILURE"]
