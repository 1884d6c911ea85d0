"""Brings the schema ``otc`` to the newest numbered migration, or back.

Here: running Alembic, once at a time. Not here: the migrations (the folder ``migrations``).
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from otc_assets.settings import PROJECT_ROOT
from otc_assets.warehouse.server import connect, transaction

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


def migrate(url: str, to: str = "head") -> tuple[str | None, str | None]:
    """Migrates the database at ``url``; safe to run twice, and from two processes at once.

    Args:
        url: a PostgreSQL URL whose user may create a schema.
        to: a migration's number, ``head`` for the newest or ``base`` for none; lower than now goes back.

    Returns:
        The version before and after.
    """
    engine = connect(url)
    try:
        with transaction(engine) as connection:
            # Whoever comes second waits here, and then finds nothing left to do.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS otc"))
            before = current_version(connection)
            config = _config()
            config.attributes["connection"] = connection
            if to == "base" or (to != "head" and before is not None and to < before):
                command.downgrade(config, to)
            else:
                command.upgrade(config, to)
            return before, current_version(connection)
    finally:
        engine.dispose()
