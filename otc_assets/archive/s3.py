"""The archive on S3: raw bytes at ``sha256/ab/cdef...zst`` below a prefix of a bucket, and objects by name beside them.

Endpoint, region, credentials and retries are those that boto3 takes from its environment and files. The errors of boto3
are turned into ours here; their own texts may contain access keys and are not shown.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as ConnectionFailed

from otc_assets.archive.store import (
    ARCHIVE_SETTING,
    CAPTURE_AGAIN,
    ArchiveUnavailable,
    DamagedObject,
    MissingObject,
    as_content,
    discard,
    unpacked,
)
from otc_assets.archive_url import ArchiveUrl
from otc_assets.content import Content, Spool, joined

log = logging.getLogger(__name__)

T = TypeVar("T")

_RAW = "sha256"
_RAW_NAME = re.compile(rf"{_RAW}/([0-9a-f]{{2}})/([0-9a-f]{{62}})\.zst")

#: Larger objects are written in parts of this size.
PART_BYTES = 8 << 20

#: boto3 waits for a minute each. A request has three attempts (AWS_MAX_ATTEMPTS), so a minute and a half at most.
_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 20}

#: S3 limits the metadata of an object to 2 KB.
_ORIGIN_BYTES = 1000

#: A reply's body was cut off, stalled, or has another checksum. boto3 repeats requests, not the reading of a body.
_BODY_ATTEMPTS = 3
_BROKEN_BODY = (HTTPClientError, IncompleteReadError, FlexibleChecksumError)

#: The object is there already, another process is writing it, or the first attempt of this request wrote it and its
#: reply was lost. Reading it back tells.
_MAY_BE_WRITTEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"})

_CREDENTIALS = (
    "Check the credentials that boto3 finds: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of "
    "the pod or machine."
)
_RIGHTS = "Grant the rights that docs/security.md lists."
_REGION = "Set AWS_REGION to the region of the bucket."
_LATER = "It is overloaded or has a fault. Try again later."
_CODE = "The documentation of the S3 server explains the code."
_SETTINGS = "Check the settings of boto3: AWS_ENDPOINT_URL (https://host:port), AWS_REGION, AWS_PROFILE."
_TLS = (
    "Set AWS_CA_BUNDLE to a file with the certificate of the authority that has signed the server's, and use a name in "
    "the server's certificate in AWS_ENDPOINT_URL (docs/security.md)."
)
_NETWORK = "Check AWS_ENDPOINT_URL and the network."

#: What to do, by the code of S3's error; ``setting`` is the variable that names the bucket.
_REMEDIES = {
    "NoSuchBucket": "The bucket does not exist. Create it, or correct {setting}.",
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        _CREDENTIALS,
    ),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "403"), f"{_CREDENTIALS} {_RIGHTS}"),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint", "301"), _REGION),
    **dict.fromkeys(("SlowDown", "RequestTimeout"), _LATER),
    "404": "This is not a server of S3, or it has no such bucket. Correct AWS_ENDPOINT_URL or {setting}.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong. Correct it.",
}
_CREDENTIAL_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ProfileNotFound,
    TokenRetrievalError,
)


def s3_client() -> Any:
    """A client of S3, as boto3's environment and files describe it, with shorter time-outs.

    If an endpoint is set, boto3 addresses buckets by path, unless its configuration says otherwise.

    Raises:
        ArchiveUnavailable: the configuration names things that don't exist, or the endpoint is not an address.
    """
    try:
        return boto3.session.Session().client("s3", config=Config(tcp_keepalive=True, **_TIMEOUTS))
    except (BotoCoreError, ValueError) as error:
        remedy = _CREDENTIALS if isinstance(error, _CREDENTIAL_ERRORS) else _SETTINGS
        raise ArchiveUnavailable(f"no connection to S3 is possible ({_name(error)})", remedy=remedy) from None


class S3Archive:
    """An archive below a prefix of a bucket.

    Args:
        url: the bucket and the prefix.
        setting: the variable that names them, for errors.
    """

    def __init__(self, url: ArchiveUrl, setting: str = ARCHIVE_SETTING) -> None:
        self._url = url
        self._setting = setting
        self._bucket = url.bucket

    @cached_property
    def _client(self) -> Any:
        return s3_client()

    def prepare(self) -> None:
        """Asks for the names of the archive. The parts of unfinished uploads are no objects: they stay."""
        with self._errors("listed"):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._url.key(""), MaxKeys=1)

    def spool(self) -> Spool:
        """Takes bytes piece by piece, into the folder for temporary files: S3 can't rename an object."""
        return Spool()

    def put(self, content: bytes | Content, origin: str = "") -> str:
        """Stores ``content`` completely or not at all, and reads it back."""
        content = as_content(content)
        digest = content.digest
        # Only an object that is not there is written, so a delayed request can't replace one that is.
        condition = {"IfNoneMatch": "*"}
        try:
            self.check(digest)
        except MissingObject:
            pass
        except DamagedObject:
            log.warning("%s is damaged and is replaced: the same bytes were captured again", self._where(_key(digest)))
            condition = {}
        else:
            return digest
        metadata = {"sha256": digest, "origin": quote(origin, safe=" /:?=&.,_-()")[:_ORIGIN_BYTES]}
        self._write(_key(digest), content.packed(), condition, metadata)
        try:
            self.check(digest)
        except MissingObject:
            where = self._where(_key(digest))
            raise ArchiveUnavailable(f"{where} is not there after it was written", remedy=_LATER) from None
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``, checked against it."""
        return self._unpacked(digest, joined)

    def check(self, digest: str) -> None:
        """Compares the bytes of ``digest`` with it."""
        self._unpacked(digest, discard)

    def digests(self) -> Iterator[str]:
        """The digests in the names of the objects."""
        return ("".join(found.groups()) for name in self.names(_RAW) if (found := _RAW_NAME.fullmatch(name)))

    def put_named(self, name: str, content: bytes) -> None:
        """Stores an object under a name. S3 has stored it durably when it replies, and compares its checksum."""
        with self._errors("written", name):
            self._client.put_object(
                Bucket=self._bucket, Key=self._url.key(name), Body=content, ChecksumSHA256=_checksum(content)
            )

    def get_named(self, name: str) -> bytes:
        """The object of that name."""
        return self._read(name, lambda body: bytes(body.read()))

    def names(self, folder: str) -> Iterator[str]:
        """The names of the objects below ``folder``."""
        with self._errors("listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._url.key(f"{folder}/")
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"][len(self._url.key("")) :]

    # --- requests ------------------------------------------------------------------------------------------

    def _unpacked(self, digest: str, use: Callable[[Iterator[bytes]], T]) -> T:
        where = self._where(_key(digest))
        return self._read(_key(digest), lambda body: use(unpacked(body, digest, where)))

    def _read(self, name: str, read: Callable[[BinaryIO], T]) -> T:
        """What ``read`` makes of an object's body; it is called again if the body breaks off."""
        with self._errors("read", name):
            for left in reversed(range(_BODY_ATTEMPTS)):
                body = self._client.get_object(Bucket=self._bucket, Key=self._url.key(name))["Body"]
                try:
                    return read(body)
                except _BROKEN_BODY:
                    if not left:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _write(self, name: str, packed: BinaryIO, condition: dict[str, str], metadata: dict[str, str]) -> None:
        """Writes an object. That it may be there already is no error."""
        where = {"Bucket": self._bucket, "Key": self._url.key(name)}
        described = {"Metadata": metadata, "ContentType": "application/zstd"}
        with self._errors("written", name):
            try:
                if packed.seek(0, io.SEEK_END) > PART_BYTES:
                    self._write_parts(where, packed, condition, described)
                else:
                    packed.seek(0)
                    body = packed.read()
                    checksum = _checksum(body)
                    self._client.put_object(**where, **described, **condition, Body=body, ChecksumSHA256=checksum)
            except ClientError as error:
                if _code(error) not in _MAY_BE_WRITTEN:
                    raise

    def _write_parts(
        self, where: dict[str, str], packed: BinaryIO, condition: dict[str, str], described: dict[str, Any]
    ) -> None:
        """Writes an object in parts, which boto3's own uploads can't do under a condition."""
        upload = self._client.create_multipart_upload(**where, **described, ChecksumAlgorithm="SHA256")["UploadId"]
        try:
            parts = []
            packed.seek(0)
            for number, part in enumerate(iter(lambda: packed.read(PART_BYTES), b""), 1):
                checksum = {"ChecksumSHA256": _checksum(part)}
                reply = self._client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part, **checksum)
                parts.append({"PartNumber": number, "ETag": reply["ETag"], **checksum})
            self._client.complete_multipart_upload(
                **where, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
            )
        except BaseException:
            try:
                self._client.abort_multipart_upload(**where, UploadId=upload)
            except (BotoCoreError, ClientError) as error:  # the first error matters
                log.warning("the parts of an upload are left (%s): a lifecycle rule can delete them", _name(error))
            raise

    @contextmanager
    def _errors(self, done: str, name: str = "") -> Iterator[None]:
        """Turns errors of boto3 into ours, without their texts and their causes.

        Args:
            done: what could not be done.
            name: the object; empty for the archive as a whole.
        """
        try:
            yield
        except FlexibleChecksumError:
            where = self._where(name)
            raise DamagedObject(
                f"{where} is damaged (its bytes have another checksum)", remedy=f"Restore it, or {CAPTURE_AGAIN}"
            ) from None
        except ClientError as error:
            if _code(error) == "NoSuchKey":  # and not any 404, which a proxy can send
                raise MissingObject(
                    f"the archive has no {self._where(name)}: it was deleted, or {self._setting} was changed",
                    remedy=f"Restore it, or {CAPTURE_AGAIN}",
                ) from None
            remedy = _REMEDIES.get(_code(error), _LATER if _status(error) >= 500 else _CODE)
            raise self._unavailable(done, name, error, remedy.format(setting=self._setting)) from None
        except _CREDENTIAL_ERRORS as error:
            raise self._unavailable(done, name, error, _CREDENTIALS) from None
        except SSLError as error:
            raise self._unavailable(done, name, error, _TLS) from None
        except (ConnectionFailed, HTTPClientError, IncompleteReadError) as error:
            raise self._unavailable(done, name, error, _NETWORK) from None
        except BotoCoreError as error:
            raise self._unavailable(done, name, error, _SETTINGS) from None

    def _unavailable(self, done: str, name: str, error: Exception, remedy: str) -> ArchiveUnavailable:
        return ArchiveUnavailable(
            f"{self._where(name)} can't be {done} at {_host(self._client)} ({_name(error)})", remedy=remedy
        )

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._url.key(name)}" if name else str(self._url)


def _key(digest: str) -> str:
    return f"{_RAW}/{digest[:2]}/{digest[2:]}.zst"


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _code(error: ClientError) -> str:
    """The code of S3, or the status of a reply that has none."""
    return str(error.response.get("Error", {}).get("Code") or _status(error))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _name(error: Exception) -> str:
    return _code(error) if isinstance(error, ClientError) else type(error).__name__


def _host(client: Any) -> str:
    """The address of the server, without credentials."""
    parts = urlsplit(client.meta.endpoint_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
