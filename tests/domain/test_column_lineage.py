"""Which columns each column of a figure is computed from: measured, by changing inputs and looking at what follows.

``python tests/domain/test_column_lineage.py > otc_assets/domain/reference/column_lineage.csv`` writes the list again.
"""

from __future__ import annotations

import datetime as dt
import random
import sys
from collections.abc import Iterator
from decimal import Decimal
from functools import cache

import polars as pl
import pytest
from weekly_rows import Frames, volume_row

from otc_assets.domain.column_lineage import FIELDS, columns_from, inputs_of
from otc_assets.domain.schema import PUBLISHED_TOTAL, VENUE_VOLUME
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES, figures
from otc_assets.domain.weeks import T1, T2, TIERS, weeks_between, weeks_up_to

WEEKS = weeks_between(dt.date(2026, 6, 5), dt.date(2026, 8, 21))
#: So many changes of each column are looked at.
ROUNDS = 8
#: What is no measure: a changed key is another row, and not another value.
KEYS = frozenset({"week_ending", "tier", "symbol", "venue_id", "venue_scope", "role", "kind", "subject"})


def _volume() -> pl.DataFrame:
    """Twelve weeks with a split, a mover, a symbol that changes tier, a rename, and a venue that follows another."""
    rng = random.Random(7)
    rows = []
    for number, week in enumerate(WEEKS):
        for tier in TIERS:
            for symbol in range(9):
                name = f"{tier.id}S{symbol}"
                if (symbol == 8 and tier == T1 and number > 8) or (symbol == 8 and tier == T2 and number <= 8):
                    continue
                name = "MOVES" if symbol == 8 and tier in (T1, T2) else name
                price = Decimal(50) / (10 if symbol == 3 and number >= 10 else 1)
                for venue in ("AAAA", "BBBB", "OLDV" if number < 9 else "NEWV", "149823", "7", "DE_MINIMIS"):
                    if rng.random() < 0.15:
                        continue
                    size = 40 if symbol == 5 and number == len(WEEKS) - 1 else 1
                    shares = Decimal(rng.randrange(2_000, 90_000) * size)
                    row = volume_row(name, venue, shares, rng.randrange(5, 60), week, tier.name)
                    row["notional"] = shares * price * Decimal(rng.randrange(95, 106)) / 100
                    renamed = "Renamed " if symbol == 2 and number >= 10 else ""
                    row["issue_name"] = f"{renamed}{name} Incorporated"
                    row["venue_name"] = f"Venue {venue}" if number < 11 or venue != "BBBB" else "Venue renamed"
                    rows.append(row)
    return pl.DataFrame(rows, schema=VENUE_VOLUME)


def _captured() -> pl.DataFrame:
    pairs = [(week, tier.name) for week in WEEKS for tier in TIERS]
    return pl.DataFrame(pairs, {"week_ending": pl.Date(), "tier": pl.String()}, orient="row")


def _computed(figure: Figure, tables: dict[str, pl.DataFrame], week: dt.date) -> pl.DataFrame:
    """The week's rows, from rows of the sources."""
    weeks = weeks_up_to(week, figure.weeks)
    source, *others = figure.sources
    captured = _captured().filter(pl.col("week_ending").is_in(weeks))
    if others:
        return figure.formula(Frames(tables), captured, week)
    rows = tables[source].filter(pl.col("week_ending").is_in(weeks))
    rows = rows.select(figure.reads) if figure.reads else rows
    if figure.weeks > 1:
        return figure.formula(rows, captured, week)
    return figure.formula(rows)


@cache
def _tables() -> dict[str, pl.DataFrame]:
    volume = _volume()
    totals = volume.unique(["week_ending", "tier", "symbol"], maintain_order=True).with_columns(
        pl.lit("SYMBOL").alias("total_of"),
        pl.concat_str(pl.lit("type "), pl.col("symbol").str.tail(1)).alias("product_type"),
        pl.lit(None, pl.Date).alias("last_update_date"),
    )
    tables = {"venue_volume": volume, "published_total": totals.select(list(PUBLISHED_TOTAL))}
    for figure in figures():
        tables[figure.name] = pl.concat(_computed(figure, tables, week) for week in WEEKS)
    return tables


def _changed(column: pl.Series, rng: random.Random) -> pl.Series:
    """The column with about a third of its values changed: the largest scaled, texts replaced, some null."""
    values = column.to_list()
    for at, value in enumerate(values):
        if value is None or rng.random() > 0.34:
            continue
        if isinstance(value, bool):
            values[at] = not value
        elif isinstance(value, (int, Decimal)):
            values[at] = type(value)(int(value * rng.randrange(2, 40)) + rng.randrange(1, 9))
        elif isinstance(value, str):
            values[at] = f"Other {rng.randrange(9)}"
        elif isinstance(value, dt.date):
            values[at] = value - dt.timedelta(weeks=rng.randrange(1, 4))
    return pl.Series(column.name, values, dtype=column.dtype)


def _differing(figure: Figure, before: pl.DataFrame, after: pl.DataFrame) -> Iterator[str]:
    """The columns with another value in a row that is in both."""
    key = list(figure.key)
    both = before.join(after, on=key, how="inner", suffix="__after", nulls_equal=True)
    for column in figure.schema:
        if column not in key and not both[column].equals(both[f"{column}__after"].alias(column), null_equal=True):
            yield column


def measured(figure: Figure) -> set[tuple[str, str, str]]:
    """(column, source, column of the source) of every dependency that a change shows, in the newest week."""
    tables, week, found = _tables(), WEEKS[-1], set()
    before = _computed(figure, tables, week)
    for source in (*figure.sources, *(("published_total",) if figure.name == "symbol" else ())):
        reads = figure.reads if len(figure.sources) == 1 and figure.reads else tables[source].columns
        for column in sorted(set(reads) - KEYS):
            for number in range(ROUNDS):
                rng = random.Random(f"{figure.name} {source} {column} {number}")
                other = tables[source].with_columns(_changed(tables[source][column], rng))
                try:
                    after = _computed(figure, {**tables, source: other}, week)
                except (pl.exceptions.PolarsError, ValueError, TypeError, ArithmeticError):
                    continue  # values that no source can have
                found |= {(name, source, column) for name in _differing(figure, before, after)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("figure", figures(), ids=lambda figure: figure.name)
def test_the_list_has_every_dependency_that_a_change_of_the_input_shows(figure: Figure) -> None:
    listed = {(column, source, name) for column in figure.schema for source, name in columns_from(figure.name, column)}
    assert listed == measured(figure)


def test_the_hhi_comes_from_finras_share_quantity() -> None:
    # The kind decides whether a venue counts among ATSs, among other firms, or both.
    assert columns_from("symbol_concentration", "hhi") == (
        ("venue_volume", "share_volume"),
        ("venue_volume", "venue_kind"),
    )
    assert inputs_of("symbol_concentration", "hhi") == {"totalWeeklyShareQuantity", "summaryTypeCode"}
    assert inputs_of("symbol_rolling", "trend") >= {"totalWeeklyShareQuantity"}
    assert set(FIELDS) <= set(VENUE_VOLUME)
    sources = {pair for each in figures() for column in each.schema for pair in columns_from(each.name, column)}
    assert all(column in TABLES[table].schema for table, column in sources)


if __name__ == "__main__":
    print("table,column,source,source_column")
    for each in figures():
        for dependency in sorted(measured(each)):
            print(",".join((each.name, *dependency)))
        print(each.name, file=sys.stderr)
