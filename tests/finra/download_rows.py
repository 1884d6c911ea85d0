"""Download files written by hand: their header, rows of one tier and day, and a file with them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from otc_assets.domain.weeks import Tier

WEEK = dt.date(2026, 8, 21)
TODAY = dt.date(2026, 10, 14)
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)


def rows(tier: Tier, day: dt.date, count: int = 10, mpid: str = "PPEX") -> str:
    return "".join(f"{tier.name}|S{n}|Issue {n}|VENUE|{mpid}|{n + 1}|1|{day}\n" for n in range(count))


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path
