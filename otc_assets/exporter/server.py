"""The exporter: every source of metrics, scraped in one bounded go, and served over HTTP.

A failure of one source does not affect the others. What each source reads is in its own module.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import psycopg
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from otc_assets.domain.weeks import NEW_YORK
from otc_assets.exporter import orchestrator, storage, tables
from otc_assets.exporter.database import Database
from otc_assets.exporter.events import EventTotals
from otc_assets.exporter.families import gauge
from otc_assets.exporter.http import serve
from otc_assets.http_guard import LOOPBACK_NAMES
from otc_assets.settings import Settings, without_secrets
from otc_assets.text import first_line
from otc_assets.warehouse.server import dagster_storage_url

log = logging.getLogger(__name__)

#: The time limits of a scrape and of each source in it. Prometheus gives up after ten seconds.
SCRAPE_SECONDS = 7.0
SOURCE_SECONDS = 3.0
#: When the connection is closed if the server does not enforce the limit.
_CUT_SECONDS = 8.0


@dataclass(frozen=True)
class _Source:
    """Metrics that are read together; none of them while one of the tables does not exist."""

    name: str
    database: Database
    collect: Callable[[Database], Iterator[Metric]]
    tables: tuple[str, ...] = ()


def _now() -> dt.datetime:
    return dt.datetime.now(NEW_YORK)


class Exporter(Collector):
    """All metrics, read at every scrape over one connection.

    One scrape at a time: a request during a scrape waits for it, and gets the same metrics.

    Args:
        url: returns the database's URL; called for each new connection.
        dagster_url: the same for Dagster's storage, if that is another database; it has a second connection.
        clock: returns the present time, with a time zone.
        first_week: the first week wanted (OTC_FIRST_WEEK): earlier ones are not expected.
    """

    def __init__(
        self,
        url: Callable[[], str],
        dagster_url: Callable[[], str] | None = None,
        clock: Callable[[], dt.datetime] = _now,
        first_week: dt.date = dt.date.min,
    ) -> None:
        ours = Database(url)
        dagster = ours if dagster_url is None else Database(dagster_url, ours=False)
        self._main = ours
        self._databases = [ours] if dagster is ours else [ours, dagster]
        self._sources = [
            _Source("events", ours, EventTotals().collect),
            _Source("weeks", ours, partial(tables.newest_weeks, clock=clock, first_week=first_week)),
            _Source("rows", ours, tables.week_rows, ("otc.events", "otc.computed_week")),
            _Source("grades", ours, tables.grades, ("otc.week_quality",)),
            _Source("gaps", ours, tables.open_gaps, ("otc.gap",)),
            _Source("dataset gaps", ours, tables.open_dataset_gaps, ("otc.dataset_gap",)),
            _Source("alerts", ours, tables.undelivered_alerts, ("otc.alert",)),
            _Source("storage", ours, storage.compression),
            _Source("daemons", dagster, orchestrator.daemons, ("daemon_heartbeats",)),
            _Source("queue", dagster, orchestrator.queue, ("runs",)),
            _Source("runs", dagster, orchestrator.RunTotals().collect, ("runs",)),
            _Source("ticks", dagster, orchestrator.TickTotals().collect, ("job_ticks",)),
        ]
        self._lock = threading.Lock()
        self._scraped: list[Metric] = []
        self._ended = float("-inf")
        self._logged: dict[str, str] = {}
        self.up = False

    def collect(self) -> list[Metric]:
        """Scrapes. Sources that can't be read are missing, and `otc_scrape_errors` is 1 for them."""
        asked = time.monotonic()
        with self._lock:
            if self._ended < asked:
                self._scraped = self._scrape()
                self._ended = time.monotonic()
            return self._scraped

    def close(self) -> None:
        """Closes the connections; the next scrape opens them again."""
        with self._lock:
            for database in self._databases:
                database.close()

    def _scrape(self) -> list[Metric]:
        begun = time.monotonic()
        found: list[Metric] = []
        failed: set[str] = set()
        for database in self._databases:
            sources = [source for source in self._sources if source.database is database]
            try:
                with database.scrape(max(begun + _CUT_SECONDS - time.monotonic(), 0)):
                    for source in sources:
                        found += self._read(source, begun, failed)
            except Exception as error:  # no connection, for whatever reason
                self._log("connection", error)
                failed |= {source.name for source in sources}
                database.close()
        self.up = self._main.alive
        return [
            *found,
            gauge(
                "otc_scrape_errors",
                "1 if this source of metrics could not be read in this scrape, otherwise 0.",
                ["collector"],
                {source.name: source.name in failed for source in self._sources},
            ),
            GaugeMetricFamily("otc_up", "1 if the database answered, otherwise 0.", value=self.up),
            GaugeMetricFamily(
                "otc_scrape_duration_seconds", "Duration of this scrape, in seconds.", value=time.monotonic() - begun
            ),
        ]

    def _read(self, source: _Source, begun: float, failed: set[str]) -> list[Metric]:
        left = SCRAPE_SECONDS - (time.monotonic() - begun)
        try:
            with source.database.reading(min(left, SOURCE_SECONDS)):
                is_there = all(map(source.database.has, source.tables))
                read = list(source.collect(source.database)) if is_there else []
        except Exception as error:  # of any kind: the other sources are read in any case
            self._log(source.name, error)
            failed.add(source.name)
            return []
        self._logged.pop(source.name, None)
        return read

    def _log(self, what: str, error: Exception) -> None:
        """Logs a failure once, and again if it changes."""
        reason = without_secrets(first_line(error))
        if self._logged.get(what) != reason:
            self._logged[what] = reason
            log.warning("metrics: %s could not be read: %s", what, reason)


def exporter_of(chosen: Settings, where: Callable[[], str]) -> Exporter:
    """The exporter of an installation.

    Args:
        chosen: the settings.
        where: returns the URL of the database. It is called for each connection, because an embedded server may
            use another port after a restart. It may raise ``DatabaseUnreachable``.
    """
    if chosen.database_url is None or chosen.dagster_storage_url is None:
        return Exporter(where, first_week=chosen.first_week)
    dagster = chosen.dagster_storage_url.get_secret_value()
    is_ours = dagster == dagster_storage_url(where())
    return Exporter(where, None if is_ours else lambda: dagster, first_week=chosen.first_week)


def exposition(exporter: Exporter) -> str:
    """The metrics of one scrape, in Prometheus' text format."""
    return generate_latest(_registry(exporter)).decode()


@contextmanager
def serving(exporter: Exporter, host: str, port: int, names: Iterable[str] = LOOPBACK_NAMES) -> Iterator[str]:
    """Serves the metrics while the block runs, and yields their address.

    Args:
        exporter: whose metrics.
        host: the address to listen on; anyone who can reach it can read the metrics.
        port: 0 takes a free one.
        names: the host names that requests may use if ``host`` is loopback.

    Raises:
        OSError: the address can't be listened on: it is in use, or not an address of this machine.
    """
    shown = f"[{host}]" if ":" in host else host
    try:
        with serve(make_wsgi_app(_registry(exporter)), host, port, names) as listening_on:
            yield f"http://{shown}:{listening_on}/metrics"
    finally:
        with suppress(psycopg.Error):
            exporter.close()


def _registry(exporter: Exporter) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(exporter)
    return registry
