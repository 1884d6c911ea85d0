"""Simulated data sets, consistent with the simulated weekly publications: a pure function of (seed, scale, period).

The weekly rows are from ``generator``; serving both is in ``server``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import polars as pl

from otc_assets.domain.datasets import DATASETS, REG_SHO_DAILY, Dataset, trading_days_of
from otc_assets.domain.weeks import T1, T2, week_containing, weeks_between
from otc_assets.finra.simulator.generator import FIRST_WEEK, Simulator, decimal
from otc_assets.finra.simulator.venues import random_stream

#: FINRA offers a rolling year of trading days.
_WINDOW = dt.timedelta(days=365)

_FACILITIES = (("Q", "NQTRF", 0.62), ("N", "NYTRF", 0.26), ("B", "NCTRF", 0.12))
_FRACTIONAL_FROM = dt.date(2026, 2, 23)

#: How much of a symbol's weekly volume the daily data has: trades in regular hours that are publicly disseminated.
_REPORTED, _REPORTED_SPREAD = 0.93, 0.03


def offered(dataset: Dataset, as_of: dt.date) -> list[dt.date]:
    """The periods that are published on a day, newest first."""
    weeks = weeks_between(max(FIRST_WEEK, week_containing(as_of - _WINDOW)), week_containing(as_of))
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


_MAKERS: dict[str, Callable[[Simulator, dt.date], pl.DataFrame]] = {REG_SHO_DAILY.name: _short_volume}
assert _MAKERS.keys() == {dataset.name for dataset in DATASETS}
