"""Who may read the files that a command writes: its account only, except for files that the user names.

``OTC_HOME`` has passwords, logs and run configuration. The processes that a command starts inherit its umask.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: No rights of the group and of others.
PRIVATE = 0o077

_of_the_user: list[int] = []


@contextmanager
def private_files() -> Iterator[None]:
    """Files and folders are created with rights of their owner only, whatever the umask of the shell is."""
    _of_the_user.append(os.umask(PRIVATE))
    try:
        yield
    finally:
        os.umask(_of_the_user.pop())


@contextmanager
def users_files() -> Iterator[None]:
    """Files at a path that the user names have the rights that the umask of the shell gives them."""
    before = os.umask(_of_the_user[-1]) if _of_the_user else None
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)
