"""The database role of `helm test`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console_script import console_script

from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings


@pytest.fixture
def reader(server: EmbeddedServer, installation: Path, database: str) -> Iterator[str]:
    """The URL of the database for a role that may only read."""
    with server._connect("postgres") as admin:
        admin.execute("CREATE ROLE chart_reader LOGIN PASSWORD 'reads' IN ROLE pg_read_all_data")
        try:
            yield f"postgresql://chart_reader:reads@{database.rpartition('@')[2]}"
        finally:
            admin.execute("DROP ROLE chart_reader")


def test_status_works_with_a_role_that_may_only_read(
    reader: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what `helm test` runs, with secrets.database.readerKey."""
    monkeypatch.setenv("OTC_DATABASE_URL", reader)
    settings.cache_clear()
    code, text, said = console_script(monkeypatch, capsys)("status")
    assert code == 0, said
    assert "week_ending" in text
