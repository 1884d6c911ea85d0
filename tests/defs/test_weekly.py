"""What an asset's page shows of a week."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from dagster import MetadataValue, TableMetadataValue
from dagster_shared.serdes import deserialize_value, serialize_value

from otc_assets.defs.weekly import preview, sparkline


def test_a_preview_shows_every_character_of_the_data_in_its_own_column() -> None:
    """Markdown ended a cell at a bar in an issuer's name, and the rest of the row was in the wrong columns."""
    name = "A | B | [x](http://evil.example) <b>\n`c`"
    frame = pl.DataFrame(
        {
            "week_ending": [dt.date(2026, 8, 21)] * 7,
            "issue_name": [name, None, *"cdefg"],
            "share_volume": [Decimal("12345678901234567.123456")] * 7,
            "trade_count": range(7),
            "complete": [True] * 7,
        },
        schema_overrides={"share_volume": pl.Decimal(38, 6)},
    )
    shown = preview(frame)
    assert isinstance(shown, TableMetadataValue)
    assert [record.data for record in shown.records[:2]] == [
        {
            "week_ending": "2026-08-21",
            "issue_name": issue,
            "share_volume": "12345678901234567.123456",
            "trade_count": number,
            "complete": True,
        }
        for number, issue in enumerate([name, None])
    ]
    assert len(shown.records) == 5
    assert [column.name for column in shown.schema.columns] == frame.columns
    assert shown.schema.columns[1].description
    assert deserialize_value(serialize_value(shown), MetadataValue) == shown


def test_a_preview_of_nothing_keeps_its_columns() -> None:
    shown = preview(pl.DataFrame(schema={"reason": pl.String, "rows": pl.Int64}), rows=20)
    assert isinstance(shown, TableMetadataValue)
    assert (shown.records, [column.name for column in shown.schema.columns]) == ([], ["reason", "rows"])


@pytest.mark.parametrize(
    ("values", "bars"), [([0, 50, 100], "▁▅█"), ([100, 100], "██"), ([0, 0], "▁▁"), ([1, 7, 14], "▁▅█"), ([0], "▁")]
)
def test_a_line_of_bars_is_relative_to_the_largest_value(values: list[int], bars: str) -> None:
    """By hand: eight heights, 0 to 7. Half of the largest is 3.5, and 4 as an even number; 1 of 14 is 0.5, and 0."""
    assert sparkline(values) == bars
