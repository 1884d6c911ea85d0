"""The check of the newest week, against captures that were recorded a moment or hours ago."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from otc_assets.domain.weeks import NEW_YORK, OTCE, T1, T2
from otc_assets.finra.source import SourceError
from otc_assets.pipeline.checks import Verdict, judge_newest_week
from otc_assets.warehouse.database import Database

FIRST_WANTED = dt.date(2026, 5, 1)
#: The week of 2026-06-05 is due in tier 1, and that of 2026-05-22 in the others.
NOW = dt.datetime(2026, 6, 24, 12, tzinfo=NEW_YORK)
CAPTURED = [(T1, "2026-05-15"), (T1, "2026-05-22"), (T2, "2026-05-15"), (OTCE, "2026-05-22")]


class Silent:
    """A source that does not answer."""

    def offered(self) -> Any:
        """Raises."""
        raise SourceError("no answer")


@pytest.fixture
def loaded(database: str) -> Iterator[Database]:
    """A database with the captures of the first weeks of each tier, just recorded and loaded."""
    with psycopg.connect(database) as sql:
        for tier, week in CAPTURED:
            sql.execute(
                "INSERT INTO otc.publication (week_ending, tier, scope, revision, digest, origin, layout, bytes,"
                " rows_received, rows_accepted, rows_rejected, complete)"
                " VALUES (%s, %s, 'FULL', 1, repeat('a', 64), 'test', 'api', 1, 1, 1, 0, true)",
                [week, tier.name],
            )
            sql.execute(
                "INSERT INTO otc.computed_week (table_name, week_ending, version, rows)"
                " VALUES ('venue_volume', %s, '1', 1) ON CONFLICT DO NOTHING",
                [week],
            )
    opened = Database(database)
    yield opened
    opened.close()


def judged(database: Database) -> Verdict:
    return judge_newest_week(database, Silent(), FIRST_WANTED, NOW)  # type: ignore[arg-type]


def test_the_newest_week_is_not_missing_while_weeks_are_being_loaded(
    loaded: Database, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Weeks load oldest first: the check failed in the first run of a fresh installation."""
    verdict = judged(loaded)
    assert verdict.passed
    assert verdict.details[T1.name] == "newest 2026-05-22, due 2026-06-05; newer weeks may still be loading"
    assert verdict.details[OTCE.name] == "newest 2026-05-22, due 2026-05-22"
    assert sql.execute("SELECT count(*) FROM otc.events").fetchone() == (0,)

    sql.execute("UPDATE otc.publication SET captured_at = now() - interval '61 minutes'")
    verdict = judged(loaded)
    assert (verdict.passed, verdict.serious) == (False, False)
    assert verdict.details[T1.name] == "newest 2026-05-22, due 2026-06-05"
    assert verdict.details[T2.name] == "newest 2026-05-15, due 2026-05-22"
    assert sql.execute("SELECT event_type, aggregate_id FROM otc.events").fetchall() == [
        ("otc.check.failed", "gap_report.newest_week")
    ]


def test_history_that_was_never_requested_is_not_counted_as_missing(loaded: Database) -> None:
    """By hand: tier 1 lacks the weeks of 05-29 and 06-05, and tier 2 that of 05-22; the weeks before are history."""
    assert judged(loaded).details["publications not captured since the first captured week"] == 3
