"""The servers that tests of TimescaleDB run on: what must be true of them for those tests to mean anything."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
from timescale.servers import TimescaleServer

from otc_assets.warehouse.server import connect, transaction

HYPERTABLE = """
CREATE TABLE volume (week date NOT NULL, symbol text NOT NULL, shares bigint, PRIMARY KEY (week, symbol));
SELECT create_hypertable('volume', by_range('week', INTERVAL '7 days'));
INSERT INTO volume SELECT date '2026-01-02' + 7 * (n % 10), 'S' || n / 10, n FROM generate_series(0, 999) AS n;
"""
COMPRESSION = "ALTER TABLE volume SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol')"


@pytest.fixture
def sql(community_database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(community_database, autocommit=True) as connection:
        yield connection


def test_copied_rows_come_back_as_they_went(sql: psycopg.Connection[tuple[object, ...]]) -> None:
    pieces = ["plain", "quote ' and \"", "line\nbreak", "return\r\n", "tab\t", "\\N", "\\.", "", "ä€𝄞", ","]
    dice = random.Random(1)  # noqa: S311
    rows = [
        (n, None if n % 7 == 0 else "".join(dice.choices(pieces, k=3)), dice.choice([None, n / 4]))
        for n in range(10_000)
    ]
    sql.execute("CREATE TABLE text_of_all_kinds (n integer, words text, number float8)")
    with sql.cursor() as cursor:
        with cursor.copy("COPY text_of_all_kinds FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        with cursor.copy("COPY (SELECT * FROM text_of_all_kinds ORDER BY n) TO STDOUT") as copy:
            copy.set_types(["int4", "text", "float8"])
            assert list(copy.rows()) == rows
    assert sql.execute("SELECT * FROM text_of_all_kinds ORDER BY n").fetchall() == rows


def test_a_copy_that_breaks_off_leaves_nothing_and_the_session_goes_on(
    sql: psycopg.Connection[tuple[object, ...]],
) -> None:
    sql.execute("CREATE TABLE number (n integer)")

    def copy(*rows: list[object], then: Exception | None = None) -> None:
        with sql.cursor() as cursor, cursor.copy("COPY number FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
            if then:
                raise then

    with pytest.raises(ZeroDivisionError):
        copy([1], then=ZeroDivisionError())
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="zwei"):
        copy([1], ["zwei"])
    assert sql.execute("SELECT count(*) FROM number").fetchone() == (0,)
    copy([1], [2])
    assert sql.execute("SELECT count(*) FROM number").fetchone() == (2,)


def test_a_client_that_dies_inside_a_transaction_leaves_nothing(
    community_database: str, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    sql.execute("CREATE TABLE number (n integer)")
    for failed in (False, True):
        dying = psycopg.connect(community_database, application_name="dying")
        dying.execute("INSERT INTO number VALUES (1)")
        dying.execute("CREATE TABLE half_made ()")
        if failed:
            with pytest.raises(psycopg.errors.DivisionByZero):
                dying.execute("SELECT 1 / 0")
        dying.pgconn.finish()
    assert sql.execute("SELECT count(*), to_regclass('half_made') FROM number").fetchone() == (0, None)


def test_transactions_of_two_clients_come_one_after_the_other(community_database: str) -> None:
    engine = connect(community_database)
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE TABLE public.counter AS SELECT 0 AS n"))

    def count_up() -> None:
        for _ in range(25):
            with transaction(engine) as connection:
                n = connection.scalar(sa.text("SELECT n FROM public.counter FOR UPDATE"))
                connection.execute(sa.text("UPDATE public.counter SET n = :next"), {"next": n + 1})

    threads = [threading.Thread(target=count_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with transaction(engine) as connection:
        assert connection.scalar(sa.text("SELECT n FROM public.counter")) == 50
    engine.dispose()


def test_sessions_keep_their_settings_and_prepared_statements_to_themselves(community_database: str) -> None:
    with (
        psycopg.connect(community_database, autocommit=True, options="-c TimeZone=Asia/Tokyo") as one,
        psycopg.connect(community_database, autocommit=True, application_name="two", prepare_threshold=0) as two,
    ):
        one.prepare_threshold = 0
        one.execute("SET statement_timeout = '7min'")
        for _ in range(2):
            assert one.execute("SELECT %s || 1", ["a"]).fetchone() == ("a1",)
            assert two.execute("SELECT %s || 2", ["b"]).fetchone() == ("b2",)
            says = "SELECT current_setting('TimeZone'), current_setting('statement_timeout'), current_schema()"
            assert one.execute(says).fetchone() == ("Asia/Tokyo", "7min", "public")
            assert two.execute(says).fetchone() == ("UTC", "0", "public")
        assert two.execute("SELECT current_setting('application_name')").fetchone() == ("two",)
        two.execute("DISCARD ALL", prepare=False)
        assert one.execute("SELECT %s || 1", ["a"]).fetchone() == ("a1",)
        one.execute("RESET ALL")
        assert one.execute(says).fetchone() == ("Asia/Tokyo", "0", "public")


def test_twenty_thousand_rows_go_in_by_one_call_or_none_does(sql: psycopg.Connection[tuple[object, ...]]) -> None:
    # Rows of five digits are messages of 64 bytes, whose ends meet that of the backend's buffer of 8 kB.
    sql.execute("CREATE TABLE number (n integer PRIMARY KEY, words text)")
    insert = "INSERT INTO number VALUES (%s, %s)"
    rows = [(n, f"row {n}") for n in range(20_000)]
    rows[15_000] = rows[0]
    with pytest.raises(psycopg.errors.UniqueViolation), sql.cursor() as cursor:
        cursor.executemany(insert, rows)
    assert sql.execute("SELECT count(*) FROM number").fetchone() == (0,)
    rows[15_000] = (15_000, "another")
    with sql.cursor() as cursor:
        cursor.executemany(insert, rows)
    assert sql.execute("SELECT count(*), sum(n), max(words) FROM number").fetchone() == (20_000, 199990000, "row 9999")


def test_the_community_edition_compresses_aggregates_and_runs_jobs_on_request(
    sql: psycopg.Connection[tuple[object, ...]],
) -> None:
    sql.execute(HYPERTABLE)
    sql.execute(COMPRESSION)
    sql.execute(
        "CREATE MATERIALIZED VIEW weekly WITH (timescaledb.continuous) AS"
        " SELECT time_bucket('7 days', week, date '2026-01-02') AS week, sum(shares) AS shares FROM volume GROUP BY 1"
        " WITH NO DATA"
    )
    sql.execute("CALL refresh_continuous_aggregate('weekly', NULL, NULL)")
    assert sql.execute("SELECT count(*), sum(shares) FROM weekly").fetchone() == (10, 499_500)
    (job,) = sql.execute("SELECT add_compression_policy('volume', INTERVAL '1 day')").fetchone() or ()
    sql.execute("CALL run_job(%s)", [job])
    chunks = "SELECT count(*) FILTER (WHERE is_compressed), count(*) FROM timescaledb_information.chunks"
    assert sql.execute(f"{chunks} WHERE hypertable_name = 'volume'").fetchone() == (10, 10)
    assert sql.execute("SELECT count(*), sum(shares) FROM volume").fetchone() == (1000, 499_500)


def test_no_job_starts_by_itself(sql: psycopg.Connection[tuple[object, ...]]) -> None:
    sql.execute("CREATE PROCEDURE note(job_id int, config jsonb) LANGUAGE sql AS 'CREATE TABLE it_ran ()'")
    sql.execute("SELECT add_job('note', INTERVAL '1 hour', initial_start => now())")
    sql.execute("SELECT pg_sleep(1.5)")
    assert sql.execute("SELECT to_regclass('it_ran')").fetchone() == (None,)


def test_the_apache_edition_has_hypertables_and_refuses_the_rest(apache_database: str) -> None:
    with psycopg.connect(apache_database, autocommit=True) as sql:
        sql.execute(HYPERTABLE)
        assert sql.execute("SELECT count(*) FROM show_chunks('volume')").fetchone() == (10,)
        assert sql.execute("SELECT count(*) FROM drop_chunks('volume', date '2026-02-01')").fetchone() == (4,)
        for statement in (COMPRESSION, "SELECT add_retention_policy('volume', INTERVAL '1 year')"):
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="is not supported|not supported under"):
                sql.execute(statement)


@pytest.mark.slow
@pytest.mark.parametrize("edition", ["community", "apache"])
def test_a_database_without_the_extension_gets_the_edition_when_it_is_created(
    edition: str, request: pytest.FixtureRequest
) -> None:
    server: TimescaleServer = request.getfixturevalue(edition)
    with server.database(extension=False) as url, psycopg.connect(url, autocommit=True) as sql:
        assert sql.execute("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'").fetchone() == (0,)
        sql.execute("CREATE EXTENSION timescaledb")
        sql.execute(HYPERTABLE)
        refused = None
        try:
            sql.execute(COMPRESSION)
        except psycopg.errors.FeatureNotSupported as error:
            refused = error
        assert (refused is None) == (edition == "community")


def test_what_was_prepared_once_is_in_every_database_that_asks_and_in_no_other(community: TimescaleServer) -> None:
    for _ in range(2):
        with community.database(prepare=_with_a_table) as url, psycopg.connect(url, autocommit=True) as sql:
            assert sql.execute("SELECT count(*) FROM volume").fetchone() == (1000,)
            sql.execute("DROP TABLE volume")
    with community.database() as url, psycopg.connect(url, autocommit=True) as sql:
        assert sql.execute("SELECT to_regclass('volume')").fetchone() == (None,)


def _with_a_table(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute(HYPERTABLE)


def test_the_migrated_database_is_at_the_newest_migration(migrated_community_database: str) -> None:
    with psycopg.connect(migrated_community_database) as sql:
        assert sql.execute("SELECT count(*) FROM otc.venue_volume").fetchone() == (0,)
