"""Restores an installation from a dump and a copy of its archive, into an empty database.

PostgreSQL's own ``pg_restore`` restores the dump. What a restored database then needs is in ``setup.upgrade``; whether
it is whole is judged in ``reports.restored``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from otc_assets.errors import OtcError
from otc_assets.local.logins import psql_environment
from otc_assets.local.server_folder import EmbeddedServerError, binaries_of_the_wheel
from otc_assets.settings import without_secrets
from otc_assets.warehouse.migrate import is_unmigrated
from otc_assets.warehouse.server import autocommit, libpq_url, opened
from otc_assets.warehouse.timescale.capabilities import after_restore, before_restore, install


class NotRestored(OtcError):
    """A dump could not be restored. The message says why, and what to do."""


def restore_dump(dump: Path, url: str, *, is_embedded: bool) -> None:
    """Restores a dump of ``pg_dump --format=custom`` or ``directory`` into an empty database, in one transaction.

    With TimescaleDB, the server is prepared for a restore before, and returned to work after it, also if it fails.

    Args:
        dump: the file or folder that pg_dump wrote.
        url: the database, as a role that may create schemas and extensions.
        is_embedded: whether it is the embedded database, whose own pg_restore is of its version.

    Raises:
        NotRestored: the database is not empty, pg_restore is not installed or failed, or the dump needs TimescaleDB
            and the server does not have it.
    """
    if not is_unmigrated(url):
        raise NotRestored(
            "the database has an otc-assets schema already, and a dump is restored into an empty one",
            remedy="Create another database and set OTC_DATABASE_URL to it, or another OTC_HOME for the embedded one.",
        )
    program, content = _pg_restore(dump, is_embedded)
    needs_timescale = " EXTENSION - timescaledb " in content
    why_not = ""
    if needs_timescale:
        with opened(url) as engine, autocommit(engine) as connection:
            why_not = install(connection)
        if not why_not:
            with opened(url) as engine, autocommit(engine) as connection:
                why_not = before_restore(connection)
    if why_not:
        raise NotRestored(
            f"the dump is of a server with TimescaleDB, and this one can't use it: {why_not}",
            remedy="Restore it on a server with TimescaleDB of the dumped version, or rebuild the database from the "
            "archive: 'otc-assets rebuild --from archive'.",
        )
    environment = psql_environment(libpq_url(url), read_only=False)
    # A restore of TimescaleDB's catalog can't be one transaction.
    whole = [] if needs_timescale else ["--single-transaction"]
    try:
        _run(
            program,
            # No name here: the URL's is a variable like the rest. As an argument, one with an equals sign would be
            # taken for parameters; and for a URL without a name, libpq chooses the one that our own connections have.
            ["--no-owner", "--no-acl", "--exit-on-error", "--no-password", *whole, "--dbname=", str(dump)],
            environment,
        )
    finally:
        if needs_timescale:
            with opened(url) as engine, autocommit(engine) as connection:
                after_restore(connection)


def _run(program: str, arguments: list[str], environment: dict[str, str]) -> str:
    """Runs pg_restore, and returns what it printed. The password is in the environment and not among the arguments."""
    ended = subprocess.run(  # noqa: S603 - pg_restore, with arguments of ours and the path of the dump
        [program, *arguments],
        # A service would lead to another server than that of the URL: it has precedence over the variables.
        env={name: text for name, text in os.environ.items() if name != "PGSERVICE"} | environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if "error" in line] or ended.stderr.splitlines() or ["?"]
        raise NotRestored(
            f"pg_restore failed: {without_secrets(lines[0])}",
            remedy="Check the file, and that pg_restore is not older than the pg_dump that wrote it. If the database "
            "is not empty now, create another one.",
        )
    return ended.stdout


def _pg_restore(dump: Path, is_embedded: bool) -> tuple[str, str]:
    """The first pg_restore that can read the dump, and what it lists: an older one than pg_dump can't."""
    programs = [] if is_embedded else [shutil.which("pg_restore")]
    with suppress(EmbeddedServerError):
        programs.append(str(binaries_of_the_wheel() / "bin" / "pg_restore"))
    found = [program for program in programs if program is not None]
    if not found:
        raise NotRestored(
            "pg_restore is not installed",
            remedy="Install it: 'apt install postgresql-client', or 'pip install otc-assets[embedded]'.",
        )
    for program in found[:-1]:
        with suppress(NotRestored):
            return program, _run(program, ["--list", str(dump)], {})
    return found[-1], _run(found[-1], ["--list", str(dump)], {})
