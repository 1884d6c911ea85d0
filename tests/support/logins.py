"""Logins of a database, each a member of roles, as an administrator makes them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

_numbers = itertools.count(1)


@contextmanager
def login(admin: psycopg.Connection[Any], url: str, *roles: str, owns_database: bool = False) -> Iterator[str]:
    """The database's URL for a login of its own, which is dropped at the end; what it owns is the administrator's then.

    Args:
        admin: a superuser's connection to the database, in autocommit mode.
        url: the database.
        roles: of which the login is a member.
        owns_database: it is the database's owner meanwhile, and may create a schema in it.
    """
    name = f"login_{os.getpid()}_{next(_numbers)}"
    # Not the name in the URL: a server in WebAssembly has another for it.
    found = "SELECT current_database(), pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    database, before = admin.execute(found).fetchone()  # type: ignore[misc]
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'of-{name}'".encode())
    for role in roles:
        admin.execute(f"GRANT {role} TO {name}".encode())
    if owns_database:
        admin.execute(f'ALTER DATABASE "{database}" OWNER TO {name}'.encode())
    try:
        yield sa.make_url(url).set(username=name, password=f"of-{name}").render_as_string(hide_password=False)
    finally:
        if owns_database:
            admin.execute(f'ALTER DATABASE "{database}" OWNER TO "{before}"'.encode())
        # TimescaleDB's jobs have an owner, too: DROP OWNED leaves them.
        admin.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}".encode())
