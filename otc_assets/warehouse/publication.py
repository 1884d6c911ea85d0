"""The fields of a publication, each declared once: of a capture to record, a stored row, and the event.

The statements that write and read publications derive their columns from these classes; they are in ``load`` and
``read``.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from otc_assets.warehouse.fields import Count, TierName


class PublicationFields(BaseModel):
    """The fields that the event of a recorded capture has, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    week_ending: dt.date
    tier: TierName
    scope: str
    digest: str
    origin: str
    layout: str
    bytes: Count
    rows_received: Count
    rows_accepted: Count
    rows_rejected: Count
    rows_expected: Count | None = None
    complete: bool
    summary_type: str | None = None


class NewPublication(PublicationFields):
    """A capture to record. Its fields are columns of ``otc.publication``."""

    initial_published_date: dt.date | None
    last_update_date: dt.date | None
    run_id: str | None
    ats_last_update_date: dt.date | None = None
    non_ats_last_update_date: dt.date | None = None
    quarantine_reason: str | None = None


class Publication(NewPublication):
    """A captured publication: a row of ``otc.publication``."""

    id: int
    revision: int
    captured_at: dt.datetime
    accepted_at: dt.datetime | None = None
    accepted_over: dt.date | None = None
    withdrawn_at: dt.datetime | None = None
    withdrawal_reason: str | None = None
    rows_in_use: int | None = None

    @property
    def quarantined(self) -> bool:
        """Whether it waits for an operator's decision."""
        return self.quarantine_reason is not None and self.accepted_at is None

    @property
    def withdrawn(self) -> bool:
        """Whether an operator has withdrawn it."""
        return self.withdrawn_at is not None


_COLUMNS = list(NewPublication.model_fields)
#: Inserts a capture as the next revision of its scope, and returns its ``id`` and ``revision``.
INSERT = sa.text(f"""
    INSERT INTO otc.publication ({", ".join(_COLUMNS)}, revision)
    VALUES ({", ".join(f":{name}" for name in _COLUMNS)}, (
        SELECT coalesce(max(revision), 0) + 1 FROM otc.publication
        WHERE week_ending = :week_ending AND tier = :tier AND scope = :scope))
    RETURNING id, revision
""")  # noqa: S608 - names of fields
