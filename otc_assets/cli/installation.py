"""Opens the installation for commands that run things: the launcher of runs, and the archive.

Commands that only read use ``local.setup.warehouse``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otc_assets.settings import Settings

if TYPE_CHECKING:
    from otc_assets.archive.store import Archive
    from otc_assets.archive_url import ArchiveUrl
    from otc_assets.defs.launch import Launcher


def prepared_archive(url: ArchiveUrl) -> Archive:
    """The archive, for a command that needs it: one that can't be used ends the command before it has begun."""
    from otc_assets.archive.opening import open_archive

    archive = open_archive(url)
    archive.prepare()
    return archive


@contextmanager
def launcher(chosen: Settings) -> Iterator[Launcher]:
    """The launcher of an installation whose schema and retention stay as they are."""
    from otc_assets.local import setup

    with setup.installation(chosen) as prepared, launcher_of(prepared) as opened:
        yield opened


@contextmanager
def launcher_of(prepared: Settings) -> Iterator[Launcher]:
    """The launcher of an installation that is prepared already.

    Raises:
        WrongRole: the role of the database's URL may not write.
    """
    from otc_assets.definitions import make_launcher
    from otc_assets.defs.instance import clean_instance
    from otc_assets.warehouse.roles import require_writer
    from otc_assets.warehouse.server import opened as engine_on
    from otc_assets.warehouse.server import transaction

    assert prepared.database_url is not None
    with engine_on(prepared.database_url.get_secret_value()) as engine, transaction(engine) as connection:
        require_writer(connection)
    with clean_instance(prepared) as instance:
        opened = make_launcher(instance, prepared)
        try:
            yield opened
        finally:
            opened.database.close()
