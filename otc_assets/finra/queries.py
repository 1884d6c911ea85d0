"""The queries that are sent to the Query API, and the partitions that it lists.

Sending them, and paging, is in ``query_api``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from otc_assets.domain.datasets import Dataset
from otc_assets.domain.weeks import Tier, week_start_of

#: FINRA's name of the weekly publications.
WEEKLY = "weeklySummary"

#: All fields that FINRA has, in this order.
FIELDS = (
    "weekStartDate",
    "summaryStartDate",
    "tierIdentifier",
    "tierDescription",
    "issueSymbolIdentifier",
    "issueName",
    "MPID",
    "firmCRDNumber",
    "marketParticipantName",
    "totalWeeklyShareQuantity",
    "totalWeeklyTradeCount",
    "totalNotionalSum",
    "productTypeCode",
    "summaryTypeCode",
    "lastUpdateDate",
    "initialPublishedDate",
    "lastReportedDate",
)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")

#: Unique within a publication, as found by trial.
KEY = ("summaryTypeCode", "issueSymbolIdentifier", "MPID", "firmCRDNumber", "productTypeCode", "issueName")


@dataclass(frozen=True)
class PagedQuery:
    """A query for all rows of one partition of a data set.

    Attributes:
        dataset: FINRA's name of the data set.
        wanted: the values of the partition fields. They are all compared by EQUAL, or FINRA does not sort.
        fields: FINRA's names, in the order of the reply.
        key: the fields that identify a row, by which the rows are sorted.
        title: for messages.
    """

    dataset: str
    wanted: Mapping[str, str]
    fields: tuple[str, ...]
    key: tuple[str, ...]
    title: str

    def filters(self) -> dict[str, Any]:
        """The filters of the request."""
        return {
            "compareFilters": [
                {"compareType": "EQUAL", "fieldName": name, "fieldValue": value} for name, value in self.wanted.items()
            ]
        }


def weekly_query(week_ending: dt.date, tier: Tier) -> PagedQuery:
    """The query for one publication."""
    wanted = {"weekStartDate": week_start_of(week_ending).isoformat(), "tierIdentifier": tier.id}
    return PagedQuery(WEEKLY, wanted, fields=FIELDS, key=KEY, title=f"{tier.name}, week ending {week_ending}")


def dataset_queries(dataset: Dataset, period: dt.date) -> list[PagedQuery]:
    """The queries for one period of a data set: one for each of its partitions."""
    names = {field.column: field.name for field in dataset.fields}
    return [
        PagedQuery(
            dataset.name,
            {dataset.fields[0].name: period.isoformat(), **part},
            fields=tuple(names.values()),
            key=tuple(names[column] for column in dataset.key),
            title=" ".join([dataset.name, str(period), *part.values()]),
        )
        for part in dataset.parts
    ]


def week_and_tier(partition: list[str]) -> tuple[dt.date, str]:
    """The two values of a listed partition, which come in either order."""
    start, tier_id = partition
    try:
        return dt.date.fromisoformat(start), tier_id
    except ValueError:
        return dt.date.fromisoformat(tier_id), start


def offered_periods(dataset: Dataset, listed: Iterable[list[str]]) -> set[dt.date]:
    """The periods of which every partition is listed. The values of a partition come in any order.

    Raises:
        ValueError: a partition has other values than a day and those of the data set's parts.
    """
    found: dict[dt.date, set[frozenset[str]]] = {}
    size = 1 + len(dataset.parts[0])
    for values in listed:
        if len(values) != size:
            raise ValueError(f"{len(values)} values in a partition of {dataset.name}, not {size}")
        (day,) = (value for value in values if _ISO_DATE.fullmatch(value))
        found.setdefault(dt.date.fromisoformat(day), set()).add(frozenset(values) - {day})
    wanted = {frozenset(part.values()) for part in dataset.parts}
    return {period for period, parts in found.items() if wanted <= parts}
