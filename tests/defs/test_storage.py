"""Dagster's own tables: in a schema of their own, where those of earlier versions are moved to."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance, job, op
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType, SensorInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_postgres import PostgresEventLogStorage
from support.hostile_defaults import make_hostile

from otc_assets.defs import pooling
from otc_assets.defs import storage as dagster_storage
from otc_assets.defs.instance import clean_instance, storage_problems
from otc_assets.defs.storage import StorageInUse, move_tables
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.server import dagster_storage_url, database_url

pytestmark = pytest.mark.slow

Sql = psycopg.Connection[tuple[object, ...]]


@op
def nothing() -> None:
    """Does nothing."""


@job
def idle() -> None:
    """One step."""
    nothing()


def instance_on(storage_url: str, home: Path) -> DagsterInstance:
    """A Dagster instance whose tables are where ``storage_url`` puts them."""
    overrides = {"storage": {"postgres": {"postgres_url": storage_url}}, "telemetry": {"enabled": False}}
    return DagsterInstance.local_temp(str(home), overrides=overrides)


def schemas(sql: Sql) -> dict[object, int]:
    """How many of Dagster's tables each schema has."""
    names = [*pooling.TABLES, "alembic_version"]
    query = "SELECT schemaname, count(*) FROM pg_tables WHERE tablename = ANY(%s) GROUP BY 1"
    return dict(sql.execute(query, [names]).fetchall())  # type: ignore[arg-type]


ALL = len(pooling.TABLES) + 1


@pytest.fixture(params=["", "?options=-csearch_path%3Dpublic"], ids=["in otc", "in public"])
def earlier(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A database with Dagster's tables where earlier versions put them, with a run; its URL, and the run's id."""
    url = database + request.param
    with instance_on(database_url(url, "psycopg2"), tmp_path) as instance:
        run = idle.execute_in_process(instance=instance)
        instance.event_log_storage.set_concurrency_slots("database", 2)
    return url, run.run_id


def test_tables_of_earlier_versions_are_moved_with_all_that_is_in_them(
    earlier: tuple[str, str], sql: Sql, tmp_path: Path
) -> None:
    """A reader who was granted everything in `otc` could read run configurations, and every event of every run."""
    url, run_id = earlier
    assert schemas(sql) == {"otc" if url.endswith("otc") or "options" not in url else "public": ALL}
    assert move_tables(url) == ""
    assert schemas(sql) == {"dagster": ALL}
    sequences = (
        "SELECT DISTINCT schemaname FROM pg_sequences WHERE sequencename LIKE ANY('{runs%,event_logs%,job_ticks%}')"
    )
    assert sql.execute(sequences).fetchall() == [("dagster",)]
    with instance_on(dagster_storage_url(url), tmp_path) as instance:
        events = instance.all_logs(run_id)
        assert events[-1].dagster_event_type.value == "PIPELINE_SUCCESS"  # type: ignore[union-attr]
        another = idle.execute_in_process(instance=instance).run_id
        assert {run.run_id for run in instance.get_runs()} == {run_id, another}
        stamped, newest = instance.event_log_storage.alembic_version() or (None, None)
        assert stamped == newest is not None
        assert {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()} == {"database": 2}
    assert schemas(sql) == {"dagster": ALL}
    assert move_tables(url) == ""


def test_a_running_daemon_keeps_its_tables(earlier: tuple[str, str], sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = earlier
    monkeypatch.setattr(dagster_storage, "_POLL_SECONDS", 0.01)
    before = schemas(sql)
    (old,) = before
    beat = f"""
        INSERT INTO {old}.daemon_heartbeats (daemon_type, "timestamp") VALUES ('SENSOR', localtimestamp)
        ON CONFLICT (daemon_type) DO UPDATE SET "timestamp" = localtimestamp
    """
    sql.execute(beat)
    with pytest.raises(StorageInUse, match="Stop 'otc-assets up'"):
        move_tables(url, lambda: sql.execute(beat) and None)
    assert schemas(sql) == before


def test_a_daemon_that_has_stopped_is_recognized_by_its_silence(
    earlier: tuple[str, str], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = earlier
    monkeypatch.setattr(dagster_storage, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(dagster_storage, "_SILENT_SECONDS", 1)
    (old,) = schemas(sql)
    sql.execute(f"""INSERT INTO {old}.daemon_heartbeats (daemon_type, "timestamp") VALUES ('SENSOR', localtimestamp)""")
    waits: list[str] = []
    assert move_tables(url, lambda: waits.append("waiting")) == ""
    assert waits == ["waiting"]
    assert schemas(sql) == {"dagster": ALL}


def test_a_version_table_of_another_application_stays(earlier: tuple[str, str], sql: Sql) -> None:
    url, _ = earlier
    (old,) = schemas(sql)
    sql.execute(f"UPDATE {old}.alembic_version SET version_num = 'of_another'")
    move_tables(url)
    assert schemas(sql) == {"dagster": ALL - 1, old: 1}


@pytest.mark.parametrize(("location", "moved"), [("otc_assets", True), ("theirs", False)])
def test_tables_of_another_dagster_installation_on_the_database_are_not_moved(
    earlier: tuple[str, str], sql: Sql, location: str, moved: bool
) -> None:
    """An analyst's own Dagster may have its tables in the schema where ours once were."""
    url, _ = earlier
    (old,) = schemas(sql)
    sql.execute(
        f"""UPDATE {old}.runs SET run_body = replace(run_body, '"run_id"', %s)""",
        [f'"remote_job_origin": {{"location_name": "{location}"}}, "run_id"'],
    )
    remark = move_tables(url)
    assert ("runs of other code locations" in remark) is not moved
    assert set(schemas(sql)) == ({"dagster"} if moved else {old})


def test_tables_that_an_earlier_version_created_afterwards_are_left_and_named(
    earlier: tuple[str, str], sql: Sql, tmp_path: Path
) -> None:
    url, _ = earlier
    move_tables(url)
    with instance_on(database_url(url, "psycopg2"), tmp_path):
        pass
    assert "which are not used any more" in move_tables(url)
    assert set(schemas(sql)) >= {"dagster"}


def test_a_new_installation_keeps_data_and_dagster_apart(
    installation: Path, empty_database: str, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.upgrade(settings(), empty_database)
    with clean_instance(setup.resolved(settings(), empty_database)) as instance:
        assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
        idle.execute_in_process(instance=instance)
    with server._connect(empty_database.rpartition("/")[2]) as admin:
        assert schemas(admin) == {"dagster": ALL}
        admin.execute("CREATE ROLE reader")
        try:
            admin.execute("GRANT USAGE ON SCHEMA otc TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA otc TO reader")
            admin.execute("SET ROLE reader")
            assert admin.execute("SELECT count(*) FROM otc.venue_volume").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                admin.execute("SELECT * FROM dagster.runs")
        finally:
            admin.execute("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")


def test_dagsters_storage_does_not_depend_on_the_defaults_of_the_database(
    database: str, sql: Sql, server: EmbeddedServer, tmp_path: Path
) -> None:
    """Dagster's columns have no time zone: with another default than UTC, a run seemed to begin hours from now."""
    make_hostile(server, database.rpartition("/")[2])
    with instance_on(dagster_storage_url(database), tmp_path) as instance:
        run = idle.execute_in_process(instance=instance)
        (record,) = instance.get_run_records()
        assert record.dagster_run.run_id == run.run_id
        assert abs((dt.datetime.now(dt.UTC) - record.create_timestamp).total_seconds()) < 300
    age = "SELECT extract(epoch FROM now() AT TIME ZONE 'UTC' - max(create_timestamp)) FROM dagster.runs"
    assert 0 <= sql.execute(age).fetchone()[0] < 300  # type: ignore[index,operator]
    assert schemas(sql) == {"dagster": ALL}


@pytest.mark.parametrize(
    ("name", "cursor", "is_ahead"),
    [("failed_checks", "900-42", True), ("another", "900-99", False), ("failed_checks", None, False)],
)
def test_a_sensor_that_has_read_events_that_are_not_there_is_a_problem(
    database: str, tmp_path: Path, name: str, cursor: str | None, is_ahead: bool
) -> None:
    """The events are of an older dump than Dagster's storage. Transaction numbers of another server mean nothing."""
    target = LoadableTargetOrigin(module_name="otc_assets.definitions")
    repository = RemoteRepositoryOrigin(InProcessCodeLocationOrigin(target, location_name="here"), "__repository__")
    origin, data = RemoteInstigatorOrigin(repository, name), SensorInstigatorData(cursor=cursor)
    with instance_on(dagster_storage_url(database), tmp_path) as instance:
        instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data))
        assert storage_problems(instance, 42) == []
        problems = [problem for problem, _ in storage_problems(instance, 41)]
    assert problems == ["the sensor failed_checks has read event 900-42, and the newest is 41"] * is_ahead
