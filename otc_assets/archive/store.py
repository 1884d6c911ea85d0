"""Stores of raw bytes by digest, and of small objects by name: the protocol, its errors, and a folder.

A digest is the SHA-256 of the bytes as FINRA sent them. They are stored compressed (Zstandard). Objects by
name are stored as they are; what they contain is up to ``journal``. The archive on S3 is in ``s3``.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from otc_assets.content import Content, Held, Spool, joined
from otc_assets.errors import OtcError
from otc_assets.processes import started, this_process
from otc_assets.whole_files import sync_folder

log = logging.getLogger(__name__)

#: The names of files that are being written begin with this, the machine, the process, and its start time.
_PARTIAL = ".partial-"
_WRITER = re.compile(re.escape(_PARTIAL) + r"(?P<machine>[0-9a-f]{12})-(?P<pid>\d+)-(?P<started>[0-9a-f]{12})-")

_DIGEST = re.compile(r"[0-9a-f]{64}")

#: The setting that names the archive.
ARCHIVE_SETTING = "OTC_ARCHIVE_URL"

#: A part of the remedies for missing and damaged objects.
CAPTURE_AGAIN = "capture the publication again: the same bytes replace it."
_RESTORE = f"Restore it from a backup, or {CAPTURE_AGAIN}"

#: A partial file of another machine is abandoned if it has not been written to for this time.
_ABANDONED_SECONDS = 3600

_PIECE_BYTES = 1 << 20


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _prefix() -> str:
    """The beginning of the names of files that this process is writing."""
    me = this_process()
    return f"{_PARTIAL}{_short(f'{me.host}|{me.boot}|{me.namespace}')}-{me.pid}-{_short(me.started)}-"


def _is_abandoned(path: Path) -> bool:
    """Whether the process that wrote the partial file has ended."""
    writer, me = _WRITER.match(path.name), _WRITER.match(_prefix())
    if writer and me and writer["machine"] == me["machine"]:
        since = started(int(writer["pid"]))
        return since is None or _short(since) != writer["started"]
    return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS


class ArchiveError(OtcError):
    """The archive doesn't have an object as it was stored: it is missing or damaged."""

    #: In a word, for tables: 'missing' or 'damaged'.
    problem = "damaged"


class ArchiveUnavailable(OtcError):
    """The archive can't be reached, or refuses requests. This says nothing about its objects."""


class MissingObject(ArchiveError):
    """The archive has no object of this digest."""

    problem = "missing"


class DamagedObject(ArchiveError):
    """The stored object was cut off, or its bytes have changed."""


class Archive(Protocol):
    """Bytes by digest. Stored objects do not change."""

    def prepare(self) -> None:
        """Checks that the archive can be used, and removes what killed processes left half-written.

        Raises:
            ArchiveUnavailable: it can't be reached, or refuses requests.
        """
        ...

    def spool(self) -> Spool:
        """Takes bytes that come piece by piece, and are stored by ``put`` once they are all there.

        An object has its digest as its name, which is known only then. What never comes to its end leaves nothing.
        """
        ...

    def put(self, content: bytes | Content, origin: str = "") -> str:
        """Stores ``content``. If it is stored already, nothing changes, unless the object is damaged: it is replaced.

        An object that exists is read and compared, piece by piece.

        Args:
            content: the bytes.
            origin: where they came from, stored with them if the archive can.

        Returns:
            Their SHA-256, in hex.
        """
        ...

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``.

        Raises:
            MissingObject: there is no such object.
            DamagedObject: the object has other bytes than were stored.
        """
        ...

    def check(self, digest: str) -> None:
        """Reads the bytes of ``digest`` and compares them with it, without keeping them in memory.

        Raises:
            MissingObject: there is no such object.
            DamagedObject: the object has other bytes than were stored.
        """
        ...

    def digests(self) -> Iterator[str]:
        """The digests of all stored bytes, in any order, unchecked."""
        ...

    def put_named(self, name: str, content: bytes) -> None:
        """Stores a small object under ``name``, completely or not at all; one of that name is replaced.

        Args:
            name: ``folder/name``, with slashes.
            content: its bytes.
        """
        ...

    def get_named(self, name: str) -> bytes:
        """The object of that name, unchecked.

        Raises:
            MissingObject: there is no such object.
        """
        ...

    def names(self, folder: str) -> Iterator[str]:
        """The names of all objects that begin with ``folder/``, in any order."""
        ...


def as_content(content: bytes | Content) -> Content:
    """Bytes with their digest."""
    return Held(content) if isinstance(content, bytes) else content


def unpacked(stored: BinaryIO, digest: str, where: str) -> Iterator[bytes]:
    """The bytes of a stored object, piece by piece. At the end, all of them have been compared with their digest.

    Args:
        stored: the object.
        digest: the SHA-256 of its bytes.
        where: the object's name, for the error.

    Raises:
        DamagedObject: it was cut off, or changed.
    """
    found = hashlib.sha256()
    try:
        for piece in zstandard.ZstdDecompressor().read_to_iter(stored):
            found.update(piece)
            yield piece
    except (zstandard.ZstdError, MemoryError) as error:  # a changed header can state any size
        while stored.read(_PIECE_BYTES):
            pass  # S3's checksum, which is compared at the end, tells whether it changed on its way
        raise DamagedObject(f"{where} is damaged ({error})", remedy=_RESTORE) from None
    if found.hexdigest() != digest:
        raise DamagedObject(f"{where} is damaged (its bytes have another digest)", remedy=_RESTORE)


def discard(pieces: Iterator[bytes]) -> None:
    """Reads to the end, for the errors on the way."""
    for _ in pieces:
        pass


def error_of(archive: Archive, digest: str) -> ArchiveError | None:
    """Why the bytes of ``digest`` can't be used; None if they can."""
    try:
        archive.check(digest)
    except ArchiveError as error:
        return error
    return None


class LocalArchive:
    """An archive in a folder: ``ab/abcdef....zst``, written once and then read-only. Its other files have names.

    It doesn't store the origin of bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.zst"

    def digests(self) -> Iterator[str]:
        """The digests in the names of the files."""
        return (path.stem for path in self.folder.glob("??/*.zst") if _DIGEST.fullmatch(path.stem))

    def spool(self) -> Spool:
        """Takes bytes piece by piece, into a file in the folder: the folder for temporary files may be in memory."""
        _ensure_folder(self.folder)
        return Spool(self.folder)

    def put(self, content: bytes | Content, origin: str = "") -> str:
        """Stores ``content`` completely or not at all, also if the machine stops in between."""
        del origin
        content = as_content(content)
        path = self._path(content.digest)
        try:
            self.check(content.digest)
        except MissingObject:
            pass
        except DamagedObject:
            log.warning("%s is damaged and is replaced: the same bytes were captured again", path)
        else:
            return content.digest
        self._write(path, content.packed())
        return content.digest

    def put_named(self, name: str, content: bytes) -> None:
        """Stores an object under a name, as durably as raw bytes."""
        self._write(self.folder / name, io.BytesIO(content))

    def get_named(self, name: str) -> bytes:
        """The object of that name."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise MissingObject(f"the archive has no {self.folder / name}") from None

    def names(self, folder: str) -> Iterator[str]:
        """The names of the files below ``folder``, without partial ones."""
        for parent, _, files in os.walk(self.folder / folder):
            for file in files:
                if not file.startswith(_PARTIAL):
                    yield (Path(parent) / file).relative_to(self.folder).as_posix()

    def _write(self, path: Path, content: BinaryIO) -> None:
        """Writes a file completely or not at all, also if the machine stops in between."""
        rights = self._prepare_folder(path.parent)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=_prefix())
        try:
            with os.fdopen(descriptor, "wb") as handle:
                shutil.copyfileobj(content, handle, _PIECE_BYTES)
                handle.flush()
                os.fsync(handle.fileno())
            os.chmod(partial, rights & 0o444)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def _prepare_folder(self, folder: Path) -> int:
        """Creates a folder of the archive. Returns the rights of the archive's own, which all others have.

        Who may read the archive is decided where its folder is created: by the umask, or by an administrator.
        """
        _ensure_folder(self.folder)
        rights = stat.S_IMODE(self.folder.stat().st_mode)
        _ensure_folder(folder, rights)
        return rights

    def prepare(self) -> None:
        """Removes the partial files of killed processes, not those that are being written."""
        for path in self.folder.glob(f"**/{_PARTIAL}*"):
            try:
                if _is_abandoned(path):
                    path.unlink()
            except FileNotFoundError:
                continue  # it was completed in the meantime

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``, checked against it."""
        return joined(self._unpacked(digest))

    def check(self, digest: str) -> None:
        """Compares the bytes of ``digest`` with it."""
        discard(self._unpacked(digest))

    def _unpacked(self, digest: str) -> Iterator[bytes]:
        path = self._path(digest)
        try:
            stored = path.open("rb")
        except FileNotFoundError:
            raise MissingObject(
                f"the archive has no {path}: it was moved or deleted, or OTC_HOME or OTC_ARCHIVE_URL was changed",
                remedy=f"Put the file back, or {CAPTURE_AGAIN}",
            ) from None
        with stored:
            yield from unpacked(stored, digest, str(path))


def _ensure_folder(folder: Path, rights: int | None = None) -> None:
    """Creates a folder with its parents, each durably, and with these rights instead of those of the umask."""
    if not folder.is_dir():
        _ensure_folder(folder.parent, rights)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            what = "a link that leads nowhere" if folder.is_symlink() else "a file"
            raise ArchiveUnavailable(
                f"{folder} is not a folder, but {what}",
                remedy="Mount the disk that it is on, or move it away: the folder is created in its place.",
            ) from None
        if rights is not None:
            folder.chmod(rights)
        sync_folder(folder.parent)
