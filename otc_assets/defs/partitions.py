"""The partition key ``week_ending``, one partition per Friday, and how the weeks of assets map to each other.

What a week is, is in ``domain.weeks``. The key is the Friday on which the week ends. Dagster's *window* of such a key
begins on that Friday: never use ``partition_time_window``, use ``week_of``.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from dagster import (
    BetaWarning,
    PreviewWarning,
    TimeWindowPartitionMapping,
    TimeWindowPartitionsDefinition,
)

from otc_assets.defs.internals import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from otc_assets.domain.weeks import T1, Tier, week_containing

# Partition mappings, backfill policies and partitioned checks are in beta: measured, and pinned to one release.
# Every module that defines assets or checks imports this one first.
for _category in (BetaWarning, PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)


@dataclass(frozen=True)
class WeekPartitions:
    """The weeks of an installation as Dagster's partitions.

    Attributes:
        first_week: the first week wanted (``OTC_FIRST_WEEK``).
        in_single_runs: whether a backfill puts all its weeks into one run (``OTC_SINGLE_RUNS``).
    """

    first_week: dt.date
    in_single_runs: bool = False

    def of_tier(self, tier: Tier) -> TimeWindowPartitionsDefinition:
        """The weeks of a tier, from the first week wanted to the newest that is published."""
        return self._with_lag(tier.lag_weeks)

    @property
    def of_datasets(self) -> TimeWindowPartitionsDefinition:
        """The weeks of the data sets that are published by day, from the first week wanted to the current one."""
        return self._with_lag(0)

    def _with_lag(self, weeks: int) -> TimeWindowPartitionsDefinition:
        """The weeks from the first one wanted to the newest that is published so many weeks after its Monday.

        The publication lag is the end offset, so that a week becomes a partition when it can be published. The start
        is fixed by the settings and never computed from the clock, because a stored backfill fails when its definition
        has changed.
        """
        return TimeWindowPartitionsDefinition(
            start=self.first_week.isoformat(),
            fmt="%Y-%m-%d",
            cron_schedule="0 0 * * 5",
            timezone="America/New_York",
            end_offset=2 - weeks,
        )

    @property
    def of_figures(self) -> TimeWindowPartitionsDefinition:
        """The weeks of the assets downstream of the tiers: those of the tier that is published first."""
        return self.of_tier(T1)

    def newest(self, tier: Tier = T1) -> dt.date | None:
        """The newest week of a tier; None where it has none yet, because ``OTC_FIRST_WEEK`` is recent or to come."""
        key = self.of_tier(tier).get_last_partition_key()
        return None if key is None else week_of(key)

    def has(self, week_ending: dt.date) -> bool:
        """Whether the week is a partition of the computed assets: one before ``OTC_FIRST_WEEK`` is not."""
        newest = self.newest()
        return newest is not None and self.first_week <= week_ending <= newest


#: From a tier's publication to assets that are computed from all tiers: week to week, published yet or not.
same_week_if_published = TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def week_of(key: str) -> dt.date:
    """The ``week_ending`` of a partition key."""
    return dt.date.fromisoformat(key)


def week_if_any(key: str) -> dt.date | None:
    """The ``week_ending`` of a partition key; None of a key of something else, as runs of other projects have."""
    try:
        week = week_of(key)
    except ValueError:
        return None
    return week if week == week_containing(week) else None


def key_of(week_ending: dt.date) -> str:
    """The partition key of a ``week_ending``."""
    return week_ending.isoformat()


def range_tags(first: dt.date, last: dt.date) -> dict[str, str]:
    """The tags of a run over the weeks from ``first`` to ``last``."""
    return {ASSET_PARTITION_RANGE_START_TAG: key_of(first), ASSET_PARTITION_RANGE_END_TAG: key_of(last)}


def weeks_of(keys: Iterable[str]) -> list[dt.date]:
    """The weeks of partition keys, oldest first: the figures of a week build on the weeks before it."""
    return sorted(map(week_of, keys))
