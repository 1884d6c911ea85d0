"""Opens the Dagster instance of an installation in the process of a command.

Dagster's own processes open it by ``DAGSTER_HOME`` and ``dagster.yaml``; its storage is in ``storage``.
"""

from dagster import DagsterInstance

from otc_assets.defs.internals import InstanceRef
from otc_assets.settings import Settings


def open_instance(chosen: Settings) -> DagsterInstance:
    """The instance with the configuration in the installation's ``dagster.yaml``.

    ``DagsterInstance.get()`` takes folder and storage from environment variables, which a command would have to set.

    Args:
        chosen: settings in which the URL of Dagster's storage is set.
    """
    assert chosen.dagster_storage_url is not None
    storage = {"postgres": {"postgres_url": chosen.dagster_storage_url.get_secret_value()}}
    ref = InstanceRef.from_dir(str(chosen.dagster_home), overrides={"storage": storage})
    return DagsterInstance.from_ref(ref)
