"""How an asset runs over the weeks of a run: a loop, metadata per week, failures per week.

What is computed for a week is in ``pipeline``.
"""

import datetime as dt
from collections.abc import Callable, Iterator
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
from otc_assets.defs.partitions import WeekPartitions, key_of, weeks_of
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.schema import NOTES
from otc_assets.domain.tables import TABLES
from otc_assets.finra.source import PermanentSourceError, SourceError
from otc_assets.pipeline.results import WeekRefused, WeekResult
from otc_assets.tracing import WEEK, set_attributes, span
from otc_assets.warehouse.database import NOT_PREPARED
from otc_assets.warehouse.events import event_context
from otc_assets.warehouse.retention import Dropped
from otc_assets.warehouse.server import DatabaseUnreachable

OWNERS = ["team:market-structure"]

#: A backfill computes up to a year of weeks in one run: a run per week pays the overhead of a run every time.
#: Six-week figures join the run of their upstream assets only where the limit is above the number of weeks.
IN_YEARS = BackfillPolicy.multi_run(max_partitions_per_run=52)

#: Temporary errors are retried, three times; permanent ones are raised with ``allow_retries=False``.
RETRY = RetryPolicy(max_retries=3, delay=10, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


#: Temporary errors that concern the weeks that follow as well: the step is retried as a whole.
_TEMPORARY = (SourceError, DatabaseUnreachable, sa.exc.OperationalError, sa.exc.InterfaceError, OSError)


#: Errors whose message says all that a user needs.
_EXPLAINED = (WeekRefused, PermanentSourceError, Dropped, ArchiveError, UnreadableFile)


#: What a week-keyed asset yields.
WeekEvents = Iterator[AssetMaterialization | MaterializeResult]


def each_week(context: AssetExecutionContext, compute: Callable[[dt.date], WeekResult]) -> WeekEvents:
    """Computes the run's weeks one after another, oldest first, each in its own transaction.

    A week that fails does not stop the others, whatever is wrong with it: they are computed and reported as
    materialized, and the step then fails with the list of those that failed, so that only they count as failed.

    Raises:
        Failure: weeks were refused; not retried.
        Interrupted: a signal ends the command; the weeks that follow are not computed.
    """
    chosen = weeks_of(context.partition_keys)
    computed: dict[dt.date, WeekResult] = {}
    refused: dict[dt.date, str] = {}
    for number, week in enumerate(chosen, 1):
        interruption.check()
        try:
            with span(WEEK, week_ending=week), event_context(context.run.run_id):
                computed[week] = compute(week)
                set_attributes(rows=computed[week].rows)
        except _EXPLAINED as error:
            refused[week] = str(error)
            context.log.error("%s: %s", week, error)
        except (*NOT_PREPARED, *_TEMPORARY):
            raise
        except Exception as error:
            refused[week] = f"{type(error).__name__}: {error}"
            context.log.exception("%s: %s", week, refused[week])
        else:
            context.log.info("%s: %s rows (week %s of %s)", week, f"{computed[week].rows:,}", number, len(chosen))
    if refused:
        # Yielded, because events that are logged just before a failure are lost.
        for week, result in computed.items():
            yield AssetMaterialization(context.asset_key, partition=key_of(week), metadata=_metadata(result))
        raise Failure(
            description="; ".join(f"{week}: {reason}" for week, reason in refused.items()),
            metadata={"weeks refused": ", ".join(map(str, refused)), "weeks computed": len(computed)},
            allow_retries=False,
        )
    if len(computed) == 1 and context.has_partition_key:
        (result,) = computed.values()
        version = DataVersion(result.version) if result.version else None
        yield MaterializeResult(metadata=_metadata(result), data_version=version)
        return
    for week, result in computed.items():
        context.add_asset_metadata(_metadata(result), partition_key=key_of(week))
    # Without metadata of its own: Dagster would show it with each of the weeks.
    yield MaterializeResult()


def _metadata(result: WeekResult) -> dict[str, Any]:
    """The result of a week in Dagster's terms."""
    shown = {label: preview(v, rows=20) if isinstance(v, pl.DataFrame) else v for label, v in result.details.items()}
    return {"dagster/partition_row_count": result.rows, **shown}


def table_metadata(name: str) -> dict[str, Any]:
    """An asset's definition metadata: its table's name and columns."""
    table = TABLES[name]
    columns = [TableColumn(c, str(kind), description=str(table.note(c))) for c, kind in table.schema.items()]
    return {"dagster/table_name": f"otc.{name}", "dagster/column_schema": TableSchema(columns)}


def common_options(pool: str) -> dict[str, Any]:
    """The arguments of ``asset`` that are common to all assets."""
    return {"backfill_policy": IN_YEARS, "retry_policy": RETRY, "pool": pool, "owners": OWNERS}


def table_options(name: str, weeks: WeekPartitions) -> dict[str, Any]:
    """The arguments of ``asset`` for one that computes a table of the registry."""
    return {
        **common_options("database"),
        "partitions_def": weeks.of_figures,
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
