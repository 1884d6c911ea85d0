"""The sensor of unreported gaps, by real ticks and runs: what a backfill that leaves weeks out makes of the table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance
from dagster._core.execution.backfill import BulkActionStatus
from support import installed
from support.published import Published
from test_stale import asked, backfill, capture, executed, keys, tick

from otc_assets.domain.weeks import NEW_YORK, T1, Tier, weeks_between

Sql = psycopg.Connection[tuple[object, ...]]

NOW = dt.datetime(2026, 10, 14, 6, tzinfo=NEW_YORK)
MINUTE = dt.timedelta(minutes=1)
#: Far outside the look-back, whose weeks the daily report has.
FIRST, *BETWEEN, LAST = weeks_between(dt.date(2025, 1, 3), dt.date(2025, 1, 31))
#: T1 of the next week has been due for less than seven days.
NEWEST_MISSING = dt.date(2026, 9, 18)


class Offering(Published):
    """It offers the weeks of one tier."""

    def offered(self) -> set[tuple[Tier, dt.date]]:
        return {(T1, BETWEEN[0])}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        installed.replace(monkeypatch, source=Offering(lambda: NOW.date()))
        yield traveller


def statuses(sql: Sql, week: dt.date) -> dict[object, object]:
    return dict(sql.execute("SELECT tier, status FROM otc.gap WHERE week_ending = %s", [week]).fetchall())


def captured_long_ago(sql: Sql, *weeks: dt.date) -> None:
    capture(weeks, [T1])
    sql.execute("UPDATE otc.publication SET captured_at = %s", [NOW - 3 * MINUTE])


def reports(dagster: DagsterInstance) -> tuple[list[tuple[str, str]], str]:
    requests, words = tick(dagster, "unreported_gaps")
    return asked(requests), words


def test_a_hole_that_a_backfill_leaves_is_in_the_table_after_one_run(dagster: DagsterInstance, sql: Sql) -> None:
    """Weeks that no run computed had no rows until the next morning, and outside the look-back they never had any."""
    captured_long_ago(sql, FIRST, LAST)
    for week in (FIRST, LAST):
        installed.launcher(dagster).run_assets(["gap_report"], week, week)
    assert [statuses(sql, week) for week in BETWEEN] == [{}, {}, {}]
    requests, _ = tick(dagster, "unreported_gaps")
    assert installed.definitions().resolve_sensor_def("unreported_gaps").job_name == "report_gaps"
    assert asked(requests) == [keys(BETWEEN[0], NEWEST_MISSING)]

    tags = {**requests[0].tags, "dagster/asset_partition_range_end": str(BETWEEN[-1])}  # 90 weeks would take a while
    executed(dagster, requests[0].with_replaced_attrs(job_name="report_gaps", tags=tags))
    for week in BETWEEN:
        # T1 is captured after it, and nothing is of the other tiers.
        assert statuses(sql, week) == {
            "NMS Tier 1": "missing_inside",
            "NMS Tier 2": "missing_at_end",
            "OTC": "missing_at_end",
        }
    assert sql.execute("SELECT tier, week_ending FROM otc.gap WHERE fetchable").fetchall() == [
        ("NMS Tier 1", BETWEEN[0])
    ]
    runs = {run.run_id: run.job_name for run in dagster.get_runs()}
    of_events = sql.execute(
        "SELECT DISTINCT metadata->>'run_id' FROM otc.events"
        " WHERE event_type = 'otc.gap.opened' AND payload->>'week_ending' = ANY(%s)",
        [list(map(str, BETWEEN))],
    ).fetchall()
    assert [runs[str(run_id)] for (run_id,) in of_events] == ["report_gaps"]
    assert statuses(sql, FIRST - dt.timedelta(weeks=1)) == {}  # it was never requested
    assert reports(dagster)[0] == [keys(LAST + dt.timedelta(weeks=1), NEWEST_MISSING)]


def test_a_capture_that_changes_the_status_of_other_weeks_has_them_reported(
    dagster: DagsterInstance, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_FIRST_WEEK", "2026-08-28")
    weeks = weeks_between(dt.date(2026, 8, 28), NEWEST_MISSING)
    captured_long_ago(sql, weeks[0])
    installed.launcher(dagster).run_assets(["gap_report"], weeks[0], weeks[-1])
    assert reports(dagster) == ([], "every gap is reported")
    assert [statuses(sql, week)["NMS Tier 1"] for week in weeks[1:]] == ["missing_at_end"] * 3
    captured_long_ago(sql, weeks[-1])
    installed.launcher(dagster).run_assets(["gap_report"], weeks[-1], weeks[-1])
    assert reports(dagster)[0] == [keys(*weeks[1:3])]
    installed.launcher(dagster).run_assets(["gap_report"], weeks[1], weeks[2])
    assert [statuses(sql, week)["NMS Tier 1"] for week in weeks[1:3]] == ["missing_inside"] * 2
    assert reports(dagster) == ([], "every gap is reported")


def test_weeks_before_the_first_capture_are_no_gaps_and_those_stored_as_such_are_removed(
    dagster: DagsterInstance, sql: Sql
) -> None:
    """The daily report has half a year: whoever loaded eight weeks was alerted of the others, which nobody wanted."""
    before, *_, first = BETWEEN
    captured_long_ago(sql, first)
    sql.execute(
        "INSERT INTO otc.gap (week_ending, tier, status, due, fetchable, rows_loaded, detail)"
        " VALUES (%s, %s, 'missing_inside', '2025-02-03', false, 0, '')",
        [before, T1.name],
    )
    assert reports(dagster)[0][0] == keys(before, NEWEST_MISSING)
    installed.launcher(dagster).run_assets(["gap_report"], FIRST, first)
    assert [statuses(sql, week) for week in (FIRST, *BETWEEN[:-1])] == [{}] * len(BETWEEN)
    # The other tiers begin with the first week of any.
    assert statuses(sql, first) == {"NMS Tier 2": "missing_at_end", "OTC": "missing_at_end"}
    assert reports(dagster)[0] == [keys(first + dt.timedelta(weeks=1), NEWEST_MISSING)]


def test_no_gap_is_reported_while_captures_are_in_progress(
    dagster: DagsterInstance, sql: Sql, clock: time_machine.Traveller
) -> None:
    """Between the runs of a backfill there are holes, which it fills."""
    assert reports(dagster) == ([], "nothing is captured yet")
    captured_long_ago(sql, FIRST, LAST)
    dagster.add_backfill(backfill(["publication_t2"], BETWEEN[0], BETWEEN[-1]))
    assert reports(dagster) == ([], "waits until captures, figures and gap reports in progress have ended")
    dagster.update_backfill(next(iter(dagster.get_backfills())).with_status(BulkActionStatus.CANCELED))
    assert len(reports(dagster)[0]) == 1
    sql.execute("UPDATE otc.publication SET captured_at = %s WHERE week_ending = %s", [NOW, LAST])
    clock.shift(2 * MINUTE - dt.timedelta(seconds=1))
    assert reports(dagster) == ([], "waits for the end of captures")
    clock.shift(dt.timedelta(seconds=2))
    assert len(reports(dagster)[0]) == 1


def test_gaps_of_weeks_that_retention_has_passed_leave_the_table(
    dagster: DagsterInstance, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a week is no gap any more, and outside the look-back: its rows stayed in the table and in the metrics."""
    monkeypatch.setenv("OTC_FIRST_WEEK", "2026-08-28")
    weeks = weeks_between(dt.date(2026, 8, 28), NEWEST_MISSING)
    captured_long_ago(sql, weeks[0], weeks[-1])
    installed.launcher(dagster).run_assets(["gap_report"], weeks[0], weeks[-1])
    assert statuses(sql, weeks[1])["NMS Tier 1"] == "missing_inside"
    assert reports(dagster) == ([], "every gap is reported")
    sql.execute("UPDATE otc.retention SET keep_weeks = 4 WHERE what = 'venue_volume'")  # from 2026-09-18 on
    assert reports(dagster)[0] == [keys(*weeks[0:3:2])]
    installed.launcher(dagster).run_assets(["gap_report"], weeks[0], weeks[2])
    assert [statuses(sql, week) for week in weeks[:3]] == [{}, {}, {}]
    assert statuses(sql, weeks[-1]) != {}
    assert sql.execute("SELECT DISTINCT week_ending FROM otc.gap_ledger WHERE closed_at IS NULL").fetchall() == [
        (weeks[-1],)
    ]
    assert reports(dagster) == ([], "every gap is reported")
