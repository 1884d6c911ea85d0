"""Fixtures: a real PostgreSQL, a fresh database per test, an installation to run in, and FINRA's real rows."""

from __future__ import annotations

import datetime as dt
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
import sqlalchemy as sa
from dagster import DagsterInstance
from support import installed
from support.copies import describe, new_database
from support.first_run import FirstRun, first_run_on
from support.hostile_defaults import make_hostile
from support.migration import migrate
from support.retries import retry_without_waiting
from support.s3_server import S3Server, s3_server
from timescale.servers import TimescaleServer, native_server, webassembly_server

from otc_assets import cli
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.server import connect, session_options

# A busy machine is slow; no test asserts how long an example takes.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_between_tries() -> None:
    """Retries happen without waiting."""
    retry_without_waiting()


@pytest.fixture(autouse=True)
def _settings_of_each_test() -> Iterator[None]:
    """The settings are read again after each test: those of a test's environment once reached the next test."""
    yield
    settings.cache_clear()


#: Where Linux keeps files in memory.
_MEMORY = Path("/dev/shm")  # noqa: S108
_MEMORY_BYTES = 4 << 30


@pytest.fixture(scope="session")
def folder_for_all() -> Iterator[Path]:
    """A folder that every account can enter: the server does not run as root, and pytest's own are closed.

    It is in memory where there is room: on a disk, creating the files of databases takes most of a test's time.
    """
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES
    folder = Path(tempfile.mkdtemp(prefix="otc-tests-", dir=_MEMORY if has_room else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(folder_for_all: Path) -> Iterator[EmbeddedServer]:
    """One embedded PostgreSQL for the whole test run."""
    with EmbeddedServer(folder_for_all / "postgres", durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def _template(server: EmbeddedServer) -> str:
    # By the default settings, and not by those of the test that happens to need a database first.
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("OTC_")]:
            environment.delenv(name)
        settings.cache_clear()
        migrate(server.url)
    settings.cache_clear()
    return "otc"


@pytest.fixture(scope="session")
def first_run(server: EmbeddedServer, _template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstRun]:
    """The database that a first run leaves, for tests that only read."""
    with first_run_on(server, _template, tmp_path_factory.mktemp("first-run")) as loaded:
        yield loaded


@pytest.fixture
def empty_database(server: EmbeddedServer) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    with new_database(server, "template1") as url:
        yield url


def pytest_configure(config: pytest.Config) -> None:
    """Has Ctrl-C end the fixtures of pytest-xdist's processes too, which ignore it: their servers would go on."""
    if hasattr(config, "workerinput"):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """Has Python collect, at exit, also what it took for permanent: DuckDB prints what is left of its objects."""
    gc.unfreeze()


#: A TimescaleDB server in WebAssembly; an S3 server; runs of whole weeks, by a command or in a Dagster instance.
_SLOW_FIXTURES = frozenset({"community", "apache", "s3", "installation", "first_run"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that use slow fixtures as slow, for `make test-fast`, and puts files with slow tests first.

    At the end of `make test`, one process would otherwise go on with minutes of slow tests after the others are done.
    """
    for item in items:
        if _SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def database(server: EmbeddedServer, _template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated, empty database; in a module with ``ON_HOSTILE_DEFAULTS``, sessions begin with those.

    What is right with them is right with the usual ones, which all other modules have.
    """
    with new_database(server, _template) as url:
        if getattr(request.module, "ON_HOSTILE_DEFAULTS", False):
            make_hostile(server, url.rpartition("/")[2])
        yield url


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    """An engine on a migrated, empty database."""
    engine = connect(database)
    yield engine
    engine.dispose()


@pytest.fixture
def sql(database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of its own to the database, for looking from outside."""
    options = session_options(search_path="otc, dagster, public")
    with psycopg.connect(database, autocommit=True, options=options) as connection:
        yield connection


@pytest.fixture(scope="session")
def community() -> Iterator[TimescaleServer]:
    """A server with TimescaleDB's community edition: that of OTC_TEST_TIMESCALE_URL, else one in WebAssembly."""
    url = os.environ.get("OTC_TEST_TIMESCALE_URL")
    with native_server(url) if url else webassembly_server("community") as running:
        yield running


@pytest.fixture(scope="session")
def apache() -> Iterator[TimescaleServer]:
    """A server with TimescaleDB's Apache edition, in WebAssembly."""
    with webassembly_server("apache") as running:
        yield running


@pytest.fixture(scope="session")
def s3(folder_for_all: Path) -> Iterator[S3Server]:
    """One S3 server for the whole test run."""
    with s3_server(folder_for_all / "s3") as running:
        yield running


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own, on the server that the variables of boto3 describe."""
    s3.describe(monkeypatch)
    return s3.new_bucket()


@pytest.fixture
def community_database(community: TimescaleServer) -> Iterator[str]:
    """The URL of a database with TimescaleDB's community edition and nothing else in it."""
    with community.database() as url:
        yield url


@pytest.fixture
def bare_community_database(community: TimescaleServer) -> Iterator[str]:
    """The URL of a database without TimescaleDB, on a server that offers the community edition."""
    with community.database(extension=False) as url:
        yield url


@pytest.fixture
def apache_database(apache: TimescaleServer) -> Iterator[str]:
    """The URL of a database with TimescaleDB's Apache edition and nothing else in it."""
    with apache.database() as url:
        yield url


@pytest.fixture
def migrated_community_database(community: TimescaleServer) -> Iterator[str]:
    """The URL of a migrated database with TimescaleDB's community edition; no job runs in it by itself."""
    with community.database(prepare=migrate) as url:
        yield url


@pytest.fixture
def installation(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation with a small simulated FINRA: settings that point at a fresh database and folder."""
    describe(monkeypatch, database, tmp_path)
    yield tmp_path
    installed.close()
    settings.cache_clear()


@pytest.fixture
def otc(
    installation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in a shell of its own, as the console script does: (exit code, standard output, standard error).

    Every command reads the settings again.
    """
    monkeypatch.setattr(cli.out, "_width", 200)
    monkeypatch.setattr(cli.err, "_width", 200)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as shell:
            shell.setattr(sys, "argv", ["otc-assets", *arguments])
            settings.cache_clear()
            code = 0
            try:
                cli.main()
            except SystemExit as end:
                code = int(end.code or 0)
        settings.cache_clear()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


@pytest.fixture
def dagster(installation: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance of its own, kept in memory."""
    with DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="session")
def finra_data() -> Path:
    """Real rows of FINRA's, in a folder beside the project."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"FINRA's real rows are not in {folder}: other tests use written rows")
    return folder


@pytest.fixture
def week() -> dt.date:
    """A week that is published in every tier."""
    return dt.date(2026, 8, 21)


def pytest_report_header() -> str:
    """A line about the account of the run."""
    return f"running as uid {os.geteuid()}"
