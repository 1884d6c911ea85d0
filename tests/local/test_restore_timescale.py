"""``otc-assets restore`` with TimescaleDB: hypertables, compressed chunks, aggregates and jobs are as they were."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from dumps import rows
from support import installed
from timescale.servers import TimescaleServer

from otc_assets.local.server_folder import binaries_of_the_wheel
from otc_assets.warehouse.migrate import is_unmigrated

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_october")]

Command = Callable[..., tuple[int, str, str]]

#: What TimescaleDB has of the schema, without numbers that it gives out.
_TIMESCALE = (
    "SELECT hypertable_name, num_dimensions, num_chunks, compression_enabled FROM timescaledb_information.hypertables "
    "WHERE hypertable_schema = 'otc' ORDER BY 1",
    "SELECT hypertable_name, range_start, range_end, is_compressed FROM timescaledb_information.chunks "
    "WHERE hypertable_schema = 'otc' ORDER BY 1, 2",
    "SELECT view_name, materialized_only, compression_enabled FROM timescaledb_information.continuous_aggregates "
    "ORDER BY 1",
    "SELECT proc_name, hypertable_name, schedule_interval, config - 'hypertable_id' - 'mat_hypertable_id' "
    "FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY 1, 2",
)


def timescale(url: str) -> list[list[tuple[object, ...]]]:
    """What TimescaleDB has of the schema."""
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as connection:
        return [connection.execute(query).fetchall() for query in _TIMESCALE]


def dump_of(url: str, dump: Path) -> None:
    """Dumps a database as ``docs/deploy.md`` says."""
    parts = urlsplit(url)
    where = ["--host", str(parts.hostname), "--port", str(parts.port), "--username", str(parts.username)]
    program = str(binaries_of_the_wheel() / "bin" / "pg_dump")
    options = ["--format=custom", "--no-owner", "--no-acl", f"--file={dump}"]
    subprocess.run([program, *where, *options, parts.path[1:]], check=True, capture_output=True)


def restoring(url: str) -> bool:
    """Whether TimescaleDB is still prepared for a restore."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT current_setting('timescaledb.restoring', true) = 'on'").fetchone() == (True,)


def test_a_dump_with_timescaledb_is_restored_whole_and_goes_on(
    otc: Command,
    community: TimescaleServer,
    migrated_community_database: str,
    bare_community_database: str,
    empty_database: str,
    installation: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the session that had created the extension, its functions were not found: no such dump could be restored."""
    monkeypatch.setenv("OTC_DATABASE_URL", migrated_community_database)
    assert otc("materialize", "--weeks", "2026-08-14", "--tier", "T1")[0] == 0
    with psycopg.connect(migrated_community_database, autocommit=True) as connection:
        connection.execute("SELECT public.compress_chunk(c) FROM public.show_chunks('otc.venue_volume') c")
    before, kept = rows(migrated_community_database), timescale(migrated_community_database)
    hypertables, chunks, aggregates, jobs = kept
    assert ("venue_volume", True) in {(table, is_compressed) for table, _, _, is_compressed in chunks}
    assert min(len(hypertables), len(aggregates), len(jobs)) > 0
    backup = tmp_path_factory.mktemp("backup")
    dump = backup / "otc.dump"
    dump_of(migrated_community_database, dump)
    shutil.copytree(installation / "archive", backup / "archive")
    installed.close()
    monkeypatch.setenv("OTC_HOME", str(tmp_path_factory.mktemp("elsewhere")))

    # Without TimescaleDB, nothing is restored; a part of a dump leaves the server as it works.
    monkeypatch.setenv("OTC_DATABASE_URL", empty_database)
    code, _, errors = otc("restore", str(dump))
    assert (code, "it does not offer the extension" in " ".join(errors.split())) == (1, True)
    assert is_unmigrated(empty_database)
    damaged = backup / "damaged.dump"
    damaged.write_bytes(dump.read_bytes()[: dump.stat().st_size // 2])
    with community.database(extension=False) as url:
        monkeypatch.setenv("OTC_DATABASE_URL", url)
        code, _, errors = otc("restore", str(damaged))
        assert (code, "pg_restore failed" in errors, restoring(url)) == (1, True, False)

    monkeypatch.setenv("OTC_DATABASE_URL", bare_community_database)
    code, output, errors = otc("restore", str(dump), "--archive", (backup / "archive").as_uri())
    assert (code, output.splitlines()[-1].partition(":")[0]) == (0, "the installation is whole"), errors
    assert rows(bare_community_database) == before
    assert timescale(bare_community_database) == kept
    assert not restoring(bare_community_database)
    assert otc("materialize", "--weeks", "2026-08-21", "--tier", "T1")[0] == 0
    assert otc("restore-check")[0] == 0
