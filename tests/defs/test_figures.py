"""A figure is an entry in the registry and a formula; everything else derives from them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import polars as pl
import psycopg
import pytest
import time_machine
from dagster import AssetCheckKey, AssetKey, DagsterInstance, materialize
from support import installed

from otc_assets.defs.assets import figure_asset
from otc_assets.defs.checks import weekly_checks
from otc_assets.domain import checks
from otc_assets.domain.checks import Check
from otc_assets.domain.notes import Note
from otc_assets.domain.quality.evidence import Finding
from otc_assets.domain.schema import AMOUNT
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.warehouse.lineage import lineage

Sql = psycopg.Connection[tuple[object, ...]]

NAME = "largest_trades"


def largest_trades(venue_volume: pl.DataFrame) -> pl.DataFrame:
    """The formula: each tier's largest share volume of a symbol at a venue."""
    largest = pl.col("share_volume").max().alias("largest_volume")
    return venue_volume.group_by("week_ending", "tier").agg(largest).cast({"largest_volume": AMOUNT})


ENTRY = Figure(
    name=NAME,
    description="A tier's largest share volume of a symbol at a venue.",
    schema=pl.Schema({"week_ending": pl.Date, "tier": pl.String, "largest_volume": AMOUNT}),
    key=("week_ending", "tier"),
    notes={"largest_volume": Note("the largest share volume", "shares")},
    volume="largest_volume",
    formula=largest_trades,
    reads=("week_ending", "tier", "share_volume"),
    event="otc.metrics.computed",
)
#: What its migration would be.
MIGRATION = f"""
    CREATE TABLE otc.{NAME} (
        week_ending date, tier text, largest_volume numeric(38, 6), known_from timestamptz,
        PRIMARY KEY (week_ending, tier)
    );
    CREATE TABLE otc.{NAME}_revision (LIKE otc.{NAME}, known_to timestamptz, change text)
"""
CHECK = Check(
    "something_traded",
    NAME,
    "In every tier something was traded.",
    lambda rows: Finding(bool((rows["largest_volume"] > 0).all()), f"{rows['largest_volume'][0]} shares at most"),
)


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC), tick=True):
        yield


def test_a_figure_that_is_added_has_its_asset_columns_staleness_event_and_checks(
    dagster: DagsterInstance, sql: Sql, week: dt.date, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding a figure took changes in eleven files."""
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1", "venue_volume"], week, week)
    monkeypatch.setitem(TABLES, NAME, ENTRY)
    monkeypatch.setattr(checks, "CHECKS", (*checks.CHECKS, CHECK))
    sql.execute(MIGRATION)  # type: ignore[arg-type]

    def stale() -> list[dt.date]:
        with installed.database().transaction() as connection:
            return lineage(connection).stale(NAME)

    assert stale() == [week]
    asset = figure_asset(ENTRY, installed.weeks())
    done = materialize(
        [asset, weekly_checks(NAME, installed.weeks().of_figures)],
        instance=dagster,
        partition_key=week.isoformat(),
        resources=installed.resources(),
    )
    assert done.success
    assert stale() == []
    (largest,) = sql.execute("SELECT max(share_volume) FROM otc.venue_volume").fetchone() or (None,)
    assert largest
    assert sql.execute(f"SELECT week_ending, tier, largest_volume FROM otc.{NAME}").fetchall() == [  # type: ignore[arg-type]
        (week, "NMS Tier 1", largest)
    ]
    events = sql.execute("SELECT event_type, payload ->> 'rows' FROM otc.events WHERE payload ->> 'table' = %s", [NAME])
    assert events.fetchall() == [("otc.metrics.computed", "1")]
    spec = asset.get_asset_spec()
    assert [dep.asset_key for dep in spec.deps] == [AssetKey("venue_volume")]
    assert spec.description == (
        f"{ENTRY.description}\n\nComputed from `venue_volume` by `test_figures.largest_trades`."
    )
    columns = {column.name: column.description for column in spec.metadata["dagster/column_schema"].columns}
    assert columns["largest_volume"] == "the largest share volume (shares)"
    (evaluation,) = done.get_asset_check_evaluations()
    assert evaluation.asset_check_key == AssetCheckKey(AssetKey(NAME), "something_traded")
    assert evaluation.passed
    assert evaluation.metadata["NMS Tier 1"].value == f"{largest} shares at most"
