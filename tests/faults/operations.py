"""What the processes of ``forks`` do: operations of an installation, as its commands do them."""

from __future__ import annotations

import datetime as dt

from faults.points import Points

from otc_assets.archive.opening import open_archive
from otc_assets.cli.installation import launcher
from otc_assets.defs.datasets import ASSETS as DATASET_ASSETS
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.defs.launch import Launcher
from otc_assets.domain.checks import EXPORT
from otc_assets.domain.weeks import TIERS
from otc_assets.pipeline.journaling import verify, write_missing
from otc_assets.settings import Settings

#: All assets, in the order in which data flows.
ASSETS = (
    "week_calendar",
    *(f"publication_{tier.slug}" for tier in TIERS),
    *DOWNSTREAM,
    *DATASET_ASSETS,
    EXPORT,
)


def perform(operation: tuple[str, ...], chosen: Settings, points: Points) -> None:
    """Performs an operation; points count from the beginning of its work.

    Raises:
        Exception: as the command would show it.
    """
    name, *arguments = operation
    with launcher(chosen) as opened, points.watched():
        {"materialize": _materialize}[name](opened, *arguments)


def perform_again(operation: tuple[str, ...], chosen: Settings) -> None:
    """Performs an operation as the next command does after a fault: undisturbed, in an installation that is completed.

    'migrate' and 'up' copy the events that the journal lacks, at their beginning. That it is complete then is checked.
    """
    perform(operation, chosen, Points(chosen.home))
    with launcher(chosen) as opened:
        archive = open_archive(chosen.archive)
        write_missing(opened.database, archive)
        found = verify(opened.database, archive)
        assert (found.written, found.problems) == (0, [])


def _materialize(opened: Launcher, asset: str, week: str) -> None:
    """Materializes a week of an asset, without trying again after an error."""
    day = dt.date.fromisoformat(week)
    opened.run_assets([asset], day, day, retries=False)
