"""Migrates a database to the settings of the test's environment."""

from __future__ import annotations

import datetime as dt

from otc_assets.settings import settings
from otc_assets.warehouse import migrate as migrations
from otc_assets.warehouse.migrate import Migrated
from otc_assets.warehouse.raw_rows import ProblemsOf


def migrate(
    url: str,
    to: str = "head",
    *,
    start: dt.datetime | None = None,
    shorten_retention: bool = False,
    restored: bool = False,
    problems_of: ProblemsOf | None = None,
) -> Migrated:
    """As ``warehouse.migrate.migrate``."""
    return migrations.migrate(
        url,
        settings(),
        to,
        start=start,
        shorten_retention=shorten_retention,
        restored=restored,
        problems_of=problems_of,
    )
