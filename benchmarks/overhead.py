"""Dagster's share of a week: the processor time of one full-size week with Dagster and without, and its connections.

The same week is captured and computed in a new database three times: by the pipeline's functions alone, by a command
(all runs in its process), and by a process per run, as the daemon launches them. Processor time is that of the
processes with their start, and of PostgreSQL's; the clock would also measure other work on the machine. Simulated FINRA
has a process of its own, which is not counted.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import time
from typing import NamedTuple

import psycopg

from benchmarks.installation import installation
from benchmarks.publications import WEEK, simulated_finra
from benchmarks.results import Measured, Row, Table
from otc_assets.domain.weeks import NEW_YORK, TIERS
from otc_assets.settings import settings

_TIMES = 3


class Cost(NamedTuple):
    """What a week took: processor seconds of our processes, of that for their start, of PostgreSQL, and connections.

    The start of the jobs' processes is not known.
    """

    ours: float
    start: float
    server: float
    connections: int


def _started() -> None:
    """Prints how long this process took to start, with everything imported and created."""
    print(time.process_time(), flush=True)


# --- the three ways, each in a process of its own --------------------------------------------------------


def bare(week: dt.date) -> None:
    """The pipeline's functions in the order of the graph."""
    from otc_assets.alerting.reports import announcer
    from otc_assets.defs.resources import make_resources
    from otc_assets.domain.report import WEEKLY_REPORT
    from otc_assets.domain.tables import figures
    from otc_assets.pipeline.calendar import compute_calendar
    from otc_assets.pipeline.capture import capture_publication
    from otc_assets.pipeline.checks import judge_checks, weekly_checks_of
    from otc_assets.pipeline.datasets import report_dataset_gaps
    from otc_assets.pipeline.figures import compute_figure
    from otc_assets.pipeline.gaps import current_gaps, report_gaps
    from otc_assets.pipeline.report import make_report
    from otc_assets.pipeline.volume import compute_volume
    from otc_assets.warehouse.kept_weeks import weeks_kept

    chosen = settings()
    parts = make_resources(chosen)
    database, archive, source = parts["warehouse"], parts["archive"], parts["source"]
    now = dt.datetime.now(NEW_YORK)

    def judge(asset: str) -> None:
        if names := {check.name for check in weekly_checks_of(asset)}:
            judge_checks(database, asset, week, names, archive=archive, exports=parts["exports"])

    _started()
    with weeks_kept(chosen.home):  # as in a run
        compute_calendar(week, database)
        for tier in TIERS:
            capture_publication(week, tier, source, archive, database, "bare", now)
            judge(f"publication_{tier.slug}")
        compute_volume(week, database, archive)
        judge("venue_volume")
        for figure in figures():
            compute_figure(figure, week, database)
            judge(figure.name)
        gaps = current_gaps(database, source, chosen.first_week, now)
        report_dataset_gaps(database, source, now)
        report_gaps(week, gaps, database)
        judge("gap_report")
        make_report(week, database, archive, now, announcer(chosen, now))
        judge(WEEKLY_REPORT.name)
    database.close()
    assert "dagster" not in sys.modules


def command(week: dt.date) -> None:
    """The runs of a command, one after another in its process."""
    from otc_assets.definitions import make_launcher
    from otc_assets.defs.instance import open_instance
    from otc_assets.defs.materialize import stages

    chosen = settings()
    with open_instance(chosen) as instance:
        launcher = make_launcher(instance, chosen)
        _started()
        for assets, weeks in stages(launcher.weeks, [week], TIERS):
            launcher.run_assets(assets, weeks[0], weeks[-1])


def jobs(week: dt.date) -> None:
    """The jobs of a week, each in a process of its own, as the daemon starts them."""
    chosen = settings()
    print(0.0, flush=True)
    for name in (*(f"capture_{tier.slug}" for tier in TIERS), "compute_week"):
        subprocess.run(
            [
                *(sys.executable, "-m", "dagster", "job", "execute", "-m", "otc_assets.definitions", "-j", name),
                *("--tags", json.dumps({"dagster/partition": str(week)})),
            ],
            env={**os.environ, **chosen.environment()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


WAYS = {"bare": bare, "command": command, "jobs": jobs}
_NAMES = {"bare": "functions alone", "command": "command", "jobs": "jobs"}

# --- measuring -------------------------------------------------------------------------------------------


def _sessions(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        query = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(query).fetchone()[0])  # type: ignore[index]


def measure(way: str, address: str) -> Cost:
    """One week in a new database.

    Args:
        way: of WAYS.
        address: the simulated FINRA's.
    """
    with installation(address) as at:
        before, sessions = at.spent(), _sessions(at.url)
        way_run = [sys.executable, "-m", "benchmarks.overhead", "--way", way]
        said = subprocess.run(way_run, env=at.environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        spent = at.spent().since(before)
        return Cost(spent.ours, float(said.split()[0]), spent.server, _sessions(at.url) - sessions - 1)


def run() -> Measured:
    """The three ways in turn, and the best of each."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    with simulated_finra(1.0) as address:
        for _ in range(_TIMES):
            for way, found in costs.items():
                found.append(measure(way, address))
    least = {way: min(found, key=lambda cost: cost.ours + cost.server) for way, found in costs.items()}
    whole = {way: cost.ours + cost.server for way, cost in least.items()}
    rows = []
    for way, cost in least.items():
        values: dict[str, float | int | str] = {
            "our CPU s": cost.ours,
            "of that to start s": cost.start,
            "PostgreSQL CPU s": cost.server,
            "connections": cost.connections,
        }
        if way != "bare":
            values["Dagster's share"] = f"{1 - whole['bare'] / whole[way]:.0%}"
        rows.append(Row(_NAMES[way], values, whole[way] / whole["bare"] if way != "bare" else None))
    return Measured({"overhead": Table("way", rows)})


def main() -> None:
    """One way in this process's environment, for ``measure``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS, required=True)
    WAYS[parser.parse_args().way](WEEK)


if __name__ == "__main__":
    main()
