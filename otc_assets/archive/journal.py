"""The journal: a copy of a database's events in the archive, from which the database can be rebuilt.

One object has the events of one transaction, so that a transaction is there as a whole or not at all. Its name has the
week that the events are about, their ids, and the beginning of the SHA-256 of its bytes:
``journal/<journal id>/2026-08-21/000000000123+1+4-<digest>.json`` has the events 123, 124 and 127. This module writes
and reads objects and finds damage. What an event means, and reading events from the database, is not part of it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otc_assets.archive.parallel import in_threads
from otc_assets.archive.store import Archive, ArchiveError, DamagedObject

_FOLDER = "journal"
#: The folder of events that are about no week, such as those of retention.
_NO_WEEK = "none"
_NAME = re.compile(
    rf"{_FOLDER}/(?P<journal>[0-9a-f-]{{36}})/(?P<week>\d{{4}}-\d\d-\d\d|{_NO_WEEK})/"
    r"(?P<first>\d{12})(?P<others>(\+\d+)*)-(?P<digest>[0-9a-f]{16})\.json"
)
_CAPTURES = re.compile(r"[:+!](\d+)")


@dataclass(frozen=True)
class Entry:
    """The events of one transaction, in the order of their ids: rows of ``otc.events``, as JSON has them."""

    events: Sequence[Mapping[str, Any]]

    @property
    def began_at(self) -> str:
        """When the transaction began."""
        return str(self.events[0]["began_at"])

    @property
    def write_moment(self) -> str | None:
        """The ``known_from`` of the rows that it wrote; None if it wrote none."""
        return next((event["write_moment"] for event in self.events if event["write_moment"]), None)

    def of_weeks(self, weeks: set[dt.date]) -> Entry | None:
        """The events that are about one of ``weeks``, or about none; None if there are no such events."""
        kept = [event for event in self.events if (week := week_of(event)) is None or week in weeks]
        return Entry(kept) if kept else None


def week_of(event: Mapping[str, Any]) -> dt.date | None:
    """The week that an event is about; None if it is not about a week."""
    week = event["payload"].get("week_ending")
    return None if week is None else dt.date.fromisoformat(week)


@dataclass
class Contents:
    """What was read of a journal.

    Attributes:
        entries: those that are intact, in the order of their events.
        problems: by week (None: no week), what is damaged, missing or contradictory.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: dict[dt.date | None, list[str]] = field(default_factory=lambda: defaultdict(list))

    def event_ids(self) -> dict[int, str]:
        """The ``id`` and the ``event_id`` of every event that is intact."""
        return {event["id"]: event["event_id"] for entry in self.entries for event in entry.events}


def journals(archive: Archive) -> list[str]:
    """The ids of the journals that the archive has: one per database that was ever used with it."""
    names = map(_NAME.fullmatch, archive.names(_FOLDER))
    return sorted({found["journal"] for found in names if found})  # and no .DS_Store, or the folders of S3's console


def object_names(archive: Archive) -> list[str]:
    """The names of the objects of all journals."""
    return sorted(name for name in archive.names(_FOLDER) if _NAME.fullmatch(name))


def read_object(archive: Archive, name: str) -> bytes:
    """An object of a journal, checked against the digest in its name.

    Raises:
        MissingObject: there is no such object.
        DamagedObject: its bytes have another digest.
    """
    content = archive.get_named(name)
    if hashlib.sha256(content).hexdigest()[:16] != name.rpartition("-")[2].removesuffix(".json"):
        raise DamagedObject(f"{name} is damaged (its bytes have another digest)")
    return content


def origins(content: bytes) -> dict[str, str]:
    """By digest, where the bytes came from that an object's events say were captured."""
    payloads = (event["payload"] for event in json.loads(content)["events"])
    return {payload["digest"]: payload["origin"] for payload in payloads if {"digest", "origin"} <= payload.keys()}


class Journal:
    """The journal of one database.

    Args:
        archive: where its objects are.
        journal_id: the database's, ``otc.journal.journal_id``.
    """

    def __init__(self, archive: Archive, journal_id: str) -> None:
        self._archive = archive
        self._id = journal_id

    def write(self, entry: Entry) -> None:
        """Writes an entry. Writing it again, also from another process, changes nothing."""
        content = json.dumps({"format": 1, "events": entry.events}, indent=0, sort_keys=True).encode()
        first, *others = [event["id"] for event in entry.events]
        weeks = {week_of(event) for event in entry.events}
        week = weeks.pop() if len(weeks) == 1 else None
        ids = f"{first:012}" + "".join(f"+{number - first}" for number in others)
        digest = hashlib.sha256(content).hexdigest()[:16]
        self._archive.put_named(f"{_FOLDER}/{self._id}/{week or _NO_WEEK}/{ids}-{digest}.json", content)

    def ids(self) -> set[int]:
        """The ids of all events that the journal has, by the names of its objects."""
        return {number for name in self._names() for number in _ids(name)}

    def _names(self) -> Iterator[re.Match[str]]:
        for name in self._archive.names(f"{_FOLDER}/{self._id}"):
            if found := _NAME.fullmatch(name):
                yield found

    def read(self) -> Contents:
        """Reads everything, and finds damaged, missing and contradictory objects.

        Events of one aggregate are numbered without gaps, so a missing object is noticed if later ones are there.
        """
        found = Contents()
        owner: dict[int, str] = {}
        names = sorted(self._names(), key=lambda name: (_ids(name)[0], name.string))
        for name, entry in zip(names, in_threads(self._read, names), strict=True):
            week = None if name["week"] == _NO_WEEK else dt.date.fromisoformat(name["week"])
            if isinstance(entry, ArchiveError):
                found.problems[week].append(str(entry))
                continue
            if other := next((owner[number] for number in _ids(name) if number in owner), None):
                found.problems[week].append(f"{name.string} and {other} contradict each other")
                continue
            owner |= dict.fromkeys(_ids(name), name.string)
            found.entries.append(entry)
        _find_gaps(found)
        return found

    def _read(self, name: re.Match[str]) -> Entry | ArchiveError:
        try:
            stored = json.loads(read_object(self._archive, name.string))
        except ArchiveError as error:
            return error
        if stored["format"] != 1:
            return ArchiveError(f"{name.string} has format {stored['format']}: a newer version of otc-assets wrote it")
        return Entry(stored["events"])


def _ids(name: re.Match[str]) -> list[int]:
    first = int(name["first"])
    return [first, *(first + int(offset) for offset in name["others"].split("+")[1:])]


def _find_gaps(found: Contents) -> None:
    """Adds the aggregates of which a version is missing or there twice, and captures that are there twice."""
    versions: dict[tuple[str, str], list[tuple[int, dt.date | None]]] = defaultdict(list)
    captures: dict[int, str] = {}
    computed_from: dict[int, dt.date | None] = {}
    for entry in found.entries:
        for event in entry.events:
            week = week_of(event)
            versions[event["aggregate_type"], event["aggregate_id"]].append((event["version"], week))
            if event["event_type"] == "otc.file.ingested":
                number = event["payload"]["publication_id"]
                if number in captures:
                    found.problems[week].append(f"capture {number} is recorded by two events of the journal")
                captures[number] = event["event_id"]
            elif event["event_type"] == "otc.week.normalized":
                # As in 'T1:12+15!16': effective captures, and after the exclamation mark quarantined ones.
                computed_from |= dict.fromkeys(map(int, _CAPTURES.findall(event["payload"]["version"])), week)
    for number, week in computed_from.items():
        if number not in captures:
            found.problems[week].append(f"the journal lacks capture {number}, from which the week was computed")
    for (kind, name), numbered in versions.items():
        have = sorted(version for version, _ in numbered)
        if have != list(range(1, len(have) + 1)):
            lacking = sorted(set(range(1, have[-1] + 1)) - set(have))
            what = f"lacks the versions {lacking}" if lacking else "has a version twice"
            for week in {week for _, week in numbered}:
                found.problems[week].append(f"the journal {what} of {kind} {name}")
