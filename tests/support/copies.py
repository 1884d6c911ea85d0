"""Copies of databases and installations: what takes long to prepare is prepared once, and each test gets a copy."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pytest
from dagster import DagsterInstance

from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from support import installed

Result = TypeVar("Result")

_number = itertools.count(1)


@contextmanager
def new_database(server: EmbeddedServer, template: str) -> Iterator[str]:
    """The URL of a new database that is a copy of ``template``, which nobody may be connected to."""
    name = f"test_{next(_number)}"
    with server._connect("postgres") as admin:
        # Five to ten times as fast as the default strategy, which writes each block to the WAL.
        admin.execute(f"CREATE DATABASE {name} OWNER otc TEMPLATE {template} STRATEGY file_copy".encode())
    try:
        yield server.url.rpartition("/")[0] + f"/{name}"
    finally:
        with server._connect("postgres") as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def describe(environment: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Sets the variables of an installation with a small simulated FINRA."""
    environment.setenv("OTC_DATABASE_URL", url)
    environment.setenv("OTC_HOME", str(home))
    environment.setenv("OTC_SOURCE", "simulator")
    environment.setenv("OTC_SIMULATOR_SCALE", "0.01")
    settings.cache_clear()


@dataclass(frozen=True)
class Prepared(Generic[Result]):
    """An installation to copy, and what preparing it returned.

    Attributes:
        database: the name of its database.
        home: its folder.
        result: what preparing it returned.
    """

    database: str
    home: Path
    result: Result

    def copy_home(self, to: Path) -> None:
        """Copies the folder."""
        shutil.copytree(self.home, to, dirs_exist_ok=True)


@contextmanager
def prepared(
    server: EmbeddedServer,
    template: str,
    home: Path,
    prepare: Callable[[str, pytest.MonkeyPatch, DagsterInstance], Result],
) -> Iterator[Prepared[Result]]:
    """Prepares an installation. Dagster's instance is in memory, so that a copy begins without runs.

    Args:
        server: on which its database is.
        template: the name of the database that it begins with.
        home: its folder, which is empty.
        prepare: prepares it, given the URL of its database, and may set more variables meanwhile.
    """
    with new_database(server, template) as url:
        with pytest.MonkeyPatch.context() as environment, DagsterInstance.ephemeral() as instance:
            describe(environment, url, home)
            result = prepare(url, environment, instance)
            installed.close()
        settings.cache_clear()
        yield Prepared(url.rpartition("/")[2], home, result)
