"""The terminal's door: parses, calls, prints. No logic.

Exit codes: 0 done; 1 something failed, and was said; 2 the command was not understood; 3 there are gaps
(``gaps --check``); 130 broken off with Ctrl-C.
"""

from __future__ import annotations

import datetime as dt
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from otc_assets.domain.weeks import NEW_YORK, T1, TIERS, Tier, newest_due, tier_of, week_start_of, weeks_between, weeks_up_to
from otc_assets.settings import Settings, settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="FINRA's OTC transparency data: captured whole, normalized, summarized, and reconciled.\n\n"
    "Weeks are named by the Friday they end with, YYYY-MM-DD; a range is A..B, both included. Settings come "
    "from the environment (OTC_DATABASE_URL, OTC_SOURCE, OTC_HOME, ...): see the README.",
    epilog="Begin with: otc-assets up",
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Refused(Exception):
    """What was asked for can't be done; the message says why and what to do."""


# --- what the commands have in common ------------------------------------------------------------------


def _friday(text: str) -> dt.date:
    try:
        week = dt.date.fromisoformat(text)
        week_start_of(week)
    except ValueError as error:
        raise typer.BadParameter(f"{error}. Name a week by its Friday, as in 2026-08-21.") from None
    return week


def _tier(text: str) -> Tier:
    try:
        return tier_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _weeks(text: str) -> list[dt.date]:
    first, dots, last = text.partition("..")
    weeks = weeks_between(_friday(first), _friday(last if dots else first))
    if not weeks:
        raise typer.BadParameter(f"{text}: the range ends before it begins. Write the older week first.")
    begin, newest = settings().first_week, newest_due(T1, dt.datetime.now(NEW_YORK))
    if weeks[0] < begin:
        raise typer.BadParameter(f"{weeks[0]} is before the first week wanted, {begin} (OTC_FIRST_WEEK).")
    if weeks[-1] > newest:
        raise typer.BadParameter(f"{weeks[-1]} is not published in any tier yet: the newest that is, is {newest}.")
    return weeks


Weeks = Annotated[
    list[dt.date], typer.Option("--weeks", parser=_weeks, metavar="A..B", help="A week (its Friday), or a range.")
]
TierOption = Annotated[
    Tier | None, typer.Option("--tier", parser=_tier, metavar="T1|T2|OTCE", help="Capture this tier alone.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _print_json(value: Any) -> None:
    out.print_json(json.dumps(value, default=str))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row))
    out.print(table)


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on the terminal, or a line a step where there is none."""
    if not err.is_terminal:
        yield lambda done, note: err.print(f"{what}: {done} of {total}: {note}" if total else f"{what}: {note}")
        return
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=err) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)


@contextmanager
def _installation(chosen: Settings) -> Iterator[str]:
    """The database, migrated, and Dagster's home: what every command but ``simulate`` needs."""
    from otc_assets import local  # Dagster takes a second to import: --help must not wait for it

    with local.database(chosen) as url:
        local.prepare(chosen, url)
        yield url
