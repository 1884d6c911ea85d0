"""What the processes of ``forks`` do: operations of an installation, as its commands do them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from faults.points import Points

from otc_assets.archive.opening import open_archive
from otc_assets.cli.installation import launcher
from otc_assets.defs.datasets import ASSETS as DATASET_ASSETS
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.defs.launch import Launcher
from otc_assets.domain.checks import EXPORT
from otc_assets.domain.weeks import TIERS
from otc_assets.local.setup import migrate_schema
from otc_assets.pipeline.journaling import verify, write_missing
from otc_assets.settings import Settings
from otc_assets.warehouse.events import replay
from otc_assets.warehouse.retention import apply_retention

#: All assets, in the order in which data flows.
ASSETS = (
    "week_calendar",
    *(f"publication_{tier.slug}" for tier in TIERS),
    *DOWNSTREAM,
    *DATASET_ASSETS,
    EXPORT,
)

#: What processes compute at the same time: a table from captures, one from it, and one over six weeks.
COMPUTED = ("venue_volume", "symbol_summary", "symbol_rolling")


def perform(operation: tuple[str, ...], chosen: Settings, points: Points) -> None:
    """Performs an operation; points count from the beginning of its work.

    Raises:
        Exception: as the command would show it.
    """
    with launcher(chosen) as opened, points.watched():
        _perform(opened, *operation)


def perform_again(operation: tuple[str, ...], chosen: Settings) -> None:
    """Performs an operation as the next command does after a fault: undisturbed, in an installation that is completed.

    'migrate' and 'up' copy the events that the journal lacks, at their beginning. That it is complete then is checked.
    """
    with launcher(chosen) as opened:
        _perform(opened, *operation)
        archive = open_archive(chosen.archive)
        write_missing(opened.database, archive)
        found = verify(opened.database, archive)
        assert (found.written, found.problems) == (0, [])


def _perform(opened: Launcher, name: str, *arguments: str) -> None:
    _BY_NAME[name](opened, *arguments)


def _materialize(opened: Launcher, asset: str, week: str) -> None:
    """Materializes a week of an asset, without trying again after an error."""
    day = dt.date.fromisoformat(week)
    opened.run_assets([asset], day, day, retries=False)


def _capture_and_compute(opened: Launcher, week: str) -> None:
    """Captures a week and computes some of its figures, as 'materialize' does with all of them."""
    day = dt.date.fromisoformat(week)
    for assets in (["publication_t1"], ["publication_t2", "publication_otce"], list(COMPUTED)):
        opened.run_assets(assets, day, day)


def _compute_stale(opened: Launcher, *weeks: str) -> None:
    """Computes those figures of weeks until none is of other inputs than there are."""
    days = [dt.date.fromisoformat(week) for week in weeks]
    opened.run_assets(list(COMPUTED), days[0], days[-1])


def _retention(opened: Launcher) -> None:
    with opened.database.transaction() as connection:
        apply_retention(connection)


def _migrate(opened: Launcher) -> None:
    assert opened.settings.database_url is not None
    migrate_schema(opened.settings, opened.settings.database_url.get_secret_value())


def _replay(opened: Launcher) -> None:
    with opened.database.transaction() as connection:
        replay(connection)


_BY_NAME: dict[str, Callable[..., None]] = {
    "materialize": _materialize,
    "capture and compute": _capture_and_compute,
    "compute stale": _compute_stale,
    "retention": _retention,
    "migrate": _migrate,
    "replay": _replay,
}
