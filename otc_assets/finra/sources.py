"""Opens the source of publications that the settings name.

The sources themselves are in ``query_api``, ``download_files`` and ``simulator``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import httpx

from otc_assets.domain.enums import SourceKind
from otc_assets.domain.weeks import NEW_YORK
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app
from otc_assets.finra.source import Source
from otc_assets.settings import Settings


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
    )


def _open_simulator(chosen: Settings) -> Source:
    simulator = Simulator(seed=chosen.simulator_seed, scale=chosen.simulator_scale)
    # The client of FINRA's API reads the simulator in this process, without a socket.
    app = make_app(simulator, clock=today_in_new_york)
    return QueryApi("http://simulator", transport=httpx.WSGITransport(app=app), requests_per_minute=60_000)


#: How the source of each kind is opened. A kind that is added to ``SourceKind`` gets an entry here.
SOURCES: dict[SourceKind, Callable[[Settings], Source]] = {
    SourceKind.SIMULATOR: _open_simulator,
    SourceKind.API: _open_api,
    SourceKind.FILES: _open_files,
}


def open_source(chosen: Settings) -> Source:
    """The source that ``OTC_SOURCE`` names. One per process, so that its request budget holds for the process."""
    return SOURCES[chosen.source](chosen)
