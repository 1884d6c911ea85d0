"""The installation that the environment describes, as tests use it: resources, definitions, and a launcher of runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pytest
from dagster import DagsterInstance, Definitions, RepositoryDefinition

from otc_assets.archive.store import Archive
from otc_assets.definitions import build_definitions
from otc_assets.defs import materialize
from otc_assets.defs.launch import Launcher
from otc_assets.defs.partitions import WeekPartitions
from otc_assets.defs.resources import make_resources
from otc_assets.domain.weeks import TIERS, Tier
from otc_assets.finra.source import Source
from otc_assets.settings import Settings, settings
from otc_assets.warehouse.database import Database

#: The databases whose connections have to be closed.
_databases: list[Database] = []

#: Resources that a test has replaced, by name.
_replaced: dict[str, Any] = {}


@lru_cache(maxsize=1)
def _resources(chosen: Settings) -> dict[str, Any]:
    made = make_resources(chosen)
    _databases.append(made["warehouse"])
    return made


@lru_cache(maxsize=1)
def _definitions(chosen: Settings, replaced: tuple[tuple[str, Any], ...]) -> Definitions:
    return build_definitions(chosen, {**_resources(chosen), **dict(replaced)})


def resources() -> dict[str, Any]:
    """What the definitions pass to assets, checks, schedules and sensors."""
    return {**_resources(settings()), **_replaced}


def replace(monkeypatch: pytest.MonkeyPatch, **replaced: Any) -> None:
    """Puts objects in place of resources until the test ends."""
    for name, value in replaced.items():
        monkeypatch.setitem(_replaced, name, value)


def close() -> None:
    """Closes the connections of the installation, if one was used."""
    while _databases:
        _databases.pop().close()
    _resources.cache_clear()
    _definitions.cache_clear()


def database() -> Database:
    """The database of the installation."""
    return resources()["warehouse"]  # type: ignore[no-any-return]


def archive() -> Archive:
    """The archive of the installation."""
    return resources()["archive"]  # type: ignore[no-any-return]


def source() -> Source:
    """The source of the installation."""
    return resources()["source"]  # type: ignore[no-any-return]


def definitions() -> Definitions:
    """The code location."""
    return _definitions(settings(), tuple(_replaced.items()))


def repository() -> RepositoryDefinition:
    """The code location as Dagster's daemon has it."""
    return definitions().get_repository_def()


def launcher(instance: DagsterInstance) -> Launcher:
    """Executes runs of the installation in ``instance``."""
    return Launcher(instance, definitions(), settings(), database())


def weeks() -> WeekPartitions:
    """The weeks of the installation."""
    return WeekPartitions(settings().first_week)


def stale_weeks() -> list[dt.date]:
    """The stale weeks of the installation."""
    return materialize.stale_weeks(database(), weeks())


class Unreachable:
    """A source that fails the test when it is asked anything."""

    def fetch(self, *_: object, **__: object) -> Any:
        """Fails the test."""
        pytest.fail("FINRA was asked")

    state = offered = fetch


def quiet(done: int, note: str) -> None:
    """Shows no progress."""


def materialize_weeks(instance: DagsterInstance, weeks: list[dt.date], tiers: Sequence[Tier] = TIERS) -> list[str]:
    """Captures and computes weeks. Returns what failed."""
    return materialize.materialize(launcher(instance), weeks, tiers, quiet)


def compute_stale_weeks(instance: DagsterInstance) -> list[str]:
    """Computes the stale weeks once. Returns what failed."""
    return materialize.compute_downstream(launcher(instance), stale_weeks(), quiet)
