"""Loading one full-size week of venue volume beside a bare COPY of the same rows into the same table.

And what comes after the first load: the same week again, and a revision of some hundred rows. ``load_community`` is the
same on a TimescaleDB community server, with compressed chunks too.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterable

import polars as pl
import sqlalchemy as sa

from benchmarks.layout import REVISED_ROWS, revised
from benchmarks.publications import WEEK, whole_week
from benchmarks.results import Measured, Row, Table
from benchmarks.servers import Stopwatch, community, embedded, in_turn, prepared
from otc_assets.domain.normalize import normalize
from otc_assets.domain.parsing import parse
from otc_assets.domain.schema import VENUE_VOLUME
from otc_assets.domain.weeks import Tier
from otc_assets.warehouse.load import replace_volume
from otc_assets.warehouse.server import transaction
from otc_assets.warehouse.timescale import capabilities


def as_text(frames: Iterable[pl.DataFrame]) -> list[bytes]:
    """Venue volume as COPY takes it."""
    known_from = pl.lit(dt.datetime.now(dt.UTC).isoformat()).alias("known_from")
    return [
        frame.with_columns(known_from).write_csv(include_header=False, quote_style="non_numeric").encode()
        for frame in frames
    ]


def bare_copy(engine: sa.Engine, parts: Iterable[bytes]) -> None:
    """COPY alone."""
    statement = f"COPY otc.venue_volume ({', '.join([*VENUE_VOLUME, 'known_from'])}) FROM STDIN (FORMAT csv)"
    with transaction(engine) as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        for content in parts:
            with driver.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(content)


def empty(engine: sa.Engine) -> None:
    """Removes all venue volume."""
    with transaction(engine) as connection:
        connection.exec_driver_sql("TRUNCATE otc.venue_volume, otc.venue_volume_revision")


def measured(engine: sa.Engine) -> Table:
    """All of it on one server."""
    frames = {t: normalize(parse(c, name="b"), week_ending=WEEK, tier=t).volume for t, c in whole_week().items()}
    text = as_text(frames.values())
    states = itertools.cycle([{t: revised(f, "share_volume") for t, f in frames.items()}, frames])

    def ours(rows: dict[Tier, pl.DataFrame] = frames) -> None:
        with transaction(engine) as connection:
            for tier, frame in rows.items():
                replace_volume(connection, WEEK, tier.name, frame)

    def revise() -> None:
        ours(next(states))

    def compress() -> None:
        with transaction(engine) as connection:
            connection.exec_driver_sql("SELECT compress_chunk(c, true) FROM show_chunks('otc.venue_volume') c")

    ours()  # connects
    with engine.connect() as connection:
        clock = Stopwatch(connection).processor
    loads: dict[str, tuple[Callable[[], object], int]] = {
        "bare COPY": (lambda: bare_copy(engine, text), 5),
        "first load": (ours, 5),
    }
    found = in_turn(clock, loads, lambda: empty(engine))
    revision = f"{REVISED_ROWS} rows revised"
    found |= in_turn(clock, {"the same week again": (ours, 3)}) | in_turn(clock, {revision: (revise, 4)})
    if capabilities.of(engine).community:
        ours()
        found |= in_turn(clock, {"compress": (compress, 1)})
        found |= in_turn(clock, {"the same compressed week again": (ours, 3)})
        found |= in_turn(clock, {f"{revision} in a compressed week": (revise, 1)})
        found |= in_turn(clock, {"compress again": (compress, 1)})
    height, bare = sum(frame.height for frame in frames.values()), found["bare COPY"]
    return Table(
        "a full-size week",
        [
            Row(
                name,
                {"rows": height, "CPU ms": spent},
                None if name == "bare COPY" else spent / bare,
                most=1.5 if name == "first load" else None,
            )
            for name, spent in found.items()
        ],
    )


def run(where: str = "plain") -> Measured:
    """On plain PostgreSQL, or with ``where`` 'community' on a TimescaleDB community server."""
    if where == "community":
        with community("bench_load") as engine:
            return Measured({"load": measured(engine)})
    with embedded() as server:
        return Measured({"load": measured(prepared(server.url))})
