"""What a user does in Dagster's UI, by the API that the UI uses: launching a run, and waiting for its end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
import pytest

from support.terminal import Terminal

Answer = TypeVar("Answer")

_LAUNCH = """
mutation ($parameters: ExecutionParams!) {
  launchRun(executionParams: $parameters) {
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
  }
}
"""
_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


def free_port() -> str:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def until(answer: Callable[[], Answer | None], running: Sequence[Terminal]) -> Answer:
    """Waits until ``answer`` returns something, while the commands run."""
    deadline = time.monotonic() + 600
    while True:
        assert all(each.process.poll() is None for each in running), [each.text for each in running]
        assert time.monotonic() < deadline, [each.text for each in running]
        try:
            found = answer()
        except httpx.TransportError:  # it is starting
            found = None
        if found is not None:
            return found
        time.sleep(0.5)


def _graphql(port: str, query: str, **variables: Any) -> Any:
    """The data of the reply of the web server at ``port``; None while it loads the code location."""
    request = {"query": query, "variables": variables}
    return httpx.post(f"http://127.0.0.1:{port}/graphql", json=request, timeout=60).json().get("data")


def launch(port: str, assets: str, week: str) -> str | None:
    """Launches a run that materializes a week of assets. Returns its id, or None while the location is loaded.

    Args:
        port: that of the web server.
        assets: their names, separated by spaces.
        week: the week, a Friday.
    """
    parameters = {
        "selector": {
            "repositoryLocationName": "otc_assets",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in assets.split()],
        },
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": week}]},
    }
    found = _graphql(port, _LAUNCH, parameters=parameters)
    return found["launchRun"]["run"]["runId"] if found and "run" in found["launchRun"] else None


def status_of(port: str, run_id: str) -> str | None:
    """The status with which a run ended; None while it is under way."""
    status = _graphql(port, _STATUS, id=run_id)["runOrError"]["status"]
    return status if status in _ENDED else None


def name_unreachable_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names a proxy for all requests, as in a company's network, at a port where nothing listens."""
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
