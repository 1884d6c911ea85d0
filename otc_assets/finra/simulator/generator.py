"""Publications out of a seed: the same (seed, scale, week, tier, day) gives the same rows, in any process.

Here: what FINRA would publish. Not here: how it is asked for (``server``) and written to files (``files``).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import polars as pl

from otc_assets.domain.schema import AMOUNT, DE_MINIMIS_NAME
from otc_assets.domain.weeks import (
    OTCE,
    T1,
    T2,
    TIERS,
    Tier,
    publication_date,
    trading_days,
    week_containing,
    week_start_of,
)

#: The first week that is offered. Every later one exists, once its day has come.
FIRST_WEEK = dt.date(2021, 12, 10)
#: The Mondays of the 17 weeks that FINRA published twice, under T1 and under NMS.
DOUBLE_WEEKS = frozenset(
    dt.date(2023, month, day)
    for month, days in {
        6: (5, 12, 19, 26),
        7: (10, 17),
        8: (21, 28),
        9: (4, 11, 18),
        10: (2, 9, 16, 23, 30),
        11: (6,),
    }.items()
    for day in days
)
_FRACTIONAL_SHARES_FROM = dt.date(2026, 2, 23)
_DECIMAL_NOTIONAL_FROM = dt.date(2025, 3, 10)

#: FINRA's fields and their types, in the order of the API's replies.
COLUMNS = pl.Schema(
    {
        "weekStartDate": pl.Date,
        "summaryStartDate": pl.Date,
        "tierIdentifier": pl.String,
        "tierDescription": pl.String,
        "issueSymbolIdentifier": pl.String,
        "issueName": pl.String,
        "MPID": pl.String,
        "firmCRDNumber": pl.String,
        "marketParticipantName": pl.String,
        "totalWeeklyShareQuantity": AMOUNT,
        "totalWeeklyTradeCount": pl.Int64,
        "totalNotionalSum": AMOUNT,
        "productTypeCode": pl.String,
        "summaryTypeCode": pl.String,
        "lastUpdateDate": pl.Date,
        "initialPublishedDate": pl.Date,
        "lastReportedDate": pl.Date,
    }
)


@dataclass(frozen=True)
class _Shape:
    """How large a tier is at scale 1, tuned to FINRA's counts of rows."""

    symbols: int
    ats_rows: float  # rows a symbol and week at ATSs, on average
    firm_rows: float  # at non-ATS firms, the De Minimis group left out
    de_minimis: float  # the part of symbols that the De Minimis group trades
    log_volume: float  # mean of the natural logarithm of a symbol's weekly shares


_SHAPES = {
    T1.id: _Shape(2_000, 27.2, 6.9, 0.9, 14.3),
    T2.id: _Shape(10_600, 12.85, 1.3, 0.4, 11.4),
    OTCE.id: _Shape(6_150, 1.5, 0.75, 0.35, 9.4),
}
_ATS_COUNT, _FIRM_COUNT = 42, 120

_FIRST_WORDS = [
    "Granite",
    "Harbor",
    "Juniper",
    "Meridian",
    "Northgate",
    "Orchard",
    "Paragon",
    "Quarry",
    "Ridgeline",
    "Sable",
    "Tamarack",
    "Umber",
    "Vantage",
    "Westlake",
    "Yarrow",
    "Zenith",
    "Alder",
    "Birch",
    "Cobalt",
    "Drift",
    "Ember",
    "Fathom",
    "Gable",
    "Heron",
    "Indigo",
    "Jasper",
    "Kestrel",
    "Lumen",
    "Marlow",
    "Nimbus",
    "Onyx",
    "Pewter",
    "Quill",
    "Rowan",
    "Saffron",
    "Thistle",
    "Ursa",
    "Verdant",
    "Willow",
    "Xylem",
    "Yonder",
    "Zephyr",
    "Amber",
    "Basalt",
]
_SECOND_WORDS = [
    "Point",
    "Crossing",
    "Match",
    "Pool",
    "Link",
    "Cross",
    "Exchange",
    "Liquidity",
    "Book",
    "Square",
    "Harbor",
    "Bridge",
    "Lane",
    "Gate",
]
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
class _Universe:
    """All that ever trades in a tier: parallel arrays, one entry a (symbol, issue, stay in the tier)."""

    symbol: np.ndarray
    issue: np.ndarray
    product: np.ndarray
    first_week: np.ndarray  # in weeks since FIRST_WEEK
    last_week: np.ndarray
    volume: np.ndarray  # shares of an ordinary week
    price: np.ndarray
    at_ats: np.ndarray  # (entry, ATS): how likely it trades there
    at_firm: np.ndarray
    at_small: np.ndarray
    taste_ats: np.ndarray  # (entry, ATS): its share of the entry's volume, not yet normalized
    taste_firm: np.ndarray


class Simulator:
    """A FINRA out of a seed.

    Args:
        seed: which one.
        scale: how large; 1 is FINRA's size, about 264,000 rows a week.
    """

    def __init__(self, seed: int = 2014, scale: float = 1.0) -> None:
        self.seed = seed
        self.scale = scale
        # A page of the API asks for the same publication again and again.
        self._publication = lru_cache(maxsize=4)(self._make)
        self._entries = lru_cache(maxsize=3)(self._make_universe)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    # --- what exists -----------------------------------------------------------------------------------

    def partitions(self, as_of: dt.date) -> list[tuple[dt.date, str]]:
        """(weekStartDate, tierIdentifier) of all that is published on ``as_of``, newest first, doubles included."""
        found = []
        week = week_containing(as_of)
        while week >= FIRST_WEEK:
            for tier in TIERS:
                if publication_date(week, tier) <= as_of:
                    found.append((week_start_of(week), tier.id))
                    if tier == T1 and self.is_double(week):
                        found.append((week_start_of(week), "NMS"))
            week -= dt.timedelta(weeks=1)
        return found

    @staticmethod
    def is_double(week_ending: dt.date) -> bool:
        """Whether the week's T1 publication stands under `NMS` as well."""
        return week_start_of(week_ending) in DOUBLE_WEEKS

    def revisions(self, week_ending: dt.date, tier: Tier) -> list[dt.date]:
        """The days on which the publication is revised: none, for most; one, for about one in twenty."""
        rng = self._rng(1, week_ending.toordinal(), TIERS.index(tier))
        if rng.random() >= 0.05:
            return []
        return [publication_date(week_ending, tier) + dt.timedelta(days=int(rng.integers(2, 165)))]

    def publication(self, week_ending: dt.date, tier: Tier, as_of: dt.date) -> pl.DataFrame | None:
        """All rows of the publication as they stand on ``as_of`` (COLUMNS, all summary types).

        None before the week's publication day, and for weeks before the first.
        """
        if week_ending < FIRST_WEEK or publication_date(week_ending, tier) > as_of:
            return None
        revised = [day for day in self.revisions(week_ending, tier) if day <= as_of]
        return self._publication(week_ending, tier, revised[-1] if revised else None)

    def market_statistics(self, week_ending: dt.date, as_of: dt.date) -> pl.DataFrame | None:
        """The market-wide rows (`*_W_VOL_STATS`, tier `NA`), over the tiers that are out."""
        parts = [self.publication(week_ending, tier, as_of) for tier in TIERS]
        rows = pl.concat([part for part in parts if part is not None]) if any(p is not None for p in parts) else None
        if rows is None:
            return None
        of_symbols = rows.filter(pl.col("summaryTypeCode").is_in(["ATS_W_SMBL", "OTC_W_SMBL"]))
        return _totals(of_symbols, [], pl.col("summaryTypeCode").str.head(3) + "_W_VOL_STATS").with_columns(
            pl.lit("NA").alias("tierIdentifier"), pl.lit("Not Applicable").alias("tierDescription")
        )

    # --- venues ----------------------------------------------------------------------------------------

    @cached_property
    def _ats(self) -> list[tuple[str, str]]:
        rng = self._rng(2)
        letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        venues: dict[str, str] = {}
        while len(venues) < _ATS_COUNT:
            first = _FIRST_WORDS[len(venues) % len(_FIRST_WORDS)]
            second = str(rng.choice(_SECOND_WORDS))
            mpid = (first[:2] + second[0] + str(rng.choice(letters))).upper()
            venues.setdefault(mpid, f"{mpid} {first.upper()} {second.upper()} ATS")
        return list(venues.items())

    @cached_property
    def _firms(self) -> list[tuple[str, str]]:
        rng = self._rng(3)
        crds = sorted({str(n) for n in rng.integers(1_000, 330_000, 4 * _FIRM_COUNT)})[:_FIRM_COUNT]
        odd = [" SECURITIES, LLC", " & CO.", " MARKETS  L.P.", " #1 TRADING!", " CAPITAL (USA) INC."]
        names = [
            f"{_FIRST_WORDS[i % 44].upper()} {_SECOND_WORDS[i % 14].upper()}{odd[i % 5]}" for i in range(len(crds))
        ]
        names[7] = (names[7] + " FOR ITSELF AND AS AGENT OF ITS AFFILIATES " * 5)[:201].rstrip()
        return list(zip(crds, names, strict=True))

    def _ats_of(self, week: int) -> list[tuple[str, str]]:
        """The ATSs by the names they have in a week: one changes its MPID, another its name."""
        venues = list(self._ats)
        if week >= 120:
            old, name = venues[5]
            new = old[:3] + ("T" if old[3] != "T" else "U")
            venues[5] = (new, name.replace(old, new, 1))
        if week >= 160:
            mpid, name = venues[9]
            venues[9] = (mpid, name.replace(" ATS", " BY COBALT"))
        return venues

    # --- symbols ---------------------------------------------------------------------------------------

    def _make_universe(self, tier_id: str) -> _Universe:
        shape = _SHAPES[tier_id]
        number = list(_SHAPES).index(tier_id)
        count = max(12, round(shape.symbols * self.scale))
        rng = self._rng(4, number)
        names = self._symbols(number, count)
        words = rng.integers(0, len(_FIRST_WORDS), (count, 2))
        kinds = rng.integers(0, len(_ISSUES), count)
        issues = [f"{_FIRST_WORDS[a]} {_FIRST_WORDS[b]} {_ISSUES[k]}" for (a, b), k in zip(words, kinds, strict=True)]
        first = np.zeros(count, dtype=np.int64)
        last = np.full(count, 10_000, dtype=np.int64)
        moves = rng.permutation(count)
        listed, gone = moves[: count // 25], moves[count // 25 : count // 12]
        first[listed] = rng.integers(1, 260, listed.size)
        last[gone] = rng.integers(20, 300, gone.size)
        volume = np.exp(rng.normal(shape.log_volume, 1.6, count))
        entries = list(zip(names, issues, first.tolist(), last.tolist(), volume.tolist(), strict=True))
        # A ticker that a new issuer takes over; in the week of the change both trade under it.
        for n in moves[-max(1, count // 400) :].tolist():
            symbol, issue, begin, _, shares = entries[n]
            change = int(rng.integers(40, 280))
            entries[n] = (symbol, issue, begin, change, shares)
            entries.append((symbol, f"Successor {issue}", change, 10_000, shares))
        entries += self._moved_here(tier_id)
        entries = self._without_moved_away(tier_id, entries)
        volumes = np.array([entry[4] for entry in entries])
        size = len(entries)
        rank = volumes.argsort().argsort() / size
        return _Universe(
            symbol=np.array([entry[0] for entry in entries], dtype=object),
            issue=np.array([entry[1] for entry in entries], dtype=object),
            product=np.array(["UTP" if n % 3 else "CTS" for n in range(size)], dtype=object)
            if tier_id != OTCE.id
            else np.array(["OTC"] * size, dtype=object),
            first_week=np.array([entry[2] for entry in entries]),
            last_week=np.array([entry[3] for entry in entries]),
            volume=volumes,
            price=np.exp(rng.normal(3.2 if tier_id != OTCE.id else 0.5, 1.1, size)),
            at_ats=_participation(rng, rank, _ATS_COUNT, shape.ats_rows),
            at_firm=_participation(rng, rank, _FIRM_COUNT, shape.firm_rows),
            at_small=rng.random(size) < shape.de_minimis,
            taste_ats=(rng.lognormal(0.0, 1.0, (size, _ATS_COUNT)) * _weights(_ATS_COUNT)).astype(np.float32),
            taste_firm=(rng.lognormal(0.0, 1.0, (size, _FIRM_COUNT)) * _weights(_FIRM_COUNT)).astype(np.float32),
        )

    @staticmethod
    def _symbols(number: int, count: int) -> list[str]:
        """Tickers that no other tier has; some differ from another in case alone, as preferred shares do."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        names = []
        for n in range(count):
            rest, text = n * 3 + number + 1_000, ""
            while rest:
                rest, digit = divmod(rest, 26)
                text = letters[digit] + text
            names.append(text)
        for n in range(5, count, 40):
            names[n] = f"{names[n - 1]}p{letters[n % 26]}"  # AACpF, beside AACPF
            if n + 2 < count:
                names[n + 1] = f"{names[n - 1]}P{letters[n % 26]}"
                names[n + 2] = f"{names[n - 1]}.WS"
        return names

    def _movers(self) -> list[tuple[str, str, str, int, float]]:
        """Symbols that change tier: symbol, issue, tier before, week of the change, volume."""
        rng = self._rng(5)
        count = max(2, round(30 * self.scale))
        return [
            (
                f"MV{chr(65 + n // 26)}{chr(65 + n % 26)}",
                f"{_FIRST_WORDS[n % 44]} Moving {_ISSUES[n % 10]}",
                T2.id if n % 2 else T1.id,
                int(rng.integers(30, 280)),
                float(np.exp(rng.normal(13, 1))),
            )
            for n in range(count)
        ]

    def _moved_here(self, tier_id: str) -> list[tuple[str, str, int, int, float]]:
        """The stays of tier-changing symbols in this tier. In the week of the change, every third is in both."""
        stays = []
        for n, (symbol, issue, before, change, volume) in enumerate(self._movers()):
            after = T1.id if before == T2.id else T2.id
            if tier_id == before:
                stays.append((symbol, issue, 0, change - (n % 3 != 0), volume))
            elif tier_id == after:
                stays.append((symbol, issue, change, 10_000, volume))
        return stays

    def _without_moved_away(
        self, tier_id: str, entries: list[tuple[str, str, int, int, float]]
    ) -> list[tuple[str, str, int, int, float]]:
        taken = {symbol for symbol, *_ in self._movers()}
        moved = len(self._moved_here(tier_id))
        own = entries[: len(entries) - moved] if moved else entries
        return [e for e in own if e[0] not in taken] + (entries[len(entries) - moved :] if moved else [])

    # --- a publication ---------------------------------------------------------------------------------

    def _make(self, week_ending: dt.date, tier: Tier, revised_on: dt.date | None) -> pl.DataFrame:
        universe = self._entries(tier.id)
        start = week_start_of(week_ending)
        week = (week_ending - FIRST_WEEK).days // 7
        published = publication_date(week_ending, tier)
        rng = self._rng(6, week_ending.toordinal(), TIERS.index(tier))
        listed = np.flatnonzero((universe.first_week <= week) & (week <= universe.last_week))
        # A symbol's volume drifts slowly and jumps now and then; a short week trades less.
        season = np.sin(week / 9.0 + (np.arange(universe.volume.size) % 97)[listed]) * 0.2
        volume = universe.volume[listed] * np.exp(season + rng.normal(0, 0.12, listed.size))
        volume *= trading_days(week_ending) / 5

        parts = []
        for code, likely, taste, part in (
            ("ATS", universe.at_ats, universe.taste_ats, 0.45),
            ("OTC", universe.at_firm, universe.taste_firm, 0.52),
        ):
            there = rng.random((listed.size, likely.shape[1])) < likely[listed]
            entry, venue = np.nonzero(there)
            weight = taste[listed][entry, venue]
            whole = np.bincount(entry, weights=weight, minlength=listed.size)[entry]
            parts.append((code, entry, venue, volume[entry] * part * weight / whole))
        small = np.flatnonzero(universe.at_small[listed])
        parts.append(("SMALL", small, np.zeros(small.size, dtype=np.int64), volume[small] * 0.03))

        rows = [self._rows(universe, listed, week, start, rng, *part) for part in parts]
        firm_rows = self._revise(pl.concat(rows), week_ending, tier, published, revised_on)
        firm_rows = firm_rows.with_columns(
            pl.lit(start).alias("weekStartDate"),
            pl.lit(start).alias("summaryStartDate"),
            pl.lit(tier.id).alias("tierIdentifier"),
            pl.lit(tier.name).alias("tierDescription"),
            pl.lit(published).alias("initialPublishedDate"),
            pl.lit(week_ending).alias("lastReportedDate"),
        )
        side = pl.col("summaryTypeCode").str.head(3)
        by_symbol = _totals(
            firm_rows.with_columns(pl.col("_product").alias("productTypeCode")),
            ["issueSymbolIdentifier", "issueName", "productTypeCode"],
            side + "_W_SMBL",
        )
        by_firm = _totals(firm_rows, ["MPID", "firmCRDNumber", "marketParticipantName"], side + "_W_FIRM")
        everything = pl.concat([firm_rows.select(list(COLUMNS)), by_symbol, by_firm])
        # FINRA gives no order unless asked for one; this one is nobody's.
        return everything.sample(fraction=1.0, shuffle=True, seed=week_ending.toordinal())

    def _rows(
        self,
        universe: _Universe,
        listed: np.ndarray,
        week: int,
        start: dt.date,
        rng: np.random.Generator,
        code: str,
        entry: np.ndarray,
        venue: np.ndarray,
        volume: np.ndarray,
    ) -> pl.DataFrame:
        size = entry.size
        shares = np.maximum(1, np.rint(volume * rng.lognormal(0, 0.15, size))).astype(np.int64)
        micro = shares * 1_000_000
        if code != "ATS" and start >= _FRACTIONAL_SHARES_FROM:
            micro += np.where(rng.random(size) < 0.2, rng.integers(1, 1_000_000, size), 0)
        trades = np.maximum(1, np.minimum(shares, np.rint(shares / rng.lognormal(4.8, 0.5, size)))).astype(np.int64)
        cents = np.maximum(1, np.rint(universe.price[listed][entry] * rng.lognormal(0, 0.02, size) * 100))
        dollars = (micro // 100) * cents.astype(np.int64)  # micro-dollars
        if start < _DECIMAL_NOTIONAL_FROM:
            dollars = (dollars + 500_000) // 1_000_000 * 1_000_000
        if code == "ATS":
            mpids, names = (np.array(column, dtype=object) for column in zip(*self._ats_of(week), strict=True))
            identity = {"MPID": mpids[venue], "firmCRDNumber": None, "marketParticipantName": names[venue]}
        elif code == "OTC":
            crds, names = (np.array(column, dtype=object) for column in zip(*self._firms, strict=True))
            identity = {"MPID": None, "firmCRDNumber": crds[venue], "marketParticipantName": names[venue]}
        else:
            identity = {"MPID": None, "firmCRDNumber": None, "marketParticipantName": DE_MINIMIS_NAME}
        return pl.DataFrame(
            {
                "issueSymbolIdentifier": universe.symbol[listed][entry],
                "issueName": universe.issue[listed][entry],
                "_product": universe.product[listed][entry],
                "_shares": micro,
                "totalWeeklyTradeCount": trades,
                "_dollars": dollars,
            }
        ).with_columns(
            *(
                pl.Series(name, value, dtype=pl.String)
                if isinstance(value, np.ndarray)
                else pl.lit(value, pl.String).alias(name)
                for name, value in identity.items()
            ),
            pl.lit(None, pl.String).alias("productTypeCode"),
            pl.lit("ATS_W_SMBL_FIRM" if code == "ATS" else "OTC_W_SMBL_FIRM").alias("summaryTypeCode"),
            _decimal("_shares", "totalWeeklyShareQuantity"),
            _decimal("_dollars", "totalNotionalSum"),
        )

    def _revise(
        self,
        rows: pl.DataFrame,
        week_ending: dt.date,
        tier: Tier,
        published: dt.date,
        revised_on: dt.date | None,
    ) -> pl.DataFrame:
        """The rows before or after the revision: a few change, one goes, one comes."""
        rows = rows.with_columns(pl.lit(published).alias("lastUpdateDate"))
        if not self.revisions(week_ending, tier):
            return rows
        rng = self._rng(7, week_ending.toordinal(), TIERS.index(tier))
        coming, going, *changing = rng.choice(rows.height, size=min(7, rows.height), replace=False).tolist()
        number = pl.int_range(pl.len())
        if revised_on is None:
            return rows.filter(number != coming)
        factor = pl.when(number.is_in(changing)).then(2).otherwise(1)
        return rows.with_columns(
            (pl.col("totalWeeklyShareQuantity") * factor).cast(AMOUNT).alias("totalWeeklyShareQuantity"),
            (pl.col("totalNotionalSum") * factor).cast(AMOUNT).alias("totalNotionalSum"),
            pl.when(number.is_in([*changing, coming]))
            .then(pl.lit(revised_on))
            .otherwise("lastUpdateDate")
            .alias("lastUpdateDate"),
        ).filter(number != going)


def _weights(venues: int) -> np.ndarray:
    """Venues by size: a few large ones, many small ones."""
    return 1.0 / np.arange(1, venues + 1) ** 0.9


def _participation(rng: np.random.Generator, rank: np.ndarray, venues: int, rows: float) -> np.ndarray:
    """How likely each entry trades at each venue in a week, so that ``rows`` come of it on average.

    Liquid symbols trade nearly everywhere, others at the large venues alone; where a symbol trades hardly
    changes from week to week.
    """
    pull = rank[:, None] * 2.2 + np.log(_weights(venues))[None, :] * 0.9 + rng.normal(0, 0.6, (rank.size, venues))
    cut = np.quantile(pull, 1 - min(0.999, rows / venues))
    return (1 / (1 + np.exp(-(pull - cut) * 9))).astype(np.float32)


def _decimal(micro: str, name: str) -> pl.Expr:
    """Millionths, exact, as a decimal of six places."""
    return (pl.col(micro).cast(AMOUNT) * pl.lit("0.000001").cast(AMOUNT)).cast(AMOUNT).alias(name)


def _totals(rows: pl.DataFrame, by: list[str], code: pl.Expr) -> pl.DataFrame:
    """FINRA's own totals of ``rows``: nothing but their sums."""
    fixed = ["weekStartDate", "summaryStartDate", "tierIdentifier", "tierDescription", "initialPublishedDate"]
    totals = (
        rows.with_columns(code.alias("summaryTypeCode"))
        .group_by("summaryTypeCode", *by, maintain_order=True)
        .agg(
            pl.col(*fixed).first(),
            pl.col("lastReportedDate", "lastUpdateDate").max(),
            pl.col("totalWeeklyShareQuantity", "totalWeeklyTradeCount", "totalNotionalSum").sum(),
        )
    )
    absent = [pl.lit(None, kind).alias(name) for name, kind in COLUMNS.items() if name not in totals.columns]
    return totals.with_columns(absent).select(list(COLUMNS))
