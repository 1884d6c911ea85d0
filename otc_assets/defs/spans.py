"""Spans of Dagster's runs and steps: one trace per run, and below it the steps, whichever process runs them.

This turns Dagster's contexts into spans. Opening spans is in ``tracing``; the code that a step runs opens the spans
inside it.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any, TypeVar, cast

from dagster import (
    AssetCheckExecutionContext,
    AssetExecutionContext,
    DagsterEvent,
    DagsterRun,
    Executor,
    ExecutorDefinition,
    Failure,
    InitExecutorContext,
    OpExecutionContext,
)

from otc_assets import tracing
from otc_assets.defs.internals import ExecutionPlan, PlanOrchestrationContext, RetryMode, StepDependencyConfig
from otc_assets.warehouse.database import NOT_PREPARED

Body = TypeVar("Body", bound=Callable[..., Any])
Context = AssetExecutionContext | AssetCheckExecutionContext | OpExecutionContext

#: Tags of a run that say which weeks it is of and where it came from, and the attributes they become.
_TAGS = {
    "dagster/partition": "dagster.partition.key",
    "dagster/asset_partition_range_start": "dagster.partition.range.start",
    "dagster/asset_partition_range_end": "dagster.partition.range.end",
    "dagster/backfill": "dagster.backfill.id",
    "dagster/schedule_name": "dagster.schedule.name",
    "dagster/sensor_name": "dagster.sensor.name",
    "dagster/parent_run_id": "dagster.run.parent_id",
}


def _of_run(run: DagsterRun) -> dict[str, str]:
    tags = {attribute: run.tags[tag] for tag, attribute in _TAGS.items() if tag in run.tags}
    return {"dagster.run.id": run.run_id, "dagster.job.name": run.job_name, **tags}


def _step(context: Context) -> AbstractContextManager[None]:
    op = context.op_execution_context
    step_key = op.get_step_execution_context().step.key
    attributes: dict[str, str | int] = {
        **_of_run(op.run),
        "dagster.step.key": step_key,
        "dagster.step.attempt": op.retry_number + 1,
    }
    if op.has_assets_def:
        keys = op.selected_asset_keys | {check.asset_key for check in op.selected_asset_check_keys}
        attributes["dagster.asset.key"] = ", ".join(sorted(key.to_user_string() for key in keys))
    return tracing.step_span(op.run_id, f"step {step_key}", attributes)


@contextmanager
def _attempt(context: Context) -> Iterator[None]:
    try:
        with _step(context) if tracing.is_on() else nullcontext():
            yield
    except NOT_PREPARED as error:
        raise Failure(str(error), allow_retries=False) from None


def traced_step(body: Body) -> Body:
    """Makes an asset, check or op record a span, one per attempt. Write it below Dagster's decorator.

    A step that has no database, or one with another schema, fails without retries.

    Args:
        body: the function, whose first parameter is Dagster's context.
    """
    if inspect.isgeneratorfunction(body):

        @wraps(body)
        def generate(context: Context, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with _attempt(context):
                yield from body(context, *args, **kwargs)

        return cast(Body, generate)

    @wraps(body)
    def call(context: Context, *args: Any, **kwargs: Any) -> Any:
        with _attempt(context):
            return body(context, *args, **kwargs)

    return cast(Body, call)


class _TracedExecutor(Executor):
    """An executor that records the root span of its run.

    Every run has exactly one executor, wherever it was launched (UI, schedule, sensor, backfill, terminal) and
    wherever its steps run. A sensor on the end of runs would miss those of a terminal without a daemon, and would
    record others twice. A run whose process is killed has no root span: the spans that were sent before stay in the
    trace.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> RetryMode:
        return self._executor.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._executor.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        run = plan_context.dagster_run
        failed: list[str] = []
        with tracing.run_span(run.run_id, f"run {run.job_name}", _of_run(run)) as mark_failed:
            for event in self._executor.execute(plan_context, execution_plan):
                if event.is_step_failure:
                    failed.append(str(event.step_key))
                    mark_failed(f"steps failed: {', '.join(failed)}")
                yield event


def traced_executor(definition: ExecutorDefinition) -> ExecutorDefinition:
    """The executor of ``definition``, which records the root span of each run that it executes."""

    def create(context: InitExecutorContext) -> Executor:
        assert definition.executor_creation_fn is not None
        executor = definition.executor_creation_fn(context)
        return _TracedExecutor(executor) if tracing.is_on() else executor

    return ExecutorDefinition(
        name=definition.name,
        config_schema=definition.config_schema,  # type: ignore[arg-type]  # it is one already
        requirements=definition.get_requirements,
        executor_creation_fn=create,
        description=definition.description,
    )
