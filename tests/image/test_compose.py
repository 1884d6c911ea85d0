"""compose.yaml: valid, restricted, and agreeing with the settings, the chart, the package and its own files."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from containers import DOCKERFILE, ISOLATED, require_namespaces
from support.command_lines import parse
from support.tools import missing

from otc_assets.cli.programs import PROGRAMS
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.local.server_folder import binaries_of_the_wheel
from otc_assets.settings import PROJECT_ROOT, Settings

FOLDER = PROJECT_ROOT / "deploy" / "compose"
#: The script that the database's image runs first, here and in the chart.
ROLES = PROJECT_ROOT / "helm" / "otc-assets" / "scripts" / "database-roles.sh"
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("otc-assets:")}


@pytest.fixture(params=list(SERVICES))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SERVICES[request.param]


def of_chart() -> dict[str, Any]:
    """The default values of the chart."""
    return yaml.safe_load((PROJECT_ROOT / "helm/otc-assets/values.yaml").read_text())  # type: ignore[no-any-return]


def test_the_schema_of_compose_files_accepts_it() -> None:
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [program, "--builtin-schema", "vendor.compose-spec", PROJECT_ROOT / "compose.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_image_is_pinned_and_agrees_with_dockerfile_and_chart(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].rpartition(":")
    assert re.fullmatch(r"v?\d+\.\d+\S*", tag), name
    if name == "otc-assets":
        assert f"ARG VERSION={tag}\n" in DOCKERFILE.read_text()
    if name == "timescale/timescaledb":
        assert service["image"] == of_chart()["database"]["internal"]["image"]


def test_only_the_ui_and_grafana_are_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"webserver", "grafana"}
    for (port,) in published.values():
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:3000", port)


def test_every_service_is_restricted(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert not service.keys() & {"cap_add", "privileged", "network_mode", "pid", "ipc", "devices"}
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    writable = [one for one in service.get("volumes", []) if not one.endswith(":ro")]
    assert all(one.split(":")[0] in COMPOSE["volumes"] for one in writable)


def test_docker_accepts_the_limits_of_cores_on_the_smallest_machine_that_the_page_names() -> None:
    """Docker refuses to create a container whose limit is above the number of cores: the runs had 4."""
    (cores,) = re.findall(r"A machine with (\d+) cores", (PROJECT_ROOT / "docs/deploy.md").read_text())
    limits = {name: str(service["deploy"]["resources"]["limits"]["cpus"]) for name, service in SERVICES.items()}
    given = {name: re.sub(r"^\$\{[A-Z_]+:-(.+)\}$", r"\1", limit) for name, limit in limits.items()}
    assert {name for name, limit in given.items() if float(limit) > int(cores)} == set()


def test_the_database_has_the_connections_that_the_platform_needs() -> None:
    """The image sets max_connections by the memory limit, and 2 GB are 25, unless the command sets it."""
    page = (PROJECT_ROOT / "docs/deploy.md").read_text()
    (needed,) = re.findall(r"one webserver: [\d +x]+ = (\d+)\.", page)
    command = SERVICES["database"]["command"]
    (of_compose,) = [word.partition("=")[2] for word in command if word.startswith("max_connections=")]
    assert int(of_compose) >= 2 * int(needed)
    template = (PROJECT_ROOT / "helm/otc-assets/templates/database.yaml").read_text()
    assert f"args: [{', '.join(command)}]" in template


def test_every_process_of_the_platform_can_read_a_file_that_a_setting_names() -> None:
    """Each reads OTC_EXTRA_CLOSURES when it starts, and the exporter had no volume."""
    for name, service in OURS.items():
        targets = [one.split(":")[1] for one in service["volumes"]]
        assert "/var/lib/otc-assets" in targets, name


def test_services_that_need_no_network_outside_have_none() -> None:
    assert COMPOSE["networks"]["internal"] == {"internal": True}
    outside = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert outside == {"code-server", "webserver", "grafana", "alertmanager"}


def test_every_service_has_a_health_check_or_a_reason(service: dict[str, Any]) -> None:
    assert ("healthcheck" in service) != bool(service.get("x-no-healthcheck"))


def test_services_start_when_what_they_need_is_ready() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            ends = SERVICES[needed]["restart"] == "no"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert how == {"condition": expected}, f"{name} needs {needed}"
            assert ends or "healthcheck" in SERVICES[needed]
    # Nothing writes to a database of another schema, and no run starts before the pools are limited.
    before = {name: _needs(name) for name in SERVICES}
    assert {"database", "s3", "bucket", "migrations"} <= before["code-server"]
    assert before["webserver"] >= before["code-server"] | {"code-server"}
    assert before["daemon"] >= before["code-server"] | {"code-server"}
    assert "migrations" in before["exporter"] & before["grafana"]


def _needs(name: str) -> set[str]:
    """What is started before a service."""
    direct = set(SERVICES[name].get("depends_on", {}))
    return direct.union(*(_needs(one) for one in direct))


def test_every_variable_of_the_platform_is_a_setting() -> None:
    known = {f"OTC_{name.upper()}" for name in Settings.model_fields}
    for name, service in OURS.items():
        variables = service["environment"].keys()
        assert {one for one in variables if one.startswith("OTC_")} <= known, name
        others = {one for one in variables if not one.startswith("OTC_")}
        assert all(re.match(r"AWS_[A-Z_]+$|OTEL_EXPORTER_OTLP_ENDPOINT$", one) for one in others), name
    targets = {one["target"] for service in OURS.values() for one in service["secrets"] if isinstance(one, dict)}
    assert {one.upper() for one in targets} <= known


def test_no_secret_is_in_a_variable_or_a_command() -> None:
    secret = [f"OTC_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in str(field)]
    assert "OTC_DATABASE_URL" in secret
    text = (PROJECT_ROOT / "compose.yaml").read_text()
    assert not re.search(r"postgres(ql)?://", text)
    for service in SERVICES.values():
        variables = service.get("environment", {})
        assert not variables.keys() & {*secret, "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "PGPASSWORD"}
        for name, value in variables.items():
            assert "PASSWORD" not in name or (name.endswith("FILE") and value.startswith("/run/secrets/"))


def _used() -> Iterator[tuple[str, str]]:
    for name, service in SERVICES.items():
        for one in service.get("secrets", []):
            yield name, one if isinstance(one, str) else one["source"]


def test_each_service_has_the_database_role_that_it_needs() -> None:
    roles = {name: source for name, source in _used() if re.match(r"database-\w+-url", source) and name in OURS}
    assert roles == {
        "migrations": "database-owner-url",
        "code-server": "database-writer-url",
        "webserver": "database-writer-url",
        "daemon": "database-writer-url",
        "exporter": "database-reader-url",
    }
    assert {name for name, source in _used() if source in ("alert-url", "finra-client-secret")} == {"code-server"}


def made_secrets(folder: Path) -> dict[str, str]:
    """The secrets that the script creates beside a copy of itself."""
    copy = Path(shutil.copy(FOLDER / "make-secrets.sh", folder))
    subprocess.run([copy], check=True)
    return {file.name: file.read_text() for file in (folder / "secrets").iterdir()}


def test_the_script_creates_every_secret_and_keeps_those_that_exist(tmp_path: Path) -> None:
    created = made_secrets(tmp_path)
    assert {f"deploy/compose/secrets/{name}" for name in created} == {
        one["file"] for one in COMPOSE["secrets"].values()
    }
    assert COMPOSE["secrets"].keys() == {source for _, source in _used()}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    # The accounts of the containers read them.
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "secrets").iterdir()} == {0o644}
    assert made_secrets(tmp_path) == created
    passwords = [*re.findall(r"://\w+:([0-9a-f]{48})@", "".join(created.values())), created["postgres-password"]]
    assert len(set(passwords)) == 4
    assert created["alert-url"] == ""


def test_boto3_and_the_server_have_the_same_credentials(tmp_path: Path) -> None:
    created = made_secrets(tmp_path)
    parser = configparser.ConfigParser()
    parser.read_string(created["s3-credentials"])
    (identity,) = json.loads(created["s3-identities"])["identities"]
    assert identity["credentials"] == [
        {"accessKey": parser["default"]["aws_access_key_id"], "secretKey": parser["default"]["aws_secret_access_key"]}
    ]
    bucket = OURS["code-server"]["environment"]["OTC_ARCHIVE_URL"].removeprefix("s3://")
    assert {action.partition(":")[2] for action in identity["actions"]} == {bucket}
    assert f"-name {bucket}" in SERVICES["bucket"]["command"][0]


#: Starts the services s3 and bucket in a network of their own, in which the name s3 is known. The bucket is created
#: again at each start of the stack.
_START = """
ip link set lo up
ip address add 10.9.0.1/24 dev lo
mount --bind hosts /etc/hosts
setpriv --inh-caps=-all --bounding-set=-all --no-new-privs "$@" >weed.log 2>&1 &
until sh -ec "$HEALTHY"; do sleep 0.2; done
sh -ec "$BUCKET" && sh -ec "$BUCKET" && exec "$PYTHON" client.py
"""
#: What boto3 may do with the credentials of the platform, and that wrong ones are refused.
_CLIENT = """
import boto3
from botocore.exceptions import ClientError

client = boto3.client("s3")
client.put_object(Bucket="otc-archive", Key="sha256/ab", Body=b"bytes", IfNoneMatch="*")
print(client.get_object(Bucket="otc-archive", Key="sha256/ab")["Body"].read())
stranger = boto3.client("s3", aws_access_key_id="wrong", aws_secret_access_key="wrong")
for refused in (
    lambda: client.put_object(Bucket="otc-archive", Key="sha256/ab", Body=b"others", IfNoneMatch="*"),
    lambda: client.create_bucket(Bucket="another-bucket"),
    lambda: stranger.get_object(Bucket="otc-archive", Key="sha256/ab"),
):
    try:
        refused()
    except ClientError as error:
        print(error.response["Error"]["Code"])
"""


@pytest.mark.slow
def test_the_s3_server_has_the_bucket_and_gives_the_platform_access_to_nothing_else(tmp_path: Path) -> None:
    require_namespaces()
    made_secrets(tmp_path)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.9.0.1 s3\n")
    (tmp_path / "client.py").write_text(_CLIENT)
    (tmp_path / "data").mkdir()
    server = SERVICES["s3"]
    words = [
        word.replace("/srv/seaweedfs", "data").replace("/run/secrets", "secrets")
        for word in [*server["entrypoint"], *server["command"]]
    ]
    variables = OURS["code-server"]["environment"]
    done = subprocess.run(
        [*ISOLATED, "--net", "sh", "-ec", _START, "sh", *words],
        cwd=tmp_path,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "HEALTHY": shlex.join(server["healthcheck"]["test"][1:]),
            "BUCKET": SERVICES["bucket"]["command"][0].replace("$$", "$"),
            **{name: value for name, value in variables.items() if name.startswith("AWS_")},
            "AWS_DEFAULT_REGION": variables["AWS_REGION"],
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "secrets/s3-credentials"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.splitlines()[-4:] == ["b'bytes'", "PreconditionFailed", "AccessDenied", "InvalidAccessKeyId"], (
        done.stdout + done.stderr
    )


@pytest.mark.slow
def test_the_script_of_the_database_creates_the_logins_of_the_urls(tmp_path: Path, folder_for_all: Path) -> None:
    """On a new server: each login connects with the password in its URL, and has the rights of its group."""
    made_secrets(tmp_path)
    urls = {role: (tmp_path / f"secrets/database-{role}-url").read_text() for role in ("owner", "writer", "reader")}
    with EmbeddedServer(folder_for_all / "compose", durable=False) as server, server._connect("postgres") as admin:
        # As the image leaves it.
        admin.execute("DROP DATABASE otc")
        admin.execute("DROP ROLE otc, otc_app, otc_analyst, otc_writer, otc_reader")
        env = {
            "PATH": f"{binaries_of_the_wheel() / 'bin'}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(admin.info.port),
            "PGPASSWORD": admin.info.password,
            "OTC_SECRETS_DIR": str(tmp_path / "secrets"),
        }
        # The image sources a file that is not executable.
        script = ["/bin/sh", "-ec", f". {ROLES}"]
        done = subprocess.run(script, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rights = {}
        for role, url in urls.items():
            with psycopg.connect(url.replace("@database:5432/otc", f"@127.0.0.1:{admin.info.port}/otc")) as login:
                rights[role] = login.execute(
                    "SELECT has_database_privilege(current_database(), 'CREATE'),"
                    " pg_has_role('otc_writer', 'USAGE'), pg_has_role('otc_reader', 'USAGE')"
                ).fetchone()
    assert rights == {
        "owner": (True, False, False),
        "writer": (False, True, False),
        "reader": (False, False, True),
    }


def test_commands_and_options_of_services_and_health_checks_exist(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").touch()
    lines = []
    for service in OURS.values():
        lines.append(["otc-assets", *service["command"]])
        check = service.get("healthcheck", {}).get("test", [])[1:]
        if check and check[0] != "python":
            lines.append(check)
    assert len(lines) == len(OURS) + 2
    for line in lines:
        parse([word.replace("/etc/otc-assets", str(tmp_path)) for word in line])


def test_processes_are_started_as_in_the_chart() -> None:
    """The chart has the same programs: all of Dagster's, the exporter and the migrations."""
    programs = {words["command"][0] for words in OURS.values()}
    assert programs == {*PROGRAMS, "metrics", "migrate"}
    templates = "".join(file.read_text() for file in (PROJECT_ROOT / "helm/otc-assets/templates").glob("*.yaml"))
    webserver = ", ".join(["python", *PROGRAMS["dagster-webserver"].command[1:]])
    for program in programs:
        words = webserver if program == "dagster-webserver" else program
        assert re.search(rf"(command|args): \[{words}\W", templates), program


def test_files_that_are_mounted_exist_and_are_read_only(service: dict[str, Any]) -> None:
    for one in service.get("volumes", []):
        source, target, *options = one.split(":")
        if source.startswith("."):
            assert (PROJECT_ROOT / source).exists(), source
            assert options == ["ro"]
            assert target.startswith("/")
    for script in FOLDER.glob("*.sh"):
        assert script.stat().st_mode & stat.S_IXUSR


def tool(name: str, package: str) -> str:
    """Where a program of a Debian package is."""
    return shutil.which(name) or missing(f"{name} is not installed", f"install it (Debian: apt-get install {package})")


def test_prometheus_accepts_its_configuration_with_the_rules_of_the_package(tmp_path: Path) -> None:
    for one in SERVICES["prometheus"]["volumes"]:
        source, target, *_ = one.split(":")
        if target.startswith("/etc/prometheus/"):
            shutil.copy(PROJECT_ROOT / source, tmp_path / Path(target).name)
    assert (tmp_path / "rules.yaml").read_bytes() == (PROJECT_ROOT / "otc_assets/prometheus/rules.yaml").read_bytes()
    command = [tool("promtool", "prometheus"), "check", "config", tmp_path / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"SUCCESS: \d+ rules found", done.stdout)


def test_alertmanager_accepts_its_configuration() -> None:
    command = [tool("amtool", "prometheus-alertmanager"), "check-config", FOLDER / "alertmanager.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


def test_addresses_in_configuration_files_are_services_and_their_ports() -> None:
    """A service is reached by its name, at the port that its command has."""
    ports = {"exporter": "9464", "code-server": "4000"}
    for name, port in ports.items():
        assert f"--port={port}" in SERVICES[name]["command"]
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (scraped,) = [job for job in prometheus["scrape_configs"] if job["job_name"] == "otc-assets"]
    assert scraped["static_configs"] == [{"targets": ["exporter:9464"]}]
    assert prometheus["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]
    (server,) = yaml.safe_load((FOLDER / "workspace.yaml").read_text())["load_from"]
    assert server == {"grpc_server": {"host": "code-server", "port": 4000, "location_name": "otc_assets"}}
    assert "--location-name=otc_assets" in SERVICES["code-server"]["command"]
    assert SERVICES["grafana"]["environment"]["OTC_PROMETHEUS_URL"] == "http://prometheus:9090"


def test_the_collector_receives_what_the_platform_sends_and_each_of_its_parts_is_used() -> None:
    config = yaml.safe_load((FOLDER / "collector.yaml").read_text())
    port = OURS["code-server"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"].rpartition(":")[2]
    assert config["receivers"]["otlp"]["protocols"] == {"http": {"endpoint": f"0.0.0.0:{port}"}}
    (pipeline,) = config["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == config[kind].keys()
    assert pipeline["processors"][0] == "memory_limiter"


def test_grafana_has_the_dashboards_and_data_sources_of_the_package(tmp_path: Path) -> None:
    grafana = SERVICES["grafana"]
    mounted = {target: source for source, target, *_ in (one.split(":") for one in grafana["volumes"])}
    provisioning = Path(grafana["environment"]["GF_PATHS_PROVISIONING"])
    folder = PROJECT_ROOT / mounted[str(provisioning.parent)]
    assert (folder / provisioning.name / "dashboards").is_dir()
    needed = set()
    for file in (folder / provisioning.name).rglob("*.yaml"):
        needed |= set(re.findall(r"\$\{(\w+)\}", file.read_text()))
    assert needed <= grafana["environment"].keys() | {"PGPASSWORD"}
    assert "export PGPASSWORD" in grafana["command"][0]
    made_secrets(tmp_path)
    assert (
        (tmp_path / "secrets/database-reader-url")
        .read_text()
        .startswith(f"postgresql://{grafana['environment']['PGUSER']}:")
    )
