"""Requests that are repeated until their run has succeeded, with a growing pause.

Dagster starts one run per run key and then ignores the key, even if that run failed or was canceled. What is still
wanted is therefore requested under a key with the number of the attempt. Runs over several weeks have no key, but a tag
with the attempt of each week, because the weeks that one run leaves are put into other runs. The number of attempts is
read from the runs themselves. What is requested is decided in ``sensors``, ``stale`` and ``schedules``.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunRequest, RunsFilter

from otc_assets.defs.internals import RUN_KEY_TAG
from otc_assets.domain.weeks import Tier
from otc_assets.finra.source import PublicationState

#: The run key of the first attempt, which says what is wanted; and the number of the attempt.
REQUEST_TAG, ATTEMPT_TAG = "otc/request", "otc/attempt"

#: What the runs that recompute stale weeks have as their request, and the tag with their weeks and attempts.
RECOMPUTE, WEEKS_TAG = "recompute stale weeks", "otc/weeks"

#: The pause is 2 minutes after the first attempt, then 4, 8, ... and at most this long.
LONGEST_PAUSE = dt.timedelta(hours=6)

_KEYS_A_QUERY = 200

#: What ended earlier was attempted long ago: the next attempt is a first one. Longer than a pause and a run.
_REMEMBERED = dt.timedelta(days=1)
_RUNS_READ = 2000


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


def capture_key(tier: Tier, week_ending: dt.date, state: PublicationState) -> str:
    """The run key of a capture: schedules and sensors request the same state of a publication under the same key."""
    return f"{tier.id} {week_ending} {state.fingerprint()}"


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


@dataclass(frozen=True)
class StaleWeek:
    """A week to compute.

    Attributes:
        job: the name of the job that computes it.
        week: the week.
        version: what it will be computed from.
    """

    job: str
    week: dt.date
    version: str

    @property
    def digest(self) -> str:
        """Eight characters for job and version: the values of tags must be short."""
        return hashlib.sha256(f"{self.job} {self.version}".encode()).hexdigest()[:8]

    def as_tag(self, attempt: int) -> str:
        """The week and the number of the attempt, as the run's tag has them."""
        return f"{self.week}:{self.digest}:{attempt}"


def weeks_due(
    instance: DagsterInstance, weeks: Sequence[StaleWeek], now: dt.datetime
) -> tuple[list[tuple[StaleWeek, int]], list[Waiting]]:
    """The weeks that are due, each with the number of its next attempt, and those that wait.

    A run that ended without computing a week counts as an attempt, whatever its status.

    Args:
        instance: Dagster's.
        weeks: stale weeks that no run in progress covers.
        now: the time, UTC.
    """
    recent = RunsFilter(tags={REQUEST_TAG: RECOMPUTE}, updated_after=now - _REMEMBERED)
    last: dict[str, tuple[int, dt.datetime]] = {}
    for record in instance.get_run_records(recent, limit=_RUNS_READ) if weeks else ():
        for text in record.dagster_run.tags.get(WEEKS_TAG, "").split():
            which, _, number = text.rpartition(":")
            last[which] = max(last.get(which, (0, now)), (int(number), _ended_at(record)))
    due, waiting = [], []
    for week in weeks:
        attempt, ended = last.get(f"{week.week}:{week.digest}", (0, now))
        if attempt and now < ended + pause_after(attempt):
            waiting.append(Waiting(f"week {week.week}", attempt, ended + pause_after(attempt)))
        else:
            due.append((week, attempt + 1))
    return due, waiting
