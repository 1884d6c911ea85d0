"""Commands for operators: ``env``, ``metrics`` and ``migrate``."""

from __future__ import annotations

import shlex
import time
from contextlib import closing
from typing import Annotated

import typer

from otc_assets.cli.installation import prepared_archive
from otc_assets.cli.options import Json, Yes
from otc_assets.cli.output import err, out, print_remarks, print_waiting
from otc_assets.embedded_files import ANALYST
from otc_assets.errors import OtcError
from otc_assets.settings import Settings, settings


def metrics(
    host: Annotated[
        str, typer.Option(help="The address to listen on. Any client that reaches it can read the metrics.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port to listen on. [OTC_METRICS_PORT]")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics instead of serving them.")] = False,
) -> None:
    """Serve metrics to Prometheus until Ctrl-C; 'otc-assets up' serves them too.

    The database is only read. With --once, the exit code is 1 if the database is unreachable.
    """
    from otc_assets.exporter.server import exporter_of, exposition, serving
    from otc_assets.local.embedded import url_of_running

    chosen = settings()

    def reader() -> str:
        return url_of_running(chosen, ANALYST)

    if once:
        from otc_assets.local import setup

        with setup.database(chosen):
            exporter = exporter_of(chosen, reader)
            print(exposition(exporter), end="")
            exporter.close()
        if not exporter.up:
            raise typer.Exit(1)
        return
    listen = chosen.metrics_port if port is None else port
    try:
        with serving(exporter_of(chosen, reader), host, listen, chosen.host_names) as where:
            err.print(f"metrics   {where}   Ctrl-C stops it")
            while True:
                time.sleep(1)
    except OSError as error:
        raise OtcError(
            f"can't listen on {host}, port {listen}: {error.strerror}",
            remedy="Choose another with --host or --port (OTC_METRICS_PORT).",
        ) from None


def env(as_json: Json = False) -> None:
    """Print the environment variables with which Dagster's own commands use this installation.

    For dagster dev, dg dev, dagster-webserver, dagster-daemon and dagster asset materialize. The embedded database must
    be running: otc-assets up, or otc-assets up --database-only. The output has the database's password.

    Example: eval "$(otc-assets env)"
    """
    from otc_assets.local import setup
    from otc_assets.local.embedded import url_of_running

    chosen = settings()
    variables = setup.prepare(chosen, url_of_running(chosen)).environment()
    if as_json:
        out.print_as_json(variables)
        return
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def migrate(
    to: Annotated[str, typer.Option(help="The number of a migration, or 'base' for none.")] = "head",
    yes: Yes = False,
    restored: Annotated[
        bool, typer.Option("--restored", help="The database was restored from a dump: make it this server's own.")
    ] = False,
) -> None:
    """Migrate the database to the newest schema, or to the given one, and apply the settings to it.

    If the server has gained TimescaleDB, or a better edition of it, the tables are converted; no data is lost.
    Changed settings (OTC_COMPRESS_AFTER_WEEKS, OTC_KEEP_..._WEEKS) take effect. A shorter retention deletes weeks, so
    it takes effect only with --yes: without it the stored retention stays, and the exit code is 1.
    With --restored, recorded transactions get numbers of this server, the database gets a journal of its own in the
    archive, and runs that were unfinished at the dump are marked as failed.
    """
    from otc_assets.local import setup

    chosen = settings()
    if to == "head":
        prepared_archive(chosen.archive)
    with setup.database(chosen) as url:
        if to == "head":
            done = setup.upgrade(chosen, url, shorten_retention=yes, restored=restored, waiting=print_waiting)
            complete_journal(setup.resolved(chosen, url))
        else:
            done = setup.migrate_schema(chosen, url, to, shorten_retention=yes, restored=restored)
    before = "" if done.before == done.after else f", was {done.before or 'none'}"
    out.print(f"schema {done.after or 'none'}{before}; {done.server}")
    print_remarks(done)
    if done.held_back:
        raise typer.Exit(1)


def complete_journal(prepared: Settings) -> None:
    """Writes events that the archive's journal lacks."""
    from otc_assets.archive.opening import open_archive
    from otc_assets.pipeline.journaling import lost_databases, write_missing
    from otc_assets.warehouse.database import Database

    archive = open_archive(prepared.archive)
    with closing(Database(prepared.database_url)) as database:
        if count := write_missing(database, archive):
            err.print(f"journal   {count:,} events written to the archive, which lacked them")
        if lost_databases(database, archive):
            err.note(
                "journal",
                "yellow",
                "   the database is empty, and the archive has the journal of another one. To rebuild that one, run "
                "'otc-assets rebuild --from archive'",
            )
