"""Sensors of alerts: record failed checks and failed runs in the outbox, and deliver it.

Which failed checks become alerts is in ``alerting.checks``; sending is in ``alerting.delivery``.

Failed runs are read from Dagster's events in the order of their ids. An id is assigned before its event is visible, so
an event can appear behind one with a higher id. The cursor therefore stays behind the newest events. These are read
again, and the outbox recognizes them by their ids. Dagster's own run-failure sensor is not used, because its cursor
passes a failure that it could not handle: an alert would be lost whenever the database did not answer.
"""

import datetime as dt
from collections.abc import Callable, Sequence

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    EventLogRecord,
    ResourceParam,
    RunsFilter,
    RunStatusChangeRecordsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from otc_assets.alerting.checks import record_check_alerts
from otc_assets.alerting.delivery import QUIET, deliver
from otc_assets.defs.failures import blocking_checks, why_it_failed
from otc_assets.defs.internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)
from otc_assets.defs.partitions import week_if_any
from otc_assets.domain.enums import AlertKind, Severity
from otc_assets.settings import Settings
from otc_assets.text import shortened
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse.alerts import NewAlert
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.events import last_types

#: By then an event that has a lower id than one that was read is there, and a failed run says if it is retried.
_SETTLED_SECONDS = 120

#: So much of the past a sensor looks at when it begins: what failed while it was being started, not years.
_BEGIN_SECONDS = 86_400

_PAGE, _PAGES = 1000, 10

#: The longest text that an alert keeps of a failed step.
_LONGEST = 1200

#: (after this id, after this timestamp or None, at most so many): events, by ascending id.
Fetch = Callable[[int, float | None, int], Sequence[EventLogRecord]]


def events_since(fetch: Fetch, cursor: str | None, now: float) -> tuple[list[EventLogRecord], str | None]:
    """The events behind ``cursor``, and how far the cursor may move: not past what may still be overtaken.

    Args:
        fetch: reads a page.
        cursor: an event's id; None at the very beginning.
        now: seconds since 1970.

    Returns:
        The events, by ascending id, among them some that were read before; and the new cursor.
    """
    records: list[EventLogRecord] = []
    after, since = (int(cursor), None) if cursor else (0, now - _BEGIN_SECONDS)
    for _ in range(_PAGES):
        page = fetch(records[-1].storage_id if records else after, since, _PAGE)
        records += page
        if len(page) < _PAGE:
            break
    for record in records:
        if record.timestamp > now - _SETTLED_SECONDS:
            break
        cursor = str(record.storage_id)
    return records, cursor


# --- checks --------------------------------------------------------------------------------------------


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Records an alert when a check starts to fail for a week (OTC_ALERT_SEVERITY: errors only, or warnings too). "
        "While it keeps failing, no further alert is recorded; after it has passed, its next failure is a new alert."
    ),
)
def failed_checks(
    context: SensorEvaluationContext, warehouse: ResourceParam[Database], settings: ResourceParam[Settings]
) -> SensorResult:
    """Records alerts of new events of checks."""
    now = dt.datetime.now(dt.UTC)
    recorded, cursor = record_check_alerts(warehouse, context.cursor, Severity(settings.alert_severity), now)
    return SensorResult(skip_reason=SkipReason(f"checks that began to fail: {recorded}"), cursor=cursor)


# --- runs ----------------------------------------------------------------------------------------------


def alert_of_run(instance: DagsterInstance, record: EventLogRecord, run: DagsterRun) -> NewAlert:
    """The alert that a failed run is worth."""
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    checked = sorted({check.asset_key.to_user_string() for check in run.asset_check_selection or ()})
    what = run.job_name
    if what.startswith("__ASSET_JOB") and (names := assets or checked):
        what = ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} other assets"
        what = what if assets else f"the checks of {what}"
    key = run.tags.get(PARTITION_NAME_TAG, "")
    week = week_if_any(key)
    first, last = run.tags.get(ASSET_PARTITION_RANGE_START_TAG), run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    whose = f" for weeks {first} to {last}" if first and last else ""
    if key:
        whose = f" for {'week' if week else 'partition'} {key}"
    if file := run.tags.get("otc/file"):
        whose = f" for {file}"
    words = why_it_failed(instance, run.run_id)
    return NewAlert(
        kind=AlertKind.RUN,
        subject=f"run {run.run_id}",
        severity=Severity.ERROR,
        week_ending=week,
        title=f"the run of {what} failed{whose}",
        body="\n".join(["ERROR", shortened(words, _LONGEST)]),
        run_id=run.run_id,
        event_id=record.storage_id,
        happened_at=dt.datetime.fromtimestamp(record.timestamp, dt.UTC),
    )


def is_final(instance: DagsterInstance, run: DagsterRun, age: float) -> bool:
    """Whether nothing follows on a failed run: Dagster tries crashed ones again, and says so on the run.

    Args:
        instance: Dagster's.
        run: a failed run.
        age: seconds since it failed; it says so shortly after.
    """
    if not instance.run_retries_enabled:
        return True
    stated = run.tags.get(WILL_RETRY_TAG)
    return age > _SETTLED_SECONDS if stated is None else stated != "true"


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Records an alert for every run that has failed and that Dagster will not retry, unless it failed only because "
        "blocking checks failed: these have alerts of their own."
    ),
)
def failed_runs(context: SensorEvaluationContext, warehouse: ResourceParam[Database]) -> SensorResult:
    """Reads failures of runs, in the order of their ids, into the outbox."""
    now = dt.datetime.now(dt.UTC)
    instance = context.instance

    def fetch(after: int, since: float | None, limit: int) -> Sequence[EventLogRecord]:
        wanted = RunStatusChangeRecordsFilter(
            DagsterEventType.RUN_FAILURE, after_storage_id=after, after_timestamp=since
        )
        return instance.fetch_run_status_changes(wanted, limit, ascending=True).records

    records, cursor = events_since(fetch, context.cursor, now.timestamp())
    run_ids = list({record.event_log_entry.run_id for record in records})
    runs = {run.run_id: run for run in instance.get_runs(RunsFilter(run_ids=run_ids))} if run_ids else {}
    failed = [
        (record, run)
        for record in records
        if (run := runs.get(record.event_log_entry.run_id)) is not None
        and is_final(instance, run, now.timestamp() - record.timestamp)
    ]
    explained = {run.run_id for _, run in failed if has_check_alerts(instance, run, warehouse)}
    alerts = [alert_of_run(instance, record, run) for record, run in failed if run.run_id not in explained]
    recorded = 0
    if alerts:
        with warehouse.transaction() as connection:
            outbox.lock_outbox(connection)
            recorded = sum(outbox.record(connection, alert, now=now, quiet=QUIET) for alert in alerts)
    said = f"runs that failed: {recorded}" + (f"; because of checks alone: {len(explained)}" if explained else "")
    return SensorResult(skip_reason=SkipReason(said), cursor=cursor)


def has_check_alerts(instance: DagsterInstance, run: DagsterRun, database: Database) -> bool:
    """Whether a run failed only because of blocking checks whose failures are events, which become alerts."""
    checks = blocking_checks(instance, run)
    if not checks:
        return False
    with database.transaction() as connection:
        return set(checks) <= set(last_types(connection, "check", list(checks)))


# --- delivery ------------------------------------------------------------------------------------------


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Sends the pending alerts in otc.alert to OTC_ALERT_URL: the first at once, and those of the next five minutes "
        "in one message. Retries alerts that were not delivered, and fails if an alert has been undelivered for an "
        "hour."
    ),
)
def deliver_alerts(warehouse: ResourceParam[Database], settings: ResourceParam[Settings]) -> SkipReason:
    """One attempt to deliver."""
    return SkipReason(deliver(warehouse, settings, dt.datetime.now(dt.UTC)))


ALERT_SENSORS = [failed_checks, failed_runs, deliver_alerts]
