"""Captures and computes one week in this process, as a run does, and prints its peak memory in MiB.

``memory`` starts this. The simulated FINRA is in a process of its own, as FINRA is.
"""

from __future__ import annotations

import datetime as dt
import os
import sys

import otc_assets.memory  # noqa: F401 - before what imports Polars, as in a run
from benchmarks.fetching import peak_memory
from benchmarks.publications import simulated_finra
from otc_assets.definitions import make_launcher
from otc_assets.defs.instance import clean_instance
from otc_assets.defs.materialize import materialize
from otc_assets.domain.weeks import TIERS
from otc_assets.local import setup
from otc_assets.settings import settings


def main() -> None:
    """The week named on the command line."""
    week = dt.date.fromisoformat(sys.argv[1])
    with simulated_finra(1.0) as address:
        os.environ |= {"OTC_SOURCE": "api", "OTC_FINRA_URL": address, "OTC_REQUESTS_PER_MINUTE": "1200"}
        settings.cache_clear()
        with setup.database(settings()) as url:
            setup.upgrade(settings(), url)
            prepared = setup.resolved(settings(), url)
            with clean_instance(prepared) as instance:
                failed = materialize(make_launcher(instance, prepared), [week], TIERS, lambda done, note: None)
            if failed:
                sys.exit("; ".join(failed))
            # Of this process: its children are the database and the simulated FINRA.
            print(peak_memory())


if __name__ == "__main__":
    main()
