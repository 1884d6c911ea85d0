"""The commands ``restore`` and ``restore-check``: an installation from its backup, and whether it is whole."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from otc_assets.archive_url import ArchiveUrl
from otc_assets.cli.admin import complete_journal
from otc_assets.cli.archive import archive_url
from otc_assets.cli.installation import prepared_archive
from otc_assets.cli.options import Json
from otc_assets.cli.output import out, print_remarks, print_waiting, progress
from otc_assets.errors import OtcError
from otc_assets.settings import Settings, settings


def restore(
    dump: Annotated[Path, typer.Argument(help="The file of pg_dump --format=custom, or the folder of directory.")],
    archive: Annotated[
        ArchiveUrl | None,
        typer.Option(
            "--archive",
            parser=archive_url,
            metavar="URL",
            help="The copy of the archive; it is copied to OTC_ARCHIVE_URL. Without it, that is the archive.",
        ),
    ] = None,
) -> None:
    """Restore an installation from a dump of its database and a copy of its archive, into an empty database.

    The archive is copied, the dump restored, and the database becomes this server's own, as by 'migrate --restored'.
    Then everything is checked, as by 'restore-check', with its exit code. If the command fails before that, repeat it
    with another empty database. It needs pg_restore; the embedded database has one.

    Example: otc-assets restore otc.dump --archive s3://backup-bucket/otc
    """
    from otc_assets.local import setup
    from otc_assets.local.restore import restore_dump
    from otc_assets.pipeline.archive_copy import ArchiveCopy

    chosen = settings()
    if not dump.exists():
        raise OtcError(f"{dump} does not exist", remedy="Name the file that pg_dump wrote.")
    target = prepared_archive(chosen.archive)
    source = prepared_archive(archive) if archive is not None and str(archive) != str(chosen.archive) else None
    # Before anything is copied: the embedded server gives a new OTC_HOME the rights that its account needs.
    with setup.database(chosen) as url:
        if source is not None:
            copied = ArchiveCopy(source, target)
            with progress("copying the archive", copied.objects) as tick:
                done = copied.run(tick)
            out.print(f"{done.objects:,} objects of the archive, {done.written:,} written to {chosen.archive}")
        with progress("restoring the dump"):
            restore_dump(dump, url, is_embedded=chosen.database_url is None)
        migrated = setup.upgrade(chosen, url, restored=True, waiting=print_waiting)
        prepared = setup.resolved(chosen, url)
        complete_journal(prepared)
        out.print(f"the database is restored; schema {migrated.after}; {migrated.server}")
        print_remarks(migrated)
        _check(prepared, as_json=False)


def restore_check(as_json: Json = False) -> None:
    """Check whether a restored installation is whole; change nothing. Exits with 1 if something is missing.

    Compared are the tables with what was recorded when they were loaded, the archive with the captures and the events,
    the events with each other, the positions of readers with the events, and the versions of weeks with the captures;
    each archived object and each of Dagster's runs is read. What is missing is listed with what to do.
    """
    from otc_assets.local import setup

    chosen = settings()
    with setup.database(chosen) as url:
        _check(setup.prepare(chosen, url), as_json=as_json)


def _check(prepared: Settings, *, as_json: bool) -> None:
    from otc_assets.defs.instance import open_instance, storage_problems
    from otc_assets.reports.restored import Lacking, lacking
    from otc_assets.warehouse import events
    from otc_assets.warehouse.database import Database

    with closing(Database(prepared.database_url)) as database:
        with progress("checking the installation") as tick:
            found = lacking(database, prepared_archive(prepared.archive), tick)
        with database.transaction() as connection:
            newest = events.newest_id(connection)
    with open_instance(prepared) as instance:
        found += [Lacking("Dagster", *problem) for problem in storage_problems(instance, newest)]
    if as_json:
        out.print_as_json({"whole": not found, "lacking": [vars(item) for item in found]})
    elif found:
        for item in found:
            out.print(f"{item.what}: {item.problem}. {item.remedy}".rstrip())
        out.print(f"\n{len(found):,} problems")
    else:
        out.print("the installation is whole: tables, archive, events, lineage and Dagster's runs")
    if found:
        raise typer.Exit(1)
