"""Captures recorded one after another: which one is effective, what is quarantined, and an operator's decisions."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance
from support import installed

from otc_assets.defs import launch
from otc_assets.defs.jobs import FilesToIngest
from otc_assets.domain.weeks import T1
from otc_assets.finra.simulator.files import download_file
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.pipeline import captures
from otc_assets.pipeline.changes import captured_states
from otc_assets.reports import captures as capture_reports
from otc_assets.reports import weeks as reports
from otc_assets.settings import settings
from otc_assets.warehouse import events
from otc_assets.warehouse.read import previous_week

NOW = dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC)
WEEK = dt.date(2026, 8, 21)
PUBLISHED = dt.date(2026, 9, 8)
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)
Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(NOW, tick=True):
        yield


def quiet(done: int, note: str) -> None:
    """No progress bar."""


def line(symbol: str, shares: int, date: dt.date = PUBLISHED, venue: str = "UBSA") -> str:
    return f"NMS Tier 1|{symbol}|{symbol} Inc|NAME OF {venue}|{venue}|{shares}|1|{date}\n"


def ats_file(path: Path, *lines: str, cut: int = 0) -> Path:
    text = HEADER + "".join(lines)
    path.write_text(text[: len(text) - cut])
    return path


def hundred(shares: int = 100) -> list[str]:
    return [line(f"S{number}", shares) for number in range(100)]


def ingest(dagster: DagsterInstance, *paths: Path) -> str:
    """Ingests files and computes their weeks. Returns why it failed; nothing where it did not."""
    failed = ""
    try:
        installed.launcher(dagster).ingest(
            FilesToIngest(paths=[str(path) for path in paths], week_ending=WEEK.isoformat())
        )
    except launch.RunFailed as error:
        failed = str(error)
    assert installed.compute_stale_weeks(dagster) == []
    return failed


def statuses() -> list[str]:
    return [row["status"] for row in capture_reports.captures(installed.database())]


def volume(sql: Sql) -> dict[object, int]:
    rows = sql.execute("SELECT symbol, sum(share_volume) FROM otc.venue_volume GROUP BY 1").fetchall()
    return {symbol: int(shares) for symbol, shares in rows}  # type: ignore[call-overload]


def findings(sql: Sql) -> dict[str, str]:
    """The failed checks of the week, each with its detail."""
    (row,) = sql.execute("SELECT findings FROM otc.week_quality").fetchall()
    return {found["check_name"]: found["detail"] for found in row[0]}  # type: ignore[attr-defined]


def history(sql: Sql) -> list[object]:
    rows = sql.execute("SELECT event_type FROM otc.events WHERE event_type LIKE 'otc.capture.%' ORDER BY id")
    return [kind for (kind,) in rows]


# --- quarantine ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", [PUBLISHED, PUBLISHED + dt.timedelta(days=10)], ids=["same dates", "newer row"])
def test_a_second_truncated_download_is_quarantined_and_the_complete_one_stays(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path, date: dt.date
) -> None:
    """42 of 100 symbols once lost all their ATS volume, at grade A and without a finding."""
    whole = ats_file(tmp_path / "whole.csv", *hundred())
    short = ats_file(tmp_path / "short.csv", line("S0", 100, date), *hundred()[1:58])
    assert ingest(dagster, whole) == ""
    failed = ingest(dagster, short)
    assert "short.csv" in failed
    assert "42 of 100 rows (42.0 %), 42 of 100 symbols (42.0 %)" in failed
    assert "captures accept 2" in failed
    assert statuses() == ["effective", "quarantined"]
    assert volume(sql) == {f"S{number}": 100 for number in range(100)}
    assert "42 of 100 symbols" in findings(sql)["none_quarantined"]
    assert history(sql) == ["otc.capture.quarantined"]
    (status,) = [
        row
        for row in reports.week_status(installed.database(), 8, settings().first_week, NOW)
        if row["week_ending"] == WEEK
    ]
    assert status["state"] == "capture 2 quarantined"
    assert status["grade"] > "A"


def test_a_truncated_download_that_came_first_is_quarantined_when_the_complete_one_arrives(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path
) -> None:
    """The order of files does not decide: the short one has a newer row."""
    revised = PUBLISHED + dt.timedelta(days=10)
    short = ats_file(tmp_path / "short.csv", line("S0", 100, revised), *hundred()[1:58])
    whole = ats_file(tmp_path / "whole.csv", *hundred())
    assert ingest(dagster, short, whole) == ""
    assert statuses() == ["quarantined", "effective"]
    assert len(volume(sql)) == 100


def test_a_file_that_was_truncated_never_replaces_a_complete_one(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path
) -> None:
    """380 rows were once gone, with exit code 0 and no warning."""
    whole = ats_file(tmp_path / "whole.csv", *hundred())
    cut = ats_file(tmp_path / "cut.csv", *hundred(101), cut=5)
    assert ingest(dagster, whole) == ""
    assert "it was truncated, and capture 1 is complete" in ingest(dagster, cut)
    assert statuses() == ["effective", "quarantined"]
    assert set(volume(sql).values()) == {100}


def test_a_small_revision_is_effective_at_once(dagster: DagsterInstance, sql: Sql, tmp_path: Path) -> None:
    first = ats_file(tmp_path / "first.csv", *hundred())
    revised = [line("S0", 7, PUBLISHED + dt.timedelta(days=10)), *hundred()[2:]]
    second = ats_file(tmp_path / "second.csv", *revised)
    assert ingest(dagster, first, second) == ""
    assert statuses() == ["superseded", "effective"]
    assert (volume(sql)["S0"], len(volume(sql))) == (7, 99)


def test_an_operator_accepts_withdraws_and_restores_captures_and_the_week_follows(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path
) -> None:
    """Every decision is an event, and can be revoked; nothing is deleted."""
    ingest(dagster, ats_file(tmp_path / "whole.csv", *hundred()))
    ingest(dagster, ats_file(tmp_path / "short.csv", *hundred()[:58]))

    def decide(decision: object, *arguments: object) -> None:
        with installed.database().transaction() as connection:
            decision(connection, *arguments)  # type: ignore[operator]
        assert installed.compute_stale_weeks(dagster) == []

    decide(captures.accept, 2)
    assert (statuses(), len(volume(sql))) == (["superseded", "effective"], 58)
    assert "none_quarantined" not in findings(sql)
    decide(captures.withdraw, 2, "the download was cut short")
    assert (statuses(), len(volume(sql))) == (["effective", "withdrawn"], 100)
    decide(captures.withdraw, 1, "for a test")
    assert (statuses(), volume(sql)) == (["withdrawn", "withdrawn"], {})
    assert sql.execute("SELECT count(*) FROM otc.symbol_summary").fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM otc.week_quality").fetchone() == (0,)
    decide(captures.restore, 1)
    assert (statuses(), len(volume(sql))) == (["effective", "withdrawn"], 100)
    kinds = ["quarantined", "accepted", "withdrawn", "withdrawn", "restored"]
    assert history(sql) == [f"otc.capture.{kind}" for kind in kinds]
    with installed.database().transaction() as connection:
        (withdrawn,) = [e for e in events.history(connection, WEEK) if e.payload.get("reason", "").startswith("the")]
    assert withdrawn.payload["publication_id"] == 2


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (lambda c: captures.accept(c, 9), "there is no capture 9"),
        (lambda c: captures.accept(c, 1), "is not quarantined"),
        (lambda c: captures.restore(c, 1), "is not withdrawn"),
        (lambda c: captures.withdraw(c, 1, " "), "a reason is required"),
    ],
    ids=["no such capture", "not quarantined", "not withdrawn", "no reason"],
)
def test_a_decision_that_can_not_be_taken_says_why(
    dagster: DagsterInstance, tmp_path: Path, decision: object, said: str
) -> None:
    ingest(dagster, ats_file(tmp_path / "whole.csv", *hundred()))
    with pytest.raises(captures.CaptureNotChangeable, match=said), installed.database().transaction() as connection:
        decision(connection)  # type: ignore[operator]
    assert statuses() == ["effective"]


def test_a_capture_beside_which_an_accepted_one_stays_effective_is_not_accepted_in_silence(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path
) -> None:
    """The command said that it was effective, and nothing changed."""
    ingest(dagster, ats_file(tmp_path / "whole.csv", *hundred()))
    ingest(dagster, ats_file(tmp_path / "short.csv", *hundred()[:58]))
    accept(2)
    ingest(dagster, ats_file(tmp_path / "shorter.csv", *hundred()[:40]))
    with pytest.raises(captures.CaptureNotChangeable, match="3 would change nothing: capture 2 would stay effective"):
        accept(3)
    assert sql.execute("SELECT accepted_at FROM otc.publication WHERE id = 3").fetchone() == (None,)
    withdraw(2)
    accept(3)


def accept(number: int) -> None:
    with installed.database().transaction() as connection:
        captures.accept(connection, number)


def withdraw(number: int) -> None:
    with installed.database().transaction() as connection:
        captures.withdraw(connection, number, "a test")


def test_the_jobs_of_the_ui_accept_and_withdraw(dagster: DagsterInstance, tmp_path: Path) -> None:
    ingest(dagster, ats_file(tmp_path / "whole.csv", *hundred()))
    ingest(dagster, ats_file(tmp_path / "short.csv", *hundred()[:58]))

    def launch(job: str, op: str, **config: object) -> bool:
        run_config = {"ops": {op: {"config": config}}}
        return (
            installed.definitions()
            .resolve_job_def(job)
            .execute_in_process(run_config, instance=dagster, raise_on_error=False)
            .success
        )

    assert launch("accept_capture", "accept_quarantined", capture_id=2)
    assert statuses() == ["superseded", "effective"]
    assert not launch("accept_capture", "accept_quarantined", capture_id=2)
    assert launch("withdraw_capture", "withdraw_or_restore", capture_id=2, reason="cut short")
    assert statuses() == ["effective", "withdrawn"]
    assert launch("withdraw_capture", "withdraw_or_restore", capture_id=2, restore=True)
    assert statuses() == ["superseded", "effective"]


# --- older and newer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(["X.csv", "X (1).csv", "again.csv"])))
def test_the_file_with_the_newest_rows_is_effective_in_any_order_and_each_is_recorded_once(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path, order: tuple[str, ...]
) -> None:
    """A browser's 'X (1).csv' is the newer one, and comes first in an alphabetical list."""
    revised = [line("S0", 7, PUBLISHED + dt.timedelta(days=10)), *hundred()[1:]]
    ats_file(tmp_path / "X.csv", *hundred())
    ats_file(tmp_path / "X (1).csv", *revised)
    ats_file(tmp_path / "again.csv", *hundred())
    assert ingest(dagster, *(tmp_path / name for name in order)) == ""
    assert volume(sql)["S0"] == 7
    assert sorted(statuses()) == ["effective", "superseded"]
    assert sql.execute("SELECT sum(rows_received) FROM otc.publication").fetchone() == (200,)
    assert sql.execute("SELECT count(*) FROM otc.venue_volume_revision").fetchone() == (0,)


def test_a_newer_file_of_one_half_overrides_that_half_of_a_full_publication_and_an_older_one_does_not(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path
) -> None:
    """A half file was once reported as accepted, and had no effect, whatever its dates."""
    assert installed.materialize_weeks(dagster, [WEEK], [T1]) == []
    simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
    text = download_file(simulator, WEEK, T1, "ATS", NOW.date()).decode()
    (tmp_path / "same.csv").write_text(text + "\n")
    run_id = installed.launcher(dagster).ingest(FilesToIngest(paths=[str(tmp_path / "same.csv")]))
    (same,) = capture_reports.ingested(installed.database(), [tmp_path / "same.csv"], run_id)
    assert (same["status"], same["detail"]) == ("superseded", "capture 1 takes precedence")
    outcome = sql.execute("SELECT payload ->> 'outcome' FROM otc.events ORDER BY id DESC LIMIT 1").fetchone()
    assert outcome == ("superseded",)

    before = sql.execute("SELECT venue_kind, sum(share_volume) FROM otc.venue_volume GROUP BY 1 ORDER BY 1").fetchall()
    first, *others = text.splitlines()[1:]
    fields = first.split("|")
    added = 1_000_000
    fields[5], fields[7] = str(int(float(fields[5])) + added), "2026-10-01"
    newer = tmp_path / "newer.csv"
    newer.write_text("\n".join([text.splitlines()[0], "|".join(fields), *others]) + "\n")
    assert ingest(dagster, newer) == ""
    assert statuses() == ["effective", "superseded", "effective"]
    after = sql.execute("SELECT venue_kind, sum(share_volume) FROM otc.venue_volume GROUP BY 1 ORDER BY 1").fetchall()
    assert {kind: b - dict(before)[kind] for kind, b in after} == {"ATS": added, "DE_MINIMIS": 0, "NON_ATS": 0}  # type: ignore[operator]
    # FINRA's own totals of before the revision are not compared with the rows of after it.
    assert "matches_finra_totals" not in findings(sql)
    assert sql.execute("SELECT grade FROM otc.week_quality").fetchone() != ("F",)


def test_what_is_quarantined_is_not_requested_again(dagster: DagsterInstance, tmp_path: Path) -> None:
    """The sensor compares states: one that was captured and is not effective would be captured at every tick."""
    ingest(dagster, ats_file(tmp_path / "whole.csv", *hundred()))
    ingest(dagster, ats_file(tmp_path / "short.csv", *hundred()[:58]))
    (states,) = captured_states(installed.database(), WEEK, WEEK).values()
    assert {state.rows for state in states} == {100, 58}


# --- parts and empty publications ----------------------------------------------------------------------


def record(symbol: str, venue: str, shares: int) -> dict[str, object]:
    return {
        "weekStartDate": (WEEK - dt.timedelta(days=4)).isoformat(),
        "tierIdentifier": "T1",
        "issueSymbolIdentifier": symbol,
        "issueName": f"{symbol} Inc",
        "MPID": venue,
        "marketParticipantName": f"NAME OF {venue}",
        "totalWeeklyShareQuantity": shares,
        "totalWeeklyTradeCount": 1,
        "summaryTypeCode": "ATS_W_SMBL_FIRM",
        "lastUpdateDate": PUBLISHED.isoformat(),
    }


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_pages_of_one_reply_in_files_of_their_own_add_up(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path, order: tuple[int, int]
) -> None:
    """BBB is on both pages: 1000 + 2000 + 4000 at three venues. It once had 6000 at two."""
    pages = [
        [record("AAA", "UBSA", 5), record("BBB", "UBSA", 1000)],
        [record("BBB", "INCR", 2000), record("BBB", "LEVL", 4000)],
    ]
    paths = [tmp_path / f"page_{number}.json" for number in (0, 1)]
    for path, page in zip(paths, pages, strict=True):
        path.write_text(json.dumps(page))
    assert ingest(dagster, *(paths[number] for number in order)) == ""
    assert sql.execute("SELECT symbol, total_volume, venue_count FROM otc.symbol_summary ORDER BY 1").fetchall() == [
        ("AAA", 5, 1),
        ("BBB", 7000, 3),
    ]
    assert [row["rows_in_use"] for row in capture_reports.captures(installed.database())] == [2, 2]
    assert "4 rows captured" in findings(sql)["complete"]


def test_withdrawing_a_file_of_totals_takes_them_out_of_a_week_without_rows(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path
) -> None:
    """Only a tier with rows of venue volume was computed again: the totals stayed, in the tables and the export."""
    path = tmp_path / "totals.json"
    path.write_text(json.dumps([record("AAA", "UBSA", 5) | {"summaryTypeCode": "ATS_W_SMBL"}]))
    assert ingest(dagster, path) == ""
    totals = "SELECT symbol, share_volume FROM otc.published_total"
    assert sql.execute(totals).fetchall() == [("AAA", 5)]
    with installed.database().transaction() as connection:
        captures.withdraw(connection, 1, "for a test")
    assert installed.compute_stale_weeks(dagster) == []
    assert sql.execute(totals).fetchall() == []
    assert [row["rows_in_use"] for row in capture_reports.captures(installed.database())] == [0]


def test_a_withdrawn_or_quarantined_capture_is_no_week_to_compare_with(
    dagster: DagsterInstance, tmp_path: Path
) -> None:
    """The next week was compared with no rows, and a check of the newest week counted what was withdrawn."""

    def previous() -> dt.date | None:
        with installed.database().transaction() as connection:
            return previous_week(connection, WEEK + dt.timedelta(weeks=1), "NMS Tier 1")

    ingest(dagster, ats_file(tmp_path / "whole.csv", *hundred()))
    assert previous() == WEEK
    ingest(dagster, ats_file(tmp_path / "short.csv", *hundred()[:58]))
    assert statuses() == ["effective", "quarantined"]
    with installed.database().transaction() as connection:
        captures.withdraw(connection, 1, "for a test")
    assert previous() is None
    assert installed.compute_stale_weeks(dagster) == []
    assert previous() is None
    with installed.database().transaction() as connection:
        captures.accept(connection, 2)
    assert installed.compute_stale_weeks(dagster) == []
    assert previous() == WEEK


def test_a_publication_without_an_accepted_row_is_a_failure(dagster: DagsterInstance, sql: Sql, tmp_path: Path) -> None:
    """All rows rejected was once exit code 0, a successful run, and 'complete'."""
    bad = ats_file(tmp_path / "bad.csv", *(line("", 5) for _ in range(3)))
    failed = ingest(dagster, bad)
    assert "none of its 3 rows was accepted; the first: " in failed
    assert statuses() == ["empty"]
    assert sql.execute("SELECT count(*) FROM otc.rejected_record").fetchone() == (3,)
    assert sql.execute("SELECT count(*) FROM otc.computed_week").fetchone() == (0,)


def test_a_publication_of_finras_without_an_accepted_row_fails_the_run(
    dagster: DagsterInstance, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otc_assets.domain import normalize

    monkeypatch.setattr(normalize, "MOST_TRADES", -1)
    with pytest.raises(launch.RunFailed, match=r"none of its [\d,]+ rows was accepted"):
        installed.launcher(dagster).run_assets(["publication_t1"], WEEK, WEEK)
    assert sql.execute("SELECT rows_accepted FROM otc.publication").fetchone() == (0,)


def test_captures_of_an_older_database_keep_their_dates_and_are_effective(database: str) -> None:
    """The migration gives each half of a capture the capture's date."""
    from support.migration import migrate

    insert = """
        INSERT INTO otc.publication (week_ending, tier, scope, revision, digest, origin, layout, bytes, rows_received,
            rows_accepted, rows_rejected, complete, last_update_date)
        VALUES ('2026-08-21', 'NMS Tier 1', %s, 1, repeat('a', 64), 'x', 'website', 1, 1, 1, 0, true, '2026-09-08')
    """
    migrate(database, "028")
    with psycopg.connect(database, autocommit=True) as connection:
        for scope in ("FULL", "ATS", "NON_ATS"):
            connection.execute(insert, [scope])
    migrate(database)
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT scope, ats_last_update_date::text, non_ats_last_update_date::text FROM otc.publication ORDER BY id"
        ).fetchall()
    assert rows == [
        ("FULL", "2026-09-08", "2026-09-08"),
        ("ATS", "2026-09-08", None),
        ("NON_ATS", None, "2026-09-08"),
    ]
