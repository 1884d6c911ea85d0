"""The application: its commands in their groups, the global options, and how errors are shown.

Exit codes: 0 done; 1 failed, with the reason on stderr; 2 usage error or invalid setting; 3 gaps found (``gaps
--check``); 4 archived objects or exported files are missing or damaged, or could not be copied (``archive``, ``export
verify``); 130, 143, 129 interrupted by Ctrl-C, SIGTERM, SIGHUP. Ctrl-C is the way to end ``up``: 0.
"""

from __future__ import annotations

import importlib.metadata
import io
import shlex
import sys
import traceback
from dataclasses import dataclass
from typing import Annotated

import typer

from otc_assets import interruption
from otc_assets.cli import (
    admin,
    archive,
    captures,
    database,
    events,
    export,
    ingest,
    inspect,
    programs,
    query,
    rebuild,
    report,
    restore,
    run,
    serve,
)
from otc_assets.cli.output import err
from otc_assets.cli.private_files import private_files
from otc_assets.errors import OtcError
from otc_assets.finra.simulator import traps
from otc_assets.retries import log_retries
from otc_assets.settings import InvalidSettings, without_secrets
from otc_assets.text import first_line, printable

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="FINRA's OTC transparency data: captured, normalized, summarized, and reconciled with FINRA's totals.\n\n"
    "A week is named by the Friday on which it ends, YYYY-MM-DD. A..B is a range of weeks, both ends included. "
    "Settings are environment variables (OTC_DATABASE_URL, OTC_SOURCE, OTC_HOME, ...): see the README.",
    epilog="Start with: otc-assets up",
)

_READ = "Read the data"
_RUN, _INSPECT, _INGEST, _ADMIN, _PROGRAMS = "Run", "Inspect", "Ingest", "Administer", "Run Dagster's own programs"

app.add_typer(query.app, name="query", rich_help_panel=_READ)
app.add_typer(database.app, name="db", rich_help_panel=_READ)
app.command(rich_help_panel=_READ)(serve.serve)
app.command(rich_help_panel=_READ)(serve.mcp)
app.command(rich_help_panel=_RUN)(run.up)
app.command(rich_help_panel=_RUN)(run.materialize)
app.command(rich_help_panel=_RUN)(run.backfill)
app.command(rich_help_panel=_RUN)(rebuild.rebuild)
app.command(rich_help_panel=_INSPECT)(inspect.status)
app.command(rich_help_panel=_INSPECT)(inspect.gaps)
app.command(rich_help_panel=_INSPECT)(inspect.storage)
app.add_typer(export.app, name="export", rich_help_panel=_RUN)
app.command(rich_help_panel=_INSPECT)(report.report)
app.add_typer(events.app, name="events", rich_help_panel=_INSPECT)
app.add_typer(inspect.alerts_app, name="alerts", rich_help_panel=_INSPECT)
app.command(rich_help_panel=_INGEST)(ingest.ingest)
app.command(rich_help_panel=_INGEST, epilog=f"Traps, with their defaults:\n\n{traps.describe()}")(ingest.simulate)
app.add_typer(captures.app, name="captures", rich_help_panel=_INGEST)
app.command(rich_help_panel=_ADMIN)(admin.env)
app.command(rich_help_panel=_ADMIN)(admin.metrics)
app.command(rich_help_panel=_ADMIN)(admin.migrate)
app.command(rich_help_panel=_ADMIN)(restore.restore)
app.command("restore-check", rich_help_panel=_ADMIN)(restore.restore_check)
app.add_typer(archive.app, name="archive", rich_help_panel=_ADMIN)


def _run_program(context: typer.Context) -> None:
    programs.replace_process([context.info_name or "", *context.args])


#: Options are the program's, ``--help`` included.
_ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
for _name, _program in programs.PROGRAMS.items():
    app.command(_name, help=_program.help, rich_help_panel=_PROGRAMS, context_settings=_ANY_ARGUMENTS)(_run_program)


@dataclass
class _Invocation:
    """The global options of one invocation."""

    debug: bool = False


@app.callback()
def _global_options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
) -> None:
    context.obj.debug = debug


def main() -> None:
    """The console script. Errors written for users are shown without a traceback, and any other as a bug."""
    with interruption.handled(), private_files():
        code = _run()
        # Whatever error an interrupted command ended with: it was interrupted.
        if code and interruption.received() is not None:
            code = interruption.exit_code()
    sys.exit(code)


def _run() -> int:
    """Runs the command, and prints its error. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal of another encoding shows escapes in place of characters that it lacks.
            stream.reconfigure(errors="backslashreplace")
    log_retries()
    invocation = _Invocation()
    try:
        return int(app(standalone_mode=False, obj=invocation) or 0)
    except (typer.Abort, KeyboardInterrupt):
        return interruption.exit_code()
    except Exception as error:
        if invocation.debug:
            err.print(without_secrets(traceback.format_exc()))
        return _show_error(error)


def _show_error(error: Exception) -> int:
    """Prints an error. Returns the exit code."""
    from sqlalchemy.exc import DBAPIError

    from otc_assets.warehouse.roles import explained

    if hasattr(error, "show"):  # a usage error: prints usage and reason
        if isinstance(getattr(error, "message", None), str):
            error.message = printable(error.message)  # type: ignore[attr-defined]
        error.show()
        return 2
    if isinstance(error, OtcError):
        text = str(error)
    elif (found := _database_error(error)) is not None:
        cause = found.orig if isinstance(found, DBAPIError) else found
        text = ". ".join(filter(None, [f"database error: {first_line(cause)}", explained(cause)]))
    elif isinstance(error, OSError):
        text = str(error)
    else:
        version = importlib.metadata.version("otc-assets")
        command = shlex.join(["otc-assets", "--debug", *(a for a in sys.argv[1:] if a != "--debug")])
        text = (
            f"bug in otc-assets {version}: {type(error).__name__}: {first_line(error)}. Report it to the maintainers "
            f"with the output of: {command}"
        )
    err.note("", "red", without_secrets(text))
    return 2 if isinstance(error, InvalidSettings) else 1


def _database_error(error: BaseException) -> Exception | None:
    """The database's error among an error and its causes: Dagster raises its own errors from those of its storage."""
    from psycopg import Error as PsycopgError
    from sqlalchemy.exc import DBAPIError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError | PsycopgError):
        cause = cause.__cause__
    return cause
