"""What reaches the terminal: text as text whatever is in it, JSON that is JSON, and tables that fit."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.console_script import Run, console_script

from otc_assets.cli.terminal import Terminal, json_text
from otc_assets.text import printable_name
from otc_assets.warehouse import events
from otc_assets.warehouse.server import transaction

HOSTILE = "T1 [/bold][red]:warning: \x1b[31m\x9b2J\u202egpj.csv"
SHOWN = r"T1 [/bold][red]:warning: \x1b[31m\x9b2J\u202egpj.csv"


def on_a_terminal_of(width: int, show: Callable[[Terminal], None]) -> str:
    """What ``show`` prints on a terminal so wide, with colours."""
    terminal = Terminal()
    terminal.file = io.StringIO()
    terminal._width, terminal._force_terminal = width, True
    show(terminal)
    return terminal.file.getvalue()


def test_text_with_brackets_and_colons_is_printed_as_it_is() -> None:
    """`[/bold]` in a row of FINRA's once ended `events tail` with a traceback, and `:warning:` became a sign."""
    assert on_a_terminal_of(200, lambda t: t.print(HOSTILE)) == SHOWN + "\n"
    assert on_a_terminal_of(200, lambda t: t.note("failed", "red", HOSTILE)) == f"failed {SHOWN}\n"
    table = on_a_terminal_of(200, lambda t: t.print_table(["name"], [[HOSTILE], ["a\nb"]], header=False))
    assert [line.rstrip() for line in table.splitlines()] == [SHOWN, r"a\nb"]


def test_json_is_json_and_holds_no_control_character() -> None:
    value = {"name": HOSTILE + "\udcfc", "letters": "Zürich", "number": 1}
    text = json_text(value)
    assert json.loads(text) == value
    assert "Zürich" in text
    assert all(character.isprintable() or character == "\n" for character in text)
    assert json.loads(json_text(value, indent=None)) == value
    assert "\n" not in json_text(value, indent=None)


GAPS = [
    ["2021-12-10", "2026-05-29", 234, "NMS Tier 1", "missing_inside", "yes", "it was due on Monday, 2021-12-27"],
    ["2026-08-21", "2026-08-21", 1, "OTC", "incomplete", "no", "1,999 of FINRA's 12,345 rows are loaded: 10,346"],
]


def words_of(text: str) -> list[str]:
    return text.replace("_", "_ ").replace("..", ".. ").split()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_fits_the_terminal_and_no_word_of_it_is_broken(width: int) -> None:
    """`missing_inside` was printed as `missing_insi`, with `de` in the next line."""
    columns = ["first_week", "last_week", "weeks", "tier", "status", "fetchable", "detail"]
    text = on_a_terminal_of(width, lambda t: t.print_table(columns, GAPS, right=["weeks"]))
    plain = "".join(text.replace("\x1b[1m", "").replace("\x1b[0m", ""))
    lines = plain.splitlines()
    assert max(map(len, lines)) <= width
    allowed = {word for row in [columns, *GAPS] for cell in row for word in words_of(str(cell))}
    assert {word for word in plain.split() for word in words_of(word)} <= allowed
    assert len([line for line in lines if "2021-12-10" in line]) == 1


@pytest.mark.parametrize("width", [80, 100])
def test_sentences_of_the_last_column_are_below_their_row_where_the_table_is_too_wide(width: int) -> None:
    """The sentence of a gap was cut into a column of ten characters, one word per line."""
    columns = ["first_week", "last_week", "weeks", "tier", "status", "fetchable", "detail"]
    rows = [*GAPS, ["2026-08-28", "2026-08-28", 1, "OTC", "empty", "no", ""]]
    text = on_a_terminal_of(width, lambda t: t.print_table(columns, rows, right=["weeks"], notes=True))
    assert text.replace("\x1b[1m", "").replace("\x1b[0m", "") == (
        "first_week  last_week   weeks  tier        status          fetchable\n"
        "    detail\n"
        "2021-12-10  2026-05-29    234  NMS Tier 1  missing_inside  yes\n"
        "    it was due on Monday, 2021-12-27\n"
        "2026-08-21  2026-08-21      1  OTC         incomplete      no\n"
        "    1,999 of FINRA's 12,345 rows are loaded: 10,346\n"
        "2026-08-28  2026-08-28      1  OTC         empty           no\n"
    )
    # Where there is room, it is a column; where the other columns do not fit either, they are broken as in any table.
    for other in (120, 50):
        plain, with_notes = (
            on_a_terminal_of(other, lambda t, notes=notes: t.print_table(columns, rows, notes=notes))  # type: ignore[misc]
            for notes in (False, True)
        )
        assert plain == with_notes


def test_a_table_is_as_wide_as_its_text_where_there_is_room() -> None:
    lines = on_a_terminal_of(200, lambda t: t.print_table(["a", "b"], [["x" * 50, "y z " * 20]])).splitlines()
    assert len(lines) == 2
    assert lines[1].rstrip() == "x" * 50 + "  " + ("y z " * 20).rstrip()


def test_a_table_that_cannot_fit_becomes_a_list_of_fields() -> None:
    lines = on_a_terminal_of(30, lambda t: t.print_table(["first_week", "status"], [["2021-12-10", "missing_inside"]]))
    assert lines.splitlines()[0].split() == ["first_week", "status"]
    columns = ["week_ending", "tier", "status"]
    lines = on_a_terminal_of(20, lambda t: t.print_table(columns, [["2021-12-10", "OTC", "late"], ["a", "b", "c"]]))
    assert [line.split() for line in lines.splitlines()] == [
        ["week_ending", "2021-12-10"],
        ["tier", "OTC"],
        ["status", "late"],
        [],
        ["week_ending", "a"],
        ["tier", "b"],
        ["status", "c"],
    ]


def test_a_word_longer_than_any_column_is_shown_whole_in_parts() -> None:
    digest = "0123456789abcdef" * 4
    text = on_a_terminal_of(40, lambda t: t.print_table(["n", "digest"], [["", digest]], header=False))
    assert max(map(len, text.splitlines())) <= 40
    assert "".join(text.split()) == digest
    assert len(text.splitlines()) == 2


# --- commands ------------------------------------------------------------------------------------------


@pytest.fixture
def run(installation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as the console script does, on a terminal of 80 columns."""
    return console_script(monkeypatch, capsys, width=80)


def test_hostile_text_in_events_ends_no_command_and_reaches_no_terminal(
    run: Callable[..., tuple[int, str, str]], engine: sa.Engine
) -> None:
    reason = HOSTILE + " is not a publication"
    with events.event_context("run-7"), transaction(engine) as connection:
        event = events.append(connection, events.FileRejected(origin=HOSTILE, reason=reason))
    for arguments in (["events", "tail"], ["events", "show", str(event.id)]):
        code, text, errors = run(*arguments)
        assert (code, errors) == (0, "")
        assert "[/bold]" in text
        assert r"\x1b[31m" in text
        assert all(character.isprintable() or character == "\n" for character in text)
        assert max(map(len, text.splitlines())) <= 80
        code, text, errors = run(*arguments, "--json")
        assert json.loads(text)["payload"]["reason"] == reason


def test_a_hostile_file_name_ends_ingest_with_its_reason(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / HOSTILE
    code, _, text = run("ingest", str(path))
    assert (code, text) == (1, f"no such file: {printable_name(str(path))}\n")
    path.parent.mkdir()  # "T1 [": the slash of the closing tag separates folders
    path.write_text("<html>Sorry</html>")
    code, _, text = run("ingest", str(path))
    assert code == 1
    assert SHOWN.rpartition("/")[2] in text
    assert "it is a page of HTML" in text
    assert "\x1b" not in text


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_file_name_that_is_not_text_is_shown_on_any_terminal(tmp_path: Path, encoding: str) -> None:
    """Lone surrogates stand for the bytes of such a name, and can't be printed."""
    code = "import sys; from otc_assets import cli; sys.argv[0] = 'otc-assets'; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "ingest", os.fsencode(tmp_path) + b"/T1 \xfcber\xc3\xbc.csv"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    shown = "ü".encode() if encoding == "utf-8" else rb"\xfc"
    assert done.returncode == 1
    assert done.stderr.endswith(rb"/T1 \xfcber" + shown + b".csv\n")
