"""The output of steps is beside the archive: in the folder of the installation, or in the bucket."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.s3_server import S3Server

from otc_assets.defs import compute_logs
from otc_assets.defs.internals import ConfigurableClassData, LocalComputeLogManager
from otc_assets.settings import settings

KEY = ["a run", "compute_logs", "step"]


def manager(**variables: str) -> Any:
    """What an instance with our dagster.yaml has, in a process with these settings."""
    settings.cache_clear()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        found = ConfigurableClassData("otc_assets.defs.compute_logs", "ComputeLogs", "{}").rehydrate(as_type=object)  # type: ignore[type-var]
    settings.cache_clear()
    return found


def test_with_a_folder_output_is_where_the_clean_up_deletes_it(tmp_path: Path) -> None:
    found = manager(OTC_HOME=str(tmp_path))
    assert isinstance(found, LocalComputeLogManager)
    with found.capture_logs(KEY):
        print("printed by the step", file=sys.stderr)
    assert (tmp_path / "dagster" / "storage" / "a run" / "compute_logs" / "step.err").exists()


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "of a step that runs"])
def test_output_on_s3_is_shown_by_another_machine(
    tmp_path: Path,
    bucket: str,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    complete: bool,
) -> None:
    monkeypatch.setattr(compute_logs, "_UPLOAD_SECONDS", 1)
    url = f"s3://{bucket}/otc"
    pod = manager(OTC_HOME=str(tmp_path / "pod"), OTC_ARCHIVE_URL=url)
    webserver = manager(OTC_HOME=str(tmp_path / "webserver"), OTC_ARCHIVE_URL=url)
    with pod.capture_logs(KEY):
        print("printed by the step", file=sys.stderr, flush=True)
        deadline = time.monotonic() + 60
        while not complete and not any(".partial" in key for key in s3.keys(bucket)):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        if not complete:
            assert webserver.get_log_data(KEY).stderr == b"printed by the step\n"
            assert not webserver.is_capture_complete(KEY)
    shutil.rmtree(tmp_path / "pod")
    assert webserver.is_capture_complete(KEY)
    assert webserver.get_log_data(KEY).stderr == b"printed by the step\n"
    names = {key for key in s3.keys(bucket) if ".partial" not in key}
    assert names == {"otc/compute-logs/storage/a run/compute_logs/step.err"}


def test_its_requests_have_our_time_outs(bucket: str, tmp_path: Path) -> None:
    found = manager(OTC_HOME=str(tmp_path), OTC_ARCHIVE_URL=f"s3://{bucket}")
    config = found._s3_session.meta.config
    assert (config.connect_timeout, config.read_timeout, found._s3_prefix) == (5, 20, "compute-logs")
