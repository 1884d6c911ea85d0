"""Runs whose process has ended, commands that are interrupted, and slots that are waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, build_sensor_context
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.utils import make_new_run_id
from support import installed
from support.terminal import Terminal

from otc_assets import interruption
from otc_assets.defs import launch
from otc_assets.defs.failures import why_it_failed
from otc_assets.defs.instance import POOLS, clean_instance
from otc_assets.defs.liveness import PROCESS_TAG, cancel_runs_of_renamed_jobs, fail_dead_runs, process_tag
from otc_assets.defs.partitions import week_of
from otc_assets.local import setup
from otc_assets.processes import Identity, is_dead, this_process
from otc_assets.settings import settings

SQL = psycopg.Connection[tuple[object, ...]]
UNFINISHED = ("NOT_STARTED", "STARTING", "STARTED", "CANCELING", "QUEUED")


def newest(count: int) -> list[str]:
    """The newest weeks that were published in every tier some time ago."""
    keys = installed.weeks().of_figures.get_partition_keys()[:-8]
    return keys[-count:]


def environment(database: str, home: Path) -> dict[str, str]:
    return {"OTC_DATABASE_URL": database, "OTC_HOME": str(home), "OTC_SIMULATOR_SCALE": "0.01"}


def ended_process() -> Identity:
    """A process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    from otc_assets.processes import started

    identity = replace(this_process(), pid=process.pid, started=started(process.pid) or "")
    assert not is_dead(identity)
    process.kill()
    process.wait()
    return identity


def run_of(dagster: DagsterInstance, status: DagsterRunStatus, process: Identity | None, whose: str = "") -> str:
    """A run of that status which a process executes."""
    run = dagster.create_run_for_job(
        job_def=installed.definitions().resolve_job_def("capture_t1"), tags={"dagster/partition": "2026-08-14"}
    )
    if process is not None:
        dagster.add_run_tags(run.run_id, {PROCESS_TAG: f"{whose or run.run_id}|{process}"})
    if status == DagsterRunStatus.CANCELING:
        dagster.report_run_canceling(run)
    elif status != DagsterRunStatus.NOT_STARTED:
        from dagster._core.events import DagsterEvent, DagsterEventType

        kind = {DagsterRunStatus.STARTING: "PIPELINE_STARTING", DagsterRunStatus.STARTED: "PIPELINE_START"}[status]
        dagster.report_dagster_event(
            DagsterEvent(event_type_value=DagsterEventType(kind).value, job_name=run.job_name), run_id=run.run_id
        )
    assert dagster.get_run_by_id(run.run_id).status == status  # type: ignore[union-attr]
    return run.run_id


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.FAILURE),
        (DagsterRunStatus.STARTING, DagsterRunStatus.FAILURE),
        (DagsterRunStatus.STARTED, DagsterRunStatus.FAILURE),
        (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED),
    ],
)
def test_a_run_whose_process_has_ended_is_ended_by_the_sensor(
    dagster: DagsterInstance, before: DagsterRunStatus, after: DagsterRunStatus
) -> None:
    """Closing a terminal once left a run STARTED for two hours, and stale weeks waited for it."""
    run_id = run_of(dagster, before, ended_process())
    sensor = installed.definitions().resolve_sensor_def("dead_runs")
    assert sensor.minimum_interval_seconds == 30
    data = sensor.evaluate_tick(build_sensor_context(dagster, repository_def=installed.repository()))
    assert run_id in str(data.skip_message)
    assert dagster.get_run_by_id(run_id).status == after  # type: ignore[union-attr]
    if after == DagsterRunStatus.FAILURE:  # the alert says why
        assert "ended without finishing the run: it was killed" in why_it_failed(dagster, run_id)


def test_runs_that_live_or_may_live_are_left_alone(dagster: DagsterInstance) -> None:
    """Another machine's processes can't be seen from here, and a retry carries the tags of the run that died."""
    dead, here = ended_process(), this_process()
    ids = [
        run_of(dagster, DagsterRunStatus.STARTED, here),
        run_of(dagster, DagsterRunStatus.STARTED, replace(dead, host="another machine")),
        run_of(dagster, DagsterRunStatus.STARTED, replace(dead, namespace="pid:[another container]")),
        run_of(dagster, DagsterRunStatus.STARTED, dead, whose="the run that died"),
        run_of(dagster, DagsterRunStatus.STARTED, None),
    ]
    assert fail_dead_runs(dagster) == []
    assert {dagster.get_run_by_id(run_id).status for run_id in ids} == {DagsterRunStatus.STARTED}  # type: ignore[union-attr]


def test_a_reused_process_id_and_an_earlier_boot_are_recognized() -> None:
    here = this_process()
    assert not is_dead(here)
    assert is_dead(replace(here, started="1"))
    assert is_dead(replace(here, boot="an earlier one"))
    assert Identity.parse(str(here)) == here
    assert Identity.parse("nonsense") is None


def test_a_killed_command_leaves_no_run_and_no_slot_to_the_next_one(
    installation: Path, database: str, sql: SQL
) -> None:
    """Two killed commands once filled the pool, and the next command waited indefinitely."""
    first, last = newest(3)[0], newest(3)[-1]
    env = environment(database, installation)
    killed = Terminal("materialize", "--weeks", f"{first}..{last}", settings=env)
    killed.wait_for("figures")
    while not sql.execute("SELECT 1 FROM concurrency_slots WHERE run_id IS NOT NULL").fetchone():
        assert killed.process.poll() is None
    killed.send(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    assert sql.execute("SELECT count(*) FROM runs WHERE status = 'STARTED'").fetchone() == (1,)
    after = Terminal("materialize", "--weeks", last, settings=env)
    assert after.end() == 0, after.text
    assert sql.execute("SELECT count(*) FROM runs WHERE status = ANY(%s)", [list(UNFINISHED)]).fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM runs WHERE status = 'FAILURE'").fetchone() == (1,)
    assert sql.execute("SELECT count(*) FROM concurrency_slots WHERE run_id IS NOT NULL").fetchone() == (0,)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_ends_a_command_at_once_and_cancels_its_run(
    installation: Path, database: str, sql: SQL, number: signal.Signals, code: int
) -> None:
    """Ctrl-C once ran to the end and exited with 0, SIGTERM went on with the next weeks, SIGHUP left a run behind."""
    span = newest(9)
    command = Terminal("materialize", "--weeks", f"{span[0]}..{span[-1]}", settings=environment(database, installation))
    command.wait_for("figures")
    while not sql.execute("SELECT 1 FROM concurrency_slots WHERE run_id IS NOT NULL").fetchone():
        assert command.process.poll() is None
    command.send(number)
    assert command.end() == code, command.text
    statuses = [status for (status,) in sql.execute("SELECT status FROM runs ORDER BY id")]
    assert statuses == ["SUCCESS", "SUCCESS", "CANCELED"]
    captured = sql.execute("SELECT max(week_ending) FROM otc.publication").fetchone()
    assert captured == (week_of(span[3]),)  # the weeks after the first four were not begun
    assert sql.execute("SELECT count(*) FROM concurrency_slots WHERE run_id IS NOT NULL").fetchone() == (0,)


def test_a_signal_between_two_steps_is_not_lost(dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster notes signals that arrive while it works itself, and in one process never looks at the note."""
    week = week_of(newest(1)[0])
    original = type(dagster).handle_new_event

    def handle(self: DagsterInstance, entry: object, **kwargs: object) -> None:
        original(self, entry, **kwargs)  # type: ignore[arg-type]
        if getattr(getattr(entry, "dagster_event", None), "event_type_value", "") == "STEP_SUCCESS":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(type(dagster), "handle_new_event", handle)
    with interruption.handled(), pytest.raises(KeyboardInterrupt):
        installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
    (run,) = dagster.get_runs()
    assert run.status == DagsterRunStatus.CANCELED
    assert {step.step_key for step in dagster.get_run_step_stats(run.run_id)} == {"week_calendar"}


def test_a_run_of_the_daemon_that_is_interrupted_in_a_step_ends(
    dagster: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster takes the interruption of a step with a retry policy for its error, and tries it again: neither the
    UI's button nor the end of `up` could stop such a run."""

    week = week_of(newest(1)[0])

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")

    monkeypatch.setattr("otc_assets.defs.assets.compute_calendar", interrupted)
    with pytest.raises(launch.RunFailed, match="Interrupted"):
        installed.launcher(dagster).run_assets(["week_calendar", "publication_t1"], week, week)
    (run,) = dagster.get_runs()
    assert run.status == DagsterRunStatus.FAILURE  # which the daemon tries again when `up` starts the next time
    assert {step.step_key for step in dagster.get_run_step_stats(run.run_id)} == {"week_calendar"}


def test_waiting_for_a_slot_is_announced_and_ends_with_what_to_do(
    installation: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full pool, a command once hung after one line, and ignored Ctrl-C."""
    monkeypatch.setenv("OTC_PORT", "3000")
    monkeypatch.setenv("OTC_SLOT_WAIT_SECONDS", "1")
    prepared = setup.prepare(settings(), database)
    week = week_of(newest(1)[0])
    with clean_instance(prepared) as instance:
        holders = []
        for _ in range(POOLS["database"]):
            run = instance.create_run_for_job(job_def=installed.definitions().resolve_job_def("capture_t1"))
            instance.add_run_tags(run.run_id, process_tag(run.run_id))
            instance.event_log_storage.claim_concurrency_slot("database", run.run_id, "step")
            holders.append(run.run_id)
        said: list[str] = []
        with pytest.raises(launch.RunFailed, match="no slot of pool 'database' became free for week_calendar") as error:
            installed.launcher(instance).run_assets(["week_calendar"], week, week, waiting=said.append)
        assert all(run_id[:8] in str(error.value) for run_id in holders)
        assert "OTC_SLOT_WAIT_SECONDS" in str(error.value)
        assert said[0].startswith("week_calendar waits for a slot of pool 'database', held by runs ")
        # The same once the holders are gone: their slots are freed, and the run goes on.
        for run_id in holders:
            instance.add_run_tags(run_id, {PROCESS_TAG: f"{run_id}|{ended_process()}"})
        fail_dead_runs(instance)
        installed.launcher(instance).run_assets(["week_calendar"], week, week)


def test_only_partial_files_that_no_process_writes_are_removed(tmp_path: Path) -> None:
    """A kill in the midst of writing left files in the archive that nothing ever removed."""
    from otc_assets.archive import store

    archive = store.LocalArchive(tmp_path)
    digest = archive.put(b"complete")
    folder = tmp_path / digest[:2]
    mine = folder / f"{store._prefix()}abc"
    parts = store._prefix().split("-")
    dead = folder / "-".join([*parts[:2], str(ended_process().pid), parts[3], "abc"])
    reused = folder / "-".join([*parts[:3], "0" * 12, "abc"])
    elsewhere = folder / ("-".join([parts[0], "0" * 12, *parts[2:]]) + "abc")
    old, recent = folder / ".partial-old", folder / ".partial-recent"
    for path in (mine, dead, reused, elsewhere, old, recent):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    archive.prepare()
    assert {path.name for path in folder.iterdir()} == {f"{digest}.zst", mine.name, elsewhere.name, recent.name}
    assert archive.get(digest) == b"complete"


def test_queued_runs_of_jobs_that_were_renamed_are_canceled_when_up_starts(
    dagster: DagsterInstance,
) -> None:
    """An upgrade in the middle of the recomputation of many weeks: such runs would fail one after another."""
    tags = {"dagster/partition": "2026-08-14"}
    queued = {
        job: dagster.add_run(
            DagsterRun(
                job,
                run_id=make_new_run_id(),
                tags=tags,
                status=DagsterRunStatus.QUEUED,
                remote_job_origin=RemoteJobOrigin(
                    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("otc_assets"), "__repository__"), job
                ),
            )
        )
        for job in ("make_week", "make_rolling", "compute_week")
    }
    cancel_runs_of_renamed_jobs(dagster)
    found = {job: dagster.get_run_by_id(run.run_id) for job, run in queued.items()}
    assert {job: run and run.status.value for job, run in found.items()} == {
        "make_week": "CANCELED",
        "make_rolling": "CANCELED",
        "compute_week": "QUEUED",
    }
