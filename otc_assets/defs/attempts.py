"""Requests that are repeated until their run has succeeded, with a growing pause.

Dagster starts one run per run key and then ignores the key, even if that run failed or was canceled. What is still
wanted is therefore requested under a key with the number of the attempt. The number of attempts is read from the runs
themselves. What is requested is decided in ``sensors`` and ``schedules``.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunRequest, RunsFilter

from otc_assets.defs.internals import RUN_KEY_TAG

#: The run key of the first attempt, which says what is wanted; and the number of the attempt.
REQUEST_TAG, ATTEMPT_TAG = "otc/request", "otc/attempt"

#: The pause is 2 minutes after the first attempt, then 4, 8, ... and at most this long.
LONGEST_PAUSE = dt.timedelta(hours=6)

_KEYS_A_QUERY = 200


@dataclass(frozen=True)
class Waiting:
    """A request that is postponed, because its last attempt ended a short while ago."""

    key: str
    attempts: int
    until: dt.datetime

    def __str__(self) -> str:
        return f"'{self.key}' was attempted {self.attempts} times, again from {self.until:%Y-%m-%d %H:%M} UTC on"


def pause_after(attempts: int) -> dt.timedelta:
    """How long to wait after the last of so many attempts."""
    return min(dt.timedelta(minutes=2 ** min(attempts, 16)), LONGEST_PAUSE)


def _runs_of(instance: DagsterInstance, keys: Sequence[str]) -> dict[str, list[RunRecord]]:
    """The runs that were requested under each key, in any attempt."""
    found: dict[str, dict[str, RunRecord]] = {}
    for tag in (REQUEST_TAG, RUN_KEY_TAG):  # the latter for runs from before there were attempts
        for start in range(0, len(keys), _KEYS_A_QUERY):
            wanted = RunsFilter(tags={tag: list(keys[start : start + _KEYS_A_QUERY])})
            for record in instance.get_run_records(wanted):
                run = record.dagster_run
                found.setdefault(run.tags[tag], {})[run.run_id] = record
    return {key: list(records.values()) for key, records in found.items()}


def _ended_at(record: RunRecord) -> dt.datetime:
    at = record.end_time or record.update_timestamp.timestamp()
    return dt.datetime.fromtimestamp(at, dt.UTC)


def attempts(
    instance: DagsterInstance, requests: Iterable[RunRequest], now: dt.datetime, *, after_success: bool = False
) -> tuple[list[RunRequest], list[Waiting]]:
    """The requests that are due, each under the key of its next attempt, and those that wait.

    A request whose run is under way is left out. So is one whose run succeeded, unless ``after_success``.

    Args:
        instance: Dagster's.
        requests: what is wanted, with run keys that say so.
        now: the time.
        after_success: a success did not bring what was wanted, or it would not be requested: attempt it again.
    """
    wanted = list(requests)
    known = _runs_of(instance, [str(request.run_key) for request in wanted])
    ready, waiting = [], []
    for request in wanted:
        key = str(request.run_key)
        records = known.get(key, [])
        if any(not record.dagster_run.is_finished for record in records):
            continue
        if not after_success and any(r.dagster_run.status == DagsterRunStatus.SUCCESS for r in records):
            continue
        number = max((int(record.dagster_run.tags.get(ATTEMPT_TAG, "1")) for record in records), default=0)
        if records:
            until = max(map(_ended_at, records)) + pause_after(number)
            if now < until:
                waiting.append(Waiting(key, number, until))
                continue
        ready.append(
            request.with_replaced_attrs(
                run_key=key if number == 0 else f"{key} attempt {number + 1}",
                tags={**request.tags, REQUEST_TAG: key, ATTEMPT_TAG: str(number + 1)},
            )
        )
    return ready, waiting
