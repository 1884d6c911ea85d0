"""Small files: written as a whole or not at all, and read within a limit; entries of folders outlast a power failure.

Objects of the archive, which are streamed, are written in ``archive.store``.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

#: A secret, a list of keys or of days is never larger.
MOST_BYTES = 1 << 20


def read_small(path: Path) -> str:
    """The text of a file that a setting names, which may be a pipe.

    Raises:
        OSError: it can't be read, or is larger than MOST_BYTES: a device without an end would fill the memory.
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open("rb") as handle:
        content = handle.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content.decode()


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
