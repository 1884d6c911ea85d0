"""Delivers alerts: what a message says, and sending it through Apprise.

Makes one attempt to deliver what is pending in the outbox. Which failures become alerts is in ``checks`` and
``defs.alerts``; the outbox itself is ``warehouse.alerts``.

Apprise's URLs hold tokens and passwords. None of them leaves this module: a destination is named by its service
and place in the list, what Apprise says is shown without any part of the URL, and its log lines are dropped.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote

from apprise import Apprise
from apprise.utils.parse import parse_urls
from pydantic import SecretStr

from otc_assets.alerting.sending import UntrustedServer, send_in_child
from otc_assets.domain.enums import AlertKind
from otc_assets.errors import OtcError
from otc_assets.settings import Settings
from otc_assets.text import shortened
from otc_assets.warehouse import alerts as outbox
from otc_assets.warehouse.alerts import Alert
from otc_assets.warehouse.database import Database

#: After an attempt, new alerts are collected for this long, and then sent in one message.
QUIET = dt.timedelta(minutes=5)

#: Alerts that a message lists; it counts the others.
LISTED = 10

#: What the strictest of the common services takes (Discord: 2,000 characters) must do for a whole message.
_LONGEST = 1800

#: Waits after the first failed attempt, doubled after each further one.
_FIRST_WAIT, _LONGEST_WAIT = dt.timedelta(seconds=30), dt.timedelta(minutes=15)

#: After so long without arriving, the sensor that delivers fails, so that it is seen from outside.
_PATIENCE = dt.timedelta(hours=1)

#: A tick may take a minute; an attempt ends before that, and a claim some time after.
_ATTEMPT_SECONDS, _ONE_DESTINATION_SECONDS = 45, 30
_CLAIM = dt.timedelta(minutes=2)

_apprise_log = logging.getLogger("apprise")
_apprise_log.propagate = False
_apprise_log.addHandler(logging.NullHandler())


class BadAlertUrl(OtcError):
    """OTC_ALERT_URL has an invalid URL. The message does not show it."""


class AlertsUndelivered(OtcError):
    """Alerts have not arrived for long."""


@dataclass(frozen=True)
class Message:
    """A message: a title of one line, a text of several lines, and Apprise's type of its most serious alert."""

    title: str
    body: str
    kind: str


def _link(alert: Alert, ui_url: str) -> str:
    if alert.kind == AlertKind.REPORT:
        return alert.body.partition("\n")[0]  # that of the page
    return f"{ui_url}/runs/{alert.run_id}" if alert.run_id else ui_url


def compose(alerts: Sequence[Alert], ui_url: str) -> Message:
    """One message for all of ``alerts``: the first ten by name, the rest counted.

    Args:
        alerts: at least one, the most serious first, recoveries last.
        ui_url: where the links begin.
    """
    reports = [alert for alert in alerts if alert.kind == AlertKind.REPORT]
    failures = [alert for alert in alerts if alert.recipients is None and alert not in reports]
    errors = sum(alert.severity == "error" for alert in failures)
    kind = "failure" if errors else "warning" if failures else "info" if len(reports) == len(alerts) else "success"
    if len(alerts) == 1:
        (alert,) = alerts
        link = _link(alert, ui_url)
        text = alert.body.partition("\n")[2] if alert.kind == AlertKind.REPORT else alert.body
        body = f"{shortened(text, _LONGEST - len(link) - 200)}\n{link}"
        return Message(shortened(f"otc-assets: {_title(alert)}", 150), body, kind)
    listed, rest = alerts[:LISTED], len(alerts) - LISTED
    room = _LONGEST // LISTED - 2
    lines = []
    for alert in listed:
        link = _link(alert, ui_url)
        first_figure = (alert.body.splitlines()[1:] or [""])[0]
        words = f"{_label(alert)} {_title(alert)}"
        words += f" ({first_figure})" if first_figure else ""
        lines.append(f"{shortened(words, max(room - len(link), 60))} {link}")
    if rest > 0:
        lines.append(f"and {rest} more: 'otc-assets alerts' lists them all")
    counted = f"{len(failures)} alert{'s' if len(failures) > 1 else ''}" if failures else ""
    counted += f", {errors} of them errors" if 0 < errors < len(failures) else ""
    if recovered := len(alerts) - len(failures) - len(reports):
        counted += f"{', ' if failures else ''}{recovered} recover{'ies' if recovered > 1 else 'y'}"
    if reports:
        counted += f"{', ' if counted else ''}{len(reports)} new report{'s' if len(reports) > 1 else ''}"
    return Message(f"otc-assets: {counted}", "\n".join(lines), kind)


def _label(alert: Alert) -> str:
    """How a line of several alerts begins."""
    if alert.kind == AlertKind.REPORT:
        return "REPORT"
    return alert.severity.upper() if alert.recipients is None else "RECOVERED"


def _title(alert: Alert) -> str:
    """The title; of a failure that is sent late, also that it is over: no recovery of it is sent."""
    over = alert.resolved_at is not None and alert.recipients is None
    return f"{alert.title}; it has passed since" if over else alert.title


@contextmanager
def _without_debug_lines() -> Iterator[None]:
    """No library under Apprise logs the addresses it calls: at DEBUG they all do."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.DEBUG))
    try:
        yield
    finally:
        logging.disable(before)


@cache
def _fingerprint(url: str) -> str:
    # Kept in the database, where others read: slow, so that a weak password in a URL can't be guessed from it.
    return hashlib.pbkdf2_hmac("sha256", url.encode(), b"otc.alert", 200_000, 8).hex()


_UNTRUSTED = (
    "the server's certificate is not trusted, or is for another host. Name the certificate of its authority in "
    "SSL_CERT_FILE for mail, and in REQUESTS_CA_BUNDLE for other services (docs/security.md)"
)


class Destination:
    """One of Apprise's URLs, which is shown nowhere.

    Attributes:
        name: its service and place in the list, as in 'Slack (1 of 2)'.
        fingerprint: what it is known by in the outbox.
    """

    def __init__(self, url: str, number: int, of: int, ui_url: str) -> None:
        """Checks the URL.

        Raises:
            BadAlertUrl: Apprise does not know such a URL.
        """
        apprise = Apprise()
        with _without_debug_lines():
            known = apprise.add(url)
        if not known or len(list(apprise)) != 1:
            raise BadAlertUrl(
                f"OTC_ALERT_URL: URL {number} of {of} is not a valid Apprise URL",
                remedy="The forms of URLs are on https://appriseit.com; 'otc-assets alerts test' sends a test message.",
            )
        service = next(iter(apprise))
        self._url, self._ui_url = url, ui_url
        self.name = f"{service.service_name} ({number} of {of})"
        self.fingerprint = _fingerprint(url)
        address = url.partition("://")[2]
        pieces = {piece for text in (address, unquote(address)) for piece in re.split(r"[^\w.~+-]+", text)}
        self._secrets = sorted((piece for piece in pieces if len(piece) > 2), key=len, reverse=True)

    def send(self, message: Message, seconds: float) -> str | None:
        """Sends a message.

        Args:
            message: the message.
            seconds: the time limit.

        Returns:
            None if the service accepted it, else why not, without a secret.
        """
        request = {"url": self._url, "ui_url": self._ui_url, **message.__dict__}
        try:
            reasons = send_in_child(request, seconds)
        except TimeoutError:
            return f"{self.name}: no answer within {seconds:.0f} s"
        except UntrustedServer:
            return f"{self.name}: {_UNTRUSTED}"
        except RuntimeError as error:
            return f"{self.name}: {error}"
        if reasons is None:
            return None
        words = "; ".join(reasons) or "it was refused without a reason"
        for secret in self._secrets:
            words = re.sub(re.escape(secret), "***", words, flags=re.IGNORECASE)
        return f"{self.name}: {shortened(words, 300)}"


@cache
def _destinations(urls: str, ui_url: str) -> tuple[Destination, ...]:
    found = parse_urls(urls)
    return tuple(Destination(url, number, len(found), ui_url) for number, url in enumerate(found, 1))


def destinations(urls: SecretStr, ui_url: str) -> tuple[Destination, ...]:
    """The destinations that OTC_ALERT_URL names, separated by blanks or commas.

    Args:
        urls: the setting.
        ui_url: the address of the UI, which some services show as the sender's.

    Raises:
        BadAlertUrl: one of them is not a valid Apprise URL.
    """
    return _destinations(urls.get_secret_value(), ui_url)


def send_test(chosen: Settings) -> Iterator[tuple[str, str | None]]:
    """Sends a test message to every destination, whatever is pending in the outbox.

    Yields:
        The destination's name, and None if it took the message, else why not.

    Raises:
        BadAlertUrl: OTC_ALERT_URL is not set, or has an invalid URL.
    """
    urls, ui_url = chosen.alert_url, chosen.ui_url
    if urls is None:
        raise BadAlertUrl("OTC_ALERT_URL is not set", remedy="Set it to one or more Apprise URLs (docs/alerts.md).")
    message = Message("otc-assets: a test", f"Alerts of the otc-assets at {ui_url} arrive here.", kind="info")
    for destination in destinations(urls, ui_url):
        yield destination.name, destination.send(message, _ONE_DESTINATION_SECONDS)


def _next_attempt(attempts: int, now: dt.datetime) -> dt.datetime:
    return now + min(_FIRST_WAIT * 2 ** min(attempts - 1, 10), _LONGEST_WAIT)


def deliver(database: Database, chosen: Settings, now: dt.datetime) -> str:
    """One attempt to deliver what is due, to every destination that has not got it yet.

    A process that dies between sending an alert and recording that leaves it pending: it is sent again, so that an
    alert may arrive twice, and is never lost.

    Args:
        database: where the outbox is.
        chosen: the settings, which name the destinations.
        now: the moment, UTC.

    Returns:
        What was done, in words.

    Raises:
        BadAlertUrl: see ``destinations``.
        AlertsUndelivered: some have not arrived for an hour, with the reason.
    """
    urls = chosen.alert_url
    if urls is None:
        with database.transaction() as connection:
            count = outbox.discard_pending(connection)
        return f"OTC_ALERT_URL is not set: alerts are not sent ({count} new); 'otc-assets alerts' lists them"
    everyone = destinations(urls, chosen.ui_url)
    with database.transaction() as connection:
        outbox.discard_recoveries(connection, [destination.fingerprint for destination in everyone], now)
        claimed = outbox.claim(connection, now=now, until=now + _CLAIM)
    said = _attempt(database, claimed, everyone, chosen.ui_url, now) if claimed else "nothing is due"
    with database.transaction() as connection:
        stuck = outbox.stuck(connection)
    if stuck.since is not None and now - stuck.since >= _PATIENCE:
        raise AlertsUndelivered(
            f"alerts not delivered: {stuck.count}, the oldest since {stuck.since:%Y-%m-%d %H:%M} UTC. "
            f"{(stuck.error or 'The process that sent them was killed').rstrip('.')}",
            remedy="They are kept and sent again. 'otc-assets alerts test' sends a test message to the destinations "
            "in OTC_ALERT_URL, 'otc-assets alerts' lists pending alerts.",
        )
    return said


def _attempt(
    database: Database, claimed: list[Alert], everyone: Sequence[Destination], ui_url: str, now: dt.datetime
) -> str:
    deadline = time.monotonic() + _ATTEMPT_SECONDS
    errors = []
    for destination in everyone:
        outstanding = [alert for alert in claimed if destination.fingerprint in _recipients(alert, everyone)]
        outstanding = [alert for alert in outstanding if destination.fingerprint not in alert.delivered_to]
        if not outstanding:
            continue
        seconds = min(_ONE_DESTINATION_SECONDS, deadline - time.monotonic())
        if seconds < 1:
            errors.append(f"{destination.name}: no time was left")
            continue
        error = destination.send(compose(outstanding, ui_url), seconds)
        if error is None:
            # At once, so that a failure of the next one does not send this again.
            with database.transaction() as connection:
                outbox.mark_delivered(connection, [alert.id for alert in outstanding], destination.fingerprint)
        else:
            errors.append(error)
    again_at = _next_attempt(max(alert.attempts for alert in claimed), now)
    with database.transaction() as connection:
        for recipients in {_recipients(alert, everyone) for alert in claimed}:
            outbox.end_attempt(
                connection,
                [alert.id for alert in claimed if _recipients(alert, everyone) == recipients],
                destinations=recipients,
                error="; ".join(errors) or None,
                now=now,
                again_at=again_at,
            )
    if errors:
        return f"next attempt at {again_at:%H:%M:%S} UTC: {len(claimed)}. {'; '.join(errors)}"
    return f"alerts delivered: {len(claimed)}"


def _recipients(alert: Alert, everyone: Sequence[Destination]) -> tuple[str, ...]:
    """The destinations that are to have an alert, by their fingerprints: of a recovery, those that have its failure."""
    known = tuple(destination.fingerprint for destination in everyone)
    return known if alert.recipients is None else tuple(name for name in known if name in alert.recipients)
