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
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg

from otc_assets.domain.weeks import NEW_YORK, TIERS
from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import Settings, settings

WEEK = dt.date(2026, 8, 21)


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

    chosen = settings()
    parts = make_resources(chosen)
    database, archive, source = parts["warehouse"], parts["archive"], parts["source"]
    now = dt.datetime.now(NEW_YORK)

    def judge(asset: str) -> None:
        if names := {check.name for check in weekly_checks_of(asset)}:
            judge_checks(database, asset, week, names, archive=archive, exports=parts["exports"])

    _started()
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

# --- measuring -------------------------------------------------------------------------------------------


def _of_server(postmaster: int) -> float:
    """The processor seconds of a server so far, with those of its ended processes."""
    server = psutil.Process(postmaster)
    times = server.cpu_times()
    living = (child.cpu_times() for child in server.children())
    return sum([times.user, times.system, times.children_user, times.children_system]) + sum(
        each.user + each.system for each in living
    )


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
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        chosen = Settings(home=home)
        with EmbeddedServer(home / "postgres") as server:
            setup.upgrade(chosen, server.url)
            prepared = setup.resolved(chosen, server.url)
            postmaster = int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
            env = {name: value for name, value in os.environ.items() if not name.startswith("OTC_")}
            env |= {**prepared.environment(), "OTC_SOURCE": "api", "OTC_FINRA_URL": address}
            env |= {"OTC_REQUESTS_PER_MINUTE": "1200"}
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            of_server, sessions = _of_server(postmaster), _sessions(server.url)
            run = [sys.executable, "-m", "benchmarks.overhead", "--way", way]
            said = subprocess.run(run, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            ours = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            start = float(said.split()[0])
            return Cost(ours, start, _of_server(postmaster) - of_server, _sessions(server.url) - sessions - 1)


def main() -> None:
    """Measures the three ways in turn, and prints the best of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS, help="only run the week in this process's environment")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    chosen = parser.parse_args()
    if chosen.way:
        WAYS[chosen.way](WEEK)
        return
    from benchmarks.one_week import simulated_finra  # imports Dagster, which the bare way does without

    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    os.environ["OTC_SIMULATOR_SCALE"] = str(chosen.scale)
    with simulated_finra() as address:
        for _ in range(chosen.times):
            for way, found in costs.items():
                found.append(measure(way, address))
                print(way, found[-1], flush=True)
    least = {way: min(found, key=lambda cost: cost.ours + cost.server) for way, found in costs.items()}
    print(
        "| way | our CPU s | of that to start | PostgreSQL CPU s | Dagster's share | without the start | connections |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    bare = least["bare"]
    for way, cost in least.items():
        share = 1 - (bare.ours + bare.server) / (cost.ours + cost.server)
        of_week = 1 - (bare.ours - bare.start + bare.server) / (cost.ours - cost.start + cost.server)
        start, without = (f"{cost.start:.1f}", f"{of_week:.0%}") if cost.start else ("", "")
        cells = (way, f"{cost.ours:.1f}", start, f"{cost.server:.1f}", f"{share:.0%}", without, f"{cost.connections:,}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
