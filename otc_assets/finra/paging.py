"""Reading all pages of a query, several at a time, and in order.

The first page is requested alone, because it states how many rows there are. The others are divided into ranges of as
many rows as the first page had, and the ranges are requested at the same time. A page may be shorter than requested:
then its range is continued after the last row that came, with a request for the rows that its range still lacks. So
ranges neither overlap nor leave a gap, wherever pages end, and the bytes are those of pages that are read one by one.

Ranges begin in order and are passed on in order. At most twice as many as are requested at a time are in memory.
Requesting one page, with its attempts, is in ``query_api``; how often requests may be sent, in ``exchange``.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from otc_assets.content import Spool
from otc_assets.domain.parsing.limits import MAX_ROWS, MAX_UNPACKED_BYTES
from otc_assets.finra.deadline import Stopped, until_stopped
from otc_assets.finra.source import Progress, RefusedReply, SourceError
from otc_assets.tracing import PAGE, set_attributes, span

#: FINRA returns no more rows at once, whatever limit is requested.
PAGE_ROWS = 5_000
#: If the first page is shorter than this, it says little about the others, and ranges have this size.
_FEWEST_ROWS = PAGE_ROWS // 10
#: The largest publication has 34 pages. FINRA's pages may be shorter than requested, but not by so much.
_MAX_PAGES = 2_000


@dataclass(frozen=True)
class Page:
    """A reply with rows.

    Attributes:
        header: the first line.
        rows: the others, each with a line feed.
        count: their number.
        total: the number of rows of all pages, as FINRA states it.
    """

    header: bytes
    rows: bytes
    count: int
    total: int


class Changed(Exception):
    """The rows changed between two pages."""


class Table:
    """Delimited text that is put together from pages, under one header line.

    Args:
        spool: where it is written.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._header = b""

    def add(self, page: Page, origin: str) -> None:
        """Adds the rows of a page.

        Raises:
            SourceError: its header is another one.
        """
        if not self._header:
            self._header = page.header
            self.spool.write(page.header + b"\n")
        elif page.header != self._header:
            raise SourceError(f"{origin}: its header differs from that of the rows before")
        self.spool.write(page.rows)


class Reading:
    """Reads the pages of a query once.

    Args:
        ask: requests a page, by its first row and the most rows that it may have; None if there is no data.
        origin: where the pages come from, for messages.
        in_flight: how many requests are sent at a time.
        seconds: how long the pages are waited for.
        until: when that is over, on the monotonic clock.
    """

    def __init__(
        self, ask: Callable[[int, int], Page | None], *, origin: str, in_flight: int, seconds: float, until: float
    ) -> None:
        self._ask, self._origin, self._in_flight = ask, origin, in_flight
        self._seconds, self._until = seconds, until
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._first: Page | None = None
        self._pages = self._rows = self._bytes = 0
        self._seen: set[bytes] = set()

    def into(self, table: Table, progress: Progress) -> int:
        """Adds all rows to a table, and returns their number. When it ends, its threads have ended, too.

        Raises:
            Changed: the rows changed between two pages, so they have to be read from the start.
            RefusedReply: they are more than any publication has.
            SourceError: they did not come in time.
        """
        with until_stopped(self._stopped):
            page = self._page(0, PAGE_ROWS)
            if page is None:
                return 0
            table.add(page, self._origin)
            received, total = page.count, page.total
            progress(received, total)
            rows = max(received, _FEWEST_ROWS)
            waiting: deque[Future[list[Page]]] = deque()
            pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="finra-page")
            try:
                starts = iter(range(received, total, rows))
                while received < total:
                    while len(waiting) < 2 * self._in_flight and (start := next(starts, None)) is not None:
                        # With the caller's context, for its spans.
                        run = contextvars.copy_context().run
                        waiting.append(pool.submit(run, self._range, start, min(start + rows, total)))
                    for page in waiting.popleft().result():
                        table.add(page, self._origin)
                        received += page.count
                        progress(received, total)
            except Stopped:
                assert self._failure is not None
                raise self._failure from None
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
        return total

    def _range(self, start: int, end: int) -> list[Page]:
        """The pages of a range. Its failure stops the others."""
        pages = []
        try:
            while start < end:
                page = self._page(start, end - start)
                if page is None:
                    raise Changed
                pages.append(page)
                start += page.count
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or error
            self._stopped.set()
            raise
        return pages

    def _page(self, start: int, most: int) -> Page | None:
        """A page that agrees with the first."""
        if time.monotonic() > self._until:
            total = self._first.total if self._first else 0
            raise SourceError(
                f"{self._origin}: {self._rows:,} of {total:,} rows came in {self._seconds:,.0f} seconds, and the rest "
                "is not waited for",
                remedy="FINRA or the network is slow: try again later.",
            )
        with span(PAGE, offset=start):
            page = self._ask(start, most)
            set_attributes(rows=page.count if page else 0)
        if page is None:
            return None
        with self._lock:
            self._first = self._first or page
            if (page.total, page.header) != (self._first.total, self._first.header):
                raise Changed
            self._pages += 1
            self._rows += page.count
            self._bytes += len(page.rows)
            if page.total > MAX_ROWS or self._pages > _MAX_PAGES or self._bytes > MAX_UNPACKED_BYTES:
                # The first of the threads that find this is right about the number of pages.
                self._failure = self._failure or RefusedReply(
                    self._origin,
                    f"larger than any publication: {page.total:,} rows by Record-Total, {self._rows:,} of them in "
                    f"{self._pages:,} pages; the limits are {MAX_ROWS:,} rows, {_MAX_PAGES:,} pages and "
                    f"{MAX_UNPACKED_BYTES >> 20} MiB",
                )
                raise self._failure
            if page.count > min(most, page.total - start) or self._is_repeated(page):
                raise Changed
        return page

    def _is_repeated(self, page: Page) -> bool:
        """Whether its first row was that of another page: rows are unique, so a proxy repeated a reply or a part of it.

        Pages of one row are left out: if FINRA had a row twice, each would be a page, and they would never be whole.
        """
        first = page.rows.partition(b"\n")[0]
        is_repeated = page.count > 1 and first in self._seen
        self._seen.add(first)
        return is_repeated
