"""What tests of backups share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import time_machine

from otc_assets.local.embedded import EmbeddedServer


@pytest.fixture
def in_october() -> Iterator[None]:
    """A day on which the weeks up to 21 August are published."""
    with time_machine.travel("2026-10-14T12:00:00Z", tick=True):
        yield


@pytest.fixture
def other_server(folder_for_all: Path) -> Iterator[EmbeddedServer]:
    """A server that has never had a database of ours; its transaction numbers start low."""
    folder = folder_for_all / "other-server"
    with EmbeddedServer(folder, durable=False) as running:
        yield running
    shutil.rmtree(folder)
