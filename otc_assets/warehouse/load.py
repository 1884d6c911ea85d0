"""Writing: publications with their rows, venue volume with its revisions, computed weeks, grades, gaps.

Here: every statement that changes a row of ours. Each function works inside the caller's transaction, so
that a week is replaced whole or not touched. Not here: reading (``read``), deciding what to write (``domain``).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
import sqlalchemy as sa

from otc_assets.domain.schema import REJECTED, VENUE_VOLUME, VENUE_VOLUME_KEY
from otc_assets.warehouse.server import copy_in, lock_week

#: Tables that hold one computed set of rows a week, and are replaced by the week.
COMPUTED_TABLES = (
    "week_calendar",
    "symbol_summary",
    "venue_share",
    "symbol_rolling",
    "venue_rolling",
    "symbol_concentration",
    "market_concentration",
)


@dataclass(frozen=True)
class NewPublication:
    """A capture, judged and ready to be recorded. Columns of ``otc.publication`` of the same names."""

    week_ending: dt.date
    tier: str
    scope: str
    digest: str
    origin: str
    summary_type: str | None
    layout: str
    bytes: int
    rows_received: int
    rows_accepted: int
    rows_rejected: int
    rows_expected: int | None
    complete: bool
    initial_published_date: dt.date | None
    last_update_date: dt.date | None
    run_id: str | None


@dataclass(frozen=True)
class Recorded:
    """What became of a capture: ``outcome`` is 'new', 'revised', or 'unchanged' (the same bytes again)."""

    publication_id: int
    revision: int
    outcome: str


# The same bytes again change nothing: of whole files and publications the newest counts, of records of
# parts any earlier one, because they add up.
_SAME_BYTES = sa.text("""
    SELECT id, revision FROM (
        SELECT id, revision, digest, summary_type, scope,
               revision = max(revision) OVER () AS newest
        FROM otc.publication
        WHERE week_ending = :week_ending AND tier = :tier AND scope = :scope
    ) earlier
    WHERE digest = :digest AND summary_type IS NOT DISTINCT FROM :summary_type
      AND (newest OR scope = 'PARTIAL')
    ORDER BY revision DESC LIMIT 1
""")

_INSERT_PUBLICATION = sa.text("""
    INSERT INTO otc.publication (
        week_ending, tier, scope, revision, digest, origin, summary_type, layout, bytes, rows_received,
        rows_accepted, rows_rejected, rows_expected, complete, initial_published_date, last_update_date, run_id
    )
    SELECT :week_ending, :tier, :scope, coalesce(max(revision), 0) + 1, :digest, :origin, :summary_type, :layout,
        :bytes, :rows_received, :rows_accepted, :rows_rejected, CAST(:rows_expected AS bigint), :complete,
        CAST(:initial_published_date AS date), CAST(:last_update_date AS date), CAST(:run_id AS text)
    FROM otc.publication
    WHERE week_ending = :week_ending AND tier = :tier AND scope = :scope
    RETURNING id, revision
""")


def record_publication(
    connection: sa.Connection, publication: NewPublication, raw: pl.DataFrame, rejected: pl.DataFrame
) -> Recorded:
    """Records a capture with its rows as FINRA sent them, and those that were not accepted.

    Args:
        connection: inside a transaction.
        publication: its particulars.
        raw: columns ``line`` and ``record``, every row received.
        rejected: REJECTED, the rows that were not accepted.

    Returns:
        What became of it; on 'unchanged' nothing was written.
    """
    lock_week(connection, publication.week_ending)
    values = publication.__dict__
    same = connection.execute(_SAME_BYTES, values).one_or_none()
    if same is not None:
        return Recorded(same.id, same.revision, "unchanged")
    row = connection.execute(_INSERT_PUBLICATION, values).one()
    whose = [
        pl.lit(publication.week_ending).alias("week_ending"),
        pl.lit(row.id, pl.Int64).alias("publication_id"),
    ]
    copy_in(connection, "otc.raw_record", raw.select(*whose, "line", "record"))
    copy_in(connection, "otc.rejected_record", rejected.select(*whose, *REJECTED))
    return Recorded(row.id, row.revision, "new" if row.revision == 1 else "revised")


@dataclass(frozen=True)
class VolumeChange:
    """How a (week, tier) of ``venue_volume`` differs from what it replaced. Shares are sums of share_volume."""

    added: int
    changed: int
    removed: int
    unchanged: int
    shares_before: Decimal
    shares_after: Decimal

    @property
    def touched(self) -> int:
        """Rows that are not as they were."""
        return self.added + self.changed + self.removed


_COLUMNS = ", ".join(VENUE_VOLUME)
_SAME_KEY = " AND ".join(f"old.{name} = new.{name}" for name in VENUE_VOLUME_KEY)
_SAME_ROW = "({}) IS NOT DISTINCT FROM ({})".format(
    ", ".join(f"old.{name}" for name in VENUE_VOLUME), ", ".join(f"new.{name}" for name in VENUE_VOLUME)
)
_WEEK = "old.week_ending = :week_ending AND old.tier = :tier"

_SHARES = sa.text("""
    SELECT count(*) AS rows, coalesce(sum(share_volume), 0) AS shares FROM otc.venue_volume
    WHERE week_ending = :week_ending AND tier = :tier
""")
_STAGE = sa.text("CREATE TEMPORARY TABLE incoming (LIKE otc.venue_volume INCLUDING DEFAULTS) ON COMMIT DROP")
_INDEX_STAGE = sa.text(f"CREATE UNIQUE INDEX ON incoming ({', '.join(VENUE_VOLUME_KEY)})")
_ANALYZE_STAGE = sa.text("ANALYZE incoming")
# All names in the four statements below are this module's own constants; every value is bound.
_KEEP_OLD = sa.text(f"""
    INSERT INTO otc.venue_volume_revision ({_COLUMNS}, known_from, known_to, change)
    SELECT {", ".join(f"old.{name}" for name in VENUE_VOLUME)}, old.known_from, now(),
           CASE WHEN new.week_ending IS NULL THEN 'removed' ELSE 'changed' END
    FROM otc.venue_volume old LEFT JOIN incoming new ON {_SAME_KEY}
    WHERE {_WEEK} AND (new.week_ending IS NULL OR NOT {_SAME_ROW})
    RETURNING change
""")  # noqa: S608
_DELETE_OLD = sa.text(f"""
    DELETE FROM otc.venue_volume old
    WHERE {_WEEK}
      AND NOT EXISTS (SELECT FROM incoming new WHERE {_SAME_KEY} AND {_SAME_ROW})
""")  # noqa: S608
_INSERT_NEW = sa.text(f"""
    INSERT INTO otc.venue_volume ({_COLUMNS})
    SELECT {", ".join(f"new.{name}" for name in VENUE_VOLUME)} FROM incoming new
    WHERE NOT EXISTS (SELECT FROM otc.venue_volume old WHERE {_WEEK} AND {_SAME_KEY})
""")  # noqa: S608


def replace_volume(connection: sa.Connection, week_ending: dt.date, tier: str, volume: pl.DataFrame) -> VolumeChange:
    """Makes ``volume`` (VENUE_VOLUME, all rows of the week and tier) the truth; what differed is kept as a revision.

    A row that did not change is not touched, so that ``known_from`` says since when it has been as it is.
    """
    where = {"week_ending": week_ending, "tier": tier}
    lock_week(connection, week_ending)
    before = connection.execute(_SHARES, where).one()
    shares_after = Decimal(volume["share_volume"].sum() or 0)
    if not before.rows:
        copy_in(connection, "otc.venue_volume", volume)
        return VolumeChange(volume.height, 0, 0, 0, Decimal(0), shares_after)
    connection.execute(sa.text("DROP TABLE IF EXISTS incoming"))
    connection.execute(_STAGE)
    copy_in(connection, "incoming", volume)
    connection.execute(_INDEX_STAGE)
    connection.execute(_ANALYZE_STAGE)
    changes = connection.execute(_KEEP_OLD, where).scalars().all()
    connection.execute(_DELETE_OLD, where)
    inserted = connection.execute(_INSERT_NEW, where).rowcount
    connection.execute(sa.text("DROP TABLE incoming"))
    changed, removed = changes.count("changed"), changes.count("removed")
    return VolumeChange(
        added=inserted - changed,
        changed=changed,
        removed=removed,
        unchanged=before.rows - changed - removed,
        shares_before=before.shares,
        shares_after=shares_after,
    )


def replace_totals(connection: sa.Connection, week_ending: dt.date, tier: str, totals: pl.DataFrame) -> None:
    """Makes ``totals`` (PUBLISHED_TOTAL) FINRA's totals of the week and tier."""
    connection.execute(
        sa.text("DELETE FROM otc.published_total WHERE week_ending = :week_ending AND tier = :tier"),
        {"week_ending": week_ending, "tier": tier},
    )
    copy_in(connection, "otc.published_total", totals)


def replace_week(connection: sa.Connection, table: str, week_ending: dt.date, rows: pl.DataFrame, version: str) -> None:
    """Makes ``rows`` the week's rows of a computed table, made from inputs of ``version``.

    Raises:
        ValueError: ``table`` is none of COMPUTED_TABLES, or a row is of another week.
    """
    if table not in COMPUTED_TABLES:
        raise ValueError(f"{table!r} is no computed table; those are {', '.join(COMPUTED_TABLES)}")
    if rows.height and not (rows["week_ending"] == week_ending).all():
        raise ValueError(f"rows of other weeks than {week_ending} were given for otc.{table}")
    lock_week(connection, week_ending)
    connection.execute(
        sa.text(f"DELETE FROM otc.{table} WHERE week_ending = :week_ending"),  # noqa: S608 - a name from the tuple above
        {"week_ending": week_ending},
    )
    copy_in(connection, f"otc.{table}", rows)
    mark_computed(connection, table, week_ending, version, rows.height)


_MARK = sa.text("""
    INSERT INTO otc.computed_week (table_name, week_ending, version, rows)
    VALUES (:table_name, :week_ending, :version, :rows)
    ON CONFLICT (table_name, week_ending)
    DO UPDATE SET version = excluded.version, rows = excluded.rows, computed_at = now()
""")


def mark_computed(connection: sa.Connection, table: str, week_ending: dt.date, version: str, rows: int) -> None:
    """Notes that the week of ``table`` was made from inputs of ``version``."""
    connection.execute(_MARK, {"table_name": table, "week_ending": week_ending, "version": version, "rows": rows})


_SAVE_QUALITY = sa.text("""
    INSERT INTO otc.week_quality (week_ending, tier, grade, score, findings, version)
    VALUES (:week_ending, :tier, :grade, :score, CAST(:findings AS jsonb), :version)
    ON CONFLICT (week_ending, tier) DO UPDATE
    SET grade = excluded.grade, score = excluded.score, findings = excluded.findings,
        version = excluded.version, judged_at = now()
""")


def save_quality(connection: sa.Connection, quality: pl.DataFrame, version: str) -> None:
    """Saves the grades (WEEK_QUALITY) of venue volume of ``version``."""
    for row in quality.iter_rows(named=True):
        connection.execute(_SAVE_QUALITY, {**row, "version": version})


def replace_gaps(connection: sa.Connection, week_ending: dt.date, gaps: pl.DataFrame) -> None:
    """Makes ``gaps`` (GAP) the reported gaps of the week."""
    connection.execute(sa.text("DELETE FROM otc.gap WHERE week_ending = :week_ending"), {"week_ending": week_ending})
    copy_in(connection, "otc.gap", gaps)
