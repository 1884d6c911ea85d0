"""Copies an archive to another one, of either kind: the raw bytes and the journal.

What the other archive has already is compared and not written again, so a copy that was interrupted can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from otc_assets import interruption
from otc_assets.archive.journal import object_names, origins, read_object
from otc_assets.archive.parallel import in_threads
from otc_assets.archive.store import Archive, ArchiveError, ArchiveUnavailable

#: After so many objects in a row that failed for another reason than damage, the copy ends: a server or disk failed.
_DOWN_AFTER = 5

#: Called with the number of objects done, and a note.
Progress = Callable[[int, str], None]


@dataclass
class Copied:
    """The result of a copy.

    Attributes:
        objects: how many objects were to be copied.
        written: how many of them were written; the others that did not fail were there already.
        failed: by object that could not be copied, 'missing', 'damaged' or 'failed', and the error.
    """

    objects: int = 0
    written: int = 0
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)


class ArchiveCopy:
    """What is copied from one archive to another.

    The source may be in use: raw bytes are archived before the journal names them, and they are listed after it.

    Args:
        source: the archive.
        target: where it is copied to.
    """

    def __init__(self, source: Archive, target: Archive) -> None:
        self._source, self._target = source, target
        self._names = object_names(source)
        self._digests = sorted(source.digests())
        self._events: dict[str, bytes] = {}
        self._origins: dict[str, str] = {}
        self._done = Copied(len(self._names) + len(self._digests))
        self._in_a_row = 0
        self.objects = self._done.objects

    def run(self, progress: Progress) -> Copied:
        """Copies everything, each object checked against its digest. One that is damaged does not stop the others.

        Raises:
            ArchiveUnavailable: an archive can't be reached, or refuses requests.
            Interrupted: a signal ended the command; repeating it continues.
        """
        progress(0, "reading the journal")
        self._each(self._read_events, self._names, 0, lambda *_: None)
        for content in self._events.values():
            self._origins |= origins(content)
        self._each(self._copy_bytes, self._digests, 0, progress)
        self._each(self._write_events, list(self._events), len(self._digests), progress)
        progress(self.objects, self._note())
        return self._done

    def _each(self, copy: Callable[[str], bool], objects: Iterable[str], before: int, progress: Progress) -> None:
        def attempt(name: str) -> bool | Exception:
            try:
                return copy(name)
            except (ArchiveError, ArchiveUnavailable, OSError) as error:
                return error

        for done, (name, result) in enumerate(zip(objects, in_threads(attempt, objects), strict=True), before):
            interruption.check()
            progress(done, self._note())
            if isinstance(result, Exception):
                self._fail(name, result)
            else:
                self._in_a_row = 0
                self._done.written += result

    def _fail(self, name: str, error: Exception) -> None:
        if isinstance(error, ArchiveError):
            problem = error.problem
        else:
            problem = "failed"
            self._in_a_row += 1
            if self._in_a_row == _DOWN_AFTER:
                raise error
        self._done.failed[name] = problem, str(error)

    def _note(self) -> str:
        return f"{len(self._done.failed)} could not be copied"

    def _read_events(self, name: str) -> bool:
        self._events[name] = read_object(self._source, name)
        return False

    def _copy_bytes(self, digest: str) -> bool:
        if _is_stored(lambda: self._target.check(digest)):
            return False
        self._target.put(self._source.get(digest), self._origins.get(digest, ""))
        return True

    def _write_events(self, name: str) -> bool:
        if _is_stored(lambda: read_object(self._target, name)):
            return False
        self._target.put_named(name, self._events[name])
        read_object(self._target, name)
        return True


def _is_stored(read: Callable[[], object]) -> bool:
    try:
        read()
    except ArchiveError:
        return False
    return True
