"""What is done with every request before and after its path: host, key, rate limit, its turn, and metrics.

It is one ASGI middleware, because each part needs what another knows: the limit needs the key's name, the metrics the
status. It also cuts responses into parts; how long a client may take for one is in ``http_server``.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

from otc_assets.api.access import Keys, Limiter, caller_at
from otc_assets.api.observing import Measures
from otc_assets.api.problems import Problem, rendered
from otc_assets.http_guard import check_host
from otc_assets.http_server import is_crowded
from otc_assets.settings import without_secrets

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The largest part of a response that is sent at a time.
PART_BYTES = 256 << 10
#: Seconds that a request waits for its turn.
TURN_SECONDS = 10.0
#: Paths that need no key and have no limit: probes must work without.
_OPEN = frozenset({"/health"})
#: Paths that do not wait for a turn: how busy the server is can be seen while it is.
_NO_TURN = _OPEN | {"/metrics"}

log = logging.getLogger(__name__)

_CROWDED = Problem(
    "busy",
    "too many connections are open, and all of them are in use",
    remedy="Try again later, over fewer connections.",
    headers={"Retry-After": "5", "Connection": "close"},
)
_BUSY = Problem(
    "busy",
    f"the server is still working on other requests, and this one has waited {TURN_SECONDS:g} s",
    remedy="Try again later, with fewer requests at a time.",
    headers={"Retry-After": "5"},
)


class Edge:
    """The middleware.

    Args:
        app: the application behind it.
        keys: those that are admitted; None if none is needed.
        limiter: of the requests of a key, or without one of an address.
        names: the host names that requests may use; None for any.
        measures: where requests are counted.
        turns: how many requests are worked on at a time. A request gives its turn back when its response is there:
            one that the client reads slowly takes none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        limiter: Limiter,
        names: Iterable[str] | None,
        measures: Measures,
        turns: int,
    ) -> None:
        self._app, self._keys, self._limiter, self._measures = app, keys, limiter, measures
        self._turns = asyncio.Semaphore(turns)
        self._names = None if names is None else frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or responds with the reason for its refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500
        headers: list[tuple[bytes, bytes]] = [(b"x-content-type-options", b"nosniff")]
        without_body = scope["method"] == "HEAD"
        has_turn = False

        def end_turn() -> None:
            nonlocal has_turn
            if has_turn:
                has_turn = False
                self._turns.release()

        async def send_on(message: Message) -> None:
            nonlocal status
            end_turn()
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
                await send(message)
            elif without_body:
                await send({**message, "body": b""})
            else:
                await _send_in_parts(message, send)

        with self._measures.open.track_inprogress():
            try:
                problem = self._refusal(scope, headers)
                if problem is None and scope["path"] not in _NO_TURN:
                    has_turn = await self._turn()
                    problem = None if has_turn else _BUSY
                if problem is not None:
                    await rendered(problem, scope["path"])(scope, receive, send_on)
                else:
                    inner = {**scope, "method": "GET"} if without_body else scope
                    await self._app(inner, receive, send_on)
                    scope = inner
            except Exception:
                # The response has been sent by the application; here the error is logged, without secrets.
                log.error("%s", without_secrets(traceback.format_exc()))
            finally:
                end_turn()
                path = getattr(scope.get("route"), "path", "other")
                self._measures.count(path, status, time.perf_counter() - begun)

    async def _turn(self) -> bool:
        """Waits until the request may be worked on; False if that took too long."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                return await self._turns.acquire()
        except TimeoutError:
            return False

    def _refusal(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> Problem | None:
        """Why the request is refused. Adds the headers of the rate limit to those of the response."""
        given: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        if self._names is not None and (refusal := check_host(given.get("host", []), self._names)):
            return Problem("forbidden", refusal.reason.removesuffix("."))
        if scope["path"] in _OPEN:
            return None
        if is_crowded(scope):
            return _CROWDED
        name = self._keys.name_of(_presented(given)) if self._keys is not None else None
        # Requests without a valid key are those of an address, so that keys can't be tried at any speed.
        caller = f"key {name}" if name else caller_at((scope.get("client") or ("unknown",))[0])
        if self._limiter.per_minute:
            left = self._limiter.take(caller)
            policy = f'"default";q={self._limiter.per_minute};w=60'
            headers += [
                (b"ratelimit-policy", policy.encode()),
                (b"ratelimit", f'"default";r={left.remaining};t={left.seconds}'.encode()),
            ]
            if not left.allowed:
                return Problem(
                    "rate-limited",
                    f"more than {self._limiter.per_minute} requests in a minute",
                    remedy=f"Send the next one in {left.seconds} s.",
                    headers={"Retry-After": str(left.seconds)},
                )
        if self._keys is not None and name is None:
            return Problem(
                "no-key",
                "there is no valid API key in the request",
                remedy="Send it in the header Authorization: Bearer KEY, or X-API-Key: KEY.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return None


def _presented(headers: dict[str, list[str]]) -> str:
    """The key in the headers of a request; empty if there is none."""
    scheme, _, key = headers.get("authorization", [""])[0].partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key", [""])[0].strip()


async def _send_in_parts(message: Message, send: Send) -> None:
    body = message.get("body", b"")
    if len(body) <= PART_BYTES:
        await send(message)
        return
    more = message.get("more_body", False)
    for begin in range(0, len(body), PART_BYTES):
        part = body[begin : begin + PART_BYTES]
        last = begin + PART_BYTES >= len(body)
        await send({"type": "http.response.body", "body": part, "more_body": more or not last})
