"""Retention: which weeks are kept, storing and applying that, and refusing weeks that are not kept.

Weeks are deleted by one SQL function, ``otc.apply_retention`` (``migrations``). A job of TimescaleDB calls it if the
server has jobs, otherwise a Dagster job. Chunks and jobs are in ``timescale``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import NEW_YORK
from otc_assets.errors import OtcError
from otc_assets.warehouse.events import RetentionApplied, metadata_of


class Dropped(OtcError):
    """A week that is not kept can't be written: retention has deleted it, or would delete it at once."""


@dataclass(frozen=True)
class Applied:
    """The number of ``weeks`` of the class ``what``, before ``retained_from``, that retention has deleted."""

    what: str
    retained_from: dt.date
    weeks: int


def _today() -> dict[str, dt.date]:
    # FINRA's day, as everywhere.
    return {"today": dt.datetime.now(NEW_YORK).date()}


def retained_from(connection: sa.Connection, what: str) -> dt.date | None:
    """The oldest week of which ``what`` (a retention class) is kept; None where everything is."""
    asked = sa.text("SELECT otc.retained_from(:what, :today)")
    found: dt.date | None = connection.execute(asked, {"what": what, **_today()}).scalar()
    return found


def oldest_kept(connection: sa.Connection, what: str) -> dt.date:
    """The oldest week of which ``what`` (a retention class) is kept; the first of all days where everything is."""
    return retained_from(connection, what) or dt.date.min


def kept_tables(connection: sa.Connection) -> list[tuple[str, list[str], dt.date | None]]:
    """By retention class: its name, its tables, and the oldest week of which they are kept."""
    asked = sa.text("SELECT what, tables, otc.retained_from(what, :today) FROM otc.retention ORDER BY what")
    rows = connection.execute(asked, _today())
    return [(what, list(tables), first) for what, tables, first in rows]


def dropped_until(connection: sa.Connection, what: str) -> dt.date | None:
    """The newest week of which ``what`` (a retention class) was ever dropped; None where none was."""
    found: dt.date | None = connection.execute(
        sa.text("SELECT dropped_until FROM otc.retention WHERE what = :what"), {"what": what}
    ).scalar()
    return found


def is_kept(connection: sa.Connection, what: str, week_ending: dt.date) -> bool:
    """Whether ``what`` (a retention class) of the week is kept."""
    first = retained_from(connection, what)
    return first is None or week_ending >= first


def require_kept(connection: sa.Connection, what: str, week_ending: dt.date) -> None:
    """Refuses a week that is not kept.

    Raises:
        Dropped: retention has deleted the week, or would delete it.
    """
    first = retained_from(connection, what)
    if first is not None and week_ending < first:
        raise refusal(what, week_ending, first)


def refusal(what: str, week_ending: dt.date, first: dt.date) -> Dropped:
    """The error for a week before ``first``."""
    return Dropped(
        f"week {week_ending} is outside the retention window of {what}, which starts at {first}. Summaries of earlier "
        "weeks stay as they are",
        remedy=f"To load older weeks, raise OTC_KEEP_{what.upper()}_WEEKS (0 keeps everything), run 'otc-assets "
        "migrate', and load the week again.",
    )


@dataclass(frozen=True)
class Shortening:
    """A retention period that the settings make shorter than the stored one.

    Attributes:
        what: the retention class.
        stored: the stored number of weeks; None keeps the data indefinitely.
        wanted: the number of weeks in the settings.
        first_kept: the oldest week that the wanted number keeps.
        weeks: by table, how many stored weeks would be deleted; tables without such weeks are left out.
    """

    what: str
    stored: int | None
    wanted: int
    first_kept: dt.date
    weeks: Mapping[str, int]

    def __str__(self) -> str:
        variable = f"OTC_KEEP_{self.what.upper()}_WEEKS"
        now = "indefinitely" if self.stored is None else f"for {self.stored} weeks"
        tables = ", ".join(f"{count} of {table}" for table, count in self.weeks.items())
        return (
            f"retention of {self.what} stays as stored ({now}): {variable}={self.wanted} is shorter. It keeps weeks "
            f"from {self.first_kept}, and deletes {f'weeks: {tables}' if tables else 'no week that is stored now'}. "
            f"To shorten it, add --yes; to keep it as it is, set {variable}={self.stored or 0}."
        )


_STORED = sa.text("SELECT what, keep_weeks, tables FROM otc.retention ORDER BY what FOR UPDATE")
_FIRST_KEPT = sa.text("SELECT date_trunc('week', CAST(:today AS date))::date + 4 - 7 * CAST(:weeks AS integer)")
_SET_WEEKS = sa.text("UPDATE otc.retention SET keep_weeks = CAST(:weeks AS integer) WHERE what = :what")
_SET_TABLES = sa.text("UPDATE otc.retention SET tables = CAST(:tables AS text[]) WHERE what = :what")


def set_retention(connection: sa.Connection, weeks: Mapping[str, int], *, shorten: bool) -> list[Shortening]:
    """Stores which tables each retention class of ``domain.tables`` has, and for how many ``weeks`` they are kept.

    A longer period than the stored one always takes effect: deleted weeks may be loaded again. A shorter one makes
    the next retention job delete weeks, so it takes effect only with ``shorten``.

    Args:
        connection: inside a transaction.
        weeks: by class; 0 keeps weeks indefinitely.
        shorten: store shorter periods, too.

    Returns:
        The shorter periods that were not stored, because ``shorten`` is False.
    """
    held_back = []
    for what, stored, stored_tables in connection.execute(_STORED).all():
        tables = _tables_of(what)
        if tables != stored_tables:
            connection.execute(_SET_TABLES, {"tables": tables, "what": what})
        wanted = weeks[what] or None
        if wanted == stored:
            continue
        if wanted is not None and (stored is None or wanted < stored) and not shorten:
            first = connection.execute(_FIRST_KEPT, {"weeks": wanted, **_today()}).scalar_one()
            deleted = _weeks_between(connection, tables, retained_from(connection, what), first)
            held_back.append(Shortening(what, stored, wanted, first, deleted))
        else:
            connection.execute(_SET_WEEKS, {"what": what, "weeks": wanted})
    return held_back


def _tables_of(what: str) -> list[str]:
    of_class = [table for table in TABLES.values() if table.retention == what]
    return [name for t in of_class for name in (t.name, *([f"{t.name}_revision"] if t.revisions else []))]


def _weeks_between(connection: sa.Connection, tables: list[str], first: dt.date | None, end: dt.date) -> dict[str, int]:
    """By table, the number of stored weeks from ``first`` (None: from the oldest) until before ``end``."""
    span = {"first": first or dt.date.min, "end": end}
    counts = {}
    for table in tables:
        query = f"SELECT DISTINCT week_ending FROM otc.{table}"  # noqa: S608 - a name from otc.retention
        query = f"SELECT count(*) FROM ({query} WHERE week_ending >= :first AND week_ending < :end) AS weeks"  # noqa: S608
        counts[table] = connection.execute(sa.text(query), span).scalar_one()
    return {table: count for table, count in counts.items() if count}


_APPLY = sa.text("SELECT what, retained_from, weeks FROM otc.apply_retention(:today, CAST(:metadata AS jsonb))")


def apply_retention(connection: sa.Connection) -> list[Applied]:
    """Deletes the weeks that are no longer kept, and appends an event for each class of which weeks were deleted."""
    values = {**_today(), "metadata": metadata_of(RetentionApplied)}
    return [Applied(*row) for row in connection.execute(_APPLY, values)]
