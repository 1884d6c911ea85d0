"""Addresses of archives: folders and prefixes in buckets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from otc_assets.archive_url import ArchiveUrl, parse_archive_url
from otc_assets.settings import InvalidSettings, Settings, settings


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("file:///srv/otc%20archive", ArchiveUrl(folder=Path("/srv/otc archive")), "file:///srv/otc%20archive"),
        ("file://localhost/srv/a/", ArchiveUrl(folder=Path("/srv/a")), "file:///srv/a"),
        ("s3://bucket", ArchiveUrl(bucket="bucket"), "s3://bucket"),
        ("s3://my.bucket-1/", ArchiveUrl(bucket="my.bucket-1"), "s3://my.bucket-1"),
        ("s3://bucket/a/B_c/", ArchiveUrl(bucket="bucket", prefix="a/B_c"), "s3://bucket/a/B_c"),
    ],
)
def test_an_address_is_a_folder_or_a_prefix_in_a_bucket(text: str, expected: ArchiveUrl, shown: str) -> None:
    assert parse_archive_url(text) == expected
    assert str(expected) == shown
    assert parse_archive_url(shown) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/srv/archive", "write file:///absolute/folder or s3://bucket/prefix"),
        ("gs://bucket/a", "the scheme 'gs' is unknown"),
        ("https://bucket.s3.amazonaws.com/a", "the scheme 'https' is unknown"),
        ("s3:///prefix", "the bucket is missing"),
        ("s3://", "the bucket is missing"),
        ("s3://Bucket/a", "'Bucket' is not a bucket's name"),
        ("s3://ab", "'ab' is not a bucket's name"),
        ("s3://a_bucket/a", "'a_bucket' is not a bucket's name"),
        ("s3://bucket:9000/a", "no port"),
        ("s3://-bucket", "is not a bucket's name"),
        ("s3://buck..et", "is not a bucket's name"),
        ("s3://10.0.0.1/a", "is not a bucket's name"),
        ("s3://bucket/a//b", "the prefix has the part ''"),
        ("s3://bucket/../b", "the prefix has the part '..'"),
        ("s3://bucket/a b", "the prefix has the part 'a b'"),
        ("s3://bucket/a?region=x", "must not contain"),
        ("s3://bucket/a#b", "must not contain"),
        ("file:///", "an absolute path"),
        ("file://archive", "an absolute path"),
        ("file:archive", "an absolute path"),
        ("file://server/share", "an absolute path"),
    ],
)
def test_other_addresses_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("..", r"\.\.").replace("?", r"\?")):
        parse_archive_url(text)


def test_credentials_in_an_address_are_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_ARCHIVE_URL", "s3://AKIAKEY:the-secret@bucket/a")
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match="^OTC_ARCHIVE_URL: .*credentials") as caught:
        settings()
    assert "the-secret" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


def test_the_default_is_a_folder_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTC_ARCHIVE_URL", raising=False)
    assert Settings(home=tmp_path).archive == ArchiveUrl(folder=tmp_path / "archive")
    chosen = Settings(home=tmp_path, archive_url="s3://bucket/otc")
    assert chosen.archive == ArchiveUrl(bucket="bucket", prefix="otc")
    assert chosen.environment()["OTC_ARCHIVE_URL"] == "s3://bucket/otc"
    assert "OTC_ARCHIVE_URL" not in Settings(home=tmp_path).environment()
