"""The executor of most runs: all steps in one process, which can be found, interrupted and waited for.

Dagster's in-process executor with five things added: the run carries the identity of its process; signals that
arrive between steps are honoured; waiting for a slot of a pool is announced, bounded and does not use up a
processor; a week that fails does not stop the others downstream; and a week that one step has read is kept for the
others. Spans are in ``spans``, steps in pods of their own in ``step_pods``.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

from dagster import DagsterEvent, DagsterExecutionInterruptedError, Executor

from otc_assets import interruption
from otc_assets.defs.internals import (
    ActiveExecution,
    ExecuteRunWithPlanIterable,
    ExecutionPlan,
    InstanceConcurrencyContext,
    PlanExecutionContext,
    PlanExecutionContextManager,
    PlanOrchestrationContext,
    RetryMode,
    SerializableErrorInfo,
    StepDependencyConfig,
    check_captured_interrupt,
    inner_plan_execution_iterator,
)
from otc_assets.defs.liveness import process_tag
from otc_assets.errors import OtcError
from otc_assets.settings import settings
from otc_assets.warehouse.kept_weeks import weeks_kept

#: How often a step that waits for a slot looks whether it may go on.
_LOOK_SECONDS = 0.25
#: How often it says for what it waits.
_SAY_SECONDS = 5


class SlotTimeout(OtcError):
    """No slot of a pool became free in time. The message says who holds them and what to do."""


@dataclass(frozen=True)
class SlotWait:
    """How a run waits for slots of pools.

    Attributes:
        seconds: how long at most, for one step.
        waiting: called again and again while a step waits, with a line for people.
    """

    seconds: float
    waiting: Callable[[str], None]


#: Set by commands around a run of theirs; without it, as in runs of the daemon, a run waits as long as it may run.
slot_wait: ContextVar[SlotWait | None] = ContextVar("slot_wait", default=None)


def _stop_if_asked() -> None:
    interruption.check()
    if check_captured_interrupt():
        raise DagsterExecutionInterruptedError


class _Slots(InstanceConcurrencyContext):
    """The slots of a run, whose waiting is announced, bounded, and can be interrupted."""

    def __init__(self, context: PlanExecutionContext) -> None:
        super().__init__(context.instance, context.dagster_run)
        self._storage = context.instance.event_log_storage
        #: Dagster takes an interruption of a step that may be tried again for an error of the step.
        self.interrupted = False
        self._since: dict[str, float] = {}
        self._said = float("-inf")

    def pending_claim_steps(self) -> list[str]:
        # Asked for before every step: no step is under way here, so this is where a run can stop cleanly.
        _stop_if_asked()
        if self.interrupted:
            raise DagsterExecutionInterruptedError
        return super().pending_claim_steps()

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        _stop_if_asked()
        if super().claim(concurrency_key, step_key, step_priority):
            self._since.pop(step_key, None)
            return True
        now = time.monotonic()
        waited = now - self._since.setdefault(step_key, now)
        if wait := slot_wait.get():
            if now - self._said >= _SAY_SECONDS:
                self._said = now
                wait.waiting(f"{step_key} waits for a slot of pool '{concurrency_key}', {self._held(concurrency_key)}")
            if waited > wait.seconds:
                raise SlotTimeout(
                    f"no slot of pool '{concurrency_key}' became free for {step_key} within {wait.seconds:g} s: "
                    f"the pool is {self._held(concurrency_key)}",
                    remedy="Wait until those runs have ended, or end them in the UI, and run the command again; "
                    "OTC_SLOT_WAIT_SECONDS sets how long a command waits.",
                )
        time.sleep(_LOOK_SECONDS)
        return False

    def _held(self, pool: str) -> str:
        runs = sorted(self._storage.get_concurrency_info(pool).active_run_ids)
        return f"held by run{'s' if len(runs) != 1 else ''} {', '.join(run[:8] for run in runs)}" if runs else "full"


def _steps(execution_plan: ExecutionPlan, job_context: PlanExecutionContext) -> Iterator[DagsterEvent]:
    with _Slots(job_context) as slots:
        for event in inner_plan_execution_iterator(job_context, execution_plan, slots):
            if event.is_step_up_for_retry:
                slots.interrupted = slots.interrupted or _is_interruption(event.step_retry_data.error)
            yield event


def _is_interruption(error: SerializableErrorInfo | None) -> bool:
    while error is not None:
        if error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt", "Interrupted"):
            return True
        error = error.cause
    return False


@contextmanager
def _interruptible_pauses() -> Iterator[None]:
    """Has a signal end the pause before a step is retried: Dagster only notes it, and sleeps on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pause = ActiveExecution.sleep_til_ready.__code__
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code is pause:
            raise DagsterExecutionInterruptedError
        if callable(before[number]):
            before[number](number, frame)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class InProcess(Executor):
    """Executes the steps of a run one after another in this process."""

    def __init__(self, retries: RetryMode) -> None:
        self._retries = retries

    @property
    def retries(self) -> RetryMode:
        """How Dagster retries steps."""
        return self._retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """Steps run once the outputs that they need are there.

        A step over several weeks yields its output and then fails, if some weeks failed and others did not: the
        downstream assets go on with the others.
        """
        return StepDependencyConfig(require_upstream_step_success=False)

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Executes the plan, and records this process on the run while it does."""
        del execution_plan  # the context has it too, as Dagster's own executor takes it
        instance, run = plan_context.instance, plan_context.dagster_run
        instance.add_run_tags(run.run_id, process_tag(run.run_id))
        try:
            with _interruptible_pauses(), weeks_kept(settings().home):
                yield from ExecuteRunWithPlanIterable(
                    execution_plan=plan_context.execution_plan,
                    iterator=_steps,
                    execution_context_manager=PlanExecutionContextManager(
                        job=plan_context.job,
                        retry_mode=plan_context.retry_mode,
                        execution_plan=plan_context.execution_plan,
                        run_config=plan_context.run_config,
                        dagster_run=plan_context.dagster_run,
                        instance=plan_context.instance,
                        raise_on_error=plan_context.raise_on_error,
                        output_capture=plan_context.output_capture,
                        step_dependency_config=self.step_dependency_config,
                    ),
                )
        except BaseException as error:
            # A person ended the command: the run is canceled. Without the mark, Dagster calls it a failure, and
            # the daemon starts it again, which is right for a process that was stopped with its code server.
            if isinstance(error, KeyboardInterrupt | DagsterExecutionInterruptedError) and interruption.received():
                instance.report_run_canceling(run, "The command was interrupted.")
            raise
