"""What the simulator shows in any window of eight weeks: well-known symbols, and one example of each kind of change.

Tickers and names of ``WELL_KNOWN`` are real, those of the examples (tickers with EX) are invented, and so are all
figures. FINRA's own changes of these kinds are years apart; here each happens every five weeks and is undone five
weeks later, so that the six weeks that T2 and OTC have of the newest eight contain it. Everything is declared here as
data or as a function of the number of the week; rows are made in ``generator``.
"""

from __future__ import annotations

import string
from typing import NamedTuple

from otc_assets.domain.weeks import OTCE, T1, T2, Tier

#: The examples are part of every simulator of at least this size. A smaller one has a dozen symbols per tier.
EXAMPLES_FROM_SCALE = 0.01
EVERY = 5

#: Weeks, modulo ``EVERY``, of which a publication is revised or late, and days until the new rows appear.
REVISED_WEEK, REVISED_TIER, REVISED_AFTER_DAYS = 1, T1, 9
LATE_WEEK, LATE_TIER, LATE_BY_DAYS = 2, OTCE, 3
#: The symbol in whose rows FINRA's revision is.
REVISED_SYMBOL = "AAPL"


class Member(NamedTuple):
    """A symbol as it trades off exchange in an ordinary week.

    Attributes:
        product: the listing market's tape at FINRA.
        volume: shares in a week of five days.
        price: dollars per share.
    """

    tier: Tier
    symbol: str
    issue: str
    product: str
    volume: float
    price: float


#: Tiers by their indices (T1: S&P 500, Russell 1000 and some ETPs). Issue names of AAPL, BRK.B and of the OTC tier are
#: FINRA's; the others are those of the exchanges' directories.
WELL_KNOWN = (
    Member(T1, "NVDA", "NVIDIA Corporation Common Stock", "UTP", 380e6, 180),
    Member(T1, "TSLA", "Tesla, Inc. Common Stock", "UTP", 190e6, 400),
    Member(T1, "SPY", "SPDR S&P 500 ETF Trust", "CTS", 130e6, 660),
    Member(T1, "PLTR", "Palantir Technologies Inc. Class A Common Stock", "UTP", 120e6, 170),
    Member(T1, "QQQ", "Invesco QQQ Trust, Series 1", "UTP", 110e6, 600),
    Member(T1, "F", "Ford Motor Company Common Stock", "CTS", 105e6, 12),
    Member(T1, "AMD", "Advanced Micro Devices, Inc. Common Stock", "UTP", 100e6, 210),
    Member(T1, "AMZN", "Amazon.com, Inc. Common Stock", "UTP", 95e6, 225),
    Member(T1, "AAPL", "Apple Inc. Common Stock", "UTP", 90e6, 245),
    Member(T1, "BAC", "Bank of America Corporation Common Stock", "CTS", 70e6, 50),
    Member(T1, "GOOGL", "Alphabet Inc. Class A Common Stock", "UTP", 65e6, 250),
    Member(T1, "IWM", "iShares Russell 2000 ETF", "CTS", 60e6, 240),
    Member(T1, "MSFT", "Microsoft Corporation Common Stock", "UTP", 42e6, 500),
    Member(T1, "META", "Meta Platforms, Inc. Class A Common Stock", "UTP", 26e6, 700),
    Member(T1, "GME", "GameStop Corporation Common Stock", "CTS", 15e6, 24),
    Member(T1, "JPM", "JP Morgan Chase & Co. Common Stock", "CTS", 17e6, 300),
    Member(T1, "BRK.B", "BERKSHIRE HATHAWAY Class B", "CTS", 7e6, 495),
    Member(T2, "AMC", "AMC Entertainment Holdings, Inc. Class A Common Stock", "CTS", 38e6, 3),
    Member(OTCE, "FNMA", "Federal National Mortgage Association Common Stock", "OTC", 26e6, 10),
    Member(
        OTCE,
        "TCEHY",
        "Tencent Holdings Limited Unsponsored ADR Representing B Shares (Cayman Islands)",
        "OTC",
        9e6,
        80,
    ),
    Member(OTCE, "RHHBY", "Roche Holdings AG Basel American Depositary Shares", "OTC", 7e6, 45),
    Member(OTCE, "BYDDY", "BYD Company Ltd Unsponsored ADR representing H Shares (China)", "OTC", 5e6, 13),
    Member(
        OTCE,
        "NSRGY",
        "Nestle SA Sponsored ADR representing Registered Shares Series B (Switzerland)",
        "OTC",
        700e3,
        100,
    ),
    Member(OTCE, "ADDYY", "adidas AG Sponsored ADR (Germany)", "OTC", 190e3, 95),
    Member(OTCE, "OTCM", "OTC Markets Group Inc. Common Stock Class A", "OTC", 17e3, 54),
)

_LETTERS = string.ascii_uppercase


def members(tier: Tier, week: int) -> list[Member]:
    """All of ``WELL_KNOWN`` and of the examples that trade in a tier, in the week of this number."""
    examples = (
        _changes_tier(week),
        _splits(week),
        _trades_much(week),
        _gives_its_ticker(week),
        _takes_another_ticker(week),
        *_listed_for_a_time(week),
    )
    return [member for member in (*WELL_KNOWN, *examples) if member.tier == tier]


def sigma_mpid(week: int) -> str:
    """The MPID of SIGMA X2, which changed at FINRA once, from SGMA to SGMT."""
    return ("SGMT", "SGMA")[_state(week, 3)]


def bruce_name(week: int) -> str:
    """The name of the ATS with the MPID BOSS."""
    return ("BRUCE ATS", "BRUCE MARKETS, LLC.")[_state(week, 2)]


def _state(week: int, offset: int) -> int:
    """0 or 1, in turn for ``EVERY`` weeks each. Examples have different offsets, so that they change in turn."""
    return (week + offset) // EVERY % 2


def _changes_tier(week: int) -> Member:
    return Member((T1, T2)[_state(week, 0)], "EXTM", "Example Tier Mover, Inc. Common Stock", "UTP", 4e6, 35)


def _splits(week: int) -> Member:
    """A split of 10:1, and a reverse split of 1:10: the notional goes on as before."""
    ratio = (1, 10)[_state(week, 1)]
    return Member(T1, "EXSP", "Example Split Corporation Common Stock", "CTS", 3e6 * ratio, 480 / ratio)


def _trades_much(week: int) -> Member:
    times = 8 if week % EVERY == 3 else 1
    return Member(T2, "EXVM", "Example Volume Mover Holdings, Inc. Common Stock", "UTP", 900e3 * times, 14)


def _gives_its_ticker(week: int) -> Member:
    """A ticker that another issuer takes over: their names have no word in common."""
    issue = ("Harbor Foods, Inc. Common Stock", "Quarry Mining Ltd. Ordinary Shares")[_state(week, 4)]
    return Member(T2, "EXRU", issue, "UTP", 1.2e6, (9, 31)[_state(week, 4)])


def _takes_another_ticker(week: int) -> Member:
    symbol = ("EXOL", "EXNW")[_state(week, 2)]
    return Member(T2, symbol, "Example Renamed Company Common Stock", "CTS", 2e6, 22)


def _listed_for_a_time(week: int) -> list[Member]:
    """Symbols that trade for 13 weeks each: every five weeks one begins, and another one ends."""
    found = []
    for number in range((week - 12) // EVERY, week // EVERY + 1):
        if 0 <= week - number * EVERY <= 12:
            suffix = _LETTERS[number // 26 % 26] + _LETTERS[number % 26]
            issue = f"Example Listing {number} Acquisition Corp. Class A Common Stock"
            found.append(Member(T2, f"EX{suffix}L", issue, "UTP", 600e3, 10))
    return found
