"""The cost of a week in a long backfill: its processor time in each year, and in a run per week and asset.

A new database is filled year by year with the runs that a backfill in the UI launches, each in a process of its own:
captures of 13 weeks, then the figures, checks and reports of 52. Then the newest week is computed again with a run per
asset. Processor time is that of the processes with their start, and of PostgreSQL's; the clock would also measure other
work on the machine. Simulated FINRA has a process of its own, which is not counted.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.publications import simulated_finra
from benchmarks.results import Measured, Row, Table
from benchmarks.servers import WholeServer
from otc_assets.defs.jobs import DOWNSTREAM
from otc_assets.defs.partitions import key_of, range_tags
from otc_assets.defs.weekly import CAPTURES, YEAR
from otc_assets.domain.weeks import TIERS, newest_due, weeks_between
from otc_assets.finra.simulator.generator import FIRST_WEEK
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import Settings

#: A week may cost a tenth more in the last year than in the first.
_MOST_GROWTH = 1.1
#: A run per week and asset costs at least ten times as much.
_LEAST_FASTER = 10


class _Cost(NamedTuple):
    """Processor seconds of our processes and of PostgreSQL."""

    ours: float
    server: float

    @property
    def whole(self) -> float:
        return self.ours + self.server


class _Installation:
    """Where the runs are executed, and what they cost."""

    def __init__(self, env: dict[str, str], url: str) -> None:
        self._env = env
        with psycopg.connect(url) as connection:
            self._watch = WholeServer(connection.info.backend_pid)

    def cost(self, commands: Sequence[Sequence[str]]) -> _Cost:
        """Executes ``dagster`` with each of ``commands``, one after another, and returns what all cost."""
        before, server = resource.getrusage(resource.RUSAGE_CHILDREN), self._watch.server()
        for command in commands:
            whole = [sys.executable, "-m", "dagster", *command, "-m", "otc_assets.definitions"]
            done = subprocess.run(whole, env=self._env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return _Cost(ours, (self._watch.server() - server) / 1000)


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
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder, simulated_finra(float(scale)) as address:
        home = Path(folder)
        home.chmod(0o755)
        given = Settings(home=home, first_week=chosen[0], keep_venue_volume_weeks=0)
        with EmbeddedServer(home / "postgres") as server:
            setup.upgrade(given, server.url)
            env = {name: value for name, value in os.environ.items() if not name.startswith("OTC_")}
            env |= {**setup.resolved(given, server.url).environment(), "OTC_SOURCE": "api", "OTC_FINRA_URL": address}
            env |= {"OTC_REQUESTS_PER_MINUTE": "1200"}
            installation = _Installation(env, server.url)
            years = []
            for part in _parts(chosen, YEAR):
                years.append((part, cost := installation.cost(_year(part))))
                # It takes hours at full size.
                print(
                    f"{part[0]} to {part[-1]}: {cost.whole / len(part):.1f} CPU s a week", file=sys.stderr, flush=True
                )
            single = installation.cost(_asset_by_asset(chosen[-1]))
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


def _values(weeks: int, cost: _Cost) -> dict[str, float | int]:
    return {"weeks": weeks, "our CPU s a week": cost.ours / weeks, "PostgreSQL CPU s a week": cost.server / weeks}
