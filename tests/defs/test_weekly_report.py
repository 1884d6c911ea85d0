"""The weekly report of an installation: made with the week, checked, announced once, made again after a change."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance
from support import installed

from otc_assets import report
from otc_assets.alerting.reports import announcer
from otc_assets.cli.report import NoReport
from otc_assets.cli.report import report as command
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.weeks import NEW_YORK, T1, weeks_between
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.pipeline.checks import judge_checks
from otc_assets.pipeline.report import current_report, make_report, newest_computed_week
from otc_assets.pipeline.results import WeekRefused
from otc_assets.report.inputs import Inputs
from otc_assets.report.selection import contents
from otc_assets.settings import settings
from otc_assets.warehouse.server import session_options

pytestmark = pytest.mark.slow

#: T1 of the newest week and T2 and OTC of the first were published on the day before, after Labor Day.
NOW = dt.datetime(2026, 9, 9, 12, tzinfo=NEW_YORK)
WEEKS = weeks_between(dt.date(2026, 8, 7), dt.date(2026, 8, 21))
NEWEST = WEEKS[-1]


@dataclass(frozen=True)
class Installed:
    """An installation whose weeks one run has made."""

    dagster: DagsterInstance
    sql: psycopg.Connection[tuple[object, ...]]

    def versions(self) -> dict[dt.date, str]:
        rows = self.sql.execute("SELECT week_ending, version FROM otc.computed_week WHERE table_name = 'weekly_report'")
        return dict(rows.fetchall())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(server: EmbeddedServer, _template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Three weeks of a small market, captured and computed as a command does."""
    name = "weekly_report"
    with server._connect("postgres") as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER otc TEMPLATE {_template} STRATEGY file_copy")  # type: ignore[arg-type]
    url = server.url.rpartition("/")[0] + f"/{name}"
    with pytest.MonkeyPatch.context() as environment, DagsterInstance.ephemeral() as instance:
        environment.setenv("OTC_DATABASE_URL", url)
        environment.setenv("OTC_HOME", str(tmp_path_factory.mktemp("report")))
        environment.setenv("OTC_SOURCE", "simulator")
        environment.setenv("OTC_SIMULATOR_SCALE", "0.01")
        environment.setenv("OTC_REPORT_URL", "https://reports.example.org/otc/")
        settings.cache_clear()
        with (
            time_machine.travel(NOW, tick=True),
            psycopg.connect(url, autocommit=True, options=session_options()) as sql,
        ):
            assert installed.materialize_weeks(instance, WEEKS) == []
            yield Installed(instance, sql)
        installed.close()
    settings.cache_clear()
    with server._connect("postgres") as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def test_every_week_has_a_report_and_none_is_stale(made: Installed) -> None:
    assert set(made.versions()) == set(WEEKS)
    assert report.newest_week(installed.archive()) == NEWEST == newest_computed_week(installed.database())
    assert installed.stale_weeks() == []
    for week in WEEKS:
        found = report.find(installed.archive(), week)
        assert found is not None
        assert found.pdf.startswith(b"%PDF-")
        assert current_report(week, installed.database(), installed.archive()) is not None


def test_the_totals_of_the_page_are_sums_of_venue_volume_by_the_database(made: Installed) -> None:
    """Added up from another table than the page was made of."""
    sums = made.sql.execute(
        """SELECT tier, sum(share_volume), coalesce(sum(share_volume) FILTER (WHERE venue_kind = 'ATS'), 0)
        FROM otc.venue_volume WHERE week_ending = %s GROUP BY tier""",
        [WEEKS[0]],
    ).fetchall()
    found = report.find(installed.archive(), WEEKS[0])
    assert found is not None
    pattern = r'<data value="([\d.]+)" data-tier="([^"]+)" data-figure="(\w+)">'
    stated = {(tier, figure): Decimal(value) for value, tier, figure in re.findall(pattern, found.html.decode())}
    expected: dict[tuple[object, str], object] = {}
    for tier, total, ats in sums:
        assert isinstance(total, Decimal)
        assert isinstance(ats, Decimal)
        expected |= {
            (tier, "total_volume"): total,
            (tier, "ats_volume"): ats,
            (tier, "non_ats_volume"): total - ats,
        }
    assert stated == expected
    assert len(sums) == 3


def test_dagster_shows_a_link_the_headline_figures_and_a_preview(made: Installed) -> None:
    """Of the newest week, whose T1 alone is published."""
    wanted = AssetRecordsFilter(asset_key=AssetKey(WEEKLY_REPORT.name), asset_partitions=[str(NEWEST)])
    (newest, *_) = made.dagster.fetch_materializations(wanted, limit=1).records
    shown = {label: value.value for label, value in newest.asset_materialization.metadata.items()}  # type: ignore[union-attr]
    assert shown["page"] == f"https://reports.example.org/otc/{NEWEST}"
    assert "NMS Tier 2 and OTC: not published yet" in str(shown["preview"])
    total = made.sql.execute(
        "SELECT sum(total_volume) / 5 FROM otc.symbol_summary WHERE week_ending = %s AND tier = %s", [NEWEST, T1.name]
    ).fetchone()
    assert total is not None
    assert shown["NMS Tier 1: shares per trading day"] == round(float(total[0]))  # type: ignore[arg-type]


def test_the_checks_of_the_newest_week_passed_and_fail_for_a_page_of_other_figures(made: Installed) -> None:
    database, archive = installed.database(), installed.archive()
    verdicts = judge_checks(database, WEEKLY_REPORT.name, NEWEST, archive=archive)
    assert {verdict.check.name: verdict.passed for verdict in verdicts} == {
        "totals_match_summaries": True,
        "sections_present": True,
        "page_complete": True,
    }
    found, other = report.find(archive, NEWEST), report.find(archive, WEEKS[0])
    assert found is not None
    assert other is not None
    report.save(archive, NEWEST, other)
    failed = judge_checks(database, WEEKLY_REPORT.name, NEWEST, archive=archive)
    report.save(archive, NEWEST, found)
    assert {verdict.check.name: verdict.passed for verdict in failed} == {
        "totals_match_summaries": False,
        "sections_present": True,
        "page_complete": True,
    }
    assert all(verdict.passed for verdict in judge_checks(database, WEEKLY_REPORT.name, NEWEST, archive=archive))


def test_the_report_of_the_newly_published_week_is_announced_once(made: Installed) -> None:
    """The others were published more than a week ago, and a report that is made again is no news."""
    query = (
        "SELECT subject, state, title, split_part(body, E'\\n', 1), run_id <> '' FROM otc.alert WHERE kind = 'report'"
    )
    expected = [
        (
            f"weekly_report {NEWEST}",
            "pending",
            f"the report of the week ending {NEWEST} is available",
            f"https://reports.example.org/otc/{NEWEST}",
            True,
        )
    ]
    assert made.sql.execute(query).fetchall() == expected
    now = dt.datetime.now(NEW_YORK)
    for _ in range(2):
        make_report(NEWEST, installed.database(), installed.archive(), now, announcer(settings(), now))
    assert made.sql.execute(query).fetchall() == expected
    firsts = made.sql.execute(
        "SELECT payload ->> 'is_first' FROM otc.events WHERE event_type = 'otc.report.written' AND aggregate_id = %s"
        " ORDER BY id",
        [str(NEWEST)],
    ).fetchall()
    assert firsts == [("true",), ("false",), ("false",)]


def test_a_report_is_stale_when_a_table_or_a_gap_of_its_week_changes_and_current_when_it_is_made_again(
    made: Installed,
) -> None:
    database, archive = installed.database(), installed.archive()
    of_changes = "WHERE week_ending = %s AND table_name = 'week_changes'"
    changes = [
        "UPDATE otc.gap SET status = 'late' WHERE week_ending = %s AND tier = 'OTC'",
        f"UPDATE otc.computed_week SET version = version || ' x' {of_changes}",
    ]
    undone = [
        "UPDATE otc.gap SET status = 'pending' WHERE week_ending = %s AND tier = 'OTC'",
        f"UPDATE otc.computed_week SET version = left(version, -2) {of_changes}",
    ]
    for change, undo in zip(changes, undone, strict=True):
        before = made.versions()[NEWEST]
        assert made.sql.execute(change, [NEWEST]).rowcount == 1  # type: ignore[arg-type]
        assert current_report(NEWEST, database, archive) is None
        assert make_report(NEWEST, database, archive, NOW).version == made.versions()[NEWEST] != before
        assert current_report(NEWEST, database, archive) is not None
        made.sql.execute(undo, [NEWEST])  # type: ignore[arg-type]
        assert make_report(NEWEST, database, archive, NOW).version == before


def test_a_report_whose_files_are_gone_is_made_again(made: Installed) -> None:
    database, archive = installed.database(), installed.archive()
    (settings().archive.folder or Path()).joinpath("reports", f"{WEEKS[0]}.pdf").unlink()
    assert current_report(WEEKS[0], database, archive) is None
    make_report(WEEKS[0], database, archive, NOW)
    assert current_report(WEEKS[0], database, archive) is not None


def test_the_command_prints_where_the_page_is_makes_it_if_needed_and_writes_its_pdf(
    made: Installed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = (settings().archive.folder or Path()) / "reports"
    (folder / f"{WEEKS[1]}.html").unlink()
    for week in (WEEKS[1], None):
        command(week, pdf=tmp_path / "report.pdf")
        path = Path(capsys.readouterr().out.strip())
        assert path == folder / f"{week or NEWEST}.html"
        assert path.read_bytes().endswith(b"</html>")
        assert (tmp_path / "report.pdf").read_bytes() == path.with_suffix(".pdf").read_bytes()
    with pytest.raises(NoReport, match="week 2026-07-31 is not computed"):
        command(WEEKS[0] - dt.timedelta(weeks=1))


def test_the_command_prints_a_report_that_cannot_be_made_again_and_says_why(
    made: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was refused, although its page was there."""
    grade = "UPDATE otc.week_quality SET grade = %s WHERE week_ending = %s AND tier = %s"
    made.sql.execute(grade, ["F", WEEKS[1], T1.name])
    command(WEEKS[1])
    printed = capsys.readouterr()
    assert printed.out.strip().endswith(f"reports/{WEEKS[1]}.html")
    assert "can't be made again: venue_volume is graded F" in " ".join(printed.err.split())
    made.sql.execute(grade, ["A", WEEKS[1], T1.name])


def test_a_week_that_is_graded_f_has_no_report_and_one_without_tables_neither(
    made: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, archive = installed.database(), installed.archive()
    grade = "UPDATE otc.week_quality SET grade = %s WHERE week_ending = %s AND tier = %s"
    made.sql.execute(grade, ["F", WEEKS[1], T1.name])
    with pytest.raises(WeekRefused, match="graded F, so there is no report of it"):
        make_report(WEEKS[1], database, archive, NOW)
    assert current_report(WEEKS[1], database, archive) is None
    # The report of the week after leaves it out of its window, though its rows are still stored.
    read: list[Inputs] = []
    with monkeypatch.context() as patched:
        patched.setattr("otc_assets.pipeline.report.contents", lambda found: read.append(found) or contents(found))  # type: ignore[func-returns-value]
        make_report(NEWEST, database, archive, NOW)
    for table in ("venue_share", "market_concentration"):
        assert set(read[0].tables[table]["week_ending"]) == {WEEKS[0], NEWEST}
    made.sql.execute(grade, ["A", WEEKS[1], T1.name])
    empty = WEEKS[0] - dt.timedelta(weeks=1)
    assert make_report(empty, database, archive, NOW).rows == 0
    verdicts = judge_checks(database, WEEKLY_REPORT.name, empty, archive=archive)
    assert [verdict.passed for verdict in verdicts] == [True, True, True]
