"""The ``events`` commands: what happened to files, weeks, figures, gaps, checks and retention."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from otc_assets import interruption
from otc_assets.cli.options import MOST_ROWS, Json, friday
from otc_assets.cli.output import err, out
from otc_assets.settings import settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Show what happened to files, weeks, figures, gaps, checks and retention.",
    epilog="Example: otc-assets events history 2026-08-21",
)


def _event_type(text: str) -> str:
    from otc_assets.warehouse.events import PAYLOADS

    if text not in PAYLOADS:
        raise typer.BadParameter(f"unknown event type {text!r}. The types are {', '.join(sorted(PAYLOADS))}.")
    return text


def _event_id(text: str) -> int | UUID:
    try:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither the number of an event nor an event_id (a UUID).") from None


def _print_events(found: Sequence[dict[str, Any]], *, header: bool = True) -> None:
    rows = [[str(e["id"]), e["created_at"][:19].replace("T", " "), e["event_type"], e["what"]] for e in found]
    # Wide enough for any event, so that later rows are aligned with earlier ones.
    at_least = {"id": 6, "at (UTC)": 19, "type": 21}
    columns = ["id", "at (UTC)", "type", "what"]
    out.print_table(columns, rows, right=["id"], header=header, at_least=at_least, notes=True)


@app.command()
def tail(
    count: Annotated[
        int, typer.Option("-n", "--newest", min=0, max=MOST_ROWS, help="Number of most recent events.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep running and print new events; Ctrl-C stops it.")
    ] = False,
    event_type: Annotated[
        str | None,
        typer.Option("--type", parser=_event_type, metavar="TYPE", help="Only events of this type."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Show the most recent events, oldest first.

    With --follow no event is omitted or repeated. An event is printed once every transaction that started to write
    before its own has ended. Example: otc-assets events tail --follow --type otc.week.revised
    """
    from otc_assets.local import setup
    from otc_assets.reports import events as reports

    def print_batch(found: Sequence[dict[str, Any]], *, header: bool = True) -> None:
        if as_json:
            for event in found:
                out.print_as_json(event, indent=None)
        else:
            _print_events(found, header=header)

    with setup.warehouse(settings()) as database:
        if follow:
            with interruption.waiting() as wait:
                for number, found in enumerate(reports.follow_events(database, count, event_type, wait)):
                    print_batch(found, header=number == 0)
            raise typer.Exit(interruption.exit_code())
        newest = reports.newest_events(database, count, event_type)
    if newest or as_json:
        print_batch(newest)
    else:
        err.print("no events yet" if event_type is None else f"no {event_type} events yet")


@app.command()
def show(
    event_id: Annotated[
        Any, typer.Argument(parser=_event_id, metavar="EVENT_ID", help="The event's number, or its event_id.")
    ],
    as_json: Json = False,
) -> None:
    """Show everything that is stored about one event.

    Example: otc-assets events show 42
    """
    from otc_assets.local import setup
    from otc_assets.reports import events as reports

    with setup.warehouse(settings()) as database:
        event = reports.event_of(database, event_id)
    if as_json:
        out.print_as_json(event)
        return
    rows = [[name, str(event[name])] for name in ("id", "event_id", "event_type", "created_at", "what")]
    rows += [[event["aggregate_type"], f"{event['aggregate_id']}, version {event['version']}"]]
    for part in ("payload", "metadata"):
        rows += [[f"{part}.{name}", json.dumps(value)] for name, value in sorted(event[part].items())]
    out.print_table(["field", "value"], rows)


@app.command()
def history(
    week: Annotated[dt.date, typer.Argument(parser=friday, metavar="WEEK", help="The week, by its Friday.")],
    as_json: Json = False,
) -> None:
    """Show the state of a week by tier, and all its events, oldest first.

    Example: otc-assets events history 2026-08-21
    """
    from otc_assets.local import setup
    from otc_assets.reports import events as reports

    with setup.warehouse(settings()) as database:
        found = reports.week_history(database, week)
    if as_json:
        out.print_as_json(found)
        return
    if not found["events"]:
        out.print(f"no events for the week ending {week}")
        return
    columns = ["tier", "state", "rows", "shares", "grade", "revisions"]
    shown = [{**row, "shares": None if row["shares"] is None else int(row["shares"])} for row in found["tiers"]]
    out.print_table(columns, [[row[c] for c in columns] for row in shown], right=["rows", "shares", "revisions"])
    out.print()
    _print_events(found["events"])


@app.command()
def replay(as_json: Json = False) -> None:
    """Recompute week_state, file_ledger and gap_ledger from the events alone. Other writers wait meanwhile.

    Example: otc-assets events replay
    """
    from otc_assets.local import setup
    from otc_assets.reports import events as reports

    with setup.warehouse(settings()) as database:
        done = reports.replay_events(database)
    if as_json:
        out.print_as_json(done)
    else:
        rows = ", ".join(f"{count:,} in {table}" for table, count in done["rows"].items())
        out.print(f"{done['events']:,} events replayed; rows: {rows}")
