"""The folder of dropped files: what is new in it, in batches, and how far the batches are.

Such a folder may have any content, and none of it may stop the sensor: names that are not UTF-8, folders, pipes,
links, files that can't be read or are still being written, and thousands of files at once. What a run does with the
files is in ``ingest``; the sensor is in ``defs.sensors``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from otc_assets.text import printable_name

#: A file that was changed more recently may still be incomplete.
UNCHANGED_SECONDS = 5
#: A time of change that is further in the future is from before the clock was set back: nobody is writing the file.
#: Less may be the difference between this clock and that of a server of files.
_AHEAD_SECONDS = 3600

#: The files of one run: the cost of a run is shared, and a crash repeats no more than this.
FILES_A_RUN, BYTES_A_RUN = 200, 256_000_000
#: Runs at a time; other runs can start beside them.
RUNS_AT_ONCE = 4
#: Entries of the folder that are looked at in one tick.
ENTRIES_A_TICK = 100_000

#: Before a path whose bytes are not UTF-8, in run config: percent-encoded. Other paths begin with a slash.
_ENCODED = "bytes:"
_MARK_BYTES = 8


def encode_path(path: str) -> str:
    """A path for run config, which is stored as UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _ENCODED + quote_from_bytes(os.fsencode(path))
    return path


def decode_path(text: str) -> str:
    """The path that ``encode_path`` wrote."""
    return os.fsdecode(unquote_to_bytes(text[len(_ENCODED) :])) if text.startswith(_ENCODED) else text


@dataclass(frozen=True)
class Batch:
    """Files that one run takes in.

    Attributes:
        key: a digest of the files and their marks: the base of the run key.
        paths: as run config has them.
        marks: of the files, in hexadecimal.
    """

    key: str
    paths: list[str]
    marks: list[str]

    @property
    def title(self) -> str:
        """The batch in a few words, for people."""
        first = printable_name(Path(decode_path(self.paths[0])).name)[:200]
        return first if len(self.paths) == 1 else f"{first} and {len(self.paths) - 1} other files"


@dataclass
class Progress:
    """What the sensor remembers: marks of what it is done with, and the batches that are under way."""

    seen: set[bytes] = field(default_factory=set)
    pending: list[Batch] = field(default_factory=list)

    @classmethod
    def parse(cls, cursor: str | None) -> Progress:
        """The cursor's progress. One of an earlier version is a dictionary of names and marks."""
        stored = json.loads(cursor or "{}")
        if "seen" not in stored:
            return cls({_mark(name, mark) for name, mark in stored.items()})
        joined = base64.b64decode(stored["seen"])
        marks = {joined[n : n + _MARK_BYTES] for n in range(0, len(joined), _MARK_BYTES)}
        return cls(marks, [Batch(**batch) for batch in stored["pending"]])

    def __str__(self) -> str:
        joined = base64.b64encode(b"".join(sorted(self.seen))).decode()
        return json.dumps({"seen": joined, "pending": [batch.__dict__ for batch in self.pending]})

    def done_with(self, batch: Batch) -> None:
        """Records that the batch's files are ingested."""
        self.pending.remove(batch)
        self.seen |= {bytes.fromhex(mark) for mark in batch.marks}


def _mark(name: str, state: str) -> bytes:
    """An entry of the folder in a given state. A hash, because a cursor holds thousands of them."""
    return hashlib.blake2b(os.fsencode(name) + b"\0" + state.encode(), digest_size=_MARK_BYTES).digest()


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    mark: bytes


def _entries(folder: Path, warn: Callable[[str], None]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == ENTRIES_A_TICK:
                    warn(
                        f"{folder} has more than {ENTRIES_A_TICK:,} entries, and the others are not looked at: move "
                        "the files away that are ingested"
                    )
                    return
                yield entry
    except FileNotFoundError:
        return


def look(folder: Path, progress: Progress, now: float, warn: Callable[[str], None]) -> list[Batch]:
    """The batches of files that are new or have changed, as many as may be started now.

    Args:
        folder: where files are dropped.
        progress: what is known; entries that are no files are added to it, and those that are gone removed.
        now: seconds since 1970.
        warn: called once with words about each entry that is left out, and each time if the folder has too many.
    """
    taken = {bytes.fromhex(mark) for batch in progress.pending for mark in batch.marks}
    inside = os.path.realpath(folder)
    there: set[bytes] = set()
    new: list[_File] = []
    for entry in _entries(folder, warn):
        if entry.name.startswith("."):
            continue
        try:
            found, refused = _state(entry, inside)
        except OSError as error:
            found, refused = None, f"it can't be looked at ({error.strerror})"
        if found is None:
            mark = _mark(entry.name, f"left out: {refused}")
            if mark not in progress.seen:
                warn(f"left out of {folder}: {printable_name(entry.name)}: {refused}")
                progress.seen.add(mark)
            there.add(mark)
            continue
        mark = _mark(entry.name, f"{found.st_mtime_ns}:{found.st_size}")
        there.add(mark)
        # A copy may keep a time of change that is in the future here; the inode then has that of the copy itself.
        age = now - min(found.st_mtime, found.st_ctime)
        may_be_incomplete = -_AHEAD_SECONDS < age < UNCHANGED_SECONDS
        if mark not in progress.seen and mark not in taken and not may_be_incomplete:
            new.append(_File(entry.path, found.st_size, mark))
    progress.seen &= there  # what is gone is forgotten
    return list(_batches(sorted(new, key=lambda file: os.fsencode(file.path)), RUNS_AT_ONCE - len(progress.pending)))


def _state(entry: os.DirEntry[str], inside: str) -> tuple[os.stat_result | None, str]:
    """The state of a file; None, and why, for what is not a file of this folder."""
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if not os.path.exists(target):
            return None, "it is a link that leads nowhere"
        if os.path.commonpath([inside, target]) != inside:
            return None, "it is a link that leads out of the folder"
    state = entry.stat()
    if not stat.S_ISREG(state.st_mode):
        return None, "it is not a file"
    return state, ""


def _batches(files: Iterable[_File], count: int) -> Iterator[Batch]:
    batch: list[_File] = []
    size = 0
    for file in files:
        if batch and (len(batch) == FILES_A_RUN or size + file.size > BYTES_A_RUN):
            if count <= 0:
                return
            yield _batch(batch)
            count, batch, size = count - 1, [], 0
        batch.append(file)
        size += file.size
    if batch and count > 0:
        yield _batch(batch)


def _batch(files: list[_File]) -> Batch:
    marks = [file.mark.hex() for file in files]
    key = hashlib.sha256("".join(marks).encode()).hexdigest()[:32]
    return Batch(f"files {key}", [encode_path(file.path) for file in files], marks)
