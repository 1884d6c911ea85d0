"""What the chart renders: valid for Kubernetes, restricted, and with nothing that a pod does not need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import (
    CHART,
    KUBERNETES,
    OF_OPERATORS,
    RELEASE,
    VARIANTS,
    Helm,
    Manifest,
    Pod,
    dagster_config,
    of_kind,
    pods,
    problems,
)
from dagster._core.instance.ref import InstanceRef
from pydantic import SecretStr
from support.command_lines import parse

from otc_assets.settings import Settings, settings


@pytest.fixture(params=list(VARIANTS))
def manifests(request: pytest.FixtureRequest, helm: Helm) -> list[Manifest]:
    return helm.render(*VARIANTS[request.param])


def all_pods(manifests: list[Manifest]) -> list[Pod]:
    """The pods of the manifests, and those of runs as the configuration describes them."""
    found = list(pods(manifests))
    if any(pod.component == "daemon" for pod in found):
        run = dagster_config(manifests)["run_launcher"]["config"]["run_k8s_config"]
        container = {"name": "dagster", "image": found[0].containers[0]["image"], **run["container_config"]}
        labels = run["pod_template_spec_metadata"]["labels"]
        found.append(Pod("run", labels, {**run["pod_spec_config"], "containers": [container]}))
    return found


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_manifest(manifests: list[Manifest], version: str) -> None:
    assert [problem for manifest in manifests for problem in problems(manifest, version)] == []


def test_the_chart_requires_the_oldest_version_that_accepts_it() -> None:
    required = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert required == f">={KUBERNETES[0]}-0"


def test_unknown_fields_and_wrong_types_are_found_in_manifests(helm: Helm) -> None:
    """The helper that the test above relies on."""
    service = next(iter(of_kind(helm.render(), "Service").values()))
    wrong = {**service, "spec": {**service["spec"], "port": 80, "selector": ["a"]}}
    assert len(problems(wrong)) == 2


def test_names_are_unique_and_short_enough(manifests: list[Manifest]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]
    assert len(names) == len(set(names))
    assert max(len(name) for _, name in names) <= 63


def test_every_object_is_in_the_namespace_of_the_release(manifests: list[Manifest]) -> None:
    assert {one["metadata"]["namespace"] for one in manifests} == {"markets"}


def test_pods_meet_the_restricted_standard(manifests: list[Manifest]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a read-only root file system."""
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found = all_pods(manifests)
    assert found
    for pod in found:
        spec = pod.spec
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), pod.owner
        assert spec["securityContext"]["runAsNonRoot"] is True, pod.owner
        assert spec["securityContext"]["runAsUser"] > 0, pod.owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod.owner
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= allowed, pod.owner
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.owner
            assert not any("hostPort" in port for port in container.get("ports", [])), pod.owner


def test_containers_have_requests_limits_and_a_fixed_version(manifests: list[Manifest]) -> None:
    for pod in all_pods(manifests):
        for container in pod.containers:
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys(), pod.owner
            assert ":" in container["image"].rpartition("/")[2], pod.owner
            assert not container["image"].endswith(":latest"), pod.owner


def test_only_pods_that_call_the_kubernetes_api_have_a_token(manifests: list[Manifest]) -> None:
    callers = {name.removeprefix("otc-otc-assets-") for name in of_kind(manifests, "Role")}
    for pod in all_pods(manifests):
        assert pod.spec["automountServiceAccountToken"] == (pod.component in callers), pod.owner
    assert not any(one["automountServiceAccountToken"] for one in of_kind(manifests, "ServiceAccount").values())


def test_service_accounts_exist_and_are_used(manifests: list[Manifest]) -> None:
    used = {pod.spec.get("serviceAccountName") for pod in all_pods(manifests)} - {None}
    if "DAGSTER_CONTAINER_CONTEXT" in str(manifests):
        used.add(f"{RELEASE}-otc-assets-run")  # of runs that the official chart's daemon launches
    assert used == set(of_kind(manifests, "ServiceAccount"))


def _rights(manifests: list[Manifest]) -> dict[str, set[tuple[str, str]]]:
    """By component, each resource and verb that its service account may use."""
    for binding in of_kind(manifests, "RoleBinding").values():
        name = binding["metadata"]["name"]
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", name)
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "markets"}]
    return {
        name.removeprefix("otc-otc-assets-"): {
            (resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
        }
        for name, role in of_kind(manifests, "Role").items()
    }


def test_rights_are_those_that_dagster_uses(helm: Helm) -> None:
    """The daemon launches runs, checks their health and describes failed ones; the webserver terminates runs."""
    rights = {
        "daemon": {
            *(("jobs", verb) for verb in ("create", "list", "delete")),
            *(("pods", verb) for verb in ("list", "delete")),
            ("jobs/status", "get"),
            ("pods/log", "get"),
            ("events", "list"),
        },
        "webserver": {("jobs", "delete"), ("pods", "list"), ("pods", "delete")},
    }
    of_steps = {
        *(("jobs", verb) for verb in ("create", "delete")),
        ("jobs/status", "get"),
        *(("pods", verb) for verb in ("get", "list", "delete")),
    }
    assert _rights(helm.render(*VARIANTS["production"])) == rights
    assert _rights(helm.render(*VARIANTS["step pods"])) == {**rights, "run": of_steps}
    assert _rights(helm.render(*VARIANTS["cron"])) == {}


def test_runs_reach_the_kubernetes_api_only_if_their_steps_are_pods(helm: Helm) -> None:
    assert not _allowed(helm.render(*VARIANTS["production"]), "run", None, 6443)
    assert _allowed(helm.render(*VARIANTS["step pods"]), "run", None, 6443)


def test_pods_without_links_to_services_have_no_variables_that_look_like_settings(manifests: list[Manifest]) -> None:
    """Of a Service named otc, Kubernetes makes the variable OTC_PORT=tcp://10.0.0.1:80."""
    assert all(pod.spec["enableServiceLinks"] is False for pod in all_pods(manifests))


# --- secrets and settings ------------------------------------------------------------------------------


def test_variables_are_settings_that_exist(manifests: list[Manifest]) -> None:
    known = {f"OTC_{name.upper()}" for name in Settings.model_fields}
    used = {name for pod in all_pods(manifests) for name in pod.env() if name.startswith("OTC_")}
    assert used <= known


def test_secrets_are_references(manifests: list[Manifest]) -> None:
    assert of_kind(manifests, "Secret") == {}
    secret = {
        f"OTC_{name.upper()}" for name, field in Settings.model_fields.items() if SecretStr in _types(field.annotation)
    }
    others = {"OTC_FINRA_CLIENT_ID", "POSTGRES_PASSWORD", "OWNER_URL", "WRITER_URL", "READER_URL"}
    for pod in all_pods(manifests):
        for name, entry in pod.env().items():
            assert ("valueFrom" in entry) == (name in {*secret, *others}), name


def _types(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", (annotation,))


def test_pods_have_only_the_secrets_that_they_need(helm: Helm) -> None:
    database, finra = "OTC_DATABASE_URL", {"OTC_FINRA_CLIENT_ID", "OTC_FINRA_CLIENT_SECRET"}
    expected = {
        "code-location": {database, *finra, "OTC_ALERT_URL"},
        "run": {database, *finra},
        "daemon": {database},
        "webserver": {database},
        "webserver-read-only": {database},
        "exporter": {database},
        "migrations": {database},
        "test": {database},
    }
    found = {
        pod.component: {name for name, entry in pod.env().items() if "valueFrom" in entry}
        for pod in all_pods(helm.render(*VARIANTS["production"]))
    }
    assert found == expected


def test_migrations_use_the_owners_role_and_the_exporter_one_that_reads(helm: Helm) -> None:
    keys = {
        pod.component: pod.env()["OTC_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["key"]
        for pod in all_pods(helm.render(*VARIANTS["production"]))
    }
    assert keys.pop("migrations") == "owner-url"
    assert (keys.pop("exporter"), keys.pop("test")) == ("reader-url", "reader-url")
    assert set(keys.values()) == {"writer-url"}


# --- selectors and traffic -----------------------------------------------------------------------------


def _matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


def test_selectors_match_pods_and_no_others(manifests: list[Manifest]) -> None:
    every = all_pods(manifests)
    if "DAGSTER_CONTAINER_CONTEXT" in str(manifests):
        base = {"app.kubernetes.io/name": "otc-assets", "app.kubernetes.io/instance": RELEASE}
        every.append(Pod("run", {**base, "app.kubernetes.io/component": "run"}, {"containers": []}))
    for one in manifests:
        spec, kind, name = one.get("spec", {}), one["kind"], one["metadata"]["name"]
        if kind in ("Deployment", "StatefulSet"):
            assert _matches(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"])
            selector = spec["selector"]["matchLabels"]
        elif kind == "Service":
            selector = spec["selector"]
        elif kind == "PodDisruptionBudget":
            selector = spec["selector"]["matchLabels"]
        elif kind == "NetworkPolicy" and not name.endswith("default-deny"):
            selector = spec["podSelector"]["matchLabels"]
        else:
            continue
        components = {pod.component for pod in every if _matches(selector, pod.labels)}
        assert components == {name.removeprefix("otc-otc-assets-")}, f"{kind}/{name}"


def test_services_lead_to_ports_that_containers_have(manifests: list[Manifest]) -> None:
    for service in of_kind(manifests, "Service").values():
        (pod,) = [one for one in pods(manifests) if _matches(service["spec"]["selector"], one.labels)]
        named = {port["name"] for container in pod.containers for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_prometheus_finds_the_exporter_under_the_jobs_name_that_the_rules_have(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["production"])
    (monitor,) = of_kind(manifests, "ServiceMonitor").values()
    service = of_kind(manifests, "Service")["otc-otc-assets-exporter"]
    assert _matches(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "otc-assets"}]


def _admits(rules: list[dict[str, Any]], labels: Mapping[str, str] | None, port: int) -> bool:
    """Whether a rule admits a peer with these labels; None is an address outside the cluster."""
    for rule in rules:
        if not any(one["port"] == port for one in rule["ports"]):
            continue
        peers = rule.get("from", rule.get("to"))
        if peers is None:
            return True
        for peer in peers:
            if labels is None and "ipBlock" in peer:
                return True
            if labels is not None and _matches(peer.get("podSelector", {}).get("matchLabels", {"no": "pod"}), labels):
                return True
    return False


def _allowed(manifests: list[Manifest], source: str, target: str | None, port: int) -> bool:
    policies = of_kind(manifests, "NetworkPolicy")
    labels = {pod.component: pod.labels for pod in all_pods(manifests)}
    egress = policies[f"otc-otc-assets-{source}"]["spec"]["egress"]
    if target is None:
        return _admits(egress, None, port)
    ingress = policies[f"otc-otc-assets-{target}"]["spec"].get("ingress", [])
    return _admits(egress, labels[target], port) and _admits(ingress, labels[source], port)


@pytest.mark.parametrize(
    ("source", "target", "port", "allowed"),
    [
        ("webserver", "code-location", 4000, True),
        ("webserver-read-only", "code-location", 4000, True),
        ("daemon", "code-location", 4000, True),
        ("test", "code-location", 4000, True),
        ("test", "webserver", 3000, True),
        ("test", "exporter", 9464, True),
        ("run", "code-location", 4000, False),
        ("exporter", "code-location", 4000, False),
        ("run", "webserver", 3000, False),
        ("code-location", "webserver", 3000, False),
        ("run", None, 443, True),
        ("code-location", None, 443, True),
        ("daemon", None, 443, True),  # the Kubernetes API
        ("exporter", None, 443, False),
        *((component, None, 5432, True) for component in ("run", "daemon", "webserver", "exporter", "migrations")),
        *((component, None, 53, True) for component in ("run", "daemon", "webserver", "exporter", "migrations")),
    ],
)
def test_network_policies_open_what_is_needed(
    helm: Helm, source: str, target: str | None, port: int, allowed: bool
) -> None:
    assert _allowed(helm.render(*VARIANTS["production"]), source, target, port) is allowed


def test_all_pods_of_the_release_are_denied_traffic_by_default(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["production"])
    deny = of_kind(manifests, "NetworkPolicy")["otc-otc-assets-default-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & deny.keys()
    assert all(_matches(deny["podSelector"]["matchLabels"], pod.labels) for pod in all_pods(manifests))


def test_the_internal_database_can_be_reached_by_every_pod_of_the_release(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["laptop"], "--set", "networkPolicy.enabled=true")
    for source in ("run", "daemon", "webserver", "exporter", "code-location", "migrations", "test"):
        assert _allowed(manifests, source, "database", 5432), source
    assert not _allowed(manifests, "exporter", None, 5432)


# --- commands ------------------------------------------------------------------------------------------


def test_containers_do_not_depend_on_the_entrypoint_of_the_image(manifests: list[Manifest]) -> None:
    """Dagster gives runs and steps the arguments "dagster api ..."; other containers had arguments of otc-assets."""
    for pod in all_pods(manifests):
        if pod.component != "database":
            assert all(container["command"] for container in pod.containers), pod.owner


def test_commands_and_options_of_containers_and_probes_exist(manifests: list[Manifest], tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").touch()
    lines: list[list[str]] = []
    for pod in pods(manifests):
        for container in pod.containers if pod.component != "database" else ():
            command = [*container["command"], *container.get("args", [])]
            if command[0] == "sh":
                lines += [line.split() for line in command[-1].splitlines()]
            elif command[:2] != ["python", "-c"]:
                lines.append(command)
            probes = [container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")]
            lines += [p["exec"]["command"] for p in probes if "exec" in p]
    assert lines
    for line in lines:
        parse([word.replace("/etc/dagster", str(tmp_path)) for word in line])


def test_services_have_probes_of_all_kinds(helm: Helm) -> None:
    for pod in pods(helm.render(*VARIANTS["production"])):
        if pod.owner.startswith("Deployment/"):
            probes = pod.containers[0].keys() & {"startupProbe", "readinessProbe", "livenessProbe"}
            assert len(probes) >= (2 if pod.component == "daemon" else 3), pod.owner


@pytest.mark.slow
def test_dagster_accepts_its_configuration_and_every_pod_finds_the_same_logs(helm: Helm, tmp_path: Path) -> None:
    official = yaml.safe_load((CHART / "values-official-dagster.yaml").read_text())["computeLogManager"]["config"]
    for variant in ("defaults", "production"):
        manifests = helm.render(*VARIANTS[variant])
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(dagster_config(manifests)))
        ref = InstanceRef.from_dir(str(tmp_path))
        readers = [
            pod for pod in all_pods(manifests) if pod.component in ("webserver", "daemon", "run", "code-location")
        ]
        assert len(readers) == 4
        for pod in readers:
            with pytest.MonkeyPatch.context() as environment:
                for name, entry in pod.env().items():
                    if name in ("OTC_HOME", "OTC_ARCHIVE_URL"):
                        environment.setenv(name, entry["value"])
                settings.cache_clear()
                logs: Any = ref.compute_logs_data.rehydrate(as_type=object)  # type: ignore[type-var]
            if variant == "production":
                assert {"bucket": logs._s3_bucket, "prefix": logs._s3_prefix} == official["s3ComputeLogManager"]
                assert (logs._s3_bucket, logs._s3_prefix) == ("example-otc-archive", "otc/compute-logs")
            else:
                assert logs._base_dir == "/var/lib/otc-assets/dagster/storage"
    settings.cache_clear()


def test_only_kinds_without_a_schema_are_those_of_operators(helm: Helm) -> None:
    known = {one["kind"] for variant in VARIANTS.values() for one in helm.render(*variant)}
    assert {"ServiceMonitor", "PrometheusRule"} <= known & OF_OPERATORS
