"""The command ``rebuild``: weeks under changed rules, or a whole database from the archive."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from otc_assets.cli.installation import launcher, prepared_archive
from otc_assets.cli.options import Json, OptionalWeeks, WeekRange
from otc_assets.cli.output import exit_on_failures, out, progress
from otc_assets.settings import settings


def rebuild(
    weeks: OptionalWeeks = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="archive",
            help="Fill an empty database from the archive alone: all weeks, or those of --weeks.",
        ),
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Which database's journal, if the archive has several (--from archive)."),
    ] = None,
    leave_out_damaged: Annotated[
        bool,
        typer.Option(
            "--leave-out-damaged",
            help="Leave out weeks whose objects are damaged, instead of refusing (--from archive).",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Recompute weeks under the current rules, from the archived bytes of their captures.

    For use after a rule changed: accepted and rejected rows are counted again, then everything is recomputed, with the
    grade and the six-week figures that follow. A week whose bytes the archive has lost stays as it is.

    With --from archive, an empty database gets everything that the lost one had: captures with their ids, decisions,
    revisions and as-of answers. Run 'otc-assets migrate' first.

    Examples: otc-assets rebuild --weeks 2026-08-07..2026-08-28; otc-assets rebuild --from archive
    """
    if source == "archive":
        _rebuild_from_archive(weeks, journal, leave_out_damaged, as_json)
    elif source is not None:
        raise typer.BadParameter(f"{source!r} is not a place to rebuild from. Write --from archive.")
    elif journal is not None or leave_out_damaged:
        raise typer.BadParameter("--journal and --leave-out-damaged need --from archive.")
    elif weeks is None:
        raise typer.BadParameter("Name the weeks, --weeks A..B; or fill an empty database, --from archive.")
    else:
        _rebuild_weeks(weeks, as_json)


def _rebuild_from_archive(weeks: WeekRange | None, journal: str | None, leave_out_damaged: bool, as_json: bool) -> None:
    from otc_assets.local import setup
    from otc_assets.local.daemon import OnlyDaemon
    from otc_assets.pipeline import replay
    from otc_assets.pipeline.journaling import write_missing
    from otc_assets.warehouse.database import Database

    chosen = settings()
    archive = prepared_archive(chosen.archive)
    with setup.database(chosen) as url, closing(Database(url)) as database:
        setup.prepare(chosen, url)  # it fills tables that only their owner changes
        replay.refuse_used(database)
        with progress("checking the archive") as tick:
            plan = replay.plan(
                archive,
                tick,
                journal_id=journal,
                weeks=weeks.weeks if weeks else None,
                leave_out_damaged=leave_out_damaged,
            )
        only = OnlyDaemon(url, "rebuild")
        only.take()
        try:
            with progress("rebuilding", len(plan.entries)) as tick:
                done = replay.rebuild(plan, database, archive, tick)
        finally:
            only.release()
        write_missing(database, archive)
    failed = [f"{week or 'no week'} is left out: {texts[0]}" for week, texts in plan.left_out.items()]
    failed += [f"{week or 'no week'} is incomplete: {reason}" for week, reason in done.failed.items()]
    if as_json:
        out.print_as_json(
            {
                "journal": plan.journal_id,
                "weeks": sorted(done.weeks),
                "captures": done.captures,
                "transactions": done.transactions,
                "other_code_versions": {table: sorted(versions) for table, versions in done.other_rules.items()},
                "differences": done.differences,
                "failed": failed,
            }
        )
    else:
        out.print(
            f"{done.captures:,} captures of {len(done.weeks):,} weeks rebuilt from {done.transactions:,} recorded "
            f"transactions; {len(done.differences):,} results differ from the recorded ones"
        )
        for table, versions in sorted(done.other_rules.items()):
            out.print(
                f"{table} was computed by code version {', '.join(sorted(versions))}, and is now by "
                f"{replay.present_code_version(table)}: its rows, and as-of answers about them, are those of the "
                "present rules"
            )
        for text in done.differences[:10]:
            out.print(f"differs: {text}")
        if len(done.differences) > 10:
            out.print(f"differs: and {len(done.differences) - 10:,} more; --json lists them")
    exit_on_failures(failed)


def _rebuild_weeks(weeks: WeekRange, as_json: bool) -> None:
    from otc_assets.archive.opening import open_archive
    from otc_assets.defs.materialize import compute_stale
    from otc_assets.pipeline.rebuild import recount_weeks

    with launcher(settings()) as opened:
        with progress("counting rows", len(weeks.weeks)) as tick:
            archive = open_archive(opened.settings.archive)
            counted = recount_weeks(weeks.weeks, opened.database, archive, tick)
        with progress("computing weeks") as tick:
            computed = compute_stale(opened, counted.weeks, tick)
    failed = [f"{week} stays as it is: {reason}" for week, reason in counted.failed.items()] + computed.failed
    if as_json:
        out.print_as_json(
            {
                "weeks": counted.weeks,
                "captures": counted.captures,
                "changed": counted.changed,
                "weeks_computed": computed.weeks,
                "weeks_unchanged": list(counted.failed),
                "failed": failed,
            }
        )
    else:
        for row in counted.changed:
            out.print(
                f"capture {row['id']} of {row['tier']}, week ending {row['week_ending']}: "
                f"{row['rows_accepted']:,} rows accepted, {row['rows_rejected']:,} rejected; "
                f"before {row['rows_accepted_before']:,} and {row['rows_rejected_before']:,}"
            )
        out.print(
            f"{counted.captures:,} captures of {len(counted.weeks):,} weeks counted again, {len(counted.changed):,} "
            f"changed; {len(computed.weeks):,} weeks computed"
        )
    exit_on_failures(failed)
