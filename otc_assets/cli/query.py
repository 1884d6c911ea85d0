"""The commands of ``otc-assets query``: one per verb of the client, and those that look names up.

They derive from ``client.verbs``. How rows are printed and written is in ``frames``. The commands are built when
``query`` is used, because the registry needs Polars, for which no other command's ``--help`` should wait.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from otc_assets.cli.frames import Format, show, table_rows
from otc_assets.cli.options import MOST_ROWS
from otc_assets.settings import settings

if TYPE_CHECKING:
    import polars as pl

    from otc_assets.client import Client, Verb

_WEEKS = "A day of the week, A..B, 'last 12', 'newest', or several separated by commas. Default: all weeks."
_Format = Annotated[Format | None, typer.Option(help="Default: table, or what the name of --output ends with.")]
_Output = Annotated[Path | None, typer.Option(dir_okay=False, help="Write a file: .csv, .json, .parquet or .xlsx.")]


class _Verbs(TyperGroup):
    """The group ``query``, whose commands are built when one is needed; names may have dashes."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's interface
        """The names of the verbs."""
        return list(_commands().commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command of a verb."""
        from otc_assets.client.verbs import BY_TABLE

        name = cmd_name.replace("-", "_")
        return _commands().commands.get(BY_TABLE.get(name, name))


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    help="Read the data: as a table, CSV, JSON, Parquet or Excel.\n\n"
    "Example: otc-assets query venue_volume AAPL --weeks 'last 12' --output apple.parquet\n\n"
    "The same verbs are in Python: otc_assets.client. Connecting other programs: docs/connecting.md",
)


@app.callback()
def _query() -> None:
    """Typer makes a group of it."""


@cache
def _commands() -> TyperGroup:
    from otc_assets.client.verbs import COMMON, VERBS

    verbs = typer.Typer()
    for name, function in (("describe", describe), ("describe_venue", describe_venue), ("find", find), ("sql", sql)):
        verbs.command(name, rich_help_panel="Look up")(function)
    for verb in VERBS.values():
        panel = "Read most" if verb.name in COMMON else "Other tables"
        verbs.command(verb.name, help=_help(verb), rich_help_panel=panel)(_reader(verb))
    group = typer.main.get_command(verbs)
    assert isinstance(group, TyperGroup)
    return group


def _help(verb: Verb) -> str:
    from otc_assets.domain.weeks import TIERS

    parts = [verb.description]
    for name, values in verb.defaults.items():
        every = "each of FINRA's tiers" if len(values) == len(TIERS) else ", ".join(values)
        parts.append(f"Without --{name.replace('_', '-')}: {every}.")
    return "\n\n".join([*parts, f"Columns: {', '.join(verb.table.schema)}."])


def _reader(verb: Verb) -> Callable[..., None]:
    """A function that reads the verb, with a parameter for each of its filters, as Typer reads them."""
    from otc_assets.client.verbs import FILTERS, SINCE_TEXT

    filters = list(verb.filters)
    first = next((name for name in ("symbols", "venues") if name in filters), None)
    parameters: dict[str, Any] = {}
    for name in sorted(filters, key=lambda name: name != first):
        described = FILTERS[name].description
        text = described[0].upper() + described[1:] + "."
        if choices := FILTERS[name].choices:
            text += f" One or several of {', '.join(choices)}."
        metavar = name.upper() if name == first else "A,B"
        kind = typer.Argument if name == first else typer.Option
        parameters[name] = Annotated[list[str] | None, kind(metavar=metavar, help=text)]
    parameters["weeks"] = Annotated[str | None, typer.Option(metavar="WEEKS", help=_WEEKS)]
    if verb.has_history:
        text = "A moment with a time zone, 2026-09-30T18:00:00-04:00: the rows as they were known then."
        parameters["as_of"] = Annotated[str | None, typer.Option(metavar="MOMENT", help=text)]
    if "known_to" in verb.table.schema:
        parameters["since"] = Annotated[str | None, typer.Option(metavar="DAY", help=SINCE_TEXT)]
    parameters["columns"] = Annotated[list[str] | None, typer.Option(metavar="A,B", help="Only these columns.")]
    parameters["sort"] = Annotated[
        list[str] | None, typer.Option(metavar="A,B", help="Sort by these columns; a minus before one: largest first.")
    ]
    parameters["limit"] = Annotated[int | None, typer.Option(min=0, max=MOST_ROWS, help="The largest number of rows.")]
    parameters |= {"format": _Format, "output": _Output}

    def read(**given: Any) -> None:
        from otc_assets.client import select

        shown, output, limit = given.pop("format"), given.pop("output"), given.pop("limit")
        values = {name: _split(given.pop(name)) for name in filters}
        columns, sort = _split(given.pop("columns")), _split(given.pop("sort"))
        most = table_rows(shown, output) if limit is None else None
        if sort:
            wanted = [*columns, *(name for name in map(_bare, sort) if name not in columns)] if columns else None
            with _client() as client:
                rows = client.rows(select(verb.name, values, columns=wanted, **given))
            show(_sorted(rows, sort, columns).head(limit), shown, output, most)
            return
        selection = select(verb.name, values, columns=columns, limit=limit if most is None else most + 1, **given)
        with _client() as client:
            show(client.rows(selection), shown, output, most)

    read.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in parameters.items()
        ]
    )
    read.__annotations__ = parameters
    return read


def _bare(column: str) -> str:
    return column.removeprefix("-")


def _sorted(rows: pl.DataFrame, sort: list[str], columns: list[str] | None) -> pl.DataFrame:
    names = [_bare(name) for name in sort]
    if unknown := [name for name in names if name not in rows.columns]:
        raise typer.BadParameter(f"there is no column {', '.join(unknown)}", param_hint="--sort")
    down = [name.startswith("-") for name in sort]
    return rows.sort(names, descending=down, nulls_last=True, maintain_order=True).select(columns or rows.columns)


def _split(values: list[str] | None) -> list[str] | None:
    return [part.strip() for value in values for part in value.split(",") if part.strip()] if values else None


@contextmanager
def _client() -> Iterator[Client]:
    """A client of the installation. An embedded database that is not running is started for the command.

    None is created: a new one has no rows, and the reader's OTC_HOME may not be that of the installation.
    """
    from otc_assets import embedded_files
    from otc_assets.client import Client, Unreachable

    chosen = settings()
    folder = chosen.home / embedded_files.FOLDER
    if chosen.database_url is None and not folder.exists():
        raise Unreachable(
            f"there is no database in {folder}",
            remedy="'otc-assets up' creates it. If it runs with other settings, set the same OTC_HOME here.",
        )
    with Client(timeout=0) as client:
        try:
            client.sql("SELECT 1 AS one")
        except Unreachable:
            if chosen.database_url is not None:
                raise
        else:
            yield client
            return
    from otc_assets.local import setup

    with setup.warehouse(chosen), Client(timeout=0) as client:
        yield client


def _show(work: Callable[[Client], pl.DataFrame], shown: Format | None, output: Path | None) -> None:
    with _client() as client:
        show(work(client), shown, output, table_rows(shown, output))


def describe(symbol: str, format: _Format = None, output: _Output = None) -> None:
    """What is known of a symbol: names, weeks, and the figures of its newest week."""
    _show(lambda client: client.describe(symbol), format, output)


def describe_venue(venue: str, format: _Format = None, output: _Output = None) -> None:
    """What is known of a venue: name, kind, weeks, and its share and rank in its newest week, by tier."""
    _show(lambda client: client.describe_venue(venue), format, output)


def find(
    text: str,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="The largest number of rows.")] = 20,
    format: _Format = None,
    output: _Output = None,
) -> None:
    """Symbols and venues whose identifier or name contains a text, in any case."""
    _show(lambda client: client.find(text, limit=limit), format, output)


def sql(statement: str, format: _Format = None, output: _Output = None) -> None:
    """The rows of one statement of SQL, which can only read."""
    _show(lambda client: client.sql(statement), format, output)
