"""The roles of a database: what the writer and the reader may do in it, and who may run which command.

The owner of the schema migrates it, and grants rights to ``otc_writer`` and ``otc_reader``: roles without a login, of
which the logins of an installation are members. All databases of a server have the same roles, because PostgreSQL's
roles belong to the server. Their rights are of one database, and a login uses those of the databases to which the
server's administrator lets it connect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import groupby
from typing import NamedTuple

import sqlalchemy as sa

from otc_assets.domain.tables import with_history
from otc_assets.errors import OtcError
from otc_assets.warehouse.sql import statement

WRITER, READER = "otc_writer", "otc_reader"

#: A right is missing; no schema of the search path exists, or may be used.
_NO_RIGHT = ("42501", "3F000")
#: Another session, perhaps of another database of the server, has created the role in the meantime.
_CREATED_ALREADY = ("42710", "23505")


class WrongRole(OtcError):
    """The role of the database's URL may not do what the command does. The message says which role is needed."""


# --- what each role may do ---------------------------------------------------------------------------------


class Right(NamedTuple):
    """A privilege of a role on an object, or on a column of it."""

    role: str
    privilege: str
    column: str = ""


class Granted(NamedTuple):
    """A schema, table, sequence or function.

    Attributes:
        kind: SCHEMA, TABLE (views included), SEQUENCE or FUNCTION.
        object: its name in a statement.
        name: its name; of a sequence, that of its table.
        detail: of a relation, its ``relkind``; of a function, whose rights it has: ``invoker``, ``definer``, or
            ``trigger`` for one that is only called by a trigger.
        ours: whether the session's role may grant rights on it.
        rights: those of the two roles.
    """

    kind: str
    object: str
    name: str
    detail: str
    ours: bool
    rights: frozenset[Right]


_WRITE = ("INSERT", "UPDATE", "DELETE")

#: How the writer may change tables, where it is less than ``_WRITE``. Only ``migrate`` and triggers write the first.
_LESS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("schema_version", "definition", "firm", "retention", "journal"), ()),
    **dict.fromkeys(("week_state", "file_ledger", "gap_ledger"), ()),
    "publication": ("INSERT", "UPDATE"),
    **{f"{table}_revision": ("INSERT",) for table in with_history()},
    "events": (),
}

#: What the writer may insert of an event. The other columns have defaults of the database's.
_OF_AN_EVENT = ("event_type", "aggregate_type", "aggregate_id", "version", "payload", "metadata")

#: What the exporter reads of Dagster's tables: nothing of the configuration and the events of runs.
_OF_DAGSTER = {
    "daemon_heartbeats": ("daemon_type", "timestamp"),
    "runs": ("status", "create_timestamp"),
    "job_ticks": ("id", "job_origin_id", "type", "status", "tick_body"),
}


def rights_in_otc(item: Granted) -> Iterator[Right]:
    """What the two roles may do with an object of schema ``otc``; on tables of later migrations, too."""
    if item.kind == "SCHEMA":
        yield from (Right(WRITER, "USAGE"), Right(READER, "USAGE"))
    elif item.kind == "TABLE":
        yield from (Right(WRITER, "SELECT"), Right(READER, "SELECT"))
        if item.detail != "v":
            yield from (Right(WRITER, privilege) for privilege in _LESS.get(item.name, _WRITE))
        if item.name == "events":
            yield from (Right(WRITER, "INSERT", column) for column in _OF_AN_EVENT)
    elif item.kind == "SEQUENCE":
        # To see the last id that was given, not to take one: restore-check compares it with the ids in the table.
        yield from (Right(WRITER, "SELECT"), Right(READER, "SELECT"))
    elif item.kind == "FUNCTION" and item.detail != "trigger":
        yield Right(WRITER, "EXECUTE")
        if item.detail == "invoker":
            yield Right(READER, "EXECUTE")


def rights_in_dagster(item: Granted) -> Iterator[Right]:
    """What the two roles may do with an object of Dagster's storage."""
    if item.kind == "SCHEMA":
        yield from (Right(WRITER, "USAGE"), Right(READER, "USAGE"))
    elif item.kind == "SEQUENCE":
        yield Right(WRITER, "USAGE")
    elif item.kind == "TABLE":
        yield Right(WRITER, "SELECT")
        if item.name != "alembic_version":
            yield from (Right(WRITER, privilege) for privilege in _WRITE)
        yield from (Right(READER, "SELECT", column) for column in _OF_DAGSTER.get(item.name, ()))


# --- creating and granting -----------------------------------------------------------------------------------

_MISSING = sa.text("SELECT role FROM unnest(CAST(:roles AS text[])) role WHERE to_regrole(role) IS NULL ORDER BY role")
_MAY_CREATE = sa.text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")


def missing(connection: sa.Connection) -> list[str]:
    """Which of the two roles the server does not have."""
    return list(connection.execute(_MISSING, {"roles": [WRITER, READER]}).scalars())


def create(connection: sa.Connection) -> str:
    """Creates the roles that do not exist, if the session's role may.

    Args:
        connection: in autocommit mode, so that migrations of other databases of the server do not wait for this one.

    Returns:
        What an administrator has to do; empty if both roles exist now.
    """
    if connection.execute(_MAY_CREATE).scalar():
        for role in missing(connection):
            try:
                connection.exec_driver_sql(f"CREATE ROLE {role} NOLOGIN")
            except sa.exc.DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _CREATED_ALREADY:
                    raise
    if not (roles := missing(connection)):
        return ""
    commands = " ".join(f"CREATE ROLE {role} NOLOGIN;" for role in roles)
    return (
        f"the server has no role {' and no role '.join(roles)}, and the role {_current_role(connection)} may not "
        "create any: only the owner of the schema can use this database. For logins with fewer rights, an "
        f"administrator runs {commands} and the owner runs 'otc-assets migrate' again"
    )


def grant(
    connection: sa.Connection,
    schema: str,
    wanted: Callable[[Granted], Iterator[Right]],
    tables: Collection[str] | None = None,
) -> str:
    """Gives the two roles exactly the rights that are ``wanted`` in a schema, and takes what they have beyond these.

    Rights of other roles stay as they are. Does nothing while one of the roles does not exist.

    Args:
        connection: inside a transaction of the owner's.
        schema: its name.
        wanted: the rights on an object.
        tables: only these tables and their sequences; None: everything in the schema.

    Returns:
        What has to be granted by others, because it belongs to them; otherwise empty.
    """
    if missing(connection):
        return ""
    foreign = []
    for item in _objects(connection, schema, tables):
        rights = frozenset(wanted(item))
        statements = [*_granting(item, rights - item.rights), *_revoking(item, item.rights - rights)]
        if item.ours:
            for text in statements:
                connection.exec_driver_sql(text)
        elif statements and item.kind != "SCHEMA":
            foreign.append(item.object)
    if not foreign:
        return ""
    more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    return (
        f"{foreign[0]}{more} in schema {schema}: another role than {_current_role(connection)} is the owner, so rights "
        f"of {WRITER} and {READER} were not changed. An administrator changes the owner: ALTER TABLE ... OWNER TO"
    )


def _objects(connection: sa.Connection, schema: str, tables: Collection[str] | None) -> list[Granted]:
    bound = {"schema": schema, "tables": None if tables is None else list(tables), "roles": [WRITER, READER]}
    rows = connection.execute(statement("role_rights"), bound).mappings().all()
    return [Granted(**{**row, "rights": frozenset(Right(*right) for right in row["rights"])}) for row in rows]


def _by_role(item: Granted, rights: Collection[Right]) -> Iterator[tuple[str, str]]:
    """Each role, with its privileges on the object as statements have them."""
    for role, of_role in groupby(sorted(rights), key=lambda right: right.role):
        privileges = [f'{r.privilege} ("{r.column}")' if r.column else r.privilege for r in of_role]
        yield role, f"{', '.join(privileges)} ON {item.kind} {item.object}".replace("%", "%%")


def _granting(item: Granted, rights: Collection[Right]) -> list[str]:
    return [f"GRANT {privileges} TO {role}" for role, privileges in _by_role(item, rights)]


def _revoking(item: Granted, rights: Collection[Right]) -> list[str]:
    return [f"REVOKE {privileges} FROM {role}" for role, privileges in _by_role(item, rights)]


def set_defaults(connection: sa.Connection) -> None:
    """Gives the two roles rights on the tables that the session's role creates in schema ``otc`` from now on."""
    if missing(connection):
        return
    for role, privileges in ((READER, "SELECT"), (WRITER, ", ".join(("SELECT", *_WRITE)))):
        connection.exec_driver_sql(f"ALTER DEFAULT PRIVILEGES IN SCHEMA otc GRANT {privileges} ON TABLES TO {role}")


# --- who may run what ----------------------------------------------------------------------------------------

_OWNER = sa.text("""
    SELECT current_user::text AS role, owner::text,
        CASE WHEN owner IS NOT NULL THEN pg_has_role(owner, 'USAGE')
             WHEN to_regnamespace('otc') IS NOT NULL THEN has_schema_privilege('otc', 'CREATE')
             ELSE has_database_privilege(current_database(), 'CREATE') END AS may
    FROM (SELECT max(pg_get_userbyid(relowner)) AS owner FROM pg_class
          WHERE relnamespace = to_regnamespace('otc') AND relname = 'schema_version') found
""")
_MAY_WRITE = sa.text("SELECT has_table_privilege('otc.publication', 'INSERT')")


def _current_role(connection: sa.Connection) -> str:
    role: str = connection.execute(sa.text("SELECT current_user::text")).scalar_one()
    return role


def require_owner(connection: sa.Connection, doing: str) -> None:
    """Refuses what only the owner of the schema can do.

    Args:
        connection: to the database.
        doing: what, as in 'migrate the schema'.

    Raises:
        WrongRole: the session's role is not the owner, or, in a new database, may not create the schema.
    """
    role, owner, may = connection.execute(_OWNER).one()
    if may:
        return
    needed = f"only {owner}, the owner of schema otc, can" if owner else "it may not create schema otc"
    raise WrongRole(
        f"the role {role} can't {doing}: {needed}",
        remedy="Set OTC_DATABASE_URL to the URL of the owner of the schema"
        + ("." if owner else ", a role with the right CREATE on the database."),
    )


def require_writer(connection: sa.Connection) -> None:
    """Refuses a role that may not write.

    Raises:
        WrongRole: the session's role is neither the owner nor a member of the role that writes.
    """
    if not connection.execute(_MAY_WRITE).scalar():
        raise WrongRole(
            f"the role {_current_role(connection)} may only read this database, and this command writes",
            remedy=f"Set OTC_DATABASE_URL to the URL of a member of {WRITER}.",
        )


def explained(error: BaseException | None) -> str:
    """What to do about an error of the server that a right is missing; empty for any other error."""
    # psycopg's name of the code, and that of psycopg2, which Dagster uses.
    if getattr(error, "sqlstate", None) not in _NO_RIGHT and getattr(error, "pgcode", None) not in _NO_RIGHT:
        return ""
    return (
        f"The role of OTC_DATABASE_URL has no right to do this: commands that write need a member of {WRITER}, those "
        f"that read one of {READER}, and 'migrate' and 'up' the owner of the schema. 'otc-assets migrate' creates the "
        "tables, Dagster's too, and grants the rights of both roles."
    )
