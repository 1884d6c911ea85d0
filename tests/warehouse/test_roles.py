"""The writer and the reader: what each may do, what it may not, and who gives them their rights."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors
from support.logins import login
from support.migration import migrate

from otc_assets import embedded_files
from otc_assets.domain.tables import with_history
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse import roles
from otc_assets.warehouse.migrate import newest_version
from otc_assets.warehouse.roles import READER, WRITER, WrongRole
from otc_assets.warehouse.server import connect, transaction
from otc_assets.warehouse.timescale.aggregates import AGGREGATES

Sql = psycopg.Connection[tuple[object, ...]]
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'otc'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
DEFINERS = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'otc'::regnamespace AND prosecdef"

EVENT = """
    SELECT id FROM otc.append_event('otc.file.rejected', 'file', 'x', '{"origin": "a.csv", "reason": "no header"}')
"""


@pytest.fixture
def admin(server: EmbeddedServer, database: str) -> Iterator[Sql]:
    """A superuser's connection to the database."""
    with server._connect(database.rpartition("/")[2]) as connection:
        yield connection


@pytest.fixture
def writer(admin: Sql, database: str) -> Iterator[Sql]:
    """A connection of a member of the role that writes."""
    with login(admin, database, WRITER) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection
        connection.close()  # before the login is dropped


@pytest.fixture
def reader(admin: Sql, database: str) -> Iterator[Sql]:
    """A connection of a member of the role that reads."""
    with login(admin, database, READER) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection
        connection.close()


def names(sql: Sql, query: str) -> list[str]:
    return sorted(str(name) for (name,) in sql.execute(query.encode()))


def allowed(sql: Sql, statement: str) -> bool:
    """Whether the role may execute the statement, whatever else is wrong with it. Nothing is changed."""
    try:
        with sql.transaction(force_rollback=True):
            sql.execute(statement.encode())
    except errors.InsufficientPrivilege:
        return False
    except errors.Error:
        return True
    return True


def changes(sql: Sql, table: str) -> set[str]:
    """The ways in which the role may change rows of the table, found by trying each."""
    columns = """
        SELECT attname FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = '' AND attidentity = '' LIMIT 1
    """
    column = sql.execute(columns, [f"otc.{table}"]).fetchone()[0]  # type: ignore[index]
    statements = {
        "INSERT": f"INSERT INTO otc.{table} DEFAULT VALUES",
        "UPDATE": f"UPDATE otc.{table} SET {column} = {column} WHERE false",
        "DELETE": f"DELETE FROM otc.{table} WHERE false",
        "TRUNCATE": f"TRUNCATE otc.{table}",
    }
    return {name for name, text in statements.items() if allowed(sql, text)}


# --- the reader ------------------------------------------------------------------------------------------


def test_a_reader_reads_every_table_and_answer_as_of_a_moment_and_changes_nothing(admin: Sql, reader: Sql) -> None:
    tables = names(admin, TABLES)
    assert len(tables) > 30
    for table in tables:
        reader.execute(f"SELECT count(*) FROM otc.{table}".encode())
        kind = admin.execute("SELECT relkind FROM pg_class WHERE oid = %s::regclass", [f"otc.{table}"]).fetchone()
        assert changes(reader, table) == set() or kind == ("v",), table
    answers = names(admin, "SELECT proname FROM pg_proc WHERE proname LIKE '%\\_as\\_of'")
    assert len(answers) == len(with_history()) + len(AGGREGATES)
    for answer in answers:
        assert reader.execute(f"SELECT * FROM otc.{answer}('2026-01-01 00:00Z')".encode()).fetchall() == []
    for attempt in (
        EVENT,
        "SELECT otc.apply_retention()",
        "SELECT otc.replay_events()",
        "SELECT otc.compress_again('{venue_volume}', '2026-01-02')",
        "SELECT otc.refresh_aggregates('2026-01-02')",
        "SELECT setval('otc.publication_id_seq', 1)",
        "CREATE TABLE otc.of_a_reader (x int)",
        "CREATE SCHEMA of_a_reader",
        "DROP TABLE otc.gap",
        f"SET ROLE {WRITER}",
    ):
        assert not allowed(reader, attempt), attempt


def test_a_login_without_a_role_reads_nothing(admin: Sql, database: str) -> None:
    with login(admin, database) as url, psycopg.connect(url, autocommit=True) as stranger:
        for table in names(admin, TABLES):
            assert not allowed(stranger, f"SELECT FROM otc.{table}"), table
        stranger.close()


# --- the owner ---------------------------------------------------------------------------------------------


def test_an_owner_has_no_power_over_the_server_and_becomes_no_other_role(database: str, admin: Sql) -> None:
    """Everything in its database is its own. Nothing else is: functions run with its rights."""
    address = sa.make_url(database)
    administrator = admin.execute("SELECT current_user").fetchone()[0]  # type: ignore[index]
    with login(admin, database) as other, psycopg.connect(database, autocommit=True) as owner:
        attributes = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        found = owner.execute(f"SELECT {attributes} FROM pg_roles WHERE rolname = current_user".encode()).fetchone()
        assert found == (False,) * 5
        assert names(owner, "SELECT roleid::regrole FROM pg_auth_members WHERE member = current_user::regrole") == []
        assert allowed(owner, "CREATE TABLE otc.of_the_owner (x int)")
        for attempt in (
            *(f"SET ROLE {role}" for role in (administrator, WRITER, READER, sa.make_url(other).username)),
            f"SET SESSION AUTHORIZATION {administrator}",
            f"GRANT {WRITER} TO {address.username}",
            f"ALTER ROLE {address.username} SUPERUSER",
            f"ALTER ROLE {sa.make_url(other).username} PASSWORD 'x'",
            "CREATE ROLE of_the_owner",
            "SELECT rolpassword FROM pg_authid",
            "SELECT pg_read_file('pg_hba.conf')",
            "COPY (SELECT 1) TO PROGRAM 'cat'",
        ):
            assert not allowed(owner, attempt), attempt
    for name in (administrator, embedded_files.APP, embedded_files.ANALYST):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(address.set(username=str(name)).render_as_string(hide_password=False))


# --- the writer ------------------------------------------------------------------------------------------

#: Tables that runs change in fewer ways than by inserting, updating and deleting rows.
LESS: dict[str, set[str]] = {
    "publication": {"INSERT", "UPDATE"},
    "definition": set(),
    "events": {"INSERT"},
    "firm": set(),
    "file_ledger": set(),
    "gap_ledger": set(),
    "journal": set(),
    "retention": set(),
    "schema_version": set(),
    "week_state": set(),
}


def test_a_writer_changes_the_rows_of_data_and_nothing_that_is_only_appended_or_settings(
    admin: Sql, writer: Sql
) -> None:
    for table in names(admin, f"{TABLES} AND relkind <> 'v'"):
        expected = LESS.get(table, {"INSERT"} if table.endswith("_revision") else {"INSERT", "UPDATE", "DELETE"})
        assert changes(writer, table) == expected, table


def test_a_writer_appends_events_whose_projections_follow_and_rewrites_none(admin: Sql, writer: Sql) -> None:
    (number,) = writer.execute(EVENT).fetchone() or ()
    found = admin.execute("SELECT file, state, reason FROM otc.file_ledger").fetchall()
    assert found == [("x", "rejected", "no header")]
    admin.execute("UPDATE otc.file_ledger SET state = 'ingested'")
    assert writer.execute("SELECT otc.replay_events()").fetchone() == (1,)
    assert admin.execute("SELECT file, state, reason FROM otc.file_ledger").fetchall() == found
    of_an_event = "event_type, aggregate_type, aggregate_id, version, payload, metadata"
    values = "'otc.file.rejected', 'file', 'y', 1, '{}', '{\"schema\": 1}'"
    assert allowed(writer, f"INSERT INTO otc.events ({of_an_event}) VALUES ({values})")
    for attempt in (
        f"INSERT INTO otc.events ({of_an_event}, created_at) VALUES ({values}, '2020-01-01')",
        f"INSERT INTO otc.events ({of_an_event}, began_at) VALUES ({values}, '2020-01-01')",
        f"INSERT INTO otc.events ({of_an_event}, id) OVERRIDING SYSTEM VALUE VALUES ({values}, 7)",
        f"DELETE FROM otc.events WHERE id = {number}",
        f"UPDATE otc.events SET payload = '{{}}' WHERE id = {number}",
        "ALTER TABLE otc.events DISABLE TRIGGER append_only",
        # A trigger of one's own that projects any event.
        "CREATE TEMP TABLE forged (LIKE otc.events); CREATE TRIGGER project AFTER INSERT ON forged FOR EACH ROW "
        "EXECUTE FUNCTION otc.project_appended_event()",
    ):
        assert not allowed(writer, attempt), attempt


def test_a_writer_defines_nothing_and_reads_no_secrets(writer: Sql, database: str) -> None:
    owner = sa.make_url(database).username
    for attempt in (
        "CREATE TABLE otc.of_a_writer (x int)",
        "CREATE FUNCTION otc.of_a_writer() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX ON otc.gap (due)",
        "CREATE SCHEMA of_a_writer",
        "DROP TABLE otc.gap",
        "ALTER TABLE otc.gap ADD COLUMN x int",
        "DROP VIEW otc.weekly_summary_agg",
        "SELECT setval('otc.publication_id_seq', 1)",
        "CREATE ROLE of_a_writer",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('pg_hba.conf')",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        f"SET ROLE {owner}",
    ):
        assert not allowed(writer, attempt), attempt


def test_a_writer_applies_retention_as_of_today_and_no_later_day(admin: Sql, writer: Sql) -> None:
    """A run whose clock is wrong would delete weeks that are kept."""
    admin.execute("""
        INSERT INTO otc.published_total (week_ending, tier, total_of, symbol, venue_id, venue_kind, issue_name,
            product_type, share_volume, trade_count)
        SELECT week, 'OTC', 'MARKET', '', '', 'ATS', '', '', 1, 1
        FROM (VALUES ('2020-01-03'::date), (current_date - 30)) weeks (week)
    """)
    with pytest.raises(errors.InvalidParameterValue, match="that day is not today"):
        writer.execute("SELECT * FROM otc.apply_retention('2200-01-01')")
    with pytest.raises(errors.InvalidParameterValue):
        writer.execute("SELECT * FROM otc.apply_retention(NULL)")
    assert [row[0] for row in writer.execute("SELECT * FROM otc.apply_retention()")] == ["venue_volume"]
    assert admin.execute("SELECT count(*) FROM otc.published_total").fetchone() == (1,)
    assert names(admin, "SELECT event_type FROM otc.events") == ["otc.retention.applied"]


#: The functions that run with the owner's rights, and why the caller's are not enough.
DEFINERS_AND_WHY = {
    "apply_retention": "deletes rows and drops chunks of weeks outside the window, as of today only",
    "compress_again": "compresses chunks, which only the owner of a table may",
    "project_appended_event": "writes the projections of events, which no one changes directly",
    "refresh_aggregates": "writes the rows of a continuous aggregate, which are in TimescaleDB's own tables",
    "replay_events": "rebuilds the projections of events",
}
#: Functions that are inlined into a caller's query, and so can't have settings. They run with the caller's rights.
INLINED = re.compile(r"\w+_as_of")
OURS = """
    SELECT proname::text, prosecdef, coalesce(proconfig, '{}'), has_function_privilege('public', oid, 'EXECUTE'),
        prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')
    FROM pg_proc p
    WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass
          AND d.deptype = 'e')
"""


def judge_functions(functions: list[tuple[str, bool, list[str], bool, bool]]) -> None:
    """Every function has a path of its own, and runs with its caller's rights unless there is a reason."""
    assert len(functions) > 40
    for name, is_definer, settings_of, is_everyones, is_sql in functions:
        if INLINED.fullmatch(name):
            assert (is_definer, settings_of, is_sql) == (False, [], True), name
        else:
            assert "search_path=pg_catalog, pg_temp" in settings_of, name
        assert not (is_definer and is_everyones), name
    assert {name for name, is_definer, *_ in functions if is_definer} == DEFINERS_AND_WHY.keys()


def test_every_function_has_a_fixed_path_and_runs_with_the_owners_rights_only_for_a_reason(admin: Sql) -> None:
    judge_functions(admin.execute(OURS).fetchall())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("edition", ["community", "apache"])
def test_that_also_holds_for_both_editions_of_timescaledb(edition: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{edition}_database")
    migrate(url)
    with psycopg.connect(url, autocommit=True) as owner:
        judge_functions(owner.execute(OURS).fetchall())  # type: ignore[arg-type]


# --- granting --------------------------------------------------------------------------------------------


def test_a_table_of_a_later_migration_is_covered_without_a_grant(database: str, writer: Sql, reader: Sql) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("CREATE TABLE otc.later (x int)")
        assert changes(writer, "later") == {"INSERT", "UPDATE", "DELETE"}
        assert changes(reader, "later") == set()
        assert reader.execute("SELECT * FROM otc.later").fetchall() == []
        owner.execute("CREATE FUNCTION otc.later_as_of(timestamptz) RETURNS int LANGUAGE sql AS 'SELECT 1'")
        owner.execute("REVOKE ALL ON FUNCTION otc.later_as_of FROM PUBLIC")
        assert not allowed(reader, "SELECT otc.later_as_of(now())")
    migrate(database)
    assert allowed(reader, "SELECT otc.later_as_of(now())")
    assert changes(writer, "later") == {"INSERT", "UPDATE", "DELETE"}


def test_migrate_restores_the_rights_of_our_roles_and_leaves_those_of_others(
    admin: Sql, database: str, writer: Sql, reader: Sql
) -> None:
    with login(admin, database) as url, psycopg.connect(url, autocommit=True) as analyst:
        name = sa.make_url(url).username
        admin.execute(
            f"""
            GRANT USAGE ON SCHEMA otc TO {name};
            GRANT SELECT, UPDATE ON otc.gap TO {name};
            REVOKE SELECT ON otc.venue_volume FROM {READER};
            REVOKE ALL ON otc.publication FROM {WRITER};
            GRANT DELETE, TRUNCATE ON otc.events TO {WRITER};
            GRANT UPDATE (keep_weeks) ON otc.retention TO {READER};
            GRANT CREATE ON SCHEMA otc TO {WRITER};
            REVOKE EXECUTE ON FUNCTION otc.replay_events FROM {WRITER}
        """.encode()
        )
        assert not allowed(reader, "SELECT FROM otc.venue_volume")
        assert allowed(writer, "TRUNCATE otc.events")
        migrate(database)
        assert allowed(reader, "SELECT FROM otc.venue_volume")
        assert not allowed(reader, "UPDATE otc.retention SET keep_weeks = 1 WHERE false")
        assert changes(writer, "publication") == {"INSERT", "UPDATE"}
        assert changes(writer, "events") == {"INSERT"}
        assert not allowed(writer, "CREATE TABLE otc.of_a_writer (x int)")
        assert allowed(writer, "SELECT otc.replay_events()")
        assert changes(analyst, "gap") == {"UPDATE"}
        analyst.close()


def test_a_second_migration_grants_nothing(database: str) -> None:
    statements: list[str] = []
    engine = connect(database)
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with transaction(engine) as connection:
        assert roles.grant(connection, "otc", roles.rights_in_otc) == ""
    engine.dispose()
    assert statements
    assert not any(text.startswith(("GRANT", "REVOKE")) for text in statements)


def test_a_database_of_an_earlier_version_gets_the_roles(empty_database: str, server: EmbeddedServer) -> None:
    migrate(empty_database, "037")
    with server._connect(empty_database.rpartition("/")[2]) as admin:
        assert names(admin, DEFINERS) == []
        with login(admin, empty_database, WRITER) as url, psycopg.connect(url, autocommit=True) as writer:
            assert not allowed(writer, EVENT)
            migrate(empty_database)
            assert allowed(writer, EVENT)
            migrate(empty_database, "037")
            assert names(admin, DEFINERS) == []
            migrate(empty_database)
            assert allowed(writer, EVENT)
            writer.close()


@pytest.fixture
def unknown_roles(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The two roles have names that the server does not have."""
    writer, reader = "absent_writer", "absent_reader"
    monkeypatch.setattr(roles, "WRITER", writer)
    monkeypatch.setattr(roles, "READER", reader)
    yield writer, reader
    with server._connect("postgres") as admin:
        admin.execute(f"DROP ROLE IF EXISTS {writer}, {reader}".encode())


def test_an_owner_who_may_not_create_roles_migrates_and_says_what_an_administrator_runs(
    unknown_roles: tuple[str, str], empty_database: str, server: EmbeddedServer
) -> None:
    done = migrate(empty_database)
    assert done.after == newest_version()
    command = "CREATE ROLE absent_reader NOLOGIN; CREATE ROLE absent_writer NOLOGIN;"
    assert command in done.remark
    assert "\n" not in done.remark
    with server._connect(empty_database.rpartition("/")[2]) as admin:
        admin.execute(command.encode())
        with login(admin, empty_database, unknown_roles[0]) as url, psycopg.connect(url, autocommit=True) as writer:
            assert not allowed(writer, EVENT)
            assert migrate(empty_database).remark == ""
            assert allowed(writer, EVENT)
            writer.close()
        admin.execute("DROP OWNED BY absent_reader, absent_writer CASCADE")


MIGRATE = """
import sys
from otc_assets.settings import settings
from otc_assets.warehouse import migrate, roles
roles.WRITER, roles.READER = sys.argv[2:]
assert migrate.migrate(sys.argv[1], settings()).remark == ""
"""


@pytest.mark.slow
def test_migrations_of_several_databases_at_once_create_the_roles_once_and_one_can_be_dropped(
    unknown_roles: tuple[str, str], server: EmbeddedServer
) -> None:
    """Roles belong to the server, and the lock of a migration to its database."""
    with server._connect("postgres") as admin:
        admin.execute("CREATE ROLE creator LOGIN CREATEROLE PASSWORD 'of-creator'")
        urls = []
        for number in range(3):
            admin.execute(f"CREATE DATABASE shared_{number} OWNER creator STRATEGY file_copy".encode())
            url = sa.make_url(server.url).set(username="creator", password="of-creator", database=f"shared_{number}")
            urls.append(url.render_as_string(hide_password=False))
        migrations = [
            subprocess.Popen([sys.executable, "-c", MIGRATE, url, *unknown_roles], stderr=subprocess.PIPE, text=True)
            for url in [*urls, urls[0]]
        ]
        try:
            assert [(done.communicate()[1], done.returncode) for done in migrations] == [("", 0)] * 4
            admin.execute("DROP DATABASE shared_0 WITH (FORCE)")
            with (
                server._connect("shared_1") as one,
                login(one, urls[1], unknown_roles[0]) as url,
                psycopg.connect(url, autocommit=True) as writer,
            ):
                assert allowed(writer, EVENT)
                writer.close()
        finally:
            for number in range(3):
                admin.execute(f"DROP DATABASE IF EXISTS shared_{number} WITH (FORCE)".encode())
            admin.execute(f"DROP ROLE {', '.join(unknown_roles)}".encode())
            admin.execute("DROP ROLE creator")


def test_objects_of_another_owner_are_named_and_the_rest_is_granted(admin: Sql, database: str, reader: Sql) -> None:
    admin.execute("CREATE TABLE otc.of_an_administrator (x int)")
    migrated = migrate(database)
    assert "otc.of_an_administrator in schema otc: another role than otc is the owner" in migrated.remark
    assert not allowed(reader, "SELECT FROM otc.of_an_administrator")
    assert allowed(reader, "SELECT FROM otc.gap")


# --- who may run what ------------------------------------------------------------------------------------


@pytest.fixture(params=[WRITER, READER])
def of_a_role(admin: Sql, database: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a member of one of the roles."""
    with login(admin, database, request.param) as url:
        yield url


def test_migrate_refuses_a_role_that_is_not_the_owner(of_a_role: str) -> None:
    with pytest.raises(WrongRole, match=r"can't migrate the schema: only otc, the owner of schema otc, can") as error:
        migrate(of_a_role)
    assert "URL of the owner" in error.value.remedy


def test_a_role_without_the_right_to_create_a_schema_is_named(empty_database: str, server: EmbeddedServer) -> None:
    with server._connect(empty_database.rpartition("/")[2]) as admin, login(admin, empty_database) as url:
        with pytest.raises(WrongRole, match="it may not create schema otc"):
            migrate(url)
        admin.execute("CREATE SCHEMA otc; CREATE SCHEMA dagster")
        name = sa.make_url(url).username
        admin.execute(f"GRANT ALL ON SCHEMA otc TO {name}; GRANT ALL ON SCHEMA dagster TO {name}".encode())
        assert migrate(url).after == newest_version()


Command = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_a_writer_without_dagsters_tables_is_told_that_migrate_creates_them(
    otc: Command, admin: Sql, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with login(admin, database, WRITER) as url:
        monkeypatch.setenv("OTC_DATABASE_URL", url)
        code, text, said = otc("materialize", "--weeks", "2026-08-21")
        assert (code, text) == (1, "")
        assert "'otc-assets migrate' creates the tables, Dagster's too" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("role", "arguments", "needed"),
    [
        (READER, ["materialize", "--weeks", "2026-08-21"], "URL of a member of otc_writer"),
        (READER, ["captures", "accept", "1"], "URL of a member of otc_writer"),
        (READER, ["events", "replay"], "commands that write need a member of otc_writer"),
        (READER, ["up"], "URL of the owner of the schema"),
        (READER, ["migrate"], "URL of the owner of the schema"),
        (WRITER, ["migrate"], "URL of the owner of the schema"),
        (WRITER, ["up"], "URL of the owner of the schema"),
        (WRITER, ["rebuild", "--from", "archive"], "URL of the owner of the schema"),
        (None, ["status"], "those that read one of otc_reader"),
    ],
)
@pytest.mark.slow
def test_a_command_that_the_role_may_not_run_says_in_one_line_which_role_is_needed(
    role: str | None,
    arguments: list[str],
    needed: str,
    otc: Command,
    admin: Sql,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    otc("migrate")
    before = admin.execute("SELECT count(*) FROM otc.events").fetchone()
    with login(admin, database, *filter(None, [role])) as url:
        monkeypatch.setenv("OTC_DATABASE_URL", url)
        settings.cache_clear()
        code, text, said = otc(*arguments)
        assert (code, text) == (1, "")
        assert needed in said
        assert said.count("\n") == 1
        assert "of-login" not in said
    assert admin.execute("SELECT count(*) FROM otc.events").fetchone() == before
