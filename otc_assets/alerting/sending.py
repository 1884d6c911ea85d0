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


def send_in_child(request: dict[str, Any], seconds: float) -> list[str] | None:
    """Sends a message in a child process, which has ended when this returns.

    Args:
        request: url, ui_url, title, body, and kind, Apprise's type of the message.
        seconds: the time limit.

    Returns:
        Nothing if the service accepted the message, else its reasons, which may have parts of the URL.

    Raises:
        TimeoutError: it was not sent in time.
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
        return None if reply["sent"] else list(reply["reasons"])
    raise RuntimeError(f"the process that sends alerts ended with exit code {done.returncode}")


def _send(request: dict[str, Any]) -> dict[str, Any]:
    service = Apprise(asset=AppriseAsset(app_id="otc-assets", app_desc="otc-assets", app_url=request["ui_url"]))
    service.add(request["url"])
    result = service.notify(
        title=request["title"],
        body=request["body"],
        notify_type=NotifyType(request["kind"]),
        body_format=NotifyFormat.TEXT,
    )
    return {"sent": bool(result), "reasons": list(dict.fromkeys(entry.message.strip() for entry in result.logs()))}


def main() -> None:
    """Reads the request from standard input, and writes the reply to standard output."""
    logging.disable(logging.DEBUG)
    request = json.load(sys.stdin)
    # Ends this process even if the one that started it was killed.
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    reply = _send(request)
    json.dump(reply, sys.stdout)


if __name__ == "__main__":
    main()
