"""The right to run Dagster's daemon on a database: one ``otc-assets up`` has it at a time.

Two daemons on one database would launch every run twice. An advisory lock keeps out another ``up``, and heartbeats
show any other daemon. Starting and stopping the daemon is in ``services``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import sqlalchemy as sa

from otc_assets.local.setup import NotStarted
from otc_assets.postgres import keepalives
from otc_assets.warehouse.server import LOCK_SPACE, database_url, libpq_url

#: A daemon writes a heartbeat every 30 seconds. After this time without one, no daemon is running.
_SILENCE_SECONDS = 75

#: How often ``up`` checks that it still holds its lock.
_CHECK_SECONDS = 10

#: The advisory lock that ``up`` holds, and the query that finds its holder.
_DAEMON_LOCK = (LOCK_SPACE, 1)
_LOCK_HOLDER = """
    SELECT activity.application_name, pid FROM pg_locks lock JOIN pg_stat_activity activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.classid = %s AND lock.objid = %s AND lock.objsubid = 2 AND lock.granted
"""


class OnlyDaemon:
    """The right to run Dagster's daemon on a database.

    It is an advisory lock of a database session. So it also keeps out an ``up`` of another folder or machine, and
    PostgreSQL releases it when the process ends. A connection pooler must be in session mode.

    Args:
        url: the database.
        command: the command that needs the right, as another one names it when it is refused.
    """

    def __init__(self, url: str, command: str = "up") -> None:
        self._url = url
        self._command = command
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._backend: int | None = None
        self._checked = time.monotonic()

    def take(self) -> None:
        """Takes the lock.

        Raises:
            NotStarted: another ``up`` holds it.
        """
        name = f"otc-assets {self._command}, process {os.getpid()} on {socket.gethostname()}"[:63]
        line = keepalives(sa.make_url(database_url(self._url, "psycopg")).query)
        connection = psycopg.connect(
            libpq_url(self._url), autocommit=True, application_name=name, connect_timeout=10, **line
        )
        if not _is_taken(connection):
            found = connection.execute(_LOCK_HOLDER, _DAEMON_LOCK).fetchone()
            if found == (name, self._backend) and self._backend is not None:
                self._take_over(connection)
                return
            connection.close()
            raise NotStarted(
                f"another command uses this database ({found[0] if found else 'unknown'}), and two daemons would "
                "launch every run twice",
                remedy="Stop that one, or use another database (OTC_DATABASE_URL, OTC_HOME).",
            )
        self._keep(connection)

    def _take_over(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        """Ends our earlier session: its line is broken, and the server has not noticed."""
        connection.execute("SELECT pg_terminate_backend(%s)", [self._backend])
        for _ in range(50):
            if _is_taken(connection):
                self._keep(connection)
                return
            time.sleep(0.1)
        connection.close()  # the next check tries again

    def _keep(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection, self._backend = connection, connection.info.backend_pid

    def hold(self) -> None:
        """Checks that the lock is still held, and takes it again after the database was restarted or the line broke.

        Raises:
            NotStarted: another ``up`` has taken it meanwhile.
        """
        if time.monotonic() - self._checked < _CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        try:
            assert self._connection is not None
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError:
            with suppress(psycopg.OperationalError):  # the database is down; the next check tries again
                self.take()

    def release(self) -> None:
        """Releases the lock."""
        if self._connection is not None:
            self._connection.close()


def _is_taken(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    return connection.execute("SELECT pg_try_advisory_lock(%s, %s)", _DAEMON_LOCK).fetchone() == (True,)


def wait_until_silent(newest_heartbeat: Callable[[], float | None], say: Callable[[str], None]) -> None:
    """Waits until it is certain that no other daemon runs on the database, such as one that a killed ``up`` left.

    A daemon that was stopped normally has deleted its heartbeats, and then there is nothing to wait for.

    Args:
        newest_heartbeat: the time of the newest heartbeat of any daemon, in seconds since 1970; None for none.
        say: called with a line of text before waiting.

    Raises:
        NotStarted: a daemon is running.
    """
    first = newest_heartbeat()
    if first and time.time() - first < _SILENCE_SECONDS:
        say("waiting   up to 75 s, to make sure that no other Dagster daemon uses this database")
    while (newest := newest_heartbeat()) and time.time() - newest < _SILENCE_SECONDS:
        if first and newest > first:
            raise NotStarted(
                "another Dagster daemon uses this database, and two would launch every run twice. It was started by "
                "'dagster dev', or by an 'otc-assets up' on another machine or in another OTC_HOME that was killed",
                remedy="Stop it there; starting and stopping 'otc-assets up' there stops it.",
            )
        time.sleep(1)
