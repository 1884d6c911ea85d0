"""Which columns a column of a figure is computed from, down to FINRA's fields.

The list, ``reference/column_lineage.csv``, is measured by a test that changes inputs and looks at what follows. It has
measures only: rows are grouped by keys, so every column depends on the keys of its sources.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

#: By column of ``venue_volume`` that is no key, FINRA's field.
FIELDS: Mapping[str, str] = {
    "share_volume": "totalWeeklyShareQuantity",
    "trade_count": "totalWeeklyTradeCount",
    "notional": "totalNotionalSum",
    "issue_name": "issueName",
    "venue_name": "marketParticipantName",
    "venue_kind": "summaryTypeCode",
    "product_type": "productTypeCode",
}


@cache
def _listed() -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    lines = (files(__package__) / "reference" / "column_lineage.csv").read_text().splitlines()
    found: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
    for row in csv.DictReader(lines):
        key = row["table"], row["column"]
        found[key] = (*found.get(key, ()), (row["source"], row["source_column"]))
    return found


def columns_from(table: str, column: str) -> tuple[tuple[str, str], ...]:
    """The (table, column) pairs that a column of a figure is computed from; empty for keys and constants."""
    return _listed().get((table, column), ())


def inputs_of(table: str, column: str) -> set[str]:
    """FINRA's fields that a column depends on, through all tables between."""
    if table == "venue_volume":
        return {FIELDS[column]} if column in FIELDS else set()
    return {name for source in columns_from(table, column) for name in inputs_of(*source)}
