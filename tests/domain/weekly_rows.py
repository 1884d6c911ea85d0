"""Rows of venue volume for the tests of this folder: worked by hand, or drawn by hypothesis.

These functions build VENUE_VOLUME from short rows. What is expected of it is in the tests.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import polars as pl
from hypothesis import strategies as st

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.schema import AMOUNT, DE_MINIMIS_VENUE_ID, REWRITTEN, VENUE_VOLUME
from otc_assets.domain.weeks import T1, TIERS

ATS, DE_MINIMIS, NON_ATS = VenueKind.ATS, VenueKind.DE_MINIMIS, VenueKind.NON_ATS

WEEK = dt.date(2026, 8, 21)

#: July 2026 begins on a Wednesday and ends on a Friday, with the last of these weeks.
JULY = dt.date(2026, 7, 1)
JULY_WEEKS = [dt.date(2026, 7, day) for day in (3, 10, 17, 24, 31)]
#: The columns of ``venue_share`` that months are held against.
VENUE_WEEKS = pl.Schema(
    {
        "week_ending": pl.Date(),
        "tier": pl.String(),
        "venue_kind": pl.String(),
        "venue_id": pl.String(),
        "total_volume": AMOUNT,
    }
)

#: (symbol, venue, shares, trades), for the tests that care for nothing else.
Row = tuple[str, str, str | int, int]


def kind_of(venue: str) -> str:
    """MPIDs are letters, CRD numbers digits."""
    if venue == DE_MINIMIS_VENUE_ID:
        return DE_MINIMIS
    return NON_ATS if venue.isdigit() else ATS


def volume_row(
    symbol: str, venue: str, shares: str | int | Decimal, trades: int, week: dt.date = WEEK, tier: str = T1.name
) -> dict[str, Any]:
    """One row of VENUE_VOLUME; other columns are null."""
    return dict.fromkeys(VENUE_VOLUME) | {
        "week_ending": week,
        "tier": tier,
        "symbol": symbol,
        "issue_name": f"{symbol} Inc.",
        "product_type": "",
        "venue_kind": kind_of(venue),
        "venue_id": venue,
        "venue_name": f"Venue {venue}",
        "share_volume": Decimal(shares),
        "trade_count": trades,
    }


def volume(rows: Iterable[Row], week: dt.date = WEEK, tier: str = T1.name) -> pl.DataFrame:
    """VENUE_VOLUME of one week and tier."""
    return pl.DataFrame([volume_row(*row, week, tier) for row in rows], schema=VENUE_VOLUME)


class Frames:
    """Reads the rows of frames instead of a database's (``domain.reading.Read``)."""

    def __init__(self, tables: dict[str, pl.DataFrame], rewritten: pl.DataFrame | None = None) -> None:
        self.tables = tables
        self.rows_rewritten = REWRITTEN.to_frame() if rewritten is None else rewritten

    def __call__(self, table: str, weeks: Iterable[dt.date], columns: Sequence[str] | None = None) -> pl.DataFrame:
        return self.tables[table].filter(pl.col("week_ending").is_in(list(weeks))).select(columns or pl.all())

    def rewritten(self, after: dt.date, until: dt.date, week_ending: dt.date) -> pl.DataFrame:
        day = pl.col("last_update_date")
        return self.rows_rewritten.filter((day > after) & (day <= until) & (pl.col("week_ending") < week_ending))


def sql(query: str, **frames: pl.DataFrame) -> list[tuple[Any, ...]]:
    """What DuckDB answers of tables with these names: a witness that shares no code with Polars.

    Its sums of decimals are exact; its division is not, so queries divide whole numbers (`//`).
    """
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        for name, frame in frames.items():
            frame.write_parquet(f"{folder}/{name}.parquet")
            connection.execute(f"CREATE TABLE {name} AS FROM '{folder}/{name}.parquet'")
        return connection.execute(query).fetchall()


def rounded_sql(numerator: str, denominator: str) -> str:
    """SQL of a quotient of two whole numbers in millionths, rounded half up; null where it divides by zero."""
    return f"((2 * 1000000 * ({numerator}) + ({denominator})) // (2 * nullif({denominator}, 0)))"


def millionths(frame: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of a frame, with decimals as whole numbers of millionths, as ``rounded_sql`` has them."""
    return [
        tuple(int(Fraction(value) * 1_000_000) if isinstance(value, Decimal) else value for value in row)
        for row in frame.select(columns).rows()
    ]


_SHARES = st.one_of(
    st.integers(0, 10**9).map(Decimal),
    st.decimals(min_value=0, max_value=10**7, places=6, allow_nan=False, allow_infinity=False),
)
#: Few trades too, so that average trades are of block size.
_TRADES = st.one_of(st.integers(0, 10**6), st.integers(0, 50))
#: All rows have a value, none has, or some have: API weeks, weeks of website files, and mixtures of both.
_VALUES = (
    st.one_of(st.integers(0, 10**12).map(Decimal), st.decimals(min_value=0, max_value=10**9, places=6)),
    st.none(),
    st.one_of(st.none(), st.integers(0, 10**7).map(Decimal)),
)
_VENUES = st.sampled_from(["UBSA", "INCR", "JPMX", "SGMT", "7897", "149777", "6413", DE_MINIMIS_VENUE_ID])


@st.composite
def volumes(
    draw: st.DrawFn, weeks: tuple[dt.date, ...] = (WEEK,), max_size: int = 40, min_size: int = 1
) -> pl.DataFrame:
    """VENUE_VOLUME with unique keys: few symbols and venues, so that groups have several rows.

    With a ``min_size`` of 1, most drawn frames have about six rows, whatever ``max_size``.
    """
    keys = draw(
        st.lists(
            st.tuples(
                st.sampled_from(weeks),
                st.sampled_from([tier.name for tier in TIERS]),
                st.sampled_from(["AAPL", "ABRpD", "ABRPD", "AACT.WS"]),
                _VENUES,
            ),
            unique=True,
            min_size=min_size,
            max_size=max_size,
        )
    )
    values = draw(st.sampled_from(_VALUES))
    rows = [
        volume_row(symbol, venue, draw(_SHARES), draw(_TRADES), week, tier) | {"notional": draw(values)}
        for week, tier, symbol, venue in keys
    ]
    return pl.DataFrame(rows, schema=VENUE_VOLUME)
