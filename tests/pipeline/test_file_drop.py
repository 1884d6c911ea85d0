"""The folder of dropped files, with every kind of entry that a folder can hold, and real runs of what is requested."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import time_machine
from dagster import DagsterInstance, DagsterRunStatus, RunRequest, SensorResult, build_sensor_context
from support import installed

from otc_assets.defs.attempts import REQUEST_TAG
from otc_assets.defs.jobs import LOOKED_AT_ALL_TAG, FilesToIngest
from otc_assets.pipeline import file_drop
from otc_assets.pipeline.file_drop import Progress, decode_path, encode_path
from otc_assets.settings import settings

SQL = psycopg.Connection[tuple[object, ...]]
NOW = "2026-10-14T12:00:00Z"
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)
LATIN_1 = os.fsdecode(b"OTC \xfcbersicht 20260921.csv")


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with time_machine.travel(NOW, tick=True):
        yield


@pytest.fixture
def folder(installation: Path) -> Path:
    folder = settings().files_folder
    folder.mkdir(parents=True)
    return folder


def drop(folder: Path, name: str, content: str = HEADER + "OTC|AABB|Asia|V ONE|VONE|100|1|2026-09-21\n") -> Path:
    """A file that has been in the folder for a minute."""
    path = folder / name
    path.write_text(content)
    os.utime(path, (time.time() - 60,) * 2)
    return path


def tick(dagster: DagsterInstance, cursor: str | None = None) -> SensorResult:
    context = build_sensor_context(
        dagster, cursor=cursor, repository_def=installed.repository(), resources=installed.resources()
    )
    return installed.definitions().resolve_sensor_def("file_drop").evaluate_tick(context)  # type: ignore[return-value]


def paths(request: RunRequest) -> list[str]:
    return [decode_path(path) for path in request.run_config["ops"]["ingest"]["config"]["paths"]]


def execute(dagster: DagsterInstance, config: Any, tags: dict[str, str] | None = None) -> bool:
    """A run as Dagster's daemon or the UI launches it: with nothing but its config, by way of JSON."""
    job = installed.definitions().resolve_job_def("ingest_files")
    stored = json.loads(json.dumps(config).encode())
    return job.execute_in_process(run_config=stored, instance=dagster, tags=tags, raise_on_error=False).success


def test_new_files_are_ingested_by_one_run_and_again_only_when_they_change(
    dagster: DagsterInstance, folder: Path
) -> None:
    names = ["a.csv", "b.csv"]
    for number, name in enumerate(names):
        drop(folder, name, HEADER + f"OTC|AABB|Asia|V ONE|VONE|{number}|1|2026-09-21\n")
    drop(folder, "just-coming.csv", "y")
    os.utime(folder / "just-coming.csv", (time.time(),) * 2)
    (folder / ".hidden").write_text("z")
    data = tick(dagster)
    (request,) = data.run_requests or []
    assert paths(request) == [str(folder / name) for name in names]
    assert request.tags["otc/file"] == "a.csv and 1 other files"
    assert execute(dagster, request.run_config, dict(request.tags))
    after = tick(dagster, data.cursor)
    assert "no new file" in str(after.skip_message)
    assert not after.run_requests
    drop(folder, "a.csv", HEADER + "OTC|AABB|Asia|V ONE|VONE|7|1|2026-09-21\n")
    (again,) = tick(dagster, after.cursor).run_requests or []
    assert paths(again) == [str(folder / "a.csv")]


def test_a_run_that_died_is_requested_again_and_one_that_refused_a_file_is_not(
    dagster: DagsterInstance, folder: Path
) -> None:
    """A canceled run's files were lost: its key was used up, and the cursor had passed them."""
    drop(folder, "a.csv")
    data = tick(dagster)
    (request,) = data.run_requests or []
    run = dagster.create_run_for_job(
        job_def=installed.definitions().resolve_job_def("ingest_files"),
        run_config=request.run_config,
        tags=dict(request.tags),
    )
    assert not tick(dagster, data.cursor).run_requests  # it is under way
    dagster.report_run_canceled(run)
    waiting = tick(dagster, data.cursor)
    assert "attempted 1 times" in str(waiting.skip_message)
    with time_machine.travel("2026-10-14T12:05:00Z", tick=True):
        (again,) = tick(dagster, waiting.cursor).run_requests or []
        assert (again.run_key, paths(again)) == (f"{request.run_key} attempt 2", [str(folder / "a.csv")])
        dagster.add_run_tags(run.run_id, {LOOKED_AT_ALL_TAG: "all looked at"})
        assert "no new file" in str(tick(dagster, waiting.cursor).skip_message)


def test_nothing_that_a_folder_can_hold_stops_the_sensor_and_each_oddity_is_reported_once(
    dagster: DagsterInstance, folder: Path, tmp_path: Path, sql: SQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name that was not UTF-8 once stopped it indefinitely, without an alert."""
    drop(folder, LATIN_1)
    drop(folder, "good.csv", HEADER + "OTC|AABB|Asia|V ONE|VONE|200|1|2026-09-28\n")
    (folder / "a folder").mkdir()
    os.mkfifo(folder / "a pipe.csv")
    (folder / "dangling.csv").symlink_to(tmp_path / "nowhere")
    secret = drop(tmp_path, "secret.csv", "password=hunter2\n")
    (folder / "leads out.csv").symlink_to(secret)
    (folder / "circle.csv").symlink_to(folder / "circle.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(folder)  # the path of a socket is short
        listening.bind("a socket.csv")
        warned: list[str] = []
        progress = Progress()
        assert len(file_drop.look(folder, progress, time.time(), warned.append)) == 1
        assert len(warned) == 6
        assert any("leads out.csv: it is a link that leads out of the folder" in words for words in warned)
        assert any("a pipe.csv: it is not a file" in words for words in warned)
        file_drop.look(folder, progress, time.time(), warned.append)
        assert len(warned) == 6
        data = tick(dagster)
    (request,) = data.run_requests or []
    assert paths(request) == [str(folder / LATIN_1), str(folder / "good.csv")]
    assert request.tags["otc/file"] == r"OTC \xfcbersicht 20260921.csv and 1 other files"
    assert json.loads(data.cursor or "").keys() == {"seen", "pending"}
    assert execute(dagster, request.run_config)
    origins = sql.execute("SELECT origin FROM otc.publication ORDER BY origin").fetchall()
    assert origins == [(r"OTC \xfcbersicht 20260921.csv",), ("good.csv",)]


def test_a_file_whose_time_is_in_the_future_is_taken_once_it_has_been_there_for_a_moment(folder: Path) -> None:
    """`cp -p` from a machine whose clock is ahead; the file was ignored until that time, and nothing was said."""
    path = drop(folder, "a.csv")
    there_since = path.stat().st_ctime
    os.utime(path, (there_since + 86_400,) * 2)
    assert file_drop.look(folder, Progress(), there_since + 1, print) == []
    (batch,) = file_drop.look(folder, Progress(), there_since + 10, print)
    assert batch.paths == [str(path)]


def test_a_file_from_before_the_clock_was_set_far_back_is_taken(folder: Path) -> None:
    """It was ignored, for as long as the clock had been ahead, and nothing was said."""
    path = drop(folder, "a.csv")
    there_since = path.stat().st_ctime
    os.utime(path, (there_since,) * 2)
    # A server of files whose clock is a little ahead: the file may still be written to.
    assert file_drop.look(folder, Progress(), there_since - 60, print) == []
    (batch,) = file_drop.look(folder, Progress(), there_since - 30 * 86_400, print)
    assert batch.paths == [str(path)]


def test_one_bad_file_of_a_batch_does_not_stop_the_others(dagster: DagsterInstance, folder: Path, sql: SQL) -> None:
    drop(folder, "1.csv", "<html>Sorry</html>")
    drop(folder, "2.csv", "password=hunter2\n")
    drop(folder, "3.csv")
    (request,) = tick(dagster).run_requests or []
    assert not execute(dagster, request.run_config, dict(request.tags))
    assert sql.execute("SELECT origin FROM otc.publication").fetchall() == [("3.csv",)]
    refused = sql.execute(
        "SELECT payload->>'origin' FROM otc.events WHERE event_type = 'otc.file.rejected' ORDER BY 1"
    ).fetchall()
    assert refused == [("1.csv",), ("2.csv",)]
    (run,) = dagster.get_runs()
    assert run.tags[LOOKED_AT_ALL_TAG]
    assert run.status == DagsterRunStatus.FAILURE


def test_thousands_of_files_are_ingested_by_a_few_runs_at_a_time(dagster: DagsterInstance, folder: Path) -> None:
    """One run a file would take 17 hours for 20,000."""
    count = 1_900
    old = time.time() - 60
    for number in range(count):
        path = folder / f"{number:05}.csv"
        path.write_text(str(number))
        os.utime(path, (old, old))
    cursor, asked = None, []
    for _ in range(10):
        data = tick(dagster, cursor)
        cursor = data.cursor
        requests = data.run_requests or []
        assert len(requests) <= file_drop.RUNS_AT_ONCE
        assert len(cursor or "") < 500_000
        for request in requests:
            assert len(paths(request)) <= file_drop.FILES_A_RUN
            asked += paths(request)
            run = dagster.create_run_for_job(
                job_def=installed.definitions().resolve_job_def("ingest_files"),
                run_config=request.run_config,
                tags={REQUEST_TAG: request.tags[REQUEST_TAG]},
            )
            dagster.add_run_tags(run.run_id, {LOOKED_AT_ALL_TAG: "all looked at"})
            dagster.report_run_failed(run)
    assert asked == [str(folder / f"{number:05}.csv") for number in range(count)]


def test_large_files_make_small_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_drop, "BYTES_A_RUN", 10)
    for name in "abc":
        drop(folder, f"{name}.csv", "12345")
    drop(folder, "d.csv", "larger than a whole batch")
    batches = file_drop.look(folder, Progress(), time.time(), print)
    names = [[Path(path).name for path in batch.paths] for batch in batches]
    assert names == [
        ["a.csv", "b.csv"],
        ["c.csv"],
        ["d.csv"],
    ]


def test_a_folder_with_too_many_entries_is_warned_of_as_long_as_it_has_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_drop, "ENTRIES_A_TICK", 2)
    for name in "abc":
        drop(folder, f"{name}.csv")
    warned: list[str] = []
    progress = Progress()
    for times in (1, 2):
        (batch,) = file_drop.look(folder, progress, time.time(), warned.append)
        assert len(batch.paths) == 2
        assert len(warned) == times
        assert "has more than 2 entries, and the others are not looked at" in warned[-1]


def test_a_cursor_of_an_earlier_version_is_understood(folder: Path) -> None:
    path = drop(folder, "a.csv")
    state = path.stat()
    progress = Progress.parse(json.dumps({"a.csv": f"{state.st_mtime_ns}:{state.st_size}"}))
    assert file_drop.look(folder, progress, time.time(), print) == []
    assert Progress.parse(str(progress)) == progress


@pytest.mark.parametrize("how", ["absolute", "dots", "link", "encoded"])
def test_a_run_from_the_ui_opens_no_file_outside_of_the_folder(
    dagster: DagsterInstance, folder: Path, tmp_path: Path, sql: SQL, how: str
) -> None:
    """Any user of the UI could have any file of the machine read, and its first lines shown."""
    secret = drop(tmp_path, "secret.csv", "password=hunter2\n")
    (folder / "link.csv").symlink_to(secret)
    path = {
        "absolute": str(secret),
        "dots": f"{folder}/../secret.csv",
        "link": str(folder / "link.csv"),
        "encoded": "bytes:" + str(secret).replace("s", "%73"),
    }[how]
    # Any user can set tags, so they give no permission.
    assert not execute(dagster, {"ops": {"ingest": {"config": {"paths": [path]}}}}, {"otc/launched_by": "otc-assets"})
    (event,) = sql.execute("SELECT payload->>'reason' FROM otc.events WHERE event_type = 'otc.file.rejected'")
    assert "is not in the folder for files (OTC_FILES)" in str(event[0])
    (run,) = dagster.get_runs()
    assert "hunter2" not in " ".join(str(entry) for entry in dagster.all_logs(run.run_id))
    assert sql.execute("SELECT count(*) FROM otc.publication").fetchone() == (0,)


def test_a_command_ingests_files_from_any_folder_also_with_unusual_names(
    dagster: DagsterInstance, installation: Path, tmp_path: Path, sql: SQL
) -> None:
    path = drop(tmp_path, LATIN_1)
    installed.launcher(dagster).ingest(FilesToIngest(paths=[encode_path(str(path))]))
    assert sql.execute("SELECT origin FROM otc.publication").fetchone() == (r"OTC \xfcbersicht 20260921.csv",)


def test_paths_survive_the_round_trip() -> None:
    for path in ("/a/b c.csv", "/a/ü.csv", os.fsdecode(b"/a/\xfc %41.csv"), "/a/bytes:x"):
        assert decode_path(encode_path(path)) == path
        encode_path(path).encode()
    assert encode_path("/a/ü.csv") == "/a/ü.csv"
