"""The built image, and the processes of the platform that were started from it."""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from containers import ACCOUNT, HOME, Builder, Container, Image, Platform, require_tools
from support.web_server import free_port

from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import PROJECT_ROOT

TAG = "otc-assets:test"
#: Where Linux keeps files in memory, and how much the build takes there at most: buildah's storage copies every layer.
_MEMORY = Path("/dev/shm")  # noqa: S108
_MEMORY_BYTES = 6 << 30


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The image, built from the Dockerfile on a base of this machine's Debian mirror. It takes minutes."""
    require_tools()
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES
    folder = Path(tempfile.mkdtemp(prefix="otc-image-", dir=_MEMORY if has_room else None))
    builder = Builder(folder)
    try:
        builder.make_base()
        builder.download()
        builder.build(TAG)
        yield Image(builder.mount(TAG), builder.config(TAG), folder)
    finally:
        builder.close()


@pytest.fixture(scope="session")
def platform(image: Image, server: EmbeddedServer, folder_for_all: Path) -> Iterator[Platform]:
    """Code server, webserver, daemon and exporter, with the commands of compose.yaml and the URL as a secret file.

    The first week is the newest one that is published in all tiers: what the sensors capture meanwhile is little.
    """
    with server._connect("postgres") as admin:
        admin.execute("CREATE DATABASE image OWNER otc")
    # Tier 2 is due five weeks after the week's Monday, or a day or two later.
    monday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=38)
    week = str(monday - dt.timedelta(days=monday.weekday()) + dt.timedelta(days=4))
    volume = Path(tempfile.mkdtemp(prefix="otc-volume-", dir=folder_for_all))
    shutil.chown(volume, ACCOUNT, ACCOUNT)
    code, ui, metrics = free_port(), free_port(), free_port()
    (volume / "secrets").mkdir()
    url = server.url.rpartition("/")[0] + "/image"
    (volume / "secrets/otc_database_url").write_text(url)
    settings = {"OTC_SECRETS_DIR": f"{HOME}/secrets", "OTC_SIMULATOR_SCALE": "0.01", "OTC_FIRST_WEEK": week}
    ended = image.run("migrate", volume=volume, settings=settings)
    assert ended[0] == 0, ended[1]
    workspace = (PROJECT_ROOT / "deploy/compose/workspace.yaml").read_text()
    (volume / "workspace.yaml").write_text(workspace.replace("code-server", "127.0.0.1").replace("4000", code))
    ports = {
        "code-server": ("4000", code),
        "webserver": ("3000", ui),
        "daemon": ("none", "none"),
        "exporter": ("9464", metrics),
    }
    services = yaml.safe_load((PROJECT_ROOT / "compose.yaml").read_text())["services"]
    commands = {
        name: [
            word.replace(f"--port={usual}", f"--port={free}").replace("=0.0.0.0", "=127.0.0.1")
            for word in " ".join(services[name]["command"]).replace("/etc/otc-assets", HOME).split()
        ]
        for name, (usual, free) in ports.items()
    }
    containers: dict[str, Container] = {}
    try:
        for name, words in commands.items():
            containers[name] = image.start(*words, volume=volume, settings=settings)
        yield Platform(url, volume, week, ui, metrics, containers)
    finally:
        for container in containers.values():
            container.stop()
        with server._connect("postgres") as admin:
            admin.execute("DROP DATABASE image WITH (FORCE)")


@pytest.fixture
def image_database(platform: Platform) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection to the database of the platform."""
    with psycopg.connect(platform.url, autocommit=True) as connection:
        yield connection
