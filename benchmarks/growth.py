"""What grows in a decade of weekly operation, before the clean-up and after it: rows, bytes and time.

One week of operation really runs, in a new installation with small simulated weeks: every job that schedules and
sensors start, a run that fails, and its retry. Its rows in Dagster's tables and in ``otc.events`` are then copied for
each earlier week of the decade, with ids, weeks and times of their own; texts inside an event stay those of the week
that ran, which has the same size. The clean-up and the exporter are the real ones. Our own tables of weeks and the
archive are in ``queries``: they depend on FINRA's rows, and not on operation.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from benchmarks.results import Measured, Row, Table
from otc_assets.alerting.delivery import QUIET
from otc_assets.definitions import build_definitions, make_launcher
from otc_assets.defs.clean_up import clean_up, clean_up_runs
from otc_assets.defs.datasets import ASSETS as DATASETS
from otc_assets.defs.instance import clean_instance
from otc_assets.defs.jobs import DOWNSTREAM, retention
from otc_assets.defs.launch import Launcher, RunFailed
from otc_assets.defs.storage import storage_url
from otc_assets.domain.report import over_weeks
from otc_assets.domain.weeks import TIERS, newest_due
from otc_assets.exporter.server import Exporter, exporter_of, exposition
from otc_assets.finra.source import SourceError
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import Settings, settings
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse.alerts import NewAlert
from otc_assets.warehouse.server import session_options

DECADE = 520
#: The look-back of the daily gap report.
_LOOK_BACK = 26

Sql = psycopg.Connection[tuple[Any, ...]]

#: Dagster's tables that grow with runs, and ours that grow with events.
_TABLES = ("event_logs", "asset_event_tags", "asset_check_executions", "runs", "run_tags", "snapshots")
_OURS = ("events", "alert")


class _Unreachable:
    """A source that does not respond."""

    def fetch(self, *_: object) -> Any:
        """Fails as a source does that is down."""
        raise SourceError("the source did not respond")

    state = offered = fetch


# --- a week that runs --------------------------------------------------------------------------------------


def run_week(launcher: Launcher, chosen: Settings) -> dict[str, int]:
    """Runs what a week of operation runs. Returns how often each run occurs in a week, by its id."""
    often: dict[str, int] = {}

    def runs_of(times: int, work: Any) -> None:
        before = {run.run_id for run in launcher.instance.get_runs()}
        with suppress(RunFailed):
            work()
        often.update({run.run_id: times for run in launcher.instance.get_runs() if run.run_id not in before})

    newest = {tier: newest_due(tier, dt.datetime.now(dt.UTC)) for tier in TIERS}
    week = min(newest.values())
    down = build_definitions(chosen, {"source": _Unreachable()})
    failing = replace(launcher, definitions=down)

    def assets(*names: str, first: dt.date = week) -> Any:
        return lambda: launcher.run_assets(names, first, week, retries=False)

    for tier in TIERS:
        runs_of(1, lambda name=f"publication_{tier.slug}": failing.run_assets([name], week, week, retries=False))  # type: ignore[misc]
        runs_of(1, assets("week_calendar") if tier == TIERS[0] else lambda: None)
        runs_of(1, assets(f"publication_{tier.slug}"))
        # Each tier comes at another time: the week is computed again.
        runs_of(1, assets("week_calendar", *DOWNSTREAM))
    # The six-week figures of the five weeks after a revised one.
    runs_of(5, assets(*over_weeks()))
    runs_of(1, assets(*DATASETS))
    runs_of(1, assets("parquet_export"))
    runs_of(7, assets("gap_report", first=week - dt.timedelta(weeks=_LOOK_BACK)))
    for job in (clean_up, retention):
        resolved = launcher.definitions.resolve_job_def(job.name)
        runs_of(7, lambda job=resolved: job.execute_in_process(instance=launcher.instance))  # type: ignore[misc]
    return often


# --- a decade of copies --------------------------------------------------------------------------------------

_OFTEN = "INSERT INTO often SELECT * FROM unnest(%s::text[], %s::int[])"
_COPIES: LiteralString = """
    CREATE TEMP VIEW template AS
    SELECT event.*, row_number() OVER (ORDER BY event.id) AS position, often.times
    FROM event_logs event JOIN often USING (run_id);
    CREATE TEMP VIEW tags AS
    SELECT tag.*, position, times FROM asset_event_tags tag JOIN template t ON t.id = event_id;
    CREATE TEMP VIEW checks AS SELECT checked.*, position, often.times
    FROM asset_check_executions checked JOIN often USING (run_id)
    LEFT JOIN template t ON t.id = evaluation_event_storage_id;
    CREATE FUNCTION pg_temp.copied(run_id text, week int, nth int) RETURNS text IMMUTABLE LANGUAGE sql
    AS $$ SELECT md5(run_id || ' ' || week || ' ' || nth)::uuid::text $$;
    CREATE FUNCTION pg_temp.shifted(key text, week int) RETURNS text IMMUTABLE LANGUAGE sql
    AS $$ SELECT (key::date - 7 * week)::text $$;
    CREATE FUNCTION pg_temp.ago(week int, nth int) RETURNS interval IMMUTABLE LANGUAGE sql
    AS $$ SELECT make_interval(days => 7 * week + 7 - nth) $$
"""
#: One week's copies. The n-th of a run that runs n times a week is of the n-th day.
_COPY: LiteralString = """
    INSERT INTO runs (run_id, snapshot_id, pipeline_name, status, run_body, partition, create_timestamp,
        update_timestamp, start_time, end_time)
    SELECT pg_temp.copied(run_id, %(week)s, n), snapshot_id, pipeline_name, status, run_body,
        pg_temp.shifted(partition, %(week)s), create_timestamp - pg_temp.ago(%(week)s, n),
        update_timestamp - pg_temp.ago(%(week)s, n), start_time, end_time
    FROM runs JOIN often USING (run_id), generate_series(1, times) n;
    INSERT INTO run_tags (run_id, key, value)
    SELECT pg_temp.copied(run_id, %(week)s, n), key, value
    FROM run_tags JOIN often USING (run_id), generate_series(1, times) n;
    INSERT INTO event_logs (id, run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    SELECT %(base)s + n * %(events)s + position, pg_temp.copied(run_id, %(week)s, n), event, dagster_event_type,
        timestamp - pg_temp.ago(%(week)s, n), step_key, asset_key, pg_temp.shifted(partition, %(week)s)
    FROM template, generate_series(1, times) n ORDER BY 1;
    INSERT INTO asset_event_tags (event_id, asset_key, key, value, event_timestamp)
    SELECT %(base)s + n * %(events)s + position, asset_key, key, value, event_timestamp - pg_temp.ago(%(week)s, n)
    FROM tags, generate_series(1, times) n;
    INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id, execution_status, evaluation_event,
        evaluation_event_timestamp, evaluation_event_storage_id, create_timestamp)
    SELECT asset_key, check_name, pg_temp.shifted(partition, %(week)s), pg_temp.copied(run_id, %(week)s, n),
        execution_status, evaluation_event, evaluation_event_timestamp, %(base)s + n * %(events)s + position,
        create_timestamp - pg_temp.ago(%(week)s, n)
    FROM checks, generate_series(1, times) n;
    INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata)
    SELECT event_type, aggregate_type, aggregate_id || ' ' || %(week)s, version, payload, metadata FROM happened
"""
_REMOVE: LiteralString = """
    DELETE FROM event_logs USING often WHERE event_logs.run_id = often.run_id;
    DELETE FROM asset_event_tags WHERE event_id NOT IN (SELECT id FROM event_logs);
    DELETE FROM asset_check_executions USING often WHERE asset_check_executions.run_id = often.run_id;
    DELETE FROM runs USING often WHERE runs.run_id = often.run_id;
    ANALYZE
"""


def copy_weeks(sql: Sql, often: dict[str, int], weeks: int) -> None:
    """Replaces the week that ran by copies of it, oldest first."""
    sql.execute("CREATE TEMP TABLE often (run_id text, times int)")
    with psycopg.ClientCursor(sql) as cursor:
        cursor.execute(_OFTEN, [list(often), list(often.values())])
    sql.execute(_COPIES)
    sql.execute("CREATE TEMP TABLE happened (LIKE otc.events); INSERT INTO happened SELECT * FROM otc.events")
    sql.execute("ALTER TABLE otc.events DISABLE TRIGGER USER")
    (events,) = sql.execute("SELECT count(*) FROM template").fetchone() or (0,)
    (base,) = sql.execute("SELECT max(id) FROM event_logs").fetchone() or (0,)
    for week in reversed(range(weeks)):
        with psycopg.ClientCursor(sql) as cursor:  # several statements with parameters
            cursor.execute(_COPY, {"week": week, "base": base, "events": events})
        base += 8 * events
    sql.execute(_REMOVE)


def record_alerts(launcher: Launcher, weeks: int) -> None:
    """A check that fails and recovers, and a failed run, in each week."""
    now = dt.datetime.now(dt.UTC)
    for number in range(weeks):
        then = now - dt.timedelta(weeks=weeks - number)
        check, run = (
            NewAlert(kind, subject, "error", None, "a title", "x" * 500, run_id, 2 * number, then)
            for kind, subject, run_id in (
                ("check", f"venue_volume.grade {then:%Y-%m-%d}", None),
                ("run", f"run {number}", f"{number}"),
            )
        )
        with launcher.database.transaction() as connection:
            outbox.lock_outbox(connection)
            for alert in (check, run):
                outbox.record(connection, alert, now=then, quiet=QUIET)
            passed = replace(check, kind="recovery", event_id=2 * number + 1)
            outbox.resolve(connection, passed, now=then, quiet=QUIET)
    with launcher.database.transaction() as connection:
        outbox.discard_pending(connection)


# --- measuring -------------------------------------------------------------------------------------------


def sizes(sql: Sql) -> dict[str, tuple[int, float]]:
    """Rows and MB of each table, without the space of deleted rows."""
    found = {}
    for table in (*(f"dagster.{name}" for name in _TABLES), *(f"otc.{name}" for name in _OURS)):
        sql.execute(f"VACUUM FULL {table}".encode())
        row = sql.execute(f"SELECT count(*), pg_total_relation_size('{table}') FROM {table}".encode()).fetchone()
        assert row is not None
        found[table] = (row[0], row[1] / 1e6)
    of_assets = "dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')"
    row = sql.execute(
        f"SELECT count(*), coalesce(sum(pg_column_size(e.*)), 0) FROM event_logs e WHERE {of_assets}".encode()
    ).fetchone()
    assert row is not None
    found["of dagster.event_logs: materializations and observations"] = (row[0], float(row[1]) / 1e6)
    return found


def scrape(exporter: Exporter) -> tuple[float, float, int]:
    """Seconds of the first scrape, and of the one that follows; bytes of it."""
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        text = exposition(exporter)
        seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1], len(text)


def log_files(folder: Path) -> Iterator[int]:
    """The sizes of the files below a folder."""
    return (path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run() -> Measured:
    """Runs a week, copies it, and cleans up."""
    for name in [name for name in os.environ if name.startswith("OTC_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        os.environ |= {"OTC_HOME": str(home), "OTC_SIMULATOR_SCALE": "0.01", "OTC_SOURCE": "simulator"}
        settings.cache_clear()
        with EmbeddedServer(home / "postgres", durable=False) as server:
            setup.upgrade(settings(), server.url)
            os.environ["OTC_DATABASE_URL"] = server.url
            settings.cache_clear()
            with clean_instance(settings()) as instance:
                return Measured(measure(make_launcher(instance, settings()), DECADE, server.url))


def measure(launcher: Launcher, weeks: int, url: str) -> dict[str, Table]:
    """All of it, in one installation."""
    chosen, instance = launcher.settings, launcher.instance
    often = run_week(launcher, chosen)
    files = list(log_files(Path(instance.storage_directory())))
    print(
        f"a week: {sum(often.values())} runs, of which {len(often)} ran; {len(files)} log files of those, "
        f"{sum(files) / 1e3:.0f} kB"
    )
    options = session_options(search_path="dagster")
    with psycopg.connect(url, autocommit=True, options=options) as sql:
        one = {table: (rows, size) for table, (rows, size) in sizes(sql).items()}
        begun = time.perf_counter()
        copy_weeks(sql, often, weeks)
        record_alerts(launcher, weeks)
        print(f"{weeks} weeks copied in {time.perf_counter() - begun:.0f} s")
        before = sizes(sql)
        scraped = [scrape(exporter_of(chosen, lambda: url))]
        # As the daily job does, with the settings' defaults.
        now = dt.datetime.now(dt.UTC)
        bounds = [now - dt.timedelta(days=days) for days in (chosen.keep_run_logs_days, chosen.keep_runs_days)]
        shown = newest(sql)
        for which in ("first", "second"):
            begun = time.perf_counter()
            cleaned = clean_up_runs(instance, storage_url(chosen), *bounds)
            with launcher.database.transaction() as connection:
                deleted = outbox.delete(connection, before=bounds[1])
            print(f"{which} clean-up: {time.perf_counter() - begun:.1f} s, {cleaned}, {deleted} alerts")
        after = sizes(sql)
        assert newest(sql) == shown, "the newest event of an asset and week was deleted"
        scraped.append(scrape(exporter_of(chosen, lambda: url)))
    tables = [
        Row(
            table,
            {"rows of the week that ran": one[table][0], "rows before": rows, "MB before": size}
            | {"rows after": after[table][0], "MB after": after[table][1]},
            after[table][1] / size,
        )
        for table, (rows, size) in before.items()
    ]
    scrapes = [
        Row(when, {"first s": f"{first:.2f}", "next s": f"{second:.2f}", "kB": size / 1e3})
        for when, (first, second, size) in zip(("before", "after"), scraped, strict=True)
    ]
    return {"tables": Table("table", tables), "scrapes": Table("scrape", scrapes)}


def newest(sql: Sql) -> list[tuple[Any, ...]]:
    """The newest materialization of each asset and week, and the newest result of each check and week."""
    return sql.execute("""
        SELECT asset_key, '', partition, max(id) FROM event_logs
        WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY 1, 3
        UNION ALL SELECT asset_key, check_name, partition, max(id) FROM asset_check_executions GROUP BY 1, 2, 3
        ORDER BY 1, 2, 3
    """).fetchall()
