"""The parts of ``peers`` that compute and read: figures beside aggregate SQL, the client beside DuckDB over Parquet.

A year has the same full-size week 52 times. Parquet files are those of the export, all of full size. PostgreSQL has the
newest week as a whole, and of the others every twentieth symbol and the one that is read: what a symbol's query reads
there, by an index, does not depend on the others.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from benchmarks.load import as_text, bare_copy, empty
from benchmarks.publications import WEEK
from benchmarks.results import Row, Table
from benchmarks.servers import in_turn
from otc_assets.client import Client
from otc_assets.domain.parquet import in_file_order, to_parquet
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import weeks_up_to
from otc_assets.pipeline.figures import figure_rows
from otc_assets.warehouse.load import replace_week
from otc_assets.warehouse.read import week_rows
from otc_assets.warehouse.server import transaction

if TYPE_CHECKING:
    from benchmarks.peers import Databases

_WEEKS, _TIMES, _ONE_IN = 52, 7, 20
_FIGURES = ("symbol_summary", "venue_share", "symbol_concentration", "market_concentration")

#: The sums of each figure that a few lines of SQL have: no bounds of the index, no ranks by kind, no notional.
_SUMS = {
    "symbol_summary": """
        INSERT INTO peer.symbol_summary
        SELECT tier, symbol, sum(share_volume), sum(trade_count), sum(notional), count(DISTINCT venue_id)
        FROM otc.venue_volume WHERE week_ending = %(week)s GROUP BY 1, 2
    """,
    "venue_share": """
        INSERT INTO peer.venue_share
        SELECT tier, venue_id, sum(share_volume), sum(trade_count), count(DISTINCT symbol),
            100 * sum(share_volume) / sum(sum(share_volume)) OVER (PARTITION BY tier)
        FROM otc.venue_volume WHERE week_ending = %(week)s GROUP BY 1, 2
    """,
    "symbol_concentration": """
        INSERT INTO peer.symbol_concentration
        SELECT tier, symbol, 10000 * sum(shares * shares) / sum(shares) ^ 2, max(shares) / sum(shares)
        FROM (
            SELECT tier, symbol, venue_id, sum(share_volume) AS shares
            FROM otc.venue_volume WHERE week_ending = %(week)s GROUP BY 1, 2, 3
        ) AS of_venue GROUP BY 1, 2 HAVING sum(shares) > 0
    """,
    "market_concentration": """
        INSERT INTO peer.market_concentration
        SELECT tier, 10000 * sum(shares * shares) / sum(shares) ^ 2, max(shares) / sum(shares)
        FROM (
            SELECT tier, venue_id, sum(share_volume) AS shares
            FROM otc.venue_volume WHERE week_ending = %(week)s GROUP BY 1, 2
        ) AS of_venue GROUP BY 1
    """,
}
_TABLES = """
    CREATE TABLE peer.symbol_summary (tier text, symbol text, shares numeric, trades numeric, notional numeric,
        venues bigint, PRIMARY KEY (tier, symbol));
    CREATE TABLE peer.venue_share (tier text, venue_id text, shares numeric, trades numeric, symbols bigint,
        share numeric, PRIMARY KEY (tier, venue_id));
    CREATE TABLE peer.symbol_concentration (tier text, symbol text, hhi numeric, top numeric,
        PRIMARY KEY (tier, symbol));
    CREATE TABLE peer.market_concentration (tier text, hhi numeric, top numeric, PRIMARY KEY (tier))
"""
_SHARES = {"otc": "total_volume", "peer": "shares"}
_BY_VENUE = "SELECT tier, venue_id, sum(share_volume) AS shares FROM {} WHERE week_ending = '{}' GROUP BY 1, 2"


def tables(databases: Databases, volume: pl.DataFrame) -> dict[str, Table]:
    """Figures, and reading.

    Args:
        databases: where.
        volume: of WEEK, all tiers.
    """
    empty(databases.engine)
    bare_copy(databases.engine, as_text([volume]))
    databases.plain.execute("ANALYZE otc.venue_volume")
    databases.plain.commit()
    return {"figures": figures(databases), "reading": reading(databases, volume)}


def figures(databases: Databases) -> Table:
    """Each of four figures of a full-size week, read from the database and stored in it."""
    databases.plain.execute(_TABLES.encode())
    databases.plain.commit()

    def clear() -> None:
        names = ", ".join(f"otc.{name}, peer.{name}" for name in _FIGURES)
        databases.plain.execute(f"TRUNCATE {names}".encode())
        databases.plain.commit()

    def ours(name: str) -> None:
        figure = TABLES[name]
        assert isinstance(figure, Figure)
        with transaction(databases.engine) as connection:
            replace_week(connection, name, WEEK, figure_rows(connection, figure, WEEK), "benchmark")

    def sums(name: str) -> None:
        databases.plain.execute(_SUMS[name].encode(), {"week": WEEK})
        databases.plain.commit()

    rows = []
    for name in _FIGURES:
        works = {"ours": (lambda n=name: ours(n), 3), "sql": (lambda n=name: sums(n), 3)}
        mine, sql = in_turn(databases.server.processor, works, clear).values()
        found = {"ours CPU ms": mine, "aggregate SQL CPU ms": sql, "our columns": len(TABLES[name].schema)}
        rows.append(Row(name, found, sql / mine, higher_is_better=True))
    clear()
    for name in ("symbol_summary", "venue_share"):
        ours(name)
        sums(name)
        mine, theirs = (f"(SELECT (count(*), sum({volume})) FROM {table}.{name})" for table, volume in _SHARES.items())
        assert databases.plain.execute(f"SELECT {mine} = {theirs}".encode()).fetchone() == (True,), name
    return Table("figure", rows)


def reading(databases: Databases, volume: pl.DataFrame) -> Table:
    """The same rows by the client from PostgreSQL, and by DuckDB from the files of the export."""
    symbol = str(volume.group_by("symbol").agg(pl.len()).sort("len", "symbol", descending=True)["symbol"][3])
    fill(databases, symbol)
    with tempfile.TemporaryDirectory() as folder, Client(databases.url) as otc, duckdb.connect() as lake:
        for table in ("venue_volume", "venue_share"):
            export(databases, Path(folder), table)
        files = f"read_parquet('{folder}/{{}}/*/part.parquet', hive_partitioning = true)"
        volume_files, share_files = files.format("venue_volume"), files.format("venue_share")
        works: dict[str, tuple[Callable[[], pl.DataFrame], Callable[[], pl.DataFrame]]] = {
            "a symbol's year by venue, all columns": (
                lambda: otc.read("venue_volume", {"symbols": symbol}),
                lambda: lake.sql(f"SELECT * FROM {volume_files} WHERE symbol = ?", params=[symbol]).pl(),
            ),
            "a week by venue, summed": (
                lambda: otc.sql(_BY_VENUE.format("otc.venue_volume", WEEK)),
                lambda: lake.sql(_BY_VENUE.format(volume_files, WEEK)).pl(),
            ),
            "a week by venue, as a figure": (
                lambda: otc.read("shares", {}, weeks=str(WEEK)),
                lambda: lake.sql(f"SELECT * FROM {share_files} WHERE week_ending = '{WEEK}'").pl(),
            ),
        }
        rows = []
        for name, (ours, theirs) in works.items():
            mine, other = ours(), theirs()
            assert mine.height == other.height > 0, name
            shares = next(c for c in ("share_volume", "shares", "total_volume") if c in mine.columns)
            exact = pl.Decimal(38, 6)
            assert mine[shares].cast(exact).sum() == other[shares].cast(exact).sum(), name
            spent = in_turn(databases.server.processor, {"client": (ours, _TIMES), "DuckDB": (theirs, _TIMES)})
            found = {"rows": mine.height, "client CPU ms": spent["client"], "DuckDB CPU ms": spent["DuckDB"]}
            rows.append(Row(name, found, spent["DuckDB"] / spent["client"], higher_is_better=True))
    return Table("read", rows)


def fill(databases: Databases, symbol: str) -> None:
    """The year before WEEK, reduced."""
    columns = [name for name in (*TABLES["venue_volume"].schema, "known_from") if name != "week_ending"]
    names = ", ".join(columns)
    databases.plain.execute(
        f"INSERT INTO otc.venue_volume (week_ending, {names}) SELECT week_ending - 7 * n, {names}"
        " FROM otc.venue_volume, generate_series(1, %(weeks)s) n"
        f" WHERE symbol = %(symbol)s OR abs(hashtext(symbol)) %% {_ONE_IN} = 0".encode(),
        {"weeks": _WEEKS - 1, "symbol": symbol},
    )
    databases.plain.commit()
    databases.plain.autocommit = True
    databases.plain.execute("VACUUM ANALYZE otc.venue_volume, otc.venue_share")
    databases.plain.autocommit = False


def export(databases: Databases, folder: Path, table: str) -> None:
    """A file of the week, which is that of each week: the week is not in it."""
    with transaction(databases.engine) as connection:
        content = to_parquet(in_file_order(TABLES[table], week_rows(connection, table, [WEEK])))
    first: Path | None = None
    for week in weeks_up_to(WEEK, _WEEKS):
        path = folder / table / f"week_ending={week}" / "part.parquet"
        path.parent.mkdir(parents=True)
        if first:
            os.link(first, path)
        else:
            path.write_bytes(content)
            first = path
