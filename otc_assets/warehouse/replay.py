"""Sets a transaction back to the moments of a recorded one, and inserts its events: for a rebuild from the archive.

Which events there are, and what is computed for each, is up to ``pipeline.replay``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from otc_assets.errors import OtcError
from otc_assets.warehouse.sql import statement


class NotEmpty(OtcError):
    """A rebuild from the archive needs a database without captures and events."""


_COUNTS = sa.text("SELECT (SELECT count(*) FROM otc.publication), (SELECT count(*) FROM otc.events)")


def holds_data(connection: sa.Connection) -> bool:
    """Whether the database has captures or events."""
    return any(connection.execute(_COUNTS).one())


def require_empty(connection: sa.Connection) -> None:
    """Refuses a database that has captures or events.

    Raises:
        NotEmpty: it has.
    """
    captures, events = connection.execute(_COUNTS).one()
    if captures or events:
        raise NotEmpty(
            f"the database has {captures:,} captures and {events:,} events, and a rebuild from the archive needs an "
            "empty one",
            remedy="Create another database and name it in OTC_DATABASE_URL, or delete all data of this one: "
            "'otc-assets migrate --to base', then 'otc-assets migrate'.",
        )


_TIMES = sa.text(
    "SELECT set_config('otc.replayed_start', :start, true), set_config('otc.replayed_moment', :moment, true)"
)
_KEPT = sa.text("SELECT what, keep_weeks FROM otc.retention WHERE what = 'venue_volume' FOR UPDATE")
_KEEP = sa.text("UPDATE otc.retention SET keep_weeks = CAST(:weeks AS integer) WHERE what = :what")


@contextmanager
def replaying(connection: sa.Connection, began_at: str, write_moment: str) -> Iterator[None]:
    """In the block, records and rows have the given times, and no week is too old to be written."""
    connection.execute(_TIMES, {"start": began_at, "moment": write_moment})
    kept = connection.execute(_KEPT).all()
    for what, _ in kept:
        connection.execute(_KEEP, {"what": what, "weeks": None})
    yield
    for what, weeks in kept:
        connection.execute(_KEEP, {"what": what, "weeks": weeks})


_SET_NEXT = sa.text("SELECT setval(pg_get_serial_sequence('otc.' || CAST(:table AS text), 'id'), :id, false)")


def set_next_capture(connection: sa.Connection, number: int, table: str = "publication") -> None:
    """The next capture that is inserted into a table gets the id ``number``."""
    connection.execute(_SET_NEXT, {"id": number, "table": table})


def insert_events(connection: sa.Connection, events: Sequence[Mapping[str, Any]]) -> None:
    """Inserts events as they were recorded, and projects them."""
    connection.execute(statement("insert_events"), {"events": json.dumps(list(events))})


def drop_weeks(connection: sa.Connection, what: str, before: dt.date) -> None:
    """Deletes the weeks of a retention class before a Friday, as retention did then."""
    stored = connection.execute(sa.text("SELECT what, keep_weeks FROM otc.retention FOR UPDATE")).all()
    for name, _ in stored:
        connection.execute(_KEEP, {"what": name, "weeks": 1 if name == what else None})
    # One week is kept before the week of this day.
    connection.execute(_DROP, {"today": before + dt.timedelta(weeks=1)})
    connection.execute(_DROPPED_AT, {"what": what})
    for name, weeks in stored:
        connection.execute(_KEEP, {"what": name, "weeks": weeks})


_DROP = sa.text("SELECT * FROM otc.drop_expired_weeks(:today)")
_DROPPED_AT = sa.text("UPDATE otc.retention SET applied_at = otc.transaction_time() WHERE what = :what")


_JOURNAL = sa.text("UPDATE otc.journal SET journal_id = CAST(:journal_id AS uuid)")
_CONTINUE = """
    SELECT setval(pg_get_serial_sequence('otc.{table}', 'id'), coalesce(max(id), 0) + 1, false) FROM otc.{table}
"""


def continue_ids(connection: sa.Connection) -> None:
    """The next capture and the next event get ids after those that were inserted."""
    for table in ("publication", "dataset_capture", "events"):
        connection.execute(sa.text(_CONTINUE.format(table=table)))


def continue_journal(connection: sa.Connection, journal_id: str) -> None:
    """Makes this the database whose journal has the id: its next events are written to it."""
    connection.execute(_JOURNAL, {"journal_id": journal_id})
