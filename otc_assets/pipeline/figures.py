"""Computes the figures of ``domain.tables`` from venue volume or from each other, week by week.

Formulas are in the domain; the gap report is in ``gaps``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.enums import Grade
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS, weeks_up_to
from otc_assets.pipeline.grading import grade_of_week
from otc_assets.pipeline.results import UP_TO_DATE, WeekRefused, WeekResult
from otc_assets.tracing import COMPUTE, LOAD, set_attributes, span
from otc_assets.warehouse import events
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.lineage import NOTHING_EFFECTIVE, lineage
from otc_assets.warehouse.load import replace_week
from otc_assets.warehouse.read import intact_rows, rewritten_rows, summarized_tiers, week_rows
from otc_assets.warehouse.retention import require_kept
from otc_assets.warehouse.server import lock_week

#: How the reason begins why nothing is computed from a week that the check of its grade blocks.
BLOCKED = "venue_volume is graded F"


@dataclass(frozen=True)
class _Reader:
    """Reads rows of the database for a formula with several sources (``domain.reading.Read``)."""

    connection: sa.Connection
    usable: frozenset[dt.date]

    def __call__(self, table: str, weeks: Iterable[dt.date], columns: Sequence[str] | None = None) -> pl.DataFrame:
        chosen = sorted(self.usable.intersection(weeks))
        if not chosen:
            schema = TABLES[table].schema
            return pl.DataFrame(schema={name: schema[name] for name in columns or schema})
        return week_rows(self.connection, table, chosen, None, columns)

    def rewritten(self, after: dt.date, until: dt.date, week_ending: dt.date) -> pl.DataFrame:
        return rewritten_rows(self.connection, after, until, week_ending)


def figure_rows(connection: sa.Connection, figure: Figure, week_ending: dt.date) -> pl.DataFrame:
    """The week's rows of ``figure``, computed from what is stored of its source."""
    source, *others = figure.sources

    def read(weeks: list[dt.date], tier: str | None = None) -> pl.DataFrame:
        return week_rows(connection, source, weeks, tier, figure.reads)

    weeks = weeks_up_to(week_ending, figure.weeks)
    if figure.weeks > 1:
        # By a table that the figure's version follows: a week that the other one has later would not make it stale.
        summary = "symbol_summary" if "symbol_summary" in figure.sources else "venue_share"
        captured = summarized_tiers(connection, summary, weeks)
        if others:
            return figure.formula(_Reader(connection, frozenset(captured["week_ending"])), captured, week_ending)
        history = read(weeks).join(captured, on=["week_ending", "tier"], how="semi")
        return figure.formula(history, captured, week_ending)
    if figure.by_tier:
        return pl.concat(figure.formula(read(weeks, tier.name)) for tier in TIERS)
    return figure.formula(read(weeks))


def current_week(table: str, week_ending: dt.date, database: Database) -> WeekResult | None:
    """The week of venue volume or of a figure as it is stored, if computing it would store the same.

    None if it was computed from other inputs or by other code, has another number of rows than were stored, or is
    graded F.
    """
    declared = TABLES[table]
    weeks = declared.weeks if isinstance(declared, Figure) else 1
    with database.transaction() as connection:
        known = lineage(connection, weeks_up_to(week_ending, weeks)[0], week_ending)
        version = known.version(table, week_ending)
        if version is None or known.recorded.get(table, {}).get(week_ending) != version:
            return None
        rows = intact_rows(connection, table, week_ending)
    if rows is None or week_ending in known.blocked:
        return None
    return WeekResult(rows, version, UP_TO_DATE)


def compute_figure(figure: Figure, week_ending: dt.date, database: Database) -> WeekResult:
    """Computes the week of a figure, and saves it with the version of the inputs it was computed from.

    Raises:
        WeekRefused: the week is graded F, which blocks downstream assets.
        Dropped: it is computed from venue volume alone, which retention has dropped: the figures stay as they are.
    """
    table = figure.name
    # The grade is saved in a transaction of its own: a refusal must not roll it back.
    with database.transaction() as connection:
        lock_week(connection, week_ending)
        grade = grade_of_week(connection, week_ending)
    if grade == Grade.F:
        raise WeekRefused(
            f"{BLOCKED}, so otc.{table} is not computed from it: the failed checks of venue_volume say why",
            remedy="Capture the week again once FINRA has corrected it.",
        )
    with database.transaction() as connection:
        lock_week(connection, week_ending)
        if "venue_volume" in figure.sources:
            require_kept(connection, "venue_volume", week_ending)
        since = time.perf_counter()
        stored = store_figure(connection, figure, week_ending)
        if stored is None:
            return WeekResult(0, NOTHING_EFFECTIVE, {"state": "nothing is captured of this week yet"})
        rows, version = stored
        seconds = time.perf_counter() - since
        payload = {
            "week_ending": week_ending,
            "table": table,
            "rows": rows.height,
            "version": version,
            "seconds": seconds,
        }
        events.append(connection, events.PAYLOADS[figure.event].model_validate(payload))
    database.refresh_after_load(week_ending, table)
    return WeekResult(rows.height, version, {"preview": rows.head(5)})


def store_figure(connection: sa.Connection, figure: Figure, week_ending: dt.date) -> tuple[pl.DataFrame, str] | None:
    """Replaces the week's rows of a figure, without an event.

    Args:
        connection: inside a transaction that holds the week's lock.
        figure: the figure.
        week_ending: the week.

    Returns:
        The rows and their version; None if nothing can be computed.
    """
    span_start = weeks_up_to(week_ending, figure.weeks)[0]
    version = lineage(connection, span_start, week_ending).version(figure.name, week_ending)
    if version is None:
        return None
    with span(COMPUTE):
        rows = figure_rows(connection, figure, week_ending)
        set_attributes(rows=rows.height)
    with span(LOAD, rows=rows.height):
        replace_week(connection, figure.name, week_ending, rows, version)
    return rows, version
