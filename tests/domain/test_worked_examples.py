"""The worked examples of docs/figures.md: every cell against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

import polars as pl
import pytest
from weekly_rows import volume_row

from otc_assets.domain.schema import VENUE_VOLUME
from otc_assets.domain.tables import TABLES, Figure
from otc_assets.settings import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
#: A table's name, and the rows below it.
_TABLE = re.compile(r"^`(\w+)`:\n\n((?:\|.*\|\n)+)", re.M)
Cells = list[list[str]]


def examples() -> Iterator[tuple[str, str, Cells, Cells]]:
    """(heading, figure, rows of venue volume, rows of the figure), with the header as the first row."""
    for section in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        found = [(name, cells(rows)) for name, rows in _TABLE.findall(section)]
        assert [name for name, _ in found].index("venue_volume") == 0
        for name, rows in found[1:]:
            yield section.partition("\n")[0], name, found[0][1], rows


def cells(table: str) -> Cells:
    header, line, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines())
    assert set(line) == {"---"}
    return [header, *rows]


def computed(name: str, volume: pl.DataFrame) -> pl.DataFrame:
    figure = TABLES[name]
    assert isinstance(figure, Figure)
    return figure.formula(volume if figure.source == "venue_volume" else computed(figure.source, volume))


def text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


@pytest.mark.parametrize(
    ("name", "rows", "expected"), [pytest.param(*rest, id=f"{heading}, {rest[0]}") for heading, *rest in examples()]
)
def test_a_worked_example_is_what_the_code_computes(name: str, rows: Cells, expected: Cells) -> None:
    """By hand: the formulas are on the page."""
    assert rows[0] == ["symbol", "venue_id", "share_volume", "trade_count", "notional"]
    volume = pl.DataFrame(
        [
            volume_row(symbol, venue, shares, int(trades))
            | {"notional": None if notional == "-" else Decimal(notional)}
            for symbol, venue, shares, trades, notional in rows[1:]
        ],
        schema=VENUE_VOLUME,
    )
    header, *lines = expected
    made = [[text(value) for value in row] for row in computed(name, volume).select(header).rows()]
    assert made == [[text(Decimal(cell)) if re.fullmatch(r"[\d.]+", cell) else cell for cell in line] for line in lines]


def test_the_examples_have_every_figure_of_value_and_of_roles() -> None:
    """An example that the pattern does not find would not be tested."""
    shown = {(name, column) for _, name, _, expected in examples() for column in expected[0]}
    assert len(list(examples())) == len(re.findall(r"^`\w+`:$", PAGE, re.M)) - 2 == 8
    for column in ("implied_price", "notional_top_venue_share_pct", "block_like_share_pct", "block_undecided_volume"):
        assert ("symbol_summary", column) in shown
    for column in ("notional_hhi", "notional_hhi_lower", "notional_top_3_share_pct"):
        assert ("market_concentration", column) in shown
    assert ("role_share", "notional_share_pct") in shown
