"""Runs a command as the console script does, in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from otc_assets import cli
from otc_assets.settings import settings

#: Runs a command with these arguments: (exit code, standard output, standard error).
Run = Callable[..., tuple[int, str, str]]


def console_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *group: str, width: int = 200
) -> Run:
    """A function that runs a command on a terminal. Every command reads the settings again.

    Args:
        monkeypatch: the test's.
        capsys: the test's.
        group: the words before the arguments, such as ``events``.
        width: the columns that standard output has; standard error always has 200.
    """
    monkeypatch.setattr(cli.out, "_width", width)
    monkeypatch.setattr(cli.err, "_width", 200)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["otc-assets", *group, *arguments])
        settings.cache_clear()
        with pytest.raises(SystemExit) as end:
            cli.main()
        settings.cache_clear()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return command
