"""Finds a week of the simulator that suits a test of revisions."""

from __future__ import annotations

import datetime as dt

from otc_assets.domain.weeks import OTCE, TIERS, publication_date, weeks_between
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.settings import settings


def a_revised_week(first: dt.date) -> tuple[dt.date, dt.date]:
    """A week from ``first`` on that is revised within three weeks of its last publication, and the day of it."""
    simulator = Simulator(settings().simulator_seed, settings().simulator_scale)
    for week in weeks_between(first, dt.date(2026, 8, 28)):
        for tier in TIERS:
            for day in simulator.revisions(week, tier):
                if (day - publication_date(week, OTCE)).days in range(1, 21):
                    return week, day
    raise AssertionError("the simulator revises no week soon after it was published: another seed is needed")
