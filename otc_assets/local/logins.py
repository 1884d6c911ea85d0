"""The URL with which a person connects to the database, by role: reader, writer or owner.

The embedded database has a login for each. Of another server only the login in OTC_DATABASE_URL is known. The rights
of the roles are in ``warehouse.roles``.
"""

from __future__ import annotations

from enum import StrEnum

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from otc_assets import embedded_files
from otc_assets.errors import OtcError
from otc_assets.local.embedded import EmbeddedServer, url_of_running
from otc_assets.settings import Settings, without_secrets
from otc_assets.text import first_line
from otc_assets.warehouse.roles import READER, WRITER
from otc_assets.warehouse.server import libpq_url


class LoginRole(StrEnum):
    """What a login may do."""

    READER = "reader"
    WRITER = "writer"
    OWNER = "owner"


class NoLogin(OtcError):
    """The installation knows no login of that role."""


_EMBEDDED = {
    LoginRole.READER: embedded_files.ANALYST,
    LoginRole.WRITER: embedded_files.APP,
    LoginRole.OWNER: embedded_files.OWNER,
}
_IS = """
    SELECT current_user::text, CASE
        WHEN coalesce(pg_has_role((SELECT relowner FROM pg_class
            WHERE relnamespace = to_regnamespace('otc') AND relname = 'schema_version'), 'USAGE'), false) THEN 'owner'
        WHEN to_regrole(%(writer)s) IS NOT NULL AND pg_has_role(to_regrole(%(writer)s), 'USAGE') THEN 'writer'
        WHEN to_regrole(%(reader)s) IS NOT NULL AND pg_has_role(to_regrole(%(reader)s), 'USAGE') THEN 'reader' END
"""


def login_url(chosen: Settings, role: LoginRole | None) -> str:
    """The URL of a login of the database that is running.

    Args:
        chosen: the settings.
        role: what the login may do; None for a reader, or, of a server that OTC_DATABASE_URL names, its login.

    Raises:
        DatabaseUnreachable: no database runs.
        NoLogin: no login of that role is known.
    """
    url = url_of_running(chosen)
    if chosen.database_url is None:
        try:
            return EmbeddedServer(chosen.home / embedded_files.FOLDER).url_for(_EMBEDDED[role or LoginRole.READER])
        except FileNotFoundError:
            raise NoLogin(
                "the running database was started by an earlier version and has no such login yet",
                remedy="Stop 'otc-assets up' and start it again.",
            ) from None
        except PermissionError as error:
            raise NoLogin(
                f"{error.filename}: {error.strerror}",
                remedy="Run the command as the account of 'otc-assets up'.",
            ) from None
    url = libpq_url(url)
    if role is None:
        return url
    login, found = _of_login(url)
    if found != role:
        of_role = {LoginRole.READER: READER, LoginRole.WRITER: WRITER}.get(role)
        create = f"CREATE ROLE name LOGIN PASSWORD '...' IN ROLE {of_role}" if of_role else "docs/security.md"
        raise NoLogin(
            f"OTC_DATABASE_URL is the only login known here: {login}, {_A[found]}. No password of a {role} is known",
            remedy=f"'otc-assets db url' without --role prints it. An administrator creates others: {create}.",
        )
    return url


_A = {"owner": "the owner", "writer": "a writer", "reader": "a reader", None: "which has none of the three roles"}


def _of_login(url: str) -> tuple[str, str | None]:
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            found = connection.execute(_IS, {"writer": WRITER, "reader": READER}).fetchone()
    except psycopg.Error as error:
        raise NoLogin(
            f"the role of the login in OTC_DATABASE_URL can't be looked up: {without_secrets(first_line(error))}",
            remedy="'otc-assets db url' without --role prints the URL as it is.",
        ) from None
    assert found is not None
    return found[0], found[1]


def psql_environment(url: str, *, read_only: bool) -> dict[str, str]:
    """The variables with which psql connects to a URL, so that no argument of a process has the password."""
    names = {o.keyword.decode(): o.envvar.decode() for o in Conninfo.get_defaults() if o.envvar is not None}
    given = conninfo_to_dict(url)
    found = {names[key]: str(value) for key, value in given.items() if key in names and value is not None}
    if read_only:
        found["PGOPTIONS"] = f"{found.get('PGOPTIONS', '')} -c default_transaction_read_only=on".strip()
    return found
