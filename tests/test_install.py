"""The installation that `make run` and `make test` begin with: what it says when it fails."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from otc_assets.settings import PROJECT_ROOT


def install(venv: Path, project: Path = PROJECT_ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as the Makefile does."""
    given = os.environ | {"PYTHON": sys.executable, "VENV": str(venv), "PIP_CONFIG_FILE": os.devnull} | env
    command = ["sh", str(project / "install.sh")]
    return subprocess.run(command, cwd=project, env=given, capture_output=True, text=True, check=False)


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    """Creating an environment there deletes them."""
    (tmp_path / "thesis.txt").write_text("years of work")
    done = install(tmp_path)
    assert done.returncode == 1
    assert "a folder with other files, which would be deleted" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.slow
def test_a_package_that_differs_from_the_lock_file_is_not_installed(tmp_path: Path) -> None:
    """The file at the index was replaced, or the lock file was changed."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(PROJECT_ROOT / "install.sh", project)
    wheel = tmp_path / "index" / "harmless-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("harmless.py", "")
        archive.writestr("harmless-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1.0\n")
        archive.writestr(
            "harmless-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("harmless-1.0.dist-info/RECORD", "")
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    options = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    for digest, hashes in ((right[::-1], True), (right, False), (right, True)):
        line = "harmless==1.0" + (f" --hash=sha256:{digest}" if hashes else "")
        (project / "requirements.lock").write_text(f"{line}\n")
        done = install(tmp_path / "venv", project, **options)
        # The project itself is not there, so that the last step fails.
        is_installed = "3 of 3" in done.stdout
        assert is_installed == (digest == right and hashes), done.stdout + done.stderr
        if not is_installed:
            assert done.returncode == 1
            assert "a package differs from the lock file" in done.stderr
            assert not list((tmp_path / "venv").rglob("harmless.py"))


@pytest.mark.slow
def test_a_network_without_packages_is_explained_with_what_to_set(tmp_path: Path) -> None:
    # Port 9 of loopback: nothing answers.
    done = install(tmp_path / "venv", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1")
    assert done.returncode == 1
    assert "1 of 3" in done.stdout
    assert "packages could not be downloaded" in done.stderr
    assert "HTTPS_PROXY" in done.stderr
    assert "Traceback" not in done.stderr
