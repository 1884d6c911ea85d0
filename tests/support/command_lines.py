"""Command lines of containers, parsed by the programs that they name, without running them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import typer
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import dagster_webserver

from otc_assets.cli.app import app
from otc_assets.cli.programs import PROGRAMS

_CLICK: dict[str, click.Command] = {
    "dagster": create_dagster_cli(),
    "dagster-daemon": create_dagster_daemon_cli(),
    "dagster-webserver": dagster_webserver,
    "otc-assets": typer.main.get_command(app),  # type: ignore[dict-item]
}
_WEBSERVER = PROGRAMS["dagster-webserver"].command


def parse(words: Sequence[str]) -> None:
    """Parses a command line as its program does. Commands and options that do not exist raise an error."""
    program, *rest = words
    if program == "otc-assets" and rest[0] in PROGRAMS:
        program, *rest = rest
    elif [program, *rest[:2]] == ["python", *_WEBSERVER[1:]]:
        program, rest = "dagster-webserver", rest[2:]
    command: Any = _CLICK[program]
    context = click.Context(command)
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
        context = click.Context(command, parent=context)
    command.make_context(command.name, rest)
