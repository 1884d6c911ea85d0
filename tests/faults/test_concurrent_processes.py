"""Eight processes at once: the same week twice, its neighbours, a revision, retention, a migration and a replay.

Each has something to do: retention drops a week, and the migration an index that the others write to. Whatever their
order, the outcome is that of one after another. Meanwhile a reader sees each week as a whole, and a follower every
event once and in order.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa
from faults.extent import EXTENT, Extent
from faults.forks import Forks, Task
from faults.lines import Installation, Line
from faults.state import State

from otc_assets.warehouse.events import START, Event, read
from otc_assets.warehouse.server import opened, session_options, transaction

pytestmark = pytest.mark.slow

BEFORE, WEEK, AFTER = WEEKS = ("2026-06-26", "2026-07-03", "2026-07-10")
NOW = dt.datetime(2026, 10, 14, 16, tzinfo=dt.UTC)
#: T2 of WEEK is revised the day before.
REVISED = dt.datetime(2026, 11, 28, 16, tzinfo=dt.UTC)

_ROUNDS = {Extent.SAMPLE: 1, Extent.KINDS: 10, Extent.ALL: 200}[EXTENT]
#: Of venue volume, these weeks are kept: BEFORE still is when WEEK is revised, and DROPPED no longer is before that.
_KEPT_WEEKS = 22
_SETTINGS = {"OTC_SLOT_WAIT_SECONDS": "600", "OTC_KEEP_VENUE_VOLUME_WEEKS": str(_KEPT_WEEKS)}
DROPPED = "2026-05-08"
_INDEX = "CREATE INDEX venue_volume_by_symbol ON otc.venue_volume (symbol, week_ending)"

#: Depend on the order: which capture of WEEK is the first, whether another one has replaced it, whether the same bytes
#: were captured again after that, and the ids of captures in versions. So do tables of revisions: what was replaced.
_BY_ORDER = {"publication", "file_ledger", "week_state", "computed_week", "week_quality"}

#: Weeks and tiers whose rows are not those of FINRA's total: both are written by one transaction.
_TORN = sa.text("""
    SELECT v.week_ending, v.tier, v.shares, p.shares
    FROM (SELECT week_ending, tier, sum(share_volume) AS shares FROM otc.venue_volume GROUP BY 1, 2) AS v
    FULL JOIN (SELECT week_ending, tier, sum(share_volume) AS shares FROM otc.published_total
        WHERE total_of = 'SYMBOL' GROUP BY 1, 2) AS p USING (week_ending, tier)
    WHERE v.shares IS DISTINCT FROM p.shares
""")


class Watcher(threading.Thread):
    """Reads an installation over and over, and follows its events."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._ended = url, threading.Event()
        self.reads = 0
        self.torn: list[object] = []
        self.events: list[Event] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with opened(self._url) as engine:
                while not self._ended.wait(0.05):
                    self._look(engine)
                self._look(engine)
        except BaseException as error:
            self.error = error

    def _look(self, engine: sa.Engine) -> None:
        with transaction(engine) as connection:
            self.torn += connection.execute(_TORN).all()
            self.reads += 1
        with transaction(engine) as connection:
            after = self.events[-1].cursor if self.events else START
            self.events += read(connection, after)

    def end(self) -> None:
        self._ended.set()
        self.join()
        assert self.error is None, self.error


@contextmanager
def watched(place: Installation) -> Iterator[Watcher]:
    watcher = Watcher(place.url)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.end()


@pytest.fixture(scope="module")
def loaded(forks: Forks, prepared: Installation) -> Iterator[Installation]:
    """An installation with a week that is no longer kept, and with an index that a migration drops."""
    here = prepared.copy("loaded")
    Line(forks, here).go_on(NOW, "capture and compute", DROPPED)
    with psycopg.connect(here.url) as connection:
        connection.execute("UPDATE otc.retention SET keep_weeks = %s WHERE what = 'venue_volume'", [_KEPT_WEEKS])
        connection.execute(_INDEX)
    yield here
    here.remove()


@pytest.fixture(scope="module")
def one_after_another(forks: Forks, loaded: Installation) -> State:
    """The tables after the same operations, one after another, without those that depend on the order."""
    here = loaded.copy("one_after_another")
    tasks = [*_tasks(here), here.task(REVISED, "compute stale", *WEEKS, settings=_SETTINGS)]
    assert [outcome.code for task in tasks for outcome in forks.perform(task)] == [0] * len(tasks)
    tables = here.state().tables
    here.remove()
    assert DROPPED in "".join(tables["symbol_summary"])
    assert DROPPED not in "".join(tables["venue_volume"])
    return _compared(tables)


def _tasks(here: Installation) -> list[Task]:
    """What the processes do."""
    return [
        *(here.task(NOW, "capture and compute", week, settings=_SETTINGS) for week in (BEFORE, WEEK, WEEK, AFTER)),
        here.task(REVISED, "capture and compute", WEEK, settings=_SETTINGS),
        *(here.task(NOW, operation, settings=_SETTINGS) for operation in ("retention", "migrate", "replay")),
    ]


def _compared(tables: dict[str, list[str]]) -> State:
    """The tables that do not depend on the order."""
    kept = tables.keys() - _BY_ORDER - {table for table in tables if table.endswith("_revision")}
    return State({table: tables[table] for table in kept})


@pytest.mark.parametrize("number", range(_ROUNDS))
def test_eight_processes_at_once_do_what_they_do_one_after_another(
    number: int, forks: Forks, loaded: Installation, one_after_another: State
) -> None:
    here = loaded.copy("at_once")
    tasks = _tasks(here)
    with watched(here) as watcher:
        ended = forks.perform(*tasks)
        assert [(outcome.code, outcome.error) for outcome in ended] == [(0, "")] * len(tasks)
        (again,) = forks.perform(here.task(REVISED, "compute stale", *WEEKS, settings=_SETTINGS, is_again=True))
        assert (again.code, again.error) == (0, "")
    assert here.remains() == []
    differences = one_after_another.differences(_compared(here.state().tables))
    assert not differences, "\n".join(differences)
    assert not _has_index(here.url)
    assert watcher.torn == []
    assert watcher.reads > 5
    assert _stored(here.url) == [event.id for event in watcher.events]
    # Of a file that two processes capture at once, and of a check that both judge, the versions alone have the order.
    versions = [(event.aggregate_id, event.version) for event in watcher.events if event.aggregate_type == "week"]
    for week in WEEKS:
        of_week = [version for name, version in versions if name == week]
        assert of_week == list(range(1, len(of_week) + 1))
    here.remove()


def _has_index(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT to_regclass('otc.venue_volume_by_symbol')").fetchone() != (None,)


def _stored(url: str) -> list[int]:
    """The ids of all events, in the order in which they are followed."""
    with psycopg.connect(url, options=session_options()) as connection:
        return [number for (number,) in connection.execute("SELECT id FROM otc.events ORDER BY xid, id")]
