"""What the simulated FINRA publishes: one full-size week as its Query API gives it, and its address."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx

from otc_assets.domain.weeks import TIERS, Tier
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app

WEEK = dt.date(2026, 8, 21)
TODAY = dt.date(2026, 10, 14)


def whole_week(scale: float = 1.0) -> dict[Tier, bytes]:
    """The publications of WEEK by tier; with ``scale`` 1 of FINRA's size."""
    transport = httpx.WSGITransport(app=make_app(Simulator(scale=scale), clock=lambda: TODAY))
    api = QueryApi("http://simulated", transport=transport, requests_per_minute=100_000)
    return {tier: api.fetch(WEEK, tier)[0].content.read() for tier in TIERS}


def rows_in(publications: Iterable[bytes]) -> int:
    """The rows of publications, without their headers."""
    return sum(content.count(b"\n") - 1 for content in publications)


@contextmanager
def simulated_finra(scale: float, *, latency: float = 0.0) -> Iterator[str]:
    """The address of a simulated FINRA in a process of its own, as FINRA is.

    Args:
        scale: of its weeks; 1 is FINRA's size.
        latency: the seconds until a reply begins.
    """
    command = [sys.executable, "-c", "from otc_assets.cli import main; main()", "simulate", "--serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--trap", f"latency_seconds={latency}"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "OTC_SIMULATOR_SCALE": str(scale)},
    )
    try:
        assert process.stdout is not None
        yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
    finally:
        process.terminate()
        process.wait()
