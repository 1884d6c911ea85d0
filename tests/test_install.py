"""The installation that `make run` and `make test` begin with: what it says when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otc_assets.settings import PROJECT_ROOT


def install(venv: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as the Makefile does."""
    given = os.environ | {"PYTHON": sys.executable, "VENV": str(venv), "PIP_CONFIG_FILE": os.devnull} | env
    command = ["sh", str(PROJECT_ROOT / "install.sh")]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=given, capture_output=True, text=True, check=False)


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    """Creating an environment there deletes them."""
    (tmp_path / "thesis.txt").write_text("years of work")
    done = install(tmp_path)
    assert done.returncode == 1
    assert "a folder with other files, which would be deleted" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.slow
def test_a_network_without_packages_is_explained_with_what_to_set(tmp_path: Path) -> None:
    # Port 9 of loopback: nothing answers.
    done = install(tmp_path / "venv", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1")
    assert done.returncode == 1
    assert "1 of 3" in done.stdout
    assert "packages could not be downloaded" in done.stderr
    assert "HTTPS_PROXY" in done.stderr
    assert "Traceback" not in done.stderr
