"""Brings the schema ``otc`` to the newest numbered migration, or back.

Here: running Alembic, once at a time, and bringing tables, jobs and retention to what the server and the settings
allow. Not here: the migrations (the folder ``migrations``), and those forms (``timescale``).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from otc_assets.settings import PROJECT_ROOT, settings
from otc_assets.warehouse import timescale
from otc_assets.warehouse.retention import set_retention
from otc_assets.warehouse.server import autocommit, connect, transaction

_LOCK = 0x07C0_0001


def migrations_folder() -> Path:
    """The numbered migrations: in the checkout, or inside an installed package."""
    checkout = PROJECT_ROOT / "migrations"
    return checkout if checkout.is_dir() else Path(__file__).parent.parent / "_project" / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    return config


def newest_version() -> str:
    """The number of the newest migration that this code has."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_version(connection: sa.Connection) -> str | None:
    """The number of the migration that the database stands at; None on an empty database."""
    options = {"version_table": "schema_version", "version_table_schema": "otc"}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


class Migrated(NamedTuple):
    """What a migration did.

    Attributes:
        before, after: the schema's version; None on an empty database.
        server: what the server is, in words.
        remark: what stands in the way of more; empty where nothing does.
    """

    before: str | None
    after: str | None
    server: str
    remark: str


#: The migrations from which on tables have the form that the server allows, aggregates, and retention.
_FORMS, _AGGREGATES, _RETENTION = "024", "025", "026"


def migrate(url: str, to: str = "head", *, start: dt.datetime | None = None) -> Migrated:
    """Migrates the database at ``url`` and brings it to the settings; safe to run twice, and from two processes.

    A database that has got TimescaleDB since the last time, or a better edition of it, is brought to it with
    all its rows. Each migration's step is in one transaction with all others; aggregates are filled afterwards,
    because that can't be done in one.

    Args:
        url: a PostgreSQL URL whose user may create a schema.
        to: a migration's number, ``head`` for the newest or ``base`` for none; lower than now goes back.
        start: when the server's jobs first run; at once where nothing is said.
    """
    engine = connect(url)
    try:
        with autocommit(engine) as guard:
            # Whoever comes second waits here, and then finds nothing left to do.
            guard.execute(sa.text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            try:
                return _migrate(engine, to, start)
            finally:
                guard.execute(sa.text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    finally:
        engine.dispose()


def _migrate(engine: sa.Engine, to: str, start: dt.datetime | None) -> Migrated:
    with autocommit(engine) as fresh:
        remark = timescale.install(fresh)
        fresh.invalidate()
    chosen = settings()
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS otc"))
        before = current_version(connection)
        config = _config()
        config.attributes["connection"] = connection
        if to == "base" or (to != "head" and before is not None and to < before):
            command.downgrade(config, to)
        else:
            command.upgrade(config, to)
        after = current_version(connection)
        can = timescale.ask(connection)
        empty = False
        if after is not None and after >= _FORMS:
            timescale.to_hypertables(connection)
        if after is not None and after >= _RETENTION:
            empty = timescale.to_aggregates(connection) or before is None or before < _AGGREGATES
            set_retention(connection, chosen.keep_weeks)
            timescale.set_jobs(connection, chosen.compress_after_weeks, start=start)
    if can.community and empty:
        with autocommit(engine) as connection:
            timescale.refresh_aggregates(connection)
    return Migrated(before, after, str(can), remark)
