"""Opens the archive that a URL names: a folder, or a prefix in an S3 bucket."""

from __future__ import annotations

from otc_assets.archive.store import ARCHIVE_SETTING, Archive, LocalArchive
from otc_assets.archive_url import ArchiveUrl


def open_archive(url: ArchiveUrl, setting: str = ARCHIVE_SETTING) -> Archive:
    """The archive. Nothing is read or written, and no connection is made.

    Args:
        url: its address.
        setting: the variable that has the address, for errors.
    """
    if url.folder is not None:
        return LocalArchive(url.folder)
    from otc_assets.archive.s3 import S3Archive  # boto3 takes a moment to import

    return S3Archive(url, setting)
