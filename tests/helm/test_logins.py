"""The logins of the chart's pods: what `helm test` reads with, and those that the database in the cluster creates."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from chart import CHART, VARIANTS, Helm, of_kind, pods
from support.console_script import console_script
from support.logins import login
from support.migration import migrate

from otc_assets.exporter.server import Exporter, exposition
from otc_assets.local.embedded import _OF_ANALYSTS, EmbeddedServer
from otc_assets.settings import settings
from otc_assets.warehouse.migrate import newest_version
from otc_assets.warehouse.roles import READER

#: Whether a login has more power than its roles give it: none has.
ATTRIBUTES = """
    SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user
"""


@pytest.fixture
def reader(server: EmbeddedServer, installation: Path, database: str) -> Iterator[str]:
    """The URL of the database for a role that may only read."""
    with server._connect(database.rpartition("/")[2]) as admin, login(admin, database, READER) as url:
        yield url


def test_status_works_with_a_role_that_may_only_read(
    reader: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what `helm test` runs, with secrets.database.readerKey."""
    monkeypatch.setenv("OTC_DATABASE_URL", reader)
    settings.cache_clear()
    code, text, said = console_script(monkeypatch, capsys)("status")
    assert code == 0, said
    assert "week_ending" in text


def test_the_database_of_a_laptop_runs_the_script_that_creates_the_logins(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["laptop"])
    (pod,) = [pod for pod in pods(manifests) if pod.component == "database"]
    (mount,) = [one for one in pod.containers[0]["volumeMounts"] if one["name"] == "roles"]
    assert mount["mountPath"].startswith("/docker-entrypoint-initdb.d/")
    assert mount["mountPath"].endswith(".sh")
    (volume,) = [one for one in pod.spec["volumes"] if one["name"] == "roles"]
    script = of_kind(manifests, "ConfigMap")[volume["configMap"]["name"]]["data"][mount["subPath"]]
    assert script.strip() == (CHART / "scripts" / "database-roles.sh").read_text().strip()
    keys = {name: entry["valueFrom"]["secretKeyRef"]["key"] for name, entry in pod.env().items() if "URL" in name}
    assert keys == {"OWNER_URL": "owner-url", "WRITER_URL": "writer-url", "READER_URL": "reader-url"}


@pytest.mark.slow
def test_the_script_creates_an_owner_who_migrates_and_logins_with_the_rights_of_both_roles(
    folder_for_all: Path,
) -> None:
    """All three were the superuser, and a reader's sessions had no limits."""
    with EmbeddedServer(folder_for_all / "laptop", durable=False) as server:
        with server._connect("postgres") as admin:  # as the image leaves it
            admin.execute("DROP DATABASE otc")
            admin.execute("DROP ROLE otc, otc_writer, otc_reader")
        urls = {
            name: sa.make_url(server.url)
            .set(username=f"of_{name}", password=f"secret-{name}", database="shop")
            .render_as_string(hide_password=False)
            for name in ("owner", "writer", "reader")
        }
        address = sa.make_url(server.url)
        folder = server._folder
        done = subprocess.run(
            ["/bin/sh", "-ec", f". {CHART}/scripts/database-roles.sh"],
            env={
                "PATH": f"{Path(folder.program('psql')).parent}{os.pathsep}{os.environ['PATH']}",
                "PGHOST": str(address.host),
                "PGPORT": str(address.port),
                "PGPASSWORD": folder.password("postgres"),
                **{f"{name.upper()}_URL": url for name, url in urls.items()},
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        migrated = migrate(urls["owner"])
        assert (migrated.after, migrated.remark) == (newest_version(), "")
        can = "SELECT has_table_privilege('otc.gap', 'SELECT'), has_table_privilege('otc.gap', 'DELETE')"
        # As the analysts of the embedded server; the others have what the server has.
        begins_with = {"owner": ["off", "0", "0"], "writer": ["off", "0", "0"], "reader": [*_OF_ANALYSTS.values()]}
        for name, expected in (("owner", (True, True)), ("writer", (True, True)), ("reader", (True, False))):
            with psycopg.connect(urls[name]) as connection:
                assert connection.execute(can).fetchone() == expected, name
                assert connection.execute(ATTRIBUTES).fetchone() == (False,) * 5, name
                shown = [connection.execute(f"SHOW {which}".encode()).fetchone() for which in _OF_ANALYSTS]
                assert shown == [(value,) for value in begins_with[name]], name
        with psycopg.connect(urls["reader"]) as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("DELETE FROM otc.gap")
        with closing(Exporter(lambda: urls["reader"])) as exporter:
            scraped = exposition(exporter)
        assert "otc_up 1.0" in scraped
        assert 'otc_scrape_errors{collector="rows"} 0.0' in scraped
