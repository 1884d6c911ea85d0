"""Rebuilds a database from the archive alone: repeats, in order, what the journal says was done.

Each recorded transaction is repeated under the present rules: rows are read from the archived bytes again, and what was
computed is computed again. Moments, ids and decisions are the recorded ones. Where the result differs in its number of
rows or its version, the difference is reported. The format of the journal is in ``archive.journal``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa

from otc_assets import interruption
from otc_assets.archive.journal import Entry, Journal, journals, week_of
from otc_assets.archive.parallel import in_threads
from otc_assets.archive.store import Archive, ArchiveError, error_of
from otc_assets.domain import normalize
from otc_assets.domain.checks import grade
from otc_assets.domain.datasets import BY_NAME
from otc_assets.domain.parsing.dataset_rows import read_dataset
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.schema import GAP
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.errors import OtcError
from otc_assets.pipeline.calendar import calendar_rows
from otc_assets.pipeline.captures import accepted_over, counts_and_dates, normalized_rows, parsed_capture
from otc_assets.pipeline.datasets import counts
from otc_assets.pipeline.figures import store_figure
from otc_assets.pipeline.grading import week_findings
from otc_assets.pipeline.reading_order import in_reading_order
from otc_assets.pipeline.volume import store_volume
from otc_assets.warehouse import events, load
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.datasets import save_capture
from otc_assets.warehouse.publication import NewPublication, Publication, PublicationFields
from otc_assets.warehouse.read import computed_version, effective_publications, publication_of, week_rows
from otc_assets.warehouse.replay import (
    continue_ids,
    continue_journal,
    drop_weeks,
    insert_events,
    replaying,
    require_empty,
    set_next_capture,
)
from otc_assets.warehouse.roles import require_owner
from otc_assets.warehouse.server import lock_week

Progress = Callable[[int, str], None]


class NotRebuildable(OtcError):
    """The archive has no journal, or objects of it are damaged, missing or contradictory. The message names them."""


@dataclass(frozen=True)
class Plan:
    """What a rebuild will do.

    Attributes:
        journal_id: the journal that is repeated.
        entries: its transactions, oldest first.
        left_out: by week that is not rebuilt because of damage, why.
        is_whole: whether it is the whole journal.
    """

    journal_id: str
    entries: Sequence[Entry]
    left_out: Mapping[dt.date | None, Sequence[str]]
    is_whole: bool


@dataclass
class Rebuilt:
    """What was rebuilt.

    Attributes:
        weeks: the weeks of which something was recorded.
        captures, transactions: their numbers.
        other_rules: by table, the code versions that computed it then, where they are not the present one.
        differences: what has another number of rows or another version than was recorded, in sentences.
        failed: by week that is incomplete, why.
    """

    weeks: set[dt.date] = field(default_factory=set)
    captures: int = 0
    transactions: int = 0
    other_rules: dict[str, set[str]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    failed: dict[dt.date | None, str] = field(default_factory=dict)


def plan(
    archive: Archive,
    progress: Progress,
    *,
    journal_id: str | None = None,
    weeks: Sequence[dt.date] | None = None,
    leave_out_damaged: bool = False,
) -> Plan:
    """Reads the journal and the archived bytes that it names, and checks them.

    Args:
        archive: the archive.
        progress: called with the number of captures checked, and the week of the next one.
        journal_id: which journal, if the archive has those of several databases.
        weeks: only these; None: all.
        leave_out_damaged: leave out the weeks with damaged, missing or contradictory objects instead of refusing.

    Raises:
        NotRebuildable: there is no such journal, or objects are damaged.
    """
    journal_id = _chosen(archive, journal_id)
    found = Journal(archive, journal_id).read()
    digests: dict[str, list[dt.date | None]] = {}
    for entry in found.entries:
        for event in entry.events:
            if event["event_type"] in (events.FileIngested.event_type, events.DatasetCaptured.event_type):
                digests.setdefault(event["payload"]["digest"], []).append(week_of(event))
    for done, (of_weeks, error) in enumerate(
        zip(digests.values(), in_threads(lambda digest: error_of(archive, digest), digests), strict=True)
    ):
        interruption.check()
        progress(done, str(of_weeks[0]))
        for week in of_weeks if error else ():
            found.problems[week].append(str(error))
    problems = {week: texts for week, texts in found.problems.items() if weeks is None or week is None or week in weeks}
    if problems and not leave_out_damaged:
        texts = list(dict.fromkeys(text for of_week in problems.values() for text in of_week))
        more = f"; and {len(texts) - 10} more" if len(texts) > 10 else ""
        raise NotRebuildable(
            f"{len(texts)} objects of the archive are damaged, missing or contradictory: {'; '.join(texts[:10])}{more}",
            remedy="Restore them from a backup of the archive, or add --leave-out-damaged to rebuild the other weeks.",
        )
    known = {week for entry in found.entries for event in entry.events if (week := week_of(event))}
    wanted = (known if weeks is None else known & set(weeks)) - problems.keys()
    entries = [kept for entry in found.entries if (kept := entry.of_weeks(wanted))]
    return Plan(journal_id, in_reading_order(entries), problems, not problems and wanted == known)


def _chosen(archive: Archive, journal_id: str | None) -> str:
    known = journals(archive)
    if not known:
        raise NotRebuildable(
            "the archive has no journal, from which a database can be rebuilt",
            remedy="If its database still exists, run 'otc-assets migrate' with it: this writes the journal.",
        )
    if journal_id is None and len(known) > 1:
        raise NotRebuildable(
            f"the archive has the journals of {len(known)} databases: {', '.join(known)}",
            remedy="Name one with --journal. 'SELECT journal_id FROM otc.journal' is a database's.",
        )
    if journal_id is not None and journal_id not in known:
        raise NotRebuildable(f"the archive has no journal {journal_id}; it has {', '.join(known)}")
    return journal_id or known[0]


def refuse_used(database: Database) -> None:
    """Refuses a database that has captures or events, and a role other than its owner: ids and times are set.

    Raises:
        NotEmpty: it has.
        WrongRole: the role of the database's URL is not the owner of the schema.
    """
    with database.transaction() as connection:
        require_owner(connection, "rebuild a database from the archive")
        require_empty(connection)


def rebuild(plan: Plan, database: Database, archive: Archive, progress: Progress) -> Rebuilt:
    """Repeats the transactions of a plan on an empty database, one transaction each.

    If everything was repeated, the database continues the journal: its next events are written to it. Otherwise it has
    a journal of its own. A week that can't be computed does not stop the others. Answers as of a moment are withheld
    until the end.

    Args:
        plan: what to repeat.
        database: migrated, and without captures and events; it must not write a journal of its own.
        archive: where the bytes are.
        progress: called with the number of transactions done, and the week of the next one.

    Raises:
        NotEmpty: the database has captures or events.
        Interrupted: a signal ended the command; the database is incomplete.
    """
    refuse_used(database)
    done = Rebuilt()
    repeater = _Repeater(archive, done, plan.entries)
    with database.answers_withheld():
        for number, entry in enumerate(plan.entries):
            interruption.check()
            week = week_of(entry.events[0])
            progress(number, str(week or "no week"))
            if week is not None and week in done.failed:
                continue
            try:
                with database.transaction() as connection:
                    repeater.repeat(connection, entry)
            except (ArchiveError, UnreadableFile) as error:
                done.failed[week] = str(error)
                continue
            if week is not None and (tables := _written(entry)):
                database.refresh_after_load(week, *tables)
            done.transactions += 1
        with database.transaction() as connection:
            continue_ids(connection)
            if plan.is_whole and not done.failed:
                continue_journal(connection, plan.journal_id)
    progress(len(plan.entries), "done")
    return done


def _written(entry: Entry) -> set[str]:
    """The tables that a transaction wrote."""
    tables = {"otc.week.normalized": ["venue_volume", "published_total"]}
    return {
        table
        for event in entry.events
        for table in tables.get(event["event_type"], [event["payload"]["table"]] if "table" in event["payload"] else [])
    }


class _Repeater:
    """Repeats recorded transactions, and notes what differs.

    Args:
        archive: where the bytes are.
        done: where results are noted.
        entries: everything that is repeated.
    """

    def __init__(self, archive: Archive, done: Rebuilt, entries: Sequence[Entry]) -> None:
        self._archive = archive
        self._done = done
        #: By capture, the counts of its last rebuild under other rules than those of its capture.
        self._recounted: dict[int, Mapping[str, Any]] = {
            event["payload"]["publication_id"]: event["payload"]
            for entry in entries
            for event in entry.events
            if event["event_type"] == events.CaptureRecounted.event_type
        }

    def repeat(self, connection: sa.Connection, entry: Entry) -> None:
        """Repeats one transaction, and inserts its events."""
        with replaying(connection, entry.began_at, entry.write_moment or entry.began_at):
            volume = False
            for event in map(events.restored, entry.events):
                payload = event.typed_payload()
                self._begin_week(connection, getattr(payload, "week_ending", None))
                match payload:
                    case events.FileIngested():
                        self._capture(connection, payload, event)
                    case events.DatasetCaptured():
                        self._dataset(connection, payload, event)
                    case events.WeekNormalized():
                        if not volume:
                            self._volume(connection, payload.week_ending)
                        volume = True
                        self._compare_volume(connection, payload)
                    case events.WeekChecked():
                        self._grades(connection, payload)
                    case events.SummaryComputed() | events.MetricsComputed():
                        self._figure(connection, payload)
                    case _:
                        _repeat_decision(connection, payload)
            insert_events(connection, entry.events)

    def _begin_week(self, connection: sa.Connection, week: dt.date | None) -> None:
        if week is None:
            return
        lock_week(connection, week)
        if week not in self._done.weeks:
            load.replace_week(connection, "week_calendar", week, calendar_rows(week), "calendar")
            self._done.weeks.add(week)

    def _capture(self, connection: sa.Connection, payload: events.FileIngested, event: events.Event) -> None:
        """Records a capture as it was captured, with the rows that its bytes have under the present rules."""
        number = payload.publication_id
        known = {name: getattr(payload, name) for name in PublicationFields.model_fields}
        known |= {"run_id": event.metadata.get("run_id"), "initial_published_date": None, "last_update_date": None}
        capture = Publication(**known, id=number, revision=payload.revision, captured_at=event.began_at)
        parsed = parsed_capture(capture, self._archive)
        result = normalized_rows(capture, parsed)
        counted = counts_and_dates(parsed, result, capture.scope, capture.rows_expected)
        set_next_capture(connection, number)
        load.insert_publication(connection, NewPublication(**known | counted), result.rejected)
        recorded = self._recounted.get(number) or payload.model_dump()
        for name in ("rows_received", "rows_accepted", "rows_rejected"):
            self._compare(f"{name} of capture {number}", counted[name], recorded[name])
        self._done.captures += 1

    def _dataset(self, connection: sa.Connection, payload: events.DatasetCaptured, event: events.Event) -> None:
        """Records a capture of a data set, with the rows that its bytes have under the present rules."""
        dataset = BY_NAME[payload.dataset]
        rows = read_dataset(dataset, payload.period, self._archive.get(payload.digest))
        fields = payload.model_dump(exclude={"capture_id", "outcome", "seconds"}) | counts(rows)
        set_next_capture(connection, payload.capture_id, "dataset_capture")
        save_capture(connection, dataset, {**fields, "run_id": event.metadata.get("run_id")}, rows)
        what = f"rows_accepted of {payload.dataset} {payload.period}"
        self._compare(what, rows.accepted.height, payload.rows_accepted)
        self._done.captures += 1

    def _volume(self, connection: sa.Connection, week: dt.date) -> None:
        """Computes the week's venue volume; grades of tiers that have no effective capture are deleted."""
        store_volume(connection, week, self._archive)
        for (_, tier), found in effective_publications(connection, week, week).items():
            if not found.captures:
                load.delete_quality(connection, week, tier)

    def _compare_volume(self, connection: sa.Connection, payload: events.WeekNormalized) -> None:
        week = payload.week_ending
        rows = week_rows(connection, "venue_volume", [week], payload.tier, ["share_volume"])
        what = f"venue_volume of {payload.tier}, week ending {week}"
        self._compare(f"rows of {what}", rows.height, payload.rows)
        self._compare(f"shares of {what}", Decimal(rows["share_volume"].sum() or 0), payload.shares)
        version = computed_version(connection, "venue_volume", week)
        self._compare_version("venue_volume", week, version or "nothing", payload.version)

    def _grades(self, connection: sa.Connection, payload: events.WeekChecked) -> None:
        judged = grade(week_findings(connection, payload.week_ending))
        version = computed_version(connection, "venue_volume", payload.week_ending)
        load.save_grades(connection, judged, version or payload.version)
        then = {tier: recorded.grade for tier, recorded in payload.grades.items()}
        self._compare(f"the grades of {payload.week_ending}", dict(judged.select("tier", "grade").rows()), then)

    def _figure(self, connection: sa.Connection, payload: events.SummaryComputed | events.MetricsComputed) -> None:
        figure, week = TABLES[payload.table], payload.week_ending
        assert isinstance(figure, Figure), f"otc.{payload.table} is not computed from other tables"
        stored = store_figure(connection, figure, week)
        rows, version = (stored[0].height, stored[1]) if stored else (0, "nothing")
        self._compare(f"rows of {figure.name}, week ending {week}", rows, payload.rows)
        self._compare_version(figure.name, week, version, payload.version)

    def _compare_version(self, table: str, week: dt.date, now: str, then: str) -> None:
        """Notes another code version, or other inputs."""
        if _code_version(table, now) != _code_version(table, then):
            self._done.other_rules.setdefault(table, set()).add(_code_version(table, then))
        elif not self._done.other_rules:
            self._compare(f"the inputs of {table}, week ending {week}", now, then)

    def _compare(self, what: str, now: Any, then: Any) -> None:
        if now != then:
            self._done.differences.append(f"{what}: {now}, recorded {then}")


def _repeat_decision(connection: sa.Connection, payload: events.Payload) -> None:
    """Repeats what an operator, the gap report or retention did; other events changed nothing but the events."""
    match payload:
        case events.CaptureAccepted():
            capture = publication_of(connection, payload.publication_id)
            assert capture is not None, f"capture {payload.publication_id} is not recorded"
            load.save_decision(connection, payload, accepted_over(connection, capture))
        case events.ReportWritten():
            load.mark_computed(connection, WEEKLY_REPORT.name, payload.week_ending, payload.version, rows=1)
        case events.CaptureQuarantined() | events.CaptureWithdrawn() | events.CaptureRestored():
            load.save_decision(connection, payload)
        case events.GapClosed():
            load.delete_gap(connection, payload.week_ending, payload.tier)
        case events.GapOpened() | events.GapChanged():
            load.delete_gap(connection, payload.week_ending, payload.tier)
            load.save_gaps(connection, pl.DataFrame([payload.model_dump(include=set(GAP))], schema=GAP))
        case events.RetentionApplied():
            drop_weeks(connection, payload.what, payload.retained_from)


def _code_version(table: str, version: str) -> str:
    """The code version in the version of a week; 1 is not written."""
    return version.rpartition(f" {table}@")[2] if f" {table}@" in version else "1"


def present_code_version(table: str) -> str:
    """The code version of the rule that computes a table now."""
    figure = TABLES[table]
    return figure.code_version if isinstance(figure, Figure) else normalize.NORMALIZER_VERSION
