"""Counters and histograms, which are totals of all events.

Events are immutable, so totals are the same after a restart, and a scrape adds only new events. One GROUP BY over all
events per scrape would be simpler, but over a million events it takes more than twice the time limit of a source, forty
times as long as a bare scan (``benchmarks/events.py``). Gauges of weeks and gaps are in ``tables``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.tables import figures
from otc_assets.domain.weeks import TIERS
from otc_assets.exporter.database import Database
from otc_assets.exporter.families import counter
from otc_assets.exporter.sql import text

#: The upper bounds of the histograms' buckets, in seconds.
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

#: Events per query: enough to be fast, few enough for the time limit of a scrape.
BATCH = 50_000

#: The tables whose histograms exist from the start; others are added with their first event.
COMPUTED_TABLES = tuple(figure.name for figure in figures())

#: A transaction id that is never reached.
_NEVER = 2**64 - 1
_NEGATIVE = [-bound for bound in reversed(BOUNDS)]


class StillReading(Exception):
    """The history is longer than one scrape can read. The next scrapes continue; until then totals would be too low."""


@dataclass
class _Seconds:
    """A histogram: the number of values in each bucket, and their sum."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: Decimal = Decimal(0)

    def sample(self) -> dict[str, Any]:
        bounds = [*map(str, BOUNDS), "+Inf"]
        return {
            "buckets": list(zip(bounds, accumulate(self.buckets), strict=True)),
            "sum_value": float(self.total),
        }


class EventTotals:
    """The totals of all events so far, kept between scrapes."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._after = 0
        self._seen: str | None = None
        self._journal: str | None = None
        self._restored = (_NEVER, 0)
        self._events: Counter[str] = Counter()
        self._ingested: Counter[str] = Counter({tier.name: 0 for tier in TIERS})
        self._revised: Counter[str] = Counter({tier.name: 0 for tier in TIERS})
        self._records: Counter[tuple[str, str]] = Counter(
            {(tier.name, status): 0 for tier in TIERS for status in ("accepted", "rejected")}
        )
        self._failures: Counter[tuple[str, str, str, str]] = Counter()
        self._ingesting: defaultdict[str, _Seconds] = defaultdict(_Seconds, {t.name: _Seconds() for t in TIERS})
        self._normalizing: defaultdict[str, _Seconds] = defaultdict(_Seconds, {t.name: _Seconds() for t in TIERS})
        self._computing: defaultdict[str, _Seconds] = defaultdict(_Seconds, {t: _Seconds() for t in COMPUTED_TABLES})

    def collect(self, database: Database) -> Iterator[Metric]:
        """Adds new events, and returns all totals. Without an event store there are none.

        Raises:
            StillReading: the history is not read completely yet.
        """
        if not database.has("otc.events"):
            self._reset()
            return
        self._catch_up(database)
        if self._seen is None:
            raise StillReading("the history of events is long: reading it takes several scrapes")
        yield from self._families()

    def _catch_up(self, database: Database) -> None:
        enough = database.left() / 2  # so that no batch is interrupted and lost
        while database.left() > enough:
            now = database.rows(text("events_now"), {"after": str(self._after), "batch": BATCH})[0]
            final = int(now["final"])
            # Transaction ids begin again on another server. A database that was restored on this one numbers all events
            # anew, and gets another journal.
            if final < self._after or self._journal not in (None, now["journal"]):
                self._reset()
                continue
            self._journal = now["journal"]
            last = now["full"] is None or int(now["full"]) >= final
            upto = _NEVER if last else max(int(now["full"]), self._after + 1)
            window = {
                "after": str(self._after),
                "upto": str(upto),
                "seen": self._seen,
                "restored_from": str(self._restored[0]),
                "restored_to": self._restored[1],
                "negative": _NEGATIVE,
            }
            for row in database.rows(text("event_totals"), window):
                self._add(row)
            if last:
                if self._seen is None:
                    self._restored = (int(now["next"]), now["newest"])
                self._after, self._seen = final, now["snapshot"]
                return
            self._after = upto

    def _add(self, row: Mapping[str, Any]) -> None:
        kind, events, tier = row["event_type"], row["events"], row["tier"] or ""
        self._events[kind] += events
        timed: _Seconds | None = None
        if kind == "otc.file.ingested":
            self._ingested[tier] += events
            self._records[tier, "accepted"] += int(row["accepted"] or 0)
            self._records[tier, "rejected"] += int(row["rejected"] or 0)
            timed = self._ingesting[tier]
        elif kind == "otc.week.normalized":
            timed = self._normalizing[tier]
        elif kind == "otc.week.revised":
            self._revised[tier] += events
        elif kind in ("otc.summary.computed", "otc.metrics.computed"):
            timed = self._computing[row["table_name"] or ""]
        elif kind == "otc.report.written":
            timed = self._computing[WEEKLY_REPORT.name]
        elif kind == "otc.check.failed":
            labels = ("asset", "check_name", "severity", "blocking")
            self._failures[tuple(row[name] or "" for name in labels)] += events  # type: ignore[index]
        if timed is not None and row["bucket"] is not None:
            timed.buckets[row["bucket"]] += events
            timed.total += row["seconds"]

    def _families(self) -> Iterator[Metric]:
        yield counter("otc_events", "Number of events, by type.", ["event_type"], self._events)
        yield counter(
            "otc_files_ingested",
            "Number of publications and files captured with new content, by tier.",
            ["tier"],
            self._ingested,
        )
        yield CounterMetricFamily(
            "otc_files_rejected",
            "Number of publications and files rejected as a whole.",
            value=self._events["otc.file.rejected"],
        )
        yield counter(
            "otc_records_parsed",
            "Number of rows of captured publications and files, by tier and by whether they were accepted.",
            ["tier", "status"],
            self._records,
        )
        yield counter(
            "otc_revisions", "Number of weeks whose rows were changed by a revision, by tier.", ["tier"], self._revised
        )
        yield counter(
            "otc_check_failures",
            "Number of asset checks that failed; blocking ones block downstream assets of the week.",
            ["asset", "check", "severity", "blocking"],
            self._failures,
        )
        yield _histogram(
            "otc_ingest_duration_seconds",
            "Time to fetch and record a publication or file, in seconds, by tier.",
            "tier",
            self._ingesting,
        )
        yield _histogram(
            "otc_normalize_duration_seconds",
            "Time to compute a week of venue volume from its captures, in seconds, by tier.",
            "tier",
            self._normalizing,
        )
        yield _histogram(
            "otc_summary_duration_seconds",
            "Time to compute a week of a figure, in seconds, by table.",
            "table",
            self._computing,
        )


def _histogram(name: str, documentation: str, label: str, values: Mapping[str, _Seconds]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, documentation, labels=[label])
    for key, seconds in sorted(values.items()):
        family.add_metric([key], **seconds.sample())
    return family
