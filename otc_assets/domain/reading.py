"""How a formula with several sources gets rows: a function that it is given, so that it reads no database itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Protocol

import polars as pl


class Read(Protocol):
    """Reads rows.

    Weeks that are graded F are left out. Rows of tiers that are not captured must be left out by the formula.
    """

    def __call__(self, table: str, weeks: Iterable[dt.date], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of ``weeks`` of a table with ``columns`` (None: all), in any order."""

    def rewritten(self, after: dt.date, until: dt.date, week_ending: dt.date) -> pl.DataFrame:
        """Rows of venue volume of weeks before ``week_ending`` that FINRA rewrote after ``after`` and up to ``until``.

        Returns:
            `week_ending`, `tier`, `last_update_date`, and of these the number of `rows` and their `share_volume`.
        """
