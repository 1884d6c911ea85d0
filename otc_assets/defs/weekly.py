"""How an asset runs over the weeks of a run: a loop, with a materialization and a failure per week.

What is computed for a week is in ``pipeline``; how weeks that failed upstream are found, in ``run_events``.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import polars as pl
import sqlalchemy as sa
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    BackfillPolicy,
    Backoff,
    Failure,
    Jitter,
    MaterializeResult,
    MetadataValue,
    RetryPolicy,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableRecord,
    TableSchema,
)

from otc_assets import interruption
from otc_assets.archive.store import ArchiveError, ArchiveUnavailable
from otc_assets.defs.internals import NO_MATERIALIZATION, version_tags
from otc_assets.defs.partitions import WeekPartitions, key_of, weeks_of
from otc_assets.defs.run_events import weeks_failed_upstream
from otc_assets.domain.column_lineage import columns_from
from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.notes import NOTES
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.table import Figure, Table
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS, weeks_up_to
from otc_assets.errors import OtcError
from otc_assets.finra.source import PermanentSourceError, SourceError
from otc_assets.pipeline.results import Link, Markdown, WeekRefused, WeekResult
from otc_assets.tracing import WEEK, set_attributes, span
from otc_assets.warehouse.database import NOT_PREPARED
from otc_assets.warehouse.definitions import comment_of
from otc_assets.warehouse.events import event_context
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.read import quality, recent_rows
from otc_assets.warehouse.retention import Dropped
from otc_assets.warehouse.server import DatabaseUnreachable

OWNERS = ["team:market-structure"]

#: The group of all assets. The UI opens a graph of one group with every asset visible, and of several groups with none.
GROUP = "otc"

#: A backfill computes up to a year of weeks in one run: a run per week pays the overhead of a run every time.
YEAR = 52

#: A run captures at most 13 weeks. T2 and OTC share a run: 13 x (34 + 5) pages of 5,000 rows. FINRA takes about a
#: second for a page, so that the run takes nine minutes; ``max_runtime_seconds`` (7,200) would end it at 14 seconds per
#: page. It would end a run of 52 weeks, 2,030 pages, at 3.5. Shorter runs are slower: a backfill of 26 weeks took 238 s
#: with runs of four weeks, and 177 s with these.
CAPTURES = 13

#: Temporary errors are retried, three times; permanent ones are raised with ``allow_retries=False``.
RETRY = RetryPolicy(max_retries=3, delay=10, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)

#: Temporary errors: the step is retried for the weeks that had one.
_TEMPORARY = (
    SourceError,
    ArchiveUnavailable,
    DatabaseUnreachable,
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    OSError,
)

#: After temporary errors of so many weeks in a row, the rest are not attempted: a server is down.
_DOWN_AFTER = 2

#: Errors whose message says all that a user needs.
_EXPLAINED = (WeekRefused, PermanentSourceError, Dropped, ArchiveError, UnreadableFile)

#: How many weeks the chart of a week's rows has, the week included, and the heights of its bars.
_RECENT = 13
_BARS = "▁▂▃▄▅▆▇█"
#: The tables that an asset of another name writes, with that asset.
WRITTEN_BY = {"published_total": "venue_volume", "gap": "gap_report", "dataset_gap": "gap_report"}
#: By asset, the data set or tier that it captures.
_DATASETS = {dataset.table: dataset.name for dataset in DATASETS}
_TIERS = {f"publication_{tier.slug}": tier.name for tier in TIERS}

#: What a week-keyed asset yields.
WeekEvents = Iterator[AssetMaterialization | MaterializeResult]


def each_week(
    context: AssetExecutionContext,
    compute: Callable[[dt.date], WeekResult],
    known: Callable[[dt.date], WeekResult | None] = lambda week: None,
) -> WeekEvents:
    """Computes the run's weeks one after another, oldest first, each in its own transaction, and reports each at once.

    A week that fails does not stop the others. The step then fails with the list of those that failed, and only they
    count as failed. Downstream assets go on with the others (``executor``); here, weeks that failed upstream in the
    same run are left out.

    Args:
        context: Dagster's.
        compute: computes a week.
        known: the result of a week that needs no work; None if it has to be computed.

    Raises:
        Failure: weeks failed. The step is retried if an error was temporary.
        Interrupted: a signal ends the command; the weeks that follow are not computed.
    """
    chosen = weeks_of(context.partition_keys)
    upstream = context.assets_def.asset_deps[context.asset_key]
    left_out = weeks_failed_upstream(context.instance, context.run.run_id, upstream, chosen)
    done, in_a_row, temporary = 0, 0, False
    failed: dict[dt.date, str] = {}
    for number, week in enumerate(chosen, 1):
        interruption.check()
        if week in left_out:
            context.log.warning("%s: left out, because %s", week, left_out[week])
            continue
        if in_a_row == _DOWN_AFTER:
            failed[week] = "not attempted after these errors"
            continue
        try:
            with span(WEEK, week_ending=week), event_context(context.run.run_id):
                result = known(week) or compute(week)
                set_attributes(rows=result.rows)
        except NOT_PREPARED:
            raise
        except Exception as error:
            failed[week] = _reason(error)
            is_temporary = isinstance(error, _TEMPORARY) and not isinstance(error, _EXPLAINED)
            temporary = temporary or is_temporary
            in_a_row = in_a_row + 1 if is_temporary else 0
            context.log.error("%s: %s", week, failed[week], exc_info=not isinstance(error, OtcError))
            continue
        done, in_a_row = done + 1, 0
        yield AssetMaterialization(
            context.asset_key,
            partition=key_of(week),
            metadata=_metadata(result) | _context_of(context, week),
            tags=version_tags(context, result.version),
        )
        context.log.info("%s: %s rows (week %s of %s)", week, f"{result.rows:,}", number, len(chosen))
    retried = temporary and _has_retries(context)
    if (done or not failed) and not retried:
        # The downstream assets need the output. The weeks were reported above.
        yield MaterializeResult(metadata=NO_MATERIALIZATION)
    if failed:
        raise Failure(
            description="; ".join(f"{week}: {reason}" for week, reason in failed.items()),
            metadata={"weeks that failed": ", ".join(map(str, failed)), "weeks done": done},
            allow_retries=retried,
        )


def if_several(
    context: AssetExecutionContext, current: Callable[[dt.date], WeekResult | None]
) -> Callable[[dt.date], WeekResult | None]:
    """In a run over several weeks, the result of a week that is up to date; a week by itself is always computed."""
    return current if len(context.partition_keys) > 1 else lambda week: None


def _reason(error: Exception) -> str:
    """Why a week failed, in words."""
    if isinstance(error, OtcError):
        return str(error)
    cause = getattr(error, "orig", None) or error  # an error of SQLAlchemy shows the whole statement
    return f"{type(cause).__name__}: {cause}".strip()


def _has_retries(context: AssetExecutionContext) -> bool:
    """Whether Dagster retries the step after a temporary error."""
    op = context.op_execution_context
    return op.retry_number < RETRY.max_retries and not op.get_step_execution_context().retry_mode.disabled


def _metadata(result: WeekResult) -> dict[str, Any]:
    """The result of a week in Dagster's terms."""
    return {"dagster/partition_row_count": result.rows, **{label: _shown(v) for label, v in result.details.items()}}


def _shown(value: object) -> Any:
    """A detail in Dagster's terms."""
    match value:
        case pl.DataFrame():
            return preview(value, rows=20)
        case Markdown():
            return MetadataValue.md(str(value))
        case Link():
            return MetadataValue.url(str(value))
        case Path():
            return MetadataValue.path(value)
        case _:
            return value


def _context_of(context: AssetExecutionContext, week: dt.date) -> dict[str, Any]:
    """The rows of the weeks before, for comparison, and the week's grades.

    Failing to read it is no failure of the week, which is stored.
    """
    name = context.asset_key.to_python_identifier()
    table = TABLES.get(name)
    weeks = weeks_up_to(week, _RECENT)
    try:
        with context.resources.warehouse.transaction() as connection:
            rows = recent_rows(connection, name, _DATASETS.get(name), _TIERS.get(name), weeks)
            grades = quality(connection, week) if isinstance(table, Figure) else []
    except (DatabaseUnreachable, sa.exc.DBAPIError) as error:
        context.log.warning("the rows of the weeks before could not be read: %s", error)
        return {}
    shown: dict[str, Any] = {}
    if len(rows) > 1 and (table or name in _TIERS):  # a report is one row in every week
        shown["rows, recent weeks"] = MetadataValue.md(
            f"{sparkline([number for _, number in rows])} {rows[0][0]} to {rows[-1][0]}; the fewest "
            f"{min(number for _, number in rows):,}, the most {max(number for _, number in rows):,}"
        )
    if grades:
        shown["grade"] = ", ".join(f"{row['tier']} {row['grade']}" for row in grades)
    return shown


def sparkline(values: Sequence[int]) -> str:
    """A chart in one line of text: a bar for each value, relative to the largest; the lowest bar is 0."""
    most = max(values) or 1
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] for value in values)


def table_metadata(name: str) -> dict[str, Any]:
    """An asset's definition metadata: its table's name and columns."""
    table = TABLES[name]
    columns = [TableColumn(c, str(kind), description=str(table.note(c))) for c, kind in table.schema.items()]
    metadata = {"dagster/table_name": f"otc.{name}", "dagster/column_schema": TableSchema(columns)}
    lineage = {
        column: [
            TableColumnDep(AssetKey(WRITTEN_BY.get(source, source)), of) for source, of in columns_from(name, column)
        ]
        for column in table.schema
    }
    if any(lineage.values()):
        # Dagster's open-source UI shows it as JSON; other catalogs draw it.
        metadata["dagster/column_lineage"] = TableColumnLineage(lineage)
    return metadata


def publication_metadata() -> dict[str, Any]:
    """The same of captures, whose table is not in the registry."""
    columns = [
        TableColumn(name, _type_name(field.annotation), description=comment_of("publication", name))
        for name, field in Publication.model_fields.items()
    ]
    return {"dagster/table_name": "otc.publication", "dagster/column_schema": TableSchema(columns)}


def _type_name(annotation: Any) -> str:
    """Of a type that may be None, the type's."""
    kind = next(kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType)
    return str(getattr(kind, "__origin__", kind).__name__)


def common_options(pool: str, weeks: WeekPartitions, weeks_per_run: int) -> dict[str, Any]:
    """The arguments of ``asset`` that are common to all assets.

    Args:
        pool: whose slots its steps need.
        weeks: the weeks of the installation.
        weeks_per_run: how many weeks a run of a backfill takes at most.
    """
    multi_run = BackfillPolicy.multi_run(max_partitions_per_run=weeks_per_run)
    return {
        "group_name": GROUP,
        "retry_policy": RETRY,
        "backfill_policy": BackfillPolicy.single_run() if weeks.in_single_runs else multi_run,
        "pool": pool,
        "owners": OWNERS,
    }


def table_options(name: str, weeks: WeekPartitions) -> dict[str, Any]:
    """The arguments of ``asset`` for one that computes a table of the registry."""
    return {
        **common_options("database", weeks, YEAR),
        "partitions_def": weeks.of_figures,
        "description": TABLES[name].description + _how(TABLES[name]),
        "metadata": table_metadata(name),
    }


def _how(table: Table) -> str:
    """How a figure is computed, in a sentence."""
    if not isinstance(table, Figure):
        return ""
    weeks = f" of the week and the {table.weeks - 1} weeks before it" if table.weeks > 1 else ""
    formula = f"{table.formula.__module__}.{table.formula.__name__}"
    return f"\n\nComputed from {', '.join(f'`{source}`' for source in table.sources)}{weeks} by `{formula}`."


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
