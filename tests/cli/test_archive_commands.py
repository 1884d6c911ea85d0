"""``otc-assets archive verify``, and what a damaged object does to the weeks beside it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance
from support import installed

from otc_assets.defs import launch
from otc_assets.domain.weeks import T1, TIERS, weeks_between

Command = Callable[..., tuple[int, str, str]]
Sql = psycopg.Connection[tuple[object, ...]]

WEEKS = weeks_between(dt.date(2026, 8, 7), dt.date(2026, 8, 21))


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield


@pytest.fixture
def objects(dagster: DagsterInstance, installation: Path, sql: Sql) -> dict[dt.date, Path]:
    """Three weeks of T1, captured and computed: the archived object of each."""
    assert installed.materialize_weeks(dagster, WEEKS, [T1]) == []
    found = sql.execute("SELECT week_ending, digest FROM otc.publication ORDER BY 1").fetchall()
    return {
        week: installation / "archive" / str(digest)[:2] / f"{digest}.zst"  # type: ignore[misc]
        for week, digest in found
    }


def cut_off(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:100])


def flip_a_bit(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_an_intact_archive_is_verified(otc: Command, objects: dict[dt.date, Path], sql: Sql) -> None:
    assert len(objects) == 3
    code, output, errors = otc("archive", "verify")
    count = sql.execute("SELECT count(*) FROM otc.events").fetchone()
    assert count is not None
    assert (code, output.strip()) == (0, "3 archived objects verified: each matches its digest")
    assert errors.splitlines()[-1] == f"{count[0]} events in the journal"
    code, output, _ = otc("archive", "verify", "--json")
    journal = {"events": count[0], "written": 0, "problems": []}
    assert (code, json.loads(output)) == (0, {"verified": 3, "damaged": [], "journal": journal})


def test_missing_and_damaged_objects_are_listed_and_exit_with_4(otc: Command, objects: dict[dt.date, Path]) -> None:
    objects[WEEKS[0]].unlink()
    flip_a_bit(objects[WEEKS[1]])
    cut_off(objects[WEEKS[2]])
    code, output, _ = otc("archive", "verify", "--json")
    assert code == 4
    told = json.loads(output)
    assert told["verified"] == 3
    assert [(row["week_ending"], row["tier"], row["problem"]) for row in told["damaged"]] == [
        ("2026-08-07", "NMS Tier 1", "missing"),
        ("2026-08-14", "NMS Tier 1", "damaged"),
        ("2026-08-21", "NMS Tier 1", "damaged"),
    ]
    assert str(objects[WEEKS[2]]) in told["damaged"][2]["detail"]
    code, output, _ = otc("archive", "verify")
    assert code == 4
    lines = output.splitlines()
    assert lines[1].startswith("2026-08-07   NMS Tier 1")
    assert "missing" in lines[1]
    assert lines[2].startswith("2026-08-14   NMS Tier 1")
    assert lines[3].startswith("2026-08-21   NMS Tier 1")
    assert "damaged" in lines[2]
    assert "damaged" in lines[3]
    assert "capture the publication again" in lines[-1]


def test_a_sample_verifies_so_many_objects(otc: Command, objects: dict[dt.date, Path]) -> None:
    for path in objects.values():
        path.unlink()
    code, output, _ = otc("archive", "verify", "--sample", "2", "--json")
    told = json.loads(output)
    assert (code, told["verified"], len(told["damaged"])) == (4, 2, 2)
    assert otc("archive", "verify", "--sample", "0")[0] == 2


def test_a_damaged_object_fails_its_own_week_alone_and_capturing_it_again_heals_it(
    otc: Command, objects: dict[dt.date, Path], dagster: DagsterInstance, sql: Sql
) -> None:
    """In a range, the error of one week's object left all other weeks without venue volume."""
    cut_off(objects[WEEKS[1]])
    sql.execute("DELETE FROM otc.venue_volume")
    with pytest.raises(launch.RunFailed, match=rf"{WEEKS[1]}: {objects[WEEKS[1]]} is damaged") as caught:
        installed.launcher(dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[2])
    assert str(WEEKS[0]) not in str(caught.value)
    found = sql.execute("SELECT DISTINCT week_ending FROM otc.venue_volume ORDER BY 1").fetchall()
    assert found == [(WEEKS[0],), (WEEKS[2],)]
    assert installed.materialize_weeks(dagster, WEEKS[1:2], TIERS[:1]) == []
    assert otc("archive", "verify")[0] == 0
    assert sql.execute("SELECT count(DISTINCT week_ending) FROM otc.venue_volume").fetchone() == (3,)
