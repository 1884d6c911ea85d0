"""The archive's journal has every event of the database, and what is lost or damaged is repaired or refused."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance
from support import installed
from support.migration import migrate

from otc_assets.defs.jobs import FilesToIngest
from otc_assets.domain import normalize
from otc_assets.domain.weeks import T1, publication_date
from otc_assets.settings import settings

Command = Callable[..., tuple[int, str, str]]
Sql = psycopg.Connection[tuple[object, ...]]

WEEKS = [dt.date(2026, 8, 14), dt.date(2026, 8, 21)]
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)
#: A process that is killed when it wants to write to the journal, after its commit.
KILLED = """
import os, signal
from otc_assets.archive.store import LocalArchive
LocalArchive.put_named = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from otc_assets.cli import main
main()
"""


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield


@pytest.fixture
def archive(installation: Path, dagster: DagsterInstance, tmp_path: Path) -> Path:
    """The archive of an installation that captured two weeks from files, and computed them."""
    for week in WEEKS:
        path = tmp_path / f"{week}.csv"
        day = publication_date(week, T1)
        path.write_text(HEADER + "".join(f"NMS Tier 1|S{n}|Issue {n}|VENUE|UBSA|{n + 1}|1|{day}\n" for n in range(9)))
        installed.launcher(dagster).ingest(FilesToIngest(paths=[str(path)], week_ending=week.isoformat()))
    assert installed.compute_stale_weeks(dagster) == []
    return installation / "archive"


@pytest.fixture
def rebuilt(
    otc: Command, archive: Path, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Rebuilds the archive in an empty database; later commands use it."""

    def rebuild(*options: str) -> tuple[int, str, str]:
        installed.close()
        monkeypatch.setenv("OTC_DATABASE_URL", empty_database)
        settings.cache_clear()
        migrate(empty_database)
        return otc("rebuild", "--from", "archive", *options)

    return rebuild


def journal_objects(archive: Path) -> list[Path]:
    return sorted((archive / "journal").rglob("*.json"))


def event_ids(url: str) -> list[object]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT id, event_id FROM otc.events ORDER BY 1").fetchall()


def test_a_decision_of_a_process_that_was_killed_after_its_commit_is_written_by_migrate(
    otc: Command,
    archive: Path,
    rebuilt: Callable[..., tuple[int, str, str]],
    database: str,
    empty_database: str,
    sql: Sql,
) -> None:
    before = journal_objects(archive)
    command = [sys.executable, "-c", KILLED, "captures", "withdraw", "1", "--reason", "a mistake"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    withdrawn = sql.execute("SELECT withdrawn_at FROM otc.publication WHERE id = 1").fetchone()
    assert withdrawn is not None
    assert withdrawn[0] is not None
    assert journal_objects(archive) == before

    code, _, errors = otc("migrate")
    assert (code, "1 events written to the archive" in errors) == (0, True)
    assert len(journal_objects(archive)) == len(before) + 1
    original = event_ids(database)
    assert rebuilt()[0] == 0
    assert event_ids(empty_database) == original
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT withdrawn_at FROM otc.publication WHERE id = 1").fetchone() == withdrawn


def test_verify_writes_missing_and_damaged_objects_again(otc: Command, archive: Path, sql: Sql) -> None:
    objects = journal_objects(archive)
    content = {path: path.read_bytes() for path in objects}
    objects[0].unlink()
    objects[1].chmod(0o644)
    objects[1].write_bytes(content[objects[1]][:-1])
    lost = sum(len(json.loads(content[path])["events"]) for path in objects[:2])
    code, output, _ = otc("archive", "verify", "--json")
    assert code == 0
    count = sql.execute("SELECT count(*) FROM otc.events").fetchone()
    assert count is not None
    assert json.loads(output)["journal"] == {"events": count[0], "written": lost, "problems": []}
    assert {path: path.read_bytes() for path in journal_objects(archive)} == content


def test_a_journal_with_events_that_the_database_lacks_is_a_problem(otc: Command, archive: Path, sql: Sql) -> None:
    """The database was restored from an older copy, for example."""
    sql.execute("ALTER TABLE otc.events DISABLE TRIGGER append_only")
    sql.execute("DELETE FROM otc.events WHERE id = (SELECT max(id) FROM otc.events)")
    code, _, errors = otc("archive", "verify")
    assert code == 4
    assert "the journal has 1 events that are not in the database" in errors


def test_a_database_with_captures_is_refused_and_stays_as_it_is(otc: Command, archive: Path, database: str) -> None:
    before = event_ids(database)
    code, _, errors = otc("rebuild", "--from", "archive")
    assert code == 1
    assert "the database has 2 captures" in errors
    assert "'otc-assets migrate --to base'" in errors
    assert event_ids(database) == before


def test_damage_is_refused_with_its_names_or_its_week_is_left_out(
    otc: Command, archive: Path, rebuilt: Callable[..., tuple[int, str, str]], sql: Sql, empty_database: str
) -> None:
    first = next(path for path in journal_objects(archive) if path.parent.name == str(WEEKS[0]))
    first.chmod(0o644)
    first.write_text("{}")
    ((digest,),) = sql.execute("SELECT digest FROM otc.publication WHERE week_ending = %s", [WEEKS[0]]).fetchall()
    bytes_of_week = archive / str(digest)[:2] / f"{digest}.zst"
    bytes_of_week.unlink()
    code, _, errors = rebuilt()
    assert code == 1
    assert f"{first.name} is damaged" in errors
    assert event_ids(empty_database) == []

    code, output, errors = rebuilt("--leave-out-damaged", "--json")
    assert code == 1
    assert f"{WEEKS[0]} is left out: " in errors
    assert json.loads(output)["weeks"] == [str(WEEKS[1])]
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT id, week_ending FROM otc.publication").fetchall() == [(2, WEEKS[1])]
        volume = connection.execute("SELECT sum(share_volume) FROM otc.venue_volume").fetchone()
    assert volume == (45,)

    # The week can be captured again, and the journal of the new database has no gap.
    again = archive.parent / f"{WEEKS[0]}.csv"
    assert otc("ingest", str(again), "--week-ending", str(WEEKS[0]))[0] == 0
    code, output, errors = otc("archive", "verify", "--json")
    assert (code, json.loads(output)["journal"]["problems"]) == (0, []), errors
    assert len(list((archive / "journal").iterdir())) == 2
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT id FROM otc.publication ORDER BY 1").fetchall() == [(2,), (3,)]


def test_another_rule_than_then_is_named_with_what_differs(
    rebuilt: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalize, "MOST_SHARES", 8)
    monkeypatch.setattr(normalize, "NORMALIZER_VERSION", "2")
    code, output, _ = rebuilt()
    assert code == 0
    assert "venue_volume was computed by code version 1, and is now by 2" in output
    assert "differs: rows_accepted of capture 1: 8, recorded 9" in output


def test_one_of_several_journals_has_to_be_named(archive: Path, rebuilt: Callable[..., tuple[int, str, str]]) -> None:
    (ours,) = (archive / "journal").iterdir()
    other = "00000000-0000-4000-8000-000000000000"
    shutil.copytree(ours, ours.with_name(other))
    code, _, errors = rebuilt()
    assert code == 1
    assert ours.name in errors
    assert other in errors
    assert rebuilt("--journal", other)[0] == 0


def test_migrate_on_an_empty_database_names_the_way_to_rebuild_the_lost_one(
    otc: Command, rebuilt: Callable[..., tuple[int, str, str]], archive: Path
) -> None:
    assert rebuilt("--journal", "none")[0] == 1
    code, _, errors = otc("migrate")
    assert (code, "'otc-assets rebuild --from archive'" in errors) == (0, True)
    assert rebuilt()[0] == 0
    assert "'otc-assets rebuild --from archive'" not in otc("migrate")[2]


def test_a_capture_that_was_recounted_is_compared_with_its_last_counts(
    otc: Command, rebuilt: Callable[..., tuple[int, str, str]], archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the weeks were under the rules of before is named; the captures have the present counts, as recorded."""
    monkeypatch.setattr(normalize, "MOST_SHARES", 8)
    monkeypatch.setattr(normalize, "NORMALIZER_VERSION", "2")
    assert otc("rebuild", "--weeks", f"{WEEKS[0]}..{WEEKS[1]}")[0] == 0
    code, output, errors = rebuilt("--json")
    assert code == 0, errors
    told = json.loads(output)
    assert told["other_code_versions"] == {"venue_volume": ["1"]}
    assert "rows of venue_volume of NMS Tier 1, week ending 2026-08-14: 8, recorded 9" in told["differences"]
    assert not [text for text in told["differences"] if "of capture" in text]


def test_weeks_can_be_chosen(rebuilt: Callable[..., tuple[int, str, str]], empty_database: str) -> None:
    code, _, errors = rebuilt("--weeks", str(WEEKS[1]))
    assert code == 0, errors
    with psycopg.connect(empty_database) as connection:
        weeks = connection.execute("SELECT DISTINCT week_ending FROM otc.venue_volume").fetchall()
    assert weeks == [(WEEKS[1],)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--from archive"),
        (["--from", "FINRA"], "Write --from archive"),
        (["--weeks", "2026-08-21", "--leave-out-damaged"], "need --from archive"),
    ],
)
def test_options_that_do_not_belong_together_are_usage_errors(otc: Command, options: list[str], message: str) -> None:
    code, _, errors = otc("rebuild", *options)
    assert code == 2
    assert message in " ".join(errors.replace("│", " ").split())
