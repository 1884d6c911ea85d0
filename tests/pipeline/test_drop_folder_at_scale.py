"""A folder into which far more is dropped than expected, with a run that ends in between: every file has its outcome.

``OTC_TEST_DROP_FILES=20000`` is the size of which docs/files.md has the figures.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance, SensorResult, build_sensor_context
from support import installed

from otc_assets.defs import jobs
from otc_assets.pipeline import file_drop
from otc_assets.settings import settings
from otc_assets.warehouse.server import DatabaseUnreachable

pytestmark = pytest.mark.slow

FILES = int(os.environ.get("OTC_TEST_DROP_FILES", "240"))
NOW = dt.datetime(2026, 10, 14, 12, tzinfo=dt.UTC)
#: FINRA publishes on the day after, so that rows of this day are of no week.
LABOR_DAY = dt.date(2026, 9, 7)
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)


def fill(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Files of all kinds, in no order: the state of each by its digest, and the names of those that are left out.

    Of eight, three are publications of ten weeks (most of them the bytes of another file), three have rows of no
    publication, one is not text, and one is a link, good or bad.
    """
    expected: dict[str, str] = {}
    left_out: set[str] = set()
    outside = folder.parent / "outside.csv"
    outside.write_text("secret")
    chosen = random.Random(FILES)
    old = time.time() - 60
    for number in chosen.sample(range(FILES), FILES):
        path, kind = folder / f"{number:06}.csv", number % 8
        if kind < 3:
            monday = dt.date(2026, 9, 21) - dt.timedelta(weeks=chosen.randrange(10))
            content = f"{HEADER}OTC|AABB|Asia|V ONE|VONE|100|1|{monday}\n".encode()
            state = "rejected" if monday == LABOR_DAY else "ingested"
        elif kind < 6:
            content, state = f"this is file {number}\n".encode(), "rejected"
        elif kind == 6:
            content, state = chosen.randbytes(200), "rejected"
        else:
            path.symlink_to(outside)
            left_out.add(path.name)
            continue
        path.write_bytes(content)
        os.utime(path, (old, old))
        expected[hashlib.sha256(content).hexdigest()] = state
    return expected, left_out


def tick(dagster: DagsterInstance, cursor: str | None) -> SensorResult:
    context = build_sensor_context(
        dagster, cursor=cursor, repository_def=installed.repository(), resources=installed.resources()
    )
    return installed.definitions().resolve_sensor_def("file_drop").evaluate_tick(context)  # type: ignore[return-value]


def test_every_file_of_a_full_folder_has_one_outcome_though_a_run_ends_in_between(
    dagster: DagsterInstance,
    installation: Path,
    sql: psycopg.Connection[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if FILES < 2_000:
        monkeypatch.setattr(file_drop, "FILES_A_RUN", 20)
    folder = settings().files_folder
    folder.mkdir(parents=True)
    job = installed.definitions().resolve_job_def("ingest_files")
    ingest_each: Callable[..., Iterator[object]] = jobs.ingest_each  # type: ignore[attr-defined]
    runs = 0

    def ended_in_between(paths: Iterator[str], *args: object, **named: object) -> Iterator[object]:
        """The third run ends after five files, as when its process is killed."""
        nonlocal runs
        runs += 1
        given = list(paths)
        yield from ingest_each(iter(given[:5] if runs == 3 else given), *args, **named)
        if runs == 3:
            raise DatabaseUnreachable("the process ends here")

    monkeypatch.setattr(jobs, "ingest_each", ended_in_between)
    cursor, slowest, spent = None, 0.0, 0.0
    with time_machine.travel(NOW, tick=True) as clock:
        expected, left_out = fill(folder)
        growing = folder / "still being written.csv"
        for number in range(1_000):
            growing.write_text(f"{number} of many rows\n")
            os.utime(growing, (time.time(),) * 2)  # by the test's clock, and not the machine's
            begun = time.process_time()
            asked = tick(dagster, cursor)
            slowest = max(slowest, time.process_time() - begun)
            cursor = asked.cursor
            pending = json.loads(cursor or "")["pending"]
            assert len(pending) <= file_drop.RUNS_AT_ONCE
            assert not any("still being written" in path for batch in pending for path in batch["paths"])
            if not pending:
                break
            begun = time.process_time()
            for request in asked.run_requests or []:
                config = json.loads(json.dumps(request.run_config))
                tags = dict(request.tags)
                job.execute_in_process(run_config=config, instance=dagster, tags=tags, raise_on_error=False)
            spent += time.process_time() - begun
            clock.shift(dt.timedelta(minutes=3))  # the pause after a run that has ended too early
    found = sql.execute("SELECT digest, state FROM otc.file_ledger").fetchall()
    assert len(found) == len(expected)
    assert dict(found) == expected  # type: ignore[comparison-overlap]
    assert runs == -(-(FILES - len(left_out)) // file_drop.FILES_A_RUN) + 1  # one was repeated
    weeks = sql.execute("SELECT count(*), count(DISTINCT week_ending) FROM otc.publication").fetchall()
    assert weeks == [(9, 9)]
    # A tick has a minute. The processor's time of one is a fraction of it, also of the slowest.
    assert slowest < 30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{FILES} files: {number} ticks, the slowest {slowest:.2f} s; {runs} runs {spent:.1f} s; peak {peak} MB")
