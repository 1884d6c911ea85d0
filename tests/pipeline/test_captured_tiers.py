"""Figures over several weeks: which weeks they take for captured, and what makes them stale."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

import polars as pl
import pytest

from otc_assets.domain.schema import VENUE_VOLUME
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import T1
from otc_assets.pipeline.figures import figure_rows, store_figure
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.load import mark_computed, replace_volume

EARLIER, WEEK = dt.date(2026, 8, 14), dt.date(2026, 8, 21)


@pytest.fixture
def warehouse(database: str) -> Iterator[Database]:
    opened = Database(database)
    yield opened
    opened.close()


def load_volume(warehouse: Database, week: dt.date) -> None:
    """Loads a week of one symbol at one venue."""
    row = dict.fromkeys(VENUE_VOLUME) | {
        "week_ending": week,
        "tier": T1.name,
        "symbol": "A",
        "issue_name": "A Inc.",
        "product_type": "",
        "venue_kind": "ATS",
        "venue_id": "UBSA",
        "share_volume": Decimal(100),
        "trade_count": 1,
    }
    with warehouse.transaction() as connection:
        replace_volume(connection, week, T1.name, pl.DataFrame([row], schema=VENUE_VOLUME))
        mark_computed(connection, "venue_volume", week, "T1:1", 1)


def compute(warehouse: Database, week: dt.date, *tables: str) -> None:
    for table in tables:
        with warehouse.transaction() as connection:
            assert store_figure(connection, figure(table), week) is not None


def figure(table: str) -> Figure:
    found = TABLES[table]
    assert isinstance(found, Figure)
    return found


@pytest.mark.parametrize(
    ("table", "source", "other"),
    [
        ("venue_rolling", "venue_share", "symbol_summary"),
        ("symbol_rolling", "symbol_summary", "venue_share"),
    ],
)
def test_a_figure_is_current_only_if_computing_it_again_gives_the_same(
    warehouse: Database, table: str, source: str, other: str
) -> None:
    """The step of the other summary failed in the earlier week, or was still to come when the figure was computed.

    Whether a week is captured was read from symbol_summary, also for figures of venue_share: they lacked the week, and
    its later arrival did not make them stale.
    """
    for week in (EARLIER, WEEK):
        load_volume(warehouse, week)
        compute(warehouse, week, source)
    compute(warehouse, WEEK, other, table)
    compute(warehouse, EARLIER, other)
    with warehouse.transaction() as connection:
        assert lineage(connection).stale(table) == [EARLIER]
        assert figure_rows(connection, figure(table), WEEK)["weeks_in_window"].to_list() == [2]
        stored = pl.read_database(f"SELECT weeks_in_window FROM otc.{table} WHERE week_ending = '{WEEK}'", connection)
        assert stored.to_series().to_list() == [2]
