"""How numbers and dates are written."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from otc_assets.report import formats as f


def plain(text: str) -> str:
    return text.replace(f.NBSP, " ").replace(f.MINUS, "-")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (999, "999"),
        (999_999, "999,999"),
        (Decimal("999999.4"), "999,999"),
        (1_000_000, "1.00 million"),
        (12_345_678, "12.3 million"),
        (123_456_789, "123 million"),
        (Decimal("999499999"), "999 million"),
        (Decimal("999999999"), "1.00 billion"),
        (2_733_878_821, "2.73 billion"),
        (Decimal("5279467552757"), "5.28 trillion"),
    ],
)
def test_large_numbers_have_three_significant_digits_and_a_word(value: Decimal, expected: str) -> None:
    assert plain(f.words(value)) == expected


def test_a_change_that_rounds_to_zero_has_no_sign_and_a_small_amount_is_not_shown_as_zero() -> None:
    assert [f.signed(Decimal(value)) for value in ("0.04", "-0.04", "0")] == ["0.0", "0.0", "0.0"]
    assert [plain(f.signed(Decimal(value))) for value in ("0.05", "-0.05", "1234.56")] == ["+0.1", "-0.1", "+1,234.6"]
    assert [f.millions(Decimal(value), 2) for value in (0, 4_999, 5_000)] == ["0.00", "<0.01", "0.01"]


def test_what_is_not_known_is_a_dash() -> None:
    shown = {
        f.number(None),
        f.millions(None),
        f.pct(None),
        f.signed(None),
        f.signed_pct(None),
        f.dollars(None),
        f.day(None),
    }
    assert shown == {f.NONE}


def test_dates_name_the_month_and_the_year() -> None:
    day = dt.date(2026, 3, 6)
    assert [plain(text) for text in (f.day(day), f.short_day(day), f.long_day(day))] == [
        "6 Mar 2026",
        "6 Mar",
        "Friday, 6 March 2026",
    ]
    moment = dt.datetime(2026, 3, 6, 20, 5, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
    assert plain(f.moment(moment)) == "7 Mar 2026, 01:05 UTC"


def test_lists_and_counts_are_sentences() -> None:
    assert [f.listed(list(names)) for names in ("", "A", "AB", "ABC")] == ["", "A", "A and B", "A, B and C"]
    assert [plain(f.count(number, "row")) for number in (0, 1, 1_234)] == ["0 rows", "1 row", "1,234 rows"]
