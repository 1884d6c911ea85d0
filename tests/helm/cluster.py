"""Kubernetes' API as far as Dagster uses it, over HTTP. Each Job runs as a process of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]


@dataclass
class Cluster:
    """What was submitted, and its processes.

    Attributes:
        environment: variables of every process, in place of those of the Job.
        folder: for the output of processes.
        jobs: each Job, by name, in the order of their submission.
        deleted: the names of Jobs that were deleted.
    """

    environment: Mapping[str, str]
    folder: Path
    jobs: dict[str, Object] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def submit(self, job: Object) -> None:
        """Starts the process of a Job."""
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        own = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**own, "PATH": path, "HOSTNAME": name, **self.environment}
        with (self.folder / f"{name}.txt").open("wb") as output:
            self._processes[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )
        self.jobs[name] = job

    def steps(self) -> list[str]:
        """The names of the Jobs of steps."""
        return [name for name in self.jobs if name.startswith("dagster-step-")]

    def output(self, name: str) -> str:
        """What the process of a Job has written."""
        return (self.folder / f"{name}.txt").read_text()

    def wait(self, name: str) -> int:
        """Waits until the process of a Job has ended. Returns its exit code."""
        return self._processes[name].wait(timeout=300)

    def status(self, name: str) -> Object:
        """The status of a Job."""
        code = self._processes[name].poll()
        return {"active": 1} if code is None else {"failed": 1} if code else {"succeeded": 1}

    def pod(self, name: str) -> Object:
        """The pod of a Job: it has its name."""
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": f"uid-of-{name}"}}

    def end(self, name: str) -> None:
        """Ends the process of a Job, as Kubernetes ends a pod that is deleted."""
        if self._processes[name].poll() is None:
            self._processes[name].send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Ends all processes."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, content: Object | None) -> None:
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content or {"kind": "Status", "code": 404}).encode())

        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            cluster.submit(job)
            self._answer(job)

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            kind, *rest = url.path.partition("/namespaces/markets/")[2].split("/")
            if kind == "jobs":
                name = rest[0]
                self._answer(
                    {"metadata": {"name": name}, "status": cluster.status(name)} if name in cluster.jobs else None
                )
            elif rest:
                self._answer(cluster.pod(rest[0]) if rest[0] in cluster.jobs else None)
            else:
                (selector,) = parse_qs(url.query)["labelSelector"]
                name = selector.removeprefix("job-name=")
                self._answer({"kind": "PodList", "items": [cluster.pod(name)] if name in cluster.jobs else []})

        def do_DELETE(self) -> None:
            kind, name = self.path.partition("?")[0].split("/")[-2:]
            if kind == "jobs":
                cluster.deleted.append(name)
            else:
                cluster.end(name)
            self._answer({"kind": "Status", "status": "Success"})

        def log_message(self, format: str, *args: object) -> None:
            """Writes no log."""

    return Handler


@contextmanager
def running(cluster: Cluster) -> Iterator[Path]:
    """Serves a cluster. Yields the path of its kubeconfig."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cluster))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = cluster.folder / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "markets"}}],
                "users": [{"name": "it", "user": {}}],
                "current-context": "it",
            }
        )
    )
    try:
        yield kubeconfig
    finally:
        cluster.close()
        server.shutdown()
        server.server_close()
