"""What tests of backups share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from otc_assets.local.embedded import EmbeddedServer


@pytest.fixture
def other_server(folder_for_all: Path) -> Iterator[EmbeddedServer]:
    """A server that has never had a database of ours; its transaction numbers start low."""
    folder = folder_for_all / "other-server"
    with EmbeddedServer(folder, durable=False) as running:
        yield running
    shutil.rmtree(folder)
