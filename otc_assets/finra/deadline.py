"""A deadline for a whole HTTP exchange: connecting, sending the request, and reading the reply.

httpx limits each operation on the network separately. A server that sends one byte per second meets every such limit,
and its reply never ends. Within ``deadline``, each operation of a client that was passed to ``enforce_deadlines`` gets
at most the time that is left. The lookup of a host name is not limited, as the operating system limits it.

Within ``until_stopped``, waits and exchanges end when nobody wants their result any more: a thread can't be interrupted
from outside. Opening a connection is not ended, as it takes a few seconds at most.

How long FINRA is waited for, and what happens after that, is in ``query_api``.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

#: When the exchange of this thread has to end, on the monotonic clock.
_ENDS: ContextVar[float] = ContextVar("ends", default=float("inf"))
#: Set when the result of this thread is not wanted any more.
_STOPPED: ContextVar[threading.Event] = ContextVar("stopped", default=threading.Event())  # noqa: B039 - never set
#: How often a thread that waits for a reply looks whether it is still wanted.
_LOOK_SECONDS = 0.25


class Stopped(Exception):
    """The result is not wanted any more."""


@contextmanager
def until_stopped(stopped: threading.Event) -> Iterator[None]:
    """Ends the exchanges and waits inside it with ``Stopped`` once the event is set."""
    token = _STOPPED.set(stopped)
    try:
        yield
    finally:
        _STOPPED.reset(token)


def sleep(seconds: float) -> None:
    """Sleeps, or only looks whether the result is still wanted.

    Raises:
        Stopped: it is not.
    """
    if _STOPPED.get().wait(seconds):
        raise Stopped


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limits the exchanges inside it, all together, to ``seconds``; they end with a time-out of httpx."""
    token = _ENDS.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ENDS.reset(token)


def has_passed() -> bool:
    """Whether the deadline has passed; False outside of one."""
    return time.monotonic() >= _ENDS.get()


def enforce_deadlines(client: httpx.Client) -> None:
    """Makes the exchanges of ``client`` end at the deadline, also those through proxies."""
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            # httpcore's pools take a backend, but httpx, which creates the pools, has no parameter for it.
            pool = transport._pool
            pool._network_backend = _Backend(pool._network_backend)


def _limited(timeout: float | None, passed: type[httpcore.TimeoutException]) -> float | None:
    """``timeout``, or the time that is left if that is less.

    Raises:
        httpcore.TimeoutException: none is left; of the type ``passed``.
    """
    left = _ENDS.get() - time.monotonic()
    if left <= 0:
        raise passed("the deadline has passed")
    limit = min(left, float("inf") if timeout is None else timeout)
    return None if limit == float("inf") else limit


class _Backend(httpcore.NetworkBackend):
    """Opens connections that end at the deadline."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Tries the host's addresses one by one: left to the backend, each of them gets the whole ``timeout``."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found):
            limit = _limited(timeout, httpcore.ConnectTimeout)
            try:
                stream = self._backend.connect_tcp(address, port, limit, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _Stream(stream)
        raise failed


class _Stream(httpcore.NetworkStream):
    """A connection whose operations end at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        ends = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            sleep(0)
            limit = _limited(max(0.0, ends - time.monotonic()), httpcore.ReadTimeout)
            try:
                return self._stream.read(max_bytes, _LOOK_SECONDS if limit is None else min(limit, _LOOK_SECONDS))
            except httpcore.ReadTimeout:
                if limit is not None and limit <= _LOOK_SECONDS:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _limited(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = _limited(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
