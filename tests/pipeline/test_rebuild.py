"""Rebuilding weeks under changed rules: everything is as in a new database that had these rules from the beginning."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance
from support import installed
from support.migration import migrate

from otc_assets.defs.jobs import FilesToIngest
from otc_assets.domain import normalize
from otc_assets.domain.tables import in_order
from otc_assets.domain.weeks import weeks_between
from otc_assets.settings import settings

Command = Callable[..., tuple[int, str, str]]
Sql = psycopg.Connection[tuple[object, ...]]

WEEKS = weeks_between(dt.date(2026, 8, 14), dt.date(2026, 8, 21))
RANGE = f"{WEEKS[0]}..{WEEKS[-1]}"
#: What differs between two databases: numbers that they give out, times, and runs.
_OWN = {"id", "publication_id", "run_id", "captured_at", "known_from", "judged_at"}
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield


def change_rule(patch: pytest.MonkeyPatch, most_shares: int, version: str) -> None:
    patch.setattr(normalize, "MOST_SHARES", most_shares)
    patch.setattr(normalize, "NORMALIZER_VERSION", version)


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """What a rebuild restores, row by row, without what is a database's own."""
    found = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("publication", "rejected_record", "published_total", "week_quality", *in_order()):
            columns = connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'otc' AND table_name = %s",
                [table],
            )
            names = ", ".join(sorted(name for (name,) in columns if name not in _OWN))
            content = connection.execute(f"SELECT {names} FROM otc.{table}").fetchall()  # type: ignore[arg-type]
            found[table] = sorted(content, key=str)
    return found


def test_rebuilt_weeks_are_those_of_a_new_database_with_the_changed_rule(
    otc: Command,
    dagster: DagsterInstance,
    database: str,
    empty_database: str,
    sql: Sql,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under the first rule a tenth of the rows and more is rejected, and the weeks are graded F: no figure is there."""
    with monkeypatch.context() as first_rule:
        change_rule(first_rule, 100_000, "1")
        assert installed.materialize_weeks(dagster, WEEKS) != []
    before = rows(database)
    assert {row[0] for row in sql.execute("SELECT grade FROM otc.week_quality").fetchall()} == {"F"}
    assert before["symbol_summary"] == []
    assert any("implausible" in str(row) for row in before["rejected_record"])

    with monkeypatch.context() as changed_rule:
        change_rule(changed_rule, 10**13, "2")
        code, output, errors = otc("rebuild", "--weeks", RANGE, "--json")
        assert code == 0, errors
        printed = json.loads(output)
        assert printed["weeks"] == [str(week) for week in WEEKS]
        assert (printed["captures"], printed["failed"], printed["weeks_unchanged"]) == (6, [], [])
        assert printed["weeks_computed"] == printed["weeks"]
        assert installed.stale_weeks() == []
        rebuilt = rows(database)
        recounted = sql.execute(
            "SELECT sum((payload ->> 'rows_accepted')::int - (payload ->> 'rows_accepted_before')::int)"
            " FROM otc.events WHERE event_type = 'otc.capture.recounted'"
        ).fetchone()
        more = len(before["rejected_record"]) - len(rebuilt["rejected_record"])
        assert recounted == (more,)
        assert more > 0

        migrate(empty_database)
        changed_rule.setenv("OTC_DATABASE_URL", empty_database)
        changed_rule.setenv("OTC_HOME", str(tmp_path_factory.mktemp("new")))
        settings.cache_clear()
        with DagsterInstance.ephemeral() as other:
            assert installed.materialize_weeks(other, WEEKS) == []
        new = rows(empty_database)
        installed.close()
    settings.cache_clear()
    assert new["symbol_rolling"]
    for table, content in new.items():
        assert rebuilt[table] == content, table
    # The file ledger follows the recounted captures, and a replay of the events gives the same.
    ledger = "SELECT sum(rows_accepted), sum(rows_rejected) FROM otc.file_ledger"
    counted = sql.execute("SELECT sum(rows_accepted), sum(rows_rejected) FROM otc.publication").fetchone()
    assert sql.execute(ledger).fetchone() == counted
    sql.execute("SELECT otc.replay_events()")
    assert sql.execute(ledger).fetchone() == counted


def line(number: int, shares: int, published: str = "2026-09-08") -> str:
    return f"NMS Tier 1|S{number}|S{number} Inc|NAME OF UBSA|UBSA|{shares}|1|{published}\n"


@pytest.fixture
def file_of_a_week(dagster: DagsterInstance, tmp_path: Path) -> Path:
    """99 rows of 100 shares each, and one of 5,000, captured and computed: 14,900 shares."""
    path = tmp_path / "ats.csv"
    path.write_text(HEADER + "".join(line(number, 100) for number in range(99)) + line(99, 5_000))
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(path)], week_ending=WEEKS[-1].isoformat()))
    assert installed.compute_stale_weeks(dagster) == []
    return path


def state(sql: Sql) -> tuple[object, ...]:
    """Rows accepted and rejected, rejected rows, shares of venue volume and of the summary, six-week volume, grade."""
    found = sql.execute("""
        SELECT rows_accepted, rows_rejected, (SELECT count(*) FROM otc.rejected_record),
               (SELECT sum(share_volume)::bigint FROM otc.venue_volume),
               (SELECT sum(total_volume)::bigint FROM otc.symbol_summary),
               (SELECT sum(current_volume)::bigint FROM otc.symbol_rolling),
               (SELECT grade FROM otc.week_quality)
        FROM otc.publication
    """).fetchone()
    assert found is not None
    return found


@pytest.mark.usefixtures("file_of_a_week")
@pytest.mark.parametrize("version", ["2", "1"], ids=["raised version", "version that was not raised"])
def test_a_stricter_rule_takes_the_row_out_of_everything_and_rejects_it_with_the_reason(
    otc: Command, sql: Sql, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """99 x 100 = 9,900 shares remain. A recomputed week was once graded F, for its rows did not agree."""
    *counts, before = state(sql)
    assert counts == [100, 0, 0, 14_900, 14_900, 14_900]
    assert before != "F"
    change_rule(monkeypatch, 1_000, version)
    code, output, errors = otc("rebuild", "--weeks", str(WEEKS[-1]))
    assert code == 0, errors
    assert "99 rows accepted, 1 rejected; before 100 and 0" in output
    *counts, grade = state(sql)
    assert counts == [99, 1, 1, 9_900, 9_900, 9_900]
    assert grade != "F"
    assert sql.execute("SELECT line, record, reason FROM otc.rejected_record").fetchall() == [
        (101, line(99, 5_000).strip(), "totalWeeklyShareQuantity is implausible: 5000.000000 exceeds 1,000")
    ]
    # A second rebuild changes nothing and appends no such event.
    again = otc("rebuild", "--weeks", str(WEEKS[-1]))
    assert "0 changed" in again[1], again
    count = "SELECT count(*) FROM otc.events WHERE event_type = 'otc.capture.recounted'"
    assert sql.execute(count).fetchone() == (1,)


def test_a_week_whose_bytes_are_lost_stays_as_it_is_and_the_others_are_rebuilt(
    otc: Command,
    file_of_a_week: Path,
    installation: Path,
    dagster: DagsterInstance,
    sql: Sql,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = tmp_path / "before.csv"
    other.write_text(HEADER + line(0, 7_000, "2026-08-31") + line(1, 10, "2026-08-31"))
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(other)], week_ending=WEEKS[0].isoformat()))
    assert installed.compute_stale_weeks(dagster) == []
    ((digest,),) = sql.execute("SELECT digest FROM otc.publication WHERE week_ending = %s", [WEEKS[-1]]).fetchall()
    (installation / "archive" / str(digest)[:2] / f"{digest}.zst").unlink()
    change_rule(monkeypatch, 1_000, "2")
    code, output, errors = otc("rebuild", "--weeks", RANGE, "--json")
    assert code == 1
    assert f"{WEEKS[-1]} stays as it is: the archive has no " in errors
    printed = json.loads(output)
    assert (printed["weeks"], printed["weeks_unchanged"]) == ([str(WEEKS[0])], [str(WEEKS[-1])])
    by_week = """
        SELECT p.week_ending, rows_accepted, rows_rejected, sum(share_volume)::bigint
        FROM otc.publication p JOIN otc.venue_volume v USING (week_ending) GROUP BY 1, 2, 3 ORDER BY 1
    """
    assert sql.execute(by_week).fetchall() == [(WEEKS[0], 1, 1, 10), (WEEKS[-1], 100, 0, 14_900)]
    # Once the capture without bytes is withdrawn, nothing of the week depends on it.
    file_of_a_week.write_text(file_of_a_week.read_text().replace("|5000|", "|300|"))
    installed.launcher(dagster).ingest(FilesToIngest(paths=[str(file_of_a_week)], week_ending=WEEKS[-1].isoformat()))
    (number,) = sql.execute("SELECT id FROM otc.publication WHERE digest = %s", [digest]).fetchone() or (None,)
    assert otc("captures", "withdraw", str(number), "--reason", "its bytes are lost")[0] == 0
    code, output, errors = otc("rebuild", "--weeks", RANGE, "--json")
    assert (code, json.loads(output)["weeks_unchanged"]) == (0, []), errors
