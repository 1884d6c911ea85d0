"""Dagster's own storage: in the platform's PostgreSQL, or in a passing folder for tools that only look.

Here: choosing the one that ``dagster.yaml`` names. Not here: storing anything. Tools such as ``dg check defs``
read ``dagster.yaml`` in the project's folder and need an instance, but nothing that is kept in one.
"""

import logging
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

#: Set by ``otc-assets`` for its processes, with the driver said: postgresql+psycopg2://...
VARIABLE = "OTC_DAGSTER_STORAGE_URL"

log = logging.getLogger(__name__)


class Storage(DagsterStorage, ConfigurableClass):
    """What ``storage: custom`` of ``dagster.yaml`` names; it stands for one of Dagster's own storages."""

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Never asked for: no object of this class is ever made."""
        return None

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """There is nothing to configure: the address comes from the environment, and stays out of files."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # it stands for another
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> DagsterStorage:
        """PostgreSQL where its address is set; otherwise a folder that goes when the machine cleans up."""
        del config_value
        if url := os.environ.get(VARIABLE):
            return DagsterPostgresStorage(url, inst_data=inst_data)
        log.warning("%s is not set: runs are kept in a passing folder. 'otc-assets up' sets it.", VARIABLE)
        base = tempfile.mkdtemp(prefix="otc-dagster-")
        return DagsterSqliteStorage.from_config_value(inst_data, {"base_dir": base})
