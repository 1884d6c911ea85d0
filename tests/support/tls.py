"""Servers with TLS: an authority of our own, and a front that ends TLS and passes the bytes on to a plain server.

The certificates are trustme's. The PostgreSQL of the embedded server is built without OpenSSL, so the front answers the
request for TLS with which clients of PostgreSQL begin.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme

#: What a client of PostgreSQL sends first to ask for TLS: length and code.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Authority:
    """An authority for certificates, with its own certificate in a file.

    Attributes:
        file: the certificate of the authority, for clients that trust it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def context(self, host: str) -> ssl.SSLContext:
        """What a server with a certificate for ``host`` needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(host).configure_cert(context)
        return context


@contextmanager
def front(context: ssl.SSLContext, target: int, *, of_postgres: bool = False) -> Iterator[int]:
    """Listens on loopback with TLS, and passes what it receives on to the port ``target``. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(plain: socket.socket) -> None:
            with suppress(OSError), plain:
                if of_postgres:
                    if _received(plain, len(_SSL_REQUEST)) != _SSL_REQUEST:
                        return
                    plain.sendall(b"S")
                with (
                    context.wrap_socket(plain, server_side=True) as client,
                    socket.create_connection(("127.0.0.1", target)) as server,
                ):
                    replies = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                    replies.start()
                    _pass_on(client, server)
                    replies.join()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    plain, _ = listener.accept()
                    threading.Thread(target=serve, args=(plain,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _received(sender: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (piece := sender.recv(size - len(received))):
        received += piece
    return received


def _pass_on(sender: socket.socket, receiver: socket.socket) -> None:
    with suppress(OSError):
        while piece := sender.recv(65536):
            receiver.sendall(piece)
    with suppress(OSError):
        receiver.shutdown(socket.SHUT_RDWR)


@contextmanager
def mail_server(context: ssl.SSLContext, *, starttls: bool) -> Iterator[tuple[int, list[str]]]:
    """An SMTP server on loopback that takes messages over TLS only, from the start or after STARTTLS.

    Yields:
        Its port, and the messages that it has received.
    """
    messages: list[str] = []

    def session(connection: socket.socket, *, greets: bool = True) -> None:
        stream = connection.makefile("rwb", buffering=0)
        is_secure = isinstance(connection, ssl.SSLSocket)
        if greets:
            stream.write(b"220 localhost ready\r\n")
        while line := stream.readline():
            word = line.split()[0].upper()
            if word == b"EHLO":
                stream.write(b"250 localhost\r\n" if is_secure else b"250-localhost\r\n250 STARTTLS\r\n")
            elif word == b"STARTTLS":
                stream.write(b"220 go ahead\r\n")
                with context.wrap_socket(connection, server_side=True) as secure:
                    session(secure, greets=False)
                return
            elif not is_secure:
                stream.write(b"530 TLS is needed\r\n")
            elif word == b"DATA":
                stream.write(b"354 send it\r\n")
                messages.append(b"".join(iter(stream.readline, b".\r\n")).decode())
                stream.write(b"250 received\r\n")
            else:
                stream.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    plain, _ = listener.accept()
                    with suppress(OSError), plain:
                        if starttls:
                            session(plain)
                        else:
                            with context.wrap_socket(plain, server_side=True) as secure:
                                session(secure)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(listener.getsockname()[1]), messages
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
