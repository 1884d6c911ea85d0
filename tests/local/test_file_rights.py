"""Who may read the files of an installation: its own account, whatever the umask of the shell was."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from support.terminal import Terminal
from support.web_server import free_port, launch, status_of, until

from otc_assets.archive.store import LocalArchive
from otc_assets.embedded_files import APP
from otc_assets.local.embedded import EmbeddedServer

Command = Callable[..., tuple[int, str, str]]

WEEK = "2026-08-21"


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(home: Path) -> dict[str, str]:
    """What others than the owner may use, with its rights."""
    every = [home, *home.rglob("*")]
    return {
        str(path.relative_to(home)): oct(rights(path))
        for path in every
        if not path.is_symlink() and stat.S_IFMT(path.lstat().st_mode) != stat.S_IFSOCK and rights(path) & 0o077
    }


@pytest.mark.slow
def test_a_first_run_leaves_nothing_that_another_account_can_read_and_works_as_the_writer(
    folder_for_all: Path, umask: int
) -> None:
    """PostgreSQL refuses to run as root. Its account then has to pass through two folders, which it can't list."""
    home, port = folder_for_all / f"rights-{umask:03o}", free_port()
    settings = {"OTC_HOME": str(home), "OTC_SIMULATOR_SCALE": "0.01", "OTC_PORT": port, "OTC_METRICS_PORT": free_port()}
    up = Terminal("up", "--newest", "1", settings=settings)
    up.wait_for("ready ")
    run_id = until(lambda: launch(port, "publication_t1 venue_volume", WEEK), [up])
    assert until(lambda: status_of(port, run_id), [up]) == "SUCCESS", up.text
    with EmbeddedServer(home / "postgres")._connect("otc") as admin:
        sessions = admin.execute("SELECT DISTINCT usename::text FROM pg_stat_activity WHERE datname = 'otc'")
        logins = {str(name) for (name,) in sessions}
        # Its schema is migrated by the owner, and runs, schedules and sensors work as the writer.
        assert APP in logins
        assert "otc" not in logins
    paths = {path.relative_to(home).parts[0] for path in home.iterdir()}
    assert {"archive", "dagster", "dagster.log", "files", "postgres", "up.json"} <= paths
    assert any((home / "dagster").rglob("*.err"))
    passed_through = {".": "0o711", "postgres": "0o711"} if os.geteuid() == 0 else {}
    assert open_to_others(home) == passed_through
    up.send(signal.SIGINT)
    assert up.end() == 0, up.text


def test_files_that_the_user_names_have_the_rights_of_the_shells_umask(
    otc: Command, tmp_path: Path, umask: int
) -> None:
    assert otc("materialize", "--weeks", WEEK)[0] == 0
    output = tmp_path / "rows.csv"
    assert otc("query", "symbol_summary", "--weeks", WEEK, "--output", str(output))[0] == 0
    assert pl.read_csv(output).height
    assert rights(output) == 0o666 & ~umask
    assert os.umask(umask) == umask


@pytest.mark.parametrize("of_folder", [0o700, 0o750, 0o755])
def test_the_files_of_an_archive_have_the_rights_of_its_folder(tmp_path: Path, umask: int, of_folder: int) -> None:
    """An administrator who creates the folder of exported files decides who reads them."""
    folder = tmp_path / "export"
    folder.mkdir()
    folder.chmod(of_folder)
    archive = LocalArchive(folder)
    digest = archive.put(b"raw")
    archive.put_named("a/b/c.parquet", b"named")
    assert {rights(path) for path in folder.rglob("*") if path.is_dir()} == {of_folder}
    assert {rights(path) for path in folder.rglob("*") if path.is_file()} == {of_folder & 0o444}
    assert (archive.get(digest), archive.get_named("a/b/c.parquet")) == (b"raw", b"named")
    LocalArchive(tmp_path / "new").put(b"raw")
    assert rights(tmp_path / "new") == 0o777 & ~umask
