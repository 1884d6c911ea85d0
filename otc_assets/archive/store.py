"""Stores of raw bytes by digest: the protocol, and a folder.

A digest is the SHA-256 of the bytes as FINRA sent them; they are kept compressed (Zstandard).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Protocol

import zstandard


class ArchiveError(Exception):
    """The archive has no such bytes, or not those that were put there."""


class Archive(Protocol):
    """Bytes by digest. What is in it stays as it is."""

    def put(self, content: bytes) -> str:
        """Keeps ``content``; the same bytes again change nothing. Returns their SHA-256, in hex."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``.

        Raises:
            ArchiveError: there are none, or they are not what was put there.
        """
        ...

    def __contains__(self, digest: str) -> bool: ...


class LocalArchive:
    """An archive in a folder: ``ab/abcdef....zst``, written once and then read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.zst"

    def __contains__(self, digest: str) -> bool:
        return self._path(digest).exists()

    def put(self, content: bytes) -> str:
        """Keeps ``content``; complete or not at all, also when the machine stops in between."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        if path.exists():
            return digest
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(zstandard.ZstdCompressor(level=6).compress(content))
                handle.flush()
                os.fsync(handle.fileno())
            os.chmod(partial, 0o444)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``, checked against it."""
        path = self._path(digest)
        try:
            compressed = path.read_bytes()
        except FileNotFoundError:
            raise ArchiveError(
                f"the archive has no {path}: it was moved or deleted, or OTC_HOME names another folder now. "
                "Put the file back, or capture the publication again."
            ) from None
        try:
            content = zstandard.ZstdDecompressor().decompress(compressed)
        except zstandard.ZstdError as error:
            raise ArchiveError(f"{path} is damaged ({error}): restore it from a backup") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArchiveError(f"{path} is damaged (its bytes have another digest): restore it from a backup")
        return content
