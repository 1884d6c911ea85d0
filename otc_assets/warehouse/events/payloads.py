"""What each event says: one class per event type, with its fields.

Appending and reading events is in ``store``; what an event changes in the projections is in ``otc.project_event``,
which the database calls itself.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, field_validator

from otc_assets.domain.tables import figures
from otc_assets.warehouse.fields import Count, Seconds, Shares, TierName, known, one_of
from otc_assets.warehouse.publication import PublicationFields

#: Every class of payloads, by its event type.
PAYLOADS: dict[str, type[Payload]] = {}


class Payload(BaseModel):
    """The fields of an event. A class whose fields change gets a new ``schema_version``: old events stay readable.

    Attributes:
        event_type: the stored name of the class.
        aggregate_type: the kind of thing whose versions are counted.
        schema_version: of the fields; stored as ``schema`` in the metadata.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: ClassVar[str]
    aggregate_type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "event_type" in vars(cls):
            PAYLOADS[cls.event_type] = cls

    @property
    def aggregate_id(self) -> str:
        """The week, file, gap, check or retention class that the event is about."""
        raise NotImplementedError


class _OfFile(Payload):
    aggregate_type: ClassVar[str] = "file"

    origin: str
    digest: str | None = None

    @property
    def aggregate_id(self) -> str:
        return self.digest or self.origin


class FileIngested(PublicationFields, Payload):
    """A publication was recorded: ``rows_expected`` is the number that FINRA stated, if it did.

    ``outcome`` is 'superseded' or 'quarantined' if the capture is not effective.
    """

    event_type: ClassVar[str] = "otc.file.ingested"
    aggregate_type: ClassVar[str] = "file"
    schema_version: ClassVar[int] = 2  # since 2 with summary_type

    publication_id: int
    revision: int
    outcome: Annotated[str, one_of("new", "revised", "superseded", "quarantined")]
    seconds: Seconds

    @property
    def aggregate_id(self) -> str:
        return self.digest


class _OfCapture(_OfFile):
    publication_id: int
    week_ending: dt.date
    tier: TierName
    scope: str


class CaptureQuarantined(_OfCapture):
    """A capture would remove a large part of the one before it, or was truncated: it is not effective."""

    event_type: ClassVar[str] = "otc.capture.quarantined"

    reason: str


class CaptureAccepted(_OfCapture):
    """An operator accepted a quarantined capture: it is effective from now on."""

    event_type: ClassVar[str] = "otc.capture.accepted"


class CaptureWithdrawn(_OfCapture):
    """An operator withdrew a capture, for ``reason``: it is no longer effective."""

    event_type: ClassVar[str] = "otc.capture.withdrawn"

    reason: str


class CaptureRestored(_OfCapture):
    """An operator revoked the withdrawal of a capture."""

    event_type: ClassVar[str] = "otc.capture.restored"


class CaptureRecounted(_OfCapture):
    """A rebuild applied the current rules to the archived bytes of a capture, and its counts of rows changed."""

    event_type: ClassVar[str] = "otc.capture.recounted"

    rows_received: Count
    rows_accepted: Count
    rows_rejected: Count
    rows_received_before: Count
    rows_accepted_before: Count
    rows_rejected_before: Count


class FileRejected(_OfFile):
    """A file or reply is not a publication, or its week can't be determined. ``reason`` is written for users."""

    event_type: ClassVar[str] = "otc.file.rejected"

    week_ending: dt.date | None = None
    tier: TierName | None = None
    reason: str


class DatasetCaptured(Payload):
    """A period of a data set was captured, and its rows replaced those that were there, unless none was accepted."""

    event_type: ClassVar[str] = "otc.dataset.captured"
    aggregate_type: ClassVar[str] = "dataset"

    capture_id: int
    dataset: str
    period: dt.date
    week_ending: dt.date
    digest: str
    origin: str
    bytes: Count
    rows_expected: Count
    rows_received: Count
    rows_accepted: Count
    rows_rejected: Count
    outcome: Annotated[str, one_of("new", "revised")]
    seconds: Seconds

    @property
    def aggregate_id(self) -> str:
        return f"{self.dataset} {self.period}"


class _OfWeek(Payload):
    aggregate_type: ClassVar[str] = "week"

    week_ending: dt.date
    version: str

    @property
    def aggregate_id(self) -> str:
        return self.week_ending.isoformat()


class WeekNormalized(_OfWeek):
    """The tier's week was loaded into venue volume, changed or not, from the captures of ``version``."""

    event_type: ClassVar[str] = "otc.week.normalized"

    tier: TierName
    rows: Count
    shares: Shares
    seconds: Seconds


class WeekRevised(_OfWeek):
    """Rows of the tier's week differ from those of an earlier load; the earlier rows are kept as a revision."""

    event_type: ClassVar[str] = "otc.week.revised"

    tier: TierName
    added: Count
    changed: Count
    removed: Count
    shares_before: Shares
    shares_after: Shares


class _OfFigure(_OfWeek):
    """A week of a figure was computed as ``version``; the table's entry in the registry has the event type."""

    table: str
    rows: Count
    seconds: Seconds

    @field_validator("table")
    @classmethod
    def _is_of_this_kind(cls, table: str) -> str:
        return known(table, [figure.name for figure in figures() if figure.event == cls.event_type])


class SummaryComputed(_OfFigure):
    """A summary of the week was computed."""

    event_type: ClassVar[str] = "otc.summary.computed"


class MetricsComputed(_OfFigure):
    """Six-week or concentration figures of the week were computed."""

    event_type: ClassVar[str] = "otc.metrics.computed"


class ReportWritten(_OfWeek):
    """The weekly report was made as ``version``: ``bytes`` of the page, ``is_first`` if the week had none before."""

    event_type: ClassVar[str] = "otc.report.written"

    bytes: Count
    is_first: bool
    seconds: Seconds


class TierGrade(BaseModel):
    """A tier's grade, and its score of 100."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grade: Annotated[str, one_of("A", "B", "C", "D", "F")]
    score: int


class WeekChecked(_OfWeek):
    """Venue volume of ``version`` was graded, tier by tier."""

    event_type: ClassVar[str] = "otc.week.checked"

    grades: dict[TierName, TierGrade]


class _OfGap(Payload):
    aggregate_type: ClassVar[str] = "gap"

    week_ending: dt.date
    tier: TierName
    status: str

    @property
    def aggregate_id(self) -> str:
        return f"{self.week_ending} {self.tier}"


class _ReportedGap(_OfGap):
    due: dt.date
    fetchable: bool
    rows_loaded: Count = 0
    rows_expected: Count | None = None
    detail: str


class GapOpened(_ReportedGap):
    """The gap report found a new gap, or one with another status than before."""

    event_type: ClassVar[str] = "otc.gap.opened"
    schema_version: ClassVar[int] = 2  # since 2 with rows_loaded and rows_expected


class GapChanged(_ReportedGap):
    """An open gap has the same status, but is reported differently: rows, availability or explanation changed."""

    event_type: ClassVar[str] = "otc.gap.changed"


class GapClosed(_OfGap):
    """A gap was closed or has another status now; ``status`` is the earlier one."""

    event_type: ClassVar[str] = "otc.gap.closed"


class _OfCheck(Payload):
    aggregate_type: ClassVar[str] = "check"

    week_ending: dt.date | None = None
    asset: str
    check: str

    @property
    def aggregate_id(self) -> str:
        name = f"{self.asset}.{self.check}"
        return f"{name} {self.week_ending}" if self.week_ending else name


class CheckFailed(_OfCheck):
    """A check of an asset failed, for a week if it is a weekly check; ``detail`` is shown on its page."""

    event_type: ClassVar[str] = "otc.check.failed"

    severity: Annotated[str, one_of("ERROR", "WARN")]
    blocking: bool
    detail: dict[str, str]


class CheckRecovered(_OfCheck):
    """A check passed, and its event before this one is that it failed."""

    event_type: ClassVar[str] = "otc.check.recovered"


class RetentionApplied(Payload):
    """Weeks before ``retained_from`` were deleted: ``weeks`` is their number, ``rows`` that of their rows if counted.

    ``otc.apply_retention`` appends it itself, because a job of the server may call that function.
    """

    event_type: ClassVar[str] = "otc.retention.applied"
    aggregate_type: ClassVar[str] = "retention"

    what: str
    retained_from: dt.date
    weeks: Count
    rows: Count | None = None

    @property
    def aggregate_id(self) -> str:
        return self.what
