"""Sending a message: a server that never completes its reply keeps neither a thread nor a process busy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from finra.raw_http import raw_server
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from otc_assets.alerting.delivery import Message, destinations
from otc_assets.alerting.sending import send_in_child

pytestmark = pytest.mark.slow

MESSAGE = Message("otc-assets: a title", "a body", kind="failure")


def drip(connection: socket.socket) -> None:
    """Sends a header byte by byte, until the client closes the connection."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def children() -> set[int]:
    """Without those of servers that other tests share, which start processes when they like."""
    return {child.pid for child in psutil.Process().children()}


def test_a_server_that_sends_a_header_without_end_leaves_no_thread_and_no_process() -> None:
    ours = children()
    with raw_server(drip) as url:
        (destination,) = destinations(SecretStr(url.replace("http", "json") + "/hooks/hunter3"), "http://ui")
        threads = set(threading.enumerate())
        assert destination.send(MESSAGE, 5) == "JSON (1 of 1): no answer within 5 s"
        # The server's own threads are those of test support: only they may be new.
        new = {thread for thread in threading.enumerate() if thread not in threads and not thread.daemon}
    assert new == set()
    assert children() <= ours


def test_the_command_that_sends_a_test_message_ends_although_the_server_never_does(tmp_path: Path) -> None:
    """It printed the reason, and then waited at exit for the thread that still read headers."""
    program = (
        "import otc_assets.alerting.delivery as delivery, otc_assets.cli as cli\n"
        "delivery._ONE_DESTINATION_SECONDS = 5\n"
        "cli.main()"
    )
    with raw_server(drip) as url:
        environment = {
            **os.environ,
            "OTC_HOME": str(tmp_path),
            "OTC_ALERT_URL": url.replace("http", "json") + "/hooks/hunter3",
        }
        done = subprocess.run(
            [sys.executable, "-c", program, "alerts", "test"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,  # without the bound it never ends
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert "JSON (1 of 1): no answer within 5 s" in done.stdout + done.stderr
    assert "hunter" not in done.stdout + done.stderr


def test_the_service_receives_the_message_and_its_reasons_come_back(httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request("/hook", method="POST").respond_with_data("")
    httpserver.expect_oneshot_request("/hook", method="POST").respond_with_data("", status=503)
    request = {
        "url": f"json://{httpserver.host}:{httpserver.port}/hook",
        "ui_url": "http://ui",
        **MESSAGE.__dict__,
    }
    assert send_in_child(request, 60) is None
    received = json.loads(httpserver.log[0][0].data)
    assert (received["title"], received["message"], received["type"]) == ("otc-assets: a title", "a body", "failure")
    reasons = send_in_child(request, 60)
    assert reasons is not None
    assert "error=503" in reasons[0]


def test_a_redirect_is_not_taken_for_a_delivery(httpserver: HTTPServer) -> None:
    """The page of a login answered with 200, and the alert counted as delivered."""
    elsewhere = {"Location": httpserver.url_for("/login")}
    httpserver.expect_request("/hook", method="POST").respond_with_data("", status=302, headers=elsewhere)
    httpserver.expect_request("/login").respond_with_data("<form>Log in</form>")
    url = f"json://{httpserver.host}:{httpserver.port}/hook"
    reasons = send_in_child({"url": url, "ui_url": "http://ui", **MESSAGE.__dict__}, 60)
    assert reasons is not None
    assert "error=302" in reasons[0]
    assert [request.path for request, _ in httpserver.log] == ["/hook"]


def test_a_process_that_fails_is_reported_without_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"^the process that sends alerts ended with exit code 1$"):
        send_in_child({"url": "json://hunter2"}, 60)


def test_the_sending_process_ends_in_time_although_the_one_that_started_it_was_killed() -> None:
    with raw_server(drip) as url:
        request = {"url": url.replace("http", "json"), "ui_url": "http://ui", **MESSAGE.__dict__, "seconds": 2}
        child = subprocess.Popen(
            [sys.executable, "-m", "otc_assets.alerting.sending"], stdin=subprocess.PIPE, text=True
        )
        try:
            child.communicate(json.dumps(request), timeout=120)
        finally:
            child.kill()
    assert child.returncode == -14
