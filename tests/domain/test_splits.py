"""Price jumps near a split ratio: by hand, and on drawn prices."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weekly_rows import WEEK

from otc_assets.domain.schema import AMOUNT
from otc_assets.domain.splits import MIN_TRADES, split_ratio, splits


def weeks_of(*weeks: tuple[int | str, int | str | None], trades: int = 1_000) -> pl.DataFrame:
    """Rows of symbol A in consecutive weeks up to WEEK: shares, dollars."""
    first = WEEK - dt.timedelta(weeks=len(weeks) - 1)
    return pl.DataFrame(
        [
            (first + dt.timedelta(weeks=n), "A", Decimal(shares), trades, None if usd is None else Decimal(usd))
            for n, (shares, usd) in enumerate(weeks)
        ],
        schema={
            "week_ending": pl.Date,
            "symbol": pl.String,
            "total_volume": AMOUNT,
            "total_trades": pl.Int64,
            "total_notional": AMOUNT,
        },
        orient="row",
    )


def found(rows: pl.DataFrame) -> list[tuple[dt.date, str]]:
    return splits(rows, ["symbol"]).select("split_week", "split_ratio").rows()


def test_a_ten_for_one_split_is_the_week_of_the_new_price() -> None:
    """By hand: 1,000 shares at $50, then 10,400 at $5: the price falls to a tenth."""
    rows = weeks_of((1_000, 50_000), (1_100, 55_000), (10_400, 52_000), (9_800, 49_000))
    assert found(rows) == [(WEEK - dt.timedelta(weeks=1), "10:1")]


def test_a_reverse_split_is_the_ratio_upside_down() -> None:
    assert found(weeks_of((50_000, 10_000), (1_000, 10_500))) == [(WEEK, "1:50")]  # $0.20, then $10.50


@pytest.mark.parametrize(
    "rows",
    [
        weeks_of((1_000, 50_000), (1_300, 52_000)),  # $50, then $40: no ratio is near
        weeks_of((1_000, 50_000), (10_000, 500_000)),  # ten times the shares at the same price
        weeks_of((1_000, 50_000), (40_000, 200_000)),  # a tenth of the price, and four times the dollars
        weeks_of((1_000, 50_000), (10_000, None)),  # a download file has no dollars
        weeks_of((1_000, 50_000), (10_000, 50_000), trades=MIN_TRADES - 1),
        weeks_of((1_000, 50_000), (0, 0)),
    ],
)
def test_no_split_is_reported_where_the_price_or_the_dollars_do_not_look_like_one(rows: pl.DataFrame) -> None:
    assert found(rows) == []


def test_a_price_is_compared_with_that_of_the_week_in_which_the_symbol_last_traded() -> None:
    rows = weeks_of((1_000, 50_000), (0, 0), (10_000, 50_000))
    assert found(rows) == [(WEEK, "10:1")]


@given(
    ratio=st.sampled_from(["2:1", "3:1", "5:1", "10:1", "20:1", "3:2", "1:2", "1:8", "1:30"]),
    moved=st.fractions(Fraction(93, 100), Fraction(107, 100)),
)
def test_a_price_that_also_moves_by_up_to_seven_percent_has_the_same_ratio(ratio: str, moved: Fraction) -> None:
    new, old = map(int, ratio.split(":"))
    assert split_ratio(float(Fraction(new, old) * moved)) == ratio


@given(st.floats(0.75, 1.33))
def test_ordinary_changes_of_the_price_are_no_split(factor: float) -> None:
    assert split_ratio(factor) is None
