"""Which chunk, segment and order suit each kind of table: size, rewriting a week, typical reads.

``layout_TABLE`` for each table; needs a TimescaleDB community server in OTC_TEST_TIMESCALE_URL. Each choice is measured
in a database of its own, which ``otc-assets migrate`` lays out with it, on full-size weeks that are all compressed, by
the loader's own functions. The layouts in use are in ``otc_assets.domain.tables``.

Milliseconds are processor time, of the server's session and of this process: a machine that is busy otherwise does
not distort them. The ratio counts indexes, as they are before and after.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

from benchmarks.results import Measured, Row, Table, Value
from benchmarks.servers import Stopwatch, community
from benchmarks.weeks import FIVE_YEARS, newest_weeks, of_week
from otc_assets.domain.concentration import RANKED_FROM_SHARES, RANKED_FROM_TRADES
from otc_assets.domain.table import Layout
from otc_assets.domain.tables import TABLES, hypertables, with_history
from otc_assets.domain.weeks import weeks_up_to
from otc_assets.warehouse import load
from otc_assets.warehouse.server import copy_in, transaction

REVISED_ROWS = 300


@dataclass(frozen=True)
class Case:
    """A table, the choices for it, and how it is read.

    Attributes:
        weeks: full-size weeks to measure on.
        layouts: the choices.
        reads: queries by name; ``:w`` is a week in the middle.
        kind: what of ``otc.retention`` drops it.
    """

    weeks: int
    layouts: list[Layout]
    reads: dict[str, str]
    kind: str = "summaries"


_WEEK_AND_TIER = "week_ending, tier"
_BY_WEEK = "SELECT tier, sum({shares}) FROM otc.{table} WHERE week_ending = :w GROUP BY 1"
_BY_SYMBOL = "SELECT week_ending, sum({shares}) FROM otc.{table} WHERE symbol = :symbol GROUP BY 1"
_BY_VENUE = "SELECT week_ending, tier, {shares} FROM otc.{table} WHERE venue_id = :venue"


def _reads(table: str, shares: str, *queries: str) -> dict[str, str]:
    names = {_BY_WEEK: "read a week", _BY_SYMBOL: "a symbol", _BY_VENUE: "a venue"}
    return {names[query]: query.format(table=table, shares=shares) for query in queries}


CASES = {
    "venue_volume": Case(
        13,
        [
            Layout(7, "symbol", "venue_id, week_ending"),
            Layout(7, "tier, venue_kind", "symbol, venue_id, week_ending"),
            Layout(7, "tier", "symbol, venue_id, week_ending"),
            Layout(7, "tier", "venue_id, symbol, week_ending"),
            Layout(28, _WEEK_AND_TIER, "symbol, venue_id"),
            Layout(28, "tier", "symbol, venue_id, week_ending"),
            Layout(91, _WEEK_AND_TIER, "symbol, venue_id"),
            Layout(91, "symbol", "week_ending, venue_id"),
        ],
        {
            **_reads("venue_volume", "share_volume", _BY_WEEK, _BY_SYMBOL),
            "a venue": "SELECT week_ending, sum(share_volume) FROM otc.venue_volume WHERE venue_id = :venue GROUP BY 1",
        },
        "venue_volume",
    ),
    "published_total": Case(
        13,
        [
            Layout(7, "tier", "total_of, symbol, venue_id"),
            Layout(91, _WEEK_AND_TIER, "total_of, symbol, venue_id"),
            Layout(91, "week_ending, tier, venue_kind", "total_of, symbol, venue_id"),
            Layout(91, "tier", "total_of, symbol, venue_id, week_ending"),
        ],
        _reads("published_total", "share_volume", _BY_WEEK, _BY_SYMBOL),
        "venue_volume",
    ),
    "symbol_summary": Case(
        52,
        [
            Layout(28, _WEEK_AND_TIER, "symbol"),
            Layout(91, _WEEK_AND_TIER, "symbol"),
            Layout(91, "tier", "symbol, week_ending"),
            Layout(91, "symbol", "week_ending"),
            Layout(364, _WEEK_AND_TIER, "symbol"),
            Layout(364, "tier", "symbol, week_ending"),
        ],
        _reads("symbol_summary", "total_volume", _BY_WEEK, _BY_SYMBOL),
    ),
    "symbol_concentration": Case(
        26,
        [
            Layout(91, _WEEK_AND_TIER, "symbol, venue_scope"),
            Layout(91, "week_ending, tier, venue_scope", "symbol"),
            Layout(91, "week_ending, venue_scope", "tier, symbol"),
            Layout(91, "tier", "symbol, venue_scope, week_ending"),
        ],
        {
            "top 100 of a week": "SELECT symbol, hhi_lower, hhi FROM otc.symbol_concentration WHERE week_ending = :w"
            f" AND venue_scope = 'ALL' AND total_volume >= {RANKED_FROM_SHARES}"
            f" AND total_trades >= {RANKED_FROM_TRADES} ORDER BY hhi_lower DESC LIMIT 100",
            **_reads("symbol_concentration", "total_volume", _BY_SYMBOL),
        },
    ),
    "venue_share": Case(
        104,
        [
            Layout(91, _WEEK_AND_TIER, "venue_id"),
            Layout(91, "tier", "venue_id, week_ending"),
            Layout(364, _WEEK_AND_TIER, "venue_id"),
            Layout(364, "tier", "venue_id, week_ending"),
            Layout(364, "venue_id", "tier, week_ending"),
        ],
        _reads("venue_share", "rank", _BY_WEEK, _BY_VENUE),
    ),
    "market_concentration": Case(
        104,
        [Layout(91, _WEEK_AND_TIER, "venue_scope"), Layout(364, "tier", "venue_scope, week_ending")],
        {
            "all weeks": "SELECT week_ending, tier, total_volume FROM otc.market_concentration"
            " WHERE venue_scope = 'ALL'",
        },
    ),
    "venue_volume_revision": Case(
        104,
        [
            Layout(91, _WEEK_AND_TIER, "symbol, venue_id, known_to"),
            Layout(364, "week_ending", "tier, symbol, venue_id, known_to"),
            Layout(364, "tier", "symbol, venue_id, known_to, week_ending"),
        ],
        _reads("venue_volume_revision", "share_volume", _BY_WEEK, _BY_SYMBOL),
        "venue_volume",
    ),
}
#: The last week of a chunk, whatever its length, so that every chunk is full.
LAST = dt.date(2026, 10, 16)


def rows_of(table: str, week: dt.date) -> pl.DataFrame:
    """The week's rows as they are stored."""
    known_from = pl.lit((week + dt.timedelta(weeks=4)).isoformat()).alias("known_from")
    if table == "published_total":
        return of_week(table, week)
    if table == "venue_volume_revision":
        # What a revision of some hundred rows in every week leaves behind.
        return (
            of_week("venue_volume", week)
            .sample(REVISED_ROWS, seed=week.toordinal())
            .with_columns(
                known_from,
                pl.lit((week + dt.timedelta(weeks=12)).isoformat()).alias("known_to"),
                pl.lit("changed").alias("change"),
            )
        )
    return of_week(table, week).with_columns(known_from)


def revised(rows: pl.DataFrame, shares: str) -> pl.DataFrame:
    """``rows`` with other shares in some hundred of them."""
    chosen = pl.int_range(pl.len()) % max(1, rows.height // REVISED_ROWS) == 0
    return rows.with_columns(
        pl.when(chosen & (pl.col(shares) > 1))
        .then(pl.col(shares) - 1)
        .otherwise(pl.col(shares))
        .cast(rows[shares].dtype)
    )


def write(engine: sa.Engine, table: str, week: dt.date, rows: pl.DataFrame) -> None:
    """Makes ``rows`` the week's, as the loader does."""
    with transaction(engine) as connection:
        if table == "venue_volume":
            for (tier,), part in rows.group_by("tier"):
                load.replace_volume(connection, week, str(tier), part)
        else:
            load.replace_week(connection, table, week, rows, "benchmark")


class Bench:
    """A database laid out with one choice, and the clock that runs over it."""

    def __init__(self, engine: sa.Engine, table: str) -> None:
        self.engine, self.table, self.case = engine, table, CASES[table]
        self.weeks = weeks_up_to(LAST, self.case.weeks)
        self.middle = self.weeks[len(self.weeks) // 2]
        with engine.connect() as connection:
            self.watch = Stopwatch(connection)

    def run(self, statement: str, *, keep: bool = True, **values: object) -> None:
        """A statement in a transaction of its own."""
        with self.engine.connect() as connection:
            connection.execute(sa.text("SELECT otc.write_moment()"))
            connection.execute(sa.text(statement), values)
            if keep:
                connection.commit()

    def spent(self, work: Callable[[], object], times: int = 1) -> float:
        """The median processor time of several goes, in milliseconds."""
        taken = []
        for _ in range(times):
            begun = self.watch.processor()
            work()
            taken.append(self.watch.processor() - begun)
        return statistics.median(taken)

    def compress(self) -> None:
        """Compresses what is not."""
        self.run(f"SELECT count(compress_chunk(c, true)) FROM show_chunks('otc.{self.table}') c")

    def size(self) -> dict[str, Value]:
        """Loads and compresses all weeks."""
        with transaction(self.engine) as connection:
            for week in self.weeks:
                copy_in(connection, f"otc.{self.table}", rows_of(self.table, week))
        taken = self.spent(self.compress)
        self.run(f"ANALYZE otc.{self.table}")
        with self.engine.connect() as connection:
            statement = sa.text("SELECT * FROM hypertable_compression_stats(CAST(:t AS regclass))")
            found = connection.execute(statement, {"t": f"otc.{self.table}"}).one()
        before, after = found.before_compression_total_bytes, found.after_compression_total_bytes
        return {
            "ratio": f"{before / after:.1f}x",
            "MB per week": after / len(self.weeks) / 1e6,
            "compress": taken / len(self.weeks),
        }

    def read(self) -> dict[str, Value]:
        """The case's queries."""
        values = {"w": self.middle, "symbol": busy_symbol(), "venue": busy_venue()}
        return {
            name: self.spent(lambda q=query: self.run(q, **{k: v for k, v in values.items() if f":{k}" in q}), 5)
            for name, query in self.case.reads.items()
        }

    def rewrite(self) -> dict[str, Value]:
        """Revises, reloads and deletes a compressed week."""
        table, week = self.table, self.middle
        rows = rows_of(table, week)
        result: dict[str, Value] = {}
        if table in with_history():
            ours = rows.drop("known_from")
            changed = revised(ours, str(TABLES[table].volume))
            result["same again"] = self.spent(lambda: write(self.engine, table, week, ours))
            result["revise"] = self.spent(lambda: write(self.engine, table, week, changed))
            result["recompress"] = self.spent(self.compress)

        def reload() -> None:
            with transaction(self.engine) as connection:
                connection.execute(sa.text("SELECT otc.write_moment()"))
                connection.execute(sa.text(f"DELETE FROM otc.{table} WHERE week_ending = :w"), {"w": week})
                copy_in(connection, f"otc.{table}", rows)

        result["reload"] = self.spent(reload)
        self.compress()
        delete = f"DELETE FROM otc.{table} WHERE week_ending = :w"
        result["delete"] = self.spent(lambda: self.run(delete, keep=False, w=week), 3)
        return result

    def drop(self) -> dict[str, Value]:
        """What retention takes for the oldest week."""
        kept = 4
        self.run("UPDATE otc.retention SET keep_weeks = NULL")
        self.run("UPDATE otc.retention SET keep_weeks = :kept WHERE what = :what", kept=kept, what=self.case.kind)
        today = self.weeks[0] + dt.timedelta(weeks=kept + 1)
        return {"retention": self.spent(lambda: self.run("SELECT * FROM otc.apply_retention(:today)", today=today))}

    def plan(self) -> dict[str, Value]:
        """Planning with as many chunks as five years have: a row in each older week is enough."""
        with transaction(self.engine) as connection:
            for week in weeks_up_to(self.weeks[0], FIVE_YEARS - len(self.weeks) + 1)[:-1]:
                row = rows_of(self.table, self.middle).head(1).with_columns(pl.lit(week).alias("week_ending"))
                if row.height:
                    copy_in(connection, f"otc.{self.table}", row)
        with self.engine.connect() as connection:
            chunks = connection.scalar(sa.text(f"SELECT count(*) FROM show_chunks('otc.{self.table}')"))
            query = sa.text(f"EXPLAIN (SUMMARY, FORMAT JSON) SELECT count(*) FROM otc.{self.table}")
            planning = [connection.execute(query).scalar_one()[0]["Planning Time"] for _ in range(5)]
        return {"chunks in 5 years": chunks, "planning": statistics.median(planning)}


def lay_out(table: str, layout: Layout) -> None:
    """Replaces the layout of a table, or of its revisions, in the registry."""
    name = table.removesuffix("_revision")
    which = "layout" if name == table else "revisions"
    TABLES[name] = dataclasses.replace(TABLES[name], **{which: layout})


def measure(table: str, layout: Layout, *, in_use: bool) -> Row:
    """One choice's row of the table that is printed; in bold if it is the one in use."""
    lay_out(table, layout)
    with community("bench_layout") as engine:
        bench = Bench(engine, table)
        values = {"segment by": layout.segment_by, "order by": layout.order_by}
        values |= {**bench.size(), **bench.read(), **bench.rewrite(), **bench.drop(), **bench.plan()}
    return Row(f"**{layout.chunk}**" if in_use else str(layout.chunk), values)


def busy_symbol() -> str:
    """A symbol that trades much."""
    summary = of_week("symbol_summary", newest_weeks(1)[0])
    return str(summary.sort("total_volume", descending=True)["symbol"][3])


def busy_venue() -> str:
    """A venue of middling rank."""
    share = of_week("venue_share", newest_weeks(1)[0])
    return str(share.filter(pl.col("rank") == 10)["venue_id"][0])


def run(table: str) -> Measured:
    """Each choice for a table; the one in use comes back at the end."""
    current = hypertables()[table]
    rows = []
    for layout in CASES[table].layouts:
        try:
            rows.append(measure(table, layout, in_use=layout == current))
        finally:
            lay_out(table, current)
    return Measured({"layout": Table("days", rows)})
