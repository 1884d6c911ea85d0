"""What a reply of the Query API means: data, no data, a temporary failure, or an error.

Only 204, and 200 with an empty list, mean that there is no data. Any other reply without rows is an error: the reply of
a proxy, a redirect or an incomplete reply must not be taken for an empty week. Rows are parsed in ``domain``.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re

import httpx

from otc_assets.finra.exchange import request_line, shown
from otc_assets.finra.source import PermanentSourceError, SourceError

#: A number of rows, in ASCII digits.
_ROWS = re.compile(r"[0-9]{1,18}")


class TemporaryFailure(SourceError):
    """A failure after which the request is repeated.

    Attributes:
        wait: the wait that FINRA asks for, in seconds; None if it asks for none.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def require_data(reply: httpx.Response) -> None:
    """Accepts replies with data, and those by which FINRA says that there is none.

    Raises:
        TemporaryFailure: FINRA is overloaded, or the reply is not one of FINRA's.
        PermanentSourceError: FINRA refused the request.
        SourceError: the reply has a status that FINRA's do not have.
    """
    where, status = request_line(reply), reply.status_code
    if status in (401, 403):
        raise PermanentSourceError(
            f"{where}: FINRA answered {status}: it requires credentials from this network",
            remedy="Set OTC_FINRA_CLIENT_ID and OTC_FINRA_CLIENT_SECRET to credentials of FINRA's API console.",
        )
    if status == 429 or status >= 500:
        raise TemporaryFailure(f"{where}: FINRA answered {status}", retry_after(reply))
    if status >= 400:
        raise PermanentSourceError(f"{where}: FINRA refused the request with {status}: {quote(reply)}")
    if 300 <= status < 400:
        raise SourceError(
            f"{where}: the answer was {status}, a redirect{_target(reply)}",
            remedy="Redirects are not followed: check OTC_FINRA_URL, and whether a proxy requires a login.",
        )
    if status not in (200, 204):
        raise SourceError(
            f"{where}: the answer was {status}, and FINRA's are 200 with data or 204 without: "
            f"{quote(reply) or 'it has no text'}",
            remedy="Check OTC_FINRA_URL, and proxies between this machine and FINRA.",
        )
    content = reply.content.strip()
    if content[:1] == b"<":
        raise TemporaryFailure(f"{where}: the answer was a page of HTML instead of data: {quote(reply)}")
    if status == 200 and not content:
        raise TemporaryFailure(f"{where}: the answer was 200 without content; FINRA answers 204 if it has no data")
    if status == 204 and content:
        raise TemporaryFailure(f"{where}: the answer was 204, for no data, with text in it: {quote(reply)}")
    if content == b"[]" and (total := stated_rows(reply, "Record-Total")):
        raise TemporaryFailure(f"{where}: the answer was an empty list, but Record-Total says {total:,} rows")


def has_no_data(reply: httpx.Response) -> bool:
    """Whether the reply says that there is no data: 204, or, as in 2021 and 2022, 200 with an empty list."""
    return reply.status_code == 204 or reply.content.strip() == b"[]"


def header_and_rows(reply: httpx.Response) -> tuple[bytes, bytes]:
    """The first line of delimited text, and the lines below it; lines end with a line feed."""
    content = reply.content
    header, _, rows = (content.replace(b"\r\n", b"\n") if b"\r\n" in content else content).partition(b"\n")
    return header, rows


def count_rows(rows: bytes) -> int:
    """The number of lines; the last may lack its line feed."""
    return rows.count(b"\n") + (bool(rows) and not rows.endswith(b"\n"))


def stated_rows(reply: httpx.Response, header: str) -> int | None:
    """The number of rows that a header states; None if there is no such header.

    Raises:
        SourceError: it is not a number of rows.
    """
    stated = reply.headers.get(header)
    if stated is None:
        return None
    if not _ROWS.fullmatch(stated.strip(" \t")):  # HTTP's blanks: Python's are more than int() takes
        raise SourceError(f"{shown(reply.request.url)}: the reply's {header} is {stated[:40]!r}, not a number of rows")
    return int(stated)


def record_total(reply: httpx.Response) -> int:
    """The number of rows of the publication.

    Raises:
        SourceError: the reply does not state it.
    """
    total = stated_rows(reply, "Record-Total")
    if total is None:
        raise SourceError(
            f"{shown(reply.request.url)}: the reply has no Record-Total, so it can't be checked for completeness"
        )
    return total


def quote(reply: httpx.Response) -> str:
    """The beginning of a reply, for messages; as UTF-8, because its header may name any codec of Python's."""
    return " ".join(reply.content.decode(errors="replace").split())[:200]


def _target(reply: httpx.Response) -> str:
    """Where a redirect leads, without the parts of its address that may be secret."""
    try:
        target = httpx.URL(reply.headers["Location"])
    except (KeyError, httpx.InvalidURL):
        return ""
    return f" to {shown(target.copy_with(query=None, fragment=None))}"


def retry_after(reply: httpx.Response) -> float | None:
    """``Retry-After`` in seconds, stated as seconds or as a date."""
    stated = reply.headers.get("Retry-After")
    if stated is None:
        return None
    try:
        return max(0.0, float(stated))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(stated)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:  # "-0000": UTC, of a sender that does not state its zone
        until = until.replace(tzinfo=dt.UTC)
    return max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds())
