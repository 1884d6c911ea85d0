"""Jobs: what schedules and sensors launch, and what an operator launches in the UI.

When they run is in ``schedules`` and ``sensors``. The weeks of the tiers have different lags, and the assets of a job
must share their weeks: there is one capture job per tier, and one for everything that is computed from the tiers.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    AssetSelection,
    Config,
    Failure,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    ResourceParam,
    define_asset_job,
    job,
    op,
)

from otc_assets.archive.store import Archive
from otc_assets.defs.internals import UnresolvedAssetJobDefinition
from otc_assets.defs.partitions import key_of
from otc_assets.defs.spans import traced_step
from otc_assets.domain.report import WEEKLY_REPORT, over_weeks
from otc_assets.domain.tables import in_order
from otc_assets.domain.weeks import TIERS
from otc_assets.finra.sources import today_in_new_york
from otc_assets.pipeline import captures
from otc_assets.pipeline.capture import Captured
from otc_assets.pipeline.file_drop import decode_path
from otc_assets.pipeline.ingest import allowed_file
from otc_assets.pipeline.ingest import ingest_files as ingest_each
from otc_assets.settings import Settings
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.events import event_context
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.retention import apply_retention

CAPTURE_JOBS = {
    tier.id: define_asset_job(
        f"capture_{tier.slug}",
        selection=AssetSelection.assets(f"publication_{tier.slug}"),
        description=f"Captures FINRA's publication of {tier.name} for a week.",
    )
    for tier in TIERS
}

#: The assets downstream of the publications.
DOWNSTREAM = (*in_order(), "gap_report", WEEKLY_REPORT.name)

COMPUTE_WEEK = define_asset_job(
    "compute_week",
    selection=AssetSelection.assets("week_calendar", *DOWNSTREAM),
    description="Computes venue volume, all figures, the gap report and the weekly report of a week from its captures.",
)

REPORT_GAPS = define_asset_job(
    "report_gaps",
    selection=AssetSelection.assets("gap_report"),
    description="Updates the gap report of weeks: a publication that was pending may be late now.",
)

COMPUTE_ROLLING = define_asset_job(
    "compute_rolling",
    selection=AssetSelection.assets(*over_weeks()),
    description="Recomputes a week's six-week figures and report, after one of the five weeks before it has changed.",
)


class FilesToIngest(Config):
    """Which files, and what their names and rows do not say.

    Attributes:
        paths: files of the website, or of API records, in the folder OTC_FILES. One whose name is not UTF-8 is
            written as ``bytes:`` and its percent-encoded bytes.
        week_ending: the Friday, where a file does not identify its week.
        summary_type: FINRA's summaryTypeCode, where a file of totals has no such column.
    """

    paths: list[str]
    week_ending: str | None = None
    summary_type: str | None = None


#: The files that the command in this process was given. Only ``launch`` sets it: run config and tags come from
#: anyone who can reach the UI, and must not open any file of this machine.
given_files: ContextVar[frozenset[str]] = ContextVar("given_files", default=frozenset())

#: Set on a run that has looked at all its files, even if it refused some: it need not be repeated.
LOOKED_AT_ALL_TAG = "otc/files"

#: The number of refusals in the run's failure; all of them are events.
_REASONS_SHOWN = 20


@op(pool="database", out=Out(Nothing))
@traced_step
def ingest(
    context: OpExecutionContext,
    config: FilesToIngest,
    warehouse: ResourceParam[Database],
    archive: ResourceParam[Archive],
    settings: ResourceParam[Settings],
) -> Iterator[AssetMaterialization | AssetObservation]:
    """Captures downloaded files; the sensor ``stale_weeks`` computes their weeks."""
    refused: list[str] = []

    def refuse(reason: str, error: Exception | None) -> None:
        refused.append(reason)
        context.log.error(reason, exc_info=error)

    for name, captured in ingest_each(
        map(decode_path, config.paths),
        warehouse,
        archive,
        find=lambda path: allowed_file(path, settings.files_folder, given_files.get()),
        week_ending=dt.date.fromisoformat(config.week_ending) if config.week_ending else None,
        summary_type=config.summary_type,
        today=today_in_new_york(),
        run_id=context.run_id,
        refuse=refuse,
    ):
        yield _event(name, captured, context.log)
    context.instance.add_run_tags(context.run_id, {LOOKED_AT_ALL_TAG: "all looked at"})
    if refused:
        shown = refused[:_REASONS_SHOWN]
        more = [f"and {len(refused) - len(shown)} more, in the events"] if len(refused) > len(shown) else []
        raise Failure(description="; ".join(shown + more), allow_retries=False)


def _event(name: str, captured: Captured, log: logging.Logger) -> AssetMaterialization | AssetObservation:
    """The event of a capture from a file, which is logged as well."""
    publication, outcome = captured.publication, captured.recorded.outcome
    counts = {
        "received": publication.rows_received,
        "accepted": publication.rows_accepted,
        "rejected": publication.rows_rejected,
    }
    counted = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    log.info("%s: %s of week %s, %s: %s", name, publication.tier, publication.week_ending, outcome, counted)
    asset, partition = AssetKey(f"publication_{captured.capture.tier.slug}"), key_of(publication.week_ending)
    origin = {"state": outcome, "digest": publication.digest, "from": publication.origin}
    if outcome == "unchanged":
        return AssetObservation(asset, partition=partition, metadata=origin)
    return AssetMaterialization(asset, partition=partition, metadata={**origin, **counts})


class CaptureToAccept(Config):
    """Which quarantined capture to accept: its id, as the check 'none_quarantined' names it."""

    capture_id: int


class CaptureToWithdraw(Config):
    """Which capture to withdraw, and why; or, with ``restore``, whose withdrawal to take back."""

    capture_id: int
    reason: str = ""
    restore: bool = False


@op(pool="database", out=Out(Nothing))
@traced_step
def accept_quarantined(
    context: OpExecutionContext, config: CaptureToAccept, warehouse: ResourceParam[Database]
) -> None:
    """Makes a quarantined capture effective."""
    with event_context(context.run_id), warehouse.transaction() as connection:
        accepted = _decide(lambda: captures.accept(connection, config.capture_id))
    context.log.info("capture %s of week %s, %s, is effective", accepted.id, accepted.week_ending, accepted.tier)


@op(pool="database", out=Out(Nothing))
@traced_step
def withdraw_or_restore(
    context: OpExecutionContext, config: CaptureToWithdraw, warehouse: ResourceParam[Database]
) -> None:
    """Makes a capture ineffective, or takes that back."""
    with event_context(context.run_id), warehouse.transaction() as connection:
        if config.restore:
            changed = _decide(lambda: captures.restore(connection, config.capture_id))
        else:
            changed = _decide(lambda: captures.withdraw(connection, config.capture_id, config.reason))
    done = "restored" if config.restore else "withdrawn"
    context.log.info("capture %s of week %s, %s, is %s", changed.id, changed.week_ending, changed.tier, done)


def _decide(decision: Callable[[], Publication]) -> Publication:
    try:
        return decision()
    except captures.CaptureNotChangeable as error:
        raise Failure(description=str(error), allow_retries=False) from None


@op(pool="database", out=Out(Nothing))
@traced_step
def drop_expired_weeks(context: OpExecutionContext, warehouse: ResourceParam[Database]) -> None:
    """Drops the weeks that are no longer kept, where the server has no job of its own that does."""
    with event_context(context.run_id), warehouse.transaction() as connection:
        applied = apply_retention(connection)
    for kind in applied:
        context.log.info("%s: %s weeks before %s were dropped", kind.what, kind.weeks, kind.retained_from)
    if not applied:
        context.log.info("no week is expired")


@job(description="Deletes weeks outside the retention window (OTC_KEEP_..._WEEKS).")
def retention() -> None:
    drop_expired_weeks()


@job(description="Accepts a quarantined capture. Its id is in the failed check 'none_quarantined' of venue_volume.")
def accept_capture() -> None:
    accept_quarantined()


@job(description="Withdraws a capture, so that it is no longer effective, or restores a withdrawn capture.")
def withdraw_capture() -> None:
    withdraw_or_restore()


@job(description="Ingests downloaded files of FINRA's website, or files of API records.")
def ingest_files() -> None:
    ingest()


JOBS: list[JobDefinition | UnresolvedAssetJobDefinition] = [
    *CAPTURE_JOBS.values(),
    COMPUTE_WEEK,
    COMPUTE_ROLLING,
    REPORT_GAPS,
    ingest_files,
    accept_capture,
    withdraw_capture,
    retention,
]
