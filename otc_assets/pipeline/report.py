"""Makes the weekly report of a week: reads its inputs, stores the page and its PDF, and records the version.

What is on the page is in ``report``; which tables it is made of, in ``domain.report``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Sequence

import sqlalchemy as sa

from otc_assets import report
from otc_assets.archive.store import Archive
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.weeks import weeks_up_to
from otc_assets.pipeline.figures import BLOCKED
from otc_assets.pipeline.results import Markdown, WeekRefused, WeekResult
from otc_assets.report.contents import Contents
from otc_assets.report.inputs import Captured, Inputs
from otc_assets.report.selection import contents
from otc_assets.report.sentences import summary
from otc_assets.tracing import COMPUTE, LOAD, set_attributes, span
from otc_assets.warehouse import events
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.lineage import NOTHING_EFFECTIVE, Lineage, lineage
from otc_assets.warehouse.load import mark_computed
from otc_assets.warehouse.read import computed_version, effective_publications, quality, replaced_rows, week_rows
from otc_assets.warehouse.server import lock_week

#: Tables of which the report reads the whole window, and not its own week alone.
_OF_WINDOW = ("venue_share", "market_concentration")

#: Called in the transaction that records a report, with its event and its sentences.
Announce = Callable[[sa.Connection, events.Event, Sequence[str]], None]


def make_report(
    week_ending: dt.date,
    database: Database,
    archive: Archive,
    now: dt.datetime,
    announce: Announce = lambda connection, event, sentences: None,
) -> WeekResult:
    """Makes the week's report from what is stored, and replaces the one before.

    The page is made outside the transactions. If an input changes meanwhile, the recorded version is not the current
    one, and the report is stale.

    Args:
        week_ending: the week.
        database: the installation's.
        archive: where the page is stored.
        now: the present time, with a time zone; the page states it.
        announce: what is to be recorded together with the report.

    Raises:
        WeekRefused: the week is graded F, which blocks downstream assets.
    """
    # Both load native libraries of 20 MB, which every process with the definitions would hold.
    from otc_assets.report.page import render
    from otc_assets.report.pdf import to_pdf

    since = time.perf_counter()
    with database.transaction() as connection:
        lock_week(connection, week_ending)
        known = _lineage(connection, week_ending)
        version = known.version(WEEKLY_REPORT.name, week_ending)
        inputs = _inputs(connection, week_ending, now, known.blocked)
    if week_ending in known.blocked:
        raise WeekRefused(
            f"{BLOCKED}, so there is no report of it: the failed checks of venue_volume say why",
            remedy="Capture the week again once FINRA has corrected it.",
        )
    if version is None:
        return WeekResult(0, NOTHING_EFFECTIVE, {"state": "the tables of the report are not computed of this week yet"})
    with span(COMPUTE):
        page = contents(inputs)
        del inputs  # tens of megabytes, which the charts and the PDF need
        html = render(page)
        files = report.Report(html.encode(), to_pdf(html))
        set_attributes(rows=1)
    with span(LOAD, rows=1), database.transaction() as connection:
        lock_week(connection, week_ending)
        is_first = computed_version(connection, WEEKLY_REPORT.name, week_ending) is None
        report.save(archive, week_ending, files)
        mark_computed(connection, WEEKLY_REPORT.name, week_ending, version, rows=1)
        written = events.ReportWritten(
            week_ending=week_ending,
            version=version,
            bytes=len(files.html),
            is_first=is_first,
            seconds=time.perf_counter() - since,
        )
        announce(connection, events.append(connection, written), summary(page))
    return WeekResult(1, version, _details(page, files))


def current_report(week_ending: dt.date, database: Database, archive: Archive) -> WeekResult | None:
    """The week's report as it is stored, if making it would use the same inputs; None if it has to be made."""
    with database.transaction() as connection:
        known = _lineage(connection, week_ending)
    version = known.recorded.get(WEEKLY_REPORT.name, {}).get(week_ending)
    if version is None or version != known.version(WEEKLY_REPORT.name, week_ending) or week_ending in known.blocked:
        return None
    if report.find(archive, week_ending) is None:
        return None
    return WeekResult(1, version, {"state": "up to date: not made again"})


def newest_computed_week(database: Database) -> dt.date | None:
    """The newest week of which the report's tables are computed; None if there is none."""
    with database.transaction() as connection:
        known = lineage(connection, with_gaps=True)
    return max(
        (week for week in known.recorded.get(WEEKLY_REPORT.sources[0], {}) if known.version(WEEKLY_REPORT.name, week)),
        default=None,
    )


def _lineage(connection: sa.Connection, week_ending: dt.date) -> Lineage:
    return lineage(connection, weeks_up_to(week_ending, WEEKLY_REPORT.weeks)[0], week_ending, with_gaps=True)


def _inputs(connection: sa.Connection, week_ending: dt.date, now: dt.datetime, blocked: Collection[dt.date]) -> Inputs:
    # Weeks graded F count as not captured, as in every figure over several weeks. Their rows of before stay stored.
    window = [week for week in weeks_up_to(week_ending, WEEKLY_REPORT.weeks) if week not in blocked]
    tables = {
        name: week_rows(connection, name, window if name in _OF_WINDOW else [week_ending])
        for name in WEEKLY_REPORT.sources
    }
    captured = {
        tier: Captured(
            rows=sum(p.rows_accepted if p.rows_in_use is None else p.rows_in_use for p in found.captures),
            rows_expected=found.publication.rows_expected if found.publication else None,
            complete=found.complete,
            last_update=max((p.last_update_date for p in found.captures if p.last_update_date), default=None),
            origin=found.captures[0].origin,
        )
        for (_, tier), found in effective_publications(connection, week_ending, week_ending).items()
        if found.captures
    }
    gaps = week_rows(connection, "gap", [week_ending])
    return Inputs(
        week_ending=week_ending,
        made_at=now,
        tables=tables,
        captured=captured,
        grades={row["tier"]: row["grade"] for row in quality(connection, week_ending)},
        gaps={row["tier"]: (row["status"], row["detail"]) for row in gaps.iter_rows(named=True)},
        replaced_rows=replaced_rows(connection, week_ending),
    )


def _details(page: Contents, files: report.Report) -> dict[str, object]:
    """What Dagster shows of a report: its sentences and the headline figures of each tier."""
    details: dict[str, object] = {"preview": Markdown("\n".join(f"- {text}" for text in summary(page)))}
    for tier in page.tiers:
        details[f"{tier.tier}: shares per trading day"] = round(float(tier.daily))
        if tier.ats_share_pct is not None:
            details[f"{tier.tier}: ATS share, %"] = round(float(tier.ats_share_pct), 2)
        if tier.vs_average_pct is not None:
            details[f"{tier.tier}: against the average, %"] = round(float(tier.vs_average_pct), 2)
    return {**details, "page, bytes": len(files.html), "PDF, bytes": len(files.pdf)}
