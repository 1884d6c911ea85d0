"""Grafana's dashboards: every query runs, and gives what its panel needs; the JSON is what Grafana takes."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from appended import check_failed, ingested, revised
from copies import Copy
from prometheus_server import Prometheus
from support.logins import login

import otc_assets
from otc_assets.exporter.server import Exporter, serving
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.warehouse.roles import READER

pytestmark = pytest.mark.slow

FOLDER = Path(otc_assets.__file__).parent / "dashboards"
NAMES = ("operations", "analysts")
TIERS = ("NMS Tier 1", "NMS Tier 2", "OTC")


def dashboard(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


def panels(name: str) -> list[dict[str, Any]]:
    """The panels that show something: not the headings of rows."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def targets(name: str) -> list[Any]:
    return [
        pytest.param(panel, target, id=f"{panel['title']} {target['refId']}")
        for panel in panels(name)
        for target in panel["targets"]
    ]


# --- the JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_formatted_has_a_permanent_uid_and_asks_for_its_data_source(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text()
    board = json.loads(text)
    assert text == json.dumps(board, indent=2, ensure_ascii=False) + "\n"
    assert board["uid"] == f"otc-{name}"
    assert "id" not in board  # a number of one Grafana's, which would overwrite another's dashboard
    assert board["schemaVersion"] == 42
    assert board["timezone"] == "utc"  # weeks are dates: elsewhere a Friday would become a Thursday
    (source,) = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
    assert source["name"] == "datasource"
    used = json.dumps([board["panels"], board["templating"]["list"]])
    assert set(re.findall(r'"uid": "([^"]*)"', used)) == {"${datasource}"}
    assert set(re.findall(r'"datasource": \{"type": "([^"]*)"', used)) == {source["query"]}


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_numbers_of_their_own_and_do_not_lie_on_each_other(name: str) -> None:
    every = dashboard(name)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: dict[tuple[int, int], str] = {}
    for panel in every:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]
    assert [panel["gridPos"]["y"] for panel in every] == sorted(panel["gridPos"]["y"] for panel in every)


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows_and_every_target_where_from(name: str) -> None:
    for panel in panels(name):
        assert panel["title"], panel
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["thresholds"]["steps"][0]["value"] is None
        # A number says its unit, or is a count or rank, of which it says how many places it has.
        if panel["type"] in ("timeseries", "stat", "bargauge"):
            assert "unit" in defaults or "decimals" in defaults or "mappings" in defaults, panel["title"]


def test_provisioning_names_the_data_sources_that_the_dashboards_begin_with() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/otc-assets.yaml").read_text())["datasources"]
    begun_with = {}
    for name in NAMES:
        for variable in dashboard(name)["templating"]["list"]:
            if variable["type"] == "datasource":
                begun_with[variable["current"]["value"]] = (variable["query"], variable["current"]["text"])
    assert {source["uid"]: (source["type"], source["name"]) for source in sources} == begun_with
    assert all(source["secureJsonData"]["password"] == "${PGPASSWORD}" for source in sources if "user" in source)
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/otc-assets.yaml").read_text())["providers"]
    where = provider["options"]["path"].replace("${GF_PATHS_PROVISIONING}", str(FOLDER / "provisioning"))
    assert {path.stem for path in Path(where).resolve().glob("*.json")} == set(NAMES)


def test_links_lead_to_dashboards_that_are_there() -> None:
    uids = {dashboard(name)["uid"] for name in NAMES}
    for name in NAMES:
        assert {link["url"].removeprefix("/d/") for link in dashboard(name)["links"]} == uids - {f"otc-{name}"}


# --- SQL -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def warehouse(copy_of_filled: Copy, server: EmbeddedServer) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """The filled database as Grafana's user sees it, with some rows revised."""
    with copy_of_filled() as url, server._connect(url.rpartition("/")[2]) as admin, login(admin, url, READER) as reader:
        admin.execute("""
            INSERT INTO otc.venue_volume_revision SELECT v.*, now(), 'changed' FROM otc.venue_volume v
            ORDER BY share_volume DESC LIMIT 3
        """)
        with psycopg.connect(reader, row_factory=psycopg.rows.dict_row) as sql:
            yield sql


def filled_in(raw: str, sql: psycopg.Connection[dict[str, Any]], tiers: tuple[str, ...] = TIERS) -> str:
    """A query as Grafana sends it: its macros and variables replaced, over the last half year."""
    now = dt.datetime.now(dt.UTC)
    begin, end = (f"'{moment:%Y-%m-%dT%H:%M:%SZ}'" for moment in (now - dt.timedelta(weeks=26), now))
    traded = "SELECT max(week_ending)::text AS week FROM otc.venue_share"
    week = sql.execute(traded).fetchone()["week"]  # type: ignore[index]
    most = "SELECT symbol FROM otc.symbol_summary WHERE week_ending = %s ORDER BY total_volume DESC LIMIT 1"
    symbol = sql.execute(most, [week]).fetchone()["symbol"]  # type: ignore[index]
    raw = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {begin} AND {end}", raw)
    raw = raw.replace("$__timeFrom()", begin).replace("$__timeTo()", end)
    raw = raw.replace("${tier:sqlstring}", ",".join(f"'{tier}'" for tier in tiers))
    raw = raw.replace("${week:sqlstring}", f"'{week}'").replace("${symbol:sqlstring}", f"'{symbol}'")
    assert "$" not in raw, raw
    return raw


def asked(sql: psycopg.Connection[dict[str, Any]], raw: str, tiers: tuple[str, ...] = TIERS) -> list[dict[str, Any]]:
    return sql.execute(filled_in(raw, sql, tiers).encode()).fetchall()


@pytest.mark.parametrize(("panel", "target"), targets("analysts"))
def test_every_sql_target_gives_rows_with_the_columns_that_its_panel_needs(
    panel: dict[str, Any], target: dict[str, Any], warehouse: psycopg.Connection[dict[str, Any]]
) -> None:
    rows = asked(warehouse, target["rawSql"])
    assert rows, panel["title"]
    columns = list(rows[0])
    if target["format"] == "time_series":
        assert columns[0] == "time"
        assert all(isinstance(row["time"], dt.datetime) for row in rows)
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
        assert {row["time"].weekday() for row in rows} == {4}
        # Grafana names a series by the column metric where there is one value beside it, else by the column.
        values = [name for name in columns if name not in ("time", "metric")]
        assert len(columns) == 3
        if "metric" in columns:
            assert len(values) == 1
            assert all(isinstance(row["metric"], str) for row in rows)
            assert len({(row["time"], row["metric"]) for row in rows}) == len(rows)
        else:
            assert len({row["time"] for row in rows}) == len(rows)
        for name in values:
            assert {type(row[name]) for row in rows} <= {int, float, Decimal, type(None)}
            assert any(row[name] is not None for row in rows)
    else:
        assert panel["type"] == "table"
        styled = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
        assert styled <= set(columns)
        for name in styled:
            assert any(row[name] is not None for row in rows), name
    for tier in TIERS:
        asked(warehouse, target["rawSql"], (tier,))


def test_every_query_of_a_variable_gives_something_to_choose(warehouse: psycopg.Connection[dict[str, Any]]) -> None:
    found = 0
    for variable in dashboard("analysts")["templating"]["list"]:
        if variable["type"] == "query":
            rows = asked(warehouse, variable["query"])
            assert len(rows) == 8
            found += 1
    assert found == 1


def query_of(title: str) -> str:
    (panel,) = [panel for panel in panels("analysts") if panel["title"] == title]
    return str(panel["targets"][0]["rawSql"])


@pytest.mark.parametrize("title", ["Volume by tier", "Volume by venue", "ATS against non-ATS"])
def test_no_volume_is_lost_between_the_tables_and_the_panels(
    title: str, warehouse: psycopg.Connection[dict[str, Any]]
) -> None:
    shown = sum(row["shares"] for row in asked(warehouse, query_of(title)))
    (all_shares,) = warehouse.execute("SELECT sum(share_volume) AS shares FROM otc.venue_volume").fetchall()
    assert shown == all_shares["shares"] > 0


def test_coverage_has_every_week_of_the_range_and_says_what_is_not_there(
    warehouse: psycopg.Connection[dict[str, Any]],
) -> None:
    rows = asked(warehouse, query_of("Coverage by week and tier"))
    assert len(rows) == len({(row["time"], row["metric"]) for row in rows})
    weeks = {row["time"].date() for row in rows}
    assert len(rows) == 3 * len(weeks)
    assert 26 <= len(weeks) <= 27
    graded = warehouse.execute("SELECT week_ending, tier, position(grade IN 'FDCBA') - 1 AS n FROM otc.week_quality")
    states = {(row["time"].date(), row["metric"]): row["state"] for row in rows}
    for row in graded.fetchall():
        assert states.pop((row["week_ending"], row["tier"])) == row["n"]
    assert set(states.values()) == {-5, -6}  # not due yet, and never looked for
    mapped = {
        int(value)
        for panel in panels("analysts")
        if panel["type"] == "status-history"
        for value in panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    }
    assert mapped == set(range(-6, 5))


def test_a_venues_move_is_its_rank_of_the_week_before_less_its_own(
    warehouse: psycopg.Connection[dict[str, Any]],
) -> None:
    rows = asked(warehouse, query_of("Ranks in the week $week"), ("NMS Tier 1",))
    assert [row["rank"] for row in rows] == sorted(row["rank"] for row in rows)
    assert sum(row["share of tier"] for row in rows) == pytest.approx(100, abs=1e-3)
    before = {
        row["venue"]: row["rank"]
        for row in warehouse.execute("""
            SELECT coalesce(venue_name, venue_id) AS venue, rank FROM otc.venue_share WHERE tier = 'NMS Tier 1'
            AND week_ending = (SELECT max(week_ending) - 7 FROM otc.venue_share)
        """)
    }
    assert before
    for row in rows:
        assert row["move"] == (before[row["venue"]] - row["rank"] if row["venue"] in before else None)


# --- PromQL --------------------------------------------------------------------------------------------

#: What gives nothing here: TimescaleDB's, and what shows failures alone.
MAY_BE_EMPTY = ("otc_compression_ratio", "sum by (table, compressed) (otc_chunks)", "otc_scrape_errors > 0")


@pytest.fixture(scope="module")
def prometheus(copy_of_filled: Copy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen an installation at work: things happen between its scrapes."""
    with copy_of_filled() as url, psycopg.connect(url, autocommit=True) as sql:
        # A daemon that lives, and a sensor that fails.
        sql.execute("INSERT INTO dagster.daemon_heartbeats (daemon_type, timestamp) VALUES ('SENSOR', now())")
        sql.execute(
            "INSERT INTO dagster.job_ticks (job_origin_id, status, type, tick_body)"
            " VALUES ('o', 'FAILURE', 'SENSOR', %s)",
            [json.dumps({"job_name": "late_weeks"})],
        )
        sql.execute(
            "INSERT INTO otc.dataset_gap (week_ending, dataset, period, status, due, fetchable)"
            " VALUES ('2026-09-25', 'regShoDaily', '2026-09-21', 'late', '2026-09-22', true)"
        )
        check_failed(sql)
        with closing(Exporter(lambda: url)) as exporter, serving(exporter, "127.0.0.1", 0) as address:
            target = address.removeprefix("http://").removesuffix("/metrics")
            prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), target)
            try:
                prometheus.wait_for('otc_check_failures_total{check="grade"} == 1')
                check_failed(sql)
                revised(sql)
                for number, tier in enumerate(TIERS):
                    ingested(sql, tier, rejected=1, digest=f"{number:064x}")
                prometheus.wait_for('increase(otc_check_failures_total{check="grade"}[1m]) > 0')
                yield prometheus
            finally:
                prometheus.stop()


@pytest.mark.parametrize(("panel", "target"), targets("operations"))
def test_every_promql_target_gives_series_with_the_labels_that_its_legend_needs(
    panel: dict[str, Any], target: dict[str, Any], prometheus: Prometheus
) -> None:
    promql = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "5m")
    assert "$" not in promql
    if target["instant"]:
        series = prometheus.query(promql)
    else:
        now = time.time()
        params = {"query": promql, "start": str(now - 5), "end": str(now), "step": "1"}
        answer = httpx.get(f"{prometheus.url}/api/v1/query_range", params=params, timeout=60).json()
        assert answer["status"] == "success", answer
        series = answer["data"]["result"]
    if promql not in MAY_BE_EMPTY:
        assert series, promql
    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
        assert all(one["metric"].get(label) for one in series), f"{label} of {promql}"


def test_the_dashboard_shows_every_metric_that_is_served(prometheus: Prometheus) -> None:
    names = httpx.get(f"{prometheus.url}/api/v1/label/__name__/values", timeout=60).json()["data"]
    served = {name for name in names if name.startswith("otc_")}
    shown = json.dumps(panels("operations"))
    unseen = {name for name in served if not re.search(rf"\b{name}\b", shown)}
    # Histograms are shown by what their panels need of them.
    assert unseen == {
        "otc_events_total",
        "otc_ingest_duration_seconds_sum",
        "otc_ingest_duration_seconds_count",
        "otc_summary_duration_seconds_bucket",
        "otc_normalize_duration_seconds_bucket",
    }
    assert prometheus.value("max(otc_scrape_errors)") == 0
