"""The simulator's publications as download files in FINRA's layout until about 2018, with a trailer line."""

from __future__ import annotations

import datetime as dt

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.weeks import Tier, week_start_of
from otc_assets.finra.simulator.files import download_file
from otc_assets.finra.simulator.generator import Simulator

_HEADERS = {
    "ATS": "Report_Type|Symbol|Issue_Description|ATS_Description|ATS_MPID|Shares|Trades|Last_Updated",
    "NON_ATS": "Report_Type|Symbol|Issue_Description|OTC_Non-ATS_Description|Shares|Trades|Last_Updated",
}
_MPID = 4  # its place among the columns of the present layout


def legacy_file(simulator: Simulator, week_ending: dt.date, tier: Tier, kind: str, as_of: dt.date) -> bytes:
    """The rows of ``download_file``; files of firms had no column for the MPID."""
    rows = [line.split("|") for line in download_file(simulator, week_ending, tier, kind, as_of).decode().split("\n")]
    if kind != VenueKind.ATS:
        rows = [row[:_MPID] + row[_MPID + 1 :] for row in rows]
    lines = [_HEADERS[kind], *("|".join(row) for row in rows[1:]), f"Total Records: {len(rows) - 1}", ""]
    return "\n".join(lines).encode()


def legacy_name(week_ending: dt.date, tier: Tier, kind: str) -> str:
    """The usual name of such a file, with the week's Monday."""
    side = "ats" if kind == VenueKind.ATS else "nonats"
    return f"{side}.{tier.slug}.{week_start_of(week_ending):%Y%m%d}.txt"
