"""The projections: tables that are derived from events alone. ``otc.project_event`` updates them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

PROJECTIONS = ("week_state", "file_ledger", "gap_ledger")

_STATES = sa.text("""
    SELECT tier, state, rows, shares, grade, score, revisions, updated_at FROM otc.week_state
    WHERE week_ending = :week_ending ORDER BY tier
""")
_REPLAY = sa.text("SELECT otc.replay_events()")


def week_states(connection: sa.Connection, week_ending: dt.date) -> Sequence[Mapping[str, Any]]:
    """The processing state of the week, by tier: tier, state, rows, shares, grade, score, revisions, updated_at."""
    return connection.execute(_STATES, {"week_ending": week_ending}).mappings().all()  # type: ignore[return-value]


def replay(connection: sa.Connection) -> tuple[int, dict[str, int]]:
    """Rebuilds the projections from the events. Other transactions wait with appending until this one ends.

    Returns:
        The number of events, and the number of rows of each projection.
    """
    events: int = connection.execute(_REPLAY).scalar_one()
    count = sa.text(" UNION ALL ".join(f"SELECT '{name}', count(*) FROM otc.{name}" for name in PROJECTIONS))  # noqa: S608
    return events, dict(connection.execute(count).all())  # type: ignore[arg-type]
