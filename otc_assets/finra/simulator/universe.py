"""The invented market: securities, what becomes of them over the years, and who trades them.

Here: everything of a simulated FINRA that doesn't depend on the week, and pure functions of the week's
number for what does slowly (listings, tier moves, renamings, drift). Not here: a week's rows (``generator``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otc_assets.finra.simulator.venues import Venue, all_venues

#: Securities at scale 1, by home tier (T1, T2, OTCE).
SECURITIES = (2_000, 11_000, 6_550)
#: Rows of one symbol at one venue that a week has at scale 1, by home tier: ATS, and non-ATS with De Minimis.
ATS_ROWS = (55_500, 129_500, 5_900)
NON_ATS_ROWS = (13_000, 17_300, 8_000)

_LOG_VOLUME = ((15.4, 1.1), (12.2, 1.7), (10.4, 2.1))  # of shares a week, off exchange
_LOG_PRICE = ((4.4, 0.8), (3.1, 0.8), (0.2, 1.7))
#: How much of a pair's being traded is chance of the week, against what is lasting about it.
_CHANCE = 0.3
_CHANCE_LIMIT = 3.0

_HEADS = (
    "Alderbrook", "Basaltic", "Cindermere", "Driftwood", "Emberlyn", "Fernhollow", "Gossamer", "Hollowell",
    "Ironquay", "Jadewick", "Kelpstone", "Lumenfield", "Mossgrove", "Nimbusar", "Opaline", "Pinecrest Vale",
    "Quartzley", "Ravensmoor", "Sablewood", "Tidewrack", "Umberly", "Velloria", "Wyvernia", "Yewbarrow", "Zirconis",
)  # fmt: skip
_MIDDLES = (
    "Robotics", "Therapeutics", "Mining & Minerals", "Bancorp", "Energy", "Data Systems", "Foods", "Logistics",
    "Realty Trust", "Semiconductor", "Biologics", "Airways", "Holdings", "Water  Works", "Acquisition #2",
    "Networks", "Pharma", "Rail", "Insurance", "Media", "Index ETF", "Yahtzee! Games", "Ca$h Lending",
)  # fmt: skip
_TAILS = (
    "Inc. Common Stock", "Corp. Common Shares", "Ltd. Ordinary Shares", "plc ADR (Cayman Islands)",
    "Co., Class A", "Group, N.V.", "S.A. Unsponsored ADR", "Trust, Units of Beneficial Interest",
)  # fmt: skip
_RIDER = ", each representing one-half of one Depositary Share, $0.0001 par value, with contingent value rights"
LONGEST_NAME = 201

_T1, _T2, _OTCE = range(3)
_PREFERRED = "pABCDEFGHIJ"


def _letters(number: int, length: int, salt: int) -> str:
    """Another ticker of ``length`` letters for each number, in no visible order."""
    space = 26**length
    value = (number * 7_919 + salt) % space  # 7919 is prime to 26: a bijection of the space
    out = []
    for _ in range(length):
        value, digit = divmod(value, 26)
        out.append(chr(65 + digit))
    return "".join(out)


@dataclass(frozen=True)
class Listing:
    """Securities of one tier in one week: parallel arrays.

    ``slot`` is the place in the market, ``generation`` counts the securities that stood in it one after
    another, ``part`` is how much of the place's volume the row's security has in this tier.
    """

    slot: NDArray[np.int64]
    generation: NDArray[np.int64]
    part: NDArray[np.float64]


class Universe:
    """A market made of ``seed`` and ``scale``.

    A *slot* is a lasting place in the market. Most hold one security for ever; some hold securities one
    after another, a few of which share their ticker; a few move between T1 and T2 and back.
    """

    def __init__(self, seed: int, scale: float) -> None:
        self.venues: tuple[Venue, ...] = all_venues()
        self.is_ats = np.array([venue.mpid is not None for venue in self.venues])
        self._seed = seed
        rng = np.random.default_rng([seed, 1])
        # Eight securities are enough for every special case to have one.
        counts = [max(8, round(count * scale)) for count in SECURITIES]
        self.home = np.repeat(np.arange(3), counts)
        self.local = np.concatenate([np.arange(count) for count in counts])
        self._counts = counts
        slots = self.home.size

        liquidity = rng.standard_normal(slots)
        volume = np.array(_LOG_VOLUME)[self.home]
        self.log_volume = volume[:, 0] + volume[:, 1] * liquidity
        price = np.array(_LOG_PRICE)[self.home]
        self.price = np.clip(np.exp(price[:, 0] + price[:, 1] * rng.standard_normal(slots)), 0.0004, 4_000)
        self.ats_part = np.clip(0.3 + 0.08 * rng.standard_normal(slots), 0.08, 0.6)
        self._drift_phase = rng.uniform(0, 2 * np.pi, (2, slots))
        self._drift_period = rng.uniform(30, 160, (2, slots))
        self._venue_phase = rng.uniform(0, 2 * np.pi, len(self.venues))
        self._venue_period = rng.uniform(60, 200, len(self.venues))

        local, home = self.local, self.home
        cyclic = ((home == _T1) & (local % 50 == 5)) | ((home != _T1) & (local % 10 == 1))
        self.life = np.where(cyclic, rng.integers(30, 220, slots), 0)
        self.life_phase = rng.integers(0, 220, slots)
        self.reuses_ticker = cyclic & (local // 10 % 4 == 0)
        mover = (home == _T1) & (local % 150 == 2)
        self.move_every = np.where(mover, rng.integers(30, 90, slots), 0)
        self.move_phase = rng.integers(0, 90, slots)
        self.moves_mid_week = mover & (local % 300 == 2)
        renamed = local % 40 == 6
        self.renamed_from = np.where(renamed, rng.integers(20, 240, slots), np.iinfo(np.int64).max)
        self.product_type = np.where(home == _OTCE, "", np.where(rng.random(slots) < 0.45, "UTP", "CTS"))

        self._lay_pairs(rng, liquidity, scale)
        self._names: dict[tuple[int, int, bool], tuple[str, str]] = {}
        self.first_names = [self._name(slot, 0, False) for slot in range(slots)]

    def _lay_pairs(self, rng: np.random.Generator, liquidity: NDArray[np.float64], scale: float) -> None:
        """Settles which (slot, venue) pairs may trade, as arrays sorted by slot, then venue."""
        venue_count = len(self.venues)
        tables = {
            "weight": ([v.nms_weight for v in self.venues], [v.otc_weight for v in self.venues]),
            "reach": ([v.nms_reach for v in self.venues], [v.otc_reach for v in self.venues]),
        }
        with np.errstate(divide="ignore"):
            log_weight, log_reach = (np.log(np.array(tables[name])) for name in ("weight", "reach"))
        slot_parts, venue_parts, margin_parts, weight_parts, size_parts = [], [], [], [], []
        start = 0
        for tier, count in enumerate(self._counts):
            otc = int(tier == _OTCE)
            shape = (count, venue_count)
            lasting = log_reach[otc] * 0.45 + 0.9 * liquidity[start : start + count, None]
            lasting = lasting + 0.7 * rng.standard_normal(shape, dtype=np.float32)
            trial = lasting + _CHANCE * self._chance(rng.standard_normal(shape, dtype=np.float32))
            margin = np.empty(shape, dtype=np.float32)
            for kind, wanted in ((self.is_ats, ATS_ROWS[tier]), (~self.is_ats, NON_ATS_ROWS[tier])):
                values = np.sort(trial[:, kind], axis=None)
                rows = round(wanted * count / SECURITIES[tier])
                margin[:, kind] = lasting[:, kind] - values[max(0, values.size - rows)]
            slot, venue = np.nonzero(margin > -_CHANCE * _CHANCE_LIMIT)
            slot_parts.append(slot + start)
            venue_parts.append(venue)
            margin_parts.append(margin[slot, venue])
            weight_parts.append(log_weight[otc][venue] + 0.6 * rng.standard_normal(slot.size))
            size_parts.append(
                np.where(self.is_ats[venue], 4.9, 4.5) + 1.6 * otc + 0.7 * rng.standard_normal(slot.size)
            )
            start += count
        self.pair_slot = np.concatenate(slot_parts)
        self.pair_venue = np.concatenate(venue_parts)
        self.pair_margin = np.concatenate(margin_parts)
        self.pair_log_weight = np.concatenate(weight_parts).astype(np.float32)
        self.pair_log_size = np.concatenate(size_parts).astype(np.float32)
        self.slot_start = np.searchsorted(self.pair_slot, np.arange(start + 1))

    @staticmethod
    def _chance(normal: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.clip(normal, -_CHANCE_LIMIT, _CHANCE_LIMIT)

    def pair_trades(self, pair: NDArray[np.int64], normal: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the pairs trade in a week with these chances (standard normal numbers)."""
        return self.pair_margin[pair] + _CHANCE * self._chance(normal) > 0

    def venue_drift(self, week_number: int) -> NDArray[np.float64]:
        """Log factor of each venue's weight in the week: slow, so that shares move slowly."""
        return 0.18 * np.sin(2 * np.pi * week_number / self._venue_period + self._venue_phase)

    def volume_drift(self, slot: NDArray[np.int64], week_number: int) -> NDArray[np.float64]:
        """Log factor of each slot's volume in the week."""
        angle = 2 * np.pi * week_number / self._drift_period[:, slot] + self._drift_phase[:, slot]
        return np.array([0.35, 0.2]) @ np.sin(angle)

    def listing(self, tier: int, week_number: int) -> Listing:
        """The securities of a tier (0 T1, 1 T2, 2 OTCE) in a week."""
        life = np.maximum(self.life, 1)
        age = week_number + self.life_phase
        generation = np.where(self.life > 0, age // life, 0)
        in_life = np.where(self.life > 0, age % life, 1 << 30)
        # Between one security and the next under another ticker lie three weeks without either.
        listed = (in_life >= 3) | self.reuses_ticker | (generation == 0)

        move_every = np.maximum(self.move_every, 1)
        moves = week_number + self.move_phase
        moved_up = self.move_every > 0
        now = np.where(moved_up, np.where((moves // move_every) % 2 == 1, _T2, _T1), self.home)
        in_both = self.moves_mid_week & (moves % move_every == 0) & (tier != _OTCE)
        part = np.where(in_both, np.where(now == tier, 0.4, 0.6), 1.0)
        slot = np.flatnonzero(listed & ((now == tier) | in_both))

        # In the week in which another security takes over a ticker, both trade.
        overlap = slot[self.reuses_ticker[slot] & (in_life[slot] == 0) & (generation[slot] > 0)]
        return Listing(
            slot=np.concatenate([slot, overlap]),
            generation=np.concatenate([generation[slot], generation[overlap] - 1]),
            part=np.concatenate([part[slot], part[overlap] * 0.3]),
        )

    def names(self, listing: Listing, week_number: int) -> tuple[list[str], list[str]]:
        """Symbols and issue names of a listing."""
        symbols, issues = [], []
        renamed = week_number >= self.renamed_from[listing.slot]
        for slot, generation, other in zip(
            listing.slot.tolist(), listing.generation.tolist(), renamed.tolist(), strict=True
        ):
            if generation or other:
                key = (slot, generation, other)
                if key not in self._names:
                    self._names[key] = self._name(*key)
                symbol, issue = self._names[key]
            else:
                symbol, issue = self.first_names[slot]
            symbols.append(symbol)
            issues.append(issue)
        return symbols, issues

    def _name(self, slot: int, generation: int, renamed: bool) -> tuple[str, str]:
        tier, local = int(self.home[slot]), int(self.local[slot])
        ticker_generation = 0 if self.reuses_ticker[slot] else generation
        symbol = self._symbol(tier, local, ticker_generation)
        pick = (slot * 2_654_435_761 + generation * 40_503 + self._seed) % (1 << 32)
        head = _HEADS[pick % len(_HEADS)]
        middle = _MIDDLES[pick // 31 % len(_MIDDLES)]
        tail = _TAILS[pick // 977 % len(_TAILS)]
        issue = f"{head} {middle} {tail}"
        if renamed:
            issue = f"{head} Global {middle}, {tail}"
        if local % 400 == 4:
            issue = (issue + _RIDER * 2)[:LONGEST_NAME]
        return symbol, issue

    def _symbol(self, tier: int, local: int, generation: int) -> str:
        number = local + generation * self._counts[tier]
        if tier == _T1:
            return _letters(number, 3, self._seed) + (".B" if local % 200 == 3 else "")
        if tier == _OTCE:
            return _letters(number, 4, self._seed + 1) + "FYFF"[local % 4]
        if local % 200 == 7:  # a common share whose ticker is the upper case of a preferred share's
            return (_letters(number - 4, 3, self._seed + 2) + _PREFERRED[0] + "D").upper()
        if local % 200 == 3:
            return _letters(number, 3, self._seed + 2) + _PREFERRED[0] + "D"
        if local % 40 == 3:
            return _letters(number, 3, self._seed + 3) + _PREFERRED[0] + _PREFERRED[1 + local // 40 % 10]
        if local % 40 == 4:
            return _letters(number, 4, self._seed) + ".WS"
        if local % 40 == 5:
            return _letters(number, 4, self._seed) + ".U"
        return _letters(number, 4, self._seed)
