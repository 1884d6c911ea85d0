"""What the server can do, asked of it once, and the form that our tables take on it.

The same tables stand on every server. Where TimescaleDB is there they are hypertables; on its community
edition they are compressed, the aggregates are continuous, and jobs keep both in order. Nothing outside this
module knows the difference. Here: capabilities, hypertables, compression, aggregates, jobs, and what is to
be done after a week was written. Not here: what is kept for how long (``retention``), tables (``migrations``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, LiteralString

import sqlalchemy as sa
import stamina

from otc_assets.domain.tables import hypertables
from otc_assets.tracing import REFRESH, span
from otc_assets.warehouse.server import autocommit

_FEATURE_NOT_SUPPORTED = "0A000"
#: What a chunk or an aggregate answers while a job works on it; it passes by itself.
_BUSY = ("40P01", "40001", "55P03", "55006")


#: The aggregates in the order in which they are refreshed, each with its buckets and what it is made of.
#:
#: They are made of symbol_summary, which is kept for ever, and not of venue_volume, which retention drops: a
#: continuous aggregate on a table that loses weeks loses them too at the next refresh that covers them.
#: Buckets of a day keep a Friday's label; weekly buckets would begin on Monday, and one alone can't be
#: refreshed before TimescaleDB 2.25.2.
AGGREGATES = {
    "weekly_summary_agg": """
        SELECT {bucket}('1 day', week_ending) AS week, symbol, tier,
               sum(total_volume) AS total_volume, sum(total_trades)::bigint AS total_trades,
               max(venue_count) AS venue_count
        FROM otc.symbol_summary
        GROUP BY 1, 2, 3
    """,
    "monthly_summary_agg": """
        SELECT {bucket}('1 month', week) AS month, symbol, tier,
               sum(total_volume) AS total_volume, sum(total_trades)::bigint AS total_trades,
               max(venue_count) AS max_venue_count, count(*) AS weeks
        FROM otc.weekly_summary_agg
        GROUP BY 1, 2, 3
    """,
}

#: time_bucket for servers that have none: days and months are all that the aggregates need.
_BUCKET = """
CREATE OR REPLACE FUNCTION otc.bucket(width text, day date) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE width WHEN '1 month' THEN date_trunc('month', day)::date ELSE day END $$
"""


@dataclass(frozen=True)
class Capabilities:
    """What a server can do.

    Attributes:
        version: TimescaleDB's, where the extension is in the database.
        hypertables: TimescaleDB, of any edition.
        community: compression, continuous aggregates and jobs.
    """

    version: str | None = None
    hypertables: bool = False
    community: bool = False

    def __str__(self) -> str:
        if not self.hypertables:
            return "plain PostgreSQL"
        return f"TimescaleDB {self.version}, {'community' if self.community else 'Apache'} edition"


def ask(connection: sa.Connection) -> Capabilities:
    """Asks the server what it can do.

    The editions are told apart by a function of the community edition, called in vain: settings that name
    the edition are not there on every build, and errors name the wrong one.
    """
    version = connection.scalar(sa.text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"))
    if version is None:
        return Capabilities()
    try:
        with connection.begin_nested():
            connection.execute(sa.text("SELECT delete_job(-1)"))
    except sa.exc.DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        return Capabilities(version, hypertables=True, community=state != _FEATURE_NOT_SUPPORTED)
    return Capabilities(version, hypertables=True, community=True)


def install(connection: sa.Connection) -> str:
    """Creates the extension where the server has it and we may. Returns why not, or nothing.

    Args:
        connection: in autocommit mode, and not used for anything afterwards: the extension wants to be the
            first thing that a session meets.
    """
    offered = connection.execute(
        sa.text("SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'")
    ).one_or_none()
    if offered is None or offered.installed_version is not None:
        return ""
    try:
        connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public"))
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        return (
            f"the server offers TimescaleDB {offered.default_version}, which is not used: {reason}. To use it, put "
            "timescaledb into shared_preload_libraries, restart the server, have a superuser run CREATE EXTENSION "
            "timescaledb in this database, and run 'otc-assets migrate' again."
        )
    return ""


# --- forms ---------------------------------------------------------------------------------------------

_TABLES = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'otc'")
_HYPERTABLES = sa.text("""
    SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_schema = 'otc'
""")


def to_hypertables(connection: sa.Connection) -> None:
    """Makes hypertables of the tables that are none yet, rows included, where the server can.

    On the community edition compression is laid out as well; nothing is compressed here.
    """
    can = ask(connection)
    if not can.hypertables:
        return
    tables = set(connection.execute(_TABLES).scalars())
    compressible: dict[str, bool] = {row[0]: row[1] for row in connection.execute(_HYPERTABLES)}
    for table, layout in hypertables().items():
        if table not in tables:
            continue
        if table not in compressible:
            connection.exec_driver_sql(
                f"SELECT create_hypertable('otc.{table}', by_range('week_ending', INTERVAL '{layout.chunk} days'),"
                " create_default_indexes => false, migrate_data => true)"
            )
        if can.community and not compressible.get(table):
            connection.exec_driver_sql(
                f"ALTER TABLE otc.{table} SET (timescaledb.compress,"
                f" timescaledb.compress_segmentby = '{layout.segment_by}',"
                f" timescaledb.compress_orderby = '{layout.order_by}')"
            )


_CONSTRAINTS = sa.text("""
    SELECT conname, pg_get_constraintdef(oid) AS says FROM pg_constraint
    WHERE contype IN ('p', 'f') AND conrelid = CAST(:table AS regclass) ORDER BY contype DESC
""")
_INDEXES = sa.text("""
    SELECT indexdef FROM pg_indexes
    WHERE schemaname || '.' || tablename = :table
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname AND contype = 'p')
""")
_COMMENT = sa.text("SELECT quote_literal(obj_description(CAST(:table AS regclass)))")


def to_tables(connection: sa.Connection) -> None:
    """Makes ordinary tables of the hypertables again, rows included: the way down."""
    if not ask(connection).hypertables:
        return
    stored = {name for name, _ in connection.execute(_HYPERTABLES)}
    run = connection.exec_driver_sql
    for table in sorted(stored & set(hypertables())):
        which = {"table": f"otc.{table}"}
        constraints = connection.execute(_CONSTRAINTS, which).all()
        indexes = connection.execute(_INDEXES, which).scalars().all()
        comment = connection.execute(_COMMENT, which).scalar()
        # LIKE brings everything along but keys, indexes and what is said of the table.
        run(f"CREATE TABLE otc.plain (LIKE otc.{table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)")
        run(f"INSERT INTO otc.plain SELECT * FROM otc.{table}")  # noqa: S608 - a name from hypertables()
        run(f"DROP TABLE otc.{table}")
        run(f"ALTER TABLE otc.plain RENAME TO {table}")
        for name, says in constraints:
            run(f'ALTER TABLE otc.{table} ADD CONSTRAINT "{name}" {says}')
        for says in indexes:
            run(says)
        if comment:
            run(f"COMMENT ON TABLE otc.{table} IS {comment}")


_CONTINUOUS = sa.text("""
    SELECT view_name FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'otc'
""")


def _continuous(connection: sa.Connection, can: Capabilities) -> set[str]:
    return set(connection.execute(_CONTINUOUS).scalars()) if can.hypertables else set()


_VIEWS = sa.text("SELECT count(*) FROM pg_views WHERE schemaname = 'otc' AND viewname = ANY(:names)")


def to_aggregates(connection: sa.Connection) -> bool:
    """Makes the aggregates: continuous ones where the server can, views of the same name and columns elsewhere.

    Returns:
        Whether continuous ones were made now. They are empty: ``refresh_aggregates`` fills them, which can't be
        done in a transaction.
    """
    can = ask(connection)
    if not can.community:
        if connection.execute(_VIEWS, {"names": list(AGGREGATES)}).scalar() != len(AGGREGATES):
            connection.exec_driver_sql(_BUCKET)
            for name, query in AGGREGATES.items():
                connection.exec_driver_sql(f"CREATE OR REPLACE VIEW otc.{name} AS {query.format(bucket='otc.bucket')}")
        return False
    made = not _continuous(connection, can)
    if made:
        drop_aggregates(connection)
        for name, query in AGGREGATES.items():
            connection.exec_driver_sql(
                f"CREATE MATERIALIZED VIEW otc.{name}"
                " WITH (timescaledb.continuous, timescaledb.materialized_only = true)"
                f" AS {query.format(bucket='time_bucket')} WITH NO DATA"
            )
    return made


def drop_aggregates(connection: sa.Connection) -> None:
    """Drops the aggregates, of whatever form: the way down, and the way from views to continuous ones."""
    continuous = _continuous(connection, ask(connection))
    for name in reversed(AGGREGATES):
        kind = "MATERIALIZED VIEW" if name in continuous else "VIEW"
        connection.exec_driver_sql(f"DROP {kind} IF EXISTS otc.{name}")
    connection.exec_driver_sql("DROP FUNCTION IF EXISTS otc.bucket(text, date)")


# --- jobs ----------------------------------------------------------------------------------------------

_COMPRESSED_AFTER = sa.text("""
    SELECT hypertable_name, config ->> 'compress_after' FROM timescaledb_information.jobs
    WHERE hypertable_schema = 'otc' AND proc_name = 'policy_compression'
""")
_REFRESHED = sa.text("""
    SELECT c.view_name FROM timescaledb_information.jobs j
    JOIN timescaledb_information.continuous_aggregates c
      ON (j.hypertable_schema, j.hypertable_name) IN
         ((c.materialization_hypertable_schema, c.materialization_hypertable_name), (c.view_schema, c.view_name))
    WHERE c.view_schema = 'otc' AND j.proc_name = 'policy_refresh_continuous_aggregate'
""")
_OUR_JOBS = sa.text("SELECT job_id FROM timescaledb_information.jobs WHERE proc_schema = 'otc' AND proc_name = :name")

RETENTION_JOB = "retention_job"


def set_jobs(connection: sa.Connection, compress_after_weeks: int, *, start: dt.datetime | None = None) -> None:
    """Makes the server's jobs as the settings want them, where it has jobs: compression, refresh, retention.

    Those that differ are removed and added: ``if_not_exists`` would leave them as they are. The retention job
    asks ``otc.retention`` what to drop, whenever it runs, and so never has to be changed.

    Args:
        connection: inside a transaction.
        compress_after_weeks: weeks after which a chunk is compressed; 0 for never.
        start: when the jobs first run; at once where nothing is said.
    """
    if not ask(connection).community:
        return
    first = f", initial_start => '{start.isoformat()}'" if start else ""
    run = connection.exec_driver_sql
    wanted = f"{compress_after_weeks * 7} days" if compress_after_weeks else None
    stands: dict[str, str] = {row[0]: row[1] for row in connection.execute(_COMPRESSED_AFTER)}
    for table in hypertables():
        if stands.get(table) == wanted:
            continue
        if table in stands:
            run(f"SELECT remove_compression_policy('otc.{table}')")
        if wanted:
            run(f"SELECT add_compression_policy('otc.{table}', INTERVAL '{wanted}'{first})")
    refreshed = set(connection.execute(_REFRESHED).scalars())
    for name in AGGREGATES:
        if name not in refreshed:
            # Over everything: what it is made of is kept, and only what has changed is computed. A window that
            # ends some weeks ago would leave older weeks stale that were loaded or revised.
            run(
                f"SELECT add_continuous_aggregate_policy('otc.{name}', start_offset => NULL, end_offset => NULL,"
                f" schedule_interval => INTERVAL '1 day'{first})"
            )
    if connection.execute(_OUR_JOBS, {"name": RETENTION_JOB}).first() is None:
        run(f"SELECT add_job('otc.{RETENTION_JOB}', INTERVAL '1 day'{first})")


def drop_job(connection: sa.Connection, name: str) -> None:
    """Deletes the job that calls the function ``name`` of ours: the way down."""
    if ask(connection).community:
        for job in connection.execute(_OUR_JOBS, {"name": name}).scalars().all():
            connection.execute(sa.text("SELECT delete_job(:job)"), {"job": job})


# --- after a week was written --------------------------------------------------------------------------


@cache
def capabilities(engine: sa.Engine) -> Capabilities:
    """What the server of ``engine`` can do; asked once a process."""
    with engine.connect() as connection:
        return ask(connection)


def _busy(error: Exception) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and getattr(error.orig, "sqlstate", None) in _BUSY


@stamina.retry(on=_busy, attempts=5, wait_initial=0.5)
def _call(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


_COMPRESSED_CHUNKS = sa.text("""
    SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'otc' AND hypertable_name = ANY(:tables) AND is_compressed
      AND range_start <= :week AND range_end > :week
""")


def settle(engine: sa.Engine, week_ending: dt.date, tables: Sequence[str]) -> None:
    """Puts in order what writing a week has disturbed, once its transaction has ended.

    Compressed chunks that were written to are compressed again, and the aggregates that are made of one of the
    tables are refreshed for exactly this week; the server's jobs would do both too, within a day.

    Args:
        engine: the server's.
        week_ending: the week.
        tables: which tables were written; their revisions are seen to as well.
    """
    if not capabilities(engine).community:
        return
    both = [name for table in tables for name in (table, f"{table}_revision")]
    # A refresh can't run inside a transaction.
    with span(REFRESH), autocommit(engine) as connection:
        if "symbol_summary" in tables:
            refresh_aggregates(connection, week_ending)
        chunks = connection.execute(_COMPRESSED_CHUNKS, {"tables": both, "week": week_ending}).scalars().all()
        for chunk in chunks:
            _call(connection, f"SELECT compress_chunk('{chunk}', if_not_compressed => true)")


def refresh_aggregates(connection: sa.Connection, week_ending: dt.date | None = None) -> None:
    """Refreshes the continuous aggregates, in order, because a refresh does not reach those on top of it.

    Args:
        connection: in autocommit mode.
        week_ending: this week and its month alone; without it, everything that has changed.
    """
    if week_ending is None:
        for name in AGGREGATES:
            _call(connection, f"CALL refresh_continuous_aggregate('otc.{name}', NULL, NULL)")
        return
    month = week_ending.replace(day=1)
    next_month = (month + dt.timedelta(days=31)).replace(day=1)
    windows = {
        "weekly_summary_agg": (week_ending, week_ending + dt.timedelta(days=1)),
        "monthly_summary_agg": (month, next_month),
    }
    for name in AGGREGATES:
        start, end = windows[name]
        _call(connection, f"CALL refresh_continuous_aggregate('otc.{name}', DATE '{start}', DATE '{end}')")


# --- how it stands -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunks:
    """The chunks of a hypertable.

    Attributes:
        table: the hypertable.
        chunks, compressed_chunks: how many there are, and how many of them are compressed.
        bytes_before, bytes_after: of the compressed ones, indexes included; None where none is.
    """

    table: str
    chunks: int
    compressed_chunks: int
    bytes_before: int | None
    bytes_after: int | None

    @property
    def ratio(self) -> float | None:
        """How many times smaller compression has made them; None where none is compressed."""
        return self.bytes_before / self.bytes_after if self.bytes_before and self.bytes_after else None


_IS_THERE: LiteralString = "SELECT count(*) AS there FROM pg_extension WHERE extname = 'timescaledb'"
# Compression is laid out on the community edition alone, and its sizes can be asked for only there.
_CHUNKS: LiteralString = """
    SELECT h.hypertable_name::text AS "table", h.num_chunks AS chunks,
        coalesce(s.number_compressed_chunks, 0) AS compressed_chunks,
        s.before_compression_total_bytes AS bytes_before, s.after_compression_total_bytes AS bytes_after
    FROM timescaledb_information.hypertables h
    LEFT JOIN LATERAL (
        SELECT * FROM hypertable_compression_stats(format('%I.%I', hypertable_schema, hypertable_name)::regclass)
        WHERE h.compression_enabled) s ON true
    WHERE h.hypertable_schema = 'otc'
    ORDER BY 1
"""
_SIZES: LiteralString = """
    SELECT tablename::text AS "table", pg_total_relation_size(format('otc.%I', tablename)) AS bytes
    FROM pg_tables WHERE schemaname = 'otc'
"""
_HYPERTABLE_SIZES: LiteralString = """
    SELECT hypertable_name::text AS "table", hypertable_size(format('otc.%I', hypertable_name)::regclass) AS bytes
    FROM timescaledb_information.hypertables WHERE hypertable_schema = 'otc'
"""

#: Runs a query, and gives its rows by column.
Rows = Callable[[LiteralString], Sequence[Mapping[str, Any]]]


def chunks(rows: Rows) -> list[Chunks]:
    """The chunks of every hypertable of ours, by its name; nothing on a server without TimescaleDB.

    Args:
        rows: runs a query on the database, on whatever connection. No query waits for a lock on a table.
    """
    return [Chunks(**row) for row in rows(_CHUNKS)] if rows(_IS_THERE)[0]["there"] else []


def sizes(rows: Rows) -> dict[str, int]:
    """Bytes on disk, indexes included, of the tables that grow by week; largest first.

    Args:
        rows: runs a query on the database, on whatever connection.
    """
    found = {row["table"]: row["bytes"] for row in rows(_SIZES)}
    if rows(_IS_THERE)[0]["there"]:
        found |= {row["table"]: row["bytes"] for row in rows(_HYPERTABLE_SIZES)}
    return dict(sorted(((t, found[t]) for t in hypertables() if t in found), key=lambda item: -item[1]))
