"""Which symbols trade in a tier, when, how much, and how likely at which venue.

The symbols of a ``Universe`` are invented. Well-known ones are declared in ``examples``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple
from zlib import crc32

import numpy as np

from otc_assets.domain.weeks import OTCE, T1, T2, Tier
from otc_assets.finra.simulator.examples import WELL_KNOWN, members
from otc_assets.finra.simulator.venues import FIRM_COUNT, FIRST_WORDS, ats_of, random_stream

_ALWAYS = 10_000
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ISSUES = [
    "Common Stock",
    "Inc. Common Stock",
    "Class A Common Stock",
    "Holdings, Inc. Com Par $0.001",
    "Corp. Ordinary Shares",
    "plc American Depositary Shares",
    "Trust ETF",
    "Acquisition Corp. Warrant",
    "Series D Preferred",
    "Ltd. Unsponsored ADR",
]


@dataclass(frozen=True)
class _Shape:
    """How large a tier is at scale 1, adjusted to FINRA's counts of rows.

    Attributes:
        ats_rows: rows per symbol and week at ATSs, on average.
        firm_rows: the same at non-ATS firms, without the De Minimis group.
        de_minimis: the share of symbols that the De Minimis group trades.
        log_volume: mean of the natural logarithm of a symbol's weekly shares.
    """

    symbols: int
    ats_rows: float
    firm_rows: float
    de_minimis: float
    log_volume: float


_SHAPES = {
    T1.id: _Shape(2_000, 27.2, 6.9, 0.9, 14.3),
    T2.id: _Shape(10_600, 12.85, 1.3, 0.4, 11.4),
    OTCE.id: _Shape(6_150, 1.5, 0.75, 0.35, 9.4),
}


@dataclass(frozen=True)
class Universe:
    """All that ever trades in a tier: parallel arrays, one entry per (symbol, issue, stay in the tier).

    Attributes:
        first_week, last_week: in weeks since the simulator's first.
        volume: shares in an ordinary week.
        season: shifts the slow drift of the volume.
        at_ats, at_firm: (entry, venue): the probability that it trades there in a week.
        at_small: whether the De Minimis group trades it.
        ats_weight, firm_weight: (entry, venue): the venue's part of the entry's volume, not normalized.
    """

    symbol: np.ndarray
    issue: np.ndarray
    product: np.ndarray
    first_week: np.ndarray
    last_week: np.ndarray
    volume: np.ndarray
    price: np.ndarray
    season: np.ndarray
    at_ats: np.ndarray
    at_firm: np.ndarray
    at_small: np.ndarray
    ats_weight: np.ndarray
    firm_weight: np.ndarray

    def during(self, week: int) -> Universe:
        """The entries that trade in a week."""
        listed = (self.first_week <= week) & (week <= self.last_week)
        return Universe(**{each.name: getattr(self, each.name)[listed] for each in fields(self)})

    def followed_by(self, other: Universe) -> Universe:
        """The entries of both."""
        return Universe(
            **{
                each.name: np.concatenate([getattr(self, each.name), getattr(other, each.name)])
                for each in fields(self)
            }
        )


class _Stay(NamedTuple):
    """The time that a symbol trades in a tier, in weeks since the simulator's first."""

    symbol: str
    issue: str
    first: int
    last: int
    volume: float


def make_universe(seed: int, scale: float, tier_id: str) -> Universe:
    """The symbols of a tier."""
    shape, ats_count = _SHAPES[tier_id], len(ats_of(tier_id))
    number = list(_SHAPES).index(tier_id)
    count = max(12, round(shape.symbols * scale))
    rng = random_stream(seed, 4, number)
    words = rng.integers(0, len(FIRST_WORDS), (count, 2))
    kinds = rng.integers(0, len(_ISSUES), count)
    issues = [f"{FIRST_WORDS[a]} {FIRST_WORDS[b]} {_ISSUES[k]}" for (a, b), k in zip(words, kinds, strict=True)]
    first = np.zeros(count, dtype=np.int64)
    last = np.full(count, _ALWAYS, dtype=np.int64)
    moves = rng.permutation(count)
    listed, delisted = moves[: count // 25], moves[count // 25 : count // 12]
    first[listed] = rng.integers(1, 260, listed.size)
    last[delisted] = rng.integers(20, 300, delisted.size)
    volume = np.exp(rng.normal(shape.log_volume, 1.6, count))
    columns = (_tickers(number, count), issues, first.tolist(), last.tolist(), volume.tolist())
    stays = [_Stay(*values) for values in zip(*columns, strict=True)]
    # A ticker that a new issuer takes over; in the week of the change both trade under it.
    for n in moves[-max(1, count // 400) :].tolist():
        stay = stays[n]
        change = int(rng.integers(40, 280))
        stays[n] = stay._replace(last=change)
        stays.append(_Stay(stay.symbol, f"Successor {stay.issue}", change, _ALWAYS, stay.volume))
    movers = _movers(seed, scale)
    taken = {symbol for symbol, *_ in movers} | {member.symbol for member in WELL_KNOWN}
    stays = [stay for stay in stays if stay.symbol not in taken] + _stays_of_movers(movers, tier_id)
    volumes = np.array([stay.volume for stay in stays])
    size = len(stays)
    rank = volumes.argsort().argsort() / size
    products = ["OTC"] * size if tier_id == OTCE.id else ["UTP" if n % 3 else "CTS" for n in range(size)]
    return Universe(
        symbol=np.array([stay.symbol for stay in stays], dtype=object),
        issue=np.array([stay.issue for stay in stays], dtype=object),
        product=np.array(products, dtype=object),
        first_week=np.array([stay.first for stay in stays]),
        last_week=np.array([stay.last for stay in stays]),
        volume=volumes,
        price=np.exp(rng.normal(3.2 if tier_id != OTCE.id else 0.5, 1.1, size)),
        season=np.arange(size) % 97,
        at_ats=_participation(rng, rank, ats_count, shape.ats_rows),
        at_firm=_participation(rng, rank, FIRM_COUNT, shape.firm_rows),
        at_small=rng.random(size) < shape.de_minimis,
        ats_weight=(rng.lognormal(0.0, 1.0, (size, ats_count)) * _weights(ats_count)).astype(np.float32),
        firm_weight=(rng.lognormal(0.0, 1.0, (size, FIRM_COUNT)) * _weights(FIRM_COUNT)).astype(np.float32),
    )


#: A venue trades a well-known symbol in a week about as surely as its part of the volume is above these shares.
_SURE_AT_ATS, _SURE_AT_FIRM = 2_000, 40_000
#: Named firms that trade a well-known symbol, the largest; all others are in its De Minimis group.
_NAMED_FIRMS = 24
#: In FINRA's files of the OTC tier, the ATSs below the three largest trade other symbols than these.
_OTC_ATS = 3


def make_examples(seed: int, tier: Tier, week: int) -> Universe:
    """The well-known symbols and the examples that trade in a tier in a week.

    The venues of a member depend on its issue alone, so that they are the same under another ticker or in another tier.
    """
    found = members(tier, week)
    size = len(found)
    volumes = np.array([member.volume for member in found])
    ats_weight, firm_weight = (
        np.array([_weights_of(seed, member.issue, kind, count) for member in found])
        for kind, count in enumerate((len(ats_of(tier.id)), FIRM_COUNT))
    )
    firm_weight[:, _NAMED_FIRMS:] = 0
    if tier == OTCE:
        ats_weight[:, _OTC_ATS:] = 0
    # Shares that do not change by a split decide where a symbol trades.
    dollars = (volumes * [member.price for member in found])[:, None] / 50
    return Universe(
        symbol=np.array([member.symbol for member in found], dtype=object),
        issue=np.array([member.issue for member in found], dtype=object),
        product=np.array([member.product for member in found], dtype=object),
        first_week=np.full(size, week),
        last_week=np.full(size, week),
        volume=volumes,
        price=np.array([member.price for member in found], dtype=float),
        season=np.array([crc32(member.issue.encode()) % 97 for member in found]),
        at_ats=1 - np.exp(-dollars * ats_weight / _SURE_AT_ATS),
        at_firm=1 - np.exp(-dollars * firm_weight / _SURE_AT_FIRM),
        at_small=np.ones(size, dtype=bool),
        ats_weight=ats_weight,
        firm_weight=firm_weight,
    )


def _weights_of(seed: int, issue: str, kind: int, venues: int) -> np.ndarray:
    """The venues' parts of an issue's volume; they sum to 1."""
    rng = random_stream(seed, 8, crc32(issue.encode()), kind)
    weights = rng.lognormal(0.0, 0.4, venues) * _weights(venues)
    return weights / weights.sum()


def _tickers(number: int, count: int) -> list[str]:
    """Tickers that no other tier has; some differ from another in case alone, as preferred shares do."""
    names = []
    for n in range(count):
        rest, text = n * 3 + number + 1_000, ""
        while rest:
            rest, digit = divmod(rest, 26)
            text = _LETTERS[digit] + text
        names.append(text)
    for n in range(5, count, 40):
        names[n] = f"{names[n - 1]}p{_LETTERS[n % 26]}"  # AACpF, beside AACPF
        if n + 2 < count:
            names[n + 1] = f"{names[n - 1]}P{_LETTERS[n % 26]}"
            names[n + 2] = f"{names[n - 1]}.WS"
    return names


def _movers(seed: int, scale: float) -> list[tuple[str, str, str, int, float]]:
    """Symbols that change tier: symbol, issue, tier before, week of the change, volume."""
    rng = random_stream(seed, 5)
    return [
        (
            f"MV{_LETTERS[n // 26]}{_LETTERS[n % 26]}",
            f"{FIRST_WORDS[n % 44]} Moving {_ISSUES[n % 10]}",
            T2.id if n % 2 else T1.id,
            int(rng.integers(30, 280)),
            float(np.exp(rng.normal(13, 1))),
        )
        for n in range(max(2, round(30 * scale)))
    ]


def _stays_of_movers(movers: list[tuple[str, str, str, int, float]], tier_id: str) -> list[_Stay]:
    """The stays of tier-changing symbols in this tier. In the week of the change, every third is in both."""
    stays = []
    for n, (symbol, issue, before, change, volume) in enumerate(movers):
        after = T1.id if before == T2.id else T2.id
        if tier_id == before:
            stays.append(_Stay(symbol, issue, 0, change - (n % 3 != 0), volume))
        elif tier_id == after:
            stays.append(_Stay(symbol, issue, change, _ALWAYS, volume))
    return stays


def _weights(venues: int) -> np.ndarray:
    """Venues by size: a few large ones, many small ones."""
    return 1.0 / np.arange(1, venues + 1) ** 0.9


def _participation(rng: np.random.Generator, rank: np.ndarray, venues: int, rows: float) -> np.ndarray:
    """How likely each entry trades at each venue in a week, so that the average is ``rows``.

    Liquid symbols trade nearly everywhere, others at the large venues alone; where a symbol trades hardly
    changes from week to week.
    """
    pull = rank[:, None] * 2.2 + np.log(_weights(venues))[None, :] * 0.9 + rng.normal(0, 0.6, (rank.size, venues))
    cut = np.quantile(pull, 1 - min(0.999, rows / venues))
    return (1 / (1 + np.exp(-(pull - cut) * 9))).astype(np.float32)
