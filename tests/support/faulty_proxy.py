"""An HTTP proxy in front of a server, which disturbs the requests that a test chooses."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal[
    "reset",  # the connection is reset instead of a reply
    "stall",  # no reply
    "slow down",  # S3's reply of an overloaded server
    "not found",  # the reply of a proxy that has lost its server
    "cut request",  # the server receives a half of the body
    "changed request",  # the server receives a body with another bit
    "cut reply",  # the client receives a half of the body
    "stalled reply",  # the same, and then nothing
    "changed reply",  # the client receives a body with another bit
    "lost reply",  # the server does what was requested, and the connection is reset
]

_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@dataclass
class FaultyProxy:
    """A proxy that passes on everything, except what ``disturb`` has announced.

    Attributes:
        port: where it listens.
        seen: the methods and paths of all requests.
    """

    target: int
    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    _faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def disturb(self, fault: Fault, method: str, path: str = "", times: int = 1) -> None:
        """Disturbs the next requests of a method whose path contains ``path``."""
        self._faults += [(method, path, fault)] * times

    def calm(self) -> None:
        """Disturbs nothing from here on."""
        self._faults.clear()

    @property
    def left(self) -> int:
        """How many announced faults have not happened."""
        return len(self._faults)

    def next_fault(self, method: str, path: str) -> Fault | None:
        """The fault of a request."""
        with self._lock:
            self.seen.append((method, path))
            for entry in self._faults:
                if entry[0] == method and entry[1] in path:
                    self._faults.remove(entry)
                    return entry[2]
        return None


def _changed(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, *_: object) -> None:
        """Prints nothing."""

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.next_fault(self.command, self.path)
        if fault == "reset":
            self._reset()
        elif fault == "stall":
            self.proxy._ended.wait()
        elif fault == "slow down":
            self._answer(503, _SLOW_DOWN)
        elif fault == "not found":
            self._answer(404, b"<html><body>404</body></html>")
        else:
            self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.target)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                upstream.putheader(name, value)
        upstream.endheaders()
        if fault == "cut request":
            upstream.send(body[: len(body) // 2])
            upstream.close()
            self._reset()
            return
        upstream.send(_changed(body) if fault == "changed request" else body)
        reply = upstream.getresponse()
        content = reply.read()
        upstream.close()
        if fault == "lost reply":
            self._reset()
            return
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault in ("cut reply", "stalled reply"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault == "stalled reply":
                self.proxy._ended.wait()
            self._reset()
        else:
            self.wfile.write(_changed(content) if fault == "changed reply" else content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Prints nothing: connections break, as they should."""


@contextmanager
def faulty_proxy(target: int) -> Iterator[FaultyProxy]:
    """A proxy in front of the server that listens on the port ``target``."""
    proxy = FaultyProxy(target)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy._ended.set()
            server.shutdown()
