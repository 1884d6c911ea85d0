"""The enumerations against the constraints of the database."""

from __future__ import annotations

import re
from collections.abc import Iterable

import psycopg
from psycopg.types.json import Jsonb
from support.migration import migrate

from otc_assets.domain import enums
from otc_assets.domain.weeks import TIER_BY_NAME

_CONSTRAINTS = """
    SELECT c.conrelid::regclass::text, pg_get_constraintdef(c.oid) FROM pg_constraint c
    WHERE c.contype = 'c' AND c.connamespace = 'otc'::regnamespace ORDER BY 1, 2
"""
_ALLOWED = re.compile(r"CHECK \(\((\w+) = ANY \(ARRAY\[(.*)\]\)\)\)")

#: The constrained columns whose name means the same in every table.
EVERYWHERE: dict[str, Iterable[str]] = {
    "tier": TIER_BY_NAME,
    "total_of": enums.TotalOf,
    "venue_scope": enums.VenueScope,
    "trend": enums.Trend,
    "trend_reason": enums.TrendReason,
    "change": enums.RowChange,
}
EXPECTED: dict[tuple[str, str], Iterable[str]] = {
    ("alert", "kind"): enums.AlertKind,
    ("alert", "severity"): enums.Severity,
    ("alert", "state"): enums.AlertState,
    ("file_ledger", "state"): {"ingested", "rejected"},  # only functions of the database read and write it
    ("firm", "role"): set(enums.FirmRole) - {enums.FirmRole.UNATTRIBUTED},
    ("gap", "status"): enums.GapStatus,
    ("off_exchange_share", "share_reason"): {"split", "no_volume"},  # ``domain.estimates`` alone writes them
    ("publication", "scope"): enums.CaptureScope,
    ("published_total", "venue_kind"): set(enums.VenueKind) - {enums.VenueKind.DE_MINIMIS},
    ("retention", "what"): enums.Retention,
    ("symbol", "issue_change"): enums.IssueChange,
    ("venue", "venue_kind"): enums.VenueKind,
    ("venue_succession", "decision"): enums.Decision,
    ("venue_succession", "venue_kind"): enums.VenueKind,
    ("role_share", "role"): enums.FirmRole,
    ("role_share", "venue_scope"): set(enums.VenueScope) - {enums.VenueScope.ALL},
    ("venue_volume", "venue_kind"): enums.VenueKind,
    ("volume_estimate", "calibration"): {"symbol", "market", "none"},  # ``domain.estimates`` alone writes them
    ("week_changes", "kind"): enums.Change,
    ("week_quality", "grade"): enums.Grade,
}


def test_every_constraint_on_the_values_of_a_column_allows_the_members_of_its_enumeration(
    sql: psycopg.Connection[tuple[str, str]],
) -> None:
    found = {}
    for table, definition in sql.execute(_CONSTRAINTS):
        if match := _ALLOWED.fullmatch(definition):
            found[table.removeprefix("otc."), match[1]] = set(re.findall(r"'([^']*)'::text", match[2]))
    assert found == {of: set(EXPECTED[of] if of in EXPECTED else EVERYWHERE[of[1]]) for of in found}
    assert set(EXPECTED) <= set(found)
    assert {column for _, column in found} >= set(EVERYWHERE)


def test_a_member_is_sent_to_the_database_as_its_text(sql: psycopg.Connection[tuple[object, ...]]) -> None:
    row = sql.execute("SELECT %s, pg_typeof(%s::text)::text", [enums.GapStatus.LATE, enums.GapStatus.LATE]).fetchone()
    assert row == ("late", "text")


_ALERT = """
    INSERT INTO otc.alert (dedupe_key, kind, subject, severity, title, body, event_id, happened_at, recorded_at, due_at)
    VALUES (%s, %s, %s, 'error', '', '', 1, now(), now(), now())
"""


def test_stored_findings_and_alerts_follow_the_new_names_of_checks_and_back(empty_database: str) -> None:
    migrate(empty_database, "030")
    old = [{"check_name": "books_balance", "detail": "a"}, {"check_name": "complete", "detail": "books_balance"}]
    new = [{**old[0], "check_name": "rows_reconciled"}, old[1]]
    before = ["run books_balance", "venue_share.shares_add_up", "venue_volume.few_rejected 2026-08-21"]
    after = ["run books_balance", "venue_share.shares_sum_to_100", "venue_volume.rejection_rate 2026-08-21"]

    def stored() -> tuple[object, list[str]]:
        findings = sql.execute("SELECT findings FROM otc.week_quality ORDER BY week_ending").fetchall()
        subjects = sql.execute("SELECT subject FROM otc.alert ORDER BY dedupe_key").fetchall()
        return [row[0] for row in findings], [row[0] for row in subjects]

    with psycopg.connect(empty_database, autocommit=True) as sql:
        for week, findings in (("2026-08-21", old), ("2026-08-28", [])):
            sql.execute(
                "INSERT INTO otc.week_quality (week_ending, tier, grade, score, findings, version)"
                " VALUES (%s, 'OTC', 'F', 0, %s, '1')",
                [week, Jsonb(findings)],
            )
        for subject in before:
            sql.execute(_ALERT, [subject, "run" if subject.startswith("run") else "check", subject])
        migrate(empty_database)
        assert stored() == ([new, []], after)
        migrate(empty_database, "030")
        assert stored() == ([old, []], before)


def test_states_of_stored_alerts_follow_their_new_names_and_back(empty_database: str) -> None:
    migrate(empty_database, "034")
    with psycopg.connect(empty_database, autocommit=True) as sql:
        for subject in ("waiting", "delivered", "unwanted", "new"):
            sql.execute(_ALERT, [subject, "run", subject])
        sql.execute("UPDATE otc.alert SET state = subject WHERE subject IN ('waiting', 'unwanted')")
        sql.execute("UPDATE otc.alert SET state = subject, delivered_at = now() WHERE subject = 'delivered'")

        def stored() -> dict[str, str]:
            return dict(sql.execute("SELECT subject, state FROM otc.alert").fetchall())

        before = {"waiting": "waiting", "delivered": "delivered", "unwanted": "unwanted", "new": "waiting"}
        assert stored() == before
        migrate(empty_database)
        assert stored() == {"waiting": "pending", "delivered": "delivered", "unwanted": "discarded", "new": "pending"}
        migrate(empty_database, "034")
        assert stored() == before
