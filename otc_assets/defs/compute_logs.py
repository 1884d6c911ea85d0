"""The output of steps (Dagster's compute logs): with the archive on S3, below its prefix; otherwise in ``OTC_HOME``.

Chooses what ``dagster.yaml`` names. With S3, the UI shows the output of a pod that no longer exists.
"""

from collections.abc import Mapping
from typing import Any

import click

from otc_assets.defs.internals import (
    ChosenBySettings,
    ComputeLogManager,
    ConfigurableClassData,
    LocalComputeLogManager,
    s3_compute_logs,
)
from otc_assets.errors import OtcError
from otc_assets.settings import settings

#: What the names of compute logs begin with, below the prefix of the archive.
PREFIX = "compute-logs"

#: The output of a step that runs is uploaded at this interval, so that it is there if the pod is killed.
_UPLOAD_SECONDS = 30


class ComputeLogs(ComputeLogManager[Any], ChosenBySettings):
    """The manager that ``compute_logs`` in ``dagster.yaml`` names; it creates one of Dagster's own managers."""

    @classmethod
    def from_config_value(  # type: ignore[override]  # it creates another class
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> ComputeLogManager[Any]:
        """The bucket of the archive, or the instance's folder ``storage``.

        Raises:
            ClickException: a setting is invalid. Dagster's commands show it in one line.
        """
        del config_value
        try:
            chosen = settings()
            folder = str(chosen.dagster_home / "storage")
            if chosen.archive.folder is not None:
                return LocalComputeLogManager(folder, inst_data=inst_data)
            from otc_assets.archive.s3 import s3_client  # boto3 takes a moment to import

            # Ticks of sensors have files too: those that logged nothing request nothing of S3.
            return s3_compute_logs(
                s3_client(),
                bucket=chosen.archive.bucket,
                prefix=chosen.archive.key(PREFIX),
                local_dir=folder,
                skip_empty_files=True,
                upload_interval=_UPLOAD_SECONDS,
                inst_data=inst_data,
            )
        except OtcError as error:
            raise click.ClickException(str(error)) from None
