"""FINRA's Query API, as a source of publications.

Here: asking, paging, retrying, and the budget of requests. Not here: what the rows mean (``domain``), and the
credentials' origin (``settings``).

Only POST asks for rows: FINRA ignores filters in GET requests without a word. A publication is asked for
whole, all summary types at once and sorted by its unique key, so that paging is stable, the same content
gives the same bytes, and FINRA's own totals come with the rows that they judge.

Only 204, and 200 with an empty list, mean that there is no data. Any other reply without rows is an error: a proxy,
a redirect or a half-sent reply must not pass for an empty week. Replies are read as they come and bounded in size,
number and time.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import io
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import stamina
from pydantic import SecretStr

from otc_assets.domain.bounds import MAX_ROWS, MAX_UNPACKED_BYTES
from otc_assets.domain.weeks import TIER_BY_ID, Tier, week_ending_of, week_start_of
from otc_assets.finra.source import (
    FULL,
    Capture,
    PermanentSourceError,
    Progress,
    PublicationState,
    RefusedReply,
    SourceError,
)
from otc_assets.tracing import PAGE, instrument_client, set_attributes, span

_DATA = "/data/group/otcMarket/name/weeklySummary"
_PARTITIONS = "/partitions/group/otcMarket/name/weeklySummary"
TOKEN_URL = "https://ews.fip.finra.org/fip/rest/ews/oauth2/access_token"  # noqa: S105 - an address

#: FINRA gives no more at once, whatever is asked for.
PAGE_ROWS = 5_000

#: All that FINRA has on a row, in this order.
FIELDS = (
    "weekStartDate",
    "summaryStartDate",
    "tierIdentifier",
    "tierDescription",
    "issueSymbolIdentifier",
    "issueName",
    "MPID",
    "firmCRDNumber",
    "marketParticipantName",
    "totalWeeklyShareQuantity",
    "totalWeeklyTradeCount",
    "totalNotionalSum",
    "productTypeCode",
    "summaryTypeCode",
    "lastUpdateDate",
    "initialPublishedDate",
    "lastReportedDate",
)
#: Unique within a publication, as found by trial.
KEY = ("summaryTypeCode", "issueSymbolIdentifier", "MPID", "firmCRDNumber", "productTypeCode", "issueName")

_ATTEMPTS = 6
_LONGEST_WAIT = 60.0
#: A page of FINRA's has at most 3 MB; no other reply is larger.
_MOST_REPLY_BYTES = 32 << 20
#: The largest publication has 34 pages. FINRA's pages may be shorter than asked for, but not by so much.
_MOST_PAGES = 2_000
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Deadlines:
    """After how many seconds FINRA is no longer waited for.

    A page takes FINRA about a second, and the largest publication about two minutes.

    Attributes:
        connect: for a connection.
        silence: between two pieces of a reply.
        reply: for a whole reply.
        tries: for all tries of a request that fail by the network; the last may end one ``reply`` later. Waits that
            FINRA asks for (``Retry-After``) don't count.
        publication: for all pages of a publication.
    """

    connect: float = 10.0
    silence: float = 20.0
    reply: float = 60.0
    tries: float = 90.0
    publication: float = 1_800.0


#: How often a publication is begun anew because its number of rows moved while it was read.
_RESTARTS = 5


class _TryAgain(SourceError):
    """A passing failure; ``after`` is how long FINRA asks to wait, in seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class _Unread(Exception):
    """A reply that did not come whole; the message says why."""


class _Moved(Exception):
    """The number of rows changed between two pages."""


class RequestBudget:
    """At most so many requests a minute, over all threads of the process; a short burst is let through."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60.0 / per_minute
        self._burst = max(1.0, per_minute / 30)
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Waits until a request may be sent."""
        with self._lock:
            now = self._clock()
            self._next = max(self._next, now - self._burst * self._interval) + self._interval
            pause = self._next - self._interval - now
        if pause > 0:
            sleep(pause)


class QueryApi:
    """FINRA's Query API.

    Args:
        base_url: its address.
        transport: another way there than a socket: a simulator in this process, or a test's.
        client_id, client_secret: OAuth2 client credentials, for networks that FINRA asks for them.
        token_url: where they are turned into a token.
        requests_per_minute: the budget; FINRA's limit is about 1,200 an address.
        deadlines: how long FINRA is waited for.
    """

    def __init__(
        self,
        base_url: str = "https://api.finra.org",
        *,
        transport: httpx.BaseTransport | None = None,
        client_id: str | None = None,
        client_secret: SecretStr | None = None,
        token_url: str = TOKEN_URL,
        requests_per_minute: int = 600,
        deadlines: Deadlines = Deadlines(),
    ) -> None:
        self._deadlines = deadlines
        self._client = httpx.Client(
            base_url=base_url,
            transport=transport,
            timeout=httpx.Timeout(deadlines.silence, connect=deadlines.connect),
            # What else there is (br, zstd) can't be unpacked piece by piece to a bound.
            headers={"User-Agent": "otc-assets", "Accept-Encoding": "gzip"},
            follow_redirects=False,
        )
        instrument_client(self._client)
        self._origin = _shown(httpx.URL(base_url)).rstrip("/") + _DATA
        self._budget = RequestBudget(requests_per_minute)
        self._credentials = (client_id, client_secret) if client_id and client_secret is not None else None
        self._token_url = token_url
        self._token: tuple[str, float] | None = None
        self._token_lock = threading.Lock()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    # --- what a source answers -------------------------------------------------------------------------

    def offered(self) -> set[tuple[Tier, dt.date]]:
        """Every (tier, week_ending) that FINRA lists; a listed one may be empty.

        Raises:
            SourceError: FINRA did not answer, or with something else.
        """
        reply = self._ask("GET", _PARTITIONS, headers={"Accept": "application/json"})
        found = set()
        try:
            for entry in reply.json()["availablePartitions"]:
                start, tier_id = _week_and_tier(entry["partitions"])
                if tier_id in TIER_BY_ID and start.weekday() == 0:
                    found.add((TIER_BY_ID[tier_id], week_ending_of(start)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SourceError(
                f"{_shown(reply.request.url)}: unexpected response format of the list of partitions "
                f"({type(error).__name__}: {error}): {_quote(reply)}"
            ) from None
        return found

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        """How many rows the publication has and when the newest was written, by one request."""
        query = {
            **_of_week(week_ending, tier),
            "fields": ["lastUpdateDate"],
            "sortFields": ["-lastUpdateDate"],
            "limit": 1,
        }
        reply = self._ask("POST", _DATA, json=query, headers={"Accept": "application/json"})
        if _is_no_data(reply):
            return None
        try:
            newest = reply.json()[0]["lastUpdateDate"]
            return PublicationState(_total(reply), dt.date.fromisoformat(newest) if newest else None)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise SourceError(
                f"{self._origin}: unexpected response format ({type(error).__name__}: {error}): {_quote(reply)}"
            ) from None

    def fetch(self, week_ending: dt.date, tier: Tier, progress: Progress | None = None) -> list[Capture]:
        """The publication, whole: every row that FINRA counts; an empty list where it has none.

        Raises:
            PermanentSourceError: FINRA refused the request.
            RefusedReply: what came is more than any publication.
            SourceError: FINRA did not answer after several tries, or its rows kept moving.
        """
        until = time.monotonic() + self._deadlines.publication
        for _ in range(_RESTARTS):
            try:
                content, total = self._all_pages(week_ending, tier, progress or (lambda done, of: None), until)
            except _Moved:
                continue
            if not total:
                return []
            return [Capture(week_ending, tier, FULL, content, f"{self._origin} {week_ending} {tier.id}", total)]
        raise SourceError(
            f"{self._origin}: the rows of {tier.name}, week ending {week_ending}, changed while they were read, "
            f"{_RESTARTS} times in a row. FINRA is publishing just now: try again in a few minutes."
        )

    # --- pages -----------------------------------------------------------------------------------------

    def _all_pages(self, week_ending: dt.date, tier: Tier, progress: Progress, until: float) -> tuple[bytes, int]:
        origin = f"{self._origin} {week_ending} {tier.id}"
        pages = 0
        content = io.BytesIO()  # which gives its bytes away without a copy
        header: bytes | None = None
        received, total = 0, None
        while total is None or received < total:
            if time.monotonic() > until:
                raise SourceError(
                    f"{origin}: {received:,} of {total or 0:,} rows came in {self._deadlines.publication:,.0f} "
                    "seconds; the rest is not waited for. FINRA or the network is slow: try again later."
                )
            with span(PAGE, offset=received):
                page = self._page(week_ending, tier, received)
                set_attributes(rows=page[2] if page else 0)
            if page is None:
                if total:
                    raise _Moved
                return b"", 0
            first_line, rows, count, stated = page
            if (total is not None and stated != total) or (header is not None and first_line != header):
                raise _Moved
            if header is None:
                content.write(first_line + b"\n")
            header, total = first_line, stated
            pages += 1
            if total > MAX_ROWS or pages > _MOST_PAGES or content.tell() + len(rows) > MAX_UNPACKED_BYTES:
                raise RefusedReply(
                    origin,
                    f"it is more than any publication: {total:,} rows by Record-Total, {received + count:,} of them in "
                    f"{pages:,} pages. Accepted are {MAX_ROWS:,} rows, {_MOST_PAGES:,} pages and "
                    f"{MAX_UNPACKED_BYTES >> 20} MiB: check OTC_FINRA_URL",
                )
            content.write(rows)
            received += count
            progress(received, total)
        if received != total:
            raise _Moved
        return content.getvalue(), total

    def _page(self, week_ending: dt.date, tier: Tier, offset: int) -> tuple[bytes, bytes, int, int] | None:
        """(header line, rows each with its newline, number of rows, Record-Total), or None for no data."""
        query = {
            **_of_week(week_ending, tier),
            "fields": list(FIELDS),
            "sortFields": list(KEY),
            "limit": PAGE_ROWS,
            "offset": offset,
            "delimiter": "|",
            "quoteValues": False,
        }

        def whole(reply: httpx.Response) -> None:
            """A page that was cut off is asked for again."""
            if _is_no_data(reply):
                return
            first_line, _, rows = _text(reply).partition(b"\n")
            stated = _stated(reply, "Total-Records-On-Page")
            last = rows.rstrip(b"\n").rpartition(b"\n")[2]
            if (stated is not None and stated != _count(rows)) or last.count(b"|") != first_line.count(b"|"):
                raise _TryAgain(f"{self._origin}: the page at row {offset} came cut off")
            if not _count(rows):
                raise _TryAgain(f"{self._origin}: the page at row {offset} came empty: {_quote(reply)}")

        reply = self._ask("POST", _DATA, json=query, headers={"Accept": "text/plain"}, check=whole)
        if _is_no_data(reply):
            return None
        total = _total(reply)
        first_line, _, rows = _text(reply).partition(b"\n")
        sent = {name.strip(' "') for name in first_line.decode(errors="replace").split("|")}
        if lacking := [field for field in FIELDS if field not in sent]:
            raise SourceError(
                f"{self._origin}: unexpected response format: the reply lacks {', '.join(lacking)}, which were asked "
                f"for. It begins with {first_line[:200].decode(errors='replace')!r}. If this lasts, FINRA has changed "
                "its fields, and this software must follow."
            )
        if not rows.endswith(b"\n"):
            rows += b"\n"
        return first_line, rows, _count(rows), total

    # --- one request -----------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str],
        check: Callable[[httpx.Response], None] = lambda reply: None,
    ) -> httpx.Response:
        """Sends a request, and again while it fails in a way that passes."""
        until = time.monotonic() + self._deadlines.tries

        def passing(error: Exception) -> bool | float:
            if isinstance(error, _TryAgain):
                return min(error.after, _LONGEST_WAIT) if error.after is not None else True
            return isinstance(error, (httpx.TransportError, _Unread)) and time.monotonic() < until

        tries = 0
        try:
            for attempt in stamina.retry_context(
                on=passing, attempts=_ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=_LONGEST_WAIT
            ):
                with attempt:
                    tries += 1
                    reply = self._send(method, path, json=json, headers=headers)
                    check(reply)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, _Unread) as error:
            # The message says it all: what the network library made of it in between would only hide it.
            raise SourceError(
                f"{_shown(self._client.base_url)}: no answer after {tries} {'try' if tries == 1 else 'tries'} "
                f"({type(error).__name__.lstrip('_')}: {error}). Check the network, and OTC_FINRA_URL."
            ) from None
        return reply

    def _exchange(self, method: str, url: str, **request: Any) -> httpx.Response:
        """One request and its whole reply, which is read piece by piece and bounded in size and time.

        Raises:
            RefusedReply: it is larger than any reply of FINRA's.
            _Unread: it did not come to its end in time, or can't be unpacked.
            httpx.HTTPError: the network failed.
        """
        until = time.monotonic() + self._deadlines.reply
        with self._client.stream(method, url, **request) as reply:
            where = f"{method} {_shown(reply.request.url)}"
            content = io.BytesIO()
            for piece in _pieces(reply):
                content.write(piece)
                if content.tell() > _MOST_REPLY_BYTES:
                    raise RefusedReply(
                        where,
                        f"the reply is larger than {_MOST_REPLY_BYTES >> 20} MiB, and FINRA's have at most 3 MB: "
                        "check OTC_FINRA_URL",
                    )
                if time.monotonic() > until:
                    raise _Unread(
                        f"{where}: {content.tell():,} bytes came in {self._deadlines.reply:g} seconds, and the rest is "
                        "not waited for"
                    )
            headers = [(name, value) for name, value in reply.headers.raw if name.lower() not in _OF_TRANSFER]
            return httpx.Response(reply.status_code, headers=headers, content=content.getvalue(), request=reply.request)

    def _send(
        self, method: str, path: str, *, json: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        self._budget.wait()
        sent = dict(headers)
        if self._credentials:
            sent["Authorization"] = f"Bearer {self._access_token()}"
        reply = self._exchange(method, path, json=json, headers=sent)
        where = f"{method} {_shown(reply.request.url)}"
        if reply.status_code == 401 and self._credentials:
            self._token = None  # it may have ended early: one more is asked for, by the retry
            raise _TryAgain(f"{where}: FINRA did not take the access token")
        if reply.status_code in (401, 403):
            raise PermanentSourceError(
                f"{where}: FINRA answered {reply.status_code}: it wants to know who asks from this network. Set "
                "OTC_FINRA_CLIENT_ID and OTC_FINRA_CLIENT_SECRET to credentials of FINRA's API console."
            )
        if reply.status_code == 429 or reply.status_code >= 500:
            raise _TryAgain(f"{where}: FINRA answered {reply.status_code}", _retry_after(reply))
        if reply.status_code >= 400:
            raise PermanentSourceError(f"{where}: FINRA refused it with {reply.status_code}: {_quote(reply)}")
        if 300 <= reply.status_code < 400:
            raise SourceError(
                f"{where}: the answer was {reply.status_code}, a redirect{_target(reply)}. Redirects are not followed: "
                "check OTC_FINRA_URL, and whether a proxy asks for a login."
            )
        if reply.status_code not in (200, 204):
            raise SourceError(
                f"{where}: the answer was {reply.status_code}, and FINRA's are 200 with data or 204 without: "
                f"{_quote(reply) or 'it has no text'}. Check OTC_FINRA_URL, and what is between here and FINRA."
            )
        content = reply.content.strip()
        if content[:1] == b"<":
            raise _TryAgain(f"{where}: a page of HTML came instead of data: {_quote(reply)}")
        if reply.status_code == 200 and not content:
            raise _TryAgain(f"{where}: the answer was 200 with nothing in it, which is not FINRA's for no data (204)")
        if reply.status_code == 204 and content:
            raise _TryAgain(f"{where}: the answer was 204, for no data, with text in it: {_quote(reply)}")
        if content == b"[]" and _stated(reply, "Record-Total"):
            total = _stated(reply, "Record-Total")
            raise _TryAgain(f"{where}: an empty list came, though Record-Total says {total:,} rows")
        return reply

    def _access_token(self) -> str:
        assert self._credentials is not None
        with self._token_lock:
            if self._token is None or self._token[1] < time.monotonic():
                client_id, secret = self._credentials
                reply = self._exchange(
                    "POST",
                    self._token_url,
                    params={"grant_type": "client_credentials"},
                    auth=(client_id, secret.get_secret_value()),
                )
                if reply.status_code in (400, 401, 403):
                    raise PermanentSourceError(
                        f"{self._token_url}: FINRA refused the credentials with {reply.status_code}. Check "
                        "OTC_FINRA_CLIENT_ID and OTC_FINRA_CLIENT_SECRET."
                    )
                if not reply.is_success:
                    raise _TryAgain(f"{self._token_url}: FINRA answered {reply.status_code}", _retry_after(reply))
                try:
                    answer = reply.json()
                    # FINRA sends the number of seconds as text. A minute early is on the safe side.
                    lasts = int(answer["expires_in"]) - 60
                    self._token = (answer["access_token"], time.monotonic() + lasts)
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise SourceError(f"{self._token_url}: the reply has no access token") from None
            return self._token[0]


def _week_and_tier(partition: list[str]) -> tuple[dt.date, str]:
    """The two values of a listed partition, in whichever order they stand."""
    start, tier_id = partition
    try:
        return dt.date.fromisoformat(start), tier_id
    except ValueError:
        return dt.date.fromisoformat(tier_id), start


def _of_week(week_ending: dt.date, tier: Tier) -> dict[str, Any]:
    """The filters that name a publication: EQUAL on both, or FINRA does not sort."""
    wanted = {"weekStartDate": week_start_of(week_ending).isoformat(), "tierIdentifier": tier.id}
    return {
        "compareFilters": [
            {"compareType": "EQUAL", "fieldName": name, "fieldValue": value} for name, value in wanted.items()
        ]
    }


#: Headers that are of how a reply came, and not of what it is once it is unpacked.
_OF_TRANSFER = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


def _pieces(reply: httpx.Response) -> Iterator[bytes]:
    """The content, unpacked, in pieces of bounded size: a few packed bytes may be very many unpacked.

    Raises:
        _Unread: it is not packed as it says.
    """
    if reply.is_stream_consumed:  # by a transport that has no network below it
        yield reply.content
        return
    # As they arrive: collected to a size, pieces of a reply that drips would hide the time they take.
    packing = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if packing in ("identity", ""):
        yield from reply.iter_raw()
        return
    if packing not in ("gzip", "x-gzip"):
        raise _Unread(f"{_shown(reply.request.url)}: the reply is packed as {packing!r}, which was not asked for")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for packed in reply.iter_raw():
            while packed and not unpacker.eof:
                yield unpacker.decompress(packed, _READ_BYTES)
                packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise _Unread(f"{_shown(reply.request.url)}: the reply can't be unpacked as gzip ({error})") from None
    if not unpacker.eof:
        raise _Unread(f"{_shown(reply.request.url)}: the reply ends within its gzip")


def _is_no_data(reply: httpx.Response) -> bool:
    """Whether the reply says that there is no data: 204, or, as in 2021 and 2022, 200 with an empty list."""
    return reply.status_code == 204 or reply.content.strip() == b"[]"


def _text(reply: httpx.Response) -> bytes:
    content = reply.content
    return content.replace(b"\r\n", b"\n") if b"\r\n" in content else content


def _count(rows: bytes) -> int:
    return rows.count(b"\n") + (bool(rows) and not rows.endswith(b"\n"))


def _stated(reply: httpx.Response, header: str) -> int | None:
    """A number of rows that a header states; None where there is no such header.

    Raises:
        SourceError: it is no number of rows.
    """
    stated = reply.headers.get(header)
    if stated is None:
        return None
    if not _ROWS.fullmatch(stated.strip()):
        raise SourceError(f"{_shown(reply.request.url)}: the reply's {header} is {stated[:40]!r}, not a number of rows")
    return int(stated)


#: A number of rows, in ASCII digits.
_ROWS = re.compile(r"[0-9]{1,18}")


def _total(reply: httpx.Response) -> int:
    total = _stated(reply, "Record-Total")
    if total is None:
        raise SourceError(
            f"{_shown(reply.request.url)}: the reply has no Record-Total: it can't be told whether it is whole"
        )
    return total


def _shown(url: httpx.URL) -> str:
    """An address without the name and password that it may hold."""
    return str(url.copy_with(userinfo=b""))


def _target(reply: httpx.Response) -> str:
    """Where a redirect leads, without what may be secret in its address."""
    try:
        target = httpx.URL(reply.headers["Location"])
    except (KeyError, httpx.InvalidURL):
        return ""
    return f" to {_shown(target.copy_with(query=None, fragment=None))}"


def _quote(reply: httpx.Response) -> str:
    return " ".join(reply.text.split())[:200]


def _retry_after(reply: httpx.Response) -> float | None:
    """``Retry-After`` in seconds, given as seconds or as a date."""
    stated = reply.headers.get("Retry-After")
    if stated is None:
        return None
    try:
        return max(0.0, float(stated))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(stated)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000": UTC, of a sender that does not say where it is
        until = until.replace(tzinfo=dt.UTC)
    return max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds())
