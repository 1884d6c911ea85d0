"""What an installation has stored, so that it can be compared with another one that did the same.

Columns that must differ are left out, each kind with its reason:

- moments, because the operations happen at different times; so do ``seconds`` and the like in an event's payload;
- ``xid``, ``run_id``, ``event_id`` and ``journal_id``, which are new in each transaction, run, event and database;
- ids of sequences, which a transaction that is rolled back uses up;
- versions of the aggregates of events, and whether a report is the week's first: an operation that is repeated after it
  was committed appends that it happened again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from otc_assets.warehouse.server import session_options

#: Columns by name that are left out, in any table: see above.
_LEFT_OUT = {"xid", "run_id", "event_id", "journal_id", "publication_id"}
#: By table, columns that are left out there.
_LEFT_OUT_OF = {
    "publication": {"id"},
    "dataset_capture": {"id"},
    "dataset_rejected": {"capture_id"},
    "alert": {"id", "dedupe_key"},
    "gap_ledger": {"version"},
}
#: Compared as a sequence, below.
_EVENTS = "events"
_OF_PAYLOAD = {"seconds", "publication_id", "capture_id", "is_first"}

_COLUMNS = """
    SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE n.nspname = 'otc' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
      AND a.atttypid NOT IN ('timestamptz'::regtype, 'timestamp'::regtype)
    GROUP BY c.relname ORDER BY 1
"""
#: Objects of the archive whose content states when it was made: of these, the names are compared.
_WITH_TIMES = ("export/", "archive/reports/")


@dataclass
class State:
    """What is stored.

    Attributes:
        tables: by table, its rows as text.
        events: each event once, in the order in which they first happened.
        objects: by name below OTC_HOME, the digest of a file; of files with times in them, none.
        materialized: the assets and weeks that Dagster has materializations of.
        checks: by asset, check and week, whether the newest evaluation passed.
    """

    tables: dict[str, list[str]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    objects: dict[str, str] = field(default_factory=dict)
    materialized: set[tuple[str, str]] = field(default_factory=set)
    checks: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def differences(self, other: State) -> list[str]:
        """How another state differs from this one, in words."""
        found = []
        for table in sorted(self.tables.keys() | other.tables.keys()):
            found += _differences(f"otc.{table}", self.tables.get(table, []), other.tables.get(table, []))
        found += _differences("events", self.events, other.events)
        if not found and self.events != other.events:
            found.append(f"the events are in another order: {other.events}")
        found += _differences("files", sorted(self.objects.items()), sorted(other.objects.items()))
        found += _differences("materializations", sorted(self.materialized), sorted(other.materialized))
        found += _differences("checks", sorted(self.checks.items()), sorted(other.checks.items()))
        return found


def _differences(what: str, expected: list[Any], found: list[Any]) -> list[str]:
    lacking, added = _without(expected, found), _without(found, expected)
    if not lacking and not added:
        return []
    return [f"{what}: lacks {lacking[:3]} ({len(lacking)}), has {added[:3]} ({len(added)}) instead"]


def _without(rows: list[Any], others: list[Any]) -> list[Any]:
    """The rows that others lack, counting how often each is there."""
    return list((Counter(rows) - Counter(others)).elements())


def state_of(url: str, home: Path) -> State:
    """What the installation with this database and folder has stored."""
    state = State(objects=_objects(home))
    with psycopg.connect(url, options=session_options()) as connection:
        for table, columns in connection.execute(_COLUMNS).fetchall():
            left_out = _LEFT_OUT | _LEFT_OUT_OF.get(table, set())
            chosen = ", ".join(f'"{column}"' for column in columns if column not in left_out)
            if table != _EVENTS and chosen:
                rows = connection.execute(f"SELECT ROW({chosen})::text FROM otc.{table} ORDER BY 1").fetchall()  # type: ignore[arg-type]
                state.tables[table] = [row for (row,) in rows]
        state.events = _events(connection)
        state.materialized = set(connection.execute(_MATERIALIZED).fetchall())  # type: ignore[arg-type]
        state.checks = {(asset, check, week): status for asset, check, week, status in connection.execute(_CHECKS)}
    return state


def _events(connection: psycopg.Connection[Any]) -> list[str]:
    query = (
        """SELECT event_type, aggregate_type, aggregate_id, payload FROM otc.events ORDER BY xid::text::bigint, id"""
    )
    found = []
    for kind, aggregate, number, payload in connection.execute(query):
        kept = {name: value for name, value in payload.items() if name not in _OF_PAYLOAD}
        found.append(f"{kind} {aggregate} {number} {json.dumps(kept, sort_keys=True)}")
    return list(dict.fromkeys(found))


_MATERIALIZED = """
    SELECT DISTINCT asset_key, coalesce(partition, '') FROM dagster.event_logs
    WHERE dagster_event_type = 'ASSET_MATERIALIZATION'
"""
_CHECKS = """
    SELECT DISTINCT ON (asset_key, check_name, partition) asset_key, check_name, coalesce(partition, ''),
        execution_status
    FROM dagster.asset_check_executions ORDER BY asset_key, check_name, partition, id DESC
"""


def _objects(home: Path) -> dict[str, str]:
    found = {}
    for folder in ("archive", "export"):
        for path in sorted((home / folder).rglob("*")):
            name = path.relative_to(home).as_posix()
            if path.is_file() and not name.startswith("archive/journal/"):
                content = b"" if name.startswith(_WITH_TIMES) else path.read_bytes()
                found[name] = hashlib.sha256(content).hexdigest()[:16]
    return found


_REMAINS = {
    "unfinished runs": """
        SELECT run_id, status FROM dagster.runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')""",
    "slots that are held": "SELECT run_id, step_key FROM dagster.concurrency_slots WHERE run_id IS NOT NULL",
    "steps that wait for a slot": "SELECT run_id, step_key FROM dagster.pending_steps",
    "advisory locks": """
        SELECT classid, objid, pid FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    "sessions": """
        SELECT pid, application_name, state, query FROM pg_stat_activity WHERE datname = current_database()
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()""",
    "events whose versions have a gap": """
        SELECT aggregate_type, aggregate_id, count(*), max(version) FROM otc.events
        GROUP BY 1, 2 HAVING count(*) <> max(version)""",
}
_RUNS = """
    SELECT run_id, status, (
        SELECT coalesce(string_agg(event, ' '), '') FROM dagster.event_logs AS e
        WHERE e.run_id = r.run_id AND e.dagster_event_type = 'PIPELINE_FAILURE'
    ) FROM dagster.runs AS r ORDER BY id
"""


@dataclass(frozen=True)
class Run:
    """A run that Dagster has stored: its status, and where it failed, the events that say why."""

    id: str
    status: str
    reason: str


def runs_of(url: str) -> list[Run]:
    """The runs of an installation, oldest first."""
    with psycopg.connect(url, options=session_options()) as connection:
        return [Run(*row) for row in connection.execute(_RUNS)]


#: What a run's process writes and removes again.
_TEMPORARY = (".partial-*", "tmp*")


def remains(url: str, home: Path) -> list[str]:
    """What operations that have ended should not have left behind, in words."""
    found = []
    with psycopg.connect(url, options=session_options()) as connection:
        for what, query in _REMAINS.items():
            if rows := connection.execute(query).fetchall():  # type: ignore[arg-type]
                found.append(f"{what}: {rows}")
    files = [path.relative_to(home).as_posix() for pattern in _TEMPORARY for path in home.rglob(pattern)]
    return [*found, *([f"temporary files: {files}"] if files else [])]
