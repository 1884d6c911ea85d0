"""Simulated publications: the same (seed, scale, week, tier, day) gives the same rows, in any process.

Venues, symbols and examples are in modules of their own. ``server`` serves publications, and ``files`` writes them to
files.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache, partial

import numpy as np
import polars as pl

from otc_assets.domain.schema import AMOUNT, DE_MINIMIS_NAME
from otc_assets.domain.weeks import T1, TIERS, Tier, publication_date, trading_days, week_containing, week_start_of
from otc_assets.finra.simulator import examples
from otc_assets.finra.simulator.symbols import Universe, make_examples, make_universe
from otc_assets.finra.simulator.venues import Venue, ats_of, firms, is_open, named_in, random_stream

#: The first week that is offered. Every later one is, from its publication day on.
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


class Simulator:
    """A simulated FINRA.

    Args:
        seed: determines all random numbers.
        scale: its size; 1 is FINRA's size, about 264,000 rows a week.
    """

    def __init__(self, seed: int = 2014, scale: float = 1.0) -> None:
        self.seed = seed
        self.scale = scale
        # Every page of the API reads the same publication.
        self._publication = lru_cache(maxsize=4)(self._generate)
        self._universe = lru_cache(maxsize=3)(partial(make_universe, seed, scale))
        self._firms = firms()

    def partitions(self, as_of: dt.date) -> list[tuple[dt.date, str]]:
        """(weekStartDate, tierIdentifier) of all that is published on ``as_of``, newest first, doubles included."""
        found = []
        week = week_containing(as_of)
        while week >= FIRST_WEEK:
            for tier in TIERS:
                if self.published_on(week, tier) <= as_of:
                    found.append((week_start_of(week), tier.id))
                    if tier == T1 and self.is_double(week):
                        found.append((week_start_of(week), "NMS"))
            week -= dt.timedelta(weeks=1)
        return found

    @staticmethod
    def is_double(week_ending: dt.date) -> bool:
        """Whether the week's T1 publication is published under `NMS` as well."""
        return week_start_of(week_ending) in DOUBLE_WEEKS

    @staticmethod
    def published_on(week_ending: dt.date, tier: Tier) -> dt.date:
        """The day on which the publication appears: that of the calendar, and some days later for one in fifteen."""
        day = publication_date(week_ending, tier)
        is_late = tier == examples.LATE_TIER and _week_number(week_ending) % examples.EVERY == examples.LATE_WEEK
        return day + dt.timedelta(days=examples.LATE_BY_DAYS) if is_late else day

    @staticmethod
    def is_revised_soon(week_ending: dt.date, tier: Tier) -> bool:
        """Whether the publication is the one of five weeks that is revised some days after it was published."""
        return tier == examples.REVISED_TIER and _week_number(week_ending) % examples.EVERY == examples.REVISED_WEEK

    def revisions(self, week_ending: dt.date, tier: Tier) -> list[dt.date]:
        """The days on which the publication is revised: one day for about one in nine, none for the others."""
        published = self.published_on(week_ending, tier)
        if self.is_revised_soon(week_ending, tier):
            return [published + dt.timedelta(days=examples.REVISED_AFTER_DAYS)]
        rng = random_stream(self.seed, 1, week_ending.toordinal(), TIERS.index(tier))
        if rng.random() >= 0.05:
            return []
        return [published + dt.timedelta(days=int(rng.integers(2, 165)))]

    def publication(self, week_ending: dt.date, tier: Tier, as_of: dt.date) -> pl.DataFrame | None:
        """All rows of the publication as of ``as_of`` (COLUMNS, all summary types).

        None before it appears, and for weeks before the first.
        """
        if week_ending < FIRST_WEEK or self.published_on(week_ending, tier) > as_of:
            return None
        revised = [day for day in self.revisions(week_ending, tier) if day <= as_of]
        return self._publication(week_ending, tier, revised[-1] if revised else None)

    def traded(self, week_ending: dt.date, tier: Tier) -> pl.DataFrame:
        """FINRA's totals by symbol of a week, before any revision, whether or not the week is published yet."""
        return self._publication(week_ending, tier, None).filter(
            pl.col("summaryTypeCode").is_in(["ATS_W_SMBL", "OTC_W_SMBL"])
        )

    def rows_of(self, week_ending: dt.date, tier: Tier, summary_type: str) -> pl.DataFrame:
        """The rows of a week with a ``summaryTypeCode``, before any revision."""
        return self._publication(week_ending, tier, None).filter(pl.col("summaryTypeCode") == summary_type)

    def market_statistics(self, week_ending: dt.date, as_of: dt.date) -> pl.DataFrame | None:
        """The market-wide rows (`*_W_VOL_STATS`, tier `NA`), over the tiers that are published."""
        parts = [self.publication(week_ending, tier, as_of) for tier in TIERS]
        rows = pl.concat([part for part in parts if part is not None]) if any(p is not None for p in parts) else None
        if rows is None:
            return None
        of_symbols = rows.filter(pl.col("summaryTypeCode").is_in(["ATS_W_SMBL", "OTC_W_SMBL"]))
        return _totals(of_symbols, [], pl.col("summaryTypeCode").str.head(3) + "_W_VOL_STATS").with_columns(
            pl.lit("NA").alias("tierIdentifier"), pl.lit("Not Applicable").alias("tierDescription")
        )

    def _generate(self, week_ending: dt.date, tier: Tier, revised_on: dt.date | None) -> pl.DataFrame:
        start = week_start_of(week_ending)
        week = _week_number(week_ending)
        published = self.published_on(week_ending, tier)
        universe = self._universe(tier.id).during(week)
        if self.scale >= examples.EXAMPLES_FROM_SCALE:
            universe = universe.followed_by(make_examples(self.seed, tier, week))
        rng = random_stream(self.seed, 6, week_ending.toordinal(), TIERS.index(tier))
        # A symbol's volume drifts slowly and jumps now and then; a short week trades less.
        season = np.sin(week / 9.0 + universe.season) * 0.2
        volume = universe.volume * np.exp(season + rng.normal(0, 0.12, universe.volume.size))
        volume *= trading_days(week_ending) / 5

        parts = []
        for code, probability, weights, share in (
            ("ATS", universe.at_ats * is_open(ats_of(tier.id), week_ending), universe.ats_weight, 0.45),
            ("OTC", universe.at_firm, universe.firm_weight, 0.52),
        ):
            entry, venue = np.nonzero(rng.random(probability.shape) < probability)
            weight = weights[entry, venue]
            total = np.bincount(entry, weights=weight, minlength=volume.size)[entry]
            parts.append((code, entry, venue, volume[entry] * share * weight / total))
        small = np.flatnonzero(universe.at_small)
        parts.append(("SMALL", small, np.zeros(small.size, dtype=np.int64), volume[small] * 0.03))

        rows = [self._rows(universe, rng, week_ending, tier, *part) for part in parts]
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
        # FINRA returns rows in no particular order unless a query asks for one.
        return everything.sample(fraction=1.0, shuffle=True, seed=week_ending.toordinal())

    def _rows(
        self,
        universe: Universe,
        rng: np.random.Generator,
        week_ending: dt.date,
        tier: Tier,
        code: str,
        entry: np.ndarray,
        venue: np.ndarray,
        volume: np.ndarray,
    ) -> pl.DataFrame:
        """The rows of ATSs, of firms or of the De Minimis group.

        Args:
            code: ATS, OTC or SMALL, in that order.
            entry: for each row, the index of its entry in the universe.
            venue: for each row, the index of its venue.
            volume: for each row, the expected number of shares.
        """
        start = week_start_of(week_ending)
        size = entry.size
        shares = np.maximum(1, np.rint(volume * rng.lognormal(0, 0.15, size))).astype(np.int64)
        micro = shares * 1_000_000
        if code != "ATS" and start >= _FRACTIONAL_SHARES_FROM:
            micro += np.where(rng.random(size) < 0.2, rng.integers(1, 1_000_000, size), 0)
        trades = np.maximum(1, np.minimum(shares, np.rint(shares / rng.lognormal(4.8, 0.5, size)))).astype(np.int64)
        cents = np.maximum(1, np.rint(universe.price[entry] * rng.lognormal(0, 0.02, size) * 100))
        dollars = (micro // 100) * cents.astype(np.int64)  # micro-dollars
        if start < _DECIMAL_NOTIONAL_FROM:
            dollars = (dollars + 500_000) // 1_000_000 * 1_000_000
        if code == "ATS":
            mpids, names = _arrays(named_in(ats_of(tier.id), _week_number(week_ending)))
            identity = {"MPID": mpids[venue], "firmCRDNumber": None, "marketParticipantName": names[venue]}
        elif code == "OTC":
            crds, names = _arrays(self._firms)
            identity = {"MPID": None, "firmCRDNumber": crds[venue], "marketParticipantName": names[venue]}
        else:
            identity = {"MPID": None, "firmCRDNumber": None, "marketParticipantName": DE_MINIMIS_NAME}
        return pl.DataFrame(
            {
                "issueSymbolIdentifier": universe.symbol[entry],
                "issueName": universe.issue[entry],
                "_product": universe.product[entry],
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
            decimal("_shares", "totalWeeklyShareQuantity"),
            decimal("_dollars", "totalNotionalSum"),
        )

    def _revise(
        self,
        rows: pl.DataFrame,
        week_ending: dt.date,
        tier: Tier,
        published: dt.date,
        revised_on: dt.date | None,
    ) -> pl.DataFrame:
        """The rows before or after the revision: a few change, one is removed, one is added.

        Those of the example are of one symbol.
        """
        rows = rows.with_columns(pl.lit(published).alias("lastUpdateDate"))
        if not self.revisions(week_ending, tier):
            return rows
        rng = random_stream(self.seed, 7, week_ending.toordinal(), TIERS.index(tier))
        candidates = np.arange(rows.height)
        if self.is_revised_soon(week_ending, tier):
            of_symbol = np.flatnonzero(rows["issueSymbolIdentifier"] == examples.REVISED_SYMBOL)
            candidates = of_symbol if of_symbol.size else candidates
        added, removed, *changed = rng.choice(candidates, size=min(7, candidates.size), replace=False).tolist()
        number = pl.int_range(pl.len())
        if revised_on is None:
            return rows.filter(number != added)
        factor = pl.when(number.is_in(changed)).then(2).otherwise(1)
        return rows.with_columns(
            (pl.col("totalWeeklyShareQuantity") * factor).cast(AMOUNT).alias("totalWeeklyShareQuantity"),
            (pl.col("totalNotionalSum") * factor).cast(AMOUNT).alias("totalNotionalSum"),
            pl.when(number.is_in([*changed, added]))
            .then(pl.lit(revised_on))
            .otherwise("lastUpdateDate")
            .alias("lastUpdateDate"),
        ).filter(number != removed)


def _week_number(week_ending: dt.date) -> int:
    """The number of weeks since the first."""
    return (week_ending - FIRST_WEEK).days // 7


def _arrays(venues: list[Venue]) -> tuple[np.ndarray, np.ndarray]:
    ids, names = zip(*venues, strict=True)
    return np.array(ids, dtype=object), np.array(names, dtype=object)


def decimal(micro: str, name: str) -> pl.Expr:
    """Millionths, exact, as a decimal of six places."""
    return (pl.col(micro).cast(AMOUNT) * pl.lit("0.000001").cast(AMOUNT)).cast(AMOUNT).alias(name)


def _totals(rows: pl.DataFrame, by: list[str], code: pl.Expr) -> pl.DataFrame:
    """FINRA's own totals of ``rows``, which are their sums."""
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
