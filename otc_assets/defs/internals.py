"""Every name of Dagster that is used here and that Dagster does not publish, with what it is for.

Such names may change with any release: the versions are pinned, and each can go when the public name in its comment
exists. Other modules import them from here only.
"""

from functools import cache
from typing import Any

import sqlalchemy as sa
from dagster import AssetExecutionContext, DataVersion

# Storage classes and their configuration: ``storage: custom`` in dagster.yaml takes a class, and has no public base.
from dagster._config.config_schema import UserConfigSchema as UserConfigSchema

# The target of a check's evaluation. Waits for a public argument of ``AssetCheckEvaluation`` that takes the partition.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as AssetCheckEvaluationTargetMaterializationData,
)

# The configuration of the in-process executor, which ours extends. Waits for a public ``in_process_config``.
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG as IN_PROC_CONFIG

# A run in the process of a command: ``JobDefinition.execute_in_process`` keeps no remote origin, so that the UI could
# neither link such a run nor repeat it. Waits for a public way to execute a created run.
from dagster._core.definitions.job_base import InMemoryJob as InMemoryJob

# An output with this metadata adds no materialization: the weeks were reported one by one. Without it, Dagster reports
# all weeks of the run once more. Waits for an output of an asset without a materialization.
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

# What ``define_asset_job`` returns, for annotations. Waits for the public name.
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition as UnresolvedAssetJobDefinition,
)

# What Dagster raises where a blocking check has failed; its own message names no week.
from dagster._core.errors import DagsterAssetCheckFailedError as DagsterAssetCheckFailedError

# A backfill was stored under other settings. Waits for a public way to read which partitions a backfill has finished.
from dagster._core.errors import (
    DagsterDefinitionChangedDeserializationError as DagsterDefinitionChangedDeserializationError,
)

# Runs and their execution.
from dagster._core.events import JobFailureData as JobFailureData
from dagster._core.execution.api import ExecuteRunWithPlanIterable as ExecuteRunWithPlanIterable
from dagster._core.execution.api import execute_run as execute_run

# The states of a backfill and their filter: ``DagsterInstance.get_backfills`` is public, its arguments and results are
# not.
from dagster._core.execution.backfill import BulkActionsFilter as BulkActionsFilter
from dagster._core.execution.backfill import BulkActionStatus as BulkActionStatus
from dagster._core.execution.backfill import PartitionBackfill as PartitionBackfill

# Parts of the in-process executor, which has no hooks. Wait for an executor that can be subclassed.
from dagster._core.execution.context.system import PlanExecutionContext as PlanExecutionContext
from dagster._core.execution.context.system import PlanOrchestrationContext as PlanOrchestrationContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager as PlanExecutionContextManager
from dagster._core.execution.plan.active import ActiveExecution as ActiveExecution
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator as inner_plan_execution_iterator

# The tags with the versions of a materialization and of its inputs. Dagster adds them to a ``MaterializeResult`` only,
# which it reports once for all weeks of a run. Wait for a ``MaterializeResult`` with a partition.
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)
from dagster._core.execution.plan.instance_concurrency_context import (
    InstanceConcurrencyContext as InstanceConcurrencyContext,
)

# More parts of the in-process executor.
from dagster._core.execution.plan.plan import ExecutionPlan as ExecutionPlan
from dagster._core.execution.retries import RetryMode as RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig as StepDependencyConfig

# Opening an instance by its folder. Waits for a public ``DagsterInstance.from_dir``.
from dagster._core.instance.ref import InstanceRef as InstanceRef
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin as ManagedGrpcPythonEnvCodeLocationOrigin,
)
from dagster._core.remote_origin import RemoteJobOrigin as RemoteJobOrigin
from dagster._core.remote_origin import RemoteRepositoryOrigin as RemoteRepositoryOrigin
from dagster._core.storage.base_storage import DagsterStorage as DagsterStorage

# The output of steps: ``compute_logs`` in dagster.yaml takes a class, and has no public base; the manager of a folder
# has no public name.
from dagster._core.storage.compute_log_manager import ComputeLogManager as ComputeLogManager
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata as SqlEventLogStorageMetadata
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager as LocalComputeLogManager
from dagster._core.storage.runs.schema import RunStorageSqlMetadata as RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata as ScheduleStorageSqlMetadata
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage as DagsterSqliteStorage

# Names of run tags, which the documentation states as text.
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG as ASSET_PARTITION_RANGE_END_TAG
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG as ASSET_PARTITION_RANGE_START_TAG
from dagster._core.storage.tags import MAX_RETRIES_TAG as MAX_RETRIES_TAG
from dagster._core.storage.tags import PARTITION_NAME_TAG as PARTITION_NAME_TAG
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG as REPOSITORY_LABEL_TAG
from dagster._core.storage.tags import RESUME_RETRY_TAG as RESUME_RETRY_TAG
from dagster._core.storage.tags import RETRY_NUMBER_TAG as RETRY_NUMBER_TAG
from dagster._core.storage.tags import RUN_KEY_TAG as RUN_KEY_TAG
from dagster._core.storage.tags import WILL_RETRY_TAG as WILL_RETRY_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin as LoadableTargetOrigin
from dagster._core.utils import make_new_run_id as make_new_run_id
from dagster._serdes import ConfigurableClass as ConfigurableClass
from dagster._serdes import ConfigurableClassData as ConfigurableClassData

# The error of a step, as events have it. Waits for a public type.
from dagster._utils.error import SerializableErrorInfo as SerializableErrorInfo
from dagster._utils.interrupts import check_captured_interrupt as check_captured_interrupt
from dagster_postgres import DagsterPostgresStorage

NO_MATERIALIZATION = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}


def version_tags(context: AssetExecutionContext, version: str) -> dict[str, str]:
    """The tags of a materialization of ``version``: those that Dagster adds to a ``MaterializeResult``."""
    key, step = context.asset_key, context.op_execution_context.get_step_execution_context()
    inputs = _get_input_provenance_data(key, step)
    return _build_data_version_tags(DataVersion(version), _get_code_version(key, step), inputs, True)


class ChosenBySettings(ConfigurableClass):
    """A class that ``dagster.yaml`` names, and that creates one of Dagster's own as the settings say.

    Nothing can be configured, so that no file contains what the settings have. Waits for a public base.
    """

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Never read: no object of such a class is created."""
        return None

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """No configuration."""
        return {}


def s3_compute_logs(client: Any, **config: Any) -> ComputeLogManager[Any]:
    """Dagster's manager of compute logs on S3, with a client of ours.

    Its own has time-outs of a minute each, in which a page of the UI or the end of a step would wait. Waits for an
    argument for time-outs.
    """
    from dagster_aws.s3 import S3ComputeLogManager  # boto3 takes a moment to import

    manager = S3ComputeLogManager(**config)
    manager._s3_session = client
    return manager


def share_engine(storage: DagsterPostgresStorage, engine: sa.Engine) -> None:
    """Has the three parts of a storage use ``engine``. Waits for a setting of the pool of connections.

    The public ``optimize_for_webserver`` makes a pool for each part of each instance, and does not test connections.
    Which tables and columns there are is asked once per storage, and not with every look at an asset.
    """
    events: Any = storage.event_log_storage
    events.has_table = cache(events.has_table)
    ask, known = events._has_asset_key_col_on_connection, dict[str, bool]()

    def has_column(connection: sa.Connection, name: str) -> bool:
        if name not in known:
            known[name] = ask(connection, name)
        return known[name]

    events._has_asset_key_col_on_connection = has_column
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        part._engine = engine  # type: ignore[union-attr]


def dagster_dev_command() -> Any:
    """The module of ``dagster dev``, which is imported only where it is run. Waits for a setting of the web server."""
    from dagster._cli import dev

    return dev
