"""Copies of an archive from a folder to S3 and back: complete, verified, and repeatable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.console_script import Run, console_script
from support.faulty_proxy import faulty_proxy
from support.installed import quiet
from support.s3_server import S3Server

from otc_assets.archive.journal import Entry, Journal
from otc_assets.archive.opening import open_archive
from otc_assets.archive.store import ArchiveUnavailable, LocalArchive
from otc_assets.archive_url import parse_archive_url
from otc_assets.interruption import Interrupted
from otc_assets.pipeline.archive_copy import ArchiveCopy, Copied

JOURNAL = "8c5de1e4-37b9-482e-86d4-ea91fd242044"
CONTENTS = [f"publication {number}".encode() * 1000 for number in range(12)]


def captured(number: int, digest: str) -> dict[str, Any]:
    """The event of a capture."""
    payload = {"week_ending": "2026-08-21", "publication_id": number, "digest": digest, "origin": f"file {number}.csv"}
    return {"id": number, "event_type": "otc.file.ingested", "payload": payload}


@pytest.fixture
def source(tmp_path: Path) -> LocalArchive:
    """Twelve publications, each with a transaction in the journal."""
    archive = LocalArchive(tmp_path / "archive")
    for number, content in enumerate(CONTENTS, 1):
        Journal(archive, JOURNAL).write(Entry([captured(number, archive.put(content))]))
    return archive


@pytest.fixture
def copy(source: LocalArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    """Runs 'otc-assets archive copy' on the source."""
    monkeypatch.setenv("OTC_HOME", str(tmp_path))
    return console_script(monkeypatch, capsys, "archive", "copy")


def files(folder: Path) -> dict[str, bytes]:
    """The files of an archive, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(source: Any, target: Any, progress: Callable[[int, str], None] = quiet) -> Copied:
    return ArchiveCopy(source, target).run(progress)


def test_a_folder_is_copied_to_s3_with_origins_and_back(
    copy: Run, source: LocalArchive, bucket: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output, errors = copy("--to", f"s3://{bucket}/otc")
    assert (code, output) == (0, "")
    assert errors.splitlines()[-1] == f"24 of 24 objects are in s3://{bucket}/otc; 24 of them were written now"
    digest = source.put(CONTENTS[6])
    found = s3.client().head_object(Bucket=bucket, Key=f"otc/sha256/{digest[:2]}/{digest[2:]}.zst")
    assert found["Metadata"] == {"sha256": digest, "origin": "file 7.csv"}

    monkeypatch.setenv("OTC_ARCHIVE_URL", f"s3://{bucket}/otc")
    back = tmp_path / "back"
    code, output, errors = copy("--to", back.as_uri(), "--json")
    assert (code, json.loads(output)) == (0, {"to": back.as_uri(), "objects": 24, "written": 24, "failed": []}), errors
    assert files(back) == files(source.folder)


def test_an_interrupted_copy_is_continued(source: LocalArchive, bucket: str, s3: S3Server) -> None:
    target = open_archive(parse_archive_url(f"s3://{bucket}/otc"))

    def interrupt(done: int, note: str) -> None:
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(source, target, interrupt)
    before = len(s3.keys(bucket))
    assert 3 <= before < 24
    assert list(target.names("journal")) == []  # what it names would not be there
    done = run(source, target)
    assert (done.objects, done.written, done.failed) == (24, 24 - before, {})
    assert run(source, target).written == 0
    assert sorted(target.digests()) == sorted(source.digests())


def test_damaged_objects_are_listed_and_stop_no_others(copy: Run, source: LocalArchive, tmp_path: Path) -> None:
    damaged = sorted(source.digests())[3]
    path = source.folder / damaged[:2] / f"{damaged}.zst"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:20])
    entry = next((source.folder / "journal").rglob("000000000005-*.json"))
    entry.chmod(0o644)
    entry.write_text("{}")
    whole = {
        name: content
        for name, content in files(source.folder).items()
        if name not in (path.relative_to(source.folder).as_posix(), entry.relative_to(source.folder).as_posix())
    }
    target = tmp_path / "target"
    code, output, errors = copy("--to", target.as_uri(), "--json")
    assert code == 4
    rows = [(row["object"], row["problem"]) for row in json.loads(output)["failed"]]
    assert rows == [(entry.relative_to(source.folder).as_posix(), "damaged"), (damaged, "damaged")]
    assert files(target) == whole
    code, output, errors = copy("--to", target.as_uri())
    assert code == 4
    assert [line.split()[0] for line in output.splitlines()[:3]] == ["problem", "damaged", "damaged"]
    assert errors.splitlines()[-1].startswith("22 of 24 objects are in")


def test_a_damaged_object_of_the_target_is_replaced(source: LocalArchive, tmp_path: Path) -> None:
    target = LocalArchive(tmp_path / "target")
    run(source, target)
    expected = files(target.folder)
    for pattern in ("*.zst", "*.json"):
        path = next(target.folder.rglob(pattern))
        path.chmod(0o644)
        path.write_bytes(b"changed")
    assert run(source, target).written == 2
    assert files(target.folder) == expected


def test_a_target_that_refuses_everything_ends_the_copy(
    source: LocalArchive, bucket: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(s3.port) as proxy:
        s3.describe(monkeypatch, proxy.port)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        target = open_archive(parse_archive_url(f"s3://{bucket}/otc"))
        proxy.disturb("slow down", "PUT", times=1000)
        with pytest.raises(ArchiveUnavailable, match="SlowDown"):
            run(source, target)
    assert s3.keys(bucket) == {}


def test_one_object_that_can_not_be_written_stops_no_others(
    source: LocalArchive, bucket: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sorted(source.digests())[5]
    with faulty_proxy(s3.port) as proxy:
        s3.describe(monkeypatch, proxy.port)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        target = open_archive(parse_archive_url(f"s3://{bucket}/otc"))
        proxy.disturb("slow down", "PUT", digest[2:])
        done = run(source, target)
    assert {name: problem for name, (problem, _) in done.failed.items()} == {digest: "failed"}
    assert len(s3.keys(bucket)) == 23


@pytest.mark.parametrize(
    ("url", "message"),
    [("gs://bucket", "the scheme 'gs' is unknown"), ("file:///HOME/archive", "this is the archive of OTC_ARCHIVE_URL")],
)
def test_addresses_that_can_not_be_copied_to_are_usage_errors(
    copy: Run, tmp_path: Path, url: str, message: str
) -> None:
    code, _, errors = copy("--to", url.replace("/HOME", str(tmp_path)))
    assert (code, message in " ".join(errors.replace("│", " ").split())) == (2, True), errors
