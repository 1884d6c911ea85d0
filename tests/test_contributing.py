"""The guide for contributors: its steps are applied to a copy of the project, and the result is run.

The tests that run in the copy are in the folder ``contributing``, and those that the guide adds or changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from otc_assets.settings import PROJECT_ROOT
from otc_assets.warehouse.migrate import newest_version

pytestmark = pytest.mark.slow

GUIDE = PROJECT_ROOT / "docs" / "contributing.md"
COPIED = ("otc_assets", "migrations", "tests", "docs", "README.md", "pyproject.toml", "dagster.yaml", "workspace.yaml")
#: A file's name with a colon, and the block that follows it.
_BLOCK = re.compile(r"^ *`(?P<path>[\w./]+)`(?P<new> \(new\))?:\n\n(?P<block> *```(\w+)\n.*?^ *```)$", re.M | re.S)


@dataclass(frozen=True)
class Step:
    """A block of the guide, and the file that it creates or changes."""

    path: str
    is_new: bool
    text: str


def steps(page: str) -> list[Step]:
    """The steps of a guide."""
    found = []
    for match in _BLOCK.finditer(page):
        lines = textwrap.dedent(match["block"]).split("\n")[1:-1]
        found.append(Step(match["path"], bool(match["new"]), "\n".join(lines) + "\n"))
    return found


def apply(step: Step, project: Path, newest: str) -> None:
    """Creates or changes the file of a step; the lines that a diff expects are in the file exactly once."""
    new, previous = f"{int(newest) + 1:03}", newest
    path = project / step.path.replace("NNN", new)
    if step.is_new:
        assert not path.exists(), f"{step.path} exists"
        path.write_text(step.text.replace("NNN", new).replace("PPP", previous))
        return
    lines = [(line[:1], line[1:]) for line in step.text.splitlines(keepends=True)]
    assert {mark for mark, _ in lines} <= {" ", "+", "-"}, step.text
    before = "".join(line for mark, line in lines if mark != "+")
    after = "".join(line for mark, line in lines if mark != "-")
    content = path.read_text()
    count = f"\n{content}".count(f"\n{before}")
    assert count == 1, f"{step.path} has these lines {count} times:\n{before}"
    path.write_text(f"\n{content}".replace(f"\n{before}", f"\n{after}")[1:])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to which the guide was applied."""
    copy = tmp_path_factory.mktemp("contributing")
    ignore = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in COPIED:
        path = PROJECT_ROOT / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=ignore)
        else:
            shutil.copy(path, copy)
    newest = newest_version()
    for step in steps(GUIDE.read_text()):
        apply(step, copy, newest)
    return copy


def run(project: Path, *arguments: str) -> str:
    """Runs a Python module of the copy, with the copy's own packages; returns its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTC_", "DAGSTER_"))}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def run_tests(project: Path, *arguments: str) -> None:
    """Runs tests of the copy."""
    assert _package(project).is_relative_to(project)
    output = run(project, "pytest", "-p", "no:cacheprovider", "-q", *arguments)
    assert " passed" in output
    assert " skipped" not in output


def _package(project: Path) -> Path:
    """The package that programs run in the copy import."""
    code = "import otc_assets; print(otc_assets.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def test_every_block_of_the_guide_that_changes_a_file_is_a_step() -> None:
    """A block that the test did not recognize would not be tested."""
    page = GUIDE.read_text()
    found = steps(page)
    assert len(found) == len(re.findall(r"^ *```(?:diff|python)$", page, re.M)) >= 20
    assert all(step.text.strip() for step in found)


def test_a_figure_and_a_check_that_follow_the_guide_work(project: Path) -> None:
    run_tests(project, "tests/contributing/figure_and_check.py", "tests/domain/test_tiers.py")


def test_a_source_that_follows_the_guide_works(project: Path) -> None:
    run_tests(project, "tests/contributing/source.py")


def test_the_registries_and_reference_pages_agree_once_the_guide_is_followed(project: Path) -> None:
    page = run(project, "otc_assets.domain.dictionary")
    (project / "docs" / "data-dictionary.md").write_text(page)
    assert "## tier_summary" in page
    assert (
        "| `tier_summary` | `ats_within_total` | The volume at ATSs is at most the total volume. | error |  |" in page
    )
    run_tests(
        project,
        "tests/domain/test_tables.py",
        "tests/warehouse/test_registry.py",
        "tests/test_architecture.py",
        "tests/finra/test_sources.py",
    )


def test_the_code_of_the_guide_is_formatted_and_passes_the_linters(project: Path) -> None:
    run(project, "ruff", "check", "--no-cache", "otc_assets", "migrations", "tests")
    run(project, "ruff", "format", "--no-cache", "--check", "otc_assets", "migrations", "tests")
