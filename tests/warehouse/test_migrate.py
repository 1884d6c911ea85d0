"""Migrations: up, down, twice, and from two processes at once."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources

import psycopg
import pytest
import sqlalchemy as sa
from support.migration import migrate

from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.tables import TABLES
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import PROJECT_ROOT
from otc_assets.warehouse import replay, sql
from otc_assets.warehouse.migrate import newest_version
from otc_assets.warehouse.raw_rows import NotArchived
from otc_assets.warehouse.schema import schema_sql
from otc_assets.warehouse.server import transaction

DIGESTS = "SELECT name, digest FROM otc.definition"


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'otc'")
        return {str(name) for (name,) in rows}


def test_an_empty_database_gets_every_table_and_a_second_time_changes_nothing(empty_database: str) -> None:
    assert migrate(empty_database)[:2] == (None, newest_version())
    first = tables(empty_database)
    assert {"publication", "venue_volume", "symbol_rolling", "market_concentration", "gap"} <= first
    assert migrate(empty_database)[:2] == (newest_version(), newest_version())
    assert tables(empty_database) == first


def test_down_leaves_nothing_of_ours_and_up_again_brings_all_back(empty_database: str) -> None:
    migrate(empty_database)
    everything = tables(empty_database)
    assert migrate(empty_database, "base")[:2] == (newest_version(), None)
    assert tables(empty_database) == {"schema_version"}
    migrate(empty_database, "020")
    assert "venue_volume" in tables(empty_database)
    assert "symbol_rolling" not in tables(empty_database)
    migrate(empty_database)
    assert tables(empty_database) == everything


def test_two_migrations_at_once_do_the_work_once(empty_database: str) -> None:
    """Two pods starting together once both created the tables, and one died."""
    results: list[tuple[str | None, str | None]] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(migrate(empty_database)[:2])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    newest = newest_version()
    assert sorted(results, key=str) == sorted([(None, newest), (newest, newest), (newest, newest)], key=str)


def test_the_schema_in_the_docs_is_that_of_a_migrated_database(engine: sa.Engine) -> None:
    """``python -m otc_assets.warehouse.schema URL > docs/schema.sql`` writes it again."""
    with transaction(engine) as connection:
        assert (PROJECT_ROOT / "docs" / "schema.sql").read_text() == schema_sql(connection)


def test_every_statement_has_a_comment_that_says_what_it_returns() -> None:
    files = sorted(path for path in resources.files(sql).iterdir() if path.name.endswith(".sql"))
    assert len(files) > 20
    for path in files:
        assert path.read_text().startswith("-- "), path.name


def test_migrations_use_no_code_that_can_change() -> None:
    """A migration that calls the code of today does another thing tomorrow."""
    versions = sorted((PROJECT_ROOT / "migrations" / "versions").glob("*.py"))
    assert versions
    assert [path.name for path in versions if "import otc_assets" in path.read_text()] == []
    assert [path.name for path in versions if "from otc_assets" in path.read_text()] == []


def test_migrate_replaces_as_of_functions_that_differ_from_the_tables(engine: sa.Engine, database: str) -> None:
    """A column that a migration adds is in the answers as of a moment, too."""
    with transaction(engine) as connection:
        for table in ("venue_share", "venue_share_revision"):
            connection.execute(sa.text(f"ALTER TABLE otc.{table} ADD COLUMN symbol text"))  # noqa: S608
        before = connection.execute(sa.text(DIGESTS)).all()
    migrate(database)
    with transaction(engine) as connection:
        rows = connection.execute(sa.text("SELECT symbol FROM otc.venue_share_as_of('2026-01-01 00:00Z')"))
        assert list(rows.keys()) == ["symbol"]
        changed = {name for name, digest in set(connection.execute(sa.text(DIGESTS)).all()) - set(before)}
    assert changed == {"venue_share_as_of"}


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("week = DATE '2026-08-28'", "week_ending = '2026-08-28'::date"),
        ("symbol = 'AAPL'", "symbol = 'AAPL'::text"),
    ],
)
def test_a_condition_on_the_weekly_aggregate_reads_an_index(engine: sa.Engine, condition: str, found: str) -> None:
    """A bucket of the week hid it: every check of a week read the whole history."""
    with transaction(engine) as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))  # the table is empty
        query = f"EXPLAIN (COSTS OFF) SELECT sum(total_volume) FROM otc.weekly_summary_agg WHERE {condition}"
        plan = "\n".join(connection.execute(sa.text(query)).scalars())
    assert f"Index Cond: ({found})" in plan


def test_a_condition_on_the_month_reads_an_index(engine: sa.Engine) -> None:
    """A month that was computed from each week hid it: one month read the whole history."""
    with transaction(engine) as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))  # the table is empty
        query = "EXPLAIN (COSTS OFF) SELECT sum(total_volume) FROM otc.monthly_summary_agg WHERE month = '2026-08-01'"
        plan = "\n".join(connection.execute(sa.text(query)).scalars())
    assert "Index Cond: (week_ending = (day.day)::date)" in plan


def test_migrate_restores_aggregates_whose_stored_digest_differs(engine: sa.Engine, database: str) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("DROP VIEW otc.monthly_summary_agg"))
        connection.execute(sa.text("CREATE VIEW otc.monthly_summary_agg AS SELECT 1 AS one"))
        connection.execute(sa.text("UPDATE otc.definition SET digest = 'x' WHERE name = 'monthly_summary_agg'"))
    migrate(database)
    with transaction(engine) as connection:
        found = connection.execute(sa.text("SELECT * FROM otc.monthly_summary_agg"))
        assert list(found.keys()) == [
            "month", "symbol", "tier", "total_volume", "total_trades", "max_venue_count", "weeks",
        ]  # fmt: skip


def test_a_function_of_earlier_versions_stays_where_a_view_of_a_users_uses_it(engine: sa.Engine, database: str) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE FUNCTION otc.bucket(text, date) RETURNS date LANGUAGE sql AS 'SELECT $2'"))
        connection.execute(sa.text("CREATE VIEW public.mine AS SELECT otc.bucket('1 month', '2026-08-28') AS month"))
    for is_used in (True, False):
        with transaction(engine) as connection:
            if not is_used:
                connection.execute(sa.text("DROP VIEW public.mine"))
            connection.execute(sa.text("UPDATE otc.definition SET digest = 'x' WHERE name = 'monthly_summary_agg'"))
        migrate(database)
        with transaction(engine) as connection:
            found = connection.execute(sa.text("SELECT to_regprocedure('otc.bucket(text, date)') IS NOT NULL"))
            assert found.scalar() is is_used


def test_definitions_of_before_digests_were_stored_are_not_built_again(empty_database: str) -> None:
    """Continuous aggregates would lose their rows, and readers their grants."""
    migrate(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE VIEW public.mine AS SELECT * FROM otc.monthly_summary_agg")
        stored = connection.execute(f"{DIGESTS} WHERE name LIKE '%\\_agg' ORDER BY name").fetchall()
    migrate(empty_database, "030")
    migrate(empty_database)  # it would fail if it dropped an aggregate that another view depends on
    with psycopg.connect(empty_database) as connection:
        assert connection.execute(f"{DIGESTS} WHERE name LIKE '%\\_agg' ORDER BY name").fetchall() == stored
        assert connection.execute("SELECT * FROM public.mine").fetchall() == []


def test_the_tables_of_a_retention_class_follow_the_registry(
    database: str, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = replace(TABLES["published_total"], retention=None)
    monkeypatch.setitem(TABLES, "published_total", kept)
    migrate(database)
    with transaction(engine) as connection:
        tables = connection.execute(
            sa.text("SELECT tables FROM otc.retention WHERE what = 'venue_volume'")
        ).scalar_one()
    of_datasets = [name for one in DATASETS for name in (one.table, f"{one.table}_revision")]
    assert tables == ["venue_volume", "venue_volume_revision", *of_datasets]


def test_what_migrate_replaces_keeps_its_grants(empty_database: str, server: EmbeddedServer) -> None:
    """An analyst could not read the aggregate any more after an upgrade that changed it."""
    migrate(empty_database)
    name = empty_database.rpartition("/")[2]
    reader = f"reader_of_{name}"
    with server._connect(name) as admin:
        admin.execute(f"CREATE ROLE {reader}")
        try:
            admin.execute(f"""
                GRANT SELECT ON otc.weekly_summary_agg TO {reader};
                -- A view whose columns differ can't be replaced in place.
                ALTER VIEW otc.weekly_summary_agg RENAME COLUMN venue_count TO venues;
                DROP FUNCTION otc.venue_share_as_of(timestamptz);
                CREATE FUNCTION otc.venue_share_as_of(moment timestamptz) RETURNS int LANGUAGE sql AS 'SELECT 1';
                ALTER FUNCTION otc.venue_share_as_of OWNER TO otc;
                REVOKE ALL ON FUNCTION otc.venue_share_as_of FROM PUBLIC;
                GRANT EXECUTE ON FUNCTION otc.venue_share_as_of TO {reader};
                UPDATE otc.definition SET digest = '' WHERE name IN ('weekly_summary_agg', 'venue_share_as_of')
            """)
            before = admin.execute("SELECT 'otc.weekly_summary_agg'::regclass::oid").fetchone()
            migrate(empty_database)
            assert admin.execute("SELECT 'otc.weekly_summary_agg'::regclass::oid").fetchone() != before
            rights = """
                SELECT has_table_privilege(%(role)s, 'otc.weekly_summary_agg', 'SELECT'),
                       has_table_privilege(%(role)s, 'otc.weekly_summary_agg', 'INSERT'),
                       has_table_privilege(%(role)s, 'otc.monthly_summary_agg', 'SELECT'),
                       has_function_privilege(%(role)s, 'otc.venue_share_as_of(timestamptz)', 'EXECUTE'),
                       has_function_privilege('public', 'otc.venue_share_as_of(timestamptz)', 'EXECUTE')
            """
            assert admin.execute(rights, {"role": reader}).fetchone() == (True, False, False, True, False)
        finally:
            admin.execute(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def test_the_volume_of_the_de_minimis_group_keeps_its_value_under_its_new_name(empty_database: str) -> None:
    """Also in replaced rows, in answers as of a moment, and on the way back."""
    migrate(empty_database, "039")
    insert = """
        INSERT INTO otc.{} VALUES ('2026-08-21', 'OTC', 'A', 'A Inc.', 1, 100, 60, 40, 5, 9, NULL, 3, 11, 'UBSA', 60,
            '2026-09-01 00:00Z'{})
    """
    with psycopg.connect(empty_database) as connection:
        connection.execute(insert.format("symbol_summary", ""))  # type: ignore[arg-type]
        connection.execute(
            insert.format("symbol_summary_revision", ", '2026-09-02 00:00Z', 'changed'")  # type: ignore[arg-type]
        )
    migrate(empty_database)
    volumes = "SELECT total_volume, ats_volume, non_ats_volume, of_which_de_minimis_volume FROM otc.symbol_summary"
    with psycopg.connect(empty_database) as connection:
        for source in ("", "_revision", "_as_of('2026-09-03 00:00Z')"):
            assert connection.execute(volumes + source).fetchall() == [(100, 60, 40, 5)]  # type: ignore[arg-type]
    migrate(empty_database, "039")
    with psycopg.connect(empty_database) as connection:
        for source in ("", "_as_of('2026-09-03 00:00Z')"):
            earlier = f"SELECT de_minimis_volume FROM otc.symbol_summary{source}"
            assert connection.execute(earlier).fetchall() == [(5,)]  # type: ignore[arg-type]
    migrate(empty_database)


def test_weeks_of_before_have_no_figures_of_value_and_answer_as_of_a_moment_on_the_way_back(
    empty_database: str,
) -> None:
    """A week whose venue volume retention has dropped is not computed again, and keeps its rows."""
    migrate(empty_database, "041")
    with psycopg.connect(empty_database) as connection:
        for name, kept in (("venue_share", ""), ("venue_share_revision", ", '2026-09-02 00:00Z', 'changed'")):
            connection.execute(
                f"INSERT INTO otc.{name} VALUES ('2026-08-21', 'OTC', 'UBSA', 'ATS', 'UBS ATS', 100, 9, 3, 11, 60, 1,"  # type: ignore[arg-type]
                f" 70, 1, '2026-09-01 00:00Z'{kept})"
            )
    migrate(empty_database)
    sources = ("", "_revision", "_as_of('2026-09-03 00:00Z')")
    with psycopg.connect(empty_database) as connection:
        for source in sources:
            columns = "market_share_pct, total_notional, notional_rank, block_like_volume"
            row = f"SELECT {columns} FROM otc.venue_share{source}"
            assert connection.execute(row).fetchall() == [(60, None, None, None)]  # type: ignore[arg-type]
    migrate(empty_database, "041")
    with psycopg.connect(empty_database) as connection:
        for source in sources:
            row = f"SELECT * FROM otc.venue_share{source}"
            names = [column.name for column in connection.execute(row).description or ()]  # type: ignore[arg-type]
            assert "market_share_pct" in names
            assert not any("notional" in column or "block" in column for column in names)
    migrate(empty_database)


#: Captures of schema 052: id, digest, week. The third has no raw rows, as retention leaves captures.
OF_052 = ((1, "a" * 64, "2026-08-14"), (2, "b" * 64, "2026-08-21"), (3, "c" * 64, "2025-08-22"))
RAW_ROWS = "SELECT publication_id, line, record FROM otc.raw_record ORDER BY 1, 2"


def with_raw_rows(url: str) -> list[tuple[object, ...]]:
    """Migrates to the last schema that has raw rows, and records captures; returns the rows."""
    migrate(url, "052")
    with psycopg.connect(url) as connection:
        for number, digest, week in OF_052:
            connection.execute(
                "INSERT INTO otc.publication (id, week_ending, tier, scope, revision, digest, origin, layout, bytes,"
                " rows_received, rows_accepted, rows_rejected, complete) OVERRIDING SYSTEM VALUE"
                " VALUES (%s, %s, 'OTC', 'FULL', 1, %s, 'a file', 'website', 9, 2, 2, 0, true)",
                [number, week, digest],
            )
            if number < 3:
                rows = "INSERT INTO otc.raw_record SELECT %s, %s, n, 'row ' || n FROM generate_series(2, 3) n"
                connection.execute(rows, [week, number])
        return connection.execute(RAW_ROWS).fetchall()


def test_raw_rows_are_not_dropped_while_the_archive_lacks_bytes_that_they_are_from(empty_database: str) -> None:
    """Those captures are named, and nothing is migrated; a capture without raw rows can lose none."""
    before = with_raw_rows(empty_database)
    assert len(before) == 4
    asked: list[list[str]] = []

    def damaged(digests: Sequence[str]) -> dict[str, str]:
        asked.append(list(digests))
        return {OF_052[1][1]: "damaged"}

    named = f"1 of 2 captures: capture 2 \\(OTC, week ending 2026-08-21\\): {'b' * 64} is damaged. Make OTC_ARCHIVE_URL"
    for to in ("053", "head"):
        with pytest.raises(NotArchived, match=named):
            migrate(empty_database, to, problems_of=damaged)
    assert asked == [["a" * 64, "b" * 64]] * 2
    with pytest.raises(NotArchived, match="2 of 2 captures: .* is missing"):
        migrate(empty_database)  # no archive is known
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT version_num FROM otc.schema_version").fetchone() == ("052",)
        assert connection.execute(RAW_ROWS).fetchall() == before
    assert migrate(empty_database, "052").after == "052"


def test_raw_rows_are_dropped_with_their_retention_once_the_archive_has_their_bytes(empty_database: str) -> None:
    with_raw_rows(empty_database)
    migrate(empty_database, problems_of=lambda digests: {})
    assert "raw_record" not in tables(empty_database)
    with psycopg.connect(empty_database) as connection:
        kinds = connection.execute("SELECT what FROM otc.retention ORDER BY 1").fetchall()
        assert kinds == [("summaries",), ("venue_volume",)]
        assert connection.execute("SELECT count(*) FROM otc.publication").fetchone() == (3,)
    # On the way back, the version of that schema fills the table from the archive.
    migrate(empty_database, "052")
    with psycopg.connect(empty_database) as connection:
        assert connection.execute(RAW_ROWS).fetchall() == []
        kept = "SELECT tables, keep_weeks FROM otc.retention WHERE what = 'raw_record'"
        assert connection.execute(kept).fetchall() == [(["raw_record"], 26)]
    migrate(empty_database)
    assert "raw_record" not in tables(empty_database)


def test_a_recorded_deletion_of_raw_rows_is_repeated_without_effect(engine: sa.Engine) -> None:
    """A journal of an earlier version has such events, and a rebuild from the archive repeats them."""
    old = dt.date(2020, 1, 3)
    total = "INSERT INTO otc.published_total VALUES (:week, 'OTC', 'MARKET', 'ATS', '', '', '', '', 1, 1, NULL)"
    with transaction(engine) as connection:
        connection.execute(sa.text(total), {"week": old})
        stored = connection.execute(sa.text("SELECT * FROM otc.retention ORDER BY what")).all()
        replay.drop_weeks(connection, "raw_record", old + dt.timedelta(weeks=9))
        assert connection.execute(sa.text("SELECT * FROM otc.retention ORDER BY what")).all() == stored
        assert connection.execute(sa.text("SELECT week_ending FROM otc.published_total")).scalars().all() == [old]


MANY_SYMBOLS = """
    INSERT INTO otc.venue_volume (week_ending, tier, symbol, issue_name, product_type, venue_kind, venue_id,
        share_volume, trade_count, known_from)
    SELECT DATE '2026-01-02' + 7 * (n % 20), (ARRAY['NMS Tier 1', 'NMS Tier 2', 'OTC'])[1 + n / 20 % 3],
        'S' || n / 60, '', '', 'ATS', 'UBSA', 100, 1, now()
    FROM generate_series(0, 59999) AS n
"""


def test_a_symbol_is_found_by_the_key_where_the_server_skips_through_it(engine: sa.Engine, database: str) -> None:
    """PostgreSQL 18: the index that earlier versions need is dropped, and the key is read instead."""
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE INDEX venue_volume_by_symbol ON otc.venue_volume (symbol, week_ending)"))
    migrate(database)
    with transaction(engine) as connection:
        connection.execute(sa.text(MANY_SYMBOLS))
        connection.execute(sa.text("ANALYZE otc.venue_volume"))
        indexes = connection.execute(sa.text("SELECT indexname FROM pg_indexes WHERE tablename = 'venue_volume'"))
        assert list(indexes.scalars()) == ["venue_volume_pkey"]
        plan = connection.execute(
            sa.text("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM otc.venue_volume WHERE symbol = 'S500'")
        ).scalar_one()[0]["Plan"]
    assert plan["Actual Rows"] == 60
    node = plan["Plans"][0] if "Plans" in plan else plan
    assert node["Index Name"] == "venue_volume_pkey"
    # A search for each of the 60 weeks and tiers and a few more, not a scan of the index with its 60,000 rows.
    assert 60 <= node["Index Searches"] <= 200
