"""What all week-keyed assets share: a loop over the weeks of a run, metadata a week, failures a week.

Here: how a run over one week or a range of weeks behaves. Not here: what is made of a week.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import sqlalchemy as sa
from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    BackfillPolicy,
    Backoff,
    DataVersion,
    Failure,
    Jitter,
    MaterializeResult,
    MetadataValue,
    RetryPolicy,
    TableColumn,
    TableRecord,
    TableSchema,
)

from otc_assets import interruption
from otc_assets.archive.store import ArchiveError
from otc_assets.domain.bounds import UnreadableFile
from otc_assets.domain.schema import NOTES
from otc_assets.domain.tables import TABLES
from otc_assets.errors import OtcError
from otc_assets.finra.source import PermanentSourceError, SourceError
from otc_assets.partitions import key_of, weeks, weeks_of
from otc_assets.tracing import WEEK, span, tell
from otc_assets.warehouse.events import event_context
from otc_assets.warehouse.retention import Dropped
from otc_assets.warehouse.server import DatabaseUnreachable

OWNERS = ["team:market-structure"]

#: A backfill makes up to a year of weeks in one run: a run per week pays Dagster's cost of a run every time.
#: Six-week figures join the run of what they are made of only where the limit is above the weeks asked for.
IN_YEARS = BackfillPolicy.multi_run(max_partitions_per_run=52)

#: What passes by itself is tried again, three times; what can't pass says so (``allow_retries=False``).
RETRY = RetryPolicy(max_retries=3, delay=10, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


#: What may pass by itself, and concerns the weeks that follow as well: the step is tried again as a whole.
_PASSING = (SourceError, DatabaseUnreachable, sa.exc.OperationalError, sa.exc.InterfaceError, OSError)


class WeekRefused(OtcError):
    """A week can't be made, and trying again will not help. The message says why and what to do."""


#: Errors whose message is for people.
_WORDED = (WeekRefused, PermanentSourceError, Dropped, ArchiveError, UnreadableFile)


@dataclass(frozen=True)
class WeekMade:
    """What was made of a week: its rows, the version of its inputs, and what else is worth showing."""

    rows: int
    version: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def as_metadata(self) -> dict[str, Any]:
        """The week's metadata in Dagster's terms."""
        return {"dagster/partition_row_count": self.rows, **self.metadata}


#: What an asset of ours yields.
Made = Iterator[AssetMaterialization | MaterializeResult]


def each_week(context: AssetExecutionContext, make: Callable[[dt.date], WeekMade]) -> Made:
    """Makes the run's weeks one after another, oldest first, each in its own transaction.

    A week that can't be made does not stop the others, whatever is wrong with it: they are made and reported as
    materialized, and the step then fails with the list of those that were not, so that only they count as failed.

    Raises:
        Failure: weeks were refused; not retried.
        Interrupted: a signal ends the command; the weeks that follow are not made.
    """
    chosen = weeks_of(context.partition_keys)
    made: dict[dt.date, WeekMade] = {}
    refused: dict[dt.date, str] = {}
    for number, week in enumerate(chosen, 1):
        interruption.check()
        try:
            with span(WEEK, week_ending=week), event_context(context.run.run_id):
                made[week] = make(week)
                tell(rows=made[week].rows)
        except _WORDED as error:
            refused[week] = str(error)
            context.log.error("%s: %s", week, error)
        except _PASSING:
            raise
        except Exception as error:
            refused[week] = f"{type(error).__name__}: {error}"
            context.log.exception("%s: %s", week, refused[week])
        else:
            context.log.info("%s: %s rows (week %s of %s)", week, f"{made[week].rows:,}", number, len(chosen))
    if refused:
        # Yielded, because what is logged just before a failure is lost.
        for week, result in made.items():
            yield AssetMaterialization(context.asset_key, partition=key_of(week), metadata=result.as_metadata())
        raise Failure(
            description="; ".join(f"{week}: {reason}" for week, reason in refused.items()),
            metadata={"weeks refused": ", ".join(map(str, refused)), "weeks made": len(made)},
            allow_retries=False,
        )
    if len(made) == 1 and context.has_partition_key:
        (result,) = made.values()
        version = DataVersion(result.version) if result.version else None
        yield MaterializeResult(metadata=result.as_metadata(), data_version=version)
        return
    for week, result in made.items():
        context.add_asset_metadata(result.as_metadata(), partition_key=key_of(week))
    # Without metadata of its own: Dagster would show it with each of the weeks.
    yield MaterializeResult()


def table_metadata(name: str) -> dict[str, Any]:
    """An asset's definition metadata: its table's name and columns."""
    table = TABLES[name]
    columns = [TableColumn(c, str(kind), description=str(table.note(c))) for c, kind in table.schema.items()]
    return {"dagster/table_name": f"otc.{name}", "dagster/column_schema": TableSchema(columns)}


def asset_options(name: str) -> dict[str, Any]:
    """The arguments of ``asset`` that are common to all assets that compute a table of the registry."""
    return {
        "partitions_def": weeks,
        "backfill_policy": IN_YEARS,
        "retry_policy": RETRY,
        "pool": "database",
        "owners": OWNERS,
        "group_name": TABLES[name].group,
        "description": TABLES[name].description,
        "metadata": table_metadata(name),
    }


def preview(frame: pl.DataFrame, rows: int = 5) -> MetadataValue:
    """The first rows as a table on the asset's page. Decimals and dates are text, so that none is rounded."""
    columns = [
        TableColumn(name, str(kind), description=str(NOTES.get(name, "")) or None)
        for name, kind in frame.schema.items()
    ]
    records = [
        TableRecord({name: v if isinstance(v, str | int | float | None) else str(v) for name, v in row.items()})
        for row in frame.head(rows).iter_rows(named=True)
    ]
    return MetadataValue.table(records, TableSchema(columns))
