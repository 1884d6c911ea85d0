"""Responses with rows: format, ETag, 304, and what is kept for the next request of the same rows."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from otc_assets.api import formats
from otc_assets.api.formats import FORMATS, Format

#: Memory for bodies that are kept.
_CACHE_BYTES = 64 << 20
#: Smaller bodies are not compressed.
_COMPRESS_BYTES = 1_000
#: Caches keep them, but ask each time whether the rows have changed.
_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding"}


@dataclass(frozen=True)
class Body:
    """The encoded rows of a page.

    Attributes:
        content: the bytes.
        following: the path of the next page, if there is one.
        rows: their number.
    """

    content: bytes
    following: str | None
    rows: int


class Cache:
    """Bodies by ETag, the latest used, up to a number of bytes."""

    def __init__(self, most: int = _CACHE_BYTES) -> None:
        self._most, self._bytes = most, 0
        self._bodies: OrderedDict[str, Body] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, etag: str) -> Body | None:
        """The body of an ETag, if it is kept."""
        with self._lock:
            found = self._bodies.get(etag)
            if found is not None:
                self._bodies.move_to_end(etag)
            return found

    def put(self, etag: str, body: Body) -> None:
        """Keeps a body, and drops those that were used longest ago."""
        with self._lock:
            if etag in self._bodies or len(body.content) > self._most // 8:
                return
            self._bodies[etag] = body
            self._bytes += len(body.content)
            while self._bytes > self._most:
                _, dropped = self._bodies.popitem(last=False)
                self._bytes -= len(dropped.content)


def format_of(request: Request, name: str | None) -> Format:
    """The format that a request asks for, by its parameter or by its header.

    Raises:
        Problem: the header allows none of ours.
    """
    return FORMATS[name] if name else formats.wanted(",".join(request.headers.getlist("accept")))


def of_json(rows: Sequence[str], following: str | None) -> Body:
    """A page of JSON objects: the rows in ``data``, and the path of the next page in ``next``."""
    end = f'],"rows":{len(rows)},"next":{json.dumps(following)}}}\n'
    return Body(("".join(['{"data":[', ",\n".join(rows), end])).encode(), following, len(rows))


def encoded(frame: pl.DataFrame, chosen: Format, following: str | None) -> Body:
    """A page in another format."""
    assert chosen.encode is not None, "JSON has a function of its own"
    return Body(chosen.encode(frame), following, frame.height)


def etag_of(*parts: object) -> str:
    """A weak ETag: the same rows may be compressed or not."""
    return f'W/"{hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]}"'


def is_known(request: Request, etag: str) -> bool:
    """Whether the client has the response with this ETag."""
    given = ",".join(request.headers.getlist("if-none-match"))
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag.removeprefix("W/") in tags or "*" in tags


def not_modified(etag: str) -> Response:
    """304: the client has these rows."""
    return Response(status_code=304, headers={**_HEADERS, "ETag": etag})


def response(request: Request, body: Body, chosen: Format, etag: str) -> Response:
    """200, with the rows. They are compressed here, in a thread; Starlette's middleware does it in the event loop."""
    headers, content = {**_HEADERS, "ETag": etag}, body.content
    accepted = ",".join(request.headers.getlist("accept-encoding")).replace(" ", "").lower()
    if (
        len(content) >= _COMPRESS_BYTES
        and chosen.name != "parquet"
        and re.search(r"gzip(?!;q=0(\.0*)?(,|$))", accepted)
    ):
        headers["Content-Encoding"] = "gzip"
        content = gzip.compress(content, compresslevel=4, mtime=0)
    if body.following is not None:
        headers["Link"] = f'<{body.following}>; rel="next"'
    return Response(content, headers=headers, media_type=chosen.media_type)


def next_path(request: Request, cursor: str | None) -> str | None:
    """The path of the next page: the same parameters, with its cursor."""
    if cursor is None:
        return None
    given = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    # The server has decoded the path: a name in it may have any characters.
    return f"{quote(request.scope['path'])}?{urlencode([*given, ('cursor', cursor)])}"
