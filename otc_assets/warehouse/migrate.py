"""Brings the schema ``otc`` to the newest numbered migration, or back.

This runs Alembic, one process at a time, and then reconciles what follows the code, the server and the settings:
``definitions``, ``firms``, ``indexes``, ``timescale`` and ``retention``. The migrations themselves are in the folder
``migrations``.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from otc_assets.errors import OtcError
from otc_assets.settings import PROJECT_ROOT, Settings
from otc_assets.warehouse import definitions, firms, indexes, raw_rows, roles
from otc_assets.warehouse.digests import Digests
from otc_assets.warehouse.events.store import require_order
from otc_assets.warehouse.retention import Shortening, set_retention
from otc_assets.warehouse.server import DAGSTER_SCHEMA, autocommit, ensure_schema, opened, transaction
from otc_assets.warehouse.sql import text
from otc_assets.warehouse.timescale import aggregates, capabilities, hypertables, jobs

_LOCK = 0x07C0_0001


def migrations_folder() -> Path:
    """The numbered migrations: in the checkout, or inside an installed package."""
    checkout = PROJECT_ROOT / "migrations"
    return checkout if checkout.is_dir() else Path(__file__).parent.parent / "_project" / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    return config


def _versions() -> list[str]:
    return sorted(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


@cache
def newest_version() -> str:
    """The number of the newest migration that this code has."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_version(connection: sa.Connection) -> str | None:
    """The number of the newest migration that the database has; None on an empty database."""
    options = {"version_table": "schema_version", "version_table_schema": "otc"}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


class Migrated(NamedTuple):
    """What a migration did.

    Attributes:
        before, after: the schema's version; None on an empty database.
        server: the server's kind, as text.
        remark: what was not done, and why: TimescaleDB that the server offers and that is not used, roles that do not
            exist. Otherwise empty.
        held_back: retention periods that the settings make shorter, and that were left as stored.
    """

    before: str | None
    after: str | None
    server: str
    remark: str
    held_back: tuple[Shortening, ...] = ()


class SchemaMismatch(OtcError):
    """The schema is not at the version that this code works with. The message says what to run."""


def is_unmigrated(url: str) -> bool:
    """Whether the database at ``url`` has no schema of ours yet."""
    with opened(url) as engine, transaction(engine) as connection:
        return current_version(connection) is None


def require_current(engine: sa.Engine) -> None:
    """Refuses to work with a schema of another version; changes nothing.

    Raises:
        SchemaMismatch: the database is empty, or its schema is older or newer than this code.
        DatabaseUnreachable: the server does not answer.
    """
    with transaction(engine) as connection:
        stored, newest = current_version(connection), newest_version()
    if stored is None:
        raise SchemaMismatch("the database has no otc-assets schema yet", remedy="Run 'otc-assets migrate' first.")
    if stored < newest:
        raise SchemaMismatch(
            f"the database schema is at version {stored}, and this otc-assets needs {newest}",
            remedy="Run 'otc-assets migrate' first.",
        )
    if stored > newest:
        raise SchemaMismatch(
            f"the database schema is at version {stored}, and this otc-assets knows only {newest}: a newer version "
            "has migrated it",
            remedy="Update this installation.",
        )


#: The migration that creates ``otc.retention``.
_RETENTION = "026"


def migrate(
    url: str,
    chosen: Settings,
    to: str = "head",
    *,
    start: dt.datetime | None = None,
    shorten_retention: bool = False,
    restored: bool = False,
    problems_of: raw_rows.ProblemsOf | None = None,
) -> Migrated:
    """Migrates the database at ``url`` and brings it to the settings; safe to run twice, and from two processes.

    This is the only place that changes the schema, the stored retention or the server's jobs. Only 'migrate' and
    'up' call it on an existing schema: any other command may run in a shell that lacks the settings.

    A database whose server has got TimescaleDB or its community edition since the last time is converted with all its
    rows. Everything happens in one transaction, except for filling aggregates, which can't run in one.

    Args:
        url: a PostgreSQL URL of the owner of the schema; in a new database, of a role that may create it.
        chosen: the settings, of which retention and compression are stored.
        to: a migration's number, ``head`` for the newest or ``base`` for none; lower than now goes back.
        start: when the server's jobs first run; None: at once.
        shorten_retention: store shorter retention periods, too. The first migration always stores the settings.
        restored: the database was restored from a dump; it becomes this server's own.
        problems_of: reads archived bytes; needed by a database that has raw rows (``raw_rows``).

    Raises:
        SchemaMismatch: there is no such migration.
        NotArchived: raw rows would be lost, because the archive does not have the bytes that they are from.
        ForeignOrder: the database was restored from a dump of another server, and ``restored`` is not set.
        WrongRole: the role is not the owner of the schema.
    """
    if to not in (known := ["base", *_versions(), "head"]):
        raise SchemaMismatch(f"there is no migration {to!r}", remedy=f"The migrations are {', '.join(known)}.")
    with opened(url) as engine, autocommit(engine) as guard:
        roles.require_owner(guard, "migrate the schema")
        # A second process waits here, and then has nothing left to do.
        guard.execute(sa.text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        try:
            if to == "head" or raw_rows.DROPPED_BY <= to != "base":
                raw_rows.require_archived(guard, problems_of)
            return _migrate(engine, chosen, to, start, shorten_retention, restored)
        finally:
            guard.execute(sa.text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})


def _migrate(
    engine: sa.Engine, chosen: Settings, to: str, start: dt.datetime | None, shorten_retention: bool, restored: bool
) -> Migrated:
    with autocommit(engine) as fresh:
        remarks = [capabilities.install(fresh)]
        fresh.invalidate()
    with autocommit(engine) as connection:
        remarks.append(roles.create(connection))
    with transaction(engine) as connection:
        ensure_schema(connection, "otc")
        ensure_schema(connection, DAGSTER_SCHEMA)
        before = current_version(connection)
        hypertables.allow_changes_of_compressed_rows(connection)
        config = _config()
        config.attributes["connection"] = connection
        if to == "base" or (to != "head" and before is not None and to < before):
            command.downgrade(config, to)
        else:
            command.upgrade(config, to)
        after = current_version(connection)
        can = capabilities.detect(connection)
        empty = False
        held_back: list[Shortening] = []
        # What follows the code is of the newest schema. An older one is for older code, whose 'migrate' brings its own.
        if after == newest_version():
            if restored:
                connection.exec_driver_sql(text("adopt_restored"))
            require_order(connection)
            shorten = shorten_retention or before is None or before < _RETENTION
            held_back = set_retention(connection, chosen.keep_weeks, shorten=shorten)
            digests = Digests(connection)
            indexes.reconcile(connection)
            hypertables.reconcile(connection, can, digests)
            empty = aggregates.reconcile(connection, can, digests)
            definitions.reconcile(connection, digests)
            firms.reconcile(connection, digests)
            jobs.reconcile(connection, can, chosen.compress_after_weeks, start=start)
            roles.set_defaults(connection)
            remarks.append(roles.grant(connection, "otc", roles.rights_in_otc))
    if empty:
        with autocommit(engine) as connection:
            aggregates.refresh_aggregates(connection)
    return Migrated(before, after, str(can), "; ".join(filter(None, remarks)), tuple(held_back))
