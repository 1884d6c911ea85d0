"""The event store: appending events and reading them in order.

An event is appended in the transaction that writes the data it is about: by ``load``, the assets and the checks. The
fields of each event are in ``payloads``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import polars as pl
import sqlalchemy as sa

from otc_assets.errors import OtcError
from otc_assets.tracing import current_trace_id
from otc_assets.warehouse.events.payloads import PAYLOADS, GapChanged, GapClosed, GapOpened, Payload
from otc_assets.warehouse.sql import statement


class ConcurrentChange(OtcError):
    """Another transaction has appended to the aggregate since it was read. Roll back, read again, decide again."""


class ForeignOrder(OtcError, RuntimeError):
    """Events restored from a dump of another server can't be ordered with new ones."""


class UnknownEvent(OtcError):
    """An event type or schema that this version of the code does not know."""


@dataclass(frozen=True)
class Cursor:
    """The position of a reader: the last event that it has read. A reader begins with ``START``."""

    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that was stored as text.

        Raises:
            ValueError: it is not the text of a cursor.
        """
        xid, _, number = text.partition("-")
        return cls(int(xid), int(number))


START = Cursor(0, 0)


@dataclass(frozen=True)
class Event:
    """A stored event: a row of ``otc.events``.

    Attributes:
        id: ascending in the order of appending, possibly with gaps.
        version: 1, 2, ... of the aggregate.
        payload: the stored JSON; ``typed_payload`` returns it as an instance of its class.
        metadata: ``schema``; ``run_id``, ``trace_id`` and ``digest`` if they are known.
        began_at: when the transaction that wrote it began: the time of what it recorded, such as ``captured_at``.
        write_moment: the ``known_from`` of the rows that the transaction wrote; None if it wrote none before the event.
        cursor: the position of a reader that has read this event.
    """

    id: int
    event_id: UUID
    event_type: str
    aggregate_type: str
    aggregate_id: str
    version: int
    payload: dict[str, Any]
    metadata: dict[str, Any]
    created_at: dt.datetime
    began_at: dt.datetime
    write_moment: dt.datetime | None
    cursor: Cursor

    def typed_payload(self) -> Payload:
        """The payload as an instance of its class.

        Raises:
            UnknownEvent: a newer version of the code wrote it.
        """
        kind = PAYLOADS.get(self.event_type)
        if kind is None or self.metadata["schema"] > kind.schema_version:
            raise UnknownEvent(
                f"event {self.id} is {self.event_type}, schema {self.metadata['schema']}, which this version of "
                "otc-assets does not know: a newer one wrote it",
                remedy="Update this installation.",
            )
        return kind.model_validate(self.payload)


def _event(row: sa.Row[Any]) -> Event:
    columns = dict(row._mapping)
    cursor = Cursor(int(columns.pop("xid")), row.id)
    return Event(**columns, cursor=cursor)


def restored(stored: Mapping[str, Any]) -> Event:
    """An event of the archive's journal, whose times are text."""
    moments = {n: dt.datetime.fromisoformat(stored[n]) for n in ("created_at", "began_at", "write_moment") if stored[n]}
    return Event(
        **{**stored, "event_id": UUID(stored["event_id"]), **moments},  # type: ignore[arg-type]
        cursor=Cursor(0, stored["id"]),
    )


# --- appending -----------------------------------------------------------------------------------------

_run_id: ContextVar[str | None] = ContextVar("run_id", default=None)


@contextmanager
def event_context(run_id: str | None) -> Iterator[None]:
    """Events that are appended in the block have ``run_id`` in their metadata."""
    token = _run_id.set(run_id)
    try:
        yield
    finally:
        _run_id.reset(token)


def metadata_of(kind: type[Payload], digest: str | None = None) -> str:
    """An event's metadata as JSON: its schema; the run, trace and digest if they are known."""
    known = {"run_id": _run_id.get(), "trace_id": current_trace_id(), "digest": digest}
    return json.dumps({"schema": kind.schema_version} | {n: v for n, v in known.items() if v is not None})


#: The error of ``otc.append_event`` if the aggregate does not have the expected version.
_OTHER_VERSION = "OTC01"


def append(connection: sa.Connection, payload: Payload, *, expected_version: int | None = None) -> Event:
    """Appends an event in the caller's transaction, as the next version of its aggregate, and projects it.

    Until the transaction ends, others that append to the same aggregate or write the same week wait.

    Args:
        connection: inside the transaction that writes the data that the event is about.
        payload: the event's fields.
        expected_version: the version of the aggregate on which the caller's decision is based, 0 if it had none; None
            if the event is true whatever else has happened.

    Returns:
        The event as it is stored.

    Raises:
        ConcurrentChange: the aggregate does not have the expected version, or another transaction has just taken the
            next one. The transaction can only be rolled back.
    """
    values = {
        "event_type": payload.event_type,
        "aggregate_type": payload.aggregate_type,
        "aggregate_id": payload.aggregate_id,
        "payload": payload.model_dump_json(exclude_none=True),
        "metadata": metadata_of(type(payload), getattr(payload, "digest", None)),
        "expected_version": expected_version,
    }
    try:
        return _event(connection.execute(statement("append_event"), values).one())
    except sa.exc.DBAPIError as error:
        diagnostics = getattr(error.orig, "diag", None)
        if diagnostics is None:
            raise
        if diagnostics.sqlstate == _OTHER_VERSION:
            reason = diagnostics.message_primary
        elif diagnostics.constraint_name == "events_one_version":
            reason = f"another transaction has appended to {payload.aggregate_type} {payload.aggregate_id}"
        else:
            raise
        raise ConcurrentChange(reason, remedy="Read it again, and decide again.") from error


_OPEN_GAPS = sa.text("""
    SELECT tier, status FROM otc.gap_ledger WHERE week_ending = :week_ending AND closed_at IS NULL ORDER BY tier
""")


def append_gap_changes(
    connection: sa.Connection, week_ending: dt.date, gaps: pl.DataFrame, changed: Collection[str]
) -> None:
    """Appends how the week's gaps (GAP) differ from the open ones; a gap with another status closes and opens.

    Args:
        connection: inside the transaction that saves the gaps.
        week_ending: the week.
        gaps: all its gaps.
        changed: the tiers whose gaps were not reported like this before.
    """
    found = {row["tier"]: row for row in gaps.iter_rows(named=True)}
    before = {row.tier: row.status for row in connection.execute(_OPEN_GAPS, {"week_ending": week_ending})}
    for tier, status in before.items():
        if tier not in found or found[tier]["status"] != status:
            append(connection, GapClosed(week_ending=week_ending, tier=tier, status=status))
    for tier, row in found.items():
        kind = GapOpened if before.get(tier) != row["status"] else GapChanged if tier in changed else None
        if kind is not None:
            append(connection, kind(**{name: row[name] for name in kind.model_fields}))


# --- reading -------------------------------------------------------------------------------------------


def read(
    connection: sa.Connection, after: Cursor = START, limit: int = 1_000, event_types: Sequence[str] | None = None
) -> list[Event]:
    """The events after a cursor, at most ``limit``; none is ever skipped, and none is returned twice.

    They come in the order in which their transactions began to write, once all transactions that began before have
    ended. For events of one week this is the order of versions, because a transaction locks the week before it writes
    anything else; for a file that two processes ingest at once, ``version`` has the order.

    Args:
        connection: a transaction of its own, or one that has written nothing.
        after: the ``cursor`` of the last event that was processed. Saved in the transaction that processes the
            events, it makes that happen exactly once.
        limit: the maximum number; fewer mean that there are no more yet.
        event_types: only events of these types; None for all.

    Raises:
        ForeignOrder: the table was restored from a dump of another server.
    """
    values = {
        "xid": str(after.xid),
        "id": after.id,
        "limit": limit,
        "event_types": None if event_types is None else list(event_types),
    }
    require_order(connection)
    return [_event(row) for row in connection.execute(statement("events_after"), values)]


def require_order(connection: sa.Connection) -> None:
    """Refuses to order events that came with a dump: by their transactions, they would all be newer than ours.

    Raises:
        ForeignOrder: the table was restored from a dump of another server.
    """
    if connection.execute(statement("events_foreign")).scalar():
        raise ForeignOrder(
            "otc.events was restored from a dump of another server, whose transaction numbers are higher than this "
            "server's: restored events can't be ordered with new ones",
            remedy="Run 'otc-assets migrate --restored'.",
        )


def newest(
    connection: sa.Connection,
    count: int,
    event_type: str | None = None,
    *,
    final: bool = False,
    before: dt.datetime | None = None,
) -> list[Event]:
    """The newest ``count`` events, oldest first.

    Args:
        connection: inside a transaction.
        count: the maximum number.
        event_type: only events of this type.
        final: only events whose cursors ``read`` can continue from.
        before: only events that were appended before this time.

    Raises:
        ForeignOrder: the table was restored from a dump of another server.
    """
    require_order(connection)
    values = {"count": count, "event_type": event_type, "final": final, "before": before}
    return [_event(row) for row in connection.execute(statement("events_newest"), values)][::-1]


def newest_id(connection: sa.Connection) -> int:
    """The highest id of all events, in whatever order they are; 0 if there are none."""
    return int(connection.execute(sa.text("SELECT coalesce(max(id), 0) FROM otc.events")).scalar_one())


_BY_ID = sa.text("SELECT * FROM otc.events WHERE id = CAST(:id AS bigint) OR event_id = CAST(:event_id AS uuid)")


def find(connection: sa.Connection, which: int | UUID) -> Event | None:
    """The event with an ``id`` or an ``event_id``; None if there is none."""
    is_id = isinstance(which, int)
    values = {"id": which if is_id else None, "event_id": None if is_id else which}
    row = connection.execute(_BY_ID, values).one_or_none()
    return _event(row) if row is not None else None


def last_types(connection: sa.Connection, aggregate_type: str, aggregate_ids: Sequence[str]) -> dict[str, str]:
    """The type of the last event of each of these aggregates, by their ids; those without events are left out."""
    values = {"aggregate_type": aggregate_type, "aggregate_ids": list(aggregate_ids)}
    return dict(connection.execute(statement("events_last_types"), values).all())  # type: ignore[arg-type]


def history(connection: sa.Connection, week_ending: dt.date) -> list[Event]:
    """Everything that happened to a week, oldest first: its own events, and those of retention that deleted it."""
    found = connection.execute(statement("events_of_week"), {"week_ending": week_ending.isoformat()})
    return [_event(row) for row in found]
