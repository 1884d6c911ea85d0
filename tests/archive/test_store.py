"""The archive stores the same bytes once, and returns what was stored or an error."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from otc_assets.archive import store
from otc_assets.archive.store import ArchiveError, ArchiveUnavailable, DamagedObject, LocalArchive, MissingObject


def test_bytes_are_returned_by_their_sha256_and_are_stored_compressed(tmp_path: Path) -> None:
    archive = LocalArchive(tmp_path)
    content = b"OTC|AABB|Asia|OTCN|1\n" * 10_000
    digest = archive.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert list(archive.digests()) == [digest]
    assert archive.get(digest) == content
    (kept,) = tmp_path.rglob("*.zst")
    assert kept.stat().st_size < len(content) / 100
    assert kept.stat().st_mode & 0o222 == 0


def test_the_same_bytes_again_change_nothing(tmp_path: Path) -> None:
    archive = LocalArchive(tmp_path)
    archive.put(b"x")
    (kept,) = tmp_path.rglob("*.zst")
    before = kept.stat().st_mtime_ns
    archive.put(b"x")
    assert kept.stat().st_mtime_ns == before


def test_bytes_that_come_piece_by_piece_are_the_same_object(tmp_path: Path) -> None:
    """The object's name is known at the end only: until then, the archive has no file of it."""
    archive = LocalArchive(tmp_path / "archive")
    spool = archive.spool()
    for number in range(1_000):
        spool.write(f"OTC|{number}|Asia|OTCN|1\n".encode() * 20)
    assert list(archive.folder.rglob("*")) == []
    digest = archive.put(spool)
    assert digest == hashlib.sha256(archive.get(digest)).hexdigest()
    assert archive.get(digest) == spool.read()
    assert archive.put(spool.read()) == digest
    archive.check(digest)
    assert [path.name for path in archive.folder.rglob("*.zst")] == [f"{digest}.zst"]
    assert archive.folder.joinpath(digest[:2], f"{digest}.zst").stat().st_size < spool.size / 20


def test_missing_bytes_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="capture the publication again"):
        LocalArchive(tmp_path).get("0" * 64)


@pytest.mark.parametrize("damage", [b"not zstandard at all", None])
def test_damaged_bytes_are_never_returned(tmp_path: Path, damage: bytes | None) -> None:
    archive = LocalArchive(tmp_path)
    digest, other = archive.put(b"one"), archive.put(b"two")
    path = archive._path(digest)
    path.chmod(0o644)
    path.write_bytes(damage if damage is not None else archive._path(other).read_bytes())
    with pytest.raises(ArchiveError, match="damaged"):
        archive.get(digest)


def test_many_writers_of_the_same_bytes_leave_one_file_and_no_partial_one(tmp_path: Path) -> None:
    archive = LocalArchive(tmp_path)
    threads = [threading.Thread(target=archive.put, args=(b"same" * 1000,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


@pytest.mark.parametrize("damage", ["cut off", "empty", "flipped", "another object"])
def test_capturing_the_same_bytes_again_replaces_a_damaged_object(tmp_path: Path, damage: str) -> None:
    """put() returned early if the file existed, whatever its content."""
    archive = LocalArchive(tmp_path)
    content = bytes(range(256)) * 1000
    digest, other = archive.put(content), archive.put(b"other")
    path = archive._path(digest)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(
        {
            "cut off": whole[: len(whole) // 2],
            "empty": b"",
            "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
            "another object": archive._path(other).read_bytes(),
        }[damage]
    )
    for read in (archive.get, archive.check):
        with pytest.raises(DamagedObject, match="is damaged.*capture the publication again"):
            read(digest)
    assert archive.put(content) == digest
    assert archive.get(digest) == content
    assert path.stat().st_mode & 0o222 == 0
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_missing_object_is_distinguished_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(MissingObject):
        LocalArchive(tmp_path).get("0" * 64)


def test_a_link_that_leads_nowhere_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """A link to a disk that is not mounted was '[Errno 17] File exists'."""
    folder = tmp_path / "archive"
    folder.symlink_to(tmp_path / "disk")
    for store_in in (folder, folder / "below"):
        with pytest.raises(ArchiveUnavailable, match="archive is not a folder, but a link that leads nowhere"):
            LocalArchive(store_in).put(b"bytes")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("")
    with pytest.raises(ArchiveUnavailable, match="archive is not a folder, but a file"):
        LocalArchive(tmp_path / "archive").put_named("reports/2026-08-21.html", b"page")


def test_the_folder_is_written_to_disk_after_the_file_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure a renamed file may be gone, although its bytes were written to disk."""
    steps: list[str] = []

    def fsync(descriptor: int) -> None:
        where = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append("folder" if where.is_dir() else "file")
        if where.is_dir() and where != tmp_path:
            assert [entry.suffix for entry in where.iterdir()] == [".zst"]

    monkeypatch.setattr(store.os, "fsync", fsync)
    LocalArchive(tmp_path).put(b"bytes")
    assert steps == ["folder", "file", "folder"]
