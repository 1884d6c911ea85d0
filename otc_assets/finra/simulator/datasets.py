"""Simulated data sets, consistent with the simulated weekly publications: a pure function of (seed, scale, period).

The weekly rows are from ``generator``; serving both is in ``server``.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from otc_assets.domain.datasets import (
    ATS_BLOCKS,
    DATASETS,
    MONTHLY_SUMMARY,
    OTC_BLOCKS,
    REG_SHO_DAILY,
    SHORT_INTEREST,
    THRESHOLD_LIST,
    Dataset,
)
from otc_assets.domain.enums import MonthRow
from otc_assets.domain.estimates import short_interest_spelling
from otc_assets.domain.firm_month import TIERS_OF
from otc_assets.domain.periods import settlement_dates_of, trading_days_of, weeks_of_month
from otc_assets.domain.weeks import OTCE, T1, T2, TIERS, Tier, week_containing, weeks_between
from otc_assets.finra.simulator.generator import FIRST_WEEK, Simulator, decimal
from otc_assets.finra.simulator.venues import random_stream

#: FINRA offers a rolling year of trading days, and short interest since 2017: since the simulator's first week, here.
_WINDOW = {REG_SHO_DAILY.name: dt.timedelta(days=365)}

_FACILITIES = (("Q", "NQTRF", 0.62), ("N", "NYTRF", 0.26), ("B", "NCTRF", 0.12))
_FRACTIONAL_FROM = dt.date(2026, 2, 23)

#: How much of a symbol's weekly volume the daily data has: trades in regular hours that are publicly disseminated.
_REPORTED, _REPORTED_SPREAD = 0.93, 0.03


def offered(dataset: Dataset, as_of: dt.date) -> list[dt.date]:
    """The periods that are published on a day, newest first."""
    # Two months after the first week: a settlement date needs the one before it, and a month all of its weeks.
    first, window = FIRST_WEEK + dt.timedelta(weeks=8), _WINDOW.get(dataset.name, as_of - FIRST_WEEK)
    weeks = weeks_between(max(first, week_containing(as_of - window)), week_containing(as_of))
    return [day for week in weeks for day in dataset.periods(week) if dataset.due(day).date() <= as_of][::-1]


def rows(simulator: Simulator, dataset: Dataset, period: dt.date) -> pl.DataFrame:
    """The rows of a period, with FINRA's names."""
    return _MAKERS[dataset.name](simulator, period).select([field.name for field in dataset.fields])


def _weekly_volume(simulator: Simulator, week_ending: dt.date) -> pl.DataFrame:
    """Each listed symbol's volume of a week, by symbol: as it will be published."""
    parts = [simulator.traded(week_ending, tier) for tier in (T1, T2)]
    return (
        pl.concat(parts)
        .group_by("issueSymbolIdentifier")
        .agg(pl.col("totalWeeklyShareQuantity").cast(pl.Float64).sum().alias("shares"))
        .sort("issueSymbolIdentifier")
    )


def _short_volume(simulator: Simulator, day: dt.date) -> pl.DataFrame:
    week = week_containing(day)
    weekly = _weekly_volume(simulator, week)
    days = trading_days_of(week)
    rng = random_stream(simulator.seed, 8, week.toordinal())
    size = weekly.height
    fraction = np.clip(rng.normal(_REPORTED, _REPORTED_SPREAD, size), 0.5, 1.0)
    per_day = rng.dirichlet(np.full(len(days), 40.0), size)[:, days.index(day)]
    volume = weekly["shares"].to_numpy() * fraction * per_day
    rng = random_stream(simulator.seed, 9, day.toordinal())
    symbols = weekly["issueSymbolIdentifier"].str.replace(".", "/", literal=True)
    parts = []
    for code, facility, share in _FACILITIES:
        shares = np.rint(volume * share * rng.lognormal(0, 0.05, size))
        micro = shares.astype(np.int64) * 1_000_000
        if day >= _FRACTIONAL_FROM:
            micro += np.where(rng.random(size) < 0.2, rng.integers(1, 1_000_000, size), 0)
        short = (micro * np.clip(rng.normal(0.48, 0.08, size), 0.02, 0.98)).astype(np.int64) // 1_000_000 * 1_000_000
        exempt = (short * rng.random(size) * 0.01).astype(np.int64) // 1_000_000 * 1_000_000
        frame = pl.DataFrame(
            {
                "tradeReportDate": pl.Series([day] * size, dtype=pl.Date),
                "securitiesInformationProcessorSymbolIdentifier": symbols,
                "marketCode": [code] * size,
                "reportingFacilityCode": [facility] * size,
                "_short": short,
                "_exempt": exempt,
                "_total": micro,
            }
        ).with_columns(
            decimal("_short", "shortParQuantity"),
            decimal("_exempt", "shortExemptParQuantity"),
            decimal("_total", "totalParQuantity"),
        )
        parts.append(frame.filter(pl.col("totalParQuantity") > 0))
    return pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=day.toordinal())


def _average(simulator: Simulator, settled: dt.date) -> pl.DataFrame:
    """Each symbol's name and average daily volume, over the week of a settlement date and the week before."""
    weeks = [week_containing(settled) - dt.timedelta(weeks=n) for n in (1, 0)]
    days = sum(len(trading_days_of(week)) for week in weeks)
    totals = pl.concat(simulator.traded(week, tier) for week in weeks for tier in TIERS)
    by_symbol = totals.group_by("issueSymbolIdentifier").agg(
        pl.col("issueName").sort().first(),
        pl.col("tierIdentifier").sort().first(),
        pl.col("totalWeeklyShareQuantity").cast(pl.Float64).sum().alias("shares"),
    )
    # Which share of a symbol's trading is off exchange hardly changes.
    chance = pl.col("issueSymbolIdentifier").map_elements(lambda text: zlib.crc32(text.encode()) / 2**32, pl.Float64)
    return by_symbol.with_columns(chance.alias("chance")).select(
        short_interest_spelling(pl.col("issueSymbolIdentifier")).alias("symbolCode"),
        "issueName",
        "tierIdentifier",
        "chance",
        (pl.col("shares") / days / (0.3 + 0.3 * pl.col("chance"))).ceil().cast(pl.Int64).alias("average"),
    )  # fmt: skip


def _positions(simulator: Simulator, settled: dt.date) -> pl.DataFrame:
    wave = (pl.col("chance") * 50 + settled.toordinal() / 20).sin()
    position = (pl.col("average") * (0.5 + 6 * pl.col("chance")) * (1 + 0.15 * wave)).floor().cast(pl.Int64)
    return _average(simulator, settled).with_columns(position.alias("position"))


def _short_interest(simulator: Simulator, settled: dt.date) -> pl.DataFrame:
    before = week_containing(settled)
    while not (dates := [day for day in settlement_dates_of(before) if day < settled]):
        before -= dt.timedelta(weeks=1)
    previous = _positions(simulator, dates[-1]).select("symbolCode", pl.col("position").alias("previous"))
    change, is_otc = pl.col("position") - pl.col("previous"), pl.col("tierIdentifier") == OTCE.id
    return (
        _positions(simulator, settled)
        .join(previous, on="symbolCode", how="left")
        .with_columns(pl.col("previous").fill_null(0))
        .unique("symbolCode", keep="first", maintain_order=True)
        .select(
            pl.lit(settled).alias("settlementDate"),
            "symbolCode",
            "issueName",
            pl.when(is_otc).then(pl.lit("OTC")).otherwise(pl.lit("NYSE")).alias("marketClassCode"),
            pl.when(is_otc).then(pl.lit("S")).otherwise(pl.lit("A")).alias("issuerServicesGroupExchangeCode"),
            pl.lit(f"{settled:%Y%m%d}").alias("accountingYearMonthNumber"),
            pl.col("position").alias("currentShortPositionQuantity"),
            pl.col("previous").alias("previousShortPositionQuantity"),
            change.alias("changePreviousNumber"),
            pl.when(pl.col("previous") > 0).then((change / pl.col("previous") * 100).round(2)).otherwise(100.0)
            .alias("changePercent"),
            pl.col("average").alias("averageDailyVolumeQuantity"),
            (pl.col("position") / pl.col("average")).round(2).clip(1, 999.99).alias("daysToCoverQuantity"),
            pl.when((pl.col("chance") * 1e6 + settled.toordinal()).floor() % 400 == 0).then(pl.lit("S"))
            .alias("stockSplitFlag"),
            pl.lit(None, pl.String).alias("revisionFlag"),
        )
    )  # fmt: skip


def _threshold_list(simulator: Simulator, day: dt.date) -> pl.DataFrame:
    """The first OTC symbol, always, and about one in fifty of the others, each for some weeks at a time."""
    symbols = simulator.traded(week_containing(day), OTCE).unique("issueSymbolIdentifier").sort("issueSymbolIdentifier")
    chance = symbols["issueSymbolIdentifier"].map_elements(lambda s: zlib.crc32(s.encode()) % 50, pl.Int64)
    listed = symbols.filter(((chance + day.toordinal() // 23) % 50 == 0) | (pl.int_range(pl.len()) == 0))
    is_sho = pl.col("issueSymbolIdentifier").map_elements(lambda s: zlib.crc32(s.encode()) % 3 > 0, pl.Boolean)
    return listed.select(
        pl.lit(day).alias("tradeDate"),
        "issueSymbolIdentifier",
        "issueName",
        pl.lit("OTC").alias("marketClassCode"),
        pl.lit("Other OTC").alias("marketCategoryDescription"),
        pl.when(is_sho).then(pl.lit("R")).otherwise(pl.lit("NR")).alias("thresholdListFlag"),
        pl.when(is_sho).then(pl.lit("Y")).otherwise(pl.lit("N")).alias("regShoThresholdFlag"),
        pl.when(is_sho).then(pl.lit("N")).otherwise(pl.lit("Y")).alias("rule4320Flag"),
    )


#: By category, which part of a venue's volume is in blocks of it, and how many shares a block has.
_BLOCKS = {
    "2K": (0.06, 3_500, "2K to 10K Shares"),
    "10K": (0.08, 24_000, "10K+ Shares"),
    "100K": (0.04, 1_900, "$100K to $200K"),
    "200K": (0.09, 9_000, "$200K+"),
    "10K-200K": (0.05, 26_000, "10K+ Shares AND $200K+"),
    "2K-100K": (0.02, 3_800, "2K to 10K Shares AND $100K to $200K"),
}


def _month_of(
    simulator: Simulator, month: dt.date, tiers: Sequence[Tier], summary_type: str, by: list[str]
) -> pl.DataFrame:
    """The volume, trades and value of a month by some columns, from rows with a ``summaryTypeCode``.

    Whole weeks as published, and of the others about as many days as are in the month.
    """
    parts = []
    measures = ["totalWeeklyShareQuantity", "totalWeeklyTradeCount", "totalNotionalSum"]
    for week in weeks_of_month(month):
        days = trading_days_of(week)
        inside = sum(day.month == month.month for day in days)
        rows = pl.concat(simulator.rows_of(week, tier, summary_type) for tier in tiers).sort(*by, "tierIdentifier")
        rng = random_stream(simulator.seed, 10, week.toordinal())
        part = rng.uniform(0.8, 1.2, rows.height).clip(0, len(days) / max(inside, 1)) * inside / len(days)
        if inside < len(days):
            rows = rows.with_columns(
                (pl.col(name).cast(pl.Float64) * pl.Series(part)).floor().cast(rows.schema[name]) for name in measures
            )
        parts.append(rows.select(*by, pl.col("marketParticipantName").alias("_name"), *measures))
    return (
        pl.concat(parts)
        .group_by(by, maintain_order=True)
        .agg(pl.col("_name").last(), pl.col(measures).sum())
        .filter(pl.col("totalWeeklyTradeCount") > 0)
        .sort(by)
    )


def _monthly(simulator: Simulator, month: dt.date) -> pl.DataFrame:
    """Each firm's month in each symbol, with FINRA's totals."""
    symbol, firm = ["issueSymbolIdentifier", "issueName"], ["firmCRDNumber", "_name"]
    parts = []
    for market, tiers in TIERS_OF.items():
        rows = _month_of(simulator, month, tiers, "OTC_W_SMBL_FIRM", [*symbol, "firmCRDNumber"])
        # At FINRA, the De Minimis group has the number 0 in monthly data.
        rows = rows.with_columns(pl.col("firmCRDNumber").fill_null("0"))
        for kind, by in (
            (MonthRow.SYMBOL_FIRM, [*symbol, *firm]),
            (MonthRow.SYMBOL, symbol),
            (MonthRow.FIRM, firm),
            (MonthRow.TOTAL, []),
        ):
            sums = pl.col("^total.*$").sum()
            totals = rows.group_by(by, maintain_order=True).agg(sums) if by else rows.select(sums)
            absent = [pl.lit(None, pl.String).alias(name) for name in (*symbol, *firm) if name not in by]
            parts.append(
                totals.with_columns(
                    *absent,
                    pl.lit(market.value).alias("tierIdentifier"),
                    pl.lit(kind.value).alias("summaryTypeCode"),
                ).select(*symbol, *firm, "tierIdentifier", "summaryTypeCode", pl.col("^total.*$"))
            )
    published = pl.lit(MONTHLY_SUMMARY.due(month).date())
    return pl.concat(parts).with_columns(
        pl.lit(month).alias("monthStartDate"),
        pl.col("_name").alias("marketParticipantName"),
        pl.lit(None, pl.String).alias("productTypeCode"),
        pl.col("totalWeeklyTradeCount").alias("totalMonthlyTradeCount"),
        pl.col("totalWeeklyShareQuantity").alias("totalMonthlyShareQuantity"),
        published.alias("lastUpdateDate"),
        published.alias("initialPublishedDate"),
    )


def _blocks(simulator: Simulator, dataset: Dataset, month: dt.date) -> pl.DataFrame:
    is_ats = dataset is ATS_BLOCKS
    code, by = ("ATS", "MPID") if is_ats else ("OTC", "marketParticipantName")
    venues = _month_of(simulator, month, (T1, T2), f"{code}_W_FIRM", [by])
    factor = random_stream(simulator.seed, 11, month.toordinal()).uniform(0.2, 2.0, venues.height)
    shares, trades = pl.col("totalWeeklyShareQuantity"), pl.col("totalWeeklyTradeCount")
    published = dataset.due(month).date()
    parts = []
    for category, (part, size, name) in _BLOCKS.items():
        volume = shares.cast(pl.Float64) * pl.Series(part * factor)
        blocks = pl.min_horizontal((volume / size).floor().cast(pl.Int64), trades)
        parts.append(
            venues.select(
                pl.lit(month).alias("monthStartDate"),
                pl.col(by).alias("MPID" if is_ats else "crdFirmName"),
                pl.col("_name").alias("marketParticipantName"),
                pl.lit(category).alias("summaryTypeCode"),
                pl.lit(name).alias("summaryTypeDescription"),
                trades.alias("totalTradeCount"),
                shares.alias("totalShareQuantity"),
                blocks.alias(f"{code}BlockCount"),
                pl.when(blocks > 0).then(volume.floor()).otherwise(0).cast(pl.Int64).alias(f"{code}BlockQuantity"),
                pl.lit(published).alias("lastUpdateDate"),
                pl.lit(published).alias("initialPublishedDate"),
            )
        )
    return pl.concat(parts)


_MAKERS: dict[str, Callable[[Simulator, dt.date], pl.DataFrame]] = {
    REG_SHO_DAILY.name: _short_volume,
    SHORT_INTEREST.name: _short_interest,
    THRESHOLD_LIST.name: _threshold_list,
    ATS_BLOCKS.name: lambda simulator, month: _blocks(simulator, ATS_BLOCKS, month),
    OTC_BLOCKS.name: lambda simulator, month: _blocks(simulator, OTC_BLOCKS, month),
    MONTHLY_SUMMARY.name: _monthly,
}
assert _MAKERS.keys() == {dataset.name for dataset in DATASETS}
