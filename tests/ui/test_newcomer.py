"""A newcomer's first hour: start everything, look at the lineage, backfill half a year from the dialog, stop.

The real command, a real browser, and the real daemon; FINRA alone is simulated.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from support.tools import missing

from otc_assets.defs.datasets import ASSETS as OTHER_DATASETS
from otc_assets.domain.weeks import NEW_YORK, T1, newest_due
from otc_assets.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow

#: Seconds that a page, an answer or an exit may take. Far more than any needs: a machine that is busy with other work
#: makes the tests slow, and must not make them fail.
_PATIENCE = 300

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PROGRESS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
    status assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
        assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed } } } } } }"""

LAUNCH_CHECKS = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    ... on LaunchRunSuccess { run { id } } } }"""
RUN_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
EVALUATIONS = """query($key: AssetKeyInput!, $name: String!) {
    assetCheckExecutions(assetKey: $key, checkName: $name, limit: 50) { runId evaluation { partition } } }"""


class Running:
    """An ``otc-assets up`` of the test's own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe, socket.socket() as another:
            probe.bind(("127.0.0.1", 0))
            another.bind(("127.0.0.1", 0))
            self.port, self.metrics_port = probe.getsockname()[1], another.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.said = home / "terminal.txt"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))}
        env |= {"OTC_HOME": str(home), "OTC_SIMULATOR_SCALE": "0.01", "OTC_PORT": str(self.port)}
        env |= {"OTC_METRICS_PORT": str(self.metrics_port)}
        self.env = env
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "otc-assets"), "up", "--newest", "2"],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> str:
        deadline = time.monotonic() + 2 * _PATIENCE
        while time.monotonic() < deadline:
            text = self.said.read_text()
            if "ready " in text:
                return text
            assert self.process.poll() is None, text
            time.sleep(0.2)
        pytest.fail(f"not ready after {2 * _PATIENCE} seconds: {self.said.read_text()}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command, in another terminal."""
        command = [str(Path(sys.executable).parent / "otc-assets"), *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=2 * _PATIENCE, check=False)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=_PATIENCE)


@pytest.fixture(scope="module")
def up() -> Iterator[Running]:
    home = Path(tempfile.mkdtemp(prefix="otc-up-"))
    home.chmod(0o755)
    running = Running(home)
    yield running
    if running.process.poll() is None:
        running.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def page(up: Running) -> Iterator[Page]:
    if BROWSER is None:
        missing("no Chromium is installed, and the UI is not looked at", "Debian: apt install chromium")
    up.wait_until_ready()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        page = browser.new_page(viewport={"width": 1700, "height": 1000})
        page.set_default_timeout(_PATIENCE * 1000)
        sync_api.expect.set_options(timeout=_PATIENCE * 1000)
        yield page
        browser.close()


def weeks_offered(up: Running) -> list[str]:
    query = '{ assetNodeOrError(assetKey: {path: ["week_calendar"]}) { ... on AssetNode { partitionKeys } } }'
    answer = httpx.post(f"{up.url}/graphql", json={"query": query}, timeout=_PATIENCE).json()
    return list(answer["data"]["assetNodeOrError"]["partitionKeys"])


def weeks_published(up: Running) -> list[str]:
    """A week is offered from the Friday before its publication: on Mondays at 06:00 both are the same."""
    newest = newest_due(T1, dt.datetime.now(NEW_YORK)).isoformat()
    return [week for week in weeks_offered(up) if week <= newest]


def test_up_prints_where_everything_is_and_materializes_the_newest_weeks(up: Running) -> None:
    text = up.wait_until_ready()
    assert up.url in text
    assert "embedded" in text
    assert "failed" not in text
    metrics = httpx.get(f"http://127.0.0.1:{up.metrics_port}/metrics", timeout=_PATIENCE).text
    assert "otc_up 1.0" in metrics
    assert re.search(r'otc_dagster_heartbeat_age_seconds{daemon="SENSOR"} \d', metrics)
    found = json.loads(up.run("status", "--json", "--newest", "2").stdout)
    assert [row["week_ending"] for row in found] == weeks_published(up)[-2:]
    assert all(isinstance(row["T1"], int) for row in found)


def test_up_serves_the_ui_behind_the_guard(up: Running) -> None:
    """`dagster dev` by itself takes mutations by GET, from any page and under any name."""
    up.wait_until_ready()
    mutation = "mutation { setNuxSeen }"
    by_get = httpx.get(f"{up.url}/graphql", params={"query": mutation}, timeout=_PATIENCE)
    by_page = httpx.post(f"{up.url}/graphql", json={}, headers={"Origin": "http://evil.example"}, timeout=_PATIENCE)
    rebound = httpx.get(f"{up.url}/server_info", headers={"Host": "evil.example"}, timeout=_PATIENCE)
    assert [answer.status_code for answer in (by_get, by_page, rebound)] == [405, 403, 403]


def test_the_lineage_opens_with_its_beginning_in_sight_and_a_list_of_assets(up: Running, page: Page) -> None:
    """It opened as six closed boxes without an asset. The whole graph is too large to be read on one page."""
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{up.url}/asset-groups")
    for asset in ("week_calendar", "venue_volume", "symbol_summary"):
        node = page.locator("foreignObject").get_by_text(asset, exact=True).first
        node.wait_for()
        box = node.bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["y"] >= 0, asset  # noqa: PT018
        assert box["x"] + box["width"] <= 1440 and box["y"] + box["height"] <= 900, asset  # noqa: PT018
    for asset in ("gap_report", "symbol_rolling", "week_changes", "weekly_report"):
        page.get_by_text(asset, exact=True).first.wait_for(state="attached")
    page.set_viewport_size({"width": 1700, "height": 1000})


def test_execute_all_works_on_the_checks_of_every_asset(up: Running) -> None:
    """Without a week, as the UI launches it: it failed with "Cannot access partition_key for a non-partitioned run"."""

    def ask(query: str, **variables: object) -> Any:
        body = {"query": query, "variables": variables}
        return httpx.post(f"{up.url}/graphql", json=body, timeout=_PATIENCE).json()["data"]

    up.wait_until_ready()
    newest = weeks_published(up)[-1]
    nodes = ask("{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name } } } } }")
    checks = {
        node["assetKey"]["path"][0]: [check["name"] for check in node["assetChecksOrError"]["checks"]]
        for node in nodes["assetNodes"]
        if node["assetChecksOrError"]["checks"]
    }
    # As the page of an asset launches them; and all together, which takes one process and not one per asset.
    for assets in (["venue_volume"], list(checks)):
        selector = {
            "repositoryLocationName": "otc_assets",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [],
            "assetCheckSelection": [
                {"assetKey": {"path": [asset]}, "name": name} for asset in assets for name in checks[asset]
            ],
        }
        launched = ask(LAUNCH_CHECKS, params={"selector": selector, "mode": "default", "runConfigData": "{}"})
        run_id = launched["launchPipelineExecution"]["run"]["id"]
        deadline = time.monotonic() + _PATIENCE
        while (status := ask(RUN_STATUS, id=run_id)["runOrError"]["status"]) not in ("SUCCESS", "FAILURE", "CANCELED"):
            assert time.monotonic() < deadline
            time.sleep(1)
        assert status == "SUCCESS", assets
        for asset, name in [(each, name) for each in assets for name in checks[each]]:
            found = ask(EVALUATIONS, key={"path": [asset]}, name=name)["assetCheckExecutions"]
            partitions = {e["evaluation"]["partition"] for e in found if e["runId"] == run_id}
            if name == "newest_week":
                assert partitions == {None}
            elif asset in (*OTHER_DATASETS, "parquet_export"):  # a week from the newest captured one to the current one
                assert None in partitions and len(partitions) == 2, name  # noqa: PT018
            else:
                assert partitions == {None, newest}, name


def test_a_backfill_of_26_weeks_from_the_dialog_succeeds(up: Running, page: Page) -> None:
    """Assets whose roots have different weeks once left the dialog with 'all partitions' alone."""
    weeks = weeks_published(up)[-26:]
    page.goto(f"{up.url}/asset-groups")
    page.get_by_role("button", name=re.compile("Materialize all")).first.click()
    dialog = page.get_by_role("dialog").filter(has_text="Launch runs to materialize")
    span = dialog.get_by_role("button", name=re.compile("Last 90 days|All time"))
    span.wait_for()
    if "Last 90 days" in span.inner_text():
        dialog.get_by_role("button", name="Show all partitions").click()
    dialog.get_by_role("button", name=re.compile("All time")).wait_for()
    wanted = f"[{weeks[0]}...{weeks[-1]}]"
    # The dialog takes what is typed, and not what is set at once, for a selection.
    box = dialog.get_by_role("textbox", name=re.compile("^ex: "))
    box.press("Control+a")
    box.press_sequentially(wanted)
    box.press("Enter")
    launch = dialog.get_by_role("button", name="Launch backfill")
    sync_api.expect(launch).to_be_enabled()
    sync_api.expect(box).to_have_value(wanted)

    def is_launch(reply: Response) -> bool:
        return "launchPartitionBackfill" in (reply.request.post_data or "")

    with page.expect_response(is_launch) as launched:
        launch.click()
    backfill = launched.value.json()["data"]["launchPartitionBackfill"]["backfillId"]
    page.goto("about:blank")  # an open page is drawn again all the time, which takes a third of the processors
    deadline = time.monotonic() + 6 * _PATIENCE
    while time.monotonic() < deadline:
        body = {"query": PROGRESS, "variables": {"id": backfill}}
        state = httpx.post(f"{up.url}/graphql", json=body, timeout=_PATIENCE).json()["data"]["partitionBackfillOrError"]
        if state["status"] not in ("REQUESTED", "CANCELING", "FAILING"):
            break
        time.sleep(5)
    assert state["status"] == "COMPLETED_SUCCESS"
    counts = {
        "/".join(s["assetKey"]["path"]): (s["numPartitionsMaterialized"], s["numPartitionsFailed"])
        for s in state["assetBackfillData"]["assetBackfillStatuses"]
    }
    late = {"publication_t2": (24, 0), "publication_otce": (24, 0)}
    assert len(counts) == 19 + len(OTHER_DATASETS)
    for asset, (made, failed) in counts.items():
        expected = late.get(asset, (26, 0))
        # Five weeks after a Friday the tiers that come late have a partition already on some weekdays.
        assert (failed, expected[0] <= made <= 26) == (0, True), asset


def test_the_backfilled_weeks_are_all_there_and_every_check_is_recorded_by_week(up: Running) -> None:
    # Six-week figures of a week whose earlier weeks another run computed later are recomputed by the sensor.
    deadline = time.monotonic() + 6 * _PATIENCE
    while True:
        found = json.loads(up.run("status", "--json", "--newest", "26").stdout)
        if all(row["state"] == "" for row in found) or time.monotonic() > deadline:
            break
        time.sleep(10)
    assert len(found) == 26
    # So small a market swings: a week may cost a warning, and none is worse than that.
    assert {row["grade"] for row in found} <= {"A", "B"}
    assert all(row["state"] == "" for row in found)
    # The newest periods of the other data sets are captured by a sensor, some minutes after the start.
    while True:
        gaps = json.loads(up.run("gaps", "--json").stdout)
        inside = [gap for gap in gaps if gap["status"] != "pending" and gap["last_week"] >= found[0]["week_ending"]]
        if not inside or time.monotonic() > deadline:
            break
        time.sleep(10)
    assert inside == []


def test_the_backfill_command_launches_a_backfill_on_the_running_daemon_and_follows_it(up: Running) -> None:
    """It once wrote to Dagster's storage itself, with names that Dagster does not publish."""
    first, last = weeks_published(up)[-28:-26]
    done = up.run("backfill", "--weeks", f"{first}..{last}", "--json")
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    assert (state["status"], state["failed"]) == ("COMPLETED_SUCCESS", 0)
    assert state["done"] == state["of"] == 2 * 18  # all but the export and the other data sets
    assert f"/runs/b/{state['backfill']}" in done.stderr
    assert re.search(r"36 of 36 partitions, 0 failed, \d+ a minute\n", done.stderr)
    found = json.loads(up.run("status", "--json", "--newest", "28").stdout)
    assert [row["week_ending"] for row in found][:2] == [first, last]
    assert {row["grade"] for row in found[:2]} <= {"A", "B"}


@pytest.mark.parametrize("page", ["tutorial", "howto"])
def test_the_commands_of_a_page_work_one_after_another(up: Running, page: str, tmp_path: Path) -> None:
    """As a reader copies them: a failed command ends the page."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", (PROJECT_ROOT / f"docs/{page}.md").read_text(), re.M | re.S)
    assert len(blocks) > 5
    env = up.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for language, block in blocks:
        command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=4 * _PATIENCE, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip() or done.stderr.strip(), block  # progress and what was done are on stderr
    if page == "tutorial":
        assert {path.name for path in tmp_path.iterdir()} == {"summary.parquet", "aapl.xlsx"}


def test_ctrl_c_stops_everything_and_the_next_start_finds_it_all_again(up: Running) -> None:
    up.wait_until_ready()
    before = up.run("status", "--json", "--newest", "4").stdout
    assert up.stop() == 0
    url = f"postgresql://otc@127.0.0.1:{(up.home / 'postgres' / 'port').read_text()}/otc"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{up.url}/server_info", timeout=2)
    left = subprocess.run(["pgrep", "-f", str(up.home)], capture_output=True, text=True, check=False).stdout.split()
    assert left == []
    assert up.run("status", "--json", "--newest", "4").stdout == before
