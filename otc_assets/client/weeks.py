"""Weeks as a caller writes them: a Friday, any day, a range, a list, or the newest ones. Pure; needs no database."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass

from otc_assets.client.errors import InvalidQuery
from otc_assets.domain.weeks import week_containing

#: What ``weeks=`` takes.
WeeksLike = str | dt.date | Iterable[str | dt.date] | None

_LAST = re.compile(r"last\s+(\d{1,4})(\s+weeks?)?", re.IGNORECASE)
_FORMS = (
    "Write a day of the week (2026-08-21), a range (2026-08-07..2026-08-28, 2026-08-07.. or ..2026-08-28), "
    "'last 12', 'newest', or a list of these."
)


@dataclass(frozen=True)
class Span:
    """Consecutive weeks, both Fridays included; None for no limit."""

    first: dt.date | None
    last: dt.date | None


@dataclass(frozen=True)
class Weeks:
    """Weeks of a selection.

    Attributes:
        spans: the weeks, as spans; none of either for all weeks.
        newest: the number of newest weeks; 0 for none.
    """

    spans: tuple[Span, ...] = ()
    newest: int = 0

    def __bool__(self) -> bool:
        """Whether weeks are restricted at all."""
        return bool(self.spans or self.newest)

    def resolved(self, newest_week: dt.date | None) -> Weeks:
        """With the newest weeks as a span that ends with ``newest_week``."""
        if not self.newest or newest_week is None:
            return self
        first = newest_week - dt.timedelta(weeks=self.newest - 1)
        return Weeks((*self.spans, Span(first, newest_week)))


def parse_weeks(weeks: WeeksLike) -> Weeks:
    """Reads weeks as a caller writes them.

    A week is named by its Friday or by any other of its days, Monday to Sunday.

    >>> parse_weeks("2026-08-19").spans
    (Span(first=datetime.date(2026, 8, 21), last=datetime.date(2026, 8, 21)),)
    >>> parse_weeks("last 12").newest
    12

    Raises:
        InvalidQuery: it names no weeks.
    """
    if weeks is None:
        return Weeks()
    parts = [weeks] if isinstance(weeks, str | dt.date) else list(weeks)
    texts = [text for part in parts for text in (part.split(",") if isinstance(part, str) else [part])]
    spans, newest = [], 0
    for text in texts:
        count = _last(text) if isinstance(text, str) else 0
        newest = max(newest, count)
        if not count:
            spans.append(_span(text))
    if not spans and not newest:
        raise InvalidQuery("weeks is an empty list", remedy=_FORMS)
    return Weeks(tuple(spans), newest)


def _last(text: str) -> int:
    if text.strip().lower() == "newest":
        return 1
    found = _LAST.fullmatch(text.strip())
    if found and not int(found[1]):
        raise InvalidQuery(f"{text.strip()!r} is no week", remedy=_FORMS)
    return int(found[1]) if found else 0


def _span(text: str | dt.date) -> Span:
    if not isinstance(text, str):
        week = week_of(text)
        return Span(week, week)
    first, dots, last = text.strip().partition("..")
    if not dots:
        return Span(week_of(first), week_of(first))
    span = Span(week_of(first) if first.strip() else None, week_of(last) if last.strip() else None)
    if span.first and span.last and span.last < span.first:
        raise InvalidQuery(f"the range {text.strip()} ends before it begins", remedy="Write the older week first.")
    return span


def week_of(day: object) -> dt.date:
    """The Friday of the week that contains a day.

    Raises:
        InvalidQuery: it is not a day.
    """
    try:
        found = day if isinstance(day, dt.date) else dt.date.fromisoformat(str(day).strip())
    except ValueError:
        raise InvalidQuery(f"{day!r} is not a week", remedy=_FORMS) from None
    if not 1990 <= found.year <= 2100:
        raise InvalidQuery(f"the year {found.year} is not a year of FINRA's data", remedy=_FORMS)
    return week_containing(found.date() if isinstance(found, dt.datetime) else found)
