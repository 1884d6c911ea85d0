"""An installation on this machine: its database and its folders.

Finds or starts the database, and brings schema and folders to this version. The UI and the daemon are in ``services``;
the Dagster instance is opened by ``defs.instance``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from otc_assets import embedded_files
from otc_assets.archive.opening import open_archive
from otc_assets.archive.parallel import problems_of
from otc_assets.errors import OtcError
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import PROJECT_ROOT, Settings
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.migrate import Migrated, is_unmigrated, migrate, require_current
from otc_assets.warehouse.roles import require_owner
from otc_assets.warehouse.server import dagster_storage_url, opened, transaction
from otc_assets.whole_files import write_whole


class NotStarted(OtcError):
    """A part of the local installation did not start. The message says which, and what to do."""


def project_file(name: str) -> Path:
    """A top-level file of the project: in the checkout, or inside an installed package."""
    checkout = PROJECT_ROOT / name
    return checkout if checkout.exists() else Path(__file__).parent.parent / "_project" / name


@contextmanager
def database(chosen: Settings) -> Iterator[str]:
    """The URL of the database: that of the settings, or an embedded server's.

    An embedded server is started unless another process uses it already, and is stopped by the last process that
    uses it.
    """
    if chosen.database_url is not None:
        yield chosen.database_url.get_secret_value()
        return
    with EmbeddedServer(chosen.home / embedded_files.FOLDER) as server:
        yield server.url


def url_for(chosen: Settings, url: str, login: str) -> str:
    """The URL with which a part of the platform works.

    Args:
        chosen: the settings.
        url: what ``database`` yielded.
        login: the login of the embedded server (``embedded_files``). A server that the settings name has one login.
    """
    return url if chosen.database_url is not None else embedded_files.url_of(chosen.home / embedded_files.FOLDER, login)


def resolved(chosen: Settings, url: str) -> Settings:
    """The settings with the URL of the database."""
    return chosen.model_copy(update={"database_url": SecretStr(url)})


def migrate_schema(
    chosen: Settings, url: str, to: str = "head", *, shorten_retention: bool = False, restored: bool = False
) -> Migrated:
    """Migrates a database as ``warehouse.migrate`` does, with the archive, which is asked before rows are dropped."""
    problems = partial(problems_of, open_archive(chosen.archive))
    return migrate(url, chosen, to, shorten_retention=shorten_retention, restored=restored, problems_of=problems)


def upgrade(
    chosen: Settings,
    url: str,
    *,
    shorten_retention: bool = False,
    restored: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> Migrated:
    """Brings the database, Dagster's storage and ``DAGSTER_HOME`` to this version and to the settings.

    Only 'up' and 'migrate' call this for an existing installation.

    Args:
        chosen: the settings.
        url: the database.
        shorten_retention: store shorter retention periods, too.
        restored: the database was restored from a dump; it becomes this server's own.
        waiting: called once before waiting until it is certain that no daemon of an earlier version runs.

    Returns:
        What the migration did.

    Raises:
        StorageInUse: a daemon of an earlier version is running.
        ForeignOrder: the database was restored from a dump of another server, and ``restored`` is not set.
        NotArchived: rows would be lost, because the archive does not have the bytes that they are from.
        WrongRole: the URL's role is not the owner of the schema.
    """
    # Commands that only read need no Dagster, which takes a second.
    from otc_assets.defs.instance import upgrade_storage
    from otc_assets.defs.storage import move_tables

    with opened(url) as engine, transaction(engine) as connection:
        require_owner(connection, "migrate the schema")
    # Tables that OTC_DAGSTER_STORAGE_URL keeps in another place are not moved.
    separate = chosen.dagster_storage_url
    is_ours = separate is None or separate.get_secret_value() == dagster_storage_url(url)
    unused = move_tables(url, waiting) if is_ours else ""
    migrated = migrate_schema(chosen, url, shorten_retention=shorten_retention, restored=restored)
    _write_files(chosen, replace=True)
    of_storage = upgrade_storage(resolved(chosen, url), restored=restored)
    if of_storage in migrated.remark:
        of_storage = ""  # the same server lacks the same roles
    return migrated._replace(remark="; ".join(filter(None, [migrated.remark, unused, of_storage])))


def prepare(chosen: Settings, url: str) -> Settings:
    """Checks an installation for a command that leaves schema and retention as they are.

    What a new embedded database lacks, our schema and Dagster's tables, is created first: nothing in it could be lost.

    Returns:
        The settings with the URL of the database: of the embedded one, for the login that writes.

    Raises:
        SchemaMismatch: the schema is of another version; 'otc-assets migrate' has to run first.
    """
    from otc_assets.defs.instance import is_storage_ready, upgrade_storage

    checked = _check(chosen, url)
    _write_files(chosen, replace=False)
    if chosen.database_url is None and not is_storage_ready(checked):
        upgrade_storage(resolved(chosen, url))
    return checked


def _check(chosen: Settings, url: str) -> Settings:
    if chosen.database_url is None and is_unmigrated(url):
        migrate(url, chosen)
    with opened(url) as engine:
        require_current(engine)
    return resolved(chosen, url_for(chosen, url, embedded_files.APP))


@contextmanager
def installation(chosen: Settings) -> Iterator[Settings]:
    """A prepared installation, for a command that leaves schema and retention as they are.

    Yields:
        The settings with the URL of the database.

    Raises:
        SchemaMismatch: the schema is of another version; 'otc-assets migrate' has to run first.
    """
    with database(chosen) as url:
        yield prepare(chosen, url)


@contextmanager
def warehouse(chosen: Settings) -> Iterator[Database]:
    """The database, for a command that needs none of Dagster's files: ``OTC_HOME`` may be read-only.

    Raises:
        SchemaMismatch: the schema is of another version; 'otc-assets migrate' has to run first.
    """
    with database(chosen) as url, closing(Database(_check(chosen, url).database_url)) as opened_database:
        yield opened_database


def _write_files(chosen: Settings, *, replace: bool) -> None:
    """Creates the folders, and Dagster's configuration file, which a running 'up' may be reading at the moment."""
    home = chosen.dagster_home
    content, path = project_file("dagster.yaml").read_bytes(), home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        chosen.files_folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or (replace and path.read_bytes() != content):
            write_whole(path, content)
    except OSError as error:
        raise NotStarted(
            f"{error.filename}: {error.strerror}",
            remedy="Set OTC_HOME, and OTC_FILES if it is set, to folders that this account may write to; in a "
            "container, mount a volume there.",
        ) from None
