"""The invented venues: ATSs with an MPID, member firms with a CRD number, and the De Minimis group.

Here: who trades, under what name, and from which week to which. Not here: what they trade (``universe``).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from otc_assets.domain.schema import DE_MINIMIS_NAME

#: (week_ending from which it counts, old MPID, new MPID): an ATS that goes on under another MPID.
MPID_CHANGE = (dt.date(2023, 3, 17), "QNTA", "QNTB")
#: (week_ending from which it counts, MPID, old name, new name).
VENUE_RENAMING = (dt.date(2024, 5, 31), "HXAR", "HXAR HEXAGON ARC ATS", "HXAR PALISADE ARC, L.P. ATS")
#: (first week_ending, MPID): an ATS that opens while the simulator runs.
VENUE_OPENING = (dt.date(2022, 9, 16), "NWLT")
#: (last week_ending, MPID): an ATS that closes.
VENUE_CLOSING = (dt.date(2025, 6, 27), "OBSD")

#: FINRA's longest names have 201 characters.
LONGEST_NAME = 201


@dataclass(frozen=True)
class Venue:
    """A venue as the rows name it.

    ``weight`` is its part of the volume of its kind, ``reach`` how many of the symbols it trades (both
    relative), for NMS stocks and for OTC equities.
    """

    name: str
    mpid: str | None
    crd: str | None
    nms_weight: float
    otc_weight: float
    nms_reach: float
    otc_reach: float
    first_week: dt.date | None = None
    last_week: dt.date | None = None

    def mpid_in(self, week_ending: dt.date) -> str | None:
        """Its MPID in that week."""
        since, old, new = MPID_CHANGE
        return new if self.mpid == old and week_ending >= since else self.mpid

    def name_in(self, week_ending: dt.date) -> str:
        """Its name in that week, as FINRA writes it: the MPID, a blank, the name."""
        since, mpid, _, new_name = VENUE_RENAMING
        if self.mpid == mpid and week_ending >= since:
            return new_name
        if self.mpid == MPID_CHANGE[1]:
            return f"{self.mpid_in(week_ending)} {self.name.removeprefix(MPID_CHANGE[1] + ' ')}"
        return self.name

    def trades_in(self, week_ending: dt.date) -> bool:
        """Whether it was open in that week."""
        return (self.first_week is None or week_ending >= self.first_week) and (
            self.last_week is None or week_ending <= self.last_week
        )


# MPID, name, NMS weight, OTC weight. Weights fall off as real ones do: a few venues do most.
_ATS = (
    ("VXLN", "VEXILLON ATS", 17.0, 0.0),
    ("BRMC", "BRAMBLE CROSS", 11.5, 0.0),
    ("QNTA", "QUANTERRA X2", 9.0, 0.0),
    ("HXAR", "HEXAGON ARC ATS", 7.5, 0.0),
    ("PLVR", "PALAVER  POOL (ATS-4)", 6.5, 0.0),
    ("TQSN", "TORQUESTONE LLC", 5.5, 0.0),
    ("ORBT", "ORBITAL MATCHIT! ATS", 4.8, 0.0),
    ("LQDX", "LIQUIDARY H2X ATS", 4.2, 0.0),
    ("NWLT", "NEWLANTERN ATS", 3.8, 0.0),
    ("CRSK", "CROSSKEEL, INC.", 3.4, 0.0),
    ("DRKW", "DRAKEWATER & SONS ATS", 3.0, 0.0),
    ("MSKB", "MUSKETBALL  TRAJECTORY CROSS (ATS-1)", 2.7, 0.0),
    ("JNPX", "JUNIPER-X", 2.4, 0.0),
    ("KSTR", "KESTREL ATS", 2.2, 0.0),
    ("FLNT", "FLINTLOCK #7 ATS", 2.0, 0.0),
    ("GRVX", "GROVE EXCHANGE ALTERNATIVE", 1.8, 0.0),
    ("ZPHR", "ZEPHYR MID$POINT", 1.6, 0.0),
    ("WNDL", "WINDLASS BLOCK ATS", 1.4, 0.0),
    ("SLTE", "SLATE & TIMBER ATS", 1.25, 0.0),
    ("TRBN", "TURBINE ATS", 1.1, 0.0),
    ("ECHO", "ECHO POINT ATS", 1.0, 0.0),
    ("MRDN", "MERIDIAN DARK, L.L.C.", 0.9, 0.0),
    ("CPRX", "COPPERLINE X", 0.8, 0.0),
    ("ALTV", "ALTAVISTA  ATS", 0.7, 0.2),
    ("OBSD", "OBSIDIAN BOOK", 0.6, 0.0),
    ("PRLX", "PARALLAX CROSS", 0.55, 0.0),
    ("SNDR", "SUNDER ATS", 0.5, 0.0),
    ("THRM", "THERMAL POOL", 0.42, 0.0),
    ("UMBR", "UMBRA ATS", 0.36, 0.0),
    ("VLTG", "VOLTAGE EOS ATS", 0.3, 0.0),
    ("WHRF", "WHARF STREET ATS", 0.24, 0.0),
    ("XENO", "XENOLITH BLOCKCROSS", 0.2, 0.0),
    ("YRLG", "YEARLING ATS", 0.15, 0.0),
    ("ZNTH", "ZENITHAL NEGOTIATION", 0.1, 0.0),
    ("BLKS", "BLACKSMITH BLOCK ATS", 0.08, 0.0),
    ("CYGN", "CYGNET ATS", 0.05, 0.0),
    ("DLTN", "DALTON LUMENS ATS", 0.04, 0.0),
    ("OTLK", "OUTLOOK LINK NQX", 0.0, 55.0),
    ("OTLX", "OUTLOOK LINK ECN ATS", 0.0, 24.0),
    ("GLBV", "GLOBAL VERGE OTC", 0.3, 12.0),
    ("PPRX", "PEPPERELL EXCHANGE OTC", 0.0, 6.0),
    ("PRSM", "PRISM ALTERNATIVE, LTD.", 0.0, 0.6),
    ("STNM", "STONEMARK #ATS", 0.0, 0.15),
    ("TKNZ", "TOKENIZED! SECURITIES ATS", 0.0, 0.05),
)

_FIRM_HEADS = (
    "ARBORVALE", "BRIGHTMOOR", "CALDERWICK", "DUNSTABLE ROW", "ELDERFEN", "FAIRHOLLOW", "GLASSWATER",
    "HARROWGATE", "INKERMAN", "JESSAMY", "KILDERKIN", "LARKSPUR HILL", "MARLSTONE", "NETHERBY", "OXBOW REACH",
    "PENDLEBRIDGE", "QUILLFEATHER", "ROOKWOOD", "SALTMARSH", "THISTLEDOWN", "UNDERCLIFF", "VALEROY",
    "WINTERBOURNE", "YARROWFIELD",
)  # fmt: skip
_FIRM_TAILS = ("SECURITIES LLC", "CAPITAL MARKETS, INC.", "& CO.", "EXECUTION  SERVICES", "BROKERAGE #1, L.P.")
FIRM_COUNT = len(_FIRM_HEADS) * len(_FIRM_TAILS)


def _long_name(start: str) -> str:
    words = " AS AGENT FOR ITS AFFILIATES, SUCCESSORS & ASSIGNS, NOT IN ITS INDIVIDUAL CAPACITY"
    return (start + words * 4)[:LONGEST_NAME]


def all_venues() -> tuple[Venue, ...]:
    """Every venue: the ATSs, then the member firms, then the De Minimis group."""
    venues = [
        Venue(
            name=f"{mpid} {name}",
            mpid=mpid,
            crd=None,
            nms_weight=nms,
            otc_weight=otc,
            nms_reach=nms,
            otc_reach=otc,
            first_week=VENUE_OPENING[0] if mpid == VENUE_OPENING[1] else None,
            last_week=VENUE_CLOSING[0] if mpid == VENUE_CLOSING[1] else None,
        )
        for mpid, name, nms, otc in _ATS
    ]
    for rank in range(FIRM_COUNT):
        name = f"{_FIRM_HEADS[rank % len(_FIRM_HEADS)]} {_FIRM_TAILS[rank // len(_FIRM_HEADS)]}"
        weight = 40.0 / (1 + rank) ** 1.6
        # Every fourth firm makes markets in OTC equities above all.
        otc = weight * 6 if rank % 4 == 3 else weight * 0.5
        venues.append(
            Venue(
                name=_long_name(name) if rank == 50 else name,
                mpid=None,
                crd=str(900_101 + 37 * rank),  # beyond the numbers that FINRA has given out
                nms_weight=weight,
                otc_weight=otc,
                nms_reach=weight,
                otc_reach=otc,
            )
        )
    # Little volume, but a row for most symbols.
    venues.append(Venue(DE_MINIMIS_NAME, None, None, 0.4, 2.0, 400.0, 400.0))
    return tuple(venues)
