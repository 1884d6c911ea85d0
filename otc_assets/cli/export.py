"""The commands ``export`` and ``export verify``."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from otc_assets.archive_url import ArchiveUrl, parse_archive_url
from otc_assets.cli.options import Json, OptionalWeeks
from otc_assets.cli.output import err, exit_on_failures, out, progress
from otc_assets.settings import settings

app = typer.Typer(help="Write the tables as Parquet files, by table and week, and verify them.")


def _url(text: str) -> ArchiveUrl:
    try:
        return parse_archive_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _tables(text: str) -> list[str]:
    from otc_assets.domain.parquet import exported_tables

    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in exported_tables()]:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: no such table. Those that are exported are {', '.join(exported_tables())}."
        )
    return names


To = Annotated[
    ArchiveUrl | None,
    typer.Option("--to", parser=_url, metavar="URL", help="file:///folder or s3://bucket/prefix, for OTC_EXPORT_URL."),
]


@app.callback(invoke_without_command=True)
def export(
    context: typer.Context,
    weeks: OptionalWeeks = None,
    tables: Annotated[
        list[str] | None,
        typer.Option("--tables", parser=_tables, metavar="A,B", help="Only these tables, separated by commas."),
    ] = None,
    to: To = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Also write files again that are missing or damaged: reads all files.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the tables as Parquet files, with a manifest and change files; by default all weeks, to OTC_EXPORT_URL.

    Files whose tables have not changed since are not written again. If the command was interrupted, repeat it: it
    continues. Only reads the database. Example: otc-assets export --weeks 2026-08-07..2026-08-28 --to file:///data/otc
    """
    if context.invoked_subcommand is not None:
        if weeks or tables or to or repair or as_json:
            raise typer.BadParameter(f"write options after '{context.invoked_subcommand}'.")
        return
    from otc_assets.archive.store import ArchiveUnavailable
    from otc_assets.errors import OtcError
    from otc_assets.local import setup
    from otc_assets.pipeline.export import ExportFailed, Target, export_week, weeks_to_export

    chosen = settings()
    names = [name for group in tables or () for name in group] or None
    target = Target(to or chosen.export)
    target.prepare()
    files = written = 0
    failed: list[str] = []
    with setup.warehouse(chosen) as database:
        due = set(weeks_to_export(database, target, names))
        if repair:
            due |= {week for of_table in target.manifest().weeks.values() for week in of_table}
        wanted = [week for week in sorted(due) if weeks is None or week in weeks.weeks]
        with progress("exporting", len(wanted)) as tick:
            for number, week in enumerate(wanted):
                tick(number, str(week))
                try:
                    result = export_week(week, database, target, dt.datetime.now(dt.UTC), names, repair=repair)
                except (ExportFailed, ArchiveUnavailable):
                    raise
                except OtcError as error:
                    failed.append(f"{week}: {error}")
                    continue
                files += int(str(result.details["files written"]))
                written += int(str(result.details["bytes written"]))
                tick(number + 1, f"{week} done")
    if as_json:
        shown = {"to": str(target.url), "weeks": list(map(str, wanted)), "files": files, "bytes": written}
        out.print_as_json({**shown, "failed": failed})
    elif not wanted:
        out.print(f"{target.url} is up to date")
    else:
        out.print(f"{files:,} files ({written:,} bytes) of {len(wanted):,} weeks were written to {target.url}")
        glob = target.url.place(f"{(names or ['symbol_summary'])[0]}/*/*.parquet").replace("'", "''")
        err.print(f"In DuckDB: SELECT * FROM read_parquet('{glob}', hive_partitioning = true)")  # noqa: S608 - shown, not executed
    exit_on_failures(failed)


@app.command()
def verify(to: To = None, as_json: Json = False) -> None:
    """Read all exported files, and compare them with the digests in the manifest.

    Exits with 4 if files are missing or damaged; 'otc-assets export --repair' writes them again.
    Example: otc-assets export verify --to s3://bucket/otc
    """
    from otc_assets.pipeline.export import Target
    from otc_assets.pipeline.export import verify as verified

    target = Target(to or settings().export)
    target.prepare()
    count, problems = 0, []
    with progress("verifying the export") as tick:
        for count, problem in enumerate(verified(target), 1):
            if problem:
                problems.append(problem)
            tick(count, f"{len(problems)} problems")
    if as_json:
        out.print_as_json({"at": str(target.url), "files": count, "problems": [vars(each) for each in problems]})
    elif problems:
        out.print_table(["problem", "file"], [[each.problem, each.path] for each in problems])
        err.print("otc-assets export --repair writes them again")
    else:
        out.print(f"{count:,} files in {target.url} verified: each matches its digest")
    if problems:
        raise typer.Exit(4)
