"""The events of whole runs: each appended once, in the transaction of its data; a replay gives the same rows."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from dagster import DagsterInstance
from support import installed
from support.migration import migrate

from otc_assets.defs import launch
from otc_assets.defs.jobs import DOWNSTREAM, FilesToIngest
from otc_assets.domain.tables import figures
from otc_assets.domain.weeks import T1, TIERS, weeks_between
from otc_assets.finra import queries, query_api
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.settings import settings
from otc_assets.warehouse import events

Sql = psycopg.Connection[tuple[Any, ...]]

NOW = dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC)
WEEK = dt.date(2026, 8, 21)
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(NOW, tick=True):
        yield


def quiet(done: int, note: str) -> None:
    """No progress bar."""


def recorded(after: int = 0) -> list[events.Event]:
    """The events after the event of that id, in the order of ids."""
    with installed.database().transaction() as connection:
        return [e for e in sorted(events.read(connection, limit=100_000), key=lambda e: e.id) if e.id > after]


def kinds(found: list[events.Event]) -> dict[str, int]:
    return dict(Counter(event.event_type.removeprefix("otc.") for event in found))


def projections() -> dict[str, list[tuple[Any, ...]]]:
    with installed.database().transaction() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM otc.{name} ORDER BY 1, 2, 3"))]
            for name in events.PROJECTIONS
        }


def states(sql: Sql, week: dt.date = WEEK) -> dict[str, str]:
    return dict(sql.execute("SELECT tier, state FROM otc.week_state WHERE week_ending = %s", [week]).fetchall())


def test_a_week_has_events_from_its_files_to_its_figures_and_a_second_run_records_no_change(
    dagster: DagsterInstance, sql: Sql
) -> None:
    assert installed.materialize_weeks(dagster, [WEEK]) == []
    first = recorded()
    made = Counter(figure.event.removeprefix("otc.") for figure in figures())
    assert made.keys() == {"summary.computed", "metrics.computed"}
    made |= {"week.checked": 1, "week.normalized": 3, "report.written": 1}
    assert kinds(first) == {"file.ingested": 3, **made}
    assert states(sql) == {tier.name: "checked" for tier in TIERS}
    by_tier = {e.payload["tier"]: e.payload for e in first if e.event_type == "otc.week.normalized"}
    stored = sql.execute("SELECT tier, count(*), sum(share_volume)::text FROM otc.venue_volume GROUP BY 1").fetchall()
    assert [(t, by_tier[t]["rows"], by_tier[t]["shares"]) for t, _, _ in stored] == stored
    computed = {e.payload["table"]: e.payload["rows"] for e in first if "computed" in e.event_type}
    assert computed.keys() == {figure.name for figure in figures()}
    for table, rows in computed.items():
        assert sql.execute(f"SELECT count(*) FROM otc.{table}").fetchone() == (rows,)  # type: ignore[arg-type]
    for event in first:
        assert event.metadata["run_id"], event
        assert 0 <= event.payload.get("seconds", 0) < 60
    runs = {event.metadata["run_id"] for event in first}
    assert runs == {run.run_id for run in dagster.get_runs()}

    assert installed.materialize_weeks(dagster, [WEEK]) == []
    again = recorded(first[-1].id)
    assert kinds(again) == made
    assert states(sql) == {tier.name: "checked" for tier in TIERS}


def test_a_revision_is_an_event_and_a_replay_rebuilds_the_same_rows(dagster: DagsterInstance, sql: Sql) -> None:
    """Several weeks, one of them revised by FINRA in between; a folder's file, a refused one, and gaps beside them."""
    simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
    revised = next(
        week
        for week in weeks_between(dt.date(2026, 1, 2), dt.date(2026, 7, 3))
        if any(day < NOW.date() for day in simulator.revisions(week, T1))
    )
    weeks = weeks_between(revised, revised + dt.timedelta(weeks=2))
    day_before = simulator.revisions(revised, T1)[0] - dt.timedelta(days=1)
    with time_machine.travel(dt.datetime.combine(day_before, dt.time(12), dt.UTC), tick=True):
        installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], revised, revised)
        installed.launcher(dagster).run_assets(list(DOWNSTREAM), revised, revised)
    assert states(sql, revised)[T1.name] == "checked"
    before = recorded()[-1].id

    assert installed.materialize_weeks(dagster, weeks) == []
    (event,) = (e for e in recorded(before) if e.event_type == "otc.week.revised")
    change = event.typed_payload()
    assert isinstance(change, events.WeekRevised)
    assert (change.week_ending, change.tier) == (revised, T1.name)
    kept = dict(sql.execute("SELECT change, count(*) FROM otc.venue_volume_revision GROUP BY 1").fetchall())
    assert (change.changed, change.removed) == (kept.get("changed", 0), kept.get("removed", 0))
    stored = sql.execute(
        "SELECT sum(share_volume) FROM otc.venue_volume WHERE week_ending = %s AND tier = %s", [revised, T1.name]
    ).fetchone()
    assert stored == (change.shares_after,)
    assert change.shares_before != change.shares_after
    assert [e.payload["outcome"] for e in recorded() if e.aggregate_type == "file" and e.payload["tier"] == T1.name][
        :2
    ] == ["new", "revised"]
    for week in weeks:
        assert states(sql, week) == {tier.name: "checked" for tier in TIERS}
    found = sql.execute("SELECT week_ending, tier FROM otc.week_state WHERE revisions = 1").fetchall()
    assert found == [(revised, T1.name)]

    live = projections()
    assert live["week_state"]
    assert live["file_ledger"]
    assert live["gap_ledger"]
    for name in events.PROJECTIONS:
        sql.execute(f"TRUNCATE otc.{name}")  # type: ignore[arg-type]
    with installed.database().transaction() as connection:
        events.replay(connection)
    assert projections() == live


def test_a_follower_reads_the_events_of_each_week_in_the_order_of_their_versions(dagster: DagsterInstance) -> None:
    assert installed.materialize_weeks(dagster, weeks_between(WEEK - dt.timedelta(weeks=1), WEEK), [T1]) == []
    with installed.database().transaction() as connection:
        found = events.read(connection, limit=100_000)
    seen: Counter[tuple[str, str]] = Counter()
    for event in found:
        seen[event.aggregate_type, event.aggregate_id] += 1
        assert event.version == seen[event.aggregate_type, event.aggregate_id]
    assert len(seen) > 4


@pytest.mark.parametrize("alone", [True, False])
def test_a_week_that_fails_its_blocking_check_has_an_event_with_the_findings_and_is_not_summarized(
    dagster: DagsterInstance, sql: Sql, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """In a run of one week, and in one over a range."""
    from otc_assets.domain.quality import volume

    monkeypatch.setattr(volume, "MOST_SHARES", 1)
    last = WEEK if alone else WEEK + dt.timedelta(weeks=1)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], WEEK, last)
    with pytest.raises(launch.RunFailed):
        installed.launcher(dagster).run_assets(["venue_volume", "symbol_summary"], WEEK, last)
    failures = [e for e in recorded() if e.event_type == "otc.check.failed"]
    for week in weeks_between(WEEK, last):
        of_week = {e.payload["check"]: e for e in failures if e.payload["week_ending"] == str(week)}
        assert of_week.keys() == {"plausible_values", "grade"}
        assert of_week["grade"].payload == {
            "week_ending": str(week),
            "asset": "venue_volume",
            "check": "grade",
            "severity": "ERROR",
            "blocking": True,
            "detail": {"all tiers": "F"},
        }
        assert "implausible values" in of_week["plausible_values"].payload["detail"]["NMS Tier 1"]
        assert of_week["plausible_values"].payload["blocking"] is False
        assert states(sql, week) == {"NMS Tier 1": "normalized"}
    assert sql.execute("SELECT DISTINCT grade FROM otc.week_state").fetchall() == [("F",)]


def test_a_week_that_is_not_due_is_pending_and_then_captured(dagster: DagsterInstance, sql: Sql) -> None:
    week = dt.date(2026, 10, 2)
    with time_machine.travel(dt.datetime(2026, 10, 17, 12, tzinfo=dt.UTC), tick=True):
        installed.launcher(dagster).run_assets(["week_calendar", "gap_report"], week, week)
        assert states(sql, week) == {tier.name: "pending" for tier in TIERS}
    with time_machine.travel(dt.datetime(2026, 10, 20, 12, tzinfo=dt.UTC), tick=True):
        installed.launcher(dagster).run_assets(["publication_t1"], week, week)
        installed.launcher(dagster).run_assets(["gap_report"], week, week)
    assert states(sql, week) == {"NMS Tier 1": "captured", "NMS Tier 2": "pending", "OTC": "pending"}
    gaps = "SELECT tier, status, closed_at IS NULL FROM otc.gap_ledger ORDER BY tier"
    assert sql.execute(gaps).fetchall() == [
        ("NMS Tier 1", "pending", False),
        ("NMS Tier 2", "pending", True),
        ("OTC", "pending", True),
    ]


def test_retention_is_one_event_whatever_applies_it_and_its_weeks_are_retired(
    dagster: DagsterInstance, database: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Dagster's job, and as the server's own job calls it: in SQL, without our code."""
    weeks = weeks_between(WEEK - dt.timedelta(weeks=2), WEEK)
    installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], weeks[0], weeks[-1])
    installed.launcher(dagster).run_assets(["venue_volume"], weeks[0], weeks[-1])
    before = recorded()[-1].id
    for kept, by_the_server in ((9, False), (8, True)):
        monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", str(kept))
        settings.cache_clear()
        migrate(database, shorten_retention=True)
        for _ in range(2):
            if by_the_server:
                sql.execute("SELECT otc.apply_retention(%s)", [NOW.date()])
            else:
                assert installed.definitions().resolve_job_def("retention").execute_in_process(instance=dagster).success
    by_dagster, by_server = recorded(before)
    assert by_dagster.typed_payload() == events.RetentionApplied(what="venue_volume", retained_from=weeks[1], weeks=1)
    assert by_server.typed_payload() == events.RetentionApplied(what="venue_volume", retained_from=weeks[2], weeks=1)
    assert by_dagster.metadata["run_id"] in {run.run_id for run in dagster.get_runs()}
    assert by_server.metadata == {"schema": 1}
    assert [states(sql, week)[T1.name] for week in weeks] == ["retired", "retired", "normalized"]


def test_a_reply_that_is_more_than_any_publication_is_recorded_as_refused(
    dagster: DagsterInstance, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Record-Total of a billion was read indefinitely, and left no event."""
    text = "|".join(queries.FIELDS) + "\n" + "|" * (len(queries.FIELDS) - 1) + "\n"
    reply = httpx.Response(200, text=text, headers={"Record-Total": "1000000000"})
    source = query_api.QueryApi("http://api", transport=httpx.MockTransport(lambda request: reply))
    installed.replace(monkeypatch, source=source)
    failed = installed.materialize_weeks(dagster, [WEEK], [T1])
    (event,) = [event for event in recorded() if event.event_type == "otc.file.rejected"]
    assert (event.payload["tier"], str(event.payload["week_ending"])) == ("NMS Tier 1", str(WEEK))
    assert "1,000,000,000 rows by Record-Total" in event.payload["reason"]
    assert "1,000,000,000 rows by Record-Total" in "".join(failed)
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (0,)


def test_refused_files_have_an_event_with_the_reason_and_are_ingested_once_their_week_is_stated(
    dagster: DagsterInstance, sql: Sql, tmp_path: Path
) -> None:
    page, late = tmp_path / "page.csv", tmp_path / "revised.csv"
    page.write_text("<html>Sorry</html>")
    late.write_text(HEADER + "OTC|AABB|Asia|SOME VENUE|PPEX|100|1|2026-10-01\n")
    files = [str(page), str(late), str(tmp_path / "gone.csv")]
    with pytest.raises(launch.RunFailed) as refused:
        installed.launcher(dagster).ingest(FilesToIngest(paths=files))
    first = recorded()
    assert kinds(first) == {"file.rejected": 3}
    reasons = {e.payload["origin"]: e.payload["reason"] for e in first}
    assert "it is a page of HTML" in reasons["page.csv"]
    assert "its week can't be inferred" in reasons["revised.csv"]
    assert "can't be read" in reasons["gone.csv"]
    assert [("digest" in e.payload, e.aggregate_id == e.payload.get("digest")) for e in first] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    assert {e.metadata["run_id"] for e in first} == {refused.value.run_id}
    for _ in range(2):
        installed.launcher(dagster).ingest(FilesToIngest(paths=[str(late)], week_ending=str(WEEK)))
    assert kinds(recorded(first[-1].id)) == {"file.ingested": 1}
    ledger = "SELECT origin, state, publications, rejections FROM otc.file_ledger ORDER BY origin"
    assert sql.execute(ledger).fetchall() == [
        ("gone.csv", "rejected", 0, 1),
        ("page.csv", "rejected", 0, 1),
        ("revised.csv", "ingested", 1, 1),
    ]
    assert states(sql) == {"OTC": "captured"}


def test_an_unreadable_reply_has_an_event_with_its_week_and_tier(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otc_assets.content import Held
    from otc_assets.domain.enums import CaptureScope
    from otc_assets.finra.source import Capture

    class Garbled:
        def fetch(self, week_ending: dt.date, tier: Any, **_: Any) -> list[Capture]:
            return [Capture(week_ending, tier, CaptureScope.FULL, Held(b"<html>maintenance</html>"), "api.finra.org")]

    installed.replace(monkeypatch, source=Garbled())
    with pytest.raises(launch.RunFailed):
        installed.launcher(dagster).run_assets(["publication_t1"], WEEK, WEEK)
    (event,) = recorded()
    rejected = event.typed_payload()
    assert isinstance(rejected, events.FileRejected)
    assert (rejected.origin, rejected.week_ending, rejected.tier) == ("api.finra.org", WEEK, "NMS Tier 1")
    assert rejected.digest == event.aggregate_id == event.metadata["digest"]
    assert "it is a page of HTML" in rejected.reason
