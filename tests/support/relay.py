"""A relay between a client and PostgreSQL, which can fall silent or lose the client's side of a line."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

#: The first byte of a client's messages that ask something, after the login.
_QUERIES = (b"Q", b"P")


@dataclass
class Relay:
    """What a test can do with the relay.

    Attributes:
        url: of the database, through the relay.
        silence: while it is set, nothing is passed on; it follows later.
        swallowing: while it is set, the login is passed on, and no query ever.
    """

    url: str
    silence: threading.Event = field(default_factory=threading.Event)
    swallowing: threading.Event = field(default_factory=threading.Event)
    _lost: bool = False
    _clients: list[socket.socket] = field(default_factory=list)

    def lose_clients(self) -> None:
        """Ends the clients' side of all lines; the server keeps its side."""
        self._lost = True
        for client in self._clients:
            client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()


@contextmanager
def relay(database: str) -> Iterator[Relay]:
    """A relay to the database of a URL."""
    info = psycopg.conninfo.conninfo_to_dict(database)
    closing_down = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    before, _, after = database.rpartition("@")
    made = Relay(f"{before}@127.0.0.1:{listening.getsockname()[1]}/{after.partition('/')[2]}")
    servers: list[socket.socket] = []

    def pass_on(source: socket.socket, target: socket.socket, *, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while made.silence.is_set() and not closing_down.is_set():
                    time.sleep(0.01)
                if not (asks and made.swallowing.is_set() and data[:1] in _QUERIES):
                    target.sendall(data)
        if not (asks and made._lost):
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while not closing_down.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.create_connection((str(info["host"]), int(str(info["port"]))))
            made._lost = False
            made._clients.append(client)
            servers.append(server)
            for source, target, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=pass_on, args=(source, target), kwargs={"asks": asks}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield made
    finally:
        closing_down.set()
        listening.close()
        for line in [*made._clients, *servers]:
            with suppress(OSError):  # a thread may wait for it, which closing it alone does not end
                line.shutdown(socket.SHUT_RDWR)
            line.close()
