"""An installation on this machine: its database, its folders, and its Dagster instance.

This module finds or starts the database, brings schema and folders to this version, and opens the Dagster instance.
The UI and the daemon are in ``services``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterInstance
from pydantic import SecretStr

from otc_assets.archive.store import LocalArchive
from otc_assets.dagster_storage import move_tables
from otc_assets.errors import OtcError
from otc_assets.liveness import fail_dead_runs
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.resources import Warehouse
from otc_assets.settings import PROJECT_ROOT, Settings, settings
from otc_assets.warehouse.migrate import Migrated, is_unmigrated, migrate, require_current
from otc_assets.warehouse.server import dagster_storage_url

#: The pools of Dagster's concurrency limits: steps that request data from FINRA, and steps that use the database. Two
#: each, for two cores and for one client of FINRA's API.
POOLS = {"finra_api": 2, "database": 2}


class NotStarted(OtcError):
    """A part of the local installation did not start. The message says which, and what to do."""


def project_file(name: str) -> Path:
    """A top-level file of the project: in the checkout, or inside an installed package."""
    checkout = PROJECT_ROOT / name
    return checkout if checkout.exists() else Path(__file__).parent.parent / "_project" / name


@contextmanager
def database(chosen: Settings) -> Iterator[str]:
    """The URL of the database: that of the settings, or an embedded server's.

    An embedded server is started unless another process uses it already, and is stopped by the last process that
    uses it.
    """
    if chosen.database_url is not None:
        yield chosen.database_url.get_secret_value()
        return
    with EmbeddedServer(chosen.home / "postgres") as server:
        yield server.url


def resolved(chosen: Settings, url: str) -> Settings:
    """The settings with the URLs of the database and of Dagster's storage in it.

    Raises:
        InvalidDatabaseUrl: not a PostgreSQL URL.
    """
    storage_url = SecretStr(dagster_storage_url(url))
    return chosen.model_copy(update={"database_url": SecretStr(url), "dagster_storage_url": storage_url})


def upgrade(
    chosen: Settings, url: str, *, shorten_retention: bool = False, waiting: Callable[[], None] = lambda: None
) -> Migrated:
    """Brings the database and ``DAGSTER_HOME`` to this version and to the settings, and prepares the environment.

    Only 'up' and 'migrate' call this for an existing installation.

    Args:
        chosen: the settings.
        url: the database.
        shorten_retention: store shorter retention periods, too.
        waiting: called once before waiting until it is certain that no daemon of an earlier version runs.

    Returns:
        What the migration did.

    Raises:
        StorageInUse: a daemon of an earlier version is running.
    """
    # Tables that OTC_DAGSTER_STORAGE_URL keeps in another place are not moved.
    separate = chosen.dagster_storage_url
    is_ours = separate is None or separate.get_secret_value() == dagster_storage_url(url)
    unused = move_tables(url, waiting) if is_ours else ""
    migrated = migrate(url, shorten_retention=shorten_retention)
    migrated = migrated._replace(remark="; ".join(filter(None, [migrated.remark, unused])))
    _write_files(chosen, replace=True)
    _set_environment(resolved(chosen, url))
    return migrated


def prepare(chosen: Settings, url: str) -> Settings:
    """Prepares the environment of a command that leaves schema and retention as they are.

    An embedded database without a schema is initialized first, because it has no data that could be lost.

    Returns:
        The settings with the URLs of the database and of Dagster's storage in it.

    Raises:
        SchemaMismatch: the schema is of another version; 'otc-assets migrate' has to run first.
    """
    if chosen.database_url is None and is_unmigrated(url):
        migrate(url)
    require_current(url)
    _write_files(chosen, replace=False)
    prepared = resolved(chosen, url)
    _set_environment(prepared)
    return prepared


@contextmanager
def installation(chosen: Settings) -> Iterator[Settings]:
    """A prepared installation, for a command that leaves schema and retention as they are.

    Yields:
        The settings with the URLs of the database and of Dagster's storage in it.

    Raises:
        SchemaMismatch: the schema is of another version; 'otc-assets migrate' has to run first.
    """
    with database(chosen) as url:
        yield prepare(chosen, url)


@contextmanager
def warehouse(chosen: Settings) -> Iterator[Warehouse]:
    """The warehouse of a prepared installation."""
    with installation(chosen):
        yield Warehouse()


@contextmanager
def dagster(chosen: Settings) -> Iterator[DagsterInstance]:
    """The Dagster instance of a prepared installation."""
    with installation(chosen) as prepared, instance(prepared) as opened:
        yield opened


@contextmanager
def instance(chosen: Settings, *, no_code_server: bool = False) -> Iterator[DagsterInstance]:
    """The Dagster instance of an installation whose environment is prepared.

    The limits of the pools are set, unless they were changed, for example in the UI. What killed processes left
    behind is cleaned up: unfinished runs, and half-written files of the archive.

    Args:
        chosen: the settings.
        no_code_server: no code server is running, so runs that one was about to start are dead too.
    """
    with DagsterInstance.get() as opened:
        storage = opened.event_log_storage
        limited = {pool.name for pool in storage.get_pool_limits() if not pool.from_default}
        for pool, limit in POOLS.items():
            if pool not in limited:
                storage.set_concurrency_slots(pool, limit)
        fail_dead_runs(opened, no_code_server=no_code_server)
        LocalArchive(chosen.archive_folder).remove_partials()
        yield opened


def _write_files(chosen: Settings, *, replace: bool) -> None:
    """Creates the folders, and Dagster's configuration file, which a running 'up' may be reading at the moment."""
    home = chosen.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    chosen.files_folder.mkdir(parents=True, exist_ok=True)
    content, path = project_file("dagster.yaml").read_bytes(), home / "dagster.yaml"
    if path.exists() and (not replace or path.read_bytes() == content):
        return
    partial = home / f"dagster.yaml.{os.getpid()}"
    partial.write_bytes(content)
    partial.replace(path)


def _set_environment(prepared: Settings) -> None:
    """Sets the environment variables of this process, for code that reads the settings from there."""
    os.environ.update(prepared.environment())
    settings.cache_clear()
