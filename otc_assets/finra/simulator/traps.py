"""Faults that the simulated Query API commits on request.

This module holds their names, their meaning and how they are written. What a fault does to a reply is in ``server``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from otc_assets.errors import OtcError


class InvalidTrap(OtcError, ValueError):
    """A trap that is unknown, or whose value is not of its kind."""


def _every(meaning: str) -> Any:
    return field(default=0, metadata={"meaning": f"every N-th request: {meaning}"})


def _value(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Traps:
    """Which faults happen, and how often. The metadata of each field describes it; ``--help`` shows it."""

    too_many_requests: int = _every("429 with Retry-After")
    server_errors: int = _every("504")
    internal_errors: int = _every("500")
    truncated: int = _every("the reply ends within a row")
    moving_total: int = _every("Record-Total is one more than before")
    huge_total: int = _every("Record-Total is 999,999,999,999")
    html: int = _every("200 with a page of HTML")
    empty: int = _every("200 with an empty body")
    redirect: int = _every("302 to a login page")
    wrong_gzip: int = _every("Content-Encoding is gzip, and the body is not")
    truncated_gzip: int = _every("the body is gzip, and ends half-way")
    changed_schema: int = _every("the column totalWeeklyShareQuantity has another name")
    reset: int = _every("the connection is reset within the body")
    stall: int = _every("the body stops half-way, and the connection stays open for stall_seconds")
    slow: int = _every("the body is sent in small pieces, over slow_seconds")
    trickle: int = _every("the body is sent byte by byte, one a second")
    repeated: int = _every("the rows are those of the first page")
    halved: int = _every("the page has half as many rows as it could have")
    stall_seconds: float = _value(600.0, "how long a stalled connection stays open")
    slow_seconds: float = _value(30.0, "how long a slow body takes")
    latency_seconds: float = _value(0.0, "how long each reply takes to begin")
    last_fault: int = _value(0, "the number of the request after which no such fault happens; 0 if they do not end")
    short_pages: int = _value(0, "rows that a page has at most; 0 for FINRA's own limit")
    needs_token: bool = _value(False, "true: requests without an access token get 401")
    empty_as_list: bool = _value(False, "true: no data is `200 []`, as in 2021 and 2022, and not 204")
    retry_after: str = _value("0", "the value of Retry-After; with no value, there is no such header")


NO_TRAPS = Traps()


def describe() -> str:
    """All traps, one paragraph each: name, default and meaning. Only requests for rows are counted."""
    return "\n\n".join(f"{one.name}={_written(one.default)}: {one.metadata['meaning']}" for one in fields(Traps))


def parse(settings: Iterable[str]) -> Traps:
    """The traps that are written as ``name=value``. If a name is repeated, its last value is used.

    Raises:
        InvalidTrap: a name is unknown, or a value is not of its kind.
    """
    known = {one.name: one.default for one in fields(Traps)}
    chosen: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if name not in known:
            raise InvalidTrap(f"unknown trap {name!r}", remedy=f"The traps are: {', '.join(known)}")
        if not equals:
            raise InvalidTrap(
                f"trap {name} has no value", remedy=f"Write {name}=VALUE; the default is {_written(known[name])}"
            )
        chosen[name] = _read(name, text, known[name])
    return Traps(**chosen)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _read(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise InvalidTrap(f"trap {name} is true or false, not {text!r}")
        return text.lower() == "true"
    if isinstance(default, int):
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InvalidTrap(f"trap {name} is a whole number, 0 or more, not {text!r}")
        return int(text)
    if isinstance(default, float):
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= 86_400:
            raise InvalidTrap(f"trap {name} is a number of seconds from 0 to 86400, not {text!r}")
        return seconds
    if not text.isprintable():
        raise InvalidTrap(f"trap {name} must be printable, not {text!r}")
    return text
