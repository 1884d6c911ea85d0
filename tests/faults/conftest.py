"""Fixtures: a server of its own, because faults stop it, and processes that operations are performed in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.forks import Forks
from faults.lines import Installation

from otc_assets.local import setup
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import settings


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many cases there were."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    found = [properties for report in reports if "cases" in (properties := dict(report.user_properties))]
    if found:
        points, cases = (sum(int(properties[what]) for properties in found) for what in ("points", "cases"))
        terminalreporter.write_line(f"{points:,} points of {len(found)} assets: {cases:,} cases")


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Performs tasks."""
    opened = Forks(tmp_path_factory.mktemp("forks"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def own_server(folder_for_all: Path) -> Iterator[EmbeddedServer]:
    """A server that faults may stop."""
    with EmbeddedServer(folder_for_all / "faults", durable=False) as running:
        with running._connect("postgres") as admin:
            # What was committed is there after the server was stopped: the system has the WAL, if not the disk.
            admin.execute("ALTER ROLE otc SET synchronous_commit = 'on'")
        yield running


@pytest.fixture(scope="session")
def prepared(own_server: EmbeddedServer, folder_for_all: Path) -> Installation:
    """An installation with nothing in it, to copy."""
    place = Installation(own_server, "otc", folder_for_all / "prepared")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in place.environment.items():
            environment.setenv(name, value)
        settings.cache_clear()
        setup.upgrade(settings(), place.url)
    settings.cache_clear()
    return place
