"""Commands for connecting to the database: ``db url`` and ``db shell``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from otc_assets.cli.output import err
from otc_assets.errors import OtcError
from otc_assets.settings import public_environment, settings

if TYPE_CHECKING:
    from otc_assets.local.logins import LoginRole

app = typer.Typer(no_args_is_help=True, help="Connect to the database: print its URL, or open psql.")

_Role = Annotated[
    str | None,
    typer.Option(
        "--role",
        metavar="reader|writer|owner",
        help="What the login may do. Without it: a reader; with OTC_DATABASE_URL, the login of that URL.",
    ),
]


@app.command("url")
def url(role: _Role = None) -> None:
    """Print the URL of the database, for psql, DBeaver, DuckDB, pandas, R and other programs.

    The URL has the login's password. A reader can't change anything. With OTC_DATABASE_URL, only the login of that
    URL is known. Programs: docs/connecting.md

    Example: psql "$(otc-assets db url)"
    """
    from otc_assets.local.logins import login_url

    chosen = settings()
    found = login_url(chosen, _role(role))
    if role is None and chosen.database_url is not None:
        err.note("note", "yellow", "this is the login of OTC_DATABASE_URL; 'otc-assets db url --role reader' checks it")
    print(found)


@app.command("shell")
def shell(role: _Role = None) -> None:
    """Open psql on the database, read-only unless --role is writer or owner.

    psql is taken from PATH, or from the package of the embedded database.
    """
    from otc_assets.local.logins import LoginRole, login_url, psql_environment

    chosen, wanted = settings(), _role(role)
    found = login_url(chosen, wanted)
    program = _psql()
    if program is None:
        raise OtcError(
            "psql is not installed",
            remedy="Install it: 'apt install postgresql-client', 'brew install libpq', or on Windows the command line "
            "tools of PostgreSQL's installer. Or: pip install 'otc-assets[embedded]'.",
        )
    read_only = wanted in (None, LoginRole.READER)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # These two would lead to another server than that of the URL.
    inherited = {name: text for name, text in public_environment().items() if name not in ("PGHOSTADDR", "PGSERVICE")}
    os.execve(program, [program], inherited | psql_environment(found, read_only=read_only))  # noqa: S606


def _role(text: str | None) -> LoginRole | None:
    from otc_assets.local.logins import LoginRole

    try:
        return LoginRole(text) if text is not None else None
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(LoginRole)}", param_hint="--role") from None


def _psql() -> str | None:
    if found := shutil.which("psql"):
        return found
    from otc_assets.local.server_folder import EmbeddedServerError, binaries_of_the_wheel

    try:
        packaged = binaries_of_the_wheel() / "bin" / "psql"
    except EmbeddedServerError:
        return None
    return str(packaged) if packaged.exists() else None
