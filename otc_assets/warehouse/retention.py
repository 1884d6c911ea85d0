"""Retention: what is kept for how many weeks, and refusing what it has dropped.

Here: the settings as the database holds them, whether a week is kept, applying retention. What is dropped, and
how, is one SQL function, ``otc.apply_retention`` (``migrations``): a job of TimescaleDB's calls it where the
server has jobs, a Dagster job where it has none. Not here: chunks and jobs (``timescale``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from otc_assets.domain.weeks import NEW_YORK

#: What can be kept for a time: verbatim rows, venue volume with FINRA's totals, everything computed from it.
KINDS = ("raw_record", "venue_volume", "summaries")


class Dropped(Exception):
    """A week that retention has dropped, or would drop at once, was to be written. The message says what to do."""


@dataclass(frozen=True)
class Applied:
    """What one application of retention did: ``weeks`` of ``what`` before ``retained_from`` were dropped."""

    what: str
    retained_from: dt.date
    weeks: int


def _today() -> dict[str, dt.date]:
    # FINRA's day, as everywhere; a server's jobs, which know no other, go by its own.
    return {"today": dt.datetime.now(NEW_YORK).date()}


def retained_from(connection: sa.Connection, what: str) -> dt.date | None:
    """The oldest week of which ``what`` (one of KINDS) is kept; None where everything is."""
    asked = sa.text("SELECT otc.retained_from(:what, :today)")
    found: dt.date | None = connection.execute(asked, {"what": what, **_today()}).scalar()
    return found


def kept_tables(connection: sa.Connection) -> list[tuple[str, list[str], dt.date | None]]:
    """By kind: what it is, its tables, and the oldest week of which they are kept."""
    asked = sa.text("SELECT what, tables, otc.retained_from(what, :today) FROM otc.retention ORDER BY what")
    rows = connection.execute(asked, _today())
    return [(what, list(tables), first) for what, tables, first in rows]


def dropped_until(connection: sa.Connection, what: str) -> dt.date | None:
    """The newest week of which ``what`` (one of KINDS) was ever dropped; None where none was."""
    found: dt.date | None = connection.execute(
        sa.text("SELECT dropped_until FROM otc.retention WHERE what = :what"), {"what": what}
    ).scalar()
    return found


def is_kept(connection: sa.Connection, what: str, week_ending: dt.date) -> bool:
    """Whether ``what`` (one of KINDS) of the week is kept."""
    first = retained_from(connection, what)
    return first is None or week_ending >= first


def require_kept(connection: sa.Connection, what: str, week_ending: dt.date) -> None:
    """Refuses a week that is not kept: loaded, it would vanish again in silence.

    Raises:
        Dropped: retention has dropped the week, or would.
    """
    first = retained_from(connection, what)
    if first is not None and week_ending < first:
        raise Dropped(refusal(what, week_ending, first))


def refusal(what: str, week_ending: dt.date, first: dt.date) -> str:
    """Why a week before ``first`` is refused, and what to do."""
    return (
        f"week {week_ending} is beyond retention: {what} is kept from {first} on, and summaries of weeks before that "
        f"stay as they are. To load older weeks, raise OTC_KEEP_{what.upper()}_WEEKS (0 keeps everything), run "
        "'otc-assets migrate', and load the week again."
    )


_SET = sa.text("""
    UPDATE otc.retention SET keep_weeks = CAST(:weeks AS integer)
    WHERE what = :what AND keep_weeks IS DISTINCT FROM CAST(:weeks AS integer)
""")


def set_retention(connection: sa.Connection, weeks: Mapping[str, int]) -> None:
    """Keeps each of KINDS for so many ``weeks``, 0 for ever. More than before: dropped weeks may be loaded again."""
    for what in KINDS:
        connection.execute(_SET, {"what": what, "weeks": weeks[what] or None})


def apply_retention(connection: sa.Connection) -> list[Applied]:
    """Drops what is no longer kept; an application that finds nothing to drop tells nothing."""
    rows = connection.execute(sa.text("SELECT what, retained_from, weeks FROM otc.apply_retention(:today)"), _today())
    return [Applied(*row) for row in rows]
