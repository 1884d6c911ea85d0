"""Runs of commands in a cluster, where the code location is a gRPC server."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster_graphql.test.utils import execute_dagster_graphql
from support import installed
from support.web_server import free_port

_RERUN = """
mutation ($parent: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $parent, strategy: ALL_STEPS}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
  }
}
"""


def test_a_run_of_a_command_can_be_executed_again_by_the_code_server(
    installation: Path, week: dt.date, tmp_path: Path
) -> None:
    """The run's origin is a code server of the command's own machine; that of the next run is the cluster's."""
    port = int(free_port())
    arguments = [sys.executable, "-m", "dagster", "api", "grpc", "--module-name", "otc_assets.definitions"]
    coordinator = {"module": QueuedRunCoordinator.__module__, "class": QueuedRunCoordinator.__name__}
    server = subprocess.Popen([*arguments, "--host", "127.0.0.1", "--port", str(port)], cwd=tmp_path)
    try:
        with DagsterInstance.local_temp(str(tmp_path), overrides={"run_coordinator": coordinator}) as instance:
            installed.launcher(instance).run_assets(["week_calendar"], week, week)
            (parent,) = instance.get_run_ids()
            _wait_for(port)
            target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="otc_assets")
            with WorkspaceProcessContext(instance, target) as workspace:
                request = workspace.create_request_context()
                answer = execute_dagster_graphql(request, _RERUN, {"parent": parent}).data["launchRunReexecution"]
            assert answer["__typename"] == "LaunchRunSuccess", answer
            rerun = instance.get_run_by_id(answer["run"]["runId"])
            assert rerun is not None
            assert rerun.parent_run_id == parent
            assert rerun.tags["dagster/partition"] == str(week)
            assert rerun.remote_job_origin is not None
            location = rerun.remote_job_origin.repository_origin.code_location_origin
            assert (location.location_name, getattr(location, "port", None)) == ("otc_assets", port)
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int) -> None:
    """Waits until the code server answers, with the command of its readiness probe."""
    for _ in range(60):
        probe = [sys.executable, "-m", "dagster", "api", "grpc-health-check", "--port", str(port)]
        if subprocess.run(probe, check=False, capture_output=True).returncode == 0:
            return
    raise AssertionError("the code server did not start")
