"""The exporter: what it says of events and tables, how long it takes, and what it does when things break."""

from __future__ import annotations

import datetime as dt
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from appended import append, check_failed, ingested, normalized, revised
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo
from prometheus_client.parser import text_string_to_metric_families
from prometheus_server import Prometheus, tool
from support.logins import login
from support.migration import migrate
from support.relay import relay

from otc_assets.defs import launch
from otc_assets.domain.datasets import DATASETS, REG_SHO_DAILY
from otc_assets.exporter import events, orchestrator
from otc_assets.exporter import server as exporting
from otc_assets.exporter.server import Exporter, exporter_of, exposition, serving
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import Settings
from otc_assets.warehouse.events import CheckRecovered, FileRejected, MetricsComputed, SummaryComputed
from otc_assets.warehouse.roles import READER
from otc_assets.warehouse.server import dagster_storage_url

pytestmark = pytest.mark.slow

Sql = psycopg.Connection[tuple[object, ...]]
Samples = dict[str, float]
T1, T2, OTC = "NMS Tier 1", "NMS Tier 2", "OTC"


def samples(text: str) -> Samples:
    """Every sample by its name and labels, as PromQL writes it, labels in the order of the alphabet."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def scraped(exporter: Exporter) -> Samples:
    return samples(exposition(exporter))


@pytest.fixture
def exporter(database: str) -> Iterator[Exporter]:
    with closing(Exporter(lambda: database)) as exporter:
        yield exporter


# --- counters ------------------------------------------------------------------------------------------


def test_counters_and_histograms_are_what_the_events_add_up_to(sql: Sql, exporter: Exporter) -> None:
    ingested(sql, T1, accepted=100, rejected=3, seconds=0.25)
    ingested(sql, T1, week="2026-08-14", accepted=50, seconds=4.0, digest="b" * 64)
    ingested(sql, OTC, accepted=7, seconds=900.0, digest="c" * 64)
    append(sql, FileRejected(origin="drop/odd.csv", reason="no header"))
    normalized(sql, T1)
    revised(sql, T2)
    week = dt.date(2026, 8, 21)
    append(sql, SummaryComputed(week_ending=week, table="venue_share", rows=3, version="v", seconds=0.11))
    append(sql, MetricsComputed(week_ending=week, table="symbol_rolling", rows=3, version="v", seconds=2.5))
    check_failed(sql, "grade")
    check_failed(sql, "grade", week="2026-08-14")
    check_failed(sql, "volume_swing", severity="WARN", blocking=False)
    append(sql, CheckRecovered(week_ending=week, asset="venue_volume", check="grade"))
    found = scraped(exporter)
    assert found[f'otc_files_ingested_total{{tier="{T1}"}}'] == 2
    assert found[f'otc_files_ingested_total{{tier="{T2}"}}'] == 0
    assert found[f'otc_files_ingested_total{{tier="{OTC}"}}'] == 1
    assert found["otc_files_rejected_total"] == 1
    assert found[f'otc_records_parsed_total{{status="accepted",tier="{T1}"}}'] == 150
    assert found[f'otc_records_parsed_total{{status="rejected",tier="{T1}"}}'] == 3
    assert found[f'otc_records_parsed_total{{status="rejected",tier="{OTC}"}}'] == 0
    assert found[f'otc_revisions_total{{tier="{T2}"}}'] == 1
    assert found[f'otc_revisions_total{{tier="{T1}"}}'] == 0
    failed = 'otc_check_failures_total{{asset="venue_volume",blocking="{}",check="{}",severity="{}"}}'
    assert found[failed.format("true", "grade", "ERROR")] == 2
    assert found[failed.format("false", "volume_swing", "WARN")] == 1
    ingest = f'otc_ingest_duration_seconds_{{}}{{{{le="{{}}",tier="{T1}"}}}}'
    assert [found[ingest.format("bucket", le)] for le in ("0.1", "0.25", "2.5", "5.0", "+Inf")] == [0, 1, 1, 2, 2]
    assert found[f'otc_ingest_duration_seconds_sum{{tier="{T1}"}}'] == 4.25
    assert found[f'otc_ingest_duration_seconds_bucket{{le="600.0",tier="{OTC}"}}'] == 0
    assert found[f'otc_ingest_duration_seconds_count{{tier="{OTC}"}}'] == 1
    assert found['otc_summary_duration_seconds_sum{table="venue_share"}'] == 0.11
    assert found['otc_summary_duration_seconds_bucket{le="2.5",table="symbol_rolling"}'] == 1
    assert found['otc_summary_duration_seconds_bucket{le="1.0",table="symbol_rolling"}'] == 0
    assert found['otc_summary_duration_seconds_count{table="market_concentration"}'] == 0
    assert found[f'otc_normalize_duration_seconds_count{{tier="{T1}"}}'] == 1
    assert found['otc_events_total{event_type="otc.check.failed"}'] == 3
    assert found['otc_events_total{event_type="otc.check.recovered"}'] == 1
    assert found["otc_up"] == 1


def test_a_restarted_exporter_says_the_same_and_one_that_went_on_too(sql: Sql, database: str) -> None:
    """Sums of floats differ by the order in which they are added: seconds are added up exactly."""
    with closing(Exporter(lambda: database)) as lasting:
        for number in range(40):
            ingested(sql, seconds=number / 10 + 0.1, digest=f"{number:064x}")
            check_failed(sql, week="2026-08-21")
            if number % 7 == 0:
                scraped(lasting)
        went_on = scraped(lasting)
    with closing(Exporter(lambda: database)) as restarted:
        again = scraped(restarted)
    for changing in ("otc_scrape_duration_seconds",):
        assert went_on.pop(changing) > 0
        assert again.pop(changing) > 0
    assert again == went_on
    assert again[f'otc_files_ingested_total{{tier="{T1}"}}'] == 40


def test_a_history_longer_than_a_batch_is_counted_once_each_event(
    sql: Sql, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events in one transaction than a batch holds must not keep the reader where it is."""
    monkeypatch.setattr(events, "BATCH", 7)
    for number in range(30):
        ingested(sql, digest=f"{number:064x}")
    with sql.transaction():
        for number in range(30, 60):
            ingested(sql, digest=f"{number:064x}")
    assert scraped(exporter)[f'otc_files_ingested_total{{tier="{T1}"}}'] == 60


def test_a_history_too_long_for_one_scrape_shows_no_totals_until_it_is_read(
    sql: Sql, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Totals that are too low at first would look like an increase."""
    monkeypatch.setattr(events, "BATCH", 1)
    for number in range(20):
        ingested(sql, digest=f"{number:064x}")
    monkeypatch.setattr(exporting, "SOURCE_SECONDS", 0.01)
    first = scraped(exporter)
    assert "otc_files_rejected_total" not in first
    assert first['otc_scrape_errors{collector="events"}'] == 1
    for number in range(200):
        # A little more time for each try: on a busy machine so short a time may be over before anything is read.
        monkeypatch.setattr(exporting, "SOURCE_SECONDS", 0.01 * (1 + number / 10))
        found = scraped(exporter)
        if "otc_files_rejected_total" in found:
            break
    assert found[f'otc_files_ingested_total{{tier="{T1}"}}'] == 20
    assert found['otc_scrape_errors{collector="events"}'] == 0


def test_a_scrape_reads_only_the_events_that_are_new(sql: Sql, database: str) -> None:
    """The server's own count of the rows that the exporter's session read."""
    sql.execute("""
        INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata)
        SELECT 'otc.gap.closed', 'gap', 'gap ' || n, 1,
            '{"week_ending": "2026-08-21", "tier": "OTC", "status": "late"}', '{"schema": 1}'
        FROM generate_series(1, 20000) n
    """)
    sql.execute("VACUUM ANALYZE otc.events")
    with closing(Exporter(lambda: database)) as exporter:
        scraped(exporter)
        first = _rows_read(sql, exporter)
        ingested(sql)
        found = scraped(exporter)
        second = _rows_read(sql, exporter)
    assert found['otc_events_total{event_type="otc.gap.closed"}'] == 20_000
    assert found[f'otc_files_ingested_total{{tier="{T1}"}}'] == 1
    assert first >= 20_000
    assert second - first < 100


def _rows_read(sql: Sql, exporter: Exporter) -> int:
    exporter.close()  # a session reports what it read when it ends
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'events'"
    before, deadline = -1, time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now = int(sql.execute(read).fetchone()[0])  # type: ignore[index,call-overload]
        if now == before and not sql.execute(_SESSIONS).fetchone()[0]:  # type: ignore[index]
            return now
        before = now
    raise AssertionError("the exporter's session did not end")


_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'otc-assets metrics'"
    " AND datname = current_database()"
)


def test_an_event_that_is_committed_late_is_counted_and_keeps_none_waiting(
    sql: Sql, exporter: Exporter, database: str
) -> None:
    """Its id is lower than that of an event which was counted before: a reader that went by ids would skip it."""
    name = f'otc_files_ingested_total{{tier="{T1}"}}'
    with psycopg.connect(database) as slow:
        ingested(slow, week="2026-08-14", digest="1" * 64)
        ingested(sql, digest="2" * 64)
        assert [scraped(exporter)[name] for _ in range(3)] == [1, 1, 1]
        slow.commit()
    assert [scraped(exporter)[name] for _ in range(3)] == [2, 2, 2]


def test_events_of_a_restored_dump_are_counted_once(sql: Sql, exporter: Exporter, database: str) -> None:
    """Their transactions' numbers are another server's: higher than any here, until ours have caught up."""
    name = f'otc_files_ingested_total{{tier="{T1}"}}'
    for number in range(3):
        ingested(sql, digest=f"{number:064x}")
    sql.execute("ALTER TABLE otc.events DISABLE TRIGGER USER")
    sql.execute("UPDATE otc.events SET xid = (pg_current_xact_id()::text::bigint + 50)::text::xid8")
    sql.execute("ALTER TABLE otc.events ENABLE TRIGGER USER")
    assert scraped(exporter)[name] == 3
    for number in range(100):  # ours catch up, and pass them
        ingested(sql, T2, digest=f"{number:063x}f")
        found = scraped(exporter)
        assert found[name] == 3
        assert found[name.replace(T1, T2)] == number + 1
    with closing(Exporter(lambda: database)) as restarted:
        assert scraped(restarted)[name] == 3


def test_nothing_is_lost_or_counted_twice_under_concurrent_writers(sql: Sql, exporter: Exporter, database: str) -> None:
    seen: list[float] = []
    done = threading.Event()
    name = f'otc_files_ingested_total{{tier="{T1}"}}'

    def write(writer: int) -> int:
        chance, committed = random.Random(writer), 0  # noqa: S311
        with psycopg.connect(database) as sql:
            for number in range(80):
                ingested(sql, week=f"2026-08-{7 * writer + 7:02}", digest=f"{writer:032x}{number:032x}")
                time.sleep(chance.random() * 0.01)
                if chance.random() < 0.2:
                    sql.rollback()
                else:
                    sql.commit()
                    committed += 1
        return committed

    def watch() -> None:
        while not done.is_set():
            seen.append(scraped(exporter)[name])

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        written = sum(pool.map(write, range(4)))
        done.set()
        watching.result()
    assert scraped(exporter)[name] == written
    assert seen == sorted(seen)
    assert len(set(seen)) > 5


def test_without_tables_there_are_no_metrics_and_no_errors(empty_database: str) -> None:
    with closing(Exporter(lambda: empty_database)) as exporter:
        found = scraped(exporter)
    assert {name for name, value in found.items() if name.startswith("otc_scrape_errors") and value} == set()
    families = {name.partition("{")[0] for name in found}
    assert families == {
        "otc_up",
        "otc_scrape_errors",
        "otc_scrape_duration_seconds",
        "otc_newest_week_expected_timestamp_seconds",
    }


# --- tables --------------------------------------------------------------------------------------------


def test_the_newest_weeks_gaps_and_grades_are_those_of_the_tables(sql: Sql, database: str) -> None:
    for number in range(10):
        week = dt.date(2026, 8, 21) - dt.timedelta(weeks=number)
        sql.execute(
            "INSERT INTO otc.computed_week (table_name, week_ending, version, rows)"
            " VALUES ('venue_volume', %s, 'v', 1)",
            [week],
        )
        sql.execute(
            "INSERT INTO otc.week_quality (week_ending, tier, grade, score, findings, version)"
            " VALUES (%s, %s, %s, 100, '[]', 'v')",
            [week, T1, "ABCDF"[number % 5]],
        )
        normalized(sql, T1, str(week), rows=100 + number)
    normalized(sql, T1, "2026-08-21", rows=777)
    for week, tier, status in [
        ("2026-08-14", T2, "late"),
        ("2026-08-21", T2, "late"),
        ("2026-08-21", OTC, "pending"),
    ]:
        sql.execute(
            "INSERT INTO otc.gap (week_ending, tier, status, due, fetchable, rows_loaded, detail)"
            " VALUES (%s, %s, %s, '2026-09-21', true, 0, '')",
            [week, tier, status],
        )
    for period, status in [("2026-09-18", "missing_at_end"), ("2026-09-21", "late"), ("2026-09-22", "late")]:
        sql.execute(
            "INSERT INTO otc.dataset_gap (week_ending, dataset, period, status, due, fetchable)"
            " VALUES ('2026-09-25', %s, %s, %s, '2026-09-22', true)",
            [REG_SHO_DAILY.name, period, status],
        )
    moment = dt.datetime(2026, 9, 23, 12, tzinfo=dt.UTC)
    with closing(Exporter(lambda: database, clock=lambda: moment)) as exporter:
        found = scraped(exporter)
    newest = dt.datetime(2026, 8, 21, tzinfo=dt.UTC).timestamp()
    assert found[f'otc_newest_week_timestamp_seconds{{tier="{T1}"}}'] == newest
    assert found[f'otc_newest_week_timestamp_seconds{{tier="{T2}"}}'] == 0
    expected = dt.datetime(2026, 9, 4, tzinfo=dt.UTC).timestamp()
    assert found[f'otc_newest_week_expected_timestamp_seconds{{tier="{T1}"}}'] == expected
    assert found[f'otc_newest_week_expected_timestamp_seconds{{tier="{T2}"}}'] == newest
    rows = {name: value for name, value in found.items() if name.startswith("otc_week_rows")}
    assert rows == {
        f'otc_week_rows{{tier="{T1}",week_ending="{dt.date(2026, 8, 21) - dt.timedelta(weeks=number)}"}}': (
            777 if number == 0 else 100 + number
        )
        for number in range(8)
    }
    grades = {name: value for name, value in found.items() if name.startswith("otc_week_grade")}
    assert len(grades) == 8
    assert grades[f'otc_week_grade{{tier="{T1}",week_ending="2026-08-21"}}'] == 4
    assert grades[f'otc_week_grade{{tier="{T1}",week_ending="2026-07-24"}}'] == 0
    assert found[f'otc_open_gaps{{status="late",tier="{T2}"}}'] == 2
    assert found[f'otc_open_gaps{{status="pending",tier="{OTC}"}}'] == 1
    assert found[f'otc_open_gaps{{status="missing_inside",tier="{T1}"}}'] == 0
    assert len([name for name in found if name.startswith("otc_open_gaps")]) == 18
    with closing(Exporter(lambda: database, clock=lambda: moment, first_week=dt.date(2026, 9, 4))) as exporter:
        found_from_september = scraped(exporter)
    of_expected = "otc_newest_week_expected_timestamp_seconds"
    assert {name for name in found_from_september if name.startswith(of_expected)} == {f'{of_expected}{{tier="{T1}"}}'}
    gaps = {name: value for name, value in found.items() if name.startswith("otc_open_dataset_gaps")}
    assert len(gaps) == 4 * len(DATASETS)
    assert {name: value for name, value in gaps.items() if value} == {
        f'otc_open_dataset_gaps{{dataset="{REG_SHO_DAILY.name}",status="late"}}': 2,
        f'otc_open_dataset_gaps{{dataset="{REG_SHO_DAILY.name}",status="missing_at_end"}}': 1,
    }


def test_chunks_and_their_compression_are_those_of_timescaledb(migrated_community_database: str) -> None:
    with psycopg.connect(migrated_community_database, autocommit=True) as sql:
        for week in ("2026-06-05", "2026-07-10", "2026-08-21"):
            sql.execute(
                "INSERT INTO otc.venue_volume (week_ending, tier, symbol, issue_name, product_type, venue_kind,"
                " venue_id, share_volume, trade_count, known_from)"
                " SELECT %s, 'OTC', 'S' || n, 'I', 'CS', 'ATS', 'V', n, n, now()"
                " FROM generate_series(1, 3000) n",
                [week],
            )
        sql.execute("""
            SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass)
            FROM timescaledb_information.chunks
            WHERE hypertable_name = 'venue_volume' AND range_start <= '2026-06-05'
        """)
        stats = sql.execute("""
            SELECT before_compression_total_bytes::float8 / after_compression_total_bytes
            FROM hypertable_compression_stats('otc.venue_volume')
        """)
        (ratio,) = stats.fetchone()  # type: ignore[misc]
        tables = "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = 'otc'"
        hypertables = {name for (name,) in sql.execute(tables)}
    with closing(Exporter(lambda: migrated_community_database)) as exporter:
        found = scraped(exporter)
    assert found['otc_chunks{compressed="true",table="venue_volume"}'] == 1
    assert found['otc_chunks{compressed="false",table="venue_volume"}'] == 2
    assert found['otc_chunks{compressed="false",table="symbol_summary"}'] == 0
    assert len([name for name in found if name.startswith("otc_chunks")]) == 2 * len(hypertables)
    assert {name: v for name, v in found.items() if name.startswith("otc_compression_ratio")} == {
        'otc_compression_ratio{table="venue_volume"}': pytest.approx(ratio)
    }
    assert ratio > 1
    assert {name for name, value in found.items() if name.startswith("otc_scrape_errors") and value} == set()


def test_a_real_run_is_counted_as_it_was(filled: str) -> None:
    """Against the tables that the run has left, counted one by one."""
    with closing(Exporter(lambda: filled)) as exporter:
        found = scraped(exporter)

    def rows(query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(filled) as sql:
            return sql.execute(query).fetchall()  # type: ignore[arg-type]

    captured = rows("SELECT tier, count(*), sum(rows_accepted), sum(rows_rejected) FROM otc.publication GROUP BY tier")
    assert {tier for tier, *_ in captured} == {T1, T2, OTC}
    for tier, files, accepted, rejected in captured:
        assert found[f'otc_files_ingested_total{{tier="{tier}"}}'] == files
        assert found[f'otc_ingest_duration_seconds_count{{tier="{tier}"}}'] == files
        assert found[f'otc_records_parsed_total{{status="accepted",tier="{tier}"}}'] == accepted
        assert found[f'otc_records_parsed_total{{status="rejected",tier="{tier}"}}'] == rejected
    volume = rows("""
        SELECT week_ending, tier, count(*), min(position(grade IN 'FDCBA')) - 1
        FROM otc.venue_volume JOIN otc.week_quality USING (week_ending, tier) GROUP BY 1, 2
    """)
    assert len(volume) == 8 + 6 + 6
    for week, tier, count, grade in volume:
        assert found[f'otc_week_rows{{tier="{tier}",week_ending="{week}"}}'] == count
        assert found[f'otc_week_grade{{tier="{tier}",week_ending="{week}"}}'] == grade
    for tier in (T1, T2, OTC):
        newest = found[f'otc_newest_week_timestamp_seconds{{tier="{tier}"}}']
        assert newest == found[f'otc_newest_week_expected_timestamp_seconds{{tier="{tier}"}}']
    made = rows("SELECT table_name, count(*) FROM otc.computed_week GROUP BY 1")
    for table, weeks in made:
        if table not in ("venue_volume", "week_calendar"):
            assert found[f'otc_summary_duration_seconds_count{{table="{table}"}}'] >= weeks  # type: ignore[operator]
    assert found['otc_dagster_runs_total{status="SUCCESS"}'] == rows("SELECT count(*) FROM dagster.runs")[0][0]
    assert found['otc_dagster_runs_total{status="FAILURE"}'] == 0


# --- Dagster -------------------------------------------------------------------------------------------


def tick(instance: DagsterInstance, name: str, status: TickStatus, kind: InstigatorType) -> int:
    # What jsonb refuses to hold, and error messages may hold.
    error = SerializableErrorInfo("a NUL: \0", [], "ValueError") if status == TickStatus.FAILURE else None
    data = TickData(name + " origin", name, kind, status, time.time(), [], error=error, selector_id=name + " selector")
    return instance.create_tick(data).tick_id


def test_dagsters_health_is_read_from_its_own_storage(
    dagster_in_postgres: DagsterInstance, exporter: Exporter, sql: Sql
) -> None:
    instance = dagster_in_postgres
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 90, "SENSOR", "d", []))
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 2, "SCHEDULER", "d", []))
    for status in ("SUCCESS", "SUCCESS", "FAILURE", "QUEUED"):
        create_run_for_test(instance, status=DagsterRunStatus(status), remote_job_origin=launch._origin("weekly"))
    tick(instance, "late_weeks", TickStatus.FAILURE, InstigatorType.SENSOR)
    tick(instance, "late_weeks", TickStatus.STARTED, InstigatorType.SENSOR)
    tick(instance, "wednesday", TickStatus.SUCCESS, InstigatorType.SCHEDULE)
    sql.execute("UPDATE runs SET create_timestamp = create_timestamp - interval '50 seconds' WHERE status = 'QUEUED'")
    found = scraped(exporter)
    assert 90 <= found['otc_dagster_heartbeat_age_seconds{daemon="SENSOR"}'] < 110
    assert 2 <= found['otc_dagster_heartbeat_age_seconds{daemon="SCHEDULER"}'] < 22
    assert 50 <= found["otc_dagster_queued_run_age_seconds"] < 70
    assert found['otc_dagster_runs_total{status="SUCCESS"}'] == 2
    assert found['otc_dagster_runs_total{status="FAILURE"}'] == 1
    assert found['otc_dagster_runs_total{status="CANCELED"}'] == 0
    ticks = {name: value for name, value in found.items() if name.startswith("otc_dagster_ticks_total")}
    assert ticks == {
        'otc_dagster_ticks_total{kind="sensor",name="late_weeks",status="FAILURE"}': 1,
        'otc_dagster_ticks_total{kind="sensor",name="late_weeks",status="SUCCESS"}': 0,
        'otc_dagster_ticks_total{kind="sensor",name="late_weeks",status="SKIPPED"}': 0,
        'otc_dagster_ticks_total{kind="schedule",name="wednesday",status="FAILURE"}': 0,
        'otc_dagster_ticks_total{kind="schedule",name="wednesday",status="SUCCESS"}': 1,
        'otc_dagster_ticks_total{kind="schedule",name="wednesday",status="SKIPPED"}': 0,
    }
    assert {name for name, value in found.items() if name.startswith("otc_scrape_errors") and value} == set()


def test_ages_are_right_on_a_server_in_another_time_zone(
    dagster_in_postgres: DagsterInstance, exporter: Exporter, sql: Sql
) -> None:
    """Dagster's columns have no time zone: they hold the local time of the session that wrote them."""
    name = sql.info.dbname
    sql.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")  # type: ignore[arg-type]
    create_run_for_test(dagster_in_postgres, status=DagsterRunStatus.QUEUED, remote_job_origin=launch._origin("weekly"))
    dagster_in_postgres.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "d", []))
    found = scraped(exporter)
    assert 0 <= found["otc_dagster_queued_run_age_seconds"] < 30
    assert 0 <= found['otc_dagster_heartbeat_age_seconds{daemon="SENSOR"}'] < 30


def test_ticks_that_end_later_or_are_deleted_are_counted_once(
    dagster_in_postgres: DagsterInstance, exporter: Exporter, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster deletes skipped ticks after a week; a counter that fell would look like a restart."""
    monkeypatch.setattr(orchestrator, "TICKS_AGAIN", 3)
    instance = dagster_in_postgres
    name = 'otc_dagster_ticks_total{kind="sensor",name="late_weeks",status="SUCCESS"}'
    failed = name.replace("SUCCESS", "FAILURE")
    for _ in range(5):
        tick(instance, "late_weeks", TickStatus.SUCCESS, InstigatorType.SENSOR)
    unended = tick(instance, "late_weeks", TickStatus.STARTED, InstigatorType.SENSOR)
    assert scraped(exporter)[name] == 5
    sql.execute("DELETE FROM job_ticks WHERE id < %s", [unended])
    assert scraped(exporter)[name] == 5
    sql.execute("UPDATE job_ticks SET status = 'FAILURE' WHERE id = %s", [unended])
    assert (scraped(exporter)[name], scraped(exporter)[failed]) == (5, 1)
    sql.execute("UPDATE job_ticks SET status = 'SUCCESS' WHERE id = %s", [unended])  # tried again under its id
    assert (scraped(exporter)[name], scraped(exporter)[failed]) == (6, 1)
    for _ in range(10):
        tick(instance, "late_weeks", TickStatus.SUCCESS, InstigatorType.SENSOR)
    assert [scraped(exporter)[name] for _ in range(2)] == [16, 16]


def test_deleted_runs_stay_counted(dagster_in_postgres: DagsterInstance, exporter: Exporter, sql: Sql) -> None:
    name = 'otc_dagster_runs_total{status="FAILURE"}'
    for _ in range(3):
        create_run_for_test(dagster_in_postgres, status=DagsterRunStatus.FAILURE)
    assert scraped(exporter)[name] == 3
    sql.execute("DELETE FROM runs")
    create_run_for_test(dagster_in_postgres, status=DagsterRunStatus.FAILURE)
    assert scraped(exporter)[name] == 3 + 0  # one came and three went: two fewer, and those stay counted
    create_run_for_test(dagster_in_postgres, status=DagsterRunStatus.FAILURE)
    assert scraped(exporter)[name] == 4


def test_alerts_that_are_still_collected_are_not_undelivered(sql: Sql, exporter: Exporter) -> None:
    """New ones are collected for five minutes after each message: some always are while checks of a backfill fail."""

    def recorded(subject: str, *, due_in_minutes: int, attempts: int = 0) -> None:
        sql.execute(
            "INSERT INTO otc.alert (dedupe_key, kind, subject, severity, title, body, event_id, happened_at,"
            " recorded_at, due_at, attempts) VALUES (%(subject)s, 'check', %(subject)s, 'error', '', '', 1, now(),"
            " now(), now() + %(minutes)s * interval '1 minute', %(attempts)s)",
            {"subject": subject, "minutes": due_in_minutes, "attempts": attempts},
        )

    recorded("it is collected", due_in_minutes=4)
    recorded("the next tick sends it", due_in_minutes=-1)
    assert scraped(exporter)["otc_alerts_undelivered"] == 0
    recorded("the service refused it", due_in_minutes=4, attempts=1)
    recorded("nothing sends it", due_in_minutes=-6)
    assert scraped(exporter)["otc_alerts_undelivered"] == 2


def test_a_restored_database_s_events_are_counted_once(sql: Sql, database: str, exporter: Exporter) -> None:
    """`migrate --restored` numbers them anew: to an exporter that kept running they were new ones."""
    for _ in range(3):
        ingested(sql)
    name = f'otc_files_ingested_total{{tier="{T1}"}}'
    assert scraped(exporter)[name] == 3
    migrate(database, restored=True)
    assert scraped(exporter)[name] == 3
    ingested(sql)
    assert scraped(exporter)[name] == 4


# --- what breaks ---------------------------------------------------------------------------------------


#: A scrape that nothing limits waits for good, or for minutes; one that is limited takes so long at most, however busy
#: the machine is.
_BUSY_SECONDS = 45


def timed(exporter: Exporter) -> tuple[Samples, float]:
    begun = time.monotonic()
    return scraped(exporter), time.monotonic() - begun


def test_a_server_that_is_not_there_is_said_at_once_and_found_again_later(sql: Sql, database: str) -> None:
    where = ["postgresql://otc:hunter2@127.0.0.1:1/otc"]
    with closing(Exporter(lambda: where[0])) as exporter:
        found, seconds = timed(exporter)
        assert found["otc_up"] == 0
        assert found['otc_scrape_errors{collector="events"}'] == 1
        assert "otc_files_rejected_total" not in found
        assert seconds < _BUSY_SECONDS
        where[0] = database
        ingested(sql)
        found = scraped(exporter)
        assert found["otc_up"] == 1
        assert found[f'otc_files_ingested_total{{tier="{T1}"}}'] == 1
        # The session is ended, as by a restarted server: the next scrape connects again.
        sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%metrics'")
        found = scraped(exporter)
        assert found["otc_up"] == 1
        assert found[f'otc_files_ingested_total{{tier="{T1}"}}'] == 1


def test_a_server_that_accepts_and_says_nothing_does_not_hold_the_scrape() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://otc@127.0.0.1:{silent.getsockname()[1]}/otc"
        with closing(Exporter(lambda: url)) as exporter:
            found, seconds = timed(exporter)
    assert found["otc_up"] == 0
    assert seconds < _BUSY_SECONDS


def test_a_server_that_falls_silent_in_the_middle_does_not_hold_the_scrape(
    sql: Sql, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statement timeouts are kept by the server: one that is frozen keeps none."""
    with relay(database) as between, closing(Exporter(lambda: between.url)) as exporter:
        assert scraped(exporter)["otc_up"] == 1
        between.silence.set()
        with monkeypatch.context() as hurried:
            hurried.setattr(exporting, "_CUT_SECONDS", 1.0)
            found, seconds = timed(exporter)
        assert found["otc_up"] == 0
        assert seconds < _BUSY_SECONDS
        between.silence.clear()
        assert scraped(exporter)["otc_up"] == 1


def test_a_server_that_falls_silent_right_after_the_login_does_not_hold_the_scrape(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pooler in session mode does that has no free connection to the server: no scrape ended any more."""
    with relay(database) as between, closing(Exporter(lambda: between.url)) as exporter:
        between.swallowing.set()
        with monkeypatch.context() as hurried:
            hurried.setattr(exporting, "_CUT_SECONDS", 1.0)
            found, seconds = timed(exporter)
        assert found["otc_up"] == 0
        assert seconds < _BUSY_SECONDS
        between.swallowing.clear()
        assert scraped(exporter)["otc_up"] == 1


def test_one_source_that_waits_for_a_lock_fails_alone(
    sql: Sql, exporter: Exporter, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "SOURCE_SECONDS", 1.5)
    ingested(sql)
    with psycopg.connect(database) as migrating:
        migrating.execute("LOCK TABLE otc.gap IN ACCESS EXCLUSIVE MODE")
        found, seconds = timed(exporter)
    errors = {name for name, value in found.items() if name.startswith("otc_scrape_errors") and value}
    assert errors == {'otc_scrape_errors{collector="gaps"}'}
    assert found[f'otc_files_ingested_total{{tier="{T1}"}}'] == 1
    assert f'otc_open_gaps{{status="late",tier="{T1}"}}' not in found
    assert found["otc_up"] == 1
    assert seconds < _BUSY_SECONDS
    assert scraped(exporter)[f'otc_open_gaps{{status="late",tier="{T1}"}}'] == 0


def test_a_dagster_storage_elsewhere_fails_alone_and_the_same_one_needs_no_second_connection(
    sql: Sql, database: str
) -> None:
    elsewhere = Settings(database_url=database, dagster_storage_url="postgresql+psycopg2://otc@127.0.0.1:1/dagster")
    with closing(exporter_of(elsewhere, lambda: database)) as exporter:
        found = scraped(exporter)
        errors = {name for name, value in found.items() if name.startswith("otc_scrape_errors") and value}
        assert errors == {f'otc_scrape_errors{{collector="{name}"}}' for name in ("daemons", "queue", "runs", "ticks")}
        assert found["otc_up"] == 1
    here = Settings(database_url=database, dagster_storage_url=dagster_storage_url(database))
    with closing(exporter_of(here, lambda: database)) as exporter:
        found = scraped(exporter)
        assert not any(value for name, value in found.items() if name.startswith("otc_scrape_errors"))
        assert sql.execute(_SESSIONS).fetchone()[0] == 1  # type: ignore[index]


def test_a_failure_is_logged_once_and_without_the_password(
    sql: Sql, exporter: Exporter, caplog: pytest.LogCaptureFixture
) -> None:
    sql.execute("ALTER TABLE otc.gap RENAME COLUMN status TO state")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert scraped(exporter)['otc_scrape_errors{collector="gaps"}'] == 1
        with closing(Exporter(lambda: "postgresql://otc:hunter2@127.0.0.1:1/otc")) as other:
            text = exposition(other)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("otc_assets")]
    assert len(said) == 2
    assert 'gaps could not be read: column "status" does not exist' in said[0]
    assert "hunter2" not in "".join(said) + text


def test_the_exporter_can_change_nothing(exporter: Exporter, sql: Sql) -> None:
    scraped(exporter)
    database = exporter._main
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), database.reading(5):
        database.rows("DELETE FROM otc.gap RETURNING 1")


def test_a_member_of_the_role_that_reads_exports_what_the_owner_does(
    filled: str, server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_HOME", str(tmp_path))
    setup.upgrade(Settings(), filled)
    with server._connect(filled.rpartition("/")[2]) as admin, login(admin, filled, READER) as reader:
        found = []
        for url in (filled, reader):
            with closing(Exporter(lambda url=url: url)) as exporter:  # type: ignore[misc]
                found.append(scraped(exporter))
        with psycopg.connect(reader, autocommit=True) as sql:
            for secret in (
                "run_body FROM dagster.runs",
                "event FROM dagster.event_logs",
                "value FROM dagster.run_tags",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    sql.execute(f"SELECT {secret}".encode())
    of_owner, of_reader = found
    assert {name for name, value in of_reader.items() if name.startswith("otc_scrape_errors") and value} == set()
    assert of_reader.keys() == of_owner.keys()
    assert of_reader['otc_dagster_runs_total{status="SUCCESS"}'] > 0
    assert of_reader[f'otc_files_ingested_total{{tier="{T1}"}}'] == 8


def test_many_scrapes_at_once_use_one_connection_and_read_once_for_those_that_waited(
    sql: Sql, exporter: Exporter, database: str
) -> None:
    ingested(sql)
    sessions = []
    with serving(exporter, "127.0.0.1", 0) as url, ThreadPoolExecutor(24) as pool:
        answers = [pool.submit(httpx.get, url, timeout=120) for _ in range(24)]
        while not all(answer.done() for answer in answers):
            sessions.append(sql.execute(_SESSIONS).fetchone()[0])  # type: ignore[index]
        texts = {answer.result().text for answer in answers}
    assert max(sessions) == 1
    assert len(texts) < 24
    for text in texts:
        assert samples(text)[f'otc_files_ingested_total{{tier="{T1}"}}'] == 1
    deadline = time.monotonic() + 60
    while sql.execute(_SESSIONS).fetchone()[0]:  # type: ignore[index]
        assert time.monotonic() < deadline, "the exporter's session is still there"  # the server ends it a little later
        time.sleep(0.1)


# --- from outside --------------------------------------------------------------------------------------


def test_promtool_takes_every_metric_and_finds_one_name_odd(filled: str) -> None:
    """It takes the word summary for the type of a metric; what is timed are summaries, so it stays."""
    with psycopg.connect(filled) as sql, closing(Exporter(lambda: filled)) as exporter:
        check_failed(sql)
        sql.commit()
        text = exposition(exporter)
    check = [tool("promtool"), "check", "metrics"]
    checked = subprocess.run(check, input=text, capture_output=True, text=True, check=False)
    assert checked.stdout == ""
    assert checked.stderr.splitlines() == [
        """otc_summary_duration_seconds metric name should not include type 'summary'"""
    ]


def test_a_real_prometheus_scrapes_it_and_answers_with_the_right_numbers(
    sql: Sql, exporter: Exporter, tmp_path: Path
) -> None:
    for number in range(5):
        ingested(sql, T1, accepted=100, rejected=1, seconds=0.2, digest=f"{number:064x}")
    ingested(sql, OTC, accepted=7, seconds=8, digest="f" * 64)
    with serving(exporter, "127.0.0.1", 0) as url:
        prometheus = Prometheus(tmp_path, url.removeprefix("http://").removesuffix("/metrics"))
        try:
            prometheus.wait_for("otc_up")
            assert prometheus.value('up{job="otc-assets"}') == 1
            assert prometheus.value("sum(otc_files_ingested_total)") == 6
            assert prometheus.value('otc_records_parsed_total{tier="NMS Tier 1",status="accepted"}') == 500
            ratio = 'sum(otc_records_parsed_total{status="rejected"}) / sum(otc_records_parsed_total)'
            assert prometheus.value(ratio) == pytest.approx(5 / 512)
            slow = 'histogram_quantile(0.5, sum by (le) (otc_ingest_duration_seconds_bucket{tier="OTC"}))'
            assert 5 < prometheus.value(slow) <= 10
            check_failed(sql)
            prometheus.wait_for('otc_check_failures_total{check="grade",blocking="true"} == 1')
        finally:
            prometheus.stop()


def test_the_command_prints_once_or_serves_until_it_gets_a_signal(sql: Sql, database: str, tmp_path: Path) -> None:
    ingested(sql)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))}
    env |= {"OTC_DATABASE_URL": database, "OTC_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "from otc_assets.cli import main; main()", "metrics"]
    once = subprocess.run([*command, "--once"], env=env, capture_output=True, text=True, check=False)
    assert (once.returncode, once.stderr) == (0, "")
    assert samples(once.stdout)[f'otc_files_ingested_total{{tier="{T1}"}}'] == 1
    env |= {"OTC_DATABASE_URL": "postgresql://otc:hunter2@127.0.0.1:1/otc"}
    once = subprocess.run([*command, "--once"], env=env, capture_output=True, text=True, check=False)
    assert once.returncode == 1
    assert samples(once.stdout)["otc_up"] == 0
    assert "Connection refused" in once.stderr
    assert "hunter2" not in once.stderr + once.stdout
    env |= {"OTC_DATABASE_URL": database}
    with subprocess.Popen([*command, "--port", "0"], env=env, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None
        url = served.stderr.readline().split()[1]
        assert url.startswith("http://127.0.0.1:")
        assert samples(httpx.get(url, timeout=120).text)["otc_up"] == 1
        taken = subprocess.run(
            [*command, "--port", url.split(":")[2].split("/")[0]], env=env, capture_output=True, text=True, check=False
        )
        assert taken.returncode == 1
        assert "OTC_METRICS_PORT" in taken.stderr
        served.send_signal(signal.SIGTERM)
        assert served.wait(timeout=120) == 143
