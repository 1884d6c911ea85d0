"""The documentation: the site builds, names every asset, and has only commands and statements that work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from support import installed

from otc_assets.cli.app import app
from otc_assets.settings import PROJECT_ROOT

PAGES = sorted(
    [*(PROJECT_ROOT / "docs").glob("*.md"), *PROJECT_ROOT.glob("README.md"), *PROJECT_ROOT.glob("helm/**/README.md")]
)
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
_INLINE = re.compile(r"`(otc-assets [^`\n]+)`")
#: A line of a table of commands: the name, and what it does.
_LISTED = re.compile(r" {3,}.*")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_so_without_a_broken_link(tmp_path: Path) -> None:
    """A page in no table of contents, a link to a missing page or section, and a wrong docstring are warnings."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path / "cache")]
    built = subprocess.run(
        [*command, str(PROJECT_ROOT / "docs"), str(tmp_path / "site")], capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stderr) == (0, "")
    page = (tmp_path / "site" / "tour.html").read_text()
    assert "symbol_concentration" in page


def test_every_query_in_the_documentation_runs(installation: Path, sql: psycopg.Connection[Any]) -> None:
    """On a database without rows: tables, columns and functions are there. Answers have tests of their own."""
    queries = 0
    for page in PAGES:
        for language, block in _BLOCK.findall(page.read_text()):
            text = re.sub(r"--.*", "", block).strip()
            of_duckdb = "read_parquet" in text  # tests/pipeline/test_export.py
            if language == "sql" and text.startswith(("SELECT", "WITH")) and not of_duckdb:
                # What a program binds: positions in the event store.
                sql.execute(text.replace(":xid", "'0'").replace(":id", "0").encode())
                queries += 1
    assert queries > 15


def test_the_tour_names_every_asset_once() -> None:
    headings = re.findall(r"^### (.*)$", (PROJECT_ROOT / "docs/tour.md").read_text(), re.M)
    named = sorted(name for heading in headings for name in heading.split(", "))
    assets = {key.to_user_string() for key in installed.definitions().resolve_asset_graph().get_all_asset_keys()}
    assert named == sorted(assets)


def _commands() -> Iterator[tuple[str, str]]:
    """Each command of ours in the documentation, with the page."""
    for page in PAGES:
        text = page.read_text()
        found = _INLINE.findall(text)
        for language, block in _BLOCK.findall(text):
            if language in ("", "sh", "console"):
                joined = block.replace("\\\n", " ")
                found += re.findall(r"(?:^|[ (])(otc-assets [^|;&)\n]*)", joined)
        for command in found:
            if "COMMAND" not in command:
                yield page.name, _LISTED.sub("", command).strip()


def _problem(command: str) -> str | None:
    """Why a command can't be parsed; None if it can."""
    words = [word for word in shlex.split(command, comments=True)[1:] if word not in ("--debug", "[OPTIONS]")]
    # Typer brings a click of its own, whose classes are not those of the package click.
    found: Any = typer.main.get_command(app)
    context = found.context_class(found, info_name="otc-assets")
    while hasattr(found, "get_command") and words and not words[0].startswith("-"):
        name = words.pop(0)
        if (inner := found.get_command(context, name)) is None:
            return f"no command {name}"
        found, context = inner, found.context_class(inner, info_name=name, parent=context)
    if not words or "--help" in words:
        return None
    try:
        found.make_context(found.name, words, parent=context.parent)
    except Exception as error:
        problem = str(getattr(error, "message", error))
        # Files and folders of the reader are not here.
        return None if "does not exist" in problem else f"{type(error).__name__}: {problem}"
    return None


def test_a_wrong_command_is_found() -> None:
    assert _problem("otc-assets gaps --chek") == "NoSuchOption: No such option: --chek"
    assert _problem("otc-assets events histori 2026-01-02") == "no command histori"
    assert "unexpected extra argument" in str(_problem("otc-assets status 2026-01-02"))


@pytest.mark.parametrize(("page", "command"), sorted(set(_commands())))
def test_every_command_in_the_documentation_is_one(page: str, command: str) -> None:
    """A command was renamed, or lost an option, and a page still had it."""
    assert _problem(command) is None, f"{page}: {command}"
