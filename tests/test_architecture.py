"""Architecture: the asset graph is the expected one, no statement copies a hypertable, secrets are not shown.

Imports, and that the domain is pure, are checked by import-linter and ruff (`make check`).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import psycopg
import pytest
from dagster import AssetKey
from support import installed

from otc_assets.defs.datasets import ASSETS
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.settings import Settings

PACKAGE = Path(__file__).resolve().parent.parent / "otc_assets"


def test_the_graph_of_assets_and_checks_is_the_expected_one() -> None:
    """A changed dependency, group or check is seen here before users see it."""
    graph = installed.definitions().resolve_asset_graph()
    edges = {
        key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in graph.get_all_asset_keys()
    }
    assert edges == {
        "week_calendar": [],
        "publication_t1": ["week_calendar"],
        "publication_t2": ["week_calendar"],
        "publication_otce": ["week_calendar"],
        "venue_volume": ["publication_otce", "publication_t1", "publication_t2"],
        "symbol_summary": ["venue_volume"],
        "venue_share": ["venue_volume"],
        "symbol_concentration": ["venue_volume"],
        "market_concentration": ["venue_volume"],
        "role_share": ["venue_share"],
        "gap_report": ["venue_volume"],
        "weekly_report": [
            "gap_report",
            "market_concentration",
            "symbol_concentration",
            "symbol_rolling",
            "symbol_summary",
            "venue_share",
            "week_changes",
        ],
        "symbol": ["symbol_summary", "venue_volume"],
        "venue": ["venue_share"],
        "venue_succession": ["venue_share", "venue_volume"],
        "week_changes": [
            "symbol",
            "symbol_summary",
            "venue",
            "venue_share",
            "venue_succession",
            "venue_volume",
        ],
        "symbol_rolling": ["symbol_summary"],
        "venue_rolling": ["venue_share"],
        "short_volume_daily": ["week_calendar"],
        "volume_estimate": ["short_volume_daily", "symbol_summary"],
        "short_interest": ["week_calendar"],
        "off_exchange_share": ["short_interest", "symbol_summary"],
        "threshold_security": ["week_calendar"],
        "threshold_stay": ["symbol_summary", "threshold_security"],
        "ats_block": ["week_calendar"],
        "otc_block": ["week_calendar"],
        "block_share": ["ats_block", "otc_block", "venue_share"],
        "otc_month": ["week_calendar"],
        "firm_month": ["otc_month", "venue_share"],
        "parquet_export": sorted({key for key in edges if not key.startswith(("publication_", "parquet_", "weekly_"))}),
    }
    checks = {}
    for check in graph.asset_check_keys:
        checks.setdefault(check.asset_key.to_user_string(), set()).add(check.name)
    assert {asset: len(names) for asset, names in checks.items()} == {
        "venue_volume": 13,
        "symbol_summary": 1,
        "venue_share": 3,
        "symbol": 1,
        "venue": 1,
        "venue_succession": 1,
        "symbol_rolling": 1,
        "venue_rolling": 1,
        "week_changes": 1,
        "symbol_concentration": 1,
        "market_concentration": 1,
        "role_share": 1,
        "gap_report": 2,
        "weekly_report": 3,
        "short_volume_daily": 4,
        "volume_estimate": 1,
        "short_interest": 4,
        "off_exchange_share": 1,
        "threshold_security": 3,
        "threshold_stay": 1,
        "ats_block": 4,
        "otc_block": 4,
        "block_share": 1,
        "otc_month": 4,
        "firm_month": 1,
        "parquet_export": 2,
    }


def test_every_asset_has_an_owner_and_a_description_and_those_that_are_tables_columns() -> None:
    graph = installed.definitions().resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners == ["team:market-structure"]
        assert node.description
        assert node.group_name == "otc"
        assert node.kinds
        if key.to_user_string() != WEEKLY_REPORT.name:
            assert all(column.description for column in node.metadata["dagster/column_schema"].columns)
        assert node.backfill_policy is not None


def test_the_columns_of_every_asset_are_described_in_the_database_as_in_dagster(
    sql: psycopg.Connection[tuple[object, ...]],
) -> None:
    described = """
        SELECT attname, col_description(attrelid, attnum) FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
    """
    graph = installed.definitions().resolve_asset_graph()
    for key in graph.get_all_asset_keys() - {AssetKey(WEEKLY_REPORT.name)}:
        metadata = graph.get(key).metadata
        if key.to_user_string() == "parquet_export":
            continue  # its rows are files
        stored = dict(sql.execute(described, [metadata["dagster/table_name"]]).fetchall())  # type: ignore[arg-type]
        shown = {column.name: column.description for column in metadata["dagster/column_schema"].columns}
        assert shown.items() <= stored.items(), key


def test_each_tier_has_its_own_lag_its_figures_the_shortest_and_data_by_day_none() -> None:
    offsets = {
        key.to_user_string(): node.partitions_def.end_offset  # type: ignore[union-attr]
        for key in installed.definitions().resolve_asset_graph().get_all_asset_keys()
        if (node := installed.definitions().resolve_asset_graph().get(AssetKey(key.path)))
    }
    late = {"publication_t2": -3, "publication_otce": -3}
    late |= dict.fromkeys((*ASSETS, "parquet_export"), 2)
    assert offsets == {name: late.get(name, -1) for name in offsets}


#: CREATE TABLE ... AS, and SELECT ... INTO a table. PL/pgSQL's SELECT ... INTO a variable is another statement: what
#: follows it there is a name without a schema, and never TABLE or TEMP.
_COPIES_INTO_A_NEW_TABLE = re.compile(
    r"\bcreate\s+((global|local)\s+)?((temp|temporary|unlogged)\s+)?table\s+(if\s+not\s+exists\s+)?[\w.\"{}]+\s*"
    r"(\([\w\s,]*\)\s*)?(with\s*\([^)]*\)\s*)?as\b"
    r"|\bselect\b[^;]*?\binto\s+(temp|temporary|unlogged|table\b|\w+\.\w+)",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("CREATE TABLE x AS SELECT * FROM otc.venue_volume", True),
        ("create temp table x (a, b) as select 1", True),
        ("CREATE UNLOGGED TABLE IF NOT EXISTS otc.{name} AS TABLE otc.venue_volume", True),
        ("SELECT * INTO TEMP x FROM otc.venue_volume", True),
        ("SELECT symbol INTO otc.x FROM otc.venue_volume", True),
        ("CREATE TABLE otc.plain (LIKE otc.venue_volume INCLUDING DEFAULTS); INSERT INTO otc.plain SELECT 1", False),
        ("SELECT count(*) INTO weeks FROM unnest(gone) AS week", False),
        ("CREATE TABLE x (a text GENERATED ALWAYS AS (b) STORED)", False),
    ],
)
def test_statements_that_copy_into_a_new_table_are_recognized(statement: str, *, forbidden: bool) -> None:
    assert bool(_COPIES_INTO_A_NEW_TABLE.search(statement)) is forbidden


def test_no_statement_copies_a_hypertable_into_a_new_table() -> None:
    """TimescaleDB 2.28.3 stores corrupted text when a compressed table is read by CREATE TABLE ... AS."""
    root = PACKAGE.parent
    found = []
    for path in [*PACKAGE.rglob("*.py"), *(root / "migrations").rglob("*.py"), *(root / "benchmarks").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        # Of an f-string all parts together: a name may be between them.
        texts += [
            "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
        ]
        found += [f"{path.relative_to(root)}: {text[:80]}" for text in texts if _COPIES_INTO_A_NEW_TABLE.search(text)]
    for path in [*PACKAGE.rglob("*.json"), *PACKAGE.rglob("*.sql")]:
        found += [str(path.relative_to(root))] if _COPIES_INTO_A_NEW_TABLE.search(path.read_text()) else []
    assert found == []


def test_secrets_are_not_shown(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("OTC_DATABASE_URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("OTC_FINRA_CLIENT_SECRET", "hunter3")
    monkeypatch.setenv("OTC_ALERT_URL", "json://u:hunter4@h/hunter5")
    shown = repr(Settings()) + str(Settings())
    assert "hunter" not in shown
