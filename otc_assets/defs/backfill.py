"""Launches a backfill on the running daemon and follows it, through the GraphQL API of Dagster's web server.

What the dialog of the UI launches is the same. Runs in the process of a command are in ``launch``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from dagster import DagsterInstance

from otc_assets.defs.materialize import refuse_dropped, stages
from otc_assets.defs.partitions import WeekPartitions, key_of
from otc_assets.domain.weeks import Tier
from otc_assets.errors import OtcError
from otc_assets.http_guard import is_loopback
from otc_assets.warehouse.database import Database

_LAUNCH = """
mutation LaunchBackfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on Error { message }
  }
}
"""
_STATE = """
query BackfillState($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill {
      status
      assetBackfillData {
        assetBackfillStatuses {
          ... on AssetPartitionsStatusCounts { numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed }
        }
      }
    }
    ... on Error { message }
  }
}
"""
_RUNNING = frozenset({"REQUESTED", "CANCELING", "FAILING"})
_SECONDS = 60
#: How long the web server may give no answer while a backfill is followed, in seconds: it is busy, or starts again.
_PATIENCE = 120


class NoAnswer(OtcError):
    """The web server does not answer, or something else answers at its port."""


@dataclass(frozen=True)
class BackfillState:
    """How far a backfill is, in partitions over all its assets."""

    done: int
    failed: int
    of: int
    status: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in _RUNNING

    @property
    def succeeded(self) -> bool:
        """Whether every partition was materialized."""
        return self.status == "COMPLETED_SUCCESS"


def require_daemon(instance: DagsterInstance) -> None:
    """Makes sure that a daemon runs which carries out backfills.

    Raises:
        OtcError: none has sent a heartbeat in the last three minutes.
    """
    heartbeat = instance.get_daemon_heartbeats().get("BACKFILL")
    if heartbeat is None or time.time() - heartbeat.timestamp >= 180:
        raise OtcError(
            "no Dagster daemon is running, which would carry out the backfill",
            remedy="Start 'otc-assets up' in another terminal, or use 'otc-assets materialize', which does the work "
            "itself.",
        )


def _ask(ui_url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The only field of the answer to a query.

    Raises:
        NoAnswer: the web server does not answer.
        OtcError: it refuses.
    """
    # A proxy that the environment names can reach the UI at its public address, but not loopback of this machine.
    by_proxy = not is_loopback(urlsplit(ui_url).hostname or "")
    asked = {"query": query, "variables": variables}
    try:
        reply = httpx.post(f"{ui_url}/graphql", json=asked, timeout=_SECONDS, trust_env=by_proxy)
        reply.raise_for_status()
        answer = reply.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NoAnswer(
            f"the Dagster web server at {ui_url} did not answer as expected: {error}",
            remedy="Set OTC_PORT to the port of the running 'otc-assets up'. Where there is none, as in containers, "
            "run the command where the web server runs, with OTC_PORT=3000 and without OTC_PUBLIC_URL.",
        ) from error
    if answer.get("errors"):
        raise OtcError(f"the Dagster web server at {ui_url} refused the request: {answer['errors'][0]['message']}")
    (found,) = answer["data"].values()
    if "message" in found:
        raise OtcError(f"the Dagster web server at {ui_url} refused the request: {found['message']}")
    return dict(found)


def launch_backfill(
    ui_url: str, database: Database, partitions: WeekPartitions, weeks: Sequence[dt.date], tiers: Sequence[Tier]
) -> str:
    """Asks the daemon to capture ``weeks`` and to materialize their downstream assets. Returns the backfill's id.

    Args:
        ui_url: the address of Dagster's web server.
        database: the installation's.
        partitions: the weeks of the installation.
        weeks: consecutive weeks.
        tiers: the tiers to capture.

    Raises:
        Dropped: the first of ``weeks`` is older than what is kept.
        OtcError: the web server does not answer, or refuses.
    """
    refuse_dropped(database, weeks)
    by_asset = [
        {
            "assetKey": {"path": [asset]},
            "partitions": {"ranges": [{"start": key_of(some[0]), "end": key_of(some[-1])}]},
        }
        for assets, some in stages(partitions, weeks, tiers)
        for asset in assets
    ]
    params = {
        "partitionsByAssets": by_asset,
        "tags": [{"key": "otc/launched_by", "value": "otc-assets"}],
        "title": f"weeks {weeks[0]} to {weeks[-1]}",
    }
    return str(_ask(ui_url, _LAUNCH, {"params": params})["backfillId"])


def follow_backfill(ui_url: str, backfill_id: str) -> Iterator[BackfillState]:
    """The progress of a backfill, once per second; the last one has ended.

    Raises:
        OtcError: the web server has not answered for two minutes, or there is no such backfill.
    """
    answered = time.monotonic()
    while True:
        try:
            state = backfill_state(ui_url, backfill_id)
        except NoAnswer as error:
            if time.monotonic() - answered > _PATIENCE:
                raise OtcError(
                    f"backfill {backfill_id} can't be followed any more: the Dagster web server at {ui_url} has not "
                    f"answered for {_PATIENCE} seconds: {error.__cause__}",
                    remedy="The backfill is stored and goes on while 'otc-assets up' runs. Start that if it has ended, "
                    f"and open {ui_url}/runs/b/{backfill_id}.",
                ) from error
        else:
            answered = time.monotonic()
            yield state
            if state.ended:
                return
        time.sleep(1)


def backfill_state(ui_url: str, backfill_id: str) -> BackfillState:
    """How far a backfill is.

    Raises:
        OtcError: the web server does not answer, or there is no such backfill.
    """
    found = _ask(ui_url, _STATE, {"id": backfill_id})
    data = found["assetBackfillData"]
    counts = [each for each in data["assetBackfillStatuses"] if each] if data else []
    return BackfillState(
        done=sum(each["numPartitionsMaterialized"] for each in counts),
        failed=sum(each["numPartitionsFailed"] for each in counts),
        of=sum(each["numPartitionsTargeted"] for each in counts),
        status=found["status"],
    )
