"""Reads a list of days on which the NYSE is closed and that the calendar of the package does not have yet.

The NYSE closes at short notice on a day of mourning or after a disaster. What follows from such a day is in ``weeks``;
which file is read is a setting.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from otc_assets.domain.reviewed import BadList, entries

#: A longer list is another file: in the last hundred years, the NYSE closed on fewer days without a holiday.
MOST_CLOSURES = 200


def read_closures(lines: Iterable[str]) -> frozenset[dt.date]:
    """The days of a list: a CSV file with the columns `day`, `source` and `reviewed`.

    A day that is a holiday of the NYSE anyway changes nothing: the package's calendar may know it by now. A half-day is
    a trading day and does not belong in the list.

    Raises:
        BadList: a line is not usable, or a day is a Saturday or Sunday, is there twice, or is no date.
    """
    found: dict[dt.date, str] = {}
    for where, (text, _), _ in entries(lines, ["day"]):
        try:
            day = dt.date.fromisoformat(text)
        except ValueError:
            raise BadList(f"{where}: day must be a date as 2026-11-26") from None
        if day.weekday() > 4:
            raise BadList(f"{where}: {day} is a {day:%A}, on which the NYSE does not trade anyway: check the date")
        if day in found:
            raise BadList(f"{where}: {day} is in {found[day]} already")
        found[day] = where
        if len(found) > MOST_CLOSURES:
            raise BadList(f"{where}: more than {MOST_CLOSURES} closures: it is another file")
    return frozenset(found)
