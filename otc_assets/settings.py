"""Settings: every environment variable that the platform reads, typed, in one place.

This module has names, types, defaults and paths. Dagster's own configuration is in ``dagster.yaml``, and the code
that acts on a setting is elsewhere.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

import platformdirs
from pydantic import DirectoryPath, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from otc_assets.archive_url import ArchiveUrl, parse_archive_url
from otc_assets.domain.closures import read_closures
from otc_assets.domain.enums import SourceKind
from otc_assets.domain.reviewed import BadList
from otc_assets.domain.weeks import WINDOW_WEEKS, use_closures, week_start_of
from otc_assets.errors import OtcError
from otc_assets.http_guard import LOOPBACK_NAMES, host_name
from otc_assets.whole_files import read_small

PROJECT_ROOT = Path(__file__).resolve().parent.parent

#: About how many requests a minute FINRA allows to an address.
FINRA_REQUESTS_PER_MINUTE = 1_200
#: How many pages of a publication are requested at a time: where a page takes a second, they use the default budget.
PAGES_IN_FLIGHT = 6


def default_home() -> Path:
    """The folder for the embedded database, the archive and Dagster's files if ``OTC_HOME`` is unset.

    It is an ordinary user's data folder. For root it is ``/var/lib/otc-assets``: PostgreSQL refuses to run as root,
    and the account it runs as instead can't enter root's home.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/otc-assets")
    return Path(platformdirs.user_data_dir("otc-assets"))


class _SecretFiles(SecretsSettingsSource):
    """The files of ``OTC_SECRETS_DIR``; like an empty variable, an empty file leaves the default."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if value}


class _NamedFiles(PydanticBaseSettingsSource):
    """The files that ``OTC_<NAME>_FILE`` names, one for each setting that is a secret."""

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        found = [(name, self.get_field_value(field, name)[0]) for name, field in fields if _is_secret(name)]
        return {name: value for name, value in found if value is not None}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """The secret, its name, and that it is not JSON; None if no file is named.

        Raises:
            InvalidSettings: the file can't be read, or is empty. The default would be another database.
        """
        del field
        variable = f"{_variable(field_name)}_FILE"
        if not (path := os.environ.get(variable)):
            return None, field_name, False
        try:
            text = read_small(Path(path)).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
            raise InvalidSettings(f"{variable}: {path} can't be read: {reason}") from None
        if not text:
            raise InvalidSettings(f"{variable}: {path} is empty")
        return text, field_name, False


class Settings(BaseSettings):
    """The settings, each read from ``OTC_<NAME>`` in the environment.

    A secret whose variable is unset is read from the file that ``OTC_<NAME>_FILE`` names. Any setting that neither
    has is read from the file ``otc_<name>`` in ``OTC_SECRETS_DIR``, if there is one.

    Attributes:
        database_url: the URL of a PostgreSQL server; if it is unset, an embedded one is started.
        home: the folder for the embedded database, the archive and Dagster's files.
        archive_url: the archive, ``file:///folder`` or ``s3://bucket/prefix``; if unset, ``archive`` in ``home``.
        export_url: the Parquet data set, an address as of the archive; if unset, ``export`` below ``archive_url``, or
            in ``home``.
        source: where publications come from: the offline ``simulator``, FINRA's ``api``, or ``files``.
        files: the folder of downloaded files, for ``source = files`` and the file-drop sensor.
        first_week: the first week to capture, a Friday; the first partition, and the start of gap detection.
        extra_closures: a file with days on which the NYSE is closed and that the package does not know yet: a CSV list
            with the columns `day`, `source` and `reviewed`.
        finra_url: the URL of the Query API.
        finra_client_id, finra_client_secret: OAuth2 client credentials, for networks from which FINRA requires them.
        requests_per_minute: the limit of one process for requests to FINRA; by default, a quarter of what FINRA
            allows to an address: two runs, the sensors and a command may send requests at the same time.
        pages_in_flight: how many pages of a publication are requested at a time.
        lookback_weeks: how many weeks back the Wednesday run looks for revisions; FINRA revises rows up to
            164 days later.
        compress_after_weeks: chunks older than this are compressed, if the server can; 0 for never.
        keep_venue_volume_weeks, keep_summaries_weeks: how many weeks of venue volume, and of everything computed from
            it, are kept; 0 keeps them indefinitely. Archived bytes are always kept indefinitely.
        keep_run_logs_days: how many days the logs of a run are kept after its end; 0 keeps them indefinitely.
        keep_runs_days: how many days runs, backfills, alerts, and materializations that a newer one of the same week
            replaced are kept; 0 keeps them indefinitely.
        single_runs: whether a backfill puts all its weeks into one run, which ``dagster asset materialize
            --partition-range`` requires of every asset.
        simulator_seed, simulator_scale: the seed of the simulated data, and its size (1 is FINRA's size).
        port: the port of the UI, on loopback.
        alert_url: the destinations of alerts, one or several Apprise URLs; a secret, because they have tokens.
        alert_severity: the lowest severity of failed checks that cause alerts: ``error``, or ``warn``.
        public_url: the UI's address for users, used in links in alerts; if unset, loopback at ``port``.
        report_url: the address below which weekly reports are served; an alert with the link is sent for each new one.
        docs_url: the address of the documentation site, for links on the pages of assets.
        grafana_url: the address of the dashboards, likewise.
        allowed_hosts: further host names of the UI, separated by commas; ``*.example.org`` for all names below
            example.org, ``*`` for any name.
        metrics_port: the port on which ``otc-assets up`` and ``metrics`` serve metrics, on loopback; with 0, ``up``
            serves none.
        api_port: the port on which ``otc-assets serve`` serves the HTTP API.
        api_keys: the file with the keys of the HTTP API; without it, only this machine can be served.
        api_requests_per_minute: the limit of each key of the HTTP API, or of each address; 0 for none.
        api_origins: sites whose pages may read the HTTP API, separated by commas, such as https://pro.openbb.co.
        slot_wait_seconds: how long a step of a command waits for a slot of a pool before the command fails.
        dagster_storage_url: the URL of Dagster's storage; if it is unset, the storage is a schema of the database.
        secrets_dir: a folder of files with settings, such as the secrets of a container.
    """

    model_config = SettingsConfigDict(env_prefix="OTC_", env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    home: Path = Field(default_factory=default_home)
    archive_url: str | None = None
    export_url: str | None = None
    source: SourceKind = SourceKind.SIMULATOR
    files: Path | None = None
    first_week: dt.date = dt.date(2021, 12, 10)
    extra_closures: Path | None = None
    finra_url: str = "https://api.finra.org"
    finra_client_id: str | None = None
    finra_client_secret: SecretStr | None = None
    requests_per_minute: int = Field(default=FINRA_REQUESTS_PER_MINUTE // 4, ge=1, le=FINRA_REQUESTS_PER_MINUTE)
    pages_in_flight: int = Field(default=PAGES_IN_FLIGHT, ge=1, le=32)
    lookback_weeks: int = Field(default=26, ge=0, le=260)
    compress_after_weeks: int = Field(default=12, ge=0, le=1040)
    keep_venue_volume_weeks: int = Field(default=104, ge=0, le=5200)
    keep_summaries_weeks: int = Field(default=0, ge=0, le=5200)
    keep_run_logs_days: int = Field(default=30, ge=0, le=36_500)
    keep_runs_days: int = Field(default=365, ge=0, le=36_500)
    single_runs: bool = False
    simulator_seed: int = 2014
    simulator_scale: float = Field(default=0.1, gt=0, le=4)
    port: int = Field(default=3000, ge=0, le=65535)
    alert_url: SecretStr | None = None
    alert_severity: Literal["error", "warn"] = "error"
    public_url: str | None = None
    report_url: str | None = None
    docs_url: str | None = None
    grafana_url: str | None = None
    allowed_hosts: str = ""
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    api_port: int = Field(default=8000, ge=0, le=65535)
    api_keys: Path | None = None
    api_requests_per_minute: int = Field(default=3000, ge=0, le=1_000_000)
    api_origins: str = ""
    slot_wait_seconds: float = Field(default=1800, gt=0, le=86_400)
    dagster_storage_url: SecretStr | None = None
    secrets_dir: DirectoryPath | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Adds the files that the environment names, and those of the folder that it names."""
        del dotenv_settings, file_secret_settings
        folder = os.environ.get("OTC_SECRETS_DIR", "")
        files = (_SecretFiles(settings_cls, folder),) if os.path.isdir(folder) else ()
        return init_settings, env_settings, _NamedFiles(settings_cls), *files

    @field_validator("home", "files")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        """PostgreSQL and runs have other working directories than the command that passes them the folders."""
        return None if value is None else value.absolute()

    @field_validator("first_week")
    @classmethod
    def _is_a_friday(cls, value: dt.date) -> dt.date:
        week_start_of(value)
        return value

    @field_validator("extra_closures")
    @classmethod
    def _lists_closures(cls, value: Path | None) -> Path | None:
        _closures(value)
        return value

    @field_validator("archive_url", "export_url")
    @classmethod
    def _is_an_archive(cls, value: str | None) -> str | None:
        if value is not None:
            parse_archive_url(value)
        return value

    @field_validator("public_url", "report_url", "docs_url", "grafana_url", "finra_url")
    @classmethod
    def _is_an_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            # That of FINRA may be a proxy's, with a name and a password.
            host = parts.netloc.rpartition("@")[2] if info.field_name == "finra_url" else parts.netloc
            if parts.scheme not in ("http", "https") or host_name(host) is None:
                raise ValueError("write an address like https://dagster.example.org, with http or https")
        return value

    @field_validator("api_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _separated(value):
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or f"{parts.scheme}://{parts.netloc}" != origin:
                raise ValueError("write sites with scheme and without path, separated by commas: https://pro.openbb.co")
            if host_name(parts.netloc) is None:
                raise ValueError(f"{origin!r} has no host name")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_host_names(cls, value: str) -> str:
        for name in _separated(value):
            suffix = name.removeprefix("*.")
            if name != "*" and ("*" in suffix or host_name(suffix) not in (suffix, suffix.strip("[]"))):
                raise ValueError(
                    f"{name!r} is not a host name. Write names without scheme and port, separated by commas: "
                    "dagster.example.org, *.example.org; or * for any name"
                )
        return value

    @field_validator("keep_summaries_weeks")
    @classmethod
    def _check_retention_order(cls, value: int, info: ValidationInfo) -> int:
        volume = info.data.get("keep_venue_volume_weeks")
        if value and volume is not None and (volume == 0 or value < volume + WINDOW_WEEKS):
            raise ValueError(
                f"summaries must be kept {WINDOW_WEEKS} weeks longer than venue volume "
                f"({volume or 'indefinitely'}), because six-week figures look back; 0 keeps them indefinitely"
            )
        return value

    @property
    def keep_weeks(self) -> dict[str, int]:
        """For how many weeks each kind of data is kept; 0 for indefinitely."""
        return {
            "venue_volume": self.keep_venue_volume_weeks,
            "summaries": self.keep_summaries_weeks,
        }

    @property
    def archive(self) -> ArchiveUrl:
        """Where the raw bytes of every publication are kept."""
        if self.archive_url is not None:
            return parse_archive_url(self.archive_url)
        return ArchiveUrl(folder=self.home / "archive")

    @property
    def export(self) -> ArchiveUrl:
        """Where the Parquet data set is written: by default where every process that reads the archive can read it."""
        if self.export_url is not None:
            return parse_archive_url(self.export_url)
        return self.archive.below("export") if self.archive_url is not None else ArchiveUrl(folder=self.home / "export")

    @property
    def files_folder(self) -> Path:
        """The folder that is watched for downloaded files."""
        return self.files or self.home / "files"

    @property
    def ui_url(self) -> str:
        """The UI's address for users, without a slash at the end."""
        return (self.public_url or f"http://127.0.0.1:{self.port}").rstrip("/")

    def report_link(self, week_ending: dt.date) -> str | None:
        """The address of the report of a week; None if ``OTC_REPORT_URL`` is not set."""
        return f"{self.report_url.rstrip('/')}/{week_ending}" if self.report_url else None

    @property
    def host_names(self) -> frozenset[str]:
        """The host names that requests to our web servers may use: those of this machine, and those that are set."""
        public = {host_name(urlsplit(self.public_url).netloc)} if self.public_url else set()
        return (
            LOOPBACK_NAMES | {name for name in public if name} | {n.strip("[]") for n in _separated(self.allowed_hosts)}
        )

    @property
    def origins(self) -> list[str]:
        """The sites whose pages may read the HTTP API."""
        return _separated(self.api_origins)

    @property
    def dagster_home(self) -> Path:
        """``DAGSTER_HOME`` of an instance that ``otc-assets up`` runs."""
        return self.home / "dagster"

    def environment(self) -> dict[str, str]:
        """The environment variables from which a child process reads the same folders, archive, databases and port."""
        urls = {"OTC_DATABASE_URL": self.database_url, "OTC_DAGSTER_STORAGE_URL": self.dagster_storage_url}
        return {
            "OTC_HOME": str(self.home),
            "DAGSTER_HOME": str(self.dagster_home),
            "OTC_PORT": str(self.port),  # links in alerts have it
            **({"OTC_ARCHIVE_URL": self.archive_url} if self.archive_url is not None else {}),
            **({"OTC_EXPORT_URL": self.export_url} if self.export_url is not None else {}),
            **{name: url.get_secret_value() for name, url in urls.items() if url is not None},
        }


def _variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"OTC_{name}".upper()


def _is_secret(name: str) -> bool:
    """Whether a setting is a secret, which its type says."""
    return SecretStr in (annotation := Settings.model_fields[name].annotation, *get_args(annotation))


def _closures(path: Path | None) -> frozenset[dt.date]:
    """The days in the file of ``extra_closures``.

    Raises:
        ValueError: the file can't be read, or a line of it is not usable.
    """
    if path is None:
        return frozenset()
    try:
        return read_closures(read_small(path).splitlines())
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text: it must be a CSV list of days") from None
    except OSError as error:
        raise ValueError(f"the file can't be read: {error.strerror}") from None
    except BadList as error:
        raise ValueError(str(error)) from None


def _separated(value: str) -> list[str]:
    return [name for part in value.split(",") if (name := part.strip().lower())]


class InvalidSettings(OtcError):
    """Environment variables have invalid values. The message names each variable, and never its value."""


@cache
def settings() -> Settings:
    """The settings of this process, read once. The calendar of trading days gets the closures in them.

    Raises:
        InvalidSettings: a variable has an invalid value. It is not a ValueError, because the command line reports
            those as errors of the option that it is parsing.
    """
    try:
        chosen = Settings()
        use_closures(_closures(chosen.extra_closures))
        return chosen
    except ValidationError as error:
        # The error's own message has the values, and those may be secret.
        problems = [(f"OTC_{'_'.join(map(str, problem['loc']))}".upper(), problem["msg"]) for problem in error.errors()]
    raise InvalidSettings("\n".join(f"{variable}: {message}" for variable, message in problems))


# --- secrets in texts and in the environment of other processes ------------------------------------------

# Up to the last @ of a word, because a password that was not percent-encoded may contain one. Our own messages have
# the placeholder PASSWORD.
_PASSWORD_IN_URL = re.compile(r"(://[^\s:/@]*:)(?!PASSWORD@)\S+(?=@)|(\b\w*(?i:password)=)[^\s&]+")
#: Secrets that libraries read from the environment: boto3's credentials, and the headers of OpenTelemetry's requests.
_OF_LIBRARIES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)
#: A shorter secret might be an ordinary word.
_SECRET_LENGTH = 8


def secret_variables() -> frozenset[str]:
    """The environment variables whose values are secrets."""
    return frozenset({_variable(name) for name in Settings.model_fields if _is_secret(name)} | {*_OF_LIBRARIES})


def public_environment(*keep: str) -> dict[str, str]:
    """The environment of this process for a child that needs no secrets but those of the variables ``keep``."""
    hidden = secret_variables() - {*keep}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def child_environment(chosen: Settings) -> dict[str, str]:
    """The environment for a child that works with ``chosen``; a secret that it can read from a file is in no variable.

    Every process of the same account can read the variables of a process.
    """
    given = chosen.environment()
    from_files = {name for name in secret_variables() & given.keys() if given[name] in _in_files(name)}
    return {**os.environ, **{name: value for name, value in given.items() if name not in from_files}}


def without_secrets(text: str) -> str:
    """``text`` without secrets: those of the settings, as written and decoded, and passwords of any URL in it."""
    secrets = {piece for name in secret_variables() for value in _written(name) for piece in _pieces(value)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SECRET_LENGTH:
            text = text.replace(secret, "***")
    return _PASSWORD_IN_URL.sub(r"\1\2***", text)


def _pieces(value: str) -> Iterator[str]:
    """The parts of a secret that may appear in a text.

    Of a database's URL that is the password. Of a destination of alerts, each part of the path may be a token, and so
    may what is in the place of the host.
    """
    yield value
    for one in re.split(r"[\s,]+", value):
        scheme, _, rest = one.partition("://")
        of_database = scheme.startswith("postgres")
        # The options of a destination may have an @; in a database's URL, it may be in the password.
        user, _, address = (rest if of_database else rest.partition("?")[0]).rpartition("@")
        found = [user.partition(":")[2], one.partition("=")[2]]
        if not of_database:
            host, *path = address.split("/")
            found += [rest, *path, *([host] if "." not in host and host != "localhost" else [])]
        for piece in found:
            yield from (piece, unquote(piece))


def _written(name: str) -> Iterator[str]:
    """What the environment and files have of a setting, valid or not."""
    yield os.environ.get(name, "")
    yield from _in_files(name)


def _in_files(name: str) -> Iterator[str]:
    """What ``<NAME>_FILE`` and ``OTC_SECRETS_DIR`` have of a setting."""
    paths = [Path(named)] if (named := os.environ.get(f"{name}_FILE")) else []
    paths += [Path(folder, name.lower())] if (folder := os.environ.get("OTC_SECRETS_DIR")) else []
    for path in paths:
        with suppress(OSError, UnicodeDecodeError):
            yield read_small(path).strip()
