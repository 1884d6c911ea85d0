"""Dumps of databases, and all their rows."""

from __future__ import annotations

import os
import subprocess
from urllib.parse import unquote, urlsplit

import psycopg

from otc_assets.local.embedded import EmbeddedServer

_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'otc' ORDER BY table_name"
#: What the restored database gets anew.
_ANEW = {"events": ["xid"], "computed_week": ["xid"], "journal": ["journal_id"]}


def program(server: EmbeddedServer, name: str, url: str, *arguments: str) -> str:
    """Runs a program of PostgreSQL's, and returns what it printed.

    The password is not among its arguments, which every account can see.
    """
    parts = urlsplit(url)
    return subprocess.run(
        [
            server._folder.program(name), "--host", str(parts.hostname), "--port", str(parts.port),
            "--username", str(parts.username), *arguments,
        ],
        env={**os.environ, "PGPASSWORD": unquote(str(parts.password))},
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        check=True,
    ).stdout  # fmt: skip


def rows(url: str) -> dict[str, list[str]]:
    """All rows of every table and view of the schema, without what a restored database gets anew."""
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as connection:
        return {
            table: [
                row
                for (row,) in connection.execute(
                    f"SELECT (to_jsonb(t) - %s::text[])::text AS row FROM otc.{table} t ORDER BY row",
                    [_ANEW.get(table, [])],
                )
            ]
            for (table,) in connection.execute(_TABLES).fetchall()
        }
