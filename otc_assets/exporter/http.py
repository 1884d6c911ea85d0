"""The HTTP server of the metrics: bounded in connections, in time, and in scrapes of the database.

prometheus_client's own server starts a thread per connection and waits for requests without limit: a thousand idle
connections use up the process's file descriptors. uvicorn, which Dagster brings along, does not limit how long a
connection may wait with its request either. What is served is in ``server``.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import h11

from otc_assets.http_guard import check_host, is_loopback

#: Connections at a time. Prometheus keeps one open per address that it scrapes.
MAX_CONNECTIONS = 256

#: How long a connection may take to send a request, the next one included, and to take an answer.
REQUEST_SECONDS = 30.0

#: How large a request's head may be.
_MAX_HEAD_BYTES = 16_384

#: Responses that are computed at a time: requests with different headers get different ones.
_THREADS = 4

#: A WSGI application, of which only GET is called.
App = Callable[..., Iterable[bytes]]

_Answer = tuple[int, list[tuple[str, str]], bytes]


@contextmanager
def serve(app: App, host: str, port: int, names: Iterable[str]) -> Iterator[int]:
    """Serves ``app`` while the block runs, in a thread of its own, and gives the port.

    Args:
        app: answers GET requests. Requests with the same headers that wait at the same time share one answer.
        host: the address to listen on.
        port: 0 takes a free one.
        names: the host names that requests may use on a loopback address. On others every name is accepted.

    Raises:
        OSError: the address can't be listened on.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.create_server(address[:2], family=family, backlog=MAX_CONNECTIONS) as listening:
        server = _Server(app, frozenset(names) if is_loopback(host) else None)
        thread = threading.Thread(target=asyncio.run, args=(server.run(listening),), name="metrics", daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.stop()
            thread.join()


class _Server:
    def __init__(self, app: App, names: frozenset[str] | None) -> None:
        self._app, self._names = app, names
        # Connections that wait for a request, the oldest first: those that are closed where there are too many.
        self._waiting: dict[asyncio.StreamWriter, None] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._answers: dict[tuple[str, str, str], asyncio.Future[_Answer]] = {}
        self._ready = threading.Event()

    async def run(self, listening: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._ready.set()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="metrics") as self._pool:
            server = await asyncio.start_server(self._connection, sock=listening, limit=_MAX_HEAD_BYTES)
            await self._stopped.wait()
            server.close()
            for writer in self._open:
                writer.transport.abort()

    def stop(self) -> None:
        self._ready.wait()
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if len(self._open) > MAX_CONNECTIONS and not self._close_the_oldest_idle():
                return
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (OSError, TimeoutError, h11.RemoteProtocolError):
            pass  # the client disconnected, or did not send HTTP
        finally:
            self._open.discard(writer)
            self._waiting.pop(writer, None)
            writer.transport.abort()

    def _close_the_oldest_idle(self) -> bool:
        """Closes an idle connection for a new one; False if every other one waits for its response."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self._waiting.pop(oldest)
        self._open.discard(oldest)
        oldest.transport.abort()
        return True

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request and its answer. Returns whether another one may follow."""
        self._waiting[writer] = None
        async with asyncio.timeout(REQUEST_SECONDS):
            request = await self._request(connection, reader)
        self._waiting.pop(writer, None)
        if request is None:
            return False
        status, headers, body = await self._answer(request)
        head = [*headers, ("Content-Length", str(len(body)))]
        if connection.their_state is not h11.DONE:
            head.append(("Connection", "close"))
        writer.write(connection.send(h11.Response(status_code=status, headers=head)) or b"")
        if request.method != b"HEAD":
            writer.write(connection.send(h11.Data(body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        async with asyncio.timeout(REQUEST_SECONDS):
            await writer.drain()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                writer.write_eof()
                await reader.read(_MAX_HEAD_BYTES)  # until the other side has it all and closes
                return False
        return True

    async def _request(self, connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
        request: h11.Request | None = None
        while True:
            event: Any = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_MAX_HEAD_BYTES))
            elif isinstance(event, h11.Request):
                request = event
                if request.method not in (b"GET", b"HEAD"):
                    return request  # its body is not waited for
            elif isinstance(event, h11.EndOfMessage):
                return request
            elif not isinstance(event, h11.Data):
                return None  # closed

    async def _answer(self, request: h11.Request) -> _Answer:
        headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            headers.setdefault(name.decode(), []).append(value.decode("latin-1"))
        if self._names is not None and (refusal := check_host(headers.get("host", []), self._names)):
            return refusal.status, [("Content-Type", "text/plain")], f"{refusal.reason}\n".encode()
        if request.method not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET, HEAD")], b"Metrics are read with GET.\n"
        path, _, query = request.target.decode("latin-1").partition("?")
        if path not in ("/", "/metrics"):
            return HTTPStatus.NOT_FOUND, [("Content-Type", "text/plain")], b"The metrics are at /metrics.\n"
        wanted = (",".join(headers.get("accept", [])), ",".join(headers.get("accept-encoding", [])), query)
        answer = self._answers.get(wanted)
        if answer is None:
            answer = self._loop.run_in_executor(self._pool, self._call, *wanted)
            self._answers[wanted] = answer
            answer.add_done_callback(lambda _: self._answers.pop(wanted))
        return await asyncio.shield(answer)

    def _call(self, accept: str, accept_encoding: str, query: str) -> _Answer:
        started: list[tuple[int, list[tuple[str, str]]]] = []
        body = self._app(
            {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/metrics",
                "QUERY_STRING": query,
                "HTTP_ACCEPT": accept,
                "HTTP_ACCEPT_ENCODING": accept_encoding,
            },
            lambda status, headers, exc_info=None: started.append((int(status[:3]), headers)),
        )
        ((status, headers),) = started
        return status, headers, b"".join(body)
