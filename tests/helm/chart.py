"""The chart as helm renders it, and the parts of manifests that tests look at."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm" / "otc-assets"
RELEASE, NAMESPACE = "otc", "markets"

Manifest = dict[str, Any]

#: Arguments of each way to install the chart.
VARIANTS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "laptop": ("-f", str(CHART / "values-laptop.yaml")),
    "production": ("-f", str(CHART / "values-production.yaml")),
    "upgrade": ("--is-upgrade", "-f", str(CHART / "values-production.yaml")),
    "cron": ("--set", "cronJobs.enabled=true,dagster.enabled=false,codeLocation.enabled=false"),
    "official": ("--set", "dagster.enabled=false"),
    "step pods": ("-f", str(CHART / "values-production.yaml"), "--set", "runs.stepPods.enabled=true"),
}


@dataclass(frozen=True)
class Pod:
    """A pod that a manifest creates."""

    owner: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def component(self) -> str:
        """The component that it belongs to."""
        return self.labels["app.kubernetes.io/component"]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All containers."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def env(self) -> dict[str, dict[str, Any]]:
        """The variables of all containers, by name."""
        return {one["name"]: one for container in self.containers for one in container.get("env", [])}


class Helm:
    """The helm program.

    Args:
        program: its path.
        home: a folder for its files.
    """

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self._env = {"PATH": os.environ["PATH"], "HOME": str(home)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command."""
        return subprocess.run(
            [self._program, *arguments], capture_output=True, text=True, check=False, env=self._env, timeout=60
        )

    def text(self, *arguments: str) -> str:
        """The rendered chart."""
        done = self.run("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @functools.cache  # noqa: B019 - one for the session
    def render(self, *arguments: str) -> list[Manifest]:
        """The manifests of the chart."""
        return [one for one in yaml.safe_load_all(self.text(*arguments)) if one]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The manifests of a kind, by name."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """Every pod that the manifests create; those of runs are created by Dagster."""
    for one in manifests:
        owner = f"{one['kind']}/{one['metadata']['name']}"
        spec = one.get("spec", {})
        if one["kind"] == "Pod":
            yield Pod(owner, one["metadata"]["labels"], spec)
        elif one["kind"] == "CronJob":
            template = spec["jobTemplate"]["spec"]["template"]
            yield Pod(owner, template["metadata"]["labels"], template["spec"])
        elif "template" in spec and one["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield Pod(owner, spec["template"]["metadata"]["labels"], spec["template"]["spec"])


def dagster_config(manifests: list[Manifest]) -> dict[str, Any]:
    """The dagster.yaml that webserver and daemon read."""
    return yaml.safe_load(of_kind(manifests, "ConfigMap")[f"{RELEASE}-otc-assets-dagster"]["data"]["dagster.yaml"])


#: The oldest version that the chart supports, and the newest with a schema.
KUBERNETES = ("1.27.0", "1.37.0")


@functools.cache
def _definitions(version: str) -> Resource[Any]:
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    return Resource.from_contents(schema_contents(f"{folder}/_definitions.json", version))


@functools.cache
def _validator(kind: str, api_version: str, version: str) -> jsonschema.Draft202012Validator:
    group, _, of_group = api_version.rpartition("/")
    name = "-".join(filter(None, [kind.lower(), group.partition(".")[0], of_group]))
    schema = schema_contents(f"kubernetes-json-schema/v{version}-local-strict/{name}.json", version)
    registry = Registry().with_resources([("", Resource.from_contents(schema))])
    return jsonschema.Draft202012Validator(schema, registry=(_definitions(version) @ registry).crawl())


#: Kinds of operators, of which kubernetes-validate has no schema.
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule", "ExternalSecret"}


def problems(manifest: Manifest, version: str = KUBERNETES[-1]) -> list[str]:
    """What Kubernetes' schema refuses in a manifest, unknown fields included.

    ``kubernetes_validate.validate`` reads two megabytes of definitions for each manifest.
    """
    if manifest["kind"] in OF_OPERATORS:
        return []
    found = _validator(manifest["kind"], manifest["apiVersion"], version).iter_errors(manifest)
    return [f"{manifest['kind']}/{manifest['metadata']['name']} {one.json_path}: {one.message}" for one in found]
