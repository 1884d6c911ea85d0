"""What OpenBB Workspace reads of a back end: its widgets and an app of them, derived from the verbs.

A widget is a table on a path of the API; ``data`` of the response has its rows.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from otc_assets.api.parameters import WEEKS_TEXT
from otc_assets.client.verbs import ALL_TIERS, COMMON, FILTERS, HAVE_ALL_TIERS, VERBS, Verb
from otc_assets.domain.weeks import TIERS

_ROWS = 500
_WIDTH, _HEIGHT = 40, 14
#: What a widget shows at first, so that it has rows on every installation.
_FIRST = {"weeks": "last 12"}


def _parameter(name: str, verb: Verb) -> dict[str, Any]:
    described = FILTERS[name]
    choices = [tier.id for tier in TIERS] if name == "tiers" else list(map(str, described.choices))
    if name == "tiers" and verb.table.name in HAVE_ALL_TIERS:
        choices.append(ALL_TIERS)
    own: dict[str, Any] = {"type": "text", "value": None}  # not sent unless it is chosen
    if choices:
        own |= {"options": [{"label": choice, "value": choice} for choice in choices], "multiSelect": True}
    label = name.replace("_", " ").capitalize()
    return {"paramName": name, "label": label, "description": described.description, "optional": True, **own}


def _column(verb: Verb, name: str) -> dict[str, Any]:
    kind = verb.table.schema[name]
    number = isinstance(kind, pl.Decimal) or kind == pl.Int64
    cell = "number" if number else "dateString" if kind == pl.Date else "boolean" if kind == pl.Boolean else "text"
    own = {"pinned": "left"} if name in ("week_ending", "symbol", "venue_id") else {}
    header = name.replace("_", " ").capitalize()
    return {
        "field": name,
        "headerName": header,
        "headerTooltip": str(verb.table.note(name)),
        "cellDataType": cell,
        **own,
    }


def _widget(verb: Verb) -> dict[str, Any]:
    weeks = {"type": "text", "value": _FIRST["weeks"], "description": WEEKS_TEXT, "label": "Weeks"}
    rows = {"type": "number", "value": _ROWS, "description": "The largest number of rows.", "label": "Rows"}
    return {
        "name": verb.name.replace("_", " ").capitalize(),
        "description": verb.description,
        "category": "OTC transparency",
        "subCategory": "Most read" if verb.name in COMMON else "Other tables",
        "type": "table",
        "endpoint": f"v1/{verb.name}",
        "gridData": {"w": _WIDTH, "h": _HEIGHT},
        "source": ["FINRA"],
        "data": {
            "dataKey": "data",
            "table": {"showAll": True, "columnsDefs": [_column(verb, name) for name in verb.table.schema]},
        },
        "params": [
            *(_parameter(name, verb) for name in verb.filters),
            {"paramName": "weeks", **weeks},
            {"paramName": "limit", **rows},
        ],
    }


def widgets() -> dict[str, Any]:
    """``/widgets.json``: a table for each verb."""
    return {f"otc_{verb.name}": _widget(verb) for verb in VERBS.values()}


#: The tabs of the app, each with the verbs that it shows, from top to bottom.
_TABS = {
    "Symbols": ("summary", "venue_volume", "rolling", "concentration"),
    "Venues": ("shares", "venue_rolling", "market_concentration"),
    "Weeks": ("changes", "revisions", "coverage"),
}


def apps() -> list[dict[str, Any]]:
    """``/apps.json``: one app, whose symbol is the same in each widget of a tab."""
    tabs = {}
    for name, verbs in _TABS.items():
        groups = {"groups": ["Symbol"]} if name == "Symbols" else {}
        layout = [
            {"i": f"otc_{verb}", "x": 0, "y": number * _HEIGHT, "w": _WIDTH, "h": _HEIGHT, **groups}
            for number, verb in enumerate(verbs)
        ]
        tabs[name.lower()] = {"id": name.lower(), "name": name, "layout": layout}
    of_symbol = [f"otc_{verb}" for verb in _TABS["Symbols"]]
    shared = [
        {"name": "Symbol", "type": "param", "paramName": "symbols", "widgetIds": of_symbol, "defaultValue": "AAPL"}
    ]
    return [
        {
            "name": "OTC transparency",
            "description": "FINRA's weekly volume of each stock at each dark pool and firm.",
            "img": "",
            "allowCustomization": True,
            "tabs": tabs,
            "groups": shared,
            "prompts": ["Which venues gained the largest share of this symbol in the last twelve weeks?"],
        }
    ]


def install(app: FastAPI) -> None:
    """Adds both paths; the description of the API leaves them out."""

    def widgets_json(request: Request) -> JSONResponse:  # noqa: ARG001 - FastAPI's interface
        return JSONResponse(widgets())

    def apps_json(request: Request) -> JSONResponse:  # noqa: ARG001
        return JSONResponse(apps())

    app.add_api_route("/widgets.json", widgets_json, include_in_schema=False)
    app.add_api_route("/apps.json", apps_json, include_in_schema=False)
