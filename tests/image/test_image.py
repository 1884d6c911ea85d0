"""The image is built and run for real: what it has, what it lacks, and the platform that is started from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import psycopg
import pytest
from containers import ACCOUNT, HOME, Image, Platform
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.web_server import launch, status_of, until

from otc_assets.settings import PROJECT_ROOT

pytestmark = pytest.mark.slow

#: All assets of a week.
ASSETS = (
    "week_calendar publication_t1 publication_t2 publication_otce venue_volume symbol_summary venue_share "
    "role_share symbol_rolling venue_rolling symbol_concentration market_concentration "
    "symbol venue venue_succession week_changes gap_report weekly_report"
)


def python(image: Image, code: str, **options: object) -> str:
    """What a Python program prints in a container."""
    ended, printed = image.run("python", "-c", code, entrypoint=False, **options)  # type: ignore[arg-type]
    assert ended == 0, printed
    return printed


def test_a_run_of_the_daemon_materializes_a_week_from_the_image(
    platform: Platform, image_database: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Code server, webserver, daemon and run, each as the image starts it, on a read-only file system."""
    run_id = until(lambda: launch(platform.webserver, ASSETS, platform.week), platform.running)
    assert until(lambda: status_of(platform.webserver, run_id), platform.running) == "SUCCESS"
    tables = ("venue_volume", "symbol_summary", "venue_share", "symbol_rolling", "market_concentration")
    for table in tables:
        query = f"SELECT count(*) FROM otc.{table} WHERE week_ending = %s"
        ((rows,),) = image_database.execute(query, [platform.week])
        assert rows > 0, table
    tiers = image_database.execute(
        "SELECT DISTINCT tier FROM otc.venue_volume WHERE week_ending = %s ORDER BY tier", [platform.week]
    ).fetchall()
    assert tiers == [("NMS Tier 1",), ("NMS Tier 2",), ("OTC",)]
    # The archive and the output of the run are in the volume.
    assert len(list((platform.volume / "archive").rglob("*"))) > 3
    newest = 'otc_newest_week_timestamp_seconds{tier="NMS Tier 1"}'
    assert until(lambda: newest in httpx.get(f"http://127.0.0.1:{platform.metrics}/metrics").text or None, [])


def test_the_entry_point_takes_the_arguments_that_dagsters_launchers_give_to_a_container(image: Image) -> None:
    for command in ("execute_run", "execute_step"):
        ended, printed = image.run("dagster", "api", command, "--help")
        assert (ended, f"api {command}" in printed) == (0, True), printed


def test_every_process_has_the_account_of_the_image_and_no_capability(platform: Platform) -> None:
    until(lambda: httpx.get(f"http://127.0.0.1:{platform.webserver}/server_info").is_success or None, platform.running)
    for name, container in platform.containers.items():
        processes = container.processes()
        assert processes, name
        for process in processes:
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"^Uid:((\t\d+){4})$", status, re.MULTILINE)[1] == f"\t{ACCOUNT}" * 4, name
            assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), name
            assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE), name
            mounts = Path(f"/proc/{process.pid}/mounts").read_text().splitlines()
            options = {mount.split()[1]: mount.split()[3].split(",") for mount in mounts}
            assert "ro" in options["/"], name
            assert "rw" in options["/tmp"]  # noqa: S108
            assert "rw" in options[HOME]


def test_only_the_volume_and_tmp_are_writable(image: Image) -> None:
    code = (
        "import os; "
        "print(os.getuid(), os.getgid(), [f for f, _, _ in os.walk('/') "
        "if not f.startswith(('/proc', '/dev')) and os.access(f, os.W_OK)])"
    )
    assert python(image, code) == f"{ACCOUNT} {ACCOUNT} ['/tmp']\n"


def test_commands_that_only_read_need_no_writable_folder(image: Image, platform: Platform) -> None:
    ended, printed = image.run("status", "--json", settings={"OTC_DATABASE_URL": platform.url})
    assert ended == 0, printed
    assert platform.week in {row["week_ending"] for row in json.loads(printed)}


def test_a_command_that_writes_names_the_folder_that_it_cannot_write(image: Image, platform: Platform) -> None:
    ended, printed = image.run("migrate", settings={"OTC_DATABASE_URL": platform.url})
    assert ended == 1
    assert printed.startswith(f"{HOME}/dagster: Read-only file system. Set OTC_HOME")


def test_every_imported_module_has_bytecode_in_the_image(image: Image, platform: Platform) -> None:
    """Without it, each run takes twice the CPU time: the file system is read-only, so no process can write any."""
    code = (
        "import sys, os, otc_assets.definitions, otc_assets.defs.web, otc_assets.cli.app, dagster_webserver.cli\n"
        "from importlib.util import cache_from_source\n"
        "files = {getattr(m, '__file__', None) or '' for m in sys.modules.values()\n"
        "         if getattr(getattr(m, '__spec__', None), 'origin', '') != 'frozen'}\n"
        "found = [cache_from_source(f) for f in files if f.endswith('.py')]\n"
        # The flags of a file that is never compared with its source: PEP 552.
        "missing = [c for c in found if not os.path.exists(c) or open(c, 'rb').read(8)[4:] != bytes([1, 0, 0, 0])]\n"
        "print(len(found), missing)"
    )
    count, missing = python(image, code, settings={"OTC_DATABASE_URL": platform.url}).split(maxsplit=1)
    assert int(count) > 1000
    assert missing.strip() == "[]"


def test_the_packages_are_those_of_the_lock_file_of_servers_and_nothing_else(image: Image) -> None:
    code = (
        "import importlib.metadata as m, json, sys; from packaging.markers import default_environment; "
        "print(json.dumps([{d.name.lower().replace('_', '-').replace('.', '-'): d.version for d in m.distributions("
        "path=[p for p in sys.path if p.startswith('/opt')])}, default_environment()]))"
    )
    packages, environment = json.loads(python(image, code))
    lines = re.findall(r"^([\w.-]+==[^\\]+)\\$", (PROJECT_ROOT / "requirements-server.lock").read_text(), re.MULTILINE)
    locked = [Requirement(line) for line in lines]
    expected = {
        one.name: str(one.specifier).removeprefix("==")
        for one in locked
        if one.marker is None or one.marker.evaluate(environment)
    }
    assert len(expected) > 80
    assert packages.pop("otc-assets")
    assert packages == expected
    # The image has a bill of materials, which was made of what is in it.
    bill = json.loads((image.files / "opt/otc-assets/sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "otc-assets")
    of_kind: dict[str, dict[str, str]] = {}
    for one in bill["components"]:
        kind = one["purl"].partition("/")[0]
        name = canonicalize_name(one["name"]) if kind == "pkg:pypi" else one["name"]
        of_kind.setdefault(kind, {})[name] = one["version"]
    assert of_kind["pkg:pypi"] == expected
    assert of_kind["pkg:generic"] == {"python": environment["python_full_version"]}
    status = (image.files / "var/lib/dpkg/status").read_text()
    fields = [dict(re.findall(r"^(Package|Version|Status): (.*)$", one, re.M)) for one in status.split("\n\n") if one]
    installed = {one["Package"]: one["Version"] for one in fields if one["Status"].endswith(" installed")}
    assert len(installed) > 50
    assert of_kind["pkg:deb"] == installed


def test_no_tool_that_builds_or_tests_is_in_the_image(image: Image) -> None:
    code = (
        "import shutil; tools = 'gcc cc c++ make pytest ruff hatchling postgres initdb'.split(); "
        "print([tool for tool in tools if shutil.which(tool)])"
    )
    assert python(image, code) == "[]\n"
    assert not (image.files / "opt/otc-assets/bin/pip").exists()
    left = [path for path in ("build", "root/.cache", "etc/pip.conf") if (image.files / path).exists()]
    assert left == []


def test_the_package_has_every_file_of_the_checkout(image: Image) -> None:
    """Migrations, statements, rules, dashboards and Dagster's configuration are no modules: a wheel can lack them."""
    (installed,) = (image.files / "opt/otc-assets/lib").glob("python3*/site-packages/otc_assets")
    project = {name: PROJECT_ROOT / name for name in ("migrations", "dagster.yaml", "workspace.yaml")}
    compared = 0
    for source in [PROJECT_ROOT / "otc_assets", *project.values()]:
        for file in [source] if source.is_file() else sorted(source.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                inside = file.relative_to(PROJECT_ROOT)
                copy = installed.parent / inside if inside.parts[0] == "otc_assets" else installed / "_project" / inside
                assert copy.read_bytes() == file.read_bytes(), inside
                compared += 1
    assert compared > 150


def test_the_image_is_configured_for_a_container(image: Image) -> None:
    config = image.config
    assert (config["User"], config["Entrypoint"]) == (f"{ACCOUNT}:{ACCOUNT}", ["otc-assets"])
    assert "Cmd" not in config or not config["Cmd"]
    assert "Healthcheck" not in config  # Kubernetes has probes, compose.yaml has health checks
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "otc-assets"
    assert all(labels[f"org.opencontainers.image.{name}"] for name in ("version", "revision", "description"))
    stat = (image.files / HOME.lstrip("/")).stat()
    assert (stat.st_uid, stat.st_gid) == (ACCOUNT, ACCOUNT)
