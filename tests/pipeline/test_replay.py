"""A database that is rebuilt from the archive alone has the rows, ids, moments and as-of answers of the original."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from dagster import DagsterInstance
from support import installed
from support.migration import migrate
from support.revised_week import a_revised_week
from timescale.servers import TimescaleServer

from otc_assets.defs import launch
from otc_assets.defs.jobs import FilesToIngest
from otc_assets.domain.tables import with_history
from otc_assets.domain.weeks import T1, publication_date, week_containing
from otc_assets.finra.simulator.files import download_file
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.settings import settings
from otc_assets.warehouse.server import autocommit, connect
from otc_assets.warehouse.timescale.aggregates import AGGREGATES
from otc_assets.warehouse.timescale.jobs import RETENTION_JOB

Command = Callable[..., tuple[int, str, str]]

NEVER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)
#: What differs in a rebuilt database, and why: docs/storage.md.
DIFFERS = {
    "alert": None,  # the delivery of messages is not rebuilt
    "definition": ["applied_at"],  # when 'migrate' ran on this database
    "events": ["xid"],  # the number of a transaction of this server
    "computed_week": ["xid"],
}
_TABLES = """
    SELECT table_name FROM information_schema.tables WHERE table_schema = 'otc' ORDER BY table_name
"""
#: When the calendar was computed has no event.
_IS_CALENDAR = "to_jsonb(t) ->> 'table_name' IS NOT DISTINCT FROM 'week_calendar'"


def rows(url: str) -> dict[str, list[str]]:
    """All rows of every table and view of the schema, as JSON, without what differs."""
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as connection:
        found = {}
        for (table,) in connection.execute(_TABLES).fetchall():
            without = DIFFERS.get(table, [])
            if without is None:
                continue
            query = f"""
                SELECT (to_jsonb(t) - %s::text[] - CASE WHEN {_IS_CALENDAR} THEN 'computed_at' ELSE '' END)::text AS row
                FROM otc.{table} t ORDER BY row
            """
            found[table] = [row for (row,) in connection.execute(query, [without])]  # type: ignore[arg-type]
        return found


def moments(url: str) -> list[dt.datetime]:
    """Before, at and after every moment at which a row of venue volume or of a six-week figure was replaced."""
    query = " UNION ".join(
        f"SELECT {column} FROM otc.{table}{suffix}"
        for table in ("venue_volume", "symbol_rolling")
        for column, suffix in (("known_from", ""), ("known_from", "_revision"), ("known_to", "_revision"))
    )
    step = dt.timedelta(microseconds=1)
    with psycopg.connect(url, autocommit=True) as connection:
        known = [moment for (moment,) in connection.execute(query)]  # type: ignore[arg-type]
    return sorted({moment + shift for moment in known for shift in (-step, 0 * step)})


def answers(
    url: str, asked: list[dt.datetime], tables: Sequence[str] = (*with_history(), *AGGREGATES)
) -> dict[tuple[str, dt.datetime], list[str]]:
    """The answer of each as-of function for each moment."""
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as connection:
        return {
            (table, moment): [
                row
                for (row,) in connection.execute(
                    f"SELECT to_jsonb(t)::text AS row FROM otc.{table}_as_of(%s) t ORDER BY row",  # type: ignore[arg-type]
                    [moment],
                )
            ]
            for moment in asked
            for table in tables
        }


@dataclass
class Edition:
    """Two databases of one edition: the original, and the one that is rebuilt."""

    name: str
    original: str
    other: str


@pytest.fixture(params=["plain PostgreSQL", "Apache edition", "community edition"])
def edition(request: pytest.FixtureRequest) -> Iterator[Edition]:
    """Each edition of the server, with two databases."""
    with ExitStack() as stack:
        if request.param == "plain PostgreSQL":
            urls = [request.getfixturevalue("database"), request.getfixturevalue("empty_database")]
        else:
            server: TimescaleServer = request.getfixturevalue(request.param.split()[0].lower())
            urls = [stack.enter_context(server.database()) for _ in range(2)]
        yield Edition(request.param, *urls)


def line(symbol: str, shares: object, date: dt.date) -> str:
    return f"NMS Tier 1|{symbol}|{symbol} Inc|NAME|UBSA|{shares}|1|{date}\n"


class Story:
    """What happens to the original database: captures, revisions and decisions."""

    def __init__(self, otc: Command, instance: DagsterInstance, folder: Path) -> None:
        self.otc, self.instance, self.folder = otc, instance, folder
        self.week, self.revised_on = a_revised_week(dt.date(2025, 12, 19))
        #: A week that only files have.
        self.file_week = self.week - dt.timedelta(weeks=2)

    def at(self, day: dt.date) -> time_machine.travel:
        return time_machine.travel(dt.datetime.combine(day, dt.time(18), dt.UTC), tick=True)

    def run(self, *arguments: str) -> None:
        code, _, errors = self.otc(*arguments)
        assert code == 0, errors

    def ingest(self, name: str, text: str, week: dt.date, *, fails: bool = False) -> None:
        (path := self.folder / name).write_text(text)
        wanted = FilesToIngest(paths=[str(path)], week_ending=week.isoformat())
        if fails:
            with pytest.raises(launch.RunFailed):
                installed.launcher(self.instance).ingest(wanted)
        else:
            installed.launcher(self.instance).ingest(wanted)
        assert installed.compute_stale_weeks(self.instance) == []

    def tell(self) -> None:
        week, first_tier = self.week, publication_date(self.week, T1) + dt.timedelta(days=1)
        weeks = [week - dt.timedelta(weeks=1), week]
        with self.at(first_tier):
            assert installed.materialize_weeks(self.instance, weeks, [T1]) == []
        with self.at(self.revised_on - dt.timedelta(days=1)):
            assert installed.materialize_weeks(self.instance, weeks) == []
        with self.at(self.revised_on + dt.timedelta(days=1)):
            assert installed.materialize_weeks(self.instance, weeks) == []
            self.website_file_beside_the_api()
            self.revised_withdrawn_and_restored_files()
            self.quarantined_and_accepted_file()

    def website_file_beside_the_api(self) -> None:
        """The ATS half of the earlier week, with one row that is newer than the API's."""
        week, day = self.week - dt.timedelta(weeks=1), self.revised_on + dt.timedelta(days=1)
        simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
        text = download_file(simulator, week, T1, "ATS", day).decode()
        header, first, *others = text.splitlines(keepends=True)
        fields = first.rstrip("\n").split("|")
        fields[5], fields[7] = str(int(float(fields[5])) + 1_000_000), day.isoformat()
        self.ingest("website.csv", header + "|".join(fields) + "\n" + "".join(others), week)

    def revised_withdrawn_and_restored_files(self) -> None:
        """A hundred rows and a bad one; then one row changes, one is removed and one is added."""
        published = publication_date(self.file_week, T1)
        later = published + dt.timedelta(days=7)
        before = [line(f"S{number}", 100 + number, published) for number in range(100)]
        bad = line("BAD", "many", published)
        self.ingest("first.csv", HEADER + "".join(before) + bad, self.file_week)
        after = [line("S0", 777, later), line("NEW", 5, later), *before[2:]]
        self.ingest("second.csv", HEADER + "".join(after), self.file_week)
        newest = self.newest_capture()
        self.run("captures", "withdraw", newest, "--reason", "a test of the page")
        self.run("captures", "restore", newest)
        third = [line("S5", 1, later + dt.timedelta(days=1)), *after[:5], *after[6:]]
        self.ingest("third.csv", HEADER + "".join(third), self.file_week)
        self.run("captures", "withdraw", self.newest_capture(), "--reason", "a mistake")

    def quarantined_and_accepted_file(self) -> None:
        """Half of the rows are missing; an operator knows that FINRA published it so."""
        newest = publication_date(self.file_week, T1) + dt.timedelta(days=9)
        short = [line(f"S{number}", 100 + number, newest) for number in range(50)]
        self.ingest("short.csv", HEADER + "".join(short), self.file_week, fails=True)
        self.run("captures", "accept", self.newest_capture())

    def newest_capture(self) -> str:
        with installed.database().transaction() as connection:
            return str(connection.execute(sa.text("SELECT max(id) FROM otc.publication")).scalar_one())

    def drop_the_oldest_week(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        keep = (week_containing(dt.date.today()) - self.file_week).days // 7 - 1  # noqa: DTZ011 - the database's clock
        monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", str(keep))
        settings.cache_clear()
        migrate(url, start=NEVER, shorten_retention=True)
        if installed.database().has_retention_job():
            with autocommit(connect(url)) as connection:
                job = connection.execute(
                    sa.text("SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = :name"),
                    {"name": RETENTION_JOB},
                ).scalar()
                connection.exec_driver_sql(f"CALL run_job({job})")
        else:
            assert (
                installed.definitions().resolve_job_def("retention").execute_in_process(instance=self.instance).success
            )


def use(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """From here on, commands use this database and folder."""
    installed.close()
    for name, value in {
        "OTC_DATABASE_URL": url,
        "OTC_HOME": str(home),
        "OTC_SIMULATOR_SCALE": "0.005",
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    migrate(url, start=NEVER)


def test_a_database_rebuilt_from_the_archive_has_every_row_and_answer_of_the_original(
    edition: Edition, otc: Command, dagster: DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three weeks, with tiers that arrive later, revisions, decisions, refused rows, and a week dropped at the end."""
    for name in ("original", "rebuilt", "files"):
        (tmp_path / name).mkdir()
    use(monkeypatch, edition.original, tmp_path / "original")
    story = Story(otc, dagster, tmp_path / "files")
    story.tell()
    asked = moments(edition.original)
    answered = answers(edition.original, asked, ["symbol_summary"])
    story.drop_the_oldest_week(edition.original, monkeypatch)
    # A job of the server appends its event without us: 'migrate' copies it.
    assert otc("migrate")[0] == 0
    original = rows(edition.original)

    shutil.copytree(tmp_path / "original" / "archive", tmp_path / "rebuilt" / "archive")
    use(monkeypatch, edition.other, tmp_path / "rebuilt")
    code, output, errors = otc("rebuild", "--from", "archive", "--json")
    assert code == 0, errors
    told = json.loads(output)
    assert told["differences"] == []
    assert told["failed"] == []
    assert told["weeks"] == [str(w) for w in (story.file_week, story.week - dt.timedelta(weeks=1), story.week)]
    rebuilt = rows(edition.other)
    assert rebuilt.keys() == original.keys()
    for table in original:
        assert rebuilt[table] == original[table], table
    assert answers(edition.other, asked) == answers(edition.original, asked)

    # The story has all that it is about.
    publications = [json.loads(row) for row in original["publication"]]
    assert {p["scope"] for p in publications} == {"FULL", "ATS"}
    assert sum(p["rows_rejected"] for p in publications) == len(original["rejected_record"]) == 1
    assert sum(p["accepted_at"] is not None for p in publications) == 1
    assert sum(p["withdrawn_at"] is not None for p in publications) == 1
    assert any(json.loads(row)["change"] == "changed" for row in original["symbol_summary_revision"])
    assert any(json.loads(row)["change"] == "removed" for row in original["symbol_summary_revision"])
    assert original["gap_ledger"]
    assert len({str(answered["symbol_summary", moment]) for moment in asked}) > 5
    assert str(story.file_week) in {json.loads(row)["week_ending"] for row in original["symbol_summary"]}
    assert str(story.file_week) not in {json.loads(row)["week_ending"] for row in original["venue_volume"]}

    # It goes on where the original ended: the next capture has the next id, and its event is in the same journal.
    with story.at(story.revised_on + dt.timedelta(days=2)):
        assert installed.materialize_weeks(dagster, [story.week + dt.timedelta(weeks=1)], [T1]) == []
    assert story.newest_capture() == str(len(publications) + 1)
    assert [path.name for path in (tmp_path / "rebuilt" / "archive" / "journal").iterdir()] == [told["journal"]]
