"""Raw connections to a server, for what an HTTP client would not send or not show."""

from __future__ import annotations

import socket


def read_to_end(connection: socket.socket, seconds: float) -> bytes:
    """What the server sends until it closes the connection. A silence of so many seconds is an error."""
    connection.settimeout(seconds)
    received = b""
    while block := connection.recv(1 << 16):
        received += block
    return received
