"""The keys: ``week_ending``, one partition a Friday, and how tiers' weeks map to each other.

Here: partitions definitions and mappings. Not here: what a week is (``domain.weeks``).

The key is the Friday that the week ends with. Dagster's *window* of such a key begins on that Friday: never
use ``partition_time_window``, use ``week_of``.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterable

from dagster import (
    BetaWarning,
    PreviewWarning,
    TimeWindowPartitionMapping,
    TimeWindowPartitionsDefinition,
)

from otc_assets.domain.weeks import T1, Tier, newest_due, publication_date, weeks_up_to
from otc_assets.settings import settings

# Loose mappings, backfill policies and partitioned checks are in beta: measured, and pinned to one release.
# Every module that defines assets or checks imports this one first.
for _category in (BetaWarning, PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)


def weeks_of_tier(tier: Tier) -> TimeWindowPartitionsDefinition:
    """The weeks of a tier, from the first week wanted to the newest that is out.

    The publication lag is the end offset, so that a week becomes a partition when it can be there; the start
    is fixed by the settings and never computed from the clock, because a stored backfill refuses to go on
    when its definition has changed.
    """
    return TimeWindowPartitionsDefinition(
        start=settings().first_week.isoformat(),
        fmt="%Y-%m-%d",
        cron_schedule="0 0 * * 5",
        timezone="America/New_York",
        end_offset=2 - tier.lag_weeks,
    )


#: The weeks of what stands downstream of the tiers: those of the tier that comes first.
weeks = weeks_of_tier(T1)

#: From a tier's publication to what is made of all tiers: week to week, whether or not it is out yet.
same_week_if_published = TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def window(count: int) -> TimeWindowPartitionMapping | None:
    """From a table to figures over ``count`` of its weeks: the week and those before it; None for the week alone."""
    if count == 1:
        return None
    return TimeWindowPartitionMapping(start_offset=1 - count, end_offset=0, allow_nonexistent_upstream_partitions=True)


def newest_week(definition: TimeWindowPartitionsDefinition) -> dt.date | None:
    """The newest week of a definition; None where it has none yet, because ``OTC_FIRST_WEEK`` is recent or to come."""
    key = definition.get_last_partition_key()
    return None if key is None else week_of(key)


def newest_weeks(count: int, now: dt.datetime) -> list[dt.date]:
    """The ``count`` most recent weeks that are published in a tier at least, oldest first, from the first week on."""
    return [week for week in weeks_up_to(newest_due(T1, now), count) if week >= settings().first_week]


def begins_on(tier: Tier) -> dt.date:
    """The day on which FINRA publishes the first week wanted of the tier."""
    return publication_date(settings().first_week, tier)


def has_week(week_ending: dt.date) -> bool:
    """Whether the week is a partition of what is computed: one before ``OTC_FIRST_WEEK`` is not."""
    newest = newest_week(weeks)
    return newest is not None and settings().first_week <= week_ending <= newest


def week_of(key: str) -> dt.date:
    """The ``week_ending`` of a partition key."""
    return dt.date.fromisoformat(key)


def key_of(week_ending: dt.date) -> str:
    """The partition key of a ``week_ending``."""
    return week_ending.isoformat()


def weeks_of(keys: Iterable[str]) -> list[dt.date]:
    """The weeks of partition keys, oldest first: figures of a week build on the weeks before it."""
    return sorted(map(week_of, keys))
