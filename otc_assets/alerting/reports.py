"""Announces the report of a newly published week: an alert in the outbox, once per week, recorded with the report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import cast

import sqlalchemy as sa

from otc_assets.alerting.delivery import QUIET
from otc_assets.domain.enums import AlertKind, Severity
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.weeks import T1, due_at
from otc_assets.pipeline.report import Announce
from otc_assets.settings import Settings
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse import events
from otc_assets.warehouse.alerts import NewAlert

#: For so long after its first publication a week is new; the reports of a backfill are not announced.
_NEW_FOR = dt.timedelta(days=7)


def announcer(chosen: Settings, now: dt.datetime) -> Announce:
    """What announces a report when it is recorded, if OTC_REPORT_URL is set.

    Args:
        chosen: the settings.
        now: the present time, with a time zone.
    """

    def announce(connection: sa.Connection, event: events.Event, sentences: Sequence[str]) -> None:
        written = cast(events.ReportWritten, event.typed_payload())
        week = written.week_ending
        link, age = chosen.report_link(week), now - due_at(week, T1)
        if link is None or not written.is_first or not dt.timedelta(0) <= age < _NEW_FOR:
            return
        alert = NewAlert(
            kind=AlertKind.REPORT,
            subject=f"{WEEKLY_REPORT.name} {week}",
            severity=Severity.WARN,
            week_ending=week,
            title=f"the report of the week ending {week} is available",
            body="\n".join([link, *sentences]),
            run_id=event.metadata.get("run_id"),
            event_id=event.id,
            happened_at=event.created_at,
        )
        outbox.lock_outbox(connection)
        outbox.record(connection, alert, now=now.astimezone(dt.UTC), quiet=QUIET)

    return announce
