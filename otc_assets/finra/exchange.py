"""One HTTP exchange: a request and its complete reply, limited in size, duration and rate.

What a reply means is in ``replies``; which requests are sent, and how often they are repeated, in ``query_api``.
"""

from __future__ import annotations

import io
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from otc_assets.finra.deadline import deadline, enforce_deadlines, has_passed, sleep
from otc_assets.finra.source import RefusedReply
from otc_assets.tracing import instrument_client

#: A page of FINRA's has at most 3 MB; no other reply is larger.
_MAX_REPLY_BYTES = 32 << 20
_CHUNK_BYTES = 1 << 16
#: Waits are not more exact than this.
_NO_WAIT_SECONDS = 1e-4
#: Headers that describe the transfer of a reply; they do not hold for its decompressed content.
_TRANSFER_HEADERS = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


@dataclass(frozen=True)
class Deadlines:
    """How long FINRA is waited for, in seconds.

    A page takes FINRA about a second, and the largest publication about two minutes.

    Attributes:
        connect: for a connection.
        silence: between two pieces of a reply.
        reply: for a whole exchange: connecting, sending the request, and reading the reply.
        tries: for all attempts of a request that fail by the network; the last may end one ``reply`` later. Waits
            that FINRA asks for (``Retry-After``) don't count.
        publication: for all pages of a publication.
    """

    connect: float = 10.0
    silence: float = 20.0
    reply: float = 60.0
    tries: float = 90.0
    publication: float = 1_800.0


DEFAULT_DEADLINES = Deadlines()


class IncompleteReply(Exception):
    """A reply that did not arrive completely; the message says why."""


class RequestBudget:
    """Limits the requests per minute, over all threads of the process; allows a short burst.

    Args:
        per_minute: the limit.
        clock: returns seconds.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60.0 / per_minute
        self._burst = max(1.0, per_minute / 30)
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def wait(self, sleep: Callable[[float], None] = sleep) -> None:
        """Waits until a request may be sent; it is not sent if its reply is not wanted any more."""
        sleep(0)
        while seconds := self._take():
            sleep(seconds)

    def pause(self, seconds: float) -> None:
        """Lets no request be sent for this time, and no burst after it."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def _take(self) -> float:
        """Takes the next request; or how long to wait before asking again."""
        with self._lock:
            now = self._clock()
            starts = max(self._next, now - self._burst * self._interval)
            if starts - now > _NO_WAIT_SECONDS:
                return starts - now
            self._next = starts + self._interval
            return 0.0


class LimitedClient:
    """An HTTP client whose exchanges are limited in size and duration. It follows no redirects.

    Args:
        base_url: the address that relative addresses are relative to.
        transport: replaces the network; for simulators and tests.
        deadlines: how long replies are waited for.
    """

    def __init__(self, base_url: str, transport: httpx.BaseTransport | None, deadlines: Deadlines) -> None:
        self.base_url = shown(httpx.URL(base_url)).rstrip("/")
        self._seconds = deadlines.reply
        self._client = httpx.Client(
            base_url=base_url,
            transport=transport,
            timeout=httpx.Timeout(deadlines.silence, connect=deadlines.connect),
            # Other compressions (br, zstd) can't be decompressed piece by piece up to a limit.
            headers={"User-Agent": "otc-assets", "Accept-Encoding": "gzip"},
            follow_redirects=False,
        )
        enforce_deadlines(self._client)
        instrument_client(self._client)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def exchange(self, method: str, url: str, **request: Any) -> httpx.Response:
        """Sends a request, and returns its reply, decompressed.

        Raises:
            RefusedReply: the reply is larger than any of FINRA's.
            IncompleteReply: it did not end in time, or can't be decompressed.
            httpx.HTTPError: the network failed.
        """
        content = io.BytesIO()
        with deadline(self._seconds):
            try:
                with self._client.stream(method, url, **request) as reply:
                    for piece in _pieces(reply):
                        content.write(piece)
                        if content.tell() > _MAX_REPLY_BYTES:
                            raise RefusedReply(
                                request_line(reply),
                                f"the reply is larger than {_MAX_REPLY_BYTES >> 20} MiB, and FINRA's have at most 3 MB",
                            )
                        if has_passed():  # of a transport that does not use the network
                            raise httpx.ReadTimeout("the deadline has passed", request=reply.request)
            except httpx.TimeoutException as error:
                if not has_passed():
                    raise
                raise IncompleteReply(
                    f"{method} {shown(error.request.url)}: {content.tell():,} bytes came in {self._seconds:g} seconds, "
                    "and the rest is not waited for"
                ) from None
        headers = [(name, value) for name, value in reply.headers.raw if name.lower() not in _TRANSFER_HEADERS]
        return httpx.Response(reply.status_code, headers=headers, content=content.getvalue(), request=reply.request)


def _pieces(reply: httpx.Response) -> Iterator[bytes]:
    """The content, decompressed, in pieces of limited size: a few compressed bytes may expand to very many.

    Raises:
        IncompleteReply: it is not compressed as its headers say.
    """
    if reply.is_stream_consumed:  # by a transport that does not use the network
        yield reply.content
        return
    # Pieces are passed on as they arrive. If they were collected to a size, a slow reply would hide how long it takes.
    compression = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if compression in ("identity", "") or reply.status_code == 204:  # that has no content, whatever its headers say
        yield from reply.iter_raw()
        return
    where = request_line(reply)
    if compression not in ("gzip", "x-gzip"):
        raise IncompleteReply(f"{where}: the reply is compressed as {compression!r}, which was not requested")
    decompressor = zlib.decompressobj(wbits=31)
    try:
        for compressed in reply.iter_raw():
            while compressed and not decompressor.eof:
                yield decompressor.decompress(compressed, _CHUNK_BYTES)
                compressed = decompressor.unconsumed_tail
    except zlib.error as error:
        raise IncompleteReply(f"{where}: the reply can't be decompressed as gzip ({error})") from None
    if not decompressor.eof:
        raise IncompleteReply(f"{where}: the reply ends within its gzip data")


def shown(url: httpx.URL) -> str:
    """An address without the name and password that it may contain."""
    return str(url.copy_with(userinfo=b""))


def request_line(reply: httpx.Response) -> str:
    """The request of a reply, for messages."""
    return f"{reply.request.method} {shown(reply.request.url)}"
