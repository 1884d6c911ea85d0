"""Secrets stay where they are: a canary in every secret setting, everything run and everything failed, and a search.

A setting is a secret if its type says so, so that a new one is covered here by itself.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import polars as pl
import psutil
import psycopg
import pytest
import sqlalchemy as sa
import zstandard
from dumps import program
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
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
#: What a Parquet file begins with.
_PARQUET = b"PAR1"


def canary(variable: str) -> str:
    """A secret with characters that URLs encode."""
    return f"{MARK}@{variable.replace('_', '.')}:x"


def unpacked(content: bytes) -> bytes:
    """A file as a search can read it: unpacked, and the rows and the schema of Parquet as text."""
    if content.startswith(_ZSTD):
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    if content.startswith(_PARQUET):
        return content + pl.read_parquet(io.BytesIO(content)).write_json().encode()
    return content


@dataclass
class Found:
    """Texts in which no canary may be, by where they are from."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: str | bytes) -> None:
        found = unpacked(text).decode(errors="replace") if isinstance(text, bytes) else text
        before = self.texts.get(where, "")
        if found not in before:  # what another one of that name said stays
            self.texts[where] = before + found

    def add_end(self, command: Terminal) -> int:
        """Waits for a command's end. Adds its output and, while it runs, the arguments of its processes."""
        while command.process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                for process in processes_of(command.process.pid):
                    self.add(f"arguments of {process.pid}", " ".join(process.cmdline()))
            time.sleep(0.05)
        code = command.end()
        self.add(f"output of {command.process.args}", command.text)
        return code

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
    """The paths and contents of the requests to a server that takes alerts and spans.

    Below /refuse/, it refuses them and repeats in its reply what it was sent, secrets included.
    """
    requests: list[tuple[str, bytes]] = []

    def take(request: Request) -> Response:
        content = request.get_data()
        is_packed = request.headers.get("Content-Encoding") == "gzip"
        requests.append((request.path, gzip.decompress(content) if is_packed else content))
        return Response("{}", content_type="application/json")

    def refuse(request: Request) -> Response:
        return Response(f"refused: {request.url} {dict(request.headers)}", 401)

    for path in ("/v1/traces", re.compile("/hook.*")):
        httpserver.expect_request(path).respond_with_handler(take)
    httpserver.expect_request(re.compile("/refuse/.*")).respond_with_handler(refuse)
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


@pytest.fixture
def add_what_is_kept(
    variables: dict[str, str],
    server: EmbeddedServer,
    s3: S3Server,
    bucket: str,
    received: list[tuple[str, bytes]],
    tmp_path: Path,
) -> Callable[[Found], None]:
    """Adds the test's files, the tables of both databases, the objects of the bucket, and all requests."""

    def add(found: Found) -> None:
        for path in tmp_path.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found.add(f"file {path.relative_to(tmp_path)}", path.read_bytes())
        for variable in ("OTC_DATABASE_URL", "OTC_DAGSTER_STORAGE_URL"):
            url = variables[variable]
            tables = program(server, "pg_dump", url, "--inserts", str(sa.make_url(url).database))
            found.add(f"dump of {variable}", tables)
        for key in s3.keys(bucket):
            found.add(f"object {key}", s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())
        for number, (path_of, content) in enumerate(received):
            found.add(f"request {number} to {path_of.partition(MARK)[0]}", content)

    return add


def test_no_secret_leaves_the_variables_while_the_services_run_and_everything_fails(
    variables: dict[str, str], add_what_is_kept: Callable[[Found], None], httpserver: HTTPServer, tmp_path: Path
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
    for running, code in ((api, 130), (up, 0)):
        running.send(signal.SIGINT)
        assert running.end() == code, running.text
    _request_without_database(found, variables)
    for command in (up, api, alert, *_failing(variables, httpserver, tmp_path)):
        found.add(f"output of {command.process.args}", command.text)
    add_what_is_kept(found)

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
    asked = {"/v1/tables": 200, f"/v1/summary?weeks={WEEK}&limit=1": 200, "/v1/summary?weeks=nonsense": 400}
    for path, status in asked.items():
        reply = httpx.get(api + path, timeout=300)
        assert reply.status_code == status, reply.text
        found.add(f"reply of {path}", reply.content)


def _request_without_database(found: Found, variables: dict[str, str]) -> None:
    """The API starts without its database, and says that it does not respond."""
    api = Terminal("serve", settings={**variables, "OTC_DATABASE_URL": _wrong(variables, "OTC_DATABASE_URL")})
    api.wait_for("Ctrl-C stops it")
    for path in ("/health", f"/v1/summary?weeks={WEEK}"):
        reply = httpx.get(f"http://127.0.0.1:{variables['OTC_API_PORT']}{path}", timeout=300)
        assert reply.status_code == 503, reply.text
        found.add(f"reply of {path} without a database", reply.content)
    api.send(signal.SIGINT)
    assert api.end() == 130, api.text
    found.add(f"output of {api.process.args} without a database", api.text)


def _wrong(variables: dict[str, str], variable: str) -> str:
    return variables[variable].replace(quote(canary(variable), safe=""), f"{MARK}-is-wrong")


def _failing(variables: dict[str, str], httpserver: HTTPServer, folder: Path) -> Iterator[Terminal]:
    """Commands that fail, each because another secret is wrong or its service can't be reached or refuses."""

    nobody = f"json://user:{MARK}-of-alerts@127.0.0.1:9/hook/{MARK}-of-a-path"
    refusing = f"json://user:{MARK}-of-alerts@{httpserver.host}:{httpserver.port}/refuse/{MARK}-of-a-path"
    database = {"OTC_DATABASE_URL": _wrong(variables, "OTC_DATABASE_URL")}
    file = folder / "empty.dump"
    file.write_bytes(b"PGDMP")
    cases: list[tuple[tuple[str, ...], dict[str, str]]] = [
        *((command, database) for command in (("status",), ("metrics", "--once"), ("up", "--newest", "1"))),
        (("--debug", "materialize", "--weeks", WEEK), database),
        (("--debug", "restore", str(file)), database),
        (
            ("--debug", "materialize", "--weeks", WEEK),
            {"OTC_DAGSTER_STORAGE_URL": _wrong(variables, "OTC_DAGSTER_STORAGE_URL")},
        ),
        (("--debug", "status"), {"OTC_DATABASE_URL": f"postgresql://otc:{canary('x')}@@h/d"}),
        (("--debug", "materialize", "--weeks", "2026-08-14"), {"AWS_SECRET_ACCESS_KEY": f"{MARK}-is-wrong"}),
        (("--debug", "archive", "verify"), {"AWS_SESSION_TOKEN": f"{MARK}-of-a-session"}),
        (("--debug", "export", "--to", "s3://nobody/has"), {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
        *((("--debug", "alerts", "test"), {"OTC_ALERT_URL": url}) for url in (nobody, refusing)),
        (("--debug", "alerts", "test"), {"OTC_ALERT_URL": f"unknown://{MARK}"}),
        (("status",), {"OTC_PORT": canary("port")}),
    ]
    for command, changed in cases:
        failing = Terminal(*command, settings={**variables, **changed})
        assert failing.end() != 0, (command, failing.text)
        yield failing


@pytest.fixture
def from_files(
    variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The settings of ``variables``, with each secret in a file: in that of its ``_FILE``, or in the secrets folder."""
    folder = tmp_path_factory.mktemp("secrets")
    given = {**variables, "OTC_SECRETS_DIR": str(folder), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws")}
    # A library reads these, and from variables alone.
    of_spans = {name for name in secret_variables() if name.startswith("OTEL_")}
    for name in secret_variables() & variables.keys() - of_spans:
        path = folder / name.lower()
        path.write_text(given.pop(name))
        if name in ("OTC_ALERT_URL", "OTC_FINRA_CLIENT_SECRET"):
            given[f"{name}_FILE"] = str(path.rename(folder / f"elsewhere-{name}"))
    (folder / "aws").write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return given


def test_no_secret_leaves_its_file_while_every_command_runs(
    from_files: dict[str, str],
    add_what_is_kept: Callable[[Found], None],
    bucket: str,
    httpserver: HTTPServer,
    tmp_path: Path,
) -> None:
    found = Found()
    out = tmp_path / "out"
    out.mkdir()
    weeks = f"2026-08-14..{WEEK}"
    refused = {"OTEL_EXPORTER_OTLP_ENDPOINT": httpserver.url_for("/refuse")}
    commands: list[tuple[str, dict[str, str]]] = [
        ("migrate", {}),
        (f"simulate {out}/files --weeks 2026-08-14", {}),
        (f"--debug ingest {out}/files/finra_ats_weekly_t1_20260831.csv", {}),
        # The collector refuses the spans: a run goes on without them.
        (f"--debug materialize --weeks {WEEK}", refused),
        (f"--debug rebuild --weeks {WEEK}", {}),
        (f"report {WEEK} --pdf {out}/report.pdf", {}),
        (f"query venue_volume --weeks {weeks} --output {out}/volume.parquet", {}),
        ("query sql SELECT/**/current_user,/**/current_setting('application_name')", {}),
        (f"export --weeks {weeks} --to s3://{bucket}/tables", {}),
        (f"export verify --to s3://{bucket}/tables", {}),
        ("archive verify", {}),
        (f"archive copy --to s3://{bucket}/copy", {}),
        ("events tail", {}),
        (f"events history {WEEK}", {}),
        ("events replay", {}),
        ("captures list", {}),
        ("status", {}),
        ("gaps", {}),
        ("storage", {}),
        ("alerts test", {}),
        ("alerts", {}),
        ("metrics --once", {}),
        ("restore-check", {}),
        ("db shell", {}),
    ]
    for command, changed in commands:
        running = Terminal(*command.split(), settings={**from_files, **changed})
        assert found.add_end(running) == 0, (command, running.text)
    add_what_is_kept(found)

    where = "\n".join(found.texts)
    for expected in ("file out/report.pdf", "file out/volume.parquet", "object tables/", "object copy/", "to /hook"):
        assert expected in where, expected
    assert '"avg_trade_size":"' in found.texts["file out/volume.parquet"]  # as a row, and not only in the schema
    assert found.leaks() == {}


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


def test_the_search_keeps_what_was_said_before_under_the_same_name() -> None:
    found = Found()
    for text in (canary("port"), "nothing"):
        found.add("a command", text)
    assert found.leaks().keys() == {"a command"}
