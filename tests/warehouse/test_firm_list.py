"""``otc.firm``: the list of the package in the database, and its roles in SQL."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import psycopg
import pytest
from support.migration import migrate

from otc_assets.domain.enums import FirmRole
from otc_assets.domain.firms import FIRMS, Firm
from otc_assets.warehouse import firms

Sql = psycopg.Connection[tuple[object, ...]]
_ROWS = "SELECT venue_id, name, role, source, reviewed FROM otc.firm ORDER BY venue_id"


def rows(of: tuple[Firm, ...]) -> list[tuple[object, ...]]:
    found = [(firm.venue_id, firm.name, str(firm.role), firm.source, firm.reviewed) for firm in of]
    return sorted(found, key=lambda row: str(row[0]).encode())


def test_the_list_of_the_package_is_in_the_database(sql: Sql) -> None:
    assert sorted(sql.execute(_ROWS).fetchall(), key=lambda row: str(row[0]).encode()) == rows(FIRMS)


def test_migrate_replaces_the_rows_if_the_list_has_changed_and_only_then(
    sql: Sql, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql.execute("UPDATE otc.firm SET source = 'by hand' WHERE venue_id = 'UBSA'")
    migrate(database)
    assert sql.execute("SELECT source FROM otc.firm WHERE venue_id = 'UBSA'").fetchall() == [("by hand",)]
    other = (replace(FIRMS[0], role=FirmRole.BROKER_DEALER), replace(FIRMS[1], source="Another document"))
    monkeypatch.setattr(firms, "FIRMS", other)
    migrate(database)
    assert sql.execute(_ROWS).fetchall() == rows(other)


@pytest.mark.parametrize(
    ("venue_id", "venue_name", "role"),
    [
        ("116797", "any name", "wholesaler"),
        ("999999999", "Jane Street Capital LLC", "wholesaler"),
        ("name:JANE STREET CAPITAL, LLC", None, "wholesaler"),
        ("UBSA", None, "bank_desk"),
        ("999999999", "JANE STREET EXECUTION SERVICES, LLC", "unattributed"),
        ("999999999", None, "unattributed"),
        ("DE_MINIMIS", "De Minimis Firms", "unattributed"),
    ],
)
def test_the_role_of_a_venue_is_found_by_its_number_and_then_by_its_name(
    sql: Sql, venue_id: str, venue_name: str | None, role: str
) -> None:
    assert sql.execute("SELECT otc.role_of(%s, %s)", [venue_id, venue_name]).fetchall() == [(role,)]


def test_a_line_has_the_day_of_its_review(sql: Sql) -> None:
    (first,) = sql.execute("SELECT min(reviewed) FROM otc.firm").fetchall()
    assert first == (dt.date(2026, 11, 26),)
