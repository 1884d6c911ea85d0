"""Refuses to drop raw rows that the archive can't give back.

Schemas before DROPPED_BY have every row of a capture verbatim in a table. Since then, rows are read from the archived
bytes (``pipeline.lines``). The archive is no part of this package: callers pass a function that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from otc_assets.errors import OtcError
from otc_assets.warehouse.sql import statement

#: The migration that drops the table.
DROPPED_BY = "053"

#: Reads the archived bytes of digests. Returns, for each that can't be read, 'missing' or 'damaged'.
ProblemsOf = Callable[[Sequence[str]], Mapping[str, str]]

_TABLE = sa.text("SELECT to_regclass('otc.raw_record') IS NOT NULL")
_NAMED = 5


class NotArchived(OtcError):
    """The archive does not have the bytes of captures whose raw rows would be dropped. The message names them."""


def require_archived(connection: sa.Connection, problems_of: ProblemsOf | None) -> None:
    """Refuses to go on if the archive lacks the bytes of a capture that has raw rows. Captures without any lose none.

    Args:
        connection: to a database with any schema, or none.
        problems_of: reads archived bytes; without it, those of every capture that has raw rows count as missing.

    Raises:
        NotArchived: the archive lacks bytes.
    """
    if not connection.execute(_TABLE).scalar():
        return
    captures = connection.execute(statement("captures_with_raw_rows")).all()
    digests = sorted({capture.digest for capture in captures})
    problems = problems_of(digests) if problems_of else dict.fromkeys(digests, "missing")
    lost = [
        f"capture {capture.id} ({capture.tier}, week ending {capture.week_ending}): {capture.digest} is {problem}"
        for capture in captures
        if (problem := problems.get(capture.digest))
    ]
    if lost:
        more = f"; and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise NotArchived(
            f"nothing was migrated: schema {DROPPED_BY} drops the table otc.raw_record, because its rows are read from "
            f"the archive, which lacks the bytes of {len(lost)} of {len(captures)} captures: "
            f"{'; '.join(lost[:_NAMED])}{more}",
            remedy="Make OTC_ARCHIVE_URL (or OTC_HOME) name the archive of this database, or put the objects back from "
            "a backup, and migrate again. If no archive has them: docs/storage.md, 'Rows as FINRA sent them'.",
        )
