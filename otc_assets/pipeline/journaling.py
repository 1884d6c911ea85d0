"""Copies a database's events to the journal in its archive: each transaction's after its commit, and those that lack.

A process that dies between the commit and the copy leaves events that the journal lacks, as do events that the server's
own jobs append. ``write_missing`` finds and copies them. Rebuilding a database from the journal is in ``replay``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from otc_assets.archive.journal import Contents, Entry, Journal, journals
from otc_assets.archive.store import Archive, ArchiveError, ArchiveUnavailable
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.journal import event_ids, journal_id, missing_events
from otc_assets.warehouse.replay import holds_data

log = logging.getLogger(__name__)


def journaled_database(url: str | SecretStr | None, archive: Archive) -> Database:
    """A database whose events are copied to the archive when their transaction has committed.

    If the archive can't be written, that is logged, and ``write_missing`` repairs it later: the data are committed.
    """

    def copy(number: str, events: list[dict[str, Any]]) -> None:
        try:
            Journal(archive, number).write(Entry(events))
        except (OSError, ArchiveError, ArchiveUnavailable) as error:
            first = events[0]["id"]
            log.error("event %s can't be copied to the archive (%s); 'otc-assets migrate' copies it", first, error)

    return Database(url, copy)


def write_missing(database: Database, archive: Archive) -> int:
    """Writes the events that the archive's journal lacks. Returns how many there were."""
    with database.transaction() as connection:
        journal = Journal(archive, journal_id(connection))
        return _write_missing(connection, journal, journal.ids())


def _write_missing(connection: sa.Connection, journal: Journal, known: set[int]) -> int:
    before = len(known)
    while found := missing_events(connection, sorted(known)):
        for events in found:
            journal.write(Entry(events))
            known |= {event["id"] for event in events}
    return len(known) - before


@dataclass(frozen=True)
class Verified:
    """The state of a database's journal.

    Attributes:
        events: the number of its events.
        written: how many of them were missing or damaged, and are written now.
        problems: what can't be repaired, in sentences.
    """

    events: int
    written: int
    problems: list[str]


@dataclass(frozen=True)
class Compared:
    """The difference between a database's events and its journal.

    Attributes:
        lacking: how many events the journal lacks, or has damaged.
        problems: what the database can't repair, in sentences.
    """

    lacking: int
    problems: list[str]


def compare(database: Database, archive: Archive) -> Compared:
    """Reads the whole journal, and compares it with the database's events. Writes nothing."""
    with database.transaction() as connection:
        found, stored = Journal(archive, journal_id(connection)).read(), event_ids(connection)
    lacking = len(stored.keys() - found.event_ids().keys())
    return Compared(lacking, [*_damages(found), *_foreign(found, stored)])


def verify(database: Database, archive: Archive) -> Verified:
    """Reads the whole journal, compares it with the database's events, and writes those that are missing or damaged."""
    with database.transaction() as connection:
        journal = Journal(archive, journal_id(connection))
        written = _write_missing(connection, journal, set(journal.read().event_ids()))
        found, stored = journal.read(), event_ids(connection)
    foreign = (f"{text}. Run 'otc-assets migrate --restored'" for text in _foreign(found, stored))
    return Verified(len(found.event_ids()), written, [*_damages(found), *foreign])


def _damages(found: Contents) -> list[str]:
    """What is damaged, missing or contradictory within a journal."""
    return [text for texts in found.problems.values() for text in texts]


def _foreign(found: Contents, stored: dict[int, str]) -> list[str]:
    """That a journal has events that its database has not; empty otherwise."""
    others = sorted(number for number, name in found.event_ids().items() if stored.get(number) != name)
    if not others:
        return []
    return [
        f"the journal has {len(others):,} events that are not in the database, the first with the id {others[0]}: "
        "the database was restored from an older copy"
    ]


def lost_databases(database: Database, archive: Archive) -> list[str]:
    """The journals of other databases, if this one is empty: it may be meant to replace one of them."""
    with database.transaction() as connection:
        return [] if holds_data(connection) else journals(archive)
