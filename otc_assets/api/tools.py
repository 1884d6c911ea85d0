"""The MCP server: the client's verbs as tools of an AI assistant, on standard input and output.

A tool's result is bounded, because all of it becomes part of a conversation. Rows are the same JSON as over HTTP.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import polars as pl
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from otc_assets.api.formats import json_rows
from otc_assets.api.parameters import AS_OF_TEXT, WEEKS_TEXT
from otc_assets.client import FILTERS, VERBS, Client, select
from otc_assets.client.verbs import ALL_TIERS, COMMON, HAVE_ALL_TIERS, SINCE_TEXT, Verb
from otc_assets.domain.weeks import TIERS
from otc_assets.errors import OtcError
from otc_assets.settings import without_secrets

#: Rows of a result, and the characters that it may have.
DEFAULT_ROWS, MAX_ROWS, MAX_CHARACTERS = 50, 500, 60_000

_INSTRUCTIONS = """FINRA's weekly off-exchange volume of US stocks at each ATS (dark pool) and non-ATS firm.
Weeks end on a Friday (`week_ending`). Tiers: T1 and T2 are NMS stocks, OTCE are OTC equities; T2 and OTCE are
published two weeks after T1. Shares and money are exact decimals. `find` gives identifiers of symbols and venues;
`table_columns` says what a column means. Results are bounded: ask for few weeks and columns, and follow `truncated`."""

_OTHERS = tuple(name for name in VERBS if name not in COMMON)
_LIMIT = Annotated[int, Field(ge=1, le=MAX_ROWS, description="The largest number of rows.")]


def make_server(client: Client) -> MCPServer:
    """The server, with a tool for each verb that is read most, and one for the other tables."""
    version = importlib.metadata.version("otc-assets")
    server: MCPServer = MCPServer("otc-assets", instructions=_INSTRUCTIONS, version=version, log_level="WARNING")
    read_only = ToolAnnotations(read_only_hint=True, open_world_hint=False)

    def add(function: Callable[..., str], description: str) -> None:
        server.add_tool(
            function,
            name=function.__name__,
            description=description,
            annotations=read_only,
            structured_output=False,
        )

    for verb in VERBS.values():
        if verb.name in COMMON:
            add(_tool(client, verb), verb.description)

    def read_table(
        table: Annotated[Literal[_OTHERS], Field(description="The table.")],  # type: ignore[valid-type]
        symbols: Annotated[list[str] | None, Field(description=_text("symbols"))] = None,
        weeks: Annotated[str | None, Field(description=WEEKS_TEXT)] = None,
        columns: Annotated[list[str] | None, Field(description="Only these columns.")] = None,
        limit: _LIMIT = DEFAULT_ROWS,
    ) -> str:
        filters = {"symbols": symbols}
        return _answered(lambda: _rows_of(client, table, filters, limit, weeks=weeks, columns=columns))

    def describe(symbol: Annotated[str, Field(description="A ticker, case-sensitive.")]) -> str:
        return _answered(lambda: _bounded(client.describe(symbol), MAX_ROWS))

    def describe_venue(venue: Annotated[str, Field(description=_text("venues"))]) -> str:
        return _answered(lambda: _bounded(client.describe_venue(venue), MAX_ROWS))

    def find(
        text: Annotated[str, Field(description="A part of a symbol, MPID, CRD number or name.")],
        limit: _LIMIT = DEFAULT_ROWS,
    ) -> str:
        return _answered(lambda: _bounded(client.find(text, limit=limit + 1), limit))

    def table_columns(table: Annotated[Literal[tuple(VERBS)], Field(description="The table.")]) -> str:  # type: ignore[valid-type]
        schema = VERBS[table].table.schema
        return json.dumps({name: str(VERBS[table].table.note(name)) for name in schema})

    add(read_table, f"Other tables: {'; '.join(f'{name}: {VERBS[name].description}' for name in _OTHERS)}")
    add(describe, "What is known of a symbol: names, weeks, and the figures of its newest week.")
    add(describe_venue, "What is known of a venue: name, kind, weeks, and its share and rank in its newest week.")
    add(find, "Symbols and venues whose identifier or name contains a text, in any case.")
    add(table_columns, "The columns of a table, with their meaning and unit.")
    return server


def run() -> None:
    """Serves until standard input ends."""
    with Client(timeout=30, connections=2) as client:
        make_server(client).run("stdio")


# --- one tool of a verb --------------------------------------------------------------------------------


def _text(name: str) -> str:
    text = FILTERS[name].description
    return f"{text[0].upper()}{text[1:]}."


def _filter(name: str, verb: Verb) -> Any:
    choices = tuple(map(str, FILTERS[name].choices))
    if name == "tiers":
        choices = (*(tier.id for tier in TIERS), *([ALL_TIERS] if verb.table.name in HAVE_ALL_TIERS else []))
    kind: Any = Literal[choices] if choices else str
    default = f" Default: {', '.join(verb.defaults[name])}." if name in verb.defaults else ""
    return Annotated[list[kind] | None, Field(description=_text(name) + default)]


def _tool(client: Client, verb: Verb) -> Callable[..., str]:
    """A function that reads a verb, with a typed parameter for each of its filters."""
    parameters = {name: _filter(name, verb) for name in verb.filters}
    parameters["weeks"] = Annotated[str | None, Field(description=WEEKS_TEXT)]
    if verb.has_history:
        parameters["as_of"] = Annotated[str | None, Field(description=AS_OF_TEXT)]
    if "known_to" in verb.table.schema:
        parameters["since"] = Annotated[str | None, Field(description=SINCE_TEXT)]
    columns: Any = Literal[tuple(verb.table.schema)]
    parameters["columns"] = Annotated[list[columns] | None, Field(description="Only these columns.")]

    def tool(*, limit: int = DEFAULT_ROWS, **given: Any) -> str:
        filters = {name: given.pop(name, None) for name in verb.filters}
        return _answered(lambda: _rows_of(client, verb.name, filters, limit, **given))

    tool.__name__ = verb.name
    tool.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                for name, annotation in parameters.items()
            ),
            inspect.Parameter("limit", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_ROWS, annotation=_LIMIT),
        ],
        return_annotation=str,
    )
    return tool


def _rows_of(client: Client, verb: str, filters: dict[str, Any], limit: int, **options: Any) -> str:
    given = {name: values for name, values in filters.items() if values is not None}
    return _bounded(client.rows(select(verb, given, limit=limit + 1, **options)), limit)


def _bounded(frame: pl.DataFrame, limit: int) -> str:
    """Rows as JSON: no more than ``limit``, and as many as fit."""
    rows = json_rows(frame.head(limit))
    shown, length = 0, 0
    for row in rows:
        length += len(row) + 2
        if length > MAX_CHARACTERS:
            break
        shown += 1
    data = ",\n".join(rows[:shown])
    text = f'{{"rows":{shown},"data":[{data}]'
    if shown < frame.height:
        text += ',"truncated":"There are more rows: ask for fewer weeks, symbols or columns, or raise limit."'
    return text + "}"


def _answered(work: Callable[[], str]) -> str:
    try:
        return work()
    except OtcError as error:
        raise ToolError(without_secrets(str(error))) from None
