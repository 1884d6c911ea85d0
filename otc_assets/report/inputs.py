"""What a report is made of: frames and facts of a week, as they are stored. Reading them is in ``pipeline.report``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Captured:
    """What is captured of a tier's publication.

    Attributes:
        rows: the rows in use.
        rows_expected: the number that FINRA states; None if it is unknown.
        complete: whether the publication is complete.
        last_update: FINRA's newest date on its rows; None for files, which have none.
        origin: where it came from.
    """

    rows: int
    rows_expected: int | None
    complete: bool
    last_update: dt.date | None
    origin: str


@dataclass(frozen=True)
class Inputs:
    """The inputs of a report.

    Attributes:
        week_ending: the week.
        made_at: when they were read, with a time zone.
        tables: by name, the rows of the report's sources: of the week, or of the window (``domain.report``).
        captured: by tier, what is captured of the week.
        grades: by tier, the grade of the week.
        gaps: by tier, the status of its gap, with the explanation.
        replaced_rows: by tier, the rows of the week that a revision replaced since it was first loaded.
    """

    week_ending: dt.date
    made_at: dt.datetime
    tables: Mapping[str, pl.DataFrame]
    captured: Mapping[str, Captured]
    grades: Mapping[str, str]
    gaps: Mapping[str, tuple[str, str]]
    replaced_rows: Mapping[str, int]
