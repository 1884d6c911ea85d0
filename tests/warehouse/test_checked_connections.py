"""Connections of a pool, which are checked before they are used: our own, and those of Dagster's storage."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from otc_assets.defs.pooling import _engine
from otc_assets.warehouse import server as warehouse_server
from otc_assets.warehouse.server import connect, dagster_storage_url


@pytest.fixture(params=["ours", "Dagster's"])
def pooled(request: pytest.FixtureRequest, database: str) -> Iterator[sa.Engine]:
    engine = connect(database) if request.param == "ours" else _engine(dagster_storage_url(database))
    yield engine
    engine.dispose()


def backend(engine: sa.Engine) -> int:
    """The server's process of the connection that the engine uses."""
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_that_the_server_has_ended_is_replaced(pooled: sa.Engine, database: str) -> None:
    before = backend(pooled)
    assert backend(pooled) == before
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (before,))
    assert backend(pooled) != before


def test_a_connection_is_used_after_the_server_has_sent_something(pooled: sa.Engine, database: str) -> None:
    """A notification, here, of a channel that the session listens to."""
    with pooled.connect() as connection:
        connection.execute(sa.text("LISTEN news"))
        connection.commit()
        before = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("NOTIFY news")
    assert backend(pooled) == before


def test_the_server_is_asked_after_a_while_and_not_before(pooled: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    backend(pooled)
    asked = []
    ask = pooled.dialect.do_ping
    monkeypatch.setattr(pooled.dialect, "do_ping", lambda connection: asked.append(connection) or ask(connection))
    backend(pooled)
    assert len(asked) == 0
    monkeypatch.setattr(warehouse_server, "SILENT_SECONDS", -1.0)
    backend(pooled)
    assert len(asked) == 1
