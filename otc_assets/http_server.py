"""The HTTP server of the metrics and of the API: uvicorn, bounded in connections, in their time, and in their memory.

uvicorn alone waits without limit for the head of a request, keeps a head of any size, and waits without limit for a
client that reads nothing. Its ``limit_concurrency`` refuses every request while enough connections are idle. This
module has the protocol that mends this, and starts the server. It knows nothing of what is served: that is in
``exporter`` and ``api``. Checks of the requests themselves are in ``http_guard``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

#: How large the head of a request may be: its first line and its headers.
MAX_HEAD_BYTES = 16_384
#: Seconds for the head of a request, and for reading a part of a response.
HEAD_SECONDS, PART_SECONDS = 30.0, 30.0
#: Where there are too many connections: how long one must have been idle, or its client must have read nothing, before
#: it is closed for another. A client needs a moment to send its request, and on a slow line, to read.
IDLE_SECONDS, UNREAD_SECONDS = 1.0, 5.0
#: How long a refused client may take to read why. Closing at once can discard what it has not read yet.
_REFUSED_SECONDS = 2.0
#: Connections beyond the limit, as a multiple of it, that are kept until their request is there and can be answered.
_BEYOND = 2
#: In the extensions of a scope: there are too many connections, and the request should be refused with 503.
_CROWDED = "otc_assets.crowded"

log = logging.getLogger(__name__)
#: uvicorn's, of one connection: its errors. It also warns of each request that is not HTTP or asks for a WebSocket.
_errors = logging.getLogger("uvicorn.error.connection")
_errors.setLevel(logging.ERROR)


def is_crowded(scope: Scope) -> bool:
    """Whether a request should be refused with 503 and its connection closed, because there are too many."""
    return _CROWDED in scope.get("extensions", {})


@contextmanager
def listening_on(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens while the block runs.

    Args:
        host: the address.
        port: 0 takes a free one.

    Raises:
        OSError: the address can't be listened on.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.create_server(address[:2], family=family) as listening:
        yield listening


def server_of(app: ASGIApp, *, connections: int, idle_seconds: int, stop_seconds: int) -> uvicorn.Server:
    """A server, which ``run`` starts and ``should_exit`` stops.

    Args:
        app: the application. It refuses requests of which ``is_crowded`` is true.
        connections: how many are served at a time. Beyond it, those are closed that lose least by it: first those
            that have sent no request, then those between two requests, then those whose client does not read. If
            none of them has been so for long enough, the requests of new connections are crowded.
        idle_seconds: how long a connection is kept between two requests.
        stop_seconds: how long responses may take to end once the server stops.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=connections,
        backlog=connections,  # so many are accepted before the first of them is handled
        timeout_keep_alive=idle_seconds,
        proxy_headers=False,  # any process of this machine could write them, and have the allowance of any address
        timeout_graceful_shutdown=stop_seconds,
    )
    return uvicorn.Server(config)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with the limits of this module."""

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    #: Bytes of a head that is not complete; None between the end of a head and the next one.
    _head_bytes: int | None = None
    _refused = _answered = _working = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _errors
        assert self.limit_concurrency is not None
        self._most, self.limit_concurrency = self.limit_concurrency, None  # not uvicorn's, which counts idle ones

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        # Writing is paused whenever something is unread, and the next part is not sent before all of it is read.
        transport.set_write_buffer_limits(high=0)
        self._late = self.loop.call_later(HEAD_SECONDS, transport.abort)
        if not self._has_room() and len(self.connections) > _BEYOND * self._most:
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        super().data_received(data)
        if self._head_bytes is not None and not self._refused:
            # An earlier request may be in the same data; its head ends with an empty line.
            self._head_bytes += len(data) - (data.rfind(b"\r\n\r\n") + 1)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._head_bytes = MAX_HEAD_BYTES + 1
            raise ValueError("the head of the request is too large")  # the parser stops, and has it answered
        self._head_bytes = None
        self._in_time()
        # A client that was answered before is not refused. There are no more of them than may be served.
        if not self._answered and not self._has_room():
            self.scope["extensions"] = {_CROWDED: {}}
            self.connections.discard(self)  # now: it would count as one that others have to be refused for
        self._working = True
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._in_time()  # from here on, uvicorn's own limit for idle connections applies
        self._answered, self._working, self._since = True, bool(self.pipeline), self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._since = self.loop.time()
        self._unread = self.loop.call_later(PART_SECONDS, self._give_up)

    def resume_writing(self) -> None:
        self._is_read()
        self._since = self.loop.time()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._is_read()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's has no reason in it
        """Refuses what can't be passed on to the application, and says why."""
        status, reason = HTTPStatus.BAD_REQUEST, "This is not a request in HTTP/1.1."
        if (self._head_bytes or 0) > MAX_HEAD_BYTES:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            reason = f"The first line and the headers of a request may have {MAX_HEAD_BYTES:,} bytes."
        log.info("refused what %s sent: %s", self.client, reason)
        self._refused = True
        self._in_time()
        if self._working:  # the response to an earlier request is under way
            self._close()
            return
        self.transport.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(reason) + 1}\r\nconnection: close\r\n\r\n{reason}\n".encode()
        )
        self.transport.write_eof()
        self._late = self.loop.call_later(_REFUSED_SECONDS, self.transport.abort)

    def _has_room(self) -> bool:
        """Whether this connection is within the limit, after others were closed for it where they can be."""
        while len(self.connections) > self._most:
            others = (each for each in self.connections if isinstance(each, _Protocol) and each is not self)
            closable = [(loss, each) for each in others if (loss := each._loss())]
            if not closable:
                return False
            min(closable, key=lambda pair: pair[0])[1]._close()
        return True

    def _loss(self) -> tuple[int, float] | None:
        """What closing this connection loses, the least first, and since when; None if it must not be closed."""
        if self._unread is not None:
            rank, least = 2, UNREAD_SECONDS
        elif self._working:
            return None
        else:
            # A client sends its next request again, over another connection, if it finds this one closed.
            rank, least = int(self._answered), IDLE_SECONDS
        return (rank, self._since) if self.loop.time() - self._since >= least else None

    def _give_up(self) -> None:
        log.warning("a client did not read its response within %s seconds", PART_SECONDS)
        self._close()

    def _close(self) -> None:
        self.connections.discard(self)  # now: the transport tells of it later
        self.transport.abort()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
