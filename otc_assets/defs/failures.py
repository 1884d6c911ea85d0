"""Explains why a run failed, by the message of its most informative error.

Alerts and commands show it.
"""

import re

from dagster import DagsterEventType, DagsterInstance

from otc_assets.defs.internals import JobFailureData, SerializableErrorInfo


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
            # Where no step failed, the error that stopped the run is there: "module.Class: message".
            text = error.message.strip() if error else event.message or ""
            run = (text.partition(": ")[2] or text) if error else text
            continue
        failure = event.step_failure_data
        said = failure.user_failure_data.description if failure.user_failure_data else None
        if said is None and failure.error is not None:
            said = what_went_wrong(failure.error)
        steps.append(f"{event.step_key}: {said}")
    return "; ".join(steps) or run or "the run did not succeed"
