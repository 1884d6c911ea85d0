"""Errors as problem details (RFC 9457): the client's errors, FastAPI's, and our own, with their HTTP status.

Nothing of the database or of its address is in them: that is in the log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from otc_assets.api.forms import FORMS
from otc_assets.api.paths import suggestions
from otc_assets.archive.store import ArchiveUnavailable
from otc_assets.client import InvalidQuery, NoRows, NotFinal, TimedOut, UnknownName, Unreachable
from otc_assets.errors import OtcError
from otc_assets.settings import without_secrets

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger(__name__)


class Problem(OtcError):
    """An error of this API.

    Args:
        kind: the last part of the problem's type: a key of ``KINDS``, which has its status.
        message: what is wrong.
        remedy: what to do.
        headers: of the response.
        suggestions: names that are near one that does not exist.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
        suggestions: Sequence[str] = (),
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.kind, self.status, self.headers = kind, KINDS[kind][0], dict(headers or {})
        self.suggestions = list(suggestions)


#: The kinds of problems, each with its status: the client's errors by class, and ours.
KINDS = {
    "invalid-request": (400, "a parameter is unknown, or does not have the form of its description"),
    "no-key": (401, "there is no valid API key in the request"),
    "forbidden": (403, "the Host header is not a name of this server"),
    "not-found": (404, "there is no such path"),
    "unknown-name": (404, "no loaded week has such a symbol or venue; `suggestions` has near ones"),
    "no-rows": (404, "the weeks are not loaded; the text says why"),
    "method-not-allowed": (405, "this API only reads: GET and HEAD"),
    "not-acceptable": (406, "there is no format among those of the Accept header"),
    "not-final": (409, "an answer as of the moment could still change, because a load is under way"),
    "rows-changed": (
        409,
        "the weeks were loaded again since the first page, and as of no moment are its rows certain",
    ),
    "invalid-query": (422, "the parameters have the right form, but not together, or name no week"),
    "rate-limited": (429, "too many requests; Retry-After says when the next one is accepted"),
    "internal-error": (500, "a bug, or an error of the database; the log of the server has it"),
    "busy": (503, "too many requests at a time, of all callers together; Retry-After says when to try again"),
    "unavailable": (503, "the database or the archive does not respond"),
    "timed-out": (504, "the database stopped the statement after its time-out"),
}


def translated(error: OtcError) -> Problem:
    """The problem that an error of the client or of the archive is."""
    if isinstance(error, Problem):
        return error
    text = str(error).removesuffix(error.remedy).rstrip().removesuffix(".")
    if isinstance(error, UnknownName):
        return Problem("unknown-name", text, remedy=error.remedy, suggestions=error.suggestions)
    if isinstance(error, NoRows):
        return Problem("no-rows", text, remedy=error.remedy)
    if isinstance(error, NotFinal):
        return Problem("not-final", text, remedy=error.remedy, headers={"Retry-After": "5"})
    if isinstance(error, InvalidQuery):
        return Problem("invalid-query", text, remedy=error.remedy)
    if isinstance(error, TimedOut):
        remedy = "Ask for fewer weeks or symbols, or for a smaller page."
        return Problem("timed-out", "the database stopped the statement after its time-out", remedy=remedy)
    log.error("%s", without_secrets(str(error)))
    if isinstance(error, Unreachable | ArchiveUnavailable):
        what = "the database" if isinstance(error, Unreachable) else "the archive"
        remedy = "Try again later; the log of the server has the reason."
        return Problem("unavailable", f"{what} does not respond", remedy=remedy, headers={"Retry-After": "10"})
    return _INTERNAL


_INTERNAL = Problem("internal-error", "the request failed", remedy="The log of the server has the reason.")


def invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The problem of parameters that FastAPI refused: of each, its value, and in words what it can be."""
    texts, remedies = [], []
    for each in errors[:_MOST]:
        name = str(each["loc"][1])
        kind, context = each["type"], each.get("ctx", {})
        if kind == "missing":
            texts.append(f"{name} is missing")
            continue
        count = context.get("actual_length") if kind == "too_long" else None
        texts.append(f"{name} has {count} values" if count else f"{name} can't be {ascii(each['input'])[:100]}")
        remedies.append(f"{name}: {_WORDS[kind](context)}" if kind in _WORDS else f"{name}: {each['msg']}.")
    remedy = " ".join(dict.fromkeys(remedies))
    return Problem("invalid-request", "; ".join(texts), remedy=remedy or "/openapi.json describes the parameters.")


#: By type of Pydantic's error, what is valid, from the values that the error has.
_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "string_pattern_mismatch": lambda known: FORMS[known["pattern"]],
    "literal_error": lambda known: f"It can be {known['expected']}.",
    "int_parsing": lambda _: "Write a whole number.",
    "greater_than_equal": lambda known: f"Write a number of at least {known['ge']:,}.",
    "less_than_equal": lambda known: f"Write a number of at most {known['le']:,}.",
    "string_too_short": lambda known: f"Write at least {known['min_length']} character.",
    "string_too_long": lambda known: f"Write at most {known['max_length']:,} characters.",
    "too_long": lambda known: f"Write at most {known['max_length']} values.",
}
_MOST = 5


def rendered(problem: Problem, path: str) -> Response:
    """The response that describes a problem."""
    body: dict[str, Any] = {
        "type": f"urn:otc-assets:{problem.kind}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": str(problem),
        "instance": path,
    }
    if problem.remedy:
        body["remedy"] = problem.remedy
    if problem.suggestions:
        body["suggestions"] = problem.suggestions
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(json.dumps(body) + "\n", problem.status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Has every error of the application answered as a problem."""

    def of_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, OtcError)
        return rendered(translated(error), request.url.path)

    def of_parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return rendered(invalid(error.errors()), request.url.path)

    def of_routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "invalid-request")
        near = suggestions(request.url.path) if kind == "not-found" else []
        remedy = f"Use {' or '.join(near)}." if near else ""
        if kind == "not-found" and not near:
            remedy = "/v1/tables lists what can be read, /openapi.json every path."
        problem = Problem(kind, KINDS[kind][1], remedy=remedy, headers=error.headers, suggestions=near)
        return rendered(problem, request.url.path)

    def of_bugs(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette raises it again, and edge logs it
        return rendered(_INTERNAL, request.url.path)

    app.add_exception_handler(Exception, of_bugs)
    app.add_exception_handler(OtcError, of_ours)
    app.add_exception_handler(RequestValidationError, of_parameters)
    app.add_exception_handler(HTTPException, of_routing)
