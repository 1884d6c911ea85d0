"""The database that a first run of ``otc-assets up`` leaves, with the simulator's rows in DuckDB beside it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from dagster import DagsterInstance

from otc_assets.cli.run import _materialize_newest
from otc_assets.defs.launch import Launcher
from otc_assets.domain.weeks import NEW_YORK, T1, TIERS, weeks_between
from otc_assets.embedded_files import ANALYST
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.server import session_options
from support import installed
from support.copies import describe, new_database

NOW = dt.datetime(2026, 10, 14, 12, tzinfo=NEW_YORK)
#: The newest eight weeks then: T2 and OTC of the last two are not published. 2026-09-07 is Labor Day.
WEEKS = weeks_between(dt.date(2026, 8, 7), dt.date(2026, 9, 25))
LABOR_DAY = dt.date(2026, 9, 11)
#: The week of T1 that is revised on 2026-09-23.
REVISED, REVISED_ON = dt.date(2026, 8, 28), dt.date(2026, 9, 23)

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class FirstRun:
    """A database as a first run leaves it, and the simulator's rows in DuckDB.

    Attributes:
        launcher: of the installation.
        url: of the database, for its owner.
        reader_url: the same for a login that may only read.
        duck: `rows` of the same weeks, and those of the revised publication `before` its revision.
    """

    launcher: Launcher
    url: str
    reader_url: str
    duck: duckdb.DuckDBPyConnection

    def sql(self, query: str) -> Rows:
        """What a reader of the database gets."""
        with psycopg.connect(self.url, options=session_options()) as connection:
            return list(connection.execute(query).fetchall())  # type: ignore[arg-type]


def _simulated(folder: Path) -> duckdb.DuckDBPyConnection:
    simulator, parts = Simulator(2014, 0.01), []
    for tier in TIERS:
        for week in WEEKS:
            rows = simulator.publication(week, tier, NOW.date())
            if rows is not None:
                parts.append(rows.filter(pl.col("summaryTypeCode").str.ends_with("SMBL_FIRM")))
    before = simulator.publication(REVISED, T1, REVISED_ON - dt.timedelta(days=1))
    assert before is not None
    pl.concat(parts).write_parquet(folder / "rows.parquet")
    before.filter(pl.col("summaryTypeCode").str.ends_with("SMBL_FIRM")).write_parquet(folder / "before.parquet")
    duck = duckdb.connect()
    for name in ("rows", "before"):
        duck.execute(
            f"CREATE TABLE {name} AS SELECT weekStartDate + 4 AS week, tierDescription AS tier,"
            " issueSymbolIdentifier AS symbol, issueName AS issue, marketParticipantName AS venue, MPID AS mpid,"
            " coalesce(MPID, firmCRDNumber, 'DE_MINIMIS') AS id, totalWeeklyShareQuantity AS shares,"
            f" totalWeeklyTradeCount AS trades FROM read_parquet('{folder / name}.parquet')"
        )
    return duck


@contextmanager
def first_run_on(server: EmbeddedServer, template: str, folder: Path) -> Iterator[FirstRun]:
    """What `make run` loads into an empty database, at a hundredth of FINRA's size.

    The environment describes the installation only while it is loaded: other tests have their own.
    """
    with (
        new_database(server, template) as url,
        DagsterInstance.ephemeral() as instance,
        _simulated(folder) as duck,
    ):
        with pytest.MonkeyPatch.context() as environment, time_machine.travel(NOW, tick=True):
            describe(environment, url, folder)
            launcher = installed.launcher(instance)
            assert _materialize_newest(launcher, 8) == []
            installed.close()
        settings.cache_clear()
        reader = sa.make_url(server.url_for(ANALYST)).set(database=sa.make_url(url).database)
        yield FirstRun(launcher, url, reader.render_as_string(hide_password=False), duck)
        launcher.database.close()
