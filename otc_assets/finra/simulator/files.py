"""The simulator's publications as the website's download files.

Files are rendered and named here; their rows come from ``generator``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.schema import AMOUNT
from otc_assets.domain.weeks import Tier, publication_date
from otc_assets.finra.simulator.generator import Simulator

_COLUMNS = (
    "tierDescription",
    "issueSymbolIdentifier",
    "issueName",
    "marketParticipantName",
    "MPID",
    "totalWeeklyShareQuantity",
    "totalWeeklyTradeCount",
    "lastUpdateDate",
)
_CODES = {VenueKind.ATS: "ATS_W_SMBL_FIRM", "NON_ATS": "OTC_W_SMBL_FIRM"}


def plain(amount: pl.Expr) -> pl.Expr:
    """A decimal as FINRA writes it, without trailing zeros."""
    return amount.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with all amounts as FINRA writes them."""
    return rows.with_columns(plain(pl.col(name)) for name, kind in rows.schema.items() if kind == AMOUNT)


def download_file(simulator: Simulator, week_ending: dt.date, tier: Tier, kind: str, as_of: dt.date) -> bytes:
    """The website's file of a week's ``kind`` (ATS or NON_ATS), without a column for the week and a last newline.

    Raises:
        ValueError: the week is not published by ``as_of``.
    """
    publication = simulator.publication(week_ending, tier, as_of)
    if publication is None:
        day = simulator.published_on(week_ending, tier)
        raise ValueError(f"{tier.name}, week ending {week_ending}, is published on {day}, not by {as_of}")
    rows = as_text(publication.filter(pl.col("summaryTypeCode") == _CODES[kind]))
    rows = rows.sort("issueSymbolIdentifier", "issueName", "marketParticipantName").select(_COLUMNS)
    return rows.write_csv(separator="|", quote_style="never").removesuffix("\n").encode()


def file_name(week_ending: dt.date, tier: Tier, kind: str) -> str:
    """A file's usual name, with the publication day of the calendar: it gives the week of a late publication too."""
    side = "ats" if kind == VenueKind.ATS else "nonats"
    return f"finra_{side}_weekly_{tier.slug}_{publication_date(week_ending, tier):%Y%m%d}.csv"


def write_files(
    simulator: Simulator,
    folder: Path,
    weeks: Iterable[dt.date],
    tiers: Iterable[Tier],
    as_of: dt.date,
    progress: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Writes the download files, both halves, of all publications of the weeks and tiers published by ``as_of``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    tiers = list(tiers)
    for week in weeks:
        for tier in tiers:
            if simulator.published_on(week, tier) > as_of:
                continue
            for kind in _CODES:
                path = folder / file_name(week, tier, kind)
                path.write_bytes(download_file(simulator, week, tier, kind, as_of))
                written.append(path)
                progress(path)
    return written
