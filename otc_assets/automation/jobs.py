"""Jobs: what schedules and sensors launch.

Here: selections of assets, and the job that takes in files. Not here: when they run (``schedules``, ``sensors``).

The tiers' weeks come at different lags, and a job's assets must share their weeks: one capture job a tier,
and one for everything that is made of the tiers.
"""

import datetime as dt
import hashlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

import sqlalchemy as sa
from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    AssetSelection,
    Config,
    Failure,
    Nothing,
    OpExecutionContext,
    Out,
    define_asset_job,
    job,
    op,
)

from otc_assets import interruption
from otc_assets.assets.publications import capture_all, failures, tell_rejected
from otc_assets.assets.spans import traced_step
from otc_assets.automation.file_drop import decode_path
from otc_assets.domain.bounds import UnreadableFile
from otc_assets.domain.tables import in_order, rolling_figures
from otc_assets.domain.weeks import TIERS
from otc_assets.finra.download_files import printable, read_bounded, read_file
from otc_assets.finra.source import PermanentSourceError
from otc_assets.partitions import key_of
from otc_assets.pipeline import captures
from otc_assets.resources import RawArchive, Warehouse, today_in_new_york
from otc_assets.settings import settings
from otc_assets.tracing import FETCH, span
from otc_assets.warehouse.events import event_context
from otc_assets.warehouse.publication import Publication
from otc_assets.warehouse.retention import apply_retention, refusal, retained_from
from otc_assets.warehouse.server import DatabaseUnreachable

CAPTURE_JOBS = {
    tier.id: define_asset_job(
        f"capture_{tier.slug}",
        selection=AssetSelection.assets(f"publication_{tier.slug}"),
        description=f"Captures FINRA's publication of {tier.name} for a week.",
    )
    for tier in TIERS
}

MAKE_WEEK = define_asset_job(
    "make_week",
    selection=AssetSelection.assets("week_calendar", *in_order(), "gap_report"),
    description="Makes a week of everything from what is captured of it.",
)

REPORT_GAPS = define_asset_job(
    "report_gaps",
    selection=AssetSelection.assets("gap_report"),
    description="Reports the gaps of weeks anew: what was pending may be late by now.",
)

MAKE_ROLLING = define_asset_job(
    "make_rolling",
    selection=AssetSelection.assets(*rolling_figures()),
    description="Makes a week's six-week figures anew, after one of the five weeks before it has changed.",
)


class FilesToIngest(Config):
    """Which files, and what their names and rows can't tell.

    Attributes:
        paths: files of the website, or of API records, in the folder OTC_FILES. One whose name is not UTF-8 is
            written as ``bytes:`` and its percent-encoded bytes.
        week_ending: the Friday, where a file does not settle its week.
        summary_type: FINRA's summaryTypeCode, where a file of totals does not carry it.
    """

    paths: list[str]
    week_ending: str | None = None
    summary_type: str | None = None


#: The files that the command in this process was given. Only ``running`` sets it: run config and tags come from
#: whoever can reach the UI, and must not open any file of this machine.
given_files: ContextVar[frozenset[str]] = ContextVar("given_files", default=frozenset())

#: Set on a run that has looked at all its files, also where it refused some: it need not be repeated.
LOOKED_AT_ALL_TAG = "otc/files"

#: So many refusals are in the run's failure; all of them are events.
_REASONS_SHOWN = 20

#: What may pass by itself, and concerns the files that follow as well.
_PASSING = (DatabaseUnreachable, sa.exc.OperationalError, sa.exc.InterfaceError)


def _allowed(text: str) -> Path:
    """The file that a path of the run config names.

    Raises:
        PermanentSourceError: it is outside of the folder for files, also by way of a link.
    """
    path = decode_path(text)
    if path in given_files.get():
        return Path(path)
    folder = os.path.realpath(settings().files_folder)
    target = os.path.realpath(os.path.join(folder, path))
    if os.path.commonpath([folder, target]) != folder:
        raise PermanentSourceError(
            f"{printable(path)} is not in the folder for files (OTC_FILES)",
            remedy="Put it there, or ingest it with 'otc-assets ingest' on the machine itself.",
        )
    return Path(target)


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file; None where it can't be read, or not to its end."""
    try:
        return hashlib.sha256(read_bounded(path)).hexdigest()
    except (UnreadableFile, PermanentSourceError):
        return None


def _unexpected(context: OpExecutionContext, warehouse: Warehouse, name: str, error: Exception) -> str:
    """Records that a file was refused for a reason that nobody foresaw: the files after it are not to wait for it."""
    reason = f"{name} could not be taken in: {type(error).__name__}; the log of run {context.run_id} says more"
    context.log.error("%s could not be taken in", name, exc_info=error)
    tell_rejected(warehouse, context.run_id, name, reason)
    return reason


@op(pool="database", out=Out(Nothing))
@traced_step
def ingest(
    context: OpExecutionContext, config: FilesToIngest, warehouse: Warehouse, raw_archive: RawArchive
) -> Iterator[AssetMaterialization | AssetObservation]:
    """Captures downloaded files; what is made of their weeks follows by itself."""
    week = dt.date.fromisoformat(config.week_ending) if config.week_ending else None
    archive = raw_archive.open()
    refused: dict[str, str] = {}
    for text in config.paths:
        interruption.check()
        name, path = printable(decode_path(text)), None
        try:
            path = _allowed(text)
            name = printable(path.name)
            with span(FETCH, file=name):
                found = read_file(path, week_ending=week, summary_type=config.summary_type, today=today_in_new_york())
        except (UnreadableFile, PermanentSourceError) as error:
            # The other files are taken in all the same.
            refused[text] = str(error)
            context.log.error("%s: %s", name, error)
            digest = _digest(path) if path else None
            tell_rejected(warehouse, context.run_id, name, str(error), digest=digest)
            continue
        except Exception as error:
            refused[text] = _unexpected(context, warehouse, name, error)
            continue
        try:
            with warehouse.transaction() as connection:
                oldest = retained_from(connection, "venue_volume") or dt.date.min
                if beyond := [capture.week_ending for capture in found if capture.week_ending < oldest]:
                    # Its other weeks are taken in all the same.
                    refused[text] = f"{name}: {refusal('venue_volume', min(beyond), oldest)}"
            kept = [capture for capture in found if capture.week_ending >= oldest]
            for captured in capture_all(kept, archive, warehouse, context.run_id):
                publication, outcome = captured.publication, captured.recorded.outcome
                counts = {
                    "received": publication.rows_received,
                    "accepted": publication.rows_accepted,
                    "rejected": publication.rows_rejected,
                }
                if problems := failures([captured]):
                    # The other captures are recorded all the same.
                    refused[f"{text} {publication.week_ending} {publication.tier}"] = "; ".join(problems)
                said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
                context.log.info(
                    "%s: %s of week %s, %s: %s",
                    name,
                    publication.tier,
                    publication.week_ending,
                    outcome,
                    said,
                )
                asset = AssetKey(f"publication_{captured.capture.tier.slug}")
                if outcome == "unchanged":
                    yield AssetObservation(
                        asset,
                        partition=key_of(publication.week_ending),
                        metadata={"state": outcome, "digest": publication.digest, "from": publication.origin},
                    )
                else:
                    yield AssetMaterialization(
                        asset,
                        partition=key_of(publication.week_ending),
                        metadata={
                            "state": outcome,
                            **counts,
                            "digest": publication.digest,
                            "from": publication.origin,
                        },
                    )
        except UnreadableFile as error:
            refused[text] = str(error)
            context.log.error("%s: %s", name, error)
        except _PASSING:
            raise
        except Exception as error:
            refused[text] = _unexpected(context, warehouse, name, error)
    context.instance.add_run_tags(context.run_id, {LOOKED_AT_ALL_TAG: "all looked at"})
    if refused:
        shown = list(refused.values())[:_REASONS_SHOWN]
        more = [f"and {len(refused) - len(shown)} more, in the events"] if len(refused) > len(shown) else []
        raise Failure(description="; ".join(shown + more), allow_retries=False)


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
def accept_quarantined(context: OpExecutionContext, config: CaptureToAccept, warehouse: Warehouse) -> None:
    """Makes a quarantined capture effective."""
    with event_context(context.run_id), warehouse.transaction() as connection:
        accepted = _decide(lambda: captures.accept(connection, config.capture_id))
    context.log.info("capture %s of week %s, %s, is effective", accepted.id, accepted.week_ending, accepted.tier)


@op(pool="database", out=Out(Nothing))
@traced_step
def withdraw_or_restore(context: OpExecutionContext, config: CaptureToWithdraw, warehouse: Warehouse) -> None:
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
def drop_old_weeks(context: OpExecutionContext, warehouse: Warehouse) -> None:
    """Drops the weeks that are no longer kept, where the server has no jobs of its own that do."""
    with event_context(context.run_id), warehouse.transaction() as connection:
        applied = apply_retention(connection)
    for kind in applied:
        context.log.info("%s: %s weeks before %s were dropped", kind.what, kind.weeks, kind.retained_from)
    if not applied:
        context.log.info("nothing is older than what is kept")


@job(description="Drops weeks that are older than what is kept (OTC_KEEP_..._WEEKS). Summaries stay.")
def retention() -> None:
    drop_old_weeks()


@job(description="Accepts a quarantined capture: its id is in the failed check 'none_quarantined' of venue_volume.")
def accept_capture() -> None:
    accept_quarantined()


@job(description="Withdraws a capture, so that it is not effective any more; or restores one that was withdrawn.")
def withdraw_capture() -> None:
    withdraw_or_restore()


@job(description="Takes in downloaded files of FINRA's website, or files of API records.")
def ingest_files() -> None:
    ingest()
