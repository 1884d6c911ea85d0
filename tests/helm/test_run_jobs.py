"""The Jobs that Dagster's launcher submits for runs, with the configuration that the chart renders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from chart import CHART, VARIANTS, Helm, Manifest, dagster_config, of_kind, pods, problems
from dagster import DagsterInstance
from dagster._config import process_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test
from dagster_k8s import K8sRunLauncher

#: A kubeconfig of a cluster that no test connects to.
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "users": [{"name": "none", "user": {}}],
    "current-context": "none",
}


class Jobs:
    """Kubernetes' API of Jobs: keeps what is submitted."""

    def __init__(self) -> None:
        self.submitted: list[Manifest] = []

    def create_namespaced_job(self, body: Any, namespace: str, **_: object) -> None:
        """Submits a Job."""
        job = kubernetes.client.ApiClient().sanitize_for_serialization(body)
        job["metadata"]["namespace"] = namespace
        self.submitted.append(job)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as opened:
        yield opened


def submitted(
    instance: DagsterInstance,
    tmp_path: Path,
    config: Mapping[str, Any],
    *,
    tags: Mapping[str, str] | None = None,
    container_context: Mapping[str, Any] | None = None,
) -> Manifest:
    """The Job of a run with ``tags``, launched by Dagster's launcher with ``config``."""
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
    outside = {"load_incluster_config": False, "kubeconfig_file": str(tmp_path / "kubeconfig")}
    checked = process_config(K8sRunLauncher.config_type(), {**config, **outside})
    assert checked.success, checked.errors
    jobs = Jobs()
    launcher = K8sRunLauncher(**checked.value, k8s_client_batch_api=jobs)  # type: ignore[arg-type]
    repository = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("otc_assets.definitions", "defs"),
        container_image="registry.example.org/otc-assets:1.2.3",
        entry_point=["dagster"],  # as in runs of a code server
        container_context=container_context,
    )
    launcher.register_instance(instance)
    origin = JobPythonOrigin("make_week", repository)
    run = create_run_for_test(instance, job_name="make_week", tags=tags, job_code_origin=origin)
    launcher.launch_run(LaunchRunContext(run, None))
    (job,) = jobs.submitted
    return job


@pytest.fixture(params=["defaults", "production"])
def launcher_config(request: pytest.FixtureRequest, helm: Helm) -> dict[str, Any]:
    return dagster_config(helm.render(*VARIANTS[request.param]))["run_launcher"]["config"]


def test_kubernetes_accepts_the_job_of_a_run(
    instance: DagsterInstance, launcher_config: dict[str, Any], tmp_path: Path
) -> None:
    job = submitted(instance, tmp_path, launcher_config)
    assert problems(job) == []
    assert job["metadata"]["namespace"] == "markets"


def test_a_run_is_restricted_bounded_and_without_a_token(
    instance: DagsterInstance, launcher_config: dict[str, Any], tmp_path: Path
) -> None:
    spec = submitted(instance, tmp_path, launcher_config)["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 7800)
    assert spec["ttlSecondsAfterFinished"] == 86_400
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)
    assert (pod["serviceAccountName"], pod["enableServiceLinks"]) == ("otc-otc-assets-run", False)
    assert pod["terminationGracePeriodSeconds"] == 600
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == "registry.example.org/otc-assets:1.2.3"
    assert [*container["command"], *container["args"][:3]] == ["env", "dagster", "api", "execute_run"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }


def test_a_run_has_each_variable_once_and_secrets_as_references(
    instance: DagsterInstance, launcher_config: dict[str, Any], tmp_path: Path
) -> None:
    (container,) = submitted(instance, tmp_path, launcher_config)["spec"]["template"]["spec"]["containers"]
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names))
    (database,) = [entry for entry in container["env"] if entry["name"] == "OTC_DATABASE_URL"]
    assert database["valueFrom"]["secretKeyRef"] == {"name": "otc-database", "key": "writer-url"}
    assert "OTC_ALERT_URL" not in names


def test_the_policies_of_the_release_apply_to_the_pod_of_a_run(
    instance: DagsterInstance, helm: Helm, tmp_path: Path
) -> None:
    manifests = helm.render(*VARIANTS["production"])
    job = submitted(instance, tmp_path, dagster_config(manifests)["run_launcher"]["config"])
    labels = job["spec"]["template"]["metadata"]["labels"]
    policies = of_kind(manifests, "NetworkPolicy").values()
    applied = {
        policy["metadata"]["name"]
        for policy in policies
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    }
    assert applied == {"otc-otc-assets-default-deny", "otc-otc-assets-run"}


def test_a_run_can_be_given_more_memory_by_its_tag(
    instance: DagsterInstance, launcher_config: dict[str, Any], tmp_path: Path
) -> None:
    large = {"container_config": {"resources": {"limits": {"memory": "2Gi"}}}}
    job = submitted(instance, tmp_path, launcher_config, tags={"dagster-k8s/config": json.dumps(large)})
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "2Gi"},
    }


def test_the_tag_for_large_backfills_in_the_readme_gives_four_times_the_memory(
    instance: DagsterInstance, launcher_config: dict[str, Any], tmp_path: Path
) -> None:
    (tag,) = re.findall(r"```json\n(.*?)\n```", (CHART / "README.md").read_text(), re.DOTALL)
    job = submitted(instance, tmp_path, launcher_config, tags={"dagster-k8s/config": tag})
    assert problems(job) == []
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }


@pytest.mark.parametrize(
    "config",
    [
        {"container_config": {"image": "attacker/image:1"}},
        {"container_config": {"securityContext": {"privileged": True}}},
        {"container_config": {"env": [{"name": "OTC_ALERT_URL", "value": "json://attacker"}]}},
        {"pod_spec_config": {"serviceAccountName": "otc-otc-assets-daemon"}},
        {"pod_spec_config": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}},
    ],
)
def test_a_run_can_be_given_nothing_else_by_its_tag(
    instance: DagsterInstance, launcher_config: dict[str, Any], tmp_path: Path, config: dict[str, Any]
) -> None:
    """Whoever can open the UI can set tags."""
    with pytest.raises(Exception, match="violated the allowed list"):
        submitted(instance, tmp_path, launcher_config, tags={"dagster-k8s/config": json.dumps(config)})


def test_the_official_charts_launcher_gets_the_same_pods_from_the_code_server(
    instance: DagsterInstance, helm: Helm, tmp_path: Path
) -> None:
    ours = submitted(instance, tmp_path, dagster_config(helm.render())["run_launcher"]["config"])
    (server,) = [pod for pod in pods(helm.render(*VARIANTS["official"])) if pod.component == "code-location"]
    context = json.loads(server.env()["DAGSTER_CONTAINER_CONTEXT"]["value"])
    official = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": "/etc/dagster",
        "job_namespace": "markets",
        "image_pull_policy": "IfNotPresent",
    }
    theirs = submitted(instance, tmp_path, official, container_context=context)
    for job in (ours, theirs):
        del job["metadata"]["name"], job["metadata"]["labels"]["dagster/run-id"]
        del job["spec"]["template"]["metadata"]["name"]
        del job["spec"]["template"]["metadata"]["labels"]["dagster/run-id"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        container["env"].sort(key=lambda entry: entry["name"])
        del container["args"]
    assert theirs == ours
