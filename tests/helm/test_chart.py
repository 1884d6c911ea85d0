"""The chart's values: what is refused, what each changes, and the files that are generated."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from chart import CHART, ROOT, VARIANTS, Helm, dagster_config, of_kind, pods, problems
from pydantic import SecretStr

from otc_assets.defs.instance import POOLS
from otc_assets.defs.schedules import WEDNESDAY_MORNING
from otc_assets.domain.weeks import TIERS
from otc_assets.settings import Settings
from otc_assets.warehouse.server import DAGSTER_SCHEMA

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "helm" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["values.yaml", "values-laptop.yaml", "values-production.yaml"])
def test_helm_lint_has_no_complaint(helm: Helm, name: str) -> None:
    done = helm.run("lint", "--strict", str(CHART), "-f", str(CHART / name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


def test_generated_files_are_up_to_date(generate: ModuleType) -> None:
    files = {path for path in (CHART / "files").rglob("*") if path.is_file()}
    files |= {CHART / name for name in ("README.md", "values-official-dagster.yaml", "values.schema.json")}
    assert files == set(generate.generated())
    for path, content in generate.generated().items():
        assert path.read_text() == content, f"{path} is out of date: run python helm/generate.py"


def test_every_value_has_a_comment(generate: ModuleType) -> None:
    described = {path for path, _, _ in generate.described((CHART / "values.yaml").read_text())}
    paths = [".".join(path) for path, _ in leaves(VALUES)]
    assert [path for path in paths if not any(f"{path}.".startswith(f"{known}.") for known in described)] == []


def test_versions_are_those_of_the_package_and_of_its_dagster() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["annotations"]["otc-assets/dagster-version"] == importlib.metadata.version("dagster")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("webserver.replica=2", "additional properties 'replica' not allowed"),
        ("image.tag=latest", "/image/tag"),
        ("database.internal.image=timescale/timescaledb:latest", "/database/internal/image"),
        ("settings.OTC_SOURCE=apy", "value must be one of 'simulator', 'api', 'files'"),
        ("settings.OTC_REQUESTS_PER_MINUTE=2000", "maximum: got 2,000, want 1,200"),
        ("dagster.pools.finra=2", "additional properties 'finra' not allowed"),
        ("dagster.pools.finra_api=null", "missing property 'finra_api'"),
        ("settings.OTC_SORCE=api", "additional properties 'OTC_SORCE' not allowed"),
        ("settings.OTC_DATABASE_URL=postgresql://u:p@h/d", "additional properties 'OTC_DATABASE_URL' not allowed"),
        ("archive.env.AWS_SECRET_ACCESS_KEY=x", "additional properties 'AWS_SECRET_ACCESS_KEY' not allowed"),
        ("runs.resources.limits=null", "missing property 'limits'"),
        ("cronJobs.enabled=true", "would both capture each week"),
        ("cronJobs.enabled=true,dagster.enabled=false", "would both capture each week"),
        ("codeLocation.enabled=false", "webserver and daemon need the code server"),
        ("home.enabled=false", "the archived bytes would be lost"),
        ("webserver.ingress.enabled=true", "needs the host name"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_the_reason(helm: Helm, given: str, said: str) -> None:
    done = helm.run("template", "otc", str(CHART), "--set", given)
    assert done.returncode != 0
    assert said in done.stderr


def test_settings_are_those_of_the_package_without_those_that_other_values_set(helm: Helm) -> None:
    """Secrets, and what depends on the pod: addresses, ports and folders."""
    of_pods = {"HOME", "PORT", "METRICS_PORT", "PUBLIC_URL", "ALLOWED_HOSTS", "ARCHIVE_URL", "FINRA_CLIENT_ID"}
    of_pods |= {"SECRETS_DIR"}
    of_pods |= {"API_PORT", "API_KEYS", "API_REQUESTS_PER_MINUTE", "API_ORIGINS"}  # the chart does not run the API
    secrets = {name.upper() for name, field in Settings.model_fields.items() if SecretStr in _types(field.annotation)}
    schema = json.loads((CHART / "values.schema.json").read_text())
    accepted = {name.removeprefix("OTC_") for name in schema["properties"]["settings"]["properties"]}
    accepted = {name for name in accepted if not name.startswith("OTEL_")}
    removed = {"KEEP_RAW_RECORD_WEEKS"}  # values of earlier versions have it
    assert not removed & {name.upper() for name in Settings.model_fields}
    assert accepted - removed == {name.upper() for name in Settings.model_fields} - secrets - of_pods
    assert removed < accepted


def _types(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", (annotation,))


@pytest.mark.parametrize("variant", ["defaults", "production"])
def test_dagsters_configuration_is_the_projects_except_for_where_runs_and_files_are(helm: Helm, variant: str) -> None:
    config = dagster_config(helm.render(*VARIANTS[variant]))
    of_kubernetes = {name: config.pop(name) for name in ("run_launcher", "local_artifact_storage")}
    assert config == yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert of_kubernetes["run_launcher"]["class"] == "K8sRunLauncher"


def test_the_official_chart_is_handed_the_projects_configuration() -> None:
    """Its own values for these sections are off: a section in dagster.yaml twice would be an error."""
    values = yaml.safe_load((CHART / "values-official-dagster.yaml").read_text())
    project = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert values["additionalInstanceConfig"] | {"telemetry": values["telemetry"]} == {
        name: section for name, section in project.items() if name not in ("storage", "compute_logs")
    }
    daemon = values["dagsterDaemon"]
    assert not any(daemon[name]["enabled"] for name in ("runCoordinator", "runMonitoring", "runRetries"))
    assert not any(daemon[name]["useThreads"] for name in ("sensors", "schedules"))
    assert (values["retention"]["enabled"], values["pythonLogs"]) == (False, {})


def test_the_official_charts_storage_is_the_schema_that_ours_is(helm: Helm) -> None:
    values = yaml.safe_load((CHART / "values-official-dagster.yaml").read_text())
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    assert values["postgresql"]["postgresqlParams"] == {"options": f"-csearch_path={DAGSTER_SCHEMA}"}
    (server,) = values["dagsterWebserver"]["workspace"]["servers"]
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    assert server["name"] == workspace["load_from"][0]["python_module"]["location_name"]
    service = of_kind(helm.render(*VARIANTS["official"]), "Service")[server["host"]]
    assert service["spec"]["ports"][0]["port"] == server["port"]


def test_changes_of_dagsters_configuration_are_merged(helm: Helm) -> None:
    before = dagster_config(helm.render())
    after = dagster_config(helm.render("--set", "dagster.config.concurrency.runs.max_concurrent_runs=9"))
    assert before["concurrency"]["runs"].pop("max_concurrent_runs") == 4
    assert after["concurrency"]["runs"].pop("max_concurrent_runs") == 9
    assert before == after


def test_the_limits_of_pools_are_those_of_commands() -> None:
    assert VALUES["dagster"]["pools"] == POOLS


@pytest.mark.parametrize(
    ("slots", "rate", "refused"),
    [
        (2, None, False),  # (2 + 2) x 300 = 1,200
        (3, None, True),
        (3, "240", False),  # (3 + 2) x 240 = 1,200
        (3, "241", True),
        (0, "600", False),
        (1, "401", True),
    ],
)
def test_a_request_rate_above_finras_limit_is_refused(helm: Helm, slots: int, rate: str | None, refused: bool) -> None:
    """Each slot of the pool is a process with a budget of its own; so is the code server, and one is in reserve."""
    values = f"settings.OTC_SOURCE=api,dagster.pools.finra_api={slots}"
    done = helm.run(
        "template", "otc", str(CHART), "--set", f"{values},settings.OTC_REQUESTS_PER_MINUTE={rate}" if rate else values
    )
    assert (done.returncode != 0) == refused
    assert ("FINRA allows about 1200" in done.stderr) == refused


def test_numbers_of_a_file_of_values_are_written_as_settings_read_them(helm: Helm, tmp_path: Path) -> None:
    """Helm reads a number of a file as a float, and 20260821 became 2.0260821e+07, with which no pod started."""
    given = {
        "OTC_SIMULATOR_SEED": 20_260_821,
        "OTC_SIMULATOR_SCALE": 0.25,
        "OTC_SINGLE_RUNS": True,
        "OTC_SOURCE": "api",
    }
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"settings": given}))
    for pod in pods(helm.render("-f", str(file))):
        shown = {name: variable.get("value") for name, variable in pod.env().items() if name in given}
        assert shown == dict(zip(given, ("20260821", "0.25", "true", "api"), strict=True))


def test_further_volumes_are_in_every_pod_of_the_platform(helm: Helm, tmp_path: Path) -> None:
    """A file that OTC_EXTRA_CLOSURES names, which every process reads, or a certificate."""
    volume = {"name": "files", "configMap": {"name": "otc-files"}}
    mount = {"name": "files", "mountPath": "/etc/otc", "readOnly": True}
    (tmp_path / "values.yaml").write_text(json.dumps({"extraVolumes": [volume], "extraVolumeMounts": [mount]}))
    for variant in ("defaults", "production", "cron", "laptop"):
        manifests = helm.render(*VARIANTS[variant], "-f", str(tmp_path / "values.yaml"))
        for pod in pods(manifests):
            if pod.component != "database":
                assert volume in pod.spec["volumes"], pod.owner
                assert all(mount in container["volumeMounts"] for container in pod.containers), pod.owner
        if variant != "cron":
            run = dagster_config(manifests)["run_launcher"]["config"]["run_k8s_config"]
            assert volume in run["pod_spec_config"]["volumes"]
            assert mount in run["container_config"]["volumeMounts"]


def test_runs_reach_exported_files_on_s3_where_the_archive_is_a_folder(helm: Helm) -> None:
    """They had neither the variables nor the credentials."""
    values = "archive.env.AWS_REGION=eu-west-1,secrets.archive.name=otc-s3"
    for url, expected in (("s3://bucket/export", True), ("file:///var/lib/otc-assets/export", False)):
        config = dagster_config(helm.render("--set", f"{values},settings.OTC_EXPORT_URL={url}"))
        container = config["run_launcher"]["config"]["run_k8s_config"]["container_config"]
        assert ("AWS_REGION" in {one["name"] for one in container["env"]}) == expected
        assert (container.get("envFrom") == [{"secretRef": {"name": "otc-s3"}}]) == expected


def test_variables_of_traces_can_be_set_but_no_headers_which_are_secrets() -> None:
    page = (ROOT / "docs" / "tracing.md").read_text()
    named = set(re.findall(r"OTEL_[A-Z_]+", page.split("## Variables")[1]))
    schema = json.loads((CHART / "values.schema.json").read_text())
    accepted = {name for name in schema["properties"]["settings"]["properties"] if name.startswith("OTEL_")}
    assert accepted == named - {"OTEL_EXPORTER_OTLP_HEADERS"}


def test_the_readme_creates_every_secret_that_the_example_of_its_installation_names(helm: Helm) -> None:
    """A pod whose Secret does not exist is not started: those of FINRA and of alerts were not mentioned."""
    page = (CHART / "README.md").read_text()
    created = set(re.findall(r"create secret generic (\S+)", page))
    found = _members(helm.render(*VARIANTS["production"]))
    assert {value["name"] for key, value in found if key in ("secretKeyRef", "secretRef")} == created


def test_the_pod_of_the_readme_that_goes_back_to_an_older_schema_is_one_that_kubernetes_accepts(helm: Helm) -> None:
    page = (CHART / "README.md").read_text()
    (text,) = re.findall(r"create --filename - <<END\n(.*?)^END$", page, re.M | re.S)
    pod = yaml.safe_load(text)
    assert problems(pod) == []
    (migrations,) = [one for one in pods(helm.render()) if one.component == "migrations"]
    assert pod["metadata"]["labels"].items() <= migrations.labels.items()
    assert pod["spec"]["containers"][0]["env"] == [migrations.env()["OTC_DATABASE_URL"]]


def test_the_job_of_a_run_outlives_the_time_limit_that_dagster_has_for_it() -> None:
    """Dagster then marks the run as failed; a job that ended first would look like a crash, and be repeated."""
    limit = yaml.safe_load((ROOT / "dagster.yaml").read_text())["run_monitoring"]["max_runtime_seconds"]
    assert VALUES["runs"]["activeDeadlineSeconds"] > limit


def test_cron_jobs_start_with_dagsters_wednesday_schedules(helm: Helm) -> None:
    jobs = of_kind(helm.render(*VARIANTS["cron"]), "CronJob")
    assert list(jobs) == [f"otc-otc-assets-weekly-{tier.slug}" for tier in TIERS]
    for tier, job in zip(TIERS, jobs.values(), strict=True):
        spec = job["spec"]
        assert (spec["schedule"], spec["timeZone"]) == (WEDNESDAY_MORNING, "America/New_York")
        assert spec["concurrencyPolicy"] == "Forbid"
        assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 3)
        assert spec["jobTemplate"]["spec"]["backoffLimit"] == 3
        (pod,) = pods([job])
        assert pod.spec["restartPolicy"] == "OnFailure"
        assert pod.containers[0]["args"] == ["materialize", "--newest", "--tier", tier.id]
        assert pod.containers[0]["resources"] == {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        }


def test_rules_and_dashboards_are_those_of_the_package(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["production"])
    (rule,) = of_kind(manifests, "PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load((ROOT / "otc_assets" / "prometheus" / "rules.yaml").read_text())
    maps = of_kind(manifests, "ConfigMap")
    for name in ("analysts", "operations"):
        found = maps[f"otc-otc-assets-dashboard-{name}"]
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        original = (ROOT / "otc_assets" / "dashboards" / f"{name}.json").read_text()
        assert json.loads(found["data"][f"{name}.json"]) == json.loads(original)


def test_no_rule_asks_for_a_daemon_where_cron_jobs_capture_the_weeks(helm: Helm) -> None:
    """A critical alert that there is no daemon never ended."""
    arguments = (*VARIANTS["cron"], "--set", "exporter.prometheusRule.enabled=true")
    (rule,) = of_kind(helm.render(*arguments), "PrometheusRule").values()
    every = yaml.safe_load((ROOT / "otc_assets" / "prometheus" / "rules.yaml").read_text())["groups"]
    assert rule["spec"] == {"groups": [group for group in every if "_dagster_" not in json.dumps(group)]}
    alerts = {one.get("alert") for group in rule["spec"]["groups"] for one in group["rules"]}
    assert alerts >= {"OtcWeekLate", "OtcExporterDown"}


def test_migrations_run_before_an_installation_and_an_upgrade(helm: Helm) -> None:
    """With the internal database they run after it was created; a new claim does not exist before an installation."""

    def of(*arguments: str) -> tuple[str, str]:
        (job,) = of_kind(helm.render(*arguments), "Job").values()
        volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
        (kind,) = volumes["home"].keys() - {"name"}
        return job["metadata"]["annotations"]["helm.sh/hook"], kind

    assert of() == ("pre-install,pre-upgrade", "emptyDir")
    assert of("--is-upgrade") == ("pre-install,pre-upgrade", "persistentVolumeClaim")
    assert of("--set", "home.existingClaim=archive") == ("pre-install,pre-upgrade", "persistentVolumeClaim")
    assert of(*VARIANTS["laptop"]) == ("post-install,pre-upgrade", "persistentVolumeClaim")


def test_migrations_wait_for_the_database_in_the_cluster(helm: Helm) -> None:
    """Their four attempts were over after two minutes, in which a laptop pulls no image of a database."""
    for variant in VARIANTS:
        (pod,) = [one for one in pods(helm.render(*VARIANTS[variant])) if one.component == "migrations"]
        waits = [one for one in pod.containers if one["name"] == "wait"]
        assert len(waits) == (variant == "laptop")
    (pod,) = [one for one in pods(helm.render(*VARIANTS["laptop"])) if one.component == "migrations"]
    first = pod.containers[0]
    script, host, port = first["args"]
    assert (first["command"], host, port) == (["python", "-c"], "otc-otc-assets-database", "5432")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        waiting = subprocess.Popen([sys.executable, "-c", script, *map(str, server.getsockname())])
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(timeout=1)
            server.listen()
            assert waiting.wait(timeout=30) == 0
        finally:
            waiting.kill()
            waiting.wait()


def test_the_log_of_failed_migrations_is_kept(helm: Helm) -> None:
    """Kubernetes deletes the pod of a failed job if its containers are restarted in place."""
    (pod,) = [one for one in pods(helm.render()) if one.component == "migrations"]
    assert pod.spec["restartPolicy"] == "Never"


# --- every value has an effect -------------------------------------------------------------------------


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no mapping of other values, with its path."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, values


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {path[0]: _nested(path[1:], value) if path[1:] else value}


def _merge(onto: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = dict(onto)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


#: Values of lists, of which each has elements of its own.
_LISTS: dict[tuple[str, ...], Any] = {
    ("networkPolicy", "httpsExcept"): ["{}"],
    ("webserver", "allowedHosts"): ["{}"],
    ("networkPolicy", "apiServerPorts"): [4711],
    ("cronJobs", "tiers"): ["T{}"],
}


def _marked(path: tuple[str, ...], value: Any, mark: int) -> Any:
    """A value by which a rendered text shows that it was read: the number ``mark`` is in it."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return mark
    if isinstance(value, str):
        scheme = {"publicUrl": "https://", "url": "s3://"}.get(path[-1], "")
        return f"{scheme}m{mark}"
    if isinstance(value, dict):
        return {f"m{mark}": "value"}
    given = _LISTS.get(path, [{"key": "{}"}])
    return json.loads(json.dumps(given).replace("{}", f"m{mark}").replace("4711", str(mark)))


@pytest.mark.slow
def test_every_value_is_read_by_a_template(helm: Helm, tmp_path: Path) -> None:
    """A value that nothing reads misleads whoever sets it."""
    marks = {path: 30_001 + number for number, (path, _) in enumerate(leaves(VALUES))}
    every: dict[str, Any] = {}
    for path, value in leaves(VALUES):
        every = _merge(every, _nested(path, _marked(path, value, marks[path])))
    no_dagster = {"dagster": {"enabled": False}, "codeLocation": {"enabled": False}}
    with_dagster = _merge(every, {"cronJobs": {"enabled": False}})
    external = _merge(with_dagster, {"database": {"internal": {"enabled": False}}})

    def rendered(name: str, values: dict[str, Any]) -> str:
        (tmp_path / name).write_text(json.dumps(values))
        return helm.text("--skip-schema-validation", "-f", str(tmp_path / name))

    alone = {"image": {"digest": ""}, "archive": {"url": ""}, "webserver": {"publicUrl": ""}, "fullnameOverride": ""}
    full = rendered("external", external)
    text = full + rendered("internal", _merge(with_dagster, alone)) + rendered("cron", _merge(every, no_dagster))
    text += rendered("claim", _merge(with_dagster, {"home": {"existingClaim": ""}}))
    unread = [path for path, value in leaves(VALUES) if not isinstance(value, bool) and str(marks[path]) not in text]
    assert unread == []

    # What is on or off makes a difference on its own.
    flags = [path for path, value in leaves(VALUES) if isinstance(value, bool) and path[0] != "cronJobs"]
    for path in flags:
        other = _nested(path, path[:2] == ("database", "internal"))
        if path[0] == "codeLocation":
            other = no_dagster
        if path[0] == "home":
            other |= {"archive": {"url": "s3://bucket"}}
        assert rendered("flag", _merge(external, other)) != full, path


def test_a_name_of_digits_or_a_word_of_yaml_stays_text(helm: Helm) -> None:
    """Kubernetes allows both as names, and refuses a number or a truth value in their place."""
    text = ("secrets.database.name=123", "secrets.database.writerKey=1000", "secrets.archive.name=456")
    text += ("home.existingClaim=789", "priorityClassName=100", "webserver.ingress.className=7")
    text += ("webserver.ingress.tlsSecretName=true", "database.internal.storageClassName=5", "image.tag=1")
    shown = helm.text(
        *("--set", "webserver.ingress.enabled=true,webserver.ingress.host=otc.example,database.internal.enabled=true"),
        *("--set", "archive.url=s3://bucket/otc"),
        *(argument for one in text for argument in ("--set-string", one)),
    )
    keys = {"priorityClassName", "ingressClassName", "secretName", "storageClassName", "claimName", "name", "key"}
    found = [(key, value) for key, value in _members(list(yaml.safe_load_all(shown))) if key in keys]
    assert [(key, value) for key, value in found if not isinstance(value, str)] == []
    assert {value for _, value in found} >= {"123", "1000", "456", "100", "7", "true", "5"}


def _members(found: Any) -> Iterator[tuple[str, Any]]:
    """The members of all objects within a value."""
    if isinstance(found, dict):
        yield from found.items()
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _members(inner)


def test_an_ingress_without_a_certificate_is_also_one_whose_secret_is_null(helm: Helm) -> None:
    shown = helm.text(
        *("--set", "webserver.ingress.enabled=true,webserver.ingress.host=otc.example"),
        *("--set", "webserver.ingress.tlsSecretName=null,webserver.allowedHosts=null"),
    )
    assert "http://otc.example" in shown


def test_the_notes_name_a_cron_job_that_there_is(helm: Helm) -> None:
    cron = "cronJobs.enabled=true,dagster.enabled=false,codeLocation.enabled=false,cronJobs.tiers={T2}"
    done = helm.run("install", "otc", str(CHART), "--dry-run=client", "--set", cron)
    assert done.returncode == 0, done.stderr
    (named,) = re.findall(r"--from=cronjob/(\S+)", done.stdout)
    assert named in of_kind(helm.render("--set", cron), "CronJob")
