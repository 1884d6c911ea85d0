"""Invented venues: ATSs and firms, and the words of their names."""

from __future__ import annotations

import numpy as np

ATS_COUNT, FIRM_COUNT = 42, 120

_FIRST_WORDS = (
    "Granite Harbor Juniper Meridian Northgate Orchard Paragon Quarry Ridgeline Sable Tamarack Umber Vantage "
    "Westlake Yarrow Zenith Alder Birch Cobalt Drift Ember Fathom Gable Heron Indigo Jasper Kestrel Lumen Marlow "
    "Nimbus Onyx Pewter Quill Rowan Saffron Thistle Ursa Verdant Willow Xylem Yonder Zephyr Amber Basalt"
)
_SECOND_WORDS = "Point Crossing Match Pool Link Cross Exchange Liquidity Book Square Harbor Bridge Lane Gate"
FIRST_WORDS, SECOND_WORDS = _FIRST_WORDS.split(), _SECOND_WORDS.split()
_FIRM_SUFFIXES = [" SECURITIES, LLC", " & CO.", " MARKETS  L.P.", " #1 TRADING!", " CAPITAL (USA) INC."]

#: (MPID, name) of an ATS, or (CRD number, name) of a firm.
Venue = tuple[str, str]


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """The random numbers for one purpose, which no draws for other purposes change."""
    return np.random.default_rng([seed, *key])


def ats_venues(seed: int) -> list[Venue]:
    """The ATSs, by the names that they have at first."""
    rng = random_stream(seed, 2)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    venues: dict[str, str] = {}
    while len(venues) < ATS_COUNT:
        first = FIRST_WORDS[len(venues) % len(FIRST_WORDS)]
        second = str(rng.choice(SECOND_WORDS))
        mpid = (first[:2] + second[0] + str(rng.choice(letters))).upper()
        venues.setdefault(mpid, f"{mpid} {first.upper()} {second.upper()} ATS")
    return list(venues.items())


def renamed(venues: list[Venue], week: int) -> list[Venue]:
    """The ATSs by the names that they have in a week: one changes its MPID, another its name."""
    venues = list(venues)
    if week >= 120:
        old, name = venues[5]
        new = old[:3] + ("T" if old[3] != "T" else "U")
        venues[5] = (new, name.replace(old, new, 1))
    if week >= 160:
        mpid, name = venues[9]
        venues[9] = (mpid, name.replace(" ATS", " BY COBALT"))
    return venues


def firms(seed: int) -> list[Venue]:
    """The firms: one of them has the longest name that FINRA allows."""
    rng = random_stream(seed, 3)
    crds = sorted({str(n) for n in rng.integers(1_000, 330_000, 4 * FIRM_COUNT)})[:FIRM_COUNT]
    names = [
        f"{FIRST_WORDS[i % 44].upper()} {SECOND_WORDS[i % 14].upper()}{_FIRM_SUFFIXES[i % 5]}" for i in range(len(crds))
    ]
    names[7] = (names[7] + " FOR ITSELF AND AS AGENT OF ITS AFFILIATES " * 5)[:201].rstrip()
    return list(zip(crds, names, strict=True))
