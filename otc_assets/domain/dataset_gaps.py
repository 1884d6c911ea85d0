"""What is missing of FINRA's neighbouring data sets. The gaps of the weekly publications are in ``gaps``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import polars as pl

from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.enums import GapStatus
from otc_assets.domain.notes import Note
from otc_assets.domain.weeks import NEW_YORK, week_containing, weeks_between

LATE_FOR = dt.timedelta(days=3)

#: A period that is expected and not captured.
DATASET_GAP = pl.Schema(
    {
        "week_ending": pl.Date(),
        "dataset": pl.String(),
        "period": pl.Date(),
        "status": pl.String(),
        "due": pl.Date(),
        "fetchable": pl.Boolean(),
    }
)


def dataset_gaps(
    captured: Mapping[str, Iterable[dt.date]],
    offered: Mapping[str, set[dt.date]],
    now: dt.datetime,
    retained_from: Mapping[str, dt.date] = MappingProxyType({}),
) -> pl.DataFrame:
    """The periods since a data set's first captured one that have ended at ``now`` and are not captured (DATASET_GAP).

    Args:
        captured: by data set, the captured periods. One of which none is captured was never requested: it has no gaps.
        offered: by data set, the periods that FINRA offers; one that is not there could not be asked.
        now: the time, with a time zone.
        retained_from: by data set, the oldest week that is kept: retention refuses a period of an earlier one, so it
            is no gap that could ever be closed. All are kept of a data set that is not there.
    """
    found = []
    today = now.astimezone(NEW_YORK).date()
    for dataset in DATASETS:
        have = set(captured.get(dataset.name, ()))
        if not have:
            continue
        first = max(dataset.week_of(min(have)), retained_from.get(dataset.name, dt.date.min))
        for week in weeks_between(first, week_containing(today)):
            for period in dataset.periods(week):
                due = dataset.due(period)
                if period in have or period < min(have) or dataset.ends(period) > today:
                    continue
                late = GapStatus.LATE if now < due + LATE_FOR else _missing(period, have)
                found.append(
                    {
                        "week_ending": week,
                        "dataset": dataset.name,
                        "period": period,
                        "status": GapStatus.PENDING if now < due else late,
                        "due": due.date(),
                        "fetchable": period in offered.get(dataset.name, ()),
                    }
                )
    return pl.DataFrame(found, schema=DATASET_GAP)


def _missing(period: dt.date, have: set[dt.date]) -> GapStatus:
    return GapStatus.MISSING_INSIDE if period < max(have) else GapStatus.MISSING_AT_END


#: Notes of DATASET_GAP.
GAP_NOTES = {
    "dataset": Note("FINRA's name of the data set"),
    "period": Note("the trading day, settlement date, or first day of the month"),
    "status": Note("pending (not due yet), late (due for less than three days), missing_at_end or missing_inside"),
    "due": Note("the day on which FINRA publishes the period"),
    "fetchable": Note("whether FINRA offers the period"),
}
