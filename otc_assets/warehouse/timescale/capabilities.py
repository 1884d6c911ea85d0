"""What a server can do: TimescaleDB or not, and which edition. Using it is up to the other modules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

_FEATURE_NOT_SUPPORTED = "0A000"

_INSTALLED = sa.text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
_STATE = sa.text("""
    SELECT coalesce(current_setting('timescaledb.restoring', true), 'off') = 'on' AS restoring,
        (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS offered
""")


@dataclass(frozen=True)
class Capabilities:
    """What a server can do.

    Attributes:
        version: TimescaleDB's, if the extension is in the database.
        hypertables: TimescaleDB, of any edition.
        community: compression, continuous aggregates and jobs.
    """

    version: str | None = None
    hypertables: bool = False
    community: bool = False

    def __str__(self) -> str:
        if not self.hypertables:
            return "plain PostgreSQL"
        return f"TimescaleDB {self.version}, {'community' if self.community else 'Apache'} edition"


def detect(connection: sa.Connection) -> Capabilities:
    """Asks the server what it can do.

    The edition is detected by calling a function of the community edition with an invalid argument: not every build
    has the settings that name the edition, and some errors name the wrong one.
    """
    version = connection.scalar(_INSTALLED)
    if version is None:
        return Capabilities()
    try:
        with connection.begin_nested():
            connection.execute(sa.text("SELECT delete_job(-1)"))
    except sa.exc.DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        return Capabilities(version, hypertables=True, community=state != _FEATURE_NOT_SUPPORTED)
    return Capabilities(version, hypertables=True, community=True)


@cache
def of(engine: sa.Engine) -> Capabilities:
    """What the server of ``engine`` can do; asked once per process."""
    with engine.connect() as connection:
        return detect(connection)


def install(connection: sa.Connection) -> str:
    """Creates the extension if the server has it and we may.

    Args:
        connection: in autocommit mode, and not used for anything afterwards: the extension must be the first thing
            that a session loads.

    Returns:
        Why the extension is not used although the server offers it; otherwise an empty text.
    """
    offered = connection.execute(
        sa.text("SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'")
    ).one_or_none()
    if offered is None or offered.installed_version is not None:
        return ""
    try:
        connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public"))
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        return (
            f"the server offers TimescaleDB {offered.default_version}, which is not used: {reason}. To use it, put "
            "timescaledb into shared_preload_libraries, restart the server, have a superuser run CREATE EXTENSION "
            "timescaledb in this database, and run 'otc-assets migrate' again."
        )
    return ""


def before_restore(connection: sa.Connection) -> str:
    """Prepares TimescaleDB for ``pg_restore`` into an empty database.

    Args:
        connection: in autocommit mode, of a session that began after ``install``: the path of an earlier one lacks
            the schema of the extension.

    Returns:
        Why the server can't use it; otherwise an empty text.
    """
    if connection.scalar(_INSTALLED) is None:
        return "it does not offer the extension"
    connection.execute(sa.text("SELECT timescaledb_pre_restore()"))
    return ""


def after_restore(connection: sa.Connection) -> None:
    """Returns TimescaleDB to work after ``pg_restore``."""
    connection.execute(sa.text("SELECT timescaledb_post_restore()"))


def unfinished_restore(connection: sa.Connection) -> tuple[str, str] | None:
    """What is wrong with TimescaleDB in a restored database, and what to do; None if nothing is."""
    state = connection.execute(_STATE).one()
    installed = connection.scalar(_INSTALLED)
    if installed is None and state.offered is not None:
        problem = f"the server offers TimescaleDB {state.offered}, and the database does not have the extension"
        return problem, "Run 'otc-assets migrate', which creates it and converts the tables."
    if installed is not None and state.restoring:
        return "TimescaleDB is still prepared for a restore", "Run SELECT timescaledb_post_restore() in the database."
    return None
