"""HTTP servers that misbehave below HTTP: they stall, drip, and send what they do not announce."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serves every connection by ``answer``, after its request was read; gives the address.

    A client that hangs up ends its connection alone.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    open_connections: list[socket.socket] = []

    def serve_one(connection: socket.socket) -> None:
        try:
            connection.recv(1 << 16)
            answer(connection)
        except OSError:
            pass
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            open_connections.append(connection)
            threading.Thread(target=serve_one, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        for connection in open_connections:
            connection.close()


def head(status: str = "200 OK", **headers: str) -> bytes:
    """A status line and headers; underscores in their names are hyphens."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()
