"""Gaps, checks, backfills and sensors leave out what retention has dropped, and its summaries stay."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance, build_schedule_context
from support import installed
from support.copies import Prepared, new_database, prepared
from support.migration import migrate

from otc_assets.defs import launch
from otc_assets.defs.backfill import launch_backfill
from otc_assets.defs.jobs import FilesToIngest
from otc_assets.defs.materialize import missing_weeks, refuse_dropped
from otc_assets.defs.stale import stale_now
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import NEW_YORK, TIERS, newest_weeks, weeks_between
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.pipeline.changes import changed, look_back
from otc_assets.pipeline.checks import _judge_summary, _judge_volume
from otc_assets.pipeline.gaps import current_gaps
from otc_assets.reports.weeks import week_status
from otc_assets.settings import Settings, settings
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.read import previous_week
from otc_assets.warehouse.retention import Dropped
from otc_assets.warehouse.server import session_options

Sql = psycopg.Connection[tuple[object, ...]]
Rows = dict[str, list[tuple[object, ...]]]

NOW = dt.datetime(2026, 10, 15, 12, tzinfo=dt.UTC)
WEEKS = weeks_between(dt.date(2026, 7, 31), dt.date(2026, 8, 21))
GONE, FIRST_KEPT = WEEKS[1], WEEKS[2]
#: FIRST_KEPT is so many weeks before the current one.
KEPT_WEEKS = 9
#: A record of the Query API, but for its week.
RECORD = {
    "tierIdentifier": "T1",
    "tierDescription": "NMS Tier 1",
    "issueSymbolIdentifier": "AAPL",
    "issueName": "Apple",
    "MPID": "ZZZZ",
    "marketParticipantName": "ZZZZ POOL",
    "totalWeeklyShareQuantity": 1,
    "totalWeeklyTradeCount": 1,
    "summaryTypeCode": "ATS_W_SMBL_FIRM",
}


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(NOW, tick=True):
        yield


def everything(sql: Sql, table: str, week: dt.date) -> list[tuple[object, ...]]:
    columns = ", ".join(TABLES[table].schema)
    return sql.execute(
        f"SELECT {columns} FROM otc.{table} WHERE week_ending = %s ORDER BY {columns}", [week]
    ).fetchall()  # type: ignore[arg-type]


def set_and_migrate(environment: pytest.MonkeyPatch, url: str, **weeks: int) -> None:
    """Sets for how many weeks a kind is kept, as a user does: in the environment, and then 'migrate --yes'."""
    for kind, count in weeks.items():
        environment.setenv(f"OTC_KEEP_{kind.upper()}_WEEKS", str(count))
    settings.cache_clear()
    migrate(url, shorten_retention=True)


@pytest.fixture
def keep(database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets for how many weeks a kind is kept."""
    return partial(set_and_migrate, monkeypatch, database)


@pytest.fixture(scope="module")
def after_retention(
    server: EmbeddedServer, _template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prepared[Rows]]:
    """Four computed weeks, the first two of which the daily job has dropped; the rows of GONE before."""

    def prepare(url: str, environment: pytest.MonkeyPatch, dagster: DagsterInstance) -> Rows:
        options = session_options()
        with time_machine.travel(NOW, tick=True), psycopg.connect(url, autocommit=True, options=options) as sql:
            assert installed.materialize_weeks(dagster, WEEKS) == []
            before = {table: everything(sql, table, GONE) for table in TABLES}
            set_and_migrate(environment, url, venue_volume=KEPT_WEEKS)
            retention = installed.definitions().resolve_job_def("retention")
            assert retention.execute_in_process(instance=dagster).success
        return before

    with prepared(server, _template, tmp_path_factory.mktemp("dropped"), prepare) as found:
        yield found


@pytest.fixture
def database(server: EmbeddedServer, _template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database: empty, or for tests of ``dropped`` a copy of the one after retention."""
    template = _template
    if "dropped" in request.fixturenames:
        template = request.getfixturevalue("after_retention").database
    with new_database(server, template) as url:
        yield url


@pytest.fixture
def dropped(after_retention: Prepared[Rows], installation: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The installation after retention; the rows of GONE before."""
    after_retention.copy_home(installation)
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", str(KEPT_WEEKS))
    settings.cache_clear()
    return after_retention.result


def test_volume_and_totals_are_dropped_and_everything_computed_stays(dropped: Rows, sql: Sql) -> None:
    for table in ("venue_volume", "published_total"):
        weeks = sql.execute(f"SELECT DISTINCT week_ending FROM otc.{table} ORDER BY 1").fetchall()  # type: ignore[arg-type]
        assert weeks == [(week,) for week in WEEKS[2:]]
    for table in TABLES.keys() - {"venue_volume", "published_total"}:
        assert everything(sql, table, GONE) == dropped[table], table
    assert dropped["venue_volume"]
    assert dropped["symbol_summary"]


def test_there_is_no_gap_before_what_is_kept_and_nothing_is_stale(
    dropped: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps = current_gaps(installed.database(), installed.source(), settings().first_week, NOW.astimezone(NEW_YORK))
    assert gaps["week_ending"].min() > WEEKS[-1]  # type: ignore[operator]
    assert installed.stale_weeks() == []
    with installed.database().transaction() as connection:
        # Nothing is compared with a week that is no longer there.
        assert previous_week(connection, FIRST_KEPT, "NMS Tier 1") is None
        assert previous_week(connection, WEEKS[3], "NMS Tier 1") == FIRST_KEPT


def test_checks_of_a_dropped_week_pass_and_keep_its_grade(dropped: Rows, sql: Sql) -> None:
    grades = sql.execute("SELECT tier, grade, version FROM otc.week_quality WHERE week_ending = %s", [GONE]).fetchall()
    with installed.database().transaction() as connection:
        (volume,) = _judge_volume(connection, GONE).to_dicts()
        summaries = _judge_summary(connection, GONE)
    assert volume["passed"]
    assert "retention has dropped" in volume["detail"]
    assert summaries["passed"].all()
    assert summaries.height == 3
    again = sql.execute("SELECT tier, grade, version FROM otc.week_quality WHERE week_ending = %s", [GONE]).fetchall()
    assert again == grades


@pytest.mark.parametrize("asset", ["publication_t1", "venue_volume", "symbol_summary", "market_concentration"])
def test_a_dropped_week_is_refused_with_a_reason_and_its_summaries_stay(
    dropped: Rows, dagster: DagsterInstance, sql: Sql, asset: str
) -> None:
    """Computed from no rows, the summary would have become empty."""
    with pytest.raises(launch.RunFailed, match=rf"{GONE} is outside.*OTC_KEEP_VENUE_VOLUME_WEEKS"):
        installed.launcher(dagster).run_assets([asset], GONE, GONE)
    for table in ("symbol_summary", "market_concentration"):
        assert everything(sql, table, GONE) == dropped[table]


def test_in_a_range_the_weeks_that_are_kept_are_computed(dropped: Rows, dagster: DagsterInstance, sql: Sql) -> None:
    sql.execute("DELETE FROM otc.venue_volume WHERE week_ending = %s", [FIRST_KEPT])
    with pytest.raises(launch.RunFailed, match="outside the retention window"):
        installed.launcher(dagster).run_assets(["venue_volume"], GONE, FIRST_KEPT)
    assert everything(sql, "venue_volume", FIRST_KEPT)


def test_a_command_over_dropped_weeks_is_refused_before_it_begins(
    dropped: Rows, dagster: DagsterInstance, sql: Sql
) -> None:
    captures = sql.execute("SELECT count(*) FROM otc.publication").fetchone()
    with pytest.raises(Dropped, match="outside the retention window"):
        installed.materialize_weeks(dagster, WEEKS)
    with pytest.raises(Dropped, match="outside the retention window"):
        launch_backfill("http://127.0.0.1:9", installed.database(), installed.weeks(), WEEKS, TIERS)
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == captures


def test_the_look_back_leaves_dropped_weeks_alone(dropped: Rows, sql: Sql) -> None:
    sql.execute("UPDATE otc.publication SET rows_received = rows_received + 1, rows_rejected = rows_rejected + 1")
    found = {
        week
        for _, week, _ in changed(
            look_back(NOW, settings().first_week, settings().lookback_weeks), installed.database(), installed.source()
        )
    }
    assert found >= set(WEEKS[2:])
    assert min(found) == FIRST_KEPT


def test_once_they_are_kept_for_longer_dropped_weeks_are_recomputed_from_the_archive(
    dropped: Rows,
    dagster: DagsterInstance,
    sql: Sql,
    keep: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep(venue_volume=0)
    installed.replace(monkeypatch, source=installed.Unreachable())
    assert installed.stale_weeks() == WEEKS[:2]
    with installed.database().transaction() as connection:
        found = list(stale_now(lineage(connection, with_gaps=True), installed.weeks(), busy=()))
    # Their version was computed before: without another one, the earlier attempts would count.
    assert [stale.week for stale in found] == WEEKS[:2]
    assert all("kept from" in stale.version for stale in found)
    installed.launcher(dagster).run_assets(["venue_volume"], WEEKS[0], WEEKS[1])
    for table in ("venue_volume", "published_total", "symbol_summary"):
        assert everything(sql, table, GONE) == dropped[table]
    assert installed.stale_weeks() == []


def test_status_shows_weeks_that_the_archive_can_restore_as_captured(dropped: Rows, keep: Callable[..., None]) -> None:
    """They were shown as missing, as if they had to be requested from FINRA again."""

    def t1() -> list[object]:
        weeks = {
            row["week_ending"]: row
            for row in week_status(installed.database(), 12, settings().first_week, NOW.astimezone(NEW_YORK))
        }
        return [weeks[GONE]["T1"], weeks[GONE]["state"], weeks[dt.date(2026, 9, 4)]["T1"]]

    assert t1() == ["dropped", "", "missing_at_end"]
    keep(venue_volume=104)
    assert t1() == ["captured", "stale: venue_volume", "missing_at_end"]


def test_of_a_file_of_many_weeks_those_that_are_kept_are_ingested(
    dagster: DagsterInstance, sql: Sql, keep: Callable[..., None], tmp_path: Path
) -> None:
    keep(venue_volume=KEPT_WEEKS)
    records = [{**RECORD, "weekStartDate": (week - dt.timedelta(days=4)).isoformat()} for week in (GONE, FIRST_KEPT)]
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    with pytest.raises(launch.RunFailed, match=rf"records.json: week {GONE} is outside the retention window"):
        installed.launcher(dagster).ingest(FilesToIngest(paths=[str(path)]))
    assert sql.execute("SELECT week_ending FROM otc.publication").fetchall() == [(FIRST_KEPT,)]


def test_the_daily_job_is_requested_where_the_server_has_no_jobs(dagster: DagsterInstance) -> None:
    schedule = installed.definitions().resolve_schedule_def("daily_retention")
    context = build_schedule_context(
        dagster,
        scheduled_execution_time=NOW,
        resources=installed.resources(),
        repository_def=installed.repository(),
    )
    (request,) = schedule.evaluate_tick(context).run_requests or []
    assert request.run_key == "retention on 2026-10-15"


def test_the_newest_weeks_that_are_missing_are_those_that_are_kept(
    dagster: DagsterInstance, keep: Callable[..., None]
) -> None:
    """Of the eight that 'up' loads at first, retention may keep fewer: it was refused, and all of 'up' ended."""
    newest = newest_weeks(8, dt.date(2021, 12, 10), NOW)
    assert newest[0] == GONE
    assert missing_weeks(installed.database(), newest, NOW) == newest
    keep(venue_volume=KEPT_WEEKS)
    missing = missing_weeks(installed.database(), newest, NOW)
    assert missing == newest[1:]
    refuse_dropped(installed.database(), missing)
    keep(venue_volume=1)
    assert missing_weeks(installed.database(), newest, NOW) == []


@pytest.mark.parametrize(
    ("volume", "summaries", "fits"), [(104, 0, True), (104, 110, True), (104, 109, False), (0, 500, False)]
)
def test_summaries_must_be_kept_longer_than_venue_volume(
    monkeypatch: pytest.MonkeyPatch, volume: int, summaries: int, *, fits: bool
) -> None:
    monkeypatch.setenv("OTC_KEEP_VENUE_VOLUME_WEEKS", str(volume))
    monkeypatch.setenv("OTC_KEEP_SUMMARIES_WEEKS", str(summaries))
    if fits:
        assert Settings().keep_weeks["summaries"] == summaries
    else:
        with pytest.raises(ValueError, match="six-week figures look back"):
            Settings()
