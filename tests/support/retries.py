"""Retries in tests do not wait: ours, and those of Dagster's storage for a connection."""

from __future__ import annotations

from types import SimpleNamespace

import dagster_postgres.utils
import stamina


def retry_without_waiting() -> None:
    """From now on, this process retries at once."""
    stamina.set_testing(True, attempts=6)
    dagster_postgres.utils.time = SimpleNamespace(sleep=lambda seconds: None)  # type: ignore[attr-defined]
