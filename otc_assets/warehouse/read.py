"""Reading: publications, the rows of weeks as frames, grades, and what has been captured.

Here: every query on our tables. Not here: writing (``load``), judging what was read (``domain``), and which
weeks are stale (``lineage``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import psycopg
import sqlalchemy as sa

from otc_assets.domain.revisions import Effective, effective
from otc_assets.domain.tables import TABLES, with_history
from otc_assets.errors import OtcError
from otc_assets.warehouse.server import copy_out

#: The errors of ``otc.require_final``: the moment is too recent, or a load ended during the query.
_NOT_FINAL = ("OT001", "40001")


class NotFinal(OtcError):
    """An answer as of a moment could still change. The message says as of which moments answers are final."""


@dataclass(frozen=True)
class Publication:
    """A captured publication: a row of ``otc.publication``."""

    id: int
    week_ending: dt.date
    tier: str
    scope: str
    revision: int
    digest: str
    origin: str
    summary_type: str | None
    layout: str
    bytes: int
    rows_received: int
    rows_accepted: int
    rows_rejected: int
    rows_expected: int | None
    complete: bool
    initial_published_date: dt.date | None
    last_update_date: dt.date | None
    run_id: str | None
    captured_at: dt.datetime
    ats_last_update_date: dt.date | None
    non_ats_last_update_date: dt.date | None
    quarantine_reason: str | None
    accepted_at: dt.datetime | None
    accepted_over: dt.date | None
    withdrawn_at: dt.datetime | None
    withdrawal_reason: str | None
    rows_in_use: int | None

    @property
    def quarantined(self) -> bool:
        """Whether it waits for an operator's decision."""
        return self.quarantine_reason is not None and self.accepted_at is None

    @property
    def withdrawn(self) -> bool:
        """Whether an operator has withdrawn it."""
        return self.withdrawn_at is not None


_PUBLICATIONS = sa.text("""
    SELECT * FROM otc.publication
    WHERE week_ending BETWEEN :first AND :last
    ORDER BY week_ending, tier, id
""")


def publications(connection: sa.Connection, first: dt.date, last: dt.date) -> list[Publication]:
    """Every capture of the weeks from ``first`` to ``last``, oldest first."""
    rows = connection.execute(_PUBLICATIONS, {"first": first, "last": last}).mappings()
    return [Publication(**row) for row in rows]


def publication_of(connection: sa.Connection, publication_id: int) -> Publication | None:
    """The capture of an id; None where there is none."""
    found = connection.execute(sa.text("SELECT * FROM otc.publication WHERE id = :id"), {"id": publication_id})
    row = found.mappings().one_or_none()
    return Publication(**row) if row is not None else None


# LIMIT keeps the planner from joining all of raw_record: it asks once per publication, and an index answers.
_WITHOUT_RAW_ROWS = sa.text("""
    SELECT p.* FROM otc.publication p
    LEFT JOIN LATERAL (
        SELECT 1 AS found FROM otc.raw_record r
        WHERE r.week_ending = p.week_ending AND r.publication_id = p.id LIMIT 1
    ) stored ON true
    WHERE p.week_ending >= :first AND p.rows_received > 0 AND stored.found IS NULL
    ORDER BY p.week_ending, p.id
""")


def without_raw_rows(connection: sa.Connection, first: dt.date | None) -> list[Publication]:
    """The captures of weeks from ``first`` (None: of all weeks) that have no row in ``raw_record``, oldest first."""
    rows = connection.execute(_WITHOUT_RAW_ROWS, {"first": first or dt.date.min}).mappings()
    return [Publication(**row) for row in rows]


def effective_publications(
    connection: sa.Connection, first: dt.date, last: dt.date
) -> dict[tuple[dt.date, str], Effective[Publication]]:
    """By (week_ending, tier), the captures that are effective, of all that were recorded."""
    captures: dict[tuple[dt.date, str], list[Publication]] = {}
    for publication in publications(connection, first, last):
        captures.setdefault((publication.week_ending, publication.tier), []).append(publication)
    return {key: effective(group) for key, group in captures.items()}


def week_rows(
    connection: sa.Connection,
    table: str,
    weeks: Sequence[dt.date],
    tier: str | None = None,
    columns: Sequence[str] | None = None,
    as_of: dt.datetime | None = None,
) -> pl.DataFrame:
    """The rows of ``weeks`` of a table, in no particular order.

    Args:
        connection: inside a transaction.
        table: one that is read by tier (``domain.tables``).
        weeks: which weeks.
        tier: this tier alone.
        columns: these alone; a full-size week in all its columns takes a hundred megabytes.
        as_of: as the rows were known at this moment, with a time zone, for tables whose history is kept
            (``domain.tables``). The same question gives the same answer until retention drops the week.

    Raises:
        ValueError: the table is not read by tier, or has no such column or no history, or the moment no time zone.
        NotFinal: a load that is under way could still change the answer, or the moment is yet to come.
    """
    readable = {declared.name: declared.schema for declared in TABLES.values() if declared.read_by_tier}
    if table not in readable:
        raise ValueError(f"{table!r} can't be read by week; those that can are {', '.join(readable)}")
    schema = readable[table]
    source: str = f"otc.{table}"
    params: list[Any] = []
    if columns is not None:
        if unknown := set(columns) - set(schema):
            raise ValueError(f"otc.{table} has no column {', '.join(sorted(unknown))}")
        schema = pl.Schema({name: schema[name] for name in columns})
    names = ", ".join(schema)
    if as_of is not None:
        if table not in with_history():
            raise ValueError(f"no history is kept of otc.{table}; it is of {', '.join(with_history())}")
        if as_of.tzinfo is None:
            raise ValueError(f"{as_of} has no time zone: say which moment is meant")
        source, params = f"otc.{table}_as_of(%s)", [as_of]
    # The weeks are a list of constants: TimescaleDB leaves chunks out at planning time only for those.
    query = f"SELECT {names} FROM {source} WHERE week_ending IN ({', '.join(['%s'] * len(weeks))})"  # noqa: S608
    params += weeks
    if tier is not None:
        query += " AND tier = %s"
        params.append(tier)
    try:
        return copy_out(connection, query, schema, params)
    except psycopg.DatabaseError as error:
        if error.sqlstate not in _NOT_FINAL:
            raise
        raise NotFinal(f"{error.diag.message_primary}. {error.diag.message_detail or ''}".strip()) from None


_CAPTURED_TIERS = "SELECT DISTINCT week_ending, tier FROM otc.symbol_summary WHERE week_ending IN ({})"


def summarized_tiers(connection: sa.Connection, weeks: Sequence[dt.date]) -> pl.DataFrame:
    """(week_ending, tier) of the weeks that are summarized and whose grade is not F."""
    columns = pl.Schema({"week_ending": pl.Date, "tier": pl.String})
    frame = copy_out(connection, _CAPTURED_TIERS.format(", ".join(["%s"] * len(weeks))), columns, list(weeks))
    return frame.filter(~pl.col("week_ending").is_in(list(blocked_weeks(connection, weeks))))


_BLOCKED = sa.text("SELECT DISTINCT week_ending FROM otc.week_quality WHERE grade = 'F' AND week_ending = ANY(:weeks)")


def blocked_weeks(connection: sa.Connection, weeks: Sequence[dt.date]) -> set[dt.date]:
    """Those of ``weeks`` that are graded F: nothing downstream is made of them."""
    return set(connection.execute(_BLOCKED, {"weeks": list(weeks)}).scalars())


_QUALITY = sa.text("""
    SELECT tier, grade, score, findings, version FROM otc.week_quality
    WHERE week_ending = :week_ending ORDER BY tier
""")


def quality(connection: sa.Connection, week_ending: dt.date) -> list[dict[str, Any]]:
    """The week's grades, one a tier: tier, grade, score, findings, and the version that was judged."""
    rows = connection.execute(_QUALITY, {"week_ending": week_ending}).mappings()
    return [dict(row) for row in rows]


def previous_week(connection: sa.Connection, week_ending: dt.date, tier: str) -> dt.date | None:
    """The newest week before ``week_ending`` of which the tier's publication, or a half of it, is loaded.

    Weeks of which only records of a part came are passed over: nothing compares with them.
    """
    return connection.execute(
        sa.text("""
            SELECT max(p.week_ending) FROM otc.publication p
            JOIN otc.computed_week c ON c.week_ending = p.week_ending AND c.table_name = 'venue_volume'
            WHERE p.week_ending < :week_ending AND p.tier = :tier AND p.scope <> 'PARTIAL' AND p.rows_accepted > 0
        """),
        {"week_ending": week_ending, "tier": tier},
    ).scalar()


_DIFFERENCES = sa.text("""
    WITH stored AS (
        SELECT tier, symbol, total_volume, total_trades, venue_count FROM otc.symbol_summary
        WHERE week_ending = :week_ending
    ), aggregated AS (
        SELECT tier, symbol, total_volume, total_trades, venue_count FROM otc.weekly_summary_agg
        WHERE week = :week_ending
    ), summed AS (
        SELECT tier, symbol, sum(share_volume) AS total_volume, sum(trade_count)::bigint AS total_trades,
            count(DISTINCT venue_id) AS venue_count
        FROM otc.venue_volume WHERE week_ending = :week_ending GROUP BY tier, symbol
    )
    SELECT tier, count(*) AS symbols,
        count(*) FILTER (WHERE aggregated IS DISTINCT FROM stored) AS aggregate_differs,
        count(*) FILTER (WHERE summed IS DISTINCT FROM stored) AS volume_differs
    FROM stored FULL JOIN aggregated USING (tier, symbol) FULL JOIN summed USING (tier, symbol)
    GROUP BY tier ORDER BY tier
""")


def summary_differences(connection: sa.Connection, week_ending: dt.date) -> list[dict[str, Any]]:
    """How ``symbol_summary`` compares with ``weekly_summary_agg`` and with what the database sums up itself.

    Returns:
        A row a tier: ``symbols``, and of how many of them volume, trades or venues are not the same in the
        aggregate (``aggregate_differs``) and in the sums over venue volume (``volume_differs``).
    """
    return [dict(row) for row in connection.execute(_DIFFERENCES, {"week_ending": week_ending}).mappings()]


CAPTURED = pl.Schema(
    {
        "week_ending": pl.Date,
        "tier": pl.String,
        "rows_loaded": pl.Int64,
        "rows_expected": pl.Int64,
        "complete": pl.Boolean,
    }
)


def captured(connection: sa.Connection, first: dt.date, last: dt.date) -> pl.DataFrame:
    """What is captured, one row per (week_ending, tier), as input of ``domain.gaps`` (CAPTURED).

    ``complete`` where the effective captures are a complete publication. A (week, tier) of which only captures
    without an accepted row came has ``rows_loaded`` 0.
    """
    rows = []
    for (week, tier), found in effective_publications(connection, first, last).items():
        whole = found.publication
        rows.append(
            {
                "week_ending": week,
                "tier": tier,
                "rows_loaded": sum(p.rows_accepted if p.rows_in_use is None else p.rows_in_use for p in found.captures),
                "rows_expected": whole.rows_expected if whole else None,
                "complete": found.complete,
            }
        )
    return pl.DataFrame(rows, schema=CAPTURED)


def computed_version(connection: sa.Connection, table: str, week_ending: dt.date) -> str | None:
    """The version of the inputs that the week of ``table`` was made from; None where it was not made."""
    return connection.execute(
        sa.text("SELECT version FROM otc.computed_week WHERE table_name = :t AND week_ending = :w"),
        {"t": table, "w": week_ending},
    ).scalar()


def rejected_for(connection: sa.Connection, publications: Sequence[int], reason: str) -> int:
    """How many rows of the publications were rejected for ``reason``."""
    found = connection.execute(
        sa.text("SELECT count(*) FROM otc.rejected_record WHERE publication_id = ANY(:ids) AND reason = :reason"),
        {"ids": list(publications), "reason": reason},
    )
    return int(found.scalar_one())
