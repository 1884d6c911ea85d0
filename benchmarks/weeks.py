"""Full-size weeks for the benchmarks, made by the simulator and kept on disk between runs.

A week has 235,000 rows of venue volume, and everything that the domain computes from them. The newest 130 weeks are
distinct; in five years each of them occurs twice, the second time 130 weeks earlier, because generating one takes some
seconds. They are in the folder ``otc-bench-weeks`` of the temporary folder, and may be deleted.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import httpx
import polars as pl

from otc_assets.domain.normalize import normalize
from otc_assets.domain.parsing import parse
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES, figures
from otc_assets.domain.weeks import TIERS, weeks_up_to
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator.generator import FIRST_WEEK, Simulator
from otc_assets.finra.simulator.server import make_app

FIVE_YEARS = 260
DISTINCT = 130
NEWEST = FIRST_WEEK + dt.timedelta(weeks=FIVE_YEARS - 1)
#: By then the newest week is out, and FINRA's first revisions of it are not.
TODAY = NEWEST + dt.timedelta(weeks=5)


def folder() -> Path:
    """Where the weeks are kept."""
    return Path(tempfile.gettempdir()) / "otc-bench-weeks"


def newest_weeks(count: int) -> list[dt.date]:
    """So many weeks, oldest first, the last of them NEWEST."""
    return weeks_up_to(NEWEST, count)


@lru_cache(1)
def _api(scale: float) -> QueryApi:
    transport = httpx.WSGITransport(app=make_app(Simulator(scale=scale), clock=lambda: TODAY))
    return QueryApi("http://simulated", transport=transport, requests_per_minute=1_000_000)


def _make(week: dt.date, scale: float, into: Path) -> None:
    volume, totals = [], []
    for tier in TIERS:
        # The API's first reply is the whole tier.
        parsed = parse(_api(scale).fetch(week, tier)[0].content.read(), name="benchmark")
        made = normalize(parsed, week_ending=week, tier=tier)
        volume.append(made.volume)
        totals.append(made.totals)
    frames = {"venue_volume": pl.concat(volume), "published_total": pl.concat(totals)}
    for figure in figures():
        if figure.weeks == 1:
            frames[figure.name] = figure.formula(*(frames[source] for source in figure.sources))
    partial = into.with_name(f"{into.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    for table, frame in frames.items():
        frame.write_parquet(partial / f"{table}.parquet")
    try:
        partial.rename(into)
    except OSError:  # another process was faster
        shutil.rmtree(partial)


def of_week(table: str, week: dt.date, scale: float = 1.0) -> pl.DataFrame:
    """The week's rows of ``table``, of all tiers.

    Returns:
        The table's frame of ``domain.schema``.
    """
    if week <= NEWEST - dt.timedelta(weeks=DISTINCT):
        shift = dt.timedelta(weeks=DISTINCT)
        return of_week(table, week + shift, scale).with_columns(pl.selectors.date() - shift)
    kept = folder() / f"{scale}" / f"{week}"
    if not kept.exists():
        _make(week, scale, kept)
    path = kept / f"{table}.parquet"
    figure = TABLES[table]
    if not path.exists() and isinstance(figure, Figure) and figure.weeks > 1:
        window = weeks_up_to(week, figure.weeks)
        (source,) = figure.sources
        history = pl.concat(of_week(source, w, scale) for w in window)
        figure.formula(history, history.select("week_ending", "tier").unique(), week).write_parquet(path)
    return pl.read_parquet(path)


def main() -> None:
    """Makes the weeks that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=DISTINCT)
    parser.add_argument("--scale", type=float, default=1.0)
    chosen = parser.parse_args()
    for week in reversed(newest_weeks(chosen.weeks)):
        of_week("venue_volume", week, chosen.scale)


if __name__ == "__main__":
    main()
