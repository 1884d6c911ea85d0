"""The bytes of a publication, on their way from a source to the archive.

Their digest and size are known without parsing them, and they can be read again. A file that was read has its bytes in
memory; a publication that comes page by page is compressed into a temporary file as it comes. Storing objects, and
checking them, is in ``archive``.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import weakref
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

#: Zstandard's default. Of a full-size week, level 6 makes a 6 % smaller object and takes three times as long.
_LEVEL = 3


def joined(pieces: Iterable[bytes]) -> bytes:
    """All pieces as one."""
    content = io.BytesIO()  # its value is returned without a copy
    for piece in pieces:
        content.write(piece)
    return content.getvalue()


class Content(Protocol):
    """Bytes that do not change."""

    @property
    def digest(self) -> str:
        """Their SHA-256, in hex."""
        ...

    @property
    def size(self) -> int:
        """Their number."""
        ...

    def read(self) -> bytes:
        """All of them."""
        ...

    def packed(self) -> BinaryIO:
        """A file of them, compressed as the archive stores them, from its beginning."""
        ...


class Held:
    """Bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def digest(self) -> str:
        """Their SHA-256, in hex."""
        return hashlib.sha256(self._content).hexdigest()

    @property
    def size(self) -> int:
        """Their number."""
        return len(self._content)

    def read(self) -> bytes:
        """All of them."""
        return self._content

    def packed(self) -> BinaryIO:
        """A file of them, compressed in memory."""
        return io.BytesIO(zstandard.ZstdCompressor(level=_LEVEL).compress(self._content))


class Spool:
    """Bytes that come piece by piece: compressed in a temporary file without a name, which ends with the process.

    It is written once, and then read.

    Args:
        folder: where the file is; by default, in the folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # type: ignore[assignment]  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        self._hash = hashlib.sha256()
        self._is_finished = False
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Adds bytes at the end."""
        self._hash.update(piece)
        self._file.write(self._compressor.compress(piece))
        self.size += len(piece)

    @property
    def digest(self) -> str:
        """The SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    def read(self) -> bytes:
        """All that was written."""
        return joined(zstandard.ZstdDecompressor().read_to_iter(self.packed()))

    def packed(self) -> BinaryIO:
        """The temporary file; nothing can be written any more."""
        if not self._is_finished:
            self._file.write(self._compressor.flush())
            self._is_finished = True
        self._file.seek(0)
        return self._file
