"""Typed values of FINRA's fields, from their text in a file.

Reading rows is in ``parsing``; what a row means, and whether it is accepted, is in ``normalize``.

Some files were saved by other programs: pandas, R, spreadsheets, SQL clients. Three artefacts of such programs are
undone here, and nothing else is guessed:

* **Missing-value markers** (``NaN``, ``None``, ``null``, ``<NA>``, ``N/A``, ...) are null in every column, with two
  exceptions. In the symbol column a marker of capital letters alone (``NA``, ``NAN``, ``NULL``, ``NONE``) is a
  symbol: exchanges list such tickers. In ``tierIdentifier``, ``NA`` is one of FINRA's codes. A bare NaN in JSON is
  always null. No known MPID, venue name or issue name equals a marker.
* **CRD numbers as floats** (``1001.0``, ``1.001e3``) are the whole number. CRD 0 is null: some programs
  write it on rows of the De Minimis group.
* **Float noise below six decimals** (``141141135.435285002``). Dollars are always rounded to six places: FINRA
  publishes no more, and less than a millionth of a dollar changes no figure. Shares are rounded only where the
  distance to six places is within the error of a double. ``1.1234567`` shares is not noise: it is rejected.
  (From two billion shares on, a double is coarser than the seventh decimal, so that noise can't be recognized.)
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import polars as pl

from otc_assets.domain.schema import AMOUNT, RECORD

#: A row without a value in these columns is rejected.
NEVER_NULL = ("shares", "trades")

#: What pandas, Polars, R, spreadsheets and SQL clients write for a missing value.
MARKERS = frozenset(
    {
        *("NaN", "nan", "NAN", "-NaN", "-nan", "NaT", "<NA>"),
        *("NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A"),
        *("None", "none", "NONE", "null", "Null", "NULL", "(null)"),
    }
)
#: Markers that are values of their column.
_VALUES = {
    "symbol": frozenset(marker for marker in MARKERS if marker.isalpha() and marker.isupper()),
    "tier_id": frozenset({"NA"}),
}

_BLANKS = " \t"

#: Programs that store dates as timestamps write a midnight after the day.
_DATE = re.compile(r"([1-9][0-9]{3}-[0-9]{2}-[0-9]{2})([T ]00:00(:00(\.0{1,9})?)?(Z|[+-]00:?00)?)?")
#: A number in JSON may have an exponent. Python's Decimal would also accept `1_0` and digits of other scripts.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_ENOUGH_DIGITS = Context(prec=64, rounding=ROUND_HALF_UP)
_SIX_PLACES = Decimal("0.000001")
#: PostgreSQL's text type can store neither.
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


class BadValue(Exception):
    """A value that its column can't have."""


def value(text: Any, column: str, field: str) -> Any:
    """The value of one field, typed as its column in RECORD.

    Args:
        text: as in the file; a number as its text.
        column: the column in RECORD.
        field: FINRA's name of it, for messages.

    Raises:
        BadValue: the column can't have it.
    """
    if text is None or text == "":
        return None
    kind = RECORD[column]
    if not isinstance(text, str):
        raise BadValue(f"{field} is {_shown(text)}, not a plain value")
    if is_missing(text, column):
        if column in NEVER_NULL:
            raise BadValue(f"{field} is {text[:40]!r}, not a number")
        return None
    if column == "firm_crd":
        return _crd(text, field)
    if kind == pl.String:
        return _text(text, field)
    if kind == pl.Date:
        return _date(text, field)
    return _number(text, kind, column, field)


def _shown(found: Any) -> str:
    try:
        return json.dumps(found)[:40]
    except RecursionError:  # it could just be read, and this is further from the bottom of the stack
        return "nested too deeply"


def storable(text: str) -> str:
    """The text with escapes for the characters that can't be stored: surrogates, and NUL in PostgreSQL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def typed(text: str, kind: Any, field: str) -> Any:
    """The value of one field that comes from FINRA itself, where no other program has written missing-value markers.

    Args:
        text: as received.
        kind: the type of its column: String, Date, Int64 or AMOUNT.
        field: FINRA's name of it, for messages.

    Returns:
        The value; None if the text is empty.

    Raises:
        BadValue: the column can't have it.
    """
    if not text.strip(_BLANKS):
        return None
    if kind == pl.String:
        return _text(text, field)
    return _date(text, field) if kind == pl.Date else _number(text, kind, "", field)


def is_missing(text: str, column: str) -> bool:
    """Whether ``text`` means a missing value in ``column``: blanks, or a marker that is not a value of the column."""
    return not text.strip(_BLANKS) or (text in MARKERS and text not in _VALUES.get(column, frozenset()))


def maybe_missing(column: str) -> pl.Expr:
    """Whether any text of a column may mean a missing value; for a frame of texts."""
    text = pl.col(column)
    markers = sorted(MARKERS - _VALUES.get(column, frozenset()))
    # Texts that sort before the first visible character begin with a blank.
    return (text.is_in(markers) | (text < "!")).any()


def is_whole_date(text: str) -> bool:
    """Whether ``text`` is a complete date, not the beginning of one."""
    return bool(_DATE.fullmatch(text))


def require(row: Mapping[str, Any], fields: Mapping[Any, str]) -> None:
    """Refuses a row without shares or trades.

    Raises:
        BadValue: one of them is missing.
    """
    for column in NEVER_NULL:
        if row.get(column) is None:
            raise BadValue(f"{fields[column]} is empty")


def _text(text: str, field: str) -> str:
    if found := _UNSTORABLE.search(text):
        at, code = found.start() + 1, f"U+{ord(found[0]):04X}"
        raise BadValue(f"{field} contains {code} at character {at}, which can't be stored")
    return text


def _crd(text: str, field: str) -> str | None:
    """A CRD number without decimals and leading zeros; None for 0."""
    stripped = text.strip(" ")
    number = Decimal(stripped) if _NUMBER.fullmatch(stripped) else None
    if number is None or number < 0 or number >= 10**18 or number != number.to_integral_value():
        raise BadValue(f"{field} is {text[:40]!r}, not a CRD number")
    return str(int(number)) if number else None


def _date(text: str, field: str) -> dt.date:
    try:
        found = _DATE.fullmatch(text)
        if not found:
            raise ValueError
        return dt.date.fromisoformat(found[1])
    except ValueError:
        raise BadValue(f"{field} is {text[:40]!r}, not a date YYYY-MM-DD") from None


def _number(text: str, kind: Any, column: str, field: str) -> int | Decimal:
    stripped = text.strip(" ")
    if not _NUMBER.fullmatch(stripped):
        raise BadValue(f"{field} is {text[:40]!r}, not a number")
    number = Decimal(stripped)
    if kind == pl.Int64:
        if number != number.to_integral_value() or abs(number) >= 2**63:
            raise BadValue(f"{field} is {text[:40]!r}, not a whole number")
        return int(number)
    assert kind == AMOUNT
    if abs(number) < 10**32:
        rounded = number.quantize(_SIX_PLACES, context=_ENOUGH_DIGITS)
        if number == rounded or column == "notional" or _is_float_noise(number, rounded):
            return rounded
    raise BadValue(f"{field} is {text[:40]!r}, which has more than six decimals or 32 digits")


def _is_float_noise(number: Decimal, rounded: Decimal) -> bool:
    """Whether ``number`` may be ``rounded`` after a conversion to a double: no further away than the next double."""
    return abs(number - rounded) <= Decimal(math.ulp(float(rounded)))
