"""One full-size week as FINRA's Query API gives it, by the simulator."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

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
