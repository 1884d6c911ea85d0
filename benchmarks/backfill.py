"""The cost of a week in a long backfill: its processor time in each year, and in a run per week and asset.

A new database is filled year by year with the runs that a backfill in the UI launches, each in a process of its own:
captures of 13 weeks, then the figures, checks and reports of 52. Then the newest week is computed again with a run per
asset. Processor time is that of the processes with their start, and of PostgreSQL's; the clock would also measure other
work on the machine. Simulated FINRA has a process of its own, which is not counted.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.installation import Installation, Spent, installation
from benchmarks.publications import simulated_finra
from benchmarks.results import Measured, Row, Table
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.defs.partitions import key_of, range_tags
from otc_assets.defs.weekly import CAPTURES, YEAR
from otc_assets.domain.weeks import TIERS, newest_due, weeks_between
from otc_assets.finra.simulator.generator import FIRST_WEEK

#: A week may cost a tenth more in the last year than in the first.
_MOST_GROWTH = 1.1
#: A run per week and asset costs at least ten times as much.
_LEAST_FASTER = 10


def _cost(at: Installation, commands: Sequence[Sequence[str]]) -> Spent:
    """Executes ``dagster`` with each of ``commands``, one after another, and returns what all cost."""
    before = at.spent()
    for command in commands:
        whole = [sys.executable, "-m", "dagster", *command, "-m", "otc_assets.definitions"]
        done = subprocess.run(whole, env=at.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return at.spent().since(before)


def _job(name: str, weeks: Sequence[dt.date]) -> list[str]:
    return ["job", "execute", "-j", name, "--tags", json.dumps(range_tags(weeks[0], weeks[-1]))]


def _parts(weeks: Sequence[dt.date], most: int) -> list[Sequence[dt.date]]:
    return [weeks[start : start + most] for start in range(0, len(weeks), most)]


def _year(weeks: Sequence[dt.date]) -> list[list[str]]:
    captures = [_job(f"capture_{tier.slug}", part) for tier in TIERS for part in _parts(weeks, CAPTURES)]
    return [*captures, _job("compute_week", weeks)]


def _asset_by_asset(week: dt.date) -> list[list[str]]:
    names = ["week_calendar", *(f"publication_{tier.slug}" for tier in TIERS), *DOWNSTREAM]
    return [["asset", "materialize", "--select", name, "--partition", key_of(week)] for name in names]


def run(scale: str = "1", most: str = "520") -> Measured:
    """The cost of a week in each year of the backfill.

    Args:
        scale: of the weeks; 1 is FINRA's size.
        most: how many weeks at most, of those that simulated FINRA has published of all tiers.
    """
    newest = min(newest_due(tier, dt.datetime.now(dt.UTC)) for tier in TIERS)
    chosen = weeks_between(FIRST_WEEK, newest)[-int(most) :]
    with (
        simulated_finra(float(scale)) as address,
        installation(address, first_week=chosen[0], keep_venue_volume_weeks=0) as at,
    ):
        years = []
        for part in _parts(chosen, YEAR):
            years.append((part, cost := _cost(at, _year(part))))
            # It takes hours at full size.
            print(f"{part[0]} to {part[-1]}: {cost.whole / len(part):.1f} CPU s a week", file=sys.stderr, flush=True)
        single = _cost(at, _asset_by_asset(chosen[-1]))
    first, total = years[0][1].whole / len(years[0][0]), sum(cost.whole for _, cost in years)
    rows = [
        Row(
            f"{part[0]} to {part[-1]}",
            _values(len(part), cost),
            cost.whole / len(part) / first if number else None,
            most=_MOST_GROWTH if number else None,
        )
        for number, (part, cost) in enumerate(years)
    ]
    a_week = total / len(chosen)
    whole = [
        Row("the backfill", {"weeks": len(chosen), "CPU minutes": total / 60, "CPU s a week": a_week}),
        Row(
            "a run per week and asset",
            {"weeks": 1, "CPU minutes": single.whole / 60, "CPU s a week": single.whole},
            single.whole / a_week,
            least=_LEAST_FASTER,
            higher_is_better=True,
        ),
    ]
    return Measured({"years": Table("year", rows), "runs": Table("runs", whole)})


def _values(weeks: int, cost: Spent) -> dict[str, float | int]:
    return {"weeks": weeks, "our CPU s a week": cost.ours / weeks, "PostgreSQL CPU s a week": cost.server / weeks}
