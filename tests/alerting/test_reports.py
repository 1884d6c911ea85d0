"""Messages about new reports: alone with the page's link and sentences, after failures in a message of several."""

from __future__ import annotations

import datetime as dt

import pytest
from pydantic import ValidationError

from otc_assets.alerting.delivery import compose
from otc_assets.domain.enums import AlertKind
from otc_assets.settings import Settings
from otc_assets.warehouse.alerts import Alert

UI = "http://127.0.0.1:3000"
LINK = "https://reports.example.org/2026-08-21"
REPORT = Alert(
    id=1,
    severity="warn",
    title="the report of the week ending 2026-08-21 is available",
    body=f"{LINK}\nNMS Tier 1: 320,300 shares per trading day off exchange.",
    run_id="run-1",
    attempts=1,
    delivered_to=[],
    kind=AlertKind.REPORT,
)
FAILURE = Alert(
    id=2,
    severity="error",
    title="venue_volume.grade failed for week 2026-08-14",
    body="ERROR\ngrade: F",
    run_id="run-2",
    attempts=1,
    delivered_to=[],
)


def test_a_new_report_alone_is_a_message_that_is_no_warning_with_the_link_of_the_page() -> None:
    message = compose([REPORT], UI)
    assert message.title == "otc-assets: the report of the week ending 2026-08-21 is available"
    assert message.body == f"NMS Tier 1: 320,300 shares per trading day off exchange.\n{LINK}"
    assert message.kind == "info"


def test_with_a_failure_the_message_is_about_the_failure_and_names_the_report() -> None:
    message = compose([FAILURE, REPORT], UI)
    assert message.title == "otc-assets: 1 alert, 1 new report"
    assert message.body.splitlines() == [
        f"ERROR venue_volume.grade failed for week 2026-08-14 (grade: F) {UI}/runs/run-2",
        "REPORT the report of the week ending 2026-08-21 is available (NMS Tier 1: 320,300 shares per trading day off "
        f"exchange.) {LINK}",
    ]
    assert message.kind == "failure"


def test_the_link_of_a_report_is_its_week_below_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    week = dt.date(2026, 8, 21)
    assert Settings().report_link(week) is None
    for address in ("https://reports.example.org", "https://reports.example.org/"):
        monkeypatch.setenv("OTC_REPORT_URL", address)
        assert Settings().report_link(week) == LINK
    monkeypatch.setenv("OTC_REPORT_URL", "reports.example.org")
    with pytest.raises(ValidationError, match="write an address like https://"):
        Settings()
