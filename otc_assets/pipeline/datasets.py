"""Captures FINRA's neighbouring data sets week by week, reports what is missing, and computes the estimates.

A week captures the periods that end in it, each in one transaction. The newest capture of a period is the effective
one: unlike the weekly publications, FINRA corrects a period as a whole. Formulas are in ``domain.estimates``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets import interruption
from otc_assets.archive.store import Archive, ArchiveError
from otc_assets.domain.block_share import block_share
from otc_assets.domain.dataset_gaps import dataset_gaps
from otc_assets.domain.datasets import (
    ATS_BLOCKS,
    DATASETS,
    MONTHLY_SUMMARY,
    OTC_BLOCKS,
    REG_SHO_DAILY,
    SHORT_INTEREST,
    THRESHOLD_LIST,
    Dataset,
)
from otc_assets.domain.estimates import (
    BLOCKS,
    MONTH,
    SHARE,
    STAY,
    VOLUME,
    cycle_of,
    off_exchange_share,
    volume_estimate,
    weeks_read,
)
from otc_assets.domain.estimates import ESTIMATES as DECLARED
from otc_assets.domain.firm_month import firm_month
from otc_assets.domain.parsing.dataset_rows import DatasetRows, read_dataset
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.periods import months_of, weeks_of_month
from otc_assets.domain.threshold_stay import threshold_stay, weeks_followed
from otc_assets.domain.weeks import week_containing
from otc_assets.finra.source import DatasetCapture, DatasetSource, Source, SourceError
from otc_assets.pipeline.figures import BLOCKED
from otc_assets.pipeline.results import CAPTURED_BEFORE, UP_TO_DATE, WeekRefused, WeekResult
from otc_assets.tracing import ARCHIVE, COMPUTE, FETCH, LOAD, set_attributes, span
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.datasets import (
    dropped_captures,
    effective_captures,
    inputs_version,
    lost_captures,
    newest_captures,
    replace_gaps,
    save_capture,
)
from otc_assets.warehouse.events import DatasetCaptured, append, event_context
from otc_assets.warehouse.history import Change
from otc_assets.warehouse.lineage import NOTHING_EFFECTIVE
from otc_assets.warehouse.load import replace_week
from otc_assets.warehouse.read import blocked_weeks, computed_version, intact_rows, week_rows
from otc_assets.warehouse.retention import oldest_kept, require_kept
from otc_assets.warehouse.server import lock_week

#: What is shown of a week in which no period ends.
NO_PERIOD = "no period ends in this week"


def capture_week(
    dataset: Dataset,
    week_ending: dt.date,
    source: Source,
    archive: Archive,
    database: Database,
    run_id: str,
    now: dt.datetime,
) -> WeekResult:
    """Captures the periods of a data set that end in a week and are due at ``now``.

    Raises:
        WeekRefused: a period can't be read, or none of its rows was accepted.
        Dropped: retention has dropped the week, or would.
        SourceError: FINRA did not answer; trying again may help.
    """
    with database.transaction() as connection:
        require_kept(connection, dataset.retention, week_ending)
    periods = dataset.periods(week_ending)
    states: dict[str, object] = {} if periods else {"state": NO_PERIOD}
    refused = []
    for period in periods:
        interruption.check()
        try:
            state = _capture_period(dataset, period, source, archive, database, run_id, now)
        except (UnreadableFile, ArchiveError) as error:
            state = f"refused: {error}"
            refused.append(str(error))
        states[str(period)] = state
        if state.startswith("none of"):
            refused.append(f"{dataset.name} {period}: {state}")
    if refused:
        raise WeekRefused("; ".join(refused))
    return captured_week(dataset, week_ending, database, states)


def captured_week(
    dataset: Dataset, week_ending: dt.date, database: Database, states: Mapping[str, object] = CAPTURED_BEFORE
) -> WeekResult:
    """What is captured of a week of a data set: its rows, and the digests of its captures.

    Args:
        dataset: the data set.
        week_ending: the week.
        database: where its captures are recorded.
        states: what is shown of its periods; by default, that an earlier attempt has captured them.
    """
    with database.transaction() as connection:
        captures = effective_captures(connection, dataset, week_ending, week_ending)
    version = " ".join(c["digest"][:8] for c in captures) or NOTHING_EFFECTIVE
    return WeekResult(sum(c["rows_accepted"] for c in captures), version, states)


def _capture_period(
    dataset: Dataset,
    period: dt.date,
    source: Source,
    archive: Archive,
    database: Database,
    run_id: str,
    now: dt.datetime,
) -> str:
    """Captures one period. Returns what became of it, in words."""
    if restored := _restore_period(dataset, period, archive, database, run_id):
        return restored
    due = dataset.due(period)
    if now < due:
        return f"pending: FINRA publishes it on {due:%A, %Y-%m-%d}"
    if not isinstance(source, DatasetSource):
        return "not captured: this source (OTC_SOURCE) has only the weekly publications"
    since = time.perf_counter()
    with span(FETCH, dataset=dataset.name, period=str(period)):
        capture = source.fetch_period(dataset, period, spool=archive.spool)
    if capture is None:
        return "nothing there: FINRA has no rows of this period"
    return record_period(capture, archive, database, run_id, since)


def _restore_period(dataset: Dataset, period: dt.date, archive: Archive, database: Database, run_id: str) -> str | None:
    """Records a capture again whose rows retention has dropped, if its week is kept now. Returns that, in words.

    FINRA may not offer the period any more; the archive has its bytes.
    """
    week, since = dataset.week_of(period), time.perf_counter()

    def dropped(connection: sa.Connection) -> dict[str, Any] | None:
        return _of_period(dropped_captures(connection, dataset, week, week), period)

    with database.transaction() as connection:
        before = dropped(connection)
    if before is None:
        return None
    rows = read_dataset(dataset, period, archive.get(before["digest"]))
    if rows.accepted.is_empty():  # under the present rules; it is fetched again
        return None
    with span(LOAD, rows=rows.received), database.transaction() as connection:
        lock_week(connection, week)
        if dropped(connection) is None:  # another run restored it in the meantime
            return None
        names = ("dataset", "period", "week_ending", "digest", "origin", "bytes", "rows_expected")
        _record(connection, dataset, {name: before[name] for name in names}, rows, run_id, "new", since)
    return f"restored: {rows.accepted.height:,} rows, which retention had dropped, from the archive"


def record_period(
    capture: DatasetCapture, archive: Archive, database: Database, run_id: str | None, since: float
) -> str:
    """Archives and records a capture in one transaction.

    The same bytes as the newest capture's change nothing, unless rows of it are lost.
    """
    dataset, period, digest = capture.dataset, capture.period, capture.content.digest
    week = dataset.week_of(period)

    def newest(connection: sa.Connection) -> tuple[dict[str, Any], bool]:
        """The newest capture, and whether it has the same bytes and all its rows are there."""
        found = _of_period(newest_captures(connection, [dataset], week, week), period) or {}
        same = found.get("digest") == digest
        return found, same and not (found["rows_accepted"] and lost_captures(connection, dataset, [found]))

    with database.transaction() as connection:
        before, unchanged = newest(connection)
    rows = None if unchanged else read_dataset(dataset, period, capture.content.read())
    with span(ARCHIVE, bytes=capture.content.size):
        archive.put(capture.content, capture.origin)
    if rows is None:
        return f"unchanged: {before['rows_accepted']:,} rows"
    with span(LOAD, rows=rows.received), database.transaction() as connection:
        lock_week(connection, week)
        before, unchanged = newest(connection)
        if unchanged:  # another run recorded it in the meantime
            return f"unchanged: {before['rows_accepted']:,} rows"
        outcome = "revised" if before else "new"
        change = _record(connection, dataset, _fields(capture), rows, run_id, outcome, since)
    if rows.received and rows.accepted.is_empty():
        return f"none of its {rows.received:,} rows was accepted; the first: {rows.rejected['reason'][0]}"
    counted = f"{rows.accepted.height:,} rows accepted, {rows.rejected.height:,} rejected"
    return f"{outcome}: {counted}" + (f"; {change.touched:,} rows differ" if before else "")


def _of_period(captures: Sequence[dict[str, Any]], period: dt.date) -> dict[str, Any] | None:
    return next((found for found in captures if found["period"] == period), None)


def _record(
    connection: sa.Connection,
    dataset: Dataset,
    fields: Mapping[str, Any],
    rows: DatasetRows,
    run_id: str | None,
    outcome: str,
    since: float,
) -> Change:
    """Records a capture with its rows, and its event. ``fields`` are what both have, without the counts of rows."""
    described = {**fields, **counts(rows)}
    number, change = save_capture(connection, dataset, {**described, "run_id": run_id}, rows)
    seconds = time.perf_counter() - since
    with event_context(run_id):
        append(connection, DatasetCaptured(**described, capture_id=number, outcome=outcome, seconds=seconds))
    return change


def _fields(capture: DatasetCapture) -> dict[str, Any]:
    return {
        "dataset": capture.dataset.name,
        "period": capture.period,
        "week_ending": capture.dataset.week_of(capture.period),
        "digest": capture.content.digest,
        "origin": capture.origin,
        "bytes": capture.content.size,
        "rows_expected": capture.rows_expected,
    }


def counts(rows: DatasetRows) -> dict[str, int]:
    """The counts of rows of a capture."""
    return {
        "rows_received": rows.received,
        "rows_accepted": rows.accepted.height,
        "rows_rejected": rows.rejected.height,
    }


# --- what is missing -----------------------------------------------------------------------------------


def current_dataset_gaps(database: Database, source: Source, now: dt.datetime) -> pl.DataFrame:
    """The periods of all data sets that are expected and not captured at the moment ``now`` (DATASET_GAP)."""
    offered: dict[str, set[dt.date]] = {}
    with database.transaction() as connection:
        captured = captured_periods(connection)
        kept_from = _kept_from(connection)
    if isinstance(source, DatasetSource):
        try:
            offered = {
                dataset.name: source.offered_periods(dataset) for dataset in DATASETS if dataset.name in captured
            }
        except SourceError:
            offered = {}
    return dataset_gaps(captured, offered, now, {dataset.name: kept_from[dataset.table] for dataset in DATASETS})


def captured_periods(connection: sa.Connection) -> dict[str, set[dt.date]]:
    """By data set, the periods of which rows are captured, and not dropped by retention although they are kept now."""
    found: dict[str, set[dt.date]] = {}
    for capture in newest_captures(connection, DATASETS):
        if capture["rows_accepted"]:
            found.setdefault(capture["dataset"], set()).add(capture["period"])
    for dataset in DATASETS:
        if dataset.name in found:
            dropped = dropped_captures(connection, dataset, dt.date.min, dt.date.max)
            found[dataset.name] -= {capture["period"] for capture in dropped}
    return found


def report_dataset_gaps(database: Database, source: Source, now: dt.datetime) -> pl.DataFrame:
    """Replaces the stored gaps of the data sets, and returns them."""
    gaps = current_dataset_gaps(database, source, now)
    with database.transaction() as connection:
        replace_gaps(connection, gaps)
    return gaps


# --- estimates -----------------------------------------------------------------------------------------


def _sums(connection: sa.Connection, table: str, weeks: Sequence[dt.date], columns: list[str]) -> pl.DataFrame:
    """The rows of a figure that an estimate reads.

    Weeks graded F count as not captured, as in every figure over several weeks. Their rows of before stay stored.
    """
    blocked = blocked_weeks(connection, weeks)
    return week_rows(connection, table, [week for week in weeks if week not in blocked], columns=columns)


def _volume_rows(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    weeks = weeks_read(week_ending)
    daily = week_rows(
        connection,
        REG_SHO_DAILY.table,
        weeks,
        columns=["week_ending", "trade_date", "symbol", "short_volume", "total_volume"],
    )
    weekly = _sums(connection, "symbol_summary", weeks, ["week_ending", "symbol", "total_volume"])
    return volume_estimate(week_ending, daily, weekly)


def _volume_version(connection: sa.Connection, week_ending: dt.date) -> str | None:
    weeks = weeks_read(week_ending)
    captures = effective_captures(connection, REG_SHO_DAILY, weeks[0], week_ending)
    if not any(capture["week_ending"] == week_ending for capture in captures):
        return None
    used = [capture for capture in captures if capture["week_ending"] in weeks]
    return inputs_version(connection, used, weeks, VOLUME.code_version)


def _cycle(connection: sa.Connection, week_ending: dt.date) -> list[dict[str, Any]]:
    """The capture of the short interest cycle of a week, if there is one."""
    ends = cycle_of(week_ending)
    week = week_containing(ends)
    return [c for c in effective_captures(connection, SHORT_INTEREST, week, week) if c["period"] == ends]


def _share_rows(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    columns = ["week_ending", "symbol", "total_volume", "ats_volume"]
    weekly = _sums(connection, "symbol_summary", [week_ending], columns)
    cycle = cycle_of(week_ending)
    positions = week_rows(connection, SHORT_INTEREST.table, [week_containing(cycle)])
    return off_exchange_share(week_ending, weekly, positions.filter(pl.col("settlement_date") == cycle))


def _share_version(connection: sa.Connection, week_ending: dt.date) -> str | None:
    captures = _cycle(connection, week_ending)
    if not captures or computed_version(connection, "symbol_summary", week_ending) is None:
        return None
    if blocked_weeks(connection, [week_ending]):
        return None
    return inputs_version(connection, captures, [week_ending], SHARE.code_version)


def _stay_rows(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    weeks = weeks_followed(week_ending)
    captured = {c["period"] for c in effective_captures(connection, THRESHOLD_LIST, weeks[0], week_ending)}
    listed = week_rows(connection, THRESHOLD_LIST.table, weeks, columns=["symbol", "trade_date"])
    weekly = _sums(connection, "symbol_summary", [week_ending], ["symbol", "total_volume"])
    return threshold_stay(week_ending, captured, listed, weekly)


def _stay_version(connection: sa.Connection, week_ending: dt.date) -> str | None:
    captures = effective_captures(connection, THRESHOLD_LIST, weeks_followed(week_ending)[0], week_ending)
    if not any(capture["week_ending"] == week_ending for capture in captures):
        return None
    return inputs_version(connection, captures, [week_ending], STAY.code_version)


def _weeks_of_its_month(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    """What a month that ends in the week is held against: ``venue_share`` of the weeks with a day in it."""
    (month,) = months_of(week_ending)
    columns = ["week_ending", "tier", "venue_id", "venue_kind", "total_volume"]
    return _sums(connection, "venue_share", weeks_of_month(month), columns)


def _block_rows(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    ats, firms = (week_rows(connection, dataset.table, [week_ending]) for dataset in (ATS_BLOCKS, OTC_BLOCKS))
    return block_share(week_ending, ats, firms, _weeks_of_its_month(connection, week_ending))


def _block_version(connection: sa.Connection, week_ending: dt.date) -> str | None:
    captures = [
        capture
        for dataset in (ATS_BLOCKS, OTC_BLOCKS)
        for capture in effective_captures(connection, dataset, week_ending, week_ending)
    ]
    if len(captures) < 2:
        return None
    weeks = weeks_of_month(captures[0]["period"])
    return inputs_version(connection, captures, weeks, BLOCKS.code_version, "venue_share")


def _month_rows(connection: sa.Connection, week_ending: dt.date) -> pl.DataFrame:
    rows = week_rows(connection, MONTHLY_SUMMARY.table, [week_ending])
    return firm_month(week_ending, rows, _weeks_of_its_month(connection, week_ending))


def _month_version(connection: sa.Connection, week_ending: dt.date) -> str | None:
    captures = effective_captures(connection, MONTHLY_SUMMARY, week_ending, week_ending)
    if not captures:
        return None
    weeks = weeks_of_month(captures[0]["period"])
    return inputs_version(connection, captures, weeks, MONTH.code_version, "venue_share")


#: By table, the version that a week of an estimate has if it is computed now, and its rows.
ESTIMATES: Mapping[
    str,
    tuple[Callable[[sa.Connection, dt.date], str | None], Callable[[sa.Connection, dt.date], pl.DataFrame]],
] = {
    VOLUME.name: (_volume_version, _volume_rows),
    SHARE.name: (_share_version, _share_rows),
    STAY.name: (_stay_version, _stay_rows),
    BLOCKS.name: (_block_version, _block_rows),
    MONTH.name: (_month_version, _month_rows),
}


_SOURCES = {estimate.name: estimate.sources for estimate in DECLARED}


def current_estimate(table: str, week_ending: dt.date, database: Database) -> WeekResult | None:
    """The week of an estimate as it is stored, if computing it would store the same; None otherwise."""
    version_of, _ = ESTIMATES[table]
    with database.transaction() as connection:
        version = version_of(connection, week_ending)
        if version is None or computed_version(connection, table, week_ending) != version:
            return None
        rows = intact_rows(connection, table, week_ending)
    return None if rows is None else WeekResult(rows, version, UP_TO_DATE)


def compute_estimate(table: str, week_ending: dt.date, database: Database) -> WeekResult:
    """Computes the week of an estimate from what is captured, and saves it with the version of its inputs.

    Raises:
        Dropped: retention has dropped the week, or would.
    """
    version_of, rows_of = ESTIMATES[table]
    with database.transaction() as connection:
        lock_week(connection, week_ending)
        version = version_of(connection, week_ending)
        if version is None:
            state = BLOCKED if blocked_weeks(connection, [week_ending]) else "nothing is captured of this week yet"
            return WeekResult(0, NOTHING_EFFECTIVE, {"state": state})
        for dataset in DATASETS:
            if dataset.table in _SOURCES[table]:  # a capture stays recorded when retention drops its rows
                require_kept(connection, dataset.retention, week_ending)
        with span(COMPUTE):
            rows = rows_of(connection, week_ending)
            set_attributes(rows=rows.height)
        with span(LOAD, rows=rows.height):
            replace_week(connection, table, week_ending, rows, version)
    database.refresh_after_load(week_ending, table)
    return WeekResult(rows.height, version, {"preview": rows.head(5)})


# --- what is to be done ---------------------------------------------------------------------------------


def weeks_to_capture(connection: sa.Connection, weeks: Sequence[dt.date], now: dt.datetime) -> dict[dt.date, str]:
    """Those of ``weeks`` with periods that are due at ``now`` and not captured, each with the periods in words.

    Weeks that retention has dropped, or would, are left out: capturing them is refused.
    """
    have, kept_from = captured_periods(connection), _kept_from(connection)
    found = {}
    for week in weeks:
        missing = [
            f"{dataset.name} {period}"
            for dataset in DATASETS
            if week >= kept_from[dataset.table]
            for period in dataset.periods(week)
            if now >= dataset.due(period) and period not in have.get(dataset.name, ())
        ]
        if missing:
            found[week] = ", ".join(missing)
    return found


def _kept_from(connection: sa.Connection) -> dict[str, dt.date]:
    """By table of a data set, the oldest week of which it is kept."""
    return {dataset.table: oldest_kept(connection, dataset.retention) for dataset in DATASETS}


def weeks_to_estimate(connection: sa.Connection, weeks: Sequence[dt.date]) -> dict[dt.date, str]:
    """Those of ``weeks`` of which estimates were computed from other inputs than now, each with their versions.

    Weeks whose captures retention has dropped, or would, are left out: computing them is refused.
    """
    kept_from = _kept_from(connection)
    found: dict[dt.date, str] = {}
    for week in weeks:
        stale = [
            f"{table} {version}"
            for table, (version_of, _) in ESTIMATES.items()
            if all(week >= kept_from[source] for source in _SOURCES[table] if source in kept_from)
            and (version := version_of(connection, week)) is not None
            and computed_version(connection, table, week) != version
        ]
        if stale:
            found[week] = ", ".join(stale)
    return found
