"""The parameters of the paths, derived from the client's filters: their types, texts and examples."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from pydantic import BeforeValidator, StringConstraints

from otc_assets.api import forms
from otc_assets.api.formats import FORMATS
from otc_assets.api.problems import Problem
from otc_assets.client.verbs import ALL_TIERS, FILTERS, HAVE_ALL_TIERS, SINCE_TEXT, Verb
from otc_assets.domain.weeks import TIERS

#: Rows of a page, and those of a page of JSON without ``limit``. A page is in memory as a whole, in several forms.
MAX_LIMIT, JSON_LIMIT = 10_000, 1_000

_EXAMPLES = {"symbols": "AAPL", "venues": "UBSA", "tiers": "T1", "venue_kinds": "ATS", "scopes": "ALL", "kinds": "rank"}


def _separated(value: Any) -> Any:
    """Values that are separated by commas are several, as those of repeated parameters are."""
    if not isinstance(value, list):
        return value
    return [part for text in value for part in (text.split(",") if isinstance(text, str) else [text])]


def _moment(value: Any) -> Any:
    """A plus sign that was not percent-encoded arrives as a space."""
    return re.sub(r" (?=\d\d:\d\d$)", "+", value) if isinstance(value, str) else value


_NAME = StringConstraints(min_length=1, max_length=100, pattern=forms.NAMES)
_ONE_NAME = StringConstraints(min_length=1, max_length=100, pattern=forms.ONE_NAMES)


def _several(kind: Any, description: str, example: str, schema: dict[str, Any] | None = None) -> Any:
    return Annotated[
        list[kind] | None,
        BeforeValidator(_separated),
        Query(description=description, examples=[[example]], max_length=200, json_schema_extra=schema),
    ]


def _filter(name: str, verb: Verb) -> Any:
    each = FILTERS[name]
    text = f"{each.description[0].upper()}{each.description[1:]}. Separated by commas, or repeated."
    if name in verb.defaults:
        text += f" Default: {', '.join(verb.defaults[name])}."
    if name == "tiers":
        names = [spelling for tier in TIERS for spelling in (tier.id, tier.name)]
        alone = [ALL_TIERS] if verb.table.name in HAVE_ALL_TIERS or "kind" in verb.table.schema else []
        schema = {"anyOf": [_array(names), *([_array(alone)] if alone else []), {"type": "null"}]}
        return _several(Literal[(*names, *alone)], text, _EXAMPLES[name], schema)
    kind = Literal[tuple(map(str, each.choices))] if each.choices else Annotated[str, _NAME]
    return _several(kind, text, str(each.choices[0]) if each.choices else _EXAMPLES[name])


def _array(choices: list[str]) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", "enum": choices}, "minItems": 1, "maxItems": 200}


WEEKS_TEXT = (
    "Weeks, by any of their days: 2026-08-21; a range, 2026-08-07..2026-08-28, either end may be missing; 'last 12'; "
    "'newest'. Separated by commas, or repeated. Default: all weeks."
)
AS_OF_TEXT = "A moment with a time zone: the rows as they were known then."


def of_output() -> dict[str, Any]:
    """The parameters of every path that returns rows."""
    return {
        "format": Annotated[
            Literal[tuple(FORMATS)] | None,
            Query(description="The format of the rows. Default: by the header Accept; JSON.", examples=["csv"]),
        ],
        "decimals": Annotated[
            Literal["number", "string"],
            Query(
                description="Decimals in JSON: numbers with all their digits, which a reader that uses doubles rounds "
                "to about 15; or strings."
            ),
        ],
    }


def of_verb(verb: Verb, without: str = "") -> dict[str, Any]:
    """The parameters of a verb, by name.

    Args:
        verb: the verb.
        without: a filter that the path has.
    """
    columns = list(verb.table.schema)
    parameters = {name: _filter(name, verb) for name in verb.filters if name != without}
    parameters["weeks"] = _several(Annotated[str, StringConstraints(pattern=forms.WEEKS)], WEEKS_TEXT, "last 12")
    moment = StringConstraints(pattern=forms.MOMENT)
    example = ["2026-09-30T18:00:00-04:00"]
    if verb.has_history:
        parameters["as_of"] = Annotated[
            Annotated[str, moment] | None, BeforeValidator(_moment), Query(description=AS_OF_TEXT, examples=example)
        ]
    if "known_to" in verb.table.schema:
        day_or_moment = StringConstraints(pattern=forms.DAY_OR_MOMENT)
        parameters["since"] = Annotated[
            Annotated[str, day_or_moment] | None,
            BeforeValidator(_moment),
            Query(description=SINCE_TEXT, examples=["2026-09-30"]),
        ]
    parameters["columns"] = _several(Literal[tuple(columns)], "Only these columns.", columns[0])
    text = f"The largest number of rows of a page. Default: {JSON_LIMIT} in JSON, {MAX_LIMIT} in other formats."
    parameters["limit"] = Annotated[int | None, Query(description=text, ge=1, le=MAX_LIMIT)]
    parameters["cursor"] = Annotated[
        str | None, Query(description="Where a page continues: part of the link to it.", max_length=4_000)
    ]
    return parameters | of_output()


def of_path(name: str, description: str, example: str) -> dict[str, Any]:
    """The parameter of a path that names a symbol or venue."""
    return {name: Annotated[str, _ONE_NAME, Path(description=description, examples=[example])]}


#: Of the path that finds names.
FIND = {
    "text": Annotated[
        str, _ONE_NAME, Query(description="A part of a symbol, MPID, CRD number or name.", examples=["citadel"])
    ],
    "limit": Annotated[int | None, Query(description="The largest number of rows. Default: 20.", ge=1, le=1_000)],
}

_REQUIRED = frozenset({"symbol", "venue", "table", "text"})
_DEFAULTS = {"decimals": "number"}


def signature(parameters: dict[str, Any]) -> inspect.Signature:
    """The signature of an endpoint, as FastAPI reads it: the request, and the parameters."""
    given = [inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)]
    for name, annotation in parameters.items():
        default = inspect.Parameter.empty if name in _REQUIRED else _DEFAULTS.get(name)
        given.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    return inspect.Signature(given)


def check_known(request: Request, parameters: dict[str, Any]) -> None:
    """Refuses parameters that the path does not have: a misspelled filter would select everything.

    Raises:
        Problem: there is one.
    """
    if unknown := sorted(set(request.query_params) - set(parameters)):
        known = [name for name in parameters if name not in request.path_params]
        raise Problem(
            "invalid-request",
            f"there is no parameter {', '.join(unknown)[:100]!a}",
            remedy=f"There are {', '.join(known) or 'none'}.",
        )
