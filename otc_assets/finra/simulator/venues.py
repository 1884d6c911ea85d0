"""The simulated venues: ATSs by their real MPIDs and names, and firms.

ATSs, and the firms of ``_KNOWN_FIRMS``, are real; how much they trade here is invented. All other firms are invented,
and so are their CRD numbers, which are above those that FINRA has assigned. Symbols are in ``symbols``.
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

import numpy as np

from otc_assets.domain.weeks import OTCE
from otc_assets.finra.simulator.examples import bruce_name, sigma_mpid

FIRM_COUNT = 120

_FIRST_WORDS = (
    "Granite Harbor Juniper Meridian Northgate Orchard Paragon Quarry Ridgeline Sable Tamarack Umber Vantage "
    "Westlake Yarrow Zenith Alder Birch Cobalt Drift Ember Fathom Gable Heron Indigo Jasper Kestrel Lumen Marlow "
    "Nimbus Onyx Pewter Quill Rowan Saffron Thistle Ursa Verdant Willow Xylem Yonder Zephyr Amber Basalt"
)
_SECOND_WORDS = "Point Crossing Match Pool Link Cross Exchange Liquidity Book Square Harbor Bridge Lane Gate"
FIRST_WORDS, SECOND_WORDS = _FIRST_WORDS.split(), _SECOND_WORDS.split()
_FIRM_SUFFIXES = [" SECURITIES, LLC", " & CO.", " MARKETS  L.P.", " #1 TRADING!", " CAPITAL (USA) INC."]
_FIRST_INVENTED_CRD = 900_000

#: (MPID, name) of an ATS, or (CRD number, name) of a firm.
Venue = tuple[str, str]


class Ats(NamedTuple):
    """An ATS, in the weeks from ``first`` to ``last``."""

    mpid: str
    name: str
    first: dt.date = dt.date.min
    last: dt.date = dt.date.max


#: By size, the largest first: the MPIDs, names, first and last weeks of FINRA's rows of AAPL, 2021-12 to 2025-02.
#: XIST and BOSS are from FINRA's list of ATSs.
NMS_ATS = (
    Ats("UBSA", "UBS ATS"),
    Ats("INCR", "INTELLIGENT CROSS LLC"),
    Ats("PURE", "PURESTREAM"),
    Ats("EBXL", "LEVEL ATS"),
    Ats("SGMT", "SIGMA X2"),
    Ats("MLIX", "INSTINCT X"),
    Ats("MSTX", "MS TRAJECTORY CROSS (ATS-1)"),
    Ats("XSTM", "CROSSSTREAM"),
    Ats("LATS", "THE BARCLAYS ATS"),
    Ats("JPMX", "JPM-X"),
    Ats("MSPL", "MS POOL (ATS-4)"),
    Ats("CGXS", "ONECHRONOS", dt.date(2022, 7, 8)),
    Ats("CROS", "CROSSFINDER", last=dt.date(2023, 9, 1)),
    Ats("IATS", "IBKR ATS"),
    Ats("ITGP", "POSIT"),
    Ats("BNPX", "BNPP CORTEX ATS"),
    Ats("ICBX", "CBX"),
    Ats("JPBX", "JPB-X"),
    Ats("KCGM", "VIRTU MATCHIT ATS"),
    Ats("BIDS", "BIDS ATS"),
    Ats("BLKX", "INSTINET BLOCKCROSS"),
    Ats("LQNA", "LIQUIDNET H2O ATS"),
    Ats("MSRP", "MS RPOOL (ATS-6)"),
    Ats("ONEC", "CITI-ONE ATS", dt.date(2022, 5, 13)),
    Ats("BLUE", "BOATS", dt.date(2022, 1, 28)),
    Ats("BOSS", "BRUCE ATS", dt.date(2025, 3, 14)),
    Ats("CODA", "CODA"),
    Ats("LMNX", "LUMINEX ATS"),
    Ats("XIST", "INSTINET CROSSING"),
    Ats("IEOS", "IBKR EOS ATS", dt.date(2023, 4, 21)),
    Ats("ALPX", "ALPHAX US", dt.date(2025, 1, 31)),
    Ats("LQNT", "LIQUIDNET NEGOTIATION ATS"),
    Ats("STFX", "STIFEL X", dt.date(2022, 1, 21)),
)
#: Those of FINRA's download files of the OTC tier, 2025-11.
OTC_ATS = (
    Ats("OTCN", "OTC LINK NQB IDQS"),
    Ats("OTCX", "OTC LINK ECN ATS"),
    Ats("ARCA", "GLOBAL OTC"),
    Ats("PPEX", "NORTH CAPITAL PRIVATE SECURITIES CORPORATION"),
    Ats("ALTS", "LODAS SECURITIES ALTERNATIVE TRADING SYSTEM"),
    Ats("PROS", "TZERO SECURITIES LLC"),
    Ats("VIAT", "VARIABLE INVESTMENT ADVISORS, INC."),
    Ats("SWCL", "INX SECURITIES, LLC"),
    Ats("SMKT", "SECURITIZE MARKETS ATS"),
    Ats("STEN", "STARTENGINE SECONDARY"),
)

#: By size, the largest first: real firms, of which a public document gives the CRD number.
_KNOWN_FIRMS: tuple[Venue, ...] = (
    ("116797", "CITADEL SECURITIES LLC"),
    ("149823", "VIRTU AMERICAS LLC"),
    ("7654", "UBS SECURITIES LLC"),
    ("8209", "MORGAN STANLEY & CO. LLC"),
    ("361", "GOLDMAN SACHS & CO. LLC"),
    ("79", "J.P. MORGAN SECURITIES LLC"),
    ("283942", "BOFA SECURITIES, INC."),
    ("19714", "BARCLAYS CAPITAL INC."),
    ("7059", "CITIGROUP GLOBAL MARKETS INC."),
    ("149224", "GTS SECURITIES LLC"),
)


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """The random numbers for one purpose, which no draws for other purposes change."""
    return np.random.default_rng([seed, *key])


def ats_of(tier_id: str) -> tuple[Ats, ...]:
    """The ATSs of a tier. Those of OTC equity securities trade no NMS stocks."""
    return OTC_ATS if tier_id == OTCE.id else NMS_ATS


def named_in(venues: tuple[Ats, ...], week: int) -> list[Venue]:
    """The ATSs as FINRA names them in a week: one alternates its MPID, another its name (``examples``)."""
    changed = {
        "SGMT": (sigma_mpid(week), "SIGMA X2"),
        "BOSS": ("BOSS", bruce_name(week)),
    }
    both = [changed.get(venue.mpid, (venue.mpid, venue.name)) for venue in venues]
    return [(mpid, f"{mpid} {name}") for mpid, name in both]


def is_open(venues: tuple[Ats, ...], week_ending: dt.date) -> np.ndarray:
    """Which of the ATSs trade in a week."""
    return np.array([venue.first <= week_ending <= venue.last for venue in venues])


def firms() -> list[Venue]:
    """The firms, the largest first: one of them has the longest name that FINRA allows."""
    names = [
        f"{FIRST_WORDS[i % 44].upper()} {SECOND_WORDS[i % 14].upper()}{_FIRM_SUFFIXES[i % 5]}"
        for i in range(FIRM_COUNT - len(_KNOWN_FIRMS))
    ]
    names[7] = (names[7] + " FOR ITSELF AND AS AGENT OF ITS AFFILIATES " * 5)[:201].rstrip()
    return [*_KNOWN_FIRMS, *((str(_FIRST_INVENTED_CRD + 37 * n), name) for n, name in enumerate(names))]
