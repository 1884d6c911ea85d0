"""FINRA's Query API, as a source of publications.

Here: asking, paging, retrying, and the budget of requests. Not here: what the rows mean (``domain``), and the
credentials' origin (``settings``).

Only POST asks for rows: FINRA ignores filters in GET requests without a word. A publication is asked for
whole, all summary types at once and sorted by its unique key, so that paging is stable, the same content
gives the same bytes, and FINRA's own totals come with the rows that they judge.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import io
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import stamina
from pydantic import SecretStr

from otc_assets.domain.weeks import TIER_BY_ID, Tier, week_ending_of, week_start_of
from otc_assets.finra.source import (
    FULL,
    Capture,
    PermanentSourceError,
    Progress,
    PublicationState,
    SourceError,
)
from otc_assets.tracing import PAGE, instrument_client, span, tell

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
#: How often a publication is begun anew because its number of rows moved while it was read.
_RESTARTS = 5


class _TryAgain(SourceError):
    """A passing failure; ``after`` is how long FINRA asks to wait, in seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


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
    ) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            transport=transport,
            timeout=httpx.Timeout(60.0, connect=10.0),
            headers={"User-Agent": "otc-assets"},
        )
        instrument_client(self._client)
        self._origin = base_url.rstrip("/") + _DATA
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
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"{reply.request.url}: the list of partitions is not as it was ({type(error).__name__}: {error})"
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
        if reply.status_code == 204:
            return None
        try:
            rows = reply.json()
            newest = rows[0]["lastUpdateDate"] if rows else None
            return PublicationState(_total(reply), dt.date.fromisoformat(newest) if newest else None) if rows else None
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{self._origin}: the reply is not as it was ({error})") from None

    def fetch(self, week_ending: dt.date, tier: Tier, progress: Progress | None = None) -> list[Capture]:
        """The publication, whole: every row that FINRA counts; an empty list where it has none.

        Raises:
            PermanentSourceError: FINRA refused the request.
            SourceError: FINRA did not answer after several tries, or its rows kept moving.
        """
        for _ in range(_RESTARTS):
            try:
                content, total = self._all_pages(week_ending, tier, progress or (lambda done, of: None))
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

    def _all_pages(self, week_ending: dt.date, tier: Tier, progress: Progress) -> tuple[bytes, int]:
        content = io.BytesIO()  # which gives its bytes away without a copy
        header: bytes | None = None
        received, total = 0, None
        while total is None or received < total:
            with span(PAGE, offset=received):
                page = self._page(week_ending, tier, received)
                tell(rows=page[2] if page else 0)
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
            if reply.status_code == 204 or reply.content.strip() in (b"", b"[]"):
                return
            first_line, _, rows = _text(reply).partition(b"\n")
            stated = reply.headers.get("Total-Records-On-Page")
            last = rows.rstrip(b"\n").rpartition(b"\n")[2]
            if (stated is not None and int(stated) != _count(rows)) or last.count(b"|") != first_line.count(b"|"):
                raise _TryAgain(f"{self._origin}: the page at row {offset} came cut off")
            if not _count(rows):
                raise _TryAgain(f"{self._origin}: the page at row {offset} came empty")

        reply = self._ask("POST", _DATA, json=query, headers={"Accept": "text/plain"}, check=whole)
        if reply.status_code == 204 or reply.content.strip() in (b"", b"[]"):
            return None
        first_line, _, rows = _text(reply).partition(b"\n")
        if not rows.endswith(b"\n"):
            rows += b"\n"
        return first_line, rows, _count(rows), _total(reply)

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

        def passing(error: Exception) -> bool | float:
            if isinstance(error, _TryAgain):
                return min(error.after, _LONGEST_WAIT) if error.after is not None else True
            return isinstance(error, httpx.TransportError)

        try:
            for attempt in stamina.retry_context(
                on=passing, attempts=_ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=_LONGEST_WAIT
            ):
                with attempt:
                    reply = self._send(method, path, json=json, headers=headers)
                    check(reply)
        except httpx.TransportError as error:
            raise SourceError(
                f"{self._client.base_url}: no answer after {_ATTEMPTS} tries ({type(error).__name__}: {error})"
            ) from error
        return reply

    def _send(
        self, method: str, path: str, *, json: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        self._budget.wait()
        sent = dict(headers)
        if self._credentials:
            sent["Authorization"] = f"Bearer {self._access_token()}"
        reply = self._client.request(method, path, json=json, headers=sent)
        where = f"{method} {reply.request.url}"
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
        if reply.content.lstrip()[:1] == b"<":
            raise _TryAgain(f"{where}: a page of HTML came instead of data: {_quote(reply)}")
        return reply

    def _access_token(self) -> str:
        assert self._credentials is not None
        with self._token_lock:
            if self._token is None or self._token[1] < time.monotonic():
                client_id, secret = self._credentials
                reply = self._client.post(
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
                except (ValueError, KeyError, TypeError):
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


def _text(reply: httpx.Response) -> bytes:
    content = reply.content
    return content.replace(b"\r\n", b"\n") if b"\r\n" in content else content


def _count(rows: bytes) -> int:
    return rows.count(b"\n") + (bool(rows) and not rows.endswith(b"\n"))


def _total(reply: httpx.Response) -> int:
    try:
        return int(reply.headers["Record-Total"])
    except (KeyError, ValueError):
        raise SourceError(
            f"{reply.request.url}: the reply has no Record-Total: it can't be told whether it is whole"
        ) from None


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
    return max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds())
