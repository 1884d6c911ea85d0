"""Secrets stay where they are: a canary in every secret setting, everything run and everything failed, and a search.

A setting is a secret if its type says so, so that a new one is covered here by itself.
"""

from __future__ import annotations

import datetime as dt
import gzip
import re
import signal
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import psutil
import psycopg
import pytest
import sqlalchemy as sa
import zstandard
from dumps import program
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from support.s3_server import SECRET_KEY, S3Server
from support.sockets import ports_on_loopback
from support.terminal import Terminal
from support.web_server import free_port, launch, status_of, until
from werkzeug import Request, Response

from otc_assets.domain.weeks import T1
from otc_assets.finra.query_api import QueryApi
from otc_assets.finra.source import PermanentSourceError
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.settings import secret_variables

pytestmark = pytest.mark.slow

WEEK = "2026-08-21"
#: In every canary, in whatever encoding.
MARK = "CaNaRy"
#: What a file that is packed with Zstandard begins with.
_ZSTD = b"\x28\xb5\x2f\xfd"


def canary(variable: str) -> str:
    """A secret with characters that URLs encode."""
    return f"{MARK}@{variable.replace('_', '.')}:x"


@dataclass
class Found:
    """Texts in which no canary may be, by where they are from."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: str | bytes) -> None:
        self.texts[where] = text.decode(errors="replace") if isinstance(text, bytes) else text

    def leaks(self) -> dict[str, list[str]]:
        """Where a secret is, with what is around it."""
        wanted = re.compile(rf".{{0,60}}(?:{MARK}|{re.escape(SECRET_KEY)}).{{0,40}}", re.IGNORECASE)
        return {
            where: around[:3]
            for where, text in self.texts.items()
            if (around := wanted.findall(text) or wanted.findall(unquote(text)))
        }


@pytest.fixture
def of_database(server: EmbeddedServer) -> Iterator[dict[str, str]]:
    """Two databases, each with an owner of its own whose password is a canary."""
    with server._connect("postgres") as admin, ExitStack() as stack:
        urls = {}
        for variable in ("OTC_DATABASE_URL", "OTC_DAGSTER_STORAGE_URL"):
            name = f"of_{variable.lower()}"
            password = psycopg.sql.Literal(canary(variable))
            owner = psycopg.sql.Identifier(name)
            admin.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(owner, password))
            stack.callback(admin.execute, psycopg.sql.SQL("DROP ROLE {}").format(owner))
            admin.execute(psycopg.sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY file_copy").format(owner, owner))
            stack.callback(admin.execute, psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(owner))
            address = sa.make_url(server.url).set(username=name, password=canary(variable), database=name)
            urls[variable] = address.render_as_string(hide_password=False)
        yield urls


@pytest.fixture
def received(httpserver: HTTPServer) -> list[tuple[str, bytes]]:
    """The paths and contents of the requests to a server that takes alerts and spans."""
    requests: list[tuple[str, bytes]] = []

    def take(request: Request) -> Response:
        content = request.get_data()
        is_packed = request.headers.get("Content-Encoding") == "gzip"
        requests.append((request.path, gzip.decompress(content) if is_packed else content))
        return Response("{}", content_type="application/json")

    for path in ("/v1/traces", re.compile("/hook.*")):
        httpserver.expect_request(path).respond_with_handler(take)
    return requests


def with_canaries(of_database: dict[str, str], httpserver: HTTPServer) -> dict[str, str]:
    """A value with a canary for every secret that is a setting or that a library reads; S3's is that of the server."""
    at = f"{httpserver.host}:{httpserver.port}"
    special = {
        **of_database,
        "OTC_ALERT_URL": f"json://user:{quote(canary('OTC_ALERT_URL'), safe='')}@{at}/hook/{MARK}-of-a-path",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={MARK}-of-spans",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"authorization={MARK}-of-spans",
    }
    names = secret_variables() - {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    return {name: special.get(name, canary(name)) for name in names}


def processes_of(*roots: int) -> list[psutil.Process]:
    """Processes with all that they have started."""
    found = [psutil.Process(pid) for pid in roots]
    return [*found, *(child for root in found for child in root.children(recursive=True))]


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path.read_bytes()


def unpacked(content: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(content) if content.startswith(_ZSTD) else content


@pytest.fixture
def variables(
    of_database: dict[str, str], httpserver: HTTPServer, s3: S3Server, bucket: str, tmp_path: Path
) -> dict[str, str]:
    """The settings of an installation in which every secret is a canary; AWS's are those of the test's process."""
    return {
        **with_canaries(of_database, httpserver),
        "OTC_HOME": str(tmp_path / "home"),
        "OTC_FINRA_CLIENT_ID": "an-id",
        "OTC_ARCHIVE_URL": f"s3://{bucket}/otc",
        "OTC_SIMULATOR_SCALE": "0.01",
        "OTC_PORT": free_port(),
        "OTC_METRICS_PORT": free_port(),
        "OTC_API_PORT": free_port(),
        "OTEL_EXPORTER_OTLP_ENDPOINT": httpserver.url_for("").rstrip("/"),
    }


def test_no_secret_leaves_the_settings_while_everything_runs_and_fails(
    variables: dict[str, str],
    server: EmbeddedServer,
    s3: S3Server,
    bucket: str,
    received: list[tuple[str, bytes]],
    tmp_path: Path,
) -> None:
    found = Found()
    up = Terminal("up", "--newest", "1", settings=variables)
    up.wait_for("ready ")
    api = Terminal("serve", settings=variables)
    api.wait_for("Ctrl-C stops it")
    port = variables["OTC_PORT"]
    run_id = until(lambda: launch(port, "publication_t1 venue_volume symbol_summary", WEEK), [up])
    processes = processes_of(up.process.pid, api.process.pid)
    _look_at_processes(found, processes)
    assert ports_on_loopback(processes) >= {int(variables[f"OTC_{of}PORT"]) for of in ("", "METRICS_", "API_")}
    assert until(lambda: status_of(port, run_id), [up]) == "SUCCESS", up.text
    _request_everything(found, variables, run_id)
    alert = Terminal("alerts", "test", settings=variables)
    assert alert.end() == 0, alert.text
    commands = [up, api, alert]
    for running, code in ((api, 130), (up, 0)):
        running.send(signal.SIGINT)
        assert running.end() == code, running.text
    commands += list(_failing(variables))

    for number, command in enumerate(commands):
        found.add(f"output of command {number}", command.text)
    for name, content in files(tmp_path):
        found.add(f"file {name}", content)
    for variable in ("OTC_DATABASE_URL", "OTC_DAGSTER_STORAGE_URL"):
        url = variables[variable]
        tables = program(server, "pg_dump", url, "--inserts", str(sa.make_url(url).database))
        found.add(f"dump of {variable}", tables)
    for key in s3.keys(bucket):
        found.add(f"object {key}", unpacked(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()))
    for number, (path, content) in enumerate(received):
        found.add(f"request {number} to {path.partition(MARK)[0]}", content)

    # Everything was there to be searched: each of these has what a secret could be in.
    where = "\n".join(found.texts)
    for expected in ("file home/dagster.log", "object otc/sha256/", "to /v1/traces", "to /hook", "reply of /graphql"):
        assert expected in where, expected
    assert "CREATE TABLE otc.events" in found.texts["dump of OTC_DATABASE_URL"]
    assert "INSERT INTO public.event_logs" in found.texts["dump of OTC_DAGSTER_STORAGE_URL"]
    assert found.leaks() == {}


def _look_at_processes(found: Found, processes: list[psutil.Process]) -> None:
    """Arguments have no secret, and the web server and the daemon have not those of FINRA and of alerts."""
    seen = set()
    for process in processes:
        words = process.cmdline()
        found.add(f"arguments of {process.pid}", " ".join(words))
        for module in ("otc_assets.defs.web", "dagster._daemon"):
            if module in words and "dagster-dev" not in words:
                seen.add(module)
                environment = process.environ()
                assert "OTC_DATABASE_URL" in environment
                assert not {"OTC_FINRA_CLIENT_SECRET", "OTC_ALERT_URL"} & environment.keys(), module
    assert seen == {"otc_assets.defs.web", "dagster._daemon"}


def _request_everything(found: Found, variables: dict[str, str], run_id: str) -> None:
    ui, metrics, api = (f"http://127.0.0.1:{variables[f'OTC_{name}PORT']}" for name in ("", "METRICS_", "API_"))
    for url in (f"{ui}/", f"{ui}/server_info", f"{metrics}/metrics", f"{api}/health", f"{api}/openapi.json"):
        found.add(f"reply of {url}", httpx.get(url, timeout=300).content)
    for query in (
        "{ instance { info hasInfo executablePath } version }",
        "{ runOrError(runId: $id) { ... on Run { runConfigYaml tags { key value } stats { __typename } } } }",
        "{ logsForRun(runId: $id) { ... on EventConnection { events { ... on MessageEvent { message } } } } }",
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { displayMetadata { key value } } } } }",
    ):
        text = query.replace("$id", f'"{run_id}"')
        reply = httpx.post(f"{ui}/graphql", json={"query": text}, timeout=300)
        assert "errors" not in reply.json(), reply.text
        found.add(f"reply of /graphql to {query}", reply.content)
    for path in ("/v1/tables", f"/v1/symbol_summary?weeks={WEEK}&limit=1", "/v1/symbol_summary?weeks=nonsense"):
        found.add(f"reply of {path}", httpx.get(api + path, timeout=300).content)


def _failing(variables: dict[str, str]) -> Iterator[Terminal]:
    """Commands that fail, each because another secret is wrong or its service can't be reached."""

    def wrong(variable: str) -> str:
        return variables[variable].replace(quote(canary(variable), safe=""), f"{MARK}-is-wrong")

    nobody = f"json://user:{MARK}-of-alerts@127.0.0.1:9/hook/{MARK}-of-a-path"
    cases: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("status",), {"OTC_DATABASE_URL": wrong("OTC_DATABASE_URL")}),
        (("--debug", "materialize", "--weeks", WEEK), {"OTC_DATABASE_URL": wrong("OTC_DATABASE_URL")}),
        (
            ("--debug", "materialize", "--weeks", WEEK),
            {"OTC_DAGSTER_STORAGE_URL": wrong("OTC_DAGSTER_STORAGE_URL")},
        ),
        (("--debug", "status"), {"OTC_DATABASE_URL": f"postgresql://otc:{canary('x')}@@h/d"}),
        (("metrics", "--once"), {"OTC_DATABASE_URL": wrong("OTC_DATABASE_URL")}),
        (("--debug", "materialize", "--weeks", "2026-08-14"), {"AWS_SECRET_ACCESS_KEY": f"{MARK}-is-wrong"}),
        (("--debug", "alerts", "test"), {"OTC_ALERT_URL": nobody}),
        (("--debug", "alerts", "test"), {"OTC_ALERT_URL": f"unknown://{MARK}"}),
        (("status",), {"OTC_PORT": canary("port")}),
    ]
    for failing in [Terminal(*command, settings={**variables, **changed}) for command, changed in cases]:
        assert failing.end() != 0, (failing.process.args, failing.text)
        yield failing


def test_credentials_that_finra_refuses_and_echoes_are_in_no_error(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = canary("OTC_FINRA_CLIENT_SECRET")
    monkeypatch.setenv("OTC_FINRA_CLIENT_SECRET", secret)

    def echo(request: Request) -> Response:
        assert request.authorization is not None
        assert request.authorization.password == secret
        return Response(f"no: {request.authorization.password}", 401)

    httpserver.expect_request("/token").respond_with_handler(echo)
    credentials: dict[str, Any] = {"client_id": "an-id", "client_secret": SecretStr(secret)}
    source = QueryApi(httpserver.url_for(""), token_url=httpserver.url_for("/token"), **credentials)
    with (
        caplog.at_level("DEBUG"),
        pytest.raises(PermanentSourceError, match="refused the credentials with 401") as caught,
    ):
        source.state(dt.date.fromisoformat(WEEK), T1)
    found = Found()
    found.add("error", "".join(traceback.format_exception(caught.value)))
    found.add("log", caplog.text)
    assert found.leaks() == {}


@pytest.mark.parametrize("variable", sorted(secret_variables()))
def test_the_search_finds_a_secret_as_written_encoded_and_cut_off(variable: str) -> None:
    secret = canary(variable)
    encoded = quote(secret, safe="")
    for text in (secret, encoded, f"postgresql://u:{encoded}@h/d", quote(encoded)[:12], SECRET_KEY):
        found = Found()
        found.add("a log", f"before {text} after".encode())
        found.add("another", "nothing")
        assert found.leaks().keys() == {"a log"}
