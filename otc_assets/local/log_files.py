"""Rotates the logs that other processes write, such as Dagster's and PostgreSQL's: each is limited in size.

The processes keep the file open, for appending. So its content is copied and the file emptied, as logrotate's
``copytruncate`` does; lines that are written in between are lost. ``RotatingFileHandler`` renames the file, and the
processes would write to the renamed one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_MOST_BYTES = 10_000_000
_KEPT = 3


def rotate(log: Path, most_bytes: int = _MOST_BYTES) -> None:
    """Moves the content of a log that is too large to ``<log>.1``, that of ``.1`` to ``.2``, and so on up to ``.3``.

    Args:
        log: the file; it may be missing.
        most_bytes: a smaller log is left as it is. So is a larger one while the disk is full.
    """
    if not log.exists() or log.stat().st_size < most_bytes:
        return
    copy = log.with_name(f"{log.name}.copy")
    try:
        shutil.copyfile(log, copy)
    except OSError:
        copy.unlink(missing_ok=True)
        return
    for number in range(_KEPT, 1, -1):
        earlier = log.with_name(f"{log.name}.{number - 1}")
        if earlier.exists():
            earlier.replace(log.with_name(f"{log.name}.{number}"))
    copy.replace(log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
