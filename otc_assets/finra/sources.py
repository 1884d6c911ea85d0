"""Opens the source of publications that the settings name, and the simulator as of an earlier day.

The sources themselves are in ``query_api``, ``download_files`` and ``simulator``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import httpx

from otc_assets.domain.enums import SourceKind
from otc_assets.domain.weeks import NEW_YORK, TIERS, Tier
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.source import Source
from otc_assets.settings import Settings

if TYPE_CHECKING:
    from otc_assets.finra.simulator.generator import Simulator


def today_in_new_york() -> dt.date:
    """The date at FINRA."""
    return dt.datetime.now(NEW_YORK).date()


def _open_files(chosen: Settings) -> Source:
    return DownloadFiles(chosen.files_folder, clock=today_in_new_york)


def _open_api(chosen: Settings) -> Source:
    return QueryApi(
        chosen.finra_url,
        client_id=chosen.finra_client_id,
        client_secret=chosen.finra_client_secret,
        requests_per_minute=chosen.requests_per_minute,
        pages_in_flight=chosen.pages_in_flight,
    )


def _simulator(chosen: Settings) -> Simulator:
    # Here, because it loads NumPy, which processes that ask FINRA would hold, too: 11 MiB.
    from otc_assets.finra.simulator.generator import Simulator

    return Simulator(seed=chosen.simulator_seed, scale=chosen.simulator_scale)


def _open_simulator(chosen: Settings, clock: Callable[[], dt.date] = today_in_new_york) -> Source:
    from otc_assets.finra.simulator.server import make_app

    # The client of FINRA's API reads the simulator in this process, without a socket.
    app = make_app(_simulator(chosen), clock=clock)
    return QueryApi("http://simulator", transport=httpx.WSGITransport(app=app), requests_per_minute=60_000)


def before_revision(chosen: Settings, weeks: Iterable[dt.date]) -> tuple[Tier, dt.date, Source] | None:
    """The publication that the simulator revised last, and a source that offers it as it was on the day before.

    FINRA offers a revised publication in its newest state only, so other sources have nothing to show here.

    Args:
        chosen: the settings.
        weeks: the publication is of one of these weeks.

    Returns:
        The publication and the source; None if there is none, or the source is not the simulator.
    """
    if chosen.source != SourceKind.SIMULATOR:
        return None
    simulator, today = _simulator(chosen), today_in_new_york()
    revised = [
        (day, tier, week)
        for tier in TIERS
        for week in weeks
        if simulator.is_revised_soon(week, tier)
        for day in simulator.revisions(week, tier)
        if day <= today
    ]
    if not revised:
        return None
    day, tier, week = max(revised, key=lambda each: each[0])
    return tier, week, _open_simulator(chosen, lambda: day - dt.timedelta(days=1))


#: How the source of each kind is opened. A kind that is added to ``SourceKind`` gets an entry here.
SOURCES: dict[SourceKind, Callable[[Settings], Source]] = {
    SourceKind.SIMULATOR: _open_simulator,
    SourceKind.API: _open_api,
    SourceKind.FILES: _open_files,
}


def open_source(chosen: Settings) -> Source:
    """The source that ``OTC_SOURCE`` names. One per process, so that its request budget holds for the process."""
    return SOURCES[chosen.source](chosen)
