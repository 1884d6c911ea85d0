"""Errors about settings name the variable and never its value; a password is in no message and no log."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from dagster_postgres import DagsterPostgresStorage
from pydantic import SecretStr

from otc_assets.exporter.server import Exporter, exposition
from otc_assets.local.embedded import EmbeddedServer
from otc_assets.pipeline.file_drop import Progress, look
from otc_assets.pipeline.ingest import allowed_file
from otc_assets.settings import (
    InvalidSettings,
    Settings,
    child_environment,
    public_environment,
    secret_variables,
    settings,
    without_secrets,
)
from otc_assets.warehouse.server import (
    DatabaseUnreachable,
    connect,
    dagster_storage_url,
    database_url,
    transaction,
)
from otc_assets.whole_files import MOST_BYTES

Command = Callable[..., tuple[int, str, str]]

ODD = ["p@ss:w/rd#?", "tw@ce@at:colon", "hash#tag?query", "per%cent%41", "sl/ash:colon", "sp ace+plus&and=is"]
#: What a part of an odd password looks like, when a URL was cut at the wrong place.
PARTS = ["ss:w", "rd#", "ce@at", "at:colon", "hash#", "tag?query", "cent%41", "ash:colon", "sp ace", "plus&and"]


def leaked(text: str) -> list[str]:
    return [part for part in [*ODD, *PARTS, *(quote(odd, safe="") for odd in ODD)] if part in text]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTC_METRICS_PORT", "abc"), ("OTC_FIRST_WEEK", "2021-12-09"), ("OTC_KEEP_VENUE_VOLUME_WEEKS", "-1")],
)
@pytest.mark.parametrize("arguments", [["materialize", "--weeks", "2026-08-21"], ["status"], ["up"]])
def test_an_invalid_setting_is_not_blamed_on_an_option(
    otc: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str, value: str
) -> None:
    """`OTC_PORT=abc otc-assets materialize --weeks ...` said that --weeks had an invalid value."""
    monkeypatch.setenv(variable, value)
    code, _, errors = otc(*arguments)
    assert code == 2
    assert errors.startswith(f"{variable}: ")
    assert "--weeks" not in errors
    assert "Usage" not in errors


def test_several_invalid_settings_are_named_together_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_PORT", "hunter2-in-the-wrong-place")
    monkeypatch.setenv("OTC_SOURCE", "hunter2")
    settings.cache_clear()
    with pytest.raises(InvalidSettings) as caught:
        settings()
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["OTC_SOURCE", "OTC_PORT"]
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("url", ["http://[::1", "api.finra.org", "https://", "https://api.finra.org:port"])
def test_an_address_of_finra_that_is_none_is_an_error_of_the_setting(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """It was shown as a bug, or asked for six times."""
    monkeypatch.setenv("OTC_FINRA_URL", url)
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match="^OTC_FINRA_URL: "):
        settings()


def test_the_address_of_finra_may_have_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_FINRA_URL", "http://somebody:hunter2@proxy.example.org:8080/finra")
    assert Settings().finra_url == "http://somebody:hunter2@proxy.example.org:8080/finra"


def test_folders_that_are_relative_are_those_of_the_command_for_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL, which runs in a folder of its own, found no data; dropped files were looked for in another folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTC_HOME", "my home")
    monkeypatch.setenv("OTC_FILES", "my files")
    chosen = Settings()
    assert chosen.environment()["OTC_HOME"] == str(tmp_path / "my home")
    assert chosen.archive.folder == tmp_path / "my home" / "archive"
    dropped = chosen.files_folder / "a.csv"
    dropped.parent.mkdir()
    dropped.touch()
    (batch,) = look(chosen.files_folder, Progress(), dropped.stat().st_mtime + 60, print)
    monkeypatch.chdir("/")
    assert [allowed_file(path, chosen.files_folder, set()) for path in batch.paths] == [dropped]


def test_a_child_process_reads_the_same_settings_from_the_environment_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up --port` was known to the command only; the links in the daemon's alerts had another port."""
    urls = {"database_url": "postgresql://u:pass@h/d", "dagster_storage_url": "postgresql+psycopg2://u:pass@h/d"}
    chosen = Settings.model_validate({**urls, "home": tmp_path, "port": 3456, "archive_url": "s3://bucket/otc"})
    for name, value in chosen.environment().items():
        monkeypatch.setenv(name, value)
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert Settings() == chosen
    without_urls = Settings.model_construct(home=tmp_path, port=3000)
    assert without_urls.environment().keys() == {"OTC_HOME", "OTC_PORT", "DAGSTER_HOME"}


@pytest.mark.parametrize("password", ODD)
def test_a_url_that_cannot_be_parsed_is_refused_and_not_shown(
    otc: Command, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    """A password with an @ ended at it, and the rest of it was printed as the host."""
    for url in (f"postgresql://otc:{password}@127.0.0.1:1/otc", f"postgres//otc:{password}@127.0.0.1:1/otc"):
        monkeypatch.setenv("OTC_DATABASE_URL", url)
        code, output, errors = otc("status")
        assert code == 1
        assert leaked(output + errors) == []
        if "@" in password:
            assert "percent-encode" in errors.lower()
            assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in errors


def test_an_unencoded_at_sign_is_named_as_the_reason() -> None:
    with pytest.raises(ValueError, match="has more than one @. Percent-encode.*@ as %40"):
        database_url("postgresql://otc:p@ss@host/otc", "psycopg")
    with pytest.raises(ValueError, match="is not a URL of a PostgreSQL server") as caught:
        database_url("postgresql://otc:secret@host:port-secret/otc", "psycopg")
    assert "port-secret" not in str(caught.value)


@pytest.mark.parametrize("password", ODD)
def test_no_message_about_a_server_that_does_not_answer_has_the_password(
    password: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, otc: Command
) -> None:
    encoded = quote(password, safe="")
    urls = [
        f"postgresql://otc:{encoded}@127.0.0.1:1/otc",
        f"postgresql://127.0.0.1:1/otc?user=otc&password={encoded}",
    ]
    for url in urls:
        monkeypatch.setenv("OTC_DATABASE_URL", url)
        engine = connect(url)
        with pytest.raises(DatabaseUnreachable) as caught, transaction(engine):
            pass
        assert "127.0.0.1:1/otc" in str(caught.value)
        code, output, errors = otc("status")
        assert (code, "no connection to 127.0.0.1:1/otc" in errors) == (1, True)
        with closing(Exporter(lambda url=url: url)) as exporter:  # type: ignore[misc]
            text = exposition(exporter)
        with pytest.raises(Exception, match="connection") as dagster:
            DagsterPostgresStorage(dagster_storage_url(url))
        everything = [str(caught.value), output, errors, text, str(dagster.value), str(dagster.value.__cause__)]
        everything += [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
        assert leaked("\n".join(everything)) == []


@pytest.fixture
def role(server: EmbeddedServer, database: str) -> Iterator[Callable[[str], str]]:
    """Gives the owner of the database another password, and returns its URL."""
    before = database

    def with_password(password: str) -> str:
        with server._connect("postgres") as admin:
            admin.execute(psycopg.sql.SQL("ALTER ROLE otc PASSWORD {}").format(psycopg.sql.Literal(password)))
        return f"postgresql://otc:{quote(password, safe='')}@{before.rpartition('@')[2]}"

    yield with_password
    with_password(server._folder.password("otc"))


@pytest.mark.parametrize("password", ODD)
def test_a_percent_encoded_password_works_everywhere(role: Callable[[str], str], password: str) -> None:
    url = role(password)
    engine = connect(url)
    with transaction(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()
    DagsterPostgresStorage(dagster_storage_url(url))
    with closing(Exporter(lambda: url)) as exporter:
        assert "otc_up 1.0" in exposition(exporter)


def test_a_wrong_password_is_refused_without_being_shown(
    role: Callable[[str], str], otc: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = role("the right one")
    for password in ODD:
        encoded = quote(password, safe="")
        monkeypatch.setenv("OTC_DATABASE_URL", url.replace("the%20right%20one", encoded))
        code, output, errors = otc("status")
        assert code == 1
        assert 'password authentication failed for user "otc"' in errors
        assert leaked(output + errors) == []


def test_texts_lose_passwords_wherever_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_DATABASE_URL", "postgresql://otc:p%40ss%3Aw%2Frd@db/otc")
    assert without_secrets("no p@ss:w/rd, nor p%40ss%3Aw%2Frd") == "no ***, nor ***"
    assert without_secrets("at postgresql://u:p@ss:w@h:5/d now") == "at postgresql://u:***@h:5/d now"
    assert without_secrets("at postgresql://u:PASSWORD1@h:5/d now") == "at postgresql://u:***@h:5/d now"
    assert without_secrets("host=h sslpassword=x&y password=z") == "host=h sslpassword=***&y password=***"
    assert without_secrets("postgresql://otc@db/otc is no secret") == "postgresql://otc@db/otc is no secret"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "IQoJb3JpZ2luX2Vj")
    assert without_secrets("wJalrXUtnFEMI/K7MDENG and IQoJb3JpZ2luX2Vj") == "*** and ***"


def test_a_setting_whose_variable_is_unset_is_read_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file, like an empty variable, leaves the default: a container has a file for each secret."""
    (tmp_path / "otc_database_url").write_text("postgresql://writer:from-a-file@host/otc\n")
    (tmp_path / "otc_port").write_text("4321\n")
    (tmp_path / "otc_alert_url").write_text("\n")
    monkeypatch.delenv("OTC_DATABASE_URL", raising=False)
    monkeypatch.setenv("OTC_SECRETS_DIR", str(tmp_path))
    chosen = Settings()
    assert chosen.database_url is not None
    assert chosen.database_url.get_secret_value() == "postgresql://writer:from-a-file@host/otc"
    assert (chosen.port, chosen.alert_url) == (4321, None)
    monkeypatch.setenv("OTC_PORT", "1234")
    assert Settings().port == 1234


def test_a_password_in_a_file_is_hidden_in_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "otc_database_url").write_text("postgresql://writer:from%2Da%2Dfile@host/otc\n")
    (tmp_path / "otc_finra_client_secret").write_text("another-secret\n")
    monkeypatch.setenv("OTC_SECRETS_DIR", str(tmp_path))
    assert without_secrets("from%2Da%2Dfile, from-a-file and another-secret") == "***, *** and ***"


def test_a_folder_of_secrets_that_does_not_exist_is_named(
    otc: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTC_SECRETS_DIR", str(tmp_path / "missing"))
    code, _, errors = otc("status")
    assert code == 2
    assert errors.startswith("OTC_SECRETS_DIR: ")
    assert "directory" in errors


SECRETS = sorted(name for name in secret_variables() if name.startswith("OTC_"))


def value_of(variable: str) -> str:
    """A value that the setting accepts, with a secret in it."""
    secret = f"canary-{variable.lower().replace('_', '-')}"
    if variable.endswith("_URL") and "ALERT" not in variable:
        return f"postgresql://otc:{secret}@127.0.0.1:1/otc"
    return f"json://user:{secret}@127.0.0.1:1/hook-{secret}" if "ALERT" in variable else secret


def test_every_secret_setting_is_known_by_its_type() -> None:
    assert {"OTC_DATABASE_URL", "OTC_DAGSTER_STORAGE_URL", "OTC_ALERT_URL", "OTC_FINRA_CLIENT_SECRET"} <= {*SECRETS}
    assert "OTC_FINRA_CLIENT_ID" not in SECRETS


@pytest.mark.parametrize("variable", SECRETS)
def test_every_secret_is_read_from_the_file_that_its_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The variable itself comes first, then the named file, then the folder of secrets."""
    name, value = variable.removeprefix("OTC_").lower(), value_of(variable)
    (tmp_path / "named").write_text(f"{value}\n")
    (tmp_path / variable.lower()).write_text("of the folder\n")
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OTC_SECRETS_DIR", str(tmp_path))
    assert getattr(Settings(), name).get_secret_value() == "of the folder"
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "named"))
    assert getattr(Settings(), name).get_secret_value() == value
    assert "canary" not in without_secrets(f"{value} canary-{variable.lower().replace('_', '-')}")
    monkeypatch.setenv(variable, "of the variable")
    assert getattr(Settings(), name).get_secret_value() == "of the variable"


@pytest.mark.parametrize("variable", SECRETS)
def test_a_named_file_that_has_no_secret_is_an_error_that_names_it(
    otc: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Without OTC_DATABASE_URL an embedded database would be started instead."""
    monkeypatch.delenv(variable, raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (MOST_BYTES + 1))
    (tmp_path / "endless").symlink_to("/dev/zero")
    for file, reason in (
        ("missing", "No such file"),
        ("empty", "is empty"),
        ("binary", "not text in UTF-8"),
        ("large", "File too large"),
        ("endless", "File too large"),  # it once took all memory
    ):
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / file))
        code, _, errors = otc("status")
        assert code == 2
        assert errors.startswith(f"{variable}_FILE: {tmp_path / file} ")
        assert reason in errors


def test_a_setting_that_is_no_secret_has_no_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "port").write_text("4321")
    monkeypatch.setenv("OTC_PORT_FILE", str(tmp_path / "port"))
    assert Settings().port == 3000


def test_a_child_gets_only_the_secrets_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in secret_variables():
        monkeypatch.setenv(variable, value_of(variable))
    monkeypatch.setenv("OTC_PORT", "3456")
    assert not secret_variables() & public_environment().keys()
    assert public_environment()["OTC_PORT"] == "3456"
    assert secret_variables() & public_environment("OTC_DATABASE_URL").keys() == {"OTC_DATABASE_URL"}
    # A secret that comes from a file is not copied to a variable.
    monkeypatch.delenv("OTC_DATABASE_URL")
    (tmp_path / "url").write_text(value_of("OTC_DATABASE_URL"))
    monkeypatch.setenv("OTC_DATABASE_URL_FILE", str(tmp_path / "url"))
    chosen = Settings()
    assert "OTC_DATABASE_URL" not in child_environment(chosen)
    other = chosen.model_copy(update={"database_url": SecretStr("postgresql://otc_app:x@127.0.0.1:1/otc")})
    assert child_environment(other)["OTC_DATABASE_URL"] == "postgresql://otc_app:x@127.0.0.1:1/otc"


def test_the_parts_of_a_destination_of_alerts_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_ALERT_URL", "slack://TokenAaaa/TokenBbbb/TokenCccc, mailtos://u:hunter2hunter2@h/?to=a@b.c")
    for text in ("TokenAaaa", "slack://TokenAaaa/TokenBbbb/TokenCccc", "TokenCccc", "login hunter2hunter2 refused"):
        hidden = without_secrets(text)
        assert "Token" not in hidden
        assert "hunter2" not in hidden
