"""Opens the Dagster instance of an installation in the process of a command, and brings its storage to this version.

Dagster's own processes open it by ``DAGSTER_HOME`` and ``dagster.yaml``; its storage is in ``storage``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from dagster import DagsterInstance

from otc_assets.archive.opening import open_archive
from otc_assets.defs.internals import InstanceRef
from otc_assets.defs.liveness import cancel_runs_of_renamed_jobs, fail_dead_runs, fail_restored_runs, has_no_process
from otc_assets.defs.pooling import TABLES, PooledStorage, close_idle
from otc_assets.defs.storage import storage_url
from otc_assets.settings import Settings
from otc_assets.warehouse import roles
from otc_assets.warehouse.server import autocommit, transaction

#: The pools of Dagster's concurrency limits: steps that request data from FINRA, and steps that use the database. Two
#: each, for two cores and for one client of FINRA's API.
POOLS = {"finra_api": 2, "database": 2}


@contextmanager
def open_instance(chosen: Settings) -> Iterator[DagsterInstance]:
    """The instance with the configuration in the installation's ``dagster.yaml``.

    ``DagsterInstance.get()`` takes folder and storage from environment variables, which a command would have to set.

    Args:
        chosen: settings in which the URL of the database is set.
    """
    config = {"postgres_url": storage_url(chosen)}
    storage = {"custom": {"module": PooledStorage.__module__, "class": PooledStorage.__name__, "config": config}}
    ref = InstanceRef.from_dir(str(chosen.dagster_home), overrides={"storage": storage})
    with DagsterInstance.from_ref(ref) as opened:
        try:
            yield opened
        finally:
            close_idle(config["postgres_url"] or "")


def upgrade_storage(chosen: Settings, *, restored: bool = False) -> str:
    """Creates Dagster's tables or brings them to this version of Dagster, and grants the roles their rights on them.

    The limits of the pools are set, unless they were changed, for example in the UI.

    Args:
        chosen: settings in which the URL of the database is set, that of an owner.
        restored: the database was restored from a dump: its unfinished runs have failed.

    Returns:
        What an administrator has to do; otherwise empty.
    """
    with open_instance(chosen) as opened:  # creates the tables that do not exist
        stored, newest = opened.event_log_storage.alembic_version() or (None, None)
        if stored != newest:
            opened.upgrade()
        _limit_pools(opened)
        if restored:
            fail_restored_runs(opened)
    engine = _engine_of_storage(chosen)
    with autocommit(engine) as connection:
        remark = roles.create(connection)
    with transaction(engine) as connection:
        schema = connection.execute(sa.text("SELECT current_schema()")).scalar_one()
        return remark or roles.grant(connection, schema, roles.rights_in_dagster, [*TABLES, "alembic_version"])


def _engine_of_storage(chosen: Settings) -> sa.Engine:
    """For a few statements; the instance itself has a pool."""
    return sa.create_engine(storage_url(chosen) or "", poolclass=sa.NullPool)


_MAY_READ_STORAGE = sa.text("SELECT coalesce(has_table_privilege(to_regclass('alembic_version'), 'SELECT'), false)")


def is_storage_ready(chosen: Settings) -> bool:
    """Whether ``upgrade_storage`` has created Dagster's tables, and given the role of the settings its rights on them.

    Args:
        chosen: settings in which the URL of the database is set.
    """
    with transaction(_engine_of_storage(chosen)) as connection:
        return bool(connection.execute(_MAY_READ_STORAGE).scalar_one())


def _limit_pools(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    limited = {pool.name for pool in storage.get_pool_limits() if not pool.from_default}
    for pool, limit in POOLS.items():
        if pool not in limited:
            storage.set_concurrency_slots(pool, limit)


@contextmanager
def clean_instance(chosen: Settings, *, no_code_server: bool = False) -> Iterator[DagsterInstance]:
    """The instance, after cleaning up what killed processes left behind: unfinished runs, half-written archive files.

    The limits of the pools are set, unless they were changed, for example in the UI.

    Args:
        chosen: settings in which the URL of the database is set.
        no_code_server: no code server is running, so runs that one was about to start are dead too.

    Raises:
        ArchiveUnavailable: the archive can't be reached, or refuses requests.
    """
    open_archive(chosen.archive).prepare()
    with open_instance(chosen) as opened:
        _limit_pools(opened)
        fail_dead_runs(opened, no_code_server=no_code_server)
        if no_code_server:
            cancel_runs_of_renamed_jobs(opened)
        yield opened


def newest_heartbeat(instance: DagsterInstance) -> float | None:
    """The time of the newest heartbeat of any daemon, in seconds since 1970; None if there is none."""
    return max((beat.timestamp for beat in instance.get_daemon_heartbeats().values()), default=None)


#: Runs that are read at a time.
_RUNS = 500


def storage_problems(instance: DagsterInstance, newest_event: int) -> list[tuple[str, str]]:
    """What is wrong with a restored storage of Dagster's: each problem with what to do. Reads every run.

    Args:
        instance: the instance.
        newest_event: the newest id of ``otc.events``, behind which no sensor may be.
    """
    found: list[tuple[str, str]] = []
    stored, newest = instance.event_log_storage.alembic_version() or (None, None)
    if stored != newest:
        found.append((f"its tables have the version {stored}, not {newest}", "Run 'otc-assets migrate'."))
    unfinished, last = 0, None
    while runs := instance.get_runs(cursor=last, limit=_RUNS):
        unfinished += sum(has_no_process(run) for run in runs)
        last = runs[-1].run_id
    if unfinished:
        problem = f"{unfinished:,} runs are in progress, though no process of this installation executes them"
        found.append((problem, "Run 'otc-assets migrate --restored', which marks them as failed."))
    for state in instance.all_instigator_state():
        cursor = getattr(state.instigator_data, "cursor", None)
        if state.name == "failed_checks" and cursor and int(cursor.rpartition("-")[2]) > newest_event:
            problem = f"the sensor failed_checks has read event {cursor}, and the newest is {newest_event}"
            remedy = "The events are of an older dump than Dagster's storage: restore both from the same dump."
            found.append((problem, remedy))
    return found
