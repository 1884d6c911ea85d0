"""The worked examples of docs/figures.md: every cell against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

import polars as pl
import pytest
from weekly_rows import WEEK, Frames, volume_row

from otc_assets.domain.schema import PUBLISHED_TOTAL, VENUE_VOLUME
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS, weeks_up_to
from otc_assets.settings import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
#: A table's name, and the rows below it.
_TABLE = re.compile(r"^`(\w+)`:\n\n((?:\|.*\|\n)+)", re.M)
_NUMBER = re.compile(r"-?\d[\d.]*")
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
    if name == "venue_volume":
        return volume
    figure = TABLES[name]
    assert isinstance(figure, Figure)
    sources = {source: computed(source, volume) for source in figure.sources}
    if figure.weeks == 1:
        return figure.formula(sources[figure.sources[0]])
    captured = pl.DataFrame({"week_ending": volume["week_ending"].unique()}).join(
        pl.DataFrame({"tier": [tier.name for tier in TIERS]}), how="cross"
    )
    if len(sources) == 1:
        return figure.formula(*sources.values(), captured, WEEK)
    return figure.formula(Frames({**sources, "published_total": PUBLISHED_TOTAL.to_frame()}), captured, WEEK)


def text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


@pytest.mark.parametrize(
    ("name", "rows", "expected"), [pytest.param(*rest, id=f"{heading}, {rest[0]}") for heading, *rest in examples()]
)
def test_a_worked_example_is_what_the_code_computes(name: str, rows: Cells, expected: Cells) -> None:
    """By hand: the formulas are on the page."""
    of_week = ["symbol", "venue_id", "share_volume", "trade_count", "notional"]
    assert rows[0] in (of_week, ["weeks", "tier", *of_week])
    if rows[0] == of_week:
        rows = [rows[0], *(["6", TIERS[0].name, *row] for row in rows[1:])]
    volume = pl.DataFrame(
        [
            volume_row(symbol, venue, shares, int(trades), weeks_up_to(WEEK)[number - 1], tier)
            | {"notional": None if notional == "-" else Decimal(notional)}
            for numbers, tier, symbol, venue, shares, trades, notional in rows[1:]
            for number in weeks_of(numbers)
        ],
        schema=VENUE_VOLUME,
    )
    header, *lines = expected
    made = [[text(value) for value in row] for row in computed(name, volume).select(header).rows()]
    assert made == [[text(Decimal(cell)) if _NUMBER.fullmatch(cell) else cell for cell in line] for line in lines]


def weeks_of(text: str) -> range:
    """'3 to 5', or '6'."""
    first, _, last = text.partition(" to ")
    return range(int(first), int(last or first) + 1)


def test_the_examples_have_the_figures_of_value_of_roles_and_over_weeks() -> None:
    """An example that the pattern does not find would not be tested."""
    shown = {(name, column) for _, name, _, expected in examples() for column in expected[0]}
    assert len(list(examples())) == len(re.findall(r"^`\w+`:$", PAGE, re.M)) - 3 == 12
    for column in ("implied_price", "notional_top_venue_share_pct", "block_like_share_pct", "block_undecided_volume"):
        assert ("symbol_summary", column) in shown
    for column in ("notional_hhi", "notional_hhi_lower", "notional_top_3_share_pct"):
        assert ("market_concentration", column) in shown
    assert ("role_share", "notional_share_pct") in shown
    assert {"symbol", "symbol_rolling", "venue_rolling", "week_changes"} <= {name for name, _ in shown}
