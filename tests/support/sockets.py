"""Raw connections to a server, for what an HTTP client would not send or not show; and who listens where."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress

import psutil


def read_to_end(connection: socket.socket, seconds: float) -> bytes:
    """What the server sends until it closes the connection. A silence of so many seconds is an error."""
    connection.settimeout(seconds)
    received = b""
    while block := connection.recv(1 << 16):
        received += block
    return received


def ports_on_loopback(processes: Iterable[psutil.Process]) -> set[int]:
    """The ports on which the processes take connections or datagrams. One that other machines can reach is an error."""
    ports = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            for connection in process.net_connections(kind="inet"):
                if connection.laddr and not connection.raddr:
                    address, port = connection.laddr
                    assert ipaddress.ip_address(address).is_loopback, (address, port, process.cmdline())
                    ports.add(port)
    return ports
