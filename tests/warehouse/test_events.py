"""The event store: append-only, versioned, in order for each follower, and projected as a replay projects it."""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import polars as pl
import psycopg
import pydantic
import pytest
import sqlalchemy as sa
import warehouse_rows
from support.migration import migrate

from otc_assets.domain.schema import GAP, REJECTED, WEEK_QUALITY
from otc_assets.warehouse import events, load
from otc_assets.warehouse.events import (
    CaptureAccepted,
    CaptureQuarantined,
    CaptureRecounted,
    CaptureRestored,
    CaptureWithdrawn,
    CheckFailed,
    CheckRecovered,
    ConcurrentChange,
    Cursor,
    DatasetCaptured,
    FileIngested,
    FileRejected,
    GapChanged,
    GapClosed,
    GapOpened,
    MetricsComputed,
    Payload,
    ReportWritten,
    RetentionApplied,
    SummaryComputed,
    TierGrade,
    WeekChecked,
    WeekNormalized,
    WeekRevised,
    append,
)
from otc_assets.warehouse.publication import NewPublication
from otc_assets.warehouse.server import connect, lock_week, transaction

Sql = psycopg.Connection[tuple[Any, ...]]

WEEK = dt.date(2026, 8, 21)
T1, T2, OTC = "NMS Tier 1", "NMS Tier 2", "OTC"


def ingested(week: dt.date = WEEK, tier: str = T1, **other: Any) -> FileIngested:
    """A file that was taken in; what is not said is ordinary."""
    values: dict[str, Any] = {
        "publication_id": 1,
        "week_ending": week,
        "tier": tier,
        "scope": "FULL",
        "revision": 1,
        "digest": "a" * 64,
        "origin": "weeklySummary",
        "layout": "api",
        "bytes": 10,
        "rows_received": 3,
        "rows_accepted": 2,
        "rows_rejected": 1,
        "complete": True,
        "outcome": "new",
        "seconds": 0.25,
    }
    return FileIngested(**(values | other))


def normalized(week: dt.date = WEEK, tier: str = T1, rows: int = 2, shares: str = "22.000000") -> WeekNormalized:
    return WeekNormalized(week_ending=week, tier=tier, rows=rows, shares=Decimal(shares), version="T1:1", seconds=1.5)


def revised(week: dt.date = WEEK, tier: str = T1, after: str = "18.5") -> WeekRevised:
    return WeekRevised(
        week_ending=week,
        tier=tier,
        added=1,
        changed=2,
        removed=3,
        shares_before=Decimal("22"),
        shares_after=Decimal(after),
        version="T1:2",
    )


def summed_up(table: str = "symbol_summary", week: dt.date = WEEK) -> SummaryComputed:
    return SummaryComputed(week_ending=week, table=table, rows=9, version="T1:1", seconds=0.5)


SUMMARIES = (summed_up("symbol_summary"), summed_up("venue_share"))


def checked(*tiers: str, week: dt.date = WEEK, grade: str = "A", score: int = 100) -> WeekChecked:
    grades = {tier: TierGrade(grade=grade, score=score) for tier in tiers or (T1,)}
    return WeekChecked(week_ending=week, grades=grades, version="T1:1")


def opened(status: str = "pending", week: dt.date = WEEK, tier: str = T1) -> GapOpened:
    return GapOpened(
        week_ending=week, tier=tier, status=status, due=dt.date(2026, 9, 7), fetchable=False, detail="on Monday"
    )


def changed(rows: int, expected: int) -> GapChanged:
    reported = opened("incomplete").model_dump() | {"rows_loaded": rows, "rows_expected": expected}
    return GapChanged(**reported)


def closed(status: str = "pending", week: dt.date = WEEK, tier: str = T1) -> GapClosed:
    return GapClosed(week_ending=week, tier=tier, status=status)


def dropped(retained_from: dt.date, what: str = "venue_volume") -> RetentionApplied:
    return RetentionApplied(what=what, retained_from=retained_from, weeks=1)


def failed(check: str = "grade", **other: Any) -> CheckFailed:
    values: dict[str, Any] = {"week_ending": WEEK, "severity": "ERROR", "blocking": True, "detail": {T1: "it is F"}}
    return CheckFailed(asset="venue_volume", check=check, **(values | other))


def append_all(engine: sa.Engine, *payloads: Payload) -> list[events.Event]:
    """Appends each in a transaction of its own."""
    appended = []
    for payload in payloads:
        with transaction(engine) as connection:
            appended.append(append(connection, payload))
    return appended


def everything(engine: sa.Engine) -> list[events.Event]:
    with transaction(engine) as connection:
        return events.read(connection, limit=1_000_000)


def rows_of(connection: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all projections, every column."""
    return {
        name: [tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM otc.{name} ORDER BY 1, 2, 3"))]
        for name in events.PROJECTIONS
    }


def projections(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    """The same, in a transaction of its own."""
    with transaction(engine) as connection:
        return rows_of(connection)


def dice(seed: str) -> random.Random:
    """Chance that can be had again."""
    return random.Random(seed)  # noqa: S311


# --- what is appended ----------------------------------------------------------------------------------

CAPTURE: dict[str, Any] = {
    "publication_id": 7,
    "week_ending": WEEK,
    "tier": T1,
    "scope": "ATS",
    "origin": "short.csv",
    "digest": "c" * 64,
}
EXAMPLES: list[Payload] = [
    ingested(rows_expected=3),
    FileRejected(origin="page.csv", reason="it is a page of HTML"),
    FileRejected(origin="page.csv", reason="no", digest="b" * 64, week_ending=WEEK, tier=OTC),
    normalized(shares="99999999999.000001"),
    revised(),
    summed_up(),
    MetricsComputed(week_ending=WEEK, table="symbol_rolling", rows=0, version="0123", seconds=0.0),
    ReportWritten(week_ending=WEEK, version="0123", bytes=57_351, is_first=False, seconds=0.5),
    checked(T1, T2),
    opened(),
    changed(2, 3),
    closed(),
    failed(),
    failed("newest_week", week_ending=None),
    CheckRecovered(week_ending=WEEK, asset="venue_volume", check="grade"),
    CheckRecovered(asset="gap_report", check="newest_week"),
    RetentionApplied(what="raw_record", retained_from=WEEK, weeks=3, rows=17),
    ingested(outcome="superseded"),
    CaptureQuarantined(**CAPTURE, reason="it would remove 42 of 100 rows (42.0 %) of capture 6"),
    CaptureAccepted(**CAPTURE),
    CaptureWithdrawn(**CAPTURE, reason="cut short"),
    CaptureRestored(**CAPTURE),
    DatasetCaptured(
        capture_id=3,
        dataset="regShoDaily",
        period=WEEK,
        week_ending=WEEK,
        digest="d" * 64,
        origin="https://api",
        bytes=10,
        rows_expected=2,
        rows_received=2,
        rows_accepted=1,
        rows_rejected=1,
        outcome="new",
        seconds=0.5,
    ),
    CaptureRecounted(
        **CAPTURE,
        rows_received=3,
        rows_accepted=1,
        rows_rejected=2,
        rows_received_before=3,
        rows_accepted_before=2,
        rows_rejected_before=1,
    ),
]


def test_every_kind_of_event_is_read_as_it_was_appended(engine: sa.Engine) -> None:
    assert {payload.event_type for payload in EXAMPLES} == set(events.PAYLOADS)
    append_all(engine, *EXAMPLES)
    assert [event.typed_payload() for event in everything(engine)] == EXAMPLES


def test_what_is_stored_is_what_other_readers_were_promised(engine: sa.Engine) -> None:
    """Weeks are ISO dates, shares exact decimals in plain digits, and what is unknown is left out."""
    append_all(engine, normalized(shares="1E+3"), *EXAMPLES)
    by_type = {event.event_type: event for event in reversed(everything(engine))}
    assert by_type["otc.week.normalized"].payload == {
        "week_ending": "2026-08-21",
        "tier": "NMS Tier 1",
        "rows": 2,
        "shares": "1000",
        "version": "T1:1",
        "seconds": 1.5,
    }
    assert by_type["otc.file.rejected"].payload == {"origin": "page.csv", "reason": "it is a page of HTML"}
    assert by_type["otc.file.rejected"].metadata == {"schema": 1}
    assert by_type["otc.file.ingested"].metadata == {"schema": 2, "digest": "a" * 64}
    assert by_type["otc.week.checked"].payload["grades"] == {
        "NMS Tier 1": {"grade": "A", "score": 100},
        "NMS Tier 2": {"grade": "A", "score": 100},
    }


def test_each_event_is_of_the_aggregate_that_counts_its_versions(engine: sa.Engine) -> None:
    append_all(engine, *EXAMPLES)
    assert [(e.aggregate_type, e.aggregate_id, e.version) for e in everything(engine)] == [
        ("file", "a" * 64, 1),
        ("file", "page.csv", 1),
        ("file", "b" * 64, 1),
        ("week", "2026-08-21", 1),
        ("week", "2026-08-21", 2),
        ("week", "2026-08-21", 3),
        ("week", "2026-08-21", 4),
        ("week", "2026-08-21", 5),
        ("week", "2026-08-21", 6),
        ("gap", "2026-08-21 NMS Tier 1", 1),
        ("gap", "2026-08-21 NMS Tier 1", 2),
        ("gap", "2026-08-21 NMS Tier 1", 3),
        ("check", "venue_volume.grade 2026-08-21", 1),
        ("check", "venue_volume.newest_week", 1),
        ("check", "venue_volume.grade 2026-08-21", 2),
        ("check", "gap_report.newest_week", 1),
        ("retention", "raw_record", 1),
        ("file", "a" * 64, 2),
        *(("file", "c" * 64, version) for version in (1, 2, 3, 4)),
        ("dataset", "regShoDaily 2026-08-21", 1),
        ("file", "c" * 64, 5),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ingested(tier="T1"),
        lambda: ingested(rows_accepted=-1),
        lambda: ingested(colour="red"),
        lambda: summed_up("symbol_rolling"),
        lambda: checked(grade="E"),
        lambda: failed(severity="error"),
    ],
)
def test_a_payload_that_can_not_be_right_is_refused_before_it_is_stored(wrong: Callable[[], Payload]) -> None:
    with pytest.raises(pydantic.ValidationError):
        wrong()


def test_an_event_names_the_run_of_its_context(engine: sa.Engine) -> None:
    with events.event_context("run-1"):
        append_all(engine, checked())
        with events.event_context("run-2"):
            append_all(engine, checked())
    append_all(engine, checked())
    assert [event.metadata.get("run_id") for event in everything(engine)] == ["run-1", "run-2", None]


def test_an_event_of_a_newer_version_of_the_code_is_named_and_not_misread(engine: sa.Engine, sql: Sql) -> None:
    sql.execute("SELECT otc.append_event('otc.week.checked', 'week', '2026-08-21', '{}', '{\"schema\": 2}')")
    sql.execute("SELECT otc.append_event('otc.moon.risen', 'moon', 'luna', '{}')")
    for event in everything(engine):
        with pytest.raises(events.UnknownEvent, match=r"Update this installation"):
            event.typed_payload()


# --- append-only, versions -----------------------------------------------------------------------------


def test_the_database_itself_refuses_to_rewrite_what_happened(engine: sa.Engine, sql: Sql) -> None:
    append_all(engine, checked())
    for statement in (
        "UPDATE otc.events SET payload = '{}'",
        "UPDATE otc.events SET payload = '{}' WHERE false",
        "DELETE FROM otc.events",
        "TRUNCATE otc.events",
        """INSERT INTO otc.events OVERRIDING SYSTEM VALUE SELECT * FROM otc.events
           ON CONFLICT (event_id) DO UPDATE SET payload = '{}'""",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation, match=r"otc\.events is append-only") as refused:
            sql.execute(statement)
        assert "Append a correcting event" in str(refused.value.diag.message_hint)
    assert [event.typed_payload() for event in everything(engine)] == [checked()]


def test_an_event_that_was_decided_by_an_old_version_is_refused(engine: sa.Engine) -> None:
    append_all(engine, checked(), checked())
    for stale in (0, 1, 3):
        with (
            pytest.raises(ConcurrentChange, match=f"is at version 2, expected {stale}"),
            transaction(engine) as connection,
        ):
            append(connection, checked(), expected_version=stale)
    with transaction(engine) as connection:
        assert append(connection, checked(), expected_version=2).version == 3
        assert append(connection, failed(), expected_version=0).version == 1


@pytest.mark.parametrize("first_commits", [True, False])
def test_of_two_who_decide_by_the_same_version_one_wins_and_the_other_gets_an_error(
    engine: sa.Engine, first_commits: bool
) -> None:
    """Two real connections: the second waits until it is known what became of the first."""
    append_all(engine, failed())

    def second() -> int:
        with transaction(engine) as connection:
            return append(connection, failed(severity="WARN"), expected_version=1).version

    with ThreadPoolExecutor(1) as pool, engine.connect() as first:
        ours = first.begin()
        assert append(first, failed(), expected_version=1).version == 2
        theirs: Future[int] = pool.submit(second)
        time.sleep(0.2)
        assert not theirs.done()
        ours.commit() if first_commits else ours.rollback()
        if first_commits:
            with pytest.raises(ConcurrentChange, match="is at version 2, expected 1"):
                theirs.result(120)
        else:
            assert theirs.result(120) == 2
    versions = [event.version for event in everything(engine)]
    assert versions == [1, 2]


def test_a_transaction_that_can_not_see_the_newest_version_does_not_take_it_twice(engine: sa.Engine) -> None:
    """Under REPEATABLE READ the next version looks free, and the unique constraint says that it is not."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as old:
        old.execute(sa.text("SELECT count(*) FROM otc.events")).scalar()
        append_all(engine, checked())
        with pytest.raises(ConcurrentChange, match="another transaction has appended to week 2026-08-21"):
            append(old, checked())
        old.rollback()
    assert [event.version for event in everything(engine)] == [1]


def test_events_without_an_expected_version_queue_up_and_are_all_there(engine: sa.Engine) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: append_all(engine, checked()), range(60)))
    assert [event.version for event in sorted(everything(engine), key=lambda e: e.id)] == list(range(1, 61))


def test_an_event_of_a_week_waits_for_a_transaction_on_the_week(engine: sa.Engine) -> None:
    """The lock of a week is one and the same in Python and in SQL: a replay's order depends on it."""
    with ThreadPoolExecutor(1) as pool, engine.connect() as holder:
        with holder.begin():
            lock_week(holder, WEEK)
            other = pool.submit(append_all, engine, checked(week=WEEK - dt.timedelta(weeks=1)))
            assert other.result(120)[0].version == 1
            waiting = pool.submit(append_all, engine, checked())
            time.sleep(0.2)
            assert not waiting.done()
        assert waiting.result(120)[0].version == 1


# --- in the transaction of the data --------------------------------------------------------------------

BAD = pl.DataFrame({"line": [3], "record": ["B|x"], "reason": ["x is no number"]}, schema=REJECTED)


def publication(**other: object) -> NewPublication:
    return warehouse_rows.publication(**({"run_id": "run-1"} | other))


def test_a_recorded_publication_has_one_event_and_its_bytes_again_have_none(engine: sa.Engine) -> None:
    since = time.perf_counter() - 2
    for digest in ("a" * 64, "a" * 64, "b" * 64):
        with transaction(engine) as connection:
            load.record_publication(connection, publication(digest=digest), BAD, since=since)
    first, second = everything(engine)
    payload = first.typed_payload()
    assert isinstance(payload, FileIngested)
    assert 2 <= payload.seconds < 120
    assert payload == ingested(
        origin="test",
        rows_received=2,
        rows_accepted=1,
        rows_expected=2,
        seconds=payload.seconds,
        publication_id=payload.publication_id,
    )
    assert first.metadata == {"schema": 2, "run_id": "run-1", "digest": "a" * 64}
    assert (second.payload["outcome"], second.payload["revision"]) == ("revised", 2)


def test_a_transaction_that_is_rolled_back_loses_the_data_and_its_events(engine: sa.Engine, sql: Sql) -> None:
    with engine.connect() as connection, connection.begin() as unfinished:
        load.record_publication(connection, publication(), BAD)
        assert connection.execute(sa.text("SELECT count(*) FROM otc.events")).scalar() == 1
        assert connection.execute(sa.text("SELECT count(*) FROM otc.week_state")).scalar() == 1
        unfinished.rollback()
    for table in ("publication", "rejected_record", "events", *events.PROJECTIONS):
        assert sql.execute(f"SELECT count(*) FROM otc.{table}").fetchone() == (0,), table


def test_data_whose_event_can_not_be_appended_is_not_written(engine: sa.Engine, sql: Sql) -> None:
    """Otherwise the tables and their events would differ indefinitely."""
    sql.execute("ALTER TABLE otc.events ADD CONSTRAINT nothing_more CHECK (false) NOT VALID")
    with pytest.raises(sa.exc.IntegrityError, match="nothing_more"), transaction(engine) as connection:
        load.record_publication(connection, publication(), BAD)
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (0,)


def gap_frame(*statuses: tuple[str, str]) -> pl.DataFrame:
    rows = [
        {
            "week_ending": WEEK,
            "tier": tier,
            "status": status,
            "due": dt.date(2026, 9, 7),
            "fetchable": True,
            "rows_loaded": 0,
            "rows_expected": None,
            "detail": f"it is {status}",
        }
        for tier, status in statuses
    ]
    return pl.DataFrame(rows, schema=GAP)


def test_a_gap_that_is_reported_as_before_keeps_its_time_and_another_number_of_rows_has_an_event(
    engine: sa.Engine, sql: Sql
) -> None:
    """A rebuild from the archive knows the gap report by its events."""
    first = gap_frame((T1, "incomplete"))
    more = first.with_columns(pl.lit(7, pl.Int64).alias("rows_loaded"), pl.lit(9, pl.Int64).alias("rows_expected"))
    reported = []
    for report in (first, first, more, more):
        with transaction(engine) as connection:
            lock_week(connection, WEEK)
            load.replace_gaps(connection, WEEK, report)
        reported += sql.execute("SELECT reported_at, rows_loaded, rows_expected FROM otc.gap").fetchall()
    assert [row[1:] for row in reported] == [(0, None), (0, None), (7, 9), (7, 9)]
    assert reported[0] == reported[1] != reported[2] == reported[3]
    changes = [(e.event_type, e.payload["rows_loaded"], e.began_at) for e in everything(engine)]
    assert changes == [("otc.gap.opened", 0, reported[0][0]), ("otc.gap.changed", 7, reported[2][0])]


def test_gaps_have_events_when_they_open_close_or_change_and_not_while_they_stay(engine: sa.Engine, sql: Sql) -> None:
    reports = [
        gap_frame((T1, "pending"), (T2, "pending")),
        gap_frame((T1, "pending"), (T2, "pending")),
        gap_frame((T1, "late"), (T2, "pending")),
        gap_frame((T2, "late")),
        gap_frame((T2, "late")),
    ]
    said = []
    for report in reports:
        with transaction(engine) as connection:
            lock_week(connection, WEEK)
            load.replace_gaps(connection, WEEK, report)
        said.append(
            [(e.event_type[8:], e.payload["tier"], e.payload["status"]) for e in everything(engine)][
                sum(map(len, said)) :
            ]
        )
    assert said == [
        [("opened", T1, "pending"), ("opened", T2, "pending")],
        [],
        [("closed", T1, "pending"), ("opened", T1, "late")],
        [("closed", T1, "late"), ("closed", T2, "pending"), ("opened", T2, "late")],
        [],
    ]
    ledger = sql.execute("SELECT tier, version, status, detail, closed_at IS NULL FROM otc.gap_ledger ORDER BY 1, 2")
    assert ledger.fetchall() == [
        (T1, 1, "pending", "it is pending", False),
        (T1, 3, "late", "it is late", False),
        (T2, 1, "pending", "it is pending", False),
        (T2, 3, "late", "it is late", True),
    ]


def test_grades_have_an_event_when_they_are_saved(engine: sa.Engine) -> None:
    rows = [
        {"week_ending": WEEK, "tier": T1, "grade": "A", "score": 100, "findings": "[]"},
        {"week_ending": WEEK, "tier": OTC, "grade": "F", "score": 0, "findings": "[]"},
    ]
    with transaction(engine) as connection:
        load.save_quality(connection, pl.DataFrame(rows, schema=WEEK_QUALITY), "T1:1 OTCE:2")
        load.save_quality(connection, WEEK_QUALITY.to_frame(), "T1:1 OTCE:2")
    (event,) = everything(engine)
    assert event.typed_payload() == WeekChecked(
        week_ending=WEEK,
        grades={T1: TierGrade(grade="A", score=100), OTC: TierGrade(grade="F", score=0)},
        version="T1:1 OTCE:2",
    )


# --- following -----------------------------------------------------------------------------------------


def test_a_reader_waits_for_a_slow_transaction_where_a_naive_one_skips_what_it_wrote(
    engine: sa.Engine, sql: Sql
) -> None:
    """The slow one writes first and commits last."""

    def naive(after: int) -> list[int]:
        return [n for (n,) in sql.execute("SELECT id FROM otc.events WHERE id > %s ORDER BY id", [after])]

    def ours(after: Cursor) -> list[events.Event]:
        with transaction(engine) as connection:
            return events.read(connection, after)

    with engine.connect() as slow:
        with slow.begin():
            first = append(slow, failed("a", week_ending=None)).id
            (second,) = (event.id for event in append_all(engine, failed("b", week_ending=None)))
            assert naive(0) == [second]
            assert ours(events.START) == []
        assert naive(second) == []  # it has skipped the first indefinitely
        found = ours(events.START)
        assert [event.id for event in found] == [first, second]
        assert ours(found[0].cursor) == found[1:]
        assert ours(found[1].cursor) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_event_is_skipped_or_comes_twice_while_many_write_and_commit_in_any_order(database: str, seed: int) -> None:
    """Eight writers; transactions of one to three events, a fifth of them rolled back, each holding on for a while."""
    engine = connect(database, pool_size=12)
    writers, rounds = 8, 25
    written: list[list[int]] = [[] for _ in range(writers)]
    done = threading.Event()
    seen: list[int] = []
    naive: list[int] = []

    def write(number: int) -> None:
        chance = dice(f"{seed} {number}")
        for _ in range(rounds):
            with engine.connect() as connection:
                open_transaction = connection.begin()
                ids = []
                for _ in range(chance.randint(1, 3)):
                    check = failed(f"check_{chance.randrange(1_000_000)}", week_ending=None)
                    ids.append(append(connection, check).id)
                    time.sleep(chance.random() * 0.006)
                if chance.random() < 0.2:
                    open_transaction.rollback()
                else:
                    open_transaction.commit()
                    written[number] += ids

    def follow() -> None:
        cursor = events.START
        chance = dice(f"reader {seed}")
        last_round = False
        while True:
            with transaction(engine) as connection:
                found = events.read(connection, cursor, limit=chance.choice([1, 3, 1000]))
            seen.extend(event.id for event in found)
            if found:
                cursor = found[-1].cursor
            elif last_round:
                return
            last_round = done.is_set()

    def follow_naively() -> None:
        last = 0
        while not done.is_set():
            with transaction(engine) as connection:
                found = connection.execute(
                    sa.text("SELECT id FROM otc.events WHERE id > :last ORDER BY id"), {"last": last}
                ).scalars()
                naive.extend(found)
            last = max(naive, default=0)

    readers = [threading.Thread(target=target) for target in (follow, follow_naively)]
    for reader in readers:
        reader.start()
    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    done.set()
    for reader in readers:
        reader.join(300)
    engine.dispose()
    everyone = {event_id for ids in written for event_id in ids}
    assert len(everyone) > 200
    assert Counter(seen) == Counter(everyone)
    assert len(everyone - set(naive)) > 1, "the naive reader was lucky: the writers don't commit out of order"


def test_transactions_are_ordered_as_numbers_and_not_as_text(engine: sa.Engine, sql: Sql) -> None:
    """Events of transaction 999 once came after those of 1000, because the number was read as text."""
    for number, xid in enumerate(("10", "9", "100")):
        sql.execute(
            """INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata, xid)
               VALUES ('otc.check.failed', 'check', %s, 1, %s, '{"schema": 1}', %s)""",
            [str(number), failed().model_dump_json(), xid],
        )
    found = everything(engine)
    assert [event.cursor.xid for event in found] == [9, 10, 100]
    with transaction(engine) as connection:
        assert [event.cursor.xid for event in events.read(connection, found[0].cursor)] == [10, 100]
        assert [event.cursor.xid for event in events.newest(connection, 2)] == [10, 100]


def test_reading_in_pages_and_by_type_gives_each_event_once_in_one_order(engine: sa.Engine) -> None:
    recovered = CheckRecovered(asset="venue_volume", check="grade", week_ending=WEEK)
    append_all(engine, *(payload for n in range(10) for payload in (failed(f"c{n}"), checked(), recovered)))
    all_of_them = everything(engine)
    types: list[tuple[list[str] | None, int]] = [
        (None, 30),
        (["otc.check.failed"], 10),
        (["otc.check.recovered", "otc.check.failed"], 20),
        ([], 0),
    ]
    for event_types, size in types:
        cursor, pages = events.START, []
        while True:
            with transaction(engine) as connection:
                page = events.read(connection, cursor, 3, event_types)
            if not page:
                break
            assert len(page) <= 3
            cursor = page[-1].cursor
            pages += page
        assert pages == [e for e in all_of_them if event_types is None or e.event_type in event_types]
        assert len(pages) == size


def test_a_table_from_a_dump_of_another_server_is_named_and_renumbered_by_migrate(
    engine: sa.Engine, sql: Sql, database: str
) -> None:
    """Its transactions were numbered further than ours: a reader would wait for them for years."""
    sql.execute(
        """INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata, xid)
           VALUES ('otc.check.failed', 'check', 'x', 1, %s, '{"schema": 1}', '9000000000')""",
        [failed().model_dump_json()],
    )
    with pytest.raises(RuntimeError, match="migrate --restored"), transaction(engine) as connection:
        events.read(connection)
    for final in (False, True):
        with pytest.raises(RuntimeError, match="migrate --restored"), transaction(engine) as connection:
            events.newest(connection, 5, final=final)
    append_all(engine, failed())  # a new event is not read past those of the dump, and they are not shown as newer
    with pytest.raises(RuntimeError, match="migrate --restored"), transaction(engine) as connection:
        events.read(connection)
    with pytest.raises(RuntimeError, match="migrate --restored"), transaction(engine) as connection:
        events.newest(connection, 5)
    with pytest.raises(RuntimeError, match="migrate --restored"):
        migrate(database)
    migrate(database, restored=True)
    append_all(engine, failed())
    order = ["x", "venue_volume.grade 2026-08-21", "venue_volume.grade 2026-08-21"]
    assert [event.aggregate_id for event in everything(engine)] == order
    with transaction(engine) as connection:
        assert [event.aggregate_id for event in events.newest(connection, 5)] == order
    with pytest.raises(psycopg.errors.RestrictViolation):
        sql.execute("DELETE FROM otc.events")


def test_a_reader_of_its_own_new_events_is_not_taken_for_a_dump(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        append(connection, failed())
        assert events.read(connection) == []


# --- projections ---------------------------------------------------------------------------------------


#: The events of a week of T1, and its state.
STATES: list[tuple[list[Payload], str | None]] = [
    ([opened()], "pending"),
    ([opened(), closed(), opened("late")], "pending"),
    ([opened(), ingested()], "captured"),
    ([ingested()], "captured"),
    ([ingested(), opened()], "captured"),
    ([ingested(), normalized()], "normalized"),
    ([ingested(), normalized(), summed_up()], "normalized"),
    ([ingested(), normalized(), *SUMMARIES], "summarized"),
    # As in runs: the week is graded before anything is computed from it.
    ([ingested(), normalized(), checked()], "normalized"),
    ([ingested(), normalized(), checked(), *SUMMARIES], "checked"),
    ([ingested(), normalized(), *SUMMARIES, checked()], "checked"),
    # A week graded F is not summarized.
    ([ingested(), normalized(), checked(grade="F", score=0)], "normalized"),
    # A new capture changes the state only once its rows are loaded.
    ([ingested(), normalized(), checked(), *SUMMARIES, ingested(revision=2, outcome="revised")], "checked"),
    # The same rows again are none.
    ([ingested(), normalized(), checked(), *SUMMARIES, normalized()], "checked"),
    ([ingested(), normalized(), checked(), *SUMMARIES, normalized(), revised()], "revised"),
    ([ingested(), normalized(), checked(), *SUMMARIES, revised(), checked()], "revised"),
    ([ingested(), normalized(), checked(), *SUMMARIES, revised(), *SUMMARIES], "revised"),
    ([ingested(), normalized(), checked(), *SUMMARIES, revised(), checked(), summed_up()], "revised"),
    ([ingested(), normalized(), checked(), *SUMMARIES, revised(), checked(), *SUMMARIES], "checked"),
    ([normalized(), checked(), *SUMMARIES, revised(), checked(), *SUMMARIES, revised()], "revised"),
    # Events of another tier, of other figures and of failed checks do not change this one.
    ([ingested(), normalized(), checked(T2), *SUMMARIES], "summarized"),
    ([ingested(), normalized(), revised(tier=T2)], "normalized"),
    ([ingested(), failed(), EXAMPLES[6]], "captured"),
    # Summaries of before the tier came are not of it.
    ([ingested(), *SUMMARIES, checked(), normalized()], "normalized"),
    ([ingested(), normalized(), dropped(WEEK)], "normalized"),
    ([ingested(), normalized(), dropped(WEEK + dt.timedelta(weeks=1), "raw_record")], "normalized"),
    ([ingested(), normalized(), dropped(WEEK + dt.timedelta(weeks=1))], "retired"),
    ([opened(), dropped(WEEK + dt.timedelta(weeks=1)), closed()], "retired"),
    ([ingested(), normalized(), dropped(WEEK + dt.timedelta(weeks=1)), *SUMMARIES, checked()], "retired"),
    # Kept for longer, it may be loaded again, and is computed and graded again.
    ([normalized(), checked(), *SUMMARIES, dropped(WEEK + dt.timedelta(weeks=1)), normalized()], "normalized"),
    (
        [normalized(), checked(), dropped(WEEK + dt.timedelta(weeks=1)), normalized(), checked(), *SUMMARIES],
        "checked",
    ),
    # A gap alone is none of the states.
    ([opened("missing_inside")], None),
]


def test_the_state_of_a_week_follows_from_its_events(engine: sa.Engine) -> None:
    for payloads, state in STATES:
        with engine.connect() as connection, connection.begin() as alone:
            for payload in payloads:
                append(connection, payload)
            of_tier = [row["state"] for row in events.week_states(connection, WEEK) if row["tier"] == T1]
            assert of_tier == ([] if state is None else [state]), payloads
            live = rows_of(connection)
            events.replay(connection)
            assert rows_of(connection) == live, payloads
            alone.rollback()


def test_a_week_that_is_revised_has_the_rows_and_the_grade_of_its_newest_load(engine: sa.Engine) -> None:
    def state() -> dict[str, Any]:
        with transaction(engine) as connection:
            (row,) = events.week_states(connection, WEEK)
        return {name: value for name, value in row.items() if name != "updated_at"}

    append_all(engine, ingested(), normalized(), checked(grade="B", score=90), *SUMMARIES)
    before = {"tier": T1, "state": "checked", "rows": 2, "shares": Decimal(22), "grade": "B", "score": 90}
    assert state() == {**before, "revisions": 0}
    append_all(engine, normalized(rows=3, shares="18.5"), revised(after="18.5"))
    after = {"tier": T1, "state": "revised", "rows": 3, "shares": Decimal("18.5"), "grade": None, "score": None}
    assert state() == {**after, "revisions": 1}
    append_all(engine, checked(), *SUMMARIES)
    assert state() == {**after, "state": "checked", "grade": "A", "score": 100, "revisions": 1}


def test_the_file_ledger_adds_up_what_came_of_each_file(engine: sa.Engine, sql: Sql) -> None:
    """Refused at first, then ingested with a stated week; and records of two weeks and tiers from one file."""
    other = WEEK - dt.timedelta(weeks=1)
    append_all(
        engine,
        FileRejected(origin="revised.csv", digest="a" * 64, reason="its week can't be determined"),
        ingested(origin="revised.csv"),
        FileRejected(origin="page.csv", reason="it is a page of HTML"),
        FileRejected(origin="page.csv", reason="it is empty"),
        ingested(digest="b" * 64),
        ingested(digest="b" * 64, week=other, tier=OTC, rows_received=7, rows_accepted=7, rows_rejected=0),
    )
    rows = sql.execute(
        """SELECT file, state, origin, tiers, first_week, last_week, publications,
               rows_received, rows_accepted, rows_rejected, rejections, reason FROM otc.file_ledger ORDER BY first_at"""
    ).fetchall()
    assert rows == [
        ("a" * 64, "ingested", "revised.csv", [T1], WEEK, WEEK, 1, 3, 2, 1, 1, None),
        ("page.csv", "rejected", "page.csv", [], None, None, 0, 0, 0, 0, 2, "it is empty"),
        ("b" * 64, "ingested", "weeklySummary", [T1, OTC], other, WEEK, 2, 10, 9, 1, 0, None),
    ]


def test_retention_closes_the_gaps_of_the_weeks_that_it_drops(engine: sa.Engine, sql: Sql) -> None:
    """No report looks at such a week again: its gaps would have stayed open indefinitely."""
    later = WEEK + dt.timedelta(weeks=1)
    append_all(engine, opened("late"), opened("late", week=later), dropped(later, "raw_record"))
    still_open = "SELECT week_ending FROM otc.gap_ledger WHERE closed_at IS NULL ORDER BY 1"
    assert sql.execute(still_open).fetchall() == [(WEEK,), (later,)]
    append_all(engine, dropped(later))
    assert sql.execute(still_open).fetchall() == [(later,)]


def test_a_replay_rebuilds_what_was_lost_or_spoilt(engine: sa.Engine, sql: Sql) -> None:
    append_all(engine, *EXAMPLES, opened("late", tier=T2), ingested(tier=T2), normalized(tier=T2))
    before = projections(engine)
    assert all(before.values())
    sql.execute("UPDATE otc.week_state SET shares = 0; DELETE FROM otc.file_ledger; TRUNCATE otc.gap_ledger")
    sql.execute("INSERT INTO otc.week_state (week_ending, tier, updated_at) VALUES ('2020-01-03', 'OTC', now())")
    with transaction(engine) as connection:
        count, rows = events.replay(connection)
    assert projections(engine) == before
    assert count == len(EXAMPLES) + 3
    assert rows == {name: len(found) for name, found in before.items()}


def test_a_writer_waits_for_a_replay_and_readers_see_the_rows_of_before(engine: sa.Engine, sql: Sql) -> None:
    """An event that was projected while the projections were being recomputed would have been lost, or come twice."""
    append_all(engine, ingested(), normalized())
    with ThreadPoolExecutor(1) as pool, engine.connect() as replaying:
        with replaying.begin():
            events.replay(replaying)
            waiting = pool.submit(append_all, engine, *SUMMARIES, checked())
            time.sleep(0.2)
            assert not waiting.done()
            assert sql.execute("SELECT state FROM otc.week_state").fetchall() == [("normalized",)]
        waiting.result(120)
    assert sql.execute("SELECT state FROM otc.week_state").fetchall() == [("checked",)]


def _anything(chance: random.Random) -> Payload:
    week = WEEK - dt.timedelta(weeks=chance.randrange(3))
    tier = chance.choice([T1, T2, OTC])
    kinds: Sequence[Callable[[], Payload]] = (
        lambda: ingested(week, tier, digest=chance.choice("abc") * 64),
        lambda: FileRejected(origin="x", digest=chance.choice("abc") * 64, reason=str(chance.random())),
        lambda: normalized(week, tier, rows=chance.randrange(100)),
        lambda: revised(week, tier, after=str(chance.randrange(100))),
        lambda: summed_up(chance.choice(["symbol_summary", "venue_share"]), week),
        lambda: checked(T1, T2, OTC, week=week, score=chance.randrange(100)),
        lambda: dropped(WEEK - dt.timedelta(weeks=chance.randrange(5))),
    )
    return chance.choice(kinds)()


@pytest.mark.parametrize("seed", [1, 2])
def test_what_many_project_at_once_is_what_a_replay_projects(database: str, seed: int) -> None:
    """The order in which rows are changed is the order of ids, whatever runs beside each other."""
    engine = connect(database, pool_size=10)

    def write(number: int) -> None:
        chance = dice(f"{seed} {number}")
        for _ in range(40):
            with engine.connect() as connection:
                open_transaction = connection.begin()
                append(connection, _anything(chance))
                time.sleep(chance.random() * 0.003)
                open_transaction.rollback() if chance.random() < 0.2 else open_transaction.commit()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    live = projections(engine)
    assert len(live["week_state"]) >= 6
    with transaction(engine) as connection:
        events.replay(connection)
    assert projections(engine) == live
    engine.dispose()


# --- asking --------------------------------------------------------------------------------------------


def test_the_history_of_a_week_is_all_that_names_it_and_the_retention_that_dropped_it(engine: sa.Engine) -> None:
    later = WEEK + dt.timedelta(weeks=1)
    mine = [ingested(), normalized(), opened(), failed(), dropped(later), dropped(later, "raw_record")]
    others = [normalized(week=later), failed("newest_week", week_ending=None), dropped(WEEK, "summaries")]
    append_all(engine, *(payload for pair in zip(mine, [*others, *others], strict=True) for payload in pair))
    append_all(engine, dropped(later + dt.timedelta(weeks=1)))
    with transaction(engine) as connection:
        found = events.history(connection, WEEK)
    assert [event.typed_payload() for event in found] == mine


def test_an_event_is_found_by_its_number_and_by_its_event_id(engine: sa.Engine) -> None:
    (event, _) = append_all(engine, failed(), checked())
    with transaction(engine) as connection:
        assert events.find(connection, event.id) == event
        assert events.find(connection, event.event_id) == event
        assert events.find(connection, 10**12) is None


def test_the_last_type_of_each_aggregate_is_that_of_its_highest_version(engine: sa.Engine) -> None:
    recovered = CheckRecovered(asset="venue_volume", check="grade", week_ending=WEEK)
    append_all(engine, failed("a"), failed("grade"), recovered, failed("b"), failed("b", week_ending=None), failed("a"))
    names = [f"venue_volume.{name}" for name in ("a 2026-08-21", "grade 2026-08-21", "b", "c")]
    with transaction(engine) as connection:
        assert events.last_types(connection, "check", names) == {
            "venue_volume.a 2026-08-21": "otc.check.failed",
            "venue_volume.grade 2026-08-21": "otc.check.recovered",
            "venue_volume.b": "otc.check.failed",
        }
        assert events.last_types(connection, "week", names) == {}


def test_readers_of_years_of_events_use_the_indexes(engine: sa.Engine, sql: Sql) -> None:
    """A follower's poll, a counter's and a week's history must not read the whole table."""
    sql.execute(
        """INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata)
           SELECT 'otc.check.failed', 'check', n::text, 1, jsonb_build_object('week_ending', '2026-08-21'::date + n),
                  '{"schema": 1}' FROM generate_series(1, 20000) n"""
    )
    sql.execute("ANALYZE otc.events")
    questions = {
        "events_in_order": """SELECT * FROM otc.events WHERE (xid, id) > ('1000000', 1)
            AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id LIMIT 1000""",
        "events_by_type": "SELECT count(*) FROM otc.events WHERE event_type = 'otc.file.ingested' AND id > 19000",
        "events_by_week": "SELECT * FROM otc.events WHERE payload ->> 'week_ending' = '2026-08-28'",
    }
    for index, question in questions.items():
        plan = "\n".join(str(row[0]) for row in sql.execute(f"EXPLAIN {question}"))  # type: ignore[arg-type]
        assert index in plan, plan
        assert "Seq Scan" not in plan, plan


def test_json_of_an_event_is_what_json_readers_take() -> None:
    for payload in EXAMPLES:
        assert type(payload).model_validate_json(json.dumps(json.loads(payload.model_dump_json()))) == payload
