"""The description of the API: responses with their schemas and examples, derived from the columns of the verbs."""

from __future__ import annotations

from typing import Any

import polars as pl
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from otc_assets.api.formats import FORMATS
from otc_assets.api.problems import KINDS, MEDIA_TYPE
from otc_assets.client.verbs import Verb

_PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "enum": [f"urn:otc-assets:{kind}" for kind in KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "instance": {"type": "string", "description": "The path of the request."},
        "remedy": {"type": "string", "description": "What to do; also at the end of `detail`."},
        "suggestions": {"type": "array", "items": {"type": "string"}, "description": "Names that are near."},
    },
}

#: Values for examples, by column; of others a value of the type.
_EXAMPLES: dict[str, Any] = {
    "week_ending": "2026-08-21",
    "tier": "NMS Tier 1",
    "tiers": "NMS Tier 1, NMS Tier 2, OTC",
    "symbol": "AAPL",
    "issue_name": "Apple Inc. Common Stock",
    "product_type": "CS",
    "venue_kind": "ATS",
    "venue_id": "UBSA",
    "mpid": "UBSA",
    "venue_name": "UBSA UBS ATS",
    "venue_scope": "ALL",
    "top_venue": "UBSA",
    "grade": "A",
    "worst_grade": "A",
    "score": 100,
    "rank": 1,
    "trend": "up",
    "concentration_level": "competitive",
}


def _value(name: str, kind: pl.DataType) -> Any:
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    if isinstance(kind, pl.Decimal):
        return 12.345678 if name.endswith("_pct") else 1234567
    if kind == pl.Int64:
        return 42
    if kind == pl.Boolean:
        return True
    if kind == pl.Date:
        return "2026-08-21"
    return "2026-09-09T13:00:00+00:00" if isinstance(kind, pl.Datetime) else "text"


def _type(kind: pl.DataType) -> dict[str, Any]:
    if isinstance(kind, pl.Decimal):
        return {"type": ["number", "string", "null"]}
    if kind == pl.Int64:
        return {"type": ["integer", "null"]}
    if kind == pl.Boolean:
        return {"type": ["boolean", "null"]}
    if kind == pl.Date:
        return {"type": ["string", "null"], "format": "date"}
    return {"type": ["string", "null"], **({"format": "date-time"} if isinstance(kind, pl.Datetime) else {})}


def _column(verb: Verb, name: str) -> dict[str, Any]:
    return {**_type(verb.table.schema[name]), "description": str(verb.table.note(name))}


def row_schema(verb: Verb) -> dict[str, Any]:
    """The schema of a row of a verb, all of whose columns may be left out."""
    return {"type": "object", "properties": {name: _column(verb, name) for name in verb.table.schema}}


def of_rows(row: dict[str, Any], example: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """The responses of a path that returns rows."""
    body: dict[str, Any] = {
        "schema": {
            "type": "object",
            "required": ["data", "rows", "next"],
            "properties": {
                "data": {"type": "array", "items": row},
                "rows": {"type": "integer", "description": "The number of rows of this page."},
                "next": {"type": ["string", "null"], "description": "The path of the next page."},
            },
        }
    }
    if example is not None:
        body["example"] = {"data": [example], "rows": 1, "next": "/v1/...?limit=1&cursor=..."}
    content = {"application/json": body}
    for each in FORMATS.values():
        binary = {"type": "string", "format": "binary"}
        content.setdefault(each.media_type, {"schema": {"type": "string"} if each.name == "csv" else binary})
    headers = {
        "ETag": {"description": "Changes when the rows do.", "schema": {"type": "string"}},
        "Link": {"description": 'The next page, rel="next".', "schema": {"type": "string"}},
    }
    not_modified = {"description": "The rows are those of the ETag in If-None-Match."}
    return {200: {"description": "The rows.", "content": content, "headers": headers}, 304: not_modified, **problems()}


def of_verb(verb: Verb) -> dict[int | str, dict[str, Any]]:
    """The responses of a verb's path."""
    return of_rows(row_schema(verb), {name: _value(name, kind) for name, kind in verb.table.schema.items()})


def problems() -> dict[int | str, dict[str, Any]]:
    """The responses that describe a problem, by status."""
    texts: dict[int, list[str]] = {}
    for kind, (status, text) in KINDS.items():
        texts.setdefault(status, []).append(f"`{kind}`: {text}.")
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": " ".join(lines), "content": content} for status, lines in texts.items()}


def install(app: FastAPI, *, with_keys: bool) -> None:
    """Has the application describe itself with our problems, and with keys if it needs them."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
            )
            components = found.setdefault("components", {})
            components["schemas"] = {"Problem": _PROBLEM}
            if with_keys:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                found["security"] = [{"key": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
