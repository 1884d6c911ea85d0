"""Serves the HTTP API with uvicorn: refuses an unsafe configuration, and limits connections and their time."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otc_assets.api.access import Keys
from otc_assets.api.app import make_app
from otc_assets.archive.opening import open_archive
from otc_assets.client import Client
from otc_assets.errors import OtcError
from otc_assets.http_guard import is_loopback
from otc_assets.settings import Settings

#: Connections to the database, and from clients.
DATABASE_CONNECTIONS, MAX_CONNECTIONS = 8, 128
#: Seconds for a statement, for the head of a request, and for reading a part of a response.
STATEMENT_SECONDS, HEAD_SECONDS, PART_SECONDS = 30.0, 30.0, 30.0
#: Seconds for the statement of /health, which has a connection of its own.
PROBE_SECONDS = 2.0

log = logging.getLogger(__name__)


class KeysNeeded(OtcError):
    """Other machines could read everything without a key."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with limits on how long a client may take to send the head of a request, and to read a response.

    uvicorn has neither, and closing a connection waits until everything is read.
    """

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # Writing is paused whenever something is unread, and the next part is not sent before all of it is read.
        transport.set_write_buffer_limits(high=0)
        self._late = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_time()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._in_time()  # from here on, uvicorn's own limit for idle connections applies
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(PART_SECONDS, self._give_up)

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._is_read()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        log.warning("a client did not read its response within %s seconds", PART_SECONDS)
        self.transport.abort()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def serve(chosen: Settings, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until a signal ends it.

    Args:
        chosen: the settings.
        host: the address to listen on.
        port: 0 takes a free one.
        ready: is called with the address once requests are accepted.

    Raises:
        KeysNeeded: other machines reach the address, and no file of keys is set.
        OSError: the address can't be listened on.
    """
    keys = Keys(chosen.api_keys) if chosen.api_keys is not None else None
    local = is_loopback(host)
    if keys is None and not local:
        raise KeysNeeded(
            f"other machines reach {host}, and no API keys are set",
            remedy="Set OTC_API_KEYS to a file of keys ('otc-assets serve --new-key NAME' makes one), or serve this "
            "machine only: --host 127.0.0.1.",
        )
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with (
        Client(timeout=STATEMENT_SECONDS, connections=DATABASE_CONNECTIONS) as client,
        Client(timeout=PROBE_SECONDS, connections=1) as probe,
        socket.create_server(address[:2], family=family, backlog=MAX_CONNECTIONS) as listening,
    ):
        app = make_app(
            client,
            probe=probe,
            archive=open_archive(chosen.archive),
            keys=keys,
            requests_per_minute=chosen.api_requests_per_minute,
            names=chosen.host_names if local else None,
            origins=chosen.origins,
        )
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            proxy_headers=False,  # any process of this machine could write them, and have the allowance of any address
            timeout_graceful_shutdown=10,
        )
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])
