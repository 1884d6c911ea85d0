"""Small files that are there as a whole or not at all, and entries of folders that outlast a power failure.

Objects of the archive, which are streamed, are written in ``archive.store``.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, rights: int = 0o666, durable: bool = False) -> None:
    """Replaces a file: another process reads all of the old content or all of the new one, also if the disk is full.

    Args:
        path: the file.
        content: the new content.
        rights: the file's rights, without those that the umask takes away.
        durable: whether the content is on disk afterwards.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights), "wb") as handle:
            handle.write(content)
            handle.flush()
            if durable:
                os.fsync(handle.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Writes the folder's entries to disk. Without this, a power failure can lose a renamed file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
