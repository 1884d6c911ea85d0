"""The archive on a real S3 server: nothing is lost, half-written or wrong, whatever happens to requests and replies."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
import zstandard
from support.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

from otc_assets.archive import s3 as module
from otc_assets.archive.s3 import S3Archive
from otc_assets.archive.store import ArchiveUnavailable, DamagedObject, MissingObject
from otc_assets.archive_url import parse_archive_url
from otc_assets.content import Held

SMALL = b"OTC|AABB|Asia|OTCN|1\n" * 10_000
DIGEST = hashlib.sha256(SMALL).hexdigest()
#: Random, so that it stays larger than two parts when it is compressed.
LARGE = os.urandom(17 << 20)


def key(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return f"otc/raw/sha256/{digest[:2]}/{digest[2:]}.zst"


@pytest.fixture
def archive(bucket: str) -> S3Archive:
    return S3Archive(parse_archive_url(f"s3://{bucket}/otc/raw"))


@pytest.fixture
def proxy(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy that archives opened after it use, with short time-outs."""
    monkeypatch.setattr(module, "_TIMEOUTS", {"connect_timeout": 2, "read_timeout": 2})
    with faulty_proxy(s3.port) as proxy:
        s3.describe(monkeypatch, proxy.port)
        yield proxy


@pytest.fixture
def disturbed(proxy: FaultyProxy, archive: S3Archive) -> S3Archive:
    """An archive behind the proxy."""
    archive.prepare()
    return archive


def stored(s3: S3Server, bucket: str, key: str) -> bytes:
    return bytes(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())


def test_bytes_are_stored_compressed_by_digest_with_digest_origin_and_checksum(
    archive: S3Archive, s3: S3Server, bucket: str
) -> None:
    assert archive.put(SMALL, "https://api.finra.org/x?week=1&t=T1, façade.csv") == DIGEST
    assert archive.get(DIGEST) == SMALL
    assert list(archive.digests()) == [DIGEST]
    assert list(s3.keys(bucket)) == [key(SMALL)]
    found = s3.client().head_object(Bucket=bucket, Key=key(SMALL), ChecksumMode="ENABLED")
    assert found["Metadata"] == {
        "sha256": DIGEST,
        "origin": "https://api.finra.org/x?week=1&t=T1, fa%C3%A7ade.csv",
    }
    content = stored(s3, bucket, key(SMALL))
    assert zstandard.ZstdDecompressor().decompress(content) == SMALL
    assert module._checksum(content) == found["ChecksumSHA256"]


def test_a_large_object_is_written_in_parts(
    disturbed: S3Archive, proxy: FaultyProxy, s3: S3Server, bucket: str
) -> None:
    digest = disturbed.put(LARGE, "a file")
    assert disturbed.get(digest) == LARGE
    assert len([path for method, path in proxy.seen if method == "PUT" and "partNumber" in path]) == 3
    found = s3.client().head_object(Bucket=bucket, Key=key(LARGE), ChecksumMode="ENABLED")
    assert found["Metadata"] == {"sha256": digest, "origin": "a file"}
    assert found["ChecksumSHA256"].endswith("-3")


def test_bytes_that_come_piece_by_piece_are_written_in_parts_of_their_spool(
    disturbed: S3Archive, proxy: FaultyProxy, s3: S3Server, bucket: str
) -> None:
    spool = disturbed.spool()
    for start in range(0, len(LARGE), 1 << 20):
        spool.write(LARGE[start : start + (1 << 20)])
    proxy.disturb("reset", "PUT")
    assert disturbed.get(disturbed.put(spool, "a publication")) == LARGE
    assert list(s3.keys(bucket)) == [key(LARGE)]
    assert len({path for method, path in proxy.seen if method == "PUT" and "partNumber" in path}) == 3
    proxy.seen.clear()
    disturbed.put(spool)
    assert [method for method, _ in proxy.seen] == ["GET"]


def test_the_same_bytes_again_are_not_written_again(disturbed: S3Archive, proxy: FaultyProxy) -> None:
    disturbed.put(SMALL)
    proxy.seen.clear()
    disturbed.put(SMALL, "elsewhere")
    assert [method for method, _ in proxy.seen] == ["GET"]


def test_a_missing_object_is_distinguished_from_an_unreachable_archive(archive: S3Archive) -> None:
    with pytest.raises(MissingObject, match=r"no s3://otc-test-\d+/otc/raw/sha256/00/0+\.zst.*capture the publication"):
        archive.get("0" * 64)


@pytest.mark.parametrize("damage", ["cut off", "empty", "flipped", "another object"])
def test_a_damaged_object_is_refused_by_name_and_replaced_when_the_bytes_are_captured_again(
    archive: S3Archive, s3: S3Server, bucket: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    archive.put(SMALL)
    archive.put(b"other")
    whole = stored(s3, bucket, key(SMALL))
    content = {
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "another object": stored(s3, bucket, key(b"other")),
    }[damage]
    s3.client().put_object(Bucket=bucket, Key=key(SMALL), Body=content)
    with pytest.raises(DamagedObject, match=f"s3://{bucket}/{key(SMALL)} is damaged.*capture the publication again"):
        archive.get(DIGEST)
    with caplog.at_level(logging.WARNING):
        assert archive.put(SMALL) == DIGEST
    assert f"{key(SMALL)} is damaged and is replaced" in caplog.text
    assert stored(s3, bucket, key(SMALL)) == whole


def test_named_objects_are_listed_replaced_and_read(archive: S3Archive, s3: S3Server, bucket: str) -> None:
    for number in range(1100):  # a listing has a thousand names per reply
        if number < 3 or number > 1096:
            archive.put_named(f"journal/a/{number}.json", str(number).encode())
    archive.put_named("journal/a/0.json", b"replaced")
    archive.put_named("journals/b", b"of another folder")
    assert sorted(archive.names("journal")) == [f"journal/a/{number}.json" for number in (0, 1, 1097, 1098, 1099, 2)]
    assert archive.get_named("journal/a/0.json") == b"replaced"
    with pytest.raises(MissingObject, match="journal/a/9.json"):
        archive.get_named("journal/a/9.json")


def test_an_archive_may_have_a_bucket_without_a_prefix(s3: S3Server, bucket: str) -> None:
    archive = S3Archive(parse_archive_url(f"s3://{bucket}"))
    archive.prepare()
    archive.put(SMALL)
    archive.put_named("journal/x", b"x")
    assert set(s3.keys(bucket)) == {key(SMALL).removeprefix("otc/raw/"), "journal/x"}
    assert list(archive.names("journal")) == ["journal/x"]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["whole", "in parts"])
def test_two_writers_of_the_same_bytes_leave_one_whole_object(
    bucket: str, s3: S3Server, content: bytes, archive: S3Archive
) -> None:
    writers = [S3Archive(archive._url) for _ in range(4)]
    start, digests, errors = threading.Barrier(len(writers)), [], []

    def write(writer: S3Archive) -> None:
        writer.prepare()
        start.wait()
        try:
            digests.append(writer.put(content))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert digests == [hashlib.sha256(content).hexdigest()] * len(writers)
    assert list(s3.keys(bucket)) == [key(content)]
    assert archive.get(digests[0]) == content


def test_an_object_that_appears_between_reading_and_writing_is_not_overwritten(
    archive: S3Archive, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The condition protects it: what another process wrote is read back instead, and refused if it is wrong."""
    real = Held.packed

    def packed(content: Held) -> BinaryIO:
        s3.client().put_object(Bucket=bucket, Key=key(SMALL), Body=b"of another process")
        return real(content)

    monkeypatch.setattr(Held, "packed", packed)
    with pytest.raises(DamagedObject, match=key(SMALL)):
        archive.put(SMALL)
    assert stored(s3, bucket, key(SMALL)) == b"of another process"


# --- faults --------------------------------------------------------------------------------------------

PASSING: list[Fault] = ["reset", "stall", "slow down", "cut request", "lost reply"]


EACH = [pytest.param(fault, SMALL, id=f"{fault}, whole") for fault in PASSING]
EACH += [pytest.param(fault, LARGE, id=f"{fault}, in parts") for fault in PASSING if fault != "stall"]


@pytest.mark.parametrize(("fault", "content"), EACH)
def test_a_passing_fault_of_writing_loses_nothing(
    disturbed: S3Archive, proxy: FaultyProxy, s3: S3Server, bucket: str, fault: Fault, content: bytes
) -> None:
    proxy.disturb(fault, "PUT")
    digest = disturbed.put(content)
    assert proxy.left == 0
    assert list(s3.keys(bucket)) == [key(content)]
    assert zstandard.ZstdDecompressor().decompress(stored(s3, bucket, key(content))) == content
    assert disturbed.get(digest) == content


@pytest.mark.parametrize("fault", ["reset", "slow down", "lost reply"])
def test_a_passing_fault_of_completing_an_upload_loses_nothing(
    disturbed: S3Archive, proxy: FaultyProxy, s3: S3Server, bucket: str, fault: Fault
) -> None:
    proxy.disturb(fault, "POST", "uploadId=")
    digest = disturbed.put(LARGE)
    assert proxy.left == 0
    assert disturbed.get(digest) == LARGE
    assert list(s3.keys(bucket)) == [key(LARGE)]


@pytest.mark.parametrize("fault", ["reset", "stall", "slow down", "cut reply", "stalled reply", "changed reply"])
def test_a_passing_fault_of_reading_returns_the_right_bytes(
    disturbed: S3Archive, proxy: FaultyProxy, fault: Fault
) -> None:
    disturbed.put(SMALL)
    proxy.disturb(fault, "GET", "/sha256/")
    assert disturbed.get(DIGEST) == SMALL
    assert proxy.left == 0


def test_a_proxy_without_its_server_is_not_taken_for_a_missing_object(disturbed: S3Archive, proxy: FaultyProxy) -> None:
    disturbed.put(SMALL)
    proxy.disturb("not found", "GET", times=2)
    with pytest.raises(ArchiveUnavailable, match="can't be read.*AWS_ENDPOINT_URL"):
        disturbed.get(DIGEST)
    with pytest.raises(ArchiveUnavailable, match="can't be listed.*AWS_ENDPOINT_URL"):
        disturbed.prepare()
    assert disturbed.get(DIGEST) == SMALL


def test_bytes_that_change_on_the_way_to_the_server_are_not_stored(
    disturbed: S3Archive, proxy: FaultyProxy, s3: S3Server, bucket: str
) -> None:
    proxy.disturb("changed request", "PUT", times=10)
    with pytest.raises(ArchiveUnavailable, match=f"{key(SMALL)} can't be written"):
        disturbed.put(SMALL)
    assert s3.keys(bucket) == {}
    proxy.calm()
    assert disturbed.get(disturbed.put(SMALL)) == SMALL


@pytest.mark.parametrize("fault", ["changed reply", "cut reply"])
def test_bytes_that_always_change_on_the_way_back_are_refused(
    disturbed: S3Archive, proxy: FaultyProxy, fault: Fault
) -> None:
    disturbed.put(SMALL)
    proxy.disturb(fault, "GET", "/sha256/", times=20)
    with pytest.raises((DamagedObject, ArchiveUnavailable), match=key(SMALL)):
        disturbed.get(DIGEST)


@pytest.mark.parametrize(("fault", "content"), EACH)
def test_a_lasting_fault_of_writing_is_an_error_that_names_the_object_and_leaves_no_half_of_it(
    disturbed: S3Archive, proxy: FaultyProxy, s3: S3Server, bucket: str, fault: Fault, content: bytes
) -> None:
    proxy.disturb(fault, "PUT", times=50)
    if fault == "lost reply" and content == SMALL:
        # Every attempt reached the server.
        with pytest.raises(ArchiveUnavailable, match=key(content)):
            disturbed.put(content)
        proxy.calm()
        assert disturbed.get(hashlib.sha256(content).hexdigest()) == content
        return
    expected = rf"{key(content)} can't be written at http://127\.0\.0\.1:\d+ "
    with pytest.raises(ArchiveUnavailable, match=expected) as caught:
        disturbed.put(content)
    assert_actionable(caught.value)
    assert s3.keys(bucket) == {}
    proxy.calm()
    assert disturbed.get(disturbed.put(content)) == content


def assert_actionable(error: ArchiveUnavailable) -> None:
    """The error says what to do, and neither it nor its causes have secrets."""
    assert error.remedy
    shown: Any = error
    while shown is not None:
        assert SECRET_KEY not in str(shown)
        assert ACCESS_KEY not in str(shown)
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)


def test_a_journal_entry_whose_reply_is_lost_is_there_once(
    disturbed: S3Archive, proxy: FaultyProxy, s3: S3Server, bucket: str
) -> None:
    proxy.disturb("lost reply", "PUT")
    disturbed.put_named("journal/a/1.json", b"{}")
    assert s3.keys(bucket) == {"otc/raw/journal/a/1.json": 2}


# --- an archive that can't be used ---------------------------------------------------------------------


def refused(archive: S3Archive) -> str:
    for request in (
        archive.prepare,
        lambda: archive.put(SMALL),
        lambda: archive.get(DIGEST),
        lambda: list(archive.names("j")),
    ):
        with pytest.raises(ArchiveUnavailable) as caught:
            request()
        assert_actionable(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "another-secret", "SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "AKIASOMEONEELSE", "InvalidAccessKeyId.*AWS_ACCESS_KEY_ID"),
        ("AWS_PROFILE", "none", "ProfileNotFound.*AWS_PROFILE"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "http://127.0.0.1:1 .EndpointConnectionError.*AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL", "http://user:the-password@127.0.0.1:1", "at http://127.0.0.1:1 "),
        ("AWS_ENDPOINT_URL", "storage", "ValueError.*AWS_ENDPOINT_URL"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_to_do(
    archive: S3Archive, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    text = refused(archive)

    assert re.search(message, text), text
    assert "the-password" not in text


def test_missing_credentials_are_an_error_that_says_where_they_belong(
    archive: S3Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "NoCredentialsError" in refused(archive)


def test_a_missing_bucket_is_an_error_that_names_it(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.describe(monkeypatch)
    archive = S3Archive(parse_archive_url("s3://no-such-bucket/otc"))
    with pytest.raises(
        ArchiveUnavailable, match="s3://no-such-bucket/otc can't be listed.*Create it, or correct OTC_ARCHIVE_URL"
    ):
        archive.prepare()


def test_a_server_that_never_answers_is_an_error_after_three_attempts(disturbed: S3Archive, proxy: FaultyProxy) -> None:
    proxy.seen.clear()
    proxy.disturb("stall", "GET", times=10)
    with pytest.raises(ArchiveUnavailable, match="ReadTimeoutError"):
        disturbed.prepare()
    assert len(proxy.seen) == 3


def test_time_outs_bound_a_request_to_a_minute_and_a_half(bucket: str) -> None:
    config = module.s3_client().meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 20)
    assert config.retries["mode"] == "standard"
