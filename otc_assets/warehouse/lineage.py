"""Versions and staleness: from which inputs, by which code, each week of each table was computed.

A week's version consists of the versions of its inputs (for venue volume, its effective captures) and the code version
of the rule that computes it. ``otc.computed_week`` records it; a week is stale if the version that it would have now
is another one. Recomputing stale weeks is up to the sensors and commands that read this.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from otc_assets.domain import normalize
from otc_assets.domain.changes import report_period
from otc_assets.domain.report import WEEKLY_REPORT, WeeklyReport
from otc_assets.domain.revisions import Effective
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIER_BY_NAME, weeks_up_to
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import blocked_between, effective_publications, revised_captures
from otc_assets.warehouse.retention import dropped_until, retained_from

#: The version of a week whose captures were all withdrawn: it has no rows.
NOTHING_EFFECTIVE = "-"


def _with_code(inputs: str, table: str, code_version: str) -> str:
    """The version of a week of ``table`` that is computed from ``inputs`` by the code of ``code_version``.

    Code version 1 adds nothing: the versions recorded before code versions existed remain current.
    """
    return inputs if code_version == "1" else f"{inputs} {table}@{code_version}"


def volume_version(found: Mapping[str, Effective[Publication]]) -> str:
    """The version of a week of venue_volume: by tier its effective and quarantined captures; the normalizer's version.

    A quarantined capture is part of the version, after an exclamation mark, so that the week is graded again and the
    checks report it.

    Args:
        found: by tier name.
    """
    parts = []
    for tier, of_tier in sorted(found.items()):
        effective = "+".join(str(p.id) for p in of_tier.captures)
        quarantined = "".join(f"!{p.id}" for p in of_tier.quarantined)
        if effective or quarantined:
            parts.append(f"{TIER_BY_NAME[tier].id}:{effective}{quarantined}")
    return _with_code(" ".join(parts), "venue_volume", normalize.NORMALIZER_VERSION) if parts else NOTHING_EFFECTIVE


@dataclass(frozen=True)
class Lineage:
    """The versions of weeks at one moment: those they should have, and those they have.

    Attributes:
        wanted: by week, the version that venue_volume should have.
        recorded: by table and week, the version that it was computed from.
        blocked: weeks graded F.
        kept_from: the oldest week of which venue volume is kept; None where all of it is.
        dropped_until: the newest week of which it was ever dropped.
        revised: captures in use with rows that FINRA rewrote: id, week, and the newest such day.
        gaps: by week, the status of each tier's gap, as text, which the weekly report shows; None: they were not read.
    """

    wanted: dict[dt.date, str]
    recorded: dict[str, dict[dt.date, str]]
    blocked: set[dt.date]
    kept_from: dt.date | None = None
    dropped_until: dt.date | None = None
    revised: tuple[tuple[int, dt.date, dt.date], ...] = ()
    gaps: Mapping[dt.date, str] | None = None

    def version(self, table: str, week_ending: dt.date) -> str | None:
        """The version that the week of ``table`` would have if it was computed now; None if nothing can be computed.

        The inputs of a figure of one week are the week of its sources. The inputs of a figure over several weeks are
        those weeks, as far as they are computed and not graded F: a digest of their versions.
        """
        if table == "venue_volume":
            wanted = self.wanted.get(week_ending, NOTHING_EFFECTIVE)
            # Nothing to compute, unless the week has rows of captures that were withdrawn since.
            computed = week_ending in self.recorded.get("venue_volume", {})
            return wanted if wanted != NOTHING_EFFECTIVE or computed else None
        figure = WEEKLY_REPORT if table == WEEKLY_REPORT.name else TABLES[table]
        assert isinstance(figure, Figure | WeeklyReport), f"otc.{table} is not computed from other tables"
        if figure.weeks == 1:
            (source,) = figure.sources
            if week_ending not in self.recorded.get(source, {}):
                return None
            return _with_code(self.recorded[source][week_ending], table, figure.code_version)
        # Its other sources are computed from venue volume, and retention drops that earlier.
        sources = {source: self.recorded.get(source, {}) for source in figure.sources if source != "venue_volume"}
        if any(week_ending not in versions for versions in sources.values()):
            return None
        window = [
            f"{week}={versions[week]}"
            for source, versions in sources.items()
            for week in _weeks_of(source, figure, week_ending)
            if week in versions and week not in self.blocked
        ]
        if figure.follows_revisions:
            after, until = report_period(week_ending)
            window += [str(number) for number, week, day in self.revised if week < week_ending and after < day <= until]
        if isinstance(figure, WeeklyReport):
            assert self.gaps is not None, "read the lineage of a report with_gaps"
            window.append(self.gaps.get(week_ending, ""))
        inputs = hashlib.sha256("\n".join(window).encode()).hexdigest()[:16]
        return _with_code(inputs, table, figure.code_version)

    def stale(self, table: str) -> list[dt.date]:
        """The weeks of ``table`` that are missing, or were computed from other inputs or by other code than now.

        Weeks graded F are left out, except for venue_volume itself: nothing is computed from them. So are weeks that
        retention has dropped; once they are kept again, venue_volume is recomputed from the archive.
        """
        upstream = self.wanted if table == "venue_volume" else self.recorded.get("venue_volume", {})
        oldest = self.kept_from or dt.date.min
        recorded = self.recorded.get(table, {})
        return sorted(
            week
            for week in upstream
            if week >= oldest
            and (table == "venue_volume" or week not in self.blocked)
            and (wanted := self.version(table, week)) is not None
            and recorded.get(week) != wanted
        )


def _weeks_of(source: str, figure: Figure | WeeklyReport, week_ending: dt.date) -> list[dt.date]:
    """The weeks of a source that a figure over several weeks follows: of another such figure, its own week alone."""
    table = TABLES[source]
    return weeks_up_to(week_ending, 1 if isinstance(table, Figure) and table.weeks > 1 else figure.weeks)


_RECORDED = sa.text(
    "SELECT table_name, week_ending, version FROM otc.computed_week WHERE week_ending BETWEEN :first AND :last"
)
_GAPS = sa.text("""
    SELECT week_ending, string_agg(tier || ' ' || status, ', ' ORDER BY tier) AS gaps FROM otc.gap
    WHERE week_ending BETWEEN :first AND :last GROUP BY week_ending
""")


def lineage(
    connection: sa.Connection, first: dt.date = dt.date.min, last: dt.date = dt.date.max, *, with_gaps: bool = False
) -> Lineage:
    """The lineage of the weeks from ``first`` to ``last``; rolling weeks need the five before them too.

    Args:
        connection: inside a transaction.
        first: the first week.
        last: the last week.
        with_gaps: whether gaps are read, which only versions of the weekly report need.
    """
    by_week: dict[dt.date, dict[str, Effective[Publication]]] = {}
    for (week, tier), found in effective_publications(connection, first, last).items():
        by_week.setdefault(week, {})[tier] = found
    recorded: dict[str, dict[dt.date, str]] = {}
    span = {"first": first, "last": last}
    for table, week, version in connection.execute(_RECORDED, span):
        recorded.setdefault(table, {})[week] = version
    return Lineage(
        wanted={week: volume_version(tiers) for week, tiers in by_week.items()},
        recorded=recorded,
        blocked=blocked_between(connection, first, last),
        kept_from=retained_from(connection, "venue_volume"),
        dropped_until=dropped_until(connection, "venue_volume"),
        revised=tuple((number, week, day) for number, week, _, day in revised_captures(connection)),
        gaps={row.week_ending: row.gaps for row in connection.execute(_GAPS, span)} if with_gaps else None,
    )
