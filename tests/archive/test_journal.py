"""The journal has each transaction as a whole, and finds damaged, missing and contradictory objects."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from otc_assets.archive.journal import Entry, Journal, journals
from otc_assets.archive.store import LocalArchive

OURS, OTHER = "8c5de1e4-37b9-482e-86d4-ea91fd242044", "00000000-37b9-482e-86d4-ea91fd242044"
WEEK, NEXT = dt.date(2026, 8, 21), dt.date(2026, 8, 28)


def event(number: int, version: int, week: dt.date | None = WEEK, **other: Any) -> dict[str, Any]:
    payload = {} if week is None else {"week_ending": week.isoformat()}
    return {
        "id": number,
        "event_id": f"event {number}",
        "event_type": "otc.week.revised",
        "aggregate_type": "week",
        "aggregate_id": str(week),
        "version": version,
        "payload": payload,
        "began_at": "2026-09-08T10:00:00+00:00",
        "write_moment": None,
    } | other


@pytest.fixture
def archive(tmp_path: Path) -> LocalArchive:
    return LocalArchive(tmp_path)


@pytest.fixture
def journal(archive: LocalArchive) -> Journal:
    """Three transactions: two events of a week, one of the next, and another of the first."""
    journal = Journal(archive, OURS)
    journal.write(Entry([event(123, 1), event(127, 2)]))
    journal.write(Entry([event(130, 1, NEXT)]))
    journal.write(Entry([event(131, 3)]))
    return journal


def objects(archive: LocalArchive) -> dict[str, Path]:
    """By its first id, the file of each transaction."""
    return {path.name[:12].lstrip("0"): path for path in sorted((archive.folder / "journal" / OURS).rglob("*.json"))}


def change(path: Path, before: str, after: str) -> None:
    path.chmod(0o644)
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_a_transaction_is_one_object_whose_name_has_its_week_and_ids(journal: Journal, archive: LocalArchive) -> None:
    names = [path.relative_to(archive.folder).as_posix() for path in objects(archive).values()]
    assert [name.rpartition("-")[0] for name in names] == [
        f"journal/{OURS}/2026-08-21/000000000123+4",
        f"journal/{OURS}/2026-08-21/000000000131",
        f"journal/{OURS}/2026-08-28/000000000130",
    ]
    assert journal.ids() == {123, 127, 130, 131}
    assert objects(archive)["123"].stat().st_mode & 0o222 == 0
    assert journals(archive) == [OURS]


def test_a_file_of_another_program_is_no_journal(journal: Journal, archive: LocalArchive) -> None:
    """A rebuild asked which of two databases was meant."""
    (archive.folder / "journal" / ".DS_Store").write_bytes(b"Bud1")
    assert journals(archive) == [OURS]


def test_what_was_written_is_read_in_the_order_of_ids_and_writing_it_again_changes_nothing(
    journal: Journal, archive: LocalArchive
) -> None:
    Journal(archive, OURS).write(Entry([event(123, 1), event(127, 2)]))
    Journal(archive, OTHER).write(Entry([event(1, 1)]))
    found = journal.read()
    assert [[e["id"] for e in entry.events] for entry in found.entries] == [[123, 127], [130], [131]]
    assert found.entries[0] == Entry([event(123, 1), event(127, 2)])
    assert dict(found.problems) == {}


def test_changed_bytes_are_damage_of_their_week(journal: Journal, archive: LocalArchive) -> None:
    change(objects(archive)["130"], "otc.week.revised", "otc.week.renamed")
    found = journal.read()
    assert list(found.problems) == [NEXT]
    assert f"journal/{OURS}/2026-08-28/000000000130" in found.problems[NEXT][0]
    assert "damaged" in found.problems[NEXT][0]
    assert [entry.events[0]["id"] for entry in found.entries] == [123, 131]


def test_a_lost_object_is_noticed_by_the_versions_that_lack(journal: Journal, archive: LocalArchive) -> None:
    objects(archive)["123"].unlink()
    assert dict(journal.read().problems) == {WEEK: ["the journal lacks the versions [1, 2] of week 2026-08-21"]}


def test_a_lost_capture_is_noticed_by_the_week_that_was_computed_from_it(archive: LocalArchive) -> None:
    journal = Journal(archive, OURS)
    captured = {"event_type": "otc.file.ingested", "payload": {"week_ending": str(WEEK), "publication_id": 7}}
    computed = {"event_type": "otc.week.normalized", "payload": {"week_ending": str(WEEK), "version": "T1:7!8 OTCE:9"}}
    journal.write(Entry([event(1, 1, **captured)]))
    journal.write(Entry([event(2, 2, **computed)]))
    assert dict(journal.read().problems) == {
        WEEK: [f"the journal lacks capture {number}, from which the week was computed" for number in (8, 9)]
    }


def test_objects_of_two_databases_with_the_same_id_contradict_each_other(
    journal: Journal, archive: LocalArchive
) -> None:
    journal.write(Entry([event(130, 1, NEXT, event_id="another event")]))
    (problem,) = journal.read().problems[NEXT]
    assert problem.count("000000000130") == 2
    assert "contradict each other" in problem


def test_an_object_that_is_being_written_is_none(journal: Journal, archive: LocalArchive) -> None:
    folder = objects(archive)["130"].parent
    (folder / ".partial-0123456789ab-1-0123456789ab-x").write_text("{")
    assert journal.ids() == {123, 127, 130, 131}
    assert dict(journal.read().problems) == {}
