"""Writes and reads the captures of FINRA's neighbouring data sets, their rows, and what is missing of them.

What a data set is, is in ``domain.datasets``; the weekly publications are in ``load`` and ``read``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.datasets import ATS_BLOCKS, MONTHLY_SUMMARY, OTC_BLOCKS, REG_SHO_DAILY, SHORT_INTEREST, Dataset
from otc_assets.domain.parsing.dataset_rows import DatasetRows
from otc_assets.warehouse.history import Change, replace_rows
from otc_assets.warehouse.retention import dropped_until, oldest_kept, require_kept
from otc_assets.warehouse.server import copy_in, lock_week
from otc_assets.warehouse.sql import statement

#: The newest capture of each period, of all or of those with an accepted row.
_NEWEST = sa.text("""
    SELECT DISTINCT ON (dataset, period) * FROM otc.dataset_capture
    WHERE week_ending BETWEEN :first AND :last AND dataset = ANY(:datasets) AND rows_accepted >= :least_accepted
    ORDER BY dataset, period, id DESC
""")
_INSERT = sa.text("""
    INSERT INTO otc.dataset_capture
        (dataset, period, week_ending, digest, origin, bytes, rows_expected, rows_received, rows_accepted,
         rows_rejected, run_id)
    VALUES (:dataset, :period, :week_ending, :digest, :origin, :bytes, :rows_expected, :rows_received, :rows_accepted,
         :rows_rejected, :run_id)
    RETURNING id
""")


def newest_captures(
    connection: sa.Connection,
    datasets: Sequence[Dataset],
    first: dt.date = dt.date.min,
    last: dt.date = dt.date.max,
) -> list[dict[str, Any]]:
    """The newest capture of each period of the weeks from ``first`` to ``last``, by data set, oldest period first."""
    return _newest(connection, datasets, first, last, 0)


def effective_captures(
    connection: sa.Connection, dataset: Dataset, first: dt.date, last: dt.date
) -> list[dict[str, Any]]:
    """The captures whose rows are in the table, of the weeks from ``first`` to ``last``, oldest period first.

    After a capture without an accepted row, these are the rows of the one before it.
    """
    return _newest(connection, [dataset], first, last, 1)


def _newest(
    connection: sa.Connection, datasets: Sequence[Dataset], first: dt.date, last: dt.date, least_accepted: int
) -> list[dict[str, Any]]:
    names = [dataset.name for dataset in datasets]
    values = {"first": first, "last": last, "datasets": names, "least_accepted": least_accepted}
    return [dict(row) for row in connection.execute(_NEWEST, values).mappings()]


def dropped_captures(
    connection: sa.Connection, dataset: Dataset, first: dt.date, last: dt.date
) -> list[dict[str, Any]]:
    """The effective captures whose rows retention has dropped although their weeks are kept now, oldest period first.

    So it is once a retention period was raised. A capture stays recorded when its rows are dropped.
    """
    until = dropped_until(connection, dataset.retention)
    if until is None:
        return []
    kept = max(first, oldest_kept(connection, dataset.retention))
    there = sa.text(
        f"SELECT EXISTS (SELECT FROM otc.{dataset.table}"  # noqa: S608 - our names
        f" WHERE week_ending = :week_ending AND {dataset.period} = :period)"
    )
    return [
        capture
        for capture in effective_captures(connection, dataset, kept, min(last, until))
        if not connection.execute(there, {name: capture[name] for name in ("week_ending", "period")}).scalar_one()
    ]


def lost_captures(
    connection: sa.Connection, dataset: Dataset, captures: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Those of some effective captures of which the table has another number of rows than were accepted.

    Captures of weeks that retention has dropped are none of them.
    """
    until = dropped_until(connection, dataset.retention) or dt.date.min
    counted = sa.text(
        f"SELECT {dataset.period}, count(*) FROM otc.{dataset.table}"  # noqa: S608 - our names
        f" WHERE week_ending = ANY(:weeks) GROUP BY {dataset.period}"
    )
    there = [capture for capture in captures if capture["week_ending"] > until]
    weeks = sorted({capture["week_ending"] for capture in there})
    stored: dict[dt.date, int] = dict(connection.execute(counted, {"weeks": weeks}).all())  # type: ignore[arg-type]
    return [capture for capture in there if stored.get(capture["period"], 0) != capture["rows_accepted"]]


def all_captures(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every capture of a data set: its id, data set, period, week, origin and digest."""
    query = sa.text("SELECT id, dataset, period, week_ending, origin, digest FROM otc.dataset_capture ORDER BY id")
    return [dict(row) for row in connection.execute(query).mappings()]


def save_capture(
    connection: sa.Connection, dataset: Dataset, fields: Mapping[str, Any], rows: DatasetRows
) -> tuple[int, Change]:
    """Records a capture, replaces the rows of its period, and keeps those that differ as revisions. Without an event.

    If no row was accepted, the rows of the period stay.

    Args:
        connection: inside a transaction that holds the week's lock.
        dataset: the data set.
        fields: the columns of ``otc.dataset_capture``, without ``id`` and ``captured_at``.
        rows: the rows of the period.

    Returns:
        The capture's id, and how the rows changed.

    Raises:
        Dropped: retention has deleted the week, or would delete it.
    """
    week = fields["week_ending"]
    lock_week(connection, week)
    require_kept(connection, dataset.retention, week)
    number = connection.execute(_INSERT, fields).scalar_one()
    rejected = rows.rejected.select(pl.lit(number, pl.Int64).alias("capture_id"), pl.all())
    copy_in(connection, "otc.dataset_rejected", rejected)
    if rows.accepted.is_empty():
        return number, Change(0, 0, 0, 0, Decimal(0), Decimal(0))
    scope = {"week_ending": week, dataset.period: fields["period"]}
    return number, replace_rows(connection, dataset.table, scope, rows.accepted)


_VERSIONS = sa.text("""
    SELECT week_ending, version FROM otc.computed_week AS computed
    WHERE table_name = :table AND week_ending = ANY(:weeks) AND NOT EXISTS (
        SELECT FROM otc.week_quality AS quality
        WHERE quality.week_ending = computed.week_ending AND quality.grade = 'F')
    ORDER BY week_ending
""")


def inputs_version(
    connection: sa.Connection,
    captures: Sequence[Mapping[str, Any]],
    weeks: Sequence[dt.date],
    code_version: str,
    table: str = "symbol_summary",
) -> str:
    """The version of a figure that is computed from captures of data sets, and from ``weeks`` of a ``table``.

    Weeks graded F do not count: nothing is computed from them.
    """
    inputs = [f"{c['period']}={c['digest']}" for c in captures]
    values = {"weeks": list(weeks), "table": table}
    inputs += [f"{week}={version}" for week, version in connection.execute(_VERSIONS, values)]
    return f"{hashlib.sha256(chr(10).join(inputs).encode()).hexdigest()[:16]} @{code_version}"


def replace_gaps(connection: sa.Connection, gaps: pl.DataFrame) -> None:
    """Replaces all reported gaps with ``gaps`` (DATASET_GAP)."""
    connection.execute(sa.text("LOCK TABLE otc.dataset_gap IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(sa.text("DELETE FROM otc.dataset_gap"))
    copy_in(connection, "otc.dataset_gap", gaps)


#: By table, the condition of a row that contradicts itself. Those of the monthly summary contradict each other.
_CONTRADICTORY = {
    REG_SHO_DAILY.table: "short_volume > total_volume OR short_exempt_volume > short_volume",
    SHORT_INTEREST.table: "stock_split_flag IS NULL AND position_change <> short_position - previous_short_position",
    **dict.fromkeys((ATS_BLOCKS.table, OTC_BLOCKS.table), "block_volume > total_volume OR block_trades > total_trades"),
}


def stored_rows(connection: sa.Connection, dataset: Dataset, week_ending: dt.date) -> tuple[int, int]:
    """The number of stored rows of a data set's week, and of those that contradict themselves or others."""
    if dataset is MONTHLY_SUMMARY:
        rows, contradictory = connection.execute(statement("otc_month_totals"), {"week": week_ending}).one()
        return rows, contradictory
    condition = _CONTRADICTORY.get(dataset.table, "false")
    query = f"SELECT count(*), count(*) FILTER (WHERE {condition}) FROM otc.{dataset.table}"  # noqa: S608 - our names
    rows, contradictory = connection.execute(sa.text(f"{query} WHERE week_ending = :week"), {"week": week_ending}).one()
    return rows, contradictory
