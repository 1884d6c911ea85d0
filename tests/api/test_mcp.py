"""The MCP server, by the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client as McpClient
from mcp.client.stdio import StdioServerParameters
from support.first_run import REVISED, FirstRun

from otc_assets.api import tools
from otc_assets.api.tools import make_server
from otc_assets.client import VERBS, Client
from otc_assets.client.verbs import COMMON


@pytest.fixture
def call(reader: Client) -> Callable[..., Any]:
    """Calls a tool: (whether it failed, its text)."""
    server = make_server(reader)

    def call(name: str, **arguments: Any) -> tuple[bool, str]:
        async def run() -> tuple[bool, str]:
            async with McpClient(server) as client:
                result = await client.call_tool(name, arguments)
                return bool(result.is_error), result.content[0].text  # type: ignore[union-attr]

        return asyncio.run(run())

    return call


def test_every_verb_that_is_read_most_is_a_tool_with_typed_parameters(reader: Client) -> None:
    async def listed() -> Any:
        async with McpClient(make_server(reader)) as client:
            return (await client.list_tools()).tools

    found = {tool.name: tool for tool in asyncio.run(listed())}
    assert set(found) == COMMON | {"read_table", "describe", "describe_venue", "find", "table_columns"}
    assert all(tool.annotations.read_only_hint for tool in found.values())
    parameters = found["rolling"].input_schema["properties"]
    assert set(parameters) == {"symbols", "tiers", "weeks", "as_of", "columns", "limit"}
    assert "since" in found["revisions"].input_schema["properties"]
    assert parameters["limit"]["maximum"] == tools.MAX_ROWS
    assert parameters["tiers"]["anyOf"][0]["items"]["enum"] == ["T1", "T2", "OTCE", "ALL"]
    tables = found["read_table"].input_schema["properties"]["table"]["enum"]
    assert set(tables) | COMMON == set(VERBS)


def test_a_tools_rows_are_those_of_the_simulator(call: Callable[..., Any], first_run: FirstRun) -> None:
    failed, text = call(
        "venue_volume", symbols=["AAPL"], weeks=str(REVISED), columns=["venue_id", "share_volume"], limit=500
    )
    rows = json.loads(text, parse_float=Decimal)
    expected = first_run.duck.execute(
        "SELECT id, shares FROM rows WHERE symbol = 'AAPL' AND week = ?", [REVISED]
    ).fetchall()
    assert not failed
    assert rows["rows"] == len(expected)
    assert sorted((row["venue_id"], row["share_volume"]) for row in rows["data"]) == sorted(expected)
    assert "truncated" not in rows


def test_results_are_bounded_in_rows_and_characters_and_say_so(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = call("summary", limit=3)
    assert (json.loads(text)["rows"], "There are more rows" in json.loads(text)["truncated"]) == (3, True)
    found = [json.loads(call("find", text=text, limit=1)[1]) for text in ("inc", "AAPL")]
    assert [(each["rows"], "truncated" in each) for each in found] == [(1, True), (1, False)]
    monkeypatch.setattr(tools, "MAX_CHARACTERS", 2000)
    _, text = call("summary", limit=100)
    assert len(text) < 2200
    assert json.loads(text)["rows"] == len(json.loads(text)["data"]) > 0
    assert "truncated" in json.loads(text)
    failed, _ = call("summary", limit=tools.MAX_ROWS + 1)
    assert failed


def test_errors_are_results_that_say_what_to_do(call: Callable[..., Any]) -> None:
    failed, text = call("describe", symbol="AAPLE")
    assert failed
    assert "Similar: AAPL" in text
    failed, text = call("summary", weeks="yesterday")
    assert failed
    assert "'last 12'" in text
    assert "Apple Inc." in call("describe", symbol="AAPL")[1]
    assert "UBSA" in call("describe_venue", venue="UBSA")[1]
    assert "116797" in call("find", text="citadel")[1]
    assert "the Friday on which the week ends" in call("table_columns", table="summary")[1]
    assert json.loads(call("read_table", table="week_calendar", weeks="newest")[1])["rows"] == 3


def test_the_command_serves_on_standard_input_and_output(first_run: FirstRun, tmp_path: Any) -> None:
    parameters = StdioServerParameters(
        command=str(Path(sys.executable).with_name("otc-assets")),
        args=["mcp"],
        env={"OTC_DATABASE_URL": first_run.reader_url, "OTC_HOME": str(tmp_path)},
    )

    async def run() -> str:
        async with McpClient(parameters) as client:
            result = await client.call_tool("find", {"text": "AAPL"})
            return str(result.content[0].text)  # type: ignore[union-attr]

    assert json.loads(asyncio.run(run()))["data"][0]["id"] == "AAPL"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_ends_the_command_although_standard_input_is_open(
    first_run: FirstRun, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """It waited for a line of standard input: Ctrl-C seemed to do nothing, and a container was killed."""
    environment = {**os.environ, "OTC_DATABASE_URL": first_run.reader_url, "OTC_HOME": str(tmp_path)}
    command = [str(Path(sys.executable).with_name("otc-assets")), "mcp"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(number)
        assert process.wait(60) == code
        assert "Traceback" not in process.stderr.read()
