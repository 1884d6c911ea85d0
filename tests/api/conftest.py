"""The API in this process, on the weeks that a first run loads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from support.first_run import FirstRun

from otc_assets.api.app import make_app
from otc_assets.client import Client


@pytest.fixture(scope="session")
def reader(first_run: FirstRun) -> Iterator[Client]:
    """A client with a reader's login."""
    with Client(first_run.reader_url, connections=8) as opened:
        yield opened


@pytest.fixture(scope="session")
def api(reader: Client) -> TestClient:
    """The API without keys and limits, as on loopback."""
    return TestClient(make_app(reader), raise_server_exceptions=False)
