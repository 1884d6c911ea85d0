"""Runs benchmarks, compares their ratios with the recorded ones, and records them.

Without names, the short ones, which take less than three minutes on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from benchmarks import page
from benchmarks.layout import CASES
from benchmarks.results import Measured, NotMeasured, record, recorded, result_of, warnings
from otc_assets.settings import settings

#: By name, the module, whose function ``run`` measures, and the function's arguments. The short ones:
SHORT: dict[str, tuple[str, ...]] = {name: (name,) for name in ("parse", "load", "memory", "peers")}
#: And all.
BENCHMARKS = {
    **SHORT,
    **{name: (name,) for name in ("client", "api", "exporter", "events", "fetching", "overhead", "growth", "queries")},
    "backfill": ("backfill",),
    "peers_week": ("peers", "week"),
    "load_community": ("load", "community"),
    **{f"layout_{table}": ("layout", table) for table in CASES},
}


def run(name: str) -> Measured:
    """Runs a benchmark. Its module is imported now, as some import Dagster; its settings do not outlive it."""
    module, *arguments = BENCHMARKS[name]
    before = dict(os.environ)
    settings.cache_clear()
    try:
        found: Measured = import_module(f"benchmarks.{module}").run(*arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()
    return found


def measure(name: str, *, keep: bool) -> int:
    """Runs a benchmark and prints what it found.

    Args:
        name: of BENCHMARKS.
        keep: whether to record it.

    Returns:
        The number of warnings.

    Raises:
        NotMeasured: something that it needs is missing.
    """
    measured = run(name)
    result = result_of(measured)
    print("\n\n".join(page.shown(table) for table in result.tables.values()), flush=True)
    found = list(warnings(result, recorded(name)))
    for line in (*(f"not measured: {reason}" for reason in measured.missing), *(f"warning: {line}" for line in found)):
        print(line, flush=True)
    if keep and not measured.missing:
        record(name, result)
        print("recorded")
    return len(found)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmarks that are named. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: {', '.join(SHORT)}"
    )
    parser.add_argument("--all", action="store_true", help="run all: hours, and 30 GB of disk")
    parser.add_argument(
        "--record", action="store_true", help="save the results, and write docs/benchmarks.md from them"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 after a warning")
    chosen = parser.parse_args(arguments)
    names = list(BENCHMARKS) if chosen.all else chosen.names or list(SHORT)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"no such benchmark: {', '.join(unknown)}. There are {', '.join(BENCHMARKS)}")
    warned = 0
    for name in names:
        print(f"\n## {name}\n", flush=True)
        try:
            warned += measure(name, keep=chosen.record)
        except NotMeasured as reason:
            print(f"not measured: {reason}", flush=True)
    if chosen.record:
        page.main()
    return int(chosen.strict and warned > 0)


if __name__ == "__main__":
    sys.exit(main())
