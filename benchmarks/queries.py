"""An analyst's queries on five years of full-size weeks: a TimescaleDB community server beside plain PostgreSQL.

Needs a community server in OTC_TEST_TIMESCALE_URL. Plain PostgreSQL is an embedded server, started here. Both get the
same rows in the same run, by COPY, everything older than twelve weeks is compressed on the one that can, and each query
runs on both in turn. Five years take 30 GB of disk and half an hour.

Left out is what none of the queries reads: verbatim rows, FINRA's totals, six-week figures; how they compress is in
``benchmarks.layout``. Some hundred rows of every week were revised two months after it was published.
"""

from __future__ import annotations

import datetime as dt
import itertools
import statistics
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import sqlalchemy as sa

from benchmarks.layout import busy_symbol, busy_venue, rows_of
from benchmarks.results import Measured, Row, Table, Value
from benchmarks.servers import Stopwatch, community, description, embedded, prepared
from benchmarks.weeks import FIVE_YEARS, newest_weeks
from otc_assets.domain.concentration import RANKED_FROM_SHARES, RANKED_FROM_TRADES
from otc_assets.local.embedded import _SETTINGS
from otc_assets.warehouse.server import autocommit, transaction
from otc_assets.warehouse.timescale import capabilities
from otc_assets.warehouse.timescale.aggregates import refresh_aggregates
from otc_assets.warehouse.timescale.hypertables import Chunks, chunks
from otc_assets.warehouse.timescale.hypertables import sizes as table_sizes

TABLES = (
    "venue_volume",
    "venue_volume_revision",
    "symbol_summary",
    "venue_share",
    "symbol_concentration",
    "market_concentration",
)
COMPRESSED_AFTER = 12
_TIMES = 9

QUERIES = {
    "a symbol's two years by venue": """
        SELECT week_ending, venue_id, sum(share_volume), sum(trade_count) FROM otc.venue_volume
        WHERE symbol = :symbol AND week_ending > CAST(:newest AS date) - 728 GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
    """,
    "those two years, one tier": """
        SELECT week_ending, venue_id, sum(share_volume), sum(trade_count) FROM otc.venue_volume
        WHERE symbol = :symbol AND tier = 'NMS Tier 1' AND week_ending > CAST(:newest AS date) - 728
        GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
    """,
    "a symbol's last quarter by venue": """
        SELECT week_ending, venue_id, sum(share_volume), sum(trade_count) FROM otc.venue_volume
        WHERE symbol = :symbol AND week_ending > CAST(:newest AS date) - 91 GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
    """,
    "a symbol's five years": """
        SELECT week_ending, total_volume, venue_count, top_venue FROM otc.symbol_summary
        WHERE symbol = :symbol ORDER BY week_ending, tier
    """,
    "those five years, every column": """
        SELECT * FROM otc.symbol_summary WHERE symbol = :symbol ORDER BY week_ending, tier
    """,
    "those five years, from weekly_summary_agg": """
        SELECT week, total_volume, total_trades, venue_count FROM otc.weekly_summary_agg
        WHERE symbol = :symbol ORDER BY week, tier
    """,
    "a week's top 100 by HHI": f"""
        SELECT tier, symbol, hhi_lower, hhi, effective_venues, total_volume FROM otc.symbol_concentration
        WHERE week_ending = :week AND venue_scope = 'ALL'
          AND total_volume >= {RANKED_FROM_SHARES} AND total_trades >= {RANKED_FROM_TRADES}
        ORDER BY hhi_lower DESC, tier, symbol LIMIT 100
    """,
    "a venue's rank over five years": """
        SELECT week_ending, tier, rank, market_share_pct FROM otc.venue_share
        WHERE venue_id = :venue ORDER BY week_ending, tier
    """,
    "a week by venue and tier": """
        SELECT tier, venue_id, sum(share_volume), count(DISTINCT symbol) FROM otc.venue_volume
        WHERE week_ending = :week GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
    """,
    "the market, week by week": """
        SELECT week_ending, tier, total_volume, hhi FROM otc.market_concentration
        WHERE venue_scope = 'ALL' ORDER BY week_ending, tier
    """,
    "the market, summed from weekly_summary_agg": """
        SELECT week, sum(total_volume), sum(total_trades) FROM otc.weekly_summary_agg GROUP BY week ORDER BY week
    """,
    "a symbol's months": """
        SELECT month, tier, total_volume, weeks FROM otc.monthly_summary_agg WHERE symbol = :symbol ORDER BY month, tier
    """,
    "a week by venue, as of a month-end": """
        SELECT venue_id, sum(share_volume) FROM otc.venue_volume_as_of(:moment)
        WHERE week_ending = :week GROUP BY 1 ORDER BY 2 DESC, 1
    """,
    "a symbol's year, as of a month-end": """
        SELECT week_ending, sum(share_volume) FROM otc.venue_volume_as_of(:moment)
        WHERE symbol = :symbol AND week_ending BETWEEN CAST(:week AS date) - 364 AND :week GROUP BY 1 ORDER BY 1
    """,
    "that year, one tier": """
        SELECT week_ending, sum(share_volume) FROM otc.venue_volume_as_of(:moment)
        WHERE symbol = :symbol AND tier = 'NMS Tier 1' AND week_ending BETWEEN CAST(:week AS date) - 364 AND :week
        GROUP BY 1 ORDER BY 1
    """,
}

_SECONDARY = sa.text("""
    SELECT i.indexname, i.indexdef FROM pg_indexes i
    WHERE i.schemaname = 'otc' AND i.tablename = ANY(:tables)
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = i.indexname)
""")


def rows_with_history(week: dt.date) -> dict[str, pl.DataFrame]:
    """The week's rows by table: a sample of them was revised."""
    frames = {table: rows_of(table, week) for table in TABLES}
    revision, key = frames["venue_volume_revision"], ["tier", "symbol", "issue_name", "product_type", "venue_id"]
    since = revision.select(*key, pl.col("known_to").alias("revised"))
    frames["venue_volume"] = (
        frames["venue_volume"]
        .join(since, on=key, how="left", maintain_order="left")
        .with_columns(pl.coalesce("revised", "known_from").alias("known_from"))
        .drop("revised")
    )
    return frames


def as_text(week: dt.date) -> dict[str, tuple[list[str], bytes]]:
    """The week as COPY takes it, by table: columns and CSV."""
    return {
        table: (rows.columns, rows.write_csv(include_header=False, quote_style="non_numeric").encode())
        for table, rows in rows_with_history(week).items()
    }


def fill(engines: dict[str, sa.Engine], weeks: list[dt.date]) -> None:
    """Loads the weeks into every server at once, oldest first, and compresses where the server can."""
    secondary: dict[str, list[str]] = {}
    for name, engine in engines.items():
        with transaction(engine) as connection:
            found = connection.execute(_SECONDARY, {"tables": list(TABLES)}).all()
            for index, _ in found:
                connection.exec_driver_sql(f"DROP INDEX otc.{index}")
            secondary[name] = [says for _, says in found]
    cutoff = weeks[-1] - dt.timedelta(weeks=COMPRESSED_AFTER)

    def load(engine: sa.Engine, week: dt.date, parts: dict[str, tuple[list[str], bytes]]) -> None:
        with transaction(engine) as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            for table, (columns, content) in parts.items():
                statement = f"COPY otc.{table} ({', '.join(columns)}) FROM STDIN (FORMAT csv)"
                with driver.cursor() as cursor, cursor.copy(statement) as copy:
                    copy.write(content)
        if capabilities.of(engine).community:
            compress(engine, min(week, cutoff))

    with ThreadPoolExecutor(len(engines)) as pool:
        ahead = ThreadPoolExecutor(1)
        coming = ahead.submit(as_text, weeks[0])
        for number, week in enumerate(weeks, 1):
            parts = coming.result()
            if number < len(weeks):
                coming = ahead.submit(as_text, weeks[number])
            list(pool.map(load, engines.values(), itertools.repeat(week), itertools.repeat(parts)))
            if number % 26 == 0:
                print(f"  {number} of {len(weeks)} weeks are loaded", flush=True)
        list(pool.map(lambda name: finish(engines[name], secondary[name]), engines))


def compress(engine: sa.Engine, before: dt.date) -> None:
    """Compresses the chunks that end before the day."""
    with autocommit(engine) as connection:
        for table in TABLES:
            connection.exec_driver_sql(
                f"SELECT compress_chunk(c, true) FROM show_chunks('otc.{table}', older_than => DATE '{before}') c"
            )


def finish(engine: sa.Engine, indexes: list[str]) -> None:
    """Indexes, aggregates, statistics."""
    with autocommit(engine) as connection:
        for says in indexes:
            connection.exec_driver_sql(says)
        if capabilities.of(engine).community:
            refresh_aggregates(connection)
        connection.exec_driver_sql("VACUUM ANALYZE")


def sizes(engines: dict[str, sa.Engine]) -> list[Row]:
    """What each table takes on each server."""
    found: dict[str, dict[str, int]] = {}
    compressed: dict[str, Chunks] = {}
    for name, engine in engines.items():
        with engine.connect() as connection:

            def ask(query: str, connection: sa.Connection = connection) -> list[dict[str, object]]:
                return [dict(row) for row in connection.execute(sa.text(query)).mappings()]

            found[name] = {table: size for table, size in table_sizes(ask).items() if table in TABLES}
            compressed |= {of.table: of for of in chunks(ask)}
    rows = []
    for table in (*TABLES, "all"):
        plain, ours = (sum(sizes.values()) if table == "all" else sizes[table] for sizes in found.values())
        row: dict[str, Value] = {"plain MB": plain / 1e6, "community MB": ours / 1e6, "smaller": f"{plain / ours:.1f}x"}
        if of := compressed.get(table):
            row |= {"chunks": of.chunks, "compressed": of.compressed_chunks}
            row |= {"ratio of those": f"{of.ratio:.1f}x" if of.ratio else ""}
        rows.append(Row(table, row))
    return rows


def measured(engines: dict[str, sa.Engine], weeks: list[dt.date]) -> list[Row]:
    """Each query on both servers in turn."""
    week = weeks[len(weeks) // 2]
    # By then the week is known, and not yet revised.
    month_end = dt.datetime.combine((week + dt.timedelta(weeks=8)).replace(day=1), dt.time(), dt.UTC)
    values = {
        "symbol": busy_symbol(),
        "venue": busy_venue(),
        "newest": weeks[-1],
        "week": week,
        "moment": min(month_end, dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)),
    }
    rows = []
    connections = {name: engine.connect() for name, engine in engines.items()}
    watches = {name: Stopwatch(connection) for name, connection in connections.items()}
    for name, text in QUERIES.items():
        wanted = {key: value for key, value in values.items() if f":{key}" in text}
        query = sa.text(text)
        spent: dict[str, list[float]] = {server: [] for server in engines}
        answers = {server: connections[server].execute(query, wanted).all() for server in engines}
        for _ in range(_TIMES):
            for server, connection in connections.items():
                begun = watches[server].processor()
                connection.execute(query, wanted).all()
                spent[server].append(watches[server].processor() - begun)
        same = answers["plain"] == answers["community"]
        plain, ours = (statistics.median(spent[server]) for server in ("plain", "community"))
        row: dict[str, Value] = {"rows": len(answers["plain"]) if same else "THEY DIFFER"}
        row |= {"plain CPU ms": plain, "community CPU ms": ours}
        lines = connections["community"].execute(sa.text(f"EXPLAIN (ANALYZE, SUMMARY) {text}"), wanted).scalars()
        row["community planning ms"] = float(next(x for x in lines if x.startswith("Planning Time")).split()[2])
        rows.append(Row(name, row, ours / plain))
    for connection in connections.values():
        connection.close()
    return rows


def run() -> Measured:
    """Both servers, sizes, queries."""
    weeks = newest_weeks(FIVE_YEARS)
    # Disk is what is short here; nothing is written while we measure.
    _SETTINGS["max_wal_size"] = "1GB"
    with community("bench_queries") as ours, embedded(durable=False) as server:
        engines = {"plain": prepared(server.url), "community": ours}
        for engine in engines.values():
            print(description(engine))
        print(f"loading {len(weeks)} weeks into both", flush=True)
        fill(engines, weeks)
        tables = {"sizes": Table("table", sizes(engines)), "queries": Table("query", measured(engines, weeks))}
        engines["plain"].dispose()
    return Measured(tables)
