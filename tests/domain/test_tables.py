"""The registry of tables: entries that can't be right are found without a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from otc_assets.domain.checks import CHECKS
from otc_assets.domain.dictionary import data_dictionary
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES, figures, in_order


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_a_table_has_a_note(name: str) -> None:
    table = TABLES[name]
    assert all(table.note(column).text for column in table.schema)
    assert set(table.notes) <= set(table.schema)


@pytest.mark.parametrize("name", TABLES)
def test_keys_volume_and_layouts_name_columns_of_the_table(name: str) -> None:
    """A misspelled column would be seen by the first load, or by a server with TimescaleDB, at the earliest."""
    table = TABLES[name]
    named = {*table.key, *([table.volume] if table.volume else [])}
    for layout in (table.layout, table.revisions):
        if layout:
            named |= {*layout.segment_by.split(", "), *layout.order_by.split(", ")} - {"known_to"}
    assert named <= set(table.schema)


@pytest.mark.parametrize("figure", figures(), ids=lambda figure: figure.name)
def test_a_figure_reads_columns_of_a_table_that_is_computed_before_it(figure: Figure) -> None:
    order = in_order()
    assert all(order.index(source) < order.index(figure.name) for source in figure.sources)
    assert set(figure.reads or ()) <= set(TABLES[figure.sources[0]].schema)


def test_a_note_is_overridden_by_the_table_alone_that_means_something_else() -> None:
    assert "ALL" in str(TABLES["market_concentration"].note("tier"))
    assert "ALL" not in str(TABLES["symbol_concentration"].note("tier"))
    assert str(TABLES["symbol_summary"].note("total_volume")) == "share volume (shares)"


def test_checks_are_of_assets_that_there_are() -> None:
    assert {check.asset for check in CHECKS} <= {*TABLES, "gap_report", "parquet_export", WEEKLY_REPORT.name}


def test_the_data_dictionary_is_current() -> None:
    """Columns changed and the page did not. Run: python -m otc_assets.domain.dictionary > docs/data-dictionary.md"""
    page = Path(__file__).resolve().parent.parent.parent / "docs" / "data-dictionary.md"
    assert page.read_text(encoding="utf-8") == data_dictionary()


def test_the_data_dictionary_has_every_column_and_every_check() -> None:
    lines = data_dictionary().splitlines()
    for table in TABLES.values():
        section = lines[lines.index(f"## {table.name}") :]
        head = next(at for at, line in enumerate(section) if line.startswith("| --- |"))
        rows = [line.split(" | ")[0] for line in section[: section.index("", head)]]
        assert [row for row in rows if row.startswith("| `")] == [f"| `{column}`" for column in table.schema]
    assert [line.split(" | ")[1] for line in lines[-len(CHECKS) :]] == [f"`{check.name}`" for check in CHECKS]
