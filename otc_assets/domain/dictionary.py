"""The data dictionary: the registries of tables and checks as a page of Markdown.

``python -m otc_assets.domain.dictionary > docs/data-dictionary.md`` generates it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from otc_assets.domain.checks import CHECKS, Check
from otc_assets.domain.column_lineage import columns_from
from otc_assets.domain.table import Figure, Table
from otc_assets.domain.tables import TABLES

_TYPES = {pl.Date: "date", pl.String: "text", pl.Int64: "integer", pl.Boolean: "boolean"}

_HEAD = """\
# Data dictionary

The tables of the schema `otc` that are keyed by week, and the checks on them. `week_ending` is always a Friday. This
page is generated from `otc_assets/domain/tables.py` and `otc_assets/domain/checks.py`. The columns in the database have
the same texts as comments.

Before schema version 041, `of_which_de_minimis_volume` was named `de_minimis_volume`. Concentration figures that were
computed before have no lower bound and no trades until their week is recomputed, which the sensor for stale weeks
requests. If retention has deleted the week's venue volume, these columns stay null. The same is true of the figures of
value (`implied_price` and columns with `notional` in their names) and of block-like volume, which are of schema version
042.

Of figures, *from* has the columns that a column is computed from, beside the keys. A test measures them: it changes
inputs and looks at what follows. `share_volume` of `venue_volume` is FINRA's `totalWeeklyShareQuantity`.

FINRA's values are whole dollars before the trading week that began on 2025-03-10, and have decimals since. Files of
FINRA's website have no values: all figures of value are null in weeks that were captured from them.
"""
_CHECKS = """\
## Checks

A failed check of `venue_volume` costs points, or makes the grade F. Grade F blocks downstream assets. The score is 100
minus these points. Grade A is a score from 95, B from 85, C from 70, D from 50. If the only errors are `complete` and
`none_quarantined`, or there are none, the score is at least 50.

Before schema version 031, `rows_reconciled` was named `books_balance`, `rejection_rate` was `few_rejected`, and
`shares_sum_to_100` was `shares_add_up`. The history in Dagster, the events and the counters of that time keep the old
names.
"""


def data_dictionary() -> str:
    """The page, which ends with a line break."""
    checks = _rows(
        ("asset", "check", "passes if", "severity", "failure"),
        ((f"`{c.asset}`", f"`{c.name}`", c.description, c.severity, _effect(c)) for c in CHECKS),
    )
    return "\n".join([_HEAD, *(line for table in TABLES.values() for line in _of(table)), _CHECKS, *checks, ""])


def _of(table: Table) -> Iterator[str]:
    yield f"## {table.name}\n"
    yield f"{table.description}\n"
    yield f"- Key: {', '.join(f'`{column}`' for column in table.key)}"
    if isinstance(table, Figure):
        weeks = f"the week and the {table.weeks - 1} weeks before it" if table.weeks > 1 else "the week"
        yield f"- Computed from: {', '.join(f'`{source}`' for source in table.sources)}, {weeks}"
    kept = f"`OTC_KEEP_{table.retention.upper()}_WEEKS`" if table.retention else "indefinite"
    yield f"- Retention: {kept}"
    if table.revisions:
        yield f"- Replaced rows: `{table.name}_revision`; as of a moment: `{table.name}_as_of(moment)`"
    yield ""
    columns = ((name, table.schema[name], table.note(name)) for name in table.schema)
    rows = [(f"`{name}`", _type(kind), note.text, note.unit) for name, kind, note in columns]
    if isinstance(table, Figure):
        yield from _rows(
            ("column", "type", "meaning", "unit", "from"),
            ((*row, _from(table, name)) for row, name in zip(rows, table.schema, strict=True)),
        )
    else:
        yield from _rows(("column", "type", "meaning", "unit"), rows)
    yield ""


def _from(table: Figure, column: str) -> str:
    """The columns that a column is computed from; those of the only source without its name."""
    single = len(table.sources) == 1
    return ", ".join(
        f"`{name}`" if single else f"`{source}.{name}`" for source, name in columns_from(table.name, column)
    )


def _type(kind: pl.DataType) -> str:
    if isinstance(kind, pl.Decimal):
        return f"decimal({kind.precision}, {kind.scale})"
    return _TYPES[kind.base_type()]


def _effect(check: Check) -> str:
    if check.blocking:
        return "blocks downstream assets"
    if check.fatal:
        return "grade F"
    return f"{check.cost} points" if check.cost else ""


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    print(data_dictionary(), end="")
