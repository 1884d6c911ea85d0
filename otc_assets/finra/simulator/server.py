"""A server with the protocol of the Query API, for the simulator's publications, with faults on request.

It is a WSGI application, used in this process through ``httpx.WSGITransport``, or served on loopback. The rows come
from ``generator``.
"""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import polars as pl

from otc_assets.domain.datasets import BY_NAME, Dataset
from otc_assets.domain.weeks import TIER_BY_ID, week_ending_of
from otc_assets.finra.simulator import datasets
from otc_assets.finra.simulator.files import as_text
from otc_assets.finra.simulator.generator import COLUMNS, Simulator
from otc_assets.finra.simulator.traps import NO_TRAPS, Traps

_DATA = "/data/group/otcMarket/name/"
_PARTITIONS = "/partitions/group/otcMarket/name/"
_TOKEN = "/fip/rest/ews/oauth2/access_token"  # noqa: S105 - a path
_DATASETS = ("weeklySummary", "weeklySummaryHistoric", "weeklyDownloadDetails")
MAX_ROWS = 5_000
MAX_BYTES = 3_000_000
#: The key of the socket in a request's environment, for the faults of a connection.
_CONNECTION = "otc_assets.connection"
_LOGIN_PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
#: Weeks that one query may span before it ends in a 504.
_WIDEST_RANGE = 4


class _Refused(Exception):
    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Reply:
    status: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    fault: str = ""


def make_app(simulator: Simulator, *, clock: Callable[[], dt.date], traps: Traps = NO_TRAPS) -> WSGIApplication:
    """The Query API for the publications of ``simulator``, as of the day that ``clock`` returns."""
    api = _Api(simulator, clock, traps)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            reply = api.answer(environ)
        except _Refused as refused:
            message = json.dumps({"statusCode": int(refused.status[:3]), "message": str(refused)})
            reply = _Reply(refused.status, message.encode(), (("Content-Type", "application/json"),))
        # Always the length of the body: a truncated reply is complete for HTTP.
        start_response(reply.status, [*reply.headers, ("Content-Length", str(len(reply.body)))])
        if reply.fault:
            return _faulty(reply, traps, environ.get(_CONNECTION))
        return [reply.body]

    return app


def _faulty(reply: _Reply, traps: Traps, connection: socket.socket | None) -> Iterator[bytes]:
    """A body with a fault of the connection. Without a socket, a reset is an error of the application."""
    if reply.fault in ("slow", "trickle"):
        size = max(1, len(reply.body) // 100) if reply.fault == "slow" else 1
        starts = range(0, len(reply.body), size)
        for start in starts:
            yield reply.body[start : start + size]
            time.sleep(traps.slow_seconds / len(starts) if reply.fault == "slow" else 1)
        return
    yield reply.body[: len(reply.body) // 2]
    if reply.fault == "stall":
        time.sleep(traps.stall_seconds)
    elif connection is not None:
        # Closed with a linger time of zero, a connection is reset and not ended.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    raise ConnectionAbortedError("a trap of the simulator: the connection was reset")


class _Api:
    def __init__(self, simulator: Simulator, clock: Callable[[], dt.date], traps: Traps) -> None:
        self.simulator, self.clock, self.traps = simulator, clock, traps
        self.requests = itertools.count(1)
        self._rendered = lru_cache(maxsize=4)(self._render)

    def answer(self, environ: WSGIEnvironment) -> _Reply:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == _TOKEN:
            if not environ.get("HTTP_AUTHORIZATION", "").startswith("Basic "):
                raise _Refused("401 Unauthorized", "no credentials")
            token = {"access_token": "simulated", "token_type": "Bearer", "expires_in": "1800"}
            return _json(token)
        if self.traps.needs_token and environ.get("HTTP_AUTHORIZATION") != "Bearer simulated":
            raise _Refused("401 Unauthorized", "Full authentication is required to access this resource")
        if path.startswith(_PARTITIONS) and (listed := self._partitions(path.removeprefix(_PARTITIONS))):
            return _json(listed)
        dataset = path.removeprefix(_DATA)
        if not path.startswith(_DATA) or dataset not in (*_DATASETS, *BY_NAME):
            raise _Refused("404 Not Found", f"no such resource: {path}")
        number = next(self.requests)
        time.sleep(self.traps.latency_seconds)
        if self._hits(self.traps.too_many_requests, number):
            waits = (("Retry-After", self.traps.retry_after),) if self.traps.retry_after else ()
            return _Reply("429 Too Many Requests", b"", waits)
        if self._hits(self.traps.server_errors, number):
            return _Reply("504 Gateway Timeout", b"<html><body>504 Gateway Time-out</body></html>")
        if self._hits(self.traps.internal_errors, number):
            message = json.dumps({"statusCode": 500, "message": "Internal Server Error"})
            return _Reply("500 Internal Server Error", message.encode(), (("Content-Type", "application/json"),))
        if self._hits(self.traps.html, number):
            return _Reply("200 OK", _LOGIN_PAGE, (("Content-Type", "text/html"),))
        if self._hits(self.traps.empty, number):
            return _Reply("200 OK", b"", (("Content-Type", "text/plain"),))
        if self._hits(self.traps.redirect, number):
            return _Reply("302 Found", _LOGIN_PAGE, (("Location", "/login"), ("Content-Type", "text/html")))
        # Like FINRA, this ignores the filters of a GET request.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if method == "POST":
            try:
                query = json.loads(environ["wsgi.input"].read(length) or b"{}")
            except ValueError:
                raise _Refused("400 Bad Request", "the body is not valid JSON") from None
        else:
            start, tier_id = self.simulator.partitions(self.clock())[0]
            query = {"compareFilters": [_equal("weekStartDate", start.isoformat()), _equal("tierIdentifier", tier_id)]}
        as_json = "application/json" in environ.get("HTTP_ACCEPT", "")
        return self._page(dataset, query, as_json, number)

    def _hits(self, every: int, number: int) -> bool:
        """Whether a request has a fault that every so many have."""
        return bool(every) and number % every == 0 and number <= (self.traps.last_fault or number)

    def _partitions(self, name: str) -> dict[str, Any] | None:
        """The partitions of a data set; None if there is no such one."""
        if name == "weeklySummary":
            fields = ["weekStartDate", "tierIdentifier"]
            pairs = [[start.isoformat(), tier] for start, tier in self.simulator.partitions(self.clock())]
        elif name in BY_NAME:
            dataset = BY_NAME[name]
            fields = _partition_fields(dataset)
            days = datasets.offered(dataset, self.clock())
            pairs = [[day.isoformat(), *part.values()] for day in days for part in dataset.parts]
        else:
            return None
        return {
            "datasetGroup": "otcMarket",
            "datasetName": name,
            "partitionFields": fields,
            "availablePartitions": [{"partitions": pair} for pair in pairs],
        }

    def _page(self, dataset: str, query: dict[str, Any], as_json: bool, number: int) -> _Reply:
        asked = {k: v for k, v in query.items() if k not in ("limit", "offset")}
        rows = self._rendered(dataset, json.dumps(asked, sort_keys=True), as_json, self.clock())
        limit = max(0, min(int(query.get("limit", 1_000)), MAX_ROWS, self.traps.short_pages or MAX_ROWS))
        offset = int(query.get("offset", 0))
        if not rows.lines:
            return _json([]) if self.traps.empty_as_list else _Reply("204 No Content")
        if self._hits(self.traps.halved, number):
            limit = max(1, min(limit, len(rows.lines) - offset) // 2)
        begins = 0 if self._hits(self.traps.repeated, number) else offset
        page = rows.lines[begins : begins + limit]
        while sum(map(len, page)) > MAX_BYTES:
            page = page[: len(page) // 2]
        total = len(rows.lines) + self._hits(self.traps.moving_total, number)
        if self._hits(self.traps.huge_total, number):
            total = 999_999_999_999
        body = rows.join(page)
        if self._hits(self.traps.truncated, number) and page:
            body = body[: -(len(page[-1]) // 2 + 2)]
        if self._hits(self.traps.changed_schema, number):
            body = body.replace(b"totalWeeklyShareQuantity", b"weeklyShareQuantity")
        headers: tuple[tuple[str, str], ...] = (
            ("Content-Type", "application/json" if as_json else "text/plain"),
            ("Record-Limit", str(limit)),
            ("Record-Offset", str(offset)),
            ("Record-Max-Limit", str(MAX_ROWS)),
            ("Record-Total", str(total)),
            ("Total-Records-On-Page", str(len(page))),
            ("Response-Payload-Max-Size", "3mb"),
        )
        if self._hits(self.traps.wrong_gzip, number):
            headers += (("Content-Encoding", "gzip"),)
        if self._hits(self.traps.truncated_gzip, number):
            packed = gzip.compress(body, mtime=0)
            body = packed[: len(packed) // 2]
            headers += (("Content-Encoding", "gzip"),)
        traps = self.traps
        faults = {"reset": traps.reset, "stall": traps.stall, "slow": traps.slow, "trickle": traps.trickle}
        fault = next((name for name, every in faults.items() if self._hits(every, number)), "")
        return _Reply("200 OK", body, headers, fault)

    def _render(self, dataset: str, asked: str, as_json: bool, today: dt.date) -> _Rendered:
        query = json.loads(asked)
        rows = self._select(dataset, query, today)
        fields = query.get("fields") or rows.columns
        if unknown := [field for field in fields if field not in rows.columns]:
            raise _Refused("400 Bad Request", f"unknown fields: {', '.join(unknown)}")
        if as_json:
            text = rows.select(fields).with_columns(pl.col(pl.Decimal(38, 6)).cast(pl.Float64)).write_ndjson()
            return _Rendered([line.encode() for line in text.splitlines()], b"[", b",", b"]")
        text = as_text(rows.select(fields)).write_csv(
            separator=query.get("delimiter", ","),
            quote_style="always" if query.get("quoteValues", True) else "never",
        )
        header, *lines = text.splitlines()
        return _Rendered([line.encode() for line in lines], header.encode() + b"\n", b"\n", b"\n")

    def _select(self, dataset: str, query: dict[str, Any], today: dt.date) -> pl.DataFrame:
        filters = query.get("compareFilters", [])
        exact = {f["fieldName"]: str(f["fieldValue"]) for f in filters if f["compareType"] == "EQUAL"}
        sort = query.get("sortFields") or []
        named = {"weekStartDate", "tierIdentifier"} <= exact.keys()
        if dataset in BY_NAME:
            rows = self._of_period(BY_NAME[dataset], exact, sort, today)
        elif dataset == "weeklyDownloadDetails":
            rows = self._download_details(exact, today)
        else:
            if sort and (dataset == "weeklySummaryHistoric" or not named):
                raise _Refused("400 Bad Request", "sortFields need EQUAL filters on weekStartDate and tierIdentifier")
            tiers = [exact["tierIdentifier"]] if "tierIdentifier" in exact else [*TIER_BY_ID, "NMS", "NA"]
            parts = [self._partition(start, t, today) for start in _weeks_asked_for(query, exact) for t in tiers]
            rows = pl.concat([COLUMNS.to_frame(), *(part for part in parts if part is not None)])
        for f in [*filters, *query.get("domainFilters", []), *query.get("dateRangeFilters", [])]:
            if f["fieldName"] not in rows.columns:
                raise _Refused("400 Bad Request", f"unknown field {f['fieldName']}")
        for f in query.get("domainFilters", []):
            rows = rows.filter(pl.col(f["fieldName"]).cast(pl.String).is_in([str(v) for v in f["values"]]))
        for f in query.get("dateRangeFilters", []):
            first, last = (dt.date.fromisoformat(f[end]) for end in ("startDate", "endDate"))
            rows = rows.filter(pl.col(f["fieldName"]).is_between(first, last))
        for f in filters:
            column = pl.col(f["fieldName"])
            kind, stated = rows.schema[f["fieldName"]], str(f["fieldValue"])
            value = pl.lit(dt.date.fromisoformat(stated) if kind == pl.Date else stated).cast(kind)
            compare = {
                "EQUAL": column.eq,
                "GREATER": column.gt,
                "GTE": column.ge,
                "LESSER": column.lt,
                "LTE": column.le,
                "NOT_EQUAL": column.ne,
            }
            if f["compareType"] not in compare:
                raise _Refused("400 Bad Request", f"unknown compareType {f['compareType']}")
            rows = rows.filter(compare[f["compareType"]](value))
        if sort:
            down = [field.startswith("-") for field in sort]
            rows = rows.sort([field.lstrip("+-") for field in sort], descending=down, maintain_order=True)
        return rows

    def _partition(self, start: dt.date, tier_id: str, today: dt.date) -> pl.DataFrame | None:
        if start.weekday() != 0:
            return None
        week = week_ending_of(start)
        if tier_id == "NA":
            return self.simulator.market_statistics(week, today)
        if tier_id == "NMS":
            if not self.simulator.is_double(week):
                return None
            rows = self.simulator.publication(week, TIER_BY_ID["T1"], today)
            return None if rows is None else rows.with_columns(pl.lit("NMS").alias("tierIdentifier"))
        if tier_id not in TIER_BY_ID:
            return None
        return self.simulator.publication(week, TIER_BY_ID[tier_id], today)

    def _of_period(self, dataset: Dataset, exact: dict[str, str], sort: list[str], today: dt.date) -> pl.DataFrame:
        fields = _partition_fields(dataset)
        if missing := [field for field in fields if field not in exact]:
            problem = f"sortFields need an EQUAL filter on {missing[0]}" if sort else "the range is too wide"
            raise _Refused("400 Bad Request" if sort else "504 Gateway Timeout", problem)
        period = dt.date.fromisoformat(exact[fields[0]])
        if period not in datasets.offered(dataset, today):
            return pl.DataFrame(schema=pl.Schema([(field.name, field.kind) for field in dataset.fields]))
        return datasets.rows(self.simulator, dataset, period)

    def _download_details(self, exact: dict[str, str], today: dt.date) -> pl.DataFrame:
        weeks = [
            {"weekStartDate": start, "tierIdentifier": tier, "summaryTypeCode": code}
            for start, tier in self.simulator.partitions(today)
            for code in ("ATS_W_SMBL", "OTC_W_SMBL", "ATS_W_FIRM", "OTC_W_FIRM")
            if exact.get("tierIdentifier", tier) == tier
        ]
        schema = {name: COLUMNS[name] for name in ("weekStartDate", "tierIdentifier", "summaryTypeCode")}
        return pl.DataFrame(weeks, schema=schema)


@dataclass(frozen=True)
class _Rendered:
    """All rows of a query as bytes, and the text around and between them."""

    lines: list[bytes]
    before: bytes
    between: bytes
    after: bytes

    def join(self, page: list[bytes]) -> bytes:
        return self.before + self.between.join(page) + self.after


def _partition_fields(dataset: Dataset) -> list[str]:
    return [dataset.fields[0].name, *dataset.parts[0]]


def _equal(field: str, value: str) -> dict[str, str]:
    return {"compareType": "EQUAL", "fieldName": field, "fieldValue": value}


def _weeks_asked_for(query: dict[str, Any], exact: dict[str, str]) -> list[dt.date]:
    """The weeks' Mondays. As at FINRA, a range over more than a few weeks is answered with 504."""
    if "weekStartDate" in exact:
        return [dt.date.fromisoformat(exact["weekStartDate"])]
    for f in query.get("dateRangeFilters", []):
        if f["fieldName"] == "weekStartDate":
            first, last = (dt.date.fromisoformat(f[end]) for end in ("startDate", "endDate"))
            days = [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]
            mondays = [day for day in days if day.weekday() == 0]
            if len(mondays) <= _WIDEST_RANGE:
                return mondays
    raise _Refused("504 Gateway Timeout", "the range is too wide")


def _json(value: Any) -> _Reply:
    body = json.dumps(value).encode()
    return _Reply("200 OK", body, (("Content-Type", "application/json"), ("Record-Total", "0")))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    #: The default of five drops connections that are opened at the same time; they are tried again a second later.
    request_queue_size = 128


class _Quiet(WSGIRequestHandler):
    def get_environ(self) -> WSGIEnvironment:
        return super().get_environ() | {_CONNECTION: self.connection}

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: one line per request would hide all other output."""


@contextmanager
def serve(app: WSGIApplication, port: int = 0) -> Iterator[str]:
    """Serves ``app`` on loopback within the context, and yields its address. Port 0 chooses a free port."""
    with _Server(("127.0.0.1", port), _Quiet) as server:
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
