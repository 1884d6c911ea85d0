"""``otc-assets events``: its output as text and as JSON, and its messages about usage errors."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from support.console_script import Run, console_script

from otc_assets.warehouse import events
from otc_assets.warehouse.server import transaction

ROOT = Path(__file__).resolve().parents[2]
WEEK = dt.date(2026, 8, 21)
T1 = "NMS Tier 1"


@pytest.fixture
def run(installation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as the console script does: (exit code, standard output, standard error)."""
    return console_script(monkeypatch, capsys, "events", width=100)


def check(number: int) -> events.CheckFailed:
    return events.CheckFailed(
        week_ending=WEEK, asset="venue_volume", check=f"c{number}", severity="WARN", blocking=False, detail={}
    )


def append_all(engine: sa.Engine, *payloads: events.Payload) -> list[events.Event]:
    with events.event_context("run-7"), transaction(engine) as connection:
        return [events.append(connection, payload) for payload in payloads]


CAPTURE = {"publication_id": 7, "scope": "ATS", "origin": "ats.csv", "digest": "c" * 64}


def a_week(engine: sa.Engine) -> list[events.Event]:
    """A week from its gap to its grade, and what retention did."""
    of_week = {"week_ending": WEEK, "tier": T1}
    return append_all(
        engine,
        events.GapOpened(**of_week, status="pending", due=WEEK, fetchable=False, detail="on Monday"),
        events.GapClosed(**of_week, status="pending"),
        events.FileIngested(
            **of_week,
            publication_id=1,
            scope="FULL",
            revision=1,
            digest="a" * 64,
            origin="weeklySummary",
            layout="api",
            bytes=10,
            rows_received=1235,
            rows_accepted=1234,
            rows_rejected=1,
            complete=False,
            outcome="new",
            seconds=0.5,
        ),
        events.DatasetCaptured(
            capture_id=3,
            dataset="regShoDaily",
            period=WEEK,
            week_ending=WEEK,
            digest="d" * 64,
            origin="https://api",
            bytes=10,
            rows_expected=2,
            rows_received=2,
            rows_accepted=1,
            rows_rejected=1,
            outcome="new",
            seconds=0.5,
        ),
        events.FileRejected(origin="page.csv", reason="page.csv: it is a page of HTML. Download it again"),
        events.CaptureQuarantined(**of_week, **CAPTURE, reason="it was truncated"),
        events.CaptureAccepted(**of_week, **CAPTURE),
        events.CaptureWithdrawn(**of_week, **CAPTURE, reason="it was a test"),
        events.CaptureRestored(**of_week, **CAPTURE),
        events.CaptureRecounted(
            **of_week,
            **CAPTURE,
            rows_received=1235,
            rows_accepted=1230,
            rows_rejected=5,
            rows_received_before=1235,
            rows_accepted_before=1234,
            rows_rejected_before=1,
        ),
        events.WeekNormalized(**of_week, rows=1234, shares=Decimal("98765.500000"), version="T1:1", seconds=0.25),
        events.WeekRevised(
            **of_week,
            added=1,
            changed=2,
            removed=3,
            shares_before=Decimal(1),
            shares_after=Decimal("98765.5"),
            version="T1:1",
        ),
        events.WeekChecked(week_ending=WEEK, version="T1:1", grades={T1: events.TierGrade(grade="B", score=90)}),
        events.SummaryComputed(week_ending=WEEK, table="symbol_summary", rows=7, version="T1:1", seconds=0.1),
        events.MetricsComputed(week_ending=WEEK, table="symbol_rolling", rows=8, version="T1:1", seconds=0.1),
        events.ReportWritten(week_ending=WEEK, version="0123", bytes=57_351, is_first=True, seconds=0.1),
        check(1),
        events.CheckRecovered(week_ending=WEEK, asset="venue_volume", check="c1"),
        events.GapChanged(**of_week, status="incomplete", due=WEEK, fetchable=True, rows_loaded=1200, detail="now"),
        events.RetentionApplied(what="raw_record", retained_from=WEEK, weeks=3),
    )


SAID = [
    ("otc.gap.opened", "2026-08-21 NMS Tier 1: pending"),
    ("otc.gap.closed", "2026-08-21 NMS Tier 1: pending"),
    ("otc.file.ingested", "2026-08-21 NMS Tier 1: new, 1,234 rows accepted, 1 rejected, not complete"),
    ("otc.dataset.captured", "2026-08-21: regShoDaily 2026-08-21: new, 1 rows accepted, 1 rejected"),
    ("otc.file.rejected", "page.csv: it is a page of HTML. Download it again"),
    ("otc.capture.quarantined", "2026-08-21 NMS Tier 1: capture 7: it was truncated"),
    ("otc.capture.accepted", "2026-08-21 NMS Tier 1: capture 7 of ats.csv"),
    ("otc.capture.withdrawn", "2026-08-21 NMS Tier 1: capture 7: it was a test"),
    ("otc.capture.restored", "2026-08-21 NMS Tier 1: capture 7 of ats.csv"),
    (
        "otc.capture.recounted",
        "2026-08-21 NMS Tier 1: capture 7: 1,230 rows accepted, 5 rejected; before 1,234 and 1",
    ),
    ("otc.week.normalized", "2026-08-21 NMS Tier 1: 1,234 rows"),
    ("otc.week.revised", "2026-08-21 NMS Tier 1: 1 rows added, 2 changed, 3 removed"),
    ("otc.week.checked", "2026-08-21: NMS Tier 1 B"),
    ("otc.summary.computed", "2026-08-21: symbol_summary, 7 rows"),
    ("otc.metrics.computed", "2026-08-21: symbol_rolling, 8 rows"),
    ("otc.report.written", "2026-08-21: weekly_report, 57,351 bytes"),
    ("otc.check.failed", "2026-08-21: venue_volume.c1 WARN"),
    ("otc.check.recovered", "2026-08-21: venue_volume.c1"),
    ("otc.gap.changed", "2026-08-21 NMS Tier 1: incomplete, 1,200 rows"),
    ("otc.retention.applied", "raw_record: 3 weeks before 2026-08-21 dropped"),
]


def test_each_kind_of_event_is_shown_in_words_oldest_first(run: Run, engine: sa.Engine) -> None:
    ids = [event.id for event in a_week(engine)]
    code, text, _ = run("tail", "--json")
    lines = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert [(e["event_type"], e["what"]) for e in lines] == SAID
    assert [e["id"] for e in lines] == ids
    assert {kind for kind, _ in SAID} == set(events.PAYLOADS)
    code, text, _ = run("tail", "-n", "3")
    assert code == 0
    header, *rows = [line.strip().split(maxsplit=4) for line in text.splitlines()]
    assert header == ["id", "at", "(UTC)", "type", "what"]
    assert [(int(row[0]), row[3], row[4]) for row in rows] == [
        (number, *said) for number, said in zip(ids[-3:], SAID[-3:], strict=True)
    ]
    assert all(len(line) <= 100 for line in run("tail")[1].splitlines())


def test_events_of_one_type_alone_and_where_there_are_none(run: Run, engine: sa.Engine) -> None:
    assert run("tail") == (0, "", "no events yet\n")
    assert run("tail", "--json") == (0, "", "")
    append_all(engine, *map(check, range(30)))
    assert run("tail", "--type", "otc.week.revised")[2] == "no otc.week.revised events yet\n"
    code, text, _ = run("tail", "--type", "otc.check.failed", "--json")
    assert [json.loads(line)["payload"]["check"] for line in text.splitlines()] == [f"c{n}" for n in range(10, 30)]
    assert code == 0


def test_all_of_one_event_is_shown_by_its_number_or_its_event_id(run: Run, engine: sa.Engine) -> None:
    event = a_week(engine)[2]
    code, text, _ = run("show", str(event.id), "--json")
    assert code == 0
    shown = json.loads(text)
    assert shown["payload"]["rows_received"] == 1235
    assert shown["metadata"] == {"schema": 2, "run_id": "run-7", "digest": "a" * 64}
    assert shown["cursor"] == f"{event.cursor.xid}-{event.id}"
    assert json.loads(run("show", str(event.event_id), "--json")[1]) == shown
    code, text, _ = run("show", str(event.id))
    rows = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert code == 0
    assert rows["file"].strip() == "a" * 64 + ", version 1"
    assert rows["payload.complete"].strip() == "false"
    assert rows["payload.rows_received"].strip() == "1235"
    assert rows["metadata.run_id"].strip() == '"run-7"'


def test_the_history_of_a_week_shows_its_state_and_all_that_happened_to_it(run: Run, engine: sa.Engine) -> None:
    a_week(engine)
    append_all(engine, events.WeekChecked(week_ending=WEEK - dt.timedelta(weeks=1), version="", grades={}))
    code, text, _ = run("history", "2026-08-21")
    assert code == 0
    header, state, _, *lines = text.splitlines()
    assert header.split() == ["tier", "state", "rows", "shares", "grade", "revisions"]
    assert state.split() == ["NMS", "Tier", "1", "revised", "1,234", "98,765", "B", "1"]
    said = " ".join(" ".join(lines).split())
    for kind, what in SAID:
        if what.startswith("2026-08-21") and len(what) < 45:
            assert f"{kind} {what}" in said
    code, text, _ = run("history", "2026-08-21", "--json")
    shown_events = json.loads(text)
    assert code == 0
    assert shown_events["week_ending"] == "2026-08-21"
    assert [tier["shares"] for tier in shown_events["tiers"]] == ["98765.5"]
    assert [e["what"] for e in shown_events["events"]] == [what for _, what in SAID if what.startswith("2026-08-21")]
    assert run("history", "2026-08-28")[1] == "no events for the week ending 2026-08-28\n"


def test_a_replay_says_what_it_rebuilt(run: Run, engine: sa.Engine) -> None:
    a_week(engine)
    with psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as sql:
        sql.execute("TRUNCATE otc.week_state, otc.file_ledger, otc.gap_ledger")
    code, text, _ = run("replay")
    assert (code, text) == (0, "20 events replayed; rows: 1 in week_state, 2 in file_ledger, 1 in gap_ledger\n")
    rows = {"week_state": 1, "file_ledger": 2, "gap_ledger": 1}
    assert json.loads(run("replay", "--json")[1]) == {"events": 20, "rows": rows}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tail", "--type", "otc.week.revized"], 2, "unknown event type 'otc.week.revized'. The types are otc.capture"),
        (["tail", "-n", "-1"], 2, "greater than or equal to 0"),
        (["show", "4711"], 1, "there is no event 4711"),
        (["show", "00000000-0000-0000-0000-000000000000"], 1, "there is no event 00000000"),
        (["show", "99999999999999999999"], 2, "neither the number of an event nor an event_id"),
        (["show", "abc"], 2, "neither the number of an event nor an event_id"),
        (["history", "2026-08-20"], 2, "Thursday"),
        (["history"], 2, "WEEK"),
        (["rewind"], 2, "No such command"),
    ],
)
def test_a_mistake_is_explained(run: Run, arguments: list[str], code: int, said: str) -> None:
    found, _, text = run(*arguments)
    assert (found, said in " ".join(text.split())) == (code, True), text


def test_each_command_has_help_with_an_example(run: Run) -> None:
    for command in ("tail", "show", "history", "replay"):
        code, text, _ = run(command, "--help")
        assert code == 0
        assert f"otc-assets events {command}" in " ".join(text.split())


def test_following_shows_the_newest_and_then_what_comes_until_it_is_broken_off(
    engine: sa.Engine, installation: Path
) -> None:
    """A process of its own, on a pipe: every line is there as soon as its event is."""
    append_all(engine, *map(check, range(4)))
    code = "import sys; from otc_assets import cli; sys.argv[0] = 'otc-assets'; cli.main()"
    command = [sys.executable, "-c", code, "events", "tail", "--follow", "-n", "2", "--json"]
    with subprocess.Popen(
        [*command, "--type", "otc.check.failed"], cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None

        def line() -> str:
            assert following.stdout is not None
            return str(json.loads(following.stdout.readline())["payload"]["check"])

        try:
            assert [line(), line()] == ["c2", "c3"]
            with engine.connect() as slow, slow.begin():
                events.append(slow, check(4))
                time.sleep(1)
            append_all(engine, events.RetentionApplied(what="raw_record", retained_from=WEEK, weeks=3), check(5))
            assert [line(), line()] == ["c4", "c5"]
        finally:
            following.send_signal(signal.SIGINT)
        assert following.wait(120) == 130
