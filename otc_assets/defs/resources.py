"""What Dagster passes to assets, checks, schedules and sensors: database, archive, exports, source and settings.

They are plain objects, created once per code location; a function requests one with ``ResourceParam``. They have no
configuration of their own, so that a user of the UI can't point a run at another database or folder.
"""

from __future__ import annotations

from typing import Any

from otc_assets.archive.opening import open_archive
from otc_assets.finra.sources import open_source
from otc_assets.pipeline.export import Target
from otc_assets.pipeline.journaling import journaled_database
from otc_assets.settings import Settings


def make_resources(chosen: Settings) -> dict[str, Any]:
    """The resources that the settings describe, by name."""
    archive = open_archive(chosen.archive)
    return {
        "settings": chosen,
        "warehouse": journaled_database(chosen.database_url, archive),
        "archive": archive,
        "exports": Target(chosen.export),
        "source": open_source(chosen),
    }
