"""Reads publications, the rows of weeks as frames, grades, and which weeks are captured.

Writing is in ``load``, events are in ``events``, staleness is in ``lineage``.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import psycopg
import sqlalchemy as sa

from otc_assets.domain.revisions import Effective, effective
from otc_assets.domain.schema import GAP, REJECTED, REWRITTEN
from otc_assets.domain.tables import TABLES, with_history
from otc_assets.domain.weeks import TIER_BY_NAME, TIERS, publication_date
from otc_assets.errors import OtcError
from otc_assets.warehouse.kept_weeks import KeptWeeks, kept_weeks
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.server import copy_out
from otc_assets.warehouse.sql import statement

#: The errors of ``otc.require_final``: the moment is too recent, or a load ended during the query.
_NOT_FINAL = ("OT001", "40001")


class NotFinal(OtcError):
    """An answer as of a moment could still change. The message says as of which moments answers are final."""


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
    """The capture with an id; None if there is none."""
    found = connection.execute(sa.text("SELECT * FROM otc.publication WHERE id = :id"), {"id": publication_id})
    row = found.mappings().one_or_none()
    return Publication(**row) if row is not None else None


def by_week_and_tier(captures: Iterable[Publication]) -> dict[tuple[dt.date, str], list[Publication]]:
    """Captures by (week_ending, tier), in the order in which they come."""
    groups: dict[tuple[dt.date, str], list[Publication]] = {}
    for capture in captures:
        groups.setdefault((capture.week_ending, capture.tier), []).append(capture)
    return groups


def effective_publications(
    connection: sa.Connection, first: dt.date, last: dt.date
) -> dict[tuple[dt.date, str], Effective[Publication]]:
    """By (week_ending, tier), which of the recorded captures are effective."""
    return {key: effective(group) for key, group in by_week_and_tier(publications(connection, first, last)).items()}


def week_rows(
    connection: sa.Connection,
    table: str,
    weeks: Sequence[dt.date],
    tier: str | None = None,
    columns: Sequence[str] | None = None,
    as_of: dt.datetime | None = None,
) -> pl.DataFrame:
    """The rows of ``weeks`` of a table, in any order.

    Args:
        connection: inside a transaction.
        table: one of ``domain.tables``.
        weeks: their Fridays; no rows if there is none.
        tier: only this tier, of a table that has tiers.
        columns: only these; a full-size week with all columns takes a hundred megabytes.
        as_of: a moment with a time zone: the rows as they were known then, for tables with history
            (``domain.tables``). The same query returns the same rows until retention deletes the week.

    Raises:
        ValueError: there is no such table, it has no such column or no history, or the moment has no time zone.
        NotFinal: a running load could still change the answer, or the moment is in the future.
    """
    if table not in TABLES:
        raise ValueError(f"{table!r} can't be read by week; those that can are {', '.join(TABLES)}")
    schema = TABLES[table].schema
    if columns is not None:
        if unknown := set(columns) - set(schema):
            raise ValueError(f"otc.{table} has no column {', '.join(sorted(unknown))}")
        schema = pl.Schema({name: schema[name] for name in columns})
    if as_of is not None:
        if table not in with_history():
            raise ValueError(f"no history is kept of otc.{table}; it is of {', '.join(with_history())}")
        if as_of.tzinfo is None:
            raise ValueError(f"{as_of} has no time zone: say which moment is meant")
        return _read_weeks(connection, f"otc.{table}_as_of(%s)", [as_of], schema, weeks, tier)
    if (kept := kept_weeks()) is None:
        return _read_weeks(connection, f"otc.{table}", [], schema, weeks, tier)
    return _kept_or_read(kept, connection, table, schema, weeks, tier)


def _read_weeks(
    connection: sa.Connection,
    source: str,
    params: list[Any],
    schema: pl.Schema,
    weeks: Sequence[dt.date],
    tier: str | None = None,
) -> pl.DataFrame:
    if not weeks:
        return schema.to_frame()
    # The weeks are a list of constants: only for those does TimescaleDB exclude chunks when it plans the query.
    constants = ", ".join(["%s"] * len(weeks))
    query = f"SELECT {', '.join(schema)} FROM {source} WHERE week_ending IN ({constants})"  # noqa: S608
    params = [*params, *weeks]
    if tier is not None:
        query += " AND tier = %s"
        params.append(tier)
    try:
        return copy_out(connection, query, schema, params, named=True)
    except psycopg.DatabaseError as error:
        if error.sqlstate not in _NOT_FINAL:
            raise
        raise NotFinal(f"{error.diag.message_primary}. {error.diag.message_detail or ''}".strip()) from None


def _kept_or_read(
    kept: KeptWeeks,
    connection: sa.Connection,
    table: str,
    schema: pl.Schema,
    weeks: Sequence[dt.date],
    tier: str | None,
) -> pl.DataFrame:
    """The rows of weeks that the run has read before, and of the others, which are read whole and kept."""
    loads = kept.loads(connection, table, weeks)
    frames = []
    if others := [week for week in weeks if week not in loads]:
        frames.append(_read_weeks(connection, f"otc.{table}", [], schema, others, tier))
    # Of large tables, a tier at a time: the rows of a week, as text and as a frame, would be the peak of the memory.
    parts = ([tier] if tier else [known.name for known in TIERS]) if table in _LARGE else [None]
    wanted = [*schema, *(["tier"] if tier and "tier" not in schema else [])]
    for week, part in itertools.product(loads, parts):
        rows = kept.find((week, table, part), loads[week], wanted)
        if rows is None:
            rows = _read_weeks(connection, f"otc.{table}", [], TABLES[table].schema, [week], part)
            kept.keep((week, table, part), loads[week], rows)
        frames.append((rows.filter(pl.col("tier") == tier) if tier else rows).select(list(schema)))
    return pl.concat(frames) if frames else schema.to_frame()


#: The tables whose weeks are read tier by tier.
_LARGE = ("venue_volume", "published_total")


_CAPTURED_TIERS = "SELECT DISTINCT week_ending, tier FROM otc.{} WHERE week_ending IN ({})"


def summarized_tiers(connection: sa.Connection, summary: str, weeks: Sequence[dt.date]) -> pl.DataFrame:
    """(week_ending, tier) of the weeks that the table ``summary`` has and that are not graded F."""
    columns = pl.Schema({"week_ending": pl.Date, "tier": pl.String})
    query = _CAPTURED_TIERS.format(TABLES[summary].name, ", ".join(["%s"] * len(weeks)))
    frame = copy_out(connection, query, columns, list(weeks))
    return frame.filter(~pl.col("week_ending").is_in(list(blocked_weeks(connection, weeks))))


_BLOCKED = sa.text("SELECT DISTINCT week_ending FROM otc.week_quality WHERE grade = 'F' AND week_ending = ANY(:weeks)")


_BLOCKED_BETWEEN = sa.text(
    "SELECT DISTINCT week_ending FROM otc.week_quality WHERE grade = 'F' AND week_ending BETWEEN :first AND :last"
)


def blocked_between(connection: sa.Connection, first: dt.date, last: dt.date) -> set[dt.date]:
    """The weeks from ``first`` to ``last`` that are graded F."""
    return set(connection.execute(_BLOCKED_BETWEEN, {"first": first, "last": last}).scalars())


def blocked_weeks(connection: sa.Connection, weeks: Sequence[dt.date]) -> set[dt.date]:
    """Those of ``weeks`` that are graded F: downstream assets are not computed from them."""
    return set(connection.execute(_BLOCKED, {"weeks": list(weeks)}).scalars())


_QUALITY = sa.text("""
    SELECT tier, grade, score, findings, version FROM otc.week_quality
    WHERE week_ending = :week_ending ORDER BY tier
""")


def quality(connection: sa.Connection, week_ending: dt.date) -> list[dict[str, Any]]:
    """The week's grades, one per tier: tier, grade, score, findings, and the version that was graded."""
    rows = connection.execute(_QUALITY, {"week_ending": week_ending}).mappings()
    return [dict(row) for row in rows]


def intact_rows(connection: sa.Connection, table: str, week_ending: dt.date) -> int | None:
    """The number of rows of a computed week; None if rows were deleted or added since it was computed.

    Raises:
        ValueError: there is no such table.
    """
    if table not in TABLES:
        raise ValueError(f"{table!r} is not a table that is keyed by week")
    query = f"""
        SELECT rows FROM otc.computed_week WHERE table_name = :table AND week_ending = :week_ending
        AND rows = (SELECT count(*) FROM otc.{table} WHERE week_ending = :week_ending)
    """  # noqa: S608 - a name of the registry
    return connection.execute(sa.text(query), {"table": table, "week_ending": week_ending}).scalar_one_or_none()


def week_count(connection: sa.Connection, table: str, week_ending: dt.date) -> int:
    """The number of rows of a week of a table of the registry."""
    query = f"SELECT count(*) FROM otc.{TABLES[table].name} WHERE week_ending = :week_ending"  # noqa: S608
    return int(connection.execute(sa.text(query), {"week_ending": week_ending}).scalar_one())


def previous_week(connection: sa.Connection, week_ending: dt.date, tier: str) -> dt.date | None:
    """The newest week before ``week_ending`` of which the tier's publication, or one half of it, is loaded.

    Weeks of which only some rows were captured are left out: they can't be compared with.
    """
    values = {"week_ending": week_ending, "tier": tier}
    return connection.execute(statement("previous_week"), values).scalar()


_FIRST_CAPTURED = "SELECT tier, min(week_ending) AS week FROM otc.publication GROUP BY tier"


def first_captured(connection: sa.Connection) -> dict[str, dt.date]:
    """The first week of each tier that was captured, whether the capture is effective or not."""
    return {row.tier: row.week for row in connection.execute(sa.text(_FIRST_CAPTURED))}


def newest_capture(connection: sa.Connection) -> dt.datetime | None:
    """When the newest capture of any publication was recorded; None if there is none."""
    found: dt.datetime | None = connection.execute(sa.text("SELECT max(captured_at) FROM otc.publication")).scalar()
    return found


_REPORTED_GAPS = sa.text("SELECT week_ending, tier, status FROM otc.gap")


def reported_gaps(connection: sa.Connection) -> pl.DataFrame:
    """The reported gaps of all weeks: `week_ending`, `tier`, `status`."""
    rows = [tuple(row) for row in connection.execute(_REPORTED_GAPS)]
    return pl.DataFrame(rows, {name: GAP[name] for name in ("week_ending", "tier", "status")}, orient="row")


_CAPTURED_WITHIN = sa.text("""
    SELECT min(captured_at) > now() - CAST(:period AS interval) FROM otc.publication
    WHERE week_ending = :week_ending AND tier = :tier
""")


def was_captured_within(connection: sa.Connection, week_ending: dt.date, tier: str, period: dt.timedelta) -> bool:
    """Whether the first capture of a (week, tier) is newer than ``period``."""
    values = {"week_ending": week_ending, "tier": tier, "period": period}
    return bool(connection.execute(_CAPTURED_WITHIN, values).scalar())


def summary_differences(connection: sa.Connection, week_ending: dt.date) -> list[dict[str, Any]]:
    """Compares ``symbol_summary`` with ``weekly_summary_agg`` and with sums of venue volume by the database.

    Returns:
        One row per tier: ``symbols``, and for how many of them volume, trades or venues differ in the aggregate
        (``aggregate_differs``) and in the sums of venue volume (``volume_differs``).
    """
    return [
        dict(row)
        for row in connection.execute(statement("summary_differences"), {"week_ending": week_ending}).mappings()
    ]


_SUMMARY_TOTALS = sa.text("""
    SELECT tier, sum(total_volume) AS total_volume, sum(ats_volume) AS ats_volume, sum(non_ats_volume) AS non_ats_volume
    FROM otc.symbol_summary WHERE week_ending = :week_ending GROUP BY tier ORDER BY tier
""")


def summary_totals(connection: sa.Connection, week_ending: dt.date) -> dict[str, dict[str, Decimal]]:
    """By tier, the week's shares of ``symbol_summary``, added up by the database: total, ATSs, other firms."""
    rows = connection.execute(_SUMMARY_TOTALS, {"week_ending": week_ending}).mappings()
    return {row["tier"]: {name: value for name, value in row.items() if name != "tier"} for row in rows}


_REPLACED_ROWS = sa.text("""
    SELECT tier, count(*) AS rows FROM otc.venue_volume_revision
    WHERE week_ending = :week_ending GROUP BY tier ORDER BY tier
""")


def replaced_rows(connection: sa.Connection, week_ending: dt.date) -> dict[str, int]:
    """By tier, how many rows of the week's venue volume were replaced since they were first loaded."""
    return {row.tier: row.rows for row in connection.execute(_REPLACED_ROWS, {"week_ending": week_ending})}


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

    ``complete`` if the effective captures are a complete publication. ``rows_loaded`` is 0 for a (week, tier) of which
    no captured row was accepted.
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
    """The version from which the week of ``table`` was computed; None if it was not."""
    return connection.execute(
        sa.text("SELECT version FROM otc.computed_week WHERE table_name = :t AND week_ending = :w"),
        {"t": table, "w": week_ending},
    ).scalar()


_REVISED = sa.text("""
    SELECT p.id, p.week_ending, p.tier, p.last_update_date FROM otc.publication p
    JOIN otc.computed_week c ON c.table_name = 'venue_volume' AND c.week_ending = p.week_ending
    WHERE p.last_update_date > p.initial_published_date AND c.version ~ ('[:+]' || p.id || '([^0-9]|$)') ORDER BY p.id
""")


def revised_captures(connection: sa.Connection) -> list[tuple[int, dt.date, str, dt.date]]:
    """(id, week_ending, tier, last_update_date) of captures in venue volume with rows that FINRA has rewritten.

    Files have no initialPublishedDate: nothing is known of theirs.
    """
    return [tuple(row) for row in connection.execute(_REVISED)]  # type: ignore[misc]


_REWRITTEN = """
    SELECT week_ending, tier, last_update_date, count(*), sum(share_volume) FROM otc.venue_volume
    WHERE week_ending IN ({}) AND last_update_date > %s AND last_update_date <= %s
    GROUP BY 1, 2, 3
"""


def rewritten_rows(connection: sa.Connection, after: dt.date, until: dt.date, week_ending: dt.date) -> pl.DataFrame:
    """Rows of venue volume of weeks before ``week_ending`` that FINRA rewrote after ``after`` and up to ``until``.

    Returns:
        REWRITTEN: by week, tier and day, their number and shares; without rows of the publication day.
    """
    weeks = sorted({week for _, week, _, day in revised_captures(connection) if week < week_ending and day > after})
    if not weeks:
        return REWRITTEN.to_frame()
    query = _REWRITTEN.format(", ".join(["%s"] * len(weeks)))
    found = copy_out(connection, query, REWRITTEN, [*weeks, after, until])
    published = [
        publication_date(week, TIER_BY_NAME[tier]) for week, tier in found.select(REWRITTEN.names()[:2]).rows()
    ]
    return found.filter(pl.col("last_update_date") > pl.Series(published, dtype=pl.Date))


def rejected_rows(connection: sa.Connection, capture: Publication) -> pl.DataFrame:
    """REJECTED, the rows of a capture that were not accepted when it was recorded."""
    query = f"""
        SELECT {", ".join(REJECTED)} FROM otc.rejected_record
        WHERE week_ending = %s AND publication_id = %s ORDER BY line
    """  # noqa: S608 - names of columns
    return copy_out(connection, query, REJECTED, [capture.week_ending, capture.id])


def rejected_for(connection: sa.Connection, publications: Sequence[int], reason: str) -> int:
    """How many rows of the publications were rejected for ``reason``."""
    found = connection.execute(
        sa.text("SELECT count(*) FROM otc.rejected_record WHERE publication_id = ANY(:ids) AND reason = :reason"),
        {"ids": list(publications), "reason": reason},
    )
    return int(found.scalar_one())


def recent_rows(
    connection: sa.Connection, name: str, dataset: str | None, tier: str | None, weeks: Sequence[dt.date]
) -> list[tuple[dt.date, int]]:
    """The number of rows of those of ``weeks`` that there are, oldest first.

    Args:
        connection: inside a transaction.
        name: a computed table.
        dataset: FINRA's name of a data set whose captures are counted.
        tier: a tier whose captures are counted.
        weeks: their Fridays, oldest first.
    """
    bound = {"name": name, "dataset": dataset, "tier": tier, "first": weeks[0], "last": weeks[-1]}
    return [(week, rows) for week, rows in connection.execute(statement("recent_rows"), bound)]
