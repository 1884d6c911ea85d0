"""Reads events as the archive's journal has them: as JSON, by transaction.

Writing them to the archive is up to ``pipeline.journaling``; restoring them is in ``replay``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from otc_assets.warehouse.sql import text


def journal_id(connection: sa.Connection) -> str:
    """The id under which the archive has this database's events."""
    found: str = connection.execute(sa.text("SELECT journal_id::text FROM otc.journal")).scalar_one()
    return found


_OF_THIS_TRANSACTION = sa.text(text("journal_entries").format(condition="e.xid = pg_current_xact_id_if_assigned()"))
_MISSING = sa.text(text("journal_entries").format(condition="e.id <> ALL(CAST(:known AS bigint[]))"))


def appended_events(connection: sa.Connection) -> list[tuple[str, list[dict[str, Any]]]]:
    """The journal id and the events that this transaction has appended, as JSON; at most one pair."""
    return [tuple(row) for row in connection.execute(_OF_THIS_TRANSACTION)]  # type: ignore[misc]


def missing_events(connection: sa.Connection, known: Sequence[int]) -> list[list[dict[str, Any]]]:
    """By transaction, the oldest events that are not among ``known``; empty if there are none."""
    return [events for _, events in connection.execute(_MISSING, {"known": known})]


def event_ids(connection: sa.Connection) -> dict[int, str]:
    """The ``id`` and the ``event_id`` of every event."""
    return dict(connection.execute(sa.text("SELECT id, event_id::text FROM otc.events")).all())  # type: ignore[arg-type]
