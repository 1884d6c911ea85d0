"""The protocol of a source of publications, and the values that it returns. The sources are in modules of their own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from otc_assets.content import Content, Spool
from otc_assets.domain.datasets import Dataset
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.weeks import Tier
from otc_assets.errors import OtcError

#: Called with the number of rows received so far, and the number expected.
Progress = Callable[[int, int], None]

#: Makes a spool: a publication is written into it page by page, as it comes.
MakeSpool = Callable[[], Spool]


class SourceError(OtcError):
    """A source could not answer. The message says what and where."""


class PermanentSourceError(SourceError):
    """A failure that a repetition can't repair: wrong credentials, a refused request, an unreadable file."""


class RefusedReply(PermanentSourceError):
    """A reply that is too large for a publication.

    Attributes:
        origin: where it came from.
    """

    def __init__(self, origin: str, problem: str) -> None:
        super().__init__(f"{origin}: {problem}", remedy="Check OTC_FINRA_URL.")
        self.origin = origin


@dataclass(frozen=True)
class Capture:
    """The bytes of one publication, or of a part of it, as they were received.

    Attributes:
        content: what FINRA sent, unchanged (pages of the API joined, with one header line).
        scope: what part of the publication it is.
        origin: where it came from, for people: the endpoint, or the file's name.
        rows_expected: how many rows FINRA says there are (``Record-Total``); None if it does not say.
        summary_type: the ``summaryTypeCode`` of all rows, stated by the caller for a file that has no such column.
    """

    week_ending: dt.date
    tier: Tier
    scope: CaptureScope
    content: Content
    origin: str
    rows_expected: int | None = None
    summary_type: str | None = None


@dataclass(frozen=True)
class PublicationState:
    """What FINRA states about a publication without sending it: enough to see whether it changed."""

    rows: int
    last_update_date: dt.date | None

    def fingerprint(self) -> str:
        """The state as a short text, for run keys and comparisons."""
        return f"{self.rows}@{self.last_update_date or '-'}"


class Source(Protocol):
    """Where publications come from."""

    def offered(self) -> set[tuple[Tier, dt.date]]:
        """Every (tier, week_ending) that can be fetched now."""
        ...

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        """The current state, by one cheap request; None if there is no such publication."""
        ...

    def fetch(
        self, week_ending: dt.date, tier: Tier, progress: Progress | None = None, *, spool: MakeSpool = Spool
    ) -> list[Capture]:
        """The publication's captures: one from the API, one per half from files; empty if there is no data.

        Args:
            week_ending, tier: the publication.
            progress: called while its rows come.
            spool: makes the spools of what comes page by page; by default, in the folder for temporary files.

        Raises:
            PermanentSourceError: a repetition can't help.
            SourceError: a repetition may help.
        """
        ...


@dataclass(frozen=True)
class DatasetCapture:
    """The bytes of one period of a data set, as they were received.

    Attributes:
        content: what FINRA sent (pages joined, with one header line).
        origin: where it came from.
        rows_expected: how many rows FINRA says there are (``Record-Total``).
    """

    dataset: Dataset
    period: dt.date
    content: Content
    origin: str
    rows_expected: int


@runtime_checkable
class DatasetSource(Protocol):
    """A source that also has FINRA's neighbouring data sets."""

    def offered_periods(self, dataset: Dataset) -> set[dt.date]:
        """Every period of the data set that can be fetched now."""
        ...

    def fetch_period(self, dataset: Dataset, period: dt.date, *, spool: MakeSpool = Spool) -> DatasetCapture | None:
        """All rows of a period; None if there are none.

        Raises:
            PermanentSourceError: a repetition can't help.
            SourceError: a repetition may help.
        """
        ...
