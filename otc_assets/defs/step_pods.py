"""Chooses the executor of a run by its tag: one process, or on Kubernetes Dagster's executor of a pod for each step.

The former is in ``executor``. The Helm chart configures the pods, and gives runs the right to create them. No slot of a
pool is kept when execution ends early.
"""

from collections.abc import Iterator

from dagster import DagsterEvent, DagsterRun, Executor, InitExecutorContext, executor

from otc_assets.defs.executor import InProcess
from otc_assets.defs.internals import (
    IN_PROC_CONFIG,
    ExecutionPlan,
    PlanOrchestrationContext,
    RetryMode,
    StepDependencyConfig,
)
from otc_assets.errors import OtcError

#: The run tag that chooses the executor, and its values.
EXECUTOR_TAG, IN_PROCESS, K8S_JOB = "otc/executor", "in_process", "k8s_job"


class NoStepPods(OtcError):
    """The run's tag asks for an executor that it can't have."""


class _ByTag(Executor):
    """Executes a run in this process, or each of its steps in a pod of its own, as the run's tag says.

    The tag can be set wherever a run or a backfill is launched. Configuration of the executor can't: a backfill of
    assets has none. It would also let anyone who can open the UI choose images and service accounts of pods.
    """

    def __init__(self, context: InitExecutorContext) -> None:
        self._context = context
        self._in_process = InProcess(RetryMode.from_config(context.executor_config["retries"]))  # type: ignore[arg-type]

    @property
    def retries(self) -> RetryMode:
        return self._in_process.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._in_process.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        run, storage = plan_context.dagster_run, plan_context.instance.event_log_storage
        chosen = run.tags.get(EXECUTOR_TAG, IN_PROCESS)
        if chosen not in (IN_PROCESS, K8S_JOB):
            raise NoStepPods(
                f"the run's tag {EXECUTOR_TAG} is {chosen!r}", remedy=f"Use {IN_PROCESS} or {K8S_JOB}, or omit the tag."
            )
        executing = self._in_process if chosen == IN_PROCESS else self._in_pods(run)
        try:
            yield from executing.execute(plan_context, execution_plan)
        except BaseException:
            # Dagster keeps the slots of steps that were interrupted, until run monitoring frees them minutes later.
            if storage.supports_global_concurrency_limits:
                storage.free_concurrency_slots_for_run(run.run_id)
            raise

    def _in_pods(self, run: DagsterRun) -> Executor:
        from dagster_k8s import K8sRunLauncher, k8s_job_executor  # half a second of imports, for few runs
        from kubernetes.config import ConfigException  # type: ignore[import-untyped]

        launcher = self._context.instance.run_launcher
        if not isinstance(launcher, K8sRunLauncher):
            raise NoStepPods(
                f"the run's tag {EXECUTOR_TAG} is {K8S_JOB}, and the run was not launched on Kubernetes",
                remedy="Launch it without the tag.",
            )
        # The launcher has checked the resources that the run's tag dagster-k8s/config asks for; steps get the same.
        asked = launcher.get_container_context_for_run(run).run_k8s_config.container_config
        config = {
            "retries": self._context.executor_config["retries"],
            "step_dependency_config": {
                "require_upstream_step_success": self.step_dependency_config.require_upstream_step_success
            },
            # Kubernetes deletes the Jobs of steps with the run's pod.
            "enable_owner_references": True,
            "step_k8s_config": {
                "container_config": {"resources": asked["resources"]} if "resources" in asked else {},
                # Only the run creates pods.
                "pod_spec_config": {"automountServiceAccountToken": False},
            },
        }
        assert k8s_job_executor.executor_creation_fn is not None
        try:
            return k8s_job_executor.executor_creation_fn(self._context._replace(executor_config=config))
        except ConfigException as error:
            raise NoStepPods(
                f"the run's pod has no access to Kubernetes: {error}",
                remedy="Set runs.stepPods.enabled=true in the values of the Helm chart, or launch the run without the "
                f"tag {EXECUTOR_TAG}.",
            ) from error


@executor(name="in_process", config_schema=IN_PROC_CONFIG)
def by_tag(context: InitExecutorContext) -> Executor:
    """All steps in one process: a process a step costs twice the time and memory. A tag chooses pods instead."""
    return _ByTag(context)
