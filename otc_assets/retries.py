"""How retries are logged: as one line each, with what failed and when it is tried again.

stamina alone prints them on standard output where structlog is installed, between the data that a command prints, and
with all arguments of what failed. What is retried, and how often, is where stamina is used.
"""

from __future__ import annotations

import logging

from stamina import instrumentation

from otc_assets.settings import without_secrets
from otc_assets.text import first_line

log = logging.getLogger(__name__)


def log_retries() -> None:
    """Has this process log its retries as warnings. Called where processes of this project start."""
    instrumentation.set_on_retry_hooks([_log])


def _log(details: instrumentation.RetryDetails) -> None:
    log.warning("%s: trying again in %.1f s", without_secrets(first_line(details.caused_by)), details.wait_for)
