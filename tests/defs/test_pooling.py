"""Dagster's storage over one pool of connections per process: how many it opens, and what it survives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from dagster import AssetKey, AssetMaterialization, DagsterInstance, DagsterRunStatus, job, op

from otc_assets.defs.instance import open_instance
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings

pytestmark = pytest.mark.slow

#: The server process of each connection to Dagster's schema, apart from the one that asks.
_BACKENDS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@op
def nothing() -> None:
    """Does nothing."""


@job
def idle() -> None:
    """One step, with a dozen events."""
    nothing()


@pytest.fixture
def instance(installation: Path) -> Iterator[DagsterInstance]:
    """The installation's instance, with Dagster's tables."""
    with setup.installation(settings()) as prepared:
        with open_instance(prepared):
            pass  # creates Dagster's tables
        with open_instance(prepared) as opened:
            yield opened


def backends(database: str) -> set[int]:
    """The server processes that serve this test."""
    with psycopg.connect(database, autocommit=True) as connection:
        return {pid for (pid,) in connection.execute(_BACKENDS).fetchall()}


def sessions(server: EmbeddedServer, database: str) -> int:
    """How many connections were ever made to the database."""
    with server._connect("postgres") as admin:
        query = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
        return int(str(admin.execute(query, [database.rpartition("/")[2]]).fetchone()[0]))  # type: ignore[index]


def run(instance: DagsterInstance) -> int:
    """Runs a job that succeeds. Returns how many events it stored."""
    result = idle.execute_in_process(instance=instance)
    stored = instance.get_run_by_id(result.run_id)
    assert stored is not None
    assert stored.status == DagsterRunStatus.SUCCESS
    return len(instance.all_logs(result.run_id))


def test_a_run_opens_few_connections_however_many_events_it_stores(
    instance: DagsterInstance, server: EmbeddedServer, database: str
) -> None:
    run(instance)
    before = sessions(server, database)
    events = sum(run(instance) for _ in range(3))
    assert events >= 30
    # Where a statement needs a second connection, it is opened beside the one that is kept.
    assert sessions(server, database) - before <= 3
    assert len(backends(database)) == 1


def test_the_columns_of_dagsters_tables_are_not_asked_for_with_every_look_at_an_asset(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were a fortieth of a small week's processor time."""
    asked: list[str] = []
    get_columns = sa.Inspector.get_columns

    def counted(inspector: sa.Inspector, table: str, *rest: Any, **named: Any) -> Any:
        asked.append(table)
        return get_columns(inspector, table, *rest, **named)

    monkeypatch.setattr(sa.Inspector, "get_columns", counted)

    def look(times: int) -> None:
        for _ in range(times):
            assert instance.get_latest_materialization_event(AssetKey("gap_report")) is not None

    instance.report_runless_asset_event(AssetMaterialization("gap_report", partition="2026-08-21"))
    look(1)
    first = list(asked)
    assert "asset_keys" in first
    look(3)
    assert asked == first


def test_instances_of_a_process_share_its_connections(instance: DagsterInstance, database: str) -> None:
    with ExitStack() as stack:
        chosen = setup.prepare(settings(), database)
        several = [stack.enter_context(open_instance(chosen)) for _ in range(5)]
        assert [len(each.get_runs()) for each in several] == [0] * 5
        assert len(backends(database)) == 1
    # A command leaves no connection behind, and those that are still open open another.
    assert backends(database) == set()
    assert instance.get_runs() == []


def test_a_run_goes_on_after_the_server_has_ended_its_connections(instance: DagsterInstance, database: str) -> None:
    run(instance)
    (before,) = backends(database)

    @op
    def disconnect() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM ({_BACKENDS}) AS other")

    @job
    def disconnected() -> None:
        disconnect()

    result = disconnected.execute_in_process(instance=instance)
    stored = instance.get_run_by_id(result.run_id)
    assert stored is not None
    assert stored.status == DagsterRunStatus.SUCCESS
    types = [entry.dagster_event.event_type_value for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    assert types[-1] == "PIPELINE_SUCCESS"
    assert before not in backends(database)


def test_a_forked_process_uses_connections_of_its_own(instance: DagsterInstance, database: str) -> None:
    run(instance)
    (ours,) = backends(database)
    child = os.fork()
    if child == 0:
        # Whatever happens, this process must not go on as a second pytest.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        os._exit(0 if ours not in _own_backend(instance) else 1)
    assert os.waitpid(child, 0)[1] == 0
    # The child's end did not end the parent's connection, and no answer was for the other.
    assert _own_backend(instance) == {ours}


def _own_backend(instance: DagsterInstance) -> set[int]:
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]  # of SQL storages
        return set(connection.exec_driver_sql("SELECT pg_backend_pid()").scalars())
