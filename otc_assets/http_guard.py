"""Checks of the requests to our web servers on this machine.

A web page of any site can make its visitor's browser send requests to 127.0.0.1, and can resolve its own host name to
our address (DNS rebinding). The servers require no login, so the checks use the headers that a page cannot forge:
``Host``, ``Origin`` and ``Content-Type``. This module has the rules and an ASGI middleware that applies them. The
servers are in ``defs.web`` (the Dagster UI), ``exporter`` (metrics) and ``api``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAME = re.compile(r"[a-z0-9._:-]+")

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

#: Methods that change nothing. Requests with any other method must have JSON and our own origin.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Refusal(NamedTuple):
    """Why a request is refused: the HTTP status, and a sentence for the person who sent it."""

    status: int
    reason: str


def host_name(host: str) -> str | None:
    """The name in a ``Host`` header or in an origin's host, in lower case and without port; None if it has none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return None
    name = (parts.hostname or "").rstrip(".")
    return name if parts.netloc == host and "@" not in host and _NAME.fullmatch(name) else None


def is_allowed(host: str, names: Iterable[str]) -> bool:
    """Whether a ``Host`` header has one of ``names``; ``*`` matches any, ``*.example.org`` any below example.org."""
    name = host_name(host)
    if name is None:
        return False
    return any(
        pattern == "*" or name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:]))
        for pattern in names
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def check_host(hosts: list[str], names: Iterable[str]) -> Refusal | None:
    """Refuses a request whose ``Host`` headers are not exactly one of ``names``."""
    if len(hosts) == 1 and is_allowed(hosts[0], names):
        return None
    shown = ascii(", ".join(hosts)[:100]) if hosts else "none"
    return Refusal(
        403,
        f"The Host header of this request, {shown}, is not a name of this server. To reach the server by another "
        "name than localhost, add that name to OTC_ALLOWED_HOSTS and start the server again.",
    )


class Guard:
    """ASGI middleware that allows changes only to our own pages and to programs that are not browsers.

    Starlette's TrustedHostMiddleware checks ``Host`` only, and its response does not name the setting.

    Args:
        app: the application behind it.
        names: the host names that requests may use, as in ``is_allowed``.
        public_url: the application's address behind a proxy, if there is one; pages from there are our own.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], public_url: str | None = None) -> None:
        self._app = app
        self._names = frozenset(names)
        self._public_origin = _origin(public_url) if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or responds with the reason for its refusal."""
        from starlette.responses import PlainTextResponse

        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._check(scope)
        if refusal is None:
            await self._app(scope, receive, _without_frames(send))
            return
        response = PlainTextResponse(refusal.reason + "\n", refusal.status, {"X-Content-Type-Options": "nosniff"})
        if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            await response(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    def _check(self, scope: Scope) -> Refusal | None:
        hosts = _headers(scope, b"host")
        if refusal := check_host(hosts, self._names):
            return refusal
        if scope["type"] == "websocket":
            return self._check_origin(scope, hosts[0])
        if scope["method"] in _SAFE_METHODS:
            return _check_query(scope)
        return self._check_origin(scope, hosts[0]) or _check_content_type(scope)

    def _check_origin(self, scope: Scope, host: str) -> Refusal | None:
        """Browsers send ``Origin`` with every such request, and no page can change it; other programs send none."""
        origins = _headers(scope, b"origin")
        if not origins:
            return None
        if len(origins) == 1:
            origin = _origin(origins[0])
            if origin is not None and origin in (_origin(f"http://{host}"), _origin(f"https://{host}")):
                return None
            if origin is not None and origin == self._public_origin:
                return None
        shown = ascii(", ".join(origins)[:100])
        return Refusal(
            403,
            f"A page from {shown} may not send requests to this server. If that is the address of this server behind "
            "a proxy, set OTC_PUBLIC_URL to it and start the server again.",
        )


def _check_content_type(scope: Scope) -> Refusal | None:
    """A page can send forms and plain text to any site; before it sends JSON, the browser asks that site."""
    types = [value.partition(";")[0].strip().lower() for value in _headers(scope, b"content-type")]
    if types == ["application/json"]:
        return None
    return Refusal(415, "Requests that change something must have the header Content-Type: application/json.")


def _check_query(scope: Scope) -> Refusal | None:
    """Dagster executes mutations sent by GET, and an image on any page can cause a GET of any URL."""
    from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
    from starlette.datastructures import QueryParams

    query = QueryParams(scope.get("query_string", b"")).get("query")
    if query is None or not scope["path"].rstrip("/").endswith("/graphql"):
        return None
    try:
        operations = [node for node in parse(query).definitions if isinstance(node, OperationDefinitionNode)]
    except (GraphQLError, RecursionError):
        return Refusal(400, "The query is not valid GraphQL.")
    if all(operation.operation is OperationType.QUERY for operation in operations):
        return None
    return Refusal(405, "GraphQL mutations must be sent by POST, as JSON. Only queries can be sent by GET.")


def _without_frames(send: Send) -> Send:
    """Forbids other sites to show our pages in a frame, in which a visitor could click on them without knowing."""

    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"x-frame-options", b"SAMEORIGIN")]
        await send(message)

    return send_with_header


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL; None if it has no such origin, like ``null``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)
