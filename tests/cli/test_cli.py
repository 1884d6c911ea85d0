"""The command line: output, exit codes, and messages about usage errors."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import time_machine
from pytest_httpserver import HTTPServer
from support import installed
from support.console_script import Run, console_script
from support.migration import migrate

from otc_assets import cli
from otc_assets.cli.run import _serve_metrics
from otc_assets.defs.backfill import BackfillState
from otc_assets.settings import settings
from otc_assets.warehouse.migrate import newest_version


@pytest.fixture
def run(installation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command as the console script does: (exit code, standard output, standard error)."""
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield console_script(monkeypatch, capsys)


COMMANDS = (
    *("up", "materialize", "backfill", "status", "gaps", "ingest", "simulate"),
    *("alerts", "metrics", "migrate", "storage", "events", "archive", "rebuild", "query", "db"),
)


def test_help_names_every_command_and_each_has_help_of_its_own(run: Run) -> None:
    code, text, _ = run("--help")
    assert code == 0
    for command in COMMANDS:
        assert command in text
        assert run(command, "--help")[0] == 0


def test_weeks_are_materialized_and_shown(run: Run) -> None:
    code, _, _ = run("materialize", "--weeks", "2026-08-14..2026-08-21", "--tier", "T1")
    assert code == 0
    code, text, _ = run("status", "--json")
    rows = {row["week_ending"]: row for row in json.loads(text)}
    assert rows["2026-08-21"]["T1"] > 0
    assert rows["2026-08-07"]["T2"] == "never_requested"
    assert rows["2026-08-21"]["T2"] == "missing_at_end"
    assert rows["2026-08-21"]["grade"] == "A"
    assert rows["2026-09-25"]["T2"] == "pending"
    code, text, _ = run("status")
    assert code == 0
    (line,) = [line for line in text.splitlines() if line.startswith("2026-08-07")]
    assert line.split() == ["2026-08-07", "-", "-", "-", "0", "0"]
    assert text.splitlines()[-1] == "-  never requested; 'otc-assets materialize' or 'backfill' loads these weeks"
    assert "2026-08-21" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_newest_captures_of_each_tier_the_week_that_is_due_on_this_wednesday(run: Run) -> None:
    """On Monday, 2026-10-12, T1 of the week of 09-21 was due, and T2 and OTC of the week of 09-07."""
    code, text, _ = run("materialize", "--newest", "--json")
    assert code == 0
    assert json.loads(text) == {"weeks": ["2026-09-11", "2026-09-25"], "failed": []}
    found = {row["week_ending"]: row for row in json.loads(run("status", "--json")[1])}
    captured = {
        (week, tier) for week, row in found.items() for tier in ("T1", "T2", "OTCE") if isinstance(row[tier], int)
    }
    assert captured == {("2026-09-25", "T1"), ("2026-09-11", "T2"), ("2026-09-11", "OTCE")}


def test_newest_of_a_tier_captures_that_tier_only(run: Run) -> None:
    assert json.loads(run("materialize", "--newest", "--tier", "T2", "--json")[1])["weeks"] == ["2026-09-11"]
    found = {row["week_ending"]: row for row in json.loads(run("status", "--json")[1])}
    assert found["2026-09-11"]["T2"] > 0
    assert found["2026-09-11"]["T1"] == "missing_at_end"
    assert found["2026-09-25"]["T1"] == "late"


def test_newest_does_nothing_before_the_first_week_is_published(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_FIRST_WEEK", "2026-09-25")
    code, text, said = run("materialize", "--newest", "--tier", "T2", "--json")
    assert (code, json.loads(text)) == (0, {"weeks": [], "failed": []})
    assert "begins on 2026-10-26" in said


def test_newest_leaves_out_a_tier_whose_week_retention_would_drop_and_captures_the_others(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T2 and OTC are five weeks late, and only four are kept: the week of T1 must not wait for them."""
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", "4")
    settings.cache_clear()
    migrate(database, shorten_retention=True)
    code, text, said = run("materialize", "--newest", "--json")
    assert (code, json.loads(text)) == (0, {"weeks": ["2026-09-25"], "failed": []}), said
    assert "week 2026-09-11 is outside the retention window" in said
    found = {row["week_ending"]: row for row in json.loads(run("status", "--json")[1])}
    assert found["2026-09-25"]["T1"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--weeks", "2026-08-20"], "Thursday"),
        (["--weeks", "soon"], "Name a week by its Friday"),
        (["--weeks", "2026-08-21..2026-08-14"], "ends before it begins"),
        (["--weeks", "2026-12-25"], "not published in any tier yet"),
        (["--weeks", "2001-01-05"], "OTC_FIRST_WEEK"),
        (["--weeks", "2026-08-21", "--tier", "T9"], "FINRA's tiers are"),
        ([], "either --weeks A..B or --newest"),
        (["--newest", "--weeks", "2026-08-21"], "either --weeks A..B or --newest"),
    ],
)
def test_a_mistake_in_the_command_is_explained_and_exits_with_2(run: Run, arguments: list[str], said: str) -> None:
    code, _, text = run("materialize", *arguments)
    assert code == 2
    assert said in " ".join(text.split())


@pytest.mark.parametrize(
    "arguments",
    [("status", "--newest"), ("alerts", "--newest"), ("events", "tail", "-n"), ("query", "find", "A", "--limit")],
    ids=" ".join,
)
def test_a_number_that_is_too_large_is_a_mistake_in_the_command(run: Run, arguments: tuple[str, ...]) -> None:
    """It was a bug in otc-assets, or an error of the database."""
    code, _, text = run(*arguments, "99999999999999999999")
    assert (code, "less than or equal to" in text) == (2, True)


def test_gaps_are_listed_as_ranges_and_found_gaps_can_fail_a_script(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", "0")
    assert run("migrate")[0] == 0
    run("materialize", "--weeks", "2026-08-14", "--tier", "T1")
    code, text, _ = run("gaps", "--json")
    found = json.loads(text)
    t1 = [(g["first_week"], g["last_week"], g["status"]) for g in found if g["tier"] == "NMS Tier 1"]
    assert code == 0
    assert t1 == [
        ("2021-12-10", "2026-08-07", "never_requested"),
        ("2026-08-21", "2026-09-18", "missing_at_end"),
        ("2026-09-25", "2026-09-25", "late"),
    ]
    assert all(g["fetchable"] for g in found)
    assert run("gaps", "--check")[0] == 3
    _, text, _ = run("gaps")
    assert "To fetch missing weeks: otc-assets backfill --weeks 2026-08-14..2026-09-25" in text
    assert "never requested: NMS Tier 1 2021-12-10..2026-08-07, 244 weeks, all fetchable" in text
    assert "never requested: OTC 2021-12-10..2026-08-07, 244 weeks, all fetchable" in text
    assert "To capture this history: otc-assets backfill --weeks 2021-12-10..2026-08-07" in text


def test_history_that_was_never_requested_is_no_gap(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh installation once listed 270 gaps, and `gaps --check` failed from its first day on."""
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", "0")
    run("materialize", "--weeks", "2026-09-04..2026-09-25")
    found = json.loads(run("gaps", "--json")[1])
    assert {gap["status"] for gap in found} == {"never_requested"}
    assert [gap["tier"] for gap in found] == ["NMS Tier 1", "NMS Tier 2", "OTC"]
    code, text, _ = run("gaps", "--check")
    assert code == 0
    assert text.splitlines()[0] == "no gaps since the first captured week"
    assert "To fetch" not in text


def test_every_table_fits_80_columns_and_breaks_no_word(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`missing_inside` was printed as `missing_insi`, with `de` in the next line."""
    folder = tmp_path / "files with a long name" / "of_the_second_quarter"
    run("simulate", str(folder), "--weeks", "2026-08-14..2026-08-21")

    def words(text: str) -> set[str]:
        return set(text.replace("_", "_ ").replace("..", ".. ").replace("/", "/ ").replace(".", ". ").split())

    monkeypatch.setattr(cli.out, "_width", 80)
    code, text, _ = run("ingest", *sorted(map(str, folder.iterdir())))
    assert code == 0
    assert "weekly_" in words(text) or len(text.splitlines()) > 12
    assert max(map(len, text.splitlines())) <= 80
    for command in (
        ["status"],
        ["gaps"],
        ["gaps", "--pending"],
        ["storage"],
        ["events", "tail", "-n", "40"],
        ["alerts"],
    ):
        monkeypatch.setattr(cli.out, "_width", 80)
        narrow = run(*command)[1]
        monkeypatch.setattr(cli.out, "_width", 1000)
        wide = run(*command)[1]
        assert [line for line in narrow.splitlines() if len(line) > 80] == [], command
        assert words(narrow) == words(wide), command


def test_files_are_written_taken_in_and_taken_in_once(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "files of mine"
    code, text, _ = run("simulate", str(folder), "--weeks", "2026-08-14..2026-08-21")
    assert code == 0
    files = sorted(map(str, folder.iterdir()))
    assert len(files) == 12
    code, text, errors = run("ingest", *files, "--json")
    assert code == 0, errors
    taken = json.loads(text)
    assert len(taken["captured"]) == 12
    assert taken["weeks_computed"] == ["2026-08-14", "2026-08-21"]
    assert sum(row["rejected"] for row in taken["captured"]) == 0
    _, text, _ = run("status", "--json")
    rows = {row["week_ending"]: row for row in json.loads(text)}
    # Both halves make a whole publication; FINRA's totals are not in these files.
    assert rows["2026-08-14"]["grade"] == "A"
    assert rows["2026-08-21"]["state"] == ""
    code, text, _ = run("ingest", files[0])
    assert code == 0
    assert text.strip().endswith("already ingested; no changes")
    (row,) = json.loads(run("ingest", files[0], "--json")[1])["captured"]
    assert (row["already_ingested"], row["status"], row["in_use"]) == (True, "effective", row["accepted"])


def test_captures_are_listed_shown_accepted_withdrawn_and_restored(run: Run, tmp_path: Path) -> None:
    """A second download that was cut short: the operator decides, and the week follows."""
    run("simulate", str(tmp_path), "--weeks", "2026-08-21")
    (whole,) = [path for path in tmp_path.iterdir() if "_T1_" in path.name.upper() and "NON" not in path.name.upper()]
    text = whole.read_text().splitlines(keepends=True)
    short = tmp_path / f"again {whole.name}"
    short.write_text("".join(text[: len(text) // 2]))
    assert run("ingest", str(whole))[0] == 0
    code, text_out, errors = run("ingest", str(short))
    assert (code, "captures accept 2" in " ".join(errors.split())) == (1, True)
    assert "quarantined" in text_out

    def listed(*arguments: str) -> list[tuple[int, str]]:
        return [(row["id"], row["status"]) for row in json.loads(run("captures", "list", "--json", *arguments)[1])]

    assert listed() == [(1, "effective"), (2, "quarantined")]
    assert listed("--status", "quarantined", "--weeks", "2026-08-21") == [(2, "quarantined")]
    assert run("captures", "list", "--status", "odd")[0] == 2
    assert "it would remove" in run("captures", "show", "2")[1]
    assert run("captures", "show", "9")[0] == 1
    second = text[1].rstrip("\n")
    assert run("captures", "lines", "1", "2")[:2] == (0, f"2  {second}\n")
    symbol = second.split("|")[1]
    of_symbol = [(n, line.rstrip("\n")) for n, line in enumerate(text, 1) if line.split("|")[1] == symbol]
    printed = run("captures", "lines", "1", "--symbol", symbol)[1].splitlines()
    assert [tuple(line.strip().split("  ", 1)) for line in printed] == [(str(n), line) for n, line in of_symbol]
    shown = json.loads(run("captures", "lines", "1", "2..3", "--json")[1])
    assert shown == [{"line": n, "record": text[n - 1].rstrip("\n")} for n in (2, 3)]
    whose = f"capture 1: NMS Tier 1 of the week ending 2026-08-21, effective\n{text[0]}"
    assert run("captures", "lines", "1", "--symbol", "NONE")[1:] == ("", f"{whose}no rows\n")
    code, _, errors = run("captures", "lines", "1", "1")
    assert (code, "has no line 1: its" in errors) == (1, True)
    assert run("captures", "lines", "9")[0] == 1
    for wrong in ("x", "9..2"):
        assert run("captures", "lines", "1", wrong)[0] == 2
    code, _, errors = run("captures", "accept", "1")
    assert (code, "is not quarantined" in errors) == (1, True)
    assert run("captures", "accept", "2")[0] == 0
    assert listed() == [(1, "superseded"), (2, "effective")]
    assert run("captures", "withdraw", "2")[0] == 2  # a reason is required
    assert run("captures", "withdraw", "2", "--reason", "cut short")[0] == 0
    assert listed() == [(1, "effective"), (2, "withdrawn")]
    assert run("captures", "restore", "2")[0] == 0
    assert listed() == [(1, "superseded"), (2, "effective")]
    (row,) = [r for r in json.loads(run("status", "--json")[1]) if r["week_ending"] == "2026-08-21"]
    assert row["state"] == ""


def test_ingest_reports_weeks_that_it_computed_although_the_file_was_ingested_before(
    run: Run, sql: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    """It printed 'nothing new' after computing twelve weeks."""
    run("simulate", str(tmp_path / "files"), "--weeks", "2026-08-14..2026-08-21")
    files = sorted(map(str, (tmp_path / "files").iterdir()))
    assert "computed 2 weeks: 2026-08-14..2026-08-21" in run("ingest", *files)[1]
    sql.execute("UPDATE otc.computed_week SET version = 'older' WHERE table_name = 'symbol_summary'")
    code, text, _ = run("ingest", files[0])
    assert code == 0
    assert text.splitlines()[-2:] == ["already ingested; no changes", "computed 2 weeks: 2026-08-14..2026-08-21"]


def test_a_file_whose_week_cannot_be_inferred_is_refused_until_the_week_is_given(run: Run, tmp_path: Path) -> None:
    header = "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    header += "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
    path = tmp_path / "revised.csv"
    path.write_text(header + "OTC|AABB|Asia|SOME VENUE|PPEX|100|1|2026-10-01\n")
    code, _, text = run("ingest", str(path))
    assert code == 1
    assert "revised.csv" in text
    assert "--week-ending" in text
    code, text, errors = run("ingest", str(path), "--week-ending", "2026-08-21", "--json")
    assert code == 0, errors
    (row,) = json.loads(text)["captured"]
    assert (row["weeks"], row["tier"], row["scope"], row["accepted"]) == ("2026-08-21", "OTC", "ATS", 1)


def test_files_that_are_not_there_and_files_that_are_no_publication_exit_with_1(run: Run, tmp_path: Path) -> None:
    code, _, text = run("ingest", str(tmp_path / "nowhere.csv"))
    assert (code, "no such file" in text) == (1, True)
    code, _, text = run("ingest", str(tmp_path))
    assert (code, "a folder, not a file" in text, "Give the files in it" in text) == (1, True, True)
    page = tmp_path / "page.csv"
    page.write_text("<html>Sorry</html>")
    code, _, text = run("ingest", str(page))
    assert code == 1
    assert "page.csv: it is a page of HTML" in " ".join(text.split())


def test_a_backfill_without_a_daemon_is_refused_with_what_to_do(run: Run) -> None:
    code, _, text = run("backfill", "--weeks", "2026-08-21")
    assert code == 1
    assert "otc-assets up" in text


def test_the_link_to_a_backfill_has_the_address_that_users_have_for_the_ui(
    run: Run, installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request goes to the web server of this machine; the link was its address, too."""
    monkeypatch.setenv("OTC_PUBLIC_URL", "https://dagster.example.org/")
    (installation / "up.json").write_text('{"port": 4321}')
    asked: list[str] = []

    def launch(url: str, *_: object) -> str:
        asked.append(url)
        return "abcdefgh"

    monkeypatch.setattr("otc_assets.defs.backfill.require_daemon", lambda instance: None)
    monkeypatch.setattr("otc_assets.defs.backfill.launch_backfill", launch)
    monkeypatch.setattr(
        "otc_assets.defs.backfill.backfill_state", lambda url, name: BackfillState(0, 0, 1, "REQUESTED")
    )
    settings.cache_clear()
    code, _, text = run("backfill", "--weeks", "2026-08-21", "--no-follow")
    assert code == 0, text
    assert "https://dagster.example.org/runs/b/abcdefgh" in text.replace("\n", "")
    assert asked == ["http://127.0.0.1:4321"]


def test_a_port_that_is_taken_is_named_before_anything_starts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of another server there was once taken for our own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            code, _, text = run("up", "--port", str(port))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    assert code == 1
    assert f"port {port} is in use" in text


def test_alerts_are_listed_with_how_far_their_delivery_is(run: Run, installation: Path) -> None:
    from otc_assets.warehouse import alerts as outbox

    assert run("alerts")[:2] == (0, "no alerts yet\n")
    now = dt.datetime.now(dt.UTC)
    alert = outbox.NewAlert(
        kind="check",
        subject="venue_volume.grade 2026-08-21",
        severity="error",
        week_ending=dt.date(2026, 8, 21),
        title="venue_volume.grade failed for week 2026-08-21",
        body="ERROR, blocking: downstream assets of the week are blocked\nall tiers: F",
        run_id="a run",
        event_id=7,
        happened_at=now,
    )
    with installed.database().transaction() as connection:
        assert outbox.record(connection, alert, now=now, quiet=dt.timedelta(0))
        (claimed,) = outbox.claim(connection, now=now, until=now)
        again_at = now + dt.timedelta(minutes=1)
        outbox.end_attempt(connection, [claimed.id], destinations=["x"], error="error=500", now=now, again_at=again_at)
    code, text, _ = run("alerts")
    assert code == 0
    assert "venue_volume.grade failed for week 2026-08-21" in text
    assert "pending, 1 failed attempt: error=500" in text
    (row,) = json.loads(run("alerts", "--json")[1])
    assert (row["week_ending"], row["state"], row["attempts"]) == ("2026-08-21", "pending", 1)
    assert row["body"].endswith("all tiers: F")


def test_a_test_alert_arrives_or_says_why_not_without_the_url(
    run: Run, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    def test_with(url: str) -> tuple[int, str]:
        monkeypatch.setenv("OTC_ALERT_URL", url)
        settings.cache_clear()
        code, text, errors = run("alerts", "test")
        assert "hunter" not in text + errors
        return code, " ".join((text + errors).split())

    httpserver.expect_request("/hunter2", method="POST").respond_with_data("")
    httpserver.expect_request("/hunter3", method="POST").respond_with_data("", status=503)
    address = f"{httpserver.host}:{httpserver.port}"
    assert test_with(f"json://{address}/hunter2") == (0, "arrived JSON (1 of 1)")
    assert httpserver.log[0][0].get_json()["title"] == "otc-assets: a test"
    code, text = test_with(f"json://{address}/hunter2, json://{address}/hunter3")
    assert code == 1
    assert text.startswith("arrived JSON (1 of 2) failed JSON (2 of 2): Failed to send JSON POST notification")
    assert "503" in text
    code, text = test_with(f"json://{address}/hunter2 nonsense://hunter2/hunter3")
    assert (code, "URL 2 of 2 is not a valid Apprise URL" in text) == (1, True)
    code, text = test_with("")
    assert (code, "OTC_ALERT_URL is not set" in text) == (1, True)


def test_links_in_alerts_have_the_port_of_the_command(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up --port` is not in the environment of the daemon, which writes the links, unless it is put there."""
    from otc_assets.local import setup

    prepared = setup.prepare(settings().model_copy(update={"port": 3456}), database)
    assert prepared.ui_url == "http://127.0.0.1:3456"
    assert prepared.environment()["OTC_PORT"] == "3456"
    monkeypatch.setenv("OTC_PUBLIC_URL", "https://dagster.example.org/otc/")
    settings.cache_clear()
    assert settings().ui_url == "https://dagster.example.org/otc"


def test_traps_of_the_simulator_are_listed_and_unknown_ones_refused(run: Run) -> None:
    assert "wrong_gzip=0" in run("simulate", "--help")[1]
    code, _, text = run("simulate", "--serve", "--trap", "nonsense=1")
    assert (code, "unknown trap 'nonsense'. The traps are: too_many_requests," in text) == (2, True)
    code, _, text = run("simulate", "files", "--trap", "reset=1")
    assert (code, "Add --serve" in text) == (2, True)


@pytest.mark.slow
def test_the_simulator_is_served_with_its_traps(tmp_path: Path) -> None:
    """A fault can be reproduced without code."""
    code = "from otc_assets.cli import main; main()"
    command = [sys.executable, "-c", code, "simulate", "--serve", "--port", "0", "--scale", "0.01", "--trap", "html=1"]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))}
    with subprocess.Popen(command, env={**env, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            url = next(word for word in served.stdout.readline().split() if word.startswith("http://"))
            reply = httpx.post(f"{url}/data/group/otcMarket/name/weeklySummary", json={}, timeout=120)
        finally:
            served.terminate()
    assert (reply.status_code, reply.text[:15]) == (200, "<!DOCTYPE html>")


def test_migrate_says_which_version_the_database_has(run: Run) -> None:
    code, text, _ = run("migrate")
    assert code == 0
    assert text.strip() == f"schema {newest_version()}; plain PostgreSQL"


def test_a_setting_that_cannot_be_right_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_FIRST_WEEK", "2021-12-09")
    settings.cache_clear()
    code, _, text = run("status")
    assert code == 2
    assert "OTC_FIRST_WEEK" in text
    assert "Thursday" in text


def test_a_database_that_does_not_answer_is_named_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_DATABASE_URL", "postgresql://me:hunter2@127.0.0.1:1/otc")
    settings.cache_clear()
    code, _, text = run("status")
    assert code == 1
    assert "127.0.0.1:1" in text
    assert "hunter2" not in text


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["check", "defs"], ["list", "defs"]])
def test_dagsters_own_tools_work_in_the_project_folder_without_any_setting(arguments: list[str]) -> None:
    """dagster.yaml is there too, and required a database URL that only `up` sets."""
    root = Path(__file__).resolve().parents[2]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))}
    dg = Path(sys.executable).parent / "dg"
    done = subprocess.run([dg, *arguments], cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "All definitions loaded successfully" in done.stdout + done.stderr or "venue_volume" in done.stdout


def test_up_goes_on_without_metrics_where_their_port_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two installations on one machine, or any other exporter on its port."""
    monkeypatch.setattr(cli.err, "_width", 200)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = settings().model_copy(update={"metrics_port": port})
        with _serve_metrics(chosen, "postgresql://nobody@127.0.0.1:1/otc"):
            said = capsys.readouterr().err
    assert f"not served: port {port}: Address already in use" in said
    assert "OTC_METRICS_PORT=0" in said
    without = settings().model_copy(update={"metrics_port": 0})
    with _serve_metrics(without, "postgresql://nobody@127.0.0.1:1/otc"):
        assert capsys.readouterr().err == ""
