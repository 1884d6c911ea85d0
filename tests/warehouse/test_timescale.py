"""TimescaleDB for real: hypertables, compression, continuous aggregates, jobs, retention, on both editions."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
from support.logins import login
from support.migration import migrate
from warehouse_rows import T1, frame, publication, row

from otc_assets.domain.concentration import symbol_concentration
from otc_assets.domain.rolling import symbol_rolling
from otc_assets.domain.schema import REJECTED
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.tables import TABLES, hypertables
from otc_assets.domain.weeks import trading_days, week_containing, weeks_up_to
from otc_assets.settings import settings
from otc_assets.warehouse import load, read, retention
from otc_assets.warehouse.migrate import newest_version
from otc_assets.warehouse.raw_rows import NotArchived
from otc_assets.warehouse.roles import READER, WRITER
from otc_assets.warehouse.server import autocommit, connect, libpq_url, opened, transaction
from otc_assets.warehouse.timescale import capabilities
from otc_assets.warehouse.timescale.aggregates import AGGREGATES, refresh_after_load, refresh_aggregates
from otc_assets.warehouse.timescale.hypertables import Chunks, chunks
from otc_assets.warehouse.timescale.jobs import RETENTION_JOB

#: No job runs before this: none races a test, which runs it itself.
NEVER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
NEWEST = week_containing(dt.date.today() - dt.timedelta(weeks=3))  # noqa: DTZ011 - jobs go by the real clock
#: Half of them are older than the twelve weeks after which a chunk is compressed.
WEEKS = weeks_up_to(NEWEST, 24)
OLD, YOUNG = WEEKS[2], WEEKS[-1]


@pytest.fixture
def engine(community_database: str) -> Iterator[sa.Engine]:
    """An engine on a migrated, empty database with TimescaleDB's community edition."""
    migrate(community_database, start=NEVER)
    engine = connect(community_database)
    yield engine
    engine.dispose()


@pytest.fixture(params=["owner", WRITER])
def loader(engine: sa.Engine, community_database: str, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """An engine that loads weeks: the owner's, or that of a member of the role that writes."""
    if request.param == "owner":
        yield engine
        return
    with (
        psycopg.connect(community_database, autocommit=True) as admin,
        login(admin, community_database, request.param) as url,
        opened(url) as loading,
    ):
        yield loading


def volume_of(week: dt.date, **shares: int) -> pl.DataFrame:
    """Forty symbols at three venues; ``S7=5`` has symbol S7 trade five shares at V1."""
    rows = [
        row(f"S{s}", f"V{v}", str(shares.get(f"S{s}", 100 + s) if v == 1 else 10 * v), week_ending=week)
        for s in range(40)
        for v in (1, 2, 3)
    ]
    return frame(*rows)


def write(engine: sa.Engine, week: dt.date, volume: pl.DataFrame | None = None) -> None:
    """Loads the week with two of its figures, as the assets do, and refreshes the aggregates."""
    rows = volume_of(week) if volume is None else volume
    digest = f"{abs(hash(rows['share_volume'].sum())):064x}"[-64:]
    captured = publication(week_ending=week, digest=digest, rows_accepted=2, rows_rejected=0)
    with transaction(engine) as connection:
        load.record_publication(connection, captured, REJECTED.to_frame())
        load.replace_volume(connection, week, T1, rows)
        load.mark_computed(connection, "venue_volume", week, "v", rows.height)
        load.replace_week(connection, "symbol_summary", week, symbol_summary(rows), "v")
        load.replace_week(connection, "venue_share", week, venue_share(rows), "v")
    refresh_after_load(engine, week, ["venue_volume", "symbol_summary", "venue_share"])


def ask(engine: sa.Engine, query: str, **values: object) -> list[tuple[object, ...]]:
    with transaction(engine) as connection:
        return [tuple(found) for found in connection.execute(sa.text(query), values)]


def chunks_of(engine: sa.Engine) -> dict[str, Chunks]:
    with transaction(engine) as connection:
        found = chunks(lambda query: [dict(row) for row in connection.execute(sa.text(query)).mappings()])
    return {chunks.table: chunks for chunks in found}


def run_jobs(engine: sa.Engine, name: str) -> None:
    """Runs the server's jobs of this name now, one after another."""
    jobs = ask(engine, "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = :name ORDER BY 1", name=name)
    assert jobs
    with autocommit(engine) as connection:
        for (job,) in jobs:
            connection.exec_driver_sql(f"CALL run_job({job})")


def compressed(engine: sa.Engine, table: str) -> dict[dt.date, bool]:
    """By week, of those that have a chunk: whether its chunk is compressed, and wholly so."""
    rows = ask(
        engine,
        """
        SELECT week, _timescaledb_functions.chunk_status(format('%I.%I', chunk_schema, chunk_name)::regclass) = 1
        FROM unnest(CAST(:weeks AS date[])) AS week
        JOIN timescaledb_information.chunks ON range_start <= week AND range_end > week
        WHERE hypertable_name = :table
        """,
        table=table,
        weeks=WEEKS,
    )
    return dict(rows)  # type: ignore[arg-type]


def last_of_chunk(engine: sa.Engine, table: str, week: dt.date) -> dt.date:
    """The last week that is in the week's chunk."""
    query = """
        SELECT range_end::date FROM timescaledb_information.chunks
        WHERE hypertable_name = :table AND range_start <= :week AND range_end > :week
    """
    ((end,),) = ask(engine, query, table=table, week=week)
    assert isinstance(end, dt.date)
    return week + dt.timedelta(weeks=((end - week).days - 1) // 7)


def stored(engine: sa.Engine, table: str, week: dt.date, columns: list[str] | None = None) -> list[tuple[object, ...]]:
    with transaction(engine) as connection:
        return sorted(read.week_rows(connection, table, [week], columns=columns).rows(), key=str)


def of_before_values(table: str) -> list[str]:
    """The columns that a table had before it had figures of value and block-like volume."""
    return [name for name in TABLES[table].schema if not re.search("notional|block|implied", name)]


# --- forms ---------------------------------------------------------------------------------------------


_WITH_WEEKS = """
    SELECT tablename FROM pg_tables WHERE schemaname = 'otc' AND EXISTS (
        SELECT FROM information_schema.columns
        WHERE table_schema = 'otc' AND table_name = tablename AND column_name = 'week_ending')
"""
_INTERVALS = """
    SELECT hypertable_name, time_interval FROM timescaledb_information.dimensions WHERE hypertable_schema = 'otc'
"""
_SEGMENTS = """
    SELECT hypertable_name, attname FROM timescaledb_information.compression_settings
    WHERE hypertable_schema = 'otc' AND segmentby_column_index IS NOT NULL
    ORDER BY hypertable_name, segmentby_column_index
"""


def test_every_table_that_grows_by_week_is_a_hypertable_in_the_layout_that_was_chosen(engine: sa.Engine) -> None:
    weekly = ask(engine, _WITH_WEEKS)
    # A few rows a week each: a calendar, captures, what was judged and noted of a week.
    small = {"alert", "week_calendar", "publication", "rejected_record", "week_quality", "gap", "computed_week"}
    small |= {"week_state", "gap_ledger", "role_share", "venue_succession", "dataset_capture", "dataset_gap"}
    assert {str(name) for (name,) in weekly} - small == set(hypertables())
    assert dict(ask(engine, _INTERVALS)) == {
        name: dt.timedelta(days=layout.chunk) for name, layout in hypertables().items()
    }
    segments: dict[object, list[str]] = {}
    for name, column in ask(engine, _SEGMENTS):
        segments.setdefault(name, []).append(str(column))
    assert {name: ", ".join(columns) for name, columns in segments.items()} == {
        name: layout.segment_by for name, layout in hypertables().items() if layout.segment_by
    }


def test_a_server_that_reads_the_whole_key_for_a_symbol_has_an_index_of_symbols(
    engine: sa.Engine, community_database: str
) -> None:
    """PostgreSQL before 18, also after a dump of a newer server was restored there."""
    ((version,),) = ask(engine, "SELECT split_part(version(), ' ', 2)::float")
    indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'venue_volume' ORDER BY 1"
    expected = ["venue_volume_pkey"] if float(str(version)) >= 18 else ["venue_volume_by_symbol", "venue_volume_pkey"]
    assert [name for (name,) in ask(engine, indexes)] == expected
    with transaction(engine) as connection:
        connection.execute(sa.text("DROP INDEX IF EXISTS otc.venue_volume_by_symbol"))
    migrate(community_database, start=NEVER)
    assert [name for (name,) in ask(engine, indexes)] == expected


def jobs(engine: sa.Engine) -> dict[tuple[object, object], tuple[object, object]]:
    """By what it does and its table: a job's number and the age at which it compresses."""
    rows = ask(
        engine,
        "SELECT proc_name, hypertable_name, job_id, config ->> 'compress_after' FROM timescaledb_information.jobs "
        "WHERE job_id >= 1000",
    )
    return {(proc, table): (job, after) for proc, table, job, after in rows}


def test_jobs_follow_the_settings_whenever_the_database_is_migrated(
    engine: sa.Engine, community_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``if_not_exists`` once left jobs at the interval of the first day."""
    first = jobs(engine)
    compressing = {table for proc, table in first if proc == "policy_compression"}
    assert compressing == set(hypertables())
    assert {after for (proc, _), (_, after) in first.items() if proc == "policy_compression"} == {"84 days"}
    assert sorted(str(proc) for proc, _ in first if proc != "policy_compression") == [
        "policy_refresh_continuous_aggregate",
        "policy_refresh_continuous_aggregate",
        "retention_job",
    ]
    migrate(community_database, start=NEVER)
    assert jobs(engine) == first
    for weeks, wanted in (("20", {"140 days"}), ("0", set()), ("12", {"84 days"})):
        monkeypatch.setenv("OTC_COMPRESS_AFTER_WEEKS", weeks)
        settings.cache_clear()
        migrate(community_database, start=NEVER)
        stored = jobs(engine)
        assert {after for (proc, _), (_, after) in stored.items() if proc == "policy_compression"} == wanted
        others = {key: job for key, job in stored.items() if key[0] != "policy_compression"}
        assert others == {key: job for key, job in first.items() if key[0] != "policy_compression"}


_KEYS = """
    SELECT conname FROM pg_constraint JOIN pg_class t ON t.oid = conrelid
    WHERE contype IN ('p', 'f') AND connamespace = 'otc'::regnamespace AND t.relname = ANY(:tables) ORDER BY 1
"""


def test_the_way_down_and_up_again_keeps_every_row(engine: sa.Engine, community_database: str) -> None:
    for week in (OLD, YOUNG):
        write(engine, week)
    write(engine, OLD, volume_of(OLD, S7=5))
    run_jobs(engine, "policy_compression")
    kept = {table: of_before_values(table) for table in ("venue_volume", "symbol_summary", "venue_share")}
    before = {(table, week): stored(engine, table, week, kept[table]) for table in kept for week in (OLD, YOUNG)}
    history = ask(engine, "SELECT symbol, share_volume, change FROM otc.venue_volume_revision ORDER BY 1")
    constraints = {table: ask(engine, _KEYS, tables=[table]) for table in hypertables()}
    migrate(community_database, "023", start=NEVER)
    migrated = {name for name, _ in ask(engine, _INTERVALS)}
    assert migrated == set()
    for table in ("venue_volume", "venue_share"):  # a later migration renames a column of symbol_summary
        assert {week: stored(engine, table, week, kept[table]) for week in (OLD, YOUNG)} == {
            week: before[table, week] for week in (OLD, YOUNG)
        }
    there = {name for (name,) in ask(engine, "SELECT tablename FROM pg_tables WHERE schemaname = 'otc'")}
    assert {"venue_volume", "symbol_rolling", "symbol_concentration"} <= there
    assert not {"symbol", "venue", "role_share", "week_changes"} & there  # of later migrations
    for table in there & constraints.keys():
        assert ask(engine, _KEYS, tables=[str(table)]) == constraints[str(table)]
    migrate(community_database, start=NEVER)
    after = {(table, week): stored(engine, table, week, kept[table]) for table, week in before}
    assert after == before
    assert ask(engine, "SELECT symbol, share_volume, change FROM otc.venue_volume_revision ORDER BY 1") == history
    assert {table: ask(engine, _KEYS, tables=[table]) for table in hypertables()} == constraints
    migrate(community_database, "base", start=NEVER)
    left = ask(engine, "SELECT count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000")
    assert left == [(0,)]


def test_columns_that_a_migration_renames_or_adds_are_in_compressed_weeks_too(
    engine: sa.Engine, community_database: str
) -> None:
    write(engine, OLD)
    figures = symbol_concentration(volume_of(OLD))
    with transaction(engine) as connection:
        load.replace_week(connection, "symbol_concentration", OLD, figures, "v")
    run_jobs(engine, "policy_compression")
    before, concentration = (
        stored(engine, "symbol_summary", OLD, of_before_values("symbol_summary")),
        stored(engine, "symbol_concentration", OLD),
    )
    weekly = ask(engine, _WEEKLY)
    migrate(community_database, "039", start=NEVER)
    migrate(community_database, start=NEVER)
    assert compressed(engine, "symbol_summary")[OLD]
    assert compressed(engine, "symbol_concentration")[OLD]
    assert stored(engine, "symbol_summary", OLD, of_before_values("symbol_summary")) == before
    assert ask(engine, "SELECT DISTINCT implied_price, block_like_volume FROM otc.symbol_summary") == [(None, None)]
    assert ask(engine, _WEEKLY) == weekly
    new = "total_trades, hhi_lower, concentration_level_lower, effective_venues_upper, total_notional, notional_hhi"
    assert ask(engine, f"SELECT DISTINCT {new} FROM otc.symbol_concentration") == [(None,) * 6]
    with transaction(engine) as connection:
        load.replace_week(connection, "symbol_concentration", OLD, figures, "v")
    assert stored(engine, "symbol_concentration", OLD) == concentration


def test_aggregates_have_their_comments_however_they_are_stored(engine: sa.Engine) -> None:
    without = """
        SELECT c.relname, a.attname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'otc'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND col_description(c.oid, a.attnum) IS NULL
    """
    assert ask(engine, without) == []
    assert len(ask(engine, "SELECT FROM pg_class WHERE relname LIKE '%\\_summary\\_agg' AND relkind = 'v'")) == 2


_ORDERS = """
    SELECT attname FROM timescaledb_information.compression_settings
    WHERE hypertable_schema = 'otc' AND hypertable_name = 'venue_volume' AND orderby_column_index IS NOT NULL
    ORDER BY orderby_column_index
"""


def test_a_changed_layout_is_applied_by_migrate_and_keeps_every_row(
    engine: sa.Engine, community_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(engine, OLD)
    run_jobs(engine, "policy_compression")
    before = stored(engine, "venue_volume", OLD)
    table = TABLES["venue_volume"]
    layout = replace(table.layout, chunk=14, order_by="venue_id, symbol")
    monkeypatch.setitem(TABLES, "venue_volume", replace(table, layout=layout))
    migrate(community_database, start=NEVER)
    assert dict(ask(engine, _INTERVALS))["venue_volume"] == dt.timedelta(days=14)
    assert [column for (column,) in ask(engine, _ORDERS)] == ["venue_id", "symbol"]
    write(engine, YOUNG)
    run_jobs(engine, "policy_compression")
    assert stored(engine, "venue_volume", OLD) == before
    assert len(stored(engine, "venue_volume", YOUNG)) == 120


def test_a_schema_of_before_definitions_were_stored_keeps_its_hypertables_and_filled_aggregates(
    engine: sa.Engine, community_database: str
) -> None:
    write(engine, OLD)
    digests = "SELECT name, digest FROM otc.definition WHERE name !~ '_as_of$|comments|^firm$' ORDER BY name"
    before, weekly, ids = ask(engine, digests), ask(engine, _WEEKLY), ask(engine, _AGGREGATE_IDS)
    assert (len(before), len(weekly)) == (len(hypertables()) + 3, 40)
    migrate(community_database, "030", start=NEVER)
    migrate(community_database, start=NEVER)
    assert ask(engine, digests) == before
    assert ask(engine, _WEEKLY) == weekly
    assert ask(engine, _AGGREGATE_IDS) == ids


_ROLLING_ROW = """
    INSERT INTO otc.symbol_rolling (week_ending, tier, symbol, current_volume, avg_6w_volume, volume_vs_avg_pct, trend,
        weeks_in_window, weeks_traded, weeks_without_trades, earliest_week, weeks_in_other_tier, known_from)
    VALUES (%s, %s, %s, 10, 20, -50, 'down', 6, 6, 0, %s, 0, now())
"""


def test_six_week_figures_of_compressed_weeks_get_the_columns_per_trading_day_and_lose_them_again(
    engine: sa.Engine, community_database: str
) -> None:
    """A migration meets compressed chunks, on which the server allows fewer changes of a table."""
    write(engine, OLD)
    computed = symbol_rolling(symbol_summary(volume_of(OLD)), pl.DataFrame({"week_ending": [OLD], "tier": [T1]}), OLD)
    symbols = computed["symbol"].to_list()
    migrate(community_database, "039", start=NEVER)
    with psycopg.connect(community_database, autocommit=True) as connection:
        for symbol in symbols:
            connection.execute(_ROLLING_ROW, [OLD, T1, symbol, OLD])
    run_jobs(engine, "policy_compression")
    assert compressed(engine, "symbol_rolling")[OLD]
    columns = "SELECT DISTINCT trend, trend_reason, trading_days, volume_vs_avg_pct FROM otc.{}"
    migrate(community_database, start=NEVER)
    assert ask(engine, columns.format("symbol_rolling")) == [("down", None, None, -50)]
    with transaction(engine) as connection:
        load.replace_week(connection, "symbol_rolling", OLD, computed, "v")
    refresh_after_load(engine, last_of_chunk(engine, "symbol_rolling", OLD), ["symbol_rolling"])
    assert compressed(engine, "symbol_rolling")[OLD]
    assert ask(engine, columns.format("symbol_rolling")) == [(None, "too_few_weeks", trading_days(OLD), 0)]
    assert ask(engine, columns.format("symbol_rolling_revision")) == [("down", None, None, -50)]
    migrate(community_database, "039", start=NEVER)
    trends = ask(engine, "SELECT trend, count(*) FROM otc.symbol_rolling GROUP BY 1")
    assert trends == [("stable", len(symbols))]
    migrate(community_database, start=NEVER)
    assert ask(engine, columns.format("symbol_rolling_as_of(now() - interval '1 year')")) == []
    assert ask(engine, "SELECT count(*) FROM otc.symbol_rolling") == [(len(symbols),)]


def test_the_way_down_changes_compressed_weeks_however_many_rows_are_decompressed(
    engine: sa.Engine, community_database: str
) -> None:
    """Six-week figures have more rows in a chunk than the server lets a transaction decompress by default."""
    write(engine, OLD)
    computed = symbol_rolling(symbol_summary(volume_of(OLD)), pl.DataFrame({"week_ending": [OLD], "tier": [T1]}), OLD)
    with transaction(engine) as connection:
        load.replace_week(connection, "symbol_rolling", OLD, computed, "v")
    run_jobs(engine, "policy_compression")
    assert compressed(engine, "symbol_rolling")[OLD]
    few = {"options": "-c timescaledb.max_tuples_decompressed_per_dml_transaction=3"}
    url = sa.make_url(community_database).update_query_dict(few).render_as_string(hide_password=False)
    with psycopg.connect(libpq_url(url)) as connection:
        ((limit,),) = connection.execute("SHOW timescaledb.max_tuples_decompressed_per_dml_transaction").fetchall()
        assert limit == "3"
    migrate(url, "039", start=NEVER)
    trends = ask(engine, "SELECT trend, count(*) FROM otc.symbol_rolling GROUP BY 1")
    assert trends == [("stable", computed.height)]
    migrate(url, start=NEVER)
    assert len(stored(engine, "symbol_rolling", OLD)) == computed.height


_AGGREGATE_IDS = "SELECT oid FROM pg_class WHERE relname IN ('weekly_summary_agg', 'monthly_summary_agg') ORDER BY 1"


# --- compression ---------------------------------------------------------------------------------------


def test_weeks_are_compressed_once_they_are_twelve_weeks_old(engine: sa.Engine, community_database: str) -> None:
    for week in WEEKS:
        write(engine, week)
    before = {week: stored(engine, "venue_volume", week) for week in WEEKS}
    run_jobs(engine, "policy_compression")
    whole = compressed(engine, "venue_volume")
    # A chunk is compressed once its last day is so old.
    today, chunk = dt.date.today(), dt.timedelta(days=hypertables()["venue_volume"].chunk)  # noqa: DTZ011
    old = [week for week in WEEKS if week + chunk < today - dt.timedelta(weeks=12)]
    assert old
    assert all(whole[week] for week in old)
    assert not any(whole[week] for week in WEEKS if week > today - dt.timedelta(weeks=12))
    assert {week: stored(engine, "venue_volume", week) for week in WEEKS} == before
    found = chunks_of(engine)
    assert found["venue_volume"].chunks >= 24 * 7 // hypertables()["venue_volume"].chunk
    assert 0 < found["venue_volume"].compressed_chunks < found["venue_volume"].chunks
    assert found["venue_volume"].bytes_before > found["venue_volume"].bytes_after > 0  # type: ignore[operator]
    with (
        psycopg.connect(community_database, autocommit=True) as admin,
        login(admin, community_database, READER) as url,
        opened(url) as reading,
    ):
        assert chunks_of(reading) == found
        assert ask(reading, _WEEKLY) == ask(engine, _WEEKLY) != []


def test_a_compressed_week_is_revised_as_any_other_and_compressed_again(engine: sa.Engine, loader: sa.Engine) -> None:
    for week in (OLD, YOUNG):
        write(loader, week)
    run_jobs(engine, "policy_compression")
    assert compressed(engine, "venue_volume")[OLD]
    revised = volume_of(OLD, S7=5).filter(pl.col("symbol") != "S9")
    with transaction(loader) as connection:
        # Fewer rows than a week has may be decompressed at once, as a real week has more than the default.
        connection.execute(sa.text("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 3"))
        change = load.replace_volume(connection, OLD, T1, revised)
    assert (change.added, change.changed, change.removed, change.unchanged) == (0, 1, 3, 116)
    assert not compressed(engine, "venue_volume")[OLD]
    last = last_of_chunk(engine, "venue_volume", OLD)
    refresh_after_load(loader, last - dt.timedelta(weeks=1), ["venue_volume"])
    assert not compressed(engine, "venue_volume")[OLD]
    refresh_after_load(loader, last, ["venue_volume"])
    assert compressed(engine, "venue_volume")[OLD]
    assert stored(engine, "venue_volume", OLD) == sorted(revised.rows(), key=str)
    kept = ask(engine, "SELECT symbol, venue_id, share_volume, change FROM otc.venue_volume_revision ORDER BY 1, 2")
    assert kept == [
        ("S7", "V1", 107, "changed"),
        *(("S9", f"V{v}", {1: 109}.get(v, 10 * v), "removed") for v in (1, 2, 3)),
    ]


@pytest.mark.parametrize(("symbols", "decompressed"), [(1, 1000), (101, 2700)])
def test_a_week_with_few_revised_symbols_is_decompressed_only_where_they_are(
    engine: sa.Engine, symbols: int, decompressed: int
) -> None:
    """Thirteen weeks of a symbol are in one batch: a revision of any row decompressed all of them."""
    weeks = [dt.date(2025, 5, day) for day in (2, 9, 16)]

    def summary(week: dt.date, changed: int = 0) -> pl.DataFrame:
        shares = (f"{1000 + s + (s < changed)}" for s in range(900))
        return symbol_summary(frame(*(row(f"S{s:03}", "V1", n, week_ending=week) for s, n in enumerate(shares))))

    def replaced(week: dt.date, rows: pl.DataFrame) -> None:
        with transaction(engine) as connection:
            load.replace_week(connection, "symbol_summary", week, rows, "v")

    for week in weeks:
        replaced(week, summary(week))
    ((chunk,),) = ask(engine, "SELECT compress_chunk(c)::text FROM show_chunks('otc.symbol_summary') c")
    replaced(weeks[1], summary(weeks[1], changed=symbols))
    assert ask(engine, f"SELECT count(*) FROM ONLY {chunk}") == [(decompressed,)]
    refresh_after_load(engine, last_of_chunk(engine, "symbol_summary", weeks[1]), ["symbol_summary"])
    assert ask(engine, f"SELECT count(*) FROM ONLY {chunk}") == [(0,)]
    for week in weeks:
        expected = summary(week, changed=symbols if week == weeks[1] else 0)
        assert stored(engine, "symbol_summary", week) == sorted(expected.rows(), key=str)
    kept = ask(engine, "SELECT week_ending, symbol, total_volume FROM otc.symbol_summary_revision ORDER BY symbol")
    assert kept == [(weeks[1], f"S{s:03}", 1000 + s) for s in range(symbols)]


def test_a_load_into_a_compressed_week_that_fails_leaves_it_as_it_was(engine: sa.Engine) -> None:
    write(engine, OLD)
    run_jobs(engine, "policy_compression")
    before = stored(engine, "venue_volume", OLD)
    with engine.connect() as connection, connection.begin() as loading:
        load.replace_volume(connection, OLD, T1, volume_of(OLD, S7=5))
        loading.rollback()
    assert stored(engine, "venue_volume", OLD) == before
    assert compressed(engine, "venue_volume")[OLD]


# --- continuous aggregates -----------------------------------------------------------------------------

_WEEKLY = """
    SELECT week, symbol, tier, total_volume, total_trades, venue_count FROM otc.weekly_summary_agg ORDER BY 1, 2, 3
"""
_SUMMED = """
    SELECT week_ending, symbol, tier, sum(share_volume), sum(trade_count)::bigint, count(DISTINCT venue_id)
    FROM otc.venue_volume GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_MONTHLY = """
    SELECT month, symbol, tier, total_volume, total_trades, max_venue_count, weeks
    FROM otc.monthly_summary_agg ORDER BY 1, 2, 3
"""
_SUMMED_BY_MONTH = """
    SELECT date_trunc('month', week_ending)::date, symbol, tier, sum(share_volume), sum(trade_count)::bigint,
        count(DISTINCT venue_id), count(DISTINCT week_ending)
    FROM otc.venue_volume GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def test_the_aggregates_are_what_the_database_sums_up_itself_and_their_weeks_are_fridays(loader: sa.Engine) -> None:
    engine = loader
    for week in WEEKS[:6]:
        write(engine, week)
    write(engine, WEEKS[1], volume_of(WEEKS[1], S7=5).filter(pl.col("symbol") != "S9"))
    assert ask(engine, _WEEKLY) == ask(engine, _SUMMED)
    assert ask(engine, _MONTHLY) == ask(engine, _SUMMED_BY_MONTH)
    assert {week.weekday() for week, *_ in ask(engine, _WEEKLY)} == {4}  # type: ignore[attr-defined]


def test_a_run_refreshes_exactly_the_weeks_that_it_touched_and_the_job_all_that_changed(
    engine: sa.Engine, loader: sa.Engine
) -> None:
    """Weeks that are older than a policy's window once stayed stale indefinitely."""
    for week in (OLD, YOUNG):
        write(loader, week)
    stale = sa.text("UPDATE otc.symbol_summary SET total_volume = total_volume + 1 WHERE symbol = 'S7'")
    with transaction(engine) as connection:
        connection.execute(stale)

    def wrong() -> set[object]:
        found = ask(
            engine,
            """
            SELECT week FROM otc.weekly_summary_agg a
            JOIN otc.symbol_summary s ON s.week_ending = a.week AND (s.symbol, s.tier) = (a.symbol, a.tier)
            WHERE a.total_volume <> s.total_volume
            """,
        )
        return {week for (week,) in found}

    assert wrong() == {OLD, YOUNG}
    refresh_after_load(loader, YOUNG, ["symbol_summary"])
    assert wrong() == {OLD}
    run_jobs(engine, "policy_refresh_continuous_aggregate")
    assert wrong() == set()
    by_month = ask(engine, "SELECT sum(total_volume) FROM otc.monthly_summary_agg")
    assert by_month == ask(engine, "SELECT sum(total_volume) FROM otc.symbol_summary")
    assert [row[3:] for row in ask(engine, _WEEKLY)] == ask(
        engine,
        "SELECT total_volume, total_trades, venue_count FROM otc.symbol_summary ORDER BY week_ending, symbol, tier",
    )


def test_the_job_refreshes_the_newest_week_that_changed_too_even_if_an_earlier_version_created_it(
    engine: sa.Engine, community_database: str
) -> None:
    """In batches, which are TimescaleDB's default, it left out that week until the next day."""
    for week in WEEKS[:4]:
        write(engine, week)
    with transaction(engine) as connection:
        for name in AGGREGATES:
            connection.execute(sa.text(f"SELECT remove_continuous_aggregate_policy('otc.{name}')"))
            connection.execute(sa.text(f"SELECT add_continuous_aggregate_policy('otc.{name}', NULL, NULL, '1 day')"))
    migrate(community_database, start=NEVER)
    first = jobs(engine)
    migrate(community_database, start=NEVER)
    assert jobs(engine) == first
    with transaction(engine) as connection:
        change = sa.text(
            "UPDATE otc.symbol_summary SET total_volume = total_volume + 1 WHERE week_ending = ANY(:weeks)"
        )
        connection.execute(change, {"weeks": WEEKS[1:3]})
    run_jobs(engine, "policy_refresh_continuous_aggregate")
    columns = "symbol, tier, total_volume, total_trades, venue_count"
    summaries = ask(engine, f"SELECT week_ending, {columns} FROM otc.symbol_summary ORDER BY 1, 2, 3")
    assert ask(engine, _WEEKLY) == summaries
    by_month = ask(engine, "SELECT sum(total_volume) FROM otc.monthly_summary_agg")
    assert by_month == ask(engine, "SELECT sum(total_volume) FROM otc.symbol_summary")


def test_the_check_fails_if_an_aggregate_and_a_summary_do_not_agree(engine: sa.Engine) -> None:
    write(engine, OLD)
    with transaction(engine) as connection:
        agreed = read.summary_differences(connection, OLD)
        connection.execute(sa.text("UPDATE otc.symbol_summary SET total_trades = 1 WHERE symbol IN ('S7', 'S8')"))
        differing = read.summary_differences(connection, OLD)
    assert agreed == [{"tier": T1, "symbols": 40, "aggregate_differs": 0, "volume_differs": 0}]
    assert differing == [{"tier": T1, "symbols": 40, "aggregate_differs": 2, "volume_differs": 2}]


# --- retention -----------------------------------------------------------------------------------------


def keep(url: str, monkeypatch: pytest.MonkeyPatch, weeks: int) -> None:
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", str(weeks))
    settings.cache_clear()
    migrate(url, start=NEVER, shorten_retention=True)


_LATE_ROW = """
    INSERT INTO otc.venue_volume
    SELECT (r.late).*
    FROM (SELECT jsonb_populate_record(v, CAST(:late AS jsonb)) AS late FROM otc.venue_volume v LIMIT 1) r
"""


def test_dropped_weeks_never_take_their_summaries_along_whatever_is_refreshed_afterwards(
    engine: sa.Engine, community_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drop, refresh over everything, a late row, a forced refresh: each once destroyed or replaced summaries."""
    for week in WEEKS:
        write(engine, week)
    run_jobs(engine, "policy_compression")
    weekly, monthly = ask(engine, _WEEKLY), ask(engine, _MONTHLY)
    summaries = {week: stored(engine, "symbol_summary", week) for week in WEEKS}
    keep(community_database, monkeypatch, 10)
    run_jobs(engine, RETENTION_JOB)
    gone = week_containing(dt.date.today()) - dt.timedelta(weeks=10)  # noqa: DTZ011 - the job's clock
    left = [week for week in WEEKS if week >= gone]
    assert [week for (week,) in ask(engine, "SELECT DISTINCT week_ending FROM otc.venue_volume ORDER BY 1")] == left

    def unharmed() -> bool:
        same = {week: stored(engine, "symbol_summary", week) for week in WEEKS} == summaries
        return same and ask(engine, _WEEKLY) == weekly and ask(engine, _MONTHLY) == monthly

    assert unharmed()
    with autocommit(engine) as connection:
        refresh_aggregates(connection)
    assert unharmed()
    with transaction(engine) as connection:  # past the loader, which refuses it
        connection.execute(sa.text(_LATE_ROW), {"late": f'{{"week_ending": "{OLD}", "symbol": "LATE"}}'})
    run_jobs(engine, "policy_refresh_continuous_aggregate")
    with autocommit(engine) as connection:
        for name in AGGREGATES:
            connection.exec_driver_sql(f"CALL refresh_continuous_aggregate('otc.{name}', NULL, NULL, force => true)")
    assert unharmed()


def test_weeks_of_compressed_chunks_with_weeks_that_stay_are_dropped_however_many_rows_are_decompressed(
    engine: sa.Engine, loader: sa.Engine
) -> None:
    """A batch of symbol_summary has thirteen weeks of a symbol: a chunk has more rows than the default allows."""
    for week in WEEKS[:8]:
        write(engine, week)
    tables = ("venue_volume", "symbol_summary")

    def shares_its_chunks(week: dt.date) -> bool:
        before = week - dt.timedelta(weeks=1)
        return all(last_of_chunk(engine, table, before) == last_of_chunk(engine, table, week) for table in tables)

    first = next(week for week in WEEKS[1:8] if shares_its_chunks(week))
    for table in tables:
        ask(engine, f"SELECT count(compress_chunk(c)) FROM show_chunks('otc.{table}') c")
    kept = {table: stored(engine, table, first) for table in tables}
    weeks = (week_containing(dt.date.today()) - first).days // 7  # noqa: DTZ011 - the function's clock
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE otc.retention SET keep_weeks = :weeks"), {"weeks": weeks})
    with transaction(loader) as connection:
        connection.execute(sa.text("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 3"))
        applied = retention.apply_retention(connection)
    assert {(of.what, of.retained_from) for of in applied} == {("summaries", first), ("venue_volume", first)}
    run_jobs(engine, "policy_refresh_continuous_aggregate")
    for table in tables:
        assert ask(engine, f"SELECT min(week_ending) FROM otc.{table}") == [(first,)]
        assert stored(engine, table, first) == kept[table]
    assert ask(engine, _WEEKLY) == ask(engine, _SUMMED)
    assert ask(engine, _MONTHLY) == ask(engine, _SUMMED_BY_MONTH)


def test_a_week_beyond_retention_is_refused_and_can_be_loaded_again_once_it_is_kept(
    engine: sa.Engine, community_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(community_database, monkeypatch, 10)
    with pytest.raises(retention.Dropped, match=rf"{OLD}.*OTC_KEEP_VENUE_VOLUME_WEEKS"):
        write(engine, OLD)
    assert ask(engine, "SELECT count(*) FROM otc.publication") == [(0,)]
    keep(community_database, monkeypatch, 0)
    write(engine, OLD)
    assert len(stored(engine, "venue_volume", OLD)) == 120


# --- getting it later ----------------------------------------------------------------------------------


def everything(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    tables = (*hypertables(), *AGGREGATES)
    return {table: sorted(ask(engine, f"SELECT * FROM otc.{table}"), key=str) for table in tables}


@pytest.mark.parametrize("earlier", ["plain PostgreSQL", "Apache edition"])
def test_a_database_that_gets_timescaledb_or_its_community_edition_later_is_brought_to_it_in_place(
    bare_community_database: str, monkeypatch: pytest.MonkeyPatch, earlier: str
) -> None:
    """A server can't be restarted with another edition here, so it is said to be less than it is at first."""
    with monkeypatch.context() as less:
        if earlier == "plain PostgreSQL":
            less.setattr(capabilities, "install", lambda connection: "")
        else:
            more = capabilities.detect
            less.setattr(capabilities, "detect", lambda connection: replace(more(connection), community=False))
        assert migrate(bare_community_database, start=NEVER).server.endswith(earlier)
        engine = connect(bare_community_database)
        for week in (OLD, YOUNG):
            write(engine, week)
        write(engine, OLD, volume_of(OLD, S7=5))
        before = everything(engine)
        engine.dispose()
    assert all(before[table] for table in ("venue_volume", "venue_volume_revision", "weekly_summary_agg"))
    done = migrate(bare_community_database, start=NEVER)
    assert done.server.startswith("TimescaleDB")
    assert done.server.endswith("community edition")
    engine = connect(bare_community_database)
    assert everything(engine) == before
    run_jobs(engine, "policy_compression")
    assert compressed(engine, "venue_volume")[OLD]
    write(engine, OLD, volume_of(OLD, S7=6))
    assert ask(engine, _WEEKLY) == ask(engine, _SUMMED)
    engine.dispose()


def test_two_migrations_at_once_do_the_work_once(community_database: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(lambda _: migrate(community_database, start=NEVER), range(3)))
    assert sorted(str(migrated.before) for migrated in done) == [newest_version(), newest_version(), "None"]
    engine = connect(community_database)
    assert len(jobs(engine)) == len(hypertables()) + 3
    engine.dispose()


def test_a_compressed_hypertable_of_raw_rows_is_dropped_with_its_job(community_database: str) -> None:
    """As version 052 left it: chunks of a week, most of them compressed, and a policy."""
    migrate(community_database, "052", start=NEVER)
    engine = connect(community_database)
    with transaction(engine) as connection:
        run = connection.exec_driver_sql
        run("SELECT create_hypertable('otc.raw_record', by_range('week_ending', INTERVAL '7 days'))")
        run("ALTER TABLE otc.raw_record SET (timescaledb.compress, timescaledb.compress_segmentby = 'publication_id')")
        run("SELECT add_compression_policy('otc.raw_record', INTERVAL '84 days', initial_start => '2100-01-01')")
        run("INSERT INTO otc.definition (name, digest) VALUES ('hypertable raw_record', 'x') ON CONFLICT DO NOTHING")
        for number, week in enumerate(WEEKS[:6], 1):
            run(
                "INSERT INTO otc.publication (week_ending, tier, scope, revision, digest, origin, layout, bytes,"
                " rows_received, rows_accepted, rows_rejected, complete)"
                f" VALUES ('{week}', 'OTC', 'FULL', 1, '{number:064x}', 'a file', 'website', 9, 2, 2, 0, true)"
            )
            run(f"INSERT INTO otc.raw_record SELECT '{week}', {number}, n, 'row' FROM generate_series(2, 9) n")
        run(f"SELECT compress_chunk(c) FROM show_chunks('otc.raw_record', older_than => DATE '{WEEKS[4]}') c")
    with pytest.raises(NotArchived, match="6 of 6 captures"):
        migrate(community_database, start=NEVER)
    digests = [f"{number:064x}" for number in range(1, 7)]
    migrate(
        community_database,
        start=NEVER,
        problems_of=lambda asked: {} if asked == digests else dict.fromkeys(asked, "missing"),
    )
    assert "raw_record" not in chunks_of(engine)
    assert ask(engine, "SELECT count(*) FROM otc.definition WHERE name LIKE '%raw_record%'") == [(0,)]
    left = "SELECT count(*) FROM pg_class WHERE relname LIKE '%raw_record%'"
    assert ask(engine, left) == [(0,)]
    assert len(jobs(engine)) == len(hypertables()) + 3
    write(engine, OLD)
    engine.dispose()


def test_the_apache_edition_has_hypertables_views_and_retention_but_no_jobs(apache_database: str) -> None:
    done = migrate(apache_database)
    assert done.server.endswith("Apache edition")
    engine = connect(apache_database)
    for week in WEEKS[:6]:
        write(engine, week)
    assert ask(engine, _WEEKLY) == ask(engine, _SUMMED)
    assert ask(engine, _MONTHLY) == ask(engine, _SUMMED_BY_MONTH)
    found = chunks_of(engine)
    with transaction(engine) as connection:
        retention.set_retention(connection, {"venue_volume": 1, "summaries": 0}, shorten=True)
        applied = retention.apply_retention(connection)
    assert found["venue_volume"].chunks > 1
    assert not any(table.compressed_chunks for table in found.values())
    assert [(kind.what, kind.weeks) for kind in applied] == [("venue_volume", 6)]
    assert ask(engine, "SELECT count(*) FROM otc.venue_volume") == [(0,)]
    assert ask(engine, "SELECT sum(total_volume) > 0 FROM otc.symbol_summary") == [(True,)]
    engine.dispose()


def test_shares_that_are_fractions_survive_compression_to_the_last_place(engine: sa.Engine) -> None:
    exact = Decimal("12345678901234567890.123456")
    write(engine, OLD, frame(row("FRAC", "V1", str(exact), week_ending=OLD)))
    run_jobs(engine, "policy_compression")
    assert compressed(engine, "venue_volume")[OLD]
    assert [found[10] for found in stored(engine, "venue_volume", OLD)] == [exact]
