"""Sends one message through Apprise, in a process of its own: ``python -m otc_assets.alerting.sending``.

The time limit of a request is for each read: a server that sends a header byte by byte keeps a thread busy for hours. A
thread can't be ended from outside, but a process can. Which messages are sent is in ``delivery``.

The destination's URL is a secret: it comes on standard input, because other users can see arguments.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

from otc_assets.settings import public_environment


class UntrustedServer(Exception):
    """The server of the service has a certificate that is not trusted, or that is for another host."""


class _Certificates(logging.Filter):
    """Leaves out lines for debugging, which may have the message and the URL, and finds in them a refused certificate.

    Apprise reports that as a failed connection.
    """

    refused = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.DEBUG:
            return True
        self.refused |= "CERTIFICATE_VERIFY_FAILED" in record.getMessage()
        return False


def send_in_child(request: dict[str, Any], seconds: float) -> list[str] | None:
    """Sends a message in a child process, which has ended when this returns.

    Args:
        request: url, ui_url, title, body, and kind, Apprise's type of the message.
        seconds: the time limit.

    Returns:
        Nothing if the service accepted the message, else its reasons, which may have parts of the URL.

    Raises:
        TimeoutError: it was not sent in time.
        UntrustedServer: the server's certificate was refused.
        RuntimeError: the process failed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and constant arguments
            [sys.executable, "-m", __name__],
            input=json.dumps({**request, "seconds": seconds}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its traceback may have the URL
            env=public_environment(),
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    if done.returncode == -signal.SIGALRM:
        raise TimeoutError
    with suppress(ValueError):
        reply = json.loads(done.stdout)
        if reply["untrusted"]:
            raise UntrustedServer
        return None if reply["sent"] else list(reply["reasons"])
    raise RuntimeError(f"the process that sends alerts ended with exit code {done.returncode}")


def _send(request: dict[str, Any]) -> dict[str, Any]:
    certificates, logger = _Certificates(), logging.getLogger("apprise")
    logger.setLevel(logging.DEBUG)
    logger.addFilter(certificates)
    # A redirected POST becomes a GET without the message, and a page such as that of a login answers it with 200.
    asset = AppriseAsset(app_id="otc-assets", app_desc="otc-assets", app_url=request["ui_url"], http_redirects=False)
    service = Apprise(asset=asset)
    service.add(request["url"])
    result = service.notify(
        title=request["title"],
        body=request["body"],
        notify_type=NotifyType(request["kind"]),
        body_format=NotifyFormat.TEXT,
    )
    reasons = list(dict.fromkeys(entry.message.strip() for entry in result.logs()))
    return {"sent": bool(result), "reasons": reasons, "untrusted": certificates.refused and not result}


def main() -> None:
    """Reads the request from standard input, and writes the reply to standard output."""
    request = json.load(sys.stdin)
    # Ends this process even if the one that started it was killed.
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    reply = _send(request)
    json.dump(reply, sys.stdout)


if __name__ == "__main__":
    main()
