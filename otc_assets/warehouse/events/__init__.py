"""The event store: what happened, told in the transaction of the data that it tells of.

Here: what each event says (its payload), appending, reading in order, and rebuilding the projections. Not here:
when something has happened (``load``, ``assets``, ``checks`` append), and what an event changes in
``week_state``, ``file_ledger`` and ``gap_ledger`` (``otc.project_event``, which the database calls itself).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID

import polars as pl
import sqlalchemy as sa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, field_validator

from otc_assets.domain.tables import figures
from otc_assets.domain.weeks import TIER_BY_NAME
from otc_assets.errors import OtcError
from otc_assets.tracing import current_trace_id

# --- what is told --------------------------------------------------------------------------------------


def _one_of(*words: str) -> AfterValidator:
    """A validator of texts that must be one of ``words``."""
    return AfterValidator(lambda text: _known(text, words))


def _known(text: str, words: Sequence[str]) -> str:
    if text not in words:
        raise ValueError(f"{text!r} is none of {', '.join(words)}")
    return text


TierName = Annotated[str, _one_of(*TIER_BY_NAME)]
#: Shares, exact, in plain digits: '22.000000'.
Shares = Annotated[Decimal, PlainSerializer(lambda value: f"{value:f}", return_type=str, when_used="json")]
Count = Annotated[int, Field(ge=0)]
#: How long the work took, measured where it was done.
Seconds = Annotated[float, Field(ge=0)]

#: Every kind of event, by its type.
PAYLOADS: dict[str, type[Payload]] = {}


class Payload(BaseModel):
    """What an event says. A kind whose fields change gets another ``schema_version``, so that old ones stay readable.

    Attributes:
        event_type: the kind, as it is stored.
        aggregate_type: what its versions are counted by.
        schema_version: of the fields; stored as ``schema`` in the metadata.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: ClassVar[str]
    aggregate_type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "event_type" in vars(cls):
            PAYLOADS[cls.event_type] = cls

    @property
    def aggregate_id(self) -> str:
        """Which week, file, gap, check or retention it is of."""
        raise NotImplementedError


class _OfFile(Payload):
    aggregate_type: ClassVar[str] = "file"

    origin: str
    digest: str | None = None

    @property
    def aggregate_id(self) -> str:
        return self.digest or self.origin


class FileIngested(_OfFile):
    """A publication was recorded: ``rows_expected`` is what FINRA stated, where it did.

    ``outcome`` is 'superseded' or 'quarantined' where the capture is not effective.
    """

    event_type: ClassVar[str] = "otc.file.ingested"

    publication_id: int
    week_ending: dt.date
    tier: TierName
    scope: str
    revision: int
    digest: str
    layout: str
    bytes: Count
    rows_received: Count
    rows_accepted: Count
    rows_rejected: Count
    rows_expected: Count | None = None
    complete: bool
    outcome: Annotated[str, _one_of("new", "revised", "superseded", "quarantined")]
    seconds: Seconds


class _OfCapture(_OfFile):
    publication_id: int
    week_ending: dt.date
    tier: TierName
    scope: str


class CaptureQuarantined(_OfCapture):
    """A capture would remove a large part of the one before it, or was cut off: it is not effective."""

    event_type: ClassVar[str] = "otc.capture.quarantined"

    reason: str


class CaptureAccepted(_OfCapture):
    """An operator accepted a quarantined capture: it is effective from now on."""

    event_type: ClassVar[str] = "otc.capture.accepted"


class CaptureWithdrawn(_OfCapture):
    """An operator withdrew a capture, for ``reason``: it is not effective any more."""

    event_type: ClassVar[str] = "otc.capture.withdrawn"

    reason: str


class CaptureRestored(_OfCapture):
    """An operator took the withdrawal of a capture back."""

    event_type: ClassVar[str] = "otc.capture.restored"


class FileRejected(_OfFile):
    """A file, or what FINRA sent, is no publication, or its week can't be settled. ``reason`` is for people."""

    event_type: ClassVar[str] = "otc.file.rejected"

    week_ending: dt.date | None = None
    tier: TierName | None = None
    reason: str


class _OfWeek(Payload):
    aggregate_type: ClassVar[str] = "week"

    week_ending: dt.date
    version: str

    @property
    def aggregate_id(self) -> str:
        return self.week_ending.isoformat()


class WeekNormalized(_OfWeek):
    """The tier's week stands in venue volume, made from captures of ``version``; as before, or otherwise."""

    event_type: ClassVar[str] = "otc.week.normalized"

    tier: TierName
    rows: Count
    shares: Shares
    seconds: Seconds


class WeekRevised(_OfWeek):
    """Rows of the tier's week differ from those of an earlier load, which are kept as a revision."""

    event_type: ClassVar[str] = "otc.week.revised"

    tier: TierName
    added: Count
    changed: Count
    removed: Count
    shares_before: Shares
    shares_after: Shares


class _OfFigure(_OfWeek):
    """A figure of the week was computed, from inputs of ``version``; which kind is said by its table's entry."""

    table: str
    rows: Count
    seconds: Seconds

    @field_validator("table")
    @classmethod
    def _is_of_this_kind(cls, table: str) -> str:
        return _known(table, [figure.name for figure in figures() if figure.event == cls.event_type])


class SummaryComputed(_OfFigure):
    """A summary of the week was computed."""

    event_type: ClassVar[str] = "otc.summary.computed"


class MetricsComputed(_OfFigure):
    """Six-week or concentration figures of the week were computed."""

    event_type: ClassVar[str] = "otc.metrics.computed"


class TierGrade(BaseModel):
    """A tier's grade, and the score of 100 that it stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grade: Annotated[str, _one_of("A", "B", "C", "D", "F")]
    score: int


class WeekChecked(_OfWeek):
    """Venue volume of ``version`` was graded, tier by tier."""

    event_type: ClassVar[str] = "otc.week.checked"

    grades: dict[TierName, TierGrade]


class _OfGap(Payload):
    aggregate_type: ClassVar[str] = "gap"

    week_ending: dt.date
    tier: TierName
    status: str

    @property
    def aggregate_id(self) -> str:
        return f"{self.week_ending} {self.tier}"


class GapOpened(_OfGap):
    """The gap report has a gap that it did not have, or that had another status."""

    event_type: ClassVar[str] = "otc.gap.opened"

    due: dt.date
    fetchable: bool
    detail: str


class GapClosed(_OfGap):
    """A gap is none any more, or has another status from now on; ``status`` is what it was."""

    event_type: ClassVar[str] = "otc.gap.closed"


class CheckFailed(Payload):
    """A check of an asset failed, for a week where it is by week; ``detail`` is what its page shows."""

    event_type: ClassVar[str] = "otc.check.failed"
    aggregate_type: ClassVar[str] = "check"

    week_ending: dt.date | None = None
    asset: str
    check: str
    severity: Annotated[str, _one_of("ERROR", "WARN")]
    blocking: bool
    detail: dict[str, str]

    @property
    def aggregate_id(self) -> str:
        name = f"{self.asset}.{self.check}"
        return f"{name} {self.week_ending}" if self.week_ending else name


class RetentionApplied(Payload):
    """Weeks before ``retained_from`` were dropped: ``weeks`` is how many, ``rows`` of them where they were counted.

    Told by ``otc.apply_retention`` itself, because a job of the server's may be what calls it.
    """

    event_type: ClassVar[str] = "otc.retention.applied"
    aggregate_type: ClassVar[str] = "retention"

    what: str
    retained_from: dt.date
    weeks: Count
    rows: Count | None = None

    @property
    def aggregate_id(self) -> str:
        return self.what


# --- appending -----------------------------------------------------------------------------------------


class ConcurrentChange(OtcError):
    """Another transaction has appended to the aggregate since it was read. Roll back, read again, decide again."""


class ForeignOrder(OtcError, RuntimeError):
    """Events restored from a dump of another server can't be ordered with new ones. The message says what to do."""


class UnknownEvent(OtcError):
    """An event of a kind or schema that this version of the code does not know. The message says what to do."""


@dataclass(frozen=True)
class Cursor:
    """How far a reader is: the last event that it has seen. A reader begins with ``START``."""

    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.id}"


START = Cursor(0, 0)


@dataclass(frozen=True)
class Event:
    """A stored event: a row of ``otc.events``.

    Attributes:
        id: in the order in which they were appended; gaps may be between them.
        version: 1, 2, ... of the aggregate.
        payload: as it is stored, in JSON's terms; ``told`` gives it typed.
        metadata: ``schema``, and ``run_id``, ``trace_id``, ``digest`` where they are known.
        cursor: where a reader stands who has seen this event.
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
    cursor: Cursor

    def told(self) -> Payload:
        """The payload, typed.

        Raises:
            UnknownEvent: a newer version of the code wrote it.
        """
        kind = PAYLOADS.get(self.event_type)
        if kind is None or self.metadata["schema"] > kind.schema_version:
            raise UnknownEvent(
                f"event {self.id} is {self.event_type}, schema {self.metadata['schema']}, which this version of "
                "otc-assets does not know: a newer one wrote it. Update this installation."
            )
        return kind.model_validate(self.payload)


_run_id: ContextVar[str | None] = ContextVar("run_id", default=None)


@contextmanager
def told_by(run_id: str | None) -> Iterator[None]:
    """Whatever is appended inside carries ``run_id``: set around a step, so that nothing has to hand it down."""
    token = _run_id.set(run_id)
    try:
        yield
    finally:
        _run_id.reset(token)


def metadata_of(kind: type[Payload], digest: str | None = None) -> str:
    """What is stored beside a payload, as JSON: its schema, and the run, trace and digest, as far as they are known."""
    known = {"run_id": _run_id.get(), "trace_id": current_trace_id(), "digest": digest}
    return json.dumps({"schema": kind.schema_version} | {n: v for n, v in known.items() if v is not None})


# xid8 comes as text, and under another name: ORDER BY xid would sort that text, and 999 after 1000.
_COLUMNS = (
    "id, event_id, event_type, aggregate_type, aggregate_id, version, payload, metadata, created_at, "
    "xid::text AS written_by"
)

_APPEND = sa.text(f"""
    SELECT {_COLUMNS} FROM otc.append_event(:event_type, :aggregate_type, :aggregate_id, CAST(:payload AS jsonb),
        CAST(:metadata AS jsonb), CAST(:expected_version AS bigint))
""")  # noqa: S608 - this module's own constant

#: What ``otc.append_event`` raises where the aggregate is not at the version that was expected.
_MOVED_ON = "OTC01"


def append(connection: sa.Connection, payload: Payload, *, expected_version: int | None = None) -> Event:
    """Appends an event in the caller's transaction, as the next version of its aggregate, and projects it.

    Until the transaction's end whoever appends to the same aggregate, or works on the same week, waits.

    Args:
        connection: inside the transaction that writes what the event tells of.
        payload: what is told.
        expected_version: the aggregate's version that the caller has read and decided by, 0 where it had none;
            None where the event is true whatever else has happened.

    Returns:
        The event as it is stored.

    Raises:
        ConcurrentChange: the aggregate is at another version than was expected, or somebody else has just taken
            its next one. The transaction can only be rolled back.
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
        return _event(connection.execute(_APPEND, values).one())
    except sa.exc.DBAPIError as error:
        said = getattr(error.orig, "diag", None)
        if said is not None and (said.sqlstate == _MOVED_ON or said.constraint_name == "events_one_version"):
            whose = f"{payload.aggregate_type} {payload.aggregate_id}"
            why = said.message_primary if said.sqlstate == _MOVED_ON else f"{whose} was appended to by another at once"
            raise ConcurrentChange(f"{why}. Read it again, and decide anew.") from error
        raise


def _event(row: sa.Row[Any]) -> Event:
    columns = dict(row._mapping)
    cursor = Cursor(int(columns.pop("written_by")), row.id)
    return Event(**columns, cursor=cursor)


_OPEN_GAPS = sa.text("""
    SELECT tier, status FROM otc.gap_ledger WHERE week_ending = :week_ending AND closed_at IS NULL ORDER BY tier
""")


def append_gap_changes(connection: sa.Connection, week_ending: dt.date, gaps: pl.DataFrame) -> None:
    """Tells how the week's gaps (GAP) differ from those told before; a gap with another status closes and opens."""
    found = {row["tier"]: row for row in gaps.iter_rows(named=True)}
    before = {row.tier: row.status for row in connection.execute(_OPEN_GAPS, {"week_ending": week_ending})}
    for tier, status in before.items():
        if tier not in found or found[tier]["status"] != status:
            append(connection, GapClosed(week_ending=week_ending, tier=tier, status=status))
    for tier, row in found.items():
        if before.get(tier) != row["status"]:
            opened = {name: row[name] for name in ("week_ending", "tier", "status", "due", "fetchable", "detail")}
            append(connection, GapOpened(**opened))


# --- reading -------------------------------------------------------------------------------------------

# An event's id is taken when it is written, and seen when its transaction commits: a reader that remembers only
# the last id skips what a slower transaction wrote before and committed after. Transactions have ids too, and
# pg_snapshot_xmin is the oldest that still runs: of those below it all that will ever be seen, is. So events
# in the order of (xid, id), up to there, are final, and none can come to stand before a cursor among them. The
# price is that an event shows only when every transaction that began to write before its own has ended.
_AFTER = sa.text(f"""
    SELECT {_COLUMNS} FROM otc.events
    WHERE (xid, id) > (CAST(CAST(:xid AS text) AS xid8), :id) AND xid < pg_snapshot_xmin(pg_current_snapshot())
      AND (CAST(:event_type AS text) IS NULL OR event_type = :event_type)
    ORDER BY xid, id LIMIT :limit
""")  # noqa: S608 - this module's own constant
_NEWEST = sa.text(f"""
    SELECT {_COLUMNS} FROM otc.events
    WHERE (NOT :final OR xid < pg_snapshot_xmin(pg_current_snapshot()))
      AND (CAST(:event_type AS text) IS NULL OR event_type = :event_type)
    ORDER BY xid DESC, id DESC LIMIT :count
""")  # noqa: S608 - this module's own constant
_BY_ID = sa.text(f"""
    SELECT {_COLUMNS} FROM otc.events
    WHERE id = CAST(:id AS bigint) OR event_id = CAST(:event_id AS uuid)
""")  # noqa: S608 - this module's own constant
# Retention's events are of no week: those that dropped this one are the first of each kind beyond it.
_OF_WEEK = sa.text(f"""
    SELECT {_COLUMNS} FROM otc.events WHERE payload ->> 'week_ending' = CAST(:week_ending AS text)
    UNION ALL
    SELECT {_COLUMNS} FROM otc.events WHERE id IN (
        SELECT min(id) FROM otc.events
        WHERE event_type = 'otc.retention.applied' AND payload ->> 'retained_from' > CAST(:week_ending AS text)
        GROUP BY aggregate_id)
    ORDER BY id
""")  # noqa: S608 - this module's own constant
# A visible event of a transaction that this server has not begun yet came with a dump of another server.
_FROM_ELSEWHERE = sa.text("""
    SELECT xid >= pg_snapshot_xmax(pg_current_snapshot()) AND xid IS DISTINCT FROM pg_current_xact_id_if_assigned()
    FROM otc.events ORDER BY xid DESC, id DESC LIMIT 1
""")


def read(
    connection: sa.Connection, after: Cursor = START, limit: int = 1_000, event_type: str | None = None
) -> list[Event]:
    """The events after a cursor, at most ``limit``; none is ever skipped, and none comes twice.

    They come in the order in which their transactions began to write, once all that began before have ended.
    Of one week that is the order of versions, because whoever writes of a week takes its lock before anything
    else; of a file that two processes take in at once, ``version`` says which came first.

    Args:
        connection: a transaction of its own, or one that has written nothing.
        after: where the reader stands: the ``cursor`` of the last event it has dealt with. Kept in the
            transaction that does the dealing, it makes that happen once for each event.
        limit: at most so many; fewer mean that there are no more yet.
        event_type: events of this type alone.

    Raises:
        ForeignOrder: the table was restored from a dump of another server, and its order is not this one's yet.
    """
    values = {"xid": str(after.xid), "id": after.id, "limit": limit, "event_type": event_type}
    _require_order(connection)
    return [_event(row) for row in connection.execute(_AFTER, values)]


def _require_order(connection: sa.Connection) -> None:
    """Refuses to order events that came with a dump: by their transactions, they would all be newer than ours.

    Raises:
        ForeignOrder: the table was restored from a dump of another server, and its order is not this one's yet.
    """
    if connection.execute(_FROM_ELSEWHERE).scalar():
        raise ForeignOrder(
            "otc.events was restored from a dump of another server, whose transaction numbers are higher than this "
            "server's: restored events can't be ordered with new ones. Renumber them as docs/events.md describes."
        )


def newest(connection: sa.Connection, count: int, event_type: str | None = None, *, final: bool = False) -> list[Event]:
    """The newest ``count`` events, oldest first; with ``final`` those from whose cursors one may read on.

    Raises:
        ForeignOrder: the table was restored from a dump of another server, and its order is not this one's yet.
    """
    _require_order(connection)
    values = {"count": count, "event_type": event_type, "final": final}
    return [_event(row) for row in connection.execute(_NEWEST, values)][::-1]


def find(connection: sa.Connection, which: int | UUID) -> Event | None:
    """The event of an ``id`` or an ``event_id``; None where there is none."""
    by_number = isinstance(which, int)
    values = {"id": which if by_number else None, "event_id": None if by_number else which}
    row = connection.execute(_BY_ID, values).one_or_none()
    return _event(row) if row is not None else None


def history(connection: sa.Connection, week_ending: dt.date) -> list[Event]:
    """All that has happened to a week, oldest first: its own events, and those of retention that dropped it."""
    return [_event(row) for row in connection.execute(_OF_WEEK, {"week_ending": week_ending.isoformat()})]


_STATES = sa.text("""
    SELECT tier, state, rows, shares, grade, score, revisions, updated_at FROM otc.week_state
    WHERE week_ending = :week_ending ORDER BY tier
""")


def week_states(connection: sa.Connection, week_ending: dt.date) -> Sequence[Mapping[str, Any]]:
    """How far the week is, tier by tier: tier, state, rows, shares, grade, score, revisions, updated_at."""
    return connection.execute(_STATES, {"week_ending": week_ending}).mappings().all()  # type: ignore[return-value]


# --- projections ---------------------------------------------------------------------------------------

#: The tables that are derived from events alone.
PROJECTIONS = ("week_state", "file_ledger", "gap_ledger")

_REPLAY = sa.text("SELECT otc.replay_events()")


def replay(connection: sa.Connection) -> tuple[int, dict[str, int]]:
    """Makes the projections anew, of the events alone; whoever appends waits until the transaction's end.

    Returns:
        How many events there are, and by projection how many rows they add up to.
    """
    events: int = connection.execute(_REPLAY).scalar_one()
    count = sa.text(" UNION ALL ".join(f"SELECT '{name}', count(*) FROM otc.{name}" for name in PROJECTIONS))  # noqa: S608
    return events, dict(connection.execute(count).all())  # type: ignore[arg-type]
