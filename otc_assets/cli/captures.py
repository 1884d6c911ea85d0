"""The ``captures`` commands: which captures are effective, their lines, and the decisions of an operator about them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from otc_assets.cli.installation import launcher
from otc_assets.cli.options import Json, OptionalWeeks
from otc_assets.cli.output import err, exit_on_failures, out, progress
from otc_assets.domain.enums import CaptureStatus
from otc_assets.settings import settings
from otc_assets.text import printable

if TYPE_CHECKING:
    import sqlalchemy as sa

    from otc_assets.warehouse.publication import Publication

app = typer.Typer(
    no_args_is_help=True,
    help="Show captures, their status and their lines; accept, withdraw and restore captures.",
    epilog="Example: otc-assets captures list --weeks 2026-08-07..2026-08-28",
)

_STATUSES = tuple(CaptureStatus)

CaptureId = Annotated[int, typer.Argument(metavar="ID", help="The capture's id, as 'captures list' shows it.")]


@app.command("list")
def list_captures(
    weeks: OptionalWeeks = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only captures of this status: effective, superseded, quarantined, withdrawn or empty."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List captures, oldest week first, with their status.

    effective: the week is computed from it. superseded: another capture has newer rows. quarantined: it lacks a large
    part of the capture before it, or was truncated, and waits for a decision. empty: no row of it was accepted.
    """
    from otc_assets.local import setup
    from otc_assets.reports import captures as reports

    if status is not None and status not in _STATUSES:
        raise typer.BadParameter(f"unknown status {status!r}. The statuses are {', '.join(_STATUSES)}.")
    span = (weeks.weeks[0], weeks.weeks[-1]) if weeks else (dt.date.min, dt.date.max)
    with setup.warehouse(settings()) as database:
        found = [r for r in reports.captures(database, *span) if status in (None, r["status"])]
    if as_json:
        out.print_as_json(found)
    elif not found:
        out.print("no captures")
    else:
        columns = ["id", "week_ending", "tier", "scope", "rows", "in_use", "updated", "status", "origin"]
        shown = [
            [
                str(r["id"]),
                r["week_ending"],
                r["tier"],
                r["scope"],
                r["rows_accepted"],
                r["rows_in_use"],
                r["last_update_date"],
                r["status"],
                r["origin"].rpartition("/")[2],  # of an address, what was requested
            ]
            for r in found
        ]
        out.print_table(columns, shown, right=["id", "rows", "in_use"], notes=True)


@app.command()
def show(capture_id: CaptureId, as_json: Json = False) -> None:
    """Show everything that is recorded about a capture."""
    from otc_assets.local import setup
    from otc_assets.reports import captures as reports

    with setup.warehouse(settings()) as database:
        found = reports.capture(database, capture_id)
    if as_json:
        out.print_as_json(found)
    else:
        out.print_table(["field", "value"], [[name, str(value)] for name, value in found.items() if value is not None])


@dataclass(frozen=True)
class LineRange:
    """Lines of a file, as named on the command line."""

    first: int
    last: int


def line_range(text: str) -> LineRange:
    """Lines, from ``N`` or ``A..B``."""
    first, dots, last = text.partition("..")
    try:
        found = LineRange(int(first), int(last if dots else first))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write a line as 20000, or lines as 20000..20010.") from None
    if found.last < found.first:
        raise typer.BadParameter(f"{text}: the range ends before it begins. Write the smaller line first.")
    return found


@app.command()
def lines(
    capture_id: CaptureId,
    chosen: Annotated[
        LineRange | None,
        typer.Argument(parser=line_range, metavar="[LINE|A..B]", help="A line of the file, or a range. Default: all."),
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Only the lines of this symbol.")] = None,
    as_json: Json = False,
) -> None:
    """Print lines of a capture as FINRA sent them, with their numbers, from the archive.

    The header of a file is line 1; records in JSON are counted from 1. Whose lines they are, and the header, are
    printed before them, to standard error. Example: otc-assets captures lines 52 --symbol AAPL
    """
    from otc_assets.archive.opening import open_archive
    from otc_assets.local import setup
    from otc_assets.pipeline.lines import capture_lines
    from otc_assets.reports import captures as reports

    archive = open_archive(settings().archive)
    span = {"first": chosen.first, "last": chosen.last} if chosen else {}
    with setup.warehouse(settings()) as database:
        found = capture_lines(database, archive, capture_id, **span, symbol=symbol)
        whose = reports.capture(database, capture_id)
    err.print(f"capture {capture_id}: {whose['tier']} of the week ending {whose['week_ending']}, {whose['status']}")
    if found.header is not None:
        err.print(found.header)
    if as_json:
        out.print_as_json(found.rows.to_dicts())
    elif found.rows.is_empty():
        err.print("no rows")
    else:
        width = len(str(found.rows["line"].max()))
        for line, record in found.rows.iter_rows():
            print(f"{line:>{width}}  {printable(record)}")


@app.command()
def accept(capture_id: CaptureId) -> None:
    """Make a quarantined capture effective, and recompute its week.

    Example: otc-assets captures accept 52
    """
    from otc_assets.pipeline import captures

    _decide(lambda connection: captures.accept(connection, capture_id), "effective")


@app.command()
def withdraw(
    capture_id: CaptureId,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded with the withdrawal.")],
) -> None:
    """Make a capture ineffective, and recompute its week. 'captures restore' reverts it.

    Example: otc-assets captures withdraw 52 --reason "downloaded from a test page"
    """
    from otc_assets.pipeline import captures

    _decide(lambda connection: captures.withdraw(connection, capture_id, reason), "withdrawn")


@app.command()
def restore(capture_id: CaptureId) -> None:
    """Revert the withdrawal of a capture, and recompute its week."""
    from otc_assets.pipeline import captures

    _decide(lambda connection: captures.restore(connection, capture_id), "restored")


def _decide(decide: Callable[[sa.Connection], Publication], done: str) -> None:
    from otc_assets.defs.materialize import compute_stale

    with launcher(settings()) as opened:
        with opened.database.transaction() as connection:
            capture = decide(connection)
        out.print(f"capture {capture.id} of {capture.tier}, week ending {capture.week_ending}, is {done}")
        with progress("computing weeks") as tick:
            failed = compute_stale(opened, [capture.week_ending], tick).failed
    exit_on_failures(failed)
