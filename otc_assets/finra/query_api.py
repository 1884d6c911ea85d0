"""FINRA's Query API, as a source of publications: the requests, paging, attempts, and the access token.

Rows are requested by POST only: FINRA ignores filters in GET requests and does not say so. A publication is requested
as a whole, with all summary types and sorted by its unique key. So paging is stable, the same content gives the same
bytes, and FINRA's own totals come with the rows that they are compared with.

The limits of one exchange are in ``exchange``, the meaning of a reply in ``replies``, and of its rows in ``domain``.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import stamina
from pydantic import SecretStr

from otc_assets.content import Spool
from otc_assets.domain.datasets import Dataset
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.parsing.limits import MAX_LINE_BYTES
from otc_assets.domain.weeks import TIER_BY_ID, Tier, week_ending_of
from otc_assets.finra.exchange import (
    DEFAULT_DEADLINES,
    Deadlines,
    IncompleteReply,
    LimitedClient,
    RequestBudget,
    request_line,
)
from otc_assets.finra.paging import Changed, Page, Reading, Table
from otc_assets.finra.queries import WEEKLY, PagedQuery, dataset_queries, offered_periods, week_and_tier, weekly_query
from otc_assets.finra.replies import (
    TemporaryFailure,
    count_rows,
    has_no_data,
    header_and_rows,
    quote,
    record_total,
    require_data,
    retry_after,
    stated_rows,
)
from otc_assets.finra.source import (
    Capture,
    DatasetCapture,
    MakeSpool,
    PermanentSourceError,
    Progress,
    PublicationState,
    SourceError,
)
from otc_assets.settings import FINRA_REQUESTS_PER_MINUTE, PAGES_IN_FLIGHT

_DATA = "/data/group/otcMarket/name/"
_PARTITIONS = "/partitions/group/otcMarket/name/"
TOKEN_URL = "https://ews.fip.finra.org/fip/rest/ews/oauth2/access_token"  # noqa: S105 - an address

_ATTEMPTS = 6
_MAX_WAIT_SECONDS = 60.0
#: How often a publication is read from its start again because its number of rows changed while it was read.
_RESTARTS = 5
_AS_JSON = {"Accept": "application/json"}
#: What a header can have.
_TOKEN = re.compile(r"[!-~]+")


T = TypeVar("T")


class QueryApi:
    """FINRA's Query API.

    Args:
        base_url: its address.
        transport: replaces the network; for simulators and tests.
        client_id, client_secret: OAuth2 client credentials, for networks from which FINRA requires them.
        token_url: where they are exchanged for an access token.
        requests_per_minute: the budget of all threads together.
        pages_in_flight: how many pages of a publication are requested at a time.
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
        requests_per_minute: int = FINRA_REQUESTS_PER_MINUTE,
        pages_in_flight: int = PAGES_IN_FLIGHT,
        deadlines: Deadlines = DEFAULT_DEADLINES,
    ) -> None:
        self._deadlines = deadlines
        self._in_flight = pages_in_flight
        self._client = LimitedClient(base_url, transport, deadlines)
        self._budget = RequestBudget(requests_per_minute)
        self._credentials = (client_id, client_secret) if client_id and client_secret is not None else None
        self._token_url = token_url
        self._token: tuple[str, float] | None = None
        self._token_lock = threading.Lock()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    # --- the protocol of a source ----------------------------------------------------------------------

    def offered(self) -> set[tuple[Tier, dt.date]]:
        """Every (tier, week_ending) that FINRA lists; a listed one may be empty.

        Raises:
            SourceError: FINRA did not answer, or with something else.
        """

        def weeks(listed: Iterable[list[str]]) -> Iterator[tuple[Tier, dt.date]]:
            for start, tier_id in map(week_and_tier, listed):
                if tier_id in TIER_BY_ID and start.weekday() == 0:
                    yield TIER_BY_ID[tier_id], week_ending_of(start)

        return self._partitions(WEEKLY, weeks)

    def _partitions(self, name: str, read: Callable[[Iterable[list[str]]], Iterable[T]]) -> set[T]:
        reply = self._request("GET", _PARTITIONS + name, lambda reply: reply, headers=_AS_JSON)
        try:
            return set(read(entry["partitions"] for entry in reply.json()["availablePartitions"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _unexpected(reply, error) from None

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        """How many rows the publication has and when the newest was written, by one request."""
        query = {
            **weekly_query(week_ending, tier).filters(),
            "fields": ["lastUpdateDate"],
            "sortFields": ["-lastUpdateDate"],
            "limit": 1,
        }
        reply = self._request("POST", _DATA + WEEKLY, lambda reply: reply, json=query, headers=_AS_JSON)
        if has_no_data(reply):
            return None
        try:
            newest = reply.json()[0]["lastUpdateDate"]
            return PublicationState(record_total(reply), dt.date.fromisoformat(newest) if newest else None)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise _unexpected(reply, error) from None

    def fetch(
        self, week_ending: dt.date, tier: Tier, progress: Progress | None = None, *, spool: MakeSpool = Spool
    ) -> list[Capture]:
        """The whole publication: every row that FINRA counts; an empty list if it has none.

        Raises:
            PermanentSourceError: FINRA refused the request.
            RefusedReply: the replies are larger than any publication.
            SourceError: FINRA did not answer after several attempts, or its rows kept changing.
        """
        query = weekly_query(week_ending, tier)
        content, (total,) = self._whole([query], spool, progress)
        return [Capture(week_ending, tier, CaptureScope.FULL, content, self._origin(query), total)] if total else []

    # --- the protocol of a source of data sets ---------------------------------------------------------

    def offered_periods(self, dataset: Dataset) -> set[dt.date]:
        """Every period of a data set that FINRA lists.

        Raises:
            SourceError: FINRA did not answer, or with something else.
        """
        return self._partitions(dataset.name, lambda listed: offered_periods(dataset, listed))

    def fetch_period(self, dataset: Dataset, period: dt.date, *, spool: MakeSpool = Spool) -> DatasetCapture | None:
        """All rows of a data set's period; None if it has none.

        Of a period with several partitions, the rows follow each other under one header line.

        Raises:
            PermanentSourceError: FINRA refused the request.
            RefusedReply: the replies are larger than any publication.
            SourceError: FINRA did not answer after several attempts, its rows kept changing, or it has some of the
                partitions only.
        """
        queries = dataset_queries(dataset, period)
        content, totals = self._whole(queries, spool)
        empty = [query.title for query, total in zip(queries, totals, strict=True) if not total]
        if len(empty) == len(queries):
            return None
        if empty:
            raise SourceError(
                f"{self._client.base_url}: FINRA has no rows of {', '.join(empty)}, and has the rest of the period",
                remedy="FINRA may be publishing at the moment: the period is requested again.",
            )
        return DatasetCapture(dataset, period, content, self._origin(queries[0]), sum(totals))

    # --- pages -----------------------------------------------------------------------------------------

    def _origin(self, query: PagedQuery) -> str:
        return f"{self._client.base_url}{_DATA}{query.dataset} {' '.join(query.wanted.values())}"

    def _whole(
        self, queries: list[PagedQuery], spool: MakeSpool, progress: Progress | None = None
    ) -> tuple[Spool, list[int]]:
        """All rows of the queries as text with one header line, and their number by query."""
        seconds = self._deadlines.publication
        until = time.monotonic() + seconds

        def read(query: PagedQuery, table: Table) -> int:
            reading = Reading(
                lambda start, most: self._page(query, start, most),
                origin=self._origin(query),
                in_flight=self._in_flight,
                seconds=seconds,
                until=until,
            )
            return reading.into(table, progress or (lambda done, of: None))

        for _ in range(_RESTARTS):
            table = Table(spool())
            try:
                return table.spool, [read(query, table) for query in queries]
            except Changed:
                continue
        raise SourceError(
            f"{self._origin(queries[0])}: the rows of {queries[0].title} changed while they were read, "
            f"{_RESTARTS} times in a row",
            remedy="FINRA is publishing at the moment: try again in a few minutes.",
        )

    def _page(self, query: PagedQuery, offset: int, limit: int) -> Page | None:
        """A page that is complete; None for no data."""
        path = _DATA + query.dataset
        where = self._client.base_url + path
        asked = {
            **query.filters(),
            "fields": list(query.fields),
            "sortFields": list(query.key),
            "limit": limit,
            "offset": offset,
            "delimiter": "|",
            "quoteValues": False,
        }

        def read(reply: httpx.Response) -> Page | None:
            """The page; a truncated one is requested again."""
            if has_no_data(reply):
                return None
            first_line, rows = header_and_rows(reply)
            count, stated = count_rows(rows), stated_rows(reply, "Total-Records-On-Page")
            last = rows[-MAX_LINE_BYTES:].rstrip(b"\n").rpartition(b"\n")[2]
            if stated not in (None, count) or last.count(b"|") != first_line.count(b"|"):
                raise TemporaryFailure(f"{where}: the page at row {offset} is truncated")
            if not count:
                raise TemporaryFailure(f"{where}: the page at row {offset} has no rows: {quote(reply)}")
            total = record_total(reply)
            sent = {name.strip(' "') for name in first_line.decode(errors="replace").split("|")}
            if missing := [field for field in query.fields if field not in sent]:
                raise SourceError(
                    f"{where}: unexpected response format: the reply lacks {', '.join(missing)}, which were "
                    f"requested; it begins with {first_line[:200].decode(errors='replace')!r}",
                    remedy="If this lasts, FINRA has changed its fields, and this software has to be adapted.",
                )
            return Page(first_line, rows if rows.endswith(b"\n") else rows + b"\n", count, total)

        return self._request("POST", path, read, json=asked, headers={"Accept": "text/plain"})

    # --- one request -----------------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response], T],
        *,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str],
    ) -> T:
        """What ``read`` makes of the reply to a request, which is repeated after temporary failures."""
        until = time.monotonic() + self._deadlines.tries

        def is_temporary(error: Exception) -> bool | float:
            if isinstance(error, TemporaryFailure):
                if error.wait is None:
                    return True
                # Not this request alone: FINRA means all of this address.
                self._budget.pause(min(error.wait, _MAX_WAIT_SECONDS))
                return 0.0
            return isinstance(error, (httpx.TransportError, IncompleteReply)) and time.monotonic() < until

        tries = 0
        try:
            for attempt in stamina.retry_context(
                on=is_temporary, attempts=_ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=_MAX_WAIT_SECONDS
            ):
                with attempt:
                    tries += 1
                    found = read(self._send(method, path, json=json, headers=headers))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, IncompleteReply) as error:
            # Without the cause: the message is complete, and the exceptions of the network library would hide it.
            raise SourceError(
                f"{self._client.base_url}: no answer after {tries} {'try' if tries == 1 else 'tries'} "
                f"({type(error).__name__}: {error})",
                remedy="Check the network, and OTC_FINRA_URL.",
            ) from None
        return found

    def _send(
        self, method: str, path: str, *, json: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        self._budget.wait()
        token = self._access_token() if self._credentials else None
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        reply = self._client.exchange(method, path, json=json, headers={**headers, **authorization})
        if reply.status_code == 401 and token:
            with self._token_lock:  # another page may have renewed it already
                if self._token and self._token[0] == token:
                    self._token = None  # it may have expired early: the next attempt requests another
            raise TemporaryFailure(f"{request_line(reply)}: FINRA refused the access token")
        require_data(reply)
        return reply

    def _access_token(self) -> str:
        assert self._credentials is not None
        with self._token_lock:
            if self._token is None or self._token[1] < time.monotonic():
                client_id, secret = self._credentials
                reply = self._client.exchange(
                    "POST",
                    self._token_url,
                    params={"grant_type": "client_credentials"},
                    auth=(client_id, secret.get_secret_value()),
                )
                if reply.status_code in (400, 401, 403):
                    raise PermanentSourceError(
                        f"{self._token_url}: FINRA refused the credentials with {reply.status_code}",
                        remedy="Check OTC_FINRA_CLIENT_ID and OTC_FINRA_CLIENT_SECRET.",
                    )
                if not reply.is_success:
                    raise TemporaryFailure(f"{self._token_url}: FINRA answered {reply.status_code}", retry_after(reply))
                try:
                    answer = reply.json()
                    # FINRA sends the number of seconds as text. The token is renewed a minute early.
                    until = time.monotonic() + int(answer["expires_in"]) - 60
                    if not _TOKEN.fullmatch(token := answer["access_token"]):
                        raise ValueError
                    self._token = token, until
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    raise SourceError(f"{self._token_url}: the reply has no access token") from None
            return self._token[0]


def _unexpected(reply: httpx.Response, error: Exception) -> SourceError:
    problem = f"unexpected response format ({type(error).__name__}: {error})"
    return SourceError(f"{request_line(reply)}: {problem}: {quote(reply)}")
