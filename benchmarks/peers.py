"""Peers in one run: what others would use for the same work, and tools that do only a part of it.

Each loads the same publications, and a revision of them, computes sums, and reads. Milliseconds are processor time of
the client and of the server's sessions, the least of several in turn. ``peers_week`` does the same
loads with the whole week.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import polars as pl
import psycopg
import sqlalchemy as sa

from benchmarks import others, peers_reading
from benchmarks.layout import REVISED_ROWS
from benchmarks.load import as_text, bare_copy, empty
from benchmarks.publications import WEEK, whole_week
from benchmarks.results import Measured, NotMeasured, Row, Table
from benchmarks.servers import WholeServer, embedded, in_turn, prepared
from otc_assets.domain.normalize import normalize
from otc_assets.domain.parsing import parse
from otc_assets.domain.weeks import TIERS, Tier
from otc_assets.warehouse.load import replace_volume
from otc_assets.warehouse.server import transaction

#: How much faster than the complete peers we want to be.
_WANTED = 5
Publications = Mapping[Tier, bytes]
Works = dict[str, tuple[Callable[[], object], int]]


def revised(publications: Publications) -> dict[Tier, bytes]:
    """The publications with one share more in 300 of their rows of venues, evenly spread."""
    total = sum(content.count(b"_SMBL_FIRM|") for content in publications.values())
    number, found = itertools.count(), {}
    for tier, content in publications.items():
        lines = content.splitlines(keepends=True)
        at = lines[0].split(b"|").index(b"totalWeeklyShareQuantity")
        for position, line in enumerate(lines):
            if b"_SMBL_FIRM|" in line and next(number) % (total // REVISED_ROWS) == 0:
                cells = line.split(b"|")
                cells[at] = f"{Decimal(cells[at].decode()) + 1}".encode()
                lines[position] = b"|".join(cells)
        found[tier] = b"".join(lines)
    return found


class Databases:
    """A server with our tables and those of the peers, and who loads into them."""

    def __init__(self, engine: sa.Engine, publications: Publications) -> None:
        self.engine, self.publications = engine, publications
        with engine.begin() as connection:
            connection.exec_driver_sql(others.TABLE)
            self.server = WholeServer(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        self.url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self.plain = psycopg.connect(self.url)

    def empty(self) -> None:
        """No rows, neither ours nor theirs."""
        empty(self.engine)
        with self.engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE peer.volume")

    def ours(self, publications: Publications) -> None:
        """Parses, normalizes and loads, as an asset does."""
        with transaction(self.engine) as connection:
            for tier, content in publications.items():
                made = normalize(parse(content, name="benchmark"), week_ending=WEEK, tier=tier)
                replace_volume(connection, WEEK, tier.name, made.volume)

    def complete(self) -> dict[str, Callable[[Publications], None]]:
        """The peers that do the same work."""
        return {
            "plain design": lambda given: others.plain_design(self.plain, given.values()),
            "pandas": lambda given: others.with_pandas(self.engine, given.values()),
        }

    def sums(self, table: str, columns: str = "share_volume, trade_count, notional") -> tuple[object, ...]:
        """What loads are compared by."""
        shares, trades, value = columns.split(", ")
        with self.engine.connect() as connection:
            query = f"SELECT count(*), sum({shares}), sum({trades}), sum({value}::numeric(38, 2)) FROM {table}"
            return tuple(connection.exec_driver_sql(query).one())


def loads(databases: Databases, often: int) -> tuple[list[Row], list[Row], dict[str, str], list[str]]:
    """A first load and a revision by each, the versions of peers, and what is missing.

    Args:
        databases: where.
        often: how often the fast ones run.
    """
    first = databases.publications
    second = revised(first)
    text = as_text(normalize(parse(c, name="b"), week_ending=WEEK, tier=t).volume for t, c in first.items())
    works: Works = {
        "ours": (lambda: databases.ours(first), often),
        "bare polars.read_csv: reads only": (lambda: [others.bare_read(content) for content in first.values()], often),
        "bare COPY: writes only": (lambda: bare_copy(databases.engine, text), often),
    }
    clock = databases.server.processor
    databases.ours(first)  # connects
    loaded = in_turn(clock, works, databases.empty)
    databases.empty()
    databases.ours(first)
    stored = databases.sums("otc.venue_volume")
    states = itertools.cycle([second, first])
    changed = in_turn(clock, {"ours": (lambda: databases.ours(next(states)), often)})
    databases.ours(second)
    wanted = databases.sums("otc.venue_volume")
    for name, load in databases.complete().items():
        databases.empty()
        loaded |= in_turn(clock, {name: (partial(load, first), 1)})
        assert databases.sums("peer.volume") == stored, name
        changed |= in_turn(clock, {name: (partial(load, second), 1)})
        assert databases.sums("peer.volume") == wanted, name
    versions, missing = {}, []
    try:
        with tempfile.TemporaryDirectory() as folder, others.dlt(databases.url, Path(folder)) as dlt:
            versions["dlt"] = dlt.version
            for name, how in (("dlt, merge of rows", "rows"), ("dlt, merge of Arrow tables", "arrow")):
                # A few rows before, so that the tables are there.
                few = {tier: b"".join(content.splitlines(keepends=True)[:3000]) for tier, content in first.items()}
                _, loaded[name], changed[name] = (
                    with_dlt(databases, dlt, how, Path(folder), given) for given in (few, first, second)
                )
                columns = "total_weekly_share_quantity, total_weekly_trade_count, total_notional_sum"
                assert databases.sums(f"peer_dlt.volume_{how}", columns) == wanted, name
    except NotMeasured as reason:
        missing.append(str(reason))
    return compared(loaded), compared(changed), versions, missing


def with_dlt(databases: Databases, dlt: others.Dlt, how: str, folder: Path, given: Publications) -> float:
    """Loads publications with dlt. Returns the milliseconds of its process and of the server."""
    files = []
    for tier, content in given.items():
        files.append(folder / f"{tier.slug}.csv")
        files[-1].write_bytes(content)
    before = databases.server.server()
    spent = dlt.load(files, how)
    return spent + databases.server.server() - before


def compared(spent: dict[str, float]) -> list[Row]:
    """A row of each, with its time divided by ours; those that do only a part of the work have no bound."""
    return [
        Row(
            name,
            {"CPU ms": taken},
            None if name == "ours" else taken / spent["ours"],
            least=None if name == "ours" or ":" in name else _WANTED,
            higher_is_better=True,
        )
        for name, taken in spent.items()
    ]


@contextmanager
def databases_of(publications: Publications) -> Iterator[Databases]:
    """A new server for these publications."""
    with embedded(durable=False) as server:  # nor autovacuum, which would count at random
        found = Databases(prepared(server.url), publications)
        yield found
        found.plain.close()
        found.engine.dispose()


def run(what: str = "tier") -> Measured:
    """Tier 1 by each, and figures and reading; with ``what`` 'week' only the loads, of the whole week."""
    week = whole_week()
    if what == "week":
        with databases_of(week) as databases:
            first, second, versions, missing = loads(databases, 2)
        return Measured({"load": Table("way", first), "revision": Table("way", second)}, versions, missing)
    with databases_of({TIERS[0]: week[TIERS[0]]}) as databases:
        first, second, versions, missing = loads(databases, 4)
        frames = [normalize(parse(c, name="b"), week_ending=WEEK, tier=t).volume for t, c in week.items()]
        tables = {"load": Table("way", first), "revision": Table("way", second)}
        tables |= peers_reading.tables(databases, pl.concat(frames))
    return Measured(tables, versions, missing)
