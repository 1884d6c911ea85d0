"""TLS to the database, to S3 and to mail servers, with the settings of docs/security.md: who is refused, and how."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from dagster_postgres import DagsterPostgresStorage
from pydantic import SecretStr
from support.s3_server import S3Server
from support.tls import Authority, front, mail_server

from otc_assets.alerting.delivery import send_test
from otc_assets.archive.opening import open_archive
from otc_assets.archive.store import ArchiveUnavailable
from otc_assets.archive_url import parse_archive_url
from otc_assets.client import Client, Unreachable
from otc_assets.settings import Settings
from otc_assets.warehouse.server import DatabaseUnreachable, connect, dagster_storage_url, transaction

#: Who has signed the certificate of the server, and for which name; clients trust "ours" and connect to localhost.
REFUSED = [("other", "localhost"), ("ours", "elsewhere.example")]
OF_REFUSED = ["another authority", "another host name"]


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    folder = tmp_path_factory.mktemp("authorities")
    return {name: Authority(folder, name) for name in ("ours", "other")}


@pytest.fixture
def trusted(authorities: dict[str, Authority]) -> Path:
    """The certificate of the authority that clients trust."""
    return authorities["ours"].file


@pytest.fixture
def context(authorities: dict[str, Authority], request: pytest.FixtureRequest) -> ssl.SSLContext:
    """That of the server: by default, with a certificate that clients accept."""
    authority, host = getattr(request, "param", ("ours", "localhost"))
    return authorities[authority].context(host)


refused = pytest.mark.parametrize("context", REFUSED, ids=OF_REFUSED, indirect=True)


# --- the database --------------------------------------------------------------------------------------


@pytest.fixture
def secure_url(context: ssl.SSLContext, database: str, trusted: Path) -> Iterator[str]:
    """The database behind TLS, with the options of docs/security.md."""
    address = sa.make_url(database)
    with front(context, address.port or 0, of_postgres=True) as port:
        options = {"sslmode": "verify-full", "sslrootcert": str(trusted)}
        yield address.set(host="localhost", port=port, query=options).render_as_string(hide_password=False)


def test_every_part_of_the_platform_connects_to_the_database_with_the_documented_options(secure_url: str) -> None:
    engine = connect(secure_url)
    with transaction(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.pgconn.ssl_in_use
    engine.dispose()
    DagsterPostgresStorage(dagster_storage_url(secure_url))
    with Client(secure_url) as client:
        assert client.sql("SELECT 1 AS one").rows() == [(1,)]


@refused
def test_a_database_with_a_wrong_certificate_is_refused_with_what_to_check(secure_url: str) -> None:
    with pytest.raises(DatabaseUnreachable) as caught, transaction(connect(secure_url)):
        pass
    assert "certificate" in str(caught.value)
    assert "sslrootcert" in str(caught.value)
    assert "docs/security.md" in str(caught.value)
    assert sa.make_url(secure_url).password not in str(caught.value)
    with pytest.raises(Exception, match="retries") as dagster:
        DagsterPostgresStorage(dagster_storage_url(secure_url))
    assert "certificate" in str(dagster.value.__cause__)
    with Client(secure_url) as client, pytest.raises(Unreachable, match="certificate"):
        client.sql("SELECT 1")


# --- S3 ------------------------------------------------------------------------------------------------


@pytest.fixture
def secure_bucket(
    context: ssl.SSLContext, s3: S3Server, bucket: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A bucket behind TLS, with the variables of docs/security.md."""
    with front(context, s3.port) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://localhost:{port}")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(trusted))
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield bucket


def test_an_archive_on_s3_is_written_and_read_over_tls(secure_bucket: str) -> None:
    archive = open_archive(parse_archive_url(f"s3://{secure_bucket}/otc"))
    assert archive.get(archive.put(b"raw")) == b"raw"


@refused
def test_an_s3_server_with_a_wrong_certificate_is_refused_with_what_to_check(secure_bucket: str) -> None:
    archive = open_archive(parse_archive_url(f"s3://{secure_bucket}/otc"))
    with pytest.raises(ArchiveUnavailable) as caught:
        archive.put(b"raw")
    assert "SSLError" in str(caught.value)
    assert "AWS_CA_BUNDLE" in str(caught.value)


# --- mail ----------------------------------------------------------------------------------------------


def mail(port: int, mode: str, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Sends a test message, with the variable of docs/security.md. Returns why it was not sent."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    url = f"mailtos://localhost:{port}?from=otc@example.org&to=a@example.org&mode={mode}"
    ((_, reason),) = send_test(Settings(alert_url=SecretStr(url)))
    return reason


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ssl", "starttls"])
def test_an_alert_is_mailed_over_tls(
    context: ssl.SSLContext, mode: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server(context, starttls=mode == "starttls") as (port, messages):
        assert mail(port, mode, trusted, monkeypatch) is None
    (message,) = messages
    assert "otc-assets: a test" in message


@pytest.mark.slow
@refused
@pytest.mark.parametrize("mode", ["ssl", "starttls"])
def test_a_mail_server_with_a_wrong_certificate_gets_no_message(
    context: ssl.SSLContext, mode: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server(context, starttls=mode == "starttls") as (port, messages):
        reason = mail(port, mode, trusted, monkeypatch)
    assert reason is not None
    assert "certificate is not trusted" in reason
    assert "SSL_CERT_FILE" in reason
    assert messages == []
