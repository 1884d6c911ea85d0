"""A server, a login or a database that has as many connections as it may: who waits, and what is said in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import stamina
from support.logins import login

from otc_assets.client import Client, Unreachable
from otc_assets.defs.pooling import _engine, close_idle
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.warehouse import server as warehouse_server
from otc_assets.warehouse.server import DatabaseUnreachable, connect, dagster_storage_url, transaction

#: How each limit is reached, by the words of the server.
LIMITS = {
    "too many connections for role": "ALTER ROLE {login} CONNECTION LIMIT 1",
    "too many connections for database": "ALTER DATABASE {database} CONNECTION LIMIT 2",
    "remaining connection slots are reserved": "SELECT 1",
}


@dataclass
class Limited:
    """A login that may have ``most`` connections at a time; one more is refused with ``words``."""

    url: str
    most: int
    words: str

    @contextmanager
    def full(self) -> Iterator[ExitStack]:
        """It has all of them, until the stack is closed."""
        with ExitStack() as taken:
            for _ in range(self.most):
                taken.enter_context(self._connection())
            with pytest.raises(psycopg.OperationalError, match=self.words):
                psycopg.connect(self.url)
            yield taken

    def _connection(self) -> psycopg.Connection:
        """One of them. A server counts a connection until its process has ended, some time after it was closed."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return psycopg.connect(self.url)
            except psycopg.OperationalError as error:
                if self.words not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@pytest.fixture(scope="module")
def own_server(folder_for_all: Path) -> Iterator[EmbeddedServer]:
    """A server on which nobody else has connections, with a database that everybody may connect to."""
    with EmbeddedServer(folder_for_all / "limits", durable=False) as running:
        with running._connect("postgres") as admin:
            admin.execute("CREATE DATABASE limited")
        yield running


@pytest.fixture(params=LIMITS)
def limited(request: pytest.FixtureRequest, own_server: EmbeddedServer) -> Iterator[Limited]:
    """A login whose connections are limited. The administrator has one connection, which is counted where all are."""
    own_url = own_server.url.rpartition("/")[0] + "/limited"
    with own_server._connect("limited") as admin, login(admin, own_url) as url:
        admin.execute(LIMITS[request.param].format(login=sa.make_url(url).username, database="limited").encode())
        setting = "current_setting('{}')::int"
        reserved = ("superuser_reserved_connections", "reserved_connections")
        free = " - ".join(setting.format(name) for name in ("max_connections", *reserved))
        [[most]] = admin.execute(f"SELECT {free} - 1".encode()) if "slots" in request.param else [[1]]
        assert isinstance(most, int)
        yield Limited(url, most, request.param)
        admin.execute("ALTER DATABASE limited CONNECTION LIMIT -1")


def _of_ours(url: str) -> tuple[sa.Engine, Callable[[], None]]:
    engine = connect(url)
    return engine, engine.dispose


def _of_dagster(url: str) -> tuple[sa.Engine, Callable[[], None]]:
    address = dagster_storage_url(url)
    return _engine(address), lambda: close_idle(address)


@pytest.mark.parametrize("opened", [_of_ours, _of_dagster])
def test_a_connection_is_waited_for_while_there_are_as_many_as_there_may_be(
    limited: Limited,
    opened: Callable[[str], tuple[sa.Engine, Callable[[], None]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = limited.url
    engine, close = opened(url)
    with limited.full() as taken:
        # Tests do not wait between attempts, of which there are six.
        with pytest.raises(DatabaseUnreachable) as refused, transaction(engine):
            pass
        assert limited.words in str(refused.value)
        assert "max_connections, or CONNECTION LIMIT" in str(refused.value)
        assert str(sa.make_url(url).password) not in str(refused.value)
        # A client of analysts says so, too, and does not wait.
        with Client(url) as client, pytest.raises(Unreachable, match="CONNECTION LIMIT"):
            client.sql("SELECT 1 AS one")
        # Now another process ends while this one waits.
        stamina.set_testing(False)
        monkeypatch.setattr(warehouse_server, "FULL_SECONDS", 60.0)
        ending = threading.Timer(0.2, taken.close)
        ending.start()
        try:
            with transaction(engine) as connection:
                assert connection.scalar(sa.text("SELECT 1")) == 1
        finally:
            stamina.set_testing(True, attempts=6)
            ending.join()
            close()


def test_what_is_refused_for_another_reason_is_not_waited_for(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []
    engine = connect(sa.make_url(database).set(port=1).render_as_string(hide_password=False))
    connecting = engine.dialect.connect

    def counted(*args: object, **parameters: object) -> object:
        attempts.append(args)
        return connecting(*args, **parameters)

    monkeypatch.setattr(engine.dialect, "connect", counted)
    with pytest.raises(DatabaseUnreachable, match="that the server runs"), transaction(engine):
        pass
    assert len(attempts) == 1


def test_where_all_connections_of_a_process_are_in_use_the_error_says_so(database: str) -> None:
    engine = connect(database)
    engine.pool._timeout = 0.01  # type: ignore[attr-defined] # not 30 seconds
    refused = pytest.raises(DatabaseUnreachable, match="no connection of this process became free: QueuePool limit")
    with ExitStack() as stack:
        for _ in range(engine.pool.size() + engine.pool._max_overflow):  # type: ignore[attr-defined]
            stack.enter_context(transaction(engine))
        with refused, transaction(engine):
            pass
    with transaction(engine) as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    engine.dispose()


@pytest.mark.slow
def test_a_run_needs_three_connections_and_names_the_limit_where_it_has_fewer(
    otc: Callable[..., tuple[int, str, str]], server: EmbeddedServer, database: str
) -> None:
    """The number that docs/deploy.md gives. What failed is complete after the next command, and no run is left."""

    def materialized(week: str, connections: int) -> tuple[int, str]:
        with server._connect("postgres") as admin:
            admin.execute(f"ALTER DATABASE {database.rpartition('/')[2]} CONNECTION LIMIT {connections}".encode())
        code, _, said = otc("materialize", "--weeks", week)
        return code, said

    assert materialized("2026-08-14", 3)[0] == 0
    code, said = materialized("2026-08-21", 2)
    assert code == 1
    assert "max_connections, or CONNECTION LIMIT" in said
    assert "bug" not in said
    assert materialized("2026-08-21", 3)[0] == 0
    with psycopg.connect(database) as connection:
        runs = connection.execute("SELECT count(*) FROM dagster.runs WHERE status NOT IN ('SUCCESS', 'FAILURE')")
        assert runs.fetchall() == [(0,)]
        weeks = connection.execute("SELECT DISTINCT week_ending::text FROM otc.symbol_rolling ORDER BY 1")
        assert weeks.fetchall() == [("2026-08-14",), ("2026-08-21",)]
