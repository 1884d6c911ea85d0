"""The commands ``archive verify`` and ``archive copy``."""

from __future__ import annotations

from typing import Annotated

import typer

from otc_assets.archive_url import ArchiveUrl, parse_archive_url
from otc_assets.cli.installation import prepared_archive
from otc_assets.cli.options import Json
from otc_assets.cli.output import err, out, progress
from otc_assets.settings import settings

app = typer.Typer(no_args_is_help=True, help="Verify and copy the archive of the bytes that FINRA sent.")


@app.command()
def verify(
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Verify N objects, chosen at random, instead of all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the archived bytes of every capture, and the journal, and compare them with their digests.

    Events that the journal lacks are written to it. Exits with 4 if bytes are missing or damaged, or if the journal
    has a problem that the database can't repair. Example: otc-assets archive verify --sample 200
    """
    from otc_assets.local import setup
    from otc_assets.pipeline import journaling
    from otc_assets.reports.captures import damaged_captures

    chosen = settings()
    archive = prepared_archive(chosen.archive)
    with setup.warehouse(chosen) as database, progress("verifying the archive") as tick:
        verified, damaged = damaged_captures(database, archive, sample, tick)
        state = journaling.verify(database, archive)
    if as_json:
        out.print_as_json({"verified": verified, "damaged": damaged, "journal": vars(state)})
    elif damaged:
        columns = ["week_ending", "tier", "publication", "scope", "problem", "origin", "digest"]
        shown = [[row[c][:16] if c == "digest" else str(row[c]) for c in columns] for row in damaged]
        out.print_table(columns, shown)
        out.print(f"\n{damaged[0]['detail']}")
    else:
        out.print(f"{verified:,} archived objects verified: each matches its digest")
    if not as_json:
        written = f"; {state.written:,} of them were missing or damaged, and are written now" if state.written else ""
        err.print(f"{state.events:,} events in the journal{written}")
        for text in state.problems:
            err.note("journal", "red", text)
    if damaged or state.problems:
        raise typer.Exit(4)


def archive_url(text: str) -> ArchiveUrl:
    """An archive, from its URL."""
    try:
        return parse_archive_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def copy(
    to: Annotated[
        ArchiveUrl,
        typer.Option("--to", parser=archive_url, metavar="URL", help="file:///folder or s3://bucket/prefix."),
    ],
    as_json: Json = False,
) -> None:
    """Copy the archive of OTC_ARCHIVE_URL, with its journal, to another folder or bucket.

    Each object is compared with its digest. If the command was interrupted, repeat it: what is copied is not copied
    again. Exits with 4 if objects could not be copied. Example: otc-assets archive copy --to s3://bucket/otc
    """
    from otc_assets.pipeline.archive_copy import ArchiveCopy

    chosen = settings()
    if str(to) == str(chosen.archive):
        raise typer.BadParameter("this is the archive of OTC_ARCHIVE_URL itself.", param_hint="--to")
    copied = ArchiveCopy(prepared_archive(chosen.archive), prepared_archive(to))
    with progress("copying the archive", copied.objects) as tick:
        done = copied.run(tick)
    failed = [{"object": name, "problem": problem, "detail": text} for name, (problem, text) in done.failed.items()]
    if as_json:
        out.print_as_json({"to": str(to), "objects": done.objects, "written": done.written, "failed": failed})
    elif failed:
        out.print_table(["problem", "object"], [[row["problem"], row["object"]] for row in failed])
        out.print(f"\n{failed[0]['detail']}")
    if not as_json:
        there = done.objects - len(failed)
        err.print(f"{there:,} of {done.objects:,} objects are in {to}; {done.written:,} of them were written now")
    if failed:
        raise typer.Exit(4)
