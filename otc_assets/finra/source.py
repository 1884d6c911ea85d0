"""What every source of publications answers: which exist, whether one changed, and its bytes.

Here: the protocol and the values that cross it. Not here: any one source.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.weeks import Tier
from otc_assets.errors import OtcError

#: What part of a publication a capture is. FULL: every row that FINRA has for the (week, tier), totals too.
#: ATS, NON_ATS: the whole of that half, as the website's download files have it. PARTIAL: some rows.
FULL, ATS_HALF, NON_ATS_HALF, PARTIAL = CaptureScope

#: Told how many rows of how many have come so far.
Progress = Callable[[int, int], None]


class SourceError(OtcError):
    """A source could not answer. The message says what, where and what to do."""


class PermanentSourceError(SourceError):
    """Trying again can't help: wrong credentials, a refused request, an unreadable file."""


class RefusedReply(PermanentSourceError):
    """What a source sent is no publication, by its size alone.

    Attributes:
        origin: where it came from.
    """

    def __init__(self, origin: str, problem: str) -> None:
        super().__init__(f"{origin}: {problem}.")
        self.origin = origin


@dataclass(frozen=True)
class Capture:
    """The bytes of one publication, or of a part of it, as they came.

    Attributes:
        content: what FINRA sent, unchanged (pages of the API joined, with one header line).
        scope: FULL, ATS, NON_ATS or PARTIAL.
        origin: where from, for people: the endpoint, or the file's name.
        rows_expected: how many rows FINRA says there are (``Record-Total``); None where it says nothing.
        summary_type: the ``summaryTypeCode`` of all rows, told by whoever gave a file that has no such column.
    """

    week_ending: dt.date
    tier: Tier
    scope: str
    content: bytes
    origin: str
    rows_expected: int | None = None
    summary_type: str | None = None


@dataclass(frozen=True)
class PublicationState:
    """What FINRA says of a publication, without fetching it: enough to tell whether it changed."""

    rows: int
    last_update_date: dt.date | None

    def fingerprint(self) -> str:
        """The state in a word: in run keys, and beside a captured publication."""
        return f"{self.rows}@{self.last_update_date or '-'}"


class Source(Protocol):
    """Where publications come from."""

    def offered(self) -> set[tuple[Tier, dt.date]]:
        """Every (tier, week_ending) that can be fetched now."""
        ...

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        """What stands there now, by one cheap question; None where there is nothing."""
        ...

    def fetch(self, week_ending: dt.date, tier: Tier, progress: Progress | None = None) -> list[Capture]:
        """The publication's captures: one from the API, one a half from files; empty where there is no data.

        Raises:
            PermanentSourceError: trying again can't help.
            SourceError: it may.
        """
        ...
