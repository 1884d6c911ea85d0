"""What Dagster hands to assets, checks, schedules and sensors: the warehouse, the archive, the source.

Here: making them from the settings, once a process. Not here: what they do.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import sqlalchemy as sa
from dagster import ConfigurableResource

from otc_assets.archive.store import Archive, LocalArchive
from otc_assets.domain.weeks import NEW_YORK
from otc_assets.errors import OtcError
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app
from otc_assets.finra.source import Source
from otc_assets.settings import settings
from otc_assets.warehouse.server import DatabaseUnreachable, connect, transaction
from otc_assets.warehouse.timescale import capabilities
from otc_assets.warehouse.timescale.aggregates import refresh_after_load


def today_in_new_york() -> dt.date:
    """The date at FINRA."""
    return dt.datetime.now(NEW_YORK).date()


@cache
def _engine(url: str) -> sa.Engine:
    # One pool a process and URL: runs of the in-process executor come and go, connections stay.
    return connect(url)


class Warehouse(ConfigurableResource):
    """The database. ``url`` overrides ``OTC_DATABASE_URL``."""

    url: str | None = None

    def _url(self) -> str:
        if self.url:
            return self.url
        if (stated := settings().database_url) is not None:
            return stated.get_secret_value()
        raise DatabaseUnreachable(
            "no database: OTC_DATABASE_URL is unset and no embedded server was started for this process",
            remedy="Start through 'otc-assets up' (or another otc-assets command), or set OTC_DATABASE_URL to "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
        )

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction on the database."""
        with transaction(_engine(self._url())) as connection:
            yield connection

    def refresh_after_load(self, week_ending: dt.date, *tables: str) -> None:
        """Refreshes aggregates and compression after the transaction that wrote the week of ``tables``."""
        refresh_after_load(_engine(self._url()), week_ending, tables)

    def has_retention_job(self) -> bool:
        """Whether the server's own jobs apply retention."""
        return capabilities.of(_engine(self._url())).community


class RawArchive(ConfigurableResource):
    """The raw bytes of every publication, by digest. ``folder`` overrides the one in ``OTC_HOME``."""

    folder: str | None = None

    def open(self) -> Archive:
        """The archive."""
        return LocalArchive(Path(self.folder) if self.folder else settings().archive_folder)


@cache
def _source(kind: str) -> Source:
    chosen = settings()
    if kind == "files":
        return DownloadFiles(chosen.files_folder, clock=today_in_new_york)
    if kind == "api":
        return QueryApi(
            chosen.finra_url,
            client_id=chosen.finra_client_id,
            client_secret=chosen.finra_client_secret,
            requests_per_minute=chosen.requests_per_minute,
        )
    if kind != "simulator":
        raise OtcError(f"there is no source {kind!r}", remedy="The sources are simulator, api and files (OTC_SOURCE).")
    simulator = Simulator(seed=chosen.simulator_seed, scale=chosen.simulator_scale)
    # The client that reads FINRA reads the simulator, in this process and without a socket.
    app = make_app(simulator, clock=today_in_new_york)
    return QueryApi("http://simulator", transport=httpx.WSGITransport(app=app), requests_per_minute=60_000)


class PublicationSource(ConfigurableResource):
    """Where publications come from. ``kind`` overrides ``OTC_SOURCE``: simulator, api or files."""

    kind: str | None = None

    def open(self) -> Source:
        """The source; one a process, so that its request budget is one too."""
        return _source(self.kind or settings().source)
