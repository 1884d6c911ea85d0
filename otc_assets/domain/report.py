"""The weekly report: which tables it is computed from, and which sections its page has.

The page itself is made in ``report``, and stored and recorded by ``pipeline.report``. It is no table: its files are in
the archive, and its version is in ``otc.computed_week`` like those of tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from otc_assets.domain.tables import rolling_figures
from otc_assets.domain.weeks import WINDOW_WEEKS


@dataclass(frozen=True, kw_only=True)
class WeeklyReport:
    """What the registry says of the report.

    Attributes:
        name: of the asset, and in ``otc.computed_week``.
        description: its content, for the page of its asset.
        sources: the tables that it is computed from.
        weeks: how many weeks of them, up to its own.
        sections: by the identifier of each section of the page, its heading.
        code_version: of the page; raise it when the same rows would give another page.
        follows_revisions: as of figures; ``week_changes`` follows them for the report.
    """

    name: str
    description: str
    sources: tuple[str, ...]
    weeks: int
    sections: dict[str, str]
    code_version: str
    follows_revisions: bool = False


WEEKLY_REPORT = WeeklyReport(
    name="weekly_report",
    description=(
        "The week on one page: headline figures per trading day, ATSs against other firms, venues, movers, "
        "concentration, changes, revisions, coverage.\n\nA self-contained HTML page and a PDF of it, in the archive "
        "under `reports`. Made again when one of its inputs has changed."
    ),
    sources=(
        "symbol_summary",
        "venue_share",
        "market_concentration",
        "symbol_concentration",
        "symbol_rolling",
        "week_changes",
    ),
    weeks=WINDOW_WEEKS,
    sections={
        "headline": "The week in figures",
        "kinds": "ATSs and other firms",
        "venues": "Venues",
        "movers": "Symbols far from their norm",
        "concentration": "Concentration",
        "changes": "Other changes",
        "revisions": "Revisions",
        "coverage": "Coverage and gaps",
        "method": "Method and terms",
    },
    code_version="1",
)


def over_weeks() -> list[str]:
    """What is computed from several weeks: figures, and the report."""
    return [*rolling_figures(), WEEKLY_REPORT.name]
