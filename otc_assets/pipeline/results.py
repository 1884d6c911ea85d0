"""What computing or capturing a week returns, and the error that refuses a week."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otc_assets.errors import OtcError


class WeekRefused(OtcError):
    """A week can't be captured or computed, and trying again will not help. The message says why and what to do."""


class Markdown(str):
    """A detail that is shown as Markdown."""

    __slots__ = ()


class Link(str):
    """A detail that is the address of a page."""

    __slots__ = ()


@dataclass(frozen=True)
class WeekResult:
    """The outcome of one week.

    Attributes:
        rows: the number of rows that the week now has.
        version: identifies what it was computed from, or what was captured.
        details: what else to show, by label; a frame is shown as a table.
    """

    rows: int
    version: str
    details: Mapping[str, object] = field(default_factory=dict)


#: What is shown of a captured week, and of a computed one, that needed no work.
CAPTURED_BEFORE: Mapping[str, object] = {"state": "captured by an earlier attempt of this run"}
UP_TO_DATE: Mapping[str, object] = {"state": "up to date: not computed again"}
