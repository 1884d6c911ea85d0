"""The paths: one for each verb of the client, those of a symbol and of a venue, and those that describe."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import polars as pl
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from otc_assets.api import openapi, pages, parameters, responses
from otc_assets.api.formats import FORMATS, json_rows
from otc_assets.api.observing import Measures
from otc_assets.api.parameters import JSON_LIMIT, MAX_LIMIT
from otc_assets.api.paths import BELOW_SYMBOL, BELOW_VENUE, suggestions
from otc_assets.api.problems import Problem
from otc_assets.api.responses import Body, Cache
from otc_assets.client import VERBS, Client, ClientError, select
from otc_assets.client.verbs import COMMON, Verb
from otc_assets.tracing import READ, set_attributes, span

#: How long a result of /health is used again, and how long a request waits for one.
_HEALTH_SECONDS, _PROBE_SECONDS = 1.0, 3.0
_VERSION = importlib.metadata.version("otc-assets")
Endpoint = Callable[..., Any]


class Routes:
    """Adds the paths to an application.

    Args:
        app: the application.
        client: reads the database.
        measures: where rows are counted.
        probe: reads the database for /health only.
    """

    def __init__(self, app: FastAPI, client: Client, measures: Measures, probe: Client) -> None:
        self._app, self._client, self._measures, self._probe = app, client, measures, probe
        self._cache = Cache()
        self._healthy: tuple[float, bool] = (float("-inf"), False)
        # A thread of its own: statements of other requests may occupy all those of the application.
        self._prober = ThreadPoolExecutor(1, "health")
        self._asked: Future[bool] | None = None

    def add(self) -> None:
        """Adds all of them."""
        for verb in VERBS.values():
            self._add_verb(f"/v1/{verb.name}", verb)
        symbol = parameters.of_path("symbol", "A ticker, case-sensitive.", "AAPL")
        venue = parameters.of_path("venue", "The MPID of an ATS, the CRD number of another firm.", "UBSA")
        self._add_rows("/v1/symbols/{symbol}", "Describe a symbol", self._client.describe, symbol)
        self._add_rows("/v1/venues/{venue}", "Describe a venue", self._client.describe_venue, venue)
        for part, name in BELOW_SYMBOL.items():
            self._add_verb(f"/v1/symbols/{{symbol}}/{part}", VERBS[name], ("symbol", "symbols", symbol))
        for part, name in BELOW_VENUE.items():
            self._add_verb(f"/v1/venues/{{venue}}/{part}", VERBS[name], ("venue", "venues", venue))
        self._add_rows("/v1/find", "Find symbols and venues by a part of their name", self._find, parameters.FIND)
        self._add_descriptions()

    # --- rows ------------------------------------------------------------------------------------------

    def _add_verb(self, path: str, verb: Verb, below: tuple[str, str, dict[str, Any]] | None = None) -> None:
        name, fixed, of_path = below or ("", "", {})
        known = {**of_path, **parameters.of_verb(verb, without=fixed)}

        def endpoint(*, request: Request, **given: Any) -> Response:
            filters = {each: given.get(each) for each in verb.filters}
            if fixed:
                filters[fixed] = [given[name]]
            return self._page(request, verb, filters, given)

        title = verb.name.replace("_", " ")
        summary = f"Read {title}" + (f" of a {name}" if name else "")
        tag = f"{name}s" if name else ("most read" if verb.name in COMMON else "other tables")
        self._add(path, summary, endpoint, known, openapi.of_verb(verb), verb.description, tag)

    def _page(self, request: Request, verb: Verb, filters: dict[str, Any], given: dict[str, Any]) -> Response:
        chosen = responses.format_of(request, given["format"])
        options = {name: given.get(name) for name in ("weeks", "as_of", "since", "columns")}
        selection = select(verb.name, filters, **options)
        reading = pages.prepared(self._client, selection, given["cursor"])
        etag = ""
        if reading.version is not None:
            of_rows = (reading.version, pages.digest(reading.selection), request.url.path, request.url.query)
            etag = responses.etag_of(_VERSION, chosen.name, *of_rows)
            if responses.is_known(request, etag):
                return self._not_modified(request, etag)
            if (kept := self._cache.get(etag)) is not None:
                return self._respond(request, kept, chosen, etag, "memory")
        limit = given["limit"] or (JSON_LIMIT if chosen.name == "json" else MAX_LIMIT)
        as_json = pages.as_json(self._client, text_decimals=given["decimals"] == "string")
        fetch = as_json if chosen.name == "json" else pages.as_frame(self._client)
        rows, cursor = pages.read(self._client, reading, limit, fetch)
        following = responses.next_path(request, cursor)
        body = (
            responses.of_json(rows, following) if chosen.name == "json" else responses.encoded(rows, chosen, following)
        )
        if etag:
            self._cache.put(etag, body)
        return self._respond(request, body, chosen, etag)

    def _add_rows(self, path: str, summary: str, read: Callable[..., pl.DataFrame], own: dict[str, Any]) -> None:
        """A path whose rows are all in one page."""
        known = {**own, **parameters.of_output()}

        def endpoint(*, request: Request, **given: Any) -> Response:
            chosen = responses.format_of(request, given["format"])
            frame = read(**{name: given[name] for name in own})
            if chosen.name == "json":
                body = responses.of_json(json_rows(frame, text_decimals=given["decimals"] == "string"), None)
            else:
                body = responses.encoded(frame, chosen, None)
            return self._respond(request, body, chosen)

        tag = "names"
        self._add(
            path,
            summary,
            endpoint,
            known,
            openapi.of_rows({"type": "object"}),
            (read.__doc__ or "").split("\n")[0],
            tag,
        )

    def _find(self, text: str, limit: int | None) -> pl.DataFrame:
        """Symbols and venues whose identifier or name contains a text, in any case."""
        return self._client.find(text, limit=limit or 20)

    def _respond(self, request: Request, body: Body, chosen: Any, etag: str = "", how: str = "database") -> Response:
        if not etag:
            etag = responses.etag_of(_VERSION, body.content, body.following)
            if responses.is_known(request, etag):
                return self._not_modified(request, etag)
        set_attributes(rows=body.rows, how=how)
        self._measures.count_rows(request.scope["route"].path, how, body.rows)
        return responses.response(request, body, chosen, etag)

    def _not_modified(self, request: Request, etag: str) -> Response:
        set_attributes(rows=0, how="not_modified")
        self._measures.count_rows(request.scope["route"].path, "not_modified", 0)
        return responses.not_modified(etag)

    def _add(
        self,
        path: str,
        summary: str,
        endpoint: Endpoint,
        known: dict[str, Any],
        answers: dict[int | str, dict[str, Any]],
        description: str,
        tag: str,
    ) -> None:
        def checked(*, request: Request, **given: Any) -> Response:
            parameters.check_known(request, known)
            with span(READ, path=path):
                return endpoint(request=request, **given)

        async def checked_at_once(*, request: Request) -> Response:
            parameters.check_known(request, known)
            response: Response = await endpoint(request=request)
            return response

        chosen: Any = checked_at_once if inspect.iscoroutinefunction(endpoint) else checked
        chosen.__signature__ = parameters.signature(known)
        self._app.add_api_route(
            path,
            chosen,
            methods=["GET"],
            summary=summary,
            description=description,
            tags=[tag],
            responses=answers,
            response_class=Response,
            response_model=None,
            operation_id=path.strip("/").replace("/", "_").replace("{", "").replace("}", ""),
        )

    # --- descriptions ----------------------------------------------------------------------------------

    def _add_descriptions(self) -> None:
        content = {"application/json": {"schema": {"type": "object"}}}
        answers = {200: {"description": "The description.", "content": content}, **openapi.problems()}

        def tables() -> Response:
            return JSONResponse({"data": [_described(verb) for verb in VERBS.values()]})

        def table(table: str) -> Response:
            if table not in VERBS:
                near = suggestions(f"/v1/tables/{table}")
                remedy = f"Use {' or '.join(near)}." if near else f"There are {', '.join(VERBS)}."
                raise Problem("not-found", f"there is no table {table!a}", remedy=remedy, suggestions=near)
            columns = [
                {"name": name, "type": str(kind), **asdict(VERBS[table].table.note(name))}
                for name, kind in VERBS[table].table.schema.items()
            ]
            return JSONResponse({**_described(VERBS[table]), "columns": columns})

        def index() -> Response:
            links = {"tables": "/v1/tables", "openapi": "/openapi.json", "health": "/health", "metrics": "/metrics"}
            return JSONResponse({"name": self._app.title, "version": _VERSION, **links})

        async def health(*, request: Request) -> Response:  # noqa: ARG001 - not in a thread of the application
            # While the database does not answer, all requests wait for the same question: each of its own would cost a
            # thread until the database answers.
            if self._asked is None or self._asked.done():
                self._asked = self._prober.submit(self._is_healthy)
            done, _ = await asyncio.wait([asyncio.wrap_future(self._asked)], timeout=_PROBE_SECONDS)
            if not any(question.result() for question in done):
                raise Problem("unavailable", "the database does not respond", headers={"Retry-After": "10"})
            return JSONResponse({"status": "ok"})

        def metrics() -> Response:
            return Response(self._measures.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

        plain = {
            **answers,
            200: {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        }
        one = {"table": parameters.of_path("table", "The name of a table.", "summary")["table"]}
        for path, summary, endpoint, known, described in (
            ("/", "The paths to start with", index, {}, answers),
            ("/v1/tables", "What can be read", tables, {}, answers),
            ("/v1/tables/{table}", "The columns of a table, with their meaning and unit", table, one, answers),
            ("/metrics", "Metrics for Prometheus", metrics, {}, plain),
        ):
            self._add(
                path, summary, lambda *, request, f=endpoint, **given: f(**given), known, described, "", "descriptions"
            )
        self._add("/health", "Whether the database responds; needs no key", health, {}, answers, "", "descriptions")

    def _is_healthy(self) -> bool:
        """Whether the database answers, asked at most once in a while, because no key is needed to ask."""
        if time.monotonic() - self._healthy[0] >= _HEALTH_SECONDS:
            try:
                self._probe.sql("SELECT 1 AS one")
                answered = True
            except ClientError:
                answered = False
            self._healthy = time.monotonic(), answered
        return self._healthy[1]


def _described(verb: Verb) -> dict[str, Any]:
    return {
        "name": verb.name,
        "path": f"/v1/{verb.name}",
        "description": verb.description,
        "filters": list(verb.filters),
        "order": list(verb.order),
        "as_of": verb.has_history,
        "formats": list(FORMATS),
    }
