"""Dagster's own programs as commands: every process of a container starts with ``otc-assets``.

Dagster's launchers of runs pass ``dagster api execute_run ...`` as the arguments of a container, so its entry point
takes them. The program replaces this process, and signals reach it directly. The processes of ``up`` are in
``local.services``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PYTHON = sys.executable


@dataclass(frozen=True)
class Program:
    """A program of Dagster's, with the help that the command shows for it."""

    command: tuple[str, ...]
    help: str


#: The programs by the name of their command.
PROGRAMS = {
    "dagster": Program(
        (str(Path(_PYTHON).with_name("dagster")),),
        "Run 'dagster', for example with the arguments 'instance migrate'.",
    ),
    "dagster-daemon": Program(
        (str(Path(_PYTHON).with_name("dagster-daemon")),),
        "Run 'dagster-daemon', for example with the arguments 'run -w workspace.yaml'.",
    ),
    "dagster-webserver": Program(
        (_PYTHON, "-m", "otc_assets.defs.web"),
        "Run 'dagster-webserver' behind the checks of docs/security.md.",
    ),
}


def replace_process(words: Sequence[str]) -> None:
    """Replaces this process if ``words``, a command line without ``otc-assets``, begin with one of the programs."""
    if words and words[0] in PROGRAMS:
        command = [*PROGRAMS[words[0]].command, *words[1:]]
        os.execv(command[0], command)  # noqa: S606 - a program of this environment
