"""How the command line shows errors: those written for users in a line, any other as the bug it is."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import sqlalchemy as sa
import time_machine
from dagster_postgres.utils import DagsterPostgresException

from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.errors import OtcError
from otc_assets.reports import weeks as reports
from otc_assets.settings import InvalidSettings, settings
from otc_assets.warehouse.migrate import newest_version

Command = Callable[..., tuple[int, str, str]]


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def test_an_error_has_its_remedy_after_its_message_also_from_another_process() -> None:
    """Dagster's executors pickle exceptions."""
    error = OtcError("port 3000 is in use", remedy="Choose another port: --port.")
    assert (str(error), error.remedy) == (
        "port 3000 is in use. Choose another port: --port.",
        "Choose another port: --port.",
    )
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(copy), copy.remedy) == (str(error), error.remedy)
    assert (str(OtcError("done")), OtcError("done").remedy) == ("done", "")
    unreadable = UnreadableFile("a.csv", "it is empty", "Download it again", line=3)
    assert str(unreadable) == "a.csv, line 3: it is empty. Download it again"
    assert unreadable.remedy == "Download it again"


def test_an_error_for_users_is_one_line_and_has_a_traceback_only_with_debug(
    otc: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "storage_by_table", raising(OtcError("it is full", remedy="Empty it.")))
    assert otc("storage") == (1, "", "it is full. Empty it.\n")
    code, _, errors = otc("--debug", "storage")
    assert code == 1
    assert errors.startswith("Traceback (most recent call last):\n")
    assert "in fail\n    raise error\n" in errors
    assert errors.endswith("\nit is full. Empty it.\n")


@pytest.mark.parametrize(
    "error", [KeyError("hhi"), ValueError("hhi\nmore"), RuntimeError("hhi"), AssertionError("hhi")]
)
def test_any_other_error_is_shown_as_a_bug_with_how_to_report_it(
    otc: Command, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A ValueError of a library was shown as if the user had made a mistake, and a KeyError as a bare traceback."""
    monkeypatch.setattr(reports, "storage_by_table", raising(error))
    code, output, errors = otc("storage", "--json")
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    name = type(error).__name__
    assert re.fullmatch(
        rf"bug in otc-assets [\d.]+: {name}: '?hhi'?\. Report it to the maintainers with the output of: "
        r"otc-assets --debug storage --json",
        line,
    )
    code, _, errors = otc("--debug", "storage", "--json")
    assert code == 1
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.splitlines()[-1] == line


def test_an_error_that_dagster_raises_from_one_of_the_database_is_no_bug(
    otc: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped server was shown as 'bug in otc-assets: DagsterPostgresException: too many retries'."""
    error = DagsterPostgresException("too many retries for DB connection")
    error.__cause__ = sa.exc.OperationalError("SELECT 1", {}, Exception("connection refused"))
    monkeypatch.setattr(reports, "storage_by_table", raising(error))
    assert otc("storage") == (1, "", "database error: connection refused\n")


def test_a_bug_and_its_traceback_have_no_password(otc: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "storage_by_table", raising(KeyError("postgresql://me:hunter2@host/otc")))
    _, _, errors = otc("--debug", "storage")
    assert "me:***@host" in errors
    assert "hunter2" not in errors


def test_an_error_of_the_operating_system_is_no_bug(otc: Command, tmp_path: Path) -> None:
    """A folder that can't be made ended in a traceback."""
    blocked = tmp_path / "a file"
    blocked.touch()
    code, _, errors = otc("simulate", str(blocked / "files"), "--weeks", "2026-08-21")
    assert code == 1
    assert errors.splitlines()[-1] == f"[Errno 20] Not a directory: '{blocked / 'files'}'"


def test_a_migration_that_does_not_exist_is_refused_with_those_that_do(otc: Command) -> None:
    """It ended in a traceback of Alembic's."""
    code, _, errors = otc("migrate", "--to", "999")
    assert code == 1
    (line,) = errors.splitlines()
    assert line.startswith("there is no migration '999'. The migrations are base, 020, 021, ")
    assert line.endswith(f"{newest_version()}, head.")


@pytest.mark.parametrize("scale", ["0", "-1", "5", "nan", "large"])
def test_a_scale_that_the_settings_would_refuse_is_refused_as_an_option_too(otc: Command, scale: str) -> None:
    """`--scale -1` wrote files without an error."""
    code, _, errors = otc("simulate", "files", "--weeks", "2026-08-21", "--scale", scale)
    assert code == 2
    assert f"'{scale}' is not a number above 0 and up to 4" in " ".join(errors.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [["up"], ["metrics"], ["simulate", "--serve"]])
def test_a_port_that_does_not_exist_is_a_usage_error(otc: Command, arguments: list[str]) -> None:
    """`metrics --port 99999` served on port 34463, which is 99999 modulo 65536."""
    code, _, errors = otc(*arguments, "--port", "99999")
    assert code == 2
    assert "--port" in errors
    assert "65535" in errors


def test_an_unknown_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the simulator: simulated rows would have been loaded as FINRA's."""
    monkeypatch.setenv("OTC_SOURCE", "finra")
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match="OTC_SOURCE: Input should be 'simulator', 'api' or 'files'"):
        settings()
    settings.cache_clear()


@pytest.mark.parametrize("width", ["80", "100"])
def test_the_lines_of_help_are_filled(width: str) -> None:
    """Lines of the source code were broken again by the terminal, so that every other one was short."""
    command = [Path(sys.executable).parent / "otc-assets", "captures", "list", "--help"]
    done = subprocess.run(command, env={**os.environ, "COLUMNS": width}, capture_output=True, text=True, check=True)
    (paragraph,) = [part for part in re.split(r"\n\s*\n", done.stdout) if part.strip().startswith("effective: ")]
    words = [line.split() for line in paragraph.splitlines()]
    assert len(words) > 2
    for line, following in itertools.pairwise(words):
        assert len(" ".join([*line, following[0]])) > int(width) - 4


def test_debug_shows_the_traceback_of_a_usage_error_too(otc: Command) -> None:
    code, _, errors = otc("--debug", "captures", "list", "--status", "odd")
    assert code == 2
    assert "Traceback" in errors
    assert "unknown status 'odd'" in errors
    code, _, errors = otc("captures", "list", "--status", "odd")
    assert (code, "Traceback" in errors, "unknown status 'odd'" in errors) == (2, False, True)


def test_an_unreadable_file_is_refused_by_its_run_and_not_shown_as_a_bug(
    otc: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest was computed after the run, outside of what handles its errors."""
    path = tmp_path / "closed.csv"
    path.write_text("")
    opened = Path.open

    def closed(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", closed)
    code, _, errors = otc("ingest", str(path))
    assert code == 1
    assert "closed.csv: it is empty" in errors
    assert "Permission denied" not in errors


@pytest.fixture
def _october() -> Iterator[None]:
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in keys_of(part)}
    return {key for part in value for key in keys_of(part)} if isinstance(value, list) else set()


@pytest.mark.usefixtures("_october")
def test_the_keys_of_json_are_in_snake_case(otc: Command, tmp_path: Path) -> None:
    """Some were words with blanks between them: 'weeks made'. Ids and names of tiers stay as they are."""
    otc("simulate", str(tmp_path / "files"), "--weeks", "2026-08-21")
    files = sorted(map(str, (tmp_path / "files").iterdir()))
    found = set()
    for arguments in (
        ["ingest", *files],
        ["materialize", "--weeks", "2026-08-21", "--tier", "T1"],
        ["status"],
        ["gaps"],
        ["storage"],
        ["alerts"],
        ["captures", "list"],
        ["captures", "show", "1"],
        ["events", "history", "2026-08-21"],
        ["events", "replay"],
        ["archive", "verify"],
    ):
        code, output, errors = otc(*arguments, "--json")
        assert code == 0, (arguments, errors)
        found |= keys_of(json.loads(output))
    assert {"weeks_computed", "other_weeks_failed", "size_mb", "rows_accepted"} <= found
    tiers = {"T1", "T2", "OTCE", "NMS Tier 1", "NMS Tier 2", "OTC"}
    assert [key for key in found - tiers if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", key)] == []
