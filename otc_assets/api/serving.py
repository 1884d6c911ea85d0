"""Serves the HTTP API: refuses an unsafe configuration, and chooses how many connections there may be.

How connections of clients are bounded is in ``http_server``.
"""

from __future__ import annotations

from collections.abc import Callable

from otc_assets.api.access import Keys
from otc_assets.api.app import make_app
from otc_assets.archive.opening import open_archive
from otc_assets.client import Client
from otc_assets.errors import OtcError
from otc_assets.http_guard import is_loopback
from otc_assets.http_server import listening_on, server_of
from otc_assets.settings import Settings

#: Connections to the database, and from clients.
DATABASE_CONNECTIONS, MAX_CONNECTIONS = 8, 128
#: Seconds for a statement.
STATEMENT_SECONDS = 30.0
#: How long a connection is kept between two requests.
_IDLE_SECONDS = 5
#: Seconds for the statement of /health, which has a connection of its own.
PROBE_SECONDS = 2.0


class KeysNeeded(OtcError):
    """Other machines could read everything without a key."""


def serve(chosen: Settings, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until a signal ends it.

    Args:
        chosen: the settings.
        host: the address to listen on.
        port: 0 takes a free one.
        ready: is called with the address once requests are accepted.

    Raises:
        KeysNeeded: other machines reach the address, and no file of keys is set.
        OSError: the address can't be listened on.
    """
    keys = Keys(chosen.api_keys) if chosen.api_keys is not None else None
    local = is_loopback(host)
    if keys is None and not local:
        raise KeysNeeded(
            f"other machines reach {host}, and no API keys are set",
            remedy="Set OTC_API_KEYS to a file of keys ('otc-assets serve --new-key NAME' makes one), or serve this "
            "machine only: --host 127.0.0.1.",
        )
    with (
        Client(timeout=STATEMENT_SECONDS, connections=DATABASE_CONNECTIONS) as client,
        Client(timeout=PROBE_SECONDS, connections=1) as probe,
        listening_on(host, port) as listening,
    ):
        app = make_app(
            client,
            probe=probe,
            archive=open_archive(chosen.archive),
            keys=keys,
            requests_per_minute=chosen.api_requests_per_minute,
            names=chosen.host_names if local else None,
            origins=chosen.origins,
        )
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}")
        server = server_of(app, connections=MAX_CONNECTIONS, idle_seconds=_IDLE_SECONDS, stop_seconds=10)
        server.run(sockets=[listening])
