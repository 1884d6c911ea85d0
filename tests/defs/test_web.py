"""Who may use the Dagster UI: a real web server, and requests as a browser sends them from pages of other sites."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pytest_httpserver import HTTPServer
from support.tools import missing
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from otc_assets.defs.web import _with_our_webserver
from otc_assets.http_guard import LOOPBACK_NAMES, host_name, is_allowed
from otc_assets.settings import Settings, secret_variables

pytestmark = pytest.mark.slow

MUTATION = "mutation { setNuxSeen }"
SEEN = "{ shouldShowNux }"
PATIENCE = 300


class Server:
    """A web server of ours without any code location."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "web.log"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "otc_assets.defs.web", "--empty-workspace", "--port", str(self.port), *options],
                env=env | {"DAGSTER_HOME": str(home)} | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if httpx.get(f"{self.url}/server_info", timeout=PATIENCE).is_success:
                    return
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.2)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=PATIENCE, **options)

    def graphql(self, query: str, **headers: str) -> httpx.Response:
        return self.request("POST", "/graphql", json={"query": query}, headers=headers)

    def was_changed(self) -> bool:
        """Whether a mutation was carried out. Then another server is needed: it can't be undone."""
        return self.graphql(SEEN).json()["data"]["shouldShowNux"] is False

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("web"))
    yield server
    server.stop()


def test_programs_and_our_own_pages_are_served_and_change_things(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        page = server.request("GET", "/", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["x-frame-options"]) == (200, "SAMEORIGIN")
        by_get = server.request("GET", "/graphql", params={"query": "{ version }"})
        assert by_get.json() == {"data": {"version": "1.13.27"}}
        assert not server.was_changed()
        for headers in (
            {},
            {"Origin": server.url},
            {"Origin": f"http://localhost:{server.port}", "Host": f"localhost:{server.port}"},
            {"Origin": f"http://[::1]:{server.port}", "Host": f"[::1]:{server.port}"},
        ):
            assert server.graphql(MUTATION, **headers).json() == {"data": {"setNuxSeen": True}}
        assert server.was_changed()
    finally:
        server.stop()


def test_a_read_only_server_shows_everything_and_launches_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, "--read-only")
    try:
        found = server.graphql("{ permissions { permission value } }").json()["data"]["permissions"]
        granted = {one["permission"] for one in found if one["value"]}
        assert not {name for name in granted if "launch" in name or "delete" in name or "edit" in name}, granted
        assert len(found) > 20
        wipe = 'mutation { deleteRun(runId: "x") { __typename } }'
        assert server.graphql(wipe).json()["data"]["deleteRun"]["__typename"] == "UnauthorizedError"
        assert server.graphql("{ version }").json()["data"] == {"version": "1.13.27"}
    finally:
        server.stop()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example:{port}", "a@localhost"],
)
@pytest.mark.parametrize("path", ["/", "/graphql?query=%7Bversion%7D", "/server_info", "/logs/a.out"])
def test_another_sites_name_for_our_address_is_refused(web: Server, host: str, path: str) -> None:
    """DNS rebinding: a page gives its own name our address, and is then of our origin to the browser."""
    answer = web.request("GET", path, headers={"Host": host.format(port=web.port)})
    assert answer.status_code == 403
    assert "OTC_ALLOWED_HOSTS" in answer.text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", ""])
def test_a_page_of_another_origin_changes_nothing(web: Server, origin: str) -> None:
    answer = web.graphql(MUTATION, Origin=origin)
    assert answer.status_code == 403
    assert "OTC_PUBLIC_URL" in answer.text
    assert not web.was_changed()


def test_mutations_by_get_are_refused(web: Server) -> None:
    """The address of an image on any page could launch a run."""
    for query in (MUTATION, "{ version } " + MUTATION.replace("mutation", "mutation M"), "subscription { x }"):
        answer = web.request("GET", f"/graphql?query=%7Bversion%7D&query={quote(query)}")
        assert (answer.status_code, "by POST" in answer.text) == (405, True), query
    assert web.request("GET", "/graphql?query=%7B").status_code == 400
    assert not web.was_changed()


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; x=application/json", "application/graphql", None])
def test_what_a_form_can_send_is_refused(web: Server, content_type: str | None) -> None:
    """Browsers send such requests to any site without asking it first, and Dagster looks for JSON anywhere in it."""
    headers = {"Content-Type": content_type} if content_type else {}
    body = json.dumps({"query": MUTATION})
    for path in (f"/graphql?query={quote(MUTATION)}", "/report_asset_materialization/venue_volume"):
        answer = web.request("POST", path, content=body, headers=headers)
        assert (answer.status_code, "application/json" in answer.text) == (415, True)
    form = web.request("POST", f"/graphql?query={quote(MUTATION)}", data={"query": MUTATION})
    assert form.status_code == 415
    assert not web.was_changed()


def test_subscriptions_are_for_our_own_pages(web: Server) -> None:
    """Browsers let a page open a web socket to any site, and read from it."""
    address = web.url.replace("http", "ws") + "/graphql"
    for origin in (web.url, None):
        with connect(address, origin=origin, subprotocols=["graphql-ws"], open_timeout=PATIENCE) as socket:
            socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(socket.recv(PATIENCE)) == {"type": "connection_ack"}
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin="https://evil.example", subprotocols=["graphql-ws"], open_timeout=PATIENCE)
    assert refused.value.response.status_code == 403
    assert b"OTC_PUBLIC_URL" in refused.value.response.body


def test_a_page_in_a_real_browser_that_is_not_ours_changes_nothing(web: Server, httpserver: HTTPServer) -> None:
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        missing("no Chromium is installed", "Debian: apt install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    page_text = """<html><body><img src="URL/graphql?query=GET"><script>
        const socket = new WebSocket("URL/graphql".replace("http", "ws"), "graphql-ws");
        const body = JSON.stringify({query: MUTATION});
        const post = options => fetch("URL/graphql", {method: "POST", body, ...options});
        Promise.allSettled([
            post({mode: "no-cors"}),
            post({headers: {"Content-Type": "application/json"}}),
            new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; }),
        ]).then(all => document.title = all.map(one => one.status).join(" "));
        </script></body></html>"""
    for word, value in (("URL", web.url), ("GET", quote(MUTATION)), ("MUTATION", json.dumps(MUTATION))):
        page_text = page_text.replace(word, value)
    httpserver.expect_request("/page").respond_with_data(page_text, content_type="text/html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(httpserver.url_for("/page"), timeout=PATIENCE * 1000)
        page.wait_for_function("document.title != ''", timeout=PATIENCE * 1000)
        # What the first one was answered is hidden from the page, and the others did not get through.
        assert page.title() == "fulfilled rejected rejected"
        browser.close()
    assert not web.was_changed()


def test_a_server_behind_a_proxy_answers_to_its_public_address(tmp_path: Path) -> None:
    server = Server(tmp_path, OTC_PUBLIC_URL="https://dagster.example.org/otc", OTC_ALLOWED_HOSTS="*.example.net")
    try:
        for host, origin in [
            ("dagster.example.org", "https://dagster.example.org"),
            (f"127.0.0.1:{server.port}", "https://dagster.example.org"),  # a proxy that does not pass Host on
            ("a.example.net", "http://a.example.net"),
        ]:
            assert server.graphql(MUTATION, Host=host, Origin=origin).status_code == 200, host
        assert server.graphql(MUTATION, Host="example.net").status_code == 403
        assert server.graphql(MUTATION, Host="a.example.net", Origin="http://b.example.net").status_code == 403
    finally:
        server.stop()


def test_host_names_are_read_as_browsers_write_them() -> None:
    assert [
        host_name(h) for h in ("LocalHost:80", "[::1]:80", "[::1]", "a.b.", "h:x", "", ":80", "a/b", "u@h", "a b\t")
    ] == [
        "localhost",
        "::1",
        "::1",
        "a.b",
        None,
        None,
        None,
        None,
        None,
        None,
    ]
    assert is_allowed("[::1]:3000", LOOPBACK_NAMES)
    assert is_allowed("anything.example", {"*"})
    assert not is_allowed("", {"*"})
    assert not is_allowed("notexample.org", {"*.example.org"})


@pytest.mark.parametrize("value", ["https://a.example.org", "a.example.org:80", "a.*", "*example.org", "a/b", "a b"])
def test_allowed_hosts_that_are_no_host_names_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        Settings(allowed_hosts=value)
    assert Settings(allowed_hosts="A.example.org, *.b.example.org").host_names == LOOPBACK_NAMES | {
        "a.example.org",
        "*.b.example.org",
    }


def test_a_public_url_without_a_host_is_refused() -> None:
    with pytest.raises(ValueError, match="https://dagster.example.org"):
        Settings(public_url="dagster.example.org")


def test_a_dagster_that_starts_its_web_server_in_another_way_is_not_served_unguarded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard depends on the name of Dagster's module: a release that renames it must not run without the guard."""
    for variable in secret_variables():
        monkeypatch.setenv(variable, "a secret")
    started: list[tuple[str, dict[str, str]]] = []
    start: Callable[..., Any] = _with_our_webserver(lambda parts, env: started.append((parts[2], env)))
    start(["python", "-m", "dagster_webserver", "--port", "1"])
    start(["python", "-m", "dagster._daemon", "run"])
    assert [module for module, _ in started] == ["otc_assets.defs.web", "dagster._daemon"]
    for _, environment in started:
        assert "OTC_DATABASE_URL" in environment
        assert not {"OTC_FINRA_CLIENT_SECRET", "OTC_ALERT_URL"} & environment.keys()
    with pytest.raises(RuntimeError, match="dagster_ui"):
        start(["python", "-m", "dagster_ui"])
