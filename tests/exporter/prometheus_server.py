"""A real Prometheus, of Debian's package."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.tools import missing


def tool(name: str) -> str:
    """Where a program of Debian's package prometheus is."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed", "install Prometheus (Debian: apt-get install prometheus)")
    return found


class Prometheus:
    """A real Prometheus that scrapes one address every two seconds."""

    def __init__(self, folder: Path, target: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
            "scrape_configs": [{"job_name": "otc-assets", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    tool("prometheus"),
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The samples that an instant query gives."""
        response = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, timeout=60)
        if response.is_server_error:  # it listens before it is ready, and says so in plain words
            response.raise_for_status()
        answer = response.json()
        assert answer["status"] == "success", f"{promql}: {answer.get('error')}"
        return list(answer["data"]["result"])

    def value(self, promql: str) -> float:
        """The one number that an instant query gives."""
        (sample,) = self.query(promql)
        return float(sample["value"][1])

    def wait_for(self, promql: str, seconds: float = 300) -> None:
        """Waits until the query gives something.

        A scrape that has begun before the call does not count where the query asks for a later moment.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.query(promql):
                    return
            except httpx.HTTPError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)
        pytest.fail(f"{promql} gave nothing in {seconds} s: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=120)
