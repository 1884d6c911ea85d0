"""`otc-assets up`: killed and started again, started twice, and stopped by a closed terminal."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import psycopg
import pytest
from support.terminal import Terminal

from otc_assets.processes import Identity, is_dead, session_members

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def services(home: Path) -> Identity:
    """The `dagster dev` process that an `up` has recorded."""
    found = Identity.parse(json.loads((home / "up.json").read_text())["services"])
    assert found is not None
    return found


def test_orphans_of_a_killed_up_are_stopped_and_no_two_daemons_use_one_database(database: str, tmp_path: Path) -> None:
    """After a kill the port was in use; on another port, as the message advised, two daemons used one database."""
    port = free_port()
    env = {
        "OTC_DATABASE_URL": database,
        "OTC_HOME": str(tmp_path / "one"),
        "OTC_SIMULATOR_SCALE": "0.01",
        "OTC_PORT": str(port),
        "OTC_METRICS_PORT": "0",
    }
    home = tmp_path / "one"
    killed = Terminal("up", "--newest", "0", settings=env)
    killed.wait_for("ready ")
    # Another one is refused: from the same folder, and from another one on the same database.
    same = Terminal("up", "--newest", "0", "--port", str(free_port()), settings=env)
    assert same.end() == 1
    assert f"another 'otc-assets up' (process {killed.process.pid}) is running in {home}" in " ".join(same.text.split())
    elsewhere = Terminal("up", settings={**env, "OTC_HOME": str(tmp_path / "two"), "OTC_PORT": str(free_port())})
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
