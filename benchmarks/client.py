"""The Python client beside bare SQL: five years of one symbol, from plain PostgreSQL.

Both read the same rows of an embedded server, in turn: the client into a Polars frame,
psycopg into tuples. One full-size week is reduced to every twentieth symbol and the one that is read, and is loaded as
each of 260 weeks: what a symbol's query reads does not depend on the others. It needs 2 GB of disk and a few minutes.
"""

from __future__ import annotations

import datetime as dt
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psycopg

from benchmarks.layout import busy_symbol, rows_of
from benchmarks.results import Measured, Row, Table
from benchmarks.servers import embedded, prepared
from benchmarks.weeks import FIVE_YEARS, newest_weeks
from otc_assets.client import Client, select
from otc_assets.postgres import session_options
from otc_assets.warehouse.server import copy_in, transaction

_TIMES = 15
_ONE_IN = 20
_TABLES = {
    "venue_volume": "venue_volume",
    "summary": "symbol_summary",
    "rolling": "symbol_rolling",
    "concentration": "symbol_concentration",
}


def fill(url: str, symbol: str, weeks: list[dt.date]) -> None:
    """Loads the reduced week as each of the weeks."""
    engine = prepared(url)
    for table in _TABLES.values():
        week = rows_of(table, weeks[-1])
        rows = week.filter((pl.col("symbol") == symbol) | (pl.col("symbol").hash(0) % _ONE_IN == 0))
        with transaction(engine) as connection:
            copy_in(connection, f"otc.{table}", rows)
            others = ", ".join(rows.columns[1:])
            connection.exec_driver_sql(
                f"INSERT INTO otc.{table} (week_ending, {others})"
                f" SELECT week_ending - 7 * n, {others} FROM otc.{table}, generate_series(1, %s) n",
                (len(weeks) - 1,),
            )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    engine.dispose()


def processor(session: int) -> float:
    """Milliseconds of processor time of this process and of a session of the server: a busy machine distorts clocks."""
    return time.process_time() * 1000 + int(Path(f"/proc/{session}/schedstat").read_text().split()[0]) / 1e6


def timed(session: int, work: Callable[[], list[tuple[object, ...]]]) -> tuple[list[tuple[object, ...]], float, float]:
    """What ``work`` returns, and its milliseconds: by the clock, and of the processor."""
    spent, begun = processor(session), time.perf_counter()
    found = work()
    return found, (time.perf_counter() - begun) * 1000, processor(session) - spent


def measured(url: str, symbol: str) -> list[Row]:
    """Each verb's five years of the symbol, by the client and by bare SQL in turn."""
    rows = []
    with Client(url) as otc, psycopg.connect(url, autocommit=True, options=session_options()) as bare:
        ours = otc.sql("SELECT pg_backend_pid() AS pid").item()
        for verb in _TABLES:
            filters = {"symbols": symbol}
            text, params, _ = select(verb, filters).statement()
            clock: dict[str, list[float]] = {"client": [], "bare": []}
            spent: dict[str, list[float]] = {"client": [], "bare": []}
            for number in range(_TIMES + 1):
                frames: list[pl.DataFrame] = []
                _, *of_client = timed(ours, lambda: frames.append(otc.read(verb, filters)) or [])  # noqa: B023
                found, *of_sql = timed(bare.info.backend_pid, lambda: bare.execute(text, params).fetchall())  # noqa: B023
                assert frames[0].rows() == found
                if number:  # the first fills caches
                    for name, (by_clock, of_processor) in (("client", of_client), ("bare", of_sql)):
                        clock[name].append(by_clock)
                        spent[name].append(of_processor)
            client, sql, client_cpu, sql_cpu = (
                statistics.median(times) for times in (*clock.values(), *spent.values())
            )
            row = {"rows": len(found), "client ms": client, "bare SQL ms": sql}
            row |= {"client CPU ms": client_cpu, "bare SQL CPU ms": sql_cpu}
            rows.append(Row(verb, row, client_cpu / sql_cpu))
    return rows


def run() -> Measured:
    """Fills a server, and measures."""
    weeks, symbol = newest_weeks(FIVE_YEARS), busy_symbol()
    with embedded(durable=False) as server:
        fill(server.url, symbol, weeks)
        return Measured({"reads": Table("verb", measured(server.url, symbol))})
