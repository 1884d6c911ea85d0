"""The client of the web server's GraphQL API that launches backfills. A real one is in ``ui/test_newcomer.py``."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from dagster import DagsterInstance
from dagster._core.execution.asset_backfill import AssetBackfillData
from pytest_httpserver import HTTPServer
from support import installed
from support.web_server import name_unreachable_proxy

from otc_assets.defs import backfill
from otc_assets.defs.backfill import backfill_state, follow_backfill, launch_backfill
from otc_assets.defs.datasets import ASSETS as OTHER_DATASETS
from otc_assets.domain.checks import EXPORT
from otc_assets.domain.weeks import OTCE, T1, T2
from otc_assets.errors import OtcError

WEEKS = [dt.date(2026, 8, 14), dt.date(2026, 8, 21)]


def launch(httpserver: HTTPServer) -> str:
    return launch_backfill(
        httpserver.url_for("").rstrip("/"), installed.database(), installed.weeks(), WEEKS, (T1, T2, OTCE)
    )


def test_every_asset_is_asked_for_with_the_weeks_of_its_tier(installation: Path, httpserver: HTTPServer) -> None:
    reply = {"data": {"launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess", "backfillId": "abc"}}}
    httpserver.expect_oneshot_request("/graphql", method="POST").respond_with_json(reply)
    assert launch(httpserver) == "abc"
    (request, _), *_ = httpserver.log
    assert request.json is not None
    wanted = request.json["variables"]["params"]["partitionsByAssets"]
    assert {each["assetKey"]["path"][0] for each in wanted} == {
        key.to_user_string() for key in installed.definitions().resolve_asset_graph().get_all_asset_keys()
    } - {*OTHER_DATASETS, EXPORT}
    assert all(each["partitions"] == {"ranges": [{"start": "2026-08-14", "end": "2026-08-21"}]} for each in wanted)


def test_the_dialog_launches_the_chosen_weeks_of_every_asset_and_no_others(installation: Path) -> None:
    """It added the six-week figures of five other weeks, which turned green without a row."""
    graph = installed.definitions().resolve_asset_graph()
    keys = list(graph.get_all_asset_keys())
    chosen = ["2026-01-02", "2026-01-09"]
    with DagsterInstance.ephemeral() as instance:
        now = dt.datetime(2026, 10, 15, tzinfo=dt.UTC).timestamp()
        data = AssetBackfillData.from_asset_partitions(graph, chosen, keys, instance, now, all_partitions=False)
    launched: dict[str, list[str]] = {key.to_user_string(): [] for key in keys}
    for each in sorted(data.target_subset.iterate_asset_partitions()):
        launched[each.asset_key.to_user_string()].append(str(each.partition_key))
    assert launched == dict.fromkeys(launched, chosen)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    installation: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_unreachable_proxy(monkeypatch)
    reply = {"data": {"launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess", "backfillId": "abc"}}}
    httpserver.expect_request("/graphql", method="POST").respond_with_json(reply)
    assert launch(httpserver) == "abc"


def test_a_refusal_of_the_web_server_is_shown(installation: Path, httpserver: HTTPServer) -> None:
    refused = {"__typename": "PartitionKeysNotFoundError", "message": "no such partitions"}
    httpserver.expect_request("/graphql").respond_with_json({"data": {"launchPartitionBackfill": refused}})
    with pytest.raises(OtcError, match="refused the request: no such partitions"):
        launch(httpserver)


def test_an_error_of_the_query_is_shown(installation: Path, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/graphql").respond_with_json({"errors": [{"message": "Cannot query field"}]})
    with pytest.raises(OtcError, match="refused the request: Cannot query field"):
        launch(httpserver)


@pytest.mark.parametrize(("status", "body"), [(502, "bad gateway"), (200, "<html>"), (302, "")])
def test_another_server_at_the_port_is_named_with_what_to_do(httpserver: HTTPServer, status: int, body: str) -> None:
    httpserver.expect_request("/graphql").respond_with_data(body, status=status)
    with pytest.raises(OtcError, match="did not answer as expected") as error:
        backfill_state(httpserver.url_for("").rstrip("/"), "abc")
    assert "OTC_PORT" in str(error.value)
    assert "where the web server runs" in str(error.value)


def state(status: str, done: int) -> dict[str, object]:
    counts = {"numPartitionsTargeted": 2, "numPartitionsMaterialized": done, "numPartitionsFailed": 0}
    found = {"__typename": "PartitionBackfill", "status": status}
    return {"data": {"partitionBackfillOrError": {**found, "assetBackfillData": {"assetBackfillStatuses": [counts]}}}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute passes whenever the time is asked for, and no pause lasts."""
    ticks = itertools.count(step=30)
    monkeypatch.setattr(backfill, "time", SimpleNamespace(monotonic=ticks.__next__, sleep=lambda seconds: None))


@pytest.mark.usefixtures("clock")
def test_following_goes_on_after_the_web_server_gave_no_answer(httpserver: HTTPServer) -> None:
    """It ended with the first reply that was lost, though the backfill went on."""
    httpserver.expect_ordered_request("/graphql").respond_with_json(state("REQUESTED", 1))
    for _ in range(2):
        httpserver.expect_ordered_request("/graphql").respond_with_data("bad gateway", status=502)
    httpserver.expect_ordered_request("/graphql").respond_with_json(state("COMPLETED_SUCCESS", 2))
    seen = list(follow_backfill(httpserver.url_for("").rstrip("/"), "abc"))
    assert [(each.done, each.of, each.status) for each in seen] == [(1, 2, "REQUESTED"), (2, 2, "COMPLETED_SUCCESS")]


@pytest.mark.usefixtures("clock")
def test_a_web_server_that_is_gone_ends_the_following_and_not_the_backfill(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/graphql").respond_with_data("bad gateway", status=502)
    with pytest.raises(OtcError, match="backfill abc can't be followed any more: the Dagster web server") as error:
        list(follow_backfill(httpserver.url_for("").rstrip("/"), "abc"))
    assert "goes on while 'otc-assets up' runs" in str(error.value)
    assert len(httpserver.log) == 5  # after 30, 60, 90, 120 and 150 seconds
