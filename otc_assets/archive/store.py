"""Stores of raw bytes by digest: the protocol, and a folder.

A digest is the SHA-256 of the bytes as FINRA sent them; they are kept compressed (Zstandard).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Protocol

import zstandard

from otc_assets.errors import OtcError
from otc_assets.processes import started, this_process

log = logging.getLogger(__name__)

#: Files that are being written begin like this; then come the machine, the process, and when that was started.
_PARTIAL = ".partial-"
_WRITER = re.compile(re.escape(_PARTIAL) + r"(?P<machine>[0-9a-f]{12})-(?P<pid>\d+)-(?P<started>[0-9a-f]{12})-")

#: A partial file of another machine is abandoned if it has not been written to for so long.
_ABANDONED_SECONDS = 3600


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _prefix() -> str:
    """How the names of files begin that this process is writing."""
    me = this_process()
    return f"{_PARTIAL}{_short(f'{me.host}|{me.boot}|{me.namespace}')}-{me.pid}-{_short(me.started)}-"


def _is_abandoned(path: Path) -> bool:
    """Whether nobody writes the partial file any more."""
    writer, me = _WRITER.match(path.name), _WRITER.match(_prefix())
    if writer and me and writer["machine"] == me["machine"]:
        since = started(int(writer["pid"]))
        return since is None or _short(since) != writer["started"]
    return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS


class ArchiveError(OtcError):
    """The archive can't return an object. The message says which, and what to do."""


class MissingObject(ArchiveError):
    """The archive has no object of this digest."""


class DamagedObject(ArchiveError):
    """The object is not what was put there: it was cut off, or its bytes have changed."""


class Archive(Protocol):
    """Bytes by digest. What is in it stays as it is."""

    def put(self, content: bytes) -> str:
        """Keeps ``content``; the same bytes again change nothing, unless they were damaged: then they are replaced.

        Returns:
            Their SHA-256, in hex.
        """
        ...

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``.

        Raises:
            MissingObject: there are none.
            DamagedObject: they are not what was put there.
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
        """Keeps ``content``; complete or not at all, also when the machine stops in between.

        What is there already is read and compared: bytes that are captured again heal a damaged object.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        try:
            self.get(digest)
        except MissingObject:
            pass
        except DamagedObject as error:
            log.warning("%s. It is replaced: the same bytes were captured again.", error)
        else:
            return digest
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(self.folder)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=_prefix())
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
        _sync_folder(path.parent)
        return digest

    def remove_partials(self) -> int:
        """Removes what killed processes left half-written; files that are being written stay. Returns how many."""
        removed = 0
        for path in self.folder.glob(f"*/{_PARTIAL}*"):
            try:
                if _is_abandoned(path):
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue  # it was completed meanwhile
        return removed

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``, checked against it."""
        path = self._path(digest)
        try:
            compressed = path.read_bytes()
        except FileNotFoundError:
            raise MissingObject(
                f"the archive has no {path}: it was moved or deleted, or OTC_HOME names another folder now. "
                f"Put the file back, or {_AGAIN}"
            ) from None
        try:
            content = zstandard.ZstdDecompressor().decompress(compressed)
        except zstandard.ZstdError as error:
            raise DamagedObject(f"{path} is damaged ({error}). Restore it from a backup, or {_AGAIN}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedObject(
                f"{path} is damaged (its bytes have another digest). Restore it from a backup, or {_AGAIN}"
            )
        return content


_AGAIN = "capture the publication again: the same bytes replace it"


def _sync_folder(folder: Path) -> None:
    """Writes the folder's entries to disk: a renamed file is lost in a power failure otherwise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
