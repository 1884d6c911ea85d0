"""Runs whose steps run in pods of their own: Dagster's executor, with the pods that the chart describes."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from chart import VARIANTS, Helm, Manifest, dagster_config, of_kind, problems
from cluster import Cluster, running
from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from support import installed

from otc_assets.defs.internals import InMemoryJob, InstanceRef, execute_run
from otc_assets.defs.partitions import week_of
from otc_assets.defs.step_pods import EXECUTOR_TAG, K8S_JOB
from otc_assets.settings import settings

pytestmark = pytest.mark.slow

LARGE = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "2Gi"}}
#: Two assets that need nothing of each other, so that their steps could run at the same time.
FIGURES = ("symbol_summary", "venue_share")


def _weeks() -> list[dt.date]:
    """Three weeks that are published in all tiers: pods have the real clock."""
    keys = installed.weeks().of_figures.get_partition_keys()
    return [week_of(key) for key in keys[-6:-3]]


def _instance(folder: Path, kubeconfig: Path, config: dict[str, Any]) -> DagsterInstance:
    """The instance that the chart's dagster.yaml describes, with its files in ``folder``."""
    launcher = config["run_launcher"]["config"]
    launcher |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    config["local_artifact_storage"]["config"]["base_dir"] = str(folder / "dagster")
    del config["compute_logs"]
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(folder)))


def _create(instance: DagsterInstance, assets: tuple[str, ...], weeks: list[dt.date], **tags: str) -> DagsterRun:
    whole = installed.definitions().resolve_implicit_global_asset_job_def()
    keys = frozenset(map(AssetKey, assets))
    repository = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("otc_assets.definitions", "defs"),
        container_image="registry.example.org/otc-assets:1.2.3",
        entry_point=["dagster"],  # as in runs of a code server
    )
    ends = {"start": str(weeks[0]), "end": str(weeks[-1])}
    return instance.create_run_for_job(
        whole.get_subset(asset_selection=keys),
        asset_selection=keys,
        tags={**{f"dagster/asset_partition_range_{end}": week for end, week in ends.items()}, **tags},
        job_code_origin=JobPythonOrigin(whole.name, repository),
    )


def _materialized(instance: DagsterInstance, run_id: str) -> dict[str, list[dt.date]]:
    found: dict[str, list[dt.date]] = {}
    for record in instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        assert event.asset_key is not None
        found.setdefault(event.asset_key.to_user_string(), []).append(week_of(str(event.partition)))
    return found


def _most_at_a_time(instance: DagsterInstance, run_id: str) -> int:
    """The largest number of steps that had started and not ended."""
    start = DagsterEventType.STEP_START
    kinds = {start, DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE}
    records = instance.get_records_for_run(run_id, of_type=kinds).records
    events = [record.event_log_entry.dagster_event for record in records]
    changes = [1 if event and event.event_type == start else -1 for event in events]
    assert changes
    return max(itertools.accumulate(changes))


@pytest.fixture
def cluster(installation: Path) -> Iterator[Cluster]:
    database = settings().database_url
    assert database is not None
    environment = {
        "OTC_DATABASE_URL": database.get_secret_value(),
        "OTC_HOME": str(installation),
        "OTC_ARCHIVE_URL": (installation / "archive").as_uri(),
        "OTC_SOURCE": "simulator",
        "OTC_SIMULATOR_SCALE": "0.01",
        "DAGSTER_HOME": str(installation),
    }
    found = Cluster(environment, installation)
    yield found
    found.close()


def test_a_run_over_weeks_whose_steps_are_pods_does_what_one_process_does(
    cluster: Cluster, helm: Helm, installation: Path
) -> None:
    """A week that fails stops nothing but itself, pools limit the pods, and slots are free afterwards."""
    weeks, manifests = _weeks(), helm.render(*VARIANTS["step pods"])
    good = [weeks[0], weeks[2]]
    with running(cluster) as kubeconfig, _instance(installation, kubeconfig, dagster_config(manifests)) as instance:
        installed.launcher(instance).run_assets(("week_calendar", "publication_t1"), weeks[0], weeks[-1])
        with installed.database().transaction() as connection:
            query = sa.text("SELECT digest FROM otc.publication WHERE week_ending = :week")
            digest = connection.execute(query, {"week": weeks[1]}).scalar_one()
        (lost,) = (settings().home / "archive" / digest[:2]).glob(f"{digest}*")
        lost.unlink()
        instance.event_log_storage.set_concurrency_slots("database", 1)
        large = {"dagster-k8s/config": json.dumps({"container_config": {"resources": LARGE}})}
        run = _create(instance, ("venue_volume", *FIGURES), weeks, **{EXECUTOR_TAG: K8S_JOB}, **large)
        instance.run_launcher.launch_run(LaunchRunContext(run, None))
        name = f"dagster-run-{run.run_id}"
        assert cluster.wait(name) == 0, cluster.output(name)

        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status == DagsterRunStatus.FAILURE
        assert _materialized(instance, run.run_id) == dict.fromkeys(("venue_volume", *FIGURES), good)
        assert _most_at_a_time(instance, run.run_id) == 1
        assert instance.event_log_storage.get_concurrency_info("database").active_slot_count == 0
    steps = [cluster.jobs[one] for one in cluster.steps()]
    assert {job["metadata"]["labels"]["dagster/op"] for job in steps} >= {"venue_volume", *FIGURES}
    for job in steps:
        _check_job(job, manifests)
        assert job["metadata"]["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": f"uid-of-{name}"}
        ]


def _check_job(job: Manifest, manifests: list[Manifest]) -> None:
    """The Job of a step is accepted by Kubernetes, restricted, without a token, with the resources of the run's tag."""
    assert problems({**job, "metadata": {**job["metadata"], "namespace": "markets"}}) == []
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 7800, 86_400)
    assert pod["automountServiceAccountToken"] is False
    assert (pod["serviceAccountName"], pod["enableServiceLinks"]) == ("otc-otc-assets-run", False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == "registry.example.org/otc-assets:1.2.3"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"] == LARGE
    env = {entry["name"]: entry for entry in container["env"]}
    assert len(env) == len(container["env"])
    assert env["OTC_DATABASE_URL"]["valueFrom"]["secretKeyRef"] == {"name": "otc-database", "key": "writer-url"}
    labels = job["spec"]["template"]["metadata"]["labels"]
    policies = of_kind(manifests, "NetworkPolicy").values()
    applied = [
        policy["metadata"]["name"]
        for policy in policies
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]
    assert sorted(applied) == ["otc-otc-assets-default-deny", "otc-otc-assets-run"]


def test_a_run_that_is_terminated_deletes_the_jobs_of_its_steps_and_frees_their_slots(
    cluster: Cluster, helm: Helm, installation: Path
) -> None:
    """The slots were freed five minutes later."""
    weeks, manifests = _weeks(), helm.render(*VARIANTS["step pods"])
    with running(cluster) as kubeconfig, _instance(installation, kubeconfig, dagster_config(manifests)) as instance:
        run = _create(instance, ("week_calendar",), weeks, **{EXECUTOR_TAG: K8S_JOB})
        with installed.database().transaction() as connection:
            connection.execute(sa.text("LOCK TABLE otc.week_calendar IN ACCESS EXCLUSIVE MODE"))  # the step waits
            pool = instance.event_log_storage
            pool.set_concurrency_slots("database", 1)
            instance.run_launcher.launch_run(LaunchRunContext(run, None))
            _until(lambda: bool(cluster.steps()))
            assert pool.get_concurrency_info("database").active_slot_count == 1
            assert instance.run_launcher.terminate(run.run_id)
            assert cluster.wait(f"dagster-run-{run.run_id}") == 0
        (step,) = cluster.steps()
        assert step in cluster.deleted
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status == DagsterRunStatus.CANCELED
        assert pool.get_concurrency_info("database").active_slot_count == 0


def _until(condition: Any) -> None:
    """Waits up to a minute for a condition."""
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.1)
    pytest.fail("it did not happen within a minute")


def _failure(instance: DagsterInstance, run: DagsterRun) -> str:
    """Executes a run in this process, which has to fail. Returns the reason."""
    whole = installed.definitions().resolve_implicit_global_asset_job_def()
    job = InMemoryJob(whole.get_subset(asset_selection=run.asset_selection))
    assert not execute_run(job, run, instance, raise_on_error=False).success
    (record,) = instance.get_records_for_run(run.run_id, of_type=DagsterEventType.RUN_FAILURE).records
    event = record.event_log_entry.dagster_event
    assert event is not None
    return str(event.job_failure_data.error)


def test_the_tag_is_refused_where_no_pods_can_be_created(
    dagster: DagsterInstance, helm: Helm, installation: Path
) -> None:
    """Elsewhere than on Kubernetes, and with a chart that gives runs no token."""
    wanted = {EXECUTOR_TAG: K8S_JOB}
    run = _create(dagster, ("week_calendar",), _weeks(), **wanted)
    assert "the run was not launched on Kubernetes" in _failure(dagster, run)
    run = _create(dagster, ("week_calendar",), _weeks(), **{EXECUTOR_TAG: "k8s"})
    assert "the run's tag otc/executor is 'k8s'" in _failure(dagster, run)
    with running(Cluster({}, installation)) as kubeconfig:
        config = dagster_config(helm.render(*VARIANTS["production"]))
        with _instance(installation, kubeconfig, config) as instance:
            instance.run_launcher.load_incluster_config = True  # type: ignore[attr-defined]
            instance.run_launcher.kubeconfig_file = None  # type: ignore[attr-defined]
            run = _create(instance, ("week_calendar",), _weeks(), **wanted)
            assert "Set runs.stepPods.enabled=true" in _failure(instance, run)
