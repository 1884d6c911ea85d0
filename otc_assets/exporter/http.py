"""The HTTP server of the metrics: what it answers, and that requests at the same time share a scrape.

prometheus_client's own server starts a thread per connection, and renders every answer by itself. How connections are
bounded is in ``http_server``; what is served is in ``server``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from otc_assets.http_guard import check_host, is_loopback
from otc_assets.http_server import is_crowded, listening_on, server_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Connections at a time. Prometheus keeps one open per address that it scrapes.
MAX_CONNECTIONS = 256

#: How long a connection is kept between two requests.
_IDLE_SECONDS = 30

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
    with (
        listening_on(host, port) as listening,
        ThreadPoolExecutor(_THREADS, thread_name_prefix="metrics") as pool,
    ):
        answers = _Answers(app, pool, frozenset(names) if is_loopback(host) else None)
        server = server_of(answers, connections=MAX_CONNECTIONS, idle_seconds=_IDLE_SECONDS, stop_seconds=1)
        thread = threading.Thread(target=server.run, args=([listening],), name="metrics", daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


class _Answers:
    """The ASGI application around ``app``."""

    def __init__(self, app: App, pool: ThreadPoolExecutor, names: frozenset[str] | None) -> None:
        self._app, self._pool, self._names = app, pool, names
        self._answers: dict[tuple[str, str, str], asyncio.Future[_Answer]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - bodies are not read
        status, headers, body = await self._answer(scope)
        head = [(name.lower().encode(), value.encode()) for name, value in headers]
        head.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope) -> _Answer:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        if self._names is not None and (refusal := check_host(headers.get("host", []), self._names)):
            return refusal.status, [("Content-Type", "text/plain")], f"{refusal.reason}\n".encode()
        if is_crowded(scope):
            head = [("Content-Type", "text/plain"), ("Retry-After", "1"), ("Connection", "close")]
            text = f"{MAX_CONNECTIONS} connections are open, and all of them are in use. Try again in a second.\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, head, text.encode()
        if scope["method"] not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET, HEAD")], b"Metrics are read with GET.\n"
        if scope["path"] not in ("/", "/metrics"):
            return HTTPStatus.NOT_FOUND, [("Content-Type", "text/plain")], b"The metrics are at /metrics.\n"
        query = scope["query_string"].decode("latin-1")
        wanted = (",".join(headers.get("accept", [])), ",".join(headers.get("accept-encoding", [])), query)
        answer = self._answers.get(wanted)
        if answer is None:
            answer = asyncio.get_running_loop().run_in_executor(self._pool, self._call, *wanted)
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
