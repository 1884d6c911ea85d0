"""FINRA's neighbouring data sets: captured, archived, revised, reported as gaps, and estimated from."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import polars as pl
import psycopg
import pytest
import time_machine
from dagster import DagsterInstance
from support import installed
from support.migration import migrate

from otc_assets.content import Held
from otc_assets.defs import datasets
from otc_assets.defs.datasets import ASSETS
from otc_assets.defs.launch import RunFailed
from otc_assets.domain.datasets import (
    ATS_BLOCKS,
    MONTHLY_SUMMARY,
    OTC_BLOCKS,
    REG_SHO_DAILY,
    SHORT_INTEREST,
    THRESHOLD_LIST,
    Dataset,
)
from otc_assets.domain.estimates import cycle_of
from otc_assets.domain.periods import weeks_of_month
from otc_assets.domain.tables import figures
from otc_assets.domain.weeks import NEW_YORK, T1, T2, week_containing
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator import datasets as simulated
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.source import DatasetCapture
from otc_assets.interruption import Interrupted
from otc_assets.pipeline import replay
from otc_assets.pipeline.capture import capture_publication
from otc_assets.pipeline.checks import judge_checks
from otc_assets.pipeline.datasets import (
    capture_week,
    compute_estimate,
    report_dataset_gaps,
    weeks_to_capture,
    weeks_to_estimate,
)
from otc_assets.pipeline.figures import compute_figure
from otc_assets.pipeline.results import WeekRefused
from otc_assets.pipeline.volume import compute_volume
from otc_assets.reports import restored
from otc_assets.reports.captures import damaged_captures
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.retention import Dropped

Sql = psycopg.Connection[tuple[Any, ...]]

WEEK = dt.date(2026, 8, 21)
SATURDAY = dt.datetime(2026, 8, 22, 9, tzinfo=NEW_YORK)
HEADER = "|".join(field.name for field in REG_SHO_DAILY.fields)


class Written:
    """A source with the rows that a test has written, by period."""

    def __init__(self, rows: dict[dt.date, list[str]]) -> None:
        self.rows = rows

    def offered_periods(self, _: Dataset) -> set[dt.date]:
        """The periods that the test has written."""
        return set(self.rows)

    def fetch_period(self, dataset: Dataset, period: dt.date, **_: object) -> DatasetCapture | None:
        """The rows of a period, as FINRA sends them."""
        lines = self.rows.get(period)
        if lines is None:
            return None
        header = "|".join(field.name for field in dataset.fields)
        content = "".join(f"{line}\n" for line in [header, *lines]).encode()
        return DatasetCapture(dataset, period, Held(content), f"test {period}", len(lines))

    state = fetch = offered = None


def row(day: str, symbol: str, short: str, exempt: str, total: str, facility: str = "NQTRF") -> str:
    """A row as FINRA sends it."""
    return f"2026-08-{day}|{symbol}|{facility[1]}|{facility}|{short}|{exempt}|{total}"


def capture(source: Any, now: dt.datetime = SATURDAY, week: dt.date = WEEK, dataset: Dataset = REG_SHO_DAILY) -> Any:
    """Captures a week of a data set, by default of the daily short sale volume, and reports gaps, as its asset does."""
    try:
        return capture_week(dataset, week, source, installed.archive(), installed.database(), "run-1", now)
    finally:
        report_dataset_gaps(installed.database(), source, now)


def summarize(week: dt.date) -> None:
    """Captures the weekly publications of listed stocks, and summarizes them."""
    database, archive = installed.database(), installed.archive()
    for tier in (T1, T2):
        capture_publication(week, tier, installed.source(), archive, database, "run-0", dt.datetime.now(NEW_YORK))
    compute_volume(week, database, archive)
    for figure in figures():
        if figure.name in ("symbol_summary", "venue_share"):
            compute_figure(figure, week, database)


MONDAY, TUESDAY = dt.date(2026, 8, 17), dt.date(2026, 8, 18)


def test_a_period_has_the_rows_that_finra_sent_and_the_same_bytes_again_change_nothing(
    installation: Path, sql: Sql
) -> None:
    source = Written(
        {MONDAY: [row("17", "ABRpD", "0.5", "0", "1.25"), row("17", "BRK/B", "100", "7", "388551.214956")]}
    )
    result = capture(source)
    assert result.rows == 2
    assert result.details[str(MONDAY)] == "new: 2 rows accepted, 0 rejected"
    assert result.details[str(TUESDAY)] == "nothing there: FINRA has no rows of this period"
    stored = (
        "SELECT symbol, facility, short_volume, short_exempt_volume, total_volume FROM short_volume_daily ORDER BY 1"
    )
    assert sql.execute(stored).fetchall() == [
        ("ABRpD", "NQTRF", Decimal("0.5"), Decimal(0), Decimal("1.25")),
        ("BRK/B", "NQTRF", Decimal(100), Decimal(7), Decimal("388551.214956")),
    ]
    ((digest, origin),) = sql.execute("SELECT digest, origin FROM dataset_capture").fetchall()
    assert installed.archive().get(digest).startswith(HEADER.encode())
    assert origin == f"test {MONDAY}"
    before = sql.execute("SELECT * FROM short_volume_daily ORDER BY symbol").fetchall()
    assert capture(source).details[str(MONDAY)] == "unchanged: 2 rows"
    assert sql.execute("SELECT * FROM short_volume_daily ORDER BY symbol").fetchall() == before
    assert sql.execute("SELECT count(*) FROM dataset_capture").fetchone() == (1,)
    assert sql.execute("SELECT count(*) FROM events WHERE event_type = 'otc.dataset.captured'").fetchone() == (1,)


def test_rows_that_are_lost_are_named_and_come_back_with_the_same_bytes(installation: Path, sql: Sql) -> None:
    """Captures are recorded: a database without a row of them was whole, and the same bytes were no news."""
    bad = row("17", "B", "-1", "0", "10")
    source = Written({MONDAY: [row("17", "A", "1", "0", "10"), bad], TUESDAY: [row("18", "A", "1", "0", "10")]})
    capture(source)

    def named() -> list[str]:
        found = restored.lacking(installed.database(), installed.archive(), lambda *_: None)
        return [each.problem for each in found if "otc.short_volume" in each.problem or "otc.dataset" in each.problem]

    assert named() == []
    sql.execute("DELETE FROM short_volume_daily WHERE trade_date = %s", [MONDAY])
    sql.execute("DELETE FROM dataset_rejected")
    sql.execute("SELECT setval(pg_get_serial_sequence('otc.dataset_capture', 'id'), 1)")
    assert named() == [
        f"otc.short_volume_daily has other numbers of rows than were accepted, of 1 captures, the first of {MONDAY}",
        "otc.dataset_rejected has 0 rows of capture 1, which has 1",
        "the next id of otc.dataset_capture would be 2, and 2 is taken",
    ]
    sql.execute("SELECT setval(pg_get_serial_sequence('otc.dataset_capture', 'id'), 2)")
    told = capture(source).details
    assert told[str(MONDAY)] == "revised: 1 rows accepted, 1 rejected; 1 rows differ"
    assert told[str(TUESDAY)] == "unchanged: 1 rows"
    assert sql.execute("SELECT count(*) FROM short_volume_daily").fetchone() == (2,)
    assert named() == ["otc.dataset_rejected has 0 rows of capture 1, which has 1"]


def test_a_corrected_period_keeps_the_replaced_rows_and_answers_as_of_a_moment(installation: Path, sql: Sql) -> None:
    source = Written(
        {MONDAY: [row("17", "A", "1", "0", "10"), row("17", "B", "2", "0", "20"), row("17", "C", "3", "0", "30")]}
    )
    capture(source)
    (before,) = sql.execute("SELECT clock_timestamp()").fetchone() or ()
    source.rows[MONDAY] = [
        row("17", "A", "1", "0", "11"),
        row("17", "C", "3", "0", "30"),
        row("17", "D", "4", "0", "40"),
    ]
    assert capture(source).details[str(MONDAY)] == "revised: 3 rows accepted, 0 rejected; 3 rows differ"
    now = sql.execute("SELECT symbol, total_volume FROM short_volume_daily ORDER BY 1").fetchall()
    assert now == [("A", 11), ("C", 30), ("D", 40)]
    replaced = sql.execute("SELECT symbol, total_volume, change FROM short_volume_daily_revision ORDER BY 1").fetchall()
    assert replaced == [("A", 10, "changed"), ("B", 20, "removed")]
    then = sql.execute("SELECT symbol, total_volume FROM short_volume_daily_as_of(%s) ORDER BY 1", [before]).fetchall()
    assert then == [("A", 10), ("B", 20), ("C", 30)]


def test_a_clock_that_was_set_back_does_not_let_a_row_end_before_it_began(installation: Path, sql: Sql) -> None:
    """Figures were safe, for the moments of their loads are stored; those of captures are in events alone."""
    source = Written({MONDAY: [row("17", "A", "1", "0", "10")]})
    capture(source)
    moments = (
        "SELECT known_from, write_moment FROM short_volume_daily, events WHERE event_type = 'otc.dataset.captured'"
    )
    ((known_from, moment),) = sql.execute(moments).fetchall()
    assert known_from == moment
    # As if the clock had been an hour ahead: the capture's rows, and an event of that moment.
    sql.execute("UPDATE short_volume_daily SET known_from = known_from + '1 hour'")
    sql.execute("""
        INSERT INTO events (event_type, aggregate_type, aggregate_id, version, payload, metadata, write_moment)
        SELECT event_type, aggregate_type, aggregate_id, version + 1, payload, metadata, write_moment + '1 hour'
        FROM events WHERE event_type = 'otc.dataset.captured'
    """)
    source.rows[MONDAY] = [row("17", "A", "1", "0", "11")]
    capture(source)
    spans = sql.execute("SELECT known_from < known_to FROM short_volume_daily_revision").fetchall()
    assert spans == [(True,)]
    plan = sql.execute("EXPLAIN SELECT max(write_moment) FROM events").fetchall()
    assert "events_by_moment" in str(plan)


def test_every_row_is_accepted_or_kept_with_the_reason_why_not(installation: Path, sql: Sql) -> None:
    lines = [
        row("17", "OK", "1", "0", "10"),
        row("17", "OK", "2", "0", "10"),
        row("18", "DAY", "1", "0", "10"),
        row("17", "MINUS", "-1", "0", "10"),
        row("17", "TEXT", "1", "0", "ten"),
        row("17", "", "1", "0", "10"),
        row("17", "NONE", "1", "0", ""),
        "2026-08-17|SHORT|Q",
        row("17", "NA", "1", "0", "10"),
    ]
    assert capture(Written({MONDAY: lines})).details[str(MONDAY)] == "new: 2 rows accepted, 7 rejected"
    assert sql.execute("SELECT symbol FROM short_volume_daily ORDER BY 1").fetchall() == [("NA",), ("OK",)]
    rejected = sql.execute("SELECT line, record, reason FROM dataset_rejected ORDER BY line").fetchall()
    assert [(line, reason) for line, _, reason in rejected] == [
        (3, "duplicate of line 2"),
        (4, "tradeReportDate is 2026-08-18, not 2026-08-17"),
        (5, "shortParQuantity is -1.000000, which is negative"),
        (6, "totalParQuantity is 'ten', not a number"),
        (7, "securitiesInformationProcessorSymbolIdentifier is empty"),
        (8, "totalParQuantity is empty"),
        (9, "the row has 3 fields, and the header 7"),
    ]
    assert [record for _, record, _ in rejected] == lines[1:8]
    counts = "SELECT rows_expected, rows_received, rows_accepted, rows_rejected FROM dataset_capture"
    assert sql.execute(counts).fetchall() == [(9, 9, 2, 7)]
    verdicts = {v.check.name: v.passed for v in judge_checks(installed.database(), "short_volume_daily", WEEK)}
    assert verdicts == {
        "periods_captured": False,
        "rows_reconciled": True,
        "rejection_rate": False,
        "short_within_total": True,
    }


def test_a_period_of_which_no_row_is_accepted_fails_and_leaves_the_rows_that_were_there(
    installation: Path, sql: Sql
) -> None:
    source = Written({MONDAY: [row("17", "A", "1", "0", "10")]})
    capture(source)
    source.rows[MONDAY] = [row("18", "A", "1", "0", "10")]
    with pytest.raises(WeekRefused, match="none of its 1 rows was accepted; the first: tradeReportDate is 2026-08-18"):
        capture(source)
    assert sql.execute("SELECT total_volume FROM short_volume_daily").fetchall() == [(10,)]


def test_rows_that_stay_after_a_capture_without_an_accepted_row_count_as_captured_in_estimates(
    installation: Path, sql: Sql
) -> None:
    """The list of Tuesday stayed in the table, and was not of a captured day: the stay lost it."""
    later = dt.datetime(2026, 8, 21, 19, tzinfo=NEW_YORK)
    lists = {day: [f"{day}|A|A Inc|O|OTC|R|Y|N"] for day in (MONDAY, TUESDAY)}
    source = Written(lists)
    capture(source, later, dataset=THRESHOLD_LIST)
    stay = "SELECT days_captured, days_listed, listed_at_end, consecutive_days FROM threshold_stay"
    with time_machine.travel(later, tick=True):
        compute_estimate("threshold_stay", WEEK, installed.database())
    assert sql.execute(stay).fetchall() == [(2, 2, True, 2)]
    lists[TUESDAY] = lists[MONDAY]  # FINRA sends rows of another day
    with pytest.raises(WeekRefused, match="none of its 1 rows was accepted"):
        capture(source, later, dataset=THRESHOLD_LIST)
    with time_machine.travel(later, tick=True):
        compute_estimate("threshold_stay", WEEK, installed.database())
    assert sql.execute(stay).fetchall() == [(2, 2, True, 2)]
    with installed.database().transaction() as connection:
        assert weeks_to_estimate(connection, [WEEK]) == {}
        # It is requested again, until rows of it can be read.
        assert "thresholdList 2026-08-18" in weeks_to_capture(connection, [WEEK], later)[WEEK]


def test_a_capture_that_ends_between_a_readers_snapshot_and_its_question_is_noticed(
    installation: Path, sql: Sql
) -> None:
    """Its rows are no computed week: an answer as of now lacked them, and a repeated one had them."""
    capture(Written({MONDAY: [row("17", "AAPL", "1", "0", "2")]}))
    final = "SELECT * FROM otc.require_final(NULL::otc.short_volume_daily, %s, %s::pg_snapshot)"
    moment = "SELECT otc.known_until() - interval '1 microsecond'"
    ((before,),) = sql.execute("SELECT pg_current_snapshot()::text").fetchall()
    assert sql.execute(final, [*sql.execute(moment).fetchall()[0], before]).fetchall() == []
    capture(Written({TUESDAY: [row("18", "AAPL", "1", "0", "2")]}))
    ((after,),) = sql.execute("SELECT pg_current_snapshot()::text").fetchall()
    (now,) = sql.execute(moment).fetchall()[0]
    with pytest.raises(psycopg.errors.SerializationFailure, match="a load ended just now: ask again"):
        sql.execute(final, [now, before])
    assert sql.execute(final, [now, after]).fetchall() == []


def test_periods_that_are_due_and_not_captured_are_gaps_since_the_first_captured_one(
    installation: Path, sql: Sql
) -> None:
    """Thursday and Friday are not written; at 9 on Friday, Friday is pending, and Thursday has been due since 18:00."""
    days = [dt.date(2026, 8, day) for day in (18, 19)]
    source = Written({day: [row(f"{day:%d}", "A", "1", "0", "10")] for day in days})
    capture(source, dt.datetime(2026, 8, 21, 9, tzinfo=NEW_YORK))
    gaps = "SELECT period, status, fetchable FROM dataset_gap ORDER BY period"
    assert sql.execute(gaps).fetchall() == [
        (dt.date(2026, 8, 20), "late", False),
        (dt.date(2026, 8, 21), "pending", False),
    ]
    source.rows[dt.date(2026, 8, 21)] = [row("21", "A", "1", "0", "10")]
    capture(source, dt.datetime(2026, 8, 26, 9, tzinfo=NEW_YORK))
    assert sql.execute(gaps).fetchall()[:2] == [
        (dt.date(2026, 8, 20), "missing_inside", False),
        (dt.date(2026, 8, 24), "late", False),
    ]
    (verdict,) = judge_checks(installed.database(), "short_volume_daily", WEEK, ["periods_captured"])
    assert (verdict.passed, verdict.details["regShoDaily"]) == (False, "3 periods captured, missing: 2026-08-20")


@pytest.mark.slow
def test_a_run_captures_a_week_and_the_estimate_is_graded_when_the_weekly_data_arrives(
    dagster: DagsterInstance, sql: Sql
) -> None:
    """The judge is the simulator: its rows of the day, and its totals of the week."""
    weeks = [WEEK - dt.timedelta(weeks=n) for n in (7, 6, 5)]
    with time_machine.travel(SATURDAY, tick=True):
        for week in weeks:
            summarize(week)
            capture(installed.source(), SATURDAY, week)
        installed.launcher(dagster).run_assets(list(ASSETS), WEEK, WEEK)
        simulator = Simulator(scale=0.01)
        expected = pl.concat(simulated.rows(simulator, REG_SHO_DAILY, day) for day in REG_SHO_DAILY.periods(WEEK))
        stored = sql.execute(
            "SELECT count(*), sum(short_volume), sum(total_volume) FROM short_volume_daily WHERE week_ending = %s",
            [WEEK],
        ).fetchone()
        assert stored == (expected.height, expected["shortParQuantity"].sum(), expected["totalParQuantity"].sum())
        counts = "SELECT count(*), count(actual_volume), min(days_reported) FROM volume_estimate WHERE week_ending = %s"
        symbols = expected["securitiesInformationProcessorSymbolIdentifier"].n_unique()
        assert sql.execute(counts, [WEEK]).fetchone() == (symbols, 0, 5)
        (verdict,) = judge_checks(installed.database(), "volume_estimate", WEEK)
        assert verdict.passed
        assert "no actual volume is published yet" in verdict.details["all symbols"]
    with time_machine.travel(SATURDAY + dt.timedelta(weeks=5), tick=True):
        summarize(WEEK)
        with installed.database().transaction() as connection:
            assert "volume_estimate" in weeks_to_estimate(connection, [WEEK])[WEEK]
        compute_estimate("volume_estimate", WEEK, installed.database())
        compute_estimate("threshold_stay", WEEK, installed.database())
        with installed.database().transaction() as connection:
            assert weeks_to_estimate(connection, [WEEK]) == {}
        truth = pl.concat(simulator.publication(WEEK, tier, dt.date(2026, 9, 26)) for tier in (T1, T2))
        truth = truth.filter(pl.col("summaryTypeCode").str.ends_with("_W_SMBL"))
        by_symbol = dict(truth.group_by("issueSymbolIdentifier").agg(pl.col("totalWeeklyShareQuantity").sum()).rows())
        query = "SELECT symbol, actual_volume FROM volume_estimate WHERE week_ending = %s AND actual_volume IS NOT NULL"
        actual = dict(sql.execute(query, [WEEK]).fetchall())
        assert actual == {symbol: by_symbol[symbol] for symbol in actual}
        assert len(actual) > symbols * 0.9
        (verdict,) = judge_checks(installed.database(), "volume_estimate", WEEK)
        assert verdict.passed, verdict.details
        assert verdict.details["all symbols observed"] < 8


def grade(sql: Sql, week: dt.date, grade: str) -> None:
    sql.execute("UPDATE otc.week_quality SET grade = %s WHERE week_ending = %s", [grade, week])


def test_estimates_leave_weeks_graded_f_out_as_figures_over_several_weeks_do(installation: Path, sql: Sql) -> None:
    """Their rows of before stay stored, and once calibrated estimates and counted as actual volume."""
    database, calibrating = installed.database(), WEEK - dt.timedelta(weeks=5)
    later = SATURDAY + dt.timedelta(weeks=5)

    def stale() -> str:
        with database.transaction() as connection:
            return weeks_to_estimate(connection, [WEEK]).get(WEEK, "")

    def computed() -> tuple[Any, ...]:
        compute_estimate("volume_estimate", WEEK, database)
        assert "volume_estimate" not in stale()
        query = "SELECT max(calibration_weeks), count(actual_volume), count(error_pct) FROM volume_estimate"
        return cast("tuple[Any, ...]", sql.execute(query).fetchone())

    with time_machine.travel(later, tick=True):
        for week in (calibrating, WEEK):
            capture(installed.source(), later, week)
            summarize(week)
        before = computed()
        assert before[0] == 1
        assert before[1] == before[2] > 0
        grade(sql, calibrating, "F")
        assert "volume_estimate" in stale()
        assert computed() == (0, *before[1:])
        grade(sql, calibrating, "B")
        grade(sql, WEEK, "F")
        assert computed() == (1, 0, 0)
        grade(sql, calibrating, "F")
        assert computed() == (0, 0, 0)
        grade(sql, calibrating, "B")
        grade(sql, WEEK, "B")
        assert computed() == before


def test_the_share_off_exchange_of_a_week_graded_f_stays_as_it_is(installation: Path, sql: Sql) -> None:
    database, later = installed.database(), SATURDAY + dt.timedelta(weeks=5)
    with time_machine.travel(later, tick=True):
        capture(installed.source(), later, week_containing(cycle_of(WEEK)), SHORT_INTEREST)
        summarize(WEEK)
        rows = compute_estimate("off_exchange_share", WEEK, database).rows
        assert rows > 0
        grade(sql, WEEK, "F")
        with database.transaction() as connection:
            assert "off_exchange_share" not in weeks_to_estimate(connection, [WEEK]).get(WEEK, "")
        refused = compute_estimate("off_exchange_share", WEEK, database)
        assert (refused.rows, refused.details) == (0, {"state": "venue_volume is graded F"})
        assert sql.execute("SELECT count(*) FROM off_exchange_share").fetchone() == (rows,)


def test_captured_bytes_of_data_sets_are_verified_with_the_others(installation: Path) -> None:
    capture(Written({MONDAY: [row("17", "A", "1", "0", "10")]}))
    verified, damaged = damaged_captures(installed.database(), installed.archive(), None, installed.quiet)
    assert (verified, damaged) == (1, [])
    for file in (installation / "archive").rglob("*.zst"):
        file.write_bytes(b"")
    _, (problem,) = damaged_captures(installed.database(), installed.archive(), None, installed.quiet)
    assert (problem["tier"], problem["scope"]) == ("regShoDaily", str(MONDAY))


def test_what_is_due_and_not_captured_is_requested(installation: Path) -> None:
    source = Written({MONDAY: [row("17", "A", "1", "0", "10")]})
    capture(source, dt.datetime(2026, 8, 18, 9, tzinfo=NEW_YORK))
    with installed.database().transaction() as connection:
        assert weeks_to_capture(connection, [WEEK], dt.datetime(2026, 8, 18, 17, tzinfo=NEW_YORK)) == {}
        due = weeks_to_capture(connection, [WEEK], dt.datetime(2026, 8, 18, 18, tzinfo=NEW_YORK))
    assert due == {WEEK: "regShoDaily 2026-08-18, thresholdList 2026-08-17"}


def test_what_retention_would_drop_is_not_requested(installation: Path, sql: Sql) -> None:
    """A period that was never there, or an estimate by other rules: its run was refused, again and again."""
    with time_machine.travel(SATURDAY, tick=True):
        capture(Written({MONDAY: [row("17", "A", "1", "0", "10")]}))
        with installed.database().transaction() as connection:
            assert set(weeks_to_capture(connection, [WEEK], SATURDAY)) == {WEEK}
            assert set(weeks_to_estimate(connection, [WEEK])) == {WEEK}
    with time_machine.travel(SATURDAY + dt.timedelta(weeks=2), tick=True):
        sql.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = 'venue_volume'")
        with pytest.raises(Dropped):
            capture(Written({}))
        with pytest.raises(Dropped):
            compute_estimate("volume_estimate", WEEK, installed.database())
        with installed.database().transaction() as connection:
            assert weeks_to_capture(connection, [WEEK], SATURDAY) == {}
            assert weeks_to_estimate(connection, [WEEK]) == {}


@pytest.mark.slow
def test_short_interest_is_captured_in_the_weeks_in_which_a_cycle_ends_and_gives_the_share_off_exchange(
    installation: Path, sql: Sql
) -> None:
    """The judge is the simulator: the average daily volume that it states, and its totals of the week."""
    later = dt.datetime(2026, 10, 1, 9, tzinfo=NEW_YORK)
    week, cycle = dt.date(2026, 8, 14), dt.date(2026, 8, 14)
    with time_machine.travel(later, tick=True):
        summarize(week)
        database = installed.database()
        with database.transaction() as connection:
            assert weeks_to_estimate(connection, [week]) == {}
        nothing = capture(installed.source(), later, WEEK, SHORT_INTEREST)
        assert (nothing.rows, nothing.details) == (0, {"state": "no period ends in this week"})
        early = capture(installed.source(), dt.datetime(2026, 8, 25, 17, tzinfo=NEW_YORK), week, SHORT_INTEREST)
        assert early.details == {"2026-08-14": "pending: FINRA publishes it on Tuesday, 2026-08-25"}
        simulator = Simulator(scale=0.01)
        stated = simulated.rows(simulator, SHORT_INTEREST, cycle)
        assert capture(installed.source(), later, week, SHORT_INTEREST).rows == stated.height
        assert all(verdict.passed for verdict in judge_checks(database, "short_interest", week))
        with database.transaction() as connection:
            assert week in weeks_to_estimate(connection, [week])
        computed = compute_estimate("off_exchange_share", week, database)
    average = dict(stated.select("symbolCode", "averageDailyVolumeQuantity").rows())
    total = pl.concat(simulator.publication(week, tier, later.date()) for tier in (T1, T2))
    total = total.filter(pl.col("summaryTypeCode").str.ends_with("_W_SMBL"))
    by_symbol = total.group_by("issueSymbolIdentifier").agg(pl.col("totalWeeklyShareQuantity").sum()).rows()
    query = "SELECT symbol, off_exchange_share_pct FROM off_exchange_share WHERE share_reason IS NULL"
    shares = dict(sql.execute(query).fetchall())
    assert len(shares) > 0.9 * computed.rows
    for symbol, shares_traded in by_symbol:
        if symbol in shares:
            code = symbol.replace(".", "").replace("p", "PR")
            assert shares[symbol] == pytest.approx(shares_traded / (average[code] * 5) * 100, abs=Decimal("0.000001"))
    (verdict,) = judge_checks(database, "off_exchange_share", week)
    assert verdict.passed, verdict.details


def test_a_rebuild_from_the_archive_restores_captures_rows_and_revisions(
    installation: Path, sql: Sql, empty_database: str
) -> None:
    source = Written({MONDAY: [row("17", "A", "1", "0", "10"), row("17", "B", "2", "0", "20"), "no row"]})
    capture(source)
    source.rows[MONDAY] = [row("17", "A", "1", "0", "11")]
    capture(source)
    migrate(empty_database)
    rebuilt = Database(empty_database)
    plan = replay.plan(installed.archive(), installed.quiet)
    done = replay.rebuild(plan, rebuilt, installed.archive(), installed.quiet)
    rebuilt.close()
    assert (done.captures, done.differences, done.failed) == (2, [], {})
    with psycopg.connect(empty_database, options="-c search_path=otc -c TimeZone=UTC") as other:
        for table in ("dataset_capture", "dataset_rejected", "short_volume_daily", "short_volume_daily_revision"):
            query = f"SELECT to_jsonb(t)::text AS found FROM {table} t ORDER BY 1"  # type: ignore[assignment]
            expected = sql.execute(query).fetchall()  # type: ignore[arg-type]
            assert expected
            assert other.execute(query).fetchall() == expected, table  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_threshold_list_is_captured_by_day_and_tells_how_long_a_security_is_on_it(
    installation: Path, sql: Sql
) -> None:
    """The judge is the simulator: its lists, day by day."""
    monday = dt.datetime(2026, 8, 24, 19, tzinfo=NEW_YORK)
    with time_machine.travel(monday, tick=True):
        early = capture(installed.source(), dt.datetime(2026, 8, 21, 19, tzinfo=NEW_YORK), WEEK, THRESHOLD_LIST)
        assert early.details["2026-08-21"] == "pending: FINRA publishes it on Monday, 2026-08-24"
        for week in (WEEK - dt.timedelta(weeks=1), WEEK):
            capture(installed.source(), monday, week, THRESHOLD_LIST)
        compute_estimate("threshold_stay", WEEK, installed.database())
    days = [day for week in (WEEK - dt.timedelta(weeks=1), WEEK) for day in THRESHOLD_LIST.periods(week)]
    lists = {
        day: set(simulated.rows(Simulator(scale=0.01), THRESHOLD_LIST, day)["issueSymbolIdentifier"]) for day in days
    }
    assert sql.execute("SELECT count(*) FROM threshold_security").fetchone() == (sum(map(len, lists.values())),)
    stays = sql.execute("SELECT symbol, days_listed, consecutive_days, at_least FROM threshold_stay").fetchall()
    assert {symbol for symbol, *_ in stays} == set().union(*(lists[day] for day in days[5:]))
    always = set.intersection(*lists.values())
    assert always
    for symbol in always:
        assert (symbol, 5, 10, True) in stays
    (verdict,) = judge_checks(installed.database(), "threshold_stay", WEEK)
    assert verdict.passed


@pytest.mark.slow
def test_blocks_of_a_month_are_captured_in_the_week_in_which_it_ends_and_held_against_the_weeks(
    installation: Path, sql: Sql
) -> None:
    """The judge is the simulator: its rows of blocks, and its weekly totals. July 2026 ends on a Friday."""
    july, week, database = dt.date(2026, 7, 1), dt.date(2026, 7, 31), installed.database()
    later = dt.datetime(2026, 9, 8, 19, tzinfo=NEW_YORK)
    with time_machine.travel(later, tick=True):
        early = capture(installed.source(), later - dt.timedelta(hours=2), week, ATS_BLOCKS)
        assert early.details == {"2026-07-01": "pending: FINRA publishes it on Tuesday, 2026-09-08"}
        assert capture(installed.source(), later, week, ATS_BLOCKS).rows > 0
        # One of both is captured: the market's blocks are not known.
        assert compute_estimate("block_share", week, database).rows == 0
        assert capture(installed.source(), later, week, OTC_BLOCKS).rows > 0
        compute_estimate("block_share", week, database)
        assert (
            sql.execute("SELECT count(*), count(against_weeks) FROM block_share WHERE venue_kind = 'ATS'").fetchone()[1]
            == 0
        )  # type: ignore[index]
        for each in weeks_of_month(july):
            summarize(each)
        with database.transaction() as connection:
            assert "block_share" in weeks_to_estimate(connection, [week])[week]
        compute_estimate("block_share", week, database)
    simulator = Simulator(scale=0.01)
    stated = simulated.rows(simulator, ATS_BLOCKS, july)
    stored = "SELECT count(*), sum(block_volume), sum(total_volume) FROM ats_block WHERE month_start = %s"
    sums = (stated.height, stated["ATSBlockQuantity"].sum(), stated["totalShareQuantity"].sum())
    assert sql.execute(stored, [july]).fetchone() == sums
    rows = sql.execute("SELECT category, sum(market_block_share_pct) FROM block_share GROUP BY 1").fetchall()
    assert len(rows) == 6
    assert all(abs(total - 100) < Decimal("0.001") for _, total in rows)
    weekly = {
        each: pl.concat(simulator.rows_of(each, tier, "ATS_W_FIRM") for tier in (T1, T2))
        for each in weeks_of_month(july)
    }
    inside = pl.concat(weekly[each] for each in weekly if each.day > 3)
    low = dict(inside.group_by("MPID").agg(pl.col("totalWeeklyShareQuantity").sum()).rows())
    query = "SELECT DISTINCT venue, whole_weeks_volume FROM block_share WHERE venue_kind = 'ATS'"
    found = dict(sql.execute(query).fetchall())
    assert len(found) > 20
    assert all(abs(found[mpid] - volume) <= volume / 100 for mpid, volume in low.items())  # revisions are small
    for table in ("ats_block", "otc_block"):
        assert all(verdict.passed for verdict in judge_checks(database, table, week))
    (verdict,) = judge_checks(database, "block_share", week)
    assert verdict.passed, verdict.details


def test_blocks_that_exceed_the_trades_are_reported_and_a_corrected_month_keeps_what_it_replaced(
    installation: Path, sql: Sql
) -> None:
    july, week = dt.date(2026, 7, 1), dt.date(2026, 7, 31)
    later = dt.datetime(2026, 9, 9, 9, tzinfo=NEW_YORK)
    rest = "2026-09-08|2026-09-08"
    source = Written(
        {
            july: [
                f"2026-07-01|FIRM, L.P.|10K|10K+ Shares|7|100000|5|100001|{rest}",
                f"2026-07-01|OTHER|10K|10K+ Shares|7|100000.5|5|100000.5|{rest}",
            ]
        }
    )
    assert capture(source, later, week, OTC_BLOCKS).rows == 2
    (verdict,) = judge_checks(installed.database(), "otc_block", week, ["blocks_within_total"])
    assert (verdict.passed, verdict.details["otcBlocksSummary"]) == (
        False,
        "1 of 2 rows have more in blocks than in all trades",
    )
    (before,) = sql.execute("SELECT clock_timestamp()").fetchone() or ()
    source.rows[july][0] = f"2026-07-01|FIRM, L.P.|10K|10K+ Shares|7|100000|4|90000|{rest}"
    assert capture(source, later, week, OTC_BLOCKS).details["2026-07-01"].startswith("revised: 2 rows accepted")
    (verdict,) = judge_checks(installed.database(), "otc_block", week, ["blocks_within_total"])
    assert verdict.passed
    query = "SELECT firm_name, block_trades, block_volume FROM otc_block{} ORDER BY 1"
    other = ("OTHER", 5, Decimal("100000.5"))
    assert sql.execute(query.format("")).fetchall() == [("FIRM, L.P.", 4, 90_000), other]  # type: ignore[arg-type]
    then = sql.execute(query.format("_as_of(%s)"), [before]).fetchall()  # type: ignore[arg-type]
    assert then == [("FIRM, L.P.", 5, 100_001), other]


@pytest.mark.slow
def test_months_of_both_markets_are_one_capture_whose_totals_agree_and_are_held_against_the_weeks(
    installation: Path, sql: Sql
) -> None:
    """The judge is the simulator: its rows of the month, and its weekly totals of firms."""
    july, week, database = dt.date(2026, 7, 1), dt.date(2026, 7, 31), installed.database()
    later = dt.datetime(2026, 9, 8, 19, tzinfo=NEW_YORK)
    simulator = Simulator(scale=0.01)
    stated = simulated.rows(simulator, MONTHLY_SUMMARY, july)
    with time_machine.travel(later, tick=True):
        source = installed.source()
        assert isinstance(source, QueryApi)
        assert july in source.offered_periods(MONTHLY_SUMMARY)
        assert capture(source, later, week, MONTHLY_SUMMARY).rows == stated.height
        assert "unchanged" in capture(source, later, week, MONTHLY_SUMMARY).details["2026-07-01"]
        for each in weeks_of_month(july):
            summarize(each)
        with database.transaction() as connection:
            assert "firm_month" in weeks_to_estimate(connection, [week])[week]
        compute_estimate("firm_month", week, database)
    query = "SELECT market, summary_type, count(*), sum(total_volume), sum(total_trades) FROM otc_month GROUP BY 1, 2"
    expected = stated.group_by("tierIdentifier", "summaryTypeCode").agg(
        pl.len(), pl.col("totalMonthlyShareQuantity").sum(), pl.col("totalMonthlyTradeCount").sum()
    )
    assert sorted(sql.execute(query).fetchall()) == sorted(expected.rows())
    assert expected.height == 8
    firms = stated.filter(pl.col("summaryTypeCode") == "OTC_M_FIRM", pl.col("tierIdentifier") == "NMS")
    found = "SELECT venue_id, total_volume, against_weeks FROM firm_month WHERE market = 'NMS'"
    by_firm = {venue: (volume, state) for venue, volume, state in sql.execute(found).fetchall()}
    assert len(by_firm) > 20
    for crd, volume in firms.select("firmCRDNumber", "totalMonthlyShareQuantity").rows():
        assert by_firm["DE_MINIMIS" if crd == "0" else crd][0] == volume
    # OTC equities of these weeks are not summarized here.
    states = sql.execute("SELECT market, count(*), count(against_weeks) FROM firm_month GROUP BY 1 ORDER BY 1")
    (nms, otce) = states.fetchall()
    assert (nms[2], otce[2]) == (nms[1] - 1, 0)
    assert all(verdict.passed for verdict in judge_checks(database, "otc_month", week))
    (verdict,) = judge_checks(database, "firm_month", week)
    assert verdict.passed, verdict.details
    # Retention drops the rows, and the capture stays recorded.
    sql.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = %s", [MONTHLY_SUMMARY.retention])
    sql.execute("DELETE FROM otc_month")
    with pytest.raises(Dropped, match=f"week {week} is outside the retention window"):
        compute_estimate("firm_month", week, database)


def test_a_month_whose_totals_are_not_the_sums_of_its_rows_is_an_error(installation: Path, sql: Sql) -> None:
    july, week = dt.date(2026, 7, 1), dt.date(2026, 7, 31)
    later = dt.datetime(2026, 9, 9, 9, tzinfo=NEW_YORK)

    def line(kind: str, symbol: str, crd: str, trades: int, shares: int) -> str:
        return f"2026-07-01|NMS|{kind}|{symbol}||{crd}|||{trades}|{shares}||2026-09-08|2026-09-08"

    source = Written(
        {
            july: [
                line("OTC_M_SMBL_FIRM", "A", "7", 2, 200),
                line("OTC_M_SMBL_FIRM", "A", "0", 1, 50),
                line("OTC_M_SMBL_FIRM", "B", "7", 1, 10),
                line("OTC_M_SMBL", "A", "", 3, 250),
                line("OTC_M_SMBL", "B", "", 1, 11),
                line("OTC_M_FIRM", "", "7", 3, 210),
                # A firm without rows; and the group, which has no total.
                line("OTC_M_FIRM", "", "8", 1, 1),
            ]
        }
    )
    assert capture(source, later, week, MONTHLY_SUMMARY).rows == 7
    (verdict,) = judge_checks(installed.database(), "otc_month", week, ["month_totals_agree"])
    # B, the firm 8, and the group.
    assert (verdict.passed, verdict.details["monthlySummary"]) == (
        False,
        "3 of FINRA's totals differ from the sums of its rows",
    )
    assert sql.execute("SELECT symbol, firm_crd FROM otc_month WHERE summary_type = 'OTC_M_FIRM'").fetchall() == [
        ("", "7"),
        ("", "8"),
    ]


def test_a_week_that_retention_has_dropped_passes_its_checks_and_comes_back_from_the_archive_once_it_is_kept(
    installation: Path, sql: Sql
) -> None:
    """Its captures stay recorded: the same bytes counted as unchanged, and the rows were lost for good."""
    later = SATURDAY + dt.timedelta(weeks=4)
    stored = "SELECT symbol, short_volume, total_volume FROM short_volume_daily ORDER BY symbol"
    with time_machine.travel(SATURDAY, tick=True):
        capture(Written({MONDAY: [row("17", "A", "1", "0", "10"), row("17", "B", "2", "0", "20")]}))
    rows = sql.execute(stored).fetchall()
    with time_machine.travel(later, tick=True):
        sql.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = 'venue_volume'")
        assert sql.execute("SELECT weeks FROM otc.apply_retention(%s)", [later.date()]).fetchall() == [(1,)]
        assert sql.execute(stored).fetchall() == []
        report_dataset_gaps(installed.database(), Written({}), later)
        verdicts = {v.check.name: v.passed for v in judge_checks(installed.database(), REG_SHO_DAILY.table, WEEK)}
        assert set(verdicts.values()) == {True}
        sql.execute("UPDATE otc.retention SET keep_weeks = NULL WHERE what = 'venue_volume'")
        with installed.database().transaction() as connection:
            assert f"regShoDaily {MONDAY}" in weeks_to_capture(connection, [WEEK], later)[WEEK]
        # FINRA does not offer the period any more. Without its bytes it can't be restored; the next day is captured.
        ((digest,),) = sql.execute("SELECT digest FROM dataset_capture").fetchall()
        (archived,) = installation.rglob(f"{digest}*")
        content = archived.read_bytes()
        archived.unlink()
        with pytest.raises(WeekRefused, match=f"the archive has no .*{digest}"):
            capture(Written({TUESDAY: [row("18", "C", "1", "0", "5")]}), later)
        assert sql.execute("SELECT symbol FROM short_volume_daily").fetchall() == [("C",)]
        archived.write_bytes(content)
        assert capture(Written({}), later).details[str(MONDAY)].startswith("restored: 2 rows")
        assert sql.execute(stored).fetchall() == [*rows, ("C", 1, 5)]
        with installed.database().transaction() as connection:
            assert f"regShoDaily {MONDAY}" not in weeks_to_capture(connection, [WEEK], later)[WEEK]
        capture(Written({}), later)
        assert sql.execute("SELECT count(*) FROM dataset_capture").fetchone() == (3,)


def test_a_period_that_retention_would_refuse_is_no_gap(installation: Path, sql: Sql) -> None:
    """It could not be captured any more, so it would stay a gap for good."""
    source = Written({MONDAY: [row("17", "A", "1", "0", "10")]})
    capture(source)
    gaps = "SELECT count(*) FILTER (WHERE week_ending = %s), count(*) FROM dataset_gap"
    assert sql.execute(gaps, [WEEK]).fetchone() == (4, 4)
    later = SATURDAY + dt.timedelta(weeks=2)
    sql.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = 'venue_volume'")
    with time_machine.travel(later, tick=True):
        report_dataset_gaps(installed.database(), source, later)
    of_week, all_gaps = sql.execute(gaps, [WEEK]).fetchone() or (None, None)
    assert of_week == 0
    assert all_gaps


@pytest.mark.parametrize(("error", "reported"), [(Interrupted(), 0), (ConnectionError(), 1)])
def test_gaps_are_reported_where_a_week_fails_and_not_where_the_run_is_ended(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch, error: BaseException, reported: int
) -> None:
    """The report asks FINRA about each data set, which would hold up the end of the run if FINRA does not answer."""
    asked = []

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "capture_week", fail)
    monkeypatch.setattr(datasets, "report_dataset_gaps", lambda *_: asked.append(1))
    with pytest.raises((Interrupted, RunFailed)), time_machine.travel(SATURDAY, tick=True):
        installed.launcher(dagster).run_assets([REG_SHO_DAILY.table], WEEK, WEEK, retries=False)
    assert len(asked) == reported
