"""Whether a restored installation is whole: its tables, events and lineage, compared with each other and the archive.

Nothing is changed. Restoring is in ``local.restore``, and what only Dagster's storage shows in ``defs.instance``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from otc_assets.archive.store import Archive
from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.tables import TABLES, figures
from otc_assets.pipeline.journaling import compare
from otc_assets.reports.captures import damaged_captures
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.datasets import effective_captures, lost_captures
from otc_assets.warehouse.events.store import ForeignOrder, require_order
from otc_assets.warehouse.lineage import lineage
from otc_assets.warehouse.timescale.capabilities import unfinished_restore


@dataclass(frozen=True)
class Lacking:
    """Something that a whole installation has.

    Attributes:
        what: the part of the installation: archive, tables, events, lineage, database or Dagster.
        problem: what is missing or wrong, and where.
        remedy: what to do.
    """

    what: str
    problem: str
    remedy: str


_RESTORE_AGAIN = "Restore the dump again, into an empty database; if it lacks them too, use an older dump."
_RECOMPUTE = "Start 'otc-assets up': its sensors recompute these weeks. Or run 'otc-assets materialize --weeks'."


def lacking(database: Database, archive: Archive, progress: Callable[[int, str], None]) -> list[Lacking]:
    """What the database and the archive lack; an empty list if they are whole.

    Args:
        database: at the schema version of this code.
        archive: where the bytes of its captures and its journal are.
        progress: called with the number of archived objects read, and what was found so far.
    """
    found: list[Lacking] = []
    with database.transaction() as connection:
        found += _of_server(connection)
        found += _of_tables(connection)
        found += _of_datasets(connection)
        found += _of_events(connection)
        found += _of_lineage(connection)
    _, damaged = damaged_captures(database, archive, None, progress)
    for row in damaged:
        about = f"capture {row['publication']} ({row['tier']}, week ending {row['week_ending']})"
        copied = "Copy it from another archive with 'otc-assets archive copy', or capture the publication again."
        found.append(Lacking("archive", f"the bytes of {about} are {row['problem']}: {row['digest']}", copied))
    journal = compare(database, archive)
    if journal.lacking:
        problem = f"the archive's journal lacks {journal.lacking:,} of the database's events"
        found.append(Lacking("archive", problem, "Run 'otc-assets archive verify', which writes them."))
    remedy = (
        "Run 'otc-assets archive verify', which writes damaged ones; if this lasts, 'otc-assets migrate --restored'."
    )
    found += [Lacking("archive", text, remedy) for text in journal.problems]
    return found


def _of_server(connection: sa.Connection) -> Iterator[Lacking]:
    if problem := unfinished_restore(connection):
        yield Lacking("database", *problem)


_REJECTED = sa.text("""
    SELECT p.id, p.week_ending, p.rows_rejected, count(r.id) AS found
    FROM otc.publication p LEFT JOIN otc.rejected_record r ON r.publication_id = p.id AND r.week_ending = p.week_ending
    GROUP BY p.id, p.week_ending, p.rows_rejected HAVING count(r.id) <> p.rows_rejected ORDER BY p.id
""")
_COMPUTED = sa.text("SELECT table_name, week_ending, rows FROM otc.computed_week")


def _of_tables(connection: sa.Connection) -> Iterator[Lacking]:
    """Weeks with other numbers of rows than were recorded when they were loaded."""
    for row in connection.execute(_REJECTED):
        problem = f"otc.rejected_record has {row.found:,} rows of capture {row.id}, which has {row.rows_rejected:,}"
        yield Lacking("tables", problem, f"Run 'otc-assets rebuild --weeks {row.week_ending}'.")
    recorded: dict[str, dict[dt.date, int]] = {}
    for table, week, rows in connection.execute(_COMPUTED):
        recorded.setdefault(table, {})[week] = rows
    for name in sorted(recorded.keys() & TABLES.keys()):
        week_ending: sa.ColumnClause[dt.date] = sa.column("week_ending")
        counted = sa.select(week_ending, sa.func.count()).select_from(sa.table(name, schema="otc"))
        stored: dict[dt.date, int] = dict(
            connection.execute(counted.group_by(week_ending)).all()  # type: ignore[arg-type]
        )
        wrong = sorted(week for week, rows in recorded[name].items() if stored.get(week, 0) != rows)
        if wrong:
            first = wrong[0]
            problem = (
                f"otc.{name} has other numbers of rows than were loaded, in {len(wrong):,} weeks, the first {first}: "
                f"{stored.get(first, 0):,} instead of {recorded[name][first]:,}"
            )
            remedy = f"Run 'otc-assets rebuild --weeks {first}..{wrong[-1]}', or restore the dump again."
            yield Lacking("tables", problem, remedy)


def _of_datasets(connection: sa.Connection) -> Iterator[Lacking]:
    """Captures of other data sets with other numbers of rows than were accepted, or rejected."""
    for dataset in DATASETS:
        captures = effective_captures(connection, dataset, dt.date.min, dt.date.max)
        if wrong := lost_captures(connection, dataset, captures):
            first, last = wrong[0]["week_ending"], wrong[-1]["week_ending"]
            problem = (
                f"otc.{dataset.table} has other numbers of rows than were accepted, of {len(wrong):,} captures, the "
                f"first of {wrong[0]['period']}"
            )
            remedy = f"Materialize the asset {dataset.table} of {first} to {last}, or restore the dump again."
            yield Lacking("tables", problem, remedy)
    for row in connection.execute(_DATASET_REJECTED):
        problem = f"otc.dataset_rejected has {row.found:,} rows of capture {row.id}, which has {row.rows_rejected:,}"
        yield Lacking("tables", problem, _RESTORE_AGAIN)


_DATASET_REJECTED = sa.text("""
    SELECT c.id, c.rows_rejected, count(r.capture_id) AS found
    FROM otc.dataset_capture c LEFT JOIN otc.dataset_rejected r ON r.capture_id = c.id
    GROUP BY c.id, c.rows_rejected HAVING count(r.capture_id) <> c.rows_rejected ORDER BY c.id
""")
_VERSIONS = sa.text("""
    SELECT aggregate_type, aggregate_id, count(*) AS events, max(version) AS newest FROM otc.events
    GROUP BY aggregate_type, aggregate_id HAVING count(*) <> max(version) ORDER BY min(id)
""")
_INGESTED = sa.text("""
    SELECT p.id FROM otc.publication p WHERE NOT EXISTS (
        SELECT FROM otc.events e
        WHERE e.event_type = 'otc.file.ingested' AND (e.payload ->> 'publication_id')::bigint = p.id)
    ORDER BY p.id
""")
_NEXT_NUMBERS = sa.text("""
    SELECT 'otc.events' AS name, (SELECT max(id) FROM otc.events) AS newest,
        pg_sequence_last_value(pg_get_serial_sequence('otc.events', 'id')) AS given
    UNION ALL SELECT 'otc.publication', (SELECT max(id) FROM otc.publication),
        pg_sequence_last_value(pg_get_serial_sequence('otc.publication', 'id'))
    UNION ALL SELECT 'otc.dataset_capture', (SELECT max(id) FROM otc.dataset_capture),
        pg_sequence_last_value(pg_get_serial_sequence('otc.dataset_capture', 'id'))
""")


def _of_events(connection: sa.Connection) -> Iterator[Lacking]:
    """Events that are missing among those of one aggregate, and positions that are ahead of the events."""
    for row in connection.execute(_VERSIONS):
        problem = (
            f"{row.newest - row.events:,} of the {row.newest:,} events of {row.aggregate_type} {row.aggregate_id} "
            "are missing"
        )
        yield Lacking("events", problem, _RESTORE_AGAIN)
    if without := connection.scalars(_INGESTED).all():
        problem = f"{len(without):,} captures have no event that records them, the first is capture {without[0]}"
        yield Lacking("events", problem, _RESTORE_AGAIN)
    try:
        require_order(connection)
    except ForeignOrder:
        problem = "the events have transaction numbers of another server, which are ahead of this one's"
        yield Lacking("events", problem, "Run 'otc-assets migrate --restored'.")
    for row in connection.execute(_NEXT_NUMBERS):
        if row.newest is not None and (row.given is None or row.given < row.newest):
            problem = f"the next id of {row.name} would be {(row.given or 0) + 1}, and {row.newest} is taken"
            yield Lacking("events", problem, _RESTORE_AGAIN)


def _of_lineage(connection: sa.Connection) -> Iterator[Lacking]:
    """Weeks that are not computed from the captures and by the rules that there are."""
    known = lineage(connection)
    for table in ["venue_volume", *(figure.name for figure in figures() if figure.name in known.recorded)]:
        if weeks := known.stale(table):
            problem = f"{len(weeks):,} weeks of otc.{table} are missing or stale: {weeks[0]} to {weeks[-1]}"
            yield Lacking("lineage", problem, _RECOMPUTE)
