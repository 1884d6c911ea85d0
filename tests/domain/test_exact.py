"""The one division: whole numbers, rounded half up."""

from __future__ import annotations

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otc_assets.domain.exact import per_trade, percent, quotient, wide_quotient
from otc_assets.domain.schema import AMOUNT


def half_up(value: Fraction) -> int:
    """Millionths of ``value``, half away from zero, in Python's unbounded whole numbers."""
    size = abs(value) * 1_000_000
    whole = (2 * size.numerator + size.denominator) // (2 * size.denominator)
    return -whole if value < 0 else whole


def divided(numerator: int, denominator: int, shift: int) -> int | None:
    """What ``quotient`` makes of two whole numbers, in millionths."""
    frame = pl.DataFrame({"n": [numerator], "d": [denominator]}, schema={"n": pl.Int128, "d": pl.Int128})
    (value,) = frame.select(quotient(pl.col("n"), pl.col("d"), shift=shift)).to_series()
    return None if value is None else int(Fraction(value) * 1_000_000)  # Decimal's own product keeps 28 digits


@given(
    numerator=st.integers(-(10**22), 10**22),
    denominator=st.integers(1, 10**22),
    shift=st.sampled_from([-6, 0, 2, 4]),
)
@example(numerator=10**22, denominator=1, shift=4)
@example(numerator=2**127 // (2 * 10**10) - 1, denominator=1, shift=4)  # the largest that one division takes
@example(numerator=2**127 // (2 * 10**10), denominator=10**20, shift=4)
def test_a_quotient_is_the_exact_one_rounded_half_up(numerator: int, denominator: int, shift: int) -> None:
    """Guards every average, share and index against float noise; the witness is Python's Fraction."""
    exact = Fraction(numerator, denominator) * Fraction(10) ** shift
    assert divided(numerator, denominator, shift) == half_up(exact)


@given(share=st.integers(0, 10**36), whole=st.integers(1, 10**36))
def test_squares_of_a_whole_market_are_divided_without_overflow(share: int, whole: int) -> None:
    """Guards the HHI: 128 bits hold the squares, but not the squares times ten thousand."""
    part = min(share, whole)
    assert divided(part, whole, 4) == half_up(Fraction(part, whole) * 10_000)


_PARTS = st.tuples(
    *[st.integers(0, 10**6) | st.integers(0, 10**36)] * 2,
    st.integers(0, 10**3) | st.integers(0, 10**30),
)


@given(rows=st.lists(st.none() | _PARTS, min_size=1), shift=st.sampled_from([-6, 0, 4]))
@example(rows=[(1, 0, 3), None, (1, 2, 10**30)], shift=0)
@example(
    rows=[(1, 2, 10**6), (10**36, 1, 10**30), (0, 0, 1), (1, 2, 1)], shift=0
)  # 1 / 3 among fractions that need more
def test_a_fraction_whose_terms_need_more_than_128_bits_is_rounded_half_up(
    rows: list[tuple[int, int, int] | None], shift: int
) -> None:
    """Guards the lower bound of the HHI; null where a part is null or the denominator is zero."""
    table = [row or (None, None, 1) for row in rows]
    frame = pl.DataFrame(table, schema=dict.fromkeys("abc", pl.Int128), orient="row")
    parts = [pl.col(name) for name in "abc"]
    made = frame.select(wide_quotient(parts, lambda a, b, c: (a * c, a * c + b * c), shift=shift)).to_series()
    expected = [
        half_up(Fraction(row[0], row[0] + row[1]) * Fraction(10) ** shift)
        if row and (row[0] + row[1]) * row[2]
        else None
        for row in rows
    ]
    assert [None if value is None else Fraction(value) * 1_000_000 for value in made] == expected


@pytest.mark.parametrize(
    ("numerator", "expected"),
    # 1/2, 3/2 and 5/2 millionths: half to even would give 0, 2 and 2.
    [(1, 1), (3, 2), (5, 3), (-1, -1), (-3, -2), (-5, -3)],
)
def test_halves_are_rounded_away_from_zero_as_postgresql_does(numerator: int, expected: int) -> None:
    """Polars rounds halves of decimals to even, so that SQL on the same rows would give another figure."""
    assert divided(numerator, 2, -6) == expected


def test_a_quotient_by_zero_is_null() -> None:
    """Guards against NaN, infinity and errors where nothing was traded."""
    frame = pl.DataFrame({"a": ["0", "1.5"], "z": ["0", "0"]}).cast(AMOUNT)
    assert frame.select(percent(pl.col("a"), pl.col("z"))).to_series().to_list() == [None, None]
    assert frame.select(per_trade(pl.col("a"), pl.lit(0))).to_series().to_list() == [None, None]


def test_no_rows_divide_to_no_rows() -> None:
    """Guards weeks without rows: constants must not stretch them to one."""
    frame = pl.DataFrame(schema={"n": pl.Int64, "d": pl.Int64})
    assert frame.select(quotient(pl.col("n"), pl.col("d"))).shape == (0, 1)
