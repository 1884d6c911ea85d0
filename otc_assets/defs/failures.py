"""Explains why a run failed: by the message of its most informative error, or by the blocking checks that failed.

Alerts and commands show it.
"""

import re

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun

from otc_assets.defs.internals import (
    PARTITION_NAME_TAG,
    DagsterAssetCheckFailedError,
    JobFailureData,
    SerializableErrorInfo,
)
from otc_assets.pipeline.figures import BLOCKED

#: The class of an error, before its message.
_CLASS = re.compile(r"\A\w+(\.\w+)+: ")

#: Before the reason why a week was refused, in the description of a failed step.
_WEEK = re.compile(r"\b(\d{4}-\d{2}-\d{2}): ")


def _names_of_our_errors() -> set[str]:
    """The names of every exception class that this package has defined so far."""
    names, classes = set(), [Exception]
    while classes:
        for kind in classes.pop().__subclasses__():
            classes.append(kind)
            if kind.__module__.startswith("otc_assets."):
                names.add(kind.__name__)
    return names


def what_went_wrong(error: SerializableErrorInfo) -> str:
    """The message of the first error in a chain of causes that is this package's own, else of the deepest.

    Ours say what to do; what a library raised below them (``ConnectError``) says less. Dagster's errors around them
    only name the step.
    """
    chain = [error]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    ours = _names_of_our_errors()
    chosen = next((e for e in chain if e.cls_name in ours), chain[-1])
    return re.sub(r"\Aotc_assets\.[\w.]+: ", "", chosen.message.strip())


def why_it_failed(instance: DagsterInstance, run_id: str) -> str:
    """The errors of the steps that failed; that of the run, where no step failed."""
    failures = {DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
    steps, run = [], ""
    for record in instance.get_records_for_run(run_id, of_type=failures).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type == DagsterEventType.RUN_FAILURE:
            data = event.event_specific_data
            error = data.error if isinstance(data, JobFailureData) else None
            # Where no step failed, the error that stopped the run is there.
            run = _CLASS.sub("", what_went_wrong(error)) if error else event.message or ""
            continue
        failure = event.step_failure_data
        said = failure.user_failure_data.description if failure.user_failure_data else None
        if said is None and failure.error is not None:
            if failure.error.cls_name == GeneratorExit.__name__:
                continue  # Dagster gave up the step because of an error of its own, which is the run's
            said = what_went_wrong(failure.error)
        steps.append(f"{event.step_key}: {said}")
    return "; ".join(steps) or run or "the run did not succeed"


def blocking_checks(instance: DagsterInstance, run: DagsterRun) -> dict[str, str]:
    """The blocking checks that are the only reason why a run failed.

    That of a step is that checks failed, or that their weeks are blocked for the assets downstream.

    Args:
        instance: Dagster's.
        run: a failed run.

    Returns:
        By asset and check, as in 'venue_volume.grade', and week: the week. Empty if anything else failed.
    """
    kinds = {DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_CHECK_EVALUATION}
    records = instance.get_records_for_run(run.run_id, of_type=kinds).records
    events = [record.event_log_entry.dagster_event for record in records]
    checks: dict[str, str] = {}
    for event in events:
        if event is not None and event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            week = found.partition or run.tags.get(PARTITION_NAME_TAG)
            if found.blocking and not found.passed and week:
                checks[f"{found.asset_key.to_user_string()}.{found.check_name} {week}"] = week
    failed = [e for e in events if e is not None and e.event_type == DagsterEventType.STEP_FAILURE]
    explained = failed and all(_is_of_checks(event, set(checks.values())) for event in failed)
    return checks if explained else {}


def _is_of_checks(event: DagsterEvent, weeks: set[str]) -> bool:
    """Whether a step failed only because checks failed, or because ``weeks`` are blocked."""
    failure = event.step_failure_data
    if failure.error is not None and failure.error.cls_name == DagsterAssetCheckFailedError.__name__:
        return True
    said = failure.user_failure_data.description if failure.user_failure_data else None
    _, *reasons = _WEEK.split(said or "")
    # The text between the weeks: week, reason, week, reason, ...
    return bool(reasons) and all(
        week in weeks and reason.startswith(BLOCKED) for week, reason in zip(reasons[::2], reasons[1::2], strict=True)
    )
