"""Exact sums and quotients of shares, dollars and counts: averages, shares, indices.

Every division is in integers, rounded half up. Which values are divided is in the modules of the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from otc_assets.domain.schema import AMOUNT

_WHOLE = pl.Int128
#: The first whole number that is too large for ``_WHOLE``.
_OVERFLOW = 2**127


def _constant(number: int) -> pl.Series:
    return pl.Series([number], dtype=_WHOLE)


def millionths(amount: pl.Expr) -> pl.Expr:
    """An amount (AMOUNT) as a whole number of millionths (Int128)."""
    return amount.cast(AMOUNT).to_physical()


def complete_sum(name: str) -> pl.Expr:
    """The sum of a column, under its name; null if any value is missing: a sum of some of the values is no total."""
    values = pl.col(name)
    return pl.when(values.is_not_null().all()).then(values.sum()).alias(name)


def quotient(numerator: pl.Expr, denominator: pl.Expr, *, shift: int = 0) -> pl.Expr:
    """``numerator / denominator * 10**shift`` as a decimal of six places, rounded half up.

    Polars rounds half to even, and PostgreSQL half up (away from zero, as here): the same figure would differ
    between a frame and SQL. Where an intermediate result would overflow, a few digits are divided at a time.

    Args:
        numerator: whole numbers, of either sign.
        denominator: whole numbers, not negative, below 10**36; the quotient is null where it is zero.
        shift: -6 or more.

    Returns:
        Decimal(38, 6).
    """
    return pl.map_batches(
        [numerator.cast(_WHOLE), denominator.cast(_WHOLE)],
        lambda columns: _divide(columns[0], columns[1], 6 + shift),
        return_dtype=AMOUNT,
        is_elementwise=True,
    )


def _divide(numerator: pl.Series, denominator: pl.Series, digits: int) -> pl.Series:
    size, scale = numerator.abs(), 10**digits
    largest: Any = denominator.max() or 1
    if 2 * scale * (size.max() or 0) + largest < _OVERFLOW:
        # n/d + 1/2 as one division, because a division costs as much as six other operations.
        result = (size * _constant(2 * scale) + denominator) // (denominator + denominator)
    else:
        result = size // denominator
        rest = size - result * denominator
        # A rest is less than its denominator: so many digits more do not overflow.
        at_once = len(str(_OVERFLOW // largest)) - 1
        for start in range(0, digits, at_once):
            power = _constant(10 ** min(at_once, digits - start))
            rest = rest * power
            quotients = rest // denominator
            result, rest = result * power + quotients, rest - quotients * denominator
        result = result + (rest + rest >= denominator).cast(_WHOLE)
    return _of_millionths(result * numerator.sign())


def _of_millionths(number: pl.Series) -> pl.Series:
    return number.reinterpret(dtype=AMOUNT)


#: Below it, terms are divided as 128-bit integers.
_NARROW = 1e35


def wide_quotient(parts: Sequence[pl.Expr], fraction: Callable[..., tuple[Any, Any]], *, shift: int = 0) -> pl.Expr:
    """As ``quotient``, for a fraction whose terms may need more than 128 bits: for those, row by row.

    Null where a part is null, or the denominator is zero.

    Args:
        parts: whole numbers, not negative.
        fraction: takes ``parts``, and returns numerator and denominator by additions and multiplications alone: it is
            called with columns, and with the integers of rows that need more than 128 bits.
        shift: -6 or more.
    """

    def divide(columns: Sequence[pl.Series]) -> pl.Series:
        sizes = fraction(*(column.cast(pl.Float64) for column in columns))
        is_narrow = ((sizes[0] < _NARROW) & (sizes[1] < _NARROW)).fill_null(True)
        if is_narrow.all():
            return _divide(*fraction(*columns), 6 + shift)
        table = pl.DataFrame(list(columns), schema=[str(number) for number in range(len(columns))])
        narrow = _divide(*fraction(*table.filter(is_narrow)), 6 + shift)
        wide = _divide_rows(table.filter(~is_narrow), fraction, 10 ** (6 + shift))
        place = pl.int_range(len(is_narrow), eager=True)
        order = pl.concat([place.filter(is_narrow), place.filter(~is_narrow)])
        return pl.concat([narrow.rename(""), wide]).gather(order.arg_sort())

    return pl.map_batches([part.cast(_WHOLE) for part in parts], divide, return_dtype=AMOUNT, is_elementwise=True)


def _divide_rows(table: pl.DataFrame, fraction: Callable[..., tuple[int, int]], scale: int) -> pl.Series:
    terms = (fraction(*row) for row in table.iter_rows())
    sizes = pl.Series([(2 * n * scale + d) // (2 * d) if d else None for n, d in terms], dtype=_WHOLE)
    return _of_millionths(sizes)


def percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """``part`` in percent of ``whole``, both amounts; null where the whole is zero."""
    return quotient(millionths(part), millionths(whole), shift=2)


def per_trade(shares: pl.Expr, trades: pl.Expr) -> pl.Expr:
    """Shares per trade; null where there was no trade."""
    return quotient(millionths(shares), trades, shift=-6)
