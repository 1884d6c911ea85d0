"""Fixtures: Dagster in PostgreSQL, and databases that a real run has filled."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from copies import Copy
from dagster import DagsterInstance
from support import installed

from otc_assets.defs.instance import clean_instance
from otc_assets.domain.weeks import T1, newest_due, weeks_up_to
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings


@contextmanager
def dagster_of(database: str, home: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance of which the storage is PostgreSQL, as in a real installation."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTC_SOURCE", "simulator")
        environment.setenv("OTC_SIMULATOR_SCALE", "0.01")
        environment.setenv("OTC_DATABASE_URL", database)
        environment.setenv("OTC_HOME", str(home))
        settings.cache_clear()
        prepared = setup.prepare(settings(), database)
        with clean_instance(prepared) as instance:
            yield instance
        installed.close()
    settings.cache_clear()


@pytest.fixture
def dagster_in_postgres(database: str, tmp_path: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance on the migrated, empty database."""
    with dagster_of(database, tmp_path) as instance:
        yield instance


@pytest.fixture(scope="session")
def _filled_template(server: EmbeddedServer, _template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database into which a real run has put the newest eight weeks, made once."""
    name = "filled"
    with server._connect("postgres") as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER otc TEMPLATE {_template}")  # type: ignore[arg-type]
    url = server.url.rpartition("/")[0] + f"/{name}"
    weeks = weeks_up_to(newest_due(T1, dt.datetime.now(dt.UTC)), 8)
    with dagster_of(url, tmp_path_factory.mktemp("filled")) as instance:
        assert installed.materialize_weeks(instance, weeks) == []
    yield name
    with server._connect("postgres") as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def copy_of_filled(server: EmbeddedServer, _filled_template: str) -> Copy:
    """Makes a copy of the filled database for as long as a block runs, and gives its URL."""

    @contextmanager
    def copy() -> Iterator[str]:
        name = f"filled_{uuid.uuid4().hex[:8]}"
        with server._connect("postgres") as admin:
            admin.execute(f"CREATE DATABASE {name} OWNER otc TEMPLATE {_filled_template}")  # type: ignore[arg-type]
        yield server.url.rpartition("/")[0] + f"/{name}"
        with server._connect("postgres") as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]

    return copy


@pytest.fixture
def filled(copy_of_filled: Copy) -> Iterator[str]:
    """The URL of a database into which a real run has put the newest eight weeks."""
    with copy_of_filled() as url:
        yield url
