"""The address of an archive: a folder, or a prefix in an S3 bucket. Opening the archive is in ``archive``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_EXPECTED = "write file:///absolute/folder or s3://bucket/prefix"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
#: A segment of a prefix: the characters that S3 calls safe.
_SEGMENT = re.compile(r"[A-Za-z0-9!_.*'()=-]+")


@dataclass(frozen=True)
class ArchiveUrl:
    """Where an archive is.

    Attributes:
        folder: the folder; None if the archive is on S3.
        bucket: the bucket on S3.
        prefix: what the names of its objects begin with, without slashes at its ends; empty for the whole bucket.
    """

    folder: Path | None = None
    bucket: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        return self.folder.absolute().as_uri() if self.folder else f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """The key of the object ``name`` in the bucket."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def place(self, name: str) -> str:
        """Where the object ``name`` is, as other programs take it: a path, or an ``s3://`` address."""
        return str(self.folder / name) if self.folder else f"s3://{self.bucket}/{self.key(name)}"

    def below(self, name: str) -> ArchiveUrl:
        """The address of a folder or prefix within this one."""
        return ArchiveUrl(folder=self.folder / name) if self.folder else ArchiveUrl(None, self.bucket, self.key(name))


def parse_archive_url(text: str) -> ArchiveUrl:
    """The archive that a URL names.

    Raises:
        ValueError: the URL is not one of an archive. The message has no part of the URL that may be a secret.

    >>> parse_archive_url("s3://bucket/a/b/")
    ArchiveUrl(folder=None, bucket='bucket', prefix='a/b')
    """
    parts = urlsplit(text)
    if parts.scheme not in ("file", "s3"):
        raise ValueError(f"the scheme {parts.scheme!r} is unknown; {_EXPECTED}" if parts.scheme else _EXPECTED)
    if "@" in parts.netloc:
        raise ValueError("the address must not contain credentials; they are those of boto3, such as AWS_PROFILE")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"the address must not contain ? or #; {_EXPECTED}")
    return _folder(parts.netloc, parts.path) if parts.scheme == "file" else _bucket(parts.netloc, parts.path)


def _folder(host: str, path: str) -> ArchiveUrl:
    folder = unquote(path)
    if host not in ("", "localhost") or not folder.strip("/") or not folder.startswith("/") or "\0" in folder:
        raise ValueError("a folder has three slashes and an absolute path: file:///absolute/folder")
    return ArchiveUrl(folder=Path(folder))


def _bucket(bucket: str, path: str) -> ArchiveUrl:
    if not bucket:
        raise ValueError(f"the bucket is missing; {_EXPECTED}")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _IP_ADDRESS.fullmatch(bucket):
        raise ValueError(
            f"{bucket!r} is not a bucket's name: 3 to 63 lower-case letters, digits, hyphens and dots, and no port"
        )
    prefix = path.strip("/")
    for segment in prefix.split("/") if prefix else []:
        if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
            raise ValueError(
                f"the prefix has the part {segment!r}; use letters, digits and ! - _ . * ' ( ) = between single slashes"
            )
    return ArchiveUrl(bucket=bucket, prefix=prefix)
