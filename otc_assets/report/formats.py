"""How the report writes numbers, units and dates: one way for each, in the page's sentences and tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

#: Between a number and its unit: a line never breaks there.
NBSP = "\u00a0"
#: The typographic minus sign, as wide as a plus.
MINUS = "\u2212"
NONE = "\u2013"  # an en dash: there is no such figure

_SCALES = ((Decimal(10**12), "trillion"), (Decimal(10**9), "billion"), (Decimal(10**6), "million"))


def rounded(value: Decimal, places: int) -> Decimal:
    """Rounded half up; never minus zero."""
    result = value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return abs(result) if result == 0 else result


def number(value: Decimal | int | None, places: int = 0) -> str:
    """With thousands separators. A value that is not zero and would be shown as zero is shown as below the least."""
    if value is None:
        return NONE
    result = rounded(Decimal(value), places)
    if result == 0 and value != 0:
        least = Decimal(1).scaleb(-places)
        return f"<{least:.{places}f}" if value > 0 else f">{MINUS}{least:.{places}f}"
    return f"{result:,.{places}f}".replace("-", MINUS)


def millions(value: Decimal | int | None, places: int = 1) -> str:
    """In millions, for columns whose heading has the unit."""
    return NONE if value is None else number(Decimal(value) / 10**6, places)


def words(value: Decimal | int) -> str:
    """Three significant digits and a word: '2.73 billion'; below a million all digits."""
    size = Decimal(value)
    for scale, word in _SCALES:
        # Shown in the unit below, it would be rounded to a thousand of it; below a million that is a share.
        below = scale / 1000 if scale > 10**6 else Decimal(1)
        if rounded(abs(size) / below, 0) * below >= scale:
            part = size / scale
            places = 2 if abs(part) < 10 else 1 if abs(part) < 100 else 0
            return f"{number(part, places)}{NBSP}{word}"
    return number(size)


def dollars(value: Decimal | None) -> str:
    """A value in US dollars, in words."""
    return NONE if value is None else f"${words(value)}"


def pct(value: Decimal | None, places: int = 1) -> str:
    """A percentage."""
    return NONE if value is None else f"{number(value, places)}{NBSP}%"


def signed(value: Decimal | None, places: int = 1) -> str:
    """A change, with its sign; zero has none."""
    if value is None:
        return NONE
    result = rounded(value, places)
    return f"{'+' if result > 0 else ''}{result:,.{places}f}".replace("-", MINUS)


def signed_pct(value: Decimal | None) -> str:
    """A change in percent, with its sign."""
    return NONE if value is None else f"{signed(value)}{NBSP}%"


def day(value: dt.date | None) -> str:
    """As in '6 Nov 2026', for tables."""
    return NONE if value is None else f"{value.day}{NBSP}{value:%b}{NBSP}{value.year}"


def short_day(value: dt.date) -> str:
    """As in '6 Nov', for axes."""
    return f"{value.day} {value:%b}"


def long_day(value: dt.date) -> str:
    """As in 'Friday, 6 November 2026', for sentences."""
    return f"{value:%A}, {value.day}{NBSP}{value:%B}{NBSP}{value.year}"


def moment(value: dt.datetime) -> str:
    """As in '23 Nov 2026, 11:05 UTC'."""
    there = value.astimezone(dt.UTC)
    return f"{day(there.date())}, {there:%H:%M}{NBSP}UTC"


def count(value: int, one: str, many: str | None = None) -> str:
    """As in '1 trade' and '2 trades'."""
    return f"{value:,}{NBSP}{one if value == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """As in 'A, B and C'."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
