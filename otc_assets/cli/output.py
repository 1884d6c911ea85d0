"""What commands print with: the two consoles, progress, and output that several commands share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from otc_assets.cli.terminal import Terminal
from otc_assets.text import printable

if TYPE_CHECKING:
    from otc_assets.warehouse.migrate import Migrated

out = Terminal()
err = Terminal(stderr=True)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on a terminal; elsewhere, one line per step."""
    if not err.is_terminal:
        printed: set[str] = set()

        def print_once(done: int, note: str) -> None:
            if note not in printed:
                printed.add(note)
                err.print(printable(f"{what}: {f'{done} of {total}: ' if total else ''}{note}".rstrip(": "), keep=""))

        yield print_once
        return
    bar_columns = [BarColumn(20), MofNCompleteColumn()] if total else []
    note = TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), *bar_columns, TimeElapsedColumn(), note]
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda done, note: bar.update(task, completed=done, note=printable(note, keep=""))


def exit_on_failures(failed: Sequence[str]) -> None:
    """Prints what failed; with any failure, ends the command with exit code 1."""
    for text in failed:
        err.note("failed", "red", text)
    if failed:
        raise typer.Exit(1)


def print_waiting() -> None:
    """Why ``up`` and ``migrate`` wait before they move Dagster's tables."""
    err.print("waiting   up to 75 s, to make sure that no Dagster daemon of an earlier version is running")


def print_remarks(migrated: Migrated, indent: str = "") -> None:
    """What a migration left undone, and the shorter retention that it did not apply."""
    for remark in filter(None, [migrated.remark, *migrated.held_back]):
        err.note("", "yellow", f"{indent}{remark}")


def print_first_publications(first_week: dt.date, now: dt.datetime) -> None:
    """The tiers in which the first week is not published yet, and when it will be."""
    from otc_assets.domain.weeks import TIERS, newest_due, publication_date

    for tier in TIERS:
        if newest_due(tier, now) < first_week:
            begins = publication_date(first_week, tier)
            err.print(f"{tier.id:<10}begins on {begins}, with the week {first_week} (OTC_FIRST_WEEK)")
